/* Google Cloud KMS, the parts that a stand-in cannot show: names, URLs, checksums, what a reply may say, files of credentials. */
#include <string.h>
#include <openssl/crypto.h>
#include "testutil.h"
#include "core/secret.h"
#include "kms/base64.h"
#include "kms/crc32c.h"
#include "kms/google.h"

#define KEY "projects/p-1/locations/global/keyRings/r_1/cryptoKeys/k"

/* --- checksums and base64 ------------------------------------------------- */

static int test_crc32c(void)
{
    unsigned char zeros[32] = { 0 }, ones[32], up[32];
    size_t i;

    memset(ones, 0xff, sizeof(ones));
    for (i = 0; i < sizeof(up); i++)
        up[i] = (unsigned char)i;
    /* RFC 3720, B.4, and the check value of the polynomial */
    return TEST_true(kmsenv_crc32c("123456789", 9) == 0xe3069283) && TEST_true(kmsenv_crc32c("", 0) == 0)
           && TEST_true(kmsenv_crc32c(zeros, 32) == 0x8a9136aa) && TEST_true(kmsenv_crc32c(ones, 32) == 0x62a8ab43)
           && TEST_true(kmsenv_crc32c(up, 32) == 0x46dd794e);
}

static int test_base64url(void)
{
    static const struct { const char *in; size_t n; const char *out; } rows[] = {
        { "", 0, "" }, { "\xff", 1, "_w" }, { "\xfb\xff", 2, "-_8" }, { "\xfb\xff\xbf", 3, "-_-_" }, { "a", 1, "YQ" },
    };
    KMSENV_BUFFER b;
    size_t i;
    int ok = 1;

    for (i = 0; ok && i < sizeof(rows) / sizeof(rows[0]); i++) {
        kmsenv_buffer_init(&b, 64, 1);
        ok = TEST_true(kmsenv_buffer_add_text(&b, "+/=")) && TEST_true(kmsenv_base64url_add(&b, rows[i].in, rows[i].n))
             && TEST_strn_eq(kmsenv_buffer_text(&b), "+/=", 3) && TEST_str_eq(kmsenv_buffer_text(&b) + 3, rows[i].out);
        kmsenv_buffer_reset(&b);
    }
    return ok;
}

/* --- names and URLs ------------------------------------------------------- */

static int test_key_names(void)
{
    static const struct { const char *text; size_t length; } rows[] = {
        { KEY, sizeof(KEY) - 1 }, { KEY "/cryptoKeyVersions/12", sizeof(KEY) - 1 },
        { "projects/example.com:p/locations/l/keyRings/r/cryptoKeys/k", 58 },
        { "projects/12345/locations/l/keyRings/r/cryptoKeys/k", 50 },
        { "", 0 }, { "k", 0 }, { KEY "/", 0 }, { KEY "/cryptoKeyVersions/", 0 }, { KEY "/cryptoKeyVersions/1x", 0 },
        { KEY "/cryptoKeyVersions/1/x", 0 }, { KEY ":encrypt", 0 }, { KEY "?x=y", 0 }, { KEY "#", 0 }, { "/" KEY, 0 },
        { "projects/../locations/l/keyRings/r/cryptoKeys/k", 0 }, { "projects/./locations/l/keyRings/r/cryptoKeys/k", 0 },
        { "projects//locations/l/keyRings/r/cryptoKeys/k", 0 }, { "projects/p/locations/l/keyRings/r/cryptoKeys/", 0 },
        { "projects/p/locations/l%2f/keyRings/r/cryptoKeys/k", 0 }, { "projects/p/locations/l/keyRings/r/importJobs/k", 0 },
    };
    char long_name[KMSENV_NAME_MAX + 8];
    size_t i;
    int ok = 1;

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        ok &= TEST_size_t_eq(kmsenv_google_key_length(rows[i].text), rows[i].length);
    memset(long_name, 'k', sizeof(long_name));
    memcpy(long_name, KEY, sizeof(KEY) - 1);
    long_name[KMSENV_NAME_MAX] = '\0';
    ok &= TEST_size_t_eq(kmsenv_google_key_length(long_name), KMSENV_NAME_MAX);
    long_name[KMSENV_NAME_MAX] = 'k';
    long_name[KMSENV_NAME_MAX + 1] = '\0';
    return ok & TEST_size_t_eq(kmsenv_google_key_length(long_name), 0);
}

#define IAM "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/"

