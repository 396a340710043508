#include <string.h>
#include <openssl/crypto.h>
#include "envelope/queue.h"

#define FIRST_ROOM 1024

void kmsenv_queue_init(KMSENV_QUEUE *q)
{
    memset(q, 0, sizeof(*q));
}

void kmsenv_queue_free(KMSENV_QUEUE *q)
{
    OPENSSL_free(q->data);
    kmsenv_queue_init(q);
}

void kmsenv_queue_clear(KMSENV_QUEUE *q)
{
    q->start = q->length = 0;
}

int kmsenv_queue_copy(KMSENV_QUEUE *to, const KMSENV_QUEUE *from)
{
    unsigned char *p;

    kmsenv_queue_clear(to);
    if (from->length == 0)
        return 1;
    if ((p = kmsenv_queue_extend(to, from->length)) == NULL)
        return 0;
    memcpy(p, from->data + from->start, from->length);
    return 1;
}

unsigned char *kmsenv_queue_extend(KMSENV_QUEUE *q, size_t n)
{
    size_t room = q->room == 0 ? FIRST_ROOM : q->room;
    unsigned char *data;

    if (q->start + q->length + n > q->room && q->start > 0) {
        memmove(q->data, q->data + q->start, q->length);
        q->start = 0;
    }
    if (q->length + n > q->room) {
        while (room < q->length + n)
            room *= 2;
        if ((data = OPENSSL_realloc(q->data, room)) == NULL)
            return NULL;
        q->data = data;
        q->room = room;
    }
    q->length += n;
    return q->data + q->start + q->length - n;
}

size_t kmsenv_queue_pull(KMSENV_QUEUE *q, unsigned char *out, size_t n)
{
    if (n > q->length)
        n = q->length;
    if (n > 0)
        memcpy(out, q->data + q->start, n);
    q->start += n;
    q->length -= n;
    if (q->length == 0)
        q->start = 0;
    return n;
}
