/*
 * Where the bytes of `kmsenv seal` and `kmsenv open` come from. Either any part can be read at any
 * time, by several threads (a regular file, or memory), or all of it in order by one at a time.
 */
#ifndef KMSENV_CLI_SOURCE_H
# define KMSENV_CLI_SOURCE_H
# include <stdatomic.h>
# include <stdint.h>
# include <sys/stat.h>
# include "core/error.h"

typedef struct kmsenv_source_st {
    const char *name;            /* for people */
    int fd;                      /* borrowed */
    struct stat st;
    int positional;              /* size is known and kmsenv_source_read_at() works; otherwise kmsenv_source_read() does */
    uint64_t start;              /* offset in the file of the first byte */
    uint64_t size;               /* bytes from there on, when it was looked at */
    unsigned char *memory;       /* of kmsenv_source_gather() */
    size_t memory_len;
    uint64_t taken;              /* bytes given by kmsenv_source_read() */
    int has_ahead;               /* one byte more was read, to see whether something follows: */
    unsigned char ahead;
    unsigned char *map;          /* of views: the file from its first byte */
    size_t map_len;
    _Atomic unsigned viewers;
    _Atomic int steady;          /* the lease held when it was looked at last */
} KMSENV_SOURCE;

/* A file from where its descriptor stands. Refuses directories. */
int kmsenv_source_init(KMSENV_SOURCE *s, int fd, const char *name, KMSENV_ERROR *err);
void kmsenv_source_reset(KMSENV_SOURCE *s);
/* Exactly n bytes, offset counted from the start; fewer are an error. */
int kmsenv_source_read_at(const KMSENV_SOURCE *s, uint64_t offset, unsigned char *out, size_t n, KMSENV_ERROR *err);
/* The next n bytes; *got is less only at the end. *ended: nothing follows. */
int kmsenv_source_read(KMSENV_SOURCE *s, unsigned char *out, size_t n, size_t *got, int *ended, KMSENV_ERROR *err);
/*
 * Reads up to most bytes into memory. If the source ends there it becomes positional; if not, kmsenv_source_read() gives
 * these bytes again before what follows.
 */
int kmsenv_source_gather(KMSENV_SOURCE *s, size_t most, KMSENV_ERROR *err);

/*
 * Views: the bytes where the kernel has them, which saves the copy that reading makes, a fifth of the CPU time of sealing a
 * file in memory (measured). Memory that others may write to is no place to decrypt from: what was verified need not be
 * what is decrypted a moment later. So there are views only while the kernel promises, by a read lease, to tell before it
 * lets anybody write or truncate, and only on local file systems, where nobody else can. source_view.c
 */
void kmsenv_source_start_views(KMSENV_SOURCE *s);
/* NULL: no views, or none any more. Otherwise kmsenv_source_end_view() must follow soon: a writer may be waiting. */
const unsigned char *kmsenv_source_view(KMSENV_SOURCE *s, uint64_t offset);
/* offset, n: what was looked at. Returns 0 if it may have changed meanwhile. */
int kmsenv_source_end_view(KMSENV_SOURCE *s, uint64_t offset, size_t n);
/* Ends the lease if somebody waits for that and nobody has a view. */
void kmsenv_source_check_views(KMSENV_SOURCE *s);
void kmsenv_source_stop_views(KMSENV_SOURCE *s);

#endif
