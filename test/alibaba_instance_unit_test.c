/* A KMS instance of Alibaba Cloud, without a network: ClientKey files, what a wrap's extra may be, what replies may be. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/crypto.h>
#include "testutil.h"
#include "core/secret.h"
#include "kms/alibaba_instance.h"
#include "kms/proto.h"
#include "kmsenv/reasons.h"

#define PASSWORD "Fake-Passw0rd_For-Tests"
#define KEY      "key-hzz0000000000000fake01"
#define FOLDER   KMSENV_TEST_DATA_DIR "/vectors/alibaba-dkms/"
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static KMSENV_CRYPTO *crypto;

/* --- ClientKey ------------------------------------------------------------ */

static int read_file(const char *name, KMSENV_BUFFER *out)
{
    char path[512], chunk[4096];
    FILE *f;
    size_t n;

    kmsenv_buffer_init(out, 65536, 1);
    snprintf(path, sizeof(path), "%s%s", FOLDER, name);
    if (!TEST_ptr(f = fopen(path, "rb")))
        return 0;
    while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0)
        kmsenv_buffer_add(out, chunk, n);
    fclose(f);
    return TEST_size_t_gt(out->length, 0);
}

/* Both encodings that ClientKeys come in hold the key that is also there in the clear: same signature. */
static int test_client_key(int i)
{
    static const char *const names[] = { "clientkey-aes", "clientkey-legacy" };
    KMSENV_CREDENTIAL key = { 0 };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_SIGNER *clear = NULL;
    KMSENV_BUFFER text, pem, a, b;
    char name[64];
    int ok;

    kmsenv_buffer_init(&a, 1024, 0);
    kmsenv_buffer_init(&b, 1024, 0);
    snprintf(name, sizeof(name), "%s.json", names[i]);
    ok = read_file(name, &text);
    snprintf(name, sizeof(name), "%s.private-key.pem", names[i]);
    ok &= read_file(name, &pem);
    ok = ok && TEST_true(kmsenv_instance_client_key(crypto, &text, PASSWORD, &key, &err))
         && TEST_ptr(clear = kmsenv_signer_from_pem(crypto, pem.data, pem.length, &err))
         && TEST_true(kmsenv_signer_sign(key.signer, "text", 4, &a, &err))
         && TEST_true(kmsenv_signer_sign(clear, "text", 4, &b, &err)) && TEST_mem_eq(a.data, a.length, b.data, b.length)
         && TEST_size_t_eq(a.length, 256);
    if (!ok)
        TEST_info("%s", err.text);
    kmsenv_signer_free(key.signer);
    kmsenv_signer_free(clear);
    OPENSSL_free(key.id);
    kmsenv_buffer_reset(&text);
    kmsenv_buffer_reset(&pem);
    kmsenv_buffer_reset(&a);
    kmsenv_buffer_reset(&b);
    return ok;
}

static const struct { const char *text, *words; } bad_files[] = {
    { "", "not JSON" },
    { "-----BEGIN PRIVATE KEY-----", "not JSON" },
    { "{\"PrivateKeyData\":\"AAAA\"}", "no KeyId" },
    { "{\"KeyId\":\"\",\"PrivateKeyData\":\"AAAA\"}", "no KeyId" },
    { "{\"KeyId\":\"a b\",\"PrivateKeyData\":\"AAAA\"}", "no KeyId" },
    { "{\"KeyId\":\"a\\r\\nx\",\"PrivateKeyData\":\"AAAA\"}", "no KeyId" },
    { "{\"KeyId\":\"KAAP.1\"}", "no PrivateKeyData" },
    { "{\"KeyId\":\"KAAP.1\",\"PrivateKeyData\":\"\"}", "no PrivateKeyData" },
    { "{\"KeyId\":\"KAAP.1\",\"PrivateKeyData\":\"?\"}", "not base64" },
    { "{\"KeyId\":\"KAAP.1\",\"PrivateKeyData\":\"AAAA\"}", "password is wrong" },
};

static int test_bad_file(int i)
{
    KMSENV_CREDENTIAL key = { 0 };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_BUFFER text;
    int ok;

    kmsenv_buffer_init(&text, 65536, 1);
    kmsenv_buffer_add_text(&text, bad_files[i].text);
    ok = TEST_false(kmsenv_instance_client_key(crypto, &text, PASSWORD, &key, &err))
         && TEST_int_eq(err.reason, KMSENV_R_KMS_CREDENTIALS) && TEST_ptr(strstr(err.text, bad_files[i].words)) && TEST_ptr_null(key.signer);
    if (!ok)
        TEST_info("%s", err.text);
    OPENSSL_free(key.id);
    kmsenv_buffer_reset(&text);
    return ok;
}

