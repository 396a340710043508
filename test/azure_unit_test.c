/* Azure Key Vault: what it is told and what it tells, with hostile input; and the binding of a context, which is ours alone. */
#include <string.h>
#include <openssl/crypto.h>
#include "testutil.h"
#include "core/secret.h"
#include "kms/azure.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define VERSION  "0123456789abcdef0123456789ABCDEF"
#define NOW      1700000000

static KMSENV_CRYPTO *crypto;

/* --- names ---------------------------------------------------------------- */

static const struct { const char *text, *vault, *name, *version; } keys[] = {
    { "https://v.vault.azure.net/keys/kek", "v.vault.azure.net", "kek", "" },
    { "HTTPS://V.Vault.Azure.Net/Keys/Kek-1/" VERSION, "v.vault.azure.net", "Kek-1", VERSION },
    { "https://v.managedhsm.azure.net:443/keys/k", "v.managedhsm.azure.net", "k", "" },
    { "https://127.0.0.1:8443/keys/k", "127.0.0.1:8443", "k", "" },
    { NULL, NULL, NULL, NULL }, { "", NULL, NULL, NULL }, { "kek", NULL, NULL, NULL }, { "v.vault.azure.net/keys/kek", NULL, NULL, NULL },
    { "http://v.vault.azure.net/keys/kek", NULL, NULL, NULL }, { "https://v.vault.azure.net", NULL, NULL, NULL },
    { "https://v.vault.azure.net/keys", NULL, NULL, NULL }, { "https://v.vault.azure.net/keys/", NULL, NULL, NULL },
    { "https://v.vault.azure.net/keys/kek/", NULL, NULL, NULL }, { "https://v.vault.azure.net/secrets/kek", NULL, NULL, NULL },
    { "https://v.vault.azure.net/keys/k_k", NULL, NULL, NULL }, { "https://v.vault.azure.net/keys/../kek", NULL, NULL, NULL },
    { "https://v.vault.azure.net/keys/k?x", NULL, NULL, NULL }, { "https://u@v.vault.azure.net/keys/k", NULL, NULL, NULL },
    { "https://v.vault.azure.net/keys/k/0123456789abcdef0123456789abcde", NULL, NULL, NULL },
    { "https://v.vault.azure.net/keys/k/0123456789abcdef0123456789abcdef0", NULL, NULL, NULL },
    { "https://v.vault.azure.net/keys/k/0123456789abcdef0123456789abcdeg", NULL, NULL, NULL },
    { "https://v.vault.azure.net/keys/k/" VERSION "/x", NULL, NULL, NULL }, { "https://v.vault.azure.net//keys/k", NULL, NULL, NULL },
    { "https://v.vault.azure.net/keys/k//" VERSION, NULL, NULL, NULL },
};

static int test_key(int i)
{
    KMSENV_AZURE_KEY key;

    if (keys[i].vault == NULL)
        return TEST_false(kmsenv_azure_key_parse(&key, keys[i].text));
    return TEST_true(kmsenv_azure_key_parse(&key, keys[i].text)) && TEST_str_eq(key.vault, keys[i].vault)
           && TEST_str_eq(key.name, keys[i].name) && TEST_str_eq(key.version, keys[i].version);
}

#define EXTRA "\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef"

static const struct { const char *bytes; size_t n; const char *name; } extras[] = {
    { "\x01" EXTRA, 17, "RSA-OAEP-256" }, { "\x02" EXTRA, 17, "A256KW" }, { "\x00" EXTRA, 17, NULL }, { "\x03" EXTRA, 17, NULL },
    { "\x01" EXTRA, 16, NULL }, { "\x01" EXTRA "x", 18, NULL }, { "\x01", 1, NULL }, { NULL, 0, NULL },
};

