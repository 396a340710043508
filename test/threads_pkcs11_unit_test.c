/* The back end `pkcs11` used by many threads from its first operation on, none of which is logged in when they begin. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include "testutil.h"
#include "kmsenv_token.h"
#include "core/clock.h"
#include "core/crypto.h"
#include "kms/kms.h"
#include "kms/registry.h"

#define THREADS 16
#define ROUNDS  (20 * THREADS)

static const KMSENV_CONTEXT no_context;

/* For ThreadSanitizer: SoftHSM uses gmtime() in several threads at once, and has locks that it cannot see. Nothing of ours is below it. */
__attribute__((visibility("default"))) const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "race:libsofthsm2.so\nmutex:libsofthsm2.so\ndeadlock:libsofthsm2.so\n";
}

typedef struct shared_st {
    KMSENV_KMS *kms;
    atomic_int stop, rounds, failures;
} SHARED;

static int one_round(KMSENV_KMS *kms, KMSENV_ERROR *err)
{
    unsigned char dek[32], back[32];
    KMSENV_BLOB blob = { 0 };
    size_t len = sizeof(back);
    int ok;

    memset(dek, 0x5a, sizeof(dek));
    ok = kmsenv_kms_encrypt(kms, &no_context, NULL, dek, sizeof(dek), &blob, err)
        && kmsenv_kms_decrypt(kms, &no_context, NULL, &blob, back, &len, err)
        && len == sizeof(dek) && memcmp(dek, back, len) == 0;
    kmsenv_blob_reset(&blob);
    return ok;
}

static void *work(void *arg)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    SHARED *s = arg;

    while (!atomic_load(&s->stop)) {
        if (!one_round(s->kms, &err)) {
            atomic_fetch_add(&s->failures, 1);
            fprintf(stderr, "# %s\n", err.text);
        }
        atomic_fetch_add(&s->rounds, 1);
    }
    return NULL;
}

/* Until every thread may have had its turns; gives up after a minute. */
static int wait_for_rounds(SHARED *s, int count)
{
    uint64_t deadline = kmsenv_clock_ms() + 60000;
    int target = atomic_load(&s->rounds) + count;

    while (atomic_load(&s->rounds) < target) {
        if (!TEST_true(kmsenv_clock_ms() < deadline))
            return 0;
        kmsenv_clock_sleep_ms(1);
    }
    return 1;
}

static int test_threads(int i)
{
    static const char *const mechanism[] = { "aes-gcm", "aes-kwp" };
    CK_FUNCTION_LIST *f = kmsenv_token_functions();
    KMSENV_CRYPTO *crypto = kmsenv_crypto_new(NULL, NULL, "default");
    KMSENV_SERVICES services = { .crypto = crypto };
    KMSENV_SECTION *section = kmsenv_section_new("kms_test");
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    pthread_t thread[THREADS];
    CK_SESSION_INFO info;
    SHARED s = { 0 };
    int started = 0, ok;

    ok = TEST_ptr(crypto) && TEST_ptr(section) && TEST_true(kmsenv_kms_add_tables(section, &kmsenv_kms_pkcs11))
        && TEST_true(kmsenv_section_set(section, "key-id", "pkcs11:token=" KMSENV_TOKEN_LABEL ";object=all", &err))
        && TEST_true(kmsenv_section_set(section, "pkcs11-module", KMSENV_TOKEN_MODULE, &err))
        && TEST_true(kmsenv_section_set(section, "pin", KMSENV_TOKEN_PIN, &err))
        && TEST_true(kmsenv_section_set(section, "mechanism", mechanism[i], &err))
        && TEST_true(kmsenv_section_set(section, "breaker-failures", "1000", &err))
        && TEST_ptr(s.kms = kmsenv_kms_new("test", &kmsenv_kms_pkcs11, section, &services, &err));
    f->C_Logout(kmsenv_token_session());
    while (ok && started < THREADS)
        if ((ok = TEST_int_eq(pthread_create(&thread[started], NULL, work, &s), 0)))
            started++;
    ok = ok && wait_for_rounds(&s, ROUNDS);
    atomic_store(&s.stop, 1);
    while (started > 0)
        pthread_join(thread[--started], NULL);
    ok = ok && TEST_int_eq(atomic_load(&s.failures), 0)
        && TEST_ulong_eq(f->C_GetSessionInfo(kmsenv_token_session(), &info), CKR_OK) && TEST_ulong_eq(info.state, CKS_RW_USER_FUNCTIONS);
    kmsenv_kms_free(s.kms);
    kmsenv_section_free(section);
    kmsenv_crypto_free(crypto);
    return ok;
}

int setup_tests(void)
{
    if (!kmsenv_token_new() || !kmsenv_token_make_key("all", "edwu", 32))
        return 0;
    ADD_ALL_TESTS(test_threads, 2);
    return 1;
}

void cleanup_tests(void)
{
    kmsenv_token_free();
}
