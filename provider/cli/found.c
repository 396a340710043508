#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include "cli/found.h"
#include "envelope/header.h"
#include "envelope/sealed_key.h"

#define BEGIN     "-----BEGIN "
#define CHUNK     4096
#define SNIFF_LEN 32

/* The labels that are ours, with what is inside. */
static const struct { const char *label, *kind; int message; } labels[] = {
    { KMSENV_PEM_DATA_KEY, "data key", 0 },
    { KMSENV_PEM_SEALED_KEY, "sealed key", 1 },
};
#define LABELS (sizeof(labels) / sizeof(labels[0]))

static int unreadable(KMSENV_ERROR *err)
{
    return kmsenv_error_set(err, KMSENV_R_NOT_AN_ENVELOPE, "cannot be read: %s", strerror(errno));
}

/* Up to n bytes; fewer only at the end. -1 with err. */
static ssize_t read_up_to(int fd, unsigned char *out, size_t n, KMSENV_ERROR *err)
{
    size_t got = 0;
    ssize_t r;

    while (got < n && (r = read(fd, out + got, n - got)) != 0) {
        if (r > 0)
            got += (size_t)r;
        else if (errno != EINTR)
            return unreadable(err) - 1;
    }
    return (ssize_t)got;
}

static int take_data_key(KMSENV_FOUND *found, const char *kind, const unsigned char *der, size_t len, KMSENV_ERROR *err)
{
    found->kind = kind;
    found->der_len = len;
    if ((found->der = OPENSSL_memdup(der, len)) == NULL)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a data key");
    return (found->key = kmsenv_data_key_parse(der, len, err)) != NULL;
}

/* The header of the message that these bytes begin with. */
static int take_message(KMSENV_FOUND *found, const char *kind, const unsigned char *p, size_t n, KMSENV_ERROR *err)
{
    KMSENV_HEADER header;
    size_t total = 0;

    found->kind = kind;
    if (kmsenv_header_length(p, n, &total, err) < 0)
        return 0;
    if (total == 0 || total > n)
        return kmsenv_error_set(err, KMSENV_R_MESSAGE_TRUNCATED, "truncated: the header is not all there");
    return kmsenv_header_parse(p, total, &header, err) && take_data_key(found, kind, header.data_key, header.data_key_len, err);
}

/* As a program would load it: the whole message is kept. */
static int take_sealed_key(KMSENV_FOUND *found, const unsigned char *der, size_t len, KMSENV_ERROR *err)
{
    found->sealed_len = len;
    if ((found->sealed = OPENSSL_memdup(der, len)) == NULL)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a sealed key");
    return kmsenv_sealed_key_check(der, len, err) && take_message(found, found->kind, der, len, err);
}

/* A block that says it is encrypted is none of ours: nobody is asked. */
static int no_passphrase(char *buf, int size, int rwflag, void *arg)
{
    (void)buf;
    (void)size;
    (void)rwflag;
    (void)arg;
    return -1;
}

static int take_pem(KMSENV_FOUND *found, size_t label, const unsigned char *text, size_t len, KMSENV_ERROR *err)
{
    BIO *bio = BIO_new_mem_buf(text, (int)len);
    unsigned char *der = NULL;
    long n = 0;
    int ok;

    found->kind = labels[label].kind;
    ok = bio != NULL && PEM_bytes_read_bio(&der, &n, NULL, labels[label].label, bio, no_passphrase, NULL);
    ERR_clear_error();
    if (!ok)
        kmsenv_error_set(err, KMSENV_R_NOT_AN_ENVELOPE, "the PEM block \"%s\" is damaged", labels[label].label);
    else
        ok = labels[label].message ? take_sealed_key(found, der, (size_t)n, err) : take_data_key(found, found->kind, der, (size_t)n, err);
    OPENSSL_free(der);
    BIO_free(bio);
    return ok;
}

/* Is a block of ours at this "-----BEGIN "? */
static int label_at(const unsigned char *p, size_t n, size_t *label)
{
    char line[64];

    for (*label = 0; *label < LABELS; ++*label) {
        snprintf(line, sizeof(line), BEGIN "%s-----", labels[*label].label);
        if (n >= strlen(line) && memcmp(p, line, strlen(line)) == 0)
            return 1;
    }
    return 0;
}

/* A private key that is not ours begins here: nothing behind it is looked at. */
static int is_secret(const unsigned char *p, size_t n)
{
    const unsigned char *end = memchr(p, '\n', n);

    n = end == NULL ? n : (size_t)(end - p);
    return memmem(p, n, "PRIVATE KEY", 11) != NULL || memmem(p, n, KMSENV_PEM_LOCAL_MASTER_KEY, strlen(KMSENV_PEM_LOCAL_MASTER_KEY)) != NULL;
}

