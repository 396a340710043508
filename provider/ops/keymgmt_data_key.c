/* Key type `kms-envelope`: a wrapped data key. openssl genpkey -algorithm kms-envelope asks the KMS for one. */
#include <string.h>
#include <openssl/core_names.h>
#include <openssl/core_object.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include "kmsenv/params.h"
#include "ops/generation.h"

/* --- objects -------------------------------------------------------------- */

KMSENV_KEY *kmsenv_key_new(KMSENV_PROVCTX *provctx)
{
    KMSENV_KEY *k = OPENSSL_zalloc(sizeof(*k));

    if (k != NULL) {
        k->provctx = provctx;
        atomic_init(&k->refs, 1);
    }
    return k;
}

void kmsenv_key_free(KMSENV_KEY *key)
{
    if (key == NULL || atomic_fetch_sub_explicit(&key->refs, 1, memory_order_acq_rel) > 1)
        return;
    kmsenv_data_key_free(key->key);
    OPENSSL_free(key->der);
    OPENSSL_free(key);
}

int kmsenv_key_set(KMSENV_KEY *key, const unsigned char *der, size_t len, KMSENV_ERROR *err)
{
    KMSENV_DATA_KEY *parsed = kmsenv_data_key_parse(der, len, err);
    unsigned char *copy;

    if (parsed == NULL)
        return 0;
    if (parsed->wraps == 0 || (copy = OPENSSL_memdup(der, len)) == NULL) {
        kmsenv_error_set(err, KMSENV_R_MESSAGE_MALFORMED, "a data key without wraps (or no memory)");
        kmsenv_data_key_free(parsed);
        return 0;
    }
    kmsenv_data_key_free(key->key);
    OPENSSL_free(key->der);
    key->key = parsed;
    key->der = copy;
    key->der_len = len;
    return 1;
}

int kmsenv_key_emit(KMSENV_KEY *key, OSSL_CALLBACK *cb, void *cbarg)
{
    int type = OSSL_OBJECT_PKEY, ok;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_int(OSSL_OBJECT_PARAM_TYPE, &type),
        OSSL_PARAM_construct_utf8_string(OSSL_OBJECT_PARAM_DATA_TYPE, (char *)KMSENV_KEYMGMT_DATA_KEY, 0),
        OSSL_PARAM_construct_octet_string(OSSL_OBJECT_PARAM_REFERENCE, &key, sizeof(key)),
        OSSL_PARAM_construct_end()
    };

    ok = cb(params, cbarg);
    kmsenv_key_free(key);      /* load() has set it to NULL if it took it */
    return ok;
}

static OSSL_FUNC_keymgmt_new_fn data_key_new;
static void *data_key_new(void *provctx)
{
    return kmsenv_key_new(provctx);
}

static OSSL_FUNC_keymgmt_free_fn data_key_free;
static void data_key_free(void *keydata)
{
    kmsenv_key_free(keydata);
}

static OSSL_FUNC_keymgmt_load_fn data_key_load;
static void *data_key_load(const void *reference, size_t reference_sz)
{
    KMSENV_KEY **from = (KMSENV_KEY **)reference, *key;

    if (reference_sz != sizeof(*from))
        return NULL;
    key = *from;
    *from = NULL;
    return key;
}

static OSSL_FUNC_keymgmt_dup_fn data_key_dup;
static void *data_key_dup(const void *keydata, int selection)
{
    KMSENV_KEY *key = (KMSENV_KEY *)keydata;

    (void)selection;
    atomic_fetch_add_explicit(&key->refs, 1, memory_order_relaxed);
    return key;
}

/* There are no parameters without a key, and what there is of a key is both its halves. */
static OSSL_FUNC_keymgmt_has_fn data_key_has;
static int data_key_has(const void *keydata, int selection)
{
    const KMSENV_KEY *key = keydata;

    return key != NULL && ((selection & OSSL_KEYMGMT_SELECT_KEYPAIR) == 0 || key->key != NULL);
}

static OSSL_FUNC_keymgmt_match_fn data_key_match;
static int data_key_match(const void *a, const void *b, int selection)
{
    const KMSENV_KEY *x = a, *y = b;

    if ((selection & OSSL_KEYMGMT_SELECT_KEYPAIR) == 0)
        return 1;
    return x->key != NULL && y->key != NULL && x->key->length == y->key->length
           && memcmp(x->key->id, y->key->id, KMSENV_DEK_ID_LEN) == 0;
}

