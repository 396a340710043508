/* 96 bytes and more through any cipher there is, whatever its mode wants to be told; by bytes of a key, or by a key object. */
#ifndef KMSENV_TEST_ANY_CIPHER_H
# define KMSENV_TEST_ANY_CIPHER_H
# include "kmsenv_skey.h"

# define ANY_OUTPUT 256
# define ANY_TAG    16

typedef struct any_sealed_st {
    unsigned char data[ANY_OUTPUT], tag[ANY_TAG];
    int len;
} ANY_SEALED;

/* One of key and skey is NULL; in: what is to be decrypted. NULL with OpenSSL's errors in the queue. */
EVP_CIPHER_CTX *any_cipher_start(const EVP_CIPHER *c, int enc, const unsigned char *key, KMSENV_TEST_SKEY *skey, const ANY_SEALED *in);
int any_cipher_encrypt(const EVP_CIPHER *c, const unsigned char *key, KMSENV_TEST_SKEY *skey, const unsigned char *in, int inlen,
                       ANY_SEALED *out);
/* The length, -1 if it failed. */
int any_cipher_decrypt(const EVP_CIPHER *c, const unsigned char *key, KMSENV_TEST_SKEY *skey, const ANY_SEALED *in, unsigned char *out);
/* Triple DES wraps with an IV of its own making: only decryption can be compared. */
int any_cipher_is_random(const EVP_CIPHER *c);

#endif
