/* The back end `local` used by many threads while its key is rotated under them. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "testutil.h"
#include "core/clock.h"
#include "core/crypto.h"
#include "kms/kms.h"
#include "kms/local_key.h"
#include "kms/registry.h"

#define THREADS   4
#define ROTATIONS 12

static char directory[] = "/tmp/kmsenv-threads-XXXXXX";
static char path[64];
static const KMSENV_CONTEXT no_context;

typedef struct shared_st {
    void *kms;
    atomic_int stop, rounds, failures;
} SHARED;

/* One wrap, opened again. */
static int one_round(void *kms)
{
    unsigned char dek[32], back[32];
    KMSENV_BLOB blob = { 0 };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_CALL call = { .context = &no_context, .err = &err };
    size_t len = sizeof(back);
    int ok;

    memset(dek, 0x5a, sizeof(dek));
    call.deadline_ms = kmsenv_clock_ms() + 60000;
    ok = kmsenv_kms_local.key_id(kms, &err) != NULL
        && kmsenv_kms_local.encrypt(kms, &call, dek, sizeof(dek), &blob)
        && kmsenv_kms_local.decrypt(kms, &call, &blob, back, &len)
        && len == sizeof(dek) && memcmp(dek, back, len) == 0;
    if (!ok)
        fprintf(stderr, "# %s\n", err.text);
    kmsenv_blob_reset(&blob);
    return ok;
}

static void *work(void *arg)
{
    SHARED *s = arg;

    while (!atomic_load(&s->stop)) {
        if (!one_round(s->kms))
            atomic_fetch_add(&s->failures, 1);
        atomic_fetch_add(&s->rounds, 1);
    }
    return NULL;
}

/* Rotates as the command does, with every thread at work in between; gives up after a minute. */
static int rotate_under(SHARED *s, KMSENV_CRYPTO *crypto)
{
    uint64_t deadline = kmsenv_clock_ms() + 60000;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    int i, before, ok = 1;

    for (i = 0; ok && i < ROTATIONS; i++) {
        before = atomic_load(&s->rounds);
        ok = TEST_true(kmsenv_local_key_rotate(path, crypto, &err));
        while (ok && atomic_load(&s->rounds) < before + 2 * THREADS) {
            ok = TEST_true(kmsenv_clock_ms() < deadline);
            kmsenv_clock_sleep_ms(1);
        }
    }
    if (!ok)
        TEST_info("error text: %s", err.text);
    return ok;
}

static int test_rotation_under_load(void)
{
    KMSENV_CRYPTO *crypto = kmsenv_crypto_new(NULL, NULL, "default");
    KMSENV_SERVICES services = { .crypto = crypto };
    KMSENV_SECTION *section = kmsenv_section_new("kms_test");
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    pthread_t thread[THREADS];
    SHARED s = { 0 };
    char state[40] = "", expected[40];
    KMSENV_CALL call = { .context = &no_context, .err = &err };
    int i, started = 0, ok;

    ok = TEST_ptr(crypto) && TEST_ptr(section) && TEST_true(kmsenv_local_key_create(path, crypto, &err))
        && TEST_true(kmsenv_section_add_table(section, kmsenv_kms_local.settings))
        && TEST_true(kmsenv_section_set(section, "key-file", path, &err))
        && TEST_ptr(s.kms = kmsenv_kms_local.new(section, &services, &err));
    for (i = 0; ok && i < THREADS; i++)
        if ((ok = TEST_int_eq(pthread_create(&thread[i], NULL, work, &s), 0)))
            started++;
    ok = ok && rotate_under(&s, crypto);
    atomic_store(&s.stop, 1);
    for (i = 0; i < started; i++)
        pthread_join(thread[i], NULL);
    snprintf(expected, sizeof(expected), "Enabled, version %d", ROTATIONS + 1);
    ok = ok && TEST_int_eq(atomic_load(&s.failures), 0) && TEST_int_ge(atomic_load(&s.rounds), ROTATIONS * THREADS)
        && TEST_true(kmsenv_kms_local.describe(s.kms, &call, state, sizeof(state))) && TEST_str_eq(state, expected);
    kmsenv_kms_local.free(s.kms);
    kmsenv_section_free(section);
    kmsenv_crypto_free(crypto);
    return ok;
}

int setup_tests(void)
{
    if (!TEST_ptr(mkdtemp(directory)))
        return 0;
    snprintf(path, sizeof(path), "%s/master.pem", directory);
    ADD_TEST(test_rotation_under_load);
    return 1;
}

void cleanup_tests(void)
{
    unlink(path);
    rmdir(directory);
}
