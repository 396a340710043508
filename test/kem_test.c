/*
 * Key encapsulation with a master key as programs use it: sizes, buffers, parameters, ciphertexts of all kinds, how often the
 * KMS is asked, and what is left of a secret in memory. Round trips of every length are in key_object_test.c.
 */
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include "testutil.h"
#include "kmsenv_test.h"

#define COUNT(a)   ((int)(sizeof(a) / sizeof((a)[0])))
#define OUTPUT_MAX 24576
#define STACK_LEN  (1 << 20)

static KMSENV_TEST *t;
static EVP_PKEY *pkey;

static uint64_t kms_calls(void)
{
    return kmsenv_test_counter(t, "kmsenv.kms-calls");
}

/* A context ready for either operation; params may be NULL. NULL if init fails, its errors left as they are. */
static EVP_PKEY_CTX *ready(int encapsulates, const OSSL_PARAM *params)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(t->libctx, pkey, NULL);

    if (ctx != NULL && (encapsulates ? EVP_PKEY_encapsulate_init(ctx, params) : EVP_PKEY_decapsulate_init(ctx, params)) > 0)
        return ctx;
    EVP_PKEY_CTX_free(ctx);
    return NULL;
}

typedef struct wrapped_st {
    unsigned char bytes[OUTPUT_MAX], secret[64];
    size_t len, secret_len;
} WRAPPED;

static int encapsulate(EVP_PKEY_CTX *ctx, WRAPPED *w)
{
    w->len = sizeof(w->bytes);
    w->secret_len = sizeof(w->secret);
    return EVP_PKEY_encapsulate(ctx, w->bytes, &w->len, w->secret, &w->secret_len) > 0;
}

static int make(const char *context, WRAPPED *w)
{
    OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_string(KMSENV_PKEY_PARAM_CONTEXT, (char *)context, 0), OSSL_PARAM_construct_end() };
    EVP_PKEY_CTX *ctx = ready(1, context == NULL ? NULL : params);
    int ok = TEST_ptr(ctx) && TEST_true(encapsulate(ctx, w));

    EVP_PKEY_CTX_free(ctx);
    return ok;
}

/* --- parameters ----------------------------------------------------------- */

static const size_t wrong_lengths[] = { 0, 1, 15, 17, 31, 33, 48, 63, 65, 4096, SIZE_MAX };

/* As a number in init, and as text as -pkeyopt gives it. The context works on as it was. */
static int test_wrong_length(int i)
{
    size_t length = wrong_lengths[i];
    OSSL_PARAM params[] = { OSSL_PARAM_construct_size_t(KMSENV_KEM_PARAM_SECRET_LEN, &length), OSSL_PARAM_construct_end() };
    uint64_t before = kms_calls();
    EVP_PKEY_CTX *ctx = ready(1, NULL);
    WRAPPED w;
    char text[32];
    int ok;

    snprintf(text, sizeof(text), "%zu", length);
    ok = TEST_ptr_null(ready(1, params)) && TEST_true(kmsenv_test_error_says(KMSENV_R_PARAMETER_INVALID, "secret-length|16, 24, 32, 64"))
         && TEST_ptr(ctx) && TEST_int_le(EVP_PKEY_CTX_ctrl_str(ctx, "secret-length", text), 0)
         && TEST_true(kmsenv_test_error_says(KMSENV_R_PARAMETER_INVALID, "secret-length|16, 24, 32, 64"))
         && TEST_size_t_eq(kms_calls(), before) && TEST_true(encapsulate(ctx, &w)) && TEST_size_t_eq(w.secret_len, 32)
         && TEST_true(kmsenv_test_no_error());
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static const struct { const char *name, *value; int reason; } wrong[] = {
    { "context", "a", KMSENV_R_NONE },                     /* found when it is used */
    { "secret-length", "-1", KMSENV_R_PARAMETER_INVALID },
    { OSSL_KEM_PARAM_OPERATION, OSSL_KEM_PARAM_OPERATION_RSASVE, KMSENV_R_PARAMETER_INVALID }
};

static int test_wrong_parameter(int i)
{
    OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_string(wrong[i].name, (char *)wrong[i].value, 0), OSSL_PARAM_construct_end() };
    uint64_t before = kms_calls();
    EVP_PKEY_CTX *ctx = ready(1, params);
    WRAPPED w;
    int ok;

    if (wrong[i].reason != KMSENV_R_NONE)
        ok = TEST_ptr_null(ctx) && TEST_true(kmsenv_test_error_is(wrong[i].reason));
    else
        ok = TEST_ptr(ctx) && TEST_false(encapsulate(ctx, &w)) && TEST_true(kmsenv_test_error_says(KMSENV_R_PARAMETER_INVALID, "context"));
    EVP_PKEY_CTX_free(ctx);
    return ok && TEST_size_t_eq(kms_calls(), before);
}

