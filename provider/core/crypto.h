/*
 * The inner cryptography: a library context of our own, which the application's property
 * settings cannot reach and which does not contain this provider. Everything is fetched on
 * first use, once; nothing happens at provider init.
 */
#ifndef KMSENV_CORE_CRYPTO_H
# define KMSENV_CORE_CRYPTO_H
# include <openssl/core.h>
# include <openssl/evp.h>
# include "core/error.h"

typedef struct kmsenv_crypto_st KMSENV_CRYPTO;

/*
 * provider_name: the inner provider ("default" or "fips"), copied. handle/in as given to
 * OSSL_provider_init; both NULL makes a context with no core (the command and tests).
 */
KMSENV_CRYPTO *kmsenv_crypto_new(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in, const char *provider_name);
void kmsenv_crypto_free(KMSENV_CRYPTO *crypto);
/* Chooses another inner provider. Does nothing once kmsenv_crypto_ready() has succeeded. 0 if there is no memory. */
int kmsenv_crypto_set_provider(KMSENV_CRYPTO *crypto, const char *provider_name);
OSSL_LIB_CTX *kmsenv_crypto_get0_libctx(const KMSENV_CRYPTO *crypto);

/* Loads the inner provider and fetches, if that was not done yet. Cheap afterwards. Everything below does it by itself. */
int kmsenv_crypto_ready(KMSENV_CRYPTO *crypto, KMSENV_ERROR *err);

/*
 * What the inner providers offer for an operation, as they tell the core: for adapters that hand calls through to them.
 * First the chosen provider, then the default one if that is another. Returns how many there are. algorithms may be NULL.
 * Everything stays valid as long as crypto.
 */
typedef struct kmsenv_crypto_table_st {
    const OSSL_ALGORITHM *algorithms;
    void *provctx;
} KMSENV_CRYPTO_TABLE;
size_t kmsenv_crypto_tables(KMSENV_CRYPTO *crypto, int operation, KMSENV_CRYPTO_TABLE out[2]);

/*
 * Has the inner context a digest (OSSL_OP_DIGEST) or cipher of that name? What only OpenSSL's `legacy` provider has is brought
 * in, once. properties: a query, NULL = none. No error is raised.
 */
int kmsenv_crypto_offers(KMSENV_CRYPTO *crypto, int operation, const char *name, const char *properties);

/* AES-GCM with a key of 16, 24 or 32 bytes. Borrowed; NULL for another length. Needs kmsenv_crypto_ready() before. */
EVP_CIPHER *kmsenv_crypto_get0_gcm(const KMSENV_CRYPTO *crypto, size_t keylen);
/* n random bytes from the public (salts, nonces) or private (keys) generator. */
int kmsenv_crypto_random(KMSENV_CRYPTO *crypto, void *out, size_t n, KMSENV_ERROR *err);
int kmsenv_crypto_random_key(KMSENV_CRYPTO *crypto, void *out, size_t n, KMSENV_ERROR *err);
int kmsenv_crypto_sha256(KMSENV_CRYPTO *crypto, const void *data, size_t n, unsigned char out[32], KMSENV_ERROR *err);
int kmsenv_crypto_hmac_sha256(KMSENV_CRYPTO *crypto, const void *key, size_t keylen,
                              const void *data, size_t n, unsigned char out[32], KMSENV_ERROR *err);
/* For services that still sign with it: not for anything new. */
int kmsenv_crypto_hmac_sha1(KMSENV_CRYPTO *crypto, const void *key, size_t keylen,
                            const void *data, size_t n, unsigned char out[20], KMSENV_ERROR *err);

/*
 * HMAC-SHA256 (RFC 2104) with the key state computed once: the digests of the padded key are kept,
 * and each MAC starts from copies of them. Half the time of EVP_MAC, which copies its contexts as
 * well but can be used by one thread at a time only (measured, OpenSSL 3.0: 450 against 600 ns,
 * and no 800 ns for a copy per thread). Immutable; shared by any number of threads.
 */
typedef struct kmsenv_hmac_st KMSENV_HMAC;
KMSENV_HMAC *kmsenv_hmac_new(KMSENV_CRYPTO *crypto, const unsigned char key[32], KMSENV_ERROR *err);
void kmsenv_hmac_free(KMSENV_HMAC *hmac);
/* scratch: a digest context of the calling thread, from EVP_MD_CTX_new(). */
int kmsenv_hmac(const KMSENV_HMAC *hmac, EVP_MD_CTX *scratch, const void *data, size_t n, unsigned char out[32], KMSENV_ERROR *err);
/* One-shot AES-256-GCM with a 12-byte nonce and a 16-byte tag; out has room for n bytes. open returns 0 with err->reason NONE on a wrong tag. */
int kmsenv_crypto_gcm_seal(KMSENV_CRYPTO *crypto, const unsigned char key[32], const unsigned char nonce[12],
                           const void *aad, size_t aadlen, const void *in, size_t n,
                           unsigned char *out, unsigned char tag[16], KMSENV_ERROR *err);
int kmsenv_crypto_gcm_open(KMSENV_CRYPTO *crypto, const unsigned char key[32], const unsigned char nonce[12],
                           const void *aad, size_t aadlen, const void *in, size_t n,
                           const unsigned char tag[16], unsigned char *out, KMSENV_ERROR *err);

#endif
