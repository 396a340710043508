#include <openssl/core_names.h>
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
    if (OSSL_PARAM_locate_const(params, OSSL_KEM_PARAM_OPERATION) != NULL)
        ok = kmsenv_error_set(&err, KMSENV_R_PARAMETER_INVALID, "there is one key encapsulation with a master key: leave the "
                              "operation out");
    if (ok && (p = OSSL_PARAM_locate_const(params, KMSENV_KEM_PARAM_SECRET_LEN)) != NULL)
        ok = set_secret_len(d, p, &err);
    if (ok && (p = OSSL_PARAM_locate_const(params, KMSENV_PKEY_PARAM_CONTEXT)) != NULL)
        ok = set_context(d, p, &err);
    ERR_pop_to_mark();
    return ok || kmsenv_reporter_raise(d->provctx->reporter, &err);
}

static KMSENV_CMK *get1_cmk(const KMSENV_MASTER_KEY *key, int encrypts, KMSENV_ERROR *err)
{
    const KMSENV_RUNTIME *runtime;

    if (key->cmk != NULL)
        return kmsenv_cmk_up_ref(key->cmk) ? key->cmk : NULL;
    if (key->name.kms == NULL)
        kmsenv_error_set(err, KMSENV_R_WRONG_STATE, "the key object is empty");
    else if (!encrypts)
        kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "this is the public half of a master key, its name: to decrypt, use "
                         "kms:PROFILE");
    else if ((runtime = key->provctx->runtime(key->provctx, err)) != NULL)
        return kmsenv_cmk_new_named(runtime->deks, &key->name, err);
    return NULL;
}

/* provkey NULL: the key that the context has. */
static int init(KMSENV_DIRECT *d, const KMSENV_MASTER_KEY *key, int encrypts, const OSSL_PARAM params[])
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_CMK *cmk;

    if (key != NULL) {
        ERR_set_mark();
        cmk = get1_cmk(key, encrypts, &err);
        ERR_pop_to_mark();
        if (cmk == NULL)
            return kmsenv_reporter_raise(d->provctx->reporter, &err);
        kmsenv_cmk_free(d->cmk);
        d->cmk = cmk;
    }
    return kmsenv_direct_is_ready(d) && kmsenv_direct_set_ctx_params(d, params);
}

int kmsenv_direct_encrypt_init(void *ctx, void *provkey, const OSSL_PARAM params[])
{
    return init(ctx, provkey, 1, params);
}

int kmsenv_direct_decrypt_init(void *ctx, void *provkey, const OSSL_PARAM params[])
{
    return init(ctx, provkey, 0, params);
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
