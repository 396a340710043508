#include <string.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>
#include "ops/reference.h"
#include "ops/reference_table.h"
#include "ops/skey.h"

typedef struct reference_st {
    const KMSENV_INNER_CIPHER *cipher;
    void *inner;                       /* the inner provider's context */
    KMSENV_PROVCTX *provctx;
    KMSENV_DEK *dek;                   /* of the last reference: re-keying with the same one costs no search */
    size_t keylen;                     /* that the inner context wants; 0 = to be asked */
    int refused;                       /* the last key given could not be had, or did not fit */
} REFERENCE;

/* --- contexts ------------------------------------------------------------- */

static void *reference_newctx(KMSENV_PROVCTX *provctx, size_t n)
{
    const KMSENV_INNER_CIPHER *cipher = &provctx->references->cipher[n];
    REFERENCE *r = OPENSSL_zalloc(sizeof(*r));

    if (r == NULL)
        return NULL;
    r->cipher = cipher;
    r->provctx = provctx;
    if ((r->inner = cipher->newctx(cipher->provctx)) != NULL)
        return r;
    OPENSSL_free(r);
    return NULL;
}

static OSSL_FUNC_cipher_freectx_fn reference_freectx;
static void reference_freectx(void *vctx)
{
    REFERENCE *r = vctx;

    if (r == NULL)
        return;
    r->cipher->freectx(r->inner);
    kmsenv_dek_free(r->dek);
    OPENSSL_free(r);
}

static OSSL_FUNC_cipher_dupctx_fn reference_dupctx;
static void *reference_dupctx(void *vctx)
{
    const REFERENCE *r = vctx;
    REFERENCE *copy = OPENSSL_memdup(r, sizeof(*r));

    if (copy == NULL)
        return NULL;
    if ((copy->inner = r->cipher->dupctx(r->inner)) == NULL) {
        OPENSSL_free(copy);
        return NULL;
    }
    if (copy->dek != NULL)
        kmsenv_dek_up_ref(copy->dek);
    return copy;
}

/* --- keys ----------------------------------------------------------------- */

/* The DEK that the key is a reference to. *found = 0: it is none. */
static const unsigned char *resolve(REFERENCE *r, const unsigned char *key, size_t keylen, int *found)
{
    if (!(*found = kmsenv_reference_is(key, keylen)))
        return NULL;
    return kmsenv_reference_resolve(r->provctx, &r->dek, key, keylen);
}

/* The ciphers of TLS that bring their own MAC have a second key, as a parameter. It cannot be a reference, and must not be taken for a key. */
static int refuses_mac_key(REFERENCE *r, const OSSL_PARAM params[])
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    const OSSL_PARAM *p;

    for (p = params; p != NULL && p->key != NULL; p++)
        if (strcmp(p->key, OSSL_CIPHER_PARAM_AEAD_MAC_KEY) == 0 && p->data != NULL && kmsenv_reference_is(p->data, p->data_size)) {
            r->refused = 1;
            kmsenv_error_set(&err, KMSENV_R_PARAMETER_INVALID, "parameter %s: a key reference stands for the key of a cipher only", p->key);
            kmsenv_reporter_raise(r->provctx->reporter, &err);
            return 1;
        }
    return 0;
}

static int init(REFERENCE *r, OSSL_FUNC_cipher_encrypt_init_fn *inner_init, const unsigned char *key, size_t keylen,
                const unsigned char *iv, size_t ivlen, const OSSL_PARAM params[])
{
    const unsigned char *secret;
    int found = 0;

    if (params != NULL)
        r->keylen = 0;
    if (refuses_mac_key(r, params))
        return 0;
    secret = key == NULL ? NULL : resolve(r, key, keylen, &found);
    if (key != NULL)
        r->refused = found && secret == NULL;
    if (found && secret == NULL)
        return 0;      /* never the bytes of the reference */
    return inner_init(r->inner, found ? secret : key, keylen, iv, ivlen, params);
}

