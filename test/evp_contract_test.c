/*
 * The contract of the cipher kms-envelope with libcrypto and its callers: output sizes, buffers,
 * every order of init calls, keys. evp_context_test.c has additional data, copies and parameters,
 * message_test.c what is in a message.
 */
#include <stdlib.h>
#include <string.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include "testutil.h"
#include "kmsenv/format.h"
#include "kmsenv_test.h"

#define BLOCK 512   /* the default */

static KMSENV_TEST *t;
static unsigned char key[KMSENV_CALLER_KEY_LEN], other_key[KMSENV_CALLER_KEY_LEN];
static const unsigned char zeros[KMSENV_CALLER_KEY_LEN];
static unsigned char data[3 * 8192];

static const struct { const char *settings; int block; } blocks[] = {
    { KMSENV_TEST_LOCAL, 512 },
    { KMSENV_TEST_LOCAL "block-size = 512\n", 512 },
    { KMSENV_TEST_LOCAL "block-size = 1024\n", 1024 },
    { KMSENV_TEST_LOCAL "block-size = 2048\n", 2048 },
    { KMSENV_TEST_LOCAL "block-size = 4096\n", 4096 },
    { KMSENV_TEST_LOCAL "block-size = 8192\n", 8192 },
};

/* One message of len bytes in updates of chunk bytes, there and back; every buffer ends at a guard page. */
static int round_trip(const KMSENV_TEST *on, size_t block, size_t len, size_t chunk)
{
    KMSENV_TEST_BYTES sealed = { NULL, 0 }, opened = { NULL, 0 };
    int ok = TEST_true(kmsenv_test_crypt_key(on, 1, key, NULL, data, len, chunk, &sealed))
        && TEST_size_t_le(sealed.len, len + block)
        && TEST_true(kmsenv_test_crypt_key(on, 0, key, NULL, sealed.data, sealed.len, chunk, &opened))
        && TEST_mem_eq(opened.data, opened.len, data, len);

    if (!ok)
        TEST_info("block %zu, %zu bytes in updates of %zu", block, len, chunk);
    kmsenv_test_bytes_reset(&sealed);
    kmsenv_test_bytes_reset(&opened);
    return ok;
}

static int test_sizes(int idx)
{
    size_t block = (size_t)blocks[idx].block, n, near;
    KMSENV_TEST *on = kmsenv_test_new(blocks[idx].settings);
    EVP_CIPHER *cipher = NULL;
    int ok = TEST_ptr(on) && TEST_ptr(cipher = EVP_CIPHER_fetch(on->libctx, KMSENV_CIPHER_ENVELOPE, NULL))
        && TEST_int_eq(EVP_CIPHER_get_block_size(cipher), blocks[idx].block);

    /* Every size with the default block; with the others those around the multiples, and a sample. */
    for (n = 0; ok && n <= 3 * block; n++) {
        near = (n + 40) % block;
        if (idx != 0 && near > 80 && n % 31 != 0)
            continue;
        ok = round_trip(on, block, n, 0)
            && (n == 0 || round_trip(on, block, 2 * n + 1 < sizeof(data) ? 2 * n + 1 : n, n));
    }
    EVP_CIPHER_free(cipher);
    kmsenv_test_free(on);
    return ok && kmsenv_test_no_error();
}

/* Byte by byte, so that every amount of queued output meets every state. */
static int test_single_bytes(void)
{
    return round_trip(t, BLOCK, 0, 1) && round_trip(t, BLOCK, 1, 1) && round_trip(t, BLOCK, 5000, 1)
        && round_trip(t, BLOCK, 5000, 17) && kmsenv_test_no_error();
}

