#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include "cli/replace.h"

#define IN_PLACE_MIN (1024 * 1024)          /* bytes of the rest, from which copying it is worth avoiding */
#define COPY_PIECE   (64 * 1024 * 1024)     /* then the signal is looked at */
#define BUFFER       (256 * 1024)
#define XATTRS_MAX   65536
#define OPEN_TRIES   8

static int failed(KMSENV_ERROR *err, const char *what)
{
    /* A disk that is full is so for the next file too: callers tell by the reason. */
    int general = errno == ENOSPC || errno == EDQUOT || errno == EROFS || errno == EIO || errno == EMFILE || errno == ENFILE;

    return kmsenv_error_set(err, general ? KMSENV_R_KEYRING_FAILED : KMSENV_R_WRONG_STATE, "%s: %s", what, strerror(errno));
}

static int beside(const KMSENV_REPLACE *r, const char *suffix, char out[KMSENV_REPLACE_NAME_MAX])
{
    return snprintf(out, KMSENV_REPLACE_NAME_MAX, "%s%s", r->name, suffix) < KMSENV_REPLACE_NAME_MAX;
}

static int sync_directory(const KMSENV_REPLACE *r, KMSENV_ERROR *err)
{
    return fsync(r->dir) == 0 || errno == EINVAL || failed(err, "cannot sync the directory");
}

/* --- opening -------------------------------------------------------------- */

/* Is the open file still the one of that name? Another rewrap may have replaced it before it was locked. */
static int is_current(const KMSENV_REPLACE *r)
{
    struct stat now;

    return fstatat(r->dir, r->name, &now, AT_SYMLINK_NOFOLLOW) == 0 && now.st_ino == r->st.st_ino && now.st_dev == r->st.st_dev;
}

static int open_once(KMSENV_REPLACE *r, KMSENV_ERROR *err)
{
    r->fd = openat(r->dir, r->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (r->fd < 0)
        return errno == ELOOP ? 0 : failed(err, "cannot be opened");
    if (fstat(r->fd, &r->st) != 0)
        return failed(err, "cannot be opened");
    if (!S_ISREG(r->st.st_mode))
        return kmsenv_error_set(err, KMSENV_R_WRONG_STATE, "not a regular file or a directory");
    /* Some network file systems have no locks: then two at work at once are told by the name of the new file. */
    r->locked = flock(r->fd, LOCK_EX | LOCK_NB) == 0;
    return r->locked || errno != EWOULDBLOCK
           || kmsenv_error_set(err, KMSENV_R_WRONG_STATE, "another kmsenv rewrap is at work on it");
}

int kmsenv_replace_open(KMSENV_REPLACE *r, int dir, const char *name, KMSENV_ERROR *err)
{
    int tries, ok = 0;

    r->dir = dir;
    r->name = name;
    r->fd = -1;
    for (tries = 0; tries < OPEN_TRIES; tries++) {
        if ((ok = open_once(r, err)) == 0 || is_current(r))
            break;
        kmsenv_replace_close(r);
        ok = kmsenv_error_set(err, KMSENV_R_WRONG_STATE, "it is being replaced again and again");
    }
    if (!ok && err->reason != KMSENV_R_NONE)
        kmsenv_replace_close(r);
    return ok;
}

void kmsenv_replace_close(KMSENV_REPLACE *r)
{
    if (r->fd >= 0)
        close(r->fd);
    r->fd = -1;
}

int kmsenv_replace_read(const KMSENV_REPLACE *r, void *out, size_t n, uint64_t at, KMSENV_ERROR *err)
{
    unsigned char *p = out;
    ssize_t got;

    for (; n > 0; p += got, n -= (size_t)got, at += (uint64_t)got) {
        if ((got = pread(r->fd, p, n, (off_t)at)) > 0)
            continue;
        if (got < 0 && errno == EINTR)
            got = 0;
        else
            return got < 0 ? failed(err, "cannot be read") : kmsenv_error_set(err, KMSENV_R_MESSAGE_TRUNCATED, "it ends too early");
    }
    return 1;
}

/* --- writing -------------------------------------------------------------- */

static int write_at(int fd, const unsigned char *data, size_t n, uint64_t at)
{
    ssize_t put;

    for (; n > 0; data += put, n -= (size_t)put, at += (uint64_t)put)
        if ((put = pwrite(fd, data, n, (off_t)at)) < 0) {
            if (errno != EINTR)
                return 0;
            put = 0;
        }
    return 1;
}

/* What the kernel cannot copy between these files. */
static int copy_by_hand(const KMSENV_REPLACE *r, int to, uint64_t from, uint64_t at, uint64_t n, KMSENV_ERROR *err)
{
    unsigned char *buffer = OPENSSL_malloc(BUFFER);
    int ok = buffer != NULL || kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory to copy it");
    size_t piece;

    for (; ok && n > 0; from += piece, at += piece, n -= piece) {
        piece = n < BUFFER ? (size_t)n : BUFFER;
        ok = kmsenv_replace_read(r, buffer, piece, from, err)
             && (write_at(to, buffer, piece, at) || failed(err, "cannot write the new file"));
    }
    OPENSSL_free(buffer);
    return ok;
}

static int copy_tail(const KMSENV_REPLACE *r, int to, uint64_t from, uint64_t at, KMSENV_ERROR *err)
{
    uint64_t left = (uint64_t)r->st.st_size - from;
    off_t in = (off_t)from, out = (off_t)at;
    ssize_t n;

    while (left > 0) {
        if (r->stop != NULL && atomic_load(r->stop) != 0)
            return kmsenv_error_set(err, KMSENV_R_WRONG_STATE, "stopped by a signal");
        n = copy_file_range(r->fd, &in, to, &out, left < COPY_PIECE ? (size_t)left : COPY_PIECE, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO || errno == EFBIG))
            return failed(err, "cannot write the new file");
        if (n <= 0)
            return copy_by_hand(r, to, (uint64_t)in, (uint64_t)out, left, err);
        left -= (uint64_t)n;
    }
    return 1;
}

