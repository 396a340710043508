/* Several profiles, wraps outside the message, given data keys and references, encryption contexts, big headers. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include "testutil.h"
#include "kmsenv/format.h"
#include "kmsenv_der.h"
#include "kmsenv_test.h"

#define LEN 2000
#define TWO_PROFILES \
    "prod = p\nescrow = e\n[p]\nkms = local\nkey-file = @/a.pem\n[e]\nkms = local\nkey-file = @/b.pem\n"
#define ONLY_B "kms = local\nkey-file = @/b.pem\n"

static KMSENV_TEST *t;        /* one profile, a.pem; its scratch folder serves all tests */
static unsigned char data[LEN];

static KMSENV_TEST *with(const char *settings)
{
    KMSENV_TEST_SETUP setup = { settings, NULL, 0, NULL };

    setup.same = t;
    return kmsenv_test_new_ex(&setup);
}

static OSSL_PARAM *text_param(OSSL_PARAM *params, const char *name, const char *text)
{
    params[0] = OSSL_PARAM_construct_utf8_string(name, (char *)text, 0);
    params[1] = OSSL_PARAM_construct_end();
    return params;
}

static int seal(const KMSENV_TEST *on, const OSSL_PARAM *params, KMSENV_TEST_BYTES *out)
{
    return TEST_true(kmsenv_test_crypt_key(on, 1, NULL, params, data, LEN, 0, out));
}

static int opens(const KMSENV_TEST *on, const OSSL_PARAM *params, const KMSENV_TEST_BYTES *m)
{
    KMSENV_TEST_BYTES out = { NULL, 0 };
    int ok = TEST_true(kmsenv_test_crypt_key(on, 0, NULL, params, m->data, m->len, 100, &out))
        && TEST_mem_eq(out.data, out.len, data, LEN) && kmsenv_test_no_error();

    kmsenv_test_bytes_reset(&out);
    return ok;
}

static int refuses(const KMSENV_TEST *on, const OSSL_PARAM *params, const KMSENV_TEST_BYTES *m, int reason,
                   const char *words)
{
    KMSENV_TEST_BYTES out = { NULL, 0 };
    int ok = TEST_false(kmsenv_test_crypt_key(on, 0, NULL, params, m->data, m->len, 100, &out))
        && TEST_size_t_eq(out.len, 0) && kmsenv_test_error_says(reason, words);

    kmsenv_test_bytes_reset(&out);
    return ok;
}

static size_t wraps_of(const KMSENV_TEST_BYTES *m)
{
    KMSENV_DER e;

    return kmsenv_der_find(m, "22", &e) ? kmsenv_der_count(m, &e) : 99;
}

