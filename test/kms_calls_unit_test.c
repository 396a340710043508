/* What kms.c does around every back end, with a back end that does as it is told: checks, breaker, guard, counters, audit. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cjson/cJSON.h>
#include <openssl/crypto.h>
#include "testutil.h"
#include "core/clock.h"
#include "core/secret.h"
#include "kms/audit.h"
#include "kms/kms.h"

#define MAX_PLAINTEXT 100

/* What the back end is to do, and what was asked of it. */
static struct {
    int fail_with;                    /* reason; 0 = succeed */
    int refuses;                      /* reason of reencrypt alone; 0 = succeed */
    size_t ciphertext_len, extra_len, plaintext_len;
    const char *key_id;               /* in the reply; NULL = leave it */
    int forget_error, reenter;
    int calls;
    uint64_t left_ms;                 /* until the deadline, when it was called */
} fake;

static KMSENV_KMS *kms;
static KMSENV_COUNTERS counters;
static KMSENV_AUDIT *audit;
static KMSENV_CRYPTO *crypto;
static KMSENV_SECTION *section;
static KMSENV_CONTEXT none;
static char audit_path[] = "/tmp/kmsenv-audit-XXXXXX";

static int fake_answer(KMSENV_CALL *call)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    char state[8];

    fake.calls++;
    fake.left_ms = call->deadline_ms - kmsenv_clock_ms();
    call->attempts++;
    strcpy(call->request_id, "request-1");
    if (fake.reenter)
        return kmsenv_kms_describe(kms, state, sizeof(state), &err) ? 0 : kmsenv_error_set(call->err, err.reason, "%s", err.text);
    if (fake.fail_with == 0)
        return 1;
    return fake.forget_error ? 0 : kmsenv_error_set(call->err, fake.fail_with, "told to");
}

static int fake_blob(KMSENV_BLOB *out)
{
    out->ciphertext = fake.ciphertext_len == 0 ? NULL : OPENSSL_zalloc(fake.ciphertext_len);
    out->ciphertext_len = fake.ciphertext_len;
    out->extra = fake.extra_len == 0 ? NULL : OPENSSL_zalloc(fake.extra_len);
    out->extra_len = fake.extra_len;
    out->key_id = fake.key_id == NULL ? NULL : OPENSSL_strdup(fake.key_id);
    return 1;
}

static void *fake_new(const KMSENV_SECTION *s, const KMSENV_SERVICES *services, KMSENV_ERROR *err)
{
    (void)s;
    (void)services;
    (void)err;
    return &fake;
}

static void fake_free(void *impl)
{
    (void)impl;
}

static const char *fake_key_id(void *impl, KMSENV_ERROR *err)
{
    (void)impl;
    (void)err;
    return "key-1";
}

static int fake_encrypt(void *impl, KMSENV_CALL *call, const unsigned char *in, size_t inlen, KMSENV_BLOB *out)
{
    (void)impl;
    (void)in;
    return TEST_size_t_le(inlen, MAX_PLAINTEXT) && fake_blob(out) && fake_answer(call);
}

static int fake_decrypt(void *impl, KMSENV_CALL *call, const KMSENV_BLOB *in, unsigned char *out, size_t *outlen)
{
    (void)impl;
    (void)in;
    memset(out, 0xaa, *outlen);
    *outlen = fake.plaintext_len;
    return fake_answer(call);
}

static int fake_describe(void *impl, KMSENV_CALL *call, char *state, size_t room)
{
    (void)impl;
    snprintf(state, room, "Fine");
    return fake_answer(call);
}

/* Has neither generate nor reencrypt, so that kms.c must put them together. */
static KMSENV_KMS_METHOD fake_method = {
    .name = "fake", .title = "Fake KMS", .plaintext_max = MAX_PLAINTEXT, .new = fake_new, .free = fake_free, .key_id = fake_key_id,
    .encrypt = fake_encrypt, .decrypt = fake_decrypt, .describe = fake_describe
};

/* The reason it fails with is fake.refuses; 0 = it works. */
static int fake_reencrypt(void *impl, KMSENV_CALL *call, const KMSENV_BLOB *in, KMSENV_BLOB *out)
{
    (void)impl;
    (void)in;
    fake.calls++;
    return fake_blob(out) && (fake.refuses == 0 || kmsenv_error_set(call->err, fake.refuses, "not here"));
}

