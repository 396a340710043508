/* Base64 with both alphabets: all lengths there and back, and everything that is not the one text of some bytes. */
#include <string.h>
#include "testutil.h"
#include "kms/base64.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct {
    int (*add)(KMSENV_BUFFER *, const void *, size_t);
    int (*decode)(const char *, size_t, unsigned char *, size_t *);
    int padded;
    const char *foreign;               /* digits of the other alphabet */
} codecs[] = {
    { kmsenv_base64_add, kmsenv_base64_decode, 1, "-_" },
    { kmsenv_base64url_add, kmsenv_base64url_decode, 0, "+/=" },
};

static int test_round_trip(int i)
{
    unsigned char in[200], out[200];
    KMSENV_BUFFER text;
    size_t n, outlen;
    int ok = 1;

    for (n = 0; n < sizeof(in); n++)
        in[n] = (unsigned char)(n * 37 + 11);
    for (n = 0; ok && n <= sizeof(in); n++) {
        kmsenv_buffer_init(&text, 400, 1);
        outlen = n;
        ok = TEST_true(codecs[i].add(&text, in, n))
             && TEST_size_t_eq(text.length, codecs[i].padded ? (n + 2) / 3 * 4 : (n * 4 + 2) / 3)
             && TEST_size_t_eq(strcspn(kmsenv_buffer_text(&text), codecs[i].foreign), text.length)
             && TEST_true(codecs[i].decode(kmsenv_buffer_text(&text), text.length, out, &outlen))
             && TEST_mem_eq(out, outlen, in, n);
        outlen = n - 1;
        if (n > 0)
            ok = ok && TEST_false(codecs[i].decode(kmsenv_buffer_text(&text), text.length, out, &outlen));
        kmsenv_buffer_reset(&text);
    }
    return ok;
}

static const struct { int codec; const char *text; size_t n; } bad[] = {
#define BAD(codec, text) { codec, text, sizeof(text) - 1 }
    BAD(0, "A"), BAD(0, "AA"), BAD(0, "AAA"), BAD(0, "AAAAA"), BAD(0, "="), BAD(0, "===="), BAD(0, "A==="), BAD(0, "AA=A"),
    BAD(0, "=AAA"), BAD(0, "AAA=AAAA"), BAD(0, "AA==AAAA"), BAD(0, "AB=="), BAD(0, "AAB="), BAD(0, "AA==\n"), BAD(0, " AA=="),
    BAD(0, "AA =="), BAD(0, "AA-_"), BAD(0, "AAAA\n"), BAD(0, "\nAAA"), BAD(0, "A\nAA"), BAD(0, "AA\0="), BAD(0, "\xc3\xa9=="),
    BAD(0, "AA==="),
    BAD(1, "A"), BAD(1, "AAAAA"), BAD(1, "AB"), BAD(1, "AAB"), BAD(1, "AA=="), BAD(1, "AAA="), BAD(1, "A+AA"), BAD(1, "A/AA"),
    BAD(1, "AA*A"), BAD(1, "AA\n"), BAD(1, " AAA"), BAD(1, "AA\0A"), BAD(1, "\0"), BAD(1, "AA\0"), BAD(1, "\xc3\xa9"),
};

static int test_bad(int i)
{
    unsigned char out[16];
    size_t n = sizeof(out);

    return TEST_false(codecs[bad[i].codec].decode(bad[i].text, bad[i].n, out, &n)) && TEST_size_t_eq(n, sizeof(out));
}

int setup_tests(void)
{
    ADD_ALL_TESTS(test_round_trip, COUNT(codecs));
    ADD_ALL_TESTS(test_bad, COUNT(bad));
    return 1;
}