static int test_extra(int i)
{
    unsigned char made[KMSENV_AZURE_EXTRA_LEN];
    char version[KMSENV_AZURE_VERSION_LEN + 1];
    const KMSENV_AZURE_ALGORITHM *algorithm = NULL;

    if (extras[i].name == NULL)
        return TEST_false(kmsenv_azure_extra_parse((const unsigned char *)extras[i].bytes, extras[i].n, &algorithm, version));
    kmsenv_azure_extra_make(made, kmsenv_azure_algorithm_find(extras[i].name), VERSION);
    return TEST_true(kmsenv_azure_extra_parse((const unsigned char *)extras[i].bytes, extras[i].n, &algorithm, version))
           && TEST_str_eq(algorithm->name, extras[i].name) && TEST_str_eq(version, "0123456789abcdef0123456789abcdef")
           && TEST_mem_eq(made, sizeof(made), extras[i].bytes, extras[i].n);
}

static int test_clouds(void)
{
    char resource[KMSENV_AZURE_RESOURCE_MAX];
    const char *authority = NULL;

    return TEST_true(kmsenv_azure_cloud("a.vault.azure.net", resource, &authority)) && TEST_str_eq(resource, "https://vault.azure.net")
           && TEST_str_eq(authority, "https://login.microsoftonline.com")
           && TEST_true(kmsenv_azure_cloud("a.managedhsm.azure.net", resource, &authority))
           && TEST_str_eq(resource, "https://managedhsm.azure.net")
           && TEST_true(kmsenv_azure_cloud("a.vault.usgovcloudapi.net", resource, &authority))
           && TEST_str_eq(authority, "https://login.microsoftonline.us")
           && TEST_true(kmsenv_azure_cloud("vault.azure.cn", resource, &authority))
           && TEST_str_eq(authority, "https://login.chinacloudapi.cn")
           && TEST_false(kmsenv_azure_cloud("evilvault.azure.net", resource, &authority))
           && TEST_false(kmsenv_azure_cloud("a.vault.azure.net.example", resource, &authority))
           && TEST_false(kmsenv_azure_cloud("azure.net", resource, &authority));
}

/* --- limits: before anything is sent -------------------------------------- */

static const struct { const char *algorithm, *context; size_t n; int reason; const char *words; } lengths[] = {
    { "RSA-OAEP-256", "", 191, KMSENV_R_KMS_INPUT_TOO_LARGE, "190" }, { "RSA-OAEP-256", "a=1", 151, KMSENV_R_KMS_INPUT_TOO_LARGE, "150" },
    { "A256KW", "a=1", 152, KMSENV_R_KMS_INPUT_TOO_LARGE, "150" }, { "A256KW", "", 8, KMSENV_R_KMS_REQUEST_REJECTED, "16 bytes or more" },
    { "A256KW", "", 33, KMSENV_R_KMS_REQUEST_REJECTED, "multiples of 8" }, { "RSA-OAEP-256", "", 0, KMSENV_R_KMS_INPUT_TOO_LARGE, "1 to 190" },
    /* what fits gets as far as to the search for a token */
    { "RSA-OAEP-256", "", 190, KMSENV_R_KMS_CREDENTIALS, "AZURE_FEDERATED_TOKEN_FILE" },
    { "RSA-OAEP-256", "a=1", 150, KMSENV_R_KMS_CREDENTIALS, "AZURE_FEDERATED_TOKEN_FILE" },
    { "A256KW", "a=1", 64, KMSENV_R_KMS_CREDENTIALS, "AZURE_FEDERATED_TOKEN_FILE" },
};

static KMSENV_KMS *open_profile(KMSENV_SECTION *section, const char *algorithm, KMSENV_ERROR *err)
{
    const KMSENV_SERVICES services = { crypto, NULL, NULL };
    const KMSENV_KMS_METHOD *method = kmsenv_kms_method_find("azure");

    if (!TEST_ptr(section) || !TEST_ptr(method) || !TEST_true(kmsenv_kms_add_tables(section, method))
        || !TEST_true(kmsenv_section_set(section, "key-id", "https://v.vault.azure.net/keys/kek", err))
        || !TEST_true(kmsenv_section_set(section, "algorithm", algorithm, err))
        || !TEST_true(kmsenv_section_set(section, "credentials", "workload-identity", err)))
        return NULL;
    return kmsenv_kms_new("test", method, section, &services, err);
}