static int test_zero_length_updates(void)
{
    KMSENV_TEST_BYTES opened = { NULL, 0 };
    EVP_CIPHER_CTX *ctx = kmsenv_test_ctx(t, 1, key, NULL);
    unsigned char *sealed = malloc(1000 + BLOCK), room[BLOCK];
    size_t n = 0;
    int i, outl, ok = TEST_ptr(ctx) && TEST_ptr(sealed);

    for (i = 0; ok && i < 100; i++) {
        ok = TEST_true(EVP_CipherUpdate(ctx, room, &outl, data, 0)) && TEST_int_le(outl, 31);
        memcpy(sealed + n, room, (size_t)outl);
        n += (size_t)outl;
        ok = ok && TEST_true(EVP_CipherUpdate(ctx, room, &outl, data + i * 10, 10)) && TEST_int_le(outl, 41);
        memcpy(sealed + n, room, (size_t)outl);
        n += (size_t)outl;
    }
    ok = ok && TEST_true(EVP_CipherFinal_ex(ctx, sealed + n, &outl))
        && TEST_true(kmsenv_test_crypt_key(t, 0, key, NULL, sealed, n + (size_t)outl, 0, &opened))
        && TEST_mem_eq(opened.data, opened.len, data, 1000);
    EVP_CIPHER_CTX_free(ctx);
    free(sealed);
    kmsenv_test_bytes_reset(&opened);
    return ok && kmsenv_test_no_error();
}

/* in == out, with exactly the room that OpenSSL promises the provider */
static int run_in_place(int enc, const unsigned char *in, size_t inlen, size_t chunk, KMSENV_TEST_BYTES *out)
{
    EVP_CIPHER_CTX *ctx = kmsenv_test_ctx(t, enc, key, NULL);
    unsigned char *buf = kmsenv_test_guarded(chunk + BLOCK), *at;
    size_t done, n;
    int outl = 0, ok = TEST_ptr(ctx) && TEST_ptr(buf) && TEST_ptr(out->data = malloc(inlen + BLOCK));

    out->len = 0;
    for (done = 0; ok && done < inlen; done += n) {
        n = inlen - done < chunk ? inlen - done : chunk;
        at = buf + chunk - n;
        memcpy(at, in + done, n);
        ok = TEST_true(EVP_CipherUpdate(ctx, at, &outl, at, (int)n)) && TEST_size_t_le((size_t)outl, n + 31);
        if (ok)
            memcpy(out->data + out->len, at, (size_t)outl);
        out->len += (size_t)outl;
    }
    ok = ok && TEST_true(EVP_CipherFinal_ex(ctx, buf + chunk, &outl));
    if (ok)
        memcpy(out->data + out->len, buf + chunk, (size_t)outl);
    out->len += (size_t)outl;
    kmsenv_test_guarded_free(buf, chunk + BLOCK);
    EVP_CIPHER_CTX_free(ctx);
    return ok;
}

static const size_t in_place_chunks[] = { 1, 15, 16, 17, 31, 32, 100, 511, 512, 513, 4096, 9000 };

static int test_in_place(int idx)
{
    KMSENV_TEST_BYTES sealed = { NULL, 0 }, opened = { NULL, 0 };
    size_t chunk = in_place_chunks[idx];
    int ok = run_in_place(1, data, 9000, chunk, &sealed)
        && run_in_place(0, sealed.data, sealed.len, chunk, &opened)
        && TEST_mem_eq(opened.data, opened.len, data, 9000);

    kmsenv_test_bytes_reset(&sealed);
    kmsenv_test_bytes_reset(&opened);
    return ok && kmsenv_test_no_error();
}

/*
 * Scripts of calls on one context; the message that the last final completes must open with `opens`.
 * C init with cipher and key   c with cipher only   k with key only   o with another key only
 * n with nothing               e with nothing but the direction "encrypt"
 * u update   U long update   f final   r reset of the context
 */
static const struct { const char *calls; const unsigned char *opens; } scripts[] = {
    { "Cuf", key }, { "cuf", zeros }, { "ckuf", key }, { "cokuf", key }, { "Cf", key }, { "cf", zeros },
    { "Cnuf", key }, { "Cuuuf", key }, { "Ceuf", key }, { "cnkuf", key }, { "cknuf", key },
    { "Cufnuf", key }, { "Cufnufnufnuf", key }, { "cufnuf", zeros }, { "cufkuf", key }, { "Cufouf", other_key },
    { "Cunuf", key }, { "CUnuf", key }, { "CUUkuf", key }, { "cUnuf", zeros }, { "Cuouf", other_key },
    { "Cufcuf", zeros }, { "CUcuf", zeros }, { "CufrCuf", key }, { "CUrcuf", zeros }, { "Cuofnuf", other_key },
    { "CufeUf", key }, { "CUeUf", key },
};

