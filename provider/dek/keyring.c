#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include "core/directory.h"
#include "dek/keyring.h"

#define FILE_MAX (2 * KMSENV_HEADER_MAX)   /* base64 of the largest data key, with room */

/* The n-th directory's file of that id. 0 when there is no n-th directory. */
static int path_of(const char *dirs, size_t n, const unsigned char *id, char path[PATH_MAX])
{
    char hex[2 * KMSENV_DEK_ID_LEN + 1];
    size_t len;

    for (; n > 0; n--) {
        if ((dirs = strchr(dirs, ':')) == NULL)
            return 0;
        dirs++;
    }
    len = strcspn(dirs, ":");
    kmsenv_dek_id_hex(id, hex);
    return snprintf(path, PATH_MAX, "%.*s/%s.pem", (int)len, dirs, hex) < PATH_MAX;
}

static int failed(KMSENV_ERROR *err, const char *what, const char *path, const char *why)
{
    return kmsenv_error_set(err, KMSENV_R_KEYRING_FAILED, "cannot %s %s: %s", what, path, why);
}

/* *found = 0: there is no such file, which err says, too. Otherwise its bytes, or an error. */
static char *read_file(const char *path, size_t *len, int *found, KMSENV_ERROR *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    char *data = NULL;
    struct stat st;
    ssize_t n;

    *found = fd >= 0 || errno != ENOENT;
    if (fd < 0) {
        failed(err, "open", path, strerror(errno));
        return NULL;
    }
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size < 1 || st.st_size > FILE_MAX) {
        failed(err, "use", path, "not a regular file of 1 to 131072 bytes");
    } else if ((data = OPENSSL_malloc((size_t)st.st_size)) == NULL) {
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory to read %s", path);
    } else {
        for (*len = 0; *len < (size_t)st.st_size; *len += (size_t)n) {
            if ((n = read(fd, data + *len, (size_t)st.st_size - *len)) > 0)
                continue;
            failed(err, "read", path, n == 0 ? "the file is being changed" : strerror(errno));
            OPENSSL_free(data);
            data = NULL;
            break;
        }
    }
    close(fd);
    return data;
}

/* id: that it must be of; NULL = any. */
static KMSENV_DATA_KEY *parse_file(const char *path, const char *text, size_t n, const unsigned char *id, KMSENV_ERROR *err)
{
    BIO *bio = BIO_new_mem_buf(text, (int)n);
    char *name = NULL, *header = NULL;
    KMSENV_DATA_KEY *key = NULL;
    unsigned char *der = NULL;
    long len = 0;

    ERR_set_mark();
    if (bio == NULL || PEM_read_bio(bio, &name, &header, &der, &len) != 1 || strcmp(name, KMSENV_PEM_DATA_KEY) != 0)
        failed(err, "use", path, "it does not start with a PEM block " KMSENV_PEM_DATA_KEY);
    else if ((key = kmsenv_data_key_parse(der, (size_t)len, err)) == NULL)
        kmsenv_error_prefix(err, "file %s: ", path);
    ERR_pop_to_mark();
    if (key != NULL && ((id != NULL && memcmp(key->id, id, KMSENV_DEK_ID_LEN) != 0) || key->wraps == 0)) {
        failed(err, "use", path, key->wraps == 0 ? "its data key has no wraps" : "it holds the data key of another id than its name says");
        kmsenv_data_key_free(key);
        key = NULL;
    }
    BIO_free(bio);
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(der);
    return key;
}