/* What the command asks before it takes -pkeyopt: both parameters are listed, and no operation has to be named. */
static int test_settable(void)
{
    EVP_PKEY_CTX *ctx = ready(1, NULL);
    const OSSL_PARAM *settable = ctx == NULL ? NULL : EVP_PKEY_CTX_settable_params(ctx);
    int ok = TEST_ptr(settable) && TEST_ptr(OSSL_PARAM_locate_const(settable, "context"))
             && TEST_ptr(OSSL_PARAM_locate_const(settable, "secret-length"))
             && TEST_int_le(EVP_PKEY_CTX_set_kem_op(ctx, "RSASVE"), 0)
             && TEST_true(kmsenv_test_error_says(KMSENV_R_PARAMETER_INVALID, "leave the operation out"));

    EVP_PKEY_CTX_free(ctx);
    return ok;
}

/* --- buffers -------------------------------------------------------------- */

/* Nothing is written beyond a buffer, nor called a success, whatever is said of its size. Pages that cannot be touched follow. */
static int test_encapsulate_buffers(void)
{
    unsigned char *out = kmsenv_test_guarded(40), *secret = kmsenv_test_guarded(32);
    uint64_t before = kms_calls();
    EVP_PKEY_CTX *ctx = ready(1, NULL);
    size_t n = 0, m = 0;
    int ok = TEST_ptr(ctx) && TEST_int_gt(EVP_PKEY_encapsulate(ctx, NULL, &n, NULL, &m), 0) && TEST_size_t_eq(n, OUTPUT_MAX)
             && TEST_size_t_eq(m, 32) && TEST_int_gt(EVP_PKEY_encapsulate(ctx, NULL, NULL, NULL, NULL), 0);

    m = 31;
    ok = ok && TEST_int_le(EVP_PKEY_encapsulate(ctx, out, &n, secret, &m), 0) && TEST_true(kmsenv_test_error_says(KMSENV_R_OUTPUT_TOO_SMALL, "secret|32"));
    m = 0;
    ok = ok && TEST_int_le(EVP_PKEY_encapsulate(ctx, out, &n, secret, &m), 0) && TEST_true(kmsenv_test_error_is(KMSENV_R_OUTPUT_TOO_SMALL))
         && TEST_int_le(EVP_PKEY_encapsulate(ctx, out, &n, secret, NULL), 0) && TEST_true(kmsenv_test_error_is(KMSENV_R_OUTPUT_TOO_SMALL));
    m = 32;
    ok = ok && TEST_int_le(EVP_PKEY_encapsulate(ctx, out, NULL, secret, &m), 0) && TEST_true(kmsenv_test_error_is(KMSENV_R_OUTPUT_TOO_SMALL));
    n = 0;
    ok = ok && TEST_int_le(EVP_PKEY_encapsulate(ctx, out, &n, secret, &m), 0) && TEST_true(kmsenv_test_error_is(KMSENV_R_OUTPUT_TOO_SMALL))
         && TEST_size_t_eq(kms_calls(), before);
    n = 40;                                   /* known only when the KMS has answered */
    memset(secret, 7, 32);
    ok = ok && TEST_int_le(EVP_PKEY_encapsulate(ctx, out, &n, secret, &m), 0)
         && TEST_true(kmsenv_test_error_says(KMSENV_R_OUTPUT_TOO_SMALL, "40 bytes|64")) && TEST_size_t_eq(kms_calls() - before, 1)
         && TEST_int_eq(secret[0], 7) && TEST_int_eq(secret[31], 7);     /* no secret without its ciphertext */
    EVP_PKEY_CTX_free(ctx);
    kmsenv_test_guarded_free(out, 40);
    kmsenv_test_guarded_free(secret, 32);
    return ok;
}

