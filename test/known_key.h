/* Data keys with known plaintext: what the KMS of a test context made of bytes that the test chose, in its keyring. */
#ifndef KMSENV_TEST_KNOWN_KEY_H
# define KMSENV_TEST_KNOWN_KEY_H
# include "kmsenv_test.h"
# include "core/crypto.h"

# define KMSENV_TEST_REFERENCE_MAX 64

/*
 * Wraps key (16, 24, 32 or 64 bytes) under the profile `default` of t, whose KMS must be the local one and whose keyring
 * must be @/keys, and puts it there. reference: KMSENV_TEST_REFERENCE_MAX bytes, zero-padded; a program uses the first keylen.
 */
int known_key_put(const KMSENV_TEST *t, KMSENV_CRYPTO *crypto, const unsigned char *key, size_t keylen,
                  unsigned char reference[KMSENV_TEST_REFERENCE_MAX]);

/* A value of OpenSSL's stanza files, in hexadecimal or in quotes. OPENSSL_free. */
unsigned char *known_key_value(const char *text, size_t *len);

#endif
