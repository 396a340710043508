#include <inttypes.h>
#include <string.h>
#include <openssl/crypto.h>
#include "core/secret.h"
#include "kms/sign.h"
#include "kms/tc3.h"

#define ALGORITHM      "TC3-HMAC-SHA256"
#define TERMINATOR     "tc3_request"
#define SIGNED_HEADERS "content-type;host"
#define TEXT_MAX       16384
#define SECRET_MAX     4096

static int fail(KMSENV_ERROR *err)
{
    return kmsenv_error_set(err, KMSENV_R_KMS_REQUEST_REJECTED, "the request cannot be signed: " ALGORITHM " needs the headers "
                            "Content-Type and Host, a time between 1970 and 9999, and a secret of at most %d bytes", SECRET_MAX);
}

/* Path and query as they are sent: our targets have nothing that would be written differently. */
int kmsenv_tc3_canonical(KMSENV_CRYPTO *crypto, const KMSENV_REQUEST *request, KMSENV_BUFFER *out, KMSENV_ERROR *err)
{
    const char *type = kmsenv_request_header(request, "Content-Type"), *host = kmsenv_request_header(request, "Host");
    const char *target = kmsenv_buffer_text(&request->target), *query = strchr(target, '?');
    char hash[KMSENV_HEX_SHA256];

    if (type == NULL || host == NULL)
        return fail(err);
    if (!kmsenv_sign_hash(crypto, kmsenv_buffer_text(&request->body), request->body.length, hash, err))
        return 0;
    kmsenv_buffer_printf(out, "%s\n%.*s\n%s\ncontent-type:%s\nhost:%s\n\n" SIGNED_HEADERS "\n%s", request->method,
                         (int)strcspn(target, "?"), target, query == NULL ? "" : query + 1, type, host, hash);
    return !out->failed || fail(err);
}

int kmsenv_tc3_string_to_sign(KMSENV_CRYPTO *crypto, const KMSENV_BUFFER *canonical, int64_t timestamp, const char *service,
                              KMSENV_BUFFER *out, KMSENV_ERROR *err)
{
    char hash[KMSENV_HEX_SHA256], date[16];

    if (!kmsenv_sign_time(timestamp, "%Y-%m-%d", date, sizeof(date)))
        return fail(err);
    if (!kmsenv_sign_hash(crypto, kmsenv_buffer_text(canonical), canonical->length, hash, err))
        return 0;
    kmsenv_buffer_printf(out, ALGORITHM "\n%" PRId64 "\n%s/%s/" TERMINATOR "\n%s", timestamp, date, service, hash);
    return !out->failed || fail(err);
}

int kmsenv_tc3_derive(KMSENV_CRYPTO *crypto, const char *secret_key, const char *date, const char *service,
                      KMSENV_TC3_KEYS *keys, KMSENV_ERROR *err)
{
    KMSENV_BUFFER first;
    int ok;

    kmsenv_buffer_init(&first, SECRET_MAX, 1);
    kmsenv_buffer_add_text(&first, "TC3");
    kmsenv_buffer_add_text(&first, secret_key);
    ok = first.failed ? fail(err)
                      : kmsenv_crypto_hmac_sha256(crypto, first.data, first.length, date, strlen(date), keys->date, err);
    kmsenv_buffer_reset(&first);
    if (!ok)
        return 0;
    memcpy(keys->service, keys->date, sizeof(keys->service));
    if (!kmsenv_sign_step(crypto, keys->service, service, err))
        return 0;
    memcpy(keys->signing, keys->service, sizeof(keys->signing));
    return kmsenv_sign_step(crypto, keys->signing, TERMINATOR, err);
}

/* Signature of the request as hexadecimal text. */
static int make_signature(KMSENV_CRYPTO *crypto, const KMSENV_REQUEST *request, int64_t timestamp, const char *date,
                          const char *service, const char *secret_key, char out[KMSENV_HEX_SHA256], KMSENV_ERROR *err)
{
    KMSENV_TC3_KEYS *keys = kmsenv_secret_zalloc(sizeof(*keys));
    KMSENV_BUFFER canonical, text;
    unsigned char mac[32];
    int ok;

    kmsenv_buffer_init(&canonical, TEXT_MAX, 0);
    kmsenv_buffer_init(&text, TEXT_MAX, 0);
    if (keys == NULL)
        ok = kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory to sign a request");
    else
        ok = kmsenv_tc3_canonical(crypto, request, &canonical, err)
             && kmsenv_tc3_string_to_sign(crypto, &canonical, timestamp, service, &text, err)
             && kmsenv_tc3_derive(crypto, secret_key, date, service, keys, err)
             && kmsenv_crypto_hmac_sha256(crypto, keys->signing, sizeof(keys->signing), text.data, text.length, mac, err);
    if (ok)
        kmsenv_sign_hex(mac, sizeof(mac), out);
    kmsenv_secret_free(keys);
    kmsenv_buffer_reset(&canonical);
    kmsenv_buffer_reset(&text);
    return ok;
}

int kmsenv_tc3_sign(KMSENV_CRYPTO *crypto, KMSENV_REQUEST *request, int64_t timestamp, const char *service,
                    const char *secret_id, const char *secret_key, KMSENV_ERROR *err)
{
    char signature[KMSENV_HEX_SHA256], date[16];
    KMSENV_BUFFER value;
    int ok;

    if (!kmsenv_sign_time(timestamp, "%Y-%m-%d", date, sizeof(date)))
        return fail(err);
    if (!make_signature(crypto, request, timestamp, date, service, secret_key, signature, err))
        return 0;
    kmsenv_buffer_init(&value, TEXT_MAX, 0);
    kmsenv_buffer_printf(&value, ALGORITHM " Credential=%s/%s/%s/" TERMINATOR ", SignedHeaders=" SIGNED_HEADERS ", Signature=%s",
                         secret_id, date, service, signature);
    ok = value.failed ? fail(err) : kmsenv_request_add_header(request, "Authorization", kmsenv_buffer_text(&value), err);
    kmsenv_buffer_reset(&value);
    return ok;
}