static size_t get_key_length(REFERENCE *r)
{
    OSSL_PARAM params[2] = { OSSL_PARAM_construct_size_t(OSSL_CIPHER_PARAM_KEYLEN, &r->keylen), OSSL_PARAM_construct_end() };

    if (r->keylen == 0 && (r->cipher->get_ctx_params == NULL || !r->cipher->get_ctx_params(r->inner, params)))
        (void)r->cipher->get_params(params);
    return r->keylen;
}

/* No key object: as init without a key. */
static int skey_init(REFERENCE *r, OSSL_FUNC_cipher_encrypt_init_fn *inner_init, const KMSENV_SKEY *skey,
                     const unsigned char *iv, size_t ivlen, const OSSL_PARAM params[])
{
    const unsigned char *bytes;
    size_t length;

    if (skey == NULL)
        return init(r, inner_init, NULL, 0, iv, ivlen, params);
    r->refused = 1;
    if (refuses_mac_key(r, params))
        return 0;
    if (!kmsenv_skey_get0_bytes(skey, &r->dek, &bytes, &length))
        return 0;
    if (length != get_key_length(r))
        return kmsenv_skey_unsuitable(skey, length, r->keylen);
    r->refused = 0;
    if (params != NULL)
        r->keylen = 0;
    return inner_init(r->inner, bytes, length, iv, ivlen, params);
}

static OSSL_FUNC_cipher_encrypt_skey_init_fn reference_encrypt_skey_init;
static int reference_encrypt_skey_init(void *vctx, void *skey, const unsigned char *iv, size_t ivlen, const OSSL_PARAM params[])
{
    REFERENCE *r = vctx;

    return skey_init(r, r->cipher->encrypt_init, skey, iv, ivlen, params);
}

static OSSL_FUNC_cipher_decrypt_skey_init_fn reference_decrypt_skey_init;
static int reference_decrypt_skey_init(void *vctx, void *skey, const unsigned char *iv, size_t ivlen, const OSSL_PARAM params[])
{
    REFERENCE *r = vctx;

    return skey_init(r, r->cipher->decrypt_init, skey, iv, ivlen, params);
}

static OSSL_FUNC_cipher_encrypt_init_fn reference_encrypt_init;
static int reference_encrypt_init(void *vctx, const unsigned char *key, size_t keylen,
                                  const unsigned char *iv, size_t ivlen, const OSSL_PARAM params[])
{
    REFERENCE *r = vctx;

    return init(r, r->cipher->encrypt_init, key, keylen, iv, ivlen, params);
}

static OSSL_FUNC_cipher_decrypt_init_fn reference_decrypt_init;
static int reference_decrypt_init(void *vctx, const unsigned char *key, size_t keylen,
                                  const unsigned char *iv, size_t ivlen, const OSSL_PARAM params[])
{
    REFERENCE *r = vctx;

    return init(r, r->cipher->decrypt_init, key, keylen, iv, ivlen, params);
}

/* --- handed through ------------------------------------------------------- */

static OSSL_FUNC_cipher_update_fn reference_update;
static int reference_update(void *vctx, unsigned char *out, size_t *outl, size_t outsize, const unsigned char *in, size_t inl)
{
    const REFERENCE *r = vctx;

    return r->refused ? kmsenv_reference_refuse(r->provctx) : r->cipher->update(r->inner, out, outl, outsize, in, inl);
}

static OSSL_FUNC_cipher_final_fn reference_final;
static int reference_final(void *vctx, unsigned char *out, size_t *outl, size_t outsize)
{
    const REFERENCE *r = vctx;

    return r->refused ? kmsenv_reference_refuse(r->provctx) : r->cipher->final(r->inner, out, outl, outsize);
}

