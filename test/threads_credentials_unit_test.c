/* The keeper of credentials, with a source that does as it is told: one load for many threads, early refresh, old sets kept. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>
#include <sys/wait.h>
#include <openssl/crypto.h>
#include "testutil.h"
#include "core/clock.h"
#include "kms/credentials.h"

#define THREADS 8
#define NOW     1000000

static struct {
    atomic_int loads, result, slow_ms;
    _Atomic int64_t life;              /* seconds; 0 = for ever */
} fake;

static int fake_load(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    int n = atomic_fetch_add(&fake.loads, 1);
    int64_t life = atomic_load(&fake.life);
    char id[20];

    (void)arg;
    (void)deadline_ms;
    kmsenv_clock_sleep_ms((uint64_t)atomic_load(&fake.slow_ms));
    if (atomic_load(&fake.result) != KMSENV_SOURCE_FOUND) {
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "told to");
        return atomic_load(&fake.result);
    }
    BIO_snprintf(id, sizeof(id), "id%d", n);
    return kmsenv_credential_set(out, id, "secret", NULL, life == 0 ? 0 : now + life, err);
}

static int absent_load(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    (void)arg;
    (void)now;
    (void)deadline_ms;
    (void)out;
    kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "nothing here");
    return KMSENV_SOURCE_ABSENT;
}

static const KMSENV_CREDENTIAL_SOURCE chain[] = { { "first", absent_load }, { "second", fake_load }, { NULL, NULL } };

static KMSENV_CREDENTIALS *begin(int64_t life)
{
    atomic_store(&fake.loads, 0);
    atomic_store(&fake.slow_ms, 0);
    atomic_store(&fake.life, life);
    atomic_store(&fake.result, KMSENV_SOURCE_FOUND);
    return kmsenv_credentials_new(chain, "auto", "do something", NULL);
}

/* Is the set in use at that time the one with this id? NULL = there is none. */
static int has(KMSENV_CREDENTIALS *c, int64_t now, const char *id)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_CREDENTIAL *got = kmsenv_credentials_get1(c, NULL, now, kmsenv_clock_ms() + 2000, &err);
    int ok = TEST_str_eq(got == NULL ? NULL : got->id, id) && TEST_int_eq(err.reason != KMSENV_R_NONE, id == NULL);

    kmsenv_credential_release(c, got);
    return ok;
}

static int test_static(void)
{
    KMSENV_CREDENTIALS *c = begin(0);
    int ok = has(c, NOW, "id0") && has(c, NOW + 1000000000, "id0") && TEST_int_eq(fake.loads, 1);

    kmsenv_credentials_free(c);
    return ok;
}

/* 1000 s of life: a new set from second 700 on; if that fails, the old one until second 1000. */
static int test_refresh(void)
{
    KMSENV_CREDENTIALS *c = begin(1000);
    int ok = has(c, NOW, "id0") && has(c, NOW + 699, "id0") && TEST_int_eq(fake.loads, 1)
             && has(c, NOW + 700, "id1") && TEST_int_eq(fake.loads, 2);

    atomic_store(&fake.result, KMSENV_SOURCE_FAILED);
    ok = ok && has(c, NOW + 1400, "id1") && TEST_int_eq(fake.loads, 3)
         && has(c, NOW + 1401, "id1") && TEST_int_eq(fake.loads, 3)      /* not asked again at once */
         && has(c, NOW + 1700, NULL) && TEST_int_eq(fake.loads, 4);
    atomic_store(&fake.result, KMSENV_SOURCE_FOUND);
    ok = ok && has(c, NOW + 1700, "id4");
    kmsenv_credentials_free(c);
    return ok;
}

/* 400 s: half of its life, not the 300 s before the end. */
static int test_short_life(void)
{
    KMSENV_CREDENTIALS *c = begin(400);
    int ok = has(c, NOW, "id0") && has(c, NOW + 199, "id0") && has(c, NOW + 200, "id1");

    kmsenv_credentials_free(c);
    return ok;
}

static int test_rejected(void)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_CREDENTIALS *c = begin(0);
    uint64_t deadline = kmsenv_clock_ms() + 2000;
    KMSENV_CREDENTIAL *a = kmsenv_credentials_get1(c, NULL, NOW, deadline, &err), *b, *d;
    int ok;

    b = kmsenv_credentials_get1(c, a, NOW, deadline, &err);
    d = kmsenv_credentials_get1(c, a, NOW, deadline, &err);      /* somebody renewed it already */
    ok = TEST_ptr(a) && TEST_ptr(b) && TEST_str_eq(b->id, "id1") && TEST_ptr_eq(b, d) && TEST_int_eq(fake.loads, 2)
         && TEST_str_eq(a->secret, "secret");
    atomic_store(&fake.result, KMSENV_SOURCE_FAILED);
    ok = ok && TEST_ptr_null(kmsenv_credentials_get1(c, b, NOW, deadline, &err)) && has(c, NOW, "id1");
    kmsenv_credentials_forget(c, b);
    ok = ok && has(c, NOW, NULL);
    kmsenv_credential_release(c, a);
    kmsenv_credential_release(c, b);
    kmsenv_credential_release(c, d);
    kmsenv_credentials_free(c);
    return ok;
}