static int test_length(int i)
{
    static const unsigned char data[256];
    KMSENV_SECTION *section = kmsenv_section_new("test");
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_KMS *kms = open_profile(section, lengths[i].algorithm, &err);
    KMSENV_CONTEXT c;
    KMSENV_BLOB blob;
    int ok;

    kmsenv_context_init(&c);
    ok = TEST_ptr(kms) && TEST_true(kmsenv_context_parse(&c, lengths[i].context, &err))
         && TEST_false(kmsenv_kms_encrypt(kms, &c, NULL, data, lengths[i].n, &blob, &err))
         && TEST_int_eq(err.reason, lengths[i].reason) && TEST_ptr(strstr(err.text, lengths[i].words));
    if (!ok)
        TEST_info("%s", err.text);
    kmsenv_context_reset(&c);
    kmsenv_kms_free(kms);
    kmsenv_section_free(section);
    return ok;
}

/* --- contexts ------------------------------------------------------------- */

/* What is unwrapped under a context: 1 if that is the data, 0 if it is refused as it must be, -1 if anything else happens. */
static int opens(const KMSENV_BUFFER *wrapped, const char *context, const unsigned char *data, size_t n)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_CONTEXT c;
    size_t got = wrapped->length;
    int ok;

    kmsenv_context_init(&c);
    ok = TEST_true(kmsenv_context_parse(&c, context, &err));
    if (kmsenv_azure_unbind(crypto, &c, wrapped->data, &got, &err))
        ok = ok && TEST_mem_eq(wrapped->data, got, data, n) ? 1 : -1;
    else
        ok = ok && TEST_int_eq(err.reason, KMSENV_R_KMS_WRAP_REJECTED) ? 0 : -1;
    kmsenv_context_reset(&c);
    return ok;
}

static int wrap(const char *context, const unsigned char *data, size_t n, KMSENV_BUFFER *out)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_CONTEXT c;
    int ok;

    kmsenv_context_init(&c);
    kmsenv_buffer_init(out, KMSENV_AZURE_PLAINTEXT_MAX, 1);
    ok = TEST_true(kmsenv_context_parse(&c, context, &err)) && kmsenv_azure_bind(crypto, &c, data, n, out, &err);
    kmsenv_context_reset(&c);
    return ok;
}

static int test_bind(void)
{
    static const unsigned char data[64] = "a data key that is known to everybody, of 64 bytes, for a test.";
    KMSENV_BUFFER plain, bound, again;
    int ok;

    ok = TEST_true(wrap("", data, sizeof(data), &plain)) & TEST_true(wrap("b=2,a=1", data, sizeof(data), &bound))
         & TEST_mem_eq(plain.data, plain.length, data, sizeof(data))
         & TEST_size_t_eq(bound.length, sizeof(data) + KMSENV_AZURE_SEAL_LEN)
         & TEST_int_eq(opens(&plain, "", data, sizeof(data)), 1) & TEST_int_eq(opens(&bound, "a=1,b=2", data, sizeof(data)), 1)
         & TEST_int_eq(opens(&bound, "", data, sizeof(data)), 0) & TEST_int_eq(opens(&plain, "a=1", data, sizeof(data)), 0)
         & TEST_int_eq(opens(&bound, "a=1", data, sizeof(data)), 0) & TEST_int_eq(opens(&bound, "a=1,b=3", data, sizeof(data)), 0)
         & TEST_false(wrap("", bound.data, bound.length, &again));   /* without a context nothing may look as if under one */
    kmsenv_buffer_reset(&again);
    bound.data[bound.length - 1] ^= 1;
    ok &= TEST_int_eq(opens(&bound, "a=1,b=2", data, sizeof(data)), 0);
    bound.data[bound.length - KMSENV_AZURE_SEAL_LEN] ^= 1;
    ok &= TEST_int_eq(opens(&bound, "a=1,b=2", data, sizeof(data)), 0);
    bound.length = KMSENV_AZURE_SEAL_LEN;
    ok &= TEST_int_eq(opens(&bound, "a=1,b=2", data, sizeof(data)), 0);
    kmsenv_buffer_reset(&plain);
    kmsenv_buffer_reset(&bound);
    return ok;
}

