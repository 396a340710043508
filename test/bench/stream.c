/*
 * One long message through updates of one size; nanoseconds for the whole of it. The messages of
 * both sides are made at the same time, a slice of one after a slice of the other, so that both
 * see the same moods of the machine.
 *
 * hot: the same buffer again and again, so that only the cipher is seen. When opening, the header
 * is real and the body is not, so the message is not ended; its plaintext is not looked at.
 * arrays: the whole message in memory, with its end; the first and last bytes are compared.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bench.h"

#define SLICE ((size_t)4 << 20)

typedef struct side_st {
    EVP_CIPHER *cipher;
    unsigned char key[32];
    int is_raw;
    EVP_CIPHER_CTX *ctx;
    unsigned char *message;        /* what this side opens; hot: its header */
    size_t message_len;
    unsigned char *out;
    size_t at, written;            /* in the message under way */
    double cost;
} SIDE;

typedef struct stream_st {
    SIDE side[2];
    int sealing, hot;
    size_t total, update;
    unsigned char *in;             /* hot: one update; arrays: all of it */
    unsigned char tag[16];         /* of the raw message */
} STREAM;

static const unsigned char iv[12] = { 7 };

static void update(SIDE *side, unsigned char *out, const unsigned char *in, size_t n)
{
    int len;

    bench_check(EVP_CipherUpdate(side->ctx, out, &len, in, (int)n), "update");
    side->written += (size_t)len;
}

static void start(STREAM *s, SIDE *side)
{
    double before = bench_ns(CLOCK_THREAD_CPUTIME_ID);

    side->at = side->written = 0;
    side->ctx = EVP_CIPHER_CTX_new();
    bench_check(side->ctx != NULL && EVP_CipherInit_ex2(side->ctx, side->cipher, side->key, side->is_raw ? iv : NULL,
                                                        s->sealing, NULL), "init");
    if (s->hot && side->message_len > 0)
        update(side, side->out, side->message, side->message_len);
    side->cost = bench_ns(CLOCK_THREAD_CPUTIME_ID) - before;
}

/* One slice; 0 when there was none left. */
static int go_on(STREAM *s, SIDE *side)
{
    const unsigned char *in = s->sealing || s->hot ? s->in : side->message;
    size_t total = s->sealing || s->hot ? s->total : side->message_len;
    size_t n, end = total - side->at < SLICE ? total : side->at + SLICE;
    double before = bench_ns(CLOCK_THREAD_CPUTIME_ID);

    for (; side->at < end; side->at += n) {
        n = end - side->at < s->update ? end - side->at : s->update;
        if (s->hot)
            update(side, side->out, in, n);
        else
            update(side, side->out + side->written, in + side->at, n);
    }
    side->cost += bench_ns(CLOCK_THREAD_CPUTIME_ID) - before;
    return side->at < total;
}

static void finish(STREAM *s, SIDE *side)
{
    double before = bench_ns(CLOCK_THREAD_CPUTIME_ID);
    unsigned char *end = s->hot ? side->out : side->out + side->written;
    int len;

    if (s->sealing || !s->hot) {
        if (side->is_raw && !s->sealing)
            bench_check(EVP_CIPHER_CTX_ctrl(side->ctx, EVP_CTRL_AEAD_SET_TAG, 16, s->tag), "tag");
        bench_check(EVP_CipherFinal_ex(side->ctx, end, &len), "final");
        if (side->is_raw && s->sealing)
            bench_check(EVP_CIPHER_CTX_ctrl(side->ctx, EVP_CTRL_AEAD_GET_TAG, 16, s->tag), "tag");
    }
    side->cost += bench_ns(CLOCK_THREAD_CPUTIME_ID) - before;
    EVP_CIPHER_CTX_free(side->ctx);
    if (!s->hot && !s->sealing)
        bench_check(side->written >= s->total && memcmp(side->out, s->in, 4096) == 0
                    && memcmp(side->out + s->total - 4096, s->in + s->total - 4096, 4096) == 0, "comparing the plaintext");
}

static void run_both(STREAM *s)
{
    unsigned turn = 0;
    int more = 1;

    start(s, &s->side[0]);
    start(s, &s->side[1]);
    while (more) {
        more = go_on(s, &s->side[turn % 2]);
        more |= go_on(s, &s->side[1 - turn % 2]);
        turn++;
    }
    finish(s, &s->side[0]);
    finish(s, &s->side[1]);
}

static unsigned char *allocate(size_t n)
{
    unsigned char *p = malloc(n);

    bench_check(p != NULL, "allocating");
    memset(p, 0x5a, n);            /* pages are there before the clock runs */
    return p;
}

/* What is to be opened: sealed here, by each side for itself. */
static void make_messages(STREAM *s)
{
    size_t n = s->hot ? 64 : s->total;
    int i;

    for (i = 0; i < 2; i++) {
        if (s->hot && s->side[i].is_raw)
            continue;              /* no header */
        s->side[i].message = allocate(n + BENCH_HEADER_ROOM);
        if (s->side[i].is_raw) {
            s->sealing = 1;
            s->side[i].out = s->side[i].message;
            start(s, &s->side[i]);
            while (go_on(s, &s->side[i]))
                continue;
            s->side[i].message_len = s->side[i].written;
            finish(s, &s->side[i]);
            s->sealing = 0;
        } else {
            s->side[i].message_len = bench_seal(s->side[i].cipher, s->side[i].message, s->in, n);
        }
    }
}

/* argv: MIB UPDATE encrypt|decrypt hot|arrays envelope|reference|raw. By reference both sides make the raw kind of message. */
void bench_stream(unsigned long rounds, char **argv)
{
    STREAM s = { .sealing = strcmp(argv[2], "encrypt") == 0, .hot = strcmp(argv[3], "hot") == 0 };
    unsigned long i;

    s.total = bench_number(argv[0]) << 20;
    s.update = bench_number(argv[1]);
    s.side[1].is_raw = 1;
    s.side[0].is_raw = strcmp(argv[4], "envelope") != 0;
    for (i = 0; i < 2; i++)
        s.side[i].cipher = s.side[i].is_raw ? bench_raw_cipher() : bench_envelope_cipher();
    if (strcmp(argv[4], "reference") == 0) {
        EVP_CIPHER_free(s.side[0].cipher);
        s.side[0].cipher = bench_reference_cipher(s.side[0].key);
    }
    s.in = allocate(s.hot ? s.update : s.total);
    if (!s.sealing)
        make_messages(&s);
    /* A hot buffer that both write to; arrays would be warm for whoever comes second. */
    s.side[0].out = allocate((s.hot ? s.update : s.total) + BENCH_HEADER_ROOM);
    s.side[1].out = s.hot ? s.side[0].out : allocate(s.total + BENCH_HEADER_ROOM);
    run_both(&s);
    for (i = 0; i < rounds; i++) {
        run_both(&s);
        printf("%.3f %.3f\n", s.side[0].cost, s.side[1].cost);
    }
}
