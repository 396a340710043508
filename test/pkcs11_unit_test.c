/*
 * The back end `pkcs11` in a process that uses the same module itself: this one, which initialises
 * SoftHSM, makes a token, and is logged in or not. What keys may do, and what becomes of the
 * application's own state.
 */
#include <stdio.h>
#include <string.h>
#include <openssl/crypto.h>
#include "testutil.h"
#include "kmsenv_token.h"
#include "core/crypto.h"
#include "core/secret.h"
#include "kms/kms.h"
#include "kms/registry.h"

#define PIN KMSENV_TOKEN_PIN

static KMSENV_CRYPTO *crypto;
static const KMSENV_CONTEXT no_context;
static CK_FUNCTION_LIST *f;            /* of the application */
static CK_SESSION_HANDLE session;

static int is_ok(CK_RV rv)
{
    return TEST_ulong_eq(rv, CKR_OK);
}

/* --- a profile ------------------------------------------------------------ */

typedef struct fixture_st {
    KMSENV_SECTION *section;
    KMSENV_KMS *kms;
    KMSENV_ERROR err;
} FIXTURE;

static int fixture_open(FIXTURE *x, const char *object, const char *mechanism, const char *pin)
{
    KMSENV_SERVICES services = { .crypto = crypto };
    char key_id[80];

    memset(x, 0, sizeof(*x));
    snprintf(key_id, sizeof(key_id), "pkcs11:token=" KMSENV_TOKEN_LABEL ";object=%s", object);
    return TEST_ptr(x->section = kmsenv_section_new("kms_test"))
        && TEST_true(kmsenv_kms_add_tables(x->section, &kmsenv_kms_pkcs11))
        && TEST_true(kmsenv_section_set(x->section, "key-id", key_id, &x->err))
        && TEST_true(kmsenv_section_set(x->section, "pkcs11-module", KMSENV_TOKEN_MODULE, &x->err))
        && TEST_true(kmsenv_section_set(x->section, "mechanism", mechanism, &x->err))
        && (pin == NULL || TEST_true(kmsenv_section_set(x->section, "pin", pin, &x->err)))
        && TEST_ptr(x->kms = kmsenv_kms_new("test", &kmsenv_kms_pkcs11, x->section, &services, &x->err));
}

static void fixture_close(FIXTURE *x)
{
    kmsenv_kms_free(x->kms);
    kmsenv_section_free(x->section);
}

static int round_trip(FIXTURE *x, const KMSENV_CONTEXT *context, size_t n)
{
    unsigned char *in = kmsenv_secret_zalloc(n), *out = kmsenv_secret_zalloc(n + 1);
    KMSENV_BLOB blob = { 0 };
    size_t len = n;
    int ok;

    memset(in, 0xa5, n);
    ok = (TEST_true(kmsenv_kms_encrypt(x->kms, context, NULL, in, n, &blob, &x->err))
          && TEST_true(kmsenv_kms_matches(x->kms, "pkcs11", blob.key_id, &x->err))
          && TEST_true(kmsenv_kms_decrypt(x->kms, context, NULL, &blob, out, &len, &x->err)) && TEST_mem_eq(in, n, out, len))
         || (TEST_info("%s", x->err.text), 0);
    if (ok && n > 1) {         /* no room for it: an error, and no byte too many */
        len = n - 1;
        ok = TEST_false(kmsenv_kms_decrypt(x->kms, context, NULL, &blob, out, &len, &x->err))
            && TEST_int_eq(x->err.reason, KMSENV_R_KMS_WRAP_REJECTED);
    }
    kmsenv_secret_free(in);
    kmsenv_secret_free(out);
    kmsenv_blob_reset(&blob);
    return ok;
}

/* --- tests ---------------------------------------------------------------- */

static const char *const mechanism_name[] = { "aes-gcm", "aes-kwp" };

static int test_lengths(int i)
{
    static const size_t length[2][7] = { { 1, 9, 16, 24, 32, 64, 4096 }, { 16, 24, 32, 40, 48, 64, 4096 } };
    FIXTURE x;
    size_t j;
    int ok = fixture_open(&x, "all", mechanism_name[i], PIN);

    for (j = 0; ok && j < 7; j++)
        ok = round_trip(&x, &no_context, length[i][j]);
    fixture_close(&x);
    return ok;
}

static int test_wrong_lengths(int i)
{
    static const struct { const char *mechanism; size_t n; } wrong[] = {
        { "aes-gcm", 4097 }, { "aes-kwp", 4097 }, { "aes-kwp", 8 }, { "aes-kwp", 33 }
    };
    static unsigned char in[4097];
    KMSENV_BLOB blob;
    FIXTURE x;
    int ok = fixture_open(&x, "all", wrong[i].mechanism, PIN)
        && TEST_false(kmsenv_kms_encrypt(x.kms, &no_context, NULL, in, wrong[i].n, &blob, &x.err))
        && TEST_int_eq(x.err.reason, KMSENV_R_KMS_INPUT_TOO_LARGE);

    fixture_close(&x);
    return ok;
}

