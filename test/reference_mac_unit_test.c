/*
 * Every MAC of the default provider keyed by reference: as an argument, as a parameter, by a key object; under its own name and
 * the ordinary one. It does what it does with the plain key, and never uses a reference as a key.
 */
#include <stdio.h>
#include <string.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include "testutil.h"
#include "dek/keyring.h"
#include "known_key.h"
#include "ops/skey.h"

#define COUNT(a)   ((int)(sizeof(a) / sizeof((a)[0])))
#define INPUT      1000
#define PARAMS_MAX 10

static KMSENV_CRYPTO *crypto;
static OSSL_LIB_CTX *plain;            /* the default provider alone */
static KMSENV_TEST *ours;              /* key-references = yes */
static unsigned char input[INPUT];

static const unsigned char nothing[KMSENV_TEST_REFERENCE_MAX] = "kmsenv:\x01 no such data key at all";

/* --- MACs and what they need ---------------------------------------------- */

typedef struct recipe_st {
    const char *mac, *digest, *cipher;
    int iv, custom, size, xof, keys;   /* keys: how many of the lengths below work */
} RECIPE;

static const RECIPE recipes[] = {
    { "HMAC", "SHA256", .keys = 4 }, { "HMAC", "SHA512", .keys = 4 }, { "HMAC", "SHA3-256", .keys = 4 }, { "HMAC", "MD5", .keys = 4 },
    { "CMAC", NULL, "AES-128-CBC", .keys = 1 }, { "CMAC", NULL, "AES-192-CBC", .keys = 1 }, { "CMAC", NULL, "AES-256-CBC", .keys = 1 },
    { "CMAC", NULL, "CAMELLIA-256-CBC", .keys = 1 }, { "CMAC", NULL, "DES-EDE3-CBC", .keys = 1 },
    { "GMAC", NULL, "AES-128-GCM", .iv = 1, .keys = 1 }, { "GMAC", NULL, "AES-192-GCM", .iv = 1, .keys = 1 },
    { "GMAC", NULL, "AES-256-GCM", .iv = 1, .keys = 1 },
    { "KMAC-128", .keys = 4 }, { "KMAC-128", .custom = 1, .size = 77, .xof = 1, .keys = 4 },
    { "KMAC-256", .custom = 1, .keys = 4 }, { "KMAC-256", .size = 100, .keys = 4 },
    { "BLAKE2BMAC", .keys = 4 }, { "BLAKE2BMAC", .custom = 1, .size = 20, .keys = 4 }, { "BLAKE2SMAC", .size = 16, .keys = 3 },
    { "SIPHASH", .keys = 1 }, { "SIPHASH", .size = 8, .keys = 1 }, { "POLY1305", .keys = 1 }
};

static const size_t lengths[] = { 16, 24, 32, 64 };
static unsigned char key[COUNT(lengths)][KMSENV_TEST_REFERENCE_MAX], reference[COUNT(lengths)][KMSENV_TEST_REFERENCE_MAX];

static void fill_params(const RECIPE *r, const unsigned char *k, size_t keylen, OSSL_PARAM *p)
{
    static size_t size;                /* read while the test that wrote it runs */
    static int xof = 1;

    size = (size_t)r->size;
    if (k != NULL)
        *p++ = OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)k, keylen);
    if (r->digest != NULL)
        *p++ = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)r->digest, 0);
    if (r->cipher != NULL)
        *p++ = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_CIPHER, (char *)r->cipher, 0);
    if (r->iv)
        *p++ = OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_IV, (void *)"iviviviviviv", 12);
    if (r->custom)
        *p++ = OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_CUSTOM, (void *)"to taste", 8);
    if (r->size > 0)
        *p++ = OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &size);
    if (r->xof)
        *p++ = OSSL_PARAM_construct_int(OSSL_MAC_PARAM_XOF, &xof);
    *p = OSSL_PARAM_construct_end();
}

