/*
 * Adapter between OSSL_FUNC_cipher_* and envelope/message.h. For OpenSSL this is a stream cipher
 * with a key of 32 bytes, no IV and a "block size" that is really the room it needs at the end:
 * libcrypto gives update inl + block size and final block size bytes of room.
 *
 * block_size = 512 and no AEAD flag are deliberate: `openssl enc` refuses AEAD ciphers.
 */
#include <string.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include "compat/core_dispatch.h"
#include "envelope/message.h"
#include "kmsenv/params.h"
#include "ops/cipher_envelope.h"
#include "ops/skey.h"

typedef struct envelope_st {
    KMSENV_PROVCTX *provctx;
    size_t keylen;                 /* of the body's AES */
    KMSENV_MESSAGE *message;       /* NULL before the first init */
} ENVELOPE;

static OSSL_FUNC_cipher_freectx_fn envelope_freectx;
static OSSL_FUNC_cipher_dupctx_fn envelope_dupctx;
static OSSL_FUNC_cipher_encrypt_init_fn envelope_encrypt_init;
static OSSL_FUNC_cipher_decrypt_init_fn envelope_decrypt_init;
static OSSL_FUNC_cipher_update_fn envelope_update;
static OSSL_FUNC_cipher_final_fn envelope_final;
static OSSL_FUNC_cipher_gettable_params_fn envelope_gettable_params;
static OSSL_FUNC_cipher_get_ctx_params_fn envelope_get_ctx_params;
static OSSL_FUNC_cipher_gettable_ctx_params_fn envelope_gettable_ctx_params;
static OSSL_FUNC_cipher_set_ctx_params_fn envelope_set_ctx_params;
static OSSL_FUNC_cipher_settable_ctx_params_fn envelope_settable_ctx_params;

static int raise_error(const ENVELOPE *e, const KMSENV_ERROR *err)
{
    return kmsenv_reporter_raise(e->provctx->reporter, err);
}

/* --- contexts ------------------------------------------------------------- */

static void *newctx(void *provctx, size_t keylen)
{
    ENVELOPE *e = OPENSSL_zalloc(sizeof(*e));

    if (e != NULL) {
        e->provctx = provctx;
        e->keylen = keylen;
    }
    return e;
}

static void envelope_freectx(void *vctx)
{
    ENVELOPE *e = vctx;

    if (e == NULL)
        return;
    kmsenv_message_free(e->message);
    OPENSSL_free(e);
}

static void *envelope_dupctx(void *vctx)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    ENVELOPE *e = vctx, *copy = newctx(e->provctx, e->keylen);

    if (copy == NULL)
        return NULL;
    if (e->message != NULL && (copy->message = kmsenv_message_dup(e->message, &err)) == NULL) {
        raise_error(e, &err);
        OPENSSL_free(copy);
        return NULL;
    }
    return copy;
}

static int make_message(ENVELOPE *e, KMSENV_ERROR *err)
{
    const KMSENV_RUNTIME *runtime;

    if (e->message != NULL)
        return 1;
    if ((runtime = e->provctx->runtime(e->provctx, err)) == NULL)
        return 0;
    e->message = kmsenv_message_new(runtime->deks, e->provctx->crypto, &e->provctx->counters,
                                    e->keylen, e->provctx->block_size, runtime->segment_bits);
    return e->message != NULL || kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a cipher context");
}

/* --- parameters ----------------------------------------------------------- */

/* Gives fn the text of a parameter, terminated. */
static int set_text(const OSSL_PARAM *p, int (*fn)(KMSENV_DEK_REQUEST *, const char *, KMSENV_ERROR *),
                    KMSENV_DEK_REQUEST *request, KMSENV_ERROR *err)
{
    char *text = NULL;
    int ok;

    if (!OSSL_PARAM_get_utf8_string(p, &text, 0))
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "parameter %s is not a UTF-8 string", p->key);
    ok = fn(request, text, err);
    OPENSSL_free(text);
    return ok;
}

static int set_profile(ENVELOPE *e, const OSSL_PARAM *p, KMSENV_ERROR *err)
{
    return set_text(p, kmsenv_dek_request_set_profiles, kmsenv_message_get0_request(e->message), err);
}

static int set_context(ENVELOPE *e, const OSSL_PARAM *p, KMSENV_ERROR *err)
{
    return set_text(p, kmsenv_dek_request_set_context, kmsenv_message_get0_request(e->message), err);
}

