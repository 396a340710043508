#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include "cli/input.h"
#include "envelope/header.h"

#define PREFIX      "Salted__"
#define PREFIX_LEN  (sizeof(PREFIX) - 1)

/* Up to n bytes of the input as it is: fewer only at its end. -1 on error. */
static ssize_t read_raw(KMSENV_INPUT *in, unsigned char *out, size_t n)
{
    size_t got = 0;
    ssize_t r;

    while (got < n && in->pending_len > 0) {
        out[got++] = in->pending[0];
        memmove(in->pending, in->pending + 1, --in->pending_len);
    }
    while (got < n) {
        if ((r = read(in->fd, out + got, n - got)) < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -1;
        if (r == 0)
            break;
        got += (size_t)r;
    }
    return (ssize_t)got;
}

static int is_base64(unsigned char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
}

static int is_space(unsigned char c)
{
    return c == '\n' || c == '\r' || c == ' ' || c == '\t';
}

/* The next group of four characters. 1, 0 at the end, -1 on an error, -2 if it is not base64. */
static int read_group(KMSENV_INPUT *in, unsigned char group[4])
{
    size_t n = 0, padding = 0;
    unsigned char c;
    ssize_t r;

    while (n < 4) {
        if ((r = read_raw(in, &c, 1)) < 0)
            return -1;
        if (r == 0)
            return n == 0 ? 0 : -2;
        if (is_space(c))
            continue;
        if (c == '=' ? n < 2 : !is_base64(c) || padding > 0)
            return -2;
        padding += c == '=';
        group[n++] = c;
    }
    in->ended = padding > 0;
    return 1;
}

static ssize_t read_base64(KMSENV_INPUT *in, unsigned char *out, size_t n)
{
    unsigned char group[4], bytes[3];
    size_t got = 0, len;
    int r;

    while (got < n && !in->ended) {
        if ((r = read_group(in, group)) < 0)
            return r;
        if (r == 0)
            break;
        if (EVP_DecodeBlock(bytes, group, 4) != 3)
            return -2;
        len = 3 - (size_t)(group[3] == '=') - (size_t)(group[2] == '=');
        memcpy(out + got, bytes, len);
        got += len;
    }
    return (ssize_t)got;
}

static int grow(KMSENV_INPUT *in, size_t room)
{
    unsigned char *more;

    if (room <= in->room)
        return 1;
    /* In a PEM file, there may be a private key beside what was looked for. */
    if ((more = OPENSSL_clear_realloc(in->data, in->room, room)) == NULL)
        return 0;
    in->data = more;
    in->room = room;
    return 1;
}

int kmsenv_input_need(KMSENV_INPUT *in, size_t n, KMSENV_ERROR *err)
{
    ssize_t r;

    if (n <= in->len)
        return 1;
    /* base64 comes in threes: two bytes more than asked for */
    if (n > KMSENV_INPUT_MAX || !grow(in, n + 2)) {
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for %zu bytes", n);
        return -1;
    }
    r = in->base64 ? read_base64(in, in->data + in->len, n - in->len) : read_raw(in, in->data + in->len, n - in->len);
    if (r == -2) {
        kmsenv_error_set(err, KMSENV_R_NOT_AN_ENVELOPE, "the base64 text is damaged after %zu decoded bytes", in->len);
        return -1;
    }
    if (r < 0) {
        kmsenv_error_set(err, KMSENV_R_NOT_AN_ENVELOPE, "cannot be read: %s", strerror(errno));
        return -1;
    }
    in->len += (size_t)r;
    in->ended = in->ended || in->len < n;
    return in->len >= n;
}

/* Does the base64 text that starts with these characters begin like a message or like PREFIX? A DER message never looks like it. */
static int looks_like_base64(const unsigned char *p, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++)
        if (!is_base64(p[i]))
            return 0;
    return n == PREFIX_LEN && (memcmp(p, "MI", 2) == 0 || memcmp(p, "U2FsdGVk", 8) == 0);
}

/* Takes off the prefix. */
static int strip_prefix(KMSENV_INPUT *in, KMSENV_ERROR *err)
{
    int r = kmsenv_input_need(in, PREFIX_LEN, err);

    if (r < 0 || (r > 0 && memcmp(in->data, PREFIX, PREFIX_LEN) != 0))
        return r >= 0;
    if (r == 0 || (r = kmsenv_input_need(in, PREFIX_LEN + KMSENV_INPUT_SALT_LEN, err)) == 0)
        return 1;
    if (r < 0)
        return 0;
    in->salted = 1;
    memcpy(in->salt, in->data + PREFIX_LEN, KMSENV_INPUT_SALT_LEN);
    in->len -= PREFIX_LEN + KMSENV_INPUT_SALT_LEN;
    memmove(in->data, in->data + PREFIX_LEN + KMSENV_INPUT_SALT_LEN, in->len);
    if (in->size_known)
        in->size -= PREFIX_LEN + KMSENV_INPUT_SALT_LEN;
    return 1;
}

int kmsenv_input_open(KMSENV_INPUT *in, const char *path, KMSENV_ERROR *err)
{
    struct stat st;
    off_t at;
    ssize_t r;

    memset(in, 0, sizeof(*in));
    in->fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (in->fd < 0 || fstat(in->fd, &st) != 0)
        return kmsenv_error_set(err, KMSENV_R_NOT_AN_ENVELOPE, "cannot be opened: %s", strerror(errno));
    /* Standard input may be a file of which others read the start. */
    if ((at = lseek(in->fd, 0, SEEK_CUR)) < 0)
        at = 0;
    if ((r = read_raw(in, in->pending, sizeof(in->pending))) < 0)
        return kmsenv_error_set(err, KMSENV_R_NOT_AN_ENVELOPE, "cannot be read: %s", strerror(errno));
    in->pending_len = (size_t)r;
    in->base64 = looks_like_base64(in->pending, in->pending_len);
    if (S_ISREG(st.st_mode) && !in->base64 && st.st_size - at >= (off_t)in->pending_len) {
        in->size_known = 1;
        in->size = (uint64_t)(st.st_size - at);
    }
    return strip_prefix(in, err);
}

int kmsenv_input_header(KMSENV_INPUT *in, size_t *total, KMSENV_ERROR *err)
{
    *total = 0;
    if (kmsenv_input_need(in, 4, err) < 0 || kmsenv_header_length(in->data, in->len, total, err) < 0)
        return 0;
    if (*total == 0)
        return kmsenv_error_set(err, KMSENV_R_NOT_AN_ENVELOPE, "not a kmsenv message: it has %zu bytes", in->len);
    switch (kmsenv_input_need(in, *total, err)) {
    case 0:
        if (memmem(in->data, in->len < 32 ? in->len : 32, KMSENV_FORMAT_NAME, strlen(KMSENV_FORMAT_NAME)) == NULL)
            return kmsenv_error_set(err, KMSENV_R_NOT_AN_ENVELOPE, "not a kmsenv message: the format name \"%s\" is missing",
                                    KMSENV_FORMAT_NAME);
        return kmsenv_error_set(err, KMSENV_R_MESSAGE_TRUNCATED,
                                "truncated: the header has %zu bytes, the input ends after %zu", *total, in->len);
    case 1:
        return 1;
    default:
        return 0;
    }
}

void kmsenv_input_close(KMSENV_INPUT *in)
{
    if (in->fd > STDERR_FILENO)
        close(in->fd);
    OPENSSL_clear_free(in->data, in->room);
    memset(in, 0, sizeof(*in));
}
