/*
 * OpenSSL's own MAC vectors by reference: the key of each stanza becomes a data key in the keyring, and the MAC is keyed with
 * the reference to it. The harness has the files; the directory is in KMSENV_TEST_HARNESS.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/core_names.h>
#include <openssl/params.h>
#include "testutil.h"
#include "known_key.h"

#define COUNT(a)     ((int)(sizeof(a) / sizeof((a)[0])))
#define CONTROLS_MAX 6

static KMSENV_CRYPTO *crypto;
static KMSENV_TEST *ours;

/* File, and how many of its stanzas in OpenSSL 3.0 can be keyed by a data key: those that have such a key and no expected failure. */
static const struct { const char *name; int least; } files[] = {
    { "blake", 39 }, { "common", 38 }, { "poly1305", 28 }, { "siphash", 26 }, { "sm3", 2 }
};

typedef struct bytes_st {
    unsigned char *data;
    size_t len;
} BYTES;

typedef struct vector_st {
    const char *mac, *algorithm, *result, *available, *control[CONTROLS_MAX];
    int controls;
    BYTES key, input, output, iv, custom, salt, tag;
} VECTOR;

/* --- reading -------------------------------------------------------------- */

static void read_pair(VECTOR *v, const char *name, const char *text)
{
    const struct { const char *name; BYTES *out; } binary[] = {
        { "Key", &v->key }, { "Input", &v->input }, { "Output", &v->output }, { "IV", &v->iv }, { "Custom", &v->custom },
        { "Salt", &v->salt }
    };
    int i;

    for (i = 0; i < COUNT(binary); i++)
        if (strcmp(name, binary[i].name) == 0 && binary[i].out->data == NULL)
            binary[i].out->data = known_key_value(text, &binary[i].out->len);
    if (strcmp(name, "MAC") == 0)
        v->mac = text;
    else if (strcmp(name, "Algorithm") == 0)
        v->algorithm = text;
    else if (strcmp(name, "Result") == 0)
        v->result = text;
    else if (strcmp(name, "Availablein") == 0)
        v->available = text;
    else if (strcmp(name, "XOF") == 0)
        v->control[v->controls++] = "xof:1";
    else if (strcmp(name, "Ctrl") == 0 && v->controls < CONTROLS_MAX - 1)
        v->control[v->controls++] = text;
}

static void vector_reset(VECTOR *v)
{
    OPENSSL_free(v->key.data);
    OPENSSL_free(v->input.data);
    OPENSSL_free(v->output.data);
    OPENSSL_free(v->iv.data);
    OPENSSL_free(v->custom.data);
    OPENSSL_free(v->salt.data);
}

/* The id of a data key is an HMAC under it, which pads its key with zeros: one that ends in zeros has the id of a shorter one. */
static int ends_in_zeros(const VECTOR *v)
{
    size_t i, shorter = v->key.len == 64 ? 32 : v->key.len == 16 ? 0 : v->key.len - 8;

    for (i = shorter; i < v->key.len && v->key.data[i] == 0; i++)
        ;
    return i == v->key.len;
}

static int can_be_run(const VECTOR *v)
{
    return v->mac != NULL && strstr(v->mac, "by EVP_PKEY") == NULL && v->result == NULL && (v->available == NULL || strcmp(v->available, "default") == 0)
           && v->key.data != NULL && v->output.data != NULL
           && (v->key.len == 16 || v->key.len == 24 || v->key.len == 32 || v->key.len == 64) && !ends_in_zeros(v);
}

/* --- running -------------------------------------------------------------- */

static OSSL_PARAM *add_bytes(OSSL_PARAM *p, const char *name, const BYTES *b)
{
    if (b->data != NULL)
        *p++ = OSSL_PARAM_construct_octet_string(name, b->data, b->len);
    return p;
}

