#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/source.h"

#define GATHER_FIRST 65536

static int cannot_read(const KMSENV_SOURCE *s, uint64_t offset, const char *why, KMSENV_ERROR *err)
{
    return kmsenv_error_set(err, KMSENV_R_NOT_AN_ENVELOPE, "cannot be read at byte %llu: %s", (unsigned long long)(s->start + offset), why);
}

int kmsenv_source_init(KMSENV_SOURCE *s, int fd, const char *name, KMSENV_ERROR *err)
{
    off_t at;

    memset(s, 0, sizeof(*s));
    s->fd = fd;
    s->name = name;
    if (fstat(fd, &s->st) != 0)
        return kmsenv_error_set(err, KMSENV_R_NOT_AN_ENVELOPE, "cannot be read: %s", strerror(errno));
    if (S_ISDIR(s->st.st_mode))
        return kmsenv_error_set(err, KMSENV_R_NOT_AN_ENVELOPE, "is a directory: name the files in it, or make an archive of it first (tar)");
    /* The kernel's own files (/proc) say 0 and have more. */
    if (S_ISREG(s->st.st_mode) && s->st.st_size > 0 && (at = lseek(fd, 0, SEEK_CUR)) >= 0 && at <= s->st.st_size) {
        s->positional = 1;
        s->start = (uint64_t)at;
        s->size = (uint64_t)(s->st.st_size - at);
        posix_fadvise(fd, at, 0, POSIX_FADV_SEQUENTIAL);
    }
    return 1;
}

void kmsenv_source_reset(KMSENV_SOURCE *s)
{
    free(s->memory);
    s->memory = NULL;
}

int kmsenv_source_read_at(const KMSENV_SOURCE *s, uint64_t offset, unsigned char *out, size_t n, KMSENV_ERROR *err)
{
    ssize_t r;

    if (s->memory != NULL) {
        if (offset > s->memory_len || n > s->memory_len - offset)
            return cannot_read(s, offset, "it ends there", err);
        memcpy(out, s->memory + offset, n);
        return 1;
    }
    while (n > 0) {
        r = pread(s->fd, out, n, (off_t)(s->start + offset));
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return cannot_read(s, offset, r < 0 ? strerror(errno) : "the file became shorter while it was read", err);
        out += r;
        offset += (uint64_t)r;
        n -= (size_t)r;
    }
    return 1;
}

/* Up to n bytes as they come; fewer only at the end. */
static int read_on(KMSENV_SOURCE *s, unsigned char *out, size_t n, size_t *got, KMSENV_ERROR *err)
{
    ssize_t r;

    for (*got = 0; *got < n; *got += (size_t)r) {
        while ((r = read(s->fd, out + *got, n - *got)) < 0 && errno == EINTR)
            ;
        if (r < 0)
            return cannot_read(s, s->taken + *got, strerror(errno), err);
        if (r == 0)
            break;
    }
    return 1;
}

/* What was gathered comes first. */
static size_t take_memory(KMSENV_SOURCE *s, unsigned char *out, size_t n)
{
    size_t left = s->memory == NULL ? 0 : s->memory_len - (size_t)s->taken;

    if (n > left)
        n = left;
    if (n > 0)
        memcpy(out, s->memory + s->taken, n);
    s->taken += n;
    if (n == left)
        kmsenv_source_reset(s);
    return n;
}

int kmsenv_source_read(KMSENV_SOURCE *s, unsigned char *out, size_t n, size_t *got, int *ended, KMSENV_ERROR *err)
{
    size_t more = 0, seen;

    *got = take_memory(s, out, n);
    if (s->has_ahead && *got < n) {
        out[(*got)++] = s->ahead;
        s->has_ahead = 0;
        s->taken++;
    }
    *ended = 0;
    if (s->memory != NULL || s->has_ahead)
        return 1;
    if (!read_on(s, out + *got, n - *got, &more, err))
        return 0;
    *got += more;
    s->taken += more;
    if (*got == n && !read_on(s, &s->ahead, 1, &seen, err))
        return 0;
    s->has_ahead = *got == n && seen == 1;
    *ended = !s->has_ahead;
    return 1;
}

int kmsenv_source_gather(KMSENV_SOURCE *s, size_t most, KMSENV_ERROR *err)
{
    size_t room = 0, len = 0, got = 0;
    unsigned char *more, *memory = NULL;
    int ended = 0;

    while (!ended && len < most) {
        room = room == 0 ? GATHER_FIRST : 2 * room;
        if (room > most)
            room = most;
        if ((more = realloc(memory, room)) == NULL) {
            free(memory);
            return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for %zu bytes of it", room);
        }
        memory = more;
        if (!kmsenv_source_read(s, memory + len, room - len, &got, &ended, err)) {
            free(memory);
            return 0;
        }
        len += got;
    }
    s->memory = memory;
    s->memory_len = len;
    s->taken = 0;
    if (ended) {
        s->positional = 1;
        s->size = len;
    }
    return 1;
}
