/*
 * Key managements of EVP_SKEY. `kms-envelope` and those named after a KMS- cipher: wrapped data keys and nothing else, so that the
 * bytes of a key that is somewhere else in the clear are not taken for one that is kept by a KMS. `AES` and `GENERIC-SECRET`, when
 * ciphers have their ordinary names here, too: also ordinary keys, as in the default provider. A cipher can only be initialised
 * with a key object of the same provider.
 */
#include <string.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include "dek/keyring.h"
#include "kmsenv/params.h"
#include "ops/generation.h"
#include "ops/skey.h"

#define PATH_BYTES 4096

static int raise_error(const KMSENV_PROVCTX *provctx, const KMSENV_ERROR *err)
{
    return kmsenv_reporter_raise(provctx->reporter, err);
}

/* --- import --------------------------------------------------------------- */

/* May an ordinary key have that length? */
typedef int ACCEPTS(size_t length);

typedef struct import_st {
    KMSENV_PROVCTX *provctx;
    const OSSL_PARAM *param;
    ACCEPTS *accepts;                  /* NULL: no ordinary keys */
    KMSENV_ERROR *err;
} IMPORT;

static KMSENV_SKEY *no_memory(const IMPORT *in)
{
    kmsenv_error_set(in->err, KMSENV_R_OUT_OF_MEMORY, "no memory for a key object");
    return NULL;
}

static KMSENV_SKEY *from_der(const IMPORT *in, const unsigned char *der, size_t len, int in_keyring)
{
    KMSENV_KEY *key = kmsenv_key_new(in->provctx);
    KMSENV_SKEY *skey;

    if (key == NULL)
        return no_memory(in);
    if (!kmsenv_key_set(key, der, len, in->err)) {
        kmsenv_key_free(key);
        return NULL;
    }
    return (skey = kmsenv_skey_new_data_key(in->provctx, key, in_keyring)) == NULL ? no_memory(in) : skey;
}

/* The keyring is asked what it names, not the KMS. */
static KMSENV_SKEY *from_reference(const IMPORT *in, const unsigned char *reference, size_t len)
{
    const KMSENV_RUNTIME *runtime = in->provctx->runtime(in->provctx, in->err);
    KMSENV_SKEY *skey = NULL;
    unsigned char *der;
    size_t der_len;

    if (runtime != NULL && kmsenv_references_find(runtime->deks, reference, len, &der, &der_len, in->err)) {
        skey = from_der(in, der, der_len, 1);
        OPENSSL_free(der);
    }
    return skey;
}

/* Text, terminated, into room bytes. */
static int get_text(const IMPORT *in, char *text, size_t room)
{
    return OSSL_PARAM_get_utf8_string(in->param, &text, room)
           || kmsenv_error_set(in->err, KMSENV_R_PARAMETER_INVALID, "parameter %s is not a UTF-8 string of less than %zu bytes",
                               in->param->key, room);
}

static KMSENV_SKEY *import_reference(const IMPORT *in)
{
    static const char scheme[] = "kms-key:";
    unsigned char reference[KMSENV_DEK_LEN_MAX];
    char buffer[2 * KMSENV_DEK_LEN_MAX + sizeof(scheme) + 2];
    const char *text = buffer;
    const void *bytes;
    size_t len;

    /* Octets, too: an application that has the reference as the bytes of a key, and OSSL_STORE, which hands on what our loader gave it. */
    if (OSSL_PARAM_get_octet_string_ptr(in->param, &bytes, &len)) {
        if (bytes != NULL && kmsenv_reference_is(bytes, len))
            return from_reference(in, bytes, len);
    } else if (!get_text(in, buffer, sizeof(buffer))) {
        return NULL;
    } else {
        if (OPENSSL_strncasecmp(text, scheme, sizeof(scheme) - 1) == 0) {
            text += sizeof(scheme) - 1;
            text += strspn(text, "/");
        }
        if (kmsenv_reference_from_hex(text, reference, &len))
            return from_reference(in, reference, len);
    }
    kmsenv_error_set(in->err, KMSENV_R_PARAMETER_INVALID, "parameter reference; accepted: a key reference in 64 hexadecimal digits, "
                     "the id of a data key in 48, or kms-key:ID");
    return NULL;
}

