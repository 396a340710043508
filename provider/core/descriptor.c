#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/descriptor.h"

int kmsenv_descriptor_is_ours(const KMSENV_DESCRIPTOR *d)
{
    struct stat st;

    return d->fd >= 0 && fstat(d->fd, &st) == 0 && st.st_dev == d->device && st.st_ino == d->inode;
}

void kmsenv_descriptor_set(KMSENV_DESCRIPTOR *d, int fd)
{
    struct stat st;

    if (kmsenv_descriptor_is_ours(d))
        close(d->fd);
    d->fd = -1;
    if (fd < 0)
        return;
    if (fstat(fd, &st) != 0) {
        close(fd);
        return;
    }
    d->fd = fd;
    d->device = st.st_dev;
    d->inode = st.st_ino;
}

/* A pipe: every one has a number of its own, and no sandbox forbids it. */
int kmsenv_descriptor_mark(KMSENV_DESCRIPTOR *d)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) != 0)
        return 0;
    close(ends[1]);
    kmsenv_descriptor_set(d, ends[0]);
    return d->fd >= 0;
}
