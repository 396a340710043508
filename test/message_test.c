/*
 * What is in a message and what happens to one that was cut, changed, put together from others
 * or encoded otherwise: always one error, never a crash, never other plaintext as if it were good.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include "testutil.h"
#include "kmsenv/format.h"
#include "kmsenv_der.h"
#include "kmsenv_test.h"

#define SEGMENT 4096   /* 2^12, the smallest */
#define PLAIN   (2 * SEGMENT + 100)
#define SEALED_SEGMENT (SEGMENT + KMSENV_TRAILER_LEN)

static KMSENV_TEST *t;
static unsigned char data[PLAIN];
static KMSENV_TEST_BYTES whole;      /* 200 bytes in one segment */
static KMSENV_TEST_BYTES threefold;  /* three segments */
static size_t header;                /* length of threefold's header */

static int open_in(const KMSENV_TEST_BYTES *m, size_t chunk, KMSENV_TEST_BYTES *opened)
{
    return kmsenv_test_crypt_key(t, 0, NULL, NULL, m->data, m->len, chunk, opened);
}

/* Neither in one piece nor in small ones, and with one error of ours. */
static int refused(const KMSENV_TEST_BYTES *m)
{
    KMSENV_TEST_BYTES opened = { NULL, 0 };
    int ok = TEST_false(open_in(m, 0, &opened)) && kmsenv_test_error_is(KMSENV_TEST_ANY)
        && TEST_false(open_in(m, 61, &opened)) && kmsenv_test_error_is(KMSENV_TEST_ANY);

    kmsenv_test_bytes_reset(&opened);
    return ok;
}

/* Refused, or opened to exactly the plaintext: for what is not authenticated. */
static int refused_or_same(const KMSENV_TEST_BYTES *m, const unsigned char *plain, size_t len)
{
    KMSENV_TEST_BYTES opened = { NULL, 0 };
    int ok = open_in(m, 0, &opened) ? TEST_mem_eq(opened.data, opened.len, plain, len)
                                    : kmsenv_test_error_is(KMSENV_TEST_ANY);

    kmsenv_test_bytes_reset(&opened);
    return ok;
}

static int seal_segments(const KMSENV_TEST *on, unsigned bits, size_t len, KMSENV_TEST_BYTES *out)
{
    OSSL_PARAM params[2] = { OSSL_PARAM_END, OSSL_PARAM_END };

    params[0] = OSSL_PARAM_construct_uint(KMSENV_CIPHER_PARAM_SEGMENT_BITS, &bits);
    return kmsenv_test_crypt_key(on, 1, NULL, params, data, len, 1000, out);
}

/* The fields of the header, read by other code than the provider's. */
static int test_layout(void)
{
    static const unsigned char name[] = "\x0c\x0ckms-envelope";
    static const unsigned char version[] = { 0x02, 0x01, 0x01 };
    static const unsigned char gcm256[] = { 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2e };
    static const unsigned char bits35[] = { 0x02, 0x01, 0x23 };
    KMSENV_DER e, id, salt, commitment;

    return TEST_true(kmsenv_der_find(&whole, "", &e))
        && TEST_size_t_eq(whole.len, e.end + 200 + KMSENV_TRAILER_LEN)
        && TEST_size_t_eq(kmsenv_der_count(&whole, &e), 4)
        && kmsenv_der_find(&whole, "0", &e) && TEST_mem_eq(whole.data + e.at, e.end - e.at, name, sizeof(name) - 1)
        && kmsenv_der_find(&whole, "1", &e) && TEST_mem_eq(whole.data + e.at, e.end - e.at, version, sizeof(version))
        && kmsenv_der_find(&whole, "20", &id) && TEST_size_t_eq(id.end - id.body, KMSENV_DEK_ID_LEN)
        && kmsenv_der_find(&whole, "22", &e) && TEST_size_t_eq(kmsenv_der_count(&whole, &e), 1)
        && kmsenv_der_find(&whole, "3", &e) && TEST_size_t_eq(kmsenv_der_count(&whole, &e), 4)
        && kmsenv_der_find(&whole, "30", &e) && TEST_mem_eq(whole.data + e.at, e.end - e.at, gcm256, sizeof(gcm256))
        && kmsenv_der_find(&whole, "31", &salt) && TEST_size_t_eq(salt.end - salt.body, KMSENV_SALT_LEN)
        && kmsenv_der_find(&whole, "32", &e) && TEST_mem_eq(whole.data + e.at, e.end - e.at, bits35, sizeof(bits35))
        && kmsenv_der_find(&whole, "33", &commitment)
        && TEST_size_t_eq(commitment.end - commitment.body, KMSENV_COMMITMENT_LEN);
}