static KMSENV_SKEY *import_data_key(const IMPORT *in)
{
    const void *der;
    size_t len;

    if (OSSL_PARAM_get_octet_string_ptr(in->param, &der, &len) && der != NULL)
        return from_der(in, der, len, 0);
    kmsenv_error_set(in->err, KMSENV_R_PARAMETER_INVALID, "parameter %s is not an octet string", in->param->key);
    return NULL;
}

static KMSENV_SKEY *import_file(const IMPORT *in)
{
    char path[PATH_BYTES];
    KMSENV_SKEY *skey = NULL;
    KMSENV_DATA_KEY *key;
    unsigned char *der;
    size_t len;

    if (!get_text(in, path, sizeof(path)))
        return NULL;
    if ((key = kmsenv_keyring_read(path, in->err)) == NULL) {
        kmsenv_error_prefix(in->err, "parameter file: ");
        return NULL;
    }
    if (kmsenv_data_key_encode(key, 0, &der, &len, in->err)) {
        skey = from_der(in, der, len, 0);
        OPENSSL_free(der);
    }
    kmsenv_data_key_free(key);
    return skey;
}

/* What begins like a key reference is one, and never a key. */
static KMSENV_SKEY *import_raw_bytes(const IMPORT *in)
{
    KMSENV_SKEY *skey;
    const void *bytes;
    size_t len;

    if (in->param->data_type != OSSL_PARAM_OCTET_STRING || !OSSL_PARAM_get_octet_string_ptr(in->param, &bytes, &len) || bytes == NULL) {
        kmsenv_error_set(in->err, KMSENV_R_PARAMETER_INVALID, "parameter %s is not an octet string", in->param->key);
        return NULL;
    }
    if (kmsenv_reference_is(bytes, len))
        return from_reference(in, bytes, len);
    if (in->accepts == NULL)
        kmsenv_error_set(in->err, KMSENV_R_PARAMETER_INVALID, "the bytes given as raw-bytes are no key reference, and the key objects of "
                         "kmsenv are data keys wrapped by a KMS: give one of reference, kmsenv.data-key, file");
    else if (!in->accepts(len))
        kmsenv_error_set(in->err, KMSENV_R_PARAMETER_INVALID, "no key of this type has %zu bytes", len);
    else
        return (skey = kmsenv_skey_new_bytes(in->provctx, bytes, len)) == NULL ? no_memory(in) : skey;
    return NULL;
}

static const struct { const char *name; KMSENV_SKEY *(*import)(const IMPORT *in); } sources[] = {
    { KMSENV_SKEY_PARAM_REFERENCE, import_reference },
    { KMSENV_SKEY_PARAM_DATA_KEY, import_data_key },
    { KMSENV_SKEY_PARAM_FILE, import_file },
    { OSSL_SKEY_PARAM_RAW_BYTES, import_raw_bytes }
};

static KMSENV_SKEY *import_one(IMPORT *in, const OSSL_PARAM params[])
{
    KMSENV_SKEY *(*import)(const IMPORT *in_) = NULL;
    size_t i, given = 0;

    for (; params != NULL && params->key != NULL; params++)
        for (i = 0; i < sizeof(sources) / sizeof(sources[0]); i++)
            if (strcmp(params->key, sources[i].name) == 0) {
                in->param = params;
                import = sources[i].import;
                given++;
            }
    if (given == 1)
        return import(in);
    kmsenv_error_set(in->err, KMSENV_R_PARAMETER_INVALID, "%s: a key object is made from exactly one of the parameters reference, "
                     "kmsenv.data-key, file%s", given == 0 ? "there is no key" : "too many keys", in->accepts == NULL ? "" : ", raw-bytes");
    return NULL;
}

