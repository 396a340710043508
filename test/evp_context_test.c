/* Contexts of the cipher kms-envelope: additional data, copies, parameters. */
#include <stdlib.h>
#include <string.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/obj_mac.h>
#include <openssl/params.h>
#include "testutil.h"
#include "kmsenv/format.h"
#include "kmsenv_test.h"

#define BLOCK 512   /* the default */

static KMSENV_TEST *t;
static unsigned char key[KMSENV_CALLER_KEY_LEN], data[3000];

static int with_aad(int enc, const char *aad, size_t split, const unsigned char *in, size_t inlen,
                    KMSENV_TEST_BYTES *out)
{
    EVP_CIPHER_CTX *ctx = kmsenv_test_ctx(t, enc, key, NULL);
    const unsigned char *p = (const unsigned char *)aad;
    int outl = 0, len = (int)strlen(aad);
    int ok = TEST_ptr(ctx)
        && TEST_true(EVP_CipherUpdate(ctx, NULL, &outl, p, (int)split))
        && TEST_true(EVP_CipherUpdate(ctx, NULL, &outl, p + split, len - (int)split))
        && kmsenv_test_run(ctx, in, inlen, 33, out);

    EVP_CIPHER_CTX_free(ctx);
    return ok;
}

static int test_aad(void)
{
    KMSENV_TEST_BYTES sealed = { NULL, 0 }, opened = { NULL, 0 };
    int ok = TEST_true(with_aad(1, "table 7, row 12", 5, data, 900, &sealed))
        && TEST_true(with_aad(0, "table 7, row 12", 0, sealed.data, sealed.len, &opened))
        && TEST_mem_eq(opened.data, opened.len, data, 900)
        && TEST_true(with_aad(0, "table 7, row 12", 15, sealed.data, sealed.len, &opened))
        && TEST_false(with_aad(0, "table 7, row 13", 0, sealed.data, sealed.len, &opened))
        && kmsenv_test_error_is(KMSENV_R_MESSAGE_DAMAGED)
        && TEST_false(with_aad(0, "table 7, row 1", 0, sealed.data, sealed.len, &opened))
        && kmsenv_test_error_is(KMSENV_R_MESSAGE_DAMAGED)
        && TEST_false(with_aad(0, "", 0, sealed.data, sealed.len, &opened))
        && kmsenv_test_error_is(KMSENV_R_MESSAGE_DAMAGED)
        && TEST_true(with_aad(1, "", 0, data, 900, &sealed))
        && TEST_true(kmsenv_test_crypt_key(t, 0, key, NULL, sealed.data, sealed.len, 0, &opened));

    kmsenv_test_bytes_reset(&sealed);
    kmsenv_test_bytes_reset(&opened);
    return ok && kmsenv_test_no_error();
}

/* Additional data belong to one message: a re-init forgets them. */
static int test_aad_not_kept(void)
{
    KMSENV_TEST_BYTES sealed = { NULL, 0 }, opened = { NULL, 0 };
    EVP_CIPHER_CTX *ctx = kmsenv_test_ctx(t, 1, key, NULL);
    int outl = 0, ok = TEST_ptr(ctx)
        && TEST_true(EVP_CipherUpdate(ctx, NULL, &outl, (const unsigned char *)"old", 3))
        && TEST_true(EVP_CipherInit_ex2(ctx, NULL, NULL, NULL, -1, NULL))
        && TEST_true(kmsenv_test_run(ctx, data, 900, 0, &sealed))
        && TEST_true(kmsenv_test_crypt_key(t, 0, key, NULL, sealed.data, sealed.len, 0, &opened))
        && TEST_true(EVP_CipherInit_ex2(ctx, NULL, NULL, NULL, 0, NULL))
        && TEST_true(EVP_CipherUpdate(ctx, NULL, &outl, (const unsigned char *)"old", 3))
        && TEST_true(EVP_CipherInit_ex2(ctx, NULL, NULL, NULL, -1, NULL))
        && TEST_true(kmsenv_test_run(ctx, sealed.data, sealed.len, 0, &opened))
        && TEST_mem_eq(opened.data, opened.len, data, 900);

    EVP_CIPHER_CTX_free(ctx);
    kmsenv_test_bytes_reset(&sealed);
    kmsenv_test_bytes_reset(&opened);
    return ok && kmsenv_test_no_error();
}

