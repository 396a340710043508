/* The provider among others: loading, unloading, order, properties, several at once, and mistakes in its configuration. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <openssl/conf.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/provider.h>
#include <openssl/rand.h>
#include "testutil.h"
#include "kmsenv_test.h"

#define LEN 1000

static unsigned char data[LEN];

static int round_trip(const KMSENV_TEST *from, const KMSENV_TEST *to)
{
    KMSENV_TEST_BYTES sealed = { NULL, 0 }, opened = { NULL, 0 };
    int ok = TEST_true(kmsenv_test_crypt(from, 1, data, LEN, &sealed))
        && TEST_true(kmsenv_test_crypt(to, 0, sealed.data, sealed.len, &opened))
        && TEST_mem_eq(opened.data, opened.len, data, LEN) && kmsenv_test_no_error();

    kmsenv_test_bytes_reset(&sealed);
    kmsenv_test_bytes_reset(&opened);
    return ok;
}

/* Everyday operations of other providers in the same context: a digest, AES-GCM, random numbers, a key pair. */
static int others_work(OSSL_LIB_CTX *libctx)
{
    unsigned char out[64], key[32] = { 1 }, iv[12] = { 2 };
    size_t outlen = 0;
    int n = 0;
    EVP_CIPHER *gcm = EVP_CIPHER_fetch(libctx, "AES-256-GCM", NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    EVP_PKEY *pair = EVP_PKEY_Q_keygen(libctx, NULL, "EC", "P-256");
    int ok = TEST_true(EVP_Q_digest(libctx, "SHA256", NULL, "abc", 3, out, &outlen)) && TEST_size_t_eq(outlen, 32)
        && TEST_ptr(gcm) && TEST_ptr(ctx) && TEST_true(EVP_EncryptInit_ex2(ctx, gcm, key, iv, NULL))
        && TEST_true(EVP_EncryptUpdate(ctx, out, &n, data, 32)) && TEST_int_eq(n, 32)
        && TEST_true(EVP_EncryptFinal_ex(ctx, out, &n))
        && TEST_int_eq(RAND_bytes_ex(libctx, out, sizeof(out), 0), 1) && TEST_ptr(pair);

    EVP_PKEY_free(pair);
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(gcm);
    return ok && kmsenv_test_no_error();
}

/* First or last in the list, with and without default properties: nothing changes. */
static const struct { const char *properties; int first; } orders[] = {
    { NULL, 0 }, { NULL, 1 }, { "?provider=kmsenv", 0 }, { "?provider=kmsenv", 1 },
    { "?provider!=kmsenv", 0 }, { "?fips=yes", 1 },
};

static int test_order(int idx)
{
    KMSENV_TEST_SETUP setup = { KMSENV_TEST_LOCAL, NULL, 0, NULL };
    KMSENV_TEST *t;
    int ok;

    setup.properties = orders[idx].properties;
    setup.first = orders[idx].first;
    t = kmsenv_test_new_ex(&setup);
    ok = TEST_ptr(t) && round_trip(t, t) && others_work(t->libctx);
    kmsenv_test_free(t);
    return ok;
}

/* provider=kmsenv for everybody: ours works (its inner algorithms are out of reach of the property), others are not found. */
static int test_only_ours(void)
{
    KMSENV_TEST_SETUP setup = { KMSENV_TEST_LOCAL, "provider=kmsenv", 0, NULL };
    KMSENV_TEST *t = kmsenv_test_new_ex(&setup);
    int ok = TEST_ptr(t) && round_trip(t, t)
        && TEST_ptr_null(EVP_MD_fetch(t->libctx, "SHA256", NULL));

    ERR_clear_error();
    kmsenv_test_free(t);
    return ok;
}

static int test_fetch_properties(void)
{
    static const struct { const char *properties; int found; } queries[] = {
        { NULL, 1 }, { "", 1 }, { "provider=kmsenv", 1 }, { "?provider=default", 1 }, { "provider=default", 0 },
        { "provider!=kmsenv", 0 }, { "fips=yes", 0 },
    };
    KMSENV_TEST *t = kmsenv_test_new(KMSENV_TEST_LOCAL);
    EVP_CIPHER *cipher;
    size_t i;
    int ok = TEST_ptr(t);

    for (i = 0; ok && i < sizeof(queries) / sizeof(queries[0]); i++) {
        cipher = EVP_CIPHER_fetch(t->libctx, KMSENV_CIPHER_ENVELOPE, queries[i].properties);
        ok = TEST_int_eq(cipher != NULL, queries[i].found);
        EVP_CIPHER_free(cipher);
        ERR_clear_error();
    }
    kmsenv_test_free(t);
    return ok;
}

/* The provider's own parameters: name, version, status, and every counter of the public list. */
static int test_provider_parameters(void)
{
    static const char *const counters[] = {
#define COUNTER_NAME(symbol, name, help) name,
        KMSENV_COUNTERS(COUNTER_NAME)
    };
    KMSENV_TEST *t = kmsenv_test_new(KMSENV_TEST_LOCAL);
    OSSL_PROVIDER *p = t == NULL ? NULL : OSSL_PROVIDER_load(t->libctx, "kmsenv");
    const char *name = NULL, *version = NULL;
    int status = 0;
    OSSL_PARAM params[4] = { OSSL_PARAM_END, OSSL_PARAM_END, OSSL_PARAM_END, OSSL_PARAM_END };
    const OSSL_PARAM *known;
    size_t i;
    int ok;

    params[0] = OSSL_PARAM_construct_utf8_ptr(OSSL_PROV_PARAM_NAME, (char **)&name, 0);
    params[1] = OSSL_PARAM_construct_utf8_ptr(OSSL_PROV_PARAM_VERSION, (char **)&version, 0);
    params[2] = OSSL_PARAM_construct_int(OSSL_PROV_PARAM_STATUS, &status);
    ok = TEST_ptr(p) && TEST_true(OSSL_PROVIDER_get_params(p, params))
        && TEST_ptr(name) && TEST_ptr(version) && TEST_size_t_gt(strlen(name), 0)
        && TEST_size_t_gt(strlen(version), 0) && TEST_int_eq(status, 1)
        && TEST_ptr(known = OSSL_PROVIDER_gettable_params(p));
    for (i = 0; ok && i < sizeof(counters) / sizeof(counters[0]); i++)
        ok = TEST_ptr(OSSL_PARAM_locate_const(known, counters[i]))
            && TEST_size_t_ne(kmsenv_test_counter(t, counters[i]), SIZE_MAX);
    OSSL_PROVIDER_unload(p);
    kmsenv_test_free(t);
    return ok && kmsenv_test_no_error();
}

static int test_self_test(void)
{
    KMSENV_TEST *t = kmsenv_test_new(KMSENV_TEST_LOCAL);
    OSSL_PROVIDER *p = t == NULL ? NULL : OSSL_PROVIDER_load(t->libctx, "kmsenv");
    int ok = TEST_ptr(p) && TEST_true(OSSL_PROVIDER_self_test(p));

    OSSL_PROVIDER_unload(p);
    kmsenv_test_free(t);
    return ok && kmsenv_test_no_error();
}

/* Every reason has its text, also for who looks it up by number later. */
static int test_reason_texts(void)
{
    static const struct { int reason; const char *text; } reasons[] = {
#define REASON_TEXT(symbol, number, text) { number, text },
        KMSENV_REASONS(REASON_TEXT)
    };
    KMSENV_TEST *t = kmsenv_test_new(KMSENV_TEST_LOCAL);
    KMSENV_TEST_BYTES out = { NULL, 0 };
    unsigned long e;
    size_t i;
    int ok = TEST_ptr(t) && TEST_false(kmsenv_test_crypt(t, 0, data, LEN, &out)) && TEST_ulong_ne(e = ERR_get_error(), 0);

    for (i = 0; ok && i < sizeof(reasons) / sizeof(reasons[0]); i++)
        ok = TEST_str_eq(ERR_reason_error_string(ERR_PACK(ERR_GET_LIB(e), 0, reasons[i].reason)), reasons[i].text);
    ERR_clear_error();
    kmsenv_test_bytes_reset(&out);
    kmsenv_test_free(t);
    return ok;
}

static int test_load_unload(void)
{
    KMSENV_TEST *t = kmsenv_test_new(KMSENV_TEST_LOCAL);
    char path[100];
    int i, ok = TEST_ptr(t);

    if (ok)
        snprintf(path, sizeof(path), "%s/openssl.cnf", t->dir);
    for (i = 0; ok && i < 200; i++) {
        KMSENV_TEST again = { OSSL_LIB_CTX_new(), "", 0 };

        ok = TEST_ptr(again.libctx) && TEST_true(OSSL_LIB_CTX_load_config(again.libctx, path))
            && TEST_true(OSSL_PROVIDER_available(again.libctx, "kmsenv"))
            && (i % 10 != 0 || round_trip(&again, t));
        OSSL_LIB_CTX_free(again.libctx);
    }
    kmsenv_test_free(t);
    return ok && kmsenv_test_no_error();
}

/* Objects outlive the library context's hold on the provider: what is in use stays usable or fails cleanly. */
static int test_unload_with_live_objects(int inited)
{
    KMSENV_TEST *t = kmsenv_test_new(KMSENV_TEST_LOCAL);
    OSSL_PROVIDER *p = t == NULL ? NULL : OSSL_PROVIDER_load(t->libctx, "kmsenv");
    EVP_CIPHER_CTX *ctx = t == NULL ? NULL : kmsenv_test_ctx(t, 1, NULL, NULL);
    unsigned char room[LEN + 600];
    int n = 0, ok = TEST_ptr(p) && TEST_ptr(ctx)
        && (!inited || TEST_true(EVP_CipherUpdate(ctx, room, &n, data, 100)));

    ok = ok && TEST_true(OSSL_PROVIDER_unload(p));
    EVP_CIPHER_CTX_free(ctx);
    kmsenv_test_free(t);
    return ok;
}

/* Loaded by name from a search path, without a configuration file: settings come from the environment. */
static int test_environment(void)
{
    KMSENV_TEST *keys = kmsenv_test_new(KMSENV_TEST_LOCAL);
    KMSENV_TEST t = { OSSL_LIB_CTX_new(), "", 0 };
    OSSL_PROVIDER *def = NULL, *ours = NULL;
    char file[100];
    int ok = TEST_ptr(keys) && TEST_ptr(t.libctx);

    if (ok)
        snprintf(file, sizeof(file), "%s/a.pem", keys->dir);
    ok = ok && TEST_int_eq(unsetenv("OPENSSL_CONF"), 0) && TEST_int_eq(setenv("KMSENV_KMS", "local", 1), 0) && TEST_int_eq(setenv("KMSENV_KEY_FILE", file, 1), 0)
        && TEST_true(OSSL_PROVIDER_set_default_search_path(t.libctx, KMSENV_TEST_MODULE_DIR))
        && TEST_ptr(def = OSSL_PROVIDER_load(t.libctx, "default"))
        && TEST_ptr(ours = OSSL_PROVIDER_load(t.libctx, "kmsenv"));
    ok = ok && TEST_true(OSSL_PROVIDER_available(t.libctx, "kmsenv")) && round_trip(&t, keys);
    unsetenv("KMSENV_KMS");
    unsetenv("KMSENV_KEY_FILE");
    OSSL_PROVIDER_unload(ours);
    OSSL_PROVIDER_unload(def);
    OSSL_LIB_CTX_free(t.libctx);
    kmsenv_test_free(keys);
    return ok;
}

/* Two contexts with different keys in one process do not see each other's. */
static int test_two_contexts(void)
{
    KMSENV_TEST *a = kmsenv_test_new(KMSENV_TEST_LOCAL), *b = kmsenv_test_new("kms = local\nkey-file = @/b.pem\n");
    KMSENV_TEST_BYTES from_a = { NULL, 0 }, out = { NULL, 0 };
    int ok = TEST_ptr(a) && TEST_ptr(b) && round_trip(a, a) && round_trip(b, b)
        && TEST_true(kmsenv_test_crypt(a, 1, data, LEN, &from_a))
        && TEST_false(kmsenv_test_crypt(b, 0, from_a.data, from_a.len, &out))
        && kmsenv_test_error_is(KMSENV_R_NO_USABLE_WRAP) && round_trip(b, b)
        && TEST_true(kmsenv_test_crypt(a, 0, from_a.data, from_a.len, &out));

    kmsenv_test_bytes_reset(&from_a);
    kmsenv_test_bytes_reset(&out);
    kmsenv_test_free(a);
    kmsenv_test_free(b);
    return ok;
}

/* A process that exits with everything alive: no crash in the handlers that run then. */
static int test_exit_without_cleanup(void)
{
    KMSENV_TEST *t = kmsenv_test_new(KMSENV_TEST_LOCAL);
    unsigned char room[LEN + 600];
    int n, status = 0, ok = TEST_ptr(t);
    pid_t pid;

    if (!ok || !TEST_int_ge(pid = fork(), 0))
        return 0;
    if (pid == 0) {
        EVP_CIPHER_CTX *ctx = kmsenv_test_ctx(t, 1, NULL, NULL);

        alarm(60);
        if (ctx == NULL || !EVP_CipherUpdate(ctx, room, &n, data, LEN))
            _exit(1);
        OPENSSL_cleanup();
        _exit(0);
    }
    ok = TEST_int_eq(waitpid(pid, &status, 0), pid) && TEST_true(WIFEXITED(status)) && TEST_int_eq(WEXITSTATUS(status), 0);
    kmsenv_test_free(t);
    return ok;
}

/*
 * Mistakes. Each is one error that names the section, the setting, the value where it is not a
 * secret, and what would be accepted; and it leaves the other providers alone.
 */
static const struct { const char *settings, *words; } mistakes[] = {
    { "kms = local\nkey-fiel = @/a.pem\n", "kmsenv_sect|key-fiel" },
    { "kms = locall\nkey-file = @/a.pem\n", "kmsenv_sect|kms|locall|local|tencent" },
    { "kms = local\n", "key-file" },
    { "kms = local\nkey-file = a.pem\n", "kmsenv_sect|key-file|a.pem|absolute" },
    { "kms = local\nkey-file =\n", "key-file" },
    { KMSENV_TEST_LOCAL "block-size = 500\n", "kmsenv_sect|block-size|500|512|8192" },
    { KMSENV_TEST_LOCAL "block-size = 16384\n", "block-size|16384|8192" },
    { KMSENV_TEST_LOCAL "segment-bits = 11\n", "kmsenv_sect|segment-bits|11|12|35" },
    { KMSENV_TEST_LOCAL "segment-bits = 36\n", "segment-bits|36|12|35" },
    { KMSENV_TEST_LOCAL "segment-bits = 20x\n", "segment-bits|20x" },
    { KMSENV_TEST_LOCAL "segment-bits = -1\n", "segment-bits|-1" },
    { KMSENV_TEST_LOCAL "dek-max-age = 0\n", "dek-max-age|0" },
    { KMSENV_TEST_LOCAL "dek-max-age = 5 weeks\n", "dek-max-age|5 weeks" },
    { KMSENV_TEST_LOCAL "dek-max-age = 99999999999999999999\n", "dek-max-age|99999999999999999999" },
    { KMSENV_TEST_LOCAL "dek-max-messages = 0\n", "dek-max-messages|0" },
    { KMSENV_TEST_LOCAL "dek-max-messages = many\n", "dek-max-messages|many" },
    { KMSENV_TEST_LOCAL "dek-max-bytes = 1X\n", "dek-max-bytes|1X|K, M, G" },
    { KMSENV_TEST_LOCAL "dek-reuse = maybe\n", "dek-reuse|maybe|yes|no" },
    { KMSENV_TEST_LOCAL "kms-grace = forever\n", "kms-grace|forever" },
    { KMSENV_TEST_LOCAL "cache-entries = 0\n", "cache-entries|0" },
    { KMSENV_TEST_LOCAL "negative-cache = x\n", "negative-cache|x" },
    { KMSENV_TEST_LOCAL "min-wraps = 17\n", "min-wraps|17|16" },
    { KMSENV_TEST_LOCAL "wraps = elsewhere\n", "wraps|elsewhere|inline|detached" },
    { KMSENV_TEST_LOCAL "keyring = keys\n", "keyring|keys" },
    { KMSENV_TEST_LOCAL "audit-log = audit.log\n", "audit-log|audit.log|syslog" },
    { "profiles = prod, escrow\nprod = p\n[p]\nkms = local\nkey-file = @/a.pem\n", "escrow" },
    { "profiles = prod\nprod = p\n[p]\nkms = local\nkey-file = @/a.pem\ncolour = red\n", "p|colour" },
    { "profiles = prod\nprod = p\n[p]\nkey-file = @/a.pem\n", "p|kms" },
    { "profiles = prod, prod\nprod = p\n[p]\nkms = local\nkey-file = @/a.pem\n", "prod" },
    { "profiles = pr/od\npr/od = p\n[p]\nkms = local\nkey-file = @/a.pem\n", "profiles|pr/od" },
    { "profiles =\n", "profiles" },
    { "", "kms" },
};

static int test_mistake(int idx)
{
    KMSENV_TEST *t = kmsenv_test_new(mistakes[idx].settings);
    KMSENV_TEST_BYTES out = { NULL, 0 };
    EVP_CIPHER *cipher = NULL;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    unsigned char room[LEN + 600];
    int n = 0, ok = TEST_ptr(t) && others_work(t->libctx);

    /* Whichever call it is that refuses, it leaves the one error. */
    ok = ok && TEST_ptr(ctx)
        && TEST_false((cipher = EVP_CIPHER_fetch(t->libctx, KMSENV_CIPHER_ENVELOPE, NULL)) != NULL
                      && EVP_CipherInit_ex2(ctx, cipher, NULL, NULL, 1, NULL)
                      && EVP_CipherUpdate(ctx, room, &n, data, LEN))
        && TEST_int_eq(n, 0)
        && kmsenv_test_error_says(KMSENV_R_CONFIG_INVALID, mistakes[idx].words)
        && others_work(t->libctx);
    if (!ok)
        TEST_info("configuration: %s", mistakes[idx].settings);
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
    kmsenv_test_bytes_reset(&out);
    kmsenv_test_free(t);
    return ok;
}

/* Settings that are well-formed and cannot work: found at the first use, and the error names the setting. */
static int test_cannot_work(int idx)
{
    static const struct { const char *settings; int reason; const char *words; } cases[] = {
        { KMSENV_TEST_LOCAL "wraps = detached\n", KMSENV_R_KEYRING_FAILED, "detached|keyring" },
        { KMSENV_TEST_LOCAL "crypto-provider = openssl\n", KMSENV_R_CRYPTO_FAILED, "crypto-provider|openssl" },
        { KMSENV_TEST_LOCAL "wraps = detached\nkeyring = @/absent\n", KMSENV_R_KEYRING_FAILED, "absent" },
        { KMSENV_TEST_LOCAL "key-id = 00000000000000000000000000000000\n", KMSENV_TEST_ANY, "key-id|a.pem" },
    };
    KMSENV_TEST *t = kmsenv_test_new(cases[idx].settings);
    KMSENV_TEST_BYTES out = { NULL, 0 };
    int ok = TEST_ptr(t) && TEST_false(kmsenv_test_crypt(t, 1, data, LEN, &out)) && TEST_size_t_eq(out.len, 0)
        && kmsenv_test_error_says(cases[idx].reason, cases[idx].words) && others_work(t->libctx);

    kmsenv_test_bytes_reset(&out);
    kmsenv_test_free(t);
    return ok;
}

/* A key file that is missing, open to others, or not a key file. Found at the first use, not at start. */
static int test_bad_key_file(int idx)
{
    static const struct { const char *content; unsigned mode; const char *words; } files[] = {
        { NULL, 0, "bad.pem|kmsenv init" },
        { "hello\n", 0600, "bad.pem|line 1" },
        { "", 0600, "bad.pem" },
        { "hello\n", 0644, "bad.pem|chmod 600" },
    };
    KMSENV_TEST *t = kmsenv_test_new("kms = local\nkey-file = @/bad.pem\n");
    KMSENV_TEST_BYTES out = { NULL, 0 };
    char path[100];
    int ok = TEST_ptr(t);

    if (ok)
        snprintf(path, sizeof(path), "%s/bad.pem", t->dir);
    if (ok && files[idx].content != NULL)
        ok = kmsenv_test_write(t, "bad.pem", files[idx].content) && TEST_int_eq(chmod(path, files[idx].mode), 0);
    ok = ok && TEST_false(kmsenv_test_crypt(t, 1, data, LEN, &out)) && TEST_size_t_eq(out.len, 0)
        && kmsenv_test_error_says(KMSENV_R_KEY_FILE_INVALID, files[idx].words) && others_work(t->libctx);
    kmsenv_test_bytes_reset(&out);
    kmsenv_test_free(t);
    return ok;
}

int setup_tests(void)
{
    kmsenv_test_fill(data, sizeof(data), 1);
    ADD_ALL_TESTS(test_order, (int)(sizeof(orders) / sizeof(orders[0])));
    ADD_TEST(test_only_ours);
    ADD_TEST(test_fetch_properties);
    ADD_TEST(test_provider_parameters);
    ADD_TEST(test_self_test);
    ADD_TEST(test_reason_texts);
    ADD_TEST(test_load_unload);
    ADD_ALL_TESTS(test_unload_with_live_objects, 2);
    ADD_TEST(test_environment);
    ADD_TEST(test_two_contexts);
    ADD_TEST(test_exit_without_cleanup);
    ADD_ALL_TESTS(test_mistake, (int)(sizeof(mistakes) / sizeof(mistakes[0])));
    ADD_ALL_TESTS(test_cannot_work, 4);
    ADD_ALL_TESTS(test_bad_key_file, 4);
    return 1;
}