static const struct { const char *key, *mechanism, *state; int reason; } described[] = {
    { "all", "aes-gcm", "Enabled, AES-256", 0 },
    { "all", "aes-kwp", "Enabled, AES-256", 0 },
    { "small", "aes-gcm", "Enabled, AES-128, but it can be extracted from the token", 0 },
    { "encrypts", "aes-gcm", "Enabled, AES-256, for encryption only", 0 },
    { "decrypts", "aes-gcm", "Enabled, AES-256, for decryption only", 0 },
    { "encrypts", "aes-kwp", NULL, KMSENV_R_KMS_KEY_DISABLED },
    { "none", "aes-gcm", NULL, KMSENV_R_KMS_KEY_DISABLED },
    { "gone", "aes-gcm", NULL, KMSENV_R_KMS_KEY_NOT_FOUND }
};

static int test_describe(int i)
{
    char state[100];
    FIXTURE x;
    int ok = fixture_open(&x, described[i].key, described[i].mechanism, PIN);

    if (described[i].state != NULL)
        ok = ok && TEST_true(kmsenv_kms_describe(x.kms, state, sizeof(state), &x.err)) && TEST_str_eq(state, described[i].state);
    else
        ok = ok && TEST_false(kmsenv_kms_describe(x.kms, state, sizeof(state), &x.err)) && TEST_int_eq(x.err.reason, described[i].reason);
    fixture_close(&x);
    return ok;
}

/* A key that may only encrypt is for the profiles of those who write; one that may only decrypt for those who read. */
static int test_usage(void)
{
    static const unsigned char dek[32] = { 9 };
    KMSENV_BLOB blob = { 0 };
    unsigned char out[32];
    size_t len = sizeof(out);
    FIXTURE x, y;
    int ok = fixture_open(&x, "encrypts", "aes-gcm", PIN)
        && TEST_true(kmsenv_kms_encrypt(x.kms, &no_context, NULL, dek, sizeof(dek), &blob, &x.err))
        && TEST_false(kmsenv_kms_decrypt(x.kms, &no_context, NULL, &blob, out, &len, &x.err))
        && TEST_int_eq(x.err.reason, KMSENV_R_KMS_ACCESS_DENIED);

    kmsenv_blob_reset(&blob);
    ok = ok && fixture_open(&y, "decrypts", "aes-gcm", PIN)
        && TEST_false(kmsenv_kms_encrypt(y.kms, &no_context, NULL, dek, sizeof(dek), &blob, &y.err))
        && TEST_int_eq(y.err.reason, KMSENV_R_KMS_ACCESS_DENIED);
    fixture_close(&x);
    fixture_close(&y);
    return ok;
}

/* The application is logged in: a profile needs no PIN, and one with a wrong PIN does not show it to the token. */
static int test_application_is_logged_in(void)
{
    FIXTURE x, y;
    int ok = fixture_open(&x, "all", "aes-gcm", NULL) && round_trip(&x, &no_context, 32)
        && fixture_open(&y, "all", "aes-gcm", "kmsenv-wrong-pin") && round_trip(&y, &no_context, 32);

    fixture_close(&x);
    fixture_close(&y);
    return ok;
}

/* It logs out: we log in. Our end leaves module, sessions and login of the process as they are. */
static int test_application_goes_on(void)
{
    CK_SESSION_INFO info;
    FIXTURE x;
    int ok = is_ok(f->C_Logout(session)) && fixture_open(&x, "all", "aes-gcm", PIN) && round_trip(&x, &no_context, 32);

    fixture_close(&x);
    return ok && is_ok(f->C_GetSessionInfo(session, &info)) && TEST_ulong_eq(info.state, CKS_RW_USER_FUNCTIONS)
        && TEST_ulong_eq(f->C_Initialize(NULL), CKR_CRYPTOKI_ALREADY_INITIALIZED);
}

/* The application ends its use of the module: we begin ours anew, and it may come back. */
static int test_application_finalises(void)
{
    CK_C_INITIALIZE_ARGS args = { .flags = CKF_OS_LOCKING_OK };
    FIXTURE x;
    int ok = fixture_open(&x, "all", "aes-gcm", PIN) && round_trip(&x, &no_context, 32)
        && is_ok(f->C_Finalize(NULL)) && round_trip(&x, &no_context, 32)
        && TEST_ulong_eq(f->C_Initialize(&args), CKR_CRYPTOKI_ALREADY_INITIALIZED)
        && is_ok(f->C_Finalize(NULL)) && is_ok(f->C_Initialize(&args)) && round_trip(&x, &no_context, 32);

    fixture_close(&x);
    return ok;
}

int setup_tests(void)
{
    if (!TEST_ptr(crypto = kmsenv_crypto_new(NULL, NULL, "default")) || !kmsenv_token_new()
        || !kmsenv_token_make_key("all", "edwu", 32) || !kmsenv_token_make_key("small", "edwux", 16)
        || !kmsenv_token_make_key("encrypts", "e", 32) || !kmsenv_token_make_key("decrypts", "d", 32)
        || !kmsenv_token_make_key("none", "", 32))
        return 0;
    f = kmsenv_token_functions();
    session = kmsenv_token_session();
    ADD_TEST(test_application_is_logged_in);
    ADD_TEST(test_application_goes_on);
    ADD_ALL_TESTS(test_lengths, 2);
    ADD_ALL_TESTS(test_wrong_lengths, 4);
    ADD_ALL_TESTS(test_describe, (int)(sizeof(described) / sizeof(described[0])));
    ADD_TEST(test_usage);
    ADD_TEST(test_application_finalises);
    return 1;
}

void cleanup_tests(void)
{
    kmsenv_crypto_free(crypto);
    kmsenv_token_free();
}