/* Cipher and key of some must come in this order: set_ctx_params before a key by argument is what programs do. */
typedef enum way_st { ARGUMENT, IN_INIT, BEFORE_INIT, WAYS } WAY;

static int start(EVP_MAC_CTX *ctx, const RECIPE *r, WAY way, const unsigned char *k, size_t keylen)
{
    OSSL_PARAM params[PARAMS_MAX];

    fill_params(r, way == ARGUMENT ? NULL : k, keylen, params);
    switch (way) {
    case ARGUMENT:
        return EVP_MAC_init(ctx, k, keylen, params);
    case IN_INIT:
        return EVP_MAC_init(ctx, NULL, 0, params);
    default:
        return EVP_MAC_CTX_set_params(ctx, params) && EVP_MAC_init(ctx, NULL, 0, NULL);
    }
}

typedef struct tag_st {
    unsigned char data[256];
    size_t len;
} TAG;

/* The rest of the input, in pieces, and the tag; a copy made on the way gives the same. */
static int finish(EVP_MAC_CTX *ctx, TAG *out)
{
    EVP_MAC_CTX *copy = NULL;
    TAG other;
    size_t size = 0;
    int ok;

    memset(out, 0, sizeof(*out));
    memset(&other, 0, sizeof(other));
    ok = EVP_MAC_update(ctx, input, 3) && TEST_ptr(copy = EVP_MAC_CTX_dup(ctx)) && EVP_MAC_update(ctx, input + 3, INPUT - 3)
         && EVP_MAC_final(ctx, NULL, &size, 0) && TEST_size_t_le(size, sizeof(out->data))
         && EVP_MAC_final(ctx, out->data, &out->len, sizeof(out->data)) && TEST_size_t_eq(out->len, size);
    EVP_MAC_update(copy, input + 3, INPUT - 3);
    ok = ok && TEST_true(EVP_MAC_final(copy, other.data, &other.len, sizeof(other.data)))
         && TEST_mem_eq(out->data, out->len, other.data, other.len);
    EVP_MAC_CTX_free(copy);
    return ok;
}

static int compute(EVP_MAC *mac, const RECIPE *r, WAY way, const unsigned char *k, size_t keylen, TAG *out)
{
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac);
    int ok = ctx != NULL && start(ctx, r, way, k, keylen) && finish(ctx, out);

    EVP_MAC_CTX_free(ctx);
    return ok;
}

/* --- key objects, on any version: what the core of a newer one calls ------- */

typedef struct functions_st {
    OSSL_FUNC_mac_newctx_fn *newctx;
    OSSL_FUNC_mac_freectx_fn *freectx;
    OSSL_FUNC_mac_init_skey_fn *init_skey;
    OSSL_FUNC_mac_update_fn *update;
    OSSL_FUNC_mac_final_fn *final;
} FUNCTIONS;

static int is_called(const char *names, const char *name)
{
    size_t n = strlen(name);

    return OPENSSL_strncasecmp(names, name, n) == 0 && (names[n] == '\0' || names[n] == ':');
}

static int find_functions(OSSL_PROVIDER *prov, const char *name, FUNCTIONS *out)
{
    const OSSL_ALGORITHM *a;
    const OSSL_DISPATCH *f = NULL;
    int no_store;

    memset(out, 0, sizeof(*out));
    for (a = OSSL_PROVIDER_query_operation(prov, OSSL_OP_MAC, &no_store); a != NULL && a->algorithm_names != NULL; a++)
        if (is_called(a->algorithm_names, name))
            f = a->implementation;
    for (; f != NULL && f->function_id != 0; f++) {
        if (f->function_id == OSSL_FUNC_MAC_NEWCTX)
            out->newctx = OSSL_FUNC_mac_newctx(f);
        else if (f->function_id == OSSL_FUNC_MAC_FREECTX)
            out->freectx = OSSL_FUNC_mac_freectx(f);
        else if (f->function_id == OSSL_FUNC_MAC_INIT_SKEY)
            out->init_skey = OSSL_FUNC_mac_init_skey(f);
        else if (f->function_id == OSSL_FUNC_MAC_UPDATE)
            out->update = OSSL_FUNC_mac_update(f);
        else if (f->function_id == OSSL_FUNC_MAC_FINAL)
            out->final = OSSL_FUNC_mac_final(f);
    }
    return TEST_true(out->newctx != NULL && out->freectx != NULL && out->init_skey != NULL && out->update != NULL && out->final != NULL);
}

