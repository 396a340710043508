/*
 * EVP_SKEY: data keys as symmetric key objects. Every cipher of the default provider does under one what it does under the plain
 * key; all ways to import one; generation, export.
 */
#include <stdio.h>
#include <string.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include "testutil.h"
#include "any_cipher.h"
#include "skey_keys.h"

#define COUNT(a)  ((int)(sizeof(a) / sizeof((a)[0])))

/* --- all ciphers ---------------------------------------------------------- */

typedef struct walk_st { EVP_SKEY *skey[SKEY_LENGTHS]; int walked, compared, ok; } WALK;

static int same_under(const EVP_CIPHER *theirs, const EVP_CIPHER *c, const unsigned char *key, EVP_SKEY *skey)
{
    unsigned char in[SKEY_INPUT], back[ANY_OUTPUT];
    ANY_SEALED a, b;

    kmsenv_test_fill(in, sizeof(in), 7);
    return TEST_true(any_cipher_encrypt(theirs, key, NULL, in, SKEY_INPUT, &a)) && TEST_true(any_cipher_encrypt(c, NULL, skey, in, SKEY_INPUT, &b))
           && TEST_int_eq(a.len, b.len) && (any_cipher_is_random(theirs) || (TEST_mem_eq(a.data, (size_t)a.len, b.data, (size_t)b.len)
                                                                            && TEST_mem_eq(a.tag, ANY_TAG, b.tag, ANY_TAG)))
           && TEST_int_eq(any_cipher_decrypt(c, NULL, skey, &a, back), SKEY_INPUT) && TEST_mem_eq(back, SKEY_INPUT, in, SKEY_INPUT)
           && TEST_int_eq(any_cipher_decrypt(theirs, key, NULL, &b, back), SKEY_INPUT) && TEST_mem_eq(back, SKEY_INPUT, in, SKEY_INPUT);
}

