/*
 * One symmetric key object in many threads, under ciphers by reference and the envelope: cold starts, data keys that expire, objects
 * made and freed meanwhile, forks. Also run under ThreadSanitizer.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include "testutil.h"
#include "kmsenv_skey.h"
#include "kmsenv_test.h"

#define THREADS  6
#define LEN      64
#define SETTINGS KMSENV_TEST_LOCAL "keyring = @/keys\n"

static KMSENV_TEST *base;
static EVP_SKEY *first;                /* its data key is in the keyring */
static char hex[65];
static unsigned char expected[LEN];

typedef struct worker_st {
    pthread_t thread;
    OSSL_LIB_CTX *libctx;
    EVP_SKEY *skey;
    int rounds, seconds, done, ok;
} WORKER;

/* No TEST_ macros in what threads and children call: the test library is not made for them. */

static EVP_SKEY *import_it(OSSL_LIB_CTX *libctx)
{
    OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_string(KMSENV_SKEY_PARAM_REFERENCE, hex, 0), OSSL_PARAM_construct_end() };

    return EVP_SKEY_import(libctx, KMSENV_CIPHER_ENVELOPE, NULL, OSSL_SKEYMGMT_SELECT_ALL, params);
}

static int use(EVP_CIPHER_CTX *ctx, const EVP_CIPHER *cipher, EVP_SKEY *skey)
{
    static const unsigned char iv[16] = { 0 }, in[LEN] = { 0 };
    unsigned char out[LEN];
    int n = 0;

    return EVP_CipherInit_SKEY(ctx, cipher, skey, iv, sizeof(iv), 1, NULL) && EVP_EncryptUpdate(ctx, out, &n, in, LEN) && n == LEN
           && memcmp(out, expected, LEN) == 0;
}

/* There and back. */
static int use_envelope(EVP_CIPHER_CTX *ctx, const EVP_CIPHER *cipher, EVP_SKEY *skey)
{
    unsigned char in[LEN] = { 0 }, message[LEN + 1024], out[LEN + 1024];
    int n = 0, last = 0, m = 0;

    return EVP_CipherInit_SKEY(ctx, cipher, skey, NULL, 0, 1, NULL) && EVP_CipherUpdate(ctx, message, &n, in, LEN)
           && EVP_CipherFinal_ex(ctx, message + n, &last) && EVP_CipherInit_SKEY(ctx, NULL, skey, NULL, 0, 0, NULL)
           && EVP_CipherUpdate(ctx, out, &m, message, n + last) && EVP_CipherFinal_ex(ctx, out + m, &n) && m + n == LEN
           && memcmp(in, out, LEN) == 0;
}

static int one_round(WORKER *w, EVP_CIPHER_CTX *ctx, EVP_CIPHER_CTX *envelope, int i)
{
    EVP_SKEY *own;
    int ok;

    if (i % 4 == 1)
        return use_envelope(envelope, NULL, w->skey);
    if (i % 4 != 3)
        return use(ctx, NULL, w->skey);
    own = import_it(w->libctx);
    ok = own != NULL && use(ctx, NULL, own);
    EVP_SKEY_free(own);
    return ok;
}