static int compute_by_object(OSSL_PROVIDER *prov, const char *name, const RECIPE *r, KMSENV_SKEY *skey, TAG *out)
{
    OSSL_PARAM params[PARAMS_MAX];
    FUNCTIONS f;
    void *ctx;
    int ok;

    memset(out, 0, sizeof(*out));
    fill_params(r, NULL, 0, params);
    if (!find_functions(prov, name, &f) || !TEST_ptr(ctx = f.newctx(OSSL_PROVIDER_get0_provider_ctx(prov))))
        return 0;
    ok = f.init_skey(ctx, skey, params) && f.update(ctx, input, INPUT) && f.final(ctx, out->data, &out->len, sizeof(out->data))
         /* once more: the same key */
         && (is_called(name, "POLY1305") || is_called(name, "KMS-POLY1305") || is_called(r->mac, "GMAC")
             || TEST_true(f.init_skey(ctx, NULL, NULL)));
    f.freectx(ctx);
    return ok;
}

/* What a key management of ours makes of the data key. */
static KMSENV_KEY *load_key(KMSENV_PROVCTX *provctx, const unsigned char *of)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_KEY *k = kmsenv_key_new(provctx);
    KMSENV_DATA_KEY *dk;
    unsigned char *der = NULL;
    size_t len;
    char dir[80];
    int ok;

    snprintf(dir, sizeof(dir), "%s/keys", ours->dir);
    ok = TEST_ptr(k) && TEST_ptr(dk = kmsenv_keyring_load(dir, of + 8, &err)) && TEST_true(kmsenv_data_key_encode(dk, 0, &der, &len, &err))
         && TEST_true(kmsenv_key_set(k, der, len, &err));
    OPENSSL_free(der);
    if (ok)
        kmsenv_data_key_free(dk);
    return ok ? k : NULL;
}

static int same_by_object(const char *name, const RECIPE *r, int i, const TAG *want)
{
    OSSL_PROVIDER *prov = OSSL_PROVIDER_load(ours->libctx, "kmsenv");
    KMSENV_PROVCTX *provctx = OSSL_PROVIDER_get0_provider_ctx(prov);
    KMSENV_SKEY object[3] = { { .provctx = provctx, .key = load_key(provctx, reference[i]) },
                              { .provctx = provctx, .bytes = key[i], .length = lengths[i] },
                              { .provctx = provctx, .bytes = reference[i], .length = lengths[i] } };
    TAG got;
    int k, ok = TEST_ptr(object[0].key);

    for (k = 0; k < 3 && ok; k++)
        ok = TEST_int_eq(compute_by_object(prov, name, r, &object[k], &got), want->len > 0)
             && (want->len == 0 || TEST_mem_eq(got.data, got.len, want->data, want->len));
    kmsenv_key_free(object[0].key);
    OSSL_PROVIDER_unload(prov);
    ERR_clear_error();
    return ok;
}