/* What `profiles` and the parameter choose is what wraps; each of the wraps opens alone. */
static int test_either_opens(void)
{
    KMSENV_TEST *both = with("profiles = prod, escrow\n" TWO_PROFILES), *b = with(ONLY_B);
    KMSENV_TEST_BYTES m = { NULL, 0 };
    OSSL_PARAM params[2];
    int ok = TEST_ptr(both) && TEST_ptr(b)
        && seal(both, NULL, &m) && TEST_size_t_eq(wraps_of(&m), 2)
        && opens(t, NULL, &m) && opens(b, NULL, &m) && opens(both, NULL, &m)
        && seal(both, text_param(params, KMSENV_CIPHER_PARAM_PROFILE, "escrow"), &m)
        && TEST_size_t_eq(wraps_of(&m), 1) && opens(b, NULL, &m) && opens(both, NULL, &m)
        && refuses(t, NULL, &m, KMSENV_R_NO_USABLE_WRAP, "local|f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
        && seal(both, text_param(params, KMSENV_CIPHER_PARAM_PROFILE, "escrow,prod"), &m)
        && TEST_size_t_eq(wraps_of(&m), 2) && opens(b, NULL, &m) && opens(t, NULL, &m);

    kmsenv_test_bytes_reset(&m);
    kmsenv_test_free(both);
    kmsenv_test_free(b);
    return ok;
}

static int test_unknown_profile(void)
{
    EVP_CIPHER_CTX *ctx = kmsenv_test_ctx(t, 1, NULL, NULL);
    OSSL_PARAM params[2];
    int ok = TEST_ptr(ctx)
        && TEST_false(EVP_CIPHER_CTX_set_params(ctx, text_param(params, KMSENV_CIPHER_PARAM_PROFILE, "nope")))
        && kmsenv_test_error_says(KMSENV_R_PARAMETER_INVALID, "nope|profiles");

    EVP_CIPHER_CTX_free(ctx);
    return ok;
}

/* One profile's key is gone: min-wraps decides whether a message is made all the same. */
static int test_min_wraps(int given)
{
    KMSENV_TEST *u = with(given ? "profiles = prod, escrow\nmin-wraps = 1\n"
                                  "prod = p\nescrow = e\n[p]\nkms = local\nkey-file = @/a.pem\n"
                                  "[e]\nkms = local\nkey-file = @/gone.pem\n"
                                : "profiles = prod, escrow\n"
                                  "prod = p\nescrow = e\n[p]\nkms = local\nkey-file = @/a.pem\n"
                                  "[e]\nkms = local\nkey-file = @/gone.pem\n");
    KMSENV_TEST_BYTES m = { NULL, 0 };
    int ok = TEST_ptr(u);

    if (given)
        ok = ok && seal(u, NULL, &m) && TEST_size_t_eq(wraps_of(&m), 1) && opens(t, NULL, &m);
    else
        ok = ok && TEST_false(kmsenv_test_crypt(u, 1, data, LEN, &m)) && TEST_size_t_eq(m.len, 0)
            && kmsenv_test_error_says(KMSENV_TEST_ANY, "min-wraps|gone.pem|escrow");
    kmsenv_test_bytes_reset(&m);
    kmsenv_test_free(u);
    return ok;
}

/* The more wraps, the larger the header, and so the block size, unless a setting says otherwise. */
static int test_block_size(int i)
{
    static const struct { const char *settings; int size; } cases[] = {
        { "profiles = prod, escrow\n" TWO_PROFILES, 512 },
        { "profiles = prod, escrow, third\nthird = e\n" TWO_PROFILES, 1024 },
        { "profiles = prod,escrow,c,d,f,g\nc = e\nd = e\nf = p\ng = p\n" TWO_PROFILES, 2048 },
        { "profiles = prod, escrow, third\nthird = e\nwraps = detached\nkeyring = @\n" TWO_PROFILES, 512 },
        { "profiles = prod, escrow, third\nthird = e\nblock-size = 512\n" TWO_PROFILES, 512 },
        { "block-size = 8192\n" ONLY_B, 8192 }
    };
    KMSENV_TEST *u = with(cases[i].settings);
    EVP_CIPHER_CTX *ctx = u == NULL ? NULL : kmsenv_test_ctx(u, 1, NULL, NULL);
    int ok = TEST_ptr(ctx) && TEST_int_eq(EVP_CIPHER_CTX_get_block_size(ctx), cases[i].size);

    EVP_CIPHER_CTX_free(ctx);
    kmsenv_test_free(u);
    return ok;
}

/* Which profile generates is no matter of life and death: with min-wraps the next one does. */
static int test_first_is_gone(void)
{
    KMSENV_TEST *u = with("profiles = prod, escrow\nmin-wraps = 1\nprod = p\nescrow = e\n[p]\nkms = local\nkey-file = @/gone.pem\n"
                          "[e]\nkms = local\nkey-file = @/b.pem\n");
    KMSENV_TEST *b = with(ONLY_B);
    KMSENV_TEST_BYTES m = { NULL, 0 };
    int ok = TEST_ptr(u) && TEST_ptr(b) && seal(u, NULL, &m) && TEST_size_t_eq(wraps_of(&m), 1) && opens(b, NULL, &m)
        && opens(u, NULL, &m);

    kmsenv_test_bytes_reset(&m);
    kmsenv_test_free(u);
    kmsenv_test_free(b);
    return ok;
}

/* More wraps wanted than there are profiles to make them: an error before any key is made. */
static int test_too_few_profiles(void)
{
    KMSENV_TEST *u = with("profiles = prod, escrow\nmin-wraps = 3\n" TWO_PROFILES);
    KMSENV_TEST_BYTES m = { NULL, 0 };
    int ok = TEST_ptr(u) && TEST_false(kmsenv_test_crypt(u, 1, data, LEN, &m)) && TEST_size_t_eq(m.len, 0)
        && kmsenv_test_error_says(KMSENV_R_TOO_FEW_WRAPS, "min-wraps = 3|2 profiles");

    kmsenv_test_bytes_reset(&m);
    kmsenv_test_free(u);
    return ok;
}

/* The single file in a folder, its path into out. Fails if there is not exactly one. */
static int only_file(const char *dir, char *out, size_t room)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    int n = 0;

    while (d != NULL && (e = readdir(d)) != NULL)
        if (e->d_name[0] != '.') {
            snprintf(out, room, "%s/%s", dir, e->d_name);
            n++;
        }
    if (d != NULL)
        closedir(d);
    return TEST_int_eq(n, 1);
}

