/* One provider, many threads; forks before and after first use; counters that add up. Also run under ThreadSanitizer. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <openssl/err.h>
#include "testutil.h"
#include "kmsenv/format.h"
#include "kmsenv_der.h"
#include "kmsenv_test.h"

#define THREADS  8
#define MESSAGES 150   /* of each thread */
#define LEN      3000

static unsigned char data[LEN];

typedef struct worker_st {
    pthread_t thread;
    const KMSENV_TEST *t;
    int open_too;
    int messages;
    int ok;
    unsigned long error;          /* of the thread's own queue */
    atomic_int *stop;             /* NULL, or: go on until set */
    const EVP_CIPHER *cipher;     /* NULL: fetched for each message */
    const EVP_CIPHER_CTX *pattern;
} WORKER;

/* No TEST_ macros in threads: the test library is not made for them. */
static int message_with(const EVP_CIPHER *cipher, int open_too)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    unsigned char sealed[LEN + 1024], opened[LEN + 2048];
    int a = 0, b = 0, c = 0, d = 0, ok;

    ok = cipher != NULL && ctx != NULL && EVP_CipherInit_ex2(ctx, cipher, NULL, NULL, 1, NULL)
        && EVP_CipherUpdate(ctx, sealed, &a, data, LEN) && EVP_CipherFinal_ex(ctx, sealed + a, &b);
    if (ok && open_too)
        ok = EVP_CipherInit_ex2(ctx, NULL, NULL, NULL, 0, NULL)
            && EVP_CipherUpdate(ctx, opened, &c, sealed, a + b) && EVP_CipherFinal_ex(ctx, opened + c, &d)
            && c + d == LEN && memcmp(opened, data, LEN) == 0;
    EVP_CIPHER_CTX_free(ctx);
    return ok;
}

static int one_message(const KMSENV_TEST *t, int open_too)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(t->libctx, KMSENV_CIPHER_ENVELOPE, NULL);
    int ok = message_with(cipher, open_too);

    EVP_CIPHER_free(cipher);
    return ok;
}

static void *work(void *arg)
{
    WORKER *w = arg;
    int i;

    w->ok = 1;
    for (i = 0; w->ok && (w->stop != NULL ? !atomic_load(w->stop) : i < w->messages); i++)
        w->ok = w->cipher != NULL ? message_with(w->cipher, w->open_too) : one_message(w->t, w->open_too);
    w->error = ERR_peek_error();
    return NULL;
}

static int start(WORKER *w, int n, const KMSENV_TEST *t, const EVP_CIPHER *cipher, int messages, int open_too,
                 atomic_int *stop)
{
    int i;

    memset(w, 0, (size_t)n * sizeof(*w));
    for (i = 0; i < n; i++) {
        w[i].t = t;
        w[i].cipher = cipher;
        w[i].messages = messages;
        w[i].open_too = open_too;
        w[i].stop = stop;
        if (!TEST_int_eq(pthread_create(&w[i].thread, NULL, work, &w[i]), 0))
            return 0;
    }
    return 1;
}

static int join(WORKER *w, int n)
{
    int i, ok = 1;

    for (i = 0; i < n; i++) {
        pthread_join(w[i].thread, NULL);
        ok = TEST_true(w[i].ok) && TEST_ulong_eq(w[i].error, 0) && ok;
    }
    return ok;
}