static int set_control(EVP_MAC_CTX *ctx, const EVP_MAC *mac, const char *text)
{
    OSSL_PARAM params[2] = { OSSL_PARAM_END, OSSL_PARAM_END };
    const char *colon = strchr(text, ':');
    char name[32] = "";
    int ok;

    if (!TEST_ptr(colon))
        return 0;
    /* as they are called where they are fetched */
    snprintf(name, sizeof(name), "%.*s", (int)(colon - text), text);
    ok = TEST_true(OSSL_PARAM_allocate_from_text(params, EVP_MAC_settable_ctx_params(mac),
                                                 strcmp(name, "digestsize") == 0 ? OSSL_MAC_PARAM_SIZE : name, colon + 1,
                                                 strlen(colon + 1), NULL))
         && TEST_true(EVP_MAC_CTX_set_params(ctx, params));
    OPENSSL_free(params[0].data);
    return ok;
}

static int compute(EVP_MAC_CTX *ctx, const EVP_MAC *mac, const VECTOR *v, const unsigned char *key, BYTES *out)
{
    OSSL_PARAM params[6], *p = params;
    int i, is_cipher = OSSL_PARAM_locate_const(EVP_MAC_settable_ctx_params(mac), OSSL_MAC_PARAM_CIPHER) != NULL;

    if (v->algorithm != NULL)
        *p++ = OSSL_PARAM_construct_utf8_string(is_cipher ? OSSL_MAC_PARAM_CIPHER : OSSL_MAC_PARAM_DIGEST, (char *)v->algorithm, 0);
    p = add_bytes(p, OSSL_MAC_PARAM_IV, &v->iv);
    p = add_bytes(p, OSSL_MAC_PARAM_CUSTOM, &v->custom);
    p = add_bytes(p, OSSL_MAC_PARAM_SALT, &v->salt);
    *p = OSSL_PARAM_construct_end();
    for (i = 0; i < v->controls; i++)
        if (!set_control(ctx, mac, v->control[i]))
            return 0;
    return TEST_true(EVP_MAC_init(ctx, key, v->key.len, params)) && TEST_true(EVP_MAC_update(ctx, v->input.data, v->input.len))
           && TEST_true(EVP_MAC_final(ctx, NULL, &out->len, 0)) && TEST_ptr(out->data = OPENSSL_malloc(out->len + 1))
           && TEST_true(EVP_MAC_final(ctx, out->data, &out->len, out->len));
}

static int run_vector(const VECTOR *v)
{
    EVP_MAC *mac = EVP_MAC_fetch(ours->libctx, v->mac, "provider=kmsenv");
    EVP_MAC_CTX *ctx = mac == NULL ? NULL : EVP_MAC_CTX_new(mac);
    unsigned char reference[KMSENV_TEST_REFERENCE_MAX];
    BYTES out = { NULL, 0 };
    int ok;

    ok = TEST_ptr(ctx) && known_key_put(ours, crypto, v->key.data, v->key.len, reference) && compute(ctx, mac, v, reference, &out)
         && TEST_mem_eq(out.data, out.len, v->output.data, v->output.len);
    OPENSSL_free(out.data);
    EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(mac);
    return ok;
}

static int test_file(int i)
{
    const char *harness = getenv("KMSENV_TEST_HARNESS");
    STANZA *s = OPENSSL_zalloc(sizeof(*s));
    char path[4096];
    VECTOR v;
    int ran = 0, ok, k;

    if (!TEST_ptr(harness) || !TEST_ptr(s))
        return 0;
    snprintf(path, sizeof(path), "%s/source/test/recipes/30-test_evp_data/evpmac_%s.txt", harness, files[i].name);
    ok = TEST_true(test_start_file(s, path));
    while (ok && !BIO_eof(s->fp) && test_readstanza(s)) {
        memset(&v, 0, sizeof(v));
        for (k = 0; k < s->numpairs; k++)
            read_pair(&v, s->pairs[k].key, s->pairs[k].value);
        if (can_be_run(&v)) {
            ran++;
            if (!run_vector(&v)) {
                TEST_error("%s, the stanza that ends before line %d: %s", path, s->curr, v.mac);
                ok = 0;
            }
        }
        vector_reset(&v);
        test_clearstanza(s);
    }
    test_end_file(s);
    OPENSSL_free(s);
    TEST_info("%s: %d stanzas by reference", files[i].name, ran);
    return ok && TEST_int_ge(ran, files[i].least) && TEST_true(kmsenv_test_no_error());
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
