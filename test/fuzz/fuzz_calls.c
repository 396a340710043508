/*
 * Any order of EVP calls on a pair of contexts, as the input dictates, two bytes a call. Nothing may
 * be written outside the promised room, every failure leaves one error and every success none, and a
 * message that was made whole opens to what went in.
 */
#include <openssl/core_names.h>
#include <openssl/params.h>
#include "fuzz_provider.h"
#include "kmsenv/format.h"

#define SURPLUS   31
#define BLOCK     512
#define TEXT_MAX  (1 << 18)
#define CALLS_MAX 200

typedef struct side_st {
    EVP_CIPHER_CTX *ctx;
    int live;                 /* a cipher is set */
    int clean;                /* since the last init every call succeeded, and it encrypts without AAD */
    size_t plain, sealed;     /* bytes so far */
    unsigned char *in, *out;
} SIDE;

static unsigned char pattern[16 * 4096];
static const unsigned char key[KMSENV_CALLER_KEY_LEN] = { 7 };

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    size_t i;

    (void)argc;
    (void)argv;
    for (i = 0; i < sizeof(pattern); i++)
        pattern[i] = (unsigned char)(i * 31 + i / 256);
    fuzz_provider_start();
    return 0;
}

static void begin(SIDE *s, int ok, int enc)
{
    s->clean = ok && enc;
    s->plain = s->sealed = 0;
}

static int do_init(SIDE *s, unsigned arg)
{
    const EVP_CIPHER *cipher = (arg & 1) || !s->live ? fuzz_cipher : NULL;
    int enc = (arg & 2) ? 1 : (arg & 4) ? 0 : -1, ok;

    if (enc == -1 && cipher != NULL)
        enc = 1;
    ok = EVP_CipherInit_ex2(s->ctx, cipher, (arg & 8) ? key : NULL, NULL, enc, NULL);
    s->live |= ok;
    begin(s, ok, EVP_CIPHER_CTX_is_encrypting(s->ctx));
    return ok;
}

static int do_update(SIDE *s, unsigned arg, int in_place)
{
    size_t n = arg < 128 ? arg : arg < 240 ? (arg - 127) * 32 : (arg - 239) * 4096;
    unsigned char *room;
    int outl = 0, ok;

    if (s->plain + n > TEXT_MAX)
        return 1;
    FUZZ_REQUIRE((room = malloc(n + SURPLUS + 1)) != NULL);
    memcpy(room, pattern, n);
    ok = EVP_CipherUpdate(s->ctx, room, &outl, in_place ? room : pattern, (int)n);
    FUZZ_REQUIRE(outl >= 0 && (size_t)outl <= n + SURPLUS);
    if (ok && s->clean) {
        memcpy(s->in + s->plain, pattern, n);
        memcpy(s->out + s->sealed, room, (size_t)outl);
        s->plain += n;
        s->sealed += (size_t)outl;
    }
    s->clean &= ok;
    free(room);
    return ok;
}

static void check_opens(const SIDE *s)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    unsigned char *back = malloc(s->sealed + BLOCK);
    int with_key, n = 0, m = 0, ok = 0;

    FUZZ_REQUIRE(ctx != NULL && back != NULL);
    for (with_key = 0; !ok && with_key < 2; with_key++) {
        ok = EVP_CipherInit_ex2(ctx, fuzz_cipher, with_key ? key : NULL, NULL, 0, NULL)
            && EVP_CipherUpdate(ctx, back, &n, s->out, (int)s->sealed) && EVP_CipherFinal_ex(ctx, back + n, &m);
        ERR_clear_error();
    }
    FUZZ_REQUIRE(ok && (size_t)(n + m) == s->plain && memcmp(back, s->in, s->plain) == 0);
    free(back);
    EVP_CIPHER_CTX_free(ctx);
}

static int do_final(SIDE *s)
{
    unsigned char *room = malloc(BLOCK);
    int outl = 0, ok;

    FUZZ_REQUIRE(room != NULL);
    ok = EVP_CipherFinal_ex(s->ctx, room, &outl);
    FUZZ_REQUIRE(outl >= 0 && outl <= BLOCK);
    FUZZ_REQUIRE(ok || !s->clean);   /* what the updates took, final can end */
    if (ok && s->clean) {
        memcpy(s->out + s->sealed, room, (size_t)outl);
        s->sealed += (size_t)outl;
        check_opens(s);
    }
    s->clean = 0;
    free(room);
    return ok;
}

