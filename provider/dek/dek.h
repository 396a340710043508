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

/* Plaintext bytes encrypted under keys derived from this DEK, for dek-max-bytes: those not reported to the cache. */
void kmsenv_dek_add_bytes(KMSENV_DEK *dek, uint64_t n);
uint64_t kmsenv_dek_get_bytes(const KMSENV_DEK *dek);

#endif
