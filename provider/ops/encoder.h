/* What the encoders of both kinds of key objects have in common: their context is the provider's. */
#ifndef KMSENV_OPS_ENCODER_H
# define KMSENV_OPS_ENCODER_H
# include <openssl/core_dispatch.h>
# include "ops/core_bio.h"

OSSL_FUNC_encoder_newctx_fn kmsenv_encoder_newctx;
OSSL_FUNC_encoder_freectx_fn kmsenv_encoder_freectx;
/* A PEM block around der. Leaves no errors of its own. */
int kmsenv_encoder_write_pem(const KMSENV_PROVCTX *provctx, OSSL_CORE_BIO *out, const char *label, const unsigned char *der, size_t len);

#endif
