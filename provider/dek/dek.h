/*
 * A data key in plaintext, in secret memory, with the DER that names and wraps it. Immutable
 * and shared by reference; cleansed with the last reference.
 */
#ifndef KMSENV_DEK_DEK_H
# define KMSENV_DEK_DEK_H
# include "core/crypto.h"
# include "core/error.h"
# include "dek/data_key.h"

typedef struct kmsenv_dek_st KMSENV_DEK;

/*
 * secret: key->length bytes of secret memory; taken over, also on failure. The id of key must
 * be that of the secret: DATA_KEY_MISMATCH otherwise (compared in constant time).
 */
KMSENV_DEK *kmsenv_dek_new(KMSENV_CRYPTO *crypto, const KMSENV_DATA_KEY *key, unsigned char *secret, KMSENV_ERROR *err);
int kmsenv_dek_up_ref(KMSENV_DEK *dek);
void kmsenv_dek_free(KMSENV_DEK *dek);

/* HMAC-SHA256(secret, KMSENV_DEK_ID_LABEL) truncated: names and commits to the secret. */
int kmsenv_dek_id_of(KMSENV_CRYPTO *crypto, const unsigned char *secret, size_t length,
                     unsigned char id[KMSENV_DEK_ID_LEN], KMSENV_ERROR *err);

const unsigned char *kmsenv_dek_get0_id(const KMSENV_DEK *dek);
/* The data key itself, secret memory, for those who hand it to a cipher. Borrowed. */
const unsigned char *kmsenv_dek_get0_secret(const KMSENV_DEK *dek);
/* The same if key is a reference (kmsenv_reference_is) to this DEK, as long as it, and there is time left; otherwise NULL. */
const unsigned char *kmsenv_dek_get0_secret_named(const KMSENV_DEK *dek, const unsigned char *key, size_t keylen);
size_t kmsenv_dek_get_length(const KMSENV_DEK *dek);
/* DER DataKey; detached: with an empty list of wraps. Borrowed. */
const unsigned char *kmsenv_dek_get0_der(const KMSENV_DEK *dek, int detached, size_t *len);

/*
 * HMAC-SHA256 keyed with PRK = HKDF-Extract(salt = caller_key, IKM = secret) (RFC 5869),
 * computed once per DEK and caller's key and kept with the DEK. caller_key: 32 bytes, NULL = 32
 * zeros. *prk is valid as long as a reference of dek is held, or until kmsenv_hmac_free(*own):
 * *own is NULL unless the DEK remembers no more callers.
 */
int kmsenv_dek_get_prk(KMSENV_DEK *dek, const unsigned char *caller_key,
                       const KMSENV_HMAC **prk, KMSENV_HMAC **own, KMSENV_ERROR *err);

/*
 * A grant: for how long, for how many messages and plaintext bytes a DEK may be used before who
 * keeps it (dek/cache.h) must be asked again. Whoever holds a reference can use the grant up
 * without a lock. A new DEK has none.
 */
void kmsenv_dek_grant(KMSENV_DEK *dek, uint64_t until_ms, uint64_t messages, uint64_t bytes);
void kmsenv_dek_revoke(KMSENV_DEK *dek);
/* Is there time left? now_ms: monotonic. */
int kmsenv_dek_is_granted(const KMSENV_DEK *dek, uint64_t now_ms);
/* Takes one message off the grant; 0 if none is left. */
int kmsenv_dek_take_message(KMSENV_DEK *dek);
/* Takes bytes off the grant that were encrypted under a message taken before. */
void kmsenv_dek_take_bytes(KMSENV_DEK *dek, uint64_t n);
/* Are the messages or the bytes used up? */
int kmsenv_dek_is_spent(const KMSENV_DEK *dek);

#endif