static int cuts(const KMSENV_TEST_BYTES *m)
{
    size_t n;
    int ok = 1;

    for (n = 0; ok && n < m->len; n++) {
        unsigned char *exact = malloc(n + 1);   /* a copy of its own, so that a read past the end is seen */
        KMSENV_TEST_BYTES piece = { exact, n };

        ok = TEST_ptr(exact);
        if (ok) {
            memcpy(exact, m->data, n);
            ok = refused(&piece);
        }
        if (!ok)
            TEST_info("cut after %zu of %zu bytes", n, m->len);
        free(exact);
    }
    return ok;
}

static int test_cut_anywhere(void)
{
    return cuts(&whole);
}

/* Near every boundary of a message of three segments, and at steps between. */
static int test_cut_segments(void)
{
    KMSENV_TEST_BYTES cut = threefold;
    size_t at, past;
    int ok = 1;

    for (at = header; ok && at < threefold.len; at++) {
        past = (at - header + 20) % SEALED_SEGMENT;
        if (past > 40 && at % 97 != 0)
            continue;
        cut.len = at;
        ok = refused(&cut);
        if (!ok)
            TEST_info("cut after %zu of %zu bytes", at, threefold.len);
    }
    return ok;
}

static int flips(const KMSENV_TEST_BYTES *m, size_t plain, size_t step)
{
    static const unsigned char masks[] = { 0x01, 0x20, 0x80 };
    KMSENV_DER wraps;
    size_t at, i;
    int ok = kmsenv_der_find(m, "22", &wraps);

    for (at = 0; ok && at < m->len; at += at < wraps.end + 200 ? 1 : step)
        for (i = 0; ok && i < sizeof(masks); i++) {
            m->data[at] ^= masks[i];
            ok = at >= wraps.body && at < wraps.end ? refused_or_same(m, data, plain) : refused(m);
            m->data[at] ^= masks[i];
            if (!ok)
                TEST_info("byte %zu of %zu xor %02x", at, m->len, masks[i]);
        }
    return ok;
}

static int test_flip_every_byte(void)
{
    return flips(&whole, 200, 1);
}

static int test_flip_segments(void)
{
    return flips(&threefold, PLAIN, 53);
}

static int appended(const KMSENV_TEST_BYTES *to)
{
    static const size_t more[] = { 1, KMSENV_TRAILER_LEN - 1, KMSENV_TRAILER_LEN, KMSENV_TRAILER_LEN + 1, 300, SEALED_SEGMENT };
    KMSENV_TEST_BYTES m = { calloc(1, to->len + SEALED_SEGMENT), to->len };
    size_t i;
    int ok = TEST_ptr(m.data);

    if (ok)
        memcpy(m.data, to->data, to->len);
    for (i = 0; ok && i < sizeof(more) / sizeof(more[0]); i++) {
        memcpy(m.data + to->len, to->data + (to->len > more[i] ? to->len - more[i] : 0), to->len > more[i] ? more[i] : to->len);
        m.len = to->len + more[i];
        ok = refused(&m);
    }
    kmsenv_test_bytes_reset(&m);
    return ok;
}

/* After a last segment that is short, and after one that is full. */
static int test_appended(void)
{
    KMSENV_TEST_BYTES full = { NULL, 0 };
    int ok = appended(&whole) && appended(&threefold)
        && TEST_true(seal_segments(t, 12, 2 * SEGMENT, &full)) && appended(&full)
        && TEST_true(seal_segments(t, 12, 0, &full)) && appended(&full);

    kmsenv_test_bytes_reset(&full);
    return ok;
}

