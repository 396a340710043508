#include <stdatomic.h>
#include <openssl/crypto.h>
#include "envelope/message_local.h"
#include "envelope/segments.h"

struct kmsenv_segments_st {
    KMSENV_MESSAGE *message;        /* the CEK is in its secrets */
    _Atomic uint64_t next;          /* the first number that nobody seals */
    _Atomic uint64_t bytes;         /* data bytes of segments that are complete */
    _Atomic int ended;              /* the last segment is complete */
};

typedef enum segment_state_en { NONE, BEGUN, ENDING, BROKEN } SEGMENT_STATE;

struct kmsenv_segment_st {
    KMSENV_SEGMENTS *all;
    EVP_CIPHER_CTX *gcm;
    SEGMENT_STATE state;
    uint64_t number;
    uint64_t bytes;                 /* of its data so far */
};

/* --- life ----------------------------------------------------------------- */

static int wrong_state(KMSENV_ERROR *err)
{
    return kmsenv_error_set(err, KMSENV_R_WRONG_STATE, "segments are begun, filled and ended in this order, in a message that was just initialised");
}

KMSENV_SEGMENTS *kmsenv_segments_new(KMSENV_MESSAGE *m, const unsigned char *header, size_t len, KMSENV_ERROR *err)
{
    KMSENV_SEGMENTS *all = m->state == KMSENV_UNSTARTED ? OPENSSL_zalloc(sizeof(*all)) : NULL;
    int ok;

    if (m->state != KMSENV_UNSTARTED) {
        wrong_state(err);
        return NULL;
    }
    m->state = KMSENV_BROKEN;
    if (all == NULL || (!m->sealing && !kmsenv_buffer_add(&m->header_der, header, len))) {
        OPENSSL_free(all);
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for the segments of a message");
        return NULL;
    }
    all->message = m;
    ok = m->sealing ? kmsenv_seal_header(m, err) : kmsenv_open_header(m, err);
    if (!ok) {
        kmsenv_segments_free(all);
        return NULL;
    }
    m->state = KMSENV_DONE;     /* the stream's way in is shut: it would use the same nonces */
    return all;
}

void kmsenv_segments_free(KMSENV_SEGMENTS *all)
{
    KMSENV_MESSAGE *m;

    if (all == NULL)
        return;
    m = all->message;
    OPENSSL_cleanse(m->secrets->cek, sizeof(m->secrets->cek));
    m->bytes = all->bytes;
    if (m->state == KMSENV_DONE && m->sealing)
        m->unreported += m->bytes;
    if (all->ended)
        kmsenv_count(m->counters, m->sealing ? KMSENV_COUNTER_MESSAGES_SEALED : KMSENV_COUNTER_MESSAGES_OPENED, 1);
    kmsenv_count(m->counters, m->sealing ? KMSENV_COUNTER_BYTES_SEALED : KMSENV_COUNTER_BYTES_OPENED, m->bytes);
    OPENSSL_free(all);
}

unsigned kmsenv_segments_bits(const KMSENV_SEGMENTS *all)
{
    return all->message->header.segment_bits;
}

KMSENV_SEGMENT *kmsenv_segment_new(KMSENV_SEGMENTS *all, KMSENV_ERROR *err)
{
    KMSENV_SEGMENT *segment = OPENSSL_zalloc(sizeof(*segment));

    if (segment != NULL) {
        segment->all = all;
        segment->gcm = EVP_CIPHER_CTX_new();
    }
    if (segment == NULL || segment->gcm == NULL) {
        kmsenv_segment_free(segment);
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a segment");
        return NULL;
    }
    return segment;
}

void kmsenv_segment_free(KMSENV_SEGMENT *segment)
{
    if (segment == NULL)
        return;
    EVP_CIPHER_CTX_free(segment->gcm);
    OPENSSL_free(segment);
}

/* --- both ways ------------------------------------------------------------ */

static uint64_t full(const KMSENV_SEGMENT *s)
{
    return (uint64_t)1 << s->all->message->header.segment_bits;
}

static int begin(KMSENV_SEGMENT *s, uint64_t number, KMSENV_ERROR *err)
{
    KMSENV_MESSAGE *m = s->all->message;
    const EVP_CIPHER *cipher = NULL;
    const unsigned char *key = NULL;

    /* This thread's context gets the key once. */
    if (EVP_CIPHER_CTX_get0_cipher(s->gcm) == NULL) {
        cipher = kmsenv_crypto_get0_gcm(m->crypto, m->header.keylen);
        key = m->secrets->cek;
    }
    s->state = BROKEN;
    s->number = number;
    s->bytes = 0;
    if (!kmsenv_gcm_start(s->gcm, cipher, key, number, m->sealing, err)
            || (number == 0 && !kmsenv_message_authenticate(m, s->gcm, err)))
        return 0;
    s->state = BEGUN;
    return 1;
}

