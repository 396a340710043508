/* The segments of a message one by one: by several threads, against the stream's way, and where they must be refused. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/core_dispatch.h>
#include <openssl/provider.h>
#include "testutil.h"
#include "envelope/gcm.h"
#include "envelope/header.h"
#include "envelope/segments.h"
#include "kmsenv_test.h"
#include "ops/provctx.h"

#define BITS     12
#define FULL     ((size_t)1 << BITS)
#define SEALED   (FULL + KMSENV_TRAILER_LEN)
#define MANY     96                     /* segments for the threads */
#define THREADS  4
#define DATA_MAX (MANY * FULL)
#define ROOM     (DATA_MAX + MANY * KMSENV_TRAILER_LEN + 2048)
#define BLOCK    8192

OSSL_provider_init_fn OSSL_provider_init;

static KMSENV_TEST *scratch;            /* for its key file */
static OSSL_LIB_CTX *libctx;
static OSSL_PROVIDER *provider;
static KMSENV_MESSAGE *message;
static unsigned char data[DATA_MAX], sealed[ROOM], opened[ROOM];

static int is_failure(int ok, const KMSENV_ERROR *err, int reason)
{
    return TEST_false(ok) && TEST_int_eq(err->reason, reason) && TEST_str_ne(err->text, "");
}

/* --- one thread after the other -------------------------------------------- */

static KMSENV_SEGMENTS *begin(int sealing, const unsigned char *header, size_t len, KMSENV_ERROR *err)
{
    if (!TEST_true(kmsenv_message_init(message, sealing, NULL, err)) || !TEST_true(kmsenv_message_set_segment_bits(message, BITS, err)))
        return NULL;
    return kmsenv_segments_new(message, header, len, err);
}

static size_t header_of(const unsigned char *m, size_t len)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    size_t total = 0;

    return kmsenv_header_length(m, len, &total, &err) == 1 && total <= len ? total : 0;
}

/* Of the message being sealed, into sealed; returns its length. */
static size_t put_header(void)
{
    size_t len;
    const unsigned char *header = kmsenv_message_get0_header(message, &len);

    if (!TEST_ptr(header) || !TEST_size_t_eq(header_of(header, len), len))
        return 0;
    memcpy(sealed, header, len);
    return len;
}

/* The whole of n bytes of data into sealed; returns the message's length, 0 on failure. */
static size_t seal(size_t n)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_SEGMENTS *all = begin(1, NULL, 0, &err);
    KMSENV_SEGMENT *s = all == NULL ? NULL : kmsenv_segment_new(all, &err);
    size_t at = 0, done = 0, part;
    uint64_t number, expected = 0;
    int ok = TEST_ptr(s), last = 0;

    ok = ok && (at = put_header()) > 0;
    while (ok && !last) {
        part = n - done < FULL ? n - done : FULL;
        last = done + part == n;
        ok = TEST_true(kmsenv_segment_seal_next(s, &number, &err)) && TEST_size_t_eq(number, expected++)
            && TEST_true(kmsenv_segment_crypt(s, sealed + at, data + done, part, &err))
            && TEST_true(kmsenv_segment_seal_end(s, last, sealed + at + part, &err));
        at += part + KMSENV_TRAILER_LEN;
        done += part;
    }
    kmsenv_segment_free(s);
    kmsenv_segments_free(all);
    return ok ? at : 0;
}

/* Opens len bytes as they stand, segment by segment; returns 0 without a word if that fails. */
static int open_all(const unsigned char *m, size_t len, size_t *out, KMSENV_ERROR *err)
{
    size_t header = header_of(m, len), at, part;
    KMSENV_SEGMENTS *all = header == 0 ? NULL : begin(0, m, header, err);
    KMSENV_SEGMENT *s = all == NULL ? NULL : kmsenv_segment_new(all, err);
    KMSENV_BODY body = { 0 };
    uint64_t i;
    int ok = s != NULL;

    *out = 0;
    if (ok)
        kmsenv_body_measure(kmsenv_segments_bits(all), len - header, &body);
    ok = ok && body.fault == NULL;
    for (i = 0, at = header; ok && i < body.segments; i++) {
        part = (len - at < SEALED ? len - at : SEALED) - KMSENV_TRAILER_LEN;
        memcpy(opened + *out, m + at, part);       /* in place, as the command does it */
        ok = kmsenv_segment_open_begin(s, i, err) && kmsenv_segment_crypt(s, opened + *out, opened + *out, part, err)
            && kmsenv_segment_open_end(s, i + 1 == body.segments, m + at + part, err);
        *out += part;
        at += part + KMSENV_TRAILER_LEN;
    }
    kmsenv_segment_free(s);
    kmsenv_segments_free(all);
    return ok;
}