/* --- set-up --------------------------------------------------------------- */

static int begin(void)
{
    static const char *const settings[][2] = {
        { "key-id", "key-1" }, { "decrypt-keys", "old-1, old-2" }, { "kms-timeout", "7" }, { "breaker-failures", "3" },
        { "breaker-seconds", "1" }
    };
    KMSENV_SERVICES services = { crypto, &counters, audit };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    size_t i;
    int ok;

    memset(&fake, 0, sizeof(fake));
    fake.ciphertext_len = 40;
    fake.plaintext_len = 32;
    memset(&counters, 0, sizeof(counters));
    section = kmsenv_section_new("kms_fake");
    ok = TEST_ptr(section) && TEST_true(kmsenv_kms_add_tables(section, &fake_method));
    for (i = 0; ok && i < sizeof(settings) / sizeof(settings[0]); i++)
        ok = TEST_true(kmsenv_section_set(section, settings[i][0], settings[i][1], &err));
    return ok && TEST_ptr(kms = kmsenv_kms_new("prod", &fake_method, section, &services, &err));
}

static int end(int ok)
{
    ok = ok && TEST_false(kmsenv_kms_thread_is_inside());
    kmsenv_kms_free(kms);
    kmsenv_section_free(section);
    return ok;
}

static uint64_t counted(int which)
{
    return kmsenv_count_read(&counters, which);
}

/* Runs one generate; expects a reason (0 = success). */
static int generate(int reason, KMSENV_ERROR *err)
{
    unsigned char dek[32];
    KMSENV_BLOB blob;
    int ok = kmsenv_kms_generate(kms, &none, sizeof(dek), dek, &blob, err);

    if (!TEST_int_eq(ok, reason == 0) || !TEST_int_eq(err->reason, reason)) {
        TEST_info("%s", err->text);
        return 0;
    }
    if (ok)
        ok = TEST_str_eq(blob.key_id, "key-1") && TEST_size_t_eq(blob.ciphertext_len, fake.ciphertext_len);
    else
        ok = TEST_ptr_null(blob.ciphertext) && TEST_ptr_null(blob.key_id);
    kmsenv_blob_reset(&blob);
    return ok;
}

/* --- tests ---------------------------------------------------------------- */

/* A limit of the caller's shortens kms-timeout, and never makes it longer. */
static int test_limit(int i)
{
    static const struct { uint64_t limit, more_than, at_most; } cases[] = {
        { 0, 6000, 7000 }, { 2000, 1000, 2000 }, { 9000, 6000, 7000 }, { 1, 0, 1 }
    };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    unsigned char out[64];
    KMSENV_BLOB in = { .key_id = (char *)"old-1", .ciphertext = (unsigned char *)"x", .ciphertext_len = 1 }, made = { 0 };
    size_t n = sizeof(out);
    int ok = begin() && TEST_true(kmsenv_kms_decrypt_within(kms, cases[i].limit, &none, "00ff", &in, out, &n, &err))
             && TEST_true(fake.left_ms <= cases[i].at_most && fake.left_ms + 1 > cases[i].more_than)
             && TEST_true(kmsenv_kms_encrypt_within(kms, cases[i].limit, &none, "00ff", out, 32, &made, &err))
             && TEST_true(fake.left_ms <= cases[i].at_most && fake.left_ms + 1 > cases[i].more_than);

    kmsenv_blob_reset(&made);
    return end(ok);
}

static int test_plain(void)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    unsigned char out[64];
    KMSENV_BLOB in = { .key_id = (char *)"old-1", .ciphertext = (unsigned char *)"x", .ciphertext_len = 1 };
    size_t n = sizeof(out);
    char state[20];
    int ok = begin() && generate(0, &err) && TEST_int_eq(fake.calls, 1) && TEST_true(fake.left_ms > 6000 && fake.left_ms <= 7000)
             && TEST_true(kmsenv_kms_decrypt(kms, &none, "00ff", &in, out, &n, &err)) && TEST_size_t_eq(n, 32)
             && TEST_true(kmsenv_kms_describe(kms, state, sizeof(state), &err)) && TEST_str_eq(state, "Fine")
             && TEST_int_eq(fake.calls, 3)
             && TEST_true(counted(KMSENV_COUNTER_KMS_CALLS) == 3) && TEST_true(counted(KMSENV_COUNTER_KMS_FAILURES) == 0);

    return end(ok);
}