/* No additional data at all, in the way of callers that always make the call */
static int test_aad_empty(void)
{
    KMSENV_TEST_BYTES sealed = { NULL, 0 }, opened = { NULL, 0 };
    EVP_CIPHER_CTX *ctx = kmsenv_test_ctx(t, 1, key, NULL);
    int outl = 7, ok = TEST_ptr(ctx)
        && TEST_true(EVP_CipherUpdate(ctx, NULL, &outl, NULL, 0)) && TEST_int_eq(outl, 0)
        && TEST_true(EVP_CipherUpdate(ctx, NULL, &outl, data, 0)) && TEST_int_eq(outl, 0)
        && TEST_true(kmsenv_test_run(ctx, data, 10, 0, &sealed))
        && TEST_true(kmsenv_test_crypt_key(t, 0, key, NULL, sealed.data, sealed.len, 0, &opened))
        && TEST_mem_eq(opened.data, opened.len, data, 10);

    EVP_CIPHER_CTX_free(ctx);
    kmsenv_test_bytes_reset(&sealed);
    kmsenv_test_bytes_reset(&opened);
    return ok && kmsenv_test_no_error();
}

static int test_aad_refused(void)
{
    EVP_CIPHER_CTX *ctx = kmsenv_test_ctx(t, 1, key, NULL);
    unsigned char room[BLOCK + 100], *big = calloc(1, KMSENV_AAD_MAX + 1);
    int outl = 0, ok;

    ok = TEST_ptr(ctx) && TEST_ptr(big)
        && TEST_true(EVP_CipherUpdate(ctx, room, &outl, data, 100))
        && TEST_false(EVP_CipherUpdate(ctx, NULL, &outl, data, 10)) && kmsenv_test_error_is(KMSENV_R_WRONG_STATE)
        && TEST_true(EVP_CipherInit_ex2(ctx, NULL, NULL, NULL, -1, NULL))
        && TEST_false(EVP_CipherUpdate(ctx, NULL, &outl, big, KMSENV_AAD_MAX + 1))
        && kmsenv_test_error_is(KMSENV_R_INPUT_TOO_LARGE)
        && TEST_true(EVP_CipherInit_ex2(ctx, NULL, NULL, NULL, -1, NULL))
        && TEST_true(EVP_CipherUpdate(ctx, NULL, &outl, big, KMSENV_AAD_MAX))
        && TEST_true(EVP_CipherUpdate(ctx, room, &outl, data, 100))
        && TEST_true(EVP_CipherFinal_ex(ctx, room, &outl));
    EVP_CIPHER_CTX_free(ctx);
    free(big);
    return ok && kmsenv_test_no_error();
}

/* A copy made before output is a message of its own; both open with the key and the AAD so far. */
static int test_copy_before_output(void)
{
    KMSENV_TEST_BYTES one = { NULL, 0 }, two = { NULL, 0 }, opened = { NULL, 0 };
    EVP_CIPHER_CTX *ctx = kmsenv_test_ctx(t, 1, key, NULL), *copy = EVP_CIPHER_CTX_new();
    int outl = 0, ok;

    ok = TEST_ptr(ctx) && TEST_ptr(copy)
        && TEST_true(EVP_CipherUpdate(ctx, NULL, &outl, (const unsigned char *)"aad", 3))
        && TEST_true(EVP_CIPHER_CTX_copy(copy, ctx))
        && TEST_true(EVP_CipherUpdate(copy, NULL, &outl, (const unsigned char *)"more", 4))
        && TEST_true(kmsenv_test_run(ctx, data, 1000, 100, &one));
    EVP_CIPHER_CTX_free(ctx);
    ok = ok && TEST_true(kmsenv_test_run(copy, data + 500, 2000, 77, &two))
        && TEST_true(with_aad(0, "aad", 0, one.data, one.len, &opened))
        && TEST_mem_eq(opened.data, opened.len, data, 1000)
        && TEST_true(with_aad(0, "aadmore", 0, two.data, two.len, &opened))
        && TEST_mem_eq(opened.data, opened.len, data + 500, 2000);
    EVP_CIPHER_CTX_free(copy);
    kmsenv_test_bytes_reset(&one);
    kmsenv_test_bytes_reset(&two);
    kmsenv_test_bytes_reset(&opened);
    return ok && kmsenv_test_no_error();
}