/* The stream's way, in one update and final. */
static int stream(int sealing, const unsigned char *in, size_t n, unsigned char *out, size_t *len)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    size_t more = 0;
    int ok = TEST_true(kmsenv_message_init(message, sealing, NULL, &err)) && TEST_true(kmsenv_message_set_segment_bits(message, BITS, &err))
        && TEST_true(kmsenv_message_update(message, out, len, ROOM, in, n, &err))
        && TEST_true(kmsenv_message_final(message, out + *len, &more, ROOM - *len, &err));

    *len += more;
    return ok;
}

static const size_t sizes[] = { 0, 1, 16, 17, 4095, 4096, 4097, 4113, 8191, 8192, 8193, 12288, 20000 };

static int test_against_the_stream(int i)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    size_t n = sizes[i], len = seal(n), out;
    static unsigned char streamed[ROOM];
    size_t streamed_len;

    return TEST_size_t_gt(len, 0) && stream(0, sealed, len, opened, &out) && TEST_mem_eq(opened, out, data, n)
        && stream(1, data, n, streamed, &streamed_len) && TEST_size_t_eq(streamed_len, len)
        && TEST_true(open_all(streamed, streamed_len, &out, &err)) && TEST_mem_eq(opened, out, data, n);
}

/* --- refused --------------------------------------------------------------- */

/* Every byte of a message of two segments. What is in a wrap and not needed is not authenticated: same plaintext then. */
static int test_each_byte_damaged(void)
{
    size_t len = seal(FULL + 40), i, out;
    KMSENV_ERROR err;
    int ok = TEST_size_t_gt(len, 0), refused = 0;

    for (i = 0; i < len && ok; i++) {
        sealed[i] ^= 0x10;
        kmsenv_error_clear(&err);
        if (open_all(sealed, len, &out, &err))
            ok = TEST_mem_eq(opened, out, data, FULL + 40) && TEST_size_t_lt(i, header_of(sealed, len));
        else
            refused++;
        sealed[i] ^= 0x10;
    }
    return ok && TEST_size_t_ge((size_t)refused, FULL + 40 + 2 * KMSENV_TRAILER_LEN);
}

static int test_cut_and_swapped(void)
{
    size_t len = seal(3 * FULL), header = header_of(sealed, len), out, i;
    static unsigned char other[ROOM];
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    int ok = TEST_size_t_gt(header, 0);

    for (i = 0; i < 3 && ok; i++)
        ok = TEST_false(open_all(sealed, header + i * SEALED, &out, &err));
    if (!ok || !is_failure(open_all(sealed, header + 2 * SEALED, &out, &err), &err, KMSENV_R_MESSAGE_TRUNCATED))
        return 0;
    memcpy(other, sealed, len);
    memcpy(other + header, sealed + header + SEALED, SEALED);
    memcpy(other + header + SEALED, sealed + header, SEALED);
    if (!is_failure(open_all(other, len, &out, &err), &err, KMSENV_R_MESSAGE_DAMAGED))
        return 0;
    /* The last segment again: more than there was. */
    memcpy(other, sealed, len);
    memcpy(other + len, sealed + len - SEALED, SEALED);
    return is_failure(open_all(other, len + SEALED, &out, &err), &err, KMSENV_R_MESSAGE_DAMAGED)
        && TEST_true(open_all(sealed, len, &out, &err));
}