/* A service that has ReEncrypt, knows that it cannot, does not offer it here, or refuses it; one that has none. The data key never comes here. */
static const struct { int has, may, refuses, calls, reason; } reencrypts[] = {
    { 1, 1, 0, 1, 0 }, { 1, 0, 0, 0, KMSENV_R_KMS_UNSUPPORTED }, { 1, 1, KMSENV_R_KMS_UNSUPPORTED, 1, KMSENV_R_KMS_UNSUPPORTED },
    { 1, 1, KMSENV_R_KMS_ACCESS_DENIED, 1, KMSENV_R_KMS_ACCESS_DENIED }, { 0, 1, 0, 0, KMSENV_R_KMS_UNSUPPORTED }
};

static int fake_may;

static int fake_may_reencrypt(void *impl, const KMSENV_BLOB *in, const KMSENV_CONTEXT *context)
{
    return impl == &fake && in->ciphertext_len == 8 && context->count == 0 && fake_may;
}

static int test_reencrypt(int i)
{
    unsigned char wrapped[8] = { 1 };
    char key_id[] = "key-1";
    KMSENV_BLOB in = { .key_id = key_id, .ciphertext = wrapped, .ciphertext_len = sizeof(wrapped) }, out;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    int ok = begin();

    fake_method.reencrypt = reencrypts[i].has ? fake_reencrypt : NULL;
    fake_method.may_reencrypt = fake_may_reencrypt;
    fake_may = reencrypts[i].may;
    fake.refuses = reencrypts[i].refuses;
    ok = ok && TEST_int_eq(kmsenv_kms_may_reencrypt(kms, &in, &none), reencrypts[i].has && reencrypts[i].may)
         && TEST_int_eq(kmsenv_kms_reencrypt(kms, &none, NULL, &in, &out, &err), reencrypts[i].reason == 0)
         && TEST_int_eq(fake.calls, reencrypts[i].calls) && TEST_int_eq(err.reason, reencrypts[i].reason)
         && TEST_true((out.ciphertext != NULL) == (reencrypts[i].reason == 0));
    fake_method.reencrypt = NULL;
    fake_method.may_reencrypt = NULL;
    if (ok)
        kmsenv_blob_reset(&out);
    return end(ok);
}

static int test_matches(void)
{
    static const struct { const char *kind, *key_id; int expected; } cases[] = {
        { "fake", "key-1", 1 }, { "fake", "old-1", 1 }, { "fake", "old-2", 1 }, { "fake", "old", 0 }, { "fake", "old-1, old-2", 0 },
        { "fake", "", 0 }, { "fake", ",", 0 }, { "local", "key-1", 0 },
    };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    size_t i;
    int ok = begin();

    for (i = 0; ok && i < sizeof(cases) / sizeof(cases[0]); i++)
        ok = TEST_int_eq(kmsenv_kms_matches(kms, cases[i].kind, cases[i].key_id, &err), cases[i].expected)
             && TEST_int_eq(err.reason, KMSENV_R_NONE);
    return end(ok);
}

static const struct { size_t ciphertext, extra; const char *key_id; int reason; } replies[] = {
    { 1, 0, NULL, 0 }, { KMSENV_CIPHERTEXT_MAX, 4096, "key-1", 0 },
    { 0, 0, NULL, KMSENV_R_KMS_REPLY_MALFORMED }, { KMSENV_CIPHERTEXT_MAX + 1, 0, NULL, KMSENV_R_KMS_REPLY_MALFORMED },
    { 1, 4097, NULL, KMSENV_R_KMS_REPLY_MALFORMED }, { 1, 0, "", KMSENV_R_KMS_REPLY_MALFORMED },
};

static int test_reply_sizes(int i)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;

    if (!begin())
        return end(0);
    fake.ciphertext_len = replies[i].ciphertext;
    fake.extra_len = replies[i].extra;
    fake.key_id = replies[i].key_id;
    return end(generate(replies[i].reason, &err));
}

