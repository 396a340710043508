#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include "core/secret.h"
#include "kms/local_key.h"
#include "kmsenv/format.h"

#define BASE64_LEN   44
#define CREATED_FORM "dddd-dd-ddTdd:dd:ddZ"
#define BEGIN_LINE   "-----BEGIN " KMSENV_PEM_LOCAL_MASTER_KEY "-----"
#define END_LINE     "-----END " KMSENV_PEM_LOCAL_MASTER_KEY "-----"

typedef struct version_st {
    uint32_t number;
    unsigned char key[KMSENV_LOCAL_KEY_LEN];
} VERSION;

/* What tells one state of a file from another. ctime too: a change of owner or mode must be seen. */
typedef struct stamp_st {
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime, ctime;
} STAMP;

struct kmsenv_local_key_st {
    atomic_uint refs;
    STAMP stamp;
    char id[KMSENV_LOCAL_KEY_ID_LEN + 1];
    VERSION *versions;        /* secret memory, ascending */
    size_t count, room;
};

/* The file's text, in secret memory, and where in it we are. Error texts give line numbers, never contents. */
typedef struct reader_st {
    const char *path;
    char *text;
    size_t length, at;
    unsigned line;            /* number of the line in `start`, `len` */
    const char *start;
    size_t len;
    KMSENV_ERROR *err;
} READER;

static void stamp_of(STAMP *stamp, const struct stat *st)
{
    stamp->dev = st->st_dev;
    stamp->ino = st->st_ino;
    stamp->size = st->st_size;
    stamp->mtime = st->st_mtim;
    stamp->ctime = st->st_ctim;
}