static OSSL_FUNC_cipher_cipher_fn reference_cipher;
static int reference_cipher(void *vctx, unsigned char *out, size_t *outl, size_t outsize, const unsigned char *in, size_t inl)
{
    const REFERENCE *r = vctx;

    return r->refused ? kmsenv_reference_refuse(r->provctx) : r->cipher->cipher(r->inner, out, outl, outsize, in, inl);
}

static OSSL_FUNC_cipher_get_ctx_params_fn reference_get_ctx_params;
static int reference_get_ctx_params(void *vctx, OSSL_PARAM params[])
{
    const REFERENCE *r = vctx;

    return r->cipher->get_ctx_params(r->inner, params);
}

static OSSL_FUNC_cipher_set_ctx_params_fn reference_set_ctx_params;
static int reference_set_ctx_params(void *vctx, const OSSL_PARAM params[])
{
    REFERENCE *r = vctx;

    r->keylen = 0;      /* may be one of them */
    return !refuses_mac_key(r, params) && r->cipher->set_ctx_params(r->inner, params);
}

/* --- which cipher? -------------------------------------------------------- */

static const KMSENV_INNER_CIPHER *nth(void *provctx, size_t n)
{
    return &((KMSENV_PROVCTX *)provctx)->references->cipher[n];
}

static void *inner_of(void *vctx)
{
    return vctx == NULL ? NULL : ((REFERENCE *)vctx)->inner;
}

#define CIPHER(n)                                                                                       \
    static OSSL_FUNC_cipher_newctx_fn newctx_##n;                                                       \
    static void *newctx_##n(void *p) { return reference_newctx(p, n); }                                 \
    static OSSL_FUNC_cipher_gettable_params_fn gettable_##n;                                            \
    static const OSSL_PARAM *gettable_##n(void *p)                                                      \
    { return nth(p, n)->gettable_params(nth(p, n)->provctx); }                                          \
    static OSSL_FUNC_cipher_gettable_ctx_params_fn gettable_ctx_##n;                                    \
    static const OSSL_PARAM *gettable_ctx_##n(void *c, void *p)                                         \
    { return nth(p, n)->gettable_ctx_params(inner_of(c), nth(p, n)->provctx); }                         \
    static OSSL_FUNC_cipher_settable_ctx_params_fn settable_ctx_##n;                                    \
    static const OSSL_PARAM *settable_ctx_##n(void *c, void *p)                                         \
    { return nth(p, n)->settable_ctx_params(inner_of(c), nth(p, n)->provctx); }
#define ROW(n) { newctx_##n, gettable_##n, gettable_ctx_##n, settable_ctx_##n },

#define ALL(X)                                                                                          \
    SIXTEEN(X, 0x0) SIXTEEN(X, 0x1) SIXTEEN(X, 0x2) SIXTEEN(X, 0x3) SIXTEEN(X, 0x4) SIXTEEN(X, 0x5)     \
    SIXTEEN(X, 0x6) SIXTEEN(X, 0x7) SIXTEEN(X, 0x8) SIXTEEN(X, 0x9) SIXTEEN(X, 0xa) SIXTEEN(X, 0xb)
#define SIXTEEN KMSENV_REFERENCE_SIXTEEN

ALL(CIPHER)

static const struct numbered_st {
    OSSL_FUNC_cipher_newctx_fn *newctx;
    OSSL_FUNC_cipher_gettable_params_fn *gettable_params;
    OSSL_FUNC_cipher_gettable_ctx_params_fn *gettable_ctx_params;
    OSSL_FUNC_cipher_settable_ctx_params_fn *settable_ctx_params;
} numbered[] = { ALL(ROW) };
_Static_assert(sizeof(numbered) / sizeof(numbered[0]) == KMSENV_REFERENCE_CIPHERS_MAX, "as many as there may be ciphers");

/* --- adapting ------------------------------------------------------------- */

typedef void (*FUNCTION)(void);

