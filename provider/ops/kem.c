/* Key encapsulation with a master key: EVP_PKEY_encapsulate() is GenerateDataKey, EVP_PKEY_decapsulate() is Decrypt. */
#include <string.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include "core/secret.h"
#include "kmsenv/params.h"
#include "ops/direct.h"

static int encapsulate(const KMSENV_DIRECT *d, unsigned char *out, size_t *outlen, unsigned char *secret, KMSENV_ERROR *err)
{
    unsigned char *key = kmsenv_secret_zalloc(KMSENV_DEK_LEN_MAX);
    int ok;

    if (key == NULL)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no secret memory for a data key");
    if ((ok = kmsenv_cmk_generate(d->cmk, d->context, key, d->secret_len, out, outlen, err)) != 0)
        memcpy(secret, key, d->secret_len);
    kmsenv_secret_free(key);
    return ok;
}

/* The ciphertext of a KMS has no length that the caller could know. */
static int needs_room(KMSENV_ERROR *err, const char *what, size_t needed)
{
    return kmsenv_error_set(err, KMSENV_R_OUTPUT_TOO_SMALL, "the %s: no buffer, or not said how large it is, or fewer than %zu bytes",
                            what, needed);
}

static OSSL_FUNC_kem_encapsulate_fn kem_encapsulate;
static int kem_encapsulate(void *ctx, unsigned char *out, size_t *outlen, unsigned char *secret, size_t *secretlen)
{
    const KMSENV_DIRECT *d = ctx;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    int ok;

    if (!kmsenv_direct_is_ready(d))
        return 0;
    if (out == NULL) {
        if (outlen != NULL)
            *outlen = KMSENV_CMK_OUTPUT_MAX;
        if (secretlen != NULL)
            *secretlen = d->secret_len;
        return 1;
    }
    ERR_set_mark();
    if (secret == NULL || secretlen == NULL || *secretlen < d->secret_len)
        ok = needs_room(&err, "secret", d->secret_len);
    else if (outlen == NULL || *outlen == 0)
        ok = needs_room(&err, "wrapped key", KMSENV_CMK_OUTPUT_MAX);
    else
        ok = encapsulate(d, out, outlen, secret, &err);
    ERR_pop_to_mark();
    if (!ok)
        return kmsenv_reporter_raise(d->provctx->reporter, &err);
    *secretlen = d->secret_len;
    return 1;
}

/* The size query tells the largest plaintext of the KMS: the secret is as long as what was wrapped, by whomever. */
static OSSL_FUNC_kem_decapsulate_fn kem_decapsulate;
static int kem_decapsulate(void *ctx, unsigned char *out, size_t *outlen, const unsigned char *in, size_t inlen)
{
    const KMSENV_DIRECT *d = ctx;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;

    if (outlen != NULL && (out == NULL || *outlen > 0))
        return kmsenv_direct_decrypt(d, out, outlen, in, inlen);
    needs_room(&err, "secret", 1);
    return kmsenv_reporter_raise(d->provctx->reporter, &err);
}

static OSSL_FUNC_kem_settable_ctx_params_fn kem_settable_ctx_params;
static const OSSL_PARAM *kem_settable_ctx_params(void *ctx, void *provctx)
{
    static const OSSL_PARAM settable[] = {
        OSSL_PARAM_utf8_string(KMSENV_PKEY_PARAM_CONTEXT, NULL, 0),
        OSSL_PARAM_size_t(KMSENV_KEM_PARAM_SECRET_LEN, NULL),
        OSSL_PARAM_END
    };

    (void)ctx;
    (void)provctx;
    return settable;
}

const OSSL_DISPATCH kmsenv_kem_functions[] = {
    { OSSL_FUNC_KEM_NEWCTX, (void (*)(void))kmsenv_direct_newctx },
    { OSSL_FUNC_KEM_FREECTX, (void (*)(void))kmsenv_direct_freectx },
    { OSSL_FUNC_KEM_DUPCTX, (void (*)(void))kmsenv_direct_dupctx },
    { OSSL_FUNC_KEM_ENCAPSULATE_INIT, (void (*)(void))kmsenv_direct_encrypt_init },
    { OSSL_FUNC_KEM_ENCAPSULATE, (void (*)(void))kem_encapsulate },
    { OSSL_FUNC_KEM_DECAPSULATE_INIT, (void (*)(void))kmsenv_direct_decrypt_init },
    { OSSL_FUNC_KEM_DECAPSULATE, (void (*)(void))kem_decapsulate },
    { OSSL_FUNC_KEM_SET_CTX_PARAMS, (void (*)(void))kmsenv_direct_set_ctx_params },
    { OSSL_FUNC_KEM_SETTABLE_CTX_PARAMS, (void (*)(void))kem_settable_ctx_params },
    { 0, NULL }
};