/* The keyring's file is PEM of the DataKey whose id names it. */
static int check_keyring_file(const char *path, const KMSENV_TEST_BYTES *m)
{
    BIO *bio = BIO_new_file(path, "r");
    char *name = NULL, *head = NULL, hex[2 * KMSENV_DEK_ID_LEN + 8] = "/";
    KMSENV_TEST_BYTES der = { NULL, 0 };
    KMSENV_DER in_file, in_message;
    long len = 0;
    size_t i;
    int ok = TEST_ptr(bio) && TEST_true(PEM_read_bio(bio, &name, &head, &der.data, &len))
        && TEST_str_eq(name, KMSENV_PEM_DATA_KEY);

    der.len = (size_t)len;
    ok = ok && kmsenv_der_find(&der, "0", &in_file) && kmsenv_der_find(m, "20", &in_message)
        && TEST_mem_eq(der.data + in_file.body, in_file.end - in_file.body,
                       m->data + in_message.body, in_message.end - in_message.body);
    for (i = 0; ok && i < KMSENV_DEK_ID_LEN; i++)
        snprintf(hex + 1 + 2 * i, 3, "%02x", der.data[in_file.body + i]);
    strcat(hex, ".pem");
    ok = ok && TEST_ptr(strstr(path, hex));
    OPENSSL_free(name);
    OPENSSL_free(head);
    OPENSSL_free(der.data);
    BIO_free(bio);
    return ok;
}

static int test_detached(void)
{
    KMSENV_TEST *u = with(KMSENV_TEST_LOCAL "wraps = detached\nkeyring = @/keys\n");
    KMSENV_TEST *reader = with(KMSENV_TEST_LOCAL "keyring = @/absent:@/keys\n"), *stranger = with(ONLY_B "keyring = @/keys\n");
    KMSENV_TEST *inline_again = with(KMSENV_TEST_LOCAL);
    KMSENV_TEST_BYTES m = { NULL, 0 }, second = { NULL, 0 };
    char keys[80], path[400], moved[420];
    int ok = TEST_ptr(u) && TEST_ptr(reader) && TEST_ptr(stranger) && TEST_ptr(inline_again);

    snprintf(keys, sizeof(keys), "%s/keys", t->dir);
    ok = ok && seal(u, NULL, &m) && TEST_size_t_eq(wraps_of(&m), 0)
        && seal(u, NULL, &second) && only_file(keys, path, sizeof(path)) && check_keyring_file(path, &m)
        && opens(reader, NULL, &m) && opens(reader, NULL, &second)
        && refuses(stranger, NULL, &m, KMSENV_R_NO_USABLE_WRAP, "")
        && refuses(inline_again, NULL, &m, KMSENV_R_DATA_KEY_NOT_FOUND, "keyring");
    kmsenv_test_free(reader);
    reader = NULL;
    snprintf(moved, sizeof(moved), "%s.away", path);
    ok = ok && TEST_int_eq(rename(path, moved), 0)
        && TEST_ptr(reader = with(KMSENV_TEST_LOCAL "keyring = @/keys\n"))
        && refuses(reader, NULL, &m, KMSENV_R_DATA_KEY_NOT_FOUND, "keys");
    ok = TEST_int_eq(unlink(moved), 0) && ok;
    kmsenv_test_bytes_reset(&m);
    kmsenv_test_bytes_reset(&second);
    kmsenv_test_free(u);
    kmsenv_test_free(reader);
    kmsenv_test_free(stranger);
    kmsenv_test_free(inline_again);
    return ok;
}