static int test_wrong_password(void)
{
    KMSENV_CREDENTIAL key = { 0 };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_BUFFER text;
    int ok = read_file("clientkey-aes.json", &text) && TEST_false(kmsenv_instance_client_key(crypto, &text, "wrong-secret", &key, &err))
             && TEST_int_eq(err.reason, KMSENV_R_KMS_CREDENTIALS) && TEST_ptr_null(strstr(err.text, "wrong-secret"));

    OPENSSL_free(key.id);
    kmsenv_buffer_reset(&text);
    return ok;
}

/* --- extra ---------------------------------------------------------------- */

static int parse_extra(const unsigned char *extra, size_t n, const char *key_id, KMSENV_INSTANCE_WRAP *wrap)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_BLOB blob = { 0 };
    unsigned char *copy = n == 0 ? NULL : OPENSSL_memdup(extra, n);   /* exactly as long: sanitizers see a read beyond it */
    int ok;

    blob.key_id = OPENSSL_strdup(key_id);
    blob.extra = copy;
    blob.extra_len = n;
    ok = kmsenv_instance_wrap_parse(wrap, &blob, &err);
    if (!TEST_int_eq(err.reason, ok ? KMSENV_R_NONE : KMSENV_R_KMS_WRAP_REJECTED))
        ok = -1;
    kmsenv_blob_reset(&blob);
    return ok;
}

static int test_extra(void)
{
    static const unsigned char good[] = "\1P\5key-1\7AES_GCM\14abcdefghijkl";
    const size_t n = sizeof(good) - 1;
    unsigned char bad[sizeof(good) + 1];
    KMSENV_INSTANCE_WRAP wrap;
    size_t i;
    int ok = TEST_int_eq(parse_extra(good, n, "key-1", &wrap), 1) && TEST_false(wrap.advance) && TEST_str_eq(wrap.key_id, "key-1")
             && TEST_str_eq(wrap.algorithm, "AES_GCM") && TEST_mem_eq(wrap.iv, wrap.iv_len, "abcdefghijkl", 12)
             && TEST_int_eq(parse_extra(good, n, "alias/any", &wrap), 1) && TEST_int_eq(parse_extra(good, n, "key-2", &wrap), 0)
             && TEST_int_eq(parse_extra((const unsigned char *)"\1A\1k\0\0", 6, "k", &wrap), 1) && TEST_true(wrap.advance)
             && TEST_int_eq(parse_extra((const unsigned char *)"\1A\0\0\0", 5, "alias/a", &wrap), 0);

    for (i = 0; ok && i < n; i++)   /* cut anywhere */
        ok = TEST_int_eq(parse_extra(good, i, "key-1", &wrap), 0);
    memcpy(bad, good, n);
    bad[n] = 'x';
    ok = ok && TEST_int_eq(parse_extra(bad, n + 1, "key-1", &wrap), 0);
    for (i = 0; ok && i < n; i++) {   /* anything up to the algorithm's text that is changed; all lengths */
        if (i >= 9 && i != 15)
            continue;
        bad[i] ^= 0x80;
        ok = TEST_int_eq(parse_extra(bad, n, i >= 3 && i < 8 ? "alias/a" : "key-1", &wrap), 0);
        bad[i] ^= 0x80;
    }
    return ok;
}

/* --- replies -------------------------------------------------------------- */

static KMSENV_VERDICT read_reply(KMSENV_INSTANCE_ACTION *action, int status, const char *body, size_t n, KMSENV_RESULT *result,
                                 KMSENV_ERROR *err)
{
    KMSENV_VERDICT verdict;
    KMSENV_REPLY reply;

    kmsenv_error_clear(err);
    kmsenv_reply_init(&reply);
    reply.status = status;
    kmsenv_buffer_add(&reply.body, body, n);
    verdict = kmsenv_instance_result(action, &reply, result, NULL, err);
    kmsenv_reply_reset(&reply);
    if (result->blob != NULL)
        kmsenv_blob_reset(result->blob);
    return verdict;
}

#define TEXT(t) t, sizeof(t) - 1
#define ID      "\12\32" KEY

