/*
 * Sealed private keys: messages whose plaintext is a PKCS#8 PrivateKeyInfo (RFC 5958), without
 * additional authenticated data or caller's key. In files: PEM with the label KMSENV_PEM_SEALED_KEY, or DER.
 */
#ifndef KMSENV_ENVELOPE_SEALED_KEY_H
# define KMSENV_ENVELOPE_SEALED_KEY_H
# include "core/buffer.h"
# include "envelope/message.h"

/* Could these bytes be one? By the first few: no key format in use begins like a message. */
int kmsenv_sealed_key_is(const unsigned char *der, size_t len);
/* Is it whole and well-formed, as far as that can be told without a key? Asks no KMS. */
int kmsenv_sealed_key_check(const unsigned char *der, size_t len, KMSENV_ERROR *err);
/*
 * Adds the PrivateKeyInfo in it to out, which is in secret memory: nothing on failure. May ask the KMS: once within
 * `sealed-key-cache` for all the keys sealed under one data key.
 */
int kmsenv_sealed_key_open(KMSENV_DEKS *deks, KMSENV_CRYPTO *crypto, KMSENV_COUNTERS *counters,
                           const unsigned char *der, size_t len, KMSENV_BUFFER *out, KMSENV_ERROR *err);

#endif