static int test_decapsulate_buffers(void)
{
    unsigned char *secret = kmsenv_test_guarded(31), exact[32];
    EVP_PKEY_CTX *ctx = ready(0, NULL);
    size_t n = 0;
    WRAPPED w;
    int ok = TEST_ptr(ctx) && make(NULL, &w) && TEST_int_gt(EVP_PKEY_decapsulate(ctx, NULL, &n, w.bytes, w.len), 0)
             && TEST_size_t_ge(n, 64) && TEST_int_le(EVP_PKEY_decapsulate(ctx, secret, NULL, w.bytes, w.len), 0)
             && TEST_true(kmsenv_test_error_is(KMSENV_R_OUTPUT_TOO_SMALL));

    n = 0;
    ok = ok && TEST_int_le(EVP_PKEY_decapsulate(ctx, secret, &n, w.bytes, w.len), 0) && TEST_true(kmsenv_test_error_is(KMSENV_R_OUTPUT_TOO_SMALL));
    n = 31;
    ok = ok && TEST_int_le(EVP_PKEY_decapsulate(ctx, secret, &n, w.bytes, w.len), 0)
         && TEST_true(kmsenv_test_error_says(KMSENV_R_OUTPUT_TOO_SMALL, "31|32"));
    n = sizeof(exact);
    ok = ok && TEST_int_gt(EVP_PKEY_decapsulate(ctx, exact, &n, w.bytes, w.len), 0) && TEST_mem_eq(exact, n, w.secret, w.secret_len)
         && TEST_true(kmsenv_test_no_error());
    EVP_PKEY_CTX_free(ctx);
    kmsenv_test_guarded_free(secret, 31);
    return ok;
}

/* --- ciphertexts ---------------------------------------------------------- */

static int refused(EVP_PKEY_CTX *ctx, const unsigned char *in, size_t len, int reason)
{
    unsigned char secret[4096];
    size_t n = sizeof(secret);
    int ok;

    memset(secret, 0, sizeof(secret));
    ok = TEST_int_le(EVP_PKEY_decapsulate(ctx, secret, &n, in, len), 0) && TEST_true(kmsenv_test_error_is(reason));
    for (n = 0; n < sizeof(secret); n++)
        ok = ok && TEST_int_eq(secret[n], 0);
    return ok;
}

