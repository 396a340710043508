/*
 * OpenSSL's own cipher vectors by reference: the key of each stanza becomes a data key in the keyring, and the cipher is
 * keyed with the reference to it, in both directions. The harness has the files; the directory is in KMSENV_TEST_HARNESS.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include "testutil.h"
#include "known_key.h"

#define COUNT(a)  ((int)(sizeof(a) / sizeof((a)[0])))
#define AADS_MAX  8
#define ROOM      8192

static KMSENV_CRYPTO *crypto;
static KMSENV_TEST *ours;

/*
 * File, and how many of its stanzas in OpenSSL 3.0, and from 3.5 on, can be keyed by a data key: those that have such a key
 * and no expected failure.
 */
static const struct { const char *name; int least, least_3_5; } files[] = {
    { "aes_common", 154, 286 }, { "aes_ccm_cavs", 2388, 2388 }, { "aes_cts", 39, 39 }, { "aes_ocb", 30, 30 }, { "aes_siv", 7, 86 },
    { "aes_wrap", 24, 24 }, { "aria", 33, 33 }, { "camellia", 87, 87 }, { "camellia_cts", 10, 10 }, { "chacha", 20, 20 },
    { "des3_common", 3, 3 }, { "sm4", 5, 13 }, { "aes_gcm_siv", 0, 32 }
};

typedef struct vector_st {
    const char *cipher, *operation, *cts_mode, *xts_standard, *result;
    unsigned char *value[16];          /* to free */
    int values;
    const unsigned char *key, *iv, *plaintext, *ciphertext, *tag, *aad[AADS_MAX];
    size_t keylen, ivlen, plaintext_len, ciphertext_len, taglen, aadlen[AADS_MAX];
    int aads, seen_plaintext, seen_ciphertext;
} VECTOR;

/* --- reading -------------------------------------------------------------- */

static const unsigned char *bytes(VECTOR *v, const char *text, size_t *len)
{
    return v->values == COUNT(v->value) ? NULL : (v->value[v->values++] = known_key_value(text, len));
}

static void read_pair(VECTOR *v, const char *name, const char *text)
{
    if (strcmp(name, "Cipher") == 0)
        v->cipher = text;
    else if (strcmp(name, "Operation") == 0)
        v->operation = text;
    else if (strcmp(name, "CTSMode") == 0)
        v->cts_mode = text;
    else if (strcmp(name, "XTSStandard") == 0)
        v->xts_standard = text;
    else if (strcmp(name, "Result") == 0)
        v->result = text;
    else if (strcmp(name, "Key") == 0)
        v->key = bytes(v, text, &v->keylen);
    else if (strcmp(name, "IV") == 0)
        v->iv = bytes(v, text, &v->ivlen);
    else if (strcmp(name, "Plaintext") == 0)
        v->seen_plaintext = (v->plaintext = bytes(v, text, &v->plaintext_len)) != NULL;
    else if (strcmp(name, "Ciphertext") == 0)
        v->seen_ciphertext = (v->ciphertext = bytes(v, text, &v->ciphertext_len)) != NULL;
    else if (strcmp(name, "Tag") == 0)
        v->tag = bytes(v, text, &v->taglen);
    else if (strcmp(name, "AAD") == 0 && v->aads < AADS_MAX) {
        v->aad[v->aads] = bytes(v, text, &v->aadlen[v->aads]);
        v->aads++;
    }
}

static void vector_reset(VECTOR *v)
{
    while (v->values > 0)
        OPENSSL_free(v->value[--v->values]);
}

/* An HMAC pads its key with zeros: keys that only differ in zeros at the end have the same id. The shortest is as good as any. */
static int is_padded(const VECTOR *v)
{
    size_t i;

    for (i = 16; i < v->keylen && v->key[i] == 0; i++)
        ;
    return i == v->keylen && i > 16;
}

static int can_be_run(const VECTOR *v)
{
    return v->cipher != NULL && v->result == NULL && v->key != NULL && v->seen_plaintext && v->seen_ciphertext
           && (v->keylen == 16 || v->keylen == 24 || v->keylen == 32 || v->keylen == 64) && !is_padded(v);
}

/* --- running -------------------------------------------------------------- */

static int set_up(EVP_CIPHER_CTX *ctx, const EVP_CIPHER *c, const VECTOR *v, const unsigned char *reference, int enc)
{
    int mode = EVP_CIPHER_get_mode(c), aead = v->tag != NULL;
    OSSL_PARAM params[2] = { OSSL_PARAM_END, OSSL_PARAM_END };

    if (v->cts_mode != NULL)
        params[0] = OSSL_PARAM_construct_utf8_string(OSSL_CIPHER_PARAM_CTS_MODE, (char *)v->cts_mode, 0);
    if (v->xts_standard != NULL)     /* no name for it in the headers of OpenSSL 3.0 */
        params[0] = OSSL_PARAM_construct_utf8_string("xts_standard", (char *)v->xts_standard, 0);
    EVP_CIPHER_CTX_set_flags(ctx, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
    return TEST_true(EVP_CipherInit_ex2(ctx, c, NULL, NULL, enc, params))
           && (!aead || v->iv == NULL || (int)v->ivlen == EVP_CIPHER_CTX_get_iv_length(ctx)
               || TEST_int_gt(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_IVLEN, (int)v->ivlen, NULL), 0))
           /* the length of a tag is not known from the tag, in this mode */
           && (mode != EVP_CIPH_OCB_MODE || TEST_int_gt(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, (int)v->taglen, NULL), 0))
           && (!aead || (enc && mode != EVP_CIPH_CCM_MODE)
               || TEST_int_gt(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, (int)v->taglen, enc ? NULL : (void *)v->tag), 0))
           && TEST_true(EVP_CipherInit_ex(ctx, NULL, NULL, reference, v->iv, enc))
           && TEST_true(EVP_CIPHER_CTX_set_padding(ctx, 0));
}