/* Access lists and the user's own attributes. Those of security modules come from their policies. */
static int copy_attributes(const KMSENV_REPLACE *r, int to, KMSENV_ERROR *err)
{
    static const char acl[] = "system.posix_acl_access", user[] = "user.";
    char *names = NULL, *value = NULL, *name;
    ssize_t n = flistxattr(r->fd, NULL, 0), len;
    int ok = 1;

    if (n <= 0)
        return 1;     /* none, or a file system without */
    names = OPENSSL_zalloc((size_t)n + 1);
    value = OPENSSL_malloc(XATTRS_MAX);
    n = names == NULL || value == NULL ? -1 : flistxattr(r->fd, names, (size_t)n);
    for (name = names; ok && n > 0 && name < names + n; name += strlen(name) + 1) {
        if (strcmp(name, acl) != 0 && strncmp(name, user, sizeof(user) - 1) != 0)
            continue;
        len = fgetxattr(r->fd, name, value, XATTRS_MAX);
        ok = len >= 0 && fsetxattr(to, name, value, (size_t)len, 0) == 0;
    }
    ok = (ok && n >= 0) || failed(err, "its extended attributes cannot be copied");
    OPENSSL_free(names);
    OPENSSL_free(value);
    return ok;
}

static int copy_owner_and_mode(const KMSENV_REPLACE *r, int to, KMSENV_ERROR *err)
{
    struct stat made;

    if (fstat(to, &made) != 0)
        return failed(err, "cannot write the new file");
    if ((made.st_uid != r->st.st_uid || made.st_gid != r->st.st_gid) && fchown(to, r->st.st_uid, r->st.st_gid) != 0)
        return failed(err, "its owner and group cannot be kept");
    return fchmod(to, r->st.st_mode & 07777) == 0 || failed(err, "its mode cannot be kept");
}

/* Nobody else may have written to it, or replaced it, since it was read. */
static int is_unchanged(const KMSENV_REPLACE *r, KMSENV_ERROR *err)
{
    struct stat now;

    return (fstat(r->fd, &now) == 0 && now.st_size == r->st.st_size && now.st_mtim.tv_sec == r->st.st_mtim.tv_sec
            && now.st_mtim.tv_nsec == r->st.st_mtim.tv_nsec && is_current(r))
           || kmsenv_error_set(err, KMSENV_R_WRONG_STATE, "it was changed meanwhile by another program");
}

/* The new file's name; one that an interrupted rewrap left is removed, if it is sure that nobody is at work. */
static int create_new(const KMSENV_REPLACE *r, char name[KMSENV_REPLACE_NAME_MAX], KMSENV_ERROR *err)
{
    int fd;

    if (!beside(r, KMSENV_REPLACE_NEW, name)) {
        kmsenv_error_set(err, KMSENV_R_WRONG_STATE, "its name is too long");
        return -1;
    }
    if (r->locked)
        unlinkat(r->dir, name, 0);
    fd = openat(r->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST)
        kmsenv_error_set(err, KMSENV_R_WRONG_STATE, "%s is there: another kmsenv rewrap is at work, or remove what a killed one left", name);
    else if (fd < 0)
        failed(err, "cannot create a new file beside it");
    return fd;
}

typedef struct fill_st {
    const unsigned char *head;
    size_t n;
    uint64_t tail_at;
    int cloned;          /* blocks are to be shared with the old file; -1: the file system cannot */
} FILL;

static int fill_new(const KMSENV_REPLACE *r, int fd, FILL *f, KMSENV_ERROR *err)
{
    if (f->cloned && ioctl(fd, FICLONE, r->fd) != 0) {
        f->cloned = -1;
        return failed(err, "cannot share its blocks");
    }
    return (write_at(fd, f->head, f->n, 0) || failed(err, "cannot write the new file"))
           && (f->cloned || copy_tail(r, fd, f->tail_at, f->n, err))
           && is_unchanged(r, err) && copy_owner_and_mode(r, fd, err) && copy_attributes(r, fd, err)
           && (fsync(fd) == 0 || failed(err, "cannot write the new file"));
}

