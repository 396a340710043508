/*
 * A file descriptor that is kept open in a process of somebody else's. Programs close all descriptors that they do not
 * know (closefrom, daemonising libraries) and open others of theirs in the same places: what is kept is recognised
 * again before it is used, and left alone, not closed, when it is not ours any more.
 */
#ifndef KMSENV_CORE_DESCRIPTOR_H
#define KMSENV_CORE_DESCRIPTOR_H

#include <sys/types.h>

typedef struct kmsenv_descriptor_st {
    int fd;                 /* -1 = none */
    dev_t device;
    ino_t inode;
} KMSENV_DESCRIPTOR;

#define KMSENV_DESCRIPTOR_NONE { .fd = -1 }

/* Closes the one that was there, if it is still ours, and keeps fd, -1 = none. */
void kmsenv_descriptor_set(KMSENV_DESCRIPTOR *d, int fd);

int kmsenv_descriptor_is_ours(const KMSENV_DESCRIPTOR *d);

/* One that is of no use but to be recognised: if it is not ours any more, nor are others of its time. 0 = cannot be had. */
int kmsenv_descriptor_mark(KMSENV_DESCRIPTOR *d);

#endif
