/*
 * Every cipher of the default provider with a key that can hold a reference: keyed by reference it does what it does with
 * the plain key, and never uses a reference as a key. And OpenSSL's own vectors, each key of which becomes a data key.
 */
#include <stdio.h>
#include <string.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <sys/stat.h>
#include <unistd.h>
#include "testutil.h"
#include "any_cipher.h"
#include "dek/keyring.h"
#include "known_key.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))
#define INPUT    96
#define KEYRING  "keyring = @/keys\n"

static KMSENV_CRYPTO *crypto;
static OSSL_LIB_CTX *plain;            /* the default provider alone */
static KMSENV_TEST *ours;              /* key-references = yes */

static EVP_CIPHER_CTX *start(const EVP_CIPHER *c, int enc, const unsigned char *key, const ANY_SEALED *in)
{
    return any_cipher_start(c, enc, key, NULL, in);
}

static int encrypt(const EVP_CIPHER *c, const unsigned char *key, const unsigned char *in, int inlen, ANY_SEALED *out)
{
    return any_cipher_encrypt(c, key, NULL, in, inlen, out);
}

static int decrypt(const EVP_CIPHER *c, const unsigned char *key, const ANY_SEALED *in, unsigned char *out)
{
    return any_cipher_decrypt(c, key, NULL, in, out);
}

/* --- all ciphers ---------------------------------------------------------- */

typedef struct walk_st {
    unsigned char key[5][KMSENV_TEST_REFERENCE_MAX], reference[5][KMSENV_TEST_REFERENCE_MAX];
    int walked, compared, refused, ok;
} WALK;

static const size_t lengths[] = { 16, 24, 32, 64 };

/* Bytes that look random; the halves differ, as XTS wants it. */
static int make_keys(WALK *w)
{
    int i;

    for (i = 0; i < COUNT(lengths); i++) {
        kmsenv_test_fill(w->key[i], lengths[i], 100 + (unsigned)i);
        if (!known_key_put(ours, crypto, w->key[i], lengths[i], w->reference[i]))
            return 0;
    }
    return 1;
}

static int index_of(size_t length)
{
    int i;

    for (i = 0; i < COUNT(lengths); i++)
        if (lengths[i] == length)
            return i;
    return -1;
}

static int same_under(const EVP_CIPHER *theirs, const EVP_CIPHER *c, const unsigned char *key, const unsigned char *reference)
{
    unsigned char in[INPUT], back[ANY_OUTPUT];
    ANY_SEALED a, b;

    kmsenv_test_fill(in, sizeof(in), 7);
    return TEST_true(encrypt(theirs, key, in, INPUT, &a)) && TEST_true(encrypt(c, reference, in, INPUT, &b))
           && TEST_int_eq(a.len, b.len) && (any_cipher_is_random(theirs) || (TEST_mem_eq(a.data, (size_t)a.len, b.data, (size_t)b.len)
                                                                 && TEST_mem_eq(a.tag, ANY_TAG, b.tag, ANY_TAG)))
           && TEST_int_eq(decrypt(c, reference, &a, back), INPUT) && TEST_mem_eq(back, INPUT, in, INPUT)
           && TEST_int_eq(decrypt(theirs, key, &b, back), INPUT) && TEST_mem_eq(back, INPUT, in, INPUT)
           /* and any other key passes through */
           && TEST_true(encrypt(c, key, in, INPUT, &b)) && (any_cipher_is_random(theirs) || TEST_mem_eq(a.data, (size_t)a.len, b.data, (size_t)b.len));
}

/* An error, and not encryption under the bytes of the reference. */
static int refused(const EVP_CIPHER *c, const unsigned char *reference, int reason)
{
    unsigned char in[INPUT] = { 0 };
    ANY_SEALED out;

    return TEST_false(encrypt(c, reference, in, INPUT, &out)) && TEST_true(kmsenv_test_error_is(reason))
           && TEST_int_eq(out.len, 0);
}