static int test_service_urls(void)
{
    static const struct { const char *service, *universe, *url; int good; } rows[] = {
        { "sts", "googleapis.com", "https://sts.googleapis.com/v1/token", 1 },
        { "sts", "googleapis.com", "https://sts.us-east1.rep.googleapis.com/v1/token", 1 },
        { "sts", "googleapis.com", "https://sts-psc.p.googleapis.com/v1/token", 1 },
        { "sts", "cloud.example", "https://sts.cloud.example/v1/token", 1 },
        { "sts", "cloud.example", "https://sts.googleapis.com/v1/token", 0 },
        { "sts", "googleapis.com", "https://sts.cloud.example/v1/token", 0 },
        { "sts", "googleapis.com", "https://sts.googleapis.com/v1/tokens", 0 },
        { "sts", "googleapis.com", "https://sts.googleapis.com/v1/token?x", 0 },
        { "sts", "googleapis.com", "https://sts.googleapis.com/v1/token#x", 0 },
        { "sts", "googleapis.com", "https://sts.googleapis.com", 0 },
        { "sts", "googleapis.com", "https://stsgoogleapis.com/v1/token", 0 },
        { "sts", "googleapis.com", "https://sts-googleapis.com/v1/token", 0 },
        { "sts", "googleapis.com", "https://stsx.googleapis.com/v1/token", 0 },
        { "sts", "googleapis.com", "https://googleapis.com/v1/token", 0 },
        { "sts", "googleapis.com", "https://sts.evilgoogleapis.com/v1/token", 0 },
        { "sts", "googleapis.com", "https://sts.googleapis.com.evil.example/v1/token", 0 },
        { "sts", "googleapis.com", "https://sts.googleapis.com@evil.example/v1/token", 0 },
        { "sts", "googleapis.com", "https://evil.example/sts.googleapis.com/v1/token", 0 },
        { "sts", "googleapis.com", "https://sts.googleapis.com:444/v1/token", 0 },
        { "sts", "googleapis.com", "http://sts.googleapis.com/v1/token", 0 },
        { "sts", "googleapis.com", "http://127.0.0.1/v1/token", 0 },
        { "sts", "googleapis.com", "sts.googleapis.com/v1/token", 0 },
        { "sts", "googleapis.com", "https://sts.googleapis.com/v1/token\r\nX: y", 0 },
        { "sts", "googleapis.com", "https://sts.google\xc3\xa4pis.com/v1/token", 0 },
        { "oauth2", "googleapis.com", "https://oauth2.googleapis.com/token", 1 },
        { "oauth2", "googleapis.com", "https://accounts.google.com/o/oauth2/token", 1 },
        { "oauth2", "cloud.example", "https://accounts.google.com/o/oauth2/token", 0 },
        { "sts", "googleapis.com", "https://accounts.google.com/o/oauth2/token", 0 },
        { "oauth2", "googleapis.com", "https://accounts.google.com/token", 0 },
        { "oauth2", "googleapis.com", "https://www.googleapis.com/token", 0 },
        { "iamcredentials", "googleapis.com", IAM "a@b.iam.gserviceaccount.com:generateAccessToken", 1 },
        { "iamcredentials", "googleapis.com", IAM "a@b:generateIdToken", 0 },
        { "iamcredentials", "googleapis.com", IAM ":generateAccessToken", 0 },
        { "iamcredentials", "googleapis.com", IAM "a/b:generateAccessToken", 0 },
        { "iamcredentials", "googleapis.com", IAM "a:generateAccessToken/x", 0 },
    };
    KMSENV_ERROR err;
    KMSENV_ENDPOINT host;
    const char *path;
    size_t i;
    int ok = 1, good;

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        kmsenv_error_clear(&err);
        good = kmsenv_google_service_url(rows[i].url, rows[i].service, rows[i].universe, "token_url", &host, &path, &err);
        if (!TEST_int_eq(good, rows[i].good) || (!good && (!TEST_int_eq(err.reason, KMSENV_R_KMS_CREDENTIALS)
                                                           || !TEST_ptr(strstr(err.text, "token_url"))))) {
            TEST_info("%s: %s", rows[i].url, err.text);
            ok = 0;
        }
    }
    return ok;
}

static int test_universes(void)
{
    return TEST_true(kmsenv_google_is_universe("googleapis.com")) && TEST_true(kmsenv_google_is_universe("s3nsapis.fr"))
           && TEST_false(kmsenv_google_is_universe("")) && TEST_false(kmsenv_google_is_universe("com"))
           && TEST_false(kmsenv_google_is_universe(".com")) && TEST_false(kmsenv_google_is_universe("a..com"))
           && TEST_false(kmsenv_google_is_universe("a.com/")) && TEST_false(kmsenv_google_is_universe("a.com:1"));
}