#if OPENSSL_VERSION_NUMBER >= 0x30500000L
/* As a program does it, where there are key objects. */
static int same_by_import(EVP_MAC *mac, const RECIPE *r, int i, const TAG *want)
{
    OSSL_PARAM import[2] = { OSSL_PARAM_construct_octet_string("reference", reference[i], 32), OSSL_PARAM_construct_end() };
    OSSL_PARAM params[PARAMS_MAX];
    EVP_SKEY *skey = EVP_SKEY_import(ours->libctx, KMSENV_KEYMGMT_DATA_KEY, NULL, OSSL_SKEYMGMT_SELECT_ALL, import);
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac);
    TAG got;
    int ok = TEST_ptr(skey);

    fill_params(r, NULL, 0, params);
    if (ok)
        ok = TEST_int_eq(EVP_MAC_init_SKEY(ctx, skey, params) && finish(ctx, &got), want->len > 0)
             && (want->len == 0 || TEST_mem_eq(got.data, got.len, want->data, want->len));
    EVP_MAC_CTX_free(ctx);
    EVP_SKEY_free(skey);
    ERR_clear_error();
    return ok;
}
#else
static int same_by_import(EVP_MAC *mac, const RECIPE *r, int i, const TAG *want)
{
    (void)mac, (void)r, (void)i, (void)want;
    return 1;
}
#endif

/* --- all MACs ------------------------------------------------------------- */

/* want->len is 0 where the key does not fit: not even then is a reference used as one. */
static int same_under(EVP_MAC *theirs, EVP_MAC *mac, const RECIPE *r, int i, int *compared)
{
    TAG want, got;
    WAY way;
    int had, had_by_argument = 0;

    for (way = ARGUMENT; way < WAYS; way++) {
        had = compute(theirs, r, way, key[i], lengths[i], &want);
        had_by_argument |= had && way == ARGUMENT;
        ERR_clear_error();
        if (!TEST_int_eq(compute(mac, r, way, reference[i], lengths[i], &got), had)
            || (had && !TEST_mem_eq(got.data, got.len, want.data, want.len))
            || (had && !TEST_true(kmsenv_test_no_error()))
            /* and any other key passes through */
            || !TEST_int_eq(compute(mac, r, way, key[i], lengths[i], &got), had)
            || (had && !TEST_mem_eq(got.data, got.len, want.data, want.len)))
            return 0;
        ERR_clear_error();
        *compared += had;
    }
    memset(&want, 0, sizeof(want));
    compute(theirs, r, ARGUMENT, key[i], lengths[i], &want);
    ERR_clear_error();
    if (!had_by_argument)
        want.len = 0;
    return same_by_object(EVP_MAC_get0_name(mac), r, i, &want) && same_by_import(mac, r, i, &want);
}

/* Unknown, or of a data key of another length: an error, and no MAC under the bytes of the reference or the key of before. */
static int refuses_others(EVP_MAC *mac, const RECIPE *r, int own)
{
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac), *copy = NULL;
    TAG tag;
    WAY way;
    int i, ok = 1;

    for (way = ARGUMENT; way < WAYS && ok; way++) {
        ok = TEST_true(start(ctx, r, ARGUMENT, key[own], lengths[own])) && TEST_false(start(ctx, r, way, nothing, 32))
             && TEST_true(kmsenv_test_error_is(KMSENV_R_DATA_KEY_NOT_FOUND));
        EVP_MAC_init(ctx, NULL, 0, NULL);      /* no way out of it */
        ERR_clear_error();
        ok = ok && TEST_ptr(copy = EVP_MAC_CTX_dup(ctx)) && TEST_false(EVP_MAC_update(ctx, input, 1))
             && TEST_true(kmsenv_test_error_is(KMSENV_R_WRONG_STATE)) && TEST_false(EVP_MAC_update(copy, input, 1))
             && TEST_false(EVP_MAC_final(ctx, tag.data, &tag.len, sizeof(tag.data)))
             && TEST_false(EVP_MAC_final(copy, tag.data, &tag.len, sizeof(tag.data)));
        ERR_clear_error();
        ok = ok && TEST_true(start(copy, r, way, key[own], lengths[own])) && TEST_true(EVP_MAC_update(copy, input, 1));
        EVP_MAC_CTX_free(copy);
        copy = NULL;
    }
    for (i = 0; i < COUNT(lengths); i++)
        ok = ok && TEST_false(start(ctx, r, ARGUMENT, reference[i], lengths[(i + 1) % COUNT(lengths)]))
             && TEST_true(kmsenv_test_error_is(KMSENV_TEST_ANY));
    EVP_MAC_CTX_free(ctx);
    return ok;
}

