/* Symmetric key objects in tests that are also compiled for an OpenSSL without them (before 3.5). */
#ifndef KMSENV_TEST_SKEY_H
# define KMSENV_TEST_SKEY_H
# include <openssl/core_dispatch.h>
# include <openssl/evp.h>

# ifdef OSSL_OP_SKEYMGMT
typedef EVP_SKEY KMSENV_TEST_SKEY;
#  define kmsenv_test_skey_init(ctx, skey, iv, ivlen, enc) EVP_CipherInit_SKEY(ctx, NULL, skey, iv, ivlen, enc, NULL)
# else
typedef void KMSENV_TEST_SKEY;
#  define kmsenv_test_skey_init(ctx, skey, iv, ivlen, enc) 0
# endif

#endif