/* After the first byte of a message a copy is refused: two messages with one salt would share nonces. */
static int test_copy_after_output(void)
{
    KMSENV_TEST_BYTES sealed = { NULL, 0 }, opened = { NULL, 0 };
    EVP_CIPHER_CTX *ctx = kmsenv_test_ctx(t, 1, key, NULL), *copy = EVP_CIPHER_CTX_new();
    unsigned char room[BLOCK + 2000];
    int outl = 0, last = 0, ok;
    unsigned long first;

    ok = TEST_ptr(ctx) && TEST_ptr(copy)
        && TEST_true(EVP_CipherUpdate(ctx, room, &outl, data, 1000))
        && TEST_false(EVP_CIPHER_CTX_copy(copy, ctx));
    first = ERR_get_error();   /* libcrypto adds that it was not able to copy */
    ok = ok && TEST_str_eq(ERR_lib_error_string(first), "kmsenv")
        && TEST_int_eq(ERR_GET_REASON(first), KMSENV_R_WRONG_STATE);
    ERR_clear_error();
    ok = ok && TEST_true(EVP_CipherFinal_ex(ctx, room + outl, &last))   /* the original goes on */
        && TEST_true(kmsenv_test_crypt_key(t, 0, key, NULL, room, (size_t)(outl + last), 0, &opened))
        && TEST_mem_eq(opened.data, opened.len, data, 1000)
        && TEST_true(EVP_CipherInit_ex2(ctx, NULL, NULL, NULL, -1, NULL))
        && TEST_true(EVP_CIPHER_CTX_copy(copy, ctx))
        && TEST_true(kmsenv_test_run(copy, data, 10, 0, &sealed));
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_CTX_free(copy);
    kmsenv_test_bytes_reset(&sealed);
    kmsenv_test_bytes_reset(&opened);
    return ok && kmsenv_test_no_error();
}

/* A copy of a context that is done or has failed: as good for questions and for init as the original. */
static int test_copy_of_done(int failed)
{
    KMSENV_TEST_BYTES sealed = { NULL, 0 }, opened = { NULL, 0 };
    EVP_CIPHER_CTX *ctx = kmsenv_test_ctx(t, 1, key, NULL), *copy = EVP_CIPHER_CTX_new();
    unsigned char id[KMSENV_DEK_ID_LEN], room[BLOCK + 10];
    OSSL_PARAM q[2] = { OSSL_PARAM_END, OSSL_PARAM_END };
    int outl, ok = TEST_ptr(ctx) && TEST_ptr(copy) && TEST_true(kmsenv_test_run(ctx, data, 100, 0, &sealed));

    if (ok && failed)
        ok = TEST_false(EVP_CipherUpdate(ctx, room, &outl, data, 10)) && kmsenv_test_error_is(KMSENV_R_WRONG_STATE);
    q[0] = OSSL_PARAM_construct_octet_string(KMSENV_CIPHER_PARAM_DATA_KEY_ID, id, sizeof(id));
    if (ok && EVP_CIPHER_CTX_copy(copy, ctx))
        ok = (EVP_CIPHER_CTX_get_params(copy, q), 1)
            && TEST_false(EVP_CipherUpdate(copy, room, &outl, data, 10)) && kmsenv_test_error_is(KMSENV_R_WRONG_STATE)
            && TEST_true(EVP_CipherInit_ex2(copy, NULL, NULL, NULL, 0, NULL))
            && TEST_true(kmsenv_test_run(copy, sealed.data, sealed.len, 0, &opened))
            && TEST_mem_eq(opened.data, opened.len, data, 100);
    ERR_clear_error();
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_CTX_free(copy);
    kmsenv_test_bytes_reset(&sealed);
    kmsenv_test_bytes_reset(&opened);
    return ok;
}

static const struct { const char *name; } names[] = {
    { KMSENV_CIPHER_ENVELOPE }, { KMSENV_CIPHER_ENVELOPE_192 }, { KMSENV_CIPHER_ENVELOPE_128 }, { "KMS-ENVELOPE" },
};