/* AdvanceDecrypt, with room for 16 bytes. */
static const struct { const char *body; size_t n; int ok; } replies[] = {
    { TEXT(ID "\22\4good"), 1 },
    { TEXT("\22\4good" ID), 1 },                                     /* any order */
    { TEXT(ID "\22\4good\170\1\202\1\3abc\35" "abcd\11" "12345678"), 0 },   /* the last two are fields 3 and 1 as numbers */
    { TEXT(ID "\22\4good\170\1\202\1\3abc\175" "abcd\171" "12345678"), 1 }, /* unknown fields of all kinds */
    { TEXT(ID "\22\20" "0123456789abcdef"), 1 },
    { TEXT(ID "\22\21" "0123456789abcdefX"), 0 },                    /* longer than there is room */
    { TEXT(ID "\22\0"), 0 },                                         /* empty */
    { TEXT(ID), 0 },
    { TEXT("\22\4good"), 0 },                                        /* about no key */
    { TEXT("\12\0\22\4good"), 0 },
    { TEXT("\12\32key-hzz0000000000000fake02\22\4good"), 0 },        /* about another */
    { TEXT(ID "\22\4good\22\4evil"), 0 },                            /* twice */
    { TEXT(ID "\22\5good"), 0 },                                     /* cut */
    { TEXT(ID "\22\377\377\377\377\17good"), 0 },                    /* a length of 4 GiB */
    { TEXT(ID "\22\377\377\377\377\377\377\377\377\377\1good"), 0 }, /* of 2^64 - 1 */
    { TEXT(ID "\20\4"), 0 },                                         /* Plaintext as a number */
    { TEXT(ID "\23\4good\24"), 0 },                                  /* as a group */
    { TEXT(ID "\0\4good"), 0 },                                      /* field 0 */
    { TEXT("<html><body>captive portal</body></html>"), 0 },
    { TEXT(""), 0 },
};

static int test_reply(int i)
{
    KMSENV_INSTANCE_ACTION action = { .kind = KMSENV_INSTANCE_DECRYPT, .advance = 1 };
    unsigned char *out = kmsenv_secret_zalloc(16);
    KMSENV_RESULT result = { .key_id = KEY, .plaintext = out, .room = 16 };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_VERDICT verdict = read_reply(&action, 200, replies[i].body, replies[i].n, &result, &err);
    int ok = TEST_int_eq(verdict, replies[i].ok ? KMSENV_VERDICT_OK : KMSENV_VERDICT_FINAL)
             && TEST_int_eq(err.reason, replies[i].ok ? KMSENV_R_NONE : KMSENV_R_KMS_REPLY_MALFORMED)
             && (!replies[i].ok || TEST_size_t_eq(result.plaintext_len, replies[i].body[29] == '\20' ? 16 : 4));

    if (!ok)
        TEST_info("%s", err.text);
    kmsenv_secret_free(out);
    return ok;
}

/* A context that the key's algorithm does not authenticate must not pass for one that binds; a wrap that could never be opened is none. */
static int test_algorithm(void)
{
    KMSENV_INSTANCE_ACTION action = { .kind = KMSENV_INSTANCE_ENCRYPT, .aad = (const unsigned char *)"{}", .aad_len = 2 };
    KMSENV_BLOB blob = { 0 };
    KMSENV_RESULT result = { .key_id = KEY, .blob = &blob };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;

#define WRAP ID "\22\3abc"
    if (!TEST_int_eq(read_reply(&action, 200, TEXT(WRAP "\32\14" "0123456789ab" "\52\7AES_GCM"), &result, &err), KMSENV_VERDICT_OK)
        || !TEST_int_eq(read_reply(&action, 200, TEXT(WRAP "\32\14" "0123456789ab" "\52\7AES_CBC"), &result, &err), KMSENV_VERDICT_FINAL)
        || !TEST_int_eq(err.reason, KMSENV_R_KMS_REQUEST_REJECTED) || !TEST_ptr(strstr(err.text, "AES_CBC"))
        || !TEST_int_eq(read_reply(&action, 200, TEXT(WRAP "\32\14" "0123456789ab"), &result, &err), KMSENV_VERDICT_FINAL))
        return 0;
    action.aad_len = 0;
    if (!TEST_int_eq(read_reply(&action, 200, TEXT(WRAP "\52\7AES_ECB"), &result, &err), KMSENV_VERDICT_OK)
        || !TEST_int_eq(read_reply(&action, 200, TEXT(WRAP "\52\7AES_GCM"), &result, &err), KMSENV_VERDICT_FINAL)
        || !TEST_int_eq(read_reply(&action, 200, TEXT(WRAP "\32\14" "0123456789ab"), &result, &err), KMSENV_VERDICT_FINAL))
        return 0;
    action.advance = 1;
    return TEST_int_eq(read_reply(&action, 200, TEXT(WRAP), &result, &err), KMSENV_VERDICT_OK);
}

