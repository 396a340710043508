/*
 * A symmetric key object's life: re-initialisation, rewraps, expiry of its data key; and ordinary keys where ciphers have their
 * ordinary names.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include "testutil.h"
#include "dek/keyring.h"
#include "skey_keys.h"

#define COUNT(a)  ((int)(sizeof(a) / sizeof((a)[0])))

/* --- a key's life --------------------------------------------------------- */

static EVP_CIPHER_CTX *started(const KMSENV_TEST *t, EVP_SKEY *skey)
{
    EVP_CIPHER *c = EVP_CIPHER_fetch(t->libctx, "KMS-AES-256-CTR", NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();

    if (!TEST_ptr(c) || !TEST_true(EVP_CipherInit_SKEY(ctx, c, skey, skey_iv, sizeof(skey_iv), 1, NULL))) {
        EVP_CIPHER_CTX_free(ctx);
        ctx = NULL;
    }
    EVP_CIPHER_free(c);
    return ctx;
}

static int encrypts(EVP_CIPHER_CTX *ctx, const unsigned char want[SKEY_INPUT])
{
    unsigned char in[SKEY_INPUT] = { 0 }, out[SKEY_INPUT];
    int n = 0;

    return TEST_true(EVP_CipherUpdate(ctx, out, &n, in, SKEY_INPUT)) && TEST_mem_eq(out, (size_t)n, want, SKEY_INPUT);
}

/* All initialisations that there are, in one context: with the same object, none, another, bytes, a copy; enc = -1. */
static int test_reinit(int way)
{
    unsigned char want[SKEY_INPUT], other[SKEY_INPUT];
    EVP_SKEY *skey = skey_import_way(way), *second = skey_generate(skey_ours, KMSENV_CIPHER_ENVELOPE, 0, NULL);
    EVP_CIPHER_CTX *ctx = started(skey_ours, skey), *copy = EVP_CIPHER_CTX_new();
    uint64_t before = skey_kms_calls();
    int ok = TEST_ptr(ctx) && skey_expect("AES-256-CTR", skey_known[2].key, want) && encrypts(ctx, want) && TEST_ptr(second)
             && TEST_true(skey_stream(skey_ours, "KMS-AES-256-CTR", second, other))
             && TEST_true(EVP_CipherInit_SKEY(ctx, NULL, skey, skey_iv, sizeof(skey_iv), -1, NULL)) && encrypts(ctx, want)
             && TEST_true(EVP_CipherInit_SKEY(ctx, NULL, NULL, skey_iv, sizeof(skey_iv), 1, NULL)) && encrypts(ctx, want)
             && TEST_true(EVP_CipherInit_ex2(ctx, NULL, NULL, skey_iv, -1, NULL)) && encrypts(ctx, want)
             && TEST_true(EVP_CipherInit_SKEY(ctx, NULL, second, skey_iv, sizeof(skey_iv), 1, NULL)) && TEST_true(EVP_CIPHER_CTX_copy(copy, ctx))
             && encrypts(ctx, other) && TEST_true(EVP_CipherInit_ex2(ctx, NULL, skey_known[2].reference, skey_iv, 1, NULL)) && encrypts(ctx, want)
             && TEST_true(EVP_CipherInit_SKEY(ctx, NULL, second, NULL, 0, 1, NULL))
             && TEST_true(EVP_CipherInit_SKEY(ctx, NULL, NULL, skey_iv, sizeof(skey_iv), 1, NULL)) && encrypts(ctx, other)
             && TEST_true(EVP_CipherInit_ex2(ctx, NULL, skey_known[2].key, skey_iv, 1, NULL)) && encrypts(ctx, want);

    EVP_CIPHER_CTX_free(ctx);
    EVP_SKEY_free(second);
    ok = ok && encrypts(copy, other) && TEST_true(EVP_CipherInit_SKEY(copy, NULL, skey, skey_iv, sizeof(skey_iv), 0, NULL)) && encrypts(copy, want)
         && TEST_size_t_le(skey_kms_calls() - before, 1) && TEST_true(kmsenv_test_no_error());
    EVP_CIPHER_CTX_free(copy);
    EVP_SKEY_free(skey);
    return ok;
}

/* An IV of another length than the cipher's is refused as the default provider refuses it, and no key management is to blame. */
static int test_iv(void)
{
    EVP_SKEY *skey = skey_by_reference(2);
    EVP_CIPHER_CTX *ctx = started(skey_ours, skey);
    int ok = TEST_ptr(ctx) && TEST_false(EVP_CipherInit_SKEY(ctx, NULL, skey, skey_iv, 7, 1, NULL));

    ERR_clear_error();
    EVP_CIPHER_CTX_free(ctx);
    EVP_SKEY_free(skey);
    return ok;
}

/* Writes the data key anew under another key id, and back. */
static int rewrite(int i, const char *key_id)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    char dir[80], path[160];
    unsigned char *der = NULL;
    KMSENV_DATA_KEY *dk;
    size_t len;
    int ok;

    snprintf(dir, sizeof(dir), "%s/keys", skey_ours->dir);
    snprintf(path, sizeof(path), "%s/%.48s.pem", dir, SKEY_ID(i));
    if (!TEST_ptr(dk = kmsenv_keyring_load(dir, skey_known[i].reference + 8, &err)))
        return 0;
    OPENSSL_free(dk->wrap[0].blob.key_id);
    dk->wrap[0].blob.key_id = OPENSSL_strdup(key_id);
    ok = TEST_true(kmsenv_data_key_encode(dk, 0, &der, &len, &err)) && TEST_int_eq(unlink(path), 0)
         && TEST_true(kmsenv_keyring_store(dir, dk->id, der, len, &err));
    OPENSSL_free(der);
    kmsenv_data_key_free(dk);
    return ok;
}