/* Messages put together from the segments 0, 1, 2 of one message and, as 3, 4, 5, those of another. */
static const char *const arrangements[] = {
    "", "0", "01", "1", "2", "12", "02", "021", "102", "210", "0012", "0112", "0122", "01212", "0120", "3", "312", "042",
    "015", "345", "0125", "01222", "201", "10", "20", "21",
};

static int test_arrangements(int idx)
{
    KMSENV_TEST_BYTES other = { NULL, 0 }, m = { NULL, 0 };
    const char *c;
    int ok = TEST_true(seal_segments(t, 12, PLAIN, &other)) && TEST_size_t_eq(other.len, threefold.len)
        && TEST_ptr(m.data = malloc(header + 8 * SEALED_SEGMENT));

    if (ok) {
        memcpy(m.data, threefold.data, header);
        m.len = header;
        for (c = arrangements[idx]; *c != '\0'; c++) {
            const KMSENV_TEST_BYTES *from = *c >= '3' ? &other : &threefold;
            size_t at = header + (size_t)((*c - '0') % 3) * SEALED_SEGMENT;
            size_t n = from->len - at < SEALED_SEGMENT ? from->len - at : SEALED_SEGMENT;

            memcpy(m.data + m.len, from->data + at, n);
            m.len += n;
        }
        ok = refused(&m);
    }
    kmsenv_test_bytes_reset(&other);
    kmsenv_test_bytes_reset(&m);
    return ok;
}

/* One element in another encoding. Returns how many bytes, 0 if the mutation does not apply. */
enum { LONG_LENGTH, LONGER_LENGTH, INDEFINITE, TWICE, GONE, CONSTRUCTED, TAG, EMPTIED, TRAILING, SHORT, ZERO_AHEAD,
       MUTATIONS };

static size_t put(unsigned char *out, const unsigned char *head, size_t h, const unsigned char *p, size_t n)
{
    memcpy(out, head, h);
    memcpy(out + h, p, n);
    return h + n;
}

static size_t mutate(const unsigned char *p, const KMSENV_DER *e, int how, unsigned char *out)
{
    const unsigned char *body = p + e->body;
    size_t n = e->end - e->body, h, whole_len = e->end - e->at;
    unsigned char head[8] = { p[e->at] };

    switch (how) {
    case LONG_LENGTH:
    case LONGER_LENGTH:
        h = how == LONGER_LENGTH || n >= 0x80 ? 3 : 1;   /* bytes of length */
        head[1] = (unsigned char)(0x80 | h);
        head[2] = (unsigned char)(h == 1 ? n : n >> 16);
        head[3] = (unsigned char)(n >> 8);
        head[4] = (unsigned char)n;
        return put(out, head, 2 + h, body, n);
    case INDEFINITE:
        head[1] = 0x80;
        h = put(out, head, 2, body, n);
        out[h] = out[h + 1] = 0;
        return h + 2;
    case TWICE:
        return put(out, p + e->at, whole_len, p + e->at, whole_len);
    case CONSTRUCTED:
    case TAG:
        h = put(out, p + e->at, whole_len, p, 0);
        out[0] ^= how == TAG ? 0x01 : 0x20;
        return h;
    case EMPTIED:
        return n == 0 ? 0 : put(out, head, 2, p, 0);   /* head[1] is 0 */
    case TRAILING:
        h = kmsenv_der_head(p[e->at], n + 2, head);
        h = put(out, head, h, body, n);
        out[h] = 0x05;
        out[h + 1] = 0x00;
        return h + 2;
    case SHORT:
        if (n == 0)
            return 0;
        return put(out, head, kmsenv_der_head(p[e->at], n - 1, head), body, n - 1);
    case ZERO_AHEAD:
        if (p[e->at] != 0x02)
            return 0;
        h = kmsenv_der_head(0x02, n + 1, head);
        head[h++] = 0;
        return put(out, head, h, body, n);
    default:
        return 0;
    }
}

