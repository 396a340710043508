/*
 * The name of a master key, as others may know it: the kind of its KMS, and its id there. Nothing of it is secret, and
 * nothing in it says where the KMS is: only a configured profile does. It is also the public key that certificates carry:
 *
 *   SubjectPublicKeyInfo ::= SEQUENCE {
 *     algorithm         SEQUENCE { algorithm OBJECT IDENTIFIER (KMSENV_OID_MASTER_KEY) },    -- no parameters
 *     subjectPublicKey  BIT STRING }                                  -- the DER of a MasterKeyName
 *   MasterKeyName ::= SEQUENCE {
 *     kms               UTF8String,
 *     keyId             UTF8String }
 */
#ifndef KMSENV_DEK_KEY_NAME_H
# define KMSENV_DEK_KEY_NAME_H
# include "core/error.h"

typedef struct kmsenv_key_name_st {
    char *kms, *key_id;        /* both NULL: none */
} KMSENV_KEY_NAME;

/* Does it begin like the DER of such a SubjectPublicKeyInfo? For the first bytes of anything; no error. */
int kmsenv_key_name_is(const unsigned char *p, size_t n);
/* Strict parse of exactly len bytes into *name (empty before, and after a failure). */
int kmsenv_key_name_parse(KMSENV_KEY_NAME *name, const unsigned char *der, size_t len, KMSENV_ERROR *err);
/* DER into *out (OPENSSL_free) and *outlen. */
int kmsenv_key_name_encode(const KMSENV_KEY_NAME *name, unsigned char **out, size_t *outlen, KMSENV_ERROR *err);
/* Copies; *name is empty before, and after a failure. Fails for texts that could not be encoded, too. */
int kmsenv_key_name_set(KMSENV_KEY_NAME *name, const char *kms, const char *key_id, KMSENV_ERROR *err);
int kmsenv_key_name_equal(const KMSENV_KEY_NAME *a, const KMSENV_KEY_NAME *b);
void kmsenv_key_name_reset(KMSENV_KEY_NAME *name);

#endif