/* What is out of order while sealing leaves the segment as unusable as the error says. */
static int test_order_when_sealing(void)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_SEGMENTS *all = begin(1, NULL, 0, &err);
    KMSENV_SEGMENT *s = all == NULL ? NULL : kmsenv_segment_new(all, &err);
    unsigned char trailer[KMSENV_TRAILER_LEN];
    uint64_t number = 9;
    size_t n;
    int ok = TEST_ptr(s)
        && is_failure(kmsenv_message_update(message, sealed, &n, ROOM, data, 10, &err), &err, KMSENV_R_WRONG_STATE)
        && is_failure(kmsenv_segment_open_begin(s, 0, &err), &err, KMSENV_R_WRONG_STATE)
        && is_failure(kmsenv_segment_crypt(s, sealed, data, 1, &err), &err, KMSENV_R_WRONG_STATE)
        && is_failure(kmsenv_segment_seal_end(s, 1, trailer, &err), &err, KMSENV_R_WRONG_STATE)
        && TEST_true(kmsenv_segment_seal_next(s, &number, &err)) && TEST_size_t_eq(number, 0)
        && TEST_true(kmsenv_segment_crypt(s, sealed, data, FULL - 1, &err))
        && is_failure(kmsenv_segment_crypt(s, sealed, data, 2, &err), &err, KMSENV_R_WRONG_STATE)
        && is_failure(kmsenv_segment_seal_end(s, 0, trailer, &err), &err, KMSENV_R_WRONG_STATE)
        && TEST_true(kmsenv_segment_crypt(s, sealed, data, 1, &err))
        && is_failure(kmsenv_segment_open_end(s, 0, trailer, &err), &err, KMSENV_R_WRONG_STATE)
        && TEST_true(kmsenv_segment_seal_end(s, 0, trailer, &err))
        && is_failure(kmsenv_segment_seal_end(s, 0, trailer, &err), &err, KMSENV_R_WRONG_STATE)
        && TEST_true(kmsenv_segment_seal_next(s, &number, &err)) && TEST_size_t_eq(number, 1)
        && is_failure(kmsenv_segment_seal_end(s, 1, trailer, &err), &err, KMSENV_R_WRONG_STATE)     /* empty, and not the first */
        && TEST_true(kmsenv_segment_crypt(s, sealed, data, 1, &err))
        && TEST_true(kmsenv_segment_seal_end(s, 1, trailer, &err))
        && TEST_true(kmsenv_segment_seal_next(s, &number, &err)) && TEST_size_t_eq(number, 2)
        && TEST_true(kmsenv_segment_crypt(s, sealed, data, 1, &err))
        && is_failure(kmsenv_segment_seal_end(s, 1, trailer, &err), &err, KMSENV_R_WRONG_STATE);    /* a second last one */

    kmsenv_segment_free(s);
    kmsenv_segments_free(all);
    return ok && TEST_ptr_null(kmsenv_segments_new(message, NULL, 0, &err)) && TEST_int_eq(err.reason, KMSENV_R_WRONG_STATE);
}

static int test_order_when_opening(void)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    size_t len = seal(2 * FULL), header = header_of(sealed, len);
    KMSENV_SEGMENTS *all = begin(0, sealed, header, &err);
    KMSENV_SEGMENT *s = all == NULL ? NULL : kmsenv_segment_new(all, &err);
    uint64_t number;
    int ok = TEST_ptr(s)
        && is_failure(kmsenv_segment_seal_next(s, &number, &err), &err, KMSENV_R_WRONG_STATE)
        && is_failure(kmsenv_segment_open_end(s, 0, sealed, &err), &err, KMSENV_R_WRONG_STATE)
        && is_failure(kmsenv_segment_open_begin(s, KMSENV_SEGMENTS_MAX, &err), &err, KMSENV_R_INPUT_TOO_LARGE)
        && TEST_true(kmsenv_segment_open_begin(s, 1, &err))       /* any order */
        && TEST_true(kmsenv_segment_crypt(s, opened, sealed + header + SEALED, FULL, &err))
        && TEST_true(kmsenv_segment_open_end(s, 1, sealed + header + SEALED + FULL, &err))
        && TEST_mem_eq(opened, FULL, data + FULL, FULL)
        && is_failure(kmsenv_segment_open_end(s, 1, sealed + header + SEALED + FULL, &err), &err, KMSENV_R_WRONG_STATE)
        && TEST_true(kmsenv_segment_open_begin(s, 1, &err))
        && TEST_true(kmsenv_segment_crypt(s, opened, sealed + header + SEALED, FULL, &err))
        && is_failure(kmsenv_segment_open_end(s, 0, sealed + header + SEALED + FULL, &err), &err, KMSENV_R_MESSAGE_DAMAGED);

    kmsenv_segment_free(s);
    kmsenv_segments_free(all);
    return ok;
}

/* --- threads --------------------------------------------------------------- */

typedef struct shared_st {
    KMSENV_SEGMENTS *all;
    size_t header;
    int sealing;
    atomic_uint taken, failures;
    atomic_uint times[MANY];       /* how often each number was given out */
} SHARED;

static int one(SHARED *s, KMSENV_SEGMENT *segment, uint64_t number)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    unsigned char *m;

    if (s->sealing && (!kmsenv_segment_seal_next(segment, &number, &err) || number >= MANY))
        return 0;
    m = sealed + s->header + number * SEALED;
    atomic_fetch_add(&s->times[number], 1);
    if (s->sealing)
        return kmsenv_segment_crypt(segment, m, data + number * FULL, FULL, &err)
            && kmsenv_segment_seal_end(segment, number + 1 == MANY, m + FULL, &err);
    return kmsenv_segment_open_begin(segment, number, &err)
        && kmsenv_segment_crypt(segment, opened + number * FULL, m, FULL, &err)
        && kmsenv_segment_open_end(segment, number + 1 == MANY, m + FULL, &err);
}

static void *work(void *arg)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    SHARED *s = arg;
    KMSENV_SEGMENT *segment = kmsenv_segment_new(s->all, &err);
    unsigned n;

    while (segment != NULL && (n = atomic_fetch_add(&s->taken, 1)) < MANY)
        if (!one(s, segment, n))
            atomic_fetch_add(&s->failures, 1);
    if (segment == NULL)
        atomic_fetch_add(&s->failures, 1);
    kmsenv_segment_free(segment);
    return NULL;
}

