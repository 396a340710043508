/*
 * The same number of messages by one thread, and by each of two: wall nanoseconds of a round. If
 * nothing is shared that matters, two threads take no longer than one. A is two threads, B is one;
 * half of A over B is the inverse of the gain. With "cpu" the thread-CPU of a message is printed
 * instead: it grows when threads disturb each other, and not because the machine is busy.
 */
#include <pthread.h>
#include <string.h>
#include "bench.h"

#define MESSAGES 20000
#define SIZE     1024

typedef struct worker_st {
    pthread_t thread;
    pthread_barrier_t *start;
    const EVP_CIPHER *cipher;
    int is_raw;
    unsigned long count;
    double cpu;
} WORKER;

typedef struct threads_st {
    EVP_CIPHER *cipher;
    int is_raw, cpu;
    unsigned long count;
} THREADS;

static const unsigned char key[32] = { 0 }, iv[12] = { 7 };

static void work(WORKER *w, EVP_CIPHER_CTX *ctx)
{
    unsigned char in[SIZE] = { 0 }, out[SIZE + BENCH_HEADER_ROOM];
    double before = bench_ns(CLOCK_THREAD_CPUTIME_ID);
    int first, last;
    unsigned long i;

    for (i = 0; i < w->count; i++)
        bench_check(EVP_EncryptInit_ex2(ctx, NULL, key, w->is_raw ? iv : NULL, NULL)
                    && EVP_EncryptUpdate(ctx, out, &first, in, SIZE)
                    && EVP_EncryptFinal_ex(ctx, out + first, &last), "a message");
    w->cpu = bench_ns(CLOCK_THREAD_CPUTIME_ID) - before;
}

static void *thread_main(void *arg)
{
    WORKER *w = arg;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    unsigned long count = w->count;

    bench_check(ctx != NULL && EVP_EncryptInit_ex2(ctx, w->cipher, key, w->is_raw ? iv : NULL, NULL), "init");
    w->count = 500;                /* the thread's random generator and the data key are there before the clock runs */
    work(w, ctx);
    w->count = count;
    pthread_barrier_wait(w->start);
    work(w, ctx);
    pthread_barrier_wait(w->start);
    EVP_CIPHER_CTX_free(ctx);
    return NULL;
}

/* side 0: two threads, side 1: one */
static double run(void *arg, int side)
{
    THREADS *t = arg;
    WORKER worker[2];
    pthread_barrier_t start;
    double before, after, cpu = 0;
    int i, n = side == 0 ? 2 : 1;

    bench_check(pthread_barrier_init(&start, NULL, (unsigned)n + 1) == 0, "a barrier");
    for (i = 0; i < n; i++) {
        worker[i] = (WORKER){ .start = &start, .cipher = t->cipher, .is_raw = t->is_raw, .count = t->count };
        bench_check(pthread_create(&worker[i].thread, NULL, thread_main, &worker[i]) == 0, "a thread");
    }
    pthread_barrier_wait(&start);
    before = bench_ns(CLOCK_MONOTONIC);
    pthread_barrier_wait(&start);
    after = bench_ns(CLOCK_MONOTONIC);
    for (i = 0; i < n; i++) {
        pthread_join(worker[i].thread, NULL);
        cpu += worker[i].cpu / n;
    }
    pthread_barrier_destroy(&start);
    return t->cpu ? cpu / (double)t->count : (after - before) / (double)t->count;
}

void bench_threads(unsigned long rounds, char **argv)
{
    THREADS t = { .is_raw = strcmp(argv[0], "raw") == 0, .cpu = strcmp(argv[1], "cpu") == 0, .count = MESSAGES };

    t.cipher = t.is_raw ? bench_raw_cipher() : bench_envelope_cipher();
    bench_pairs(rounds, 4, run, &t);
}