static int test_properties(int idx)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(t->libctx, names[idx].name, "provider=kmsenv");
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    OSSL_PARAM none = OSSL_PARAM_END;
    int ok = TEST_ptr(cipher) && TEST_ptr(ctx)
        && TEST_int_eq(EVP_CIPHER_get_key_length(cipher), 32)
        && TEST_int_eq(EVP_CIPHER_get_iv_length(cipher), 0)
        && TEST_int_eq(EVP_CIPHER_get_block_size(cipher), BLOCK)
        && TEST_int_eq(EVP_CIPHER_get_mode(cipher), EVP_CIPH_STREAM_CIPHER)
        && TEST_ulong_eq(EVP_CIPHER_get_flags(cipher) & EVP_CIPH_FLAG_AEAD_CIPHER, 0)
        && TEST_int_eq(EVP_CIPHER_get_type(cipher), NID_undef)
        && TEST_true(EVP_CIPHER_is_a(cipher, names[idx].name))
        && TEST_ptr(EVP_CIPHER_gettable_params(cipher))
        && TEST_ptr(EVP_CIPHER_gettable_ctx_params(cipher)) && TEST_ptr(EVP_CIPHER_settable_ctx_params(cipher))
        && TEST_true(EVP_CIPHER_get_params(cipher, &none))
        && TEST_true(EVP_CipherInit_ex2(ctx, cipher, key, NULL, 1, NULL))
        && TEST_int_eq(EVP_CIPHER_CTX_get_key_length(ctx), 32)
        && TEST_int_eq(EVP_CIPHER_CTX_get_iv_length(ctx), 0)
        && TEST_true(EVP_CIPHER_CTX_get_params(ctx, &none)) && TEST_true(EVP_CIPHER_CTX_set_params(ctx, &none));

    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
    return ok && kmsenv_test_no_error();
}

/* Questions about the size alone, and of names that nobody has */
static int test_size_queries(void)
{
    EVP_CIPHER_CTX *ctx = kmsenv_test_ctx(t, 1, key, NULL);
    unsigned char room[BLOCK + 10], id[KMSENV_DEK_ID_LEN];
    OSSL_PARAM q[4] = { OSSL_PARAM_END, OSSL_PARAM_END, OSSL_PARAM_END, OSSL_PARAM_END };
    unsigned unknown = 77;
    int outl = 0, ok;

    q[0] = OSSL_PARAM_construct_octet_string(KMSENV_CIPHER_PARAM_HEADER, NULL, 0);
    q[1] = OSSL_PARAM_construct_octet_string(KMSENV_CIPHER_PARAM_DATA_KEY_ID, id, sizeof(id));
    q[2] = OSSL_PARAM_construct_uint("no-such-parameter", &unknown);
    ok = TEST_ptr(ctx)
        && TEST_true(EVP_CipherUpdate(ctx, room, &outl, data, 10))
        && TEST_true(EVP_CIPHER_CTX_get_params(ctx, q))
        && TEST_size_t_gt(q[0].return_size, 0) && TEST_size_t_le(q[0].return_size, BLOCK)
        && TEST_size_t_eq(q[1].return_size, KMSENV_DEK_ID_LEN)
        && TEST_false(OSSL_PARAM_modified(&q[2])) && TEST_uint_eq(unknown, 77);
    EVP_CIPHER_CTX_free(ctx);
    return ok && kmsenv_test_no_error();
}

static int test_key_length_refused(void)
{
    EVP_CIPHER_CTX *ctx = kmsenv_test_ctx(t, 1, NULL, NULL);
    int ok = TEST_ptr(ctx)
        && TEST_int_le(EVP_CIPHER_CTX_set_key_length(ctx, 16), 0)
        && TEST_int_eq(EVP_CIPHER_CTX_get_key_length(ctx), 32);

    ERR_clear_error();
    ok = ok && TEST_true(EVP_CIPHER_CTX_set_key_length(ctx, 32));
    EVP_CIPHER_CTX_free(ctx);
    return ok && kmsenv_test_no_error();
}

int setup_tests(void)
{
    kmsenv_test_fill(data, sizeof(data), 1);
    kmsenv_test_fill(key, sizeof(key), 2);
    if (!TEST_ptr(t = kmsenv_test_new(KMSENV_TEST_LOCAL)))
        return 0;
    ADD_TEST(test_aad);
    ADD_TEST(test_aad_not_kept);
    ADD_TEST(test_aad_empty);
    ADD_TEST(test_aad_refused);
    ADD_TEST(test_copy_before_output);
    ADD_TEST(test_copy_after_output);
    ADD_ALL_TESTS(test_copy_of_done, 2);
    ADD_ALL_TESTS(test_properties, (int)(sizeof(names) / sizeof(names[0])));
    ADD_TEST(test_size_queries);
    ADD_TEST(test_key_length_refused);
    return 1;
}

void cleanup_tests(void)
{
    kmsenv_test_free(t);
}