static int call(EVP_CIPHER_CTX *ctx, EVP_CIPHER *cipher, char what, KMSENV_TEST_BYTES *out)
{
    size_t n = what == 'u' ? 100 : 5000;
    int outl = 0, ok = 0;

    switch (what) {
    case 'C': ok = EVP_CipherInit_ex2(ctx, cipher, key, NULL, 1, NULL); break;
    case 'c': ok = EVP_CipherInit_ex2(ctx, cipher, NULL, NULL, 1, NULL); break;
    case 'k': ok = EVP_CipherInit_ex2(ctx, NULL, key, NULL, -1, NULL); break;
    case 'o': ok = EVP_CipherInit_ex2(ctx, NULL, other_key, NULL, -1, NULL); break;
    case 'n': ok = EVP_CipherInit_ex2(ctx, NULL, NULL, NULL, -1, NULL); break;
    case 'e': ok = EVP_CipherInit_ex2(ctx, NULL, NULL, NULL, 1, NULL); break;
    case 'r': ok = EVP_CIPHER_CTX_reset(ctx); break;
    case 'f': ok = EVP_CipherFinal_ex(ctx, out->data + out->len, &outl); break;
    default: ok = EVP_CipherUpdate(ctx, out->data + out->len, &outl, data, (int)n); break;
    }
    out->len = what == 'u' || what == 'U' || what == 'f' ? out->len + (size_t)outl : 0;
    return TEST_true(ok);
}

