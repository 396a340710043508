/*
 * Many threads keyed by reference: cold starts in two library contexts, re-keying, copies, refused references, data keys
 * that expire, a keyring that changes meanwhile, forks. Also run under ThreadSanitizer.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include "testutil.h"
#include "kmsenv_test.h"

#define THREADS  6
#define KEYS     4           /* the last one has 128 bits: its reference is searched for by the beginning of the id */
#define LEN      48
#define TAG      32
#define SETTINGS KMSENV_TEST_LOCAL "keyring = @/keys\nkey-references = yes\n"

/* A data key and what it makes of zeros: encrypted, and their HMAC. */
typedef struct known_st {
    const char *cipher;
    unsigned char reference[32], output[LEN], tag[TAG];
} KNOWN;

static KNOWN known[KEYS];
static KNOWN plain = { "AES-256-CTR", "an ordinary key, no reference..", { 0 }, { 0 } };
static const unsigned char nothing[32] = "kmsenv:\x01no such data key at all";
static KMSENV_TEST *base;

typedef struct worker_st {
    pthread_t thread;
    OSSL_LIB_CTX *libctx;
    int rounds;
    atomic_int *stop;          /* NULL, or: go on until set */
    int tolerant;              /* known[0] comes and goes */
    int done, missing, ok;
} WORKER;

/* No TEST_ macros in what threads and children call: the test library is not made for them. */

/* Returns 1 for the right output, 0 for none with an error of ours, -1 for anything else. */
static int use(EVP_CIPHER_CTX *ctx, const EVP_CIPHER *cipher, const KNOWN *k)
{
    static const unsigned char iv[16] = { 0 }, in[LEN] = { 0 };
    unsigned char out[LEN];
    int n = 0;

    if (!EVP_EncryptInit_ex2(ctx, cipher, k->reference, iv, NULL))
        return ERR_GET_REASON(ERR_peek_last_error()) == KMSENV_R_DATA_KEY_NOT_FOUND
               && !EVP_EncryptUpdate(ctx, out, &n, in, LEN) ? 0 : -1;
    return EVP_EncryptUpdate(ctx, out, &n, in, LEN) && n == LEN && memcmp(out, k->output, LEN) == 0 ? 1 : -1;
}

static EVP_CIPHER *fetch(OSSL_LIB_CTX *libctx, const KNOWN *k)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(libctx, k->cipher, NULL);

    if (cipher == NULL || strcmp(OSSL_PROVIDER_get0_name(EVP_CIPHER_get0_provider(cipher)), "kmsenv") == 0)
        return cipher;
    EVP_CIPHER_free(cipher);
    return NULL;
}

static int use_fresh(OSSL_LIB_CTX *libctx, const KNOWN *k)
{
    EVP_CIPHER *cipher = fetch(libctx, k);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int result = cipher == NULL || ctx == NULL ? -1 : use(ctx, cipher, k);

    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
    return result;
}

/* A copy is keyed anew, and used after what it was copied from is gone. */
static int use_copy(EVP_CIPHER_CTX *from, const KNOWN *other)
{
    EVP_CIPHER_CTX *one = EVP_CIPHER_CTX_new(), *two = EVP_CIPHER_CTX_new();
    int result = -1;

    if (EVP_CIPHER_CTX_copy(one, from) && EVP_CIPHER_CTX_copy(two, one)) {
        EVP_CIPHER_CTX_free(one);
        one = NULL;
        result = use(two, NULL, other);
    }
    EVP_CIPHER_CTX_free(one);
    EVP_CIPHER_CTX_free(two);
    return result;
}

/* A reference to nothing: no output, not even under the key of before, and not after another init without a key. */
static int use_nothing(EVP_CIPHER_CTX *ctx)
{
    static const unsigned char iv[16] = { 0 };
    unsigned char out[LEN], in[LEN] = { 0 };
    int n = 0, ok;

    ok = !EVP_EncryptInit_ex2(ctx, NULL, nothing, iv, NULL) && EVP_EncryptInit_ex2(ctx, NULL, NULL, iv, NULL)
         && !EVP_EncryptUpdate(ctx, out, &n, in, LEN);
    ERR_clear_error();
    return ok ? use(ctx, NULL, &plain) : -1;
}

