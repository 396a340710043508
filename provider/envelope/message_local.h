/* What the files of this room share about KMSENV_MESSAGE; not for other rooms. */
#ifndef KMSENV_ENVELOPE_MESSAGE_LOCAL_H
# define KMSENV_ENVELOPE_MESSAGE_LOCAL_H
# include "core/buffer.h"
# include "envelope/gcm.h"
# include "envelope/header.h"
# include "envelope/message.h"
# include "envelope/queue.h"
# include "envelope/schedule.h"

# define KMSENV_CHUNK      16384         /* bytes that pass through a buffer at a time; whole AES blocks */
# define KMSENV_HELD_MAX   32            /* a trailer and less than a block */
# define KMSENV_LINE       64            /* of the CPU's cache */

typedef enum kmsenv_message_state_en {
    KMSENV_UNSTARTED,    /* no data yet; nothing asked of the KMS */
    KMSENV_IN_HEADER,    /* opening: the header is being collected */
    KMSENV_IN_BODY,
    KMSENV_DONE,
    KMSENV_BROKEN        /* an operation failed: only a new init helps */
} KMSENV_MESSAGE_STATE;

/* In secret memory. */
typedef struct kmsenv_message_secrets_st {
    unsigned char caller_key[KMSENV_CALLER_KEY_LEN];
    unsigned char cek[KMSENV_SCHEDULE_WORK];   /* where it is derived: the CEK comes first */
} KMSENV_MESSAGE_SECRETS;

struct kmsenv_message_st {
    KMSENV_DEKS *deks;
    KMSENV_CRYPTO *crypto;
    KMSENV_COUNTERS *counters;
    KMSENV_DEK_REQUEST *request;
    size_t keylen, block_size;
    unsigned segment_bits;         /* of messages to seal */
    KMSENV_MESSAGE_STATE state;
    int sealing;
    int key_is_reference;          /* caller_key names the DEK and is not mixed in */
    KMSENV_MESSAGE_SECRETS *secrets;
    KMSENV_BUFFER aad;

    KMSENV_DEK *dek;               /* kept from message to message */
    int dek_is_for_sealing;        /* it was got by sealing, with this request */
    uint64_t unreported;           /* bytes sealed under it that are not taken off its grant yet */
    EVP_MD_CTX *scratch;
    EVP_CIPHER_CTX *gcm;
    size_t gcm_keylen;             /* the AES size gcm is set up for, 0 = none yet */

    KMSENV_BUFFER header_der;
    KMSENV_HEADER header;          /* pointers into header_der */
    uint64_t left;                 /* data bytes that still fit in the segment */
    uint64_t index;                /* of the segment */
    uint64_t bytes;                /* data bytes of the message */

    /* sealing */
    KMSENV_QUEUE queue;
    uint64_t updates;

    /* opening */
    unsigned char *memory;         /* of the buffer: KMSENV_LINE * 2 + KMSENV_CHUNK bytes */
    unsigned char *joint;          /* in it, on a cache line: held bytes end here, new ones begin */
    size_t held_len;               /* the last bytes so far, at most KMSENV_HELD_MAX between updates */
    size_t header_total;           /* bytes of the header, 0 = not known yet */
    int last_seen;                 /* the segment flagged LAST was verified */
};

/* message.c: replaces m->dek, unless it is the same, by a reference taken over. */
void kmsenv_message_set_dek(KMSENV_MESSAGE *m, KMSENV_DEK *dek);
/* Derives the CEK of header, checks or sets the commitment, keys gcm, starts segment 0. */
int kmsenv_message_derive(KMSENV_MESSAGE *m, unsigned char commitment[KMSENV_COMMITMENT_LEN], KMSENV_ERROR *err);
int kmsenv_message_start_body(KMSENV_MESSAGE *m, KMSENV_ERROR *err);
/* Starts segment m->index with the nonce that is its number. */
int kmsenv_message_start_segment(KMSENV_MESSAGE *m, int first, KMSENV_ERROR *err);
/* The AAD of segment 0. */
int kmsenv_message_authenticate(const KMSENV_MESSAGE *m, EVP_CIPHER_CTX *gcm, KMSENV_ERROR *err);

/* Both leave the CEK in m->secrets. seal.c: gets the data key, makes m->header_der. open.c: parses and checks m->header_der. */
int kmsenv_seal_header(KMSENV_MESSAGE *m, KMSENV_ERROR *err);
int kmsenv_open_header(KMSENV_MESSAGE *m, KMSENV_ERROR *err);
int kmsenv_seal_update(KMSENV_MESSAGE *m, unsigned char *out, size_t *outl, size_t outsize,
                       const unsigned char *in, size_t inl, KMSENV_ERROR *err);
int kmsenv_seal_final(KMSENV_MESSAGE *m, unsigned char *out, size_t *outl, size_t outsize, KMSENV_ERROR *err);
int kmsenv_open_update(KMSENV_MESSAGE *m, unsigned char *out, size_t *outl, size_t outsize,
                       const unsigned char *in, size_t inl, KMSENV_ERROR *err);
int kmsenv_open_final(KMSENV_MESSAGE *m, unsigned char *out, size_t *outl, size_t outsize, KMSENV_ERROR *err);

#endif
