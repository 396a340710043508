#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <openssl/crypto.h>
#include "core/lock.h"
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

static void add_line(KMSENV_BUFFER *out, const char *text, size_t n)
{
    kmsenv_buffer_add(out, text, n);
    kmsenv_buffer_add(out, "\n", 1);
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
    add_line(out, request->method, strlen(request->method));
    add_line(out, target, strcspn(target, "?"));
    add_line(out, query == NULL ? "" : query + 1, query == NULL ? 0 : strlen(query + 1));
    kmsenv_buffer_add_text(out, "content-type:");
    add_line(out, type, strlen(type));
    kmsenv_buffer_add_text(out, "host:");
    add_line(out, host, strlen(host));
    kmsenv_buffer_add_text(out, "\n" SIGNED_HEADERS "\n");
    kmsenv_buffer_add_text(out, hash);
    return !out->failed || fail(err);
}

static void add_scope(KMSENV_BUFFER *out, const char *date, const char *service)
{
    kmsenv_buffer_add_text(out, date);
    kmsenv_buffer_add(out, "/", 1);
    kmsenv_buffer_add_text(out, service);
    kmsenv_buffer_add_text(out, "/" TERMINATOR);
}

int kmsenv_tc3_string_to_sign(KMSENV_CRYPTO *crypto, const KMSENV_BUFFER *canonical, int64_t timestamp, const char *service,
                              KMSENV_BUFFER *out, KMSENV_ERROR *err)
{
    char hash[KMSENV_HEX_SHA256], date[16];

    if (!kmsenv_sign_time(timestamp, "%Y-%m-%d", date, sizeof(date)))
        return fail(err);
    if (!kmsenv_sign_hash(crypto, kmsenv_buffer_text(canonical), canonical->length, hash, err))
        return 0;
    kmsenv_buffer_printf(out, ALGORITHM "\n%" PRId64 "\n", timestamp);
    add_scope(out, date, service);
    kmsenv_buffer_add(out, "\n", 1);
    kmsenv_buffer_add_text(out, hash);
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

/* --- the last signing key ------------------------------------------------- */

struct kmsenv_tc3_cache_st {
    KMSENV_LOCK *lock;
    char *secret_key;              /* what the key was made of; NULL = there is none yet */
    char date[16], service[16];
    unsigned char *signing;        /* 32 bytes, secret memory */
};

KMSENV_TC3_CACHE *kmsenv_tc3_cache_new(void)
{
    KMSENV_TC3_CACHE *c = OPENSSL_zalloc(sizeof(*c));

    if (c == NULL)
        return NULL;
    c->signing = kmsenv_secret_zalloc(32);
    c->lock = kmsenv_lock_new(KMSENV_LEVEL_KMS);
    if (c->signing != NULL && c->lock != NULL)
        return c;
    kmsenv_tc3_cache_free(c);
    return NULL;
}

void kmsenv_tc3_cache_free(KMSENV_TC3_CACHE *cache)
{
    if (cache == NULL)
        return;
    kmsenv_secret_free(cache->signing);
    kmsenv_secret_free(cache->secret_key);
    kmsenv_lock_free(cache->lock);
    OPENSSL_free(cache);
}

static int same_secret(const char *a, const char *b)
{
    size_t n = strlen(a);

    return n == strlen(b) && CRYPTO_memcmp(a, b, n) == 0;
}

static int cache_get(KMSENV_TC3_CACHE *c, const char *secret_key, const char *date, const char *service, unsigned char *signing)
{
    int hit;

    if (c == NULL)
        return 0;
    kmsenv_lock_take(c->lock);
    hit = c->secret_key != NULL && strcmp(c->date, date) == 0 && strcmp(c->service, service) == 0
          && same_secret(c->secret_key, secret_key);
    if (hit)
        memcpy(signing, c->signing, 32);
    kmsenv_lock_release(c->lock);
    return hit;
}

static void cache_put(KMSENV_TC3_CACHE *c, const char *secret_key, const char *date, const char *service,
                      const unsigned char *signing)
{
    char *copy, *old;

    if (c == NULL || strlen(service) >= sizeof(c->service)
        || (copy = kmsenv_secret_strndup(secret_key, strlen(secret_key))) == NULL)
        return;
    kmsenv_lock_take(c->lock);
    old = c->secret_key;
    c->secret_key = copy;
    memcpy(c->signing, signing, 32);
    snprintf(c->date, sizeof(c->date), "%s", date);
    snprintf(c->service, sizeof(c->service), "%s", service);
    kmsenv_lock_release(c->lock);
    kmsenv_secret_free(old);
}

/* --- signing -------------------------------------------------------------- */

/* signing: 32 bytes in secret memory. */
static int get_key(const KMSENV_TC3_SIGNER *s, const char *date, unsigned char *signing, KMSENV_ERROR *err)
{
    KMSENV_TC3_KEYS *keys;
    int ok;

    if (cache_get(s->cache, s->secret_key, date, s->service, signing))
        return 1;
    if ((keys = kmsenv_secret_zalloc(sizeof(*keys))) == NULL)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory to sign a request");
    if ((ok = kmsenv_tc3_derive(s->crypto, s->secret_key, date, s->service, keys, err)) != 0) {
        memcpy(signing, keys->signing, sizeof(keys->signing));
        cache_put(s->cache, s->secret_key, date, s->service, signing);
    }
    kmsenv_secret_free(keys);
    return ok;
}

/* Signature of the request as hexadecimal text. */
static int make_signature(const KMSENV_TC3_SIGNER *s, const KMSENV_REQUEST *request, int64_t timestamp, const char *date,
                          char out[KMSENV_HEX_SHA256], KMSENV_ERROR *err)
{
    unsigned char *signing = kmsenv_secret_zalloc(32), mac[32];
    KMSENV_BUFFER canonical, text;
    int ok;

    kmsenv_buffer_init(&canonical, TEXT_MAX, 0);
    kmsenv_buffer_init(&text, TEXT_MAX, 0);
    if (signing == NULL)
        ok = kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory to sign a request");
    else
        ok = kmsenv_tc3_canonical(s->crypto, request, &canonical, err)
             && kmsenv_tc3_string_to_sign(s->crypto, &canonical, timestamp, s->service, &text, err)
             && get_key(s, date, signing, err)
             && kmsenv_crypto_hmac_sha256(s->crypto, signing, 32, text.data, text.length, mac, err);
    if (ok)
        kmsenv_sign_hex(mac, sizeof(mac), out);
    kmsenv_secret_free(signing);
    kmsenv_buffer_reset(&canonical);
    kmsenv_buffer_reset(&text);
    return ok;
}

int kmsenv_tc3_sign(const KMSENV_TC3_SIGNER *signer, KMSENV_REQUEST *request, int64_t timestamp, KMSENV_ERROR *err)
{
    char signature[KMSENV_HEX_SHA256], date[16];
    KMSENV_BUFFER value;
    int ok;

    if (!kmsenv_sign_time(timestamp, "%Y-%m-%d", date, sizeof(date)))
        return fail(err);
    if (!make_signature(signer, request, timestamp, date, signature, err))
        return 0;
    kmsenv_buffer_init(&value, TEXT_MAX, 0);
    kmsenv_buffer_add_text(&value, ALGORITHM " Credential=");
    kmsenv_buffer_add_text(&value, signer->secret_id);
    kmsenv_buffer_add(&value, "/", 1);
    add_scope(&value, date, signer->service);
    kmsenv_buffer_add_text(&value, ", SignedHeaders=" SIGNED_HEADERS ", Signature=");
    kmsenv_buffer_add_text(&value, signature);
    ok = value.failed ? fail(err) : kmsenv_request_add_header(request, "Authorization", kmsenv_buffer_text(&value), err);
    kmsenv_buffer_reset(&value);
    return ok;
}
