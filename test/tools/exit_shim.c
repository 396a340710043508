/*
 * Preloaded into a program, ends it like a power cut: before its N-th change to a file (EXIT_SHIM_AT), a write being half done
 * then. Cloning of blocks is refused, as by a file system that cannot, or copies them (EXIT_SHIM_CLONE is no, or yes).
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATUS 99

static atomic_int changes;

static int is_last(void)
{
    const char *at = getenv("EXIT_SHIM_AT");

    return at != NULL && atomic_fetch_add(&changes, 1) + 1 == atoi(at);
}

static void maybe_exit(void)
{
    if (is_last())
        _exit(STATUS);
}

static void *next(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

int openat(int dir, const char *path, int flags, ...)
{
    mode_t mode = 0;
    va_list args;

    va_start(args, flags);
    if ((flags & O_CREAT) != 0) {
        mode = va_arg(args, mode_t);
        maybe_exit();
    }
    va_end(args);
    return ((int (*)(int, const char *, int, ...))next("openat"))(dir, path, flags, mode);
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{
    ssize_t (*real)(int, const void *, size_t, off_t) = (ssize_t (*)(int, const void *, size_t, off_t))next("pwrite");

    if (is_last()) {
        real(fd, data, n / 2, at);
        _exit(STATUS);
    }
    return real(fd, data, n, at);
}

ssize_t copy_file_range(int in, off_t *from, int out, off_t *to, size_t n, unsigned flags)
{
    maybe_exit();
    return ((ssize_t (*)(int, off_t *, int, off_t *, size_t, unsigned))next("copy_file_range"))(in, from, out, to, n, flags);
}

static int clone_by_copying(int to, int from)
{
    char buffer[65536];
    off_t at = 0;
    ssize_t n;

    maybe_exit();
    while ((n = pread(from, buffer, sizeof(buffer), at)) > 0) {
        if (((ssize_t (*)(int, const void *, size_t, off_t))next("pwrite"))(to, buffer, (size_t)n, at) != n)
            return -1;
        at += n;
    }
    return (int)n;
}

int ioctl(int fd, unsigned long request, ...)
{
    const char *clone = request == FICLONE ? getenv("EXIT_SHIM_CLONE") : NULL;
    va_list args;
    void *arg;

    va_start(args, request);
    arg = va_arg(args, void *);
    va_end(args);
    if (clone != NULL && *clone == 'y')
        return clone_by_copying(fd, (int)(long)arg);
    if (clone != NULL) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return ((int (*)(int, unsigned long, ...))next("ioctl"))(fd, request, arg);
}

int fsync(int fd)
{
    maybe_exit();
    return ((int (*)(int))next("fsync"))(fd);
}

int fchmod(int fd, mode_t mode)
{
    maybe_exit();
    return ((int (*)(int, mode_t))next("fchmod"))(fd, mode);
}

int unlinkat(int dir, const char *path, int flags)
{
    maybe_exit();
    return ((int (*)(int, const char *, int))next("unlinkat"))(dir, path, flags);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    maybe_exit();
    return ((int (*)(int, const char *, int, const char *))next("renameat"))(from_dir, from, to_dir, to);
}
