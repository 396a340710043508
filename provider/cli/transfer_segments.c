/* Each worker takes a segment, reads it, has it sealed or opened in place, and writes it, in its turn if there are turns. */
#include "cli/transfer_local.h"

int kmsenv_worker_put(const KMSENV_WORKER *w, uint64_t offset, const unsigned char *p, size_t n, KMSENV_ERROR *err)
{
    const KMSENV_TRANSFER *t = w->crew->t;
    uint64_t at;

    if (t->sealing) {
        at = t->out_start + w->number * (w->crew->full + KMSENV_TRAILER_LEN) + offset;
    } else {
        at = w->number * w->crew->full + offset;
        if (at + n > t->to)
            n = at < t->to ? (size_t)(t->to - at) : 0;
        if (at < t->from) {
            offset = t->from - at < n ? t->from - at : n;
            p += offset;
            n -= (size_t)offset;
            at += offset;
        }
        at -= t->from;
    }
    return t->out->positional ? kmsenv_output_write_at(t->out, at, p, n, err) : kmsenv_output_write(t->out, p, n, err);
}

static int put_whole(const KMSENV_WORKER *w, KMSENV_ERROR *err)
{
    KMSENV_CREW *c = w->crew;
    size_t n = (size_t)w->length + (c->t->sealing ? KMSENV_TRAILER_LEN : 0);
    int ok;

    if (c->t->out->positional)
        return kmsenv_worker_put(w, 0, w->buffer, n, err);
    if (!kmsenv_crew_begin_turn(c, w->number))
        return 0;
    ok = kmsenv_worker_put(w, 0, w->buffer, n, err);
    if (ok)
        kmsenv_crew_end_turn(c);
    return ok;
}

int kmsenv_worker_end_segment(const KMSENV_WORKER *w, KMSENV_SEGMENT *segment, unsigned char *out, const unsigned char *in, KMSENV_ERROR *err)
{
    return w->crew->t->sealing ? kmsenv_segment_seal_end(segment, w->last, out, err)
                               : kmsenv_segment_open_end(segment, w->last, in, err);
}

void kmsenv_worker_locate(KMSENV_WORKER *w, uint64_t number)
{
    const KMSENV_CREW *c = w->crew;

    w->number = number;
    w->last = number + 1 == c->count;
    w->length = w->last ? c->t->plaintext - number * c->full : c->full;
}

uint64_t kmsenv_worker_place(const KMSENV_WORKER *w, uint64_t *n)
{
    size_t tail = w->crew->t->sealing ? 0 : KMSENV_TRAILER_LEN;

    *n = w->length + tail;
    return w->number * (w->crew->full + tail);
}

/* All of a segment that was begun, from its bytes in view or else as they are read. */
static int pass(const KMSENV_WORKER *w, const unsigned char *view, KMSENV_ERROR *err)
{
    const KMSENV_CREW *c = w->crew;
    const KMSENV_TRANSFER *t = c->t;
    uint64_t all, at = kmsenv_worker_place(w, &all), done;
    size_t n, in_tail, out_tail;
    const unsigned char *in;
    unsigned char *p;
    int ends;

    for (done = 0, ends = 0; !ends; done += n) {
        n = w->length - done < KMSENV_PIECE ? (size_t)(w->length - done) : KMSENV_PIECE;
        ends = done + n == w->length;
        in_tail = ends && !t->sealing ? KMSENV_TRAILER_LEN : 0;
        out_tail = ends && t->sealing ? KMSENV_TRAILER_LEN : 0;
        p = w->buffer + (c->whole ? done : 0);
        in = view != NULL ? view + done : p;
        if ((in == p && t->in->positional && !kmsenv_source_read_at(t->in, at + done, p, n + in_tail, err))
                || !kmsenv_segment_crypt(w->segment, p, in, n, err)
                || (ends && !kmsenv_worker_end_segment(w, w->segment, p + n, in + n, err))
                || (!c->whole && !kmsenv_worker_put(w, done, p, n + out_tail, err)))
            return 0;
        atomic_fetch_add_explicit(&t->progress->done, n, memory_order_relaxed);
    }
    return 1;
}

/*
 * From the bytes in view, if there is one. What changed under it is sealed as it came, like what changes between two
 * reads; but to be opened the segment must be read again. *ok: it was done, well or not.
 */
static int pass_view(const KMSENV_WORKER *w, int *ok, KMSENV_ERROR *err)
{
    KMSENV_SOURCE *in = w->crew->t->in;
    uint64_t n, at = kmsenv_worker_place(w, &n);
    const unsigned char *view = w->crew->views ? kmsenv_source_view(in, at) : NULL;

    if (view == NULL)
        return 0;
    *ok = pass(w, view, err);
    if (kmsenv_source_end_view(in, at, (size_t)n) || w->crew->t->sealing)
        return 1;
    kmsenv_error_clear(err);
    *ok = kmsenv_segment_open_begin(w->segment, w->number, err);
    return !*ok;
}

static int one_segment(const KMSENV_WORKER *w, KMSENV_ERROR *err)
{
    int ok = 1;

    if (!pass_view(w, &ok, err))
        ok = pass(w, NULL, err);
    return ok && (!w->crew->whole || put_whole(w, err));
}

/* Takes one of the segments in any order, and begins it. 0 without err: there is none left. */
static int take_any(KMSENV_WORKER *w, KMSENV_ERROR *err)
{
    KMSENV_CREW *c = w->crew;
    uint64_t number;

    if (c->failed || (number = atomic_fetch_add(&c->next, 1)) >= c->end
            || (c->t->sealing && !kmsenv_segment_seal_next(w->segment, &number, err)))
        return 0;
    kmsenv_worker_locate(w, number);
    return c->t->sealing || kmsenv_segment_open_begin(w->segment, number, err);
}

/* Reads what must be one segment, the next one, into the buffer. */
static int read_next(KMSENV_WORKER *w, int *ended, KMSENV_ERROR *err)
{
    KMSENV_CREW *c = w->crew;
    size_t tail = c->t->sealing ? 0 : KMSENV_TRAILER_LEN, got;

    w->number = c->next;
    if (!kmsenv_source_read(c->t->in, w->buffer, (size_t)c->full + tail, &got, ended, err))
        return 0;
    if (got < tail || (got == tail && tail > 0 && w->number > 0))
        return kmsenv_error_set(err, KMSENV_R_MESSAGE_TRUNCATED, "the message ends in segment %llu, before its end", (unsigned long long)w->number);
    w->length = got - tail;
    w->last = *ended;
    c->next++;
    return c->t->sealing ? kmsenv_segment_seal_next(w->segment, &w->number, err)
                         : kmsenv_segment_open_begin(w->segment, w->number, err);
}

/* Takes the segment that comes next in the input, and begins it. 0 without err: there is none left. */
static int take_next(KMSENV_WORKER *w, KMSENV_ERROR *err)
{
    int ended = 0, ok;

    if (!kmsenv_crew_begin_reading(w->crew))
        return 0;
    ok = read_next(w, &ended, err);
    kmsenv_crew_end_reading(w->crew, ended);
    return ok;
}

int kmsenv_worker_do_segments(KMSENV_WORKER *w, KMSENV_ERROR *err)
{
    while (w->crew->t->in->positional ? take_any(w, err) : take_next(w, err))
        if (!one_segment(w, err))
            return 0;
    return err->reason == KMSENV_R_NONE;
}