static void *import_key(void *vprovctx, int selection, const OSSL_PARAM params[], ACCEPTS *accepts)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    IMPORT in = { vprovctx, NULL, accepts, &err };
    KMSENV_SKEY *skey = NULL;

    ERR_set_mark();
    if ((selection & OSSL_SKEYMGMT_SELECT_SECRET_KEY) != 0)
        skey = import_one(&in, params);
    else
        kmsenv_error_set(&err, KMSENV_R_PARAMETER_INVALID, "a key object without its secret key is not imported");
    ERR_pop_to_mark();
    if (skey == NULL)
        raise_error(vprovctx, &err);
    return skey;
}

static OSSL_FUNC_skeymgmt_import_fn data_key_import;
static void *data_key_import(void *provctx, int selection, const OSSL_PARAM params[])
{
    return import_key(provctx, selection, params, NULL);
}

static int is_aes_length(size_t length)
{
    return length == 16 || length == 24 || length == 32;
}

static OSSL_FUNC_skeymgmt_import_fn aes_import;
static void *aes_import(void *provctx, int selection, const OSSL_PARAM params[])
{
    return import_key(provctx, selection, params, is_aes_length);
}

static int is_any_length(size_t length)
{
    return length > 0;
}

static OSSL_FUNC_skeymgmt_import_fn generic_import;
static void *generic_import(void *provctx, int selection, const OSSL_PARAM params[])
{
    return import_key(provctx, selection, params, is_any_length);
}

static OSSL_FUNC_skeymgmt_imp_settable_params_fn imp_settable_params;
static const OSSL_PARAM *imp_settable_params(void *provctx)
{
    static const OSSL_PARAM settable[] = {
        OSSL_PARAM_utf8_string(KMSENV_SKEY_PARAM_REFERENCE, NULL, 0),
        OSSL_PARAM_octet_string(KMSENV_SKEY_PARAM_DATA_KEY, NULL, 0),
        OSSL_PARAM_utf8_string(KMSENV_SKEY_PARAM_FILE, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_SKEY_PARAM_RAW_BYTES, NULL, 0),
        OSSL_PARAM_END
    };

    (void)provctx;
    return settable;
}

/* --- generation ----------------------------------------------------------- */

/* It is kept unless the caller says that it shall not be: all that `openssl skeyutl` shows of it is its id. */
static void *generate(void *vprovctx, const OSSL_PARAM params[], size_t length)
{
    KMSENV_PROVCTX *provctx = vprovctx;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_SKEY *skey = NULL;
    KMSENV_GENERATION *g;
    KMSENV_KEY *key;

    ERR_set_mark();
    g = kmsenv_generation_new(provctx, length, 1, &err);
    if (g != NULL && kmsenv_generation_set(g, params, &err) && (key = kmsenv_generation_run(g, &err)) != NULL
        && (skey = kmsenv_skey_new_data_key(provctx, key, g->keep)) == NULL)
        kmsenv_error_set(&err, KMSENV_R_OUT_OF_MEMORY, "no memory for a key object");
    kmsenv_generation_free(g);
    ERR_pop_to_mark();
    if (skey == NULL)
        raise_error(provctx, &err);
    return skey;
}

static OSSL_FUNC_skeymgmt_gen_settable_params_fn gen_settable_params;
static const OSSL_PARAM *gen_settable_params(void *provctx)
{
    (void)provctx;
    return kmsenv_generation_settable();
}

/* --- export, and the rest ------------------------------------------------- */

