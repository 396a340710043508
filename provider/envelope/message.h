/*
 * One message being sealed or opened: the state machines behind the `kms-envelope` cipher.
 * Memory is bounded whatever the size of the message. Plaintext comes out of an opening
 * message before the last tag was checked, as with every streaming AEAD.
 */
#ifndef KMSENV_ENVELOPE_MESSAGE_H
# define KMSENV_ENVELOPE_MESSAGE_H
# include <stddef.h>
# include "core/counters.h"
# include "core/crypto.h"
# include "core/error.h"
# include "dek/deks.h"

# define KMSENV_UPDATE_GROWTH 31    /* an update emits at most this much more than it takes in */

typedef struct kmsenv_message_st KMSENV_MESSAGE;

/* keylen: bytes of the AES key of messages sealed; block_size: what the cipher promises its callers. All borrowed. */
KMSENV_MESSAGE *kmsenv_message_new(KMSENV_DEKS *deks, KMSENV_CRYPTO *crypto, KMSENV_COUNTERS *counters,
                                   size_t keylen, size_t block_size, unsigned segment_bits);
void kmsenv_message_free(KMSENV_MESSAGE *m);
/* A deep copy. Refused (WRONG_STATE) once output has started. */
KMSENV_MESSAGE *kmsenv_message_dup(const KMSENV_MESSAGE *m, KMSENV_ERROR *err);

/*
 * Starts a new message, whatever the state of the one before. caller_key: KMSENV_CALLER_KEY_LEN
 * bytes to mix in (zeros = none; a key reference names the DEK to use), NULL = as before.
 */
int kmsenv_message_init(KMSENV_MESSAGE *m, int sealing, const unsigned char *caller_key, KMSENV_ERROR *err);
/* The same under a given data key: its DER DataKey, which is not looked up, and its reference in KMSENV_CALLER_KEY_LEN bytes. */
int kmsenv_message_init_data_key(KMSENV_MESSAGE *m, int sealing, const unsigned char *reference, const unsigned char *der, size_t len,
                                 KMSENV_ERROR *err);
/* The rest works after init and before data only. */
KMSENV_DEK_REQUEST *kmsenv_message_get0_request(KMSENV_MESSAGE *m);
int kmsenv_message_set_segment_bits(KMSENV_MESSAGE *m, uint64_t bits, KMSENV_ERROR *err);
int kmsenv_message_is_unstarted(const KMSENV_MESSAGE *m);
/* The KMS was asked and data are flowing: nothing below can leave entries in OpenSSL's error queue any more. */
int kmsenv_message_is_in_body(const KMSENV_MESSAGE *m);
/* Caller's additional authenticated data, any number of pieces. */
int kmsenv_message_aad(KMSENV_MESSAGE *m, const unsigned char *aad, size_t len, KMSENV_ERROR *err);

/* As EVP_CipherUpdate and EVP_CipherFinal_ex; out has room for outsize bytes. in may equal out, or begin after it. */
int kmsenv_message_update(KMSENV_MESSAGE *m, unsigned char *out, size_t *outl, size_t outsize,
                          const unsigned char *in, size_t inl, KMSENV_ERROR *err);
int kmsenv_message_final(KMSENV_MESSAGE *m, unsigned char *out, size_t *outl, size_t outsize, KMSENV_ERROR *err);

/* DER MessageHeader, NULL while it is not known. Borrowed until the next init. */
const unsigned char *kmsenv_message_get0_header(const KMSENV_MESSAGE *m, size_t *len);
/* KMSENV_DEK_ID_LEN bytes, NULL while not known. */
const unsigned char *kmsenv_message_get0_data_key_id(const KMSENV_MESSAGE *m);

#endif