static int test_init_orders(int idx)
{
    KMSENV_TEST_BYTES sealed = { NULL, 0 }, opened = { NULL, 0 };
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(t->libctx, KMSENV_CIPHER_ENVELOPE, NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    const char *c;
    size_t plain = 0;
    int ok = TEST_ptr(cipher) && TEST_ptr(ctx) && TEST_ptr(sealed.data = malloc(40000));

    for (c = scripts[idx].calls; ok && *c != '\0'; c++) {
        ok = call(ctx, cipher, *c, &sealed);
        plain = *c == 'u' ? plain + 100 : *c == 'U' ? plain + 5000 : *c == 'f' ? plain : 0;
    }
    ok = ok && TEST_true(kmsenv_test_crypt_key(t, 0, scripts[idx].opens, NULL, sealed.data, sealed.len, 0, &opened))
        && TEST_size_t_eq(opened.len, plain) && kmsenv_test_no_error();
    if (!ok)
        TEST_info("calls %s", scripts[idx].calls);
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
    kmsenv_test_bytes_reset(&sealed);
    kmsenv_test_bytes_reset(&opened);
    return ok;
}

/* One context encrypts, decrypts what it made, and so on; the key stays when none is given. */
static int test_direction_change(void)
{
    KMSENV_TEST_BYTES sealed = { NULL, 0 }, opened = { NULL, 0 };
    EVP_CIPHER_CTX *ctx = kmsenv_test_ctx(t, 1, key, NULL);
    int i, ok = TEST_ptr(ctx);

    for (i = 0; ok && i < 3; i++)
        ok = TEST_true(EVP_CipherInit_ex2(ctx, NULL, NULL, NULL, 1, NULL))
            && TEST_true(kmsenv_test_run(ctx, data, 777, 0, &sealed))
            && TEST_true(EVP_CipherInit_ex2(ctx, NULL, NULL, NULL, 0, NULL))
            && TEST_true(kmsenv_test_run(ctx, sealed.data, sealed.len, 0, &opened))
            && TEST_mem_eq(opened.data, opened.len, data, 777)
            && TEST_true(EVP_CipherInit_ex2(ctx, NULL, NULL, NULL, -1, NULL))   /* still decrypts */
            && TEST_true(kmsenv_test_run(ctx, sealed.data, sealed.len, 100, &opened))
            && TEST_mem_eq(opened.data, opened.len, data, 777);
    EVP_CIPHER_CTX_free(ctx);
    kmsenv_test_bytes_reset(&sealed);
    kmsenv_test_bytes_reset(&opened);
    return ok && kmsenv_test_no_error();
}

/* After final nothing is left to do but init; after an error the same, and init heals. */
static int test_after_final_and_error(void)
{
    KMSENV_TEST_BYTES sealed = { NULL, 0 }, opened = { NULL, 0 };
    EVP_CIPHER_CTX *ctx = kmsenv_test_ctx(t, 1, key, NULL);
    unsigned char room[BLOCK + 100];
    int outl = 0, ok;

    ok = TEST_ptr(ctx)
        && TEST_true(kmsenv_test_run(ctx, data, 100, 0, &sealed))
        && TEST_false(EVP_CipherUpdate(ctx, room, &outl, data, 10)) && kmsenv_test_error_is(KMSENV_R_WRONG_STATE)
        && TEST_false(EVP_CipherFinal_ex(ctx, room, &outl)) && kmsenv_test_error_is(KMSENV_R_WRONG_STATE)
        && TEST_true(EVP_CipherInit_ex2(ctx, NULL, NULL, NULL, 0, NULL))
        && TEST_false(kmsenv_test_run(ctx, data, 100, 0, &opened)) && kmsenv_test_error_is(KMSENV_R_NOT_AN_ENVELOPE)
        && TEST_size_t_eq(opened.len, 0)
        && TEST_false(EVP_CipherUpdate(ctx, room, &outl, sealed.data, 10)) && kmsenv_test_error_is(KMSENV_R_WRONG_STATE)
        && TEST_false(EVP_CipherFinal_ex(ctx, room, &outl)) && kmsenv_test_error_is(KMSENV_R_WRONG_STATE)
        && TEST_true(EVP_CipherInit_ex2(ctx, NULL, NULL, NULL, -1, NULL))
        && TEST_true(kmsenv_test_run(ctx, sealed.data, sealed.len, 0, &opened))
        && TEST_mem_eq(opened.data, opened.len, data, 100);
    EVP_CIPHER_CTX_free(ctx);
    kmsenv_test_bytes_reset(&sealed);
    kmsenv_test_bytes_reset(&opened);
    return ok && kmsenv_test_no_error();
}

static int opens_only_with(const unsigned char *sealed_with, const unsigned char *right, const unsigned char *wrong)
{
    KMSENV_TEST_BYTES sealed = { NULL, 0 }, opened = { NULL, 0 };
    int ok = TEST_true(kmsenv_test_crypt_key(t, 1, sealed_with, NULL, data, 6000, 0, &sealed))
        && TEST_true(kmsenv_test_crypt_key(t, 0, right, NULL, sealed.data, sealed.len, 0, &opened))
        && TEST_mem_eq(opened.data, opened.len, data, 6000)
        && TEST_false(kmsenv_test_crypt_key(t, 0, wrong, NULL, sealed.data, sealed.len, 100, &opened))
        && TEST_size_t_eq(opened.len, 0)                  /* not one byte of it */
        && kmsenv_test_error_is(KMSENV_R_COMMITMENT_MISMATCH);

    kmsenv_test_bytes_reset(&sealed);
    kmsenv_test_bytes_reset(&opened);
    return ok;
}

static int test_callers_key(void)
{
    return opens_only_with(key, key, other_key) && opens_only_with(key, key, NULL) && opens_only_with(key, key, zeros)
        && opens_only_with(NULL, NULL, key) && opens_only_with(NULL, zeros, key) && opens_only_with(zeros, NULL, key);
}

/* Two messages of the same bytes under the same key share nothing after the header's data key. */
static int test_messages_differ(void)
{
    KMSENV_TEST_BYTES a = { NULL, 0 }, b = { NULL, 0 };
    int ok = TEST_true(kmsenv_test_crypt_key(t, 1, key, NULL, data, 100, 0, &a))
        && TEST_true(kmsenv_test_crypt_key(t, 1, key, NULL, data, 100, 0, &b))
        && TEST_size_t_eq(a.len, b.len)
        && TEST_mem_ne(a.data + a.len - 117, 117, b.data + b.len - 117, 117);

    kmsenv_test_bytes_reset(&a);
    kmsenv_test_bytes_reset(&b);
    return ok;
}

/* A length that does not fit: BIO_read() of older OpenSSL can pass a negative one; EVP_Cipher() takes any unsigned. */
static int test_huge_input(void)
{
    EVP_CIPHER_CTX *ctx = kmsenv_test_ctx(t, 1, key, NULL);
    unsigned char *room = kmsenv_test_guarded(16);
    int outl = 0, ok = TEST_ptr(ctx) && TEST_ptr(room)
        && TEST_false(EVP_CipherUpdate(ctx, room, &outl, data, -1))
        && TEST_int_le(outl, 0);

    ERR_clear_error();   /* libcrypto's or ours */
    ok = ok && TEST_true(EVP_CipherInit_ex2(ctx, NULL, NULL, NULL, -1, NULL))
        && TEST_int_le(EVP_Cipher(ctx, room, data, 0xffffff00u), 0) && kmsenv_test_error_is(KMSENV_R_INPUT_TOO_LARGE);
    kmsenv_test_guarded_free(room, 16);
    EVP_CIPHER_CTX_free(ctx);
    return ok;
}

/* `openssl speed`: one context, thousands of updates in place with 64 bytes to spare */
static int test_speed_loop(void)
{
    static const int sizes[] = { 16, 64, 256, 1024, 8192 };
    unsigned char *buf;
    size_t i;
    int n, outl = 0, ok = 1;

    for (i = 0; ok && i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t room = (size_t)sizes[i] + 64;
        EVP_CIPHER_CTX *ctx = kmsenv_test_ctx(t, 1, key, NULL);

        ok = TEST_ptr(ctx) && TEST_ptr(buf = kmsenv_test_guarded(room));
        for (n = 0; ok && n < 2000; n++)
            ok = TEST_true(EVP_CipherUpdate(ctx, buf, &outl, buf, sizes[i])) && TEST_int_le(outl, sizes[i] + 31);
        ok = ok && TEST_true(EVP_CipherFinal_ex(ctx, buf, &outl)) && TEST_int_le(outl, 64);
        if (ok)
            kmsenv_test_guarded_free(buf, room);
        EVP_CIPHER_CTX_free(ctx);
    }
    return ok && kmsenv_test_no_error();
}

/* What the caller had in the error queue stays, after success and after failure. */
static int test_error_queue_kept(void)
{
    KMSENV_TEST_BYTES sealed = { NULL, 0 }, opened = { NULL, 0 };
    int ok;

    ERR_raise(ERR_LIB_USER, 1);
    ok = TEST_true(kmsenv_test_crypt(t, 1, data, 100, &sealed))
        && TEST_true(kmsenv_test_crypt(t, 0, sealed.data, sealed.len, &opened))
        && TEST_false(kmsenv_test_crypt(t, 0, data, 100, &opened))
        && TEST_int_eq(ERR_GET_LIB(ERR_get_error()), ERR_LIB_USER)
        && kmsenv_test_error_is(KMSENV_R_NOT_AN_ENVELOPE);
    ERR_clear_error();
    kmsenv_test_bytes_reset(&sealed);
    kmsenv_test_bytes_reset(&opened);
    return ok;
}

int setup_tests(void)
{
    kmsenv_test_fill(data, sizeof(data), 1);
    kmsenv_test_fill(key, sizeof(key), 2);
    kmsenv_test_fill(other_key, sizeof(other_key), 3);
    if (!TEST_ptr(t = kmsenv_test_new(KMSENV_TEST_LOCAL)))
        return 0;
    ADD_ALL_TESTS(test_sizes, (int)(sizeof(blocks) / sizeof(blocks[0])));
    ADD_TEST(test_single_bytes);
    ADD_TEST(test_zero_length_updates);
    ADD_ALL_TESTS(test_in_place, (int)(sizeof(in_place_chunks) / sizeof(in_place_chunks[0])));
    ADD_ALL_TESTS(test_init_orders, (int)(sizeof(scripts) / sizeof(scripts[0])));
    ADD_TEST(test_direction_change);
    ADD_TEST(test_after_final_and_error);
    ADD_TEST(test_callers_key);
    ADD_TEST(test_messages_differ);
    ADD_TEST(test_huge_input);
    ADD_TEST(test_speed_loop);
    ADD_TEST(test_error_queue_kept);
    return 1;
}

void cleanup_tests(void)
{
    kmsenv_test_free(t);
}