static OSSL_FUNC_skeymgmt_export_fn export_key;
static int export_key(void *keydata, int selection, OSSL_CALLBACK *cb, void *cbarg)
{
    const KMSENV_SKEY *skey = keydata;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    OSSL_PARAM params[2] = { OSSL_PARAM_END, OSSL_PARAM_END };

    if (skey == NULL || (selection & OSSL_SKEYMGMT_SELECT_SECRET_KEY) == 0)
        return 0;
    if (skey->key == NULL) {
        params[0] = OSSL_PARAM_construct_octet_string(OSSL_SKEY_PARAM_RAW_BYTES, skey->bytes, skey->length);
        return cb(params, cbarg);
    }
    params[0] = OSSL_PARAM_construct_octet_string(KMSENV_SKEY_PARAM_DATA_KEY, skey->key->der, skey->key->der_len);
    if (cb(params, cbarg))
        return 1;
    kmsenv_error_set(&err, KMSENV_R_DATA_KEY_UNSUITABLE, "the key object is a data key wrapped by a KMS: what is exported of it is "
                     KMSENV_SKEY_PARAM_DATA_KEY ", never its bytes");
    return raise_error(skey->provctx, &err);
}

static OSSL_FUNC_skeymgmt_get_key_id_fn get_key_id;
static const char *get_key_id(void *keydata)
{
    const KMSENV_SKEY *skey = keydata;

    return skey == NULL || skey->key == NULL ? NULL : skey->id;
}

static OSSL_FUNC_skeymgmt_free_fn free_key;
static void free_key(void *keydata)
{
    kmsenv_skey_free(keydata);
}

/* --- tables --------------------------------------------------------------- */

#define COMMON                                                                      \
    { OSSL_FUNC_SKEYMGMT_FREE, (void (*)(void))free_key },                          \
    { OSSL_FUNC_SKEYMGMT_EXPORT, (void (*)(void))export_key },                      \
    { OSSL_FUNC_SKEYMGMT_GET_KEY_ID, (void (*)(void))get_key_id },                  \
    { OSSL_FUNC_SKEYMGMT_IMP_SETTABLE_PARAMS, (void (*)(void))imp_settable_params }

/* Generation is told no name: what is named after a cipher makes keys that fit it. */
#define GENERATING(length)                                                                          \
    static OSSL_FUNC_skeymgmt_generate_fn generate_##length;                                        \
    static void *generate_##length(void *provctx, const OSSL_PARAM params[])                        \
    { return generate(provctx, params, length); }                                                   \
    static const OSSL_DISPATCH functions_##length[] = {                                             \
        COMMON,                                                                                     \
        { OSSL_FUNC_SKEYMGMT_IMPORT, (void (*)(void))data_key_import },                             \
        { OSSL_FUNC_SKEYMGMT_GENERATE, (void (*)(void))generate_##length },                         \
        { OSSL_FUNC_SKEYMGMT_GEN_SETTABLE_PARAMS, (void (*)(void))gen_settable_params },            \
        { 0, NULL }                                                                                 \
    };

GENERATING(16)
GENERATING(24)
GENERATING(32)
GENERATING(64)

const OSSL_DISPATCH *kmsenv_skeymgmt_functions(size_t key_length)
{
    static const struct { size_t length; const OSSL_DISPATCH *functions; } lengths[] = {
        { 16, functions_16 }, { 24, functions_24 }, { 32, functions_32 }, { 64, functions_64 }
    };
    size_t i;

    for (i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
        if (lengths[i].length == key_length)
            return lengths[i].functions;
    return NULL;
}

/* The default provider generates none of these. */
const OSSL_DISPATCH kmsenv_skeymgmt_aes_functions[] = {
    COMMON, { OSSL_FUNC_SKEYMGMT_IMPORT, (void (*)(void))aes_import }, { 0, NULL }
};
const OSSL_DISPATCH kmsenv_skeymgmt_generic_functions[] = {
    COMMON, { OSSL_FUNC_SKEYMGMT_IMPORT, (void (*)(void))generic_import }, { 0, NULL }
};