static int time_equal(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

int kmsenv_local_key_is_current(const KMSENV_LOCAL_KEY *key, const char *path)
{
    struct stat st;
    STAMP now;

    if (stat(path, &st) != 0)
        return 0;
    stamp_of(&now, &st);
    return now.dev == key->stamp.dev && now.ino == key->stamp.ino && now.size == key->stamp.size
        && time_equal(&now.mtime, &key->stamp.mtime) && time_equal(&now.ctime, &key->stamp.ctime);
}

static int check_file(const char *path, const struct stat *st, KMSENV_ERROR *err)
{
    uid_t me = geteuid();

    if (!S_ISREG(st->st_mode))
        return kmsenv_error_set(err, KMSENV_R_KEY_FILE_INVALID, "%s is not a regular file", path);
    if (me != 0 && st->st_uid != me && st->st_uid != 0)
        return kmsenv_error_set(err, KMSENV_R_KEY_FILE_INVALID,
                                "%s belongs to user %lu: it must belong to root or to user %lu, who runs this",
                                path, (unsigned long)st->st_uid, (unsigned long)me);
    if ((st->st_mode & (S_IRWXG | S_IRWXO)) != 0)
        return kmsenv_error_set(err, KMSENV_R_KEY_FILE_INVALID,
                                "%s has mode %04o: others must have no access, run: chmod 600 %s",
                                path, (unsigned)(st->st_mode & 07777), path);
    if (st->st_size > KMSENV_LOCAL_FILE_MAX)
        return kmsenv_error_set(err, KMSENV_R_KEY_FILE_INVALID, "%s has %lld bytes: a key file has at most %d",
                                path, (long long)st->st_size, KMSENV_LOCAL_FILE_MAX);
    return 1;
}

int kmsenv_local_file_open(const char *path, struct stat *st, KMSENV_ERROR *err)
{
    /* O_NONBLOCK: a FIFO in place of the file must not hang the application. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

    if (fd < 0) {
        if (errno == ENOENT)
            kmsenv_error_set(err, KMSENV_R_KEY_FILE_INVALID, "%s does not exist: make a local master key with: "
                             "kmsenv init --key-file %s", path, path);
        else
            kmsenv_error_set(err, KMSENV_R_KEY_FILE_INVALID, "%s cannot be opened: %s", path, strerror(errno));
        return -1;
    }
    if (fstat(fd, st) != 0) {
        kmsenv_error_set(err, KMSENV_R_KEY_FILE_INVALID, "%s cannot be read: %s", path, strerror(errno));
    } else if (check_file(path, st, err)) {
        return fd;
    }
    close(fd);
    return -1;
}

/* Reads the whole file into reader->text. One byte of room more than its size, to notice that it grows. */
static int read_all(READER *reader, int fd, size_t size)
{
    ssize_t n;

    if ((reader->text = kmsenv_secret_zalloc(size + 1)) == NULL)
        return kmsenv_error_set(reader->err, KMSENV_R_OUT_OF_MEMORY, "%s: no memory for the key file", reader->path);
    while (reader->length <= size) {
        n = read(fd, reader->text + reader->length, size + 1 - reader->length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return kmsenv_error_set(reader->err, KMSENV_R_KEY_FILE_INVALID, "%s cannot be read: %s",
                                    reader->path, strerror(errno));
        if (n == 0)
            break;
        reader->length += (size_t)n;
    }
    if (reader->length != size)
        return kmsenv_error_set(reader->err, KMSENV_R_KEY_FILE_INVALID, "%s changed while it was read", reader->path);
    return 1;
}

static int next_line(READER *reader)
{
    const char *end;

    if (reader->at == reader->length)
        return 0;
    reader->start = reader->text + reader->at;
    end = memchr(reader->start, '\n', reader->length - reader->at);
    reader->len = end == NULL ? reader->length - reader->at : (size_t)(end - reader->start);
    reader->at += reader->len + (end != NULL);
    reader->line++;
    return 1;
}

static int expected(const READER *reader, const char *what)
{
    return kmsenv_error_set(reader->err, KMSENV_R_KEY_FILE_INVALID, "%s, line %u: expected %s",
                            reader->path, reader->line, what);
}

static int line_is(const READER *reader, const char *text)
{
    return reader->len == strlen(text) && memcmp(reader->start, text, reader->len) == 0;
}

/* The value of "Name: value" in the current line, NULL if it is another line. */
static const char *line_value(const READER *reader, const char *name, size_t *len)
{
    size_t n = strlen(name);

    if (reader->len <= n || memcmp(reader->start, name, n) != 0)
        return NULL;
    *len = reader->len - n;
    return reader->start + n;
}

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int is_id(const char *s, size_t len)
{
    size_t i;

    for (i = 0; i < len; i++)
        if (!is_digit(s[i]) && !(s[i] >= 'a' && s[i] <= 'f'))
            return 0;
    return len == KMSENV_LOCAL_KEY_ID_LEN;
}

static int is_time(const char *s, size_t len)
{
    size_t i;

    if (len != strlen(CREATED_FORM))
        return 0;
    for (i = 0; i < len; i++)
        if (CREATED_FORM[i] == 'd' ? !is_digit(s[i]) : s[i] != CREATED_FORM[i])
            return 0;
    return 1;
}

/* 1..2^32-1 without leading zeros; 0 for anything else. */
static uint32_t version_number(const char *s, size_t len)
{
    uint64_t n = 0;
    size_t i;

    if (len == 0 || len > 10 || s[0] == '0')
        return 0;
    for (i = 0; i < len; i++) {
        if (!is_digit(s[i]))
            return 0;
        n = n * 10 + (uint64_t)(s[i] - '0');
    }
    return n > UINT32_MAX ? 0 : (uint32_t)n;
}

static int is_base64_key(const char *s, size_t len)
{
    size_t i;

    if (len != BASE64_LEN || s[len - 1] != '=')
        return 0;
    for (i = 0; i + 1 < len; i++)
        if (!is_digit(s[i]) && !(s[i] >= 'A' && s[i] <= 'Z') && !(s[i] >= 'a' && s[i] <= 'z')
            && s[i] != '+' && s[i] != '/')
            return 0;
    return 1;
}

static int add_version(KMSENV_LOCAL_KEY *key, READER *reader, uint32_t number, const unsigned char *bytes)
{
    size_t room = key->room == 0 ? 4 : key->room * 2;
    VERSION *more;

    if (key->count == key->room) {
        if ((more = kmsenv_secret_realloc(key->versions, room * sizeof(*more))) == NULL)
            return kmsenv_error_set(reader->err, KMSENV_R_OUT_OF_MEMORY, "%s: no memory for the keys", reader->path);
        key->versions = more;
        key->room = room;
    }
    key->versions[key->count].number = number;
    memcpy(key->versions[key->count].key, bytes, KMSENV_LOCAL_KEY_LEN);
    key->count++;
    return 1;
}

static int parse_id(KMSENV_LOCAL_KEY *key, READER *reader)
{
    size_t len = 0;
    const char *value = next_line(reader) ? line_value(reader, "Key-Id: ", &len) : NULL;

    if (value == NULL || !is_id(value, len))
        return expected(reader, "'Key-Id: ' and 32 lower-case hexadecimal digits");
    if (key->count == 0)
        memcpy(key->id, value, len);
    else if (memcmp(key->id, value, len) != 0)
        return expected(reader, "the same Key-Id as in the first block");
    return 1;
}

/* Headers and body of the block whose BEGIN line is the current one. */
static int parse_block(KMSENV_LOCAL_KEY *key, READER *reader)
{
    const char *value;
    unsigned char *bytes;
    uint32_t number;
    size_t len = 0;
    int ok;

    if (!parse_id(key, reader))
        return 0;
    value = next_line(reader) ? line_value(reader, "Version: ", &len) : NULL;
    if (value == NULL || (number = version_number(value, len)) == 0)
        return expected(reader, "'Version: ' and a number from 1 to 4294967295");
    if (key->count > 0 && number <= key->versions[key->count - 1].number)
        return expected(reader, "a larger version than in the block before");
    value = next_line(reader) ? line_value(reader, "Created: ", &len) : NULL;
    if (value == NULL || !is_time(value, len))
        return expected(reader, "'Created: ' and a time such as 2024-01-31T12:00:00Z");
    if (!next_line(reader) || reader->len != 0)
        return expected(reader, "an empty line after the headers");
    if (!next_line(reader) || !is_base64_key(reader->start, reader->len))
        return expected(reader, "the key: one line of 44 base64 characters");
    /* EVP_DecodeBlock writes a 33rd byte, for the padding. */
    if ((bytes = kmsenv_secret_zalloc(KMSENV_LOCAL_KEY_LEN + 1)) == NULL)
        return kmsenv_error_set(reader->err, KMSENV_R_OUT_OF_MEMORY, "%s: no memory for a key", reader->path);
    ok = EVP_DecodeBlock(bytes, (const unsigned char *)reader->start, BASE64_LEN) == KMSENV_LOCAL_KEY_LEN + 1
        ? add_version(key, reader, number, bytes) : expected(reader, "the key: one line of 44 base64 characters");
    kmsenv_secret_free(bytes);
    if (ok && (!next_line(reader) || !line_is(reader, END_LINE)))
        return expected(reader, "'" END_LINE "'");
    return ok;
}

static int parse(KMSENV_LOCAL_KEY *key, READER *reader)
{
    while (next_line(reader)) {
        if (reader->len == 0 || reader->start[0] == '#')
            continue;
        if (!line_is(reader, BEGIN_LINE))
            return expected(reader, "'" BEGIN_LINE "', an empty line or a line that starts with '#'");
        if (!parse_block(key, reader))
            return 0;
    }
    if (key->count == 0)
        return kmsenv_error_set(reader->err, KMSENV_R_KEY_FILE_INVALID,
                                "%s holds no key: make one at a new path with: kmsenv init --key-file PATH",
                                reader->path);
    return 1;
}

KMSENV_LOCAL_KEY *kmsenv_local_key_load(const char *path, KMSENV_ERROR *err)
{
    READER reader = { .path = path, .err = err };
    KMSENV_LOCAL_KEY *key = NULL;
    struct stat st;
    int fd = kmsenv_local_file_open(path, &st, err), ok = 0;

    if (fd < 0)
        return NULL;
    if ((key = OPENSSL_zalloc(sizeof(*key))) == NULL) {
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "%s: no memory for the key", path);
    } else {
        atomic_init(&key->refs, 1);
        stamp_of(&key->stamp, &st);
        ok = read_all(&reader, fd, (size_t)st.st_size) && parse(key, &reader);
    }
    kmsenv_secret_free(reader.text);
    close(fd);
    if (ok)
        return key;
    kmsenv_local_key_free(key);
    return NULL;
}

void kmsenv_local_key_free(KMSENV_LOCAL_KEY *key)
{
    if (key == NULL || atomic_fetch_sub(&key->refs, 1) != 1)
        return;
    kmsenv_secret_free(key->versions);
    OPENSSL_free(key);
}

void kmsenv_local_key_up_ref(KMSENV_LOCAL_KEY *key)
{
    atomic_fetch_add(&key->refs, 1);
}

const char *kmsenv_local_key_id(const KMSENV_LOCAL_KEY *key)
{
    return key->id;
}

size_t kmsenv_local_key_count(const KMSENV_LOCAL_KEY *key)
{
    return key->count;
}

uint32_t kmsenv_local_key_newest(const KMSENV_LOCAL_KEY *key)
{
    return key->versions[key->count - 1].number;
}

const unsigned char *kmsenv_local_key_get0(const KMSENV_LOCAL_KEY *key, uint32_t version)
{
    size_t i;

    for (i = 0; i < key->count; i++)
        if (key->versions[i].number == version)
            return key->versions[i].key;
    return NULL;
}
