/* Private keys for signatures: what is read and what is refused, and that signatures are those of OpenSSL's own reading. */
#include <stdio.h>
#include <string.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include "testutil.h"
#include "core/rsa_key.h"
#include "core/signer.h"
#include "kmsenv/reasons.h"

#define FILE_NAME KMSENV_TEST_DATA_DIR "/vectors/alibaba-dkms/clientkey-aes.private-key.pem"

static KMSENV_CRYPTO *crypto;
static EVP_PKEY *reference;

/* A PEM block, as text. To be freed. */
static BIO *pem_of(const char *name, const char *header, const unsigned char *der, long n)
{
    BIO *bio = BIO_new(BIO_s_mem());

    return TEST_ptr(bio) && TEST_int_gt(PEM_write_bio(bio, name, header, der, n), 0) ? bio : NULL;
}

/* Does it sign as the reference does? -1: it is refused as it should be. */
static int signs(BIO *bio)
{
    unsigned char expected[1024];
    size_t n = sizeof(expected);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_SIGNER *signer;
    KMSENV_BUFFER out;
    char *text = NULL;
    long len = BIO_get_mem_data(bio, &text);
    int result = -1;

    kmsenv_buffer_init(&out, 1024, 0);
    if ((signer = kmsenv_signer_from_pem(crypto, text, (size_t)len, &err)) != NULL)
        result = TEST_true(kmsenv_signer_sign(signer, "some text", 9, &out, &err))
                 && TEST_int_gt(EVP_DigestSignInit_ex(ctx, NULL, "SHA256", NULL, NULL, reference, NULL), 0)
                 && TEST_int_gt(EVP_DigestSign(ctx, expected, &n, (const unsigned char *)"some text", 9), 0)
                 && TEST_mem_eq(out.data, out.length, expected, n);
    else if (!TEST_int_eq(err.reason, KMSENV_R_KMS_CREDENTIALS))
        result = 0;
    if (!TEST_ulong_eq(ERR_peek_error(), 0))
        result = 0;
    kmsenv_signer_free(signer);
    kmsenv_buffer_reset(&out);
    EVP_MD_CTX_free(ctx);
    BIO_free(bio);
    return result;
}

static int test_kinds(void)
{
    unsigned char *pkcs1 = NULL, *pkcs8 = NULL;
    PKCS8_PRIV_KEY_INFO *p8 = EVP_PKEY2PKCS8(reference);
    int n1 = i2d_PrivateKey(reference, &pkcs1), n8 = i2d_PKCS8_PRIV_KEY_INFO(p8, &pkcs8), i, ok;

    ok = TEST_int_gt(n1, 1000) && TEST_int_gt(n8, n1)
         && TEST_int_eq(signs(pem_of("RSA PRIVATE KEY", "", pkcs1, n1)), 1) && TEST_int_eq(signs(pem_of("PRIVATE KEY", "", pkcs8, n8)), 1)
         && TEST_int_eq(signs(pem_of("PRIVATE KEY", "", pkcs1, n1)), -1) && TEST_int_eq(signs(pem_of("RSA PRIVATE KEY", "", pkcs8, n8)), -1)
         && TEST_int_eq(signs(pem_of("ENCRYPTED PRIVATE KEY", "", pkcs8, n8)), -1)
         && TEST_int_eq(signs(pem_of("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF\n",
                                     pkcs1, n1)), -1)
         && TEST_int_eq(signs(pem_of("CERTIFICATE", "", pkcs8, n8)), -1);
    for (i = 1; ok && i < n1; i += 3)   /* cut */
        ok = TEST_int_eq(signs(pem_of("RSA PRIVATE KEY", "", pkcs1, i)), -1);
    for (i = 1; ok && i < n8; i += 3)
        ok = TEST_int_eq(signs(pem_of("PRIVATE KEY", "", pkcs8, i)), -1);
    pkcs1[6] = 1;   /* a version with more than two primes */
    ok = ok && TEST_int_eq(signs(pem_of("RSA PRIVATE KEY", "", pkcs1, n1)), -1);
    PKCS8_PRIV_KEY_INFO_free(p8);
    OPENSSL_free(pkcs1);
    OPENSSL_free(pkcs8);
    return ok;
}

/* Keys of other kinds and sizes. */
static int test_other_keys(int i)
{
    EVP_PKEY *key = i == 0 ? EVP_EC_gen("P-256") : i == 1 ? EVP_RSA_gen(1024) : EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    unsigned char *der = NULL;
    PKCS8_PRIV_KEY_INFO *p8 = EVP_PKEY2PKCS8(key);
    int n = i2d_PKCS8_PRIV_KEY_INFO(p8, &der), ok = TEST_int_gt(n, 0) && TEST_int_eq(signs(pem_of("PRIVATE KEY", "", der, n)), -1);

    OPENSSL_free(der);
    PKCS8_PRIV_KEY_INFO_free(p8);
    EVP_PKEY_free(key);
    return ok;
}

static int test_no_pem(int i)
{
    static const char *const texts[] = { "", "\n", "-----BEGIN PRIVATE KEY-----\n", "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n",
                                         "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n" };
    BIO *bio = BIO_new(BIO_s_mem());

    return TEST_ptr(bio) && TEST_int_ge(BIO_puts(bio, texts[i]), -1) && TEST_int_eq(signs(bio), -1);
}

int setup_tests(void)
{
    BIO *file = BIO_new_file(FILE_NAME, "r");

    if (!TEST_ptr(crypto = kmsenv_crypto_new(NULL, NULL, "default")) || !TEST_ptr(file)
        || !TEST_ptr(reference = PEM_read_bio_PrivateKey(file, NULL, NULL, NULL)))
        return 0;
    BIO_free(file);
    ADD_TEST(test_kinds);
    ADD_ALL_TESTS(test_other_keys, 3);
    ADD_ALL_TESTS(test_no_pem, 5);
    return 1;
}

void cleanup_tests(void)
{
    EVP_PKEY_free(reference);
    kmsenv_crypto_free(crypto);
}