static int same_lists(const EVP_MAC *theirs, const EVP_MAC *mac)
{
    return TEST_ptr_eq(EVP_MAC_gettable_params(mac), EVP_MAC_gettable_params(theirs))
           && TEST_ptr_eq(EVP_MAC_gettable_ctx_params(mac), EVP_MAC_gettable_ctx_params(theirs))
           && TEST_ptr_eq(EVP_MAC_settable_ctx_params(mac), EVP_MAC_settable_ctx_params(theirs));
}

static int same_sizes(EVP_MAC *theirs, EVP_MAC *mac, const RECIPE *r, int i)
{
    EVP_MAC_CTX *a = EVP_MAC_CTX_new(theirs), *b = EVP_MAC_CTX_new(mac);
    size_t fixed[2] = { 0, 0 };
    OSSL_PARAM p[2][2] = { { OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &fixed[0]), OSSL_PARAM_construct_end() },
                           { OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &fixed[1]), OSSL_PARAM_construct_end() } };
    int ok = TEST_int_eq(EVP_MAC_get_params(theirs, p[0]), EVP_MAC_get_params(mac, p[1])) && TEST_size_t_eq(fixed[0], fixed[1])
             && TEST_size_t_eq(EVP_MAC_CTX_get_mac_size(a), EVP_MAC_CTX_get_mac_size(b))
             && TEST_true(start(a, r, ARGUMENT, key[i], lengths[i])) && TEST_true(start(b, r, ARGUMENT, reference[i], lengths[i]))
             && TEST_size_t_eq(EVP_MAC_CTX_get_mac_size(a), EVP_MAC_CTX_get_mac_size(b))
             && TEST_size_t_eq(EVP_MAC_CTX_get_block_size(a), EVP_MAC_CTX_get_block_size(b));

    ERR_clear_error();
    EVP_MAC_CTX_free(a);
    EVP_MAC_CTX_free(b);
    return ok;
}

static int check(EVP_MAC *theirs, const char *name, const char *query, const RECIPE *r)
{
    EVP_MAC *mac = EVP_MAC_fetch(ours->libctx, name, query);
    int i, k, before, compared = 0, ok;

    ok = TEST_ptr(mac) && TEST_str_eq(OSSL_PROVIDER_get0_name(EVP_MAC_get0_provider(mac)), "kmsenv") && same_lists(theirs, mac);
    for (i = k = 0; i < COUNT(lengths) && ok; i++) {
        before = compared;
        ok = same_under(theirs, mac, r, i, &compared);
        if (compared > before) {
            k++;
            ok = ok && refuses_others(mac, r, i) && same_sizes(theirs, mac, r, i);
        }
    }
    EVP_MAC_free(mac);
    return ok && TEST_int_eq(k, r->keys);
}

static int test_recipe(int i)
{
    const RECIPE *r = &recipes[i];
    EVP_MAC *theirs = EVP_MAC_fetch(plain, r->mac, NULL);
    char own[40];
    int ok;

    snprintf(own, sizeof(own), "KMS-%s", r->mac);
    ok = TEST_ptr(theirs) && check(theirs, r->mac, "provider=kmsenv", r) && check(theirs, own, NULL, r);
    if (!ok)
        TEST_error("%s %s%s", r->mac, r->digest == NULL ? "" : r->digest, r->cipher == NULL ? "" : r->cipher);
    EVP_MAC_free(theirs);
    return ok;
}