/* Looks through what has been read, from *at on. 1 found or failed (*ok), 0 = nothing yet, -1 = nothing will come. */
static int search(KMSENV_FOUND *found, const unsigned char *p, size_t n, size_t *at, int ended, int *ok, KMSENV_ERROR *err)
{
    const unsigned char *begin;
    size_t label;

    while ((begin = memmem(p + *at, n - *at, BEGIN, strlen(BEGIN))) != NULL) {
        *at = (size_t)(begin - p);
        if (n - *at < 80 && !ended)
            return 0;
        if (is_secret(begin, n - *at))
            return -1;
        if (label_at(begin, n - *at, &label)) {
            if (memmem(begin, n - *at, "-----END ", 9) == NULL && !ended)
                return 0;
            *ok = take_pem(found, label, begin, n - *at, err);
            return 1;
        }
        *at += strlen(BEGIN);
    }
    *at = n > *at + strlen(BEGIN) ? n - strlen(BEGIN) : *at;
    return ended ? -1 : 0;
}

/* sniffed: the first bytes, read already. In chunks, so that a private key is not read beyond that of its first line. */
static int look_at_pem(KMSENV_FOUND *found, int fd, const unsigned char *sniffed, size_t len, KMSENV_ERROR *err)
{
    unsigned char *text = OPENSSL_malloc(KMSENV_PEM_BLOCK_MAX);
    size_t at = 0, room = KMSENV_PEM_BLOCK_MAX;
    int r = 0, ok = 1;
    ssize_t n;

    if (text == NULL)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for %zu bytes", room);
    memcpy(text, sniffed, len);
    while (r == 0) {
        if ((n = read_up_to(fd, text + len, room - len < CHUNK ? room - len : CHUNK, err)) < 0) {
            ok = 0;
            break;
        }
        len += (size_t)n;
        r = search(found, text, len, &at, n < CHUNK, &ok, err);
    }
    OPENSSL_clear_free(text, room);
    return ok;
}

static int look_at_message(KMSENV_FOUND *found, int fd, const unsigned char *sniffed, size_t len, KMSENV_ERROR *err)
{
    unsigned char *p;
    size_t total = 0;
    ssize_t n;
    int ok;

    if (kmsenv_header_length(sniffed, len, &total, err) < 0 || (p = OPENSSL_malloc(total < len ? len : total)) == NULL) {
        found->kind = "message";
        return 0;
    }
    memcpy(p, sniffed, len);
    n = total <= len ? 0 : read_up_to(fd, p + len, total - len, err);
    ok = n >= 0 && take_message(found, "message", p, len + (size_t)n, err);
    OPENSSL_free(p);
    return ok;
}

static int is_text(const unsigned char *p, size_t n)
{
    size_t i;

    for (i = 0; i < n && (p[i] == '\t' || p[i] == '\n' || p[i] == '\r' || (p[i] >= ' ' && p[i] < 0x7f)); i++)
        ;
    return i == n;
}

int kmsenv_found_look(KMSENV_FOUND *found, const char *path, int named, KMSENV_ERROR *err)
{
    unsigned char sniffed[SNIFF_LEN];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (named ? 0 : O_NOFOLLOW)), ok = 1;
    struct stat st;
    ssize_t n;

    memset(found, 0, sizeof(*found));
    if (fd < 0)
        return unreadable(err);
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        ok = named ? kmsenv_error_set(err, KMSENV_R_NOT_AN_ENVELOPE, "not a regular file") : 1;
    else if ((n = read_up_to(fd, sniffed, sizeof(sniffed), err)) < 0)
        ok = 0;
    else if (n >= (ssize_t)strlen(BEGIN) && (memcmp(sniffed, BEGIN, strlen(BEGIN)) == 0 || (named && is_text(sniffed, (size_t)n))))
        ok = look_at_pem(found, fd, sniffed, (size_t)n, err);
    else if (n > 4 && sniffed[0] == 0x30 && memmem(sniffed, (size_t)n, KMSENV_FORMAT_NAME, strlen(KMSENV_FORMAT_NAME)) != NULL)
        ok = look_at_message(found, fd, sniffed, (size_t)n, err);
    OPENSSL_cleanse(sniffed, sizeof(sniffed));
    close(fd);
    return ok;
}

void kmsenv_found_reset(KMSENV_FOUND *found)
{
    kmsenv_data_key_free(found->key);
    OPENSSL_free(found->der);
    OPENSSL_free(found->sealed);
    memset(found, 0, sizeof(*found));
}