/* --- replies -------------------------------------------------------------- */

static void make_reply(KMSENV_REPLY *reply, int status, const char *headers, const char *body)
{
    kmsenv_reply_init(reply);
    reply->status = status;
    kmsenv_buffer_add_text(&reply->headers, headers);
    kmsenv_buffer_add_text(&reply->body, body);
}

#define VERSION(s) "{\"name\":\"" KEY "/cryptoKeyVersions/2\",\"state\":\"" s "\",\"algorithm\":\"GOOGLE_SYMMETRIC_ENCRYPTION\"}"
#define PRIMARY(s) "{\"name\":\"" KEY "\",\"purpose\":\"ENCRYPT_DECRYPT\",\"primary\":" VERSION(s) "}"

static const struct { const char *asked, *body; int reason; const char *words; } states[] = {
    { KEY, PRIMARY("ENABLED"), KMSENV_R_NONE, "ENABLED" },
    { KEY, PRIMARY("DISABLED"), KMSENV_R_KMS_KEY_DISABLED, "state DISABLED" },
    { KEY, PRIMARY("DESTROY_SCHEDULED"), KMSENV_R_KMS_KEY_DISABLED, "state DESTROY_SCHEDULED" },
    { KEY, "{\"name\":\"" KEY "\",\"purpose\":\"ENCRYPT_DECRYPT\"}", KMSENV_R_KMS_KEY_DISABLED, "no primary version" },
    { KEY, "{\"name\":\"" KEY "\",\"purpose\":\"ASYMMETRIC_SIGN\"}", KMSENV_R_KMS_REQUEST_REJECTED, "ENCRYPT_DECRYPT" },
    { KEY, "{\"name\":\"" KEY "x\",\"purpose\":\"ENCRYPT_DECRYPT\"}", KMSENV_R_KMS_REPLY_MALFORMED, "another key" },
    { KEY, "{\"purpose\":\"ENCRYPT_DECRYPT\"}", KMSENV_R_KMS_REPLY_MALFORMED, "no name" },
    { KEY, "{\"name\":\"" KEY "\",\"purpose\":\"ENCRYPT_DECRYPT\",\"primary\":{}}", KMSENV_R_KMS_REPLY_MALFORMED, "no state" },
    { KEY "/cryptoKeyVersions/2", VERSION("ENABLED"), KMSENV_R_NONE, "ENABLED" },
    { KEY "/cryptoKeyVersions/2", VERSION("DESTROYED"), KMSENV_R_KMS_KEY_DISABLED, "state DESTROYED" },
    { KEY "/cryptoKeyVersions/1", VERSION("ENABLED"), KMSENV_R_KMS_REPLY_MALFORMED, "another key" },
    { KEY "/cryptoKeyVersions/2", "{\"name\":\"" KEY "/cryptoKeyVersions/2\",\"state\":\"ENABLED\",\"algorithm\":\"RSA_SIGN_PSS_2048_SHA256\"}",
      KMSENV_R_KMS_REQUEST_REJECTED, "symmetric" },
    { KEY, "{\"error\":{\"code\":403,\"status\":\"PERMISSION_DENIED\",\"details\":[{\"@type\":\"x\"},{\"reason\":\"SERVICE_DISABLED\"}]}}",
      KMSENV_R_KMS_ACCESS_DENIED, "not enabled in the project" },
    { KEY, "{\"error\":{\"status\":\"PERMISSION_DENIED\",\"details\":[{\"reason\":\"IAM_PERMISSION_DENIED\"}]}}",
      KMSENV_R_KMS_ACCESS_DENIED, "IAM does not allow" },
};

static int test_state(int i)
{
    const KMSENV_GOOGLE_OPERATION op = { .name = states[i].asked, .checksums = 1 };
    char state[40] = "";
    KMSENV_RESULT r = { .key_id = states[i].asked, .state = state, .state_room = sizeof(state) };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_REPLY reply;
    KMSENV_VERDICT verdict;
    int ok;

    make_reply(&reply, strstr(states[i].body, "error") != NULL ? 403 : 200, "", states[i].body);
    verdict = kmsenv_google_result(&reply, &op, 0, &r, &err);
    ok = TEST_int_eq(err.reason, states[i].reason) && TEST_int_eq(verdict == KMSENV_VERDICT_OK, err.reason == KMSENV_R_NONE)
         && TEST_ptr(strstr(err.reason == KMSENV_R_NONE ? state : err.text, states[i].words));
    if (!ok)
        TEST_info("%s", err.text);
    kmsenv_reply_reset(&reply);
    return ok;
}