static void has_recipe(EVP_MAC *mac, void *arg)
{
    int i, *ok = arg;

    for (i = 0; i < COUNT(recipes) && !EVP_MAC_is_a(mac, recipes[i].mac); i++)
        ;
    if (!TEST_int_lt(i, COUNT(recipes))) {
        TEST_error("no recipe for %s", EVP_MAC_get0_name(mac));
        *ok = 0;
    }
}

/* A MAC that a newer version has shall not go untested. */
static int test_all_have_recipes(void)
{
    int ok = 1;

    EVP_MAC_do_all_provided(plain, has_recipe, &ok);
    return ok;
}

/* --- what else programs do ------------------------------------------------ */

static int test_quick(void)
{
    unsigned char want[64], got[64];
    size_t n = 0, m = 0;
    int i, ok = 1;

    for (i = 0; i < COUNT(lengths); i++) {
        ok = ok && TEST_ptr(EVP_Q_mac(plain, "HMAC", NULL, "SHA512", NULL, key[i], lengths[i], input, INPUT, want, sizeof(want), &n))
             && TEST_ptr(EVP_Q_mac(ours->libctx, "HMAC", "provider=kmsenv", "SHA512", NULL, reference[i], lengths[i], input, INPUT, got,
                                   sizeof(got), &m)) && TEST_mem_eq(want, n, got, m)
             && TEST_ptr(EVP_Q_mac(ours->libctx, "KMS-HMAC", " provider = kmsenv ,-fips", "SHA512", NULL, reference[i], lengths[i], input, INPUT,
                                   got, sizeof(got), &m)) && TEST_mem_eq(want, n, got, m);
    }
    return ok && TEST_true(kmsenv_test_no_error());
}

/* A property query is meant for the program's providers. Here it chooses among those inside, all of which are ours. */
static int test_properties(void)
{
    static const struct { const char *query; int ok; } queries[] = {
        { "provider=kmsenv", 1 }, { " ? Provider = kmsenv , -fips", 1 }, { "-fips,provider=kmsenv", 1 }, { "provider=default", 1 },
        { "provider!=kmsenv", 1 }, { "?provider=elsewhere", 1 }, { "", 1 }, { "provider=elsewhere", 0 }, { "provider=kmsenv,provider=elsewhere", 0 },
        { "provider=kmsenv2", 0 }
    };
    EVP_MAC *mac = EVP_MAC_fetch(ours->libctx, "KMS-HMAC", NULL);
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac);
    OSSL_PARAM params[4] = { OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0), OSSL_PARAM_END, OSSL_PARAM_END,
                             OSSL_PARAM_END };
    int i, ok = TEST_ptr(ctx);

    for (i = 0; i < COUNT(queries) && ok; i++) {
        params[1] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_PROPERTIES, (char *)queries[i].query, 0);
        ok = TEST_int_eq(EVP_MAC_init(ctx, reference[2], 32, params), queries[i].ok)
             && TEST_int_eq(queries[i].ok ? 0 : KMSENV_R_CRYPTO_FAILED, ERR_GET_REASON(ERR_peek_last_error()));
        if (!ok)
            TEST_error("'%s'", queries[i].query);
        ERR_clear_error();
    }
    /* given twice, the second one longer: whatever comes of it, no memory is overrun */
    params[1] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_PROPERTIES, (char *)"provider=kmsenv", 0);
    params[2] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_PROPERTIES, (char *)"-fips,-kmsenv.one,-kmsenv.two,-kmsenv.three,-kmsenv.four", 0);
    EVP_MAC_init(ctx, reference[2], 32, params);
    ERR_clear_error();
    EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(mac);
    return ok;
}

