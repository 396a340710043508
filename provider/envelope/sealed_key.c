#include <limits.h>
#include <string.h>
#include <openssl/asn1.h>
#include "core/secret.h"
#include "dek/data_key.h"
#include "envelope/header.h"
#include "envelope/sealed_key.h"

/* SEQUENCE { UTF8String "kms-envelope", ... */
int kmsenv_sealed_key_is(const unsigned char *der, size_t len)
{
    static const size_t name_len = sizeof(KMSENV_FORMAT_NAME) - 1;
    size_t skip;

    if (len < 2 || der[0] != 0x30)
        return 0;
    skip = der[1] < 0x80 ? 2 : 2 + (size_t)(der[1] & 0x7f);
    return skip + 2 + name_len <= len && der[skip] == V_ASN1_UTF8STRING && der[skip + 1] == name_len
        && memcmp(der + skip + 2, KMSENV_FORMAT_NAME, name_len) == 0;
}

int kmsenv_sealed_key_check(const unsigned char *der, size_t len, KMSENV_ERROR *err)
{
    KMSENV_DATA_KEY *key;
    KMSENV_HEADER header;
    size_t total = 0;

    if (len > KMSENV_SEALED_KEY_MAX)
        return kmsenv_error_set(err, KMSENV_R_INPUT_TOO_LARGE, "a sealed key of %zu bytes; the most is %d", len, KMSENV_SEALED_KEY_MAX);
    if (kmsenv_header_length(der, len, &total, err) < 0)
        return 0;
    if (total == 0 || len < total + KMSENV_TRAILER_LEN)
        return kmsenv_error_set(err, KMSENV_R_MESSAGE_TRUNCATED, "a sealed key ends after %zu bytes, before its end", len);
    if (!kmsenv_header_parse(der, total, &header, err)
            || (key = kmsenv_data_key_parse(header.data_key, header.data_key_len, err)) == NULL)
        return 0;
    kmsenv_data_key_free(key);
    return 1;
}

/* One SEQUENCE that begins with a version and an algorithm, and nothing behind it: what key decoders are to be given. */
static int is_private_key(const unsigned char *der, size_t len)
{
    const unsigned char *p = der;
    long n;
    int tag, class, form;

    if (len > LONG_MAX)
        return 0;
    form = ASN1_get_object(&p, &n, &tag, &class, (long)len);
    if ((form & 0x80) != 0 || tag != V_ASN1_SEQUENCE || class != V_ASN1_UNIVERSAL || (size_t)(p - der) + (size_t)n != len)
        return 0;
    return n > 3 && p[0] == V_ASN1_INTEGER && p[1] == 1 && p[2] <= 1 && p[3] == (V_ASN1_SEQUENCE | V_ASN1_CONSTRUCTED);
}

static int run(KMSENV_MESSAGE *m, const unsigned char *der, size_t len, unsigned char *plain, size_t room, size_t *plain_len,
               KMSENV_ERROR *err)
{
    static const unsigned char none[KMSENV_CALLER_KEY_LEN];
    size_t n;

    kmsenv_dek_request_set_sealed_key(kmsenv_message_get0_request(m));
    if (!kmsenv_message_init(m, 0, none, err) || !kmsenv_message_update(m, plain, plain_len, room, der, len, err)
            || !kmsenv_message_final(m, plain + *plain_len, &n, room - *plain_len, err))
        return 0;
    *plain_len += n;
    return is_private_key(plain, *plain_len)
        || kmsenv_error_set(err, KMSENV_R_MESSAGE_MALFORMED,
                            "what was sealed is not a private key in PKCS#8 form: kmsenv seal-key seals keys of all forms");
}

int kmsenv_sealed_key_open(KMSENV_DEKS *deks, KMSENV_CRYPTO *crypto, KMSENV_COUNTERS *counters,
                           const unsigned char *der, size_t len, KMSENV_BUFFER *out, KMSENV_ERROR *err)
{
    size_t room = len + KMSENV_UPDATE_GROWTH, n = 0;
    unsigned char *plain = NULL;
    KMSENV_MESSAGE *m = NULL;
    int ok = kmsenv_sealed_key_check(der, len, err);

    if (ok) {
        plain = kmsenv_secret_zalloc(room);
        m = kmsenv_message_new(deks, crypto, counters, KMSENV_CEK_LEN_MAX, 0, KMSENV_SEGMENT_BITS_MAX);
        if (plain == NULL || m == NULL)
            ok = kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory to open a sealed key");
    }
    ok = ok && run(m, der, len, plain, room, &n, err)
         && (kmsenv_buffer_add(out, plain, n) || kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a private key"));
    kmsenv_message_free(m);
    kmsenv_secret_free(plain);
    return ok;
}