/* --- replies -------------------------------------------------------------- */

static int reply_with(KMSENV_REPLY *reply, int status, const char *header, const char *body)
{
    kmsenv_reply_init(reply);
    reply->status = status;
    return TEST_true(kmsenv_buffer_add_text(&reply->headers, header)) & TEST_true(kmsenv_buffer_add_text(&reply->body, body));
}

#define KID        "https://v.vault.azure.net/keys/kek/" VERSION
#define ATTRIBUTES "\"attributes\":{\"enabled\":true,\"exp\":1700000001,\"nbf\":1700000000}"
#define KEY        "\"key\":{\"kid\":\"" KID "\",\"kty\":\"RSA-HSM\",\"key_ops\":[\"sign\",\"unwrapKey\",\"wrapKey\"]}"

/* verb: NULL = the key itself */
static const struct { const char *verb, *body; int reason; } replies[] = {
    { "unwrapkey", "{\"kid\":\"" KID "\",\"value\":\"AAECAw\"}", KMSENV_R_NONE },
    { "unwrapkey", "{\"kid\":\"https://V.VAULT.azure.net:443/keys/KEK/" VERSION "\",\"value\":\"AAECAw\"}", KMSENV_R_NONE },
    { "unwrapkey", "{\"value\":\"AAECAw\"}", KMSENV_R_KMS_REPLY_MALFORMED },
    { "unwrapkey", "{\"kid\":\"https://v.vault.azure.net/keys/kek\",\"value\":\"AAECAw\"}", KMSENV_R_KMS_REPLY_MALFORMED },
    { "unwrapkey", "{\"kid\":\"https://w.vault.azure.net/keys/kek/" VERSION "\",\"value\":\"AAECAw\"}", KMSENV_R_KMS_REPLY_MALFORMED },
    { "unwrapkey", "{\"kid\":\"https://v.vault.azure.net/keys/kex/" VERSION "\",\"value\":\"AAECAw\"}", KMSENV_R_KMS_REPLY_MALFORMED },
    { "unwrapkey", "{\"kid\":\"https://v.vault.azure.net/keys/kek/00000000000000000000000000000000\",\"value\":\"AAECAw\"}",
      KMSENV_R_KMS_REPLY_MALFORMED },
    { "unwrapkey", "{\"kid\":\"" KID "\"}", KMSENV_R_KMS_REPLY_MALFORMED },
    { "unwrapkey", "{\"kid\":\"" KID "\",\"value\":\"\"}", KMSENV_R_KMS_REPLY_MALFORMED },
    { "unwrapkey", "{\"kid\":\"" KID "\",\"value\":\"AAECA+\"}", KMSENV_R_KMS_REPLY_MALFORMED },
    { "unwrapkey", "{\"kid\":\"" KID "\",\"value\":\"AAECAwAAECAwAAECAwAAECAwAAECAwAA\"}", KMSENV_R_KMS_REPLY_MALFORMED },
    { "unwrapkey", "{\"kid\":\"" KID "\",\"value\":17}", KMSENV_R_KMS_REPLY_MALFORMED },
    { "unwrapkey", "[]", KMSENV_R_KMS_REPLY_MALFORMED },
    { NULL, "{" KEY "," ATTRIBUTES ",\"tags\":{\"value\":\"x\"}}", KMSENV_R_NONE },
    { NULL, "{" KEY ",\"attributes\":{\"enabled\":true}}", KMSENV_R_NONE },
    { NULL, "{" KEY ",\"attributes\":{\"enabled\":false}}", KMSENV_R_KMS_KEY_DISABLED },
    { NULL, "{" KEY ",\"attributes\":{\"enabled\":true,\"exp\":1700000000}}", KMSENV_R_KMS_KEY_DISABLED },
    { NULL, "{" KEY ",\"attributes\":{\"enabled\":true,\"nbf\":1700000001}}", KMSENV_R_KMS_KEY_DISABLED },
    { NULL, "{" KEY ",\"attributes\":{}}", KMSENV_R_KMS_REPLY_MALFORMED },
    { NULL, "{\"key\":{\"kid\":\"" KID "\",\"kty\":\"oct-HSM\",\"key_ops\":[\"wrapKey\",\"unwrapKey\"]}," ATTRIBUTES "}",
      KMSENV_R_KMS_REQUEST_REJECTED },
    { NULL, "{\"key\":{\"kid\":\"" KID "\",\"kty\":\"RSAX\",\"key_ops\":[\"wrapKey\",\"unwrapKey\"]}," ATTRIBUTES "}",
      KMSENV_R_KMS_REQUEST_REJECTED },
    { NULL, "{\"key\":{\"kid\":\"" KID "\",\"kty\":\"RSA\",\"key_ops\":[\"wrapKey\"]}," ATTRIBUTES "}", KMSENV_R_KMS_REQUEST_REJECTED },
    { NULL, "{\"key\":{\"kid\":\"" KID "\",\"kty\":\"RSA\"}," ATTRIBUTES "}", KMSENV_R_KMS_REQUEST_REJECTED },
};