static int test_chain(void)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_CREDENTIALS *c = begin(0), *first = kmsenv_credentials_new(chain, "first", "do something", NULL);
    int ok;

    atomic_store(&fake.result, KMSENV_SOURCE_ABSENT);
    ok = TEST_ptr_null(kmsenv_credentials_get1(c, NULL, NOW, kmsenv_clock_ms() + 100, &err))
         && TEST_int_eq(err.reason, KMSENV_R_KMS_CREDENTIALS) && TEST_ptr(strstr(err.text, "do something"))
         && TEST_ptr(strstr(err.text, "first: nothing here")) && TEST_ptr(strstr(err.text, "second: told to"));
    atomic_store(&fake.result, KMSENV_SOURCE_FOUND);
    ok = ok && TEST_ptr_null(kmsenv_credentials_get1(first, NULL, NOW, kmsenv_clock_ms() + 100, &err))
         && TEST_ptr_null(strstr(err.text, "second"));
    kmsenv_credentials_free(c);
    kmsenv_credentials_free(first);
    return ok;
}

typedef struct thread_st { KMSENV_CREDENTIALS *c; int64_t now; int got; } THREAD;

static void *thread_main(void *arg)
{
    THREAD *t = arg;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_CREDENTIAL *got = kmsenv_credentials_get1(t->c, NULL, t->now, kmsenv_clock_ms() + 5000, &err);

    t->got = got != NULL;
    kmsenv_credential_release(t->c, got);
    return NULL;
}

/* All at once; how many came back with credentials. */
static int run_threads(KMSENV_CREDENTIALS *c, int64_t now)
{
    pthread_t id[THREADS];
    THREAD t[THREADS];
    int i, got = 0;

    for (i = 0; i < THREADS; i++) {
        t[i] = (THREAD){ c, now, 0 };
        if (!TEST_int_eq(pthread_create(&id[i], NULL, thread_main, &t[i]), 0))
            abort();
    }
    for (i = 0; i < THREADS; i++) {
        pthread_join(id[i], NULL);
        got += t[i].got;
    }
    return got;
}

static int test_single_flight(void)
{
    KMSENV_CREDENTIALS *c = begin(1000);
    uint64_t start;
    int ok;

    atomic_store(&fake.slow_ms, 200);
    ok = TEST_int_eq(run_threads(c, NOW), THREADS) && TEST_int_eq(fake.loads, 1)               /* none: all wait for one */
         && TEST_int_eq(run_threads(c, NOW + 800), THREADS) && TEST_int_eq(fake.loads, 2);     /* old: one renews, none waits */
    atomic_store(&fake.result, KMSENV_SOURCE_FAILED);
    start = kmsenv_clock_ms();
    ok = ok && TEST_int_eq(run_threads(c, NOW + 5000), 0) && TEST_int_eq(fake.loads, 3)        /* one failure is enough for all */
         && TEST_true(kmsenv_clock_ms() - start < 2000);
    kmsenv_credentials_free(c);
    return ok;
}

/* A fork() while another thread loads: the child does not wait for a thread that it does not have. */
static int test_fork(void)
{
    KMSENV_CREDENTIALS *c = begin(0);
    THREAD t = { c, NOW, 0 };
    pthread_t id;
    int status = 1;
    pid_t pid;

    atomic_store(&fake.slow_ms, 300);
    if (!TEST_int_eq(pthread_create(&id, NULL, thread_main, &t), 0))
        return 0;
    kmsenv_clock_sleep_ms(100);
    if ((pid = fork()) == 0) {
        alarm(10);
        _exit(!(has(c, NOW, "id1") || has(c, NOW, "id2")));
    }
    pthread_join(id, NULL);
    waitpid(pid, &status, 0);
    kmsenv_credentials_free(c);
    return TEST_int_eq(status, 0) && TEST_int_eq(t.got, 1);
}

int setup_tests(void)
{
    ADD_TEST(test_static);
    ADD_TEST(test_refresh);
    ADD_TEST(test_short_life);
    ADD_TEST(test_rejected);
    ADD_TEST(test_chain);
    ADD_TEST(test_single_flight);
    ADD_TEST(test_fork);
    return 1;
}
