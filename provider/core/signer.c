#include <string.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/provider.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include "core/secret.h"
#include "core/signer.h"

#define NOT_OURSELVES "provider!=kmsenv"
#define BITS_MIN      2048
#define BITS_MAX      8192
#define DER_MAX       16384   /* bytes of a private key as PKCS#8 */

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

/* An encrypted key must not make us ask a terminal. */
static int no_password(char *buf, int size, int rwflag, void *arg)
{
    (void)buf;
    (void)size;
    (void)rwflag;
    (void)arg;
    return -1;
}

KMSENV_SIGNER *kmsenv_signer_from_pem(KMSENV_CRYPTO *crypto, const void *pem, size_t n, KMSENV_ERROR *err)
{
    EVP_PKEY *pkey = NULL;
    BIO *bio;

    if (!kmsenv_crypto_ready(crypto, err))
        return NULL;
    ERR_set_mark();
    if (n <= DER_MAX && (bio = BIO_new_mem_buf(pem, (int)n)) != NULL) {
        pkey = PEM_read_bio_PrivateKey_ex(bio, NULL, no_password, NULL, kmsenv_crypto_get0_libctx(crypto), NOT_OURSELVES);
        BIO_free(bio);
    }
    ERR_pop_to_mark();
    if (pkey != NULL)
        return signer_new(crypto, pkey, err);
    kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "the private key cannot be read; accepted: RSA, PEM, not encrypted");
    return NULL;
}

/* --- PKCS#12 -------------------------------------------------------------- */

/* The key in a PKCS#12, as PKCS#8 in secret memory; libctx: with all the ciphers that there are. 0 = wrong password or malformed. */
static int open_pkcs12(OSSL_LIB_CTX *libctx, const unsigned char *der, size_t n, const char *password, KMSENV_BUFFER *out)
{
    PKCS12 *p12 = PKCS12_init_ex(NID_pkcs7_data, libctx, NULL);
    EVP_PKEY *pkey = NULL;
    X509 *certificate = NULL;
    unsigned char *to = NULL;
    int len = 0;

    if (p12 != NULL && d2i_PKCS12(&p12, &der, (long)n) != NULL && PKCS12_parse(p12, password, &pkey, &certificate, NULL)
        && pkey != NULL && (len = i2d_PrivateKey(pkey, NULL)) > 0 && len <= DER_MAX
        && (to = kmsenv_secret_zalloc((size_t)len)) != NULL) {
        unsigned char *end = to;

        len = i2d_PrivateKey(pkey, &end);
        kmsenv_buffer_add(out, to, len > 0 ? (size_t)len : 0);
    }
    kmsenv_secret_free(to);
    X509_free(certificate);
    EVP_PKEY_free(pkey);
    PKCS12_free(p12);
    return out->length > 0 && !out->failed;
}

/*
 * Such files may be encrypted with ciphers of the last century, which the application's and the inner context lack. They
 * are loaded into a context that lasts as long as the reading. *legacy: are they there?
 */
static int open_with_all(const unsigned char *der, size_t n, const char *password, KMSENV_BUFFER *out, int *legacy)
{
    OSSL_LIB_CTX *libctx = OSSL_LIB_CTX_new();
    OSSL_PROVIDER *usual = libctx == NULL ? NULL : OSSL_PROVIDER_load(libctx, "default");
    OSSL_PROVIDER *old = usual == NULL ? NULL : OSSL_PROVIDER_load(libctx, "legacy");
    int ok = usual != NULL && open_pkcs12(libctx, der, n, password, out);

    *legacy = old != NULL;
    if (old != NULL)
        OSSL_PROVIDER_unload(old);
    if (usual != NULL)
        OSSL_PROVIDER_unload(usual);
    OSSL_LIB_CTX_free(libctx);
    return ok;
}

KMSENV_SIGNER *kmsenv_signer_from_pkcs12(KMSENV_CRYPTO *crypto, const void *der, size_t n, const char *password,
                                         KMSENV_ERROR *err)
{
    const unsigned char *p;
    EVP_PKEY *pkey = NULL;
    KMSENV_BUFFER key;
    int legacy = 0;

    if (!kmsenv_crypto_ready(crypto, err))
        return NULL;
    kmsenv_buffer_init(&key, DER_MAX, 1);
    ERR_set_mark();
    if (n <= 65536 && open_with_all(der, n, password, &key, &legacy)) {
        p = key.data;
        pkey = d2i_AutoPrivateKey_ex(NULL, &p, (long)key.length, kmsenv_crypto_get0_libctx(crypto), NOT_OURSELVES);
    }
    ERR_pop_to_mark();
    kmsenv_buffer_reset(&key);
    if (pkey != NULL)
        return signer_new(crypto, pkey, err);
    kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "the private key cannot be read: the password is wrong, or it is not PKCS#12%s",
                     legacy ? "" : ", or it needs OpenSSL's legacy provider, which is not installed");
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