/* `wraps` as a parameter of one message, against the setting */
static int test_detached_parameter(void)
{
    KMSENV_TEST *u = with(KMSENV_TEST_LOCAL "keyring = @/keys\n");
    KMSENV_TEST_BYTES m = { NULL, 0 };
    OSSL_PARAM params[2];
    char keys[80], path[400];
    int ok;

    snprintf(keys, sizeof(keys), "%s/keys", t->dir);
    ok = TEST_ptr(u) && seal(u, text_param(params, KMSENV_CIPHER_PARAM_WRAPS, "detached"), &m)
        && TEST_size_t_eq(wraps_of(&m), 0) && opens(u, NULL, &m)
        && only_file(keys, path, sizeof(path)) && TEST_int_eq(unlink(path), 0)
        && seal(u, text_param(params, KMSENV_CIPHER_PARAM_WRAPS, "inline"), &m) && TEST_size_t_eq(wraps_of(&m), 1);
    kmsenv_test_bytes_reset(&m);
    kmsenv_test_free(u);
    return ok;
}

/* Detached with no keyring to write to: an error that says so, and nothing made. */
static int test_detached_without_keyring(void)
{
    KMSENV_TEST_BYTES m = { NULL, 0 };
    OSSL_PARAM params[2];
    EVP_CIPHER_CTX *ctx = kmsenv_test_ctx(t, 1, NULL, NULL);
    int ok = TEST_ptr(ctx);

    text_param(params, KMSENV_CIPHER_PARAM_WRAPS, "detached");
    ok = ok && TEST_false(EVP_CIPHER_CTX_set_params(ctx, params) && kmsenv_test_run(ctx, data, LEN, 0, &m))
        && TEST_size_t_eq(m.len, 0) && kmsenv_test_error_says(KMSENV_TEST_ANY, "keyring");
    EVP_CIPHER_CTX_free(ctx);
    kmsenv_test_bytes_reset(&m);
    return ok;
}

/* The DataKey of one message, given for another: the same data key, unwrapped once. */
static int test_given_data_key(void)
{
    KMSENV_TEST *u = with(KMSENV_TEST_LOCAL "dek-reuse = no\n");
    KMSENV_TEST_BYTES first = { NULL, 0 }, second = { NULL, 0 };
    OSSL_PARAM params[2] = { OSSL_PARAM_END, OSSL_PARAM_END };
    KMSENV_DER key, again;
    int ok = TEST_ptr(u) && seal(u, NULL, &first) && kmsenv_der_find(&first, "2", &key);

    if (ok) {
        params[0] = OSSL_PARAM_construct_octet_string(KMSENV_CIPHER_PARAM_DATA_KEY, first.data + key.at, key.end - key.at);
        ok = seal(u, params, &second) && kmsenv_der_find(&second, "2", &again)
            && TEST_mem_eq(first.data + key.at, key.end - key.at, second.data + again.at, again.end - again.at)
            && opens(t, NULL, &second)
            && TEST_size_t_le(kmsenv_test_counter(u, "kmsenv.kms-calls"), 2);
    }
    kmsenv_test_bytes_reset(&first);
    kmsenv_test_bytes_reset(&second);
    kmsenv_test_free(u);
    return ok;
}

