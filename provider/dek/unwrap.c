/* The data key of a message: each wrap that a configured profile answers for is tried in turn. */
#include <stdio.h>
#include "core/secret.h"
#include "dek/deks_local.h"
#include "dek/keyring.h"

typedef struct tries_st {
    size_t made;             /* KMS calls */
    KMSENV_ERROR err;        /* the one to report if none succeeds */
    KMSENV_BUDGET budget;
} TRIES;

/* A KMS that could not be asked may know the answer later; that outweighs another's refusal. */
static void note_failure(TRIES *tries, const KMSENV_ERROR *err)
{
    if (tries->err.reason == KMSENV_R_NONE
            || (kmsenv_reason_is_unreachable(err->reason) && !kmsenv_reason_is_unreachable(tries->err.reason)))
        tries->err = *err;
}

static KMSENV_DEK *unwrap_within(KMSENV_DEKS *deks, KMSENV_KMS *kms, uint64_t limit_ms, const KMSENV_DATA_KEY *key,
                                 const KMSENV_WRAP *wrap, KMSENV_ERROR *err)
{
    unsigned char *secret = kmsenv_secret_zalloc(KMSENV_DEK_LEN_MAX);
    char hex[2 * KMSENV_DEK_ID_LEN + 1];
    size_t len = KMSENV_DEK_LEN_MAX;
    KMSENV_DEK *dek = NULL;

    kmsenv_dek_id_hex(key->id, hex);
    if (secret == NULL) {
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no secret memory for a data key");
    } else if (kmsenv_kms_decrypt_within(kms, limit_ms, &wrap->context, hex, &wrap->blob, secret, &len, err)) {
        if (len != key->length) {
            kmsenv_error_set(err, KMSENV_R_DATA_KEY_MISMATCH, "profile %s: the KMS returned %zu bytes for a data key of %zu",
                             kmsenv_kms_profile(kms), len, key->length);
        } else {
            dek = kmsenv_dek_new(deks->services.crypto, key, secret, err);
            secret = NULL;
            if (dek == NULL)
                kmsenv_error_prefix(err, "profile %s: ", kmsenv_kms_profile(kms));
        }
    }
    kmsenv_secret_free(secret);
    return dek;
}

KMSENV_DEK *kmsenv_dek_unwrap_one(KMSENV_DEKS *deks, KMSENV_KMS *kms, const KMSENV_DATA_KEY *key, const KMSENV_WRAP *wrap,
                                  KMSENV_ERROR *err)
{
    return unwrap_within(deks, kms, 0, key, wrap, err);
}

static KMSENV_DEK *try_one(KMSENV_DEKS *deks, KMSENV_KMS *kms, const KMSENV_DATA_KEY *key, const KMSENV_WRAP *wrap, TRIES *tries)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_DEK *dek = unwrap_within(deks, kms, kmsenv_budget_take(&tries->budget, kms), key, wrap, &err);

    tries->made++;
    if (dek == NULL)
        note_failure(tries, &err);
    return dek;
}

int kmsenv_deks_no_profile(const KMSENV_DEKS *deks, const KMSENV_DATA_KEY *key, KMSENV_ERROR *err)
{
    char kms[64], id[64];

    if (deks->count == 0)
        return kmsenv_deks_no_kms(err);
    return kmsenv_error_set(err, KMSENV_R_NO_USABLE_WRAP,
                            "no configured profile answers for this data key, wrapped by %s with key '%s'%s: "
                            "configure a profile for it, or name the key in the 'decrypt-keys' of one",
                            kmsenv_shown(key->wrap[0].kms, kms), kmsenv_shown(key->wrap[0].blob.key_id, id),
                            key->wraps > 1 ? " and by others" : "");
}