static int set_wraps(ENVELOPE *e, const OSSL_PARAM *p, KMSENV_ERROR *err)
{
    return set_text(p, kmsenv_dek_request_set_wraps, kmsenv_message_get0_request(e->message), err);
}

static int set_segment_bits(ENVELOPE *e, const OSSL_PARAM *p, KMSENV_ERROR *err)
{
    uint64_t bits;

    if (!OSSL_PARAM_get_uint64(p, &bits))
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "parameter %s is not an unsigned number", p->key);
    return kmsenv_message_set_segment_bits(e->message, bits, err);
}

static int set_data_key(ENVELOPE *e, const OSSL_PARAM *p, KMSENV_ERROR *err)
{
    const void *bytes;
    size_t len;

    if (!OSSL_PARAM_get_octet_string_ptr(p, &bytes, &len) || (bytes == NULL && len > 0))
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "parameter %s is not an octet string", p->key);
    return kmsenv_dek_request_set_data_key(kmsenv_message_get0_request(e->message), bytes, len, err);
}

static const struct { const char *name; int (*set)(ENVELOPE *, const OSSL_PARAM *, KMSENV_ERROR *); } own_param[] = {
    { KMSENV_CIPHER_PARAM_PROFILE, set_profile },
    { KMSENV_CIPHER_PARAM_CONTEXT, set_context },
    { KMSENV_CIPHER_PARAM_WRAPS, set_wraps },
    { KMSENV_CIPHER_PARAM_SEGMENT_BITS, set_segment_bits },
    { KMSENV_CIPHER_PARAM_DATA_KEY, set_data_key }
};

/* Lengths are fixed: a caller that wants others must hear of it. */
static int check_length(const OSSL_PARAM params[], const char *name, size_t expected, KMSENV_ERROR *err)
{
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, name);
    size_t n;

    if (p == NULL || (OSSL_PARAM_get_size_t(p, &n) && n == expected))
        return 1;
    return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "%s of kms-envelope is %zu bytes", name, expected);
}

static int set_params(ENVELOPE *e, const OSSL_PARAM params[], KMSENV_ERROR *err)
{
    const OSSL_PARAM *p;
    size_t i;

    if (params == NULL || params->key == NULL)
        return 1;
    if (!check_length(params, OSSL_CIPHER_PARAM_KEYLEN, KMSENV_CALLER_KEY_LEN, err)
            || !check_length(params, OSSL_CIPHER_PARAM_IVLEN, 0, err))
        return 0;
    for (i = 0; i < sizeof(own_param) / sizeof(own_param[0]); i++) {
        if ((p = OSSL_PARAM_locate_const(params, own_param[i].name)) == NULL)
            continue;
        if (!make_message(e, err))
            return 0;
        if (!kmsenv_message_is_unstarted(e->message))
            return kmsenv_error_set(err, KMSENV_R_WRONG_STATE, "parameter %s must be set after init and before the data", p->key);
        if (!own_param[i].set(e, p, err))
            return 0;
    }
    return 1;
}

static int envelope_set_ctx_params(void *vctx, const OSSL_PARAM params[])
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    ENVELOPE *e = vctx;
    int ok;

    ERR_set_mark();
    ok = set_params(e, params, &err);
    ERR_pop_to_mark();
    return ok || raise_error(e, &err);
}

static const OSSL_PARAM *envelope_settable_ctx_params(void *cctx, void *provctx)
{
    static const OSSL_PARAM settable[] = {
        OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_KEYLEN, NULL),
        OSSL_PARAM_uint(OSSL_CIPHER_PARAM_PADDING, NULL),
        OSSL_PARAM_utf8_string(KMSENV_CIPHER_PARAM_PROFILE, NULL, 0),
        OSSL_PARAM_utf8_string(KMSENV_CIPHER_PARAM_CONTEXT, NULL, 0),
        OSSL_PARAM_utf8_string(KMSENV_CIPHER_PARAM_WRAPS, NULL, 0),
        OSSL_PARAM_uint64(KMSENV_CIPHER_PARAM_SEGMENT_BITS, NULL),
        OSSL_PARAM_octet_string(KMSENV_CIPHER_PARAM_DATA_KEY, NULL, 0),
        OSSL_PARAM_END
    };

    (void)cctx;
    (void)provctx;
    return settable;
}