static int test_reply(int i)
{
    unsigned char *out = kmsenv_secret_zalloc(16);
    KMSENV_AZURE_KEY key;
    const KMSENV_AZURE_ACTION action = { .verb = replies[i].verb, .key = &key, .algorithm = "RSA-OAEP-256" };
    char state[16];
    KMSENV_RESULT r = { .plaintext = action.verb == NULL ? NULL : out, .room = 16, .state = action.verb == NULL ? state : NULL,
                        .state_room = sizeof(state) };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_REPLY reply;
    int ok;

    ok = TEST_ptr(out) && TEST_true(kmsenv_azure_key_parse(&key, KID)) && reply_with(&reply, 200, "", replies[i].body)
         && TEST_int_eq(kmsenv_azure_result(&reply, &action, NOW, &r, &err),
                        replies[i].reason == KMSENV_R_NONE ? KMSENV_VERDICT_OK : KMSENV_VERDICT_FINAL)
         && TEST_int_eq(err.reason, replies[i].reason)
         && (r.plaintext == NULL || err.reason != KMSENV_R_NONE || TEST_mem_eq(out, r.plaintext_len, "\0\1\2\3", 4));
    kmsenv_reply_reset(&reply);
    kmsenv_secret_free(out);
    return ok;
}

static const struct { int status; const char *verb, *header, *body; int reason; KMSENV_VERDICT verdict; const char *words; } errors[] = {
    { 403, "unwrapkey", "", "{\"error\":{\"code\":\"Forbidden\",\"message\":\"x\",\"innerError\":{\"code\":\"KeyDisabled\"}}}",
      KMSENV_R_KMS_KEY_DISABLED, KMSENV_VERDICT_FINAL, "KeyDisabled" },
    { 403, "unwrapkey", "", "{\"error\":{\"code\":\"Forbidden\",\"innererror\":{\"code\":\"Novel\"}}}", KMSENV_R_KMS_ACCESS_DENIED,
      KMSENV_VERDICT_FINAL, "Forbidden" },
    { 400, "wrapkey", "", "{\"error\":{\"code\":\"BadParameter\"}}", KMSENV_R_KMS_REQUEST_REJECTED, KMSENV_VERDICT_FINAL, "algorithm" },
    { 400, "unwrapkey", "", "{\"error\":{\"code\":\"BadParameter\"}}", KMSENV_R_KMS_WRAP_REJECTED, KMSENV_VERDICT_FINAL, "damaged" },
    { 429, "wrapkey", "", "{\"error\":{\"code\":\"Novel\"}}", KMSENV_R_KMS_THROTTLED, KMSENV_VERDICT_RETRY, "429" },
    { 503, "wrapkey", "", "<html>", KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY, "503" },
    { 403, "wrapkey", "", "<html>", KMSENV_R_KMS_ACCESS_DENIED, KMSENV_VERDICT_FINAL, "403" },
    { 401, "wrapkey", "", "", KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_CREDENTIALS, "401" },
    { 401, "wrapkey", "WWW-Authenticate: Bearer authorization=\"https://login.example/t\", resource=\"https://vault.example\"\r\n",
      "{\"error\":{\"code\":\"Novel\"}}", KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_CREDENTIALS,
      "wants one for https://vault.example, given by https://login.example/t" },
    { 401, "wrapkey", "WWW-Authenticate: Bearer authorization=\"https://a b\", resource=\"%s\"\r\n", "{\"error\":{\"code\":\"Unauthorized\"}}",
      KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_CREDENTIALS, "clock (request id none)" },
};