/* A cold start of many threads at once asks the KMS once to encrypt and at most once to decrypt. */
static int test_threads_and_counters(void)
{
    const uint64_t n = THREADS * MESSAGES;
    KMSENV_TEST *t = kmsenv_test_new(KMSENV_TEST_LOCAL);
    WORKER w[THREADS];
    int ok = TEST_ptr(t)
        && TEST_size_t_eq(kmsenv_test_counter(t, "kmsenv.messages-sealed"), 0)
        && start(w, THREADS, t, NULL, MESSAGES, 1, NULL) && join(w, THREADS)
        && TEST_size_t_eq(kmsenv_test_counter(t, "kmsenv.messages-sealed"), n)
        && TEST_size_t_eq(kmsenv_test_counter(t, "kmsenv.messages-opened"), n)
        && TEST_size_t_eq(kmsenv_test_counter(t, "kmsenv.bytes-sealed"), n * LEN)
        && TEST_size_t_eq(kmsenv_test_counter(t, "kmsenv.bytes-opened"), n * LEN)
        && TEST_size_t_ge(kmsenv_test_counter(t, "kmsenv.kms-calls"), 1)
        && TEST_size_t_le(kmsenv_test_counter(t, "kmsenv.kms-calls"), 2)
        && TEST_size_t_eq(kmsenv_test_counter(t, "kmsenv.kms-failures"), 0)
        && TEST_size_t_eq(kmsenv_test_counter(t, "kmsenv.cache-hits")
                            + kmsenv_test_counter(t, "kmsenv.cache-misses"), 2 * n)
        && TEST_size_t_ge(kmsenv_test_counter(t, "kmsenv.cache-entries"), 1);

    kmsenv_test_free(t);
    return ok && kmsenv_test_no_error();
}

/* dek-max-messages: a data key for every 10 messages, whoever asks. */
static int test_message_limit(void)
{
    KMSENV_TEST *t = kmsenv_test_new(KMSENV_TEST_LOCAL "dek-max-messages = 10\n");
    WORKER w[4];
    uint64_t calls;
    int ok = TEST_ptr(t) && start(w, 4, t, NULL, 100, 0, NULL) && join(w, 4);

    calls = ok ? kmsenv_test_counter(t, "kmsenv.kms-calls") : 0;
    ok = ok && TEST_size_t_ge(calls, 40) && TEST_size_t_le(calls, 44);
    kmsenv_test_free(t);
    return ok;
}

/* dek-reuse = no: one data key, and one KMS call, per message. */
static int test_no_reuse(void)
{
    KMSENV_TEST *t = kmsenv_test_new(KMSENV_TEST_LOCAL "dek-reuse = no\n");
    WORKER w[4];
    int ok = TEST_ptr(t) && start(w, 4, t, NULL, 25, 0, NULL) && join(w, 4)
        && TEST_size_t_eq(kmsenv_test_counter(t, "kmsenv.kms-calls"), 100);

    kmsenv_test_free(t);
    return ok;
}

/* A small cache under pressure: wrong plaintext, a leak or a race would show. */
static int test_small_cache(void)
{
    KMSENV_TEST *t = kmsenv_test_new(KMSENV_TEST_LOCAL "cache-entries = 1\ndek-max-messages = 3\n");
    WORKER w[THREADS];
    int ok = TEST_ptr(t) && start(w, THREADS, t, NULL, 60, 1, NULL) && join(w, THREADS);

    kmsenv_test_free(t);
    return ok;
}

/* Waits for pid; 1 if it exited with 0 within its alarm. */
static int child_succeeded(pid_t pid)
{
    int status = 0;

    return TEST_int_eq(waitpid(pid, &status, 0), pid) && TEST_true(WIFEXITED(status))
        && TEST_int_eq(WEXITSTATUS(status), 0);
}

/* A child that makes and opens messages and leaves without cleaning up. */
static pid_t fork_worker(const KMSENV_TEST *t, int messages)
{
    pid_t pid = fork();
    int i, ok = 1;

    if (pid != 0)
        return pid;
    alarm(60);
    for (i = 0; ok && i < messages; i++)
        ok = one_message(t, 1);
    _exit(ok ? 0 : 1);
}

static int test_fork(int used_before)
{
    KMSENV_TEST *t = kmsenv_test_new(KMSENV_TEST_LOCAL);
    pid_t children[4];
    int i, ok = TEST_ptr(t) && (!used_before || TEST_true(one_message(t, 1)));

    if (!ok)
        return 0;
    for (i = 0; i < 4; i++)
        children[i] = fork_worker(t, 20);
    for (i = 0; ok && i < 20; i++)
        ok = TEST_true(one_message(t, 1));
    for (i = 0; i < 4; i++)
        ok = TEST_int_gt(children[i], 0) && child_succeeded(children[i]) && ok;
    kmsenv_test_free(t);
    return ok;
}