static EVP_MAC_CTX *new_hmac(OSSL_LIB_CTX *libctx)
{
    EVP_MAC *mac = EVP_MAC_fetch(libctx, "HMAC", NULL);
    EVP_MAC_CTX *ctx = NULL;

    if (mac != NULL && strcmp(OSSL_PROVIDER_get0_name(EVP_MAC_get0_provider(mac)), "kmsenv") == 0)
        ctx = EVP_MAC_CTX_new(mac);
    EVP_MAC_free(mac);
    return ctx;
}

/* The key as an argument; or as a parameter, and the work done by a copy. Returns as use(). */
static int use_mac(OSSL_LIB_CTX *libctx, const KNOWN *k, int copied, unsigned char tag[TAG])
{
    static const unsigned char in[LEN] = { 0 };
    const size_t keylen = strstr(k->cipher, "128") != NULL ? 16 : 32;
    OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0), OSSL_PARAM_construct_end(),
                            OSSL_PARAM_construct_end() };
    EVP_MAC_CTX *ctx = new_hmac(libctx), *copy = NULL;
    int ok = ctx != NULL, known_one = 1;
    size_t n = 0;

    if (copied)
        params[1] = OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)k->reference, keylen);
    if (ok && !EVP_MAC_init(ctx, copied ? NULL : k->reference, copied ? 0 : keylen, params)) {
        known_one = 0;
        ok = ERR_GET_REASON(ERR_peek_last_error()) == KMSENV_R_DATA_KEY_NOT_FOUND && !EVP_MAC_update(ctx, in, LEN);
    } else if (ok) {
        copy = EVP_MAC_CTX_dup(ctx);
        ok = copy != NULL && EVP_MAC_update(copied ? copy : ctx, in, LEN) && EVP_MAC_final(copied ? copy : ctx, tag, &n, TAG) && n == TAG;
    }
    EVP_MAC_CTX_free(ctx);
    EVP_MAC_CTX_free(copy);
    return ok ? known_one : -1;
}

static int authenticate(OSSL_LIB_CTX *libctx, const KNOWN *k, int copied)
{
    unsigned char tag[TAG];
    int result = use_mac(libctx, k, copied, tag);

    return result != 1 || memcmp(tag, k->tag, TAG) == 0 ? result : -1;
}

static int one_round(WORKER *w, EVP_CIPHER_CTX *ctx, int i)
{
    const KNOWN *k = &known[(i / 5) % (KEYS - 1)];
    int result;

    switch (i % 5) {
    case 0:
        return use_fresh(w->libctx, &known[(i / 5) % KEYS]);
    case 1:
        return use(ctx, NULL, k);
    case 2:
        return (result = use(ctx, NULL, &known[1])) == 1 ? use_copy(ctx, k) : result;
    case 3:
        return authenticate(w->libctx, i % 10 < 5 ? &known[(i / 5) % KEYS] : &plain, (i / 10) % 2);
    default:
        return use_nothing(ctx);
    }
}

static void *work(void *arg)
{
    WORKER *w = arg;
    EVP_CIPHER *cipher = fetch(w->libctx, &known[0]);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int i, result;

    w->ok = cipher != NULL && ctx != NULL && EVP_EncryptInit_ex2(ctx, cipher, NULL, NULL, NULL);
    for (i = 0; w->ok && (w->stop != NULL ? !atomic_load(w->stop) : i < w->rounds); i++) {
        result = one_round(w, ctx, i);
        w->ok = result == 1 ? ERR_peek_error() == 0 : result == 0 && w->tolerant;
        w->done += result == 1;
        w->missing += result == 0;
        ERR_clear_error();
    }
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
    return NULL;
}

static int start(WORKER *w, OSSL_LIB_CTX *libctx, int rounds, atomic_int *stop, int tolerant)
{
    memset(w, 0, sizeof(*w));
    w->libctx = libctx;
    w->rounds = rounds;
    w->stop = stop;
    w->tolerant = tolerant;
    return TEST_int_eq(pthread_create(&w->thread, NULL, work, w), 0);
}

