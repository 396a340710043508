/*
 * The data keys of one provider context: where the message gets a DEK to encrypt under, and
 * the DEK of a message to decrypt. Policy, cache and KMS profiles are in here.
 */
#ifndef KMSENV_DEK_DEKS_H
# define KMSENV_DEK_DEKS_H
# include <stdint.h>
# include <string.h>
# include "core/counters.h"
# include "core/crypto.h"
# include "core/settings.h"
# include "dek/dek.h"

typedef struct kmsenv_deks_st KMSENV_DEKS;

/* The settings that this room reads, for the provider's table: dek-max-age and so on. */
extern const KMSENV_SETTING kmsenv_deks_settings[];

/*
 * section: the provider's own, borrowed for the life of the object. profile[0..count) are
 * taken over, also on failure. services are borrowed.
 */
KMSENV_DEKS *kmsenv_deks_new(const KMSENV_SECTION *section, KMSENV_KMS **profile, size_t count,
                             const KMSENV_SERVICES *services, KMSENV_ERROR *err);
void kmsenv_deks_free(KMSENV_DEKS *deks);

/* What a message asks for. */
typedef struct kmsenv_dek_request_st KMSENV_DEK_REQUEST;
KMSENV_DEK_REQUEST *kmsenv_dek_request_new(KMSENV_DEKS *deks);
void kmsenv_dek_request_free(KMSENV_DEK_REQUEST *request);
KMSENV_DEK_REQUEST *kmsenv_dek_request_dup(const KMSENV_DEK_REQUEST *request);
/* Profiles by name, comma separated; the first generates, the others wrap. */
int kmsenv_dek_request_set_profiles(KMSENV_DEK_REQUEST *request, const char *names, KMSENV_ERROR *err);
/* Encryption: bound to every wrap instead of the profiles' own. Decryption: each pair must be in the wrap. */
int kmsenv_dek_request_set_context(KMSENV_DEK_REQUEST *request, const char *text, KMSENV_ERROR *err);
/* "inline" or "detached": is the DataKey of a new message written with its wraps, or into the keyring? */
int kmsenv_dek_request_set_wraps(KMSENV_DEK_REQUEST *request, const char *text, KMSENV_ERROR *err);
int kmsenv_dek_request_is_detached(const KMSENV_DEK_REQUEST *request);
/* What is opened is a sealed private key: its data key is remembered for `sealed-key-cache`, not for `dek-max-age`. */
void kmsenv_dek_request_set_sealed_key(KMSENV_DEK_REQUEST *request);
/* A given DEK instead of a new one: DER DataKey or a key reference (kmsenv_reference_parse). Empty bytes: none. */
int kmsenv_dek_request_set_data_key(KMSENV_DEK_REQUEST *request, const unsigned char *bytes, size_t len, KMSENV_ERROR *err);
int kmsenv_dek_request_has_data_key(const KMSENV_DEK_REQUEST *request);
/* Is it this DER DataKey? */
int kmsenv_dek_request_is_data_key(const KMSENV_DEK_REQUEST *request, const unsigned char *der, size_t len);

/*
 * Both may call the KMS, and return a new reference, or `have` itself without one: the DEK that
 * the caller got before and still holds (NULL = none). It is the usual answer, and then costs
 * the threads that share a DEK no traffic about its reference count.
 */
/* The DEK for a new message, at least `least` bytes long. have: only one got here for this request. used: plaintext bytes encrypted under it since. */
KMSENV_DEK *kmsenv_deks_get_to_encrypt(KMSENV_DEKS *deks, KMSENV_DEK_REQUEST *request, size_t least,
                                       KMSENV_DEK *have, uint64_t used, KMSENV_ERROR *err);
/*
 * A new DEK of len bytes, made and wrapped as the request says, whatever is in the cache; a new reference. keep: it is written
 * into the keyring.
 */
KMSENV_DEK *kmsenv_deks_make(const KMSENV_DEK_REQUEST *request, size_t len, int keep, KMSENV_ERROR *err);
/* The DER (OPENSSL_free) of a data key in the keyring, with its wraps, by its id. */
int kmsenv_deks_find(KMSENV_DEKS *deks, const unsigned char id[KMSENV_DEK_ID_LEN], unsigned char **der, size_t *len, KMSENV_ERROR *err);
/* The setting `keyring`, NULL = none. Borrowed. */
const char *kmsenv_deks_get0_keyring(const KMSENV_DEKS *deks);
/*
 * The name of the first profile that answers for a wrap of that kind and key id; no KMS is asked. NULL if there is none:
 * err is filled if a profile could not tell. Borrowed.
 */