/* Cut anywhere, and altered anywhere: one error of ours each, nothing in the output. */
static int test_damaged(void)
{
    EVP_PKEY_CTX *ctx = ready(0, NULL);
    unsigned char *cut;
    WRAPPED w;
    size_t i;
    int ok = TEST_ptr(ctx) && make(NULL, &w);

    for (i = 1; ok && i < w.len; i++) {
        cut = kmsenv_test_guarded(i);
        memcpy(cut, w.bytes, i);
        ok = refused(ctx, cut, i, KMSENV_R_KMS_WRAP_REJECTED);
        kmsenv_test_guarded_free(cut, i);
    }
    for (i = 0; ok && i < w.len; i++) {
        w.bytes[i] ^= 1;
        ok = refused(ctx, w.bytes, w.len, KMSENV_R_KMS_WRAP_REJECTED);
        w.bytes[i] ^= 1;
    }
    ok = ok && refused(ctx, w.bytes, w.len + 1, KMSENV_R_KMS_WRAP_REJECTED);
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

/* Too long for any KMS: nobody is asked. NULL and empty ones end in libcrypto. */
static int test_too_long(void)
{
    static unsigned char large[1 << 20];
    uint64_t before = kms_calls();
    EVP_PKEY_CTX *ctx = ready(0, NULL);
    size_t n = 0;
    int ok = TEST_ptr(ctx) && refused(ctx, large, 16385, KMSENV_R_KMS_WRAP_REJECTED)
             && refused(ctx, large, sizeof(large), KMSENV_R_KMS_WRAP_REJECTED) && TEST_int_le(EVP_PKEY_decapsulate(ctx, NULL, &n, NULL, 0), 0)
             && TEST_int_le(EVP_PKEY_decapsulate(ctx, large, &n, large, 0), 0) && TEST_size_t_eq(kms_calls(), before);

    ERR_clear_error();
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static const struct { const char *made, *asked; int opens; } contexts[] = {
    { NULL, NULL, 1 }, { "a=b", "a=b", 1 }, { "a=b,c=d", "c=d,a=b", 1 }, { "", NULL, 1 },
    { "a=b", NULL, 0 }, { NULL, "a=b", 0 }, { "a=b", "a=c", 0 }, { "a=b", "a=b,c=d", 0 }, { "a=b,c=d", "a=b", 0 }
};

/* The context is bound by the KMS; it can be given at init and later. */
static int test_context(int i)
{
    EVP_PKEY_CTX *ctx = ready(0, NULL);
    unsigned char back[64];
    size_t n = sizeof(back);
    WRAPPED w;
    int ok = TEST_ptr(ctx) && make(contexts[i].made, &w)
             && (contexts[i].asked == NULL || TEST_int_gt(EVP_PKEY_CTX_ctrl_str(ctx, "context", contexts[i].asked), 0));

    if (contexts[i].opens)
        ok = ok && TEST_int_gt(EVP_PKEY_decapsulate(ctx, back, &n, w.bytes, w.len), 0) && TEST_mem_eq(back, n, w.secret, w.secret_len)
             && TEST_true(kmsenv_test_no_error());
    else
        ok = ok && refused(ctx, w.bytes, w.len, KMSENV_R_KMS_WRAP_REJECTED);
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

/* Another master key's, which the profile could use, but was not told to. */
static int test_foreign(void)
{
    EVP_PKEY *own = pkey, *other = kmsenv_test_load(t, "kms:other");
    EVP_PKEY_CTX *ctx = ready(0, NULL);
    WRAPPED w = { { 0 }, { 0 }, 0, 0 };
    int ok = TEST_ptr(ctx) && TEST_ptr(pkey = other) && make(NULL, &w);

    pkey = own;
    ok = ok && refused(ctx, w.bytes, w.len, KMSENV_R_KMS_WRAP_REJECTED);
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(other);
    return ok;
}

/* --- contexts ------------------------------------------------------------- */

/* One call of the KMS for each, and one for nothing else; every secret is a new one; a context serves for many, and in copies. */
static int test_calls(void)
{
    uint64_t before = kms_calls();
    EVP_PKEY_CTX *one = ready(1, NULL), *copy = NULL, *back = ready(0, NULL);
    size_t n = 64;
    WRAPPED a, b;
    unsigned char secret[64];
    int ok = TEST_ptr(one) && TEST_ptr(back) && TEST_ptr(copy = EVP_PKEY_CTX_dup(one)) && TEST_size_t_eq(kms_calls(), before);

    EVP_PKEY_CTX_free(one);
    ok = ok && TEST_true(encapsulate(copy, &a)) && TEST_true(encapsulate(copy, &b)) && TEST_mem_ne(a.secret, 32, b.secret, 32)
         && TEST_size_t_eq(kms_calls() - before, 2) && TEST_int_gt(EVP_PKEY_decapsulate(back, secret, &n, b.bytes, b.len), 0)
         && TEST_mem_eq(secret, n, b.secret, b.secret_len) && TEST_size_t_eq(kms_calls() - before, 3) && TEST_true(kmsenv_test_no_error());
    EVP_PKEY_CTX_free(copy);
    EVP_PKEY_CTX_free(back);
    return ok;
}

/* Without init, for the other operation, and with an authentication key, of which there is none: no crash, no call. */
static int test_wrong_order(void)
{
    uint64_t before = kms_calls();
    EVP_PKEY_CTX *none = EVP_PKEY_CTX_new_from_pkey(t->libctx, pkey, NULL), *one = ready(1, NULL);
    unsigned char secret[64];
    size_t n = sizeof(secret);
    WRAPPED w;
    int ok = TEST_false(encapsulate(none, &w)) && TEST_int_le(EVP_PKEY_decapsulate(one, secret, &n, secret, n), 0);

#if OPENSSL_VERSION_NUMBER >= 0x30200000L
    ok = ok && TEST_int_le(EVP_PKEY_auth_encapsulate_init(none, pkey, NULL), 0);
#endif
    ok = ok && TEST_size_t_eq(kms_calls(), before);
    ERR_clear_error();
    EVP_PKEY_CTX_free(none);
    EVP_PKEY_CTX_free(one);
    return ok;
}

/* --- memory --------------------------------------------------------------- */

/* What was in blocks when they were freed. */
static unsigned char *freed;
static size_t freed_len;
#define FREED_MAX (8 << 20)

static void *keep_malloc(size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    return malloc(n);
}

static void keep_free(void *p, const char *file, int line)
{
    size_t n = p == NULL ? 0 : malloc_usable_size(p);

    (void)file;
    (void)line;
    if (p != NULL && freed != NULL && n <= FREED_MAX - freed_len) {
        memcpy(freed + freed_len, p, n);
        freed_len += n;
    }
    free(p);
}

/* Never in place, so that what would be left behind is seen. */
static void *keep_realloc(void *p, size_t n, const char *file, int line)
{
    size_t old = p == NULL ? 0 : malloc_usable_size(p);
    void *q = n == 0 ? NULL : malloc(n);

    if (p != NULL && (q != NULL || n == 0)) {
        if (q != NULL)
            memcpy(q, p, old < n ? old : n);
        keep_free(p, file, line);
    }
    return q;
}

/* Before anything is allocated, or libcrypto refuses. */
static __attribute__((constructor)) void watch_memory(void)
{
    if (!CRYPTO_set_mem_functions(keep_malloc, keep_realloc, keep_free))
        abort();
}

static WRAPPED *made;                 /* not on the stack that is looked through */

static void *encapsulate_there(void *arg)
{
    EVP_PKEY_CTX *ctx = ready(1, NULL);

    made->secret_len = 0;
    if (ctx != NULL)
        encapsulate(ctx, made);
    EVP_PKEY_CTX_free(ctx);
    return arg;
}

static void *decapsulate_there(void *arg)
{
    EVP_PKEY_CTX *ctx = ready(0, NULL);
    size_t n = sizeof(made->secret);

    if (ctx == NULL || EVP_PKEY_decapsulate(ctx, made->secret, &n, made->bytes, made->len) <= 0)
        made->secret_len = 0;
    EVP_PKEY_CTX_free(ctx);
    return arg;
}

/* In a thread, whose stack is looked through afterwards; so is everything that was freed meanwhile. */
static int leaves_nothing(void *(*what)(void *))
{
    unsigned char *stack = NULL, *blocks = malloc(FREED_MAX);
    pthread_attr_t attr;
    pthread_t thread;
    int ok;

    if (!TEST_ptr(blocks) || posix_memalign((void **)&stack, 4096, STACK_LEN) != 0)
        return 0;
    memset(stack, 0, STACK_LEN);
    pthread_attr_init(&attr);
    pthread_attr_setstack(&attr, stack, STACK_LEN);
    freed_len = 0;
    freed = blocks;
    ok = TEST_int_eq(pthread_create(&thread, &attr, what, NULL), 0) && TEST_int_eq(pthread_join(thread, NULL), 0);
    freed = NULL;
    ok = ok && TEST_size_t_eq(made->secret_len, 32) && TEST_size_t_gt(freed_len, 1000)
         && TEST_ptr_null(memmem(blocks, freed_len, made->secret, 16)) && TEST_ptr_null(memmem(blocks, freed_len, made->secret + 16, 16))
         && TEST_ptr_null(memmem(stack, STACK_LEN, made->secret, 16)) && TEST_ptr_null(memmem(stack, STACK_LEN, made->secret + 16, 16));
    pthread_attr_destroy(&attr);
    free(blocks);
    free(stack);
    return ok;
}

/* The watch sees what it should see. */
static void *leave_something(void *arg)
{
    unsigned char *p = OPENSSL_malloc(2000);

    memcpy(p, made->secret, 32);
    OPENSSL_free(p);
    return arg;
}

static int test_residue(void)
{
    int ok;

    if (!TEST_ptr(made = calloc(1, sizeof(*made))))
        return 0;
    ok = make(NULL, made) && leaves_nothing(encapsulate_there) && leaves_nothing(decapsulate_there);
    freed_len = 0;
    freed = malloc(FREED_MAX);
    leave_something(NULL);
    ok = ok && TEST_ptr(memmem(freed, freed_len, made->secret, 16));
    free(freed);
    freed = NULL;
    free(made);
    return ok;
}

int setup_tests(void)
{
    if (!TEST_ptr(t = kmsenv_test_new("profiles = main, other\nmain = kms_main\nother = kms_other\n"
                                      "[kms_main]\nkms = local\nkey-file = @/a.pem\n[kms_other]\nkms = local\nkey-file = @/b.pem\n"))
            || !TEST_ptr(pkey = kmsenv_test_load(t, "kms:main")))
        return 0;
    ADD_ALL_TESTS(test_wrong_length, COUNT(wrong_lengths));
    ADD_ALL_TESTS(test_wrong_parameter, COUNT(wrong));
    ADD_TEST(test_settable);
    ADD_TEST(test_encapsulate_buffers);
    ADD_TEST(test_decapsulate_buffers);
    ADD_TEST(test_damaged);
    ADD_TEST(test_too_long);
    ADD_ALL_TESTS(test_context, COUNT(contexts));
    ADD_TEST(test_foreign);
    ADD_TEST(test_calls);
    ADD_TEST(test_wrong_order);
    ADD_TEST(test_residue);
    return 1;
}

void cleanup_tests(void)
{
    EVP_PKEY_free(pkey);
    kmsenv_test_free(t);
}
