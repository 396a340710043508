/*
 * Key type `kms-master-key`: a master key, which stays in its KMS. Private and public half are a handle made by the store
 * (kms: URIs), with which a profile is asked; the public half alone is the name of the key (dek/key_name.h).
 */
#include <openssl/core_names.h>
#include <openssl/core_object.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include "compat/cms.h"
#include "kmsenv/params.h"
#include "ops/key.h"

/* --- objects -------------------------------------------------------------- */

static KMSENV_MASTER_KEY *new_empty(KMSENV_PROVCTX *provctx, KMSENV_ERROR *err)
{
    KMSENV_MASTER_KEY *key = OPENSSL_zalloc(sizeof(*key));

    if (key == NULL)
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a master key");
    else
        key->provctx = provctx;
    return key;
}

KMSENV_MASTER_KEY *kmsenv_master_key_new(KMSENV_PROVCTX *provctx, const char *profile, const char *key_id, KMSENV_ERROR *err)
{
    const KMSENV_RUNTIME *runtime = provctx->runtime(provctx, err);
    KMSENV_MASTER_KEY *key;

    if (runtime == NULL || (key = new_empty(provctx, err)) == NULL)
        return NULL;
    if ((key->cmk = kmsenv_cmk_new(runtime->deks, profile, key_id, err)) != NULL
            && kmsenv_key_name_set(&key->name, kmsenv_cmk_kms(key->cmk), kmsenv_cmk_key_id(key->cmk), err))
        return key;
    kmsenv_master_key_free(key);
    return NULL;
}

KMSENV_MASTER_KEY *kmsenv_master_key_new_public(KMSENV_PROVCTX *provctx, const unsigned char *der, size_t len, KMSENV_ERROR *err)
{
    KMSENV_MASTER_KEY *key = new_empty(provctx, err);

    if (key == NULL || kmsenv_key_name_parse(&key->name, der, len, err))
        return key;
    kmsenv_master_key_free(key);
    return NULL;
}

void kmsenv_master_key_free(KMSENV_MASTER_KEY *key)
{
    if (key == NULL)
        return;
    kmsenv_cmk_free(key->cmk);
    kmsenv_key_name_reset(&key->name);
    OPENSSL_free(key);
}

int kmsenv_master_key_emit(KMSENV_MASTER_KEY *key, OSSL_CALLBACK *cb, void *cbarg)
{
    int type = OSSL_OBJECT_PKEY, ok;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_int(OSSL_OBJECT_PARAM_TYPE, &type),
        OSSL_PARAM_construct_utf8_string(OSSL_OBJECT_PARAM_DATA_TYPE, (char *)KMSENV_KEYMGMT_MASTER_KEY, 0),
        OSSL_PARAM_construct_octet_string(OSSL_OBJECT_PARAM_REFERENCE, &key, sizeof(key)),
        OSSL_PARAM_construct_end()
    };

    ok = cb(params, cbarg);
    kmsenv_master_key_free(key);      /* load() has set it to NULL if it took it */
    return ok;
}

static OSSL_FUNC_keymgmt_free_fn master_key_free;
static void master_key_free(void *keydata)
{
    kmsenv_master_key_free(keydata);
}

static OSSL_FUNC_keymgmt_new_fn master_key_new;
static void *master_key_new(void *provctx)
{
    KMSENV_ERROR ignored = KMSENV_ERROR_INIT;

    return new_empty(provctx, &ignored);
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

/* Without the private half, if that is not selected. */
static OSSL_FUNC_keymgmt_dup_fn master_key_dup;
static void *master_key_dup(const void *keydata, int selection)
{
    const KMSENV_MASTER_KEY *key = keydata;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_MASTER_KEY *copy = new_empty(key->provctx, &err);

    if (copy == NULL || key->name.kms == NULL)
        return copy;
    if (!kmsenv_key_name_set(&copy->name, key->name.kms, key->name.key_id, &err)) {
        kmsenv_master_key_free(copy);
        return NULL;
    }
    if (key->cmk != NULL && (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0 && kmsenv_cmk_up_ref(key->cmk))
        copy->cmk = key->cmk;
    return copy;
}

static OSSL_FUNC_keymgmt_has_fn master_key_has;
static int master_key_has(const void *keydata, int selection)
{
    const KMSENV_MASTER_KEY *key = keydata;

    return key != NULL && ((selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) == 0 || key->name.kms != NULL)
           && ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) == 0 || key->cmk != NULL);
}

static OSSL_FUNC_keymgmt_match_fn master_key_match;
static int master_key_match(const void *a, const void *b, int selection)
{
    const KMSENV_MASTER_KEY *x = a, *y = b;

    return (selection & OSSL_KEYMGMT_SELECT_KEYPAIR) == 0 || kmsenv_key_name_equal(&x->name, &y->name);
}

/* --- the public half in and out ------------------------------------------- */

static OSSL_FUNC_keymgmt_import_types_fn master_key_types;
static const OSSL_PARAM *master_key_types(int selection)
{
    static const OSSL_PARAM types[] = {
        OSSL_PARAM_utf8_string(KMSENV_PKEY_PARAM_KMS, NULL, 0),
        OSSL_PARAM_utf8_string(KMSENV_PKEY_PARAM_KEY_ID, NULL, 0),
        OSSL_PARAM_END
    };

    return (selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) != 0 ? types : NULL;
}