/* An object made from a reference before a rewrap is good after it, without a restart; one made from a file has the old wraps. */
static int test_rewrapped(void)
{
    KMSENV_TEST *t = skey_another(KMSENV_TEST_LOCAL SKEY_KEYRING);
    EVP_SKEY *skey = NULL, *file = NULL;
    unsigned char want[SKEY_INPUT], out[SKEY_INPUT];
    char path[160];
    int ok;

    snprintf(path, sizeof(path), "%s/keys/%.48s.pem", skey_ours->dir, SKEY_ID(2));
    ok = TEST_ptr(t) && rewrite(2, "key-of-old") && skey_expect("AES-256-CTR", skey_known[2].key, want)
         && TEST_ptr(skey = skey_import_text(t->libctx, KMSENV_CIPHER_ENVELOPE, KMSENV_SKEY_PARAM_REFERENCE, skey_known[2].hex))
         && TEST_ptr(file = skey_import_text(t->libctx, KMSENV_CIPHER_ENVELOPE, KMSENV_SKEY_PARAM_FILE, path))
         && TEST_false(skey_stream(t, "KMS-AES-256-CTR", skey, out)) && TEST_true(kmsenv_test_error_says(KMSENV_R_NO_USABLE_WRAP, "key-of-old"))
         && rewrite(2, "000102030405060708090a0b0c0d0e0f")
         && TEST_true(skey_stream(t, "KMS-AES-256-CTR", skey, out)) && TEST_mem_eq(out, SKEY_INPUT, want, SKEY_INPUT) && TEST_true(kmsenv_test_no_error())
         && TEST_false(skey_stream(t, "KMS-AES-256-CTR", file, out)) && TEST_true(kmsenv_test_error_says(KMSENV_R_NO_USABLE_WRAP, "key-of-old"));
    EVP_SKEY_free(skey);
    EVP_SKEY_free(file);
    kmsenv_test_free(t);
    return ok;
}

