#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include "cli/output_file.h"
#include "core/directory.h"

#define TRIES 100

static int failed(KMSENV_ERROR *err, const KMSENV_OUTPUT *o, const char *what)
{
    return kmsenv_error_set(err, KMSENV_R_WRONG_STATE, "%s: %s: %s", o->name, what, strerror(errno));
}

/* --- temporary names ------------------------------------------------------- */

/* What a signal has to remove. */
static char *volatile doomed;

static void on_signal(int number)
{
    static const char broken[] = "kmsenv: the input cannot be read any more: its disk or file system failed\n";
    ssize_t n = number == SIGBUS ? write(STDERR_FILENO, broken, sizeof(broken) - 1) : 0;

    (void)n;
    if (doomed != NULL)
        unlink(doomed);
    signal(number, SIG_DFL);
    raise(number);
}

static const int deadly[] = { SIGINT, SIGTERM, SIGHUP, SIGBUS };

static void catch_signals(void)
{
    struct sigaction action = { .sa_handler = on_signal }, old;
    size_t i;

    sigemptyset(&action.sa_mask);
    for (i = 0; i < sizeof(deadly) / sizeof(deadly[0]); i++)
        if (sigaction(deadly[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
            sigaction(deadly[i], &action, NULL);
}

static void hold_signals(int how)
{
    sigset_t set;
    size_t i;

    sigemptyset(&set);
    for (i = 0; i < sizeof(deadly) / sizeof(deadly[0]); i++)
        sigaddset(&set, deadly[i]);
    sigprocmask(how, &set, NULL);
}

/* A name beside the file; NULL if there is no memory. */
static char *temporary_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    int dir = slash == NULL ? 0 : (int)(slash - path + 1);
    unsigned char r[8];
    char *name;

    if (getrandom(r, sizeof(r), 0) != sizeof(r)
            || asprintf(&name, "%.*s.kmsenv-%02x%02x%02x%02x%02x%02x%02x%02x", dir, path,
                        r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7]) < 0)
        return NULL;
    return name;
}

static int create_named(KMSENV_OUTPUT *o)
{
    int tries;

    for (tries = 0; tries < TRIES && o->fd < 0; tries++) {
        free(o->temporary);
        if ((o->temporary = temporary_name(o->path)) == NULL)
            return 0;
        hold_signals(SIG_BLOCK);
        o->fd = open(o->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (o->fd >= 0)
            doomed = o->temporary;
        hold_signals(SIG_UNBLOCK);
        if (o->fd < 0 && errno != EEXIST)
            return 0;
    }
    return o->fd >= 0;
}

/* The name of an open file that linkat() takes. */
static const char *self_name(int fd, char out[32])
{
    snprintf(out, 32, "/proc/self/fd/%d", fd);
    return out;
}

static int create_nameless(KMSENV_OUTPUT *o)
{
    char self[32];

    if ((o->fd = kmsenv_directory_open(o->path, O_RDWR | O_TMPFILE | O_CLOEXEC)) < 0)
        return 0;
    if (access(self_name(o->fd, self), F_OK) == 0)
        return 1;
    close(o->fd);       /* without /proc it could not get a name */
    o->fd = -1;
    return 0;
}

/* --- opening --------------------------------------------------------------- */

static int is_same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static int open_stdout(KMSENV_OUTPUT *o, const struct stat *input, int text, KMSENV_ERROR *err)
{
    struct stat st;

    o->name = "standard output";
    if (fstat(STDOUT_FILENO, &st) != 0)
        return failed(err, o, "cannot be written");
    if (S_ISREG(st.st_mode) && is_same(&st, input))
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "standard output is the input itself");
    if (!o->force && isatty(STDOUT_FILENO)) {
        if (!text)
            return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID,
                                    "a sealed message is not for a terminal: redirect it, name a file with -o, or use --force");
        o->guards_terminal = 1;
    }
    o->fd = STDOUT_FILENO;
    o->waits = S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode);
    return 1;
}

/* There is something of that name: *regular says whether it is a file. */
static int check_existing(KMSENV_OUTPUT *o, const struct stat *st, const struct stat *input, int *regular, KMSENV_ERROR *err)
{
    *regular = S_ISREG(st->st_mode);
    if (S_ISDIR(st->st_mode))
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "%s is a directory: name a file", o->name);
    if (*regular && is_same(st, input))
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "%s is the input itself", o->name);
    if (*regular && !o->force)
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "%s exists already and is left as it is; --force replaces it", o->name);
    return 1;
}

int kmsenv_output_open(KMSENV_OUTPUT *o, const char *path, const struct stat *input, int force, int text, KMSENV_ERROR *err)
{
    int regular = 1, exists;
    struct stat st;

    memset(o, 0, sizeof(*o));
    o->name = path;
    o->fd = -1;
    o->force = force;
    catch_signals();
    if (strcmp(path, "-") == 0)
        return open_stdout(o, input, text, err);
    exists = stat(path, &st) == 0;
    if (exists && !check_existing(o, &st, input, &regular, err))
        return 0;
    if (!regular) {
        o->fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
        o->waits = S_ISFIFO(st.st_mode);
        o->guards_terminal = o->fd >= 0 && !force && isatty(o->fd);
        return o->fd >= 0 || failed(err, o, "cannot be opened");
    }
    /* What a symbolic link points to is replaced, not the link. */
    if ((o->path = exists ? realpath(path, NULL) : strdup(path)) == NULL || (!create_nameless(o) && !create_named(o)))
        return failed(err, o, "a file cannot be made in its directory");
    o->positional = 1;
    return 1;
}