static int by_new_file(KMSENV_REPLACE *r, FILL *f, KMSENV_ERROR *err)
{
    char name[KMSENV_REPLACE_NAME_MAX];
    int fd = create_new(r, name, err), ok;

    if (fd < 0)
        return 0;
    ok = fill_new(r, fd, f, err);
    ok = (close(fd) == 0 || !ok || failed(err, "cannot write the new file")) && ok;
    if (ok && renameat(r->dir, name, r->dir, r->name) != 0)
        ok = failed(err, "cannot be replaced");
    if (!ok) {
        unlinkat(r->dir, name, 0);
        return 0;
    }
    return !r->sync_dir || sync_directory(r, err);
}

/* --- in place ------------------------------------------------------------- */

static int write_journal(const KMSENV_REPLACE *r, const unsigned char *data, size_t n, KMSENV_ERROR *err)
{
    char name[KMSENV_REPLACE_NAME_MAX];
    int fd, ok;

    if (!beside(r, KMSENV_REPLACE_JOURNAL, name))
        return kmsenv_error_set(err, KMSENV_R_WRONG_STATE, "its name is too long");
    fd = openat(r->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return failed(err, "cannot create a journal beside it");
    ok = write_at(fd, data, n, 0) && fsync(fd) == 0;
    ok = close(fd) == 0 && ok;
    if (ok && sync_directory(r, err))
        return 1;
    if (err->reason == KMSENV_R_NONE)
        failed(err, "cannot write the journal");
    unlinkat(r->dir, name, 0);
    return 0;
}

int kmsenv_replace_finish(KMSENV_REPLACE *r, const unsigned char *data, size_t n, KMSENV_ERROR *err)
{
    char name[KMSENV_REPLACE_NAME_MAX];
    struct stat st;
    int fd, ok = 1;

    if (!beside(r, KMSENV_REPLACE_JOURNAL, name))
        return kmsenv_error_set(err, KMSENV_R_WRONG_STATE, "its name is too long");
    if (data != NULL) {
        fd = openat(r->dir, r->name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
            return failed(err, "cannot be written");
        ok = fstat(fd, &st) == 0 && st.st_ino == r->st.st_ino && st.st_dev == r->st.st_dev && (uint64_t)st.st_size >= n
             && write_at(fd, data, n, 0) && fsync(fd) == 0;
        ok = close(fd) == 0 && ok;
    }
    /* The journal stays until it is sure that nobody needs it; and it must not come back to undo a later rewrap. */
    return ((ok && unlinkat(r->dir, name, 0) == 0) || failed(err, "cannot be written")) && sync_directory(r, err);
}

int kmsenv_replace_read_journal(const KMSENV_REPLACE *r, size_t max, unsigned char **data, size_t *n, KMSENV_ERROR *err)
{
    char name[KMSENV_REPLACE_NAME_MAX];
    KMSENV_REPLACE journal = { .dir = r->dir, .name = name };
    int ok = 1;

    *data = NULL;
    *n = 0;
    if (!beside(r, KMSENV_REPLACE_JOURNAL, name)
            || (journal.fd = openat(r->dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)) < 0)
        return 1;
    if (fstat(journal.fd, &journal.st) == 0 && S_ISREG(journal.st.st_mode) && journal.st.st_size <= (off_t)max) {
        *data = OPENSSL_malloc((size_t)journal.st.st_size + 1);
        ok = *data != NULL && kmsenv_replace_read(&journal, *data, (size_t)journal.st.st_size, 0, err);
        *n = (size_t)journal.st.st_size;
    } else {
        ok = kmsenv_error_set(err, KMSENV_R_WRONG_STATE, "%s is not the journal of a rewrap: remove it", name);
    }
    close(journal.fd);
    if (!ok) {
        OPENSSL_free(*data);
        *data = NULL;
        return err->reason != KMSENV_R_NONE ? 0 : kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for its journal");
    }
    return 1;
}

int kmsenv_replace_commit(KMSENV_REPLACE *r, const unsigned char *head, size_t n, uint64_t tail_at, int body, KMSENV_ERROR *err)
{
    FILL fill = { head, n, tail_at, 0 };
    int same = body && n == tail_at, large = r->st.st_size - (off_t)tail_at > IN_PLACE_MIN;

    if (r->st.st_nlink > 1 && !(same && r->locked))
        return kmsenv_error_set(err, KMSENV_R_WRONG_STATE, "it has %lu hard links, and would have to be another file: make it the only one",
                                (unsigned long)r->st.st_nlink);
    if (same && large && r->st.st_nlink == 1) {
        fill.cloned = 1;
        if (by_new_file(r, &fill, err))
            return 1;
        if (fill.cloned != -1)
            return 0;
        fill.cloned = 0;
        kmsenv_error_clear(err);
    }
    if (same && r->locked && (large || r->st.st_nlink > 1))
        return is_unchanged(r, err) && write_journal(r, head, n, err) && kmsenv_replace_finish(r, head, n, err);
    return by_new_file(r, &fill, err);
}