KMSENV_DATA_KEY *kmsenv_keyring_load(const char *dirs, const unsigned char id[KMSENV_DEK_ID_LEN], KMSENV_ERROR *err)
{
    char path[PATH_MAX], hex[2 * KMSENV_DEK_ID_LEN + 1];
    KMSENV_DATA_KEY *key;
    size_t i, len;
    char *text;
    int found;

    kmsenv_dek_id_hex(id, hex);
    for (i = 0; dirs != NULL && path_of(dirs, i, id, path); i++) {
        text = read_file(path, &len, &found, err);
        if (!found) {
            kmsenv_error_clear(err);
            continue;
        }
        key = text == NULL ? NULL : parse_file(path, text, len, id, err);
        OPENSSL_free(text);
        return key;
    }
    if (dirs == NULL)
        kmsenv_error_set(err, KMSENV_R_DATA_KEY_NOT_FOUND,
                         "data key %s is to be found in a keyring, and none is configured: set 'keyring'", hex);
    else
        kmsenv_error_set(err, KMSENV_R_DATA_KEY_NOT_FOUND, "data key %s is not in the keyring (%.200s)", hex, dirs);
    return NULL;
}

KMSENV_DATA_KEY *kmsenv_keyring_read(const char *path, KMSENV_ERROR *err)
{
    KMSENV_DATA_KEY *key;
    size_t len;
    char *text;
    int found;

    text = read_file(path, &len, &found, err);
    key = text == NULL ? NULL : parse_file(path, text, len, NULL, err);
    OPENSSL_free(text);
    return key;
}

int kmsenv_keyring_id_of_name(const char *name, unsigned char id[KMSENV_DEK_ID_LEN])
{
    char hex[2 * KMSENV_DEK_ID_LEN + 1];

    if (strlen(name) != sizeof(hex) - 1 + 4 || strcmp(name + sizeof(hex) - 1, ".pem") != 0)
        return 0;
    memcpy(hex, name, sizeof(hex) - 1);
    hex[sizeof(hex) - 1] = '\0';
    if (!kmsenv_dek_id_from_hex(hex, id))
        return 0;
    kmsenv_dek_id_hex(id, hex);
    return memcmp(hex, name, sizeof(hex) - 1) == 0;
}

/* Looks in a directory for an id that begins so, in hexadecimal digits. *found: how many different ones there are, up to two. */
static int scan(const char *dir, const char *start, unsigned char id[KMSENV_DEK_ID_LEN], int *found, KMSENV_ERROR *err)
{
    unsigned char other[KMSENV_DEK_ID_LEN];
    const struct dirent *e;
    DIR *d = opendir(dir);

    if (d == NULL)
        return errno == ENOENT || failed(err, "read the directory", dir, strerror(errno));
    while (*found < 2 && (e = readdir(d)) != NULL) {
        if (strncmp(e->d_name, start, strlen(start)) != 0 || !kmsenv_keyring_id_of_name(e->d_name, other)
            || (*found > 0 && memcmp(other, id, sizeof(other)) == 0))
            continue;
        memcpy(id, other, sizeof(other));
        ++*found;
    }
    closedir(d);
    return 1;
}

KMSENV_DATA_KEY *kmsenv_keyring_find(const char *dirs, const unsigned char *id, size_t idlen, KMSENV_ERROR *err)
{
    unsigned char whole[KMSENV_DEK_ID_LEN] = { 0 };
    char dir[PATH_MAX], hex[2 * KMSENV_DEK_ID_LEN + 1];
    const char *p;
    int found = 0;

    if (idlen == KMSENV_DEK_ID_LEN)
        return kmsenv_keyring_load(dirs, id, err);
    memcpy(whole, id, idlen);
    kmsenv_dek_id_hex(whole, hex);
    hex[2 * idlen] = '\0';
    for (p = dirs; p != NULL && *p != '\0' && found < 2; p += strcspn(p, ":"), p += *p == ':') {
        snprintf(dir, sizeof(dir), "%.*s", (int)strcspn(p, ":"), p);
        if (!scan(dir, hex, whole, &found, err))
            return NULL;
    }
    if (found == 1)
        return kmsenv_keyring_load(dirs, whole, err);
    if (found == 0)
        kmsenv_error_set(err, KMSENV_R_DATA_KEY_NOT_FOUND, "no data key whose id begins with %s is in the keyring (%.200s)", hex,
                         dirs == NULL ? "none is configured: set 'keyring'" : dirs);
    else
        kmsenv_error_set(err, KMSENV_R_KEYRING_FAILED, "two data keys in the keyring have ids that begin with %s: "
                         "remove one, or use a cipher with a longer key", hex);
    return NULL;
}