static int test_refusal(int i)
{
    KMSENV_AZURE_KEY key;
    const KMSENV_AZURE_ACTION action = { .verb = errors[i].verb, .key = &key, .algorithm = "A256KW" };
    KMSENV_RESULT r = { 0 };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_REPLY reply;
    int ok;

    ok = TEST_true(kmsenv_azure_key_parse(&key, KID)) && reply_with(&reply, errors[i].status, errors[i].header, errors[i].body)
         && TEST_int_eq(kmsenv_azure_result(&reply, &action, NOW, &r, &err), errors[i].verdict)
         && TEST_int_eq(err.reason, errors[i].reason) && TEST_ptr(strstr(err.text, errors[i].words));
    if (!ok)
        TEST_info("%s", err.text);
    kmsenv_reply_reset(&reply);
    return ok;
}

/* --- tokens --------------------------------------------------------------- */

static const struct { int status; const char *body; int64_t expires; int reason; KMSENV_VERDICT verdict; } tokens[] = {
    { 200, "{\"access_token\":\"FAKE\",\"expires_in\":60}", NOW + 60, KMSENV_R_NONE, KMSENV_VERDICT_OK },
    { 200, "{\"access_token\":\"FAKE\",\"expires_in\":\"60\",\"expires_on\":\"1\"}", NOW + 60, KMSENV_R_NONE, KMSENV_VERDICT_OK },
    { 200, "{\"access_token\":\"FAKE\",\"expires_on\":\"1700000030\"}", NOW + 30, KMSENV_R_NONE, KMSENV_VERDICT_OK },
    { 200, "{\"access_token\":\"FAKE\",\"expires_in\":9000000000}", NOW + 31 * 86400, KMSENV_R_NONE, KMSENV_VERDICT_OK },
    { 200, "{\"access_token\":\"FAKE\"}", 0, KMSENV_R_KMS_REPLY_MALFORMED, KMSENV_VERDICT_FINAL },
    { 200, "{\"access_token\":\"FAKE\",\"expires_in\":-5}", 0, KMSENV_R_KMS_REPLY_MALFORMED, KMSENV_VERDICT_FINAL },
    { 200, "{\"access_token\":\"FAKE\",\"expires_in\":\"6e1\",\"expires_on\":\"1700000000\"}", 0, KMSENV_R_KMS_REPLY_MALFORMED,
      KMSENV_VERDICT_FINAL },
    { 200, "{\"access_token\":\"\",\"expires_in\":60}", 0, KMSENV_R_KMS_REPLY_MALFORMED, KMSENV_VERDICT_FINAL },
    { 200, "{\"expires_in\":60}", 0, KMSENV_R_KMS_REPLY_MALFORMED, KMSENV_VERDICT_FINAL },
    { 200, "no", 0, KMSENV_R_KMS_REPLY_MALFORMED, KMSENV_VERDICT_FINAL },
    { 401, "{\"error\":\"invalid_client\",\"error_description\":\"AADSTS7000215: x\"}", 0, KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_FINAL },
    { 400, "{\"error\":\"novel\"}", 0, KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_FINAL },
    { 400, "{\"error\":\"temporarily_unavailable\"}", 0, KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY },
    { 404, "<html>", 0, KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_FINAL },
    { 429, "{}", 0, KMSENV_R_KMS_THROTTLED, KMSENV_VERDICT_RETRY },
    { 503, "", 0, KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY },
};

