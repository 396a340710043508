/*
 * RSA private keys, read without leaving copies of them behind. libcrypto's own readers go through decoders that free the
 * DER text as it is (measured, OpenSSL 3.0: the primes are still in the heap when the key itself is long gone). Nothing
 * here touches the error queue in the end.
 */
#ifndef KMSENV_CORE_RSA_KEY_H
# define KMSENV_CORE_RSA_KEY_H
# include <stddef.h>
# include <openssl/evp.h>

/* The key, for use with libctx; NULL if the text is none. PKCS#8 or PKCS#1, not encrypted; the first in the text. */
EVP_PKEY *kmsenv_rsa_key_from_pem(OSSL_LIB_CTX *libctx, const void *pem, size_t n);
/*
 * The first RSA key in a PKCS#12; NULL: wrong password, or it is none. Certificates are left encrypted, and so are not
 * in the way if it is with a cipher that is not there. *legacy: was OpenSSL's legacy provider there to help?
 */
EVP_PKEY *kmsenv_rsa_key_from_pkcs12(OSSL_LIB_CTX *libctx, const void *der, size_t n, const char *password, int *legacy);

#endif