/* Not the DEK cut or padded; and nothing under the key of before, whatever init says without a key. */
static int refuses_others(const EVP_CIPHER *c, const WALK *w, int own)
{
    unsigned char in[SKEY_INPUT] = { 0 }, out[ANY_OUTPUT];
    EVP_CIPHER_CTX *ctx;
    char words[160];
    int i, n = 0, ok = 1;

    for (i = 0; i < SKEY_LENGTHS && ok; i++) {
        if (i == own)
            continue;
        ctx = own >= 0 ? any_cipher_start(c, 1, NULL, w->skey[own], NULL) : EVP_CIPHER_CTX_new();
        snprintf(words, sizeof(words), "%.64s has %zu bytes|a key of %d", skey_known[i].hex, skey_lengths[i], EVP_CIPHER_get_key_length(c));
        EVP_CIPHER_CTX_set_flags(ctx, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
        ok = TEST_ptr(ctx) && TEST_false(EVP_CipherInit_SKEY(ctx, own >= 0 ? NULL : c, w->skey[i], skey_iv, sizeof(skey_iv), 1, NULL))
             && TEST_true(kmsenv_test_error_says(KMSENV_R_DATA_KEY_UNSUITABLE, words));
        EVP_CipherInit_SKEY(ctx, NULL, NULL, skey_iv, (size_t)EVP_CIPHER_get_iv_length(c), 1, NULL);
        ERR_clear_error();
        ok = ok && TEST_false(EVP_EncryptUpdate(ctx, out, &n, in, SKEY_INPUT)) && TEST_true(kmsenv_test_error_is(KMSENV_R_WRONG_STATE));
        EVP_CIPHER_CTX_free(ctx);
    }
    return ok;
}

static int index_of(size_t length)
{
    int i;

    for (i = 0; i < SKEY_LENGTHS; i++)
        if (skey_lengths[i] == length)
            return i;
    return -1;
}

static int check_cipher(const EVP_CIPHER *theirs, WALK *w)
{
    char own[80];
    EVP_CIPHER *c[2];
    int i = index_of((size_t)EVP_CIPHER_get_key_length(theirs)), k, ok = 1;

    snprintf(own, sizeof(own), "KMS-%s", EVP_CIPHER_get0_name(theirs));
    c[0] = EVP_CIPHER_fetch(skey_ours->libctx, EVP_CIPHER_get0_name(theirs), "provider=kmsenv");
    c[1] = EVP_CIPHER_fetch(skey_ours->libctx, own, NULL);
    for (k = 0; k < 2 && ok; k++) {
        ok = TEST_ptr(c[k]) && TEST_str_eq(OSSL_PROVIDER_get0_name(EVP_CIPHER_get0_provider(c[k])), "kmsenv")
             && (i < 0 || same_under(theirs, c[k], skey_known[i].key, w->skey[i])) && TEST_true(kmsenv_test_no_error())
             && refuses_others(c[k], w, i);
        w->compared += i >= 0;
    }
    EVP_CIPHER_free(c[0]);
    EVP_CIPHER_free(c[1]);
    return ok;
}

/* A key management of its own name, too, unless no data key has the length of its keys. */
static int has_skeymgmt(const EVP_CIPHER *theirs)
{
    char own[80];
    EVP_SKEYMGMT *mgmt;
    int expected = index_of((size_t)EVP_CIPHER_get_key_length(theirs)) >= 0, ok;

    snprintf(own, sizeof(own), "KMS-%s", EVP_CIPHER_get0_name(theirs));
    mgmt = EVP_SKEYMGMT_fetch(skey_ours->libctx, own, NULL);
    ERR_clear_error();
    ok = TEST_int_eq(mgmt != NULL, expected) && (mgmt == NULL || TEST_str_eq(EVP_SKEYMGMT_get0_name(mgmt), own));
    EVP_SKEYMGMT_free(mgmt);
    return ok;
}

static void walk(EVP_CIPHER *theirs, void *arg)
{
    WALK *w = arg;

    if (EVP_CIPHER_get_key_length(theirs) < 16)
        return;
    w->walked++;
    if (!check_cipher(theirs, w) || !has_skeymgmt(theirs)) {
        TEST_error("%s", EVP_CIPHER_get0_name(theirs));
        w->ok = 0;
    }
}

static int test_every_cipher(void)
{
    WALK w = { .ok = 1 };
    int i;

    for (i = 0; i < SKEY_LENGTHS; i++)
        w.ok = TEST_ptr(w.skey[i] = skey_by_reference(i)) && w.ok;
    if (w.ok)
        EVP_CIPHER_do_all_provided(skey_plain, walk, &w);
    for (i = 0; i < SKEY_LENGTHS; i++)
        EVP_SKEY_free(w.skey[i]);
    TEST_info("%d ciphers, %d comparisons", w.walked, w.compared);
    return TEST_true(w.ok) & TEST_int_ge(w.walked, 120) & TEST_int_ge(w.compared, 2 * (w.walked - 3));
}

/* --- import --------------------------------------------------------------- */

/* The KMS is not asked before the key is used. */
static int test_import(int way)
{
    unsigned char want[SKEY_INPUT], got[SKEY_INPUT];
    uint64_t before = skey_kms_calls();
    EVP_SKEY *skey = skey_import_way(way);
    const unsigned char *raw;
    size_t n;
    int ok = TEST_ptr(skey) && TEST_size_t_eq(skey_kms_calls(), before) && TEST_true(kmsenv_test_no_error())
             && TEST_str_eq(EVP_SKEY_get0_key_id(skey), skey_known[2].hex) && skey_expect("AES-256-CTR", skey_known[2].key, want)
             && TEST_str_eq(EVP_SKEY_get0_provider_name(skey), "kmsenv")
             && TEST_true(skey_stream(skey_ours, "KMS-AES-256-CTR", skey, got)) && TEST_mem_eq(got, SKEY_INPUT, want, SKEY_INPUT)
             && TEST_true(skey_stream(skey_ours, "AES-256-CTR", skey, got)) && TEST_mem_eq(got, SKEY_INPUT, want, SKEY_INPUT)
             && TEST_size_t_le(skey_kms_calls() - before, 1) && TEST_true(kmsenv_test_no_error())
             && TEST_false(EVP_SKEY_get0_raw_key(skey, &raw, &n)) && TEST_true(kmsenv_test_error_says(KMSENV_R_DATA_KEY_UNSUITABLE,
                                                                                                    "kmsenv.data-key|never its bytes"));
    EVP_SKEY_free(skey);
    return ok;
}

static int no_import(EVP_SKEY *skey, int reason, const char *words)
{
    int ok = TEST_ptr_null(skey) && TEST_true(kmsenv_test_error_says(reason, words));

    EVP_SKEY_free(skey);
    return ok;
}

static int wrong_text(const char *name, const char *text, int reason, const char *words)
{
    return no_import(skey_import_text(skey_ours->libctx, KMSENV_CIPHER_ENVELOPE, name, text), reason, words);
}

static int wrong_octets(const char *type, const char *name, const void *bytes, size_t n, int reason, const char *words)
{
    return no_import(skey_import_octets(skey_ours->libctx, type, name, bytes, n), reason, words);
}

static int test_wrong_texts(void)
{
    char long_text[300], path[160];

    memset(long_text, 'a', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';
    snprintf(path, sizeof(path), "%s/a.pem", skey_ours->dir);
    return wrong_text(KMSENV_SKEY_PARAM_REFERENCE, "", KMSENV_R_PARAMETER_INVALID, "64 hexadecimal digits|48|kms-key:ID")
           && wrong_text(KMSENV_SKEY_PARAM_REFERENCE, "kms-key:", KMSENV_R_PARAMETER_INVALID, "reference")
           && wrong_text(KMSENV_SKEY_PARAM_REFERENCE, "0123", KMSENV_R_PARAMETER_INVALID, "reference")
           && wrong_text(KMSENV_SKEY_PARAM_REFERENCE, long_text, KMSENV_R_PARAMETER_INVALID, "reference")
           && wrong_text(KMSENV_SKEY_PARAM_REFERENCE, "000102030405060708090a0b0c0d0e0f101112131415161g", KMSENV_R_PARAMETER_INVALID, "reference")
           && wrong_text(KMSENV_SKEY_PARAM_REFERENCE, "000102030405060708090a0b0c0d0e0f1011121314151617", KMSENV_R_DATA_KEY_NOT_FOUND, "keyring")
           && wrong_text(KMSENV_SKEY_PARAM_FILE, "/nonexistent/file.pem", KMSENV_R_KEYRING_FAILED, "parameter file|/nonexistent/file.pem")
           && wrong_text(KMSENV_SKEY_PARAM_FILE, "/dev/zero", KMSENV_R_KEYRING_FAILED, "/dev/zero|regular file")
           && wrong_text(KMSENV_SKEY_PARAM_FILE, path, KMSENV_R_KEYRING_FAILED, "KMS DATA KEY")
           && wrong_text(KMSENV_SKEY_PARAM_DATA_KEY, "text", KMSENV_R_PARAMETER_INVALID, "kmsenv.data-key|octet string")
           && wrong_text(OSSL_SKEY_PARAM_RAW_BYTES, "text", KMSENV_R_PARAMETER_INVALID, "raw-bytes|octet string")
           && wrong_text("another", "text", KMSENV_R_PARAMETER_INVALID, "no key|exactly one|reference|file")
           && no_import(EVP_SKEY_import(skey_ours->libctx, KMSENV_CIPHER_ENVELOPE, NULL, SKEY_ALL, NULL), KMSENV_R_PARAMETER_INVALID, "no key");
}

static int test_wrong_octets(void)
{
    static const unsigned char unknown[64] = "kmsenv:\x01 no such data key at all", junk[40] = { 0x30, 0x26, 0x04, 0x18, 1 };
    unsigned char padded[64] = { 0 };
    OSSL_PARAM both[] = {
        OSSL_PARAM_construct_utf8_string(KMSENV_SKEY_PARAM_REFERENCE, skey_known[0].hex, 0), OSSL_PARAM_construct_utf8_string(KMSENV_SKEY_PARAM_REFERENCE, skey_known[0].hex, 0),
        OSSL_PARAM_construct_end()
    };

    memcpy(padded, skey_known[0].reference, 32);
    padded[63] = 1;
    return wrong_octets(KMSENV_CIPHER_ENVELOPE, OSSL_SKEY_PARAM_RAW_BYTES, skey_known[2].key, 32, KMSENV_R_PARAMETER_INVALID, "wrapped by a KMS|file")
           && wrong_octets("KMS-AES-256-CTR", OSSL_SKEY_PARAM_RAW_BYTES, skey_known[2].key, 32, KMSENV_R_PARAMETER_INVALID, "wrapped by a KMS")
           && wrong_octets(KMSENV_CIPHER_ENVELOPE, OSSL_SKEY_PARAM_RAW_BYTES, unknown, 32, KMSENV_R_DATA_KEY_NOT_FOUND, "keyring")
           && wrong_octets(OSSL_SKEY_TYPE_AES, OSSL_SKEY_PARAM_RAW_BYTES, unknown, 16, KMSENV_R_DATA_KEY_NOT_FOUND, "keyring")
           && wrong_octets(OSSL_SKEY_TYPE_GENERIC, OSSL_SKEY_PARAM_RAW_BYTES, padded, 64, KMSENV_R_PARAMETER_INVALID, "zeros")
           && wrong_octets(KMSENV_CIPHER_ENVELOPE, KMSENV_SKEY_PARAM_REFERENCE, skey_known[2].key, 32, KMSENV_R_PARAMETER_INVALID, "reference")
           && wrong_octets(KMSENV_CIPHER_ENVELOPE, KMSENV_SKEY_PARAM_REFERENCE, NULL, 0, KMSENV_R_PARAMETER_INVALID, "reference")
           && wrong_octets(KMSENV_CIPHER_ENVELOPE, KMSENV_SKEY_PARAM_DATA_KEY, junk, sizeof(junk), KMSENV_R_MESSAGE_MALFORMED, "")
           && wrong_octets(KMSENV_CIPHER_ENVELOPE, KMSENV_SKEY_PARAM_DATA_KEY, NULL, 0, KMSENV_R_PARAMETER_INVALID, "octet string")
           && no_import(EVP_SKEY_import(skey_ours->libctx, KMSENV_CIPHER_ENVELOPE, NULL, SKEY_ALL, both), KMSENV_R_PARAMETER_INVALID, "too many|exactly one")
           && no_import(EVP_SKEY_import(skey_ours->libctx, KMSENV_CIPHER_ENVELOPE, NULL, OSSL_SKEYMGMT_SELECT_PARAMETERS, both + 1),
                        KMSENV_R_PARAMETER_INVALID, "secret key");
}

/* What is exported is the wrapped key; another library context of ours takes it. */
static int keep_params(const OSSL_PARAM params[], void *arg)
{
    *(OSSL_PARAM **)arg = OSSL_PARAM_dup(params);
    return 1;
}

static int test_export(int by_file)
{
    static const KMSENV_TEST_SETUP other_setup = { KMSENV_TEST_LOCAL, NULL, 0, NULL };   /* no keyring */
    KMSENV_TEST_SETUP setup = other_setup;
    unsigned char want[SKEY_INPUT], got[SKEY_INPUT];
    EVP_SKEY *skey = skey_import_way(by_file ? 9 : 0), *back = NULL;
    OSSL_PARAM *params = NULL;
    KMSENV_TEST *other;
    int ok;

    setup.same = skey_ours;
    other = kmsenv_test_new_ex(&setup);
    ok = TEST_ptr(other) && TEST_ptr(skey) && TEST_true(EVP_SKEY_export(skey, SKEY_ALL, keep_params, &params))
         && TEST_str_eq(params[0].key, KMSENV_SKEY_PARAM_DATA_KEY) && TEST_ptr_null(params[1].key)
         && TEST_ptr(back = EVP_SKEY_import(other->libctx, KMSENV_CIPHER_ENVELOPE, NULL, SKEY_ALL, params))
         && TEST_str_eq(EVP_SKEY_get0_key_id(back), skey_known[2].hex) && skey_expect("AES-256-CTR", skey_known[2].key, want)
         && TEST_true(skey_stream(other, "KMS-AES-256-CTR", back, got)) && TEST_mem_eq(got, SKEY_INPUT, want, SKEY_INPUT)
         && TEST_false(EVP_SKEY_export(skey, OSSL_SKEYMGMT_SELECT_PARAMETERS, keep_params, &params)) && TEST_true(kmsenv_test_no_error());
    OSSL_PARAM_free(params);
    EVP_SKEY_free(skey);
    EVP_SKEY_free(back);
    kmsenv_test_free(other);
    return ok;
}

/* --- generation ----------------------------------------------------------- */

static const struct { const char *type, *cipher; size_t bits; const char *keyring; } generated[] = {
    { "kms-envelope", "KMS-AES-256-CTR", 0, NULL }, { "kms-envelope", "KMS-AES-128-CTR", 128, NULL },
    { "kms-envelope-192", "KMS-AES-192-CTR", 0, NULL }, { "KMS-AES-128-CTR", "KMS-AES-128-CTR", 0, NULL },
    { "KMS-AES-256-XTS", "KMS-AES-256-XTS", 0, "yes" }, { "kms-envelope", "KMS-AES-256-XTS", 512, "no" },
    { "kms-envelope", "KMS-AES-256-CTR", 0, "no" }
};

/* One call of the KMS; the key is in the keyring afterwards, unless that was not wanted. */
static int test_generate(int i)
{
    uint64_t before = skey_kms_calls();
    EVP_SKEY *skey = skey_generate(skey_ours, generated[i].type, generated[i].bits, generated[i].keyring), *again = NULL;
    int kept = generated[i].keyring == NULL || *generated[i].keyring == 'y', ok;
    unsigned char a[SKEY_INPUT], b[SKEY_INPUT];

    ok = TEST_ptr(skey) && TEST_size_t_eq(skey_kms_calls() - before, 1) && TEST_true(kmsenv_test_no_error())
         && TEST_size_t_eq(strlen(EVP_SKEY_get0_key_id(skey)), 64) && TEST_strn_eq(EVP_SKEY_get0_key_id(skey), "6b6d73656e763a01", 16)
         && TEST_true(skey_stream(skey_ours, generated[i].cipher, skey, a));
    again = !ok ? NULL : skey_import_text(skey_ours->libctx, generated[i].type, KMSENV_SKEY_PARAM_REFERENCE, EVP_SKEY_get0_key_id(skey));
    if (kept)
        ok = ok && TEST_ptr(again) && TEST_true(skey_stream(skey_ours, generated[i].cipher, again, b)) && TEST_mem_eq(a, SKEY_INPUT, b, SKEY_INPUT);
    else
        ok = ok && TEST_ptr_null(again) && TEST_true(kmsenv_test_error_is(KMSENV_R_DATA_KEY_NOT_FOUND));
    EVP_SKEY_free(again);
    EVP_SKEY_free(skey);
    return ok;
}

static int test_generate_wrong(void)
{
    KMSENV_TEST *bare = kmsenv_test_new(KMSENV_TEST_LOCAL);
    uint64_t before = skey_kms_calls();
    EVP_SKEY *skey = NULL;
    int ok = TEST_ptr(bare)
             && no_import(skey_generate(skey_ours, KMSENV_CIPHER_ENVELOPE, 100, NULL), KMSENV_R_PARAMETER_INVALID, "bits|128|512")
             && no_import(skey_generate(skey_ours, KMSENV_CIPHER_ENVELOPE, 0, "maybe"), KMSENV_R_PARAMETER_INVALID, "keyring|yes, no")
             && no_import(skey_generate(bare, KMSENV_CIPHER_ENVELOPE, 0, NULL), KMSENV_R_KEYRING_FAILED, "set 'keyring'|keyring:no")
             && no_import(skey_generate(bare, KMSENV_CIPHER_ENVELOPE, 0, "yes"), KMSENV_R_KEYRING_FAILED, "set 'keyring'|keyring:no")
             && TEST_size_t_eq(skey_kms_calls(), before) && TEST_size_t_eq(kmsenv_test_counter(bare, "kmsenv.kms-calls"), 0)
             && TEST_ptr(skey = skey_generate(bare, KMSENV_CIPHER_ENVELOPE, 0, "no"))
             /* those of the default provider's names are not generated by it either */
             && TEST_ptr_null(EVP_SKEY_generate(skey_ours->libctx, OSSL_SKEY_TYPE_AES, "provider=kmsenv", NULL));

    ERR_clear_error();
    EVP_SKEY_free(skey);
    kmsenv_test_free(bare);
    return ok;
}

/* Beside a key object, too, a reference is no key of a TLS cipher's MAC. */
static int test_mac_key(void)
{
    unsigned char mac_key[32] = "kmsenv:\x01 not a key of a MAC", out[ANY_OUTPUT];
    OSSL_PARAM params[2] = { OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_MAC_KEY, mac_key, sizeof(mac_key)),
                             OSSL_PARAM_construct_end() };
    EVP_CIPHER *c = EVP_CIPHER_fetch(skey_ours->libctx, "KMS-AES-256-CBC-HMAC-SHA1", NULL);
    EVP_SKEY *skey = skey_by_reference(index_of(32));
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n, ok;

    if (c == NULL) {                   /* which depends on the processor */
        ERR_clear_error();
        EVP_SKEY_free(skey);
        EVP_CIPHER_CTX_free(ctx);
        return TEST_skip("no such cipher here");
    }
    ok = TEST_ptr(skey) && TEST_true(EVP_CipherInit_SKEY(ctx, c, skey, skey_iv, sizeof(skey_iv), 1, NULL))
         && TEST_false(EVP_CipherInit_SKEY(ctx, NULL, skey, skey_iv, sizeof(skey_iv), 1, params))
         && TEST_true(kmsenv_test_error_says(KMSENV_R_PARAMETER_INVALID, "mackey|key reference"))
         && TEST_false(EVP_EncryptUpdate(ctx, out, &n, skey_iv, 16)) && TEST_true(kmsenv_test_error_is(KMSENV_R_WRONG_STATE));
    mac_key[0] = 'K';
    ok = ok && TEST_true(EVP_CipherInit_SKEY(ctx, NULL, skey, skey_iv, sizeof(skey_iv), 1, params))
         && TEST_true(EVP_EncryptUpdate(ctx, out, &n, skey_iv, 16)) && TEST_true(kmsenv_test_no_error());
    EVP_SKEY_free(skey);
    EVP_CIPHER_free(c);
    EVP_CIPHER_CTX_free(ctx);
    return ok;
}

int setup_tests(void)
{
    if (!skey_setup())
        return 0;
    ADD_TEST(test_every_cipher);
    ADD_ALL_TESTS(test_import, SKEY_WAYS);
    ADD_TEST(test_wrong_texts);
    ADD_TEST(test_wrong_octets);
    ADD_ALL_TESTS(test_export, 2);
    ADD_ALL_TESTS(test_generate, COUNT(generated));
    ADD_TEST(test_generate_wrong);
    ADD_TEST(test_mac_key);
    return 1;
}

void cleanup_tests(void)
{
    skey_cleanup();
}