/* Deleting or repeating a wrap is still a well-formed data key, and wraps are not authenticated. */
static int is_free(const char *path, int how)
{
    size_t depth = strlen(path);

    return strncmp(path, "22", 2) == 0
        && ((depth == 3 && (how == TWICE || how == GONE))
            || (depth == 2 && how == EMPTIED)                                  /* a detached data key */
            || (depth >= 4 && (how == SHORT || how == GONE)));                 /* another ciphertext, or none of an option */
}

static int mutations_at(const char *path)
{
    KMSENV_TEST_BYTES m = { NULL, 0 };
    unsigned char with[4096];
    KMSENV_DER e;
    size_t n;
    int how, ok = kmsenv_der_find(&whole, path, &e) && TEST_size_t_lt(2 * (e.end - e.at) + 16, sizeof(with));

    for (how = 0; ok && how < MUTATIONS; how++) {
        n = mutate(whole.data, &e, how, with);
        if (n == 0 && how != GONE)
            continue;
        ok = kmsenv_der_replace(&whole, path, with, n, &m)
            && (is_free(path, how) ? refused_or_same(&m, data, 200) : refused(&m));
        if (!ok)
            TEST_info("mutation %d of the element %s", how, path);
    }
    kmsenv_test_bytes_reset(&m);
    return ok;
}

/* Every element of the header, depth first. The count makes sure that the walk went down. */
static int walk(const char *path, int *visited)
{
    KMSENV_DER e;
    char child[64];
    size_t i, n;

    if (!kmsenv_der_find(&whole, path, &e) || !mutations_at(path))
        return 0;
    ++*visited;
    n = kmsenv_der_count(&whole, &e);
    for (i = 0; i < n; i++) {
        snprintf(child, sizeof(child), "%s%zu", path, i);
        if (!walk(child, visited))
            return 0;
    }
    return 1;
}

static int test_other_encodings(void)
{
    int visited = 0;

    return walk("", &visited) && TEST_int_ge(visited, 15);
}

static const struct { unsigned bits; int good; } sizes[] = {
    { 0, 0 }, { 1, 0 }, { 11, 0 }, { 12, 1 }, { 13, 1 }, { 14, 1 }, { 16, 1 }, { 20, 1 }, { 24, 1 }, { 30, 1 }, { 31, 1 },
    { 32, 1 }, { 33, 1 }, { 34, 1 }, { 35, 1 }, { 36, 0 }, { 63, 0 }, { 64, 0 }, { 255, 0 }, { 268, 0 }, { 0xffffffff, 0 },
};

static int test_segment_bits(int idx)
{
    KMSENV_TEST_BYTES sealed = { NULL, 0 }, opened = { NULL, 0 };
    unsigned bits = sizes[idx].bits;
    KMSENV_DER e;
    EVP_CIPHER_CTX *ctx = kmsenv_test_ctx(t, 1, NULL, NULL);
    OSSL_PARAM params[2] = { OSSL_PARAM_END, OSSL_PARAM_END };
    size_t segments = bits == 12 ? 3 : bits == 13 ? 2 : 1;
    int ok;

    params[0] = OSSL_PARAM_construct_uint(KMSENV_CIPHER_PARAM_SEGMENT_BITS, &bits);
    if (sizes[idx].good)
        ok = TEST_ptr(ctx) && TEST_true(EVP_CIPHER_CTX_set_params(ctx, params))
            && TEST_true(kmsenv_test_run(ctx, data, PLAIN, 1000, &sealed))
            && kmsenv_der_read(&sealed, 0, &e)
            && TEST_size_t_eq(sealed.len, e.end + PLAIN + segments * KMSENV_TRAILER_LEN)
            && TEST_true(open_in(&sealed, 500, &opened)) && TEST_mem_eq(opened.data, opened.len, data, PLAIN)
            && kmsenv_test_no_error();
    else
        ok = TEST_ptr(ctx) && TEST_false(EVP_CIPHER_CTX_set_params(ctx, params))
            && kmsenv_test_error_is(KMSENV_R_PARAMETER_INVALID);
    EVP_CIPHER_CTX_free(ctx);
    kmsenv_test_bytes_reset(&sealed);
    kmsenv_test_bytes_reset(&opened);
    return ok;
}

