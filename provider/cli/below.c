#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cli/below.h"

#define PATH_ROOM 4096
#define NAME_ROOM 256
#define LINKS_MAX 40

typedef struct way_st {
    char *out;               /* as far as we are */
    size_t room, base;       /* of which base bytes are the root */
    char todo[PATH_ROOM];    /* the rest of the way */
    unsigned links;
} WAY;

static int too_long(void)
{
    errno = ENAMETOOLONG;
    return 0;
}

/* If out is a link, back to the first used bytes of it, or to the root, and on along the link. */
static int follow(WAY *w, size_t used)
{
    char target[PATH_ROOM];
    ssize_t n = readlink(w->out, target, sizeof(target));
    size_t len = strlen(w->todo);

    if (n <= 0)
        return 1;
    if (++w->links > LINKS_MAX) {
        errno = ELOOP;
        return 0;
    }
    if ((size_t)n + len >= sizeof(w->todo))
        return too_long();
    memmove(w->todo + n, w->todo, len + 1);
    memcpy(w->todo, target, (size_t)n);
    w->out[*target == '/' ? w->base : used] = '\0';
    return 1;
}

static int step(WAY *w)
{
    size_t lead = strspn(w->todo, "/"), len = strcspn(w->todo + lead, "/"), used = strlen(w->out);
    char name[NAME_ROOM], *slash;

    if (len >= sizeof(name))
        return too_long();
    memcpy(name, w->todo + lead, len);
    name[len] = '\0';
    memmove(w->todo, w->todo + lead + len, strlen(w->todo + lead + len) + 1);
    if (len == 0 || strcmp(name, ".") == 0)
        return 1;
    if (strcmp(name, "..") == 0) {
        if ((slash = strrchr(w->out + w->base, '/')) != NULL)
            *slash = '\0';
        return 1;
    }
    if (snprintf(w->out + used, w->room - used, "/%s", name) >= (int)(w->room - used))
        return too_long();
    return follow(w, used);
}

int kmsenv_below(const char *root, const char *path, char *out, size_t room)
{
    WAY w = { .out = out, .room = room, .base = strlen(root) };

    if (snprintf(out, room, "%s", w.base == 0 ? path : root) >= (int)room
            || snprintf(w.todo, sizeof(w.todo), "%s", w.base == 0 ? "" : path) >= (int)sizeof(w.todo))
        return too_long();
    while (*w.todo != '\0')
        if (!step(&w))
            return 0;
    return 1;
}

/* errno for what is not a regular file, or too large a one. 0 if it is neither. */
static int flaw_of(int fd)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return errno;
    if (!S_ISREG(st.st_mode))
        return S_ISDIR(st.st_mode) ? EISDIR : ENOTSUP;
    return st.st_size > KMSENV_BELOW_FILE_MAX ? EFBIG : 0;
}

FILE *kmsenv_below_open(const char *root, const char *path)
{
    char real[PATH_ROOM];
    FILE *file = NULL;
    int fd, flaw;

    if (!kmsenv_below(root, path, real, sizeof(real))
            || (fd = open(real, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)) < 0)
        return NULL;
    flaw = flaw_of(fd);
    if (flaw == 0 && (file = fdopen(fd, "r")) != NULL)
        return file;
    close(fd);
    if (flaw != 0)
        errno = flaw;
    return NULL;
}