#ifndef __SANITIZE_ADDRESS__
/* A child that opens messages of different data keys. */
static pid_t fork_reader(const EVP_CIPHER *cipher, const KMSENV_TEST_BYTES *m, int messages)
{
    unsigned char room[LEN + 1024];
    pid_t pid = fork();
    int i, n = 0, ok = 1;

    if (pid != 0)
        return pid;
    alarm(60);
    for (i = 0; ok && i < messages; i++) {
        EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();

        ok = EVP_CipherInit_ex2(ctx, cipher, NULL, NULL, 0, NULL)
            && EVP_CipherUpdate(ctx, room, &n, m[i].data, (int)m[i].len) && EVP_CipherFinal_ex(ctx, room + n, &n);
        EVP_CIPHER_CTX_free(ctx);
    }
    _exit(ok ? 0 : 1);
}

/*
 * Forks while other threads are in the middle of everything: no lock of the provider may be left taken
 * in the child. libcrypto's own can be: a fetch and every random number take one. So the child opens
 * messages, with a cipher fetched before.
 */
static int test_fork_among_threads(void)
{
    KMSENV_TEST *t = kmsenv_test_new(KMSENV_TEST_LOCAL "dek-reuse = no\n");
    EVP_CIPHER *cipher = t == NULL ? NULL : EVP_CIPHER_fetch(t->libctx, KMSENV_CIPHER_ENVELOPE, NULL);
    KMSENV_TEST_BYTES m[10];
    WORKER w[4];
    atomic_int stop = 0;
    int i, started, ok = TEST_ptr(cipher);

    memset(m, 0, sizeof(m));
    for (i = 0; ok && i < 10; i++)
        ok = TEST_true(kmsenv_test_crypt(t, 1, data, LEN, &m[i]));
    started = ok = ok && start(w, 4, t, cipher, 0, 1, &stop);
    for (i = 0; ok && i < 20; i++)
        ok = child_succeeded(fork_reader(cipher, m, 10));
    atomic_store(&stop, 1);
    ok = started && join(w, 4) && ok;
    for (i = 0; i < 10; i++)
        kmsenv_test_bytes_reset(&m[i]);
    EVP_CIPHER_free(cipher);
    kmsenv_test_free(t);
    return ok;
}

#endif

/* The salt of a message of this process and of one of a child, made after the same state: they must differ. */
static int test_fork_salts_differ(void)
{
    KMSENV_TEST *t = kmsenv_test_new(KMSENV_TEST_LOCAL);
    KMSENV_TEST_BYTES mine = { NULL, 0 }, theirs = { NULL, 0 };
    KMSENV_DER a, b;
    unsigned char buf[1024];
    ssize_t n = 0;
    int fds[2], ok = TEST_ptr(t) && TEST_true(one_message(t, 0)) && TEST_int_eq(pipe(fds), 0);
    pid_t pid;

    if (!ok)
        return 0;
    if ((pid = fork()) == 0) {
        ok = kmsenv_test_crypt(t, 1, data, 10, &theirs)
            && write(fds[1], theirs.data, theirs.len) == (ssize_t)theirs.len;
        _exit(ok ? 0 : 1);
    }
    ok = TEST_true(kmsenv_test_crypt(t, 1, data, 10, &mine)) && child_succeeded(pid)
        && TEST_long_gt((long)(n = read(fds[0], buf, sizeof(buf))), 0);
    theirs.data = buf;
    theirs.len = (size_t)n;
    ok = ok && kmsenv_der_find(&mine, "20", &a) && kmsenv_der_find(&theirs, "20", &b)
        && TEST_mem_eq(mine.data + a.body, a.end - a.body, buf + b.body, b.end - b.body)   /* one data key */
        && kmsenv_der_find(&mine, "31", &a) && kmsenv_der_find(&theirs, "31", &b)
        && TEST_mem_ne(mine.data + a.body, a.end - a.body, buf + b.body, b.end - b.body);
    close(fds[0]);
    close(fds[1]);
    kmsenv_test_bytes_reset(&mine);
    kmsenv_test_free(t);
    return ok;
}

