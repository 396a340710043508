#include <openssl/err.h>
#include "core/rsa_key.h"
#include "core/signer.h"

#define NOT_OURSELVES "provider!=kmsenv"
#define BITS_MIN      2048
#define BITS_MAX      8192

struct kmsenv_signer_st {
    OSSL_LIB_CTX *libctx;     /* borrowed */
    EVP_PKEY *pkey;
};

/* Takes over pkey, also on failure. */
static KMSENV_SIGNER *signer_new(KMSENV_CRYPTO *crypto, EVP_PKEY *pkey, KMSENV_ERROR *err)
{
    KMSENV_SIGNER *s = NULL;

    if (!EVP_PKEY_is_a(pkey, "RSA") || EVP_PKEY_get_bits(pkey) < BITS_MIN || EVP_PKEY_get_bits(pkey) > BITS_MAX)
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "the private key is not an RSA key of %d to %d bits", BITS_MIN, BITS_MAX);
    else if ((s = OPENSSL_zalloc(sizeof(*s))) == NULL)
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a private key");
    if (s == NULL) {
        EVP_PKEY_free(pkey);
        return NULL;
    }
    s->libctx = kmsenv_crypto_get0_libctx(crypto);
    s->pkey = pkey;
    return s;
}

void kmsenv_signer_free(KMSENV_SIGNER *signer)
{
    if (signer == NULL)
        return;
    EVP_PKEY_free(signer->pkey);
    OPENSSL_free(signer);
}

KMSENV_SIGNER *kmsenv_signer_from_pem(KMSENV_CRYPTO *crypto, const void *pem, size_t n, KMSENV_ERROR *err)
{
    EVP_PKEY *pkey;

    if (!kmsenv_crypto_ready(crypto, err))
        return NULL;
    if ((pkey = kmsenv_rsa_key_from_pem(kmsenv_crypto_get0_libctx(crypto), pem, n)) != NULL)
        return signer_new(crypto, pkey, err);
    kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "the private key cannot be read; accepted: RSA, PEM, not encrypted");
    return NULL;
}

KMSENV_SIGNER *kmsenv_signer_from_pkcs12(KMSENV_CRYPTO *crypto, const void *der, size_t n, const char *password,
                                         KMSENV_ERROR *err)
{
    EVP_PKEY *pkey;
    int legacy = 0;

    if (!kmsenv_crypto_ready(crypto, err))
        return NULL;
    if ((pkey = kmsenv_rsa_key_from_pkcs12(kmsenv_crypto_get0_libctx(crypto), der, n, password, &legacy)) != NULL)
        return signer_new(crypto, pkey, err);
    kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "the private key cannot be read: the password is wrong, or it is not PKCS#12 with "
                     "an RSA key%s", legacy ? "" : ", or it needs OpenSSL's legacy provider, which is not found: install it, or correct "
                     "OPENSSL_MODULES");
    return NULL;
}

/* --- signing -------------------------------------------------------------- */

int kmsenv_signer_sign(const KMSENV_SIGNER *signer, const void *data, size_t n, KMSENV_BUFFER *signature, KMSENV_ERROR *err)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    unsigned char out[BITS_MAX / 8];
    size_t len = sizeof(out);
    int ok;

    ERR_set_mark();
    ok = ctx != NULL && EVP_DigestSignInit_ex(ctx, NULL, "SHA256", signer->libctx, NOT_OURSELVES, signer->pkey, NULL) > 0
         && EVP_DigestSign(ctx, out, &len, data, n) > 0;
    ERR_pop_to_mark();
    EVP_MD_CTX_free(ctx);
    if (!ok)
        return kmsenv_error_set(err, KMSENV_R_CRYPTO_FAILED, "signing with the private key failed");
    return kmsenv_buffer_add(signature, out, len) || kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a signature");
}
