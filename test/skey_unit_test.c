/*
 * EVP_SKEY: data keys as symmetric key objects. Every cipher of the default provider does under one what it does under the plain
 * key; all ways to import one; generation, export, lengths, rewraps, expiry; and ordinary keys where ciphers have ordinary names.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <openssl/core_names.h>
#include <openssl/core_object.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include "testutil.h"
#include "any_cipher.h"
#include "dek/keyring.h"
#include "known_key.h"

#define COUNT(a)  ((int)(sizeof(a) / sizeof((a)[0])))
#define INPUT     96
#define KEYRING   "keyring = @/keys\n"
#define REFERENCE KMSENV_SKEY_PARAM_REFERENCE
#define ALL       OSSL_SKEYMGMT_SELECT_ALL
#define ID(i)     (known[i].hex + 16)

static KMSENV_CRYPTO *crypto;
static OSSL_LIB_CTX *plain;            /* the default provider alone */
static KMSENV_TEST *ours;              /* key-references = yes */

static const size_t lengths[] = { 16, 24, 32, 64 };
/* Data keys of known bytes, and where they are. */
static struct { unsigned char key[64], reference[KMSENV_TEST_REFERENCE_MAX]; char hex[65]; } known[COUNT(lengths)];

static const unsigned char iv[16] = "iviviviviviviv!";

static uint64_t kms_calls(void)
{
    return kmsenv_test_counter(ours, "kmsenv.kms-calls");
}

static void to_hex(const unsigned char *p, size_t n, char *out)
{
    size_t i;

    for (i = 0; i < n; i++)
        sprintf(out + 2 * i, "%02x", p[i]);
}

static EVP_SKEY *import_text(OSSL_LIB_CTX *libctx, const char *type, const char *name, const char *text)
{
    OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_string(name, (char *)text, 0), OSSL_PARAM_construct_end() };

    return EVP_SKEY_import(libctx, type, "provider=kmsenv", ALL, params);
}

static EVP_SKEY *import_octets(OSSL_LIB_CTX *libctx, const char *type, const char *name, const void *bytes, size_t n)
{
    OSSL_PARAM params[] = { OSSL_PARAM_construct_octet_string(name, (void *)bytes, n), OSSL_PARAM_construct_end() };

    return EVP_SKEY_import(libctx, type, "provider=kmsenv", ALL, params);
}

static EVP_SKEY *by_reference(int i)
{
    return import_text(ours->libctx, KMSENV_CIPHER_ENVELOPE, REFERENCE, known[i].hex);
}

/* What a cipher of ours makes of zeros under a key object; 0 if init or update failed. */
static int stream(const KMSENV_TEST *t, const char *name, EVP_SKEY *skey, unsigned char out[INPUT])
{
    EVP_CIPHER *c = EVP_CIPHER_fetch(t->libctx, name, "provider=kmsenv");
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    unsigned char in[INPUT] = { 0 };
    int n = 0, ok = TEST_ptr(c) && EVP_CipherInit_SKEY(ctx, c, skey, iv, sizeof(iv), 1, NULL)
                    && EVP_EncryptUpdate(ctx, out, &n, in, INPUT) && n == INPUT;

    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(c);
    return ok;
}