static int test_plaintext_sizes(void)
{
    static const unsigned char data[MAX_PLAINTEXT + 1];
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_BLOB in = { .key_id = (char *)"key-1", .ciphertext = (unsigned char *)"x", .ciphertext_len = 1 }, out;
    unsigned char small[16];
    size_t n = sizeof(small);
    int ok = begin() && TEST_false(kmsenv_kms_encrypt(kms, &none, NULL, data, sizeof(data), &out, &err))
             && TEST_int_eq(err.reason, KMSENV_R_KMS_INPUT_TOO_LARGE) && TEST_ptr(strstr(err.text, "100")) && TEST_int_eq(fake.calls, 0)
             && TEST_false(kmsenv_kms_encrypt(kms, &none, NULL, data, 0, &out, &err))
             && TEST_false(kmsenv_kms_decrypt(kms, &none, NULL, &in, small, &n, &err))      /* the fake says 32 */
             && TEST_int_eq(err.reason, KMSENV_R_KMS_REPLY_MALFORMED) && TEST_int_eq(small[0], 0) && TEST_int_eq(small[15], 0);

    fake.plaintext_len = 0;
    n = sizeof(small);
    ok = ok && TEST_false(kmsenv_kms_decrypt(kms, &none, NULL, &in, small, &n, &err));
    in.ciphertext_len = KMSENV_CIPHERTEXT_MAX + 1;
    fake.calls = 0;
    ok = ok && TEST_false(kmsenv_kms_decrypt(kms, &none, NULL, &in, small, &n, &err)) && TEST_int_eq(fake.calls, 0)
         && TEST_int_eq(err.reason, KMSENV_R_KMS_WRAP_REJECTED);
    return end(ok);
}

/* Every error says whose it is; one that a back end forgot to explain is still an error. */
static int test_errors(void)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    int ok = begin();

    fake.fail_with = KMSENV_R_KMS_ACCESS_DENIED;
    ok = ok && generate(KMSENV_R_KMS_ACCESS_DENIED, &err) && TEST_str_eq(err.text, "profile prod (fake, key-1): told to")
         && TEST_true(counted(KMSENV_COUNTER_KMS_FAILURES) == 1);
    fake.forget_error = 1;
    return end(ok && generate(KMSENV_R_KMS_REPLY_MALFORMED, &err));
}

static int test_reentry(void)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    int ok = begin();

    fake.reenter = 1;
    ok = ok && generate(KMSENV_R_KMS_REENTERED, &err) && TEST_int_eq(fake.calls, 1);
    fake.reenter = 0;
    return end(ok && generate(0, &err));
}

static int test_breaker(void)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    int i, ok = begin();

    fake.fail_with = KMSENV_R_KMS_THROTTLED;           /* an answer: it is there */
    for (i = 0; i < 5; i++)
        ok = ok && generate(KMSENV_R_KMS_THROTTLED, &err);
    fake.fail_with = KMSENV_R_KMS_UNREACHABLE;
    for (i = 0; i < 2; i++)
        ok = ok && generate(KMSENV_R_KMS_UNREACHABLE, &err);
    fake.fail_with = 0;
    ok = ok && generate(0, &err);                      /* the count starts again */
    fake.fail_with = KMSENV_R_KMS_UNREACHABLE;
    for (i = 0; i < 3; i++)
        ok = ok && generate(KMSENV_R_KMS_UNREACHABLE, &err);
    fake.calls = 0;
    ok = ok && TEST_ptr_null(strstr(err.text, "breaker")) && generate(KMSENV_R_KMS_UNREACHABLE, &err)
         && TEST_ptr(strstr(err.text, "circuit breaker open")) && TEST_int_eq(fake.calls, 0)
         && TEST_true(counted(KMSENV_COUNTER_BREAKER_OPEN) == 1);
    kmsenv_clock_sleep_ms(1050);
    ok = ok && generate(KMSENV_R_KMS_UNREACHABLE, &err) && TEST_int_eq(fake.calls, 1)      /* the trial */
         && generate(KMSENV_R_KMS_UNREACHABLE, &err) && TEST_int_eq(fake.calls, 1);        /* open again at once */
    kmsenv_clock_sleep_ms(1050);
    fake.fail_with = KMSENV_R_KMS_KEY_DISABLED;        /* a refusal closes it */
    for (i = 0; i < 3; i++)
        ok = ok && generate(KMSENV_R_KMS_KEY_DISABLED, &err) && TEST_int_eq(fake.calls, 2 + i);
    return end(ok);
}