static const struct { KMSENV_INSTANCE_KIND kind; int status; const char *code, *message; int reason; } errors[] = {
    { KMSENV_INSTANCE_DECRYPT, 400, "InvalidParam", "The Param Date is invalid.", KMSENV_R_KMS_CLOCK },
    { KMSENV_INSTANCE_DECRYPT, 400, "InvalidParam", "The Param CiphertextBlob is invalid.", KMSENV_R_KMS_WRAP_REJECTED },
    { KMSENV_INSTANCE_DECRYPT, 400, "InvalidParam", "", KMSENV_R_KMS_WRAP_REJECTED },
    { KMSENV_INSTANCE_DECRYPT, 400, "InvalidParameter", "The specified parameter is not valid.", KMSENV_R_KMS_WRAP_REJECTED },
    { KMSENV_INSTANCE_GENERATE, 400, "InvalidParameter", "The specified parameter is not valid.", KMSENV_R_KMS_REQUEST_REJECTED },
    { KMSENV_INSTANCE_GENERATE, 400, "InvalidParam", "The Param KeyId is invalid.", KMSENV_R_KMS_REQUEST_REJECTED },
    { KMSENV_INSTANCE_GENERATE, 404, "Unauthorized", "x", KMSENV_R_KMS_CREDENTIALS },
    { KMSENV_INSTANCE_GENERATE, 403, "Forbidden.Unheard-of", "x", KMSENV_R_KMS_ACCESS_DENIED },
    { KMSENV_INSTANCE_GENERATE, 409, "Rejected.Disabled", "x", KMSENV_R_KMS_KEY_DISABLED },
    { KMSENV_INSTANCE_GENERATE, 400, "NobodyKnows", "x", KMSENV_R_KMS_REQUEST_REJECTED },
    { KMSENV_INSTANCE_GENERATE, 500, "NobodyKnows", "x", KMSENV_R_KMS_UNREACHABLE },
    { KMSENV_INSTANCE_GENERATE, 429, "", "x", KMSENV_R_KMS_THROTTLED },
    { KMSENV_INSTANCE_GENERATE, 413, "", "", KMSENV_R_KMS_INPUT_TOO_LARGE },
};

static int test_code(int i)
{
    KMSENV_INSTANCE_ACTION action = { .kind = errors[i].kind };
    KMSENV_RESULT result = { 0 };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    char body[256];
    int n = snprintf(body, sizeof(body), "\22%c%s\32%c%s\"\4id-1", (int)strlen(errors[i].code), errors[i].code,
                     (int)strlen(errors[i].message), errors[i].message);

    /* a length of 0 ends what printf() made: send no such field */
    if (errors[i].code[0] == '\0')
        n = 0;
    else if (errors[i].message[0] == '\0')
        n = snprintf(body, sizeof(body), "\22%c%s\"\4id-1", (int)strlen(errors[i].code), errors[i].code);
    return TEST_int_ne(read_reply(&action, errors[i].status, body, (size_t)n, &result, &err), KMSENV_VERDICT_OK)
           && TEST_int_eq(err.reason, errors[i].reason) && TEST_ptr(strstr(err.text, errors[i].code))
           && TEST_str_eq(result.request_id, n == 0 ? "" : "id-1");
}

int setup_tests(void)
{
    if (!TEST_ptr(crypto = kmsenv_crypto_new(NULL, NULL, "default")))
        return 0;
    ADD_ALL_TESTS(test_client_key, 2);
    ADD_ALL_TESTS(test_bad_file, COUNT(bad_files));
    ADD_TEST(test_wrong_password);
    ADD_TEST(test_extra);
    ADD_ALL_TESTS(test_reply, COUNT(replies));
    ADD_TEST(test_algorithm);
    ADD_ALL_TESTS(test_code, COUNT(errors));
    return 1;
}

void cleanup_tests(void)
{
    kmsenv_crypto_free(crypto);
}