#define OF(name) "{\"name\":\"" name "\",\"ciphertext\":\"MTIzNDU2Nzg5\",\"ciphertextCrc32c\":\"3808858755\",\"verifiedPlaintextCrc32c\":true}"
#define SUM(sum) "{\"name\":\"" KEY "\",\"ciphertext\":\"MTIzNDU2Nzg5\",\"ciphertextCrc32c\":" sum ",\"verifiedPlaintextCrc32c\":true}"

/* The key of the reply: by the project's id or its number, which are names of the same; and its checksum. */
static const struct { const char *asked, *body; KMSENV_VERDICT verdict; } wraps[] = {
    { KEY, OF(KEY "/cryptoKeyVersions/1"), KMSENV_VERDICT_OK },
    { KEY, OF("projects/123/locations/global/keyRings/r_1/cryptoKeys/k/cryptoKeyVersions/1"), KMSENV_VERDICT_OK },
    { "projects/123/locations/global/keyRings/r_1/cryptoKeys/k", OF(KEY "/cryptoKeyVersions/1"), KMSENV_VERDICT_OK },
    { "projects/123/locations/global/keyRings/r_1/cryptoKeys/k", OF("projects/124/locations/global/keyRings/r_1/cryptoKeys/k"), KMSENV_VERDICT_FINAL },
    { KEY, OF("projects/p-2/locations/global/keyRings/r_1/cryptoKeys/k"), KMSENV_VERDICT_FINAL },
    { KEY, OF(KEY "2/cryptoKeyVersions/1"), KMSENV_VERDICT_FINAL },
    { KEY, OF("projects/p-1/locations/global/keyRings/r_1/cryptoKeys"), KMSENV_VERDICT_FINAL },
    { KEY, OF("projects/123/locations/eu/keyRings/r_1/cryptoKeys/k"), KMSENV_VERDICT_FINAL },
    { KEY "/cryptoKeyVersions/1", OF(KEY "/cryptoKeyVersions/1"), KMSENV_VERDICT_OK },
    { KEY "/cryptoKeyVersions/1", OF(KEY "/cryptoKeyVersions/12"), KMSENV_VERDICT_FINAL },
    { KEY "/cryptoKeyVersions/1", OF(KEY), KMSENV_VERDICT_FINAL },
    { KEY, SUM("\"3808858755\""), KMSENV_VERDICT_OK },
    { KEY, SUM("\"3808858756\""), KMSENV_VERDICT_RETRY },
    { KEY, SUM("\"38088587550\""), KMSENV_VERDICT_RETRY },
    { KEY, SUM("\"+3808858755\""), KMSENV_VERDICT_RETRY },
    { KEY, SUM("\"-486108541\""), KMSENV_VERDICT_RETRY },
    { KEY, SUM("\"8103826051\""), KMSENV_VERDICT_RETRY },      /* modulo 2^32 it would be right */
    { KEY, SUM("\"3808858755 \""), KMSENV_VERDICT_RETRY },
    { KEY, SUM("\"\""), KMSENV_VERDICT_RETRY },
    { KEY, SUM("null"), KMSENV_VERDICT_RETRY },
};

static int test_wrap(int i)
{
    const KMSENV_GOOGLE_OPERATION op = { .verb = "encrypt", .name = wraps[i].asked, .plaintext = (const unsigned char *)"x",
                                         .plaintext_len = 1, .checksums = 1 };
    KMSENV_BLOB blob = { 0 };
    KMSENV_RESULT r = { .key_id = wraps[i].asked, .blob = &blob };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_REPLY reply;
    int ok;

    make_reply(&reply, 200, "X-Goog-Request-Id: abc-1 (x)\r\n", wraps[i].body);
    ok = TEST_int_eq(kmsenv_google_result(&reply, &op, 0, &r, &err), wraps[i].verdict) && TEST_str_eq(r.request_id, "abc-1")
         && (wraps[i].verdict == KMSENV_VERDICT_OK ? TEST_mem_eq(blob.ciphertext, blob.ciphertext_len, "123456789", 9)
             : TEST_ptr_null(blob.ciphertext) && TEST_int_eq(err.reason, KMSENV_R_KMS_REPLY_MALFORMED));
    if (!ok)
        TEST_info("%s", err.text);
    kmsenv_blob_reset(&blob);
    kmsenv_reply_reset(&reply);
    return ok;
}

