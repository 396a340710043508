/*
 * OSSL_STORE loaders:
 *
 *   kms:PROFILE                the master key of a profile; "kms:" alone means the first one
 *   kms:PROFILE?key-id=ID      another master key that the profile answers for (its decrypt-keys); ID is percent-encoded
 *   kms-key:ID                 a data key of the keyring, by its id in 48 hexadecimal digits, or its key reference in 64
 *   kms-key:                   all of them
 *
 * The first may be written with "//" after the scheme, too: OpenSSL takes it for a file of that name otherwise, if there is one.
 * Opening parses the URI and nothing else; no loader talks to a KMS.
 */
#include <dirent.h>
#include <string.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include "compat/core_dispatch.h"
#include "dek/keyring.h"
#include "kmsenv/params.h"
#include "ops/key.h"

#define URI_MAX 1024

typedef struct loader_st {
    KMSENV_PROVCTX *provctx;
    char *profile, *key_id;            /* kms: */
    int is_master_key;
    unsigned char (*id)[KMSENV_DEK_ID_LEN];   /* kms-key: ids still to load are id[next..count) */
    size_t count, next;
    int listed;                        /* the ids have been looked up, or were given */
    int expected;                      /* OSSL_STORE_INFO_*, 0 = anything */
    int done;
} LOADER;

static int raise_error(const LOADER *l, const KMSENV_ERROR *err)
{
    return kmsenv_reporter_raise(l->provctx->reporter, err);
}

static OSSL_FUNC_store_close_fn store_close;
static int store_close(void *ctx)
{
    LOADER *l = ctx;

    if (l != NULL) {
        OPENSSL_free(l->profile);
        OPENSSL_free(l->key_id);
        OPENSSL_free(l->id);
        OPENSSL_free(l);
    }
    return 1;
}

/* --- URIs ----------------------------------------------------------------- */

/* %41 and such, in place. 0 if it is malformed, or hides a NUL. */
static int percent_decode(char *text)
{
    char *to = text;
    int high, low;

    for (; *text != '\0'; text++) {
        if (*text != '%') {
            *to++ = *text;
            continue;
        }
        if ((high = OPENSSL_hexchar2int((unsigned char)text[1])) < 0 || (low = OPENSSL_hexchar2int((unsigned char)text[2])) < 0
            || (high | low) == 0)
            return 0;
        *to++ = (char)(high << 4 | low);
        text += 2;
    }
    *to = '\0';
    return 1;
}

static int bad_uri(KMSENV_ERROR *err)
{
    return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "not a URI of kmsenv; accepted: kms:PROFILE, kms:PROFILE?key-id=ID, "
                            "kms-key:ID (48 hexadecimal digits, or the 64 of a key reference), kms-key:");
}

/* PROFILE or PROFILE?key-id=ID */
static int parse_master_key(LOADER *l, const char *rest, KMSENV_ERROR *err)
{
    static const char key_id[] = "key-id=";
    const char *query;

    rest += strspn(rest, "/");
    query = strchr(rest, '?');
    l->is_master_key = 1;
    l->profile = OPENSSL_strndup(rest, query == NULL ? strlen(rest) : (size_t)(query - rest));
    if (l->profile == NULL)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a URI");
    if (!percent_decode(l->profile))
        return bad_uri(err);
    if (query == NULL)
        return 1;
    if (strncmp(query + 1, key_id, sizeof(key_id) - 1) != 0)
        return bad_uri(err);
    if ((l->key_id = OPENSSL_strdup(query + sizeof(key_id))) == NULL)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a URI");
    return (percent_decode(l->key_id) && *l->key_id != '\0') || bad_uri(err);
}

static int parse_data_key(LOADER *l, const char *rest, KMSENV_ERROR *err)
{
    unsigned char reference[KMSENV_DEK_LEN_MAX];
    size_t len;

    rest += strspn(rest, "/");
    if (*rest == '\0')
        return 1;
    /* A reference that is cut to a shorter key does not name a file. */
    if (!kmsenv_reference_from_hex(rest, reference, &len) || len < KMSENV_REFERENCE_LEN)
        return bad_uri(err);
    if ((l->id = OPENSSL_malloc(sizeof(*l->id))) == NULL)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a URI");
    l->count = l->listed = 1;
    memcpy(l->id[0], reference + KMSENV_REFERENCE_MARK_LEN, KMSENV_DEK_ID_LEN);
    return 1;
}

static OSSL_FUNC_store_open_fn store_open;
static void *store_open(void *provctx, const char *uri)
{
    static const struct { const char *scheme; int (*parse)(LOADER *, const char *, KMSENV_ERROR *); } schemes[] = {
        { "kms:", parse_master_key }, { "kms-key:", parse_data_key }
    };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    LOADER *l = OPENSSL_zalloc(sizeof(*l));
    size_t i, n;
    int ok = 0;

    if (l == NULL)
        return NULL;
    l->provctx = provctx;
    bad_uri(&err);
    for (i = 0; i < sizeof(schemes) / sizeof(schemes[0]) && strlen(uri) <= URI_MAX; i++) {
        n = strlen(schemes[i].scheme);
        if (OPENSSL_strncasecmp(uri, schemes[i].scheme, n) == 0)
            ok = schemes[i].parse(l, uri + n, &err);
    }
    if (ok)
        return l;
    raise_error(l, &err);
    store_close(l);
    return NULL;
}

/* --- what is wanted ------------------------------------------------------- */