/* What the default provider makes of it under the plain key. */
static int expect(const char *name, const unsigned char *key, unsigned char out[INPUT])
{
    EVP_CIPHER *c = EVP_CIPHER_fetch(plain, name, NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    unsigned char in[INPUT] = { 0 };
    int n = 0, ok = TEST_true(EVP_EncryptInit_ex2(ctx, c, key, iv, NULL)) && TEST_true(EVP_EncryptUpdate(ctx, out, &n, in, INPUT));

    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(c);
    return ok;
}

/* --- all ciphers ---------------------------------------------------------- */

typedef struct walk_st { EVP_SKEY *skey[COUNT(lengths)]; int walked, compared, ok; } WALK;

static int same_under(const EVP_CIPHER *theirs, const EVP_CIPHER *c, const unsigned char *key, EVP_SKEY *skey)
{
    unsigned char in[INPUT], back[ANY_OUTPUT];
    ANY_SEALED a, b;

    kmsenv_test_fill(in, sizeof(in), 7);
    return TEST_true(any_cipher_encrypt(theirs, key, NULL, in, INPUT, &a)) && TEST_true(any_cipher_encrypt(c, NULL, skey, in, INPUT, &b))
           && TEST_int_eq(a.len, b.len) && (any_cipher_is_random(theirs) || (TEST_mem_eq(a.data, (size_t)a.len, b.data, (size_t)b.len)
                                                                            && TEST_mem_eq(a.tag, ANY_TAG, b.tag, ANY_TAG)))
           && TEST_int_eq(any_cipher_decrypt(c, NULL, skey, &a, back), INPUT) && TEST_mem_eq(back, INPUT, in, INPUT)
           && TEST_int_eq(any_cipher_decrypt(theirs, key, NULL, &b, back), INPUT) && TEST_mem_eq(back, INPUT, in, INPUT);
}

/* Not the DEK cut or padded; and nothing under the key of before, whatever init says without a key. */
static int refuses_others(const EVP_CIPHER *c, const WALK *w, int own)
{
    unsigned char in[INPUT] = { 0 }, out[ANY_OUTPUT];
    EVP_CIPHER_CTX *ctx;
    char words[160];
    int i, n = 0, ok = 1;

    for (i = 0; i < COUNT(lengths) && ok; i++) {
        if (i == own)
            continue;
        ctx = own >= 0 ? any_cipher_start(c, 1, NULL, w->skey[own], NULL) : EVP_CIPHER_CTX_new();
        snprintf(words, sizeof(words), "%.64s has %zu bytes|a key of %d", known[i].hex, lengths[i], EVP_CIPHER_get_key_length(c));
        EVP_CIPHER_CTX_set_flags(ctx, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
        ok = TEST_ptr(ctx) && TEST_false(EVP_CipherInit_SKEY(ctx, own >= 0 ? NULL : c, w->skey[i], iv, sizeof(iv), 1, NULL))
             && TEST_true(kmsenv_test_error_says(KMSENV_R_DATA_KEY_UNSUITABLE, words));
        EVP_CipherInit_SKEY(ctx, NULL, NULL, iv, (size_t)EVP_CIPHER_get_iv_length(c), 1, NULL);
        ERR_clear_error();
        ok = ok && TEST_false(EVP_EncryptUpdate(ctx, out, &n, in, INPUT)) && TEST_true(kmsenv_test_error_is(KMSENV_R_WRONG_STATE));
        EVP_CIPHER_CTX_free(ctx);
    }
    return ok;
}

static int index_of(size_t length)
{
    int i;

    for (i = 0; i < COUNT(lengths); i++)
        if (lengths[i] == length)
            return i;
    return -1;
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
             && (i < 0 || same_under(theirs, c[k], known[i].key, w->skey[i])) && TEST_true(kmsenv_test_no_error())
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
    mgmt = EVP_SKEYMGMT_fetch(ours->libctx, own, NULL);
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

    for (i = 0; i < COUNT(lengths); i++)
        w.ok = TEST_ptr(w.skey[i] = by_reference(i)) && w.ok;
    if (w.ok)
        EVP_CIPHER_do_all_provided(plain, walk, &w);
    for (i = 0; i < COUNT(lengths); i++)
        EVP_SKEY_free(w.skey[i]);
    TEST_info("%d ciphers, %d comparisons", w.walked, w.compared);
    return TEST_true(w.ok) & TEST_int_ge(w.walked, 120) & TEST_int_ge(w.compared, 2 * (w.walked - 3));
}

/* --- import --------------------------------------------------------------- */

static EVP_SKEY *import_pointer(const char *type, const void *bytes, size_t n)
{
    OSSL_PARAM params[] = { OSSL_PARAM_construct_octet_ptr(OSSL_OBJECT_PARAM_REFERENCE, (void **)&bytes, n), OSSL_PARAM_construct_end() };

    return EVP_SKEY_import(ours->libctx, type, NULL, ALL, params);
}

static EVP_SKEY *import_way(int way)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    char text[200], dir[80];
    KMSENV_DATA_KEY *dk = NULL;
    unsigned char *der = NULL;
    EVP_SKEY *skey = NULL;
    size_t len;

    snprintf(dir, sizeof(dir), "%s/keys", ours->dir);
    switch (way) {
    case 0: return by_reference(2);
    case 1: return import_text(ours->libctx, KMSENV_CIPHER_ENVELOPE_128, REFERENCE, ID(2));
    case 2: snprintf(text, sizeof(text), "kms-key:%.48s", ID(2));
            return import_text(ours->libctx, "KMS-AES-256-CTR", REFERENCE, text);
    case 3: snprintf(text, sizeof(text), "KMS-KEY://%.64s", known[2].hex);
            return import_text(ours->libctx, "KMS-AES-256-CTR", REFERENCE, text);
    case 4: return import_octets(ours->libctx, KMSENV_CIPHER_ENVELOPE, REFERENCE, known[2].reference, 32);
    case 5: return import_pointer(KMSENV_CIPHER_ENVELOPE, known[2].reference, 32);
    case 6: return import_octets(ours->libctx, KMSENV_CIPHER_ENVELOPE, OSSL_SKEY_PARAM_RAW_BYTES, known[2].reference, 32);
    case 7: return import_octets(ours->libctx, OSSL_SKEY_TYPE_AES, OSSL_SKEY_PARAM_RAW_BYTES, known[2].reference, 32);
    case 8: return import_text(ours->libctx, OSSL_SKEY_TYPE_GENERIC, REFERENCE, known[2].hex);
    case 9: snprintf(text, sizeof(text), "%s/%.48s.pem", dir, ID(2));
            return import_text(ours->libctx, KMSENV_CIPHER_ENVELOPE, KMSENV_SKEY_PARAM_FILE, text);
    case 10:   /* cut, as for a cipher with a key of 16 bytes */
            return import_octets(ours->libctx, KMSENV_CIPHER_ENVELOPE, REFERENCE, known[2].reference, 16);
    default: break;
    }
    if (TEST_ptr(dk = kmsenv_keyring_load(dir, known[2].reference + 8, &err)) && TEST_true(kmsenv_data_key_encode(dk, 0, &der, &len, &err)))
        skey = import_octets(ours->libctx, KMSENV_CIPHER_ENVELOPE, KMSENV_SKEY_PARAM_DATA_KEY, der, len);
    OPENSSL_free(der);
    kmsenv_data_key_free(dk);
    return skey;
}
#define WAYS 12

/* The KMS is not asked before the key is used. */
static int test_import(int way)
{
    unsigned char want[INPUT], got[INPUT];
    uint64_t before = kms_calls();
    EVP_SKEY *skey = import_way(way);
    const unsigned char *raw;
    size_t n;
    int ok = TEST_ptr(skey) && TEST_size_t_eq(kms_calls(), before) && TEST_true(kmsenv_test_no_error())
             && TEST_str_eq(EVP_SKEY_get0_key_id(skey), known[2].hex) && expect("AES-256-CTR", known[2].key, want)
             && TEST_str_eq(EVP_SKEY_get0_provider_name(skey), "kmsenv")
             && TEST_true(stream(ours, "KMS-AES-256-CTR", skey, got)) && TEST_mem_eq(got, INPUT, want, INPUT)
             && TEST_true(stream(ours, "AES-256-CTR", skey, got)) && TEST_mem_eq(got, INPUT, want, INPUT)
             && TEST_size_t_le(kms_calls() - before, 1) && TEST_true(kmsenv_test_no_error())
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
    return no_import(import_text(ours->libctx, KMSENV_CIPHER_ENVELOPE, name, text), reason, words);
}

static int wrong_octets(const char *type, const char *name, const void *bytes, size_t n, int reason, const char *words)
{
    return no_import(import_octets(ours->libctx, type, name, bytes, n), reason, words);
}

static int test_wrong_texts(void)
{
    char long_text[300], path[160];

    memset(long_text, 'a', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';
    snprintf(path, sizeof(path), "%s/a.pem", ours->dir);
    return wrong_text(REFERENCE, "", KMSENV_R_PARAMETER_INVALID, "64 hexadecimal digits|48|kms-key:ID")
           && wrong_text(REFERENCE, "kms-key:", KMSENV_R_PARAMETER_INVALID, "reference")
           && wrong_text(REFERENCE, "0123", KMSENV_R_PARAMETER_INVALID, "reference")
           && wrong_text(REFERENCE, long_text, KMSENV_R_PARAMETER_INVALID, "reference")
           && wrong_text(REFERENCE, "000102030405060708090a0b0c0d0e0f101112131415161g", KMSENV_R_PARAMETER_INVALID, "reference")
           && wrong_text(REFERENCE, "000102030405060708090a0b0c0d0e0f1011121314151617", KMSENV_R_DATA_KEY_NOT_FOUND, "keyring")
           && wrong_text(KMSENV_SKEY_PARAM_FILE, "/nonexistent/file.pem", KMSENV_R_KEYRING_FAILED, "parameter file|/nonexistent/file.pem")
           && wrong_text(KMSENV_SKEY_PARAM_FILE, "/dev/zero", KMSENV_R_KEYRING_FAILED, "/dev/zero|regular file")
           && wrong_text(KMSENV_SKEY_PARAM_FILE, path, KMSENV_R_KEYRING_FAILED, "KMS DATA KEY")
           && wrong_text(KMSENV_SKEY_PARAM_DATA_KEY, "text", KMSENV_R_PARAMETER_INVALID, "kmsenv.data-key|octet string")
           && wrong_text(OSSL_SKEY_PARAM_RAW_BYTES, "text", KMSENV_R_PARAMETER_INVALID, "raw-bytes|octet string")
           && wrong_text("another", "text", KMSENV_R_PARAMETER_INVALID, "no key|exactly one|reference|file")
           && no_import(EVP_SKEY_import(ours->libctx, KMSENV_CIPHER_ENVELOPE, NULL, ALL, NULL), KMSENV_R_PARAMETER_INVALID, "no key");
}

static int test_wrong_octets(void)
{
    static const unsigned char unknown[64] = "kmsenv:\x01 no such data key at all", junk[40] = { 0x30, 0x26, 0x04, 0x18, 1 };
    unsigned char padded[64] = { 0 };
    OSSL_PARAM both[] = {
        OSSL_PARAM_construct_utf8_string(REFERENCE, known[0].hex, 0), OSSL_PARAM_construct_utf8_string(REFERENCE, known[0].hex, 0),
        OSSL_PARAM_construct_end()
    };

    memcpy(padded, known[0].reference, 32);
    padded[63] = 1;
    return wrong_octets(KMSENV_CIPHER_ENVELOPE, OSSL_SKEY_PARAM_RAW_BYTES, known[2].key, 32, KMSENV_R_PARAMETER_INVALID, "wrapped by a KMS|file")
           && wrong_octets("KMS-AES-256-CTR", OSSL_SKEY_PARAM_RAW_BYTES, known[2].key, 32, KMSENV_R_PARAMETER_INVALID, "wrapped by a KMS")
           && wrong_octets(KMSENV_CIPHER_ENVELOPE, OSSL_SKEY_PARAM_RAW_BYTES, unknown, 32, KMSENV_R_DATA_KEY_NOT_FOUND, "keyring")
           && wrong_octets(OSSL_SKEY_TYPE_AES, OSSL_SKEY_PARAM_RAW_BYTES, unknown, 16, KMSENV_R_DATA_KEY_NOT_FOUND, "keyring")
           && wrong_octets(OSSL_SKEY_TYPE_GENERIC, OSSL_SKEY_PARAM_RAW_BYTES, padded, 64, KMSENV_R_PARAMETER_INVALID, "zeros")
           && wrong_octets(KMSENV_CIPHER_ENVELOPE, REFERENCE, known[2].key, 32, KMSENV_R_PARAMETER_INVALID, "reference")
           && wrong_octets(KMSENV_CIPHER_ENVELOPE, REFERENCE, NULL, 0, KMSENV_R_PARAMETER_INVALID, "reference")
           && wrong_octets(KMSENV_CIPHER_ENVELOPE, KMSENV_SKEY_PARAM_DATA_KEY, junk, sizeof(junk), KMSENV_R_MESSAGE_MALFORMED, "")
           && wrong_octets(KMSENV_CIPHER_ENVELOPE, KMSENV_SKEY_PARAM_DATA_KEY, NULL, 0, KMSENV_R_PARAMETER_INVALID, "octet string")
           && no_import(EVP_SKEY_import(ours->libctx, KMSENV_CIPHER_ENVELOPE, NULL, ALL, both), KMSENV_R_PARAMETER_INVALID, "too many|exactly one")
           && no_import(EVP_SKEY_import(ours->libctx, KMSENV_CIPHER_ENVELOPE, NULL, OSSL_SKEYMGMT_SELECT_PARAMETERS, both + 1),
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
    unsigned char want[INPUT], got[INPUT];
    EVP_SKEY *skey = import_way(by_file ? 9 : 0), *back = NULL;
    OSSL_PARAM *params = NULL;
    KMSENV_TEST *other;
    int ok;

    setup.same = ours;
    other = kmsenv_test_new_ex(&setup);
    ok = TEST_ptr(other) && TEST_ptr(skey) && TEST_true(EVP_SKEY_export(skey, ALL, keep_params, &params))
         && TEST_str_eq(params[0].key, KMSENV_SKEY_PARAM_DATA_KEY) && TEST_ptr_null(params[1].key)
         && TEST_ptr(back = EVP_SKEY_import(other->libctx, KMSENV_CIPHER_ENVELOPE, NULL, ALL, params))
         && TEST_str_eq(EVP_SKEY_get0_key_id(back), known[2].hex) && expect("AES-256-CTR", known[2].key, want)
         && TEST_true(stream(other, "KMS-AES-256-CTR", back, got)) && TEST_mem_eq(got, INPUT, want, INPUT)
         && TEST_false(EVP_SKEY_export(skey, OSSL_SKEYMGMT_SELECT_PARAMETERS, keep_params, &params)) && TEST_true(kmsenv_test_no_error());
    OSSL_PARAM_free(params);
    EVP_SKEY_free(skey);
    EVP_SKEY_free(back);
    kmsenv_test_free(other);
    return ok;
}

/* --- generation ----------------------------------------------------------- */

static EVP_SKEY *generate(const KMSENV_TEST *t, const char *type, size_t bits, const char *keyring)
{
    OSSL_PARAM params[3], *p = params;

    if (bits > 0)
        *p++ = OSSL_PARAM_construct_size_t(KMSENV_PKEY_PARAM_BITS, &bits);
    if (keyring != NULL)
        *p++ = OSSL_PARAM_construct_utf8_string(KMSENV_PKEY_PARAM_KEYRING, (char *)keyring, 0);
    *p = OSSL_PARAM_construct_end();
    return EVP_SKEY_generate(t->libctx, type, NULL, params);
}

static const struct { const char *type, *cipher; size_t bits; const char *keyring; } generated[] = {
    { "kms-envelope", "KMS-AES-256-CTR", 0, NULL }, { "kms-envelope", "KMS-AES-128-CTR", 128, NULL },
    { "kms-envelope-192", "KMS-AES-192-CTR", 0, NULL }, { "KMS-AES-128-CTR", "KMS-AES-128-CTR", 0, NULL },
    { "KMS-AES-256-XTS", "KMS-AES-256-XTS", 0, "yes" }, { "kms-envelope", "KMS-AES-256-XTS", 512, "no" },
    { "kms-envelope", "KMS-AES-256-CTR", 0, "no" }
};

/* One call of the KMS; the key is in the keyring afterwards, unless that was not wanted. */
static int test_generate(int i)
{
    uint64_t before = kms_calls();
    EVP_SKEY *skey = generate(ours, generated[i].type, generated[i].bits, generated[i].keyring), *again = NULL;
    int kept = generated[i].keyring == NULL || *generated[i].keyring == 'y', ok;
    unsigned char a[INPUT], b[INPUT];

    ok = TEST_ptr(skey) && TEST_size_t_eq(kms_calls() - before, 1) && TEST_true(kmsenv_test_no_error())
         && TEST_size_t_eq(strlen(EVP_SKEY_get0_key_id(skey)), 64) && TEST_strn_eq(EVP_SKEY_get0_key_id(skey), "6b6d73656e763a01", 16)
         && TEST_true(stream(ours, generated[i].cipher, skey, a));
    again = !ok ? NULL : import_text(ours->libctx, generated[i].type, REFERENCE, EVP_SKEY_get0_key_id(skey));
    if (kept)
        ok = ok && TEST_ptr(again) && TEST_true(stream(ours, generated[i].cipher, again, b)) && TEST_mem_eq(a, INPUT, b, INPUT);
    else
        ok = ok && TEST_ptr_null(again) && TEST_true(kmsenv_test_error_is(KMSENV_R_DATA_KEY_NOT_FOUND));
    EVP_SKEY_free(again);
    EVP_SKEY_free(skey);
    return ok;
}

static int test_generate_wrong(void)
{
    KMSENV_TEST *bare = kmsenv_test_new(KMSENV_TEST_LOCAL);
    uint64_t before = kms_calls();
    EVP_SKEY *skey = NULL;
    int ok = TEST_ptr(bare)
             && no_import(generate(ours, KMSENV_CIPHER_ENVELOPE, 100, NULL), KMSENV_R_PARAMETER_INVALID, "bits|128|512")
             && no_import(generate(ours, KMSENV_CIPHER_ENVELOPE, 0, "maybe"), KMSENV_R_PARAMETER_INVALID, "keyring|yes, no")
             && no_import(generate(bare, KMSENV_CIPHER_ENVELOPE, 0, NULL), KMSENV_R_KEYRING_FAILED, "set 'keyring'|keyring:no")
             && no_import(generate(bare, KMSENV_CIPHER_ENVELOPE, 0, "yes"), KMSENV_R_KEYRING_FAILED, "set 'keyring'|keyring:no")
             && TEST_size_t_eq(kms_calls(), before) && TEST_size_t_eq(kmsenv_test_counter(bare, "kmsenv.kms-calls"), 0)
             && TEST_ptr(skey = generate(bare, KMSENV_CIPHER_ENVELOPE, 0, "no"))
             /* those of the default provider's names are not generated by it either */
             && TEST_ptr_null(EVP_SKEY_generate(ours->libctx, OSSL_SKEY_TYPE_AES, "provider=kmsenv", NULL));

    ERR_clear_error();
    EVP_SKEY_free(skey);
    kmsenv_test_free(bare);
    return ok;
}

/* --- a key's life --------------------------------------------------------- */

static KMSENV_TEST *another(const char *settings)
{
    KMSENV_TEST_SETUP setup = { settings, NULL, 0, ours };

    return kmsenv_test_new_ex(&setup);
}

static EVP_CIPHER_CTX *started(const KMSENV_TEST *t, EVP_SKEY *skey)
{
    EVP_CIPHER *c = EVP_CIPHER_fetch(t->libctx, "KMS-AES-256-CTR", NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();

    if (!TEST_ptr(c) || !TEST_true(EVP_CipherInit_SKEY(ctx, c, skey, iv, sizeof(iv), 1, NULL))) {
        EVP_CIPHER_CTX_free(ctx);
        ctx = NULL;
    }
    EVP_CIPHER_free(c);
    return ctx;
}

static int encrypts(EVP_CIPHER_CTX *ctx, const unsigned char want[INPUT])
{
    unsigned char in[INPUT] = { 0 }, out[INPUT];
    int n = 0;

    return TEST_true(EVP_CipherUpdate(ctx, out, &n, in, INPUT)) && TEST_mem_eq(out, (size_t)n, want, INPUT);
}

/* All initialisations that there are, in one context: with the same object, none, another, bytes, a copy; enc = -1. */
static int test_reinit(int way)
{
    unsigned char want[INPUT], other[INPUT];
    EVP_SKEY *skey = import_way(way), *second = generate(ours, KMSENV_CIPHER_ENVELOPE, 0, NULL);
    EVP_CIPHER_CTX *ctx = started(ours, skey), *copy = EVP_CIPHER_CTX_new();
    uint64_t before = kms_calls();
    int ok = TEST_ptr(ctx) && expect("AES-256-CTR", known[2].key, want) && encrypts(ctx, want) && TEST_ptr(second)
             && TEST_true(stream(ours, "KMS-AES-256-CTR", second, other))
             && TEST_true(EVP_CipherInit_SKEY(ctx, NULL, skey, iv, sizeof(iv), -1, NULL)) && encrypts(ctx, want)
             && TEST_true(EVP_CipherInit_SKEY(ctx, NULL, NULL, iv, sizeof(iv), 1, NULL)) && encrypts(ctx, want)
             && TEST_true(EVP_CipherInit_ex2(ctx, NULL, NULL, iv, -1, NULL)) && encrypts(ctx, want)
             && TEST_true(EVP_CipherInit_SKEY(ctx, NULL, second, iv, sizeof(iv), 1, NULL)) && TEST_true(EVP_CIPHER_CTX_copy(copy, ctx))
             && encrypts(ctx, other) && TEST_true(EVP_CipherInit_ex2(ctx, NULL, known[2].reference, iv, 1, NULL)) && encrypts(ctx, want)
             && TEST_true(EVP_CipherInit_SKEY(ctx, NULL, second, NULL, 0, 1, NULL))
             && TEST_true(EVP_CipherInit_SKEY(ctx, NULL, NULL, iv, sizeof(iv), 1, NULL)) && encrypts(ctx, other)
             && TEST_true(EVP_CipherInit_ex2(ctx, NULL, known[2].key, iv, 1, NULL)) && encrypts(ctx, want);

    EVP_CIPHER_CTX_free(ctx);
    EVP_SKEY_free(second);
    ok = ok && encrypts(copy, other) && TEST_true(EVP_CipherInit_SKEY(copy, NULL, skey, iv, sizeof(iv), 0, NULL)) && encrypts(copy, want)
         && TEST_size_t_le(kms_calls() - before, 1) && TEST_true(kmsenv_test_no_error());
    EVP_CIPHER_CTX_free(copy);
    EVP_SKEY_free(skey);
    return ok;
}

/* An IV of another length than the cipher's is refused as the default provider refuses it, and no key management is to blame. */
static int test_iv(void)
{
    EVP_SKEY *skey = by_reference(2);
    EVP_CIPHER_CTX *ctx = started(ours, skey);
    int ok = TEST_ptr(ctx) && TEST_false(EVP_CipherInit_SKEY(ctx, NULL, skey, iv, 7, 1, NULL));

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

    snprintf(dir, sizeof(dir), "%s/keys", ours->dir);
    snprintf(path, sizeof(path), "%s/%.48s.pem", dir, ID(i));
    if (!TEST_ptr(dk = kmsenv_keyring_load(dir, known[i].reference + 8, &err)))
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
    KMSENV_TEST *t = another(KMSENV_TEST_LOCAL KEYRING);
    EVP_SKEY *skey = NULL, *file = NULL;
    unsigned char want[INPUT], out[INPUT];
    char path[160];
    int ok;

    snprintf(path, sizeof(path), "%s/keys/%.48s.pem", ours->dir, ID(2));
    ok = TEST_ptr(t) && rewrite(2, "key-of-old") && expect("AES-256-CTR", known[2].key, want)
         && TEST_ptr(skey = import_text(t->libctx, KMSENV_CIPHER_ENVELOPE, REFERENCE, known[2].hex))
         && TEST_ptr(file = import_text(t->libctx, KMSENV_CIPHER_ENVELOPE, KMSENV_SKEY_PARAM_FILE, path))
         && TEST_false(stream(t, "KMS-AES-256-CTR", skey, out)) && TEST_true(kmsenv_test_error_says(KMSENV_R_NO_USABLE_WRAP, "key-of-old"))
         && rewrite(2, "000102030405060708090a0b0c0d0e0f")
         && TEST_true(stream(t, "KMS-AES-256-CTR", skey, out)) && TEST_mem_eq(out, INPUT, want, INPUT) && TEST_true(kmsenv_test_no_error())
         && TEST_false(stream(t, "KMS-AES-256-CTR", file, out)) && TEST_true(kmsenv_test_error_says(KMSENV_R_NO_USABLE_WRAP, "key-of-old"));
    EVP_SKEY_free(skey);
    EVP_SKEY_free(file);
    kmsenv_test_free(t);
    return ok;
}

/* When its time is over the KMS is asked again; if that cannot, or refuses, there is no key, neither a new nor the old one. */
static int test_expiry(int by_file)
{
    KMSENV_TEST *t = another("kms = local\nkey-file = @/moving.pem\ndek-max-age = 1\nnegative-cache = 0\n" KEYRING);
    unsigned char want[INPUT], in[INPUT] = { 0 }, out[INPUT];
    EVP_CIPHER_CTX *ctx = NULL;
    EVP_SKEY *skey = NULL;
    char from[160], to[160], path[160];
    int n = 0, ok;

    snprintf(from, sizeof(from), "%s/a.pem", ours->dir);
    snprintf(to, sizeof(to), "%s/moving.pem", ours->dir);
    snprintf(path, sizeof(path), "%s/keys/%.48s.pem", ours->dir, ID(2));
    ok = TEST_ptr(t) && expect("AES-256-CTR", known[2].key, want) && TEST_int_eq(rename(from, to), 0);
    skey = !ok ? NULL : by_file ? import_text(t->libctx, KMSENV_CIPHER_ENVELOPE, KMSENV_SKEY_PARAM_FILE, path)
                                : import_text(t->libctx, KMSENV_CIPHER_ENVELOPE, REFERENCE, known[2].hex);
    ok = ok && TEST_ptr(skey) && TEST_ptr(ctx = started(t, skey)) && encrypts(ctx, want);
    rename(to, from);      /* others need it, and this one must do without */
    usleep(1300000);
    ok = ok && TEST_false(EVP_CipherInit_SKEY(ctx, NULL, skey, iv, sizeof(iv), 1, NULL))
         && TEST_true(kmsenv_test_error_says(KMSENV_TEST_ANY, "moving.pem"))
         && TEST_false(EVP_EncryptUpdate(ctx, out, &n, in, INPUT)) && TEST_true(kmsenv_test_error_is(KMSENV_R_WRONG_STATE))
         && TEST_int_eq(link(from, to), 0) && TEST_true(EVP_CipherInit_SKEY(ctx, NULL, skey, iv, sizeof(iv), 1, NULL))
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
    theirs = EVP_SKEY_import_raw_key(plain, type, bytes, n, NULL);
    mine = EVP_SKEY_import_raw_key(ours->libctx, type, bytes, n, "provider=kmsenv");
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
    KMSENV_TEST_SETUP setup = { KMSENV_TEST_LOCAL "key-references = yes\n", "?provider=kmsenv", i % 2, ours };
    KMSENV_TEST *t = kmsenv_test_new_ex(&setup);
    unsigned char want[INPUT], got[INPUT], key[32];
    EVP_SKEY *skey = NULL, *theirs = NULL, *back = NULL;
    OSSL_PROVIDER *deflt = t == NULL ? NULL : OSSL_PROVIDER_load(t->libctx, "default");
    OSSL_PROVIDER *kmsenv = t == NULL ? NULL : OSSL_PROVIDER_load(t->libctx, "kmsenv");
    const unsigned char *raw;
    size_t n;
    int ok;

    kmsenv_test_fill(key, sizeof(key), 4);
    ok = TEST_ptr(kmsenv) && expect(names[i % 3], key, want)
         && TEST_ptr(skey = EVP_SKEY_import_raw_key(t->libctx, types[i / 3], key, sizeof(key), NULL))
         && TEST_str_eq(EVP_SKEY_get0_provider_name(skey), "kmsenv")
         && TEST_true(stream(t, names[i % 3], skey, got)) && TEST_mem_eq(got, INPUT, want, INPUT)
         && TEST_ptr(theirs = EVP_SKEY_to_provider(skey, t->libctx, deflt, NULL))
         && TEST_str_eq(EVP_SKEY_get0_provider_name(theirs), "default")
         && TEST_true(EVP_SKEY_get0_raw_key(theirs, &raw, &n)) && TEST_mem_eq(raw, n, key, sizeof(key))
         && TEST_ptr(back = EVP_SKEY_to_provider(theirs, t->libctx, kmsenv, NULL))
         && TEST_true(stream(t, names[i % 3], back, got)) && TEST_mem_eq(got, INPUT, want, INPUT) && TEST_true(kmsenv_test_no_error());
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
    KMSENV_TEST *t = another(KMSENV_TEST_LOCAL KEYRING);
    EVP_SKEYMGMT *aes = t == NULL ? NULL : EVP_SKEYMGMT_fetch(t->libctx, OSSL_SKEY_TYPE_AES, "provider=kmsenv");
    EVP_SKEYMGMT *own = t == NULL ? NULL : EVP_SKEYMGMT_fetch(t->libctx, KMSENV_CIPHER_ENVELOPE, NULL);
    int ok = TEST_ptr(t) && TEST_ptr_null(aes) && TEST_ptr(own)
             && TEST_ptr(OSSL_PARAM_locate_const(EVP_SKEYMGMT_get0_imp_settable_params(own), REFERENCE))
             && TEST_ptr(OSSL_PARAM_locate_const(EVP_SKEYMGMT_get0_gen_settable_params(own), KMSENV_PKEY_PARAM_PROFILE));

    ERR_clear_error();
    EVP_SKEYMGMT_free(aes);
    EVP_SKEYMGMT_free(own);
    kmsenv_test_free(t);
    return ok;
}

int setup_tests(void)
{
    static const KMSENV_TEST_SETUP setup = { .settings = KMSENV_TEST_LOCAL KEYRING "key-references = yes\n" };
    size_t i;

    crypto = kmsenv_crypto_new(NULL, NULL, "default");
    plain = OSSL_LIB_CTX_new();
    if (!TEST_ptr(crypto) || !TEST_ptr(plain) || !TEST_ptr(ours = kmsenv_test_new_ex(&setup)))
        return 0;
    for (i = 0; i < COUNT(lengths); i++) {
        kmsenv_test_fill(known[i].key, lengths[i], 100 + (unsigned)i);
        if (!known_key_put(ours, crypto, known[i].key, lengths[i], known[i].reference))
            return 0;
        to_hex(known[i].reference, 32, known[i].hex);
    }
    ADD_TEST(test_every_cipher);
    ADD_ALL_TESTS(test_import, WAYS);
    ADD_TEST(test_wrong_texts);
    ADD_TEST(test_wrong_octets);
    ADD_ALL_TESTS(test_export, 2);
    ADD_ALL_TESTS(test_generate, COUNT(generated));
    ADD_TEST(test_generate_wrong);
    ADD_ALL_TESTS(test_reinit, WAYS);
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
    kmsenv_test_free(ours);
    kmsenv_crypto_free(crypto);
    OSSL_LIB_CTX_free(plain);
}
