/*
 * Segments that are too large for memory: one after the other, piece by piece. Workers read and write pieces at the same
 * time; the sealing or opening itself goes from one to the next, in turns.
 */
#include "cli/transfer_local.h"

uint64_t kmsenv_crew_pieces(const KMSENV_CREW *c, uint64_t segments)
{
    uint64_t per = c->full / KMSENV_PIECE, last;

    if (segments < c->count)
        return segments * per;
    last = c->t->plaintext - (c->count - 1) * c->full;
    return (c->count - 1) * per + (last == 0 ? 1 : (last + KMSENV_PIECE - 1) / KMSENV_PIECE);
}

typedef struct piece_st {
    uint64_t offset;            /* in the segment */
    size_t n;
    size_t in_tail, out_tail;   /* of its segment's trailer */
    int begins, ends;           /* the segment */
} PIECE;

static PIECE locate(KMSENV_WORKER *w, uint64_t number)
{
    uint64_t per = w->crew->full / KMSENV_PIECE;
    PIECE p;

    kmsenv_worker_locate(w, number / per);
    p.offset = number % per * KMSENV_PIECE;
    p.n = w->length - p.offset < KMSENV_PIECE ? (size_t)(w->length - p.offset) : KMSENV_PIECE;
    p.begins = p.offset == 0;
    p.ends = p.offset + p.n == w->length;
    p.in_tail = p.ends && !w->crew->t->sealing ? KMSENV_TRAILER_LEN : 0;
    p.out_tail = p.ends && w->crew->t->sealing ? KMSENV_TRAILER_LEN : 0;
    return p;
}

static int begin_segment(const KMSENV_WORKER *w, KMSENV_ERROR *err)
{
    KMSENV_SEGMENT *segment = w->crew->common;
    uint64_t number;

    return w->crew->t->sealing ? kmsenv_segment_seal_next(segment, &number, err) : kmsenv_segment_open_begin(segment, w->number, err);
}

static int put(const KMSENV_WORKER *w, const PIECE *p, KMSENV_ERROR *err)
{
    KMSENV_CREW *c = w->crew;

    if (!c->emitting)
        return 1;
    atomic_fetch_add_explicit(&c->t->progress->done, p->n, memory_order_relaxed);
    return kmsenv_worker_put(w, p->offset, w->buffer, p->n + p->out_tail, err);
}

static int one_piece(KMSENV_WORKER *w, uint64_t number, KMSENV_ERROR *err)
{
    KMSENV_CREW *c = w->crew;
    PIECE p = locate(w, number);
    uint64_t all;
    int ordered = !c->t->out->positional;

    if (!kmsenv_source_read_at(c->t->in, kmsenv_worker_place(w, &all) + p.offset, w->buffer, p.n + p.in_tail, err)
            || !kmsenv_crew_begin_turn(c, number))
        return 0;
    if ((p.begins && !begin_segment(w, err)) || !kmsenv_segment_crypt(c->common, w->buffer, w->buffer, p.n, err)
            || (p.ends && !kmsenv_worker_end_segment(w, c->common, w->buffer + p.n, w->buffer + p.n, err))
            || (ordered && !put(w, &p, err)))
        return 0;
    kmsenv_crew_end_turn(c);
    return ordered || put(w, &p, err);
}

int kmsenv_worker_do_pieces(KMSENV_WORKER *w, KMSENV_ERROR *err)
{
    KMSENV_CREW *c = w->crew;
    uint64_t end = kmsenv_crew_pieces(c, c->end), number;

    while (!c->failed && (number = atomic_fetch_add(&c->next, 1)) < end)
        if (!one_piece(w, number, err))
            return 0;
    return 1;
}