static int join(WORKER *w, int n)
{
    int i, ok = 1;

    for (i = 0; i < n; i++) {
        pthread_join(w[i].thread, NULL);
        ok = TEST_true(w[i].ok) && TEST_int_gt(w[i].done, 0) && ok;
    }
    return ok;
}

static KMSENV_TEST *another(const char *settings)
{
    KMSENV_TEST_SETUP setup = { settings, "?provider=kmsenv", 0, base };

    return kmsenv_test_new_ex(&setup);
}

/* Nobody has asked these two for a cipher before: their tables are made by all threads at once. */
static int test_cold_start(int round)
{
    KMSENV_TEST *t[2] = { another(SETTINGS), another(SETTINGS) };
    WORKER w[THREADS];
    int i, ok = TEST_ptr(t[0]) && TEST_ptr(t[1]);

    (void)round;
    for (i = 0; ok && i < THREADS; i++)
        ok = start(&w[i], t[i % 2]->libctx, 40, NULL, 0);
    ok = i > 0 && join(w, i) && ok;
    kmsenv_test_free(t[0]);
    kmsenv_test_free(t[1]);
    return ok;
}

static void keyring_path(const KNOWN *k, const char *suffix, char out[160])
{
    int i, n = sprintf(out, "%s/keys/", base->dir);

    for (i = 8; i < 32; i++)
        n += sprintf(out + n, "%02x", k->reference[i]);
    strcpy(out + n, suffix);
}

/* Data keys live for one second; the file of one of them is away half of the time. The output is right, or there is none. */
static int test_expiry_and_changes(void)
{
    KMSENV_TEST *t = another(SETTINGS "dek-max-age = 1\n");
    char path[160], away[160];
    atomic_int stop = 0;
    WORKER w[THREADS];
    int i, n, missing = 0, ok = TEST_ptr(t);
    uint64_t calls;

    keyring_path(&known[0], ".pem", path);
    keyring_path(&known[0], ".away", away);
    for (n = 0; ok && n < THREADS; n++)
        ok = start(&w[n], t->libctx, 0, &stop, 1);
    for (i = 0; ok && i < 10; i++) {
        usleep(400000);
        ok = TEST_int_eq(i % 2 == 0 ? rename(path, away) : rename(away, path), 0);
    }
    atomic_store(&stop, 1);
    ok = n > 0 && join(w, n) && ok;
    for (i = 0; i < n; i++)
        missing += w[i].missing;
    calls = t == NULL ? 0 : kmsenv_test_counter(t, "kmsenv.kms-calls");
    TEST_info("%d times missing, %d calls of the KMS", missing, (int)calls);
    kmsenv_test_free(t);
    return ok && TEST_size_t_ge(calls, 2 * KEYS) && TEST_size_t_le(calls, 400);
}

static int child_succeeded(pid_t pid)
{
    int status = 0;

    return TEST_int_gt(pid, 0) && TEST_int_eq(waitpid(pid, &status, 0), pid) && TEST_true(WIFEXITED(status))
           && TEST_int_eq(WEXITSTATUS(status), 0);
}

/* Children made before the first use and after it, of a process with one thread. */
static int test_fork(int used_before)
{
    KMSENV_TEST *t = another(SETTINGS);
    pid_t children[3];
    int i, k, ok = TEST_ptr(t) && (!used_before || TEST_int_eq(use_fresh(t->libctx, &known[0]), 1));

    if (!ok)
        return 0;
    for (i = 0; i < 3; i++) {
        if ((children[i] = fork()) != 0)
            continue;
        alarm(60);
        for (k = 0; ok && k < KEYS; k++)
            ok = use_fresh(t->libctx, &known[k]) == 1 && authenticate(t->libctx, &known[k], k % 2) == 1;
        _exit(ok ? 0 : 1);
    }
    for (k = 0; k < KEYS; k++)
        ok = TEST_int_eq(use_fresh(t->libctx, &known[k]), 1) && ok;
    for (i = 0; i < 3; i++)
        ok = child_succeeded(children[i]) && ok;
    kmsenv_test_free(t);
    return ok;
}

