/* Data key, caller's key, profiles and context of the messages that seal and open work on. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include "cli/bulk.h"
#include "core/secret.h"
#include "kmsenv/format.h"

#define KEY_TEXT_MAX (2 * KMSENV_CALLER_KEY_LEN + 2)    /* as hexadecimal digits, with the end of a line */

/* --- caller's key ---------------------------------------------------------- */

/* n digits that stand for n / 2 bytes. */
static int from_hex(const char *text, size_t n, unsigned char *out)
{
    size_t len;
    int ok;

    ERR_set_mark();
    ok = strspn(text, "0123456789abcdefABCDEF") == n && OPENSSL_hexstr2buf_ex(out, n / 2, &len, text, '\0');
    ERR_pop_to_mark();
    return ok;
}

/* Secret. */
typedef struct caller_key_st {
    unsigned char bytes[KMSENV_CALLER_KEY_LEN];
    char text[KEY_TEXT_MAX + 2];                 /* what is in the file; one more than fits, and a NUL */
} CALLER_KEY;

/* 32 bytes, or as many in hexadecimal. */
static int decode_key(CALLER_KEY *key, size_t n)
{
    if (n == KMSENV_CALLER_KEY_LEN) {
        memcpy(key->bytes, key->text, n);
        return 1;
    }
    while (n > 0 && (key->text[n - 1] == '\n' || key->text[n - 1] == '\r'))
        key->text[--n] = '\0';
    return n == 2 * KMSENV_CALLER_KEY_LEN && from_hex(key->text, n, key->bytes);
}

static int read_key(const char *path, char *text, size_t *n, KMSENV_ERROR *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    ssize_t r = 1;

    for (*n = 0; fd >= 0 && r > 0 && *n < KEY_TEXT_MAX + 1; *n += r > 0 ? (size_t)r : 0)
        while ((r = read(fd, text + *n, KEY_TEXT_MAX + 1 - *n)) < 0 && errno == EINTR)
            ;
    if (fd < 0 || r < 0)
        kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "key file %s cannot be read: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return fd >= 0 && r >= 0;
}

static int set_caller_key(KMSENV_BULK *b, KMSENV_ERROR *err)
{
    static const unsigned char none[KMSENV_CALLER_KEY_LEN];
    CALLER_KEY *key;
    size_t n;
    int ok;

    if (b->key_file == NULL)
        return kmsenv_message_init(b->message, b->sealing, none, err);
    if ((key = kmsenv_secret_zalloc(sizeof(*key))) == NULL)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a key");
    ok = read_key(b->key_file, key->text, &n, err);
    if (ok && (!decode_key(key, n) || CRYPTO_memcmp(key->bytes, none, sizeof(none)) == 0 || kmsenv_reference_is(key->bytes, sizeof(none))))
        ok = kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "key file %s: accepted: 32 secret bytes, or 64 hexadecimal digits; not "
                              "zeros, and no key reference (--data-key)", b->key_file);
    ok = ok && kmsenv_message_init(b->message, b->sealing, key->bytes, err);
    kmsenv_secret_free(key);
    return ok;
}

/* --- data key -------------------------------------------------------------- */

static int set_data_key_file(KMSENV_DEK_REQUEST *request, const char *path, KMSENV_ERROR *err)
{
    BIO *bio = BIO_new_file(path, "r");
    unsigned char *der = NULL;
    long len = 0;
    int ok;

    if (bio == NULL)
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "--data-key %.200s: neither an id (48 hexadecimal digits), nor a "
                                "reference (64), nor a file that can be read", path);
    ok = (PEM_bytes_read_bio(&der, &len, NULL, KMSENV_PEM_DATA_KEY, bio, NULL, NULL)
          || kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "--data-key %.200s: there is no PEM block \"%s\" in it", path, KMSENV_PEM_DATA_KEY))
        && kmsenv_dek_request_set_data_key(request, der, (size_t)len, err);
    OPENSSL_free(der);
    BIO_free(bio);
    return ok;
}

static int set_data_key(KMSENV_DEK_REQUEST *request, const char *text, KMSENV_ERROR *err)
{
    unsigned char id[KMSENV_DEK_ID_LEN], reference[KMSENV_REFERENCE_LEN];

    if (kmsenv_dek_id_from_hex(text, id)) {
        kmsenv_reference_make(id, reference);
        return kmsenv_dek_request_set_data_key(request, reference, KMSENV_REFERENCE_LEN, err);
    }
    if (from_hex(text, 2 * KMSENV_REFERENCE_LEN, reference) && kmsenv_reference_is(reference, KMSENV_REFERENCE_LEN))
        return kmsenv_dek_request_set_data_key(request, reference, KMSENV_REFERENCE_LEN, err);
    return set_data_key_file(request, text, err);
}

int kmsenv_bulk_set_keys(KMSENV_BULK *b, KMSENV_ERROR *err)
{
    KMSENV_DEK_REQUEST *request = kmsenv_message_get0_request(b->message);

    return (b->profile == NULL || kmsenv_dek_request_set_profiles(request, b->profile, err))
        && (b->context == NULL || kmsenv_dek_request_set_context(request, b->context, err))
        && (!b->detached || kmsenv_dek_request_set_wraps(request, "detached", err))
        && set_caller_key(b, err)
        && (b->data_key == NULL || set_data_key(request, b->data_key, err));
}