static OSSL_FUNC_store_settable_ctx_params_fn store_settable_ctx_params;
static const OSSL_PARAM *store_settable_ctx_params(void *provctx)
{
    static const OSSL_PARAM settable[] = {
        OSSL_PARAM_int(OSSL_STORE_PARAM_EXPECT, NULL),
        OSSL_PARAM_utf8_string(OSSL_STORE_PARAM_PROPERTIES, NULL, 0),
        OSSL_PARAM_END
    };

    (void)provctx;
    return settable;
}

static OSSL_FUNC_store_set_ctx_params_fn store_set_ctx_params;
static int store_set_ctx_params(void *ctx, const OSSL_PARAM params[])
{
    const OSSL_PARAM *p = params == NULL ? NULL : OSSL_PARAM_locate_const(params, OSSL_STORE_PARAM_EXPECT);

    return p == NULL || OSSL_PARAM_get_int(p, &((LOADER *)ctx)->expected);
}

/* --- loading -------------------------------------------------------------- */

static int emit_master_key(const LOADER *l, OSSL_CALLBACK *cb, void *cbarg, KMSENV_ERROR *err)
{
    KMSENV_MASTER_KEY *key;

    if (l->expected == OSSL_STORE_INFO_SKEY)
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "kms: is for master keys, and none is a symmetric key object: these are "
                                "data keys, kms-key:ID (openssl skeyutl -genkey -skeymgmt kms-envelope makes one)");
    ERR_set_mark();
    key = kmsenv_master_key_new(l->provctx, l->profile, l->key_id, err);
    ERR_pop_to_mark();
    return key != NULL && kmsenv_master_key_emit(key, cb, cbarg);
}

/* The ids of everything in the keyring, if the URI named none. */
static int list(LOADER *l, const KMSENV_DEKS *deks, KMSENV_ERROR *err)
{
    if (l->listed)
        return 1;
    l->listed = 1;
    return kmsenv_keyring_list(kmsenv_deks_get0_keyring(deks), &l->id, &l->count, err);
}

/* What libcrypto gets of a symmetric key object is a parameter for its import: the key reference. */
static int emit_skey(KMSENV_KEY *key, OSSL_CALLBACK *cb, void *cbarg)
{
    unsigned char reference[KMSENV_REFERENCE_LEN];
    int type = OSSL_OBJECT_SKEY;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_int(OSSL_OBJECT_PARAM_TYPE, &type),
        OSSL_PARAM_construct_utf8_string(OSSL_OBJECT_PARAM_DATA_TYPE, (char *)KMSENV_CIPHER_ENVELOPE, 0),
        OSSL_PARAM_construct_octet_string(OSSL_OBJECT_PARAM_REFERENCE, reference, sizeof(reference)),
        OSSL_PARAM_construct_end()
    };

    kmsenv_reference_make(key->key->id, reference);
    kmsenv_key_free(key);
    return cb(params, cbarg);
}

static int emit_data_key(LOADER *l, OSSL_CALLBACK *cb, void *cbarg, KMSENV_ERROR *err)
{
    const KMSENV_RUNTIME *runtime;
    KMSENV_KEY *key = NULL;
    unsigned char *der = NULL;
    size_t len;
    int ok;

    ERR_set_mark();
    ok = (runtime = l->provctx->runtime(l->provctx, err)) != NULL && list(l, runtime->deks, err);
    if (ok && l->next < l->count)
        ok = kmsenv_deks_find(runtime->deks, l->id[l->next], &der, &len, err) && (key = kmsenv_key_new(l->provctx)) != NULL
             && kmsenv_key_set(key, der, len, err);
    ERR_pop_to_mark();
    OPENSSL_free(der);
    l->next++;
    if (ok && key != NULL)
        return l->expected == OSSL_STORE_INFO_SKEY ? emit_skey(key, cb, cbarg) : kmsenv_key_emit(key, cb, cbarg);
    kmsenv_key_free(key);
    return ok;
}

/* Only keys come from here: of who expects something else nothing is asked, not even whether it is there. */
static OSSL_FUNC_store_load_fn store_load;
static int store_load(void *ctx, OSSL_CALLBACK *cb, void *cbarg, OSSL_PASSPHRASE_CALLBACK *pw_cb, void *pw_cbarg)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    LOADER *l = ctx;
    int ok = 1;

    (void)pw_cb;
    (void)pw_cbarg;
    if (l->expected != 0 && l->expected != OSSL_STORE_INFO_PKEY && l->expected != OSSL_STORE_INFO_PUBKEY
        && l->expected != OSSL_STORE_INFO_SKEY) {
        l->done = 1;
        return 1;
    }
    if (l->is_master_key)
        ok = emit_master_key(l, cb, cbarg, &err);
    else
        ok = emit_data_key(l, cb, cbarg, &err);
    l->done = l->is_master_key || l->next >= l->count;
    return ok || raise_error(l, &err);
}

static OSSL_FUNC_store_eof_fn store_eof;
static int store_eof(void *ctx)
{
    return ((LOADER *)ctx)->done;
}

const OSSL_DISPATCH kmsenv_store_functions[] = {
    { OSSL_FUNC_STORE_OPEN, (void (*)(void))store_open },
    { OSSL_FUNC_STORE_SETTABLE_CTX_PARAMS, (void (*)(void))store_settable_ctx_params },
    { OSSL_FUNC_STORE_SET_CTX_PARAMS, (void (*)(void))store_set_ctx_params },
    { OSSL_FUNC_STORE_LOAD, (void (*)(void))store_load },
    { OSSL_FUNC_STORE_EOF, (void (*)(void))store_eof },
    { OSSL_FUNC_STORE_CLOSE, (void (*)(void))store_close },
    { 0, NULL }
};
