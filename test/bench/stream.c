/*
 * One long message through updates of one size; nanoseconds for the whole of it.
 *
 * hot: the same buffer again and again, so that only the cipher is seen. When opening, the header
 * is real and the body is not, so the message is not ended; its plaintext is not looked at.
 * arrays: the whole message in memory, with its end; the first and last bytes are compared.
 */
#include <stdlib.h>
#include <string.h>
#include "bench.h"

typedef struct stream_st {
    EVP_CIPHER *cipher[2];         /* of the two sides */
    int sealing, hot;
    size_t total, update;
    unsigned char *in, *out;       /* hot: one update; arrays: all of it */
    unsigned char *message[2];     /* opening: what each side opens */
    size_t message_len[2];
    unsigned char tag[16];         /* of the raw message */
} STREAM;

static const unsigned char key[32] = { 0 }, iv[12] = { 7 };

static void raw_seal(STREAM *s)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    size_t at, n;
    int len;

    bench_check(ctx != NULL && EVP_EncryptInit_ex2(ctx, s->cipher[1], key, iv, NULL), "init");
    for (at = 0; at < s->total; at += n) {
        n = s->total - at < 65536 ? s->total - at : 65536;
        bench_check(EVP_EncryptUpdate(ctx, s->message[1] + at, &len, s->in + at, (int)n), "update");
    }
    bench_check(EVP_EncryptFinal_ex(ctx, s->tag, &len)
                && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, 16, s->tag), "final");
    s->message_len[1] = s->total;
    EVP_CIPHER_CTX_free(ctx);
}

static void end(STREAM *s, EVP_CIPHER_CTX *ctx, int is_raw, unsigned char *out)
{
    int len;

    if (s->hot && !s->sealing)
        return;
    if (is_raw && !s->sealing)
        bench_check(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, 16, s->tag), "tag");
    bench_check(EVP_CipherFinal_ex(ctx, out, &len), "final");
    if (is_raw && s->sealing)
        bench_check(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, 16, s->tag), "tag");
}

static void run_hot(STREAM *s, EVP_CIPHER_CTX *ctx, int side)
{
    size_t at;
    int len;

    if (!s->sealing && s->message_len[side] > 0)
        bench_check(EVP_CipherUpdate(ctx, s->out, &len, s->message[side], (int)s->message_len[side]), "update");
    for (at = 0; at < s->total; at += s->update)
        bench_check(EVP_CipherUpdate(ctx, s->out, &len, s->in, (int)s->update), "update");
}

static unsigned char *run_arrays(STREAM *s, EVP_CIPHER_CTX *ctx, int side)
{
    const unsigned char *in = s->sealing ? s->in : s->message[side];
    size_t at, n, total = s->sealing ? s->total : s->message_len[side];
    unsigned char *out = s->out;
    int len;

    for (at = 0; at < total; at += n) {
        n = total - at < s->update ? total - at : s->update;
        bench_check(EVP_CipherUpdate(ctx, out, &len, in + at, (int)n), "update");
        out += len;
    }
    return out;
}

static double run(void *arg, int side)
{
    STREAM *s = arg;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    double before = bench_ns(CLOCK_THREAD_CPUTIME_ID), after;
    int is_raw = s->cipher[side] == s->cipher[1];
    unsigned char *out = s->out;

    bench_check(ctx != NULL && EVP_CipherInit_ex2(ctx, s->cipher[side], key, is_raw ? iv : NULL, s->sealing, NULL), "init");
    if (s->hot)
        run_hot(s, ctx, side);
    else
        out = run_arrays(s, ctx, side);
    end(s, ctx, is_raw, out);
    after = bench_ns(CLOCK_THREAD_CPUTIME_ID);
    EVP_CIPHER_CTX_free(ctx);
    if (!s->hot && !s->sealing)
        bench_check(memcmp(s->out, s->in, 4096) == 0
                    && memcmp(s->out + s->total - 4096, s->in + s->total - 4096, 4096) == 0, "comparing the plaintext");
    return after - before;
}

static unsigned char *allocate(size_t n)
{
    unsigned char *p = malloc(n);

    bench_check(p != NULL, "allocating");
    memset(p, 0x5a, n);            /* pages are there before the clock runs */
    return p;
}

/* Arrays: the messages that the two sides open, which may be the same one. */
static void make_messages(STREAM *s)
{
    int i;

    for (i = 1; i >= 0; i--) {
        if (s->cipher[i] == s->cipher[1 - i] && i == 0) {
            s->message[0] = s->message[1];
            s->message_len[0] = s->message_len[1];
            continue;
        }
        s->message[i] = allocate(s->total + BENCH_HEADER_ROOM);
        if (i == 1)
            raw_seal(s);
        else
            s->message_len[0] = bench_seal(s->cipher[0], s->message[0], s->in, s->total);
    }
}

void bench_stream(unsigned long rounds, char **argv)
{
    STREAM s = { .sealing = strcmp(argv[2], "encrypt") == 0, .hot = strcmp(argv[3], "hot") == 0 };

    s.total = bench_number(argv[0]) << 20;
    s.update = bench_number(argv[1]);
    s.cipher[1] = bench_raw_cipher();
    s.cipher[0] = strcmp(argv[4], "raw") == 0 ? s.cipher[1] : bench_envelope_cipher();
    s.in = allocate(s.hot ? s.update : s.total);
    s.out = allocate((s.hot ? s.update : s.total) + BENCH_HEADER_ROOM);
    if (!s.hot && !s.sealing) {
        make_messages(&s);
    } else if (!s.sealing && s.cipher[0] != s.cipher[1]) {
        s.message[0] = allocate(2 * BENCH_HEADER_ROOM);
        s.message_len[0] = bench_seal(s.cipher[0], s.message[0], s.in, 64);
    }
    bench_pairs(rounds, 1, run, &s);
}
