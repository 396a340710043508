/*
 * A master key as such: small secrets (passwords, configuration) encrypted by the KMS itself,
 * without an envelope, and data keys made for a key encapsulation.
 *
 * The output is what the KMS returned, so that the vendor's own tools can decrypt it. Where the
 * service needs more than that to decrypt (an IV, the exact version of the key), it is a DER Wrap
 * (dek/data_key.h); decryption takes either.
 */
#ifndef KMSENV_DEK_CMK_H
# define KMSENV_DEK_CMK_H
# include "dek/deks.h"
# include "dek/key_name.h"

typedef struct kmsenv_cmk_st KMSENV_CMK;

/*
 * profile: its name, NULL or "" = the first one. key_id: the CMK's, NULL = the profile's own; one of its decrypt-keys can
 * decrypt only. deks must outlive it. No network. NULL with err if there is no such profile, or it does not answer for the key.
 */
KMSENV_CMK *kmsenv_cmk_new(KMSENV_DEKS *deks, const char *profile, const char *key_id, KMSENV_ERROR *err);
/*
 * The first profile whose own key has that name, to encrypt under it. The name may come from anybody (a certificate): nothing
 * but what is configured is ever asked. NULL with err if there is none.
 */
KMSENV_CMK *kmsenv_cmk_new_named(KMSENV_DEKS *deks, const KMSENV_KEY_NAME *name, KMSENV_ERROR *err);
int kmsenv_cmk_up_ref(KMSENV_CMK *cmk);
void kmsenv_cmk_free(KMSENV_CMK *cmk);
/* Do both stand for the same key? */
int kmsenv_cmk_equal(const KMSENV_CMK *a, const KMSENV_CMK *b);
/* Borrowed. */
const char *kmsenv_cmk_profile(const KMSENV_CMK *cmk);
const char *kmsenv_cmk_kms(const KMSENV_CMK *cmk);
const char *kmsenv_cmk_key_id(const KMSENV_CMK *cmk);
/* Bytes that the KMS accepts to encrypt; no output of encrypt or generate is longer than KMSENV_CMK_OUTPUT_MAX. */
size_t kmsenv_cmk_plaintext_max(const KMSENV_CMK *cmk);
# define KMSENV_CMK_OUTPUT_MAX 24576

/*
 * context: an encryption context, "name=value,name=value"; NULL = the profile's own. *outlen: room on entry, length on
 * return. An input that is too large is an error before any call.
 */
int kmsenv_cmk_encrypt(KMSENV_CMK *cmk, const char *context, const unsigned char *in, size_t inlen,
                       unsigned char *out, size_t *outlen, KMSENV_ERROR *err);
int kmsenv_cmk_decrypt(KMSENV_CMK *cmk, const char *context, const unsigned char *in, size_t inlen,
                       unsigned char *out, size_t *outlen, KMSENV_ERROR *err);
/* A new data key of len bytes (16, 24, 32 or 64) into key (secret memory), and what it is wrapped in into out. */
int kmsenv_cmk_generate(KMSENV_CMK *cmk, const char *context, unsigned char *key, size_t len,
                        unsigned char *out, size_t *outlen, KMSENV_ERROR *err);

#endif