/* When its time is over the KMS is asked again; if that cannot, or refuses, there is no key, neither a new nor the old one. */
static int test_expiry(int by_file)
{
    KMSENV_TEST *t = skey_another("kms = local\nkey-file = @/moving.pem\ndek-max-age = 1\nnegative-cache = 0\n" SKEY_KEYRING);
    unsigned char want[SKEY_INPUT], in[SKEY_INPUT] = { 0 }, out[SKEY_INPUT];
    EVP_CIPHER_CTX *ctx = NULL;
    EVP_SKEY *skey = NULL;
    char from[160], to[160], path[160];
    int n = 0, ok;

    snprintf(from, sizeof(from), "%s/a.pem", skey_ours->dir);
    snprintf(to, sizeof(to), "%s/moving.pem", skey_ours->dir);
    snprintf(path, sizeof(path), "%s/keys/%.48s.pem", skey_ours->dir, SKEY_ID(2));
    ok = TEST_ptr(t) && skey_expect("AES-256-CTR", skey_known[2].key, want) && TEST_int_eq(rename(from, to), 0);
    skey = !ok ? NULL : by_file ? skey_import_text(t->libctx, KMSENV_CIPHER_ENVELOPE, KMSENV_SKEY_PARAM_FILE, path)
                                : skey_import_text(t->libctx, KMSENV_CIPHER_ENVELOPE, KMSENV_SKEY_PARAM_REFERENCE, skey_known[2].hex);
    ok = ok && TEST_ptr(skey) && TEST_ptr(ctx = started(t, skey)) && encrypts(ctx, want);
    rename(to, from);      /* others need it, and this one must do without */
    usleep(1300000);
    ok = ok && TEST_false(EVP_CipherInit_SKEY(ctx, NULL, skey, skey_iv, sizeof(skey_iv), 1, NULL))
         && TEST_true(kmsenv_test_error_says(KMSENV_TEST_ANY, "moving.pem"))
         && TEST_false(EVP_EncryptUpdate(ctx, out, &n, in, SKEY_INPUT)) && TEST_true(kmsenv_test_error_is(KMSENV_R_WRONG_STATE))
         && TEST_int_eq(link(from, to), 0) && TEST_true(EVP_CipherInit_SKEY(ctx, NULL, skey, skey_iv, sizeof(skey_iv), 1, NULL))
         && encrypts(ctx, want) && TEST_size_t_ge(kmsenv_test_counter(t, "kmsenv.kms-calls"), 2);
    unlink(to);
    EVP_CIPHER_CTX_free(ctx);
    EVP_SKEY_free(skey);
    kmsenv_test_free(t);
    return ok;
}

/* --- ordinary keys -------------------------------------------------------- */

static const char *const types[] = { OSSL_SKEY_TYPE_AES, OSSL_SKEY_TYPE_GENERIC };
static const size_t key_lengths[] = { 0, 1, 15, 16, 17, 24, 32, 33, 64, 1000 };

/* As in the default provider: accepted or not, and the bytes that come back. */
static int test_ordinary(int i)
{
    unsigned char bytes[1000];
    const char *type = types[i % 2];
    size_t n = key_lengths[i / 2], len[2] = { 0, 0 };
    const unsigned char *raw[2] = { NULL, NULL };
    EVP_SKEY *theirs, *mine;
    int ok;

    kmsenv_test_fill(bytes, sizeof(bytes), 3);
    theirs = EVP_SKEY_import_raw_key(skey_plain, type, bytes, n, NULL);
    mine = EVP_SKEY_import_raw_key(skey_ours->libctx, type, bytes, n, "provider=kmsenv");
    ok = TEST_int_eq(theirs != NULL, mine != NULL) && (mine == NULL || (TEST_str_eq(EVP_SKEY_get0_provider_name(mine), "kmsenv")
         && TEST_ptr_null(EVP_SKEY_get0_key_id(mine)) && TEST_str_eq(EVP_SKEY_get0_skeymgmt_name(mine), EVP_SKEY_get0_skeymgmt_name(theirs))
         && TEST_true(EVP_SKEY_get0_raw_key(theirs, &raw[0], &len[0])) && TEST_true(EVP_SKEY_get0_raw_key(mine, &raw[1], &len[1]))
         && TEST_mem_eq(raw[0], len[0], raw[1], len[1])));
    ERR_clear_error();
    EVP_SKEY_free(theirs);
    EVP_SKEY_free(mine);
    return ok;
}