/* Lengths around the segment boundary: the last segment is never empty unless the message is. */
static int test_boundaries(void)
{
    static const size_t lengths[] = { 0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT - 1, 2 * SEGMENT,
                                      2 * SEGMENT + 1 };
    KMSENV_TEST_BYTES sealed = { NULL, 0 }, opened = { NULL, 0 };
    KMSENV_DER e;
    size_t i, n, segments;
    int ok = 1;

    for (i = 0; ok && i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        n = lengths[i];
        segments = n == 0 ? 1 : (n + SEGMENT - 1) / SEGMENT;
        ok = TEST_true(seal_segments(t, 12, n, &sealed)) && kmsenv_der_read(&sealed, 0, &e)
            && TEST_size_t_eq(sealed.len, e.end + n + segments * KMSENV_TRAILER_LEN)
            && TEST_true(open_in(&sealed, 0, &opened)) && TEST_mem_eq(opened.data, opened.len, data, n)
            && TEST_true(open_in(&sealed, 1, &opened)) && TEST_mem_eq(opened.data, opened.len, data, n);
    }
    kmsenv_test_bytes_reset(&sealed);
    kmsenv_test_bytes_reset(&opened);
    return ok && kmsenv_test_no_error();
}

/*
 * Small segments and large updates: more trailers than an update may emit. Either everything comes out
 * well, or an update refuses and says what to change; never final, when it is too late to change it.
 * first: updates of one byte before the large one.
 */
static const struct { int first; size_t large; int fits; } overruns[] = {
    { 0, SEGMENT, 1 }, { 0, 8 * SEGMENT, 1 }, { 0, 64 * SEGMENT, 0 }, { 5, 64 * SEGMENT, 0 }, { 40, 8 * SEGMENT, 1 },
    { 40, 64 * SEGMENT, 0 }, { 200, 100 * SEGMENT, 0 },
};

static int test_overrun(int idx)
{
    unsigned bits = 12;
    OSSL_PARAM params[2] = { OSSL_PARAM_END, OSSL_PARAM_END };
    size_t n = overruns[idx].large;
    unsigned char *in = calloc(1, n), *out = kmsenv_test_guarded(n + 512), last[512];
    EVP_CIPHER_CTX *ctx;
    int i, outl = 0, ok, fits;

    params[0] = OSSL_PARAM_construct_uint(KMSENV_CIPHER_PARAM_SEGMENT_BITS, &bits);
    ctx = kmsenv_test_ctx(t, 1, NULL, params);
    ok = TEST_ptr(ctx) && TEST_ptr(in) && TEST_ptr(out);
    for (i = 0; ok && i < overruns[idx].first; i++)
        ok = TEST_true(EVP_CipherUpdate(ctx, out, &outl, in, 1));
    fits = ok && EVP_CipherUpdate(ctx, out, &outl, in, (int)n);
    ok = ok && TEST_int_eq(fits, overruns[idx].fits)
        && (fits ? TEST_true(EVP_CipherFinal_ex(ctx, last, &outl))
                 : kmsenv_test_error_says(KMSENV_R_QUEUE_OVERRUN, "segment-bits|smaller updates|block-size"));
    EVP_CIPHER_CTX_free(ctx);
    kmsenv_test_guarded_free(out, n + 512);
    free(in);
    return ok && kmsenv_test_no_error();
}