static int get_text(const OSSL_PARAM params[], const char *name, char **text)
{
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, name);

    return p != NULL && OSSL_PARAM_get_utf8_string(p, text, 0);
}

static OSSL_FUNC_keymgmt_import_fn master_key_import;
static int master_key_import(void *keydata, int selection, const OSSL_PARAM params[])
{
    KMSENV_MASTER_KEY *key = keydata;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    char *kms = NULL, *key_id = NULL;
    int ok;

    if (key->name.kms != NULL || (selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) == 0)
        return 0;
    ERR_set_mark();
    if (!get_text(params, KMSENV_PKEY_PARAM_KMS, &kms) || !get_text(params, KMSENV_PKEY_PARAM_KEY_ID, &key_id))
        ok = kmsenv_error_set(&err, KMSENV_R_PARAMETER_INVALID, "a master key is made of %s and %s, which are texts",
                              KMSENV_PKEY_PARAM_KMS, KMSENV_PKEY_PARAM_KEY_ID);
    else
        ok = kmsenv_key_name_set(&key->name, kms, key_id, &err);
    ERR_pop_to_mark();
    OPENSSL_free(kms);
    OPENSSL_free(key_id);
    return ok || kmsenv_reporter_raise(key->provctx->reporter, &err);
}

static OSSL_FUNC_keymgmt_export_fn master_key_export;
static int master_key_export(void *keydata, int selection, OSSL_CALLBACK *cb, void *cbarg)
{
    const KMSENV_MASTER_KEY *key = keydata;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    OSSL_PARAM params[] = { OSSL_PARAM_END, OSSL_PARAM_END, OSSL_PARAM_END };

    if (key->name.kms == NULL)
        return 0;
    if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0) {
        kmsenv_error_set(&err, KMSENV_R_PARAMETER_INVALID, "a master key never leaves its KMS: only its public half, its name, can "
                         "be exported");
        return kmsenv_reporter_raise(key->provctx->reporter, &err);
    }
    params[0] = OSSL_PARAM_construct_utf8_string(KMSENV_PKEY_PARAM_KMS, key->name.kms, 0);
    params[1] = OSSL_PARAM_construct_utf8_string(KMSENV_PKEY_PARAM_KEY_ID, key->name.key_id, 0);
    return cb(params, cbarg);
}

/* --- parameters ----------------------------------------------------------- */

static int set_text(OSSL_PARAM params[], const char *name, const char *text)
{
    OSSL_PARAM *p = OSSL_PARAM_locate(params, name);

    return p == NULL || OSSL_PARAM_set_utf8_string(p, text);
}

static int set_int(OSSL_PARAM params[], const char *name, int value)
{
    OSSL_PARAM *p = OSSL_PARAM_locate(params, name);

    return p == NULL || OSSL_PARAM_set_int(p, value);
}

/* pkeyutl reads at most ten times the "size" of a key as input. CMS is told not to use direct encryption, which has no name there. */
static OSSL_FUNC_keymgmt_get_params_fn master_key_get_params;
static int master_key_get_params(void *keydata, OSSL_PARAM params[])
{
    const KMSENV_MASTER_KEY *key = keydata;

    return key->name.kms != NULL && set_int(params, OSSL_PKEY_PARAM_BITS, 256) && set_int(params, OSSL_PKEY_PARAM_SECURITY_BITS, 256)
           && set_int(params, OSSL_PKEY_PARAM_MAX_SIZE, KMSENV_CMK_OUTPUT_MAX)
           && set_int(params, OSSL_PKEY_PARAM_CMS_RI_TYPE, CMS_RECIPINFO_KEM)
           && set_text(params, KMSENV_PKEY_PARAM_KMS, key->name.kms) && set_text(params, KMSENV_PKEY_PARAM_KEY_ID, key->name.key_id)
           && (key->cmk == NULL || set_text(params, KMSENV_PKEY_PARAM_PROFILE, kmsenv_cmk_profile(key->cmk)));
}

static OSSL_FUNC_keymgmt_gettable_params_fn master_key_gettable_params;
static const OSSL_PARAM *master_key_gettable_params(void *provctx)
{
    static const OSSL_PARAM gettable[] = {
        OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_CMS_RI_TYPE, NULL),
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
    { OSSL_FUNC_KEYMGMT_IMPORT, (void (*)(void))master_key_import },
    { OSSL_FUNC_KEYMGMT_IMPORT_TYPES, (void (*)(void))master_key_types },
    { OSSL_FUNC_KEYMGMT_EXPORT, (void (*)(void))master_key_export },
    { OSSL_FUNC_KEYMGMT_EXPORT_TYPES, (void (*)(void))master_key_types },
    { OSSL_FUNC_KEYMGMT_GET_PARAMS, (void (*)(void))master_key_get_params },
    { OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, (void (*)(void))master_key_gettable_params },
    { 0, NULL }
};