/* Preferred: what an application does with the ordinary names is done by one provider. To and from the other one, too. */
static int test_preferred(int i)
{
    static const char *const names[] = { "AES-256-CTR", "aes-256-cbc", "ChaCha20" };
    KMSENV_TEST_SETUP setup = { KMSENV_TEST_LOCAL "key-references = yes\n", "?provider=kmsenv", i % 2, skey_ours };
    KMSENV_TEST *t = kmsenv_test_new_ex(&setup);
    unsigned char want[SKEY_INPUT], got[SKEY_INPUT], key[32];
    EVP_SKEY *skey = NULL, *theirs = NULL, *back = NULL;
    OSSL_PROVIDER *deflt = t == NULL ? NULL : OSSL_PROVIDER_load(t->libctx, "default");
    OSSL_PROVIDER *kmsenv = t == NULL ? NULL : OSSL_PROVIDER_load(t->libctx, "kmsenv");
    const unsigned char *raw;
    size_t n;
    int ok;

    kmsenv_test_fill(key, sizeof(key), 4);
    ok = TEST_ptr(kmsenv) && skey_expect(names[i % 3], key, want)
         && TEST_ptr(skey = EVP_SKEY_import_raw_key(t->libctx, types[i / 3], key, sizeof(key), NULL))
         && TEST_str_eq(EVP_SKEY_get0_provider_name(skey), "kmsenv")
         && TEST_true(skey_stream(t, names[i % 3], skey, got)) && TEST_mem_eq(got, SKEY_INPUT, want, SKEY_INPUT)
         && TEST_ptr(theirs = EVP_SKEY_to_provider(skey, t->libctx, deflt, NULL))
         && TEST_str_eq(EVP_SKEY_get0_provider_name(theirs), "default")
         && TEST_true(EVP_SKEY_get0_raw_key(theirs, &raw, &n)) && TEST_mem_eq(raw, n, key, sizeof(key))
         && TEST_ptr(back = EVP_SKEY_to_provider(theirs, t->libctx, kmsenv, NULL))
         && TEST_true(skey_stream(t, names[i % 3], back, got)) && TEST_mem_eq(got, SKEY_INPUT, want, SKEY_INPUT) && TEST_true(kmsenv_test_no_error());
    EVP_SKEY_free(skey);
    EVP_SKEY_free(theirs);
    EVP_SKEY_free(back);
    OSSL_PROVIDER_unload(deflt);
    OSSL_PROVIDER_unload(kmsenv);
    kmsenv_test_free(t);
    return ok;
}

/* Without key-references the default provider's names are its own. */
static int test_names_not_taken(void)
{
    KMSENV_TEST *t = skey_another(KMSENV_TEST_LOCAL SKEY_KEYRING);
    EVP_SKEYMGMT *aes = t == NULL ? NULL : EVP_SKEYMGMT_fetch(t->libctx, OSSL_SKEY_TYPE_AES, "provider=kmsenv");
    EVP_SKEYMGMT *own = t == NULL ? NULL : EVP_SKEYMGMT_fetch(t->libctx, KMSENV_CIPHER_ENVELOPE, NULL);
    int ok = TEST_ptr(t) && TEST_ptr_null(aes) && TEST_ptr(own)
             && TEST_ptr(OSSL_PARAM_locate_const(EVP_SKEYMGMT_get0_imp_settable_params(own), KMSENV_SKEY_PARAM_REFERENCE))
             && TEST_ptr(OSSL_PARAM_locate_const(EVP_SKEYMGMT_get0_gen_settable_params(own), KMSENV_PKEY_PARAM_PROFILE));

    ERR_clear_error();
    EVP_SKEYMGMT_free(aes);
    EVP_SKEYMGMT_free(own);
    kmsenv_test_free(t);
    return ok;
}

int setup_tests(void)
{
    if (!skey_setup())
        return 0;
    ADD_ALL_TESTS(test_reinit, SKEY_WAYS);
    ADD_TEST(test_iv);
    ADD_TEST(test_rewrapped);
    ADD_ALL_TESTS(test_expiry, 2);
    ADD_ALL_TESTS(test_ordinary, 2 * COUNT(key_lengths));
    ADD_ALL_TESTS(test_preferred, 6);
    ADD_TEST(test_names_not_taken);
    return 1;
}

void cleanup_tests(void)
{
    skey_cleanup();
}
