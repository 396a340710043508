/* RSA signatures with a private key of our own: what JWTs and some vendors' requests are signed with. */
#ifndef KMSENV_CORE_SIGNER_H
# define KMSENV_CORE_SIGNER_H
# include "core/buffer.h"
# include "core/crypto.h"

/* Immutable; any number of threads may sign with it at once. */
typedef struct kmsenv_signer_st KMSENV_SIGNER;

/* pem: an unencrypted RSA private key (PKCS#8 or PKCS#1), 2048..8192 bits. NULL with err (KMS_CREDENTIALS) if it is none. */
KMSENV_SIGNER *kmsenv_signer_from_pem(KMSENV_CRYPTO *crypto, const void *pem, size_t n, KMSENV_ERROR *err);
/* der: PKCS#12 (RFC 7292) with one RSA key, also with the ciphers of the last century if the legacy provider is installed. */
KMSENV_SIGNER *kmsenv_signer_from_pkcs12(KMSENV_CRYPTO *crypto, const void *der, size_t n, const char *password,
                                         KMSENV_ERROR *err);
void kmsenv_signer_free(KMSENV_SIGNER *signer);
/* RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 8.2, "RS256" of RFC 7518) over data, added to signature. */
int kmsenv_signer_sign(const KMSENV_SIGNER *signer, const void *data, size_t n, KMSENV_BUFFER *signature, KMSENV_ERROR *err);

#endif