/* One call may bring two keys. The argument counts, as without us; and both references are held while they are looked at. */
static int test_two_keys(void)
{
    const RECIPE r = { "HMAC", "SHA256" };
    OSSL_PARAM params[PARAMS_MAX], twice[4];
    EVP_MAC *theirs = EVP_MAC_fetch(plain, "HMAC", NULL), *mac = EVP_MAC_fetch(ours->libctx, "KMS-HMAC", NULL);
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac);
    TAG want, got;
    int ok;

    fill_params(&r, reference[3], 64, params);
    twice[0] = twice[1] = params[0];
    twice[1].data = key[3];
    twice[2] = params[1];
    twice[3] = params[2];
    ok = TEST_true(compute(theirs, &r, ARGUMENT, key[0], 16, &want)) && TEST_true(EVP_MAC_init(ctx, reference[0], 16, params))
         && TEST_true(finish(ctx, &got)) && TEST_mem_eq(want.data, want.len, got.data, got.len)
         && TEST_false(EVP_MAC_CTX_set_params(ctx, twice)) && TEST_true(kmsenv_test_error_says(KMSENV_R_PARAMETER_INVALID, "twice"))
         && TEST_false(EVP_MAC_update(ctx, input, 1)) && TEST_true(kmsenv_test_error_is(KMSENV_R_WRONG_STATE));
    EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(mac);
    EVP_MAC_free(theirs);
    return ok;
}

/* Some MACs of OpenSSL 3.0 take a key of any type of parameter. */
static int test_type(int i)
{
    static const unsigned types[] = { OSSL_PARAM_UTF8_STRING, OSSL_PARAM_INTEGER, OSSL_PARAM_UNSIGNED_INTEGER, OSSL_PARAM_REAL };
    const RECIPE *r = &recipes[i];
    EVP_MAC *mac[2] = { EVP_MAC_fetch(plain, r->mac, NULL), EVP_MAC_fetch(ours->libctx, r->mac, "provider=kmsenv") };
    OSSL_PARAM params[PARAMS_MAX];
    EVP_MAC_CTX *ctx[2];
    TAG tag[2];
    int k, j, t, had[2], ok = 1;

    for (t = 0; t < COUNT(types); t++)
        for (k = 0; k < COUNT(lengths) && ok; k++) {
            for (j = 0; j < 2; j++) {
                ctx[j] = EVP_MAC_CTX_new(mac[j]);
                fill_params(r, j == 0 ? key[k] : reference[k], lengths[k], params);
                params[0].data_type = types[t];
                memset(&tag[j], 0, sizeof(tag[j]));
                had[j] = EVP_MAC_init(ctx[j], NULL, 0, params) && EVP_MAC_update(ctx[j], input, INPUT)
                         && EVP_MAC_final(ctx[j], tag[j].data, &tag[j].len, sizeof(tag[j].data));
                EVP_MAC_CTX_free(ctx[j]);
            }
            ERR_clear_error();
            ok = TEST_int_eq(had[0], had[1]) && TEST_mem_eq(tag[0].data, tag[0].len, tag[1].data, tag[1].len);
        }
    EVP_MAC_free(mac[0]);
    EVP_MAC_free(mac[1]);
    return ok;
}

/* A digest that only the legacy provider has, and one that nobody has. */
static int test_names(void)
{
    static const unsigned char k[20] = "no reference, a key";
    OSSL_PROVIDER *legacy = OSSL_PROVIDER_load(plain, "legacy");
    unsigned char want[64], got[64];
    size_t n = 0, m = 0;
    int ok;

    if (legacy == NULL)
        return TEST_skip("there is no legacy provider here");
    ok = TEST_ptr(EVP_Q_mac(plain, "HMAC", NULL, "MD4", NULL, k, sizeof(k), input, INPUT, want, sizeof(want), &n))
         && TEST_ptr(EVP_Q_mac(ours->libctx, "KMS-HMAC", NULL, "MD4", NULL, k, sizeof(k), input, INPUT, got, sizeof(got), &m))
         && TEST_mem_eq(want, n, got, m) && TEST_true(kmsenv_test_no_error())
         && TEST_ptr_null(EVP_Q_mac(ours->libctx, "KMS-HMAC", NULL, "NO-SUCH-DIGEST", NULL, k, sizeof(k), input, INPUT, got, sizeof(got), &m))
         && TEST_int_eq(ERR_GET_REASON(ERR_peek_last_error()), KMSENV_R_CRYPTO_FAILED);
    ERR_clear_error();
    OSSL_PROVIDER_unload(legacy);
    return ok;
}

