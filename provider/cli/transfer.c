/* The crew that does a transfer: how many workers, what they need, and who watches them. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "cli/transfer_local.h"

#define WORKERS_MAX    (KMSENV_THREADS_MAX + 2)
#define LARGE_WORKERS  3                         /* one reads, one seals or opens, one writes */
#define MEMORY_MAX     ((uint64_t)256 << 20)     /* bytes of all buffers together */
#define SMALL          (4 << 20)                 /* bytes that are not worth a thread */
#define DRAW_MS        200

/* Where in the input the segment begins. */
static void tell_where(const KMSENV_WORKER *w, KMSENV_ERROR *err)
{
    const KMSENV_TRANSFER *t = w->crew->t;

    if (!t->sealing && (err->reason == KMSENV_R_MESSAGE_DAMAGED || err->reason == KMSENV_R_MESSAGE_TRUNCATED))
        kmsenv_error_prefix(err, "from byte %llu on: ",
                            (unsigned long long)(t->in->start + w->number * (w->crew->full + KMSENV_TRAILER_LEN)));
}

static void *work(void *arg)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_WORKER *w = arg;
    KMSENV_CREW *c = w->crew;

    if (!(c->large ? kmsenv_worker_do_pieces : kmsenv_worker_do_segments)(w, &err) && err.reason != KMSENV_R_NONE) {
        tell_where(w, &err);
        kmsenv_crew_fail(w, &err);
    }
    pthread_mutex_lock(&c->lock);
    c->running--;
    pthread_cond_signal(&c->finished);
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* How many can do something at the same time. */
static uint64_t choose_workers(const KMSENV_CREW *c)
{
    const KMSENV_TRANSFER *t = c->t;
    uint64_t threads = t->threads;

    if (c->large)
        return threads < LARGE_WORKERS ? threads : LARGE_WORKERS;
    /* One that waits for the input and one that waits for the output do not work. More than that would wait for turns. */
    if (c->whole)
        threads += (unsigned)!t->in->positional + (unsigned)t->out->waits;
    if (c->whole && threads > MEMORY_MAX / (c->unit + 1))
        threads = MEMORY_MAX / (c->unit + 1);
    if (t->in->positional && threads > c->end - c->first)
        threads = c->end - c->first;
    return threads;
}

static void plan(KMSENV_CREW *c, const KMSENV_TRANSFER *t)
{
    uint64_t threads;

    c->t = t;
    c->full = c->unit = (uint64_t)1 << kmsenv_segments_bits(t->segments);
    c->end = UINT64_MAX;
    if (t->in->positional) {
        c->count = t->plaintext == 0 ? 1 : (t->plaintext + c->full - 1) / c->full;
        c->first = t->from / c->full;
        c->end = t->to < t->plaintext ? (t->to + c->full - 1) / c->full : c->count;
        c->unit = t->plaintext < c->full ? t->plaintext : c->full;
    }
    c->large = c->unit > (uint64_t)1 << KMSENV_HELD_BITS;
    c->whole = !c->large && !(t->out->positional && t->in->positional);
    c->views = !c->large && t->in->positional && (c->end - c->first) * c->unit > SMALL;
    threads = choose_workers(c);
    c->workers = threads < 1 ? 1 : threads > WORKERS_MAX ? WORKERS_MAX : (unsigned)threads;
}

static int equip(KMSENV_WORKER *w, KMSENV_CREW *c, KMSENV_ERROR *err)
{
    size_t room = (c->whole ? (size_t)c->unit : c->unit < KMSENV_PIECE ? (size_t)c->unit : KMSENV_PIECE) + KMSENV_TRAILER_LEN;
    void *buffer = NULL;

    w->crew = c;
    if ((w->segment = kmsenv_segment_new(c->t->segments, err)) == NULL)
        return 0;
    if (posix_memalign(&buffer, 4096, room) != 0)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a segment of %zu bytes", room);
    w->buffer = buffer;
    return 1;
}

/* Draws while others work. */
static void watch(KMSENV_CREW *c)
{
    struct timespec until;

    pthread_mutex_lock(&c->lock);
    while (c->running > 0) {
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += DRAW_MS * 1000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        if (pthread_cond_timedwait(&c->finished, &c->lock, &until) != 0) {
            pthread_mutex_unlock(&c->lock);
            kmsenv_progress_draw(c->t->progress);
            kmsenv_source_check_views(c->t->in);
            pthread_mutex_lock(&c->lock);
        }
    }
    pthread_mutex_unlock(&c->lock);
}

static void run_all(KMSENV_CREW *c, KMSENV_WORKER *worker)
{
    pthread_t thread[WORKERS_MAX];
    unsigned i, started = 0;
    sigset_t all, before;

    c->running = c->workers;
    c->next = c->turn = c->large ? kmsenv_crew_pieces(c, c->first) : c->first;
    if (c->workers == 1 && c->t->in->positional && c->t->plaintext <= SMALL) {
        work(&worker[0]);
        return;
    }
    /* Signals are for the main thread, but for that of a view that cannot be read. */
    sigfillset(&all);
    sigdelset(&all, SIGBUS);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    while (started < c->workers && pthread_create(&thread[started], NULL, work, &worker[started]) == 0)
        started++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (started < c->workers) {
        pthread_mutex_lock(&c->lock);
        c->running -= c->workers - started - (started == 0);
        pthread_mutex_unlock(&c->lock);
    }
    if (started == 0)
        work(&worker[0]);
    watch(c);
    for (i = 0; i < started; i++)
        pthread_join(thread[i], NULL);
}

static void start_crew(KMSENV_CREW *c, const KMSENV_TRANSFER *t)
{
    pthread_condattr_t attributes;

    memset(c, 0, sizeof(*c));
    plan(c, t);
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&c->finished, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_cond_init(&c->may_read, NULL);
    pthread_cond_init(&c->may_go_on, NULL);
}

static void dismiss_crew(KMSENV_CREW *c, KMSENV_WORKER *worker)
{
    unsigned i;

    for (i = 0; i < c->workers; i++) {
        kmsenv_segment_free(worker[i].segment);
        free(worker[i].buffer);
    }
    pthread_cond_destroy(&c->finished);
    pthread_cond_destroy(&c->may_read);
    pthread_cond_destroy(&c->may_go_on);
    pthread_mutex_destroy(&c->lock);
}

int kmsenv_transfer_run(const KMSENV_TRANSFER *t, KMSENV_ERROR *err)
{
    KMSENV_WORKER worker[WORKERS_MAX];
    KMSENV_CREW c;
    unsigned i;
    int ok = 1;

    memset(worker, 0, sizeof(worker));
    start_crew(&c, t);
    for (i = 0; i < c.workers && ok; i++)
        ok = equip(&worker[i], &c, err);
    if (ok) {
        c.common = worker[0].segment;
        if (c.views)
            kmsenv_source_start_views(t->in);
        /* What is too large to be held back, and cannot be taken back, is verified first. */
        for (c.emitting = !c.large || t->sealing || t->out->positional; c.emitting < 2 && !c.failed; c.emitting++)
            run_all(&c, worker);
        kmsenv_source_stop_views(t->in);
        if (c.failed)
            *err = c.err;
        ok = !c.failed;
    }
    dismiss_crew(&c, worker);
    return ok;
}