/* A program that ignores the refusal gets nothing under the key that it had before, whatever init says without a key. */
static int stays_refused(const EVP_CIPHER *c, const unsigned char *key)
{
    static const unsigned char nothing[KMSENV_TEST_REFERENCE_MAX] = "kmsenv:\x01 no such data key at all";
    static const unsigned char iv[16] = "iviviviviviviv!";
    EVP_CIPHER_CTX *ctx = start(c, 1, key, NULL), *copy = EVP_CIPHER_CTX_new();
    unsigned char in[INPUT] = { 0 }, out[ANY_OUTPUT] = { 0 }, zeros[ANY_OUTPUT] = { 0 };
    int n = 0, ok = TEST_ptr(ctx) && TEST_false(EVP_CipherInit_ex(ctx, NULL, NULL, nothing, iv, 1));

    ERR_clear_error();
    EVP_CipherInit_ex(ctx, NULL, NULL, NULL, iv, 1);
    ERR_clear_error();
    ok = ok && (EVP_CIPHER_is_a(c, "DES3-WRAP") || EVP_CIPHER_is_a(c, "KMS-DES3-WRAP") || TEST_true(EVP_CIPHER_CTX_copy(copy, ctx)));     /* 3.0 cannot copy that one */
    ERR_clear_error();
    ok = ok && TEST_false(EVP_EncryptUpdate(ctx, out, &n, in, INPUT)) && TEST_true(kmsenv_test_error_is(KMSENV_R_WRONG_STATE))
         && TEST_false(EVP_EncryptUpdate(copy, out, &n, in, INPUT))
         && TEST_int_le(EVP_Cipher(ctx, out, in, 16), 0) && TEST_mem_eq(out, ANY_OUTPUT, zeros, ANY_OUTPUT);
    EVP_EncryptFinal_ex(ctx, out, &n);
    ok = ok && TEST_mem_eq(out, ANY_OUTPUT, zeros, ANY_OUTPUT) && TEST_true(EVP_CipherInit_ex(ctx, NULL, NULL, key, iv, 1));
    ERR_clear_error();
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_CTX_free(copy);
    return ok;
}

/* Unknown; of a data key of another length; damaged where it is padded. */
static int refuses_others(const EVP_CIPHER *c, const WALK *w, int own)
{
    unsigned char bad[KMSENV_TEST_REFERENCE_MAX] = "kmsenv:\x01 no such data key at all";
    size_t keylen = (size_t)EVP_CIPHER_get_key_length(c);
    int i;

    if (!refused(c, bad, keylen > 32 && bad[32] != 0 ? KMSENV_R_PARAMETER_INVALID : KMSENV_R_DATA_KEY_NOT_FOUND))
        return 0;
    if (keylen > 32) {
        memcpy(bad, w->reference[0], sizeof(bad));
        bad[keylen - 1] = 1;
        if (!refused(c, bad, KMSENV_R_PARAMETER_INVALID))
            return 0;
    }
    for (i = 0; i < COUNT(lengths); i++)
        if (i != own && !refused(c, w->reference[i], KMSENV_R_DATA_KEY_UNSUITABLE))
            return 0;
    return 1;
}

static int check_cipher(const EVP_CIPHER *theirs, WALK *w)
{
    char own[80];
    EVP_CIPHER *c[2];
    int i = index_of((size_t)EVP_CIPHER_get_key_length(theirs)), k, ok = 1;

    snprintf(own, sizeof(own), "KMS-%s", EVP_CIPHER_get0_name(theirs));
    c[0] = EVP_CIPHER_fetch(ours->libctx, EVP_CIPHER_get0_name(theirs), "provider=kmsenv");
    c[1] = EVP_CIPHER_fetch(ours->libctx, own, NULL);
    for (k = 0; k < 2 && ok; k++) {
        ok = TEST_ptr(c[k]) && TEST_str_eq(OSSL_PROVIDER_get0_name(EVP_CIPHER_get0_provider(c[k])), "kmsenv")
             && TEST_int_eq(EVP_CIPHER_get_key_length(c[k]), EVP_CIPHER_get_key_length(theirs))
             && TEST_int_eq(EVP_CIPHER_get_iv_length(c[k]), EVP_CIPHER_get_iv_length(theirs))
             && TEST_int_eq(EVP_CIPHER_get_block_size(c[k]), EVP_CIPHER_get_block_size(theirs))
             && TEST_ulong_eq(EVP_CIPHER_get_flags(c[k]), EVP_CIPHER_get_flags(theirs))
             && (i < 0 || same_under(theirs, c[k], w->key[i], w->reference[i])) && TEST_true(kmsenv_test_no_error())
             && refuses_others(c[k], w, i) && (i < 0 || stays_refused(c[k], w->key[i]));
        w->compared += i >= 0;
    }
    EVP_CIPHER_free(c[0]);
    EVP_CIPHER_free(c[1]);
    return ok;
}