static int get_header(const ENVELOPE *e, OSSL_PARAM *p)
{
    size_t len = 0;
    const unsigned char *der = e->message == NULL ? NULL : kmsenv_message_get0_header(e->message, &len);

    return der != NULL && OSSL_PARAM_set_octet_string(p, der, len);
}

static int get_data_key_id(const ENVELOPE *e, OSSL_PARAM *p)
{
    const unsigned char *id = e->message == NULL ? NULL : kmsenv_message_get0_data_key_id(e->message);

    return id != NULL && OSSL_PARAM_set_octet_string(p, id, KMSENV_DEK_ID_LEN);
}

/* libcrypto asks for one of the lengths at each init with a key: one pass, cheapest first. */
static int envelope_get_ctx_params(void *vctx, OSSL_PARAM params[])
{
    OSSL_PARAM *p;
    int ok = 1;

    for (p = params; ok && p != NULL && p->key != NULL; p++) {
        if (strcmp(p->key, OSSL_CIPHER_PARAM_KEYLEN) == 0)
            ok = OSSL_PARAM_set_size_t(p, KMSENV_CALLER_KEY_LEN);
        else if (strcmp(p->key, OSSL_CIPHER_PARAM_IVLEN) == 0)
            ok = OSSL_PARAM_set_size_t(p, 0);
        else if (strcmp(p->key, OSSL_CIPHER_PARAM_PADDING) == 0)
            ok = OSSL_PARAM_set_uint(p, 0);
        else if (strcmp(p->key, KMSENV_CIPHER_PARAM_HEADER) == 0)
            ok = get_header(vctx, p);
        else if (strcmp(p->key, KMSENV_CIPHER_PARAM_DATA_KEY_ID) == 0)
            ok = get_data_key_id(vctx, p);
    }
    return ok;
}

static const OSSL_PARAM *envelope_gettable_ctx_params(void *cctx, void *provctx)
{
    static const OSSL_PARAM gettable[] = {
        OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_KEYLEN, NULL),
        OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_IVLEN, NULL),
        OSSL_PARAM_uint(OSSL_CIPHER_PARAM_PADDING, NULL),
        OSSL_PARAM_octet_string(KMSENV_CIPHER_PARAM_HEADER, NULL, 0),
        OSSL_PARAM_octet_string(KMSENV_CIPHER_PARAM_DATA_KEY_ID, NULL, 0),
        OSSL_PARAM_END
    };

    (void)cctx;
    (void)provctx;
    return gettable;
}

static int get_params(OSSL_PARAM params[], size_t block_size)
{
    const struct { const char *name; size_t value; } fixed[] = {
        { OSSL_CIPHER_PARAM_BLOCK_SIZE, block_size },
        { OSSL_CIPHER_PARAM_KEYLEN, KMSENV_CALLER_KEY_LEN },
        { OSSL_CIPHER_PARAM_IVLEN, 0 },
        { OSSL_CIPHER_PARAM_MODE, EVP_CIPH_STREAM_CIPHER },
    };
    OSSL_PARAM *p;
    size_t i;

    for (i = 0; params != NULL && i < sizeof(fixed) / sizeof(fixed[0]); i++)
        if ((p = OSSL_PARAM_locate(params, fixed[i].name)) != NULL && !OSSL_PARAM_set_size_t(p, fixed[i].value))
            return 0;
    return 1;
}

static const OSSL_PARAM *envelope_gettable_params(void *provctx)
{
    static const OSSL_PARAM gettable[] = {
        OSSL_PARAM_uint(OSSL_CIPHER_PARAM_MODE, NULL),
        OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_KEYLEN, NULL),
        OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_IVLEN, NULL),
        OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_BLOCK_SIZE, NULL),
        OSSL_PARAM_END
    };

    (void)provctx;
    return gettable;
}

/* --- the work ------------------------------------------------------------- */