/* What is neither DER DataKey nor reference is refused, and so is a data key that no profile can unwrap. */
static int test_bad_data_key(void)
{
    EVP_CIPHER_CTX *ctx = kmsenv_test_ctx(t, 1, NULL, NULL);
    KMSENV_TEST *u = with(ONLY_B);
    KMSENV_TEST_BYTES first = { NULL, 0 }, out = { NULL, 0 };
    OSSL_PARAM params[2] = { OSSL_PARAM_END, OSSL_PARAM_END };
    KMSENV_DER key;
    int ok = TEST_ptr(ctx) && TEST_ptr(u) && seal(t, NULL, &first) && kmsenv_der_find(&first, "2", &key);

    if (ok) {
        params[0] = OSSL_PARAM_construct_octet_string(KMSENV_CIPHER_PARAM_DATA_KEY, data, 32);
        ok = TEST_false(EVP_CIPHER_CTX_set_params(ctx, params)) && kmsenv_test_error_is(KMSENV_TEST_ANY);
        params[0] = OSSL_PARAM_construct_octet_string(KMSENV_CIPHER_PARAM_DATA_KEY,
                                                      first.data + key.at, key.end - key.at - 1);
        ok = ok && TEST_false(EVP_CIPHER_CTX_set_params(ctx, params)) && kmsenv_test_error_is(KMSENV_TEST_ANY);
        params[0].data_size++;
        ok = ok && TEST_false(kmsenv_test_crypt_key(u, 1, NULL, params, data, LEN, 0, &out))
            && TEST_size_t_eq(out.len, 0) && kmsenv_test_error_is(KMSENV_R_NO_USABLE_WRAP);
    }
    EVP_CIPHER_CTX_free(ctx);
    kmsenv_test_bytes_reset(&first);
    kmsenv_test_bytes_reset(&out);
    kmsenv_test_free(u);
    return ok;
}

/* A key reference where the caller's key goes: the message uses that data key. An unknown one is never a key. */
static int test_reference(void)
{
    KMSENV_TEST *u = with(KMSENV_TEST_LOCAL "wraps = detached\nkeyring = @/keys\n");
    KMSENV_TEST *fresh = with(KMSENV_TEST_LOCAL "keyring = @/keys\ndek-reuse = no\n");
    KMSENV_TEST_BYTES first = { NULL, 0 }, second = { NULL, 0 }, out = { NULL, 0 };
    unsigned char reference[32] = "kmsenv:\x01";
    char keys[80], path[400];
    KMSENV_DER id, again;
    int ok = TEST_ptr(u) && TEST_ptr(fresh) && seal(u, NULL, &first) && kmsenv_der_find(&first, "20", &id);

    snprintf(keys, sizeof(keys), "%s/keys", t->dir);
    if (ok)
        memcpy(reference + 8, first.data + id.body, KMSENV_DEK_ID_LEN);
    ok = ok && TEST_true(kmsenv_test_crypt_key(fresh, 1, reference, NULL, data, LEN, 0, &second))
        && kmsenv_der_find(&second, "20", &again)
        && TEST_mem_eq(first.data + id.body, KMSENV_DEK_ID_LEN, second.data + again.body, again.end - again.body)
        && opens(fresh, NULL, &second)
        && TEST_true(kmsenv_test_crypt_key(fresh, 0, reference, NULL, second.data, second.len, 0, &out));
    reference[31] ^= 1;
    ok = ok && TEST_false(kmsenv_test_crypt_key(fresh, 1, reference, NULL, data, LEN, 0, &out))
        && TEST_size_t_eq(out.len, 0) && kmsenv_test_error_is(KMSENV_R_DATA_KEY_NOT_FOUND);
    ok = only_file(keys, path, sizeof(path)) && TEST_int_eq(unlink(path), 0) && ok;
    kmsenv_test_bytes_reset(&first);
    kmsenv_test_bytes_reset(&second);
    kmsenv_test_bytes_reset(&out);
    kmsenv_test_free(u);
    kmsenv_test_free(fresh);
    return ok;
}

