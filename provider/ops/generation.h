/* Making data keys on request: what the key types for EVP_PKEY and for EVP_SKEY share. */
#ifndef KMSENV_OPS_GENERATION_H
# define KMSENV_OPS_GENERATION_H
# include <openssl/params.h>
# include "ops/key.h"

typedef struct kmsenv_generation_st {
    KMSENV_PROVCTX *provctx;
    KMSENV_DEK_REQUEST *request;
    size_t length;                     /* bytes of the data key */
    int keep;                          /* it is written into the keyring, too */
} KMSENV_GENERATION;

/* length, keep: what holds as long as no parameter says otherwise. */
KMSENV_GENERATION *kmsenv_generation_new(KMSENV_PROVCTX *provctx, size_t length, int keep, KMSENV_ERROR *err);
void kmsenv_generation_free(KMSENV_GENERATION *g);
/* KMSENV_PKEY_PARAM_BITS, _PROFILE, _CONTEXT, _KEYRING; params may be NULL. */
int kmsenv_generation_set(KMSENV_GENERATION *g, const OSSL_PARAM params[], KMSENV_ERROR *err);
const OSSL_PARAM *kmsenv_generation_settable(void);
/* Asks the KMS, unless it is clear before that the key could not be kept. */
KMSENV_KEY *kmsenv_generation_run(const KMSENV_GENERATION *g, KMSENV_ERROR *err);

#endif