/* No inner operation can fail here but in what the runtime is made of; that is worth a mark, a re-init is not. */
static int init(ENVELOPE *e, int sealing, const unsigned char *key, size_t keylen, const OSSL_PARAM params[])
{
    int ok, first = e->message == NULL || params != NULL;
    KMSENV_ERROR err;

    err.reason = KMSENV_R_NONE;
    if (first)
        ERR_set_mark();
    if (key != NULL && keylen != KMSENV_CALLER_KEY_LEN)
        ok = kmsenv_error_set(&err, KMSENV_R_PARAMETER_INVALID, "the key of kms-envelope has 32 bytes, not %zu", keylen);
    else
        ok = make_message(e, &err)
            && kmsenv_message_init(e->message, sealing, key, &err)
            && set_params(e, params, &err);
    if (first)
        ERR_pop_to_mark();
    return ok || raise_error(e, &err);
}

static int envelope_encrypt_init(void *vctx, const unsigned char *key, size_t keylen,
                                 const unsigned char *iv, size_t ivlen, const OSSL_PARAM params[])
{
    (void)iv;
    (void)ivlen;
    return init(vctx, 1, key, keylen, params);
}

static int envelope_decrypt_init(void *vctx, const unsigned char *key, size_t keylen,
                                 const unsigned char *iv, size_t ivlen, const OSSL_PARAM params[])
{
    (void)iv;
    (void)ivlen;
    return init(vctx, 0, key, keylen, params);
}

/*
 * A data key is what a message is sealed under, as if its reference had been given as the key: one in the keyring is looked up there
 * when data come. An ordinary key is the caller's. No key object: as init without a key.
 */
static int skey_init(ENVELOPE *e, int sealing, const KMSENV_SKEY *skey, const OSSL_PARAM params[])
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    int ok;

    if (skey == NULL || skey->key == NULL || skey->in_keyring)
        return init(e, sealing, skey == NULL ? NULL : skey->key == NULL ? skey->bytes : skey->reference,
                    skey == NULL || skey->key != NULL ? KMSENV_CALLER_KEY_LEN : skey->length, params);
    ERR_set_mark();
    ok = make_message(e, &err)
         && kmsenv_message_init_data_key(e->message, sealing, skey->reference, skey->key->der, skey->key->der_len, &err)
         && set_params(e, params, &err);
    ERR_pop_to_mark();
    return ok || raise_error(e, &err);
}

static OSSL_FUNC_cipher_encrypt_skey_init_fn envelope_encrypt_skey_init;
static int envelope_encrypt_skey_init(void *vctx, void *skey, const unsigned char *iv, size_t ivlen, const OSSL_PARAM params[])
{
    (void)iv;
    (void)ivlen;
    return skey_init(vctx, 1, skey, params);
}

static OSSL_FUNC_cipher_decrypt_skey_init_fn envelope_decrypt_skey_init;
static int envelope_decrypt_skey_init(void *vctx, void *skey, const unsigned char *iv, size_t ivlen, const OSSL_PARAM params[])
{
    (void)iv;
    (void)ivlen;
    return skey_init(vctx, 0, skey, params);
}

static int not_initialised(const ENVELOPE *e)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;

    kmsenv_error_set(&err, KMSENV_R_WRONG_STATE, "the context was not initialised");
    return raise_error(e, &err);
}

/* A mark costs as much as 250 bytes of AES-GCM: only where the error queue can be touched. */
static int begin_marked(const ENVELOPE *e)
{
    return !kmsenv_message_is_in_body(e->message) && ERR_set_mark();
}

/* Additional data, and the update that begins the body. */
static __attribute__((noinline)) int update_early(const ENVELOPE *e, unsigned char *out, size_t *outl, size_t outsize,
                                                  const unsigned char *in, size_t inl)
{
    KMSENV_ERROR err;
    int ok, marked = begin_marked(e);

    err.reason = KMSENV_R_NONE;
    if (out == NULL) {
        /* Callers that have no additional data may make the call all the same, with NULL for both. */
        ok = inl == 0 || kmsenv_message_aad(e->message, in, inl, &err);
        *outl = ok ? inl : 0;
    } else {
        ok = kmsenv_message_update(e->message, out, outl, outsize, in, inl, &err);
    }
    if (marked)
        ERR_pop_to_mark();
    return ok || raise_error(e, &err);
}

static int envelope_update(void *vctx, unsigned char *out, size_t *outl, size_t outsize,
                           const unsigned char *in, size_t inl)
{
    const ENVELOPE *e = vctx;
    KMSENV_ERROR err;

    *outl = 0;
    if (e->message == NULL)
        return not_initialised(e);
    if (out == NULL || !kmsenv_message_is_in_body(e->message))
        return update_early(e, out, outl, outsize, in, inl);
    err.reason = KMSENV_R_NONE;
    return kmsenv_message_update(e->message, out, outl, outsize, in, inl, &err) || raise_error(e, &err);
}