#ifndef __SANITIZE_ADDRESS__
/* As in threads_provider_test.c: no lock of ours is left taken. libcrypto's own may be, so the child fetches nothing. */
static int test_fork_among_threads(void)
{
    EVP_CIPHER *cipher = fetch(base->libctx, &known[0]);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    atomic_int stop = 0;
    WORKER w[4];
    pid_t pid;
    int i, k, n, ok = TEST_ptr(cipher) && TEST_int_eq(use(ctx, cipher, &known[1]), 1) && TEST_int_eq(use(ctx, NULL, &known[2]), 1);

    for (n = 0; ok && n < 4; n++)
        ok = start(&w[n], base->libctx, 0, &stop, 0);
    for (i = 0; ok && i < 20; i++) {
        if ((pid = fork()) == 0) {
            alarm(60);
            for (k = 0; ok && k < 20; k++)
                ok = use(ctx, NULL, &known[1 + k % 2]) == 1;
            _exit(ok ? 0 : 1);
        }
        ok = child_succeeded(pid);
    }
    atomic_store(&stop, 1);
    ok = n > 0 && join(w, n) && ok;
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
    return ok;
}
#endif

/* --- data keys ------------------------------------------------------------ */

static int make_known(KNOWN *k, size_t bits)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(base->libctx, KMSENV_KEYMGMT_DATA_KEY, NULL);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_size_t(KMSENV_PKEY_PARAM_BITS, &bits),
        OSSL_PARAM_construct_utf8_string(KMSENV_PKEY_PARAM_KEYRING, (char *)"yes", 0), OSSL_PARAM_construct_end()
    };
    EVP_PKEY *pkey = NULL;
    size_t n;
    int ok;

    k->cipher = bits == 128 ? "AES-128-CTR" : "AES-256-CTR";
    ok = TEST_ptr(ctx) && TEST_int_gt(EVP_PKEY_keygen_init(ctx), 0) && TEST_true(EVP_PKEY_CTX_set_params(ctx, params))
         && TEST_int_gt(EVP_PKEY_keygen(ctx, &pkey), 0)
         && TEST_true(EVP_PKEY_get_octet_string_param(pkey, KMSENV_PKEY_PARAM_REFERENCE, k->reference, sizeof(k->reference), &n));
    EVP_PKEY_free(pkey);
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static int make_output(KNOWN *k)
{
    static const unsigned char iv[16] = { 0 }, in[LEN] = { 0 };
    EVP_CIPHER *cipher = fetch(base->libctx, k);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n = 0, ok = TEST_ptr(cipher) && TEST_true(EVP_EncryptInit_ex2(ctx, cipher, k->reference, iv, NULL))
                    && TEST_true(EVP_EncryptUpdate(ctx, k->output, &n, in, LEN)) && TEST_int_eq(n, LEN)
                    && TEST_int_eq(use_mac(base->libctx, k, 0, k->tag), 1);

    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
    return ok;
}

int setup_tests(void)
{
    static const KMSENV_TEST_SETUP setup = { SETTINGS, "?provider=kmsenv", 0, NULL };
    int i;

    if (!TEST_ptr(base = kmsenv_test_new_ex(&setup)))
        return 0;
    for (i = 0; i < KEYS; i++)
        if (!make_known(&known[i], i == KEYS - 1 ? 128 : 256) || !make_output(&known[i]))
            return 0;
    if (!make_output(&plain) || !TEST_mem_ne(known[0].output, LEN, known[1].output, LEN))
        return 0;
    ADD_ALL_TESTS(test_cold_start, 8);
    ADD_TEST(test_expiry_and_changes);
    ADD_ALL_TESTS(test_fork, 2);
#ifndef __SANITIZE_ADDRESS__
    ADD_TEST(test_fork_among_threads);
#endif
    return 1;
}

void cleanup_tests(void)
{
    kmsenv_test_free(base);
}
