/* Key type `kms-master-key`: a handle of a master key, which stays in its KMS. Made by the store (kms: URIs). */
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>
#include "kmsenv/params.h"
#include "ops/key.h"

KMSENV_MASTER_KEY *kmsenv_master_key_new(KMSENV_PROVCTX *provctx, const char *profile, const char *key_id, KMSENV_ERROR *err)
{
    const KMSENV_RUNTIME *runtime = provctx->runtime(provctx, err);
    KMSENV_MASTER_KEY *key;

    if (runtime == NULL)
        return NULL;
    if ((key = OPENSSL_zalloc(sizeof(*key))) == NULL) {
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a master key");
        return NULL;
    }
    key->provctx = provctx;
    if ((key->cmk = kmsenv_cmk_new(runtime->deks, profile, key_id, err)) != NULL)
        return key;
    OPENSSL_free(key);
    return NULL;
}

void kmsenv_master_key_free(KMSENV_MASTER_KEY *key)
{
    if (key == NULL)
        return;
    kmsenv_cmk_free(key->cmk);
    OPENSSL_free(key);
}

static OSSL_FUNC_keymgmt_free_fn master_key_free;
static void master_key_free(void *keydata)
{
    kmsenv_master_key_free(keydata);
}

/* A key type must be able to make an empty object; this one is never filled. */
static OSSL_FUNC_keymgmt_new_fn master_key_new;
static void *master_key_new(void *provctx)
{
    KMSENV_MASTER_KEY *key = OPENSSL_zalloc(sizeof(*key));

    if (key != NULL)
        key->provctx = provctx;
    return key;
}

static OSSL_FUNC_keymgmt_load_fn master_key_load;
static void *master_key_load(const void *reference, size_t reference_sz)
{
    KMSENV_MASTER_KEY **from = (KMSENV_MASTER_KEY **)reference, *key;

    if (reference_sz != sizeof(*from))
        return NULL;
    key = *from;
    *from = NULL;
    return key;
}

static OSSL_FUNC_keymgmt_dup_fn master_key_dup;
static void *master_key_dup(const void *keydata, int selection)
{
    KMSENV_MASTER_KEY *copy = OPENSSL_memdup(keydata, sizeof(*copy));

    (void)selection;
    if (copy != NULL && copy->cmk != NULL)
        kmsenv_cmk_up_ref(copy->cmk);
    return copy;
}

static OSSL_FUNC_keymgmt_has_fn master_key_has;
static int master_key_has(const void *keydata, int selection)
{
    const KMSENV_MASTER_KEY *key = keydata;

    return key != NULL && ((selection & OSSL_KEYMGMT_SELECT_KEYPAIR) == 0 || key->cmk != NULL);
}

static OSSL_FUNC_keymgmt_match_fn master_key_match;
static int master_key_match(const void *a, const void *b, int selection)
{
    const KMSENV_MASTER_KEY *x = a, *y = b;

    if ((selection & OSSL_KEYMGMT_SELECT_KEYPAIR) == 0)
        return 1;
    return x->cmk != NULL && y->cmk != NULL && kmsenv_cmk_equal(x->cmk, y->cmk);
}

/* pkeyutl reads at most ten times the "size" of a key as input. */
static OSSL_FUNC_keymgmt_get_params_fn master_key_get_params;
static int master_key_get_params(void *keydata, OSSL_PARAM params[])
{
    const KMSENV_MASTER_KEY *key = keydata;
    OSSL_PARAM *p;

    if (key->cmk == NULL)
        return 0;
    return ((p = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_BITS)) == NULL || OSSL_PARAM_set_int(p, 256))
           && ((p = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_SECURITY_BITS)) == NULL || OSSL_PARAM_set_int(p, 256))
           && ((p = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_MAX_SIZE)) == NULL || OSSL_PARAM_set_int(p, KMSENV_CMK_OUTPUT_MAX))
           && ((p = OSSL_PARAM_locate(params, KMSENV_PKEY_PARAM_PROFILE)) == NULL
               || OSSL_PARAM_set_utf8_string(p, kmsenv_cmk_profile(key->cmk)))
           && ((p = OSSL_PARAM_locate(params, KMSENV_PKEY_PARAM_KMS)) == NULL
               || OSSL_PARAM_set_utf8_string(p, kmsenv_cmk_kms(key->cmk)))
           && ((p = OSSL_PARAM_locate(params, KMSENV_PKEY_PARAM_KEY_ID)) == NULL
               || OSSL_PARAM_set_utf8_string(p, kmsenv_cmk_key_id(key->cmk)));
}

static OSSL_FUNC_keymgmt_gettable_params_fn master_key_gettable_params;
static const OSSL_PARAM *master_key_gettable_params(void *provctx)
{
    static const OSSL_PARAM gettable[] = {
        OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
        OSSL_PARAM_utf8_string(KMSENV_PKEY_PARAM_PROFILE, NULL, 0),
        OSSL_PARAM_utf8_string(KMSENV_PKEY_PARAM_KMS, NULL, 0),
        OSSL_PARAM_utf8_string(KMSENV_PKEY_PARAM_KEY_ID, NULL, 0),
        OSSL_PARAM_END
    };

    (void)provctx;
    return gettable;
}

const OSSL_DISPATCH kmsenv_keymgmt_master_key_functions[] = {
    { OSSL_FUNC_KEYMGMT_NEW, (void (*)(void))master_key_new },
    { OSSL_FUNC_KEYMGMT_FREE, (void (*)(void))master_key_free },
    { OSSL_FUNC_KEYMGMT_LOAD, (void (*)(void))master_key_load },
    { OSSL_FUNC_KEYMGMT_DUP, (void (*)(void))master_key_dup },
    { OSSL_FUNC_KEYMGMT_HAS, (void (*)(void))master_key_has },
    { OSSL_FUNC_KEYMGMT_MATCH, (void (*)(void))master_key_match },
    { OSSL_FUNC_KEYMGMT_GET_PARAMS, (void (*)(void))master_key_get_params },
    { OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, (void (*)(void))master_key_gettable_params },
    { 0, NULL }
};