/* What was read was checked then; whether the KMS opens it is for `kmsenv keyring check`. */
static OSSL_FUNC_keymgmt_validate_fn data_key_validate;
static int data_key_validate(const void *keydata, int selection, int checktype)
{
    (void)checktype;
    return data_key_has(keydata, selection);
}

/* --- parameters ----------------------------------------------------------- */

static OSSL_FUNC_keymgmt_get_params_fn data_key_get_params;
static int data_key_get_params(void *keydata, OSSL_PARAM params[])
{
    const KMSENV_KEY *k = keydata;
    unsigned char reference[KMSENV_REFERENCE_LEN];
    OSSL_PARAM *p;

    if (k->key == NULL)
        return 0;
    kmsenv_reference_make(k->key->id, reference);
    return ((p = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_BITS)) == NULL || OSSL_PARAM_set_size_t(p, 8 * k->key->length))
           && ((p = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_SECURITY_BITS)) == NULL || OSSL_PARAM_set_size_t(p, 8 * k->key->length))
           && ((p = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_MAX_SIZE)) == NULL || OSSL_PARAM_set_size_t(p, k->der_len))
           && ((p = OSSL_PARAM_locate(params, KMSENV_PKEY_PARAM_DATA_KEY)) == NULL || OSSL_PARAM_set_octet_string(p, k->der, k->der_len))
           && ((p = OSSL_PARAM_locate(params, KMSENV_PKEY_PARAM_ID)) == NULL
               || OSSL_PARAM_set_octet_string(p, k->key->id, KMSENV_DEK_ID_LEN))
           && ((p = OSSL_PARAM_locate(params, KMSENV_PKEY_PARAM_REFERENCE)) == NULL
               || OSSL_PARAM_set_octet_string(p, reference, sizeof(reference)));
}

static OSSL_FUNC_keymgmt_gettable_params_fn data_key_gettable_params;
static const OSSL_PARAM *data_key_gettable_params(void *provctx)
{
    static const OSSL_PARAM gettable[] = {
        OSSL_PARAM_size_t(OSSL_PKEY_PARAM_BITS, NULL),
        OSSL_PARAM_size_t(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
        OSSL_PARAM_size_t(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
        OSSL_PARAM_octet_string(KMSENV_PKEY_PARAM_DATA_KEY, NULL, 0),
        OSSL_PARAM_octet_string(KMSENV_PKEY_PARAM_ID, NULL, 0),
        OSSL_PARAM_octet_string(KMSENV_PKEY_PARAM_REFERENCE, NULL, 0),
        OSSL_PARAM_END
    };

    (void)provctx;
    return gettable;
}

/* --- in and out: the DER DataKey ------------------------------------------ */

static OSSL_FUNC_keymgmt_import_types_fn data_key_types;
static const OSSL_PARAM *data_key_types(int selection)
{
    static const OSSL_PARAM types[] = { OSSL_PARAM_octet_string(KMSENV_PKEY_PARAM_DATA_KEY, NULL, 0), OSSL_PARAM_END };

    return (selection & OSSL_KEYMGMT_SELECT_KEYPAIR) != 0 ? types : NULL;
}

static OSSL_FUNC_keymgmt_import_fn data_key_import;
static int data_key_import(void *keydata, int selection, const OSSL_PARAM params[])
{
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, KMSENV_PKEY_PARAM_DATA_KEY);
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_KEY *key = keydata;
    const void *der;
    size_t len;

    if ((selection & OSSL_KEYMGMT_SELECT_KEYPAIR) == 0)
        return 0;
    if (key->key != NULL)      /* others may hold it, too */
        kmsenv_error_set(&err, KMSENV_R_WRONG_STATE, "the key object has a data key already");
    else if (p == NULL || !OSSL_PARAM_get_octet_string_ptr(p, &der, &len) || der == NULL)
        kmsenv_error_set(&err, KMSENV_R_PARAMETER_INVALID, "a data key is imported from the parameter " KMSENV_PKEY_PARAM_DATA_KEY
                         ", a DER DataKey");
    else if (kmsenv_key_set(key, der, len, &err))
        return 1;
    return kmsenv_reporter_raise(key->provctx->reporter, &err);
}

static OSSL_FUNC_keymgmt_export_fn data_key_export;
static int data_key_export(void *keydata, int selection, OSSL_CALLBACK *cb, void *cbarg)
{
    const KMSENV_KEY *key = keydata;
    OSSL_PARAM params[] = { OSSL_PARAM_octet_string(KMSENV_PKEY_PARAM_DATA_KEY, key->der, key->der_len), OSSL_PARAM_END };

    return key->key != NULL && (selection & OSSL_KEYMGMT_SELECT_KEYPAIR) != 0 && cb(params, cbarg);
}

/* --- generation ----------------------------------------------------------- */

static OSSL_FUNC_keymgmt_gen_set_params_fn data_key_gen_set_params;
static int data_key_gen_set_params(void *genctx, const OSSL_PARAM params[])
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_GENERATION *g = genctx;
    int ok;

    ERR_set_mark();
    ok = kmsenv_generation_set(g, params, &err);
    ERR_pop_to_mark();
    return ok || kmsenv_reporter_raise(g->provctx->reporter, &err);
}