static int run_threads(int sealing, size_t header)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    SHARED s = { .all = begin(sealing, sealed, header, &err), .header = header, .sealing = sealing };
    pthread_t thread[THREADS];
    int i, started = 0, ok = TEST_ptr(s.all);

    if (ok && sealing)
        ok = (s.header = put_header()) > 0;
    while (ok && started < THREADS && (ok = TEST_int_eq(pthread_create(&thread[started], NULL, work, &s), 0)))
        started++;
    for (i = 0; i < started; i++)
        pthread_join(thread[i], NULL);
    kmsenv_segments_free(s.all);
    for (i = 0; i < MANY && ok; i++)
        ok = TEST_uint_eq(atomic_load(&s.times[i]), 1);
    return ok && TEST_uint_eq(atomic_load(&s.failures), 0);
}

static int test_threads(void)
{
    size_t header, out;

    if (!run_threads(1, 0) || !TEST_size_t_gt(header = header_of(sealed, ROOM), 0)
            || !stream(0, sealed, header + MANY * SEALED, opened, &out) || !TEST_mem_eq(opened, out, data, DATA_MAX))
        return 0;
    memset(opened, 0, sizeof(opened));
    return run_threads(0, header) && TEST_mem_eq(opened, DATA_MAX, data, DATA_MAX);
}

/* --- sizes ----------------------------------------------------------------- */

static const struct { uint64_t bytes, segments, plaintext; int fault; } bodies[] = {
    { 0, 0, 0, 1 }, { 16, 0, 0, 1 }, { 17, 1, 0, 0 }, { 18, 1, 1, 0 }, { 4113, 1, 4096, 0 }, { 4114, 2, 4080, 1 },
    { 4113 + 17, 2, 4096, 1 }, { 4113 + 18, 2, 4097, 0 }, { 2 * 4113, 2, 8192, 0 },
    { ((uint64_t)1 << 32) * 4113, (uint64_t)1 << 32, (uint64_t)1 << 44, 0 },
    { ((uint64_t)1 << 32) * 4113 + 18, ((uint64_t)1 << 32) + 1, ((uint64_t)1 << 44) + 1, 1 },
};

static int test_bodies(int i)
{
    KMSENV_BODY body;

    kmsenv_body_measure(BITS, bodies[i].bytes, &body);
    return TEST_int_eq(body.fault != NULL, bodies[i].fault) && TEST_size_t_eq(body.segments, bodies[i].segments)
        && TEST_size_t_eq(body.plaintext, bodies[i].plaintext);
}

/* --- set-up ---------------------------------------------------------------- */

static int set_up(void)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    const KMSENV_RUNTIME *runtime;
    KMSENV_PROVCTX *provctx;
    char path[128];

    if (!TEST_ptr(scratch = kmsenv_test_new(KMSENV_TEST_LOCAL)))
        return 0;
    snprintf(path, sizeof(path), "%s/a.pem", scratch->dir);
    setenv("KMSENV_KMS", "local", 1);
    setenv("KMSENV_KEY_FILE", path, 1);
    if (!TEST_ptr(libctx = OSSL_LIB_CTX_new()) || !TEST_true(OSSL_PROVIDER_add_builtin(libctx, "kmsenv", OSSL_provider_init))
            || !TEST_ptr(provider = OSSL_PROVIDER_load(libctx, "kmsenv"))
            || !TEST_ptr(provctx = OSSL_PROVIDER_get0_provider_ctx(provider))
            || !TEST_ptr(runtime = provctx->runtime(provctx, &err)))
        return 0;
    message = kmsenv_message_new(runtime->deks, provctx->crypto, &provctx->counters, 32, BLOCK, BITS);
    kmsenv_test_fill(data, sizeof(data), 3);
    return TEST_ptr(message);
}

int setup_tests(void)
{
    if (!set_up())
        return 0;
    ADD_ALL_TESTS(test_against_the_stream, (int)(sizeof(sizes) / sizeof(sizes[0])));
    ADD_TEST(test_each_byte_damaged);
    ADD_TEST(test_cut_and_swapped);
    ADD_TEST(test_order_when_sealing);
    ADD_TEST(test_order_when_opening);
    ADD_TEST(test_threads);
    ADD_ALL_TESTS(test_bodies, (int)(sizeof(bodies) / sizeof(bodies[0])));
    return 1;
}

void cleanup_tests(void)
{
    kmsenv_message_free(message);
    OSSL_PROVIDER_unload(provider);
    OSSL_LIB_CTX_free(libctx);
    kmsenv_test_free(scratch);
}
