/*
 * Many short messages; nanoseconds of one. How they are made:
 *   reused   one context, init(NULL, key, iv): what a caller in a hurry does
 *   renamed  one context, init(cipher, key, iv): libcrypto 3.0 throws the provider's context away
 *   fresh    a new EVP_CIPHER_CTX for each
 * By reference, the key may also be a key object ("object").
 */
#include <string.h>
#include "bench.h"

#define SIZE_MAXIMUM 65536
#define SLICES       16
#define SLICE_NS     4e6

typedef enum { REUSED, RENAMED, FRESH } MANNER;

typedef struct message_st {
    EVP_CIPHER *cipher[2];
    EVP_CIPHER_CTX *ctx[2];
    int sealing, is_envelope[2];
    MANNER manner;
    void *object;                  /* side 0 is keyed with it */
    size_t size;
    unsigned long count;
    unsigned char in[SIZE_MAXIMUM], out[SIZE_MAXIMUM + BENCH_HEADER_ROOM];
    unsigned char message[2][SIZE_MAXIMUM + BENCH_HEADER_ROOM], tag[16];
    size_t message_len[2];
} MESSAGE;

static unsigned char key[2][32];      /* of each side */
static const unsigned char iv[12] = { 7 };

static int init(const MESSAGE *m, EVP_CIPHER_CTX *ctx, int side)
{
    const EVP_CIPHER *cipher = m->manner == REUSED ? NULL : m->cipher[side];

    if (side == 0 && m->object != NULL)
        return bench_key_object_init(ctx, m->object, iv, m->sealing);
    return EVP_CipherInit_ex2(ctx, cipher, key[side], m->is_envelope[side] ? NULL : iv, m->sealing, NULL);
}

static void one(MESSAGE *m, int side)
{
    int is_raw = !m->is_envelope[side], first, last;
    EVP_CIPHER_CTX *ctx = m->manner == FRESH ? EVP_CIPHER_CTX_new() : m->ctx[side];
    const unsigned char *in = m->sealing ? m->in : m->message[side];
    size_t n = m->sealing ? m->size : m->message_len[side];
    int ok;

    ok = ctx != NULL && init(m, ctx, side)
        && (!is_raw || m->sealing || EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, 16, m->tag))
        && EVP_CipherUpdate(ctx, m->out, &first, in, (int)n)
        && EVP_CipherFinal_ex(ctx, m->out + first, &last)
        && (!is_raw || !m->sealing || EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, 16, m->tag));
    bench_check(ok, "a message");
    if (m->manner == FRESH)
        EVP_CIPHER_CTX_free(ctx);
    m->message_len[side] = m->sealing ? (size_t)(first + last) : m->message_len[side];
}

static double run(void *arg, int side)
{
    MESSAGE *m = arg;
    double before = bench_ns(CLOCK_THREAD_CPUTIME_ID);
    unsigned long i;

    for (i = 0; i < m->count; i++)
        one(m, side);
    return (bench_ns(CLOCK_THREAD_CPUTIME_ID) - before) / (double)m->count;
}

/* Makes, with each side, the message that it opens later. */
static void make_messages(MESSAGE *m)
{
    MANNER manner = m->manner;
    int side;

    m->sealing = 1;
    m->manner = FRESH;
    for (side = 0; side < 2; side++) {
        one(m, side);
        memcpy(m->message[side], m->out, m->message_len[side]);
    }
    m->sealing = 0;
    m->manner = manner;
    for (side = 0; side < 2; side++) {
        memset(m->out, 0, m->size);
        one(m, side);
        bench_check(memcmp(m->out, m->in, m->size) == 0, "comparing the plaintext");
    }
}

void bench_message(unsigned long rounds, char **argv)
{
    static MESSAGE m;
    double ns;
    int i;

    m.size = bench_number(argv[0]);
    bench_check(m.size <= SIZE_MAXIMUM, "the size");
    m.sealing = strcmp(argv[1], "encrypt") == 0;
    m.manner = strcmp(argv[2], "reused") == 0 ? REUSED : strcmp(argv[2], "fresh") == 0 ? FRESH : RENAMED;
    m.cipher[1] = bench_raw_cipher();
    m.is_envelope[0] = strcmp(argv[3], "envelope") == 0;
    m.cipher[0] = strcmp(argv[3], "raw") == 0 ? m.cipher[1]
                  : m.is_envelope[0] ? bench_envelope_cipher() : bench_reference_cipher(key[0]);
    if (strcmp(argv[3], "object") == 0)
        m.object = bench_key_object(key[0]);
    memset(m.in, 0x5a, sizeof(m.in));
    for (i = 0; i < 2; i++)
        bench_check((m.ctx[i] = EVP_CIPHER_CTX_new()) != NULL
                    && EVP_CipherInit_ex2(m.ctx[i], m.cipher[i], key[i], m.is_envelope[i] ? NULL : iv, m.sealing, NULL), "init");
    if (!m.sealing)
        make_messages(&m);
    m.count = 200;
    run(&m, 0);
    ns = run(&m, 0);
    m.count = (unsigned long)(SLICE_NS / ns) + 1;
    bench_pairs(rounds, SLICES, run, &m);
}