static void *load_and_use(void *arg)
{
    WORKER *w = arg;
    char path[80];
    int i;

    memcpy(path, w->t->dir, strlen(w->t->dir) + 1);
    memcpy(path + strlen(path), "/openssl.cnf", sizeof("/openssl.cnf"));
    w->ok = 1;
    for (i = 0; w->ok && i < w->messages; i++) {
        KMSENV_TEST own = { OSSL_LIB_CTX_new(), "", 0 };

        w->ok = own.libctx != NULL && OSSL_LIB_CTX_load_config(own.libctx, path) && one_message(&own, 1);
        OSSL_LIB_CTX_free(own.libctx);
    }
    w->error = ERR_peek_error();
    return NULL;
}

/* Providers come and go in many threads at the same time. */
static int test_load_in_threads(void)
{
    KMSENV_TEST *t = kmsenv_test_new(KMSENV_TEST_LOCAL);
    WORKER w[4];
    int i, started = 0, ok = TEST_ptr(t);

    memset(w, 0, sizeof(w));
    for (i = 0; ok && i < 4; i++) {
        w[i].t = t;
        w[i].messages = 15;
        ok = TEST_int_eq(pthread_create(&w[i].thread, NULL, load_and_use, &w[i]), 0);
        started += ok;
    }
    ok = join(w, started) && ok;
    kmsenv_test_free(t);
    return ok;
}

/* One context per thread from one that was set up before: copies share the data key. */
static void *use_copy(void *arg)
{
    WORKER *w = arg;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    unsigned char out[LEN + 1024];
    int i, n = 0, m = 0;

    w->ok = ctx != NULL;
    for (i = 0; w->ok && i < w->messages; i++)
        w->ok = EVP_CIPHER_CTX_copy(ctx, w->pattern)
            && EVP_CipherUpdate(ctx, out, &n, data, LEN) && EVP_CipherFinal_ex(ctx, out + n, &m);
    EVP_CIPHER_CTX_free(ctx);
    w->error = ERR_peek_error();
    return NULL;
}

static int test_copies_in_threads(void)
{
    KMSENV_TEST *t = kmsenv_test_new(KMSENV_TEST_LOCAL);
    EVP_CIPHER_CTX *pattern = t == NULL ? NULL : kmsenv_test_ctx(t, 1, NULL, NULL);
    WORKER w[4];
    int i, started = 0, ok = TEST_ptr(pattern);

    memset(w, 0, sizeof(w));
    for (i = 0; ok && i < 4; i++) {
        w[i].messages = 50;
        w[i].pattern = pattern;
        ok = TEST_int_eq(pthread_create(&w[i].thread, NULL, use_copy, &w[i]), 0);
        started += ok;
    }
    ok = join(w, started) && ok
        && TEST_size_t_eq(kmsenv_test_counter(t, "kmsenv.messages-sealed"), 200);
    EVP_CIPHER_CTX_free(pattern);
    kmsenv_test_free(t);
    return ok;
}

int setup_tests(void)
{
    kmsenv_test_fill(data, sizeof(data), 1);
    ADD_TEST(test_threads_and_counters);
    ADD_TEST(test_message_limit);
    ADD_TEST(test_no_reuse);
    ADD_TEST(test_small_cache);
    ADD_ALL_TESTS(test_fork, 2);
#ifndef __SANITIZE_ADDRESS__   /* the allocator of AddressSanitizer itself may be locked in such a child */
    ADD_TEST(test_fork_among_threads);
#endif
    ADD_TEST(test_fork_salts_differ);
    ADD_TEST(test_load_in_threads);
    ADD_TEST(test_copies_in_threads);
    return 1;
}