static int process(EVP_CIPHER_CTX *ctx, const EVP_CIPHER *c, const VECTOR *v, int enc, unsigned char *out)
{
    const unsigned char *in = enc ? v->plaintext : v->ciphertext;
    int n = 0, last = 0, ignored, i, ccm = EVP_CIPHER_get_mode(c) == EVP_CIPH_CCM_MODE;
    size_t inlen = enc ? v->plaintext_len : v->ciphertext_len;

    if (ccm && !TEST_true(EVP_CipherUpdate(ctx, NULL, &ignored, NULL, (int)inlen)))
        return -1;
    for (i = 0; i < v->aads; i++)
        if ((v->aadlen[i] > 0 || !ccm) && !TEST_true(EVP_CipherUpdate(ctx, NULL, &ignored, v->aad[i], (int)v->aadlen[i])))
            return -1;
    if ((inlen > 0 || v->tag != NULL) && !TEST_true(EVP_CipherUpdate(ctx, out, &n, in, (int)inlen)))
        return -1;
    if ((!ccm || enc) && !TEST_true(EVP_CipherFinal_ex(ctx, out + n, &last)))
        return -1;
    return n + last;
}

static int run_direction(const EVP_CIPHER *c, const VECTOR *v, const unsigned char *reference, int enc)
{
    const unsigned char *want = enc ? v->ciphertext : v->plaintext;
    size_t want_len = enc ? v->ciphertext_len : v->plaintext_len;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    unsigned char *out = OPENSSL_zalloc(ROOM), tag[16];
    int n, ok;

    ok = TEST_ptr(ctx) && TEST_ptr(out) && TEST_size_t_lt(want_len + 64, ROOM) && set_up(ctx, c, v, reference, enc)
         && TEST_int_ge(n = process(ctx, c, v, enc, out), 0) && TEST_mem_eq(out, (size_t)n, want, want_len)
         && (v->tag == NULL || !enc
             || (TEST_int_gt(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, (int)v->taglen, tag), 0)
                 && TEST_mem_eq(tag, v->taglen, v->tag, v->taglen)));
    EVP_CIPHER_CTX_free(ctx);
    OPENSSL_free(out);
    return ok;
}

static int run_vector(const VECTOR *v)
{
    EVP_CIPHER *c = EVP_CIPHER_fetch(ours->libctx, v->cipher, "provider=kmsenv");
    unsigned char reference[KMSENV_TEST_REFERENCE_MAX];
    int ok;

    ok = TEST_ptr(c) && TEST_int_eq(EVP_CIPHER_get_key_length(c), (int)v->keylen)
         && known_key_put(ours, crypto, v->key, v->keylen, reference)
         && ((v->operation != NULL && strcmp(v->operation, "DECRYPT") == 0) || run_direction(c, v, reference, 1))
         && ((v->operation != NULL && strcmp(v->operation, "ENCRYPT") == 0) || run_direction(c, v, reference, 0));
    EVP_CIPHER_free(c);
    return ok;
}

static int is_3_5_or_later(void)
{
    return OPENSSL_version_major() > 3 || OPENSSL_version_minor() >= 5;
}

static int test_file(int i)
{
    const char *harness = getenv("KMSENV_TEST_HARNESS");
    STANZA *s = OPENSSL_zalloc(sizeof(*s));
    char path[4096];
    VECTOR v;
    int ran = 0, ok, k, least = is_3_5_or_later() ? files[i].least_3_5 : files[i].least;

    if (least == 0) {
        OPENSSL_free(s);
        return 1;      /* this version has no such cipher */
    }
    if (!TEST_ptr(harness) || !TEST_ptr(s))
        return 0;
    snprintf(path, sizeof(path), "%s/source/test/recipes/30-test_evp_data/evpciph_%s.txt", harness, files[i].name);
    ok = TEST_true(test_start_file(s, path));
    while (ok && !BIO_eof(s->fp) && test_readstanza(s)) {
        memset(&v, 0, sizeof(v));
        for (k = 0; k < s->numpairs; k++)
            read_pair(&v, s->pairs[k].key, s->pairs[k].value);
        if (can_be_run(&v)) {
            ran++;
            if (!run_vector(&v)) {
                TEST_error("%s, the stanza that ends before line %d: %s", path, s->curr, v.cipher);
                ok = 0;
            }
        }
        vector_reset(&v);
        test_clearstanza(s);
    }
    test_end_file(s);
    OPENSSL_free(s);
    TEST_info("%s: %d stanzas by reference", files[i].name, ran);
    return ok && TEST_int_ge(ran, least) && TEST_true(kmsenv_test_no_error());
}

int setup_tests(void)
{
    static const KMSENV_TEST_SETUP setup = {
        .settings = KMSENV_TEST_LOCAL "keyring = @/keys\nkey-references = yes\ncache-entries = 64\n"
    };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;

    if (!TEST_ptr(ours = kmsenv_test_new_ex(&setup)) || !TEST_ptr(crypto = kmsenv_crypto_new(NULL, NULL, "default"))
            || !TEST_true(kmsenv_crypto_ready(crypto, &err)))
        return 0;
    ADD_ALL_TESTS(test_file, COUNT(files));
    return 1;
}

void cleanup_tests(void)
{
    kmsenv_crypto_free(crypto);
    kmsenv_test_free(ours);
}