static int test_token(int i)
{
    KMSENV_CREDENTIAL c = { 0 };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_REPLY reply;
    int ok;

    ok = reply_with(&reply, tokens[i].status, "", tokens[i].body)
         && TEST_int_eq(kmsenv_azure_login_result(&reply, NOW, &c, &err), tokens[i].verdict)
         && TEST_int_eq(err.reason, tokens[i].reason)
         && (tokens[i].verdict != KMSENV_VERDICT_OK || (TEST_true(c.expires == tokens[i].expires) && TEST_str_eq(c.token, "FAKE")))
         && (strstr(tokens[i].body, "AADSTS") == NULL || TEST_true(strncmp(err.text, "AADSTS7000215: ", 15) == 0));
    OPENSSL_free(c.id);
    kmsenv_secret_free(c.token);
    kmsenv_reply_reset(&reply);
    return ok;
}

static const struct { const char *url; int good; } identity_endpoints[] = {
    { "http://127.0.0.1:41111/msi/token", 1 }, { "http://localhost:1/x", 1 }, { "http://169.254.129.3:8081/msi/token", 1 },
    { "http://172.16.0.2:8081/msi/token/", 1 }, { "https://identity.example/x", 1 }, { "http://identity.example/x", 0 },
    { "http://172.32.0.2/x", 0 }, { "http://8.8.8.8/x", 0 }, { "http://10.1.1.1.example/x", 0 }, { "ftp://127.0.0.1/", 0 },
};

static int test_identity_endpoint(int i)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_ENDPOINT endpoint;
    KMSENV_REQUEST request;
    int ok;

    ok = TEST_int_eq(kmsenv_azure_app_request(identity_endpoints[i].url, "header", "https://vault.azure.net", NULL, &endpoint, &request,
                                              &err), identity_endpoints[i].good)
         && (!identity_endpoints[i].good || TEST_true(request.direct));
    kmsenv_request_reset(&request);
    return ok;
}

int setup_tests(void)
{
    if (!TEST_ptr(crypto = kmsenv_crypto_new(NULL, NULL, "default")))
        return 0;
    ADD_ALL_TESTS(test_key, COUNT(keys));
    ADD_ALL_TESTS(test_extra, COUNT(extras));
    ADD_TEST(test_clouds);
    ADD_ALL_TESTS(test_length, COUNT(lengths));
    ADD_TEST(test_bind);
    ADD_ALL_TESTS(test_reply, COUNT(replies));
    ADD_ALL_TESTS(test_refusal, COUNT(errors));
    ADD_ALL_TESTS(test_token, COUNT(tokens));
    ADD_ALL_TESTS(test_identity_endpoint, COUNT(identity_endpoints));
    return 1;
}

void cleanup_tests(void)
{
    kmsenv_crypto_free(crypto);
}