/* Adds the ids of one directory. */
static int add_ids(const char *dir, unsigned char (**ids)[KMSENV_DEK_ID_LEN], size_t *count, KMSENV_ERROR *err)
{
    unsigned char id[KMSENV_DEK_ID_LEN], (*more)[KMSENV_DEK_ID_LEN];
    const struct dirent *e;
    DIR *d = opendir(dir);
    int ok = 1;

    if (d == NULL)
        return failed(err, "read the directory", dir, strerror(errno));
    while (ok && (e = readdir(d)) != NULL) {
        if (!kmsenv_keyring_id_of_name(e->d_name, id))
            continue;
        if ((*count & (*count - 1)) == 0) {    /* room for a power of two */
            more = OPENSSL_realloc(*ids, (*count == 0 ? 1 : 2 * *count) * sizeof(**ids));
            if ((ok = more != NULL) == 0) {
                kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory to list the keyring");
                break;
            }
            *ids = more;
        }
        memcpy((*ids)[(*count)++], id, sizeof(id));
    }
    closedir(d);
    return ok;
}

static int compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, KMSENV_DEK_ID_LEN);
}

int kmsenv_keyring_list(const char *dirs, unsigned char (**ids)[KMSENV_DEK_ID_LEN], size_t *count, KMSENV_ERROR *err)
{
    char dir[PATH_MAX];
    const char *p;
    size_t i, kept;

    *ids = NULL;
    *count = 0;
    if (dirs == NULL)
        return kmsenv_error_set(err, KMSENV_R_KEYRING_FAILED, "no keyring is configured: set 'keyring'");
    for (p = dirs; *p != '\0'; p += strcspn(p, ":"), p += *p == ':') {
        snprintf(dir, sizeof(dir), "%.*s", (int)strcspn(p, ":"), p);
        if (!add_ids(dir, ids, count, err)) {
            OPENSSL_free(*ids);
            *ids = NULL;
            return 0;
        }
    }
    if (*count == 0)
        return 1;
    qsort(*ids, *count, sizeof(**ids), compare_ids);
    for (i = kept = 1; i < *count; i++)
        if (compare_ids((*ids)[i], (*ids)[kept - 1]) != 0)
            memmove((*ids)[kept++], (*ids)[i], KMSENV_DEK_ID_LEN);
    *count = kept;
    return 1;
}

static int write_pem(int fd, const unsigned char *der, size_t len)
{
    FILE *f = fdopen(fd, "w");
    int ok;

    if (f == NULL) {
        close(fd);
        return 0;
    }
    ok = PEM_write(f, KMSENV_PEM_DATA_KEY, "", der, (long)len) > 0 && fflush(f) == 0 && fsync(fd) == 0;
    return fclose(f) == 0 && ok;
}

int kmsenv_keyring_store(const char *dirs, const unsigned char id[KMSENV_DEK_ID_LEN],
                         const unsigned char *der, size_t len, KMSENV_ERROR *err)
{
    char path[PATH_MAX], temporary[PATH_MAX + 16];
    int fd, ok;

    if (dirs == NULL || !path_of(dirs, 0, id, path))
        return kmsenv_error_set(err, KMSENV_R_KEYRING_FAILED, "detached wraps need a keyring: set 'keyring' to a directory");
    if (access(path, F_OK) == 0)
        return 1;
    snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path);
    if ((fd = mkostemp(temporary, O_CLOEXEC)) < 0)
        return failed(err, "create a file beside", path, strerror(errno));
    fchmod(fd, 0644);
    ERR_set_mark();
    ok = write_pem(fd, der, len);
    ERR_pop_to_mark();
    /* link() and not rename(): a file that another process wrote meanwhile is as good, and stays. */
    if (!ok || (link(temporary, path) != 0 && errno != EEXIST)) {
        failed(err, "write", path, strerror(errno));
        unlink(temporary);
        return 0;
    }
    unlink(temporary);
    kmsenv_directory_sync(path);
    return 1;
}