/* The last line of the log, parsed. */
static cJSON *last_line(void)
{
    static char text[65536];
    FILE *f = fopen(audit_path, "rb");
    size_t n = f == NULL ? 0 : fread(text, 1, sizeof(text) - 1, f);
    char *line;

    if (f != NULL)
        fclose(f);
    if (n == 0 || text[n - 1] != '\n')
        return NULL;
    text[n - 1] = '\0';
    line = strrchr(text, '\n');
    return cJSON_Parse(line == NULL ? text : line + 1);
}

static int is_member(const cJSON *json, const char *name, const char *value)
{
    return TEST_str_eq(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, name)), value);
}

static int test_audit(void)
{
    KMSENV_BLOB in = { .key_id = (char *)"old\"\n\x01\xc3\xa9", .ciphertext = (unsigned char *)"x", .ciphertext_len = 1 };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    unsigned char out[64];
    size_t n = sizeof(out);
    cJSON *json = NULL;
    struct stat st;
    int ok = begin() && TEST_true(kmsenv_kms_decrypt(kms, &none, "00ff", &in, out, &n, &err)) && TEST_ptr(json = last_line())
             && is_member(json, "operation", "decrypt") && is_member(json, "profile", "prod") && is_member(json, "kms", "fake")
             && is_member(json, "keyId", in.key_id) && is_member(json, "dekId", "00ff") && is_member(json, "requestId", "request-1")
             && is_member(json, "outcome", "ok") && TEST_size_t_eq(strlen(cJSON_GetStringValue(cJSON_GetObjectItem(json, "time"))), 24)
             && TEST_int_eq(cJSON_GetObjectItem(json, "attempts")->valueint, 1)
             && TEST_int_eq(cJSON_GetObjectItem(json, "pid")->valueint, getpid())
             && TEST_int_eq(stat(audit_path, &st), 0) && TEST_int_eq(st.st_mode & 0777, 0600);

    cJSON_Delete(json);
    json = NULL;
    in.key_id = (char *)"not UTF-8 \xff";
    fake.fail_with = KMSENV_R_KMS_ACCESS_DENIED;
    n = sizeof(out);
    ok = ok && TEST_int_eq(rename(audit_path, "/tmp/kmsenv-audit-rotated"), 0)       /* rotated away: a new file comes */
         && TEST_false(kmsenv_kms_decrypt(kms, &none, NULL, &in, out, &n, &err)) && TEST_ptr(json = last_line())
         && is_member(json, "outcome", "KMS access denied") && is_member(json, "keyId", NULL) && is_member(json, "dekId", NULL);
    cJSON_Delete(json);
    unlink("/tmp/kmsenv-audit-rotated");
    return end(ok);
}

int setup_tests(void)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    int fd = mkstemp(audit_path);

    if (!TEST_int_ge(fd, 0) || !TEST_int_eq(close(fd), 0) || !TEST_int_eq(unlink(audit_path), 0)
        || !TEST_ptr(crypto = kmsenv_crypto_new(NULL, NULL, "default"))
        || !TEST_ptr_null(kmsenv_audit_new("relative", &err)) || !TEST_int_eq(err.reason, KMSENV_R_CONFIG_INVALID)
        || !TEST_ptr(audit = kmsenv_audit_new(audit_path, &err)))
        return 0;
    kmsenv_context_init(&none);
    ADD_TEST(test_plain);
    ADD_ALL_TESTS(test_reencrypt, (int)(sizeof(reencrypts) / sizeof(reencrypts[0])));
    ADD_ALL_TESTS(test_limit, 4);
    ADD_TEST(test_matches);
    ADD_ALL_TESTS(test_reply_sizes, (int)(sizeof(replies) / sizeof(replies[0])));
    ADD_TEST(test_plaintext_sizes);
    ADD_TEST(test_errors);
    ADD_TEST(test_reentry);
    ADD_TEST(test_breaker);
    ADD_TEST(test_audit);
    return 1;
}

void cleanup_tests(void)
{
    kmsenv_audit_free(audit);
    kmsenv_crypto_free(crypto);
    unlink(audit_path);
}