static int test_context(void)
{
    KMSENV_TEST_BYTES m = { NULL, 0 };
    OSSL_PARAM params[2];
    KMSENV_TEST *fresh = with(KMSENV_TEST_LOCAL);
    int ok = TEST_ptr(fresh)
        && seal(t, text_param(params, KMSENV_CIPHER_PARAM_CONTEXT, "table=users,app=demo"), &m)
        && opens(fresh, NULL, &m)
        && opens(fresh, text_param(params, KMSENV_CIPHER_PARAM_CONTEXT, "app=demo"), &m)
        && opens(fresh, text_param(params, KMSENV_CIPHER_PARAM_CONTEXT, "app=demo,table=users"), &m)
        && refuses(fresh, text_param(params, KMSENV_CIPHER_PARAM_CONTEXT, "app=other"), &m, KMSENV_R_CONTEXT_MISMATCH, "context")
        && refuses(fresh, text_param(params, KMSENV_CIPHER_PARAM_CONTEXT, "more=x"), &m, KMSENV_R_CONTEXT_MISMATCH, "context")
        && seal(t, NULL, &m)
        && refuses(fresh, text_param(params, KMSENV_CIPHER_PARAM_CONTEXT, "app=demo"), &m, KMSENV_R_CONTEXT_MISMATCH, "context");

    kmsenv_test_bytes_reset(&m);
    kmsenv_test_free(fresh);
    return ok;
}

/* Whatever context and profiles look like written one after the other: each combination has a data key of its own. */
static int test_combinations_are_told_apart(void)
{
    KMSENV_TEST *both = with("profiles = prod, escrow\n" TWO_PROFILES);
    KMSENV_TEST_BYTES m = { NULL, 0 };
    OSSL_PARAM params[3];
    int ok;

    params[0] = OSSL_PARAM_construct_utf8_string(KMSENV_CIPHER_PARAM_PROFILE, (char *)"prod", 0);
    params[1] = OSSL_PARAM_construct_utf8_string(KMSENV_CIPHER_PARAM_CONTEXT, (char *)" 1app=demo", 0);
    params[2] = OSSL_PARAM_construct_end();
    ok = TEST_ptr(both) && seal(both, params, &m) && TEST_size_t_eq(wraps_of(&m), 1)
        && seal(both, text_param(params, KMSENV_CIPHER_PARAM_CONTEXT, "app=demo"), &m) && TEST_size_t_eq(wraps_of(&m), 2);
    kmsenv_test_bytes_reset(&m);
    kmsenv_test_free(both);
    return ok;
}

static const char *const bad_contexts[] = { "=x", "novalue", "a=1,a=2", "a=1,,b=2", "a=\x01", "a=\xff" };

static int test_bad_context(int idx)
{
    EVP_CIPHER_CTX *ctx = kmsenv_test_ctx(t, 1, NULL, NULL);
    OSSL_PARAM params[2];
    int ok = TEST_ptr(ctx)
        && TEST_false(EVP_CIPHER_CTX_set_params(ctx, text_param(params, KMSENV_CIPHER_PARAM_CONTEXT, bad_contexts[idx])))
        && kmsenv_test_error_is(KMSENV_R_PARAMETER_INVALID);

    EVP_CIPHER_CTX_free(ctx);
    return ok;
}

