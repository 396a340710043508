/*
 * Output that the caller has no room for yet: first in, first out, in bounded memory. Data
 * pushed are copied; so that in and out of an update may be the same buffer, the caller pulls
 * at offset n of its output only after n bytes of input were taken.
 */
#ifndef KMSENV_ENVELOPE_QUEUE_H
# define KMSENV_ENVELOPE_QUEUE_H
# include <stddef.h>

typedef struct kmsenv_queue_st {
    unsigned char *data;
    size_t room;         /* bytes allocated */
    size_t start;        /* of what is pending */
    size_t length;       /* bytes pending */
} KMSENV_QUEUE;

void kmsenv_queue_init(KMSENV_QUEUE *q);
void kmsenv_queue_free(KMSENV_QUEUE *q);
/* Forgets what is pending, keeps the memory. */
void kmsenv_queue_clear(KMSENV_QUEUE *q);
int kmsenv_queue_copy(KMSENV_QUEUE *to, const KMSENV_QUEUE *from);
/* n writable bytes at the end, counted as pending; NULL if there is no memory. Valid until the next call. */
unsigned char *kmsenv_queue_extend(KMSENV_QUEUE *q, size_t n);
/* Moves up to n bytes to out; returns how many. */
size_t kmsenv_queue_pull(KMSENV_QUEUE *q, unsigned char *out, size_t n);

#endif
