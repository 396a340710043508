/* A new data key: the first profile that can generates it, the others wrap it. */
#include <openssl/crypto.h>
#include "core/secret.h"
#include "dek/deks_local.h"
#include "dek/keyring.h"

/* Names the wrap after the profile that made it. */
static int fill_wrap(KMSENV_WRAP *wrap, const KMSENV_KMS *kms, const KMSENV_CONTEXT *context, KMSENV_ERROR *err)
{
    wrap->kms = OPENSSL_strdup(kmsenv_kms_method(kms)->name);
    if (wrap->kms == NULL || wrap->blob.key_id == NULL || !kmsenv_context_copy(&wrap->context, context))
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a wrap");
    return 1;
}

static int generate(const KMSENV_DEK_REQUEST *r, size_t i, uint64_t limit_ms, unsigned char *secret, KMSENV_DATA_KEY *key,
                    KMSENV_ERROR *err)
{
    KMSENV_KMS *kms = r->deks->profile[r->profile[i]];
    const KMSENV_CONTEXT *context = kmsenv_dek_request_context_for(r, i);

    key->length = r->length == 0 ? KMSENV_NEW_DEK_LEN : r->length;
    if (!kmsenv_kms_generate_within(kms, limit_ms, context, key->length, secret, &key->wrap[0].blob, err))
        return 0;
    key->wraps = 1;
    return fill_wrap(&key->wrap[0], kms, context, err)
        && kmsenv_dek_id_of(r->deks->services.crypto, secret, key->length, key->id, err);
}

/* One further wrap. A profile that fails leaves the list as it was. */
static int wrap_also(const KMSENV_DEK_REQUEST *r, size_t i, uint64_t limit_ms, const unsigned char *secret, KMSENV_DATA_KEY *key,
                     KMSENV_ERROR *err)
{
    KMSENV_KMS *kms = r->deks->profile[r->profile[i]];
    const KMSENV_CONTEXT *context = kmsenv_dek_request_context_for(r, i);
    KMSENV_WRAP *wrap = &key->wrap[key->wraps];
    char hex[2 * KMSENV_DEK_ID_LEN + 1];

    kmsenv_dek_id_hex(key->id, hex);
    if (!kmsenv_kms_encrypt_within(kms, limit_ms, context, hex, secret, key->length, &wrap->blob, err)) {
        kmsenv_blob_reset(&wrap->blob);
        return 0;
    }
    key->wraps++;
    return fill_wrap(wrap, kms, context, err);
}

/* How many wraps there must be; 0 with err filled if there cannot be so many. */
static size_t wanted_wraps(const KMSENV_DEK_REQUEST *r, KMSENV_ERROR *err)
{
    size_t wanted = r->deks->min_wraps == 0 ? r->count : r->deks->min_wraps;

    if (wanted > r->count)
        return (size_t)kmsenv_error_set(err, KMSENV_R_TOO_FEW_WRAPS, "min-wraps = %zu, but only %zu profile%s asked for: lower "
                                        "min-wraps or name more profiles", wanted, r->count, r->count == 1 ? " is" : "s are");
    return wanted;
}

static int wrap_all(const KMSENV_DEK_REQUEST *r, unsigned char *secret, KMSENV_DATA_KEY *key, KMSENV_ERROR *err)
{
    size_t i, made, wanted = wanted_wraps(r, err);
    KMSENV_BUDGET budget = { 0, 0, 0 };
    uint64_t limit_ms;

    if (wanted == 0)
        return 0;
    for (i = 0; i < r->count; i++)
        kmsenv_budget_plan(&budget, r->deks->profile[r->profile[i]]);
    for (i = 0; i < r->count; i++) {
        made = key->wraps;
        limit_ms = kmsenv_budget_take(&budget, r->deks->profile[r->profile[i]]);
        if (made == 0 ? generate(r, i, limit_ms, secret, key, err) : wrap_also(r, i, limit_ms, secret, key, err))
            continue;
        if (key->wraps != made || err->reason == KMSENV_R_OUT_OF_MEMORY)
            return 0;   /* it was not the KMS that failed */
        if (made + r->count - i - 1 >= wanted)
            continue;
        /* The class of the failure stays that of the KMS, so that grace and refusals work as for one profile. */
        return r->count == 1 ? 0 : kmsenv_error_prefix(err, "%zu of %zu profiles must wrap a data key (min-wraps): ", wanted, r->count);
    }
    kmsenv_error_clear(err);
    return 1;
}

KMSENV_DEK *kmsenv_dek_make(void *request, KMSENV_ERROR *err)
{
    const KMSENV_DEK_REQUEST *r = request;
    KMSENV_DATA_KEY *key = kmsenv_data_key_new();
    unsigned char *secret = kmsenv_secret_zalloc(KMSENV_DEK_LEN_MAX);
    KMSENV_DEK *dek = NULL;
    const unsigned char *der;
    size_t len;

    if (key == NULL || secret == NULL) {
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a data key");
    } else if (wrap_all(r, secret, key, err)) {
        dek = kmsenv_dek_new(r->deks->services.crypto, key, secret, err);
        secret = NULL;
    }
    if (dek != NULL && r->detached) {
        der = kmsenv_dek_get0_der(dek, 0, &len);
        if (!kmsenv_keyring_store(r->deks->keyring, key->id, der, len, err)) {
            kmsenv_dek_free(dek);
            dek = NULL;
        }
    }
    kmsenv_secret_free(secret);
    kmsenv_data_key_free(key);
    return dek;
}

KMSENV_DEK *kmsenv_deks_make(const KMSENV_DEK_REQUEST *request, size_t len, int keep, KMSENV_ERROR *err)
{
    KMSENV_DEK_REQUEST *r;
    KMSENV_DEK *dek;

    if (request->count == 0) {
        kmsenv_deks_no_kms(err);
        return NULL;
    }
    if ((r = kmsenv_dek_request_dup(request)) == NULL) {
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a data key");
        return NULL;
    }
    r->length = len;
    r->detached = keep;
    kmsenv_count(r->deks->services.counters, KMSENV_COUNTER_CACHE_MISSES, 1);
    dek = kmsenv_dek_make(r, err);
    kmsenv_dek_request_free(r);
    return dek;
}