int kmsenv_segment_crypt(KMSENV_SEGMENT *segment, unsigned char *out, const unsigned char *in, size_t n, KMSENV_ERROR *err)
{
    if (segment->state != BEGUN || n > full(segment) - segment->bytes)
        return wrong_state(err);
    segment->bytes += n;
    return kmsenv_gcm_crypt(segment->gcm, out, in, n, err);
}

/* Ends it, if as much is in it as must be. */
static int end(KMSENV_SEGMENT *s, int last, SEGMENT_STATE expected)
{
    int fits = last ? s->bytes > 0 || s->number == 0 : s->bytes == full(s);

    if (s->state != expected || !fits)
        return 0;
    s->state = NONE;
    atomic_fetch_add(&s->all->bytes, s->bytes);
    return 1;
}

/* --- sealing -------------------------------------------------------------- */

int kmsenv_segment_seal_next(KMSENV_SEGMENT *segment, uint64_t *number, KMSENV_ERROR *err)
{
    if (!segment->all->message->sealing)
        return wrong_state(err);
    *number = atomic_fetch_add(&segment->all->next, 1);
    return begin(segment, *number, err);
}

int kmsenv_segment_seal_end(KMSENV_SEGMENT *segment, int last, unsigned char trailer[KMSENV_TRAILER_LEN], KMSENV_ERROR *err)
{
    if (!segment->all->message->sealing || !end(segment, last, BEGUN) || (last && atomic_exchange(&segment->all->ended, 1)))
        return wrong_state(err);
    return kmsenv_gcm_seal_end(segment->gcm, last ? KMSENV_FLAG_LAST : KMSENV_FLAG_MORE, trailer, err);
}

/* --- opening -------------------------------------------------------------- */

int kmsenv_segment_open_begin(KMSENV_SEGMENT *segment, uint64_t number, KMSENV_ERROR *err)
{
    return segment->all->message->sealing ? wrong_state(err) : begin(segment, number, err);
}

int kmsenv_segment_open_end(KMSENV_SEGMENT *segment, int last, const unsigned char trailer[KMSENV_TRAILER_LEN], KMSENV_ERROR *err)
{
    unsigned char flag;

    if (segment->all->message->sealing || segment->state != BEGUN)
        return wrong_state(err);
    segment->state = ENDING;
    if (!kmsenv_gcm_open_end(segment->gcm, trailer, segment->number, &flag, err))
        return 0;
    if (flag == KMSENV_FLAG_LAST && !last)
        return kmsenv_error_set(err, KMSENV_R_MESSAGE_DAMAGED, "the message goes on after its last segment, number %llu",
                                (unsigned long long)segment->number);
    if (flag != KMSENV_FLAG_LAST && last)
        return kmsenv_error_set(err, KMSENV_R_MESSAGE_TRUNCATED, "the message ends with segment %llu, which is not its last: it was cut",
                                (unsigned long long)segment->number);
    if (!end(segment, last, ENDING))
        return kmsenv_gcm_damaged(segment->number, err);
    if (last)
        atomic_store(&segment->all->ended, 1);
    return 1;
}

/* --- sizes ---------------------------------------------------------------- */

void kmsenv_body_measure(unsigned segment_bits, uint64_t bytes, KMSENV_BODY *out)
{
    uint64_t segment = ((uint64_t)1 << segment_bits) + KMSENV_TRAILER_LEN;
    uint64_t last = bytes % segment == 0 ? segment : bytes % segment;

    out->segments = out->plaintext = 0;
    out->fault = NULL;
    if (bytes < KMSENV_TRAILER_LEN) {
        out->fault = "too short for a segment: the message is truncated";
        return;
    }
    out->segments = (bytes + segment - 1) / segment;
    out->plaintext = bytes - out->segments * KMSENV_TRAILER_LEN;
    if (last < KMSENV_TRAILER_LEN || (last == KMSENV_TRAILER_LEN && out->segments > 1))
        out->fault = "its size is not that of whole segments: the message is truncated or damaged";
    else if (out->segments > KMSENV_SEGMENTS_MAX)
        out->fault = "it has more than 2^32 segments: no message does";
}