static int has_mac(const KMSENV_TEST *t, const char *name)
{
    EVP_MAC *mac = EVP_MAC_fetch(t->libctx, name, "provider=kmsenv");

    EVP_MAC_free(mac);
    ERR_clear_error();
    return mac != NULL;
}

static int has_cipher(const KMSENV_TEST *t, const char *name)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(t->libctx, name, "provider=kmsenv");

    EVP_CIPHER_free(cipher);
    ERR_clear_error();
    return cipher != NULL;
}

/*
 * Ordinary names are there only where the administrator wants it; own names where a reference or, from 3.5 on, a key object can be
 * had. OpenSSL 3.0 reads certificates the more slowly the more algorithms there are, so there are none that nobody can use.
 */
static int test_which_names(int i)
{
    static const struct { const char *settings; int own, ordinary; } row[] = {
        { KMSENV_TEST_LOCAL, 0, 0 },
        { KMSENV_TEST_LOCAL "keyring = @/keys\n", 1, 0 },
        { KMSENV_TEST_LOCAL "key-references = yes\n", 1, 1 },
        { KMSENV_TEST_LOCAL "keyring = @/keys\nkey-references = yes\n", 1, 1 }
    };
    KMSENV_TEST *t = kmsenv_test_new(row[i].settings);
    int own = row[i].own || OpenSSL_version_num() >= 0x30500000,
        ok = TEST_ptr(t) && TEST_int_eq(has_mac(t, "KMS-HMAC"), own) && TEST_int_eq(has_cipher(t, "KMS-AES-256-GCM"), own)
             && TEST_int_eq(has_mac(t, "HMAC"), row[i].ordinary) && TEST_int_eq(has_cipher(t, "AES-256-GCM"), row[i].ordinary)
             && TEST_true(has_cipher(t, KMSENV_CIPHER_ENVELOPE)) && TEST_true(has_cipher(t, KMSENV_CIPHER_ENVELOPE_128));

    kmsenv_test_free(t);
    return ok;
}

int setup_tests(void)
{
    static const KMSENV_TEST_SETUP setup = { .settings = KMSENV_TEST_LOCAL "keyring = @/keys\nkey-references = yes\n" };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    int i;

    if (!TEST_ptr(ours = kmsenv_test_new_ex(&setup)) || !TEST_ptr(plain = OSSL_LIB_CTX_new())
            || !TEST_ptr(crypto = kmsenv_crypto_new(NULL, NULL, "default")) || !TEST_true(kmsenv_crypto_ready(crypto, &err)))
        return 0;
    kmsenv_test_fill(input, sizeof(input), 9);
    for (i = 0; i < COUNT(lengths); i++) {
        kmsenv_test_fill(key[i], lengths[i], 200 + (unsigned)i);
        if (!known_key_put(ours, crypto, key[i], lengths[i], reference[i]))
            return 0;
    }
    ADD_ALL_TESTS(test_recipe, COUNT(recipes));
    ADD_TEST(test_all_have_recipes);
    ADD_TEST(test_quick);
    ADD_TEST(test_properties);
    ADD_TEST(test_two_keys);
    ADD_ALL_TESTS(test_type, COUNT(recipes));
    ADD_TEST(test_names);
    ADD_ALL_TESTS(test_which_names, 4);
    return 1;
}

void cleanup_tests(void)
{
    kmsenv_crypto_free(crypto);
    kmsenv_test_free(ours);
    OSSL_LIB_CTX_free(plain);
}
