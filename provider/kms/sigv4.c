#include <string.h>
#include <openssl/crypto.h>
#include "core/secret.h"
#include "kms/sign.h"
#include "kms/sigv4.h"

#define ALGORITHM  "AWS4-HMAC-SHA256"
#define TERMINATOR "aws4_request"
#define TEXT_MAX   32768
#define SECRET_MAX 4096

static int fail(KMSENV_ERROR *err)
{
    return kmsenv_error_set(err, KMSENV_R_KMS_REQUEST_REJECTED, "the request cannot be signed: " ALGORITHM " needs the headers "
                            "Host and X-Amz-Date, a time between 1970 and 9999, and a secret of at most %d bytes", SECRET_MAX);
}

static void add_line(KMSENV_BUFFER *out, const char *text, size_t n)
{
    kmsenv_buffer_add(out, text, n);
    kmsenv_buffer_add(out, "\n", 1);
}

/* --- canonical request ---------------------------------------------------- */

/* Path and query as they are sent: our targets have nothing that would be written differently. */
int kmsenv_sigv4_canonical(KMSENV_CRYPTO *crypto, const KMSENV_REQUEST *request, KMSENV_BUFFER *signed_headers,
                           KMSENV_BUFFER *out, KMSENV_ERROR *err)
{
    const char *target = kmsenv_buffer_text(&request->target), *query = strchr(target, '?');
    char hash[KMSENV_HEX_SHA256];

    if (kmsenv_request_header(request, "Host") == NULL || kmsenv_request_header(request, "X-Amz-Date") == NULL)
        return fail(err);
    if (!kmsenv_sign_hash(crypto, kmsenv_buffer_text(&request->body), request->body.length, hash, err))
        return 0;
    add_line(out, request->method, strlen(request->method));
    add_line(out, target, strcspn(target, "?"));
    add_line(out, query == NULL ? "" : query + 1, query == NULL ? 0 : strlen(query + 1));
    kmsenv_sign_headers(request, NULL, 1, signed_headers, out);
    kmsenv_buffer_add(out, "\n", 1);
    add_line(out, kmsenv_buffer_text(signed_headers), signed_headers->length);
    kmsenv_buffer_add_text(out, hash);
    return (!out->failed && !signed_headers->failed) || fail(err);
}

/* --- signing -------------------------------------------------------------- */

int kmsenv_sigv4_time(int64_t timestamp, char *out, size_t room)
{
    return kmsenv_sign_time(timestamp, "%Y%m%dT%H%M%SZ", out, room);
}

static void add_scope(KMSENV_BUFFER *out, const KMSENV_SIGV4_SIGNER *s, const char *date)
{
    kmsenv_buffer_printf(out, "%s/%s/%s/" TERMINATOR, date, s->region, s->service);
}

int kmsenv_sigv4_string_to_sign(const KMSENV_SIGV4_SIGNER *signer, const KMSENV_BUFFER *canonical, int64_t timestamp,
                                KMSENV_BUFFER *out, KMSENV_ERROR *err)
{
    char hash[KMSENV_HEX_SHA256], time[24], date[16];

    if (!kmsenv_sigv4_time(timestamp, time, sizeof(time)) || !kmsenv_sign_time(timestamp, "%Y%m%d", date, sizeof(date)))
        return fail(err);
    if (!kmsenv_sign_hash(signer->crypto, kmsenv_buffer_text(canonical), canonical->length, hash, err))
        return 0;
    kmsenv_buffer_printf(out, ALGORITHM "\n%s\n", time);
    add_scope(out, signer, date);
    kmsenv_buffer_add(out, "\n", 1);
    kmsenv_buffer_add_text(out, hash);
    return !out->failed || fail(err);
}

int kmsenv_sigv4_derive(const KMSENV_SIGV4_SIGNER *signer, const char *date, KMSENV_SIGV4_KEYS *keys, KMSENV_ERROR *err)
{
    KMSENV_BUFFER first;
    int ok;

    kmsenv_buffer_init(&first, SECRET_MAX, 1);
    kmsenv_buffer_add_text(&first, "AWS4");
    kmsenv_buffer_add_text(&first, signer->secret);
    ok = first.failed ? fail(err) : kmsenv_crypto_hmac_sha256(signer->crypto, first.data, first.length, date, strlen(date),
                                                              keys->date, err);
    kmsenv_buffer_reset(&first);
    if (!ok)
        return 0;
    memcpy(keys->region, keys->date, sizeof(keys->region));
    if (!kmsenv_sign_step(signer->crypto, keys->region, signer->region, err))
        return 0;
    memcpy(keys->service, keys->region, sizeof(keys->service));
    if (!kmsenv_sign_step(signer->crypto, keys->service, signer->service, err))
        return 0;
    memcpy(keys->signing, keys->service, sizeof(keys->signing));
    return kmsenv_sign_step(signer->crypto, keys->signing, TERMINATOR, err);
}

/* Signature of the request as hexadecimal text. The canonical request has the session token in it. */
static int make_signature(const KMSENV_SIGV4_SIGNER *s, const KMSENV_REQUEST *request, int64_t timestamp, const char *date,
                          KMSENV_BUFFER *names, char out[KMSENV_HEX_SHA256], KMSENV_ERROR *err)
{
    KMSENV_SIGV4_KEYS *keys = kmsenv_secret_zalloc(sizeof(*keys));
    unsigned char mac[32];
    KMSENV_BUFFER canonical, text;
    int ok;

    kmsenv_buffer_init(&canonical, TEXT_MAX, 1);
    kmsenv_buffer_init(&text, TEXT_MAX, 0);
    if (keys == NULL)
        ok = kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory to sign a request");
    else
        ok = kmsenv_sigv4_canonical(s->crypto, request, names, &canonical, err)
             && kmsenv_sigv4_string_to_sign(s, &canonical, timestamp, &text, err)
             && kmsenv_sigv4_derive(s, date, keys, err)
             && kmsenv_crypto_hmac_sha256(s->crypto, keys->signing, 32, text.data, text.length, mac, err);
    if (ok)
        kmsenv_sign_hex(mac, sizeof(mac), out);
    kmsenv_secret_free(keys);
    kmsenv_buffer_reset(&canonical);
    kmsenv_buffer_reset(&text);
    return ok;
}

int kmsenv_sigv4_sign(const KMSENV_SIGV4_SIGNER *signer, KMSENV_REQUEST *request, int64_t timestamp, KMSENV_ERROR *err)
{
    char signature[KMSENV_HEX_SHA256], date[16];
    KMSENV_BUFFER names, value;
    int ok;

    if (!kmsenv_sign_time(timestamp, "%Y%m%d", date, sizeof(date)))
        return fail(err);
    kmsenv_buffer_init(&names, TEXT_MAX, 0);
    kmsenv_buffer_init(&value, TEXT_MAX, 0);
    ok = make_signature(signer, request, timestamp, date, &names, signature, err);
    if (ok) {
        kmsenv_buffer_printf(&value, ALGORITHM " Credential=%s/", signer->id);
        add_scope(&value, signer, date);
        kmsenv_buffer_printf(&value, ", SignedHeaders=%s, Signature=%s", kmsenv_buffer_text(&names), signature);
        ok = value.failed ? fail(err) : kmsenv_request_add_header(request, "Authorization", kmsenv_buffer_text(&value), err);
    }
    kmsenv_buffer_reset(&names);
    kmsenv_buffer_reset(&value);
    return ok;
}
