/* Private keys in PEM, ordinary and sealed. */
#include <string.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include "bench.h"
#include "kmsenv/format.h"

/* PKCS#8, sealed as `kmsenv seal-key` does. */
static void write_sealed(BIO *out, EVP_PKEY *pkey)
{
    PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(pkey);
    EVP_CIPHER *cipher = bench_envelope_cipher();
    unsigned char *der = NULL, message[8192];
    int n = info == NULL ? -1 : i2d_PKCS8_PRIV_KEY_INFO(info, &der);

    bench_check(n > 0 && (size_t)n + BENCH_HEADER_ROOM <= sizeof(message), "writing PKCS#8");
    bench_check(PEM_write_bio(out, KMSENV_PEM_SEALED_KEY, "", message, (long)bench_seal(cipher, message, der, (size_t)n)) > 0,
                "writing a sealed key");
    OPENSSL_free(der);
    EVP_CIPHER_free(cipher);
    PKCS8_PRIV_KEY_INFO_free(info);
}

X509 *bench_certificate(OSSL_LIB_CTX *libctx, EVP_PKEY *pkey)
{
    X509 *x = X509_new_ex(libctx, NULL);

    bench_check(x != NULL && X509_set_pubkey(x, pkey) && X509_gmtime_adj(X509_getm_notBefore(x), 0) != NULL
                && X509_gmtime_adj(X509_getm_notAfter(x), 86400) != NULL && X509_sign(x, pkey, EVP_sha256()) > 0, "a certificate");
    return x;
}

static void write_certificate(BIO *out, EVP_PKEY *pkey)
{
    X509 *certificate = bench_certificate(NULL, pkey);

    bench_check(PEM_write_bio_X509(out, certificate), "writing a certificate");
    X509_free(certificate);
}

BUF_MEM *bench_key(const char *type, int sealed)
{
    EVP_PKEY *pkey = strcmp(type, "ec") == 0 ? EVP_EC_gen("P-256") : EVP_RSA_gen(2048);
    BIO *bio = BIO_new(BIO_s_mem());
    BUF_MEM *pem = NULL;

    bench_check(pkey != NULL && bio != NULL, "making a key");
    if (sealed)
        write_sealed(bio, pkey);
    else if (strcmp(type, "certificate") == 0)
        write_certificate(bio, pkey);
    else
        bench_check(PEM_write_bio_PrivateKey(bio, pkey, NULL, NULL, 0, NULL, NULL), "writing a key");
    bench_check(BIO_get_mem_ptr(bio, &pem) > 0 && BIO_set_close(bio, BIO_NOCLOSE) > 0, "keeping a key");
    BIO_free(bio);
    EVP_PKEY_free(pkey);
    return pem;
}

void bench_load_key(const BUF_MEM *pem, OSSL_LIB_CTX *libctx)
{
    BIO *bio = BIO_new_mem_buf(pem->data, (int)pem->length);
    EVP_PKEY *pkey = PEM_read_bio_PrivateKey_ex(bio, NULL, NULL, NULL, libctx, NULL);

    bench_check(pkey != NULL, "reading a PEM key");
    EVP_PKEY_free(pkey);
    BIO_free(bio);
}

void bench_load_certificate(const BUF_MEM *pem, OSSL_LIB_CTX *libctx)
{
    BIO *bio = BIO_new_mem_buf(pem->data, (int)pem->length);
    X509 *certificate = X509_new_ex(libctx, NULL);

    bench_check(certificate != NULL && PEM_read_bio_X509(bio, &certificate, NULL, NULL) != NULL, "reading a certificate");
    X509_free(certificate);
    BIO_free(bio);
}