const char *kmsenv_deks_profile_for(KMSENV_DEKS *deks, const char *kms, const char *key_id, KMSENV_ERROR *err);
/* The DEK of a DER DataKey that came with a message. */
KMSENV_DEK *kmsenv_deks_get_to_decrypt(KMSENV_DEKS *deks, const KMSENV_DEK_REQUEST *request,
                                       const unsigned char *der, size_t len, KMSENV_DEK *have, KMSENV_ERROR *err);

/*
 * The DEK that a key reference names, from the keyring and the KMS. key: keylen bytes that are a reference; the DEK has
 * exactly keylen bytes. have, and what is returned: as above.
 */
KMSENV_DEK *kmsenv_deks_get_by_reference(KMSENV_DEKS *deks, const unsigned char *key, size_t keylen, KMSENV_DEK *have,
                                         KMSENV_ERROR *err);

/* The same by the id of a data key of `length` bytes. */
KMSENV_DEK *kmsenv_deks_get_by_id(KMSENV_DEKS *deks, const unsigned char id[KMSENV_DEK_ID_LEN], size_t length, KMSENV_DEK *have,
                                  KMSENV_ERROR *err);
/* DER of the data key that a reference of len bytes names, with its wraps, into *der (OPENSSL_free) and *der_len. No KMS is asked. */
int kmsenv_references_find(KMSENV_DEKS *deks, const unsigned char *reference, size_t len,
                           unsigned char **der, size_t *der_len, KMSENV_ERROR *err);

/* Is the key a reference to this DEK, and may the DEK be used without asking? No lock, and cheap: for who re-keys often. */
int kmsenv_dek_is_named(const KMSENV_DEK *dek, const unsigned char *key, size_t keylen);
/* The same for a DER DataKey, with its wraps or detached. */
int kmsenv_dek_is_of(const KMSENV_DEK *dek, const unsigned char *der, size_t len);

/*
 * A key reference: "kmsenv:" 0x01 || id (32 bytes), cut to the length of the key it stands for, or
 * zero-padded where that is longer. A key that begins so is never used as a key.
 */
# define KMSENV_REFERENCE_LEN      32
# define KMSENV_REFERENCE_MARK_LEN 8
# define KMSENV_REFERENCE_MARK     { 'k', 'm', 's', 'e', 'n', 'v', ':', 0x01 }
/*
 * Does the key begin like a reference? For keys of KMSENV_REFERENCE_MARK_LEN + 8 bytes and more; shorter ones never do.
 * All eight bytes are compared at once, whatever they are: they may be those of a key.
 */
static inline int kmsenv_reference_is(const unsigned char *key, size_t len)
{
    static const unsigned char expected[KMSENV_REFERENCE_MARK_LEN] = KMSENV_REFERENCE_MARK;
    uint64_t begin, mark;

    if (len < KMSENV_REFERENCE_MARK_LEN + 8)
        return 0;
    memcpy(&begin, key, sizeof(begin));
    memcpy(&mark, expected, sizeof(mark));
    return begin == mark;
}
/* Returns 1 if the key is a whole reference; *id, *idlen: what it has of the id (borrowed, 8..24 bytes). */
int kmsenv_reference_parse(const unsigned char *key, size_t len, const unsigned char **id, size_t *idlen);
/* The reference of an id, KMSENV_REFERENCE_LEN bytes. */
void kmsenv_reference_make(const unsigned char id[KMSENV_DEK_ID_LEN], unsigned char out[KMSENV_REFERENCE_LEN]);
/*
 * What people write for it: its hexadecimal digits, as many as the key it stands for has, or the 48 of the id. Returns the bytes of the
 * reference in out and their number in *len; 0 if it is neither.
 */
int kmsenv_reference_from_hex(const char *hex, unsigned char out[KMSENV_DEK_LEN_MAX], size_t *len);

#endif