/* A profile that cannot tell whether a wrap is its own is the likeliest reason if none opens it. */
static int matches(KMSENV_KMS *kms, const KMSENV_WRAP *wrap, TRIES *tries)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;

    if (kmsenv_kms_matches(kms, wrap->kms, wrap->blob.key_id, &err))
        return 1;
    if (err.reason != KMSENV_R_NONE)
        note_failure(tries, &err);
    return 0;
}

const char *kmsenv_deks_profile_for(KMSENV_DEKS *deks, const char *kms, const char *key_id, KMSENV_ERROR *err)
{
    size_t p;

    for (p = 0; p < deks->count; p++)
        if (kmsenv_kms_matches(deks->profile[p], kms, key_id, err))
            return kmsenv_kms_profile(deks->profile[p]);
    return NULL;
}

/* Which KMSes in the network may be asked. The others cost no time, and whether they match is better not asked in vain. */
static void plan(const KMSENV_DEKS *deks, const KMSENV_DATA_KEY *key, TRIES *tries)
{
    size_t w, p;

    for (p = 0; p < deks->count; p++)
        for (w = 0; w < key->wraps && tries->budget.calls < KMSENV_UNWRAP_TRIES_MAX; w++)
            if (kmsenv_kms_method(deks->profile[p])->network && matches(deks->profile[p], &key->wrap[w], tries))
                kmsenv_budget_plan(&tries->budget, deks->profile[p]);
}

static void report(const KMSENV_DEKS *deks, const KMSENV_DATA_KEY *key, const TRIES *tries, KMSENV_ERROR *err)
{
    if (tries->err.reason == KMSENV_R_NONE) {
        kmsenv_deks_no_profile(deks, key, err);
        return;
    }
    *err = tries->err;
    if (tries->made > 1)
        kmsenv_error_prefix(err, "%zu wraps were tried%s, and none opened, such as: ", tries->made,
                            tries->made == KMSENV_UNWRAP_TRIES_MAX ? ", the most there may be" : "");
}

/* In the order of our profiles: which KMS is asked first is for the reader to say, not for the message. */
KMSENV_DEK *kmsenv_dek_unwrap_any(KMSENV_DEKS *deks, const KMSENV_DATA_KEY *key, size_t *which, KMSENV_ERROR *err)
{
    TRIES tries = { 0, KMSENV_ERROR_INIT, { 0, 0, 0 } };
    KMSENV_DEK *dek = NULL;
    size_t w, p;

    plan(deks, key, &tries);
    for (p = 0; p < deks->count && dek == NULL; p++)
        for (w = 0; w < key->wraps && dek == NULL && tries.made < KMSENV_UNWRAP_TRIES_MAX; w++)
            if (matches(deks->profile[p], &key->wrap[w], &tries)) {
                dek = try_one(deks, deks->profile[p], key, &key->wrap[w], &tries);
                *which = w;
            }
    if (dek == NULL)
        report(deks, key, &tries, err);
    return dek;
}

KMSENV_DEK *kmsenv_dek_unwrap(void *unwrap, KMSENV_ERROR *err)
{
    const KMSENV_UNWRAP *u = unwrap;
    KMSENV_DATA_KEY *key = kmsenv_data_key_parse(u->der, u->len, err), *from_keyring;
    KMSENV_DEK *dek = NULL;
    size_t which;

    if (key != NULL && key->wraps == 0) {
        from_keyring = kmsenv_keyring_load(u->deks->keyring, key->id, err);
        if (from_keyring != NULL && from_keyring->length != key->length) {
            kmsenv_error_set(err, KMSENV_R_DATA_KEY_MISMATCH, "the message wants a data key of %zu bytes, the keyring's has %zu",
                             key->length, from_keyring->length);
            kmsenv_data_key_free(from_keyring);
            from_keyring = NULL;
        }
        kmsenv_data_key_free(key);
        key = from_keyring;
    }
    if (key != NULL)
        dek = kmsenv_dek_unwrap_any(u->deks, key, &which, err);
    kmsenv_data_key_free(key);
    return dek;
}
