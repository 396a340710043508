/* A private key in files of every kind, plain and sealed, for the tests of sealed keys. */
#ifndef KMSENV_TEST_SEALED_KEY_H
# define KMSENV_TEST_SEALED_KEY_H
# include <openssl/evp.h>
# include <openssl/x509.h>
# include "kmsenv_test.h"

typedef struct test_files_st {
    KMSENV_TEST_BYTES der;                 /* PKCS#8, or a message */
    char *pem, *cert_key, *key_cert;       /* texts: the key, with its certificate before and after it */
    char pem_path[96], der_path[96], cert_key_path[96], key_cert_path[96];
} TEST_FILES;

typedef struct test_key_st {
    const char *type;                      /* RSA, EC, ED25519 */
    int id;                                /* EVP_PKEY_RSA and so on */
    EVP_PKEY *pkey;
    X509 *cert;
    char *cert_pem;
    TEST_FILES plain, sealed;
} TEST_KEY;

/* Makes key i (0, 1, 2) and its files in the scratch folder of t, sealed under the first profile of t. */
int test_key_make(TEST_KEY *key, int i, const KMSENV_TEST *t);
void test_key_reset(TEST_KEY *key);
/* Is this the key, private part included? */
int test_key_is(const TEST_KEY *key, const EVP_PKEY *pkey);
/* PEM of bytes; OPENSSL_free. */
char *test_pem(const char *label, const unsigned char *data, size_t n);

#endif