static void walk(EVP_CIPHER *theirs, void *arg)
{
    WALK *w = arg;

    if (EVP_CIPHER_get_key_length(theirs) < 16)
        return;
    w->walked++;
    if (!check_cipher(theirs, w)) {
        TEST_error("%s", EVP_CIPHER_get0_name(theirs));
        w->ok = 0;
    }
}

/* 123 in OpenSSL 3.0; newer versions have more, and all of them are walked. */
static int test_every_cipher(void)
{
    WALK w = { .ok = 1 };

    if (!make_keys(&w))
        return 0;
    EVP_CIPHER_do_all_provided(plain, walk, &w);
    TEST_info("%d ciphers, %d comparisons", w.walked, w.compared);
    return TEST_true(w.ok) & TEST_int_ge(w.walked, 120) & TEST_int_ge(w.compared, 2 * (w.walked - 3));
}

/* --- the keyring ---------------------------------------------------------- */

static int init_by(const KMSENV_TEST *t, const char *name, const unsigned char *reference)
{
    static const unsigned char iv[16] = { 0 };
    EVP_CIPHER *c = EVP_CIPHER_fetch(t->libctx, name, "provider=kmsenv");
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int ok = EVP_EncryptInit_ex2(ctx, c, reference, iv, NULL);

    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(c);
    return ok;
}

/* Writes a data key anew, with or without the key id of its wrap changed to one that nobody answers for. */
static int rewrite(const unsigned char *reference, const char *key_id, KMSENV_DATA_KEY *dk)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    char dir[80], hex[2 * KMSENV_DEK_ID_LEN + 1], path[160], *old = dk->wrap[0].blob.key_id;
    unsigned char *der = NULL;
    size_t len;
    int ok;

    snprintf(dir, sizeof(dir), "%s/keys", ours->dir);
    kmsenv_dek_id_hex(reference + 8, hex);
    snprintf(path, sizeof(path), "%s/%s.pem", dir, hex);
    if (key_id != NULL)
        dk->wrap[0].blob.key_id = (char *)key_id;
    ok = TEST_true(kmsenv_data_key_encode(dk, 0, &der, &len, &err)) && TEST_int_eq(unlink(path), 0)
         && TEST_true(kmsenv_keyring_store(dir, dk->id, der, len, &err));
    dk->wrap[0].blob.key_id = old;
    OPENSSL_free(der);
    return ok;
}

/* What was remembered of the keyring does not stand in the way of a rewrap. */
static int test_rewrapped(void)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    unsigned char key[32], reference[KMSENV_TEST_REFERENCE_MAX];
    KMSENV_DATA_KEY *dk = NULL;
    char dir[80];
    int ok;

    snprintf(dir, sizeof(dir), "%s/keys", ours->dir);
    kmsenv_test_fill(key, sizeof(key), 777);
    ok = known_key_put(ours, crypto, key, sizeof(key), reference) && TEST_ptr(dk = kmsenv_keyring_load(dir, reference + 8, &err))
         && rewrite(reference, "key-of-old", dk) && TEST_false(init_by(ours, "AES-256-GCM", reference))
         && TEST_true(kmsenv_test_error_says(KMSENV_R_NO_USABLE_WRAP, "key reference|key-of-old"))
         && TEST_false(init_by(ours, "AES-256-GCM", reference)) && TEST_true(kmsenv_test_error_is(KMSENV_R_NO_USABLE_WRAP))
         && rewrite(reference, NULL, dk) && TEST_true(init_by(ours, "AES-256-GCM", reference)) && TEST_true(kmsenv_test_no_error());
    kmsenv_data_key_free(dk);
    return ok;
}

