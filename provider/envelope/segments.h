/*
 * A message segment by segment: for who has all of it at hand, wants only a part, or has several
 * threads. Each thread works on segments of its own through a KMSENV_SEGMENT; no lock is involved.
 *
 * A number is used as a nonce once: numbers to seal are given out here, each to one caller. What a
 * segment holds is checked: all but the last are full, the last has data unless the message is empty.
 */
#ifndef KMSENV_ENVELOPE_SEGMENTS_H
# define KMSENV_ENVELOPE_SEGMENTS_H
# include <stdint.h>
# include "envelope/message.h"

typedef struct kmsenv_segments_st KMSENV_SEGMENTS;   /* of one message */
typedef struct kmsenv_segment_st KMSENV_SEGMENT;     /* one thread's hand on them */

/*
 * m: a message after kmsenv_message_init() and what else is to be set, borrowed; it is complete afterwards, as
 * after final. Sealing: makes the header. Opening: header[0..len) is that of the message. Either may ask the KMS.
 */
KMSENV_SEGMENTS *kmsenv_segments_new(KMSENV_MESSAGE *m, const unsigned char *header, size_t len, KMSENV_ERROR *err);
/* After all its KMSENV_SEGMENTs. The key is cleansed. */
void kmsenv_segments_free(KMSENV_SEGMENTS *all);
/* log2 of the data bytes of a full one. */
unsigned kmsenv_segments_bits(const KMSENV_SEGMENTS *all);

KMSENV_SEGMENT *kmsenv_segment_new(KMSENV_SEGMENTS *all, KMSENV_ERROR *err);
void kmsenv_segment_free(KMSENV_SEGMENT *segment);

/* Sealing: begins the next segment that nobody has begun yet; its number into *number. */
int kmsenv_segment_seal_next(KMSENV_SEGMENT *segment, uint64_t *number, KMSENV_ERROR *err);
/* Opening: begins that segment. */
int kmsenv_segment_open_begin(KMSENV_SEGMENT *segment, uint64_t number, KMSENV_ERROR *err);
/* n bytes of its data; in may be out. What an opened segment gave is worth nothing before its end is verified. */
int kmsenv_segment_crypt(KMSENV_SEGMENT *segment, unsigned char *out, const unsigned char *in, size_t n, KMSENV_ERROR *err);
int kmsenv_segment_seal_end(KMSENV_SEGMENT *segment, int last, unsigned char trailer[KMSENV_TRAILER_LEN], KMSENV_ERROR *err);
/* last: does the message end here, by what is there of it? That must be what was sealed. */
int kmsenv_segment_open_end(KMSENV_SEGMENT *segment, int last, const unsigned char trailer[KMSENV_TRAILER_LEN], KMSENV_ERROR *err);

/* What so many bytes after the header can be. */
typedef struct kmsenv_body_st {
    uint64_t segments;
    uint64_t plaintext;     /* bytes */
    const char *fault;      /* why it cannot be a whole message; NULL = it can */
} KMSENV_BODY;
void kmsenv_body_measure(unsigned segment_bits, uint64_t bytes, KMSENV_BODY *out);

#endif
