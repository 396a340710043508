/* Small secrets encrypted by the KMS itself: openssl pkeyutl -encrypt -inkey kms:PROFILE. */
#include <openssl/err.h>
#include <openssl/params.h>
#include "kmsenv/params.h"
#include "ops/direct.h"

static OSSL_FUNC_asym_cipher_encrypt_fn direct_encrypt;
static int direct_encrypt(void *ctx, unsigned char *out, size_t *outlen, size_t outsize, const unsigned char *in, size_t inlen)
{
    const KMSENV_DIRECT *d = ctx;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    int ok;

    if (!kmsenv_direct_is_ready(d))
        return 0;
    *outlen = out == NULL ? KMSENV_CMK_OUTPUT_MAX : outsize;
    if (out == NULL)
        return 1;
    ERR_set_mark();
    ok = kmsenv_cmk_encrypt(d->cmk, d->context, in, inlen, out, outlen, &err);
    ERR_pop_to_mark();
    return ok || kmsenv_reporter_raise(d->provctx->reporter, &err);
}

static OSSL_FUNC_asym_cipher_decrypt_fn direct_decrypt;
static int direct_decrypt(void *ctx, unsigned char *out, size_t *outlen, size_t outsize, const unsigned char *in, size_t inlen)
{
    *outlen = outsize;
    return kmsenv_direct_decrypt(ctx, out, outlen, in, inlen);
}

static OSSL_FUNC_asym_cipher_settable_ctx_params_fn direct_settable_ctx_params;
static const OSSL_PARAM *direct_settable_ctx_params(void *ctx, void *provctx)
{
    static const OSSL_PARAM settable[] = { OSSL_PARAM_utf8_string(KMSENV_PKEY_PARAM_CONTEXT, NULL, 0), OSSL_PARAM_END };

    (void)ctx;
    (void)provctx;
    return settable;
}

const OSSL_DISPATCH kmsenv_asym_cipher_functions[] = {
    { OSSL_FUNC_ASYM_CIPHER_NEWCTX, (void (*)(void))kmsenv_direct_newctx },
    { OSSL_FUNC_ASYM_CIPHER_FREECTX, (void (*)(void))kmsenv_direct_freectx },
    { OSSL_FUNC_ASYM_CIPHER_DUPCTX, (void (*)(void))kmsenv_direct_dupctx },
    { OSSL_FUNC_ASYM_CIPHER_ENCRYPT_INIT, (void (*)(void))kmsenv_direct_encrypt_init },
    { OSSL_FUNC_ASYM_CIPHER_ENCRYPT, (void (*)(void))direct_encrypt },
    { OSSL_FUNC_ASYM_CIPHER_DECRYPT_INIT, (void (*)(void))kmsenv_direct_decrypt_init },
    { OSSL_FUNC_ASYM_CIPHER_DECRYPT, (void (*)(void))direct_decrypt },
    { OSSL_FUNC_ASYM_CIPHER_SET_CTX_PARAMS, (void (*)(void))kmsenv_direct_set_ctx_params },
    { OSSL_FUNC_ASYM_CIPHER_SETTABLE_CTX_PARAMS, (void (*)(void))direct_settable_ctx_params },
    { 0, NULL }
};