static int envelope_final(void *vctx, unsigned char *out, size_t *outl, size_t outsize)
{
    KMSENV_ERROR err;
    ENVELOPE *e = vctx;
    int ok, marked;

    *outl = 0;
    if (e->message == NULL)
        return not_initialised(e);
    err.reason = KMSENV_R_NONE;
    marked = begin_marked(e);
    ok = kmsenv_message_final(e->message, out, outl, outsize, &err);
    if (marked)
        ERR_pop_to_mark();
    return ok || raise_error(e, &err);
}

/* --- tables --------------------------------------------------------------- */

static OSSL_FUNC_cipher_newctx_fn newctx_128, newctx_192, newctx_256;
static void *newctx_128(void *provctx) { return newctx(provctx, 16); }
static void *newctx_192(void *provctx) { return newctx(provctx, 24); }
static void *newctx_256(void *provctx) { return newctx(provctx, 32); }

#define FUNCTIONS 16
/* get_params has no context, so each block size needs a function, and so a table, of its own. */
#define TABLE(bits, block)                                                                      \
    {                                                                                           \
        { OSSL_FUNC_CIPHER_NEWCTX, (void (*)(void))newctx_##bits },                             \
        { OSSL_FUNC_CIPHER_FREECTX, (void (*)(void))envelope_freectx },                         \
        { OSSL_FUNC_CIPHER_DUPCTX, (void (*)(void))envelope_dupctx },                           \
        { OSSL_FUNC_CIPHER_ENCRYPT_INIT, (void (*)(void))envelope_encrypt_init },               \
        { OSSL_FUNC_CIPHER_DECRYPT_INIT, (void (*)(void))envelope_decrypt_init },               \
        { OSSL_FUNC_CIPHER_ENCRYPT_SKEY_INIT, (void (*)(void))envelope_encrypt_skey_init },     \
        { OSSL_FUNC_CIPHER_DECRYPT_SKEY_INIT, (void (*)(void))envelope_decrypt_skey_init },     \
        { OSSL_FUNC_CIPHER_UPDATE, (void (*)(void))envelope_update },                           \
        { OSSL_FUNC_CIPHER_FINAL, (void (*)(void))envelope_final },                             \
        { OSSL_FUNC_CIPHER_GET_PARAMS, (void (*)(void))get_params_##block },                    \
        { OSSL_FUNC_CIPHER_GETTABLE_PARAMS, (void (*)(void))envelope_gettable_params },         \
        { OSSL_FUNC_CIPHER_GET_CTX_PARAMS, (void (*)(void))envelope_get_ctx_params },           \
        { OSSL_FUNC_CIPHER_GETTABLE_CTX_PARAMS, (void (*)(void))envelope_gettable_ctx_params }, \
        { OSSL_FUNC_CIPHER_SET_CTX_PARAMS, (void (*)(void))envelope_set_ctx_params },           \
        { OSSL_FUNC_CIPHER_SETTABLE_CTX_PARAMS, (void (*)(void))envelope_settable_ctx_params }, \
        { 0, NULL }                                                                             \
    }
#define TABLES(block)                                                                           \
    static OSSL_FUNC_cipher_get_params_fn get_params_##block;                                   \
    static int get_params_##block(OSSL_PARAM params[]) { return get_params(params, block); }    \
    static const OSSL_DISPATCH functions_##block[3][FUNCTIONS] = { TABLE(128, block), TABLE(192, block), TABLE(256, block) };

TABLES(512)
TABLES(1024)
TABLES(2048)
TABLES(4096)
TABLES(8192)

const OSSL_DISPATCH *kmsenv_cipher_envelope_functions(size_t key_bits, size_t block_size)
{
    static const struct { size_t block_size; const OSSL_DISPATCH (*functions)[FUNCTIONS]; } sizes[] = {
        { 512, functions_512 }, { 1024, functions_1024 }, { 2048, functions_2048 },
        { 4096, functions_4096 }, { 8192, functions_8192 }
    };
    size_t i;

    for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        if (sizes[i].block_size == block_size && key_bits >= 128 && key_bits <= 256)
            return sizes[i].functions[(key_bits - 128) / 64];
    return NULL;
}