static OSSL_FUNC_keymgmt_gen_settable_params_fn data_key_gen_settable_params;
static const OSSL_PARAM *data_key_gen_settable_params(void *genctx, void *provctx)
{
    (void)genctx;
    (void)provctx;
    return kmsenv_generation_settable();
}

static OSSL_FUNC_keymgmt_gen_cleanup_fn data_key_gen_cleanup;
static void data_key_gen_cleanup(void *genctx)
{
    kmsenv_generation_free(genctx);
}

static OSSL_FUNC_keymgmt_gen_init_fn data_key_gen_init;
static void *data_key_gen_init(void *vprovctx, int selection, const OSSL_PARAM params[])
{
    KMSENV_PROVCTX *provctx = vprovctx;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_GENERATION *g;
    int ok;

    if ((selection & OSSL_KEYMGMT_SELECT_KEYPAIR) == 0)
        return NULL;
    ERR_set_mark();
    ok = (g = kmsenv_generation_new(provctx, 32, 0, &err)) != NULL && kmsenv_generation_set(g, params, &err);
    ERR_pop_to_mark();
    if (ok)
        return g;
    kmsenv_reporter_raise(provctx->reporter, &err);
    kmsenv_generation_free(g);
    return NULL;
}

static OSSL_FUNC_keymgmt_gen_fn data_key_gen;
static void *data_key_gen(void *genctx, OSSL_CALLBACK *cb, void *cbarg)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_GENERATION *g = genctx;
    KMSENV_KEY *key;

    (void)cb;
    (void)cbarg;
    ERR_set_mark();
    key = kmsenv_generation_run(g, &err);
    ERR_pop_to_mark();
    if (key == NULL)
        kmsenv_reporter_raise(g->provctx->reporter, &err);
    return key;
}

const OSSL_DISPATCH kmsenv_keymgmt_data_key_functions[] = {
    { OSSL_FUNC_KEYMGMT_NEW, (void (*)(void))data_key_new },
    { OSSL_FUNC_KEYMGMT_FREE, (void (*)(void))data_key_free },
    { OSSL_FUNC_KEYMGMT_LOAD, (void (*)(void))data_key_load },
    { OSSL_FUNC_KEYMGMT_DUP, (void (*)(void))data_key_dup },
    { OSSL_FUNC_KEYMGMT_HAS, (void (*)(void))data_key_has },
    { OSSL_FUNC_KEYMGMT_MATCH, (void (*)(void))data_key_match },
    { OSSL_FUNC_KEYMGMT_VALIDATE, (void (*)(void))data_key_validate },
    { OSSL_FUNC_KEYMGMT_GET_PARAMS, (void (*)(void))data_key_get_params },
    { OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, (void (*)(void))data_key_gettable_params },
    { OSSL_FUNC_KEYMGMT_IMPORT, (void (*)(void))data_key_import },
    { OSSL_FUNC_KEYMGMT_IMPORT_TYPES, (void (*)(void))data_key_types },
    { OSSL_FUNC_KEYMGMT_EXPORT, (void (*)(void))data_key_export },
    { OSSL_FUNC_KEYMGMT_EXPORT_TYPES, (void (*)(void))data_key_types },
    { OSSL_FUNC_KEYMGMT_GEN_INIT, (void (*)(void))data_key_gen_init },
    { OSSL_FUNC_KEYMGMT_GEN_SET_PARAMS, (void (*)(void))data_key_gen_set_params },
    { OSSL_FUNC_KEYMGMT_GEN_SETTABLE_PARAMS, (void (*)(void))data_key_gen_settable_params },
    { OSSL_FUNC_KEYMGMT_GEN, (void (*)(void))data_key_gen },
    { OSSL_FUNC_KEYMGMT_GEN_CLEANUP, (void (*)(void))data_key_gen_cleanup },
    { 0, NULL }
};
