/* What asymmetric encryption and key encapsulation with a master key have in common: a context. */
#ifndef KMSENV_OPS_DIRECT_H
# define KMSENV_OPS_DIRECT_H
# include "ops/key.h"

typedef struct kmsenv_direct_st {
    KMSENV_PROVCTX *provctx;
    KMSENV_CMK *cmk;                   /* NULL before init */
    char *context;                     /* encryption context, NULL = the profile's */
    size_t secret_len;                 /* of an encapsulation */
} KMSENV_DIRECT;

void *kmsenv_direct_newctx(void *provctx);
void kmsenv_direct_freectx(void *ctx);
void *kmsenv_direct_dupctx(void *ctx);
/* To encrypt or encapsulate, for which the public half will do, and the other way round. No KMS is asked. */
int kmsenv_direct_encrypt_init(void *ctx, void *provkey, const OSSL_PARAM params[]);
int kmsenv_direct_decrypt_init(void *ctx, void *provkey, const OSSL_PARAM params[]);
int kmsenv_direct_set_ctx_params(void *ctx, const OSSL_PARAM params[]);
/* Decrypts; out NULL: *outlen is set to what may be needed. */
int kmsenv_direct_decrypt(const KMSENV_DIRECT *d, unsigned char *out, size_t *outlen, const unsigned char *in, size_t inlen);
/* Is there a key? If not, an error is raised. */
int kmsenv_direct_is_ready(const KMSENV_DIRECT *d);

#endif
