/* The envelope ciphers initialised with symmetric key objects: data keys that messages are sealed under, and ordinary keys as the caller's. */
#include <stdio.h>
#include <string.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include "testutil.h"
#include "kmsenv_skey.h"
#include "kmsenv_test.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))
#define SETTINGS KMSENV_TEST_LOCAL "keyring = @/keys\nkey-references = yes\n"
#define LEN      1000

static KMSENV_TEST *t;
static unsigned char text[LEN];

static EVP_SKEY *make(size_t bits, const char *keyring)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_size_t(KMSENV_PKEY_PARAM_BITS, &bits),
        OSSL_PARAM_construct_utf8_string(KMSENV_PKEY_PARAM_KEYRING, (char *)keyring, 0), OSSL_PARAM_construct_end()
    };

    return EVP_SKEY_generate(t->libctx, KMSENV_CIPHER_ENVELOPE, NULL, params);
}

static EVP_SKEY *ordinary(const unsigned char *bytes, size_t n)
{
    return EVP_SKEY_import_raw_key(t->libctx, OSSL_SKEY_TYPE_GENERIC, (unsigned char *)bytes, n, "provider=kmsenv");
}

static EVP_CIPHER_CTX *start(const char *name, int enc, EVP_SKEY *skey, const OSSL_PARAM *params)
{
    EVP_CIPHER *c = EVP_CIPHER_fetch(t->libctx, name, NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();

    if (!TEST_ptr(c) || !EVP_CipherInit_SKEY(ctx, c, skey, NULL, 0, enc, params)) {
        EVP_CIPHER_CTX_free(ctx);
        ctx = NULL;
    }
    EVP_CIPHER_free(c);
    return ctx;
}

static int seal(EVP_CIPHER_CTX *ctx, KMSENV_TEST_BYTES *out)
{
    return ctx != NULL && kmsenv_test_run(ctx, text, LEN, 0, out);
}

/* Opens it in a new context under a key object or none, and by the classic way. */
static int opens(const KMSENV_TEST_BYTES *message, EVP_SKEY *skey)
{
    EVP_CIPHER_CTX *ctx = start(KMSENV_CIPHER_ENVELOPE, 0, skey, NULL);
    KMSENV_TEST_BYTES back = { NULL, 0 };
    int ok = TEST_ptr(ctx) && TEST_true(kmsenv_test_run(ctx, message->data, message->len, 0, &back)) && TEST_mem_eq(back.data, back.len, text, LEN);

    EVP_CIPHER_CTX_free(ctx);
    kmsenv_test_bytes_reset(&back);
    return ok;
}

static int fails_to_open(const KMSENV_TEST_BYTES *message, EVP_SKEY *skey, int reason)
{
    EVP_CIPHER_CTX *ctx = start(KMSENV_CIPHER_ENVELOPE, 0, skey, NULL);
    KMSENV_TEST_BYTES back = { NULL, 0 };
    int ok = TEST_ptr(ctx) && TEST_false(kmsenv_test_run(ctx, message->data, message->len, 0, &back)) && TEST_true(kmsenv_test_error_is(reason))
             && TEST_size_t_eq(back.len, 0);

    EVP_CIPHER_CTX_free(ctx);
    kmsenv_test_bytes_reset(&back);
    return ok;
}

static int is_under(EVP_CIPHER_CTX *ctx, const EVP_SKEY *skey, int yes)
{
    unsigned char id[24];
    char hex[49];
    OSSL_PARAM params[] = { OSSL_PARAM_construct_octet_string(KMSENV_CIPHER_PARAM_DATA_KEY_ID, id, sizeof(id)), OSSL_PARAM_construct_end() };
    int i;

    if (!TEST_true(EVP_CIPHER_CTX_get_params(ctx, params)))
        return 0;
    for (i = 0; i < 24; i++)
        sprintf(hex + 2 * i, "%02x", id[i]);
    return TEST_int_eq(strcmp(hex, EVP_SKEY_get0_key_id(skey) + 16) == 0, yes);
}

static const struct { const char *cipher; size_t bits; const char *keyring; } cases[] = {
    { KMSENV_CIPHER_ENVELOPE, 256, "yes" }, { KMSENV_CIPHER_ENVELOPE, 256, "no" }, { KMSENV_CIPHER_ENVELOPE, 512, "no" },
    { KMSENV_CIPHER_ENVELOPE_128, 128, "yes" }, { KMSENV_CIPHER_ENVELOPE_192, 192, "no" }, { KMSENV_CIPHER_ENVELOPE_128, 256, "no" }
};

/* Many messages, re-initialised with the same object, with none, copied; the KMS is asked once. Opened without it, with it, with any. */
static int test_data_key(int i)
{
    EVP_SKEY *skey = make(cases[i].bits, cases[i].keyring), *other = make(256, "no");
    uint64_t before = kmsenv_test_counter(t, "kmsenv.kms-calls");
    EVP_CIPHER_CTX *ctx = start(cases[i].cipher, 1, skey, NULL), *copy = EVP_CIPHER_CTX_new();
    KMSENV_TEST_BYTES message = { NULL, 0 };
    int n, ok = TEST_ptr(skey) && TEST_ptr(other) && TEST_ptr(ctx);

    for (n = 0; ok && n < 4; n++)
        ok = (n != 2 || TEST_true(EVP_CIPHER_CTX_copy(copy, ctx))) && TEST_true(seal(ctx, &message)) && is_under(ctx, skey, 1) && opens(&message, NULL)
             && opens(&message, skey) && opens(&message, other)
             && TEST_true(EVP_CipherInit_SKEY(ctx, NULL, n == 1 ? NULL : skey, NULL, 0, n == 1 ? -1 : 1, NULL));
    ok = ok && TEST_true(seal(copy, &message)) && is_under(copy, skey, 1) && opens(&message, NULL)
         && TEST_true(EVP_CipherInit_SKEY(copy, NULL, other, NULL, 0, 1, NULL)) && TEST_true(seal(copy, &message)) && is_under(copy, other, 1)
         && TEST_size_t_le(kmsenv_test_counter(t, "kmsenv.kms-calls") - before, 2) && TEST_true(kmsenv_test_no_error());
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_CTX_free(copy);
    EVP_SKEY_free(skey);
    EVP_SKEY_free(other);
    kmsenv_test_bytes_reset(&message);
    return ok;
}

/* From a key object to a caller's key, to none, to a reference: each replaces what was before, entirely. */
static int test_changes(int kept)
{
    static const unsigned char zeros[32] = { 0 };
    EVP_SKEY *skey = make(256, kept ? "yes" : "no"), *caller;
    EVP_CIPHER_CTX *ctx;
    KMSENV_TEST_BYTES message = { NULL, 0 };
    unsigned char key[32];
    int ok;

    kmsenv_test_fill(key, sizeof(key), 9);
    caller = ordinary(key, sizeof(key));
    ctx = start(KMSENV_CIPHER_ENVELOPE, 1, skey, NULL);
    ok = TEST_ptr(caller) && TEST_true(seal(ctx, &message)) && is_under(ctx, skey, 1)
         && TEST_true(EVP_CipherInit_SKEY(ctx, NULL, caller, NULL, 0, 1, NULL)) && TEST_true(seal(ctx, &message))
         && opens(&message, caller) && fails_to_open(&message, NULL, KMSENV_R_COMMITMENT_MISMATCH)
         && fails_to_open(&message, skey, KMSENV_R_COMMITMENT_MISMATCH)
         && TEST_true(EVP_CipherInit_SKEY(ctx, NULL, skey, NULL, 0, 1, NULL)) && TEST_true(seal(ctx, &message)) && is_under(ctx, skey, 1)
         && opens(&message, NULL)
         && TEST_true(EVP_CipherInit_ex2(ctx, NULL, zeros, NULL, 1, NULL)) && TEST_true(seal(ctx, &message)) && is_under(ctx, skey, 0)
         && opens(&message, NULL) && fails_to_open(&message, caller, KMSENV_R_COMMITMENT_MISMATCH);
    EVP_CIPHER_CTX_free(ctx);
    EVP_SKEY_free(skey);
    EVP_SKEY_free(caller);
    kmsenv_test_bytes_reset(&message);
    return ok;
}

/* An ordinary key has 32 bytes; a data key at least those of the cipher; and what is said by a parameter comes after the key object. */
static int test_unsuitable(void)
{
    unsigned char key[32] = { 1 };
    EVP_SKEY *shorter = ordinary(key, 16), *small = make(128, "yes"), *big = make(256, "yes");
    OSSL_PARAM bad[] = { OSSL_PARAM_construct_utf8_string(KMSENV_CIPHER_PARAM_PROFILE, (char *)"nobody", 0), OSSL_PARAM_construct_end() };
    KMSENV_TEST_BYTES out = { NULL, 0 };
    EVP_CIPHER_CTX *ctx = start(KMSENV_CIPHER_ENVELOPE, 1, small, NULL);
    int ok = TEST_ptr(ctx) && TEST_false(seal(ctx, &out)) && TEST_true(kmsenv_test_error_says(KMSENV_R_DATA_KEY_UNSUITABLE, "16 bytes|32"))
             && TEST_ptr_null(start(KMSENV_CIPHER_ENVELOPE, 1, shorter, NULL))
             && TEST_true(kmsenv_test_error_says(KMSENV_R_PARAMETER_INVALID, "32 bytes, not 16"))
             && TEST_ptr_null(start(KMSENV_CIPHER_ENVELOPE, 1, big, bad)) && TEST_true(kmsenv_test_error_says(KMSENV_R_PARAMETER_INVALID, "nobody"));

    EVP_CIPHER_CTX_free(ctx);
    EVP_SKEY_free(shorter);
    EVP_SKEY_free(small);
    EVP_SKEY_free(big);
    kmsenv_test_bytes_reset(&out);
    return ok;
}

int setup_tests(void)
{
    kmsenv_test_fill(text, sizeof(text), 1);
    if (!TEST_ptr(t = kmsenv_test_new(SETTINGS)))
        return 0;
    ADD_ALL_TESTS(test_data_key, COUNT(cases));
    ADD_ALL_TESTS(test_changes, 2);
    ADD_TEST(test_unsuitable);
    return 1;
}

void cleanup_tests(void)
{
    kmsenv_test_free(t);
}