static int do_aad(SIDE *s, unsigned arg)
{
    int outl = 0, ok = EVP_CipherUpdate(s->ctx, NULL, &outl, arg == 0 ? NULL : pattern, (int)arg);

    if (arg > 0)
        s->clean = 0;
    return ok;
}

static int do_param(SIDE *s, unsigned arg)
{
    static const char *const contexts[] = { "", "a=b", "a=b,c=d", "=", "a", "\\", "a=\\", "x=1,x=2" };
    OSSL_PARAM params[2] = { OSSL_PARAM_END, OSSL_PARAM_END };
    unsigned bits = arg >> 2;

    if ((arg & 3) == 0)
        params[0] = OSSL_PARAM_construct_utf8_string(KMSENV_CIPHER_PARAM_CONTEXT, (char *)contexts[(arg >> 2) & 7], 0);
    else if ((arg & 3) == 1)
        params[0] = OSSL_PARAM_construct_octet_string(KMSENV_CIPHER_PARAM_DATA_KEY, pattern, arg >> 2);
    else if ((arg & 3) == 2)
        params[0] = OSSL_PARAM_construct_utf8_string(KMSENV_CIPHER_PARAM_PROFILE, (char *)((arg & 4) ? "default" : "x"), 0);
    else
        params[0] = OSSL_PARAM_construct_uint(KMSENV_CIPHER_PARAM_SEGMENT_BITS, &bits);
    return EVP_CIPHER_CTX_set_params(s->ctx, params);
}

static int do_get(SIDE *s, unsigned arg)
{
    unsigned char room[256];
    OSSL_PARAM params[3] = { OSSL_PARAM_END, OSSL_PARAM_END, OSSL_PARAM_END };

    params[0] = OSSL_PARAM_construct_octet_string(KMSENV_CIPHER_PARAM_HEADER, (arg & 1) ? room : NULL, arg);
    params[1] = OSSL_PARAM_construct_octet_string(KMSENV_CIPHER_PARAM_DATA_KEY_ID, room, arg & 31);
    EVP_CIPHER_CTX_get_params(s->ctx, params);
    ERR_clear_error();
    return 1;
}

/* libcrypto adds an error of its own when a copy is refused. */
static int do_copy(SIDE *to, const SIDE *from)
{
    int ok = EVP_CIPHER_CTX_copy(to->ctx, from->ctx);

    ERR_clear_error();
    to->live = ok;
    to->clean = ok && from->clean;
    to->plain = to->sealed = 0;
    FUZZ_REQUIRE(!ok || !from->clean || from->sealed == 0);   /* never after the first byte of a message */
    if (!ok)
        EVP_CIPHER_CTX_reset(to->ctx);
    return 1;
}

static int one_call(SIDE *s, SIDE *other, unsigned what, unsigned arg)
{
    if (!s->live)
        return do_init(s, arg);
    switch (what % 9) {
    case 0: return do_init(s, arg);
    case 1:
    case 2: return do_update(s, arg, 0);
    case 3: return do_update(s, arg, 1);
    case 4: return do_final(s);
    case 5: return do_aad(s, arg);
    case 6: return do_param(s, arg);
    case 7: return do_get(s, arg);
    default: return do_copy(other, s);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    SIDE side[2];
    size_t i;
    int which;

    memset(side, 0, sizeof(side));
    for (which = 0; which < 2; which++) {
        side[which].ctx = EVP_CIPHER_CTX_new();
        side[which].in = malloc(TEXT_MAX);
        side[which].out = malloc(TEXT_MAX + TEXT_MAX / 64);
        FUZZ_REQUIRE(side[which].ctx != NULL && side[which].in != NULL && side[which].out != NULL);
    }
    for (i = 0; i + 1 < size && i < 2 * CALLS_MAX; i += 2) {
        which = data[i] >> 7;
        fuzz_check_queue(one_call(&side[which], &side[!which], data[i] & 0x7f, data[i + 1]));
    }
    for (which = 0; which < 2; which++) {
        EVP_CIPHER_CTX_free(side[which].ctx);
        free(side[which].in);
        free(side[which].out);
    }
    return 0;
}
