#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/directory.h"

int kmsenv_directory_open(const char *path, int flags)
{
    char *dir = strdup(path), *slash = dir == NULL ? NULL : strrchr(dir, '/');
    int fd = -1, saved;

    if (slash != NULL)
        slash[slash == dir] = '\0';
    if (dir != NULL)
        fd = open(slash == NULL ? "." : dir, flags, 0600);
    saved = errno;
    free(dir);
    errno = saved;
    return fd;
}

int kmsenv_directory_sync(const char *path)
{
    int fd = kmsenv_directory_open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int ok = fd >= 0 && fsync(fd) == 0, saved = errno;

    if (fd >= 0)
        close(fd);
    errno = saved;
    return ok;
}
