#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <openssl/evp.h>
#include "core/buffer.h"
#include "core/clock.h"
#include "core/directory.h"
#include "core/secret.h"
#include "kms/local_key.h"
#include "kmsenv/format.h"

#define BASE64_ROOM 45   /* of 32 bytes, with the NUL */

static int failed(KMSENV_ERROR *err, const char *path, const char *what)
{
    return kmsenv_error_set(err, KMSENV_R_KEY_FILE_INVALID, "%s %s: %s", path, what, strerror(errno));
}

static int new_id(char id[KMSENV_LOCAL_KEY_ID_LEN + 1], KMSENV_CRYPTO *crypto, KMSENV_ERROR *err)
{
    unsigned char bytes[KMSENV_LOCAL_KEY_ID_LEN / 2];
    size_t i;

    if (!kmsenv_crypto_random(crypto, bytes, sizeof(bytes), err))
        return 0;
    for (i = 0; i < sizeof(bytes); i++)
        snprintf(id + 2 * i, 3, "%02x", bytes[i]);
    return 1;
}

/* Adds the block of a new key to the text, which is in secret memory. */
static int add_block(KMSENV_BUFFER *text, const char *id, uint32_t version, KMSENV_CRYPTO *crypto, KMSENV_ERROR *err)
{
    /* The key, then its base64. */
    unsigned char *key = kmsenv_secret_zalloc(KMSENV_LOCAL_KEY_LEN + BASE64_ROOM);
    time_t now = (time_t)kmsenv_clock_unix();
    char created[32];
    struct tm utc;
    int ok;

    if (key == NULL)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a local master key");
    ok = kmsenv_crypto_random_key(crypto, key, KMSENV_LOCAL_KEY_LEN, err);
    if (ok) {
        EVP_EncodeBlock(key + KMSENV_LOCAL_KEY_LEN, key, KMSENV_LOCAL_KEY_LEN);
        strftime(created, sizeof(created), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
        kmsenv_buffer_printf(text, "-----BEGIN " KMSENV_PEM_LOCAL_MASTER_KEY "-----\n"
                             "Key-Id: %s\nVersion: %lu\nCreated: %s\n\n", id, (unsigned long)version, created);
        kmsenv_buffer_add(text, key + KMSENV_LOCAL_KEY_LEN, BASE64_ROOM - 1);
        kmsenv_buffer_add_text(text, "\n-----END " KMSENV_PEM_LOCAL_MASTER_KEY "-----\n");
        if (text->failed)
            ok = kmsenv_error_set(err, KMSENV_R_KEY_FILE_INVALID,
                                  "the key file would have more than %d bytes: make a new master key",
                                  KMSENV_LOCAL_FILE_MAX);
    }
    kmsenv_secret_free(key);
    return ok;
}

static int write_all(int fd, const unsigned char *data, size_t n)
{
    ssize_t done;

    while (n > 0) {
        done = write(fd, data, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return 0;
        data += done;
        n -= (size_t)done;
    }
    return fsync(fd) == 0;
}

static int sync_directory(const char *path, KMSENV_ERROR *err)
{
    return kmsenv_directory_sync(path) || failed(err, path, "was written, but its directory could not be synced");
}

/* Writes to a file that we just made ourselves, and removes it if that fails. Closes fd. */
static int fill(int fd, const char *path, const KMSENV_BUFFER *text, mode_t mode, KMSENV_ERROR *err)
{
    int ok = fchmod(fd, mode) == 0 && write_all(fd, text->data, text->length);
    int saved = errno;

    if (close(fd) != 0 && ok) {
        saved = errno;
        ok = 0;
    }
    if (ok)
        return 1;
    unlink(path);
    errno = saved;
    return failed(err, path, "could not be written");
}

int kmsenv_local_key_create(const char *path, KMSENV_CRYPTO *crypto, KMSENV_ERROR *err)
{
    char id[KMSENV_LOCAL_KEY_ID_LEN + 1];
    KMSENV_BUFFER text;
    int fd = -1, ok;

    kmsenv_buffer_init(&text, KMSENV_LOCAL_FILE_MAX, 1);
    ok = new_id(id, crypto, err) && add_block(&text, id, 1, crypto, err);
    if (ok && (fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) < 0)
        ok = errno == EEXIST
            ? kmsenv_error_set(err, KMSENV_R_KEY_FILE_INVALID,
                               "%s exists already and is left as it is; to add a version to the key in it, use --rotate",
                               path)
            : failed(err, path, "cannot be created");
    ok = ok && fill(fd, path, &text, S_IRUSR | S_IWUSR, err) && sync_directory(path, err);
    kmsenv_buffer_reset(&text);
    return ok;
}

/*
 * Opens the file and locks it against another rotation. Between open and lock another rotation
 * may have replaced it: then the lock is on a file that has no name any more.
 */
static int open_locked(const char *path, struct stat *st, KMSENV_ERROR *err)
{
    int fd = kmsenv_local_file_open(path, st, err);
    struct stat now;

    if (fd < 0)
        return -1;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            kmsenv_error_set(err, KMSENV_R_KEY_FILE_INVALID, "%s is being rotated by another process", path);
        else
            failed(err, path, "cannot be locked");
    } else if (stat(path, &now) != 0 || now.st_ino != st->st_ino || now.st_dev != st->st_dev) {
        kmsenv_error_set(err, KMSENV_R_KEY_FILE_INVALID, "%s was replaced meanwhile: try again", path);
    } else {
        return fd;
    }
    close(fd);
    return -1;
}

/* The old text with its last line ended, and the block of the next version. */
static int rotated_text(KMSENV_BUFFER *text, int fd, const KMSENV_LOCAL_KEY *key, KMSENV_CRYPTO *crypto,
                        KMSENV_ERROR *err)
{
    unsigned char *chunk = kmsenv_secret_zalloc(4096);
    ssize_t n = -1;

    while (chunk != NULL && (n = read(fd, chunk, 4096)) > 0)
        if (!kmsenv_buffer_add(text, chunk, (size_t)n))
            break;
    kmsenv_secret_free(chunk);
    if (n != 0 || text->length == 0)
        return kmsenv_error_set(err, KMSENV_R_KEY_FILE_INVALID, "the key file cannot be read again");
    if (text->data[text->length - 1] != '\n')
        kmsenv_buffer_add_text(text, "\n");
    if (kmsenv_local_key_newest(key) == UINT32_MAX)
        return kmsenv_error_set(err, KMSENV_R_KEY_FILE_INVALID, "the key has the largest version already");
    return add_block(text, kmsenv_local_key_id(key), kmsenv_local_key_newest(key) + 1, crypto, err);
}

/* Puts the text in the place of the file in one step. Nothing has happened if it fails. */
static int replace(const char *path, const KMSENV_BUFFER *text, const struct stat *st, KMSENV_ERROR *err)
{
    char *temporary = NULL;
    int fd = -1, ok = 0;

    if (asprintf(&temporary, "%s.XXXXXX", path) < 0)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "%s: no memory to rotate it", path);
    if ((fd = mkostemp(temporary, O_CLOEXEC)) < 0) {
        failed(err, temporary, "cannot be created");
    } else if (fchown(fd, st->st_uid, st->st_gid) != 0) {
        failed(err, temporary, "cannot be given to the owner of the key file");
        close(fd);
        unlink(temporary);
    } else if (fill(fd, temporary, text, st->st_mode & S_IRWXU, err)) {
        ok = rename(temporary, path) == 0 || failed(err, path, "cannot be replaced");
        if (!ok)
            unlink(temporary);
    }
    free(temporary);
    return ok && sync_directory(path, err);
}

int kmsenv_local_key_rotate(const char *given, KMSENV_CRYPTO *crypto, KMSENV_ERROR *err)
{
    /* The file a symbolic link leads to is replaced, not the link. */
    char *path = realpath(given, NULL);
    KMSENV_LOCAL_KEY *key = NULL;
    KMSENV_BUFFER text;
    struct stat st;
    int fd, ok;

    kmsenv_buffer_init(&text, KMSENV_LOCAL_FILE_MAX, 1);
    fd = open_locked(path == NULL ? given : path, &st, err);
    ok = path != NULL && fd >= 0 && (key = kmsenv_local_key_load(path, err)) != NULL
        && rotated_text(&text, fd, key, crypto, err) && replace(path, &text, &st, err);
    if (fd >= 0)
        close(fd);
    kmsenv_local_key_free(key);
    kmsenv_buffer_reset(&text);
    free(path);
    return ok;
}