/* The header as a parameter is the header in the message, on both sides. */
static int test_header_parameter(void)
{
    KMSENV_TEST_BYTES out = { NULL, 0 };
    EVP_CIPHER_CTX *ctx = kmsenv_test_ctx(t, 0, NULL, NULL);
    unsigned char room[1024], id[KMSENV_DEK_ID_LEN];
    OSSL_PARAM q[3] = { OSSL_PARAM_END, OSSL_PARAM_END, OSSL_PARAM_END };
    KMSENV_DER e, name;
    int ok;

    q[0] = OSSL_PARAM_construct_octet_string(KMSENV_CIPHER_PARAM_HEADER, room, sizeof(room));
    q[1] = OSSL_PARAM_construct_octet_string(KMSENV_CIPHER_PARAM_DATA_KEY_ID, id, sizeof(id));
    ok = TEST_ptr(ctx) && kmsenv_der_read(&whole, 0, &e) && kmsenv_der_find(&whole, "20", &name)
        && TEST_true(kmsenv_test_run(ctx, whole.data, whole.len, 0, &out))
        && TEST_true(EVP_CIPHER_CTX_get_params(ctx, q))
        && TEST_mem_eq(room, q[0].return_size, whole.data, e.end)
        && TEST_mem_eq(id, q[1].return_size, whole.data + name.body, name.end - name.body);
    EVP_CIPHER_CTX_free(ctx);
    kmsenv_test_bytes_reset(&out);
    return ok && kmsenv_test_no_error();
}

/* What is not a message at all is told apart from a damaged one. */
static int test_not_a_message(void)
{
    static const char *const texts[] = {
        "hello world, this is not one of ours", "Salted__12345678abcdefgh", "-----BEGIN KMS SEALED KEY-----\n",
        "\x30\x80\x0c\x0ckms-envelope", "\x1f\x8b\x08",
    };
    KMSENV_TEST_BYTES opened = { NULL, 0 };
    unsigned char der[1028];
    size_t i;
    int ok = 1;

    for (i = 0; ok && i < sizeof(texts) / sizeof(texts[0]); i++)
        ok = TEST_false(kmsenv_test_crypt(t, 0, (const unsigned char *)texts[i], strlen(texts[i]), &opened))
            && TEST_size_t_eq(opened.len, 0) && kmsenv_test_error_is(KMSENV_R_NOT_AN_ENVELOPE);
    /* Some DER of others: SEQUENCE { INTEGER, ... } of 1024 bytes */
    memcpy(der, "\x30\x82\x04\x00\x02\x01\x00\x02\x82\x01\x01", 11);
    kmsenv_test_fill(der + 11, sizeof(der) - 11, 9);
    ok = ok && TEST_false(kmsenv_test_crypt(t, 0, der, sizeof(der), &opened)) && TEST_size_t_eq(opened.len, 0)
        && kmsenv_test_error_is(KMSENV_R_NOT_AN_ENVELOPE);
    kmsenv_test_bytes_reset(&opened);
    return ok;
}

int setup_tests(void)
{
    KMSENV_DER e;

    kmsenv_test_fill(data, sizeof(data), 1);
    if (!TEST_ptr(t = kmsenv_test_new(KMSENV_TEST_LOCAL))
            || !TEST_true(kmsenv_test_crypt(t, 1, data, 200, &whole))
            || !TEST_true(seal_segments(t, 12, PLAIN, &threefold))
            || !kmsenv_der_read(&threefold, 0, &e))
        return 0;
    header = e.end;
    ADD_TEST(test_layout);
    ADD_TEST(test_cut_anywhere);
    ADD_TEST(test_cut_segments);
    ADD_TEST(test_flip_every_byte);
    ADD_TEST(test_flip_segments);
    ADD_TEST(test_appended);
    ADD_ALL_TESTS(test_arrangements, (int)(sizeof(arrangements) / sizeof(arrangements[0])));
    ADD_TEST(test_other_encodings);
    ADD_ALL_TESTS(test_segment_bits, (int)(sizeof(sizes) / sizeof(sizes[0])));
    ADD_TEST(test_boundaries);
    ADD_ALL_TESTS(test_overrun, (int)(sizeof(overruns) / sizeof(overruns[0])));
    ADD_TEST(test_header_parameter);
    ADD_TEST(test_not_a_message);
    return 1;
}

void cleanup_tests(void)
{
    kmsenv_test_bytes_reset(&whole);
    kmsenv_test_bytes_reset(&threefold);
    kmsenv_test_free(t);
}
