#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include "cli/source.h"

#ifndef XFS_SUPER_MAGIC
# define XFS_SUPER_MAGIC 0x58465342
#endif

#define WINDOW_BITS 23      /* so much stays mapped behind a view, so that the process does not look as large as the file */
#define WINDOW      ((size_t)1 << WINDOW_BITS)

/* File systems of this machine alone: what is in them changes through this kernel only. */
static int is_local(int fd)
{
    struct statfs fs;

    if (fstatfs(fd, &fs) != 0)
        return 0;
    switch ((unsigned)fs.f_type) {
    case TMPFS_MAGIC:
    case EXT4_SUPER_MAGIC:      /* ext2 and ext3, too */
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
        return 1;
    default:
        return 0;
    }
}

/* A descriptor that we opened ourselves: the lease is a property that others would inherit with it. */
static int lease(int fd)
{
    /* The signal for a break is one that nobody minds: whether it came is asked. */
    return fd > STDERR_FILENO && is_local(fd) && fcntl(fd, F_SETSIG, SIGURG) == 0 && fcntl(fd, F_SETLEASE, F_RDLCK) == 0;
}

void kmsenv_source_start_views(KMSENV_SOURCE *s)
{
    size_t len = (size_t)(s->start + s->size);
    struct stat st;
    void *map;

    if (!s->positional || s->memory != NULL || s->size == 0 || len != s->start + s->size || !lease(s->fd))
        return;
    /* From here on it cannot become shorter; before, it could. */
    if (fstat(s->fd, &st) != 0 || (uint64_t)st.st_size < s->start + s->size
            || (map = mmap(NULL, len, PROT_READ, MAP_SHARED, s->fd, 0)) == MAP_FAILED) {
        fcntl(s->fd, F_SETLEASE, F_UNLCK);
        return;
    }
    madvise(map, len, MADV_SEQUENTIAL);
    s->map = map;
    s->map_len = len;
    s->steady = 1;
}

void kmsenv_source_check_views(KMSENV_SOURCE *s)
{
    if (s->map == NULL)
        return;
    if (s->steady && fcntl(s->fd, F_GETLEASE) != F_RDLCK)
        s->steady = 0;
    /* Nobody begins a view now that would be used: see kmsenv_source_view(). */
    if (!s->steady && s->viewers == 0)
        fcntl(s->fd, F_SETLEASE, F_UNLCK);
}

const unsigned char *kmsenv_source_view(KMSENV_SOURCE *s, uint64_t offset)
{
    if (s->map == NULL)
        return NULL;
    s->viewers++;
    if (s->steady)
        return s->map + s->start + offset;
    s->viewers--;
    kmsenv_source_check_views(s);
    return NULL;
}

/* Behind the window before this one there is hardly a view; if there is, its pages come back. */
static void drop_pages(const KMSENV_SOURCE *s, uint64_t offset, size_t n)
{
    uint64_t first = (s->start + offset) >> WINDOW_BITS, last = (s->start + offset + n) >> WINDOW_BITS;

    if (first != last && first > 0)
        madvise(s->map + ((first - 1) << WINDOW_BITS), (size_t)(last - first) << WINDOW_BITS, MADV_DONTNEED);
}

int kmsenv_source_end_view(KMSENV_SOURCE *s, uint64_t offset, size_t n)
{
    int steady = s->steady && fcntl(s->fd, F_GETLEASE) == F_RDLCK;

    if (!steady)
        s->steady = 0;
    s->viewers--;
    if (!steady)
        kmsenv_source_check_views(s);
    else
        drop_pages(s, offset, n);
    return steady;
}

void kmsenv_source_stop_views(KMSENV_SOURCE *s)
{
    if (s->map == NULL)
        return;
    munmap(s->map, s->map_len);
    s->map = NULL;
    fcntl(s->fd, F_SETLEASE, F_UNLCK);
}
