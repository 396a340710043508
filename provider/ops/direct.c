#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include "kmsenv/params.h"
#include "ops/direct.h"

#define SECRET_LEN 32

void *kmsenv_direct_newctx(void *provctx)
{
    KMSENV_DIRECT *d = OPENSSL_zalloc(sizeof(*d));

    if (d != NULL) {
        d->provctx = provctx;
        d->secret_len = SECRET_LEN;
    }
    return d;
}

void kmsenv_direct_freectx(void *ctx)
{
    KMSENV_DIRECT *d = ctx;

    if (d == NULL)
        return;
    kmsenv_cmk_free(d->cmk);
    OPENSSL_free(d->context);
    OPENSSL_free(d);
}

void *kmsenv_direct_dupctx(void *ctx)
{
    const KMSENV_DIRECT *d = ctx;
    KMSENV_DIRECT *copy = OPENSSL_memdup(d, sizeof(*d));

    if (copy == NULL)
        return NULL;
    if (d->context != NULL && (copy->context = OPENSSL_strdup(d->context)) == NULL) {
        OPENSSL_free(copy);
        return NULL;
    }
    if (copy->cmk != NULL)
        kmsenv_cmk_up_ref(copy->cmk);
    return copy;
}

static int set_secret_len(KMSENV_DIRECT *d, const OSSL_PARAM *p, KMSENV_ERROR *err)
{
    size_t n;

    if (!OSSL_PARAM_get_size_t(p, &n) || !kmsenv_dek_length_is_valid(n))
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "parameter %s; accepted: 16, 24, 32, 64", p->key);
    d->secret_len = n;
    return 1;
}

static int set_context(KMSENV_DIRECT *d, const OSSL_PARAM *p, KMSENV_ERROR *err)
{
    char *text = NULL;

    if (!OSSL_PARAM_get_utf8_string(p, &text, 0))
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "parameter %s is not a UTF-8 string", p->key);
    OPENSSL_free(d->context);
    d->context = text;
    return 1;
}

int kmsenv_direct_set_ctx_params(void *ctx, const OSSL_PARAM params[])
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_DIRECT *d = ctx;
    const OSSL_PARAM *p;
    int ok = 1;

    if (params == NULL)
        return 1;
    ERR_set_mark();
    if ((p = OSSL_PARAM_locate_const(params, KMSENV_KEM_PARAM_SECRET_LEN)) != NULL)
        ok = set_secret_len(d, p, &err);
    if (ok && (p = OSSL_PARAM_locate_const(params, KMSENV_PKEY_PARAM_CONTEXT)) != NULL)
        ok = set_context(d, p, &err);
    ERR_pop_to_mark();
    return ok || kmsenv_reporter_raise(d->provctx->reporter, &err);
}

int kmsenv_direct_init(void *ctx, void *provkey, const OSSL_PARAM params[])
{
    const KMSENV_MASTER_KEY *key = provkey;
    KMSENV_DIRECT *d = ctx;

    if (key != NULL && key->cmk != NULL && kmsenv_cmk_up_ref(key->cmk)) {
        kmsenv_cmk_free(d->cmk);
        d->cmk = key->cmk;
    }
    return kmsenv_direct_is_ready(d) && kmsenv_direct_set_ctx_params(d, params);
}

int kmsenv_direct_is_ready(const KMSENV_DIRECT *d)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;

    if (d->cmk != NULL)
        return 1;
    kmsenv_error_set(&err, KMSENV_R_WRONG_STATE, "the context has no master key");
    return kmsenv_reporter_raise(d->provctx->reporter, &err);
}

int kmsenv_direct_decrypt(const KMSENV_DIRECT *d, unsigned char *out, size_t *outlen, const unsigned char *in, size_t inlen)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    int ok;

    if (!kmsenv_direct_is_ready(d))
        return 0;
    if (out == NULL) {
        *outlen = kmsenv_cmk_plaintext_max(d->cmk);
        return 1;
    }
    ERR_set_mark();
    ok = kmsenv_cmk_decrypt(d->cmk, d->context, in, inlen, out, outlen, &err);
    ERR_pop_to_mark();
    return ok || kmsenv_reporter_raise(d->provctx->reporter, &err);
}