/* --- tokens --------------------------------------------------------------- */

#define DATE "Date: Tue, 14 Nov 2023 22:13:20 GMT\r\n"     /* 1700000000 */
#define NOW  1700000100                                    /* by our clock, which is not exact */

static const struct { int status; const char *body; int64_t expires; int reason; KMSENV_VERDICT verdict; } tokens[] = {
    { 200, "{\"access_token\":\"t\",\"expires_in\":3599,\"token_type\":\"bearer\"}", NOW + 3599, KMSENV_R_NONE, KMSENV_VERDICT_OK },
    { 200, "{\"accessToken\":\"t\",\"expireTime\":\"2023-11-14T23:13:20Z\"}", NOW + 3600, KMSENV_R_NONE, KMSENV_VERDICT_OK },
    { 200, "{\"accessToken\":\"t\",\"expireTime\":\"2023-11-14T22:13:20Z\"}", 0, KMSENV_R_KMS_REPLY_MALFORMED, KMSENV_VERDICT_FINAL },
    { 200, "{\"access_token\":\"t\"}", 0, KMSENV_R_KMS_REPLY_MALFORMED, KMSENV_VERDICT_FINAL },
    { 200, "{\"access_token\":\"t\",\"expires_in\":0}", 0, KMSENV_R_KMS_REPLY_MALFORMED, KMSENV_VERDICT_FINAL },
    { 200, "{\"access_token\":\"t\",\"expires_in\":1e300}", 0, KMSENV_R_KMS_REPLY_MALFORMED, KMSENV_VERDICT_FINAL },
    { 200, "{\"access_token\":\"\",\"expires_in\":3599}", 0, KMSENV_R_KMS_REPLY_MALFORMED, KMSENV_VERDICT_FINAL },
    { 200, "{\"id_token\":\"t\",\"expires_in\":3599}", 0, KMSENV_R_KMS_REPLY_MALFORMED, KMSENV_VERDICT_FINAL },
    { 200, "{\"access_token\":\"t\",\"expires_in\":3599,\"token_type\":\"mac\"}", 0, KMSENV_R_KMS_REPLY_MALFORMED, KMSENV_VERDICT_FINAL },
    { 200, "<html>", 0, KMSENV_R_KMS_REPLY_MALFORMED, KMSENV_VERDICT_FINAL },
    { 400, "{\"error\":\"invalid_grant\"}", 0, KMSENV_R_KMS_CLOCK, KMSENV_VERDICT_CLOCK },
    { 400, "{\"error\":\"invalid_client\"}", 0, KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_FINAL },
    { 403, "{\"error\":{\"status\":\"PERMISSION_DENIED\"}}", 0, KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_FINAL },
    { 503, "{\"error\":{\"status\":\"UNAVAILABLE\"}}", 0, KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY },
    { 500, "oops", 0, KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY },
};

static int test_token(int i)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_GOOGLE_TOKEN token;
    KMSENV_REPLY reply;
    int ok;

    kmsenv_google_token_init(&token);
    make_reply(&reply, tokens[i].status, DATE, tokens[i].body);
    ok = TEST_int_eq(kmsenv_google_token_result(&reply, NOW, &token, &err), tokens[i].verdict)
         && TEST_int_eq(err.reason, tokens[i].reason)
         && TEST_str_eq(kmsenv_buffer_text(&token.text), tokens[i].verdict == KMSENV_VERDICT_OK ? "t" : "")
         && TEST_true(tokens[i].verdict != KMSENV_VERDICT_OK || token.expires == tokens[i].expires);
    if (!ok)
        TEST_info("%s", err.text);
    kmsenv_reply_reset(&reply);
    kmsenv_google_token_reset(&token);
    return ok;
}

int setup_tests(void)
{
    ADD_TEST(test_crc32c);
    ADD_TEST(test_base64url);
    ADD_TEST(test_key_names);
    ADD_TEST(test_service_urls);
    ADD_TEST(test_universes);
    ADD_ALL_TESTS(test_state, (int)(sizeof(states) / sizeof(states[0])));
    ADD_ALL_TESTS(test_wrap, (int)(sizeof(wraps) / sizeof(wraps[0])));
    ADD_ALL_TESTS(test_token, (int)(sizeof(tokens) / sizeof(tokens[0])));
    return 1;
}
