#include <openssl/err.h>
#include "ops/reference.h"

/* Asks for the DEK. Not inlined: room for an error costs those that need none. */
static __attribute__((noinline)) KMSENV_DEK *ask(KMSENV_PROVCTX *provctx, KMSENV_DEK *have, const unsigned char *key, size_t keylen)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    const KMSENV_RUNTIME *runtime;
    KMSENV_DEK *dek = NULL;

    ERR_set_mark();
    if ((runtime = provctx->runtime(provctx, &err)) != NULL)
        dek = kmsenv_deks_get_by_reference(runtime->deks, key, keylen, have, &err);
    ERR_pop_to_mark();
    if (dek == NULL)
        kmsenv_reporter_raise(provctx->reporter, &err);
    return dek;
}

const unsigned char *kmsenv_reference_resolve(KMSENV_PROVCTX *provctx, KMSENV_DEK **dek, const unsigned char *key, size_t keylen)
{
    const unsigned char *secret;
    KMSENV_DEK *got;

    if (*dek != NULL && (secret = kmsenv_dek_get0_secret_named(*dek, key, keylen)) != NULL)
        return secret;
    if ((got = ask(provctx, *dek, key, keylen)) == NULL)
        return NULL;
    if (got != *dek)
        kmsenv_dek_free(*dek);
    *dek = got;
    return kmsenv_dek_get0_secret(got);
}

int kmsenv_reference_refuse(const KMSENV_PROVCTX *provctx)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;

    kmsenv_error_set(&err, KMSENV_R_WRONG_STATE, "the key given last was a key reference or a key object that cannot be used: there is no key");
    return kmsenv_reporter_raise(provctx->reporter, &err);
}