/* --- writing --------------------------------------------------------------- */

int kmsenv_output_write_at(KMSENV_OUTPUT *o, uint64_t offset, const unsigned char *p, size_t n, KMSENV_ERROR *err)
{
    ssize_t r;

    for (; n > 0; p += r, n -= (size_t)r, offset += (uint64_t)r) {
        while ((r = pwrite(o->fd, p, n, (off_t)offset)) < 0 && errno == EINTR)
            ;
        if (r < 0)
            return failed(err, o, "cannot be written");
    }
    return 1;
}

static int has_controls(const unsigned char *p, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++)
        if ((p[i] < 0x20 && (p[i] < '\t' || p[i] > '\r')) || p[i] == 0x7f
                || (p[i] == 0xc2 && i + 1 < n && p[i + 1] < 0xa0))      /* C1 in UTF-8 */
            return 1;
    return 0;
}

int kmsenv_output_write(KMSENV_OUTPUT *o, const unsigned char *p, size_t n, KMSENV_ERROR *err)
{
    ssize_t r;

    if (o->guards_terminal && has_controls(p, n))
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "%s: the data are not text, and not for a terminal: redirect them, "
                                "name a file with -o, or use --force", o->name);
    for (; n > 0; p += r, n -= (size_t)r) {
        while ((r = write(o->fd, p, n)) < 0 && errno == EINTR)
            ;
        if (r < 0)
            return failed(err, o, "cannot be written");
    }
    return 1;
}

/* --- the end --------------------------------------------------------------- */

/* Gives a nameless file a name, which must be free. */
static int give_name(int fd, const char *name)
{
    char self[32];

    return linkat(AT_FDCWD, self_name(fd, self), AT_FDCWD, name, AT_SYMLINK_FOLLOW) == 0;
}

static int name_new(KMSENV_OUTPUT *o)
{
    if (o->temporary == NULL)
        return give_name(o->fd, o->path);
    if (renameat2(AT_FDCWD, o->temporary, AT_FDCWD, o->path, RENAME_NOREPLACE) == 0)
        return 1;
    /* Some file systems cannot do that. */
    return (errno == EINVAL || errno == ENOSYS) && link(o->temporary, o->path) == 0 && unlink(o->temporary) == 0;
}

static int name_replacing(KMSENV_OUTPUT *o)
{
    int saved;

    if (o->temporary == NULL) {
        if ((o->temporary = temporary_name(o->path)) == NULL)
            return 0;
        if (!give_name(o->fd, o->temporary)) {
            free(o->temporary);
            o->temporary = NULL;
            return 0;
        }
        doomed = o->temporary;
    }
    if (rename(o->temporary, o->path) == 0)
        return 1;
    saved = errno;
    unlink(o->temporary);
    errno = saved;
    return 0;
}

static int set_attributes(const KMSENV_OUTPUT *o, mode_t mode, const struct stat *like)
{
    struct timespec times[2];

    if (like != NULL) {
        /* Only root can; others keep what they make. */
        if (geteuid() == 0 && fchown(o->fd, like->st_uid, like->st_gid) != 0)
            return 0;
        times[0] = like->st_atim;
        times[1] = like->st_mtim;
    }
    return fchmod(o->fd, mode) == 0 && (like == NULL || futimens(o->fd, times) == 0);
}

int kmsenv_output_commit(KMSENV_OUTPUT *o, mode_t mode, const struct stat *like, KMSENV_ERROR *err)
{
    int ok = 1;

    if (o->positional) {
        ok = (set_attributes(o, mode, like) || failed(err, o, "mode, owner or times cannot be set"))
            && (fsync(o->fd) == 0 || failed(err, o, "cannot be written"));
        hold_signals(SIG_BLOCK);
        if (ok && !(o->force ? name_replacing(o) : name_new(o)))
            ok = errno == EEXIST
                ? kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "%s has come into being meanwhile and is left as it is; --force replaces it", o->name)
                : failed(err, o, "the complete file cannot get its name");
        if (ok) {
            doomed = NULL;
            free(o->temporary);
            o->temporary = NULL;
        }
        hold_signals(SIG_UNBLOCK);
        if (ok)
            kmsenv_directory_sync(o->path);
    }
    if (ok && o->fd > STDERR_FILENO && close(o->fd) != 0)
        ok = failed(err, o, "cannot be written");
    else if (!ok)
        kmsenv_output_discard(o);
    o->fd = -1;
    free(o->path);
    o->path = NULL;
    return ok;
}

void kmsenv_output_discard(KMSENV_OUTPUT *o)
{
    if (o->temporary != NULL) {
        unlink(o->temporary);
        doomed = NULL;
    }
    if (o->fd > STDERR_FILENO)
        close(o->fd);
    free(o->temporary);
    free(o->path);
    o->temporary = o->path = NULL;
    o->fd = -1;
}