static void *work(void *arg)
{
    WORKER *w = arg;
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(w->libctx, "KMS-AES-256-CTR", NULL), *kms = EVP_CIPHER_fetch(w->libctx, KMSENV_CIPHER_ENVELOPE, NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new(), *envelope = EVP_CIPHER_CTX_new();
    time_t end = time(NULL) + w->seconds;
    int i;

    w->ok = cipher != NULL && kms != NULL && use(ctx, cipher, w->skey) && use_envelope(envelope, kms, w->skey);
    for (i = 0; w->ok && (w->seconds > 0 ? time(NULL) < end : i < w->rounds); i++) {
        w->ok = one_round(w, ctx, envelope, i) && ERR_peek_error() == 0;
        w->done++;
        if (w->seconds > 0)
            usleep(2000);
    }
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_CTX_free(envelope);
    EVP_CIPHER_free(cipher);
    EVP_CIPHER_free(kms);
    return NULL;
}

static int run(OSSL_LIB_CTX *libctx, EVP_SKEY *skey, int rounds, int seconds)
{
    WORKER w[THREADS];
    int i, n, ok = 1;

    for (n = 0; n < THREADS && ok; n++) {
        memset(&w[n], 0, sizeof(w[n]));
        w[n].libctx = libctx;
        w[n].skey = skey;
        w[n].rounds = rounds;
        w[n].seconds = seconds;
        ok = TEST_int_eq(pthread_create(&w[n].thread, NULL, work, &w[n]), 0);
    }
    if (!ok)
        n--;
    for (i = 0; i < n; i++) {
        pthread_join(w[i].thread, NULL);
        ok = TEST_true(w[i].ok) && TEST_int_gt(w[i].done, 0) && ok;
    }
    return ok;
}

static KMSENV_TEST *another(const char *settings)
{
    KMSENV_TEST_SETUP setup = { settings, NULL, 0, base };

    return kmsenv_test_new_ex(&setup);
}

/* All ask for the DEK at once, and one of them asks the KMS: for it, and for what the keyring's wraps of an envelope name. */
static int test_shared(int round)
{
    KMSENV_TEST *t = another(SETTINGS);
    EVP_SKEY *skey = t == NULL ? NULL : import_it(t->libctx);
    int ok = TEST_ptr(skey) && run(t->libctx, skey, 40 + round, 0) && TEST_size_t_eq(kmsenv_test_counter(t, "kmsenv.kms-calls"), 1);

    EVP_SKEY_free(skey);
    kmsenv_test_free(t);
    return ok;
}

/* Data keys live for one second. */
static int test_expiry(void)
{
    KMSENV_TEST *t = another(SETTINGS "dek-max-age = 1\n");
    EVP_SKEY *skey = t == NULL ? NULL : import_it(t->libctx);
    uint64_t calls;
    int ok = TEST_ptr(skey) && run(t->libctx, skey, 0, 4);

    calls = t == NULL ? 0 : kmsenv_test_counter(t, "kmsenv.kms-calls");
    EVP_SKEY_free(skey);
    kmsenv_test_free(t);
    return ok && TEST_size_t_ge(calls, 3) && TEST_size_t_le(calls, 40);
}

static int child_succeeded(pid_t pid)
{
    int status = 0;

    return TEST_int_gt(pid, 0) && TEST_int_eq(waitpid(pid, &status, 0), pid) && TEST_true(WIFEXITED(status))
           && TEST_int_eq(WEXITSTATUS(status), 0);
}

static int use_fresh(OSSL_LIB_CTX *libctx, EVP_SKEY *skey)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(libctx, "KMS-AES-256-CTR", NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int ok = cipher != NULL && use(ctx, cipher, skey);

    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
    return ok;
}

/* An object made before a fork, used before it or not, serves parent and children, which free it each for themselves. */
static int test_fork(int used_before)
{
    KMSENV_TEST *t = another(SETTINGS);
    EVP_SKEY *skey = t == NULL ? NULL : import_it(t->libctx);
    pid_t children[3];
    int i, ok = TEST_ptr(skey) && (!used_before || TEST_true(use_fresh(t->libctx, skey)));

    if (!ok)
        return 0;
    for (i = 0; i < 3; i++) {
        if ((children[i] = fork()) != 0)
            continue;
        alarm(60);
        ok = use_fresh(t->libctx, skey) && use_fresh(t->libctx, skey);
        EVP_SKEY_free(skey);
        _exit(ok ? 0 : 1);
    }
    ok = TEST_true(use_fresh(t->libctx, skey));
    for (i = 0; i < 3; i++)
        ok = child_succeeded(children[i]) && ok;
    EVP_SKEY_free(skey);
    kmsenv_test_free(t);
    return ok;
}

static int make_expected(void)
{
    static const unsigned char iv[16] = { 0 }, in[LEN] = { 0 };
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(base->libctx, "KMS-AES-256-CTR", NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n = 0, ok = TEST_true(EVP_CipherInit_SKEY(ctx, cipher, first, iv, sizeof(iv), 1, NULL))
                    && TEST_true(EVP_EncryptUpdate(ctx, expected, &n, in, LEN)) && TEST_int_eq(n, LEN) && TEST_mem_ne(expected, LEN, in, LEN);

    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
    return ok;
}

int setup_tests(void)
{
    if (!TEST_ptr(base = kmsenv_test_new(SETTINGS)) || !TEST_ptr(first = EVP_SKEY_generate(base->libctx, KMSENV_CIPHER_ENVELOPE, NULL, NULL))
            || !make_expected())
        return 0;
    memcpy(hex, EVP_SKEY_get0_key_id(first), 64);
    ADD_ALL_TESTS(test_shared, 4);
    ADD_TEST(test_expiry);
    ADD_ALL_TESTS(test_fork, 2);
    return 1;
}

void cleanup_tests(void)
{
    EVP_SKEY_free(first);
    kmsenv_test_free(base);
}