/* The beginning of an id is looked for in directories: one that cannot be read is not an empty one. */
static int test_keyring_search(void)
{
    static const unsigned char id[KMSENV_DEK_ID_LEN] = { 0xab, 0xcd };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    char dir[80], dirs[200], path[200];
    unsigned char (*ids)[KMSENV_DEK_ID_LEN];
    size_t n = 99;
    int ok;

    snprintf(dir, sizeof(dir), "%s/upper", ours->dir);
    snprintf(dirs, sizeof(dirs), "%s/missing:%s", ours->dir, dir);
    snprintf(path, sizeof(path), "%s/ABCD00000000000000000000000000000000000000000000.pem", dir);
    ok = TEST_int_eq(mkdir(dir, 0700), 0) && TEST_true(kmsenv_test_write(ours, path + strlen(ours->dir) + 1, "no PEM"))
         && TEST_true(kmsenv_keyring_list(dir, &ids, &n, &err)) && TEST_size_t_eq(n, 0)
         && TEST_ptr_null(kmsenv_keyring_find(dirs, id, 8, &err)) && TEST_int_eq(err.reason, KMSENV_R_DATA_KEY_NOT_FOUND)
         && TEST_ptr_null(kmsenv_keyring_find(path, id, 8, &err)) && TEST_int_eq(err.reason, KMSENV_R_KEYRING_FAILED)
         && TEST_ptr(strstr(err.text, "directory"));
    return ok;
}

/* libcrypto takes the value of a setting for a section where there is one of that name, and we are not told of it. */
static int test_section_called_yes(void)
{
    static const KMSENV_TEST_SETUP setup = { .settings = KMSENV_TEST_LOCAL KEYRING "key-references = yes\n[yes]\na = b\n" };
    static const unsigned char nothing[KMSENV_TEST_REFERENCE_MAX] = "kmsenv:\x01 no such data key at all";
    KMSENV_TEST *t = kmsenv_test_new_ex(&setup);
    int ok = TEST_ptr(t) && TEST_false(init_by(t, "KMS-AES-256-GCM", nothing))
             && TEST_true(kmsenv_test_error_says(KMSENV_R_CONFIG_INVALID, "key-references|rename that section"));

    kmsenv_test_free(t);
    return ok;
}

/* Ciphers of TLS have a second key, for their MAC: a reference there is none, and not its bytes either. */
static int test_mac_key(void)
{
    static const unsigned char key[32] = { 1 }, iv[16] = { 2 };
    unsigned char mac_key[32] = "kmsenv:\x01 not a key of a MAC", out[64];
    OSSL_PARAM params[2] = { OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_MAC_KEY, mac_key, sizeof(mac_key)),
                             OSSL_PARAM_construct_end() };
    EVP_CIPHER *c = EVP_CIPHER_fetch(ours->libctx, "KMS-AES-128-CBC-HMAC-SHA1", NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n, ok;

    if (c == NULL) {                   /* which depends on the processor */
        ERR_clear_error();
        EVP_CIPHER_CTX_free(ctx);
        return TEST_skip("no such cipher here");
    }
    ok = TEST_true(EVP_EncryptInit_ex2(ctx, c, key, iv, NULL)) && TEST_false(EVP_CIPHER_CTX_set_params(ctx, params))
         && TEST_true(kmsenv_test_error_says(KMSENV_R_PARAMETER_INVALID, "mackey|key reference"))
         && TEST_false(EVP_EncryptUpdate(ctx, out, &n, key, 32)) && TEST_true(kmsenv_test_error_is(KMSENV_R_WRONG_STATE))
         && TEST_false(EVP_EncryptInit_ex2(ctx, NULL, key, iv, params)) && TEST_true(kmsenv_test_error_is(KMSENV_R_PARAMETER_INVALID));
    mac_key[0] = 'K';
    ok = ok && TEST_true(EVP_EncryptInit_ex2(ctx, NULL, key, iv, params)) && TEST_true(EVP_EncryptUpdate(ctx, out, &n, key, 32))
         && TEST_true(EVP_CIPHER_CTX_set_params(ctx, params)) && TEST_true(kmsenv_test_no_error());
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(c);
    return ok;
}

int setup_tests(void)
{
    static const KMSENV_TEST_SETUP setup = { .settings = KMSENV_TEST_LOCAL KEYRING "key-references = yes\n" };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;

    if (!TEST_ptr(ours = kmsenv_test_new_ex(&setup)) || !TEST_ptr(plain = OSSL_LIB_CTX_new())
            || !TEST_ptr(crypto = kmsenv_crypto_new(NULL, NULL, "default")) || !TEST_true(kmsenv_crypto_ready(crypto, &err)))
        return 0;
    ADD_TEST(test_every_cipher);
    ADD_TEST(test_mac_key);
    ADD_TEST(test_rewrapped);
    ADD_TEST(test_keyring_search);
    ADD_TEST(test_section_called_yes);
    return 1;
}

void cleanup_tests(void)
{
    kmsenv_crypto_free(crypto);
    kmsenv_test_free(ours);
    OSSL_LIB_CTX_free(plain);
}