/* A header that does not fit the block: one error that names every way out, and nothing emitted. */
static int test_header_too_large(void)
{
    KMSENV_TEST *large = with(KMSENV_TEST_LOCAL "block-size = 2048\n");
    KMSENV_TEST_BYTES m = { NULL, 0 };
    OSSL_PARAM params[2];
    char text[700] = "purpose=";
    int ok = TEST_ptr(large);

    memset(text + 8, 'x', 600);
    text_param(params, KMSENV_CIPHER_PARAM_CONTEXT, text);
    ok = ok && TEST_false(kmsenv_test_crypt_key(t, 1, NULL, params, data, LEN, 0, &m)) && TEST_size_t_eq(m.len, 0)
        && kmsenv_test_error_says(KMSENV_R_HEADER_TOO_LARGE, "block-size|detached|profiles")
        && seal(large, params, &m) && opens(large, NULL, &m)
        && opens(t, NULL, &m);   /* reading has no such limit */
    kmsenv_test_bytes_reset(&m);
    kmsenv_test_free(large);
    return ok;
}

/* Parameters once data has begun: too late for all of them. */
static int test_parameters_too_late(void)
{
    EVP_CIPHER_CTX *ctx = kmsenv_test_ctx(t, 1, NULL, NULL);
    unsigned char room[1024];
    unsigned bits = 20;
    OSSL_PARAM params[2] = { OSSL_PARAM_END, OSSL_PARAM_END };
    int n, ok = TEST_ptr(ctx) && TEST_true(EVP_CipherUpdate(ctx, room, &n, data, 100));

    ok = ok && TEST_false(EVP_CIPHER_CTX_set_params(ctx, text_param(params, KMSENV_CIPHER_PARAM_CONTEXT, "a=b")))
        && kmsenv_test_error_is(KMSENV_R_WRONG_STATE)
        && TEST_false(EVP_CIPHER_CTX_set_params(ctx, text_param(params, KMSENV_CIPHER_PARAM_PROFILE, "default")))
        && kmsenv_test_error_is(KMSENV_R_WRONG_STATE)
        && TEST_false(EVP_CIPHER_CTX_set_params(ctx, text_param(params, KMSENV_CIPHER_PARAM_WRAPS, "inline")))
        && kmsenv_test_error_is(KMSENV_R_WRONG_STATE);
    params[0] = OSSL_PARAM_construct_uint(KMSENV_CIPHER_PARAM_SEGMENT_BITS, &bits);
    ok = ok && TEST_false(EVP_CIPHER_CTX_set_params(ctx, params)) && kmsenv_test_error_is(KMSENV_R_WRONG_STATE)
        && TEST_true(EVP_CipherFinal_ex(ctx, room, &n));
    EVP_CIPHER_CTX_free(ctx);
    return ok && kmsenv_test_no_error();
}

int setup_tests(void)
{
    kmsenv_test_fill(data, sizeof(data), 1);
    if (!TEST_ptr(t = kmsenv_test_new(KMSENV_TEST_LOCAL)))
        return 0;
    ADD_TEST(test_either_opens);
    ADD_TEST(test_unknown_profile);
    ADD_ALL_TESTS(test_min_wraps, 2);
    ADD_TEST(test_detached);
    ADD_TEST(test_detached_parameter);
    ADD_TEST(test_detached_without_keyring);
    ADD_TEST(test_given_data_key);
    ADD_TEST(test_bad_data_key);
    ADD_TEST(test_reference);
    ADD_TEST(test_context);
    ADD_TEST(test_combinations_are_told_apart);
    ADD_ALL_TESTS(test_block_size, 6);
    ADD_TEST(test_first_is_gone);
    ADD_TEST(test_too_few_profiles);
    ADD_ALL_TESTS(test_bad_context, (int)(sizeof(bad_contexts) / sizeof(bad_contexts[0])));
    ADD_TEST(test_header_too_large);
    ADD_TEST(test_parameters_too_late);
    return 1;
}

void cleanup_tests(void)
{
    kmsenv_test_free(t);
}