/*
 * Puts an inner function where it belongs; returns ours for it, NULL if it is none that is handed through. Pipelines are not: they
 * are contexts of their own kind, and who asks EVP_CIPHER_can_pipeline() does without.
 */
static FUNCTION adapt_one(const OSSL_DISPATCH *f, size_t n, KMSENV_INNER_CIPHER *out)
{
#define HAND_THROUGH(ID, name, ours)                                                                    \
    case OSSL_FUNC_CIPHER_##ID:                                                                         \
        out->name = OSSL_FUNC_cipher_##name(f);                                                         \
        return (FUNCTION)(ours);
    switch (f->function_id) {
    HAND_THROUGH(NEWCTX, newctx, numbered[n].newctx)
    HAND_THROUGH(FREECTX, freectx, reference_freectx)
    HAND_THROUGH(DUPCTX, dupctx, reference_dupctx)
    HAND_THROUGH(ENCRYPT_INIT, encrypt_init, reference_encrypt_init)
    HAND_THROUGH(DECRYPT_INIT, decrypt_init, reference_decrypt_init)
    HAND_THROUGH(UPDATE, update, reference_update)
    HAND_THROUGH(FINAL, final, reference_final)
    HAND_THROUGH(CIPHER, cipher, reference_cipher)
    HAND_THROUGH(GET_PARAMS, get_params, out->get_params)      /* has no context at all: the inner one will do */
    HAND_THROUGH(GETTABLE_PARAMS, gettable_params, numbered[n].gettable_params)
    HAND_THROUGH(GET_CTX_PARAMS, get_ctx_params, reference_get_ctx_params)
    HAND_THROUGH(GETTABLE_CTX_PARAMS, gettable_ctx_params, numbered[n].gettable_ctx_params)
    HAND_THROUGH(SET_CTX_PARAMS, set_ctx_params, reference_set_ctx_params)
    HAND_THROUGH(SETTABLE_CTX_PARAMS, settable_ctx_params, numbered[n].settable_ctx_params)
    default:
        return NULL;
    }
#undef HAND_THROUGH
}

static size_t key_length(const KMSENV_INNER_CIPHER *cipher)
{
    size_t keylen = 0;
    OSSL_PARAM params[2] = { OSSL_PARAM_construct_size_t(OSSL_CIPHER_PARAM_KEYLEN, &keylen), OSSL_PARAM_construct_end() };

    return cipher->get_params(params) ? keylen : 0;
}

/* Ours alone: a key object is always one of ours, and the inner function gets the bytes of its key. */
static const OSSL_DISPATCH own[] = {
    { OSSL_FUNC_CIPHER_ENCRYPT_SKEY_INIT, (void (*)(void))reference_encrypt_skey_init },
    { OSSL_FUNC_CIPHER_DECRYPT_SKEY_INIT, (void (*)(void))reference_decrypt_skey_init }
};
#define OWN (sizeof(own) / sizeof(own[0]))

int kmsenv_cipher_reference_adapt(const OSSL_DISPATCH *inner, size_t n, KMSENV_INNER_CIPHER *out,
                                  OSSL_DISPATCH functions[KMSENV_REFERENCE_FUNCTIONS])
{
    static const OSSL_DISPATCH end = { 0, NULL };
    size_t count = 0, i;

    for (; inner->function_id != 0 && count + OWN < KMSENV_REFERENCE_FUNCTIONS - 1; inner++) {
        functions[count].function_id = inner->function_id;
        if ((functions[count].function = adapt_one(inner, n, out)) != NULL)
            count++;
    }
    for (i = 0; i < OWN; i++)
        functions[count++] = own[i];
    functions[count] = end;
    return out->newctx != NULL && out->freectx != NULL && out->encrypt_init != NULL && out->decrypt_init != NULL
           && out->get_params != NULL && ((out->update != NULL && out->final != NULL) || out->cipher != NULL)
           && (out->key_length = key_length(out)) >= KMSENV_REFERENCE_KEY_MIN;
}
