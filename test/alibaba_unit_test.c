/* Alibaba Cloud KMS: names, parameters, parts of JSON files and replies, where the golden vectors do not reach. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include "testutil.h"
#include "core/clock.h"
#include "core/secret.h"
#include "kms/alibaba.h"

#define COUNT(table) ((int)(sizeof(table) / sizeof((table)[0])))
#define ARN          "acs:kms:cn-hangzhou:1000000000000001:"

/* --- names ---------------------------------------------------------------- */

static const struct { const char *text; int valid, alias; const char *bare, *region; } names[] = {
    { "key-hzz630494463ejqjx", 1, 0, "key-hzz630494463ejqjx", NULL },
    { "1234abcd-12ab-34cd-56ef-1234567890ab", 1, 0, "1234abcd-12ab-34cd-56ef-1234567890ab", NULL },
    { "alias/app", 1, 1, "alias/app", NULL },
    { ARN "key/key-1", 1, 0, "key-1", "cn-hangzhou" },
    { ARN "alias/app", 1, 1, ARN "alias/app", "cn-hangzhou" },
    { "", 0, 0, "", NULL },
    { "alias/", 0, 1, "alias/", NULL },
    { ARN, 0, 0, ARN, "cn-hangzhou" },
    { ARN "key/", 0, 0, "", "cn-hangzhou" },
    { ARN "secret/x", 0, 0, ARN "secret/x", "cn-hangzhou" },
    { "acs:kms:cn-hangzhou:1000000000000001", 0, 0, "acs:kms:cn-hangzhou:1000000000000001", NULL },
    { "acs:kms:cn-hangzhou::key/x", 0, 0, "acs:kms:cn-hangzhou::key/x", NULL },
    { "acs:kms::1:key/x", 0, 0, "acs:kms::1:key/x", NULL },
    { "acs:kms:a-region-with-a-name-that-is-much-too-long:1:key/x", 0, 0, "acs:kms:a-region-with-a-name-that-is-much-too-long:1:key/x", NULL },
    { "acs:ram::1:role/x", 0, 0, "acs:ram::1:role/x", NULL },
    { "a key", 0, 0, "a key", NULL },
    { "key\nHost: x", 0, 0, "key\nHost: x", NULL }
};

static int test_names(int i)
{
    char region[KMSENV_ALIBABA_REGION_MAX];

    return TEST_int_eq(kmsenv_alibaba_is_key_id(names[i].text), names[i].valid)
           && TEST_int_eq(kmsenv_alibaba_is_alias(names[i].text), names[i].alias)
           && TEST_str_eq(kmsenv_alibaba_bare_id(names[i].text), names[i].bare)
           && TEST_int_eq(kmsenv_alibaba_arn_region(names[i].text, region, sizeof(region)), names[i].region != NULL)
           && (names[i].region == NULL || TEST_str_eq(region, names[i].region));
}

static const struct { const char *service, *region, *url; int vpc; } hosts[] = {
    { "kms", "cn-hangzhou", "https://kms.cn-hangzhou.aliyuncs.com", 0 },
    { "kms", "ap-southeast-1", "https://kms-vpc.ap-southeast-1.aliyuncs.com", 1 },
    { "sts", NULL, "https://sts.aliyuncs.com", 0 },
    { "sts", NULL, "https://sts.aliyuncs.com", 1 },
    { "sts", "cn-beijing", "https://sts-vpc.cn-beijing.aliyuncs.com", 1 },
    { "kms", "", NULL, 0 },
    { "kms", "evil.example/", NULL, 0 },
    { "kms", "evil.example#", NULL, 0 },
    { "kms", "a-region-with-a-name-that-is-much-too-long", NULL, 0 }
};

static int test_hosts(int i)
{
    char url[KMSENV_ENDPOINT_TEXT_MAX];

    if (hosts[i].url == NULL)
        return TEST_false(kmsenv_alibaba_endpoint(hosts[i].service, hosts[i].vpc, hosts[i].region, url, sizeof(url)));
    return TEST_true(kmsenv_alibaba_endpoint(hosts[i].service, hosts[i].vpc, hosts[i].region, url, sizeof(url)))
           && TEST_str_eq(url, hosts[i].url);
}

static const struct { const char *uri; int plain; const char *host, *target; } uris[] = {
    { "http://localhost:6666/?user=someone", 0, "localhost:6666", "/?user=someone" },
    { "http://127.0.0.1/creds", 0, "127.0.0.1", "/creds" },
    { "http://127.0.0.1/creds/", 0, "127.0.0.1", "/creds/" },
    { "https://kms.example", 0, "kms.example", "/" },
    { "https://kms.example?a=b/..", 0, "kms.example", "/?a=b/.." },
    { "http://kms.example/creds", 1, "kms.example", "/creds" },
    { "http://kms.example/creds", 0, NULL, NULL },
    { "http://localhost/?user=a b", 0, NULL, NULL },
    { "http://localhost/?user=a\r\nX: y", 0, NULL, NULL },
    { "http://localhost/?user=a#b", 0, NULL, NULL },
    { "", 0, NULL, NULL },
    { "?", 0, NULL, NULL }
};

static int test_uris(int i)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_ENDPOINT endpoint;
    KMSENV_REQUEST r;
    int ok = kmsenv_alibaba_uri_request(uris[i].uri, uris[i].plain, &endpoint, &r, &err);

    if (uris[i].host == NULL)
        ok = TEST_false(ok) && TEST_int_ne(err.reason, KMSENV_R_NONE);
    else
        ok = TEST_true(ok) && TEST_str_eq(kmsenv_request_header(&r, "Host"), uris[i].host)
             && TEST_str_eq(kmsenv_buffer_text(&r.target), uris[i].target);
    kmsenv_request_reset(&r);
    return ok;
}

/* --- parameters ----------------------------------------------------------- */

static const struct { const char *target, *body; int form; const char *canonical; } params[] = {
    { "/", "", 1, "" },
    { "/?b=2&a=1", "", 1, "a=1&b=2" },
    { "/?b=2", "a=1", 1, "a=1&b=2" },
    { "/?b=2", "a=1", 0, "b=2" },
    { "/?A=1&a=2&AB=3&a-=4", "", 0, "A=1&AB=3&a=2&a-=4" },
    { "/?k=it's+(a)*~%2f%2B%c3%a4", "", 0, "k=it%27s%20%28a%29%2A~%2F%2B%C3%A4" },
    { "/?a&&b=&=c", "", 0, "=c&a=&b=" },
    { "/?Signature=x&a=1&SignatureNonce=n", "", 0, "SignatureNonce=n&a=1" },
    { "/?a=%", "", 0, NULL },
    { "/?a=%4", "", 0, NULL },
    { "/?a=%zz", "", 0, NULL },
    { "/", "%4=1", 1, NULL }
};

static int test_params(int i)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_BUFFER out;
    KMSENV_REQUEST r;
    int ok;

    kmsenv_request_init(&r, "POST");
    kmsenv_buffer_init(&out, 4096, 1);
    kmsenv_buffer_add_text(&r.target, params[i].target);
    kmsenv_buffer_add_text(&r.body, params[i].body);
    ok = kmsenv_acs_canonical_params(&r, params[i].form, &out, &err);
    ok = params[i].canonical == NULL ? TEST_false(ok) && TEST_int_ne(err.reason, KMSENV_R_NONE)
                                     : TEST_true(ok) && TEST_str_eq(kmsenv_buffer_text(&out), params[i].canonical);
    kmsenv_buffer_reset(&out);
    kmsenv_request_reset(&r);
    return ok;
}

static int test_too_many_params(void)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_BUFFER out;
    KMSENV_REQUEST r;
    int i, ok;

    kmsenv_request_init(&r, "POST");
    kmsenv_buffer_init(&out, 4096, 1);
    kmsenv_buffer_add_text(&r.target, "/?");
    for (i = 0; i < 65; i++)
        kmsenv_form_add(&r.target, "a", "b");
    ok = TEST_false(kmsenv_acs_canonical_params(&r, 0, &out, &err)) && TEST_int_eq(err.reason, KMSENV_R_KMS_INPUT_TOO_LARGE);
    kmsenv_buffer_reset(&out);
    kmsenv_request_reset(&r);
    return ok;
}

/* A plaintext of the largest size never goes into the URL; a wrap of that size does not fit there. */
static int test_large(void)
{
    KMSENV_CRYPTO *crypto = kmsenv_crypto_new(NULL, NULL, "default");
    unsigned char *data = kmsenv_secret_zalloc(KMSENV_ALIBABA_CIPHERTEXT_MAX + 1);
    const KMSENV_ALIBABA_ACTION encrypt = { .name = "Encrypt", .key_id = "k", .plaintext = data, .plaintext_len = KMSENV_ALIBABA_PLAINTEXT_MAX };
    KMSENV_ALIBABA_ACTION decrypt = { .name = "Decrypt", .ciphertext = data, .ciphertext_len = KMSENV_ALIBABA_CIPHERTEXT_MAX };
    KMSENV_ENDPOINT endpoint;
    KMSENV_ALIBABA_FRAME frame = { .endpoint = &endpoint, .signer = { crypto, "id", "secret" }, .timestamp = 1700000000, .nonce = "n" };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_REQUEST a, b, c, d;
    int ok;

    kmsenv_request_init(&a, "POST");
    kmsenv_request_init(&b, "POST");
    kmsenv_request_init(&c, "POST");
    kmsenv_request_init(&d, "POST");
    ok = TEST_true(kmsenv_endpoint_parse(&endpoint, "kms.example", 0, "endpoint", &err))
         && TEST_true(kmsenv_alibaba_request(&frame, &encrypt, &a, &err)) && TEST_str_eq(kmsenv_buffer_text(&a.target), "/")
         && TEST_true(a.secret) && TEST_size_t_gt(a.body.length, 4096)
         && TEST_true(kmsenv_alibaba_request(&frame, &decrypt, &b, &err)) && TEST_str_eq(kmsenv_buffer_text(&b.target), "/")
         && TEST_false(b.secret) && TEST_size_t_gt(b.body.length, 8192);
    frame.place = KMSENV_ALIBABA_QUERY;
    ok = ok && TEST_false(kmsenv_alibaba_request(&frame, &decrypt, &c, &err)) && TEST_int_eq(err.reason, KMSENV_R_KMS_INPUT_TOO_LARGE);
    decrypt.ciphertext_len++;
    ok = ok && TEST_false(kmsenv_alibaba_request(&frame, &decrypt, &d, &err)) && TEST_int_eq(err.reason, KMSENV_R_KMS_WRAP_REJECTED);
    kmsenv_request_reset(&a);
    kmsenv_request_reset(&b);
    kmsenv_request_reset(&c);
    kmsenv_request_reset(&d);
    kmsenv_secret_free(data);
    kmsenv_crypto_free(crypto);
    return ok;
}

/* --- parts of JSON -------------------------------------------------------- */

static const char json[] = " { \"a\\\"\" : 1 , \"s\":\"x,]}\\\\\" ,\"o\":{\"a\":[1,{\"b\":\"}\"}]}, \"l\" : [ true ,\"two\", {\"n\":3} , [ ] ],\"e\":[],\"a\":null } ";

static const struct { const char *member; int element; const char *value; } spans[] = {
    { "s", -1, "\"x,]}\\\\\"" }, { "o", -1, "{\"a\":[1,{\"b\":\"}\"}]}" }, { "a", -1, "null" }, { "b", -1, NULL }, { "", -1, NULL },
    { "l", 0, "true" }, { "l", 1, "\"two\"" }, { "l", 2, "{\"n\":3}" }, { "l", 3, "[ ]" }, { "l", 4, NULL }, { "e", 0, NULL },
    { "s", 0, NULL }, { "o", 0, NULL }
};

static int test_spans(int i)
{
    KMSENV_JSON_SPAN all = { json, sizeof(json) - 1 }, found = { "", 0 };
    int ok = kmsenv_json_span_member(all, spans[i].member, &found);

    if (ok && spans[i].element >= 0)
        ok = kmsenv_json_span_element(found, (size_t)spans[i].element, &found);
    if (spans[i].value == NULL)
        return TEST_false(ok);
    return TEST_true(ok) && TEST_mem_eq(found.text, found.length, spans[i].value, strlen(spans[i].value));
}

/* Cut anywhere, the text is not valid: nothing promises a result then, except that the end is respected. */
static int test_cut_spans(void)
{
    KMSENV_JSON_SPAN all, found, element;
    char *copy;
    size_t n, i;

    for (n = 0; n < sizeof(json); n++) {
        if (!TEST_ptr(copy = OPENSSL_memdup(json, n == 0 ? 1 : n)))
            return 0;
        all.text = copy;
        all.length = n;
        for (i = 0; i < (size_t)COUNT(spans); i++)
            if (kmsenv_json_span_member(all, spans[i].member, &found)
                && !(TEST_true(found.text >= copy) && TEST_true(found.text + found.length <= copy + n)
                     && (!kmsenv_json_span_element(found, 2, &element) || TEST_true(element.text + element.length <= copy + n))))
                return 0;
        OPENSSL_free(copy);
    }
    return 1;
}

/* --- replies -------------------------------------------------------------- */

enum { DECRYPT, ENCRYPT, DESCRIBE };
#define STATE(state, usage, spec) "{\"KeyMetadata\":{\"KeyId\":\"k\",\"KeyState\":\"" state "\",\"KeyUsage\":\"" usage "\",\"KeySpec\":\"" spec "\"}}"

static const struct { int what, status; const char *body; int reason; KMSENV_VERDICT verdict; } replies[] = {
    { DECRYPT, 200, "{\"KeyId\":\"k\",\"Plaintext\":\"QUJD\"}", 0, KMSENV_VERDICT_OK },
    { DECRYPT, 200, "{\"KeyId\":\"" ARN "key/k\",\"Plaintext\":\"QUJD\"}", 0, KMSENV_VERDICT_OK },
    { DECRYPT, 200, "{\"KeyId\":\"other\",\"Plaintext\":\"QUJD\"}", KMSENV_R_KMS_REPLY_MALFORMED, KMSENV_VERDICT_FINAL },
    { DECRYPT, 200, "{\"KeyId\":\"alias/k\",\"Plaintext\":\"QUJD\"}", KMSENV_R_KMS_REPLY_MALFORMED, KMSENV_VERDICT_FINAL },
    { DECRYPT, 200, "{\"Plaintext\":\"QUJD\"}", KMSENV_R_KMS_REPLY_MALFORMED, KMSENV_VERDICT_FINAL },
    { DECRYPT, 200, "{\"KeyId\":\"k\",\"Plaintext\":\"QUJDRA==\"}", KMSENV_R_KMS_REPLY_MALFORMED, KMSENV_VERDICT_FINAL },
    { DECRYPT, 400, "{\"Code\":\"InvalidParameter\"}", KMSENV_R_KMS_WRAP_REJECTED, KMSENV_VERDICT_FINAL },
    { ENCRYPT, 400, "{\"Code\":\"InvalidParameter\"}", KMSENV_R_KMS_REQUEST_REJECTED, KMSENV_VERDICT_FINAL },
    { ENCRYPT, 200, "{\"KeyId\":\"k\",\"CiphertextBlob\":\"QUJD\"}", 0, KMSENV_VERDICT_OK },
    { ENCRYPT, 200, "{\"KeyId\":\"k\",\"CiphertextBlob\":\"\"}", KMSENV_R_KMS_REPLY_MALFORMED, KMSENV_VERDICT_FINAL },
    { ENCRYPT, 400, "{\"code\":\"Throttling.User\"}", KMSENV_R_KMS_THROTTLED, KMSENV_VERDICT_RETRY },
    { ENCRYPT, 200, "{\"Code\":\"Rejected.Throttling\"}", KMSENV_R_KMS_THROTTLED, KMSENV_VERDICT_RETRY },
    { ENCRYPT, 400, "{\"Code\":\"InvalidTimeStamp.Expired\"}", KMSENV_R_KMS_CLOCK, KMSENV_VERDICT_CLOCK },
    { ENCRYPT, 400, "{\"Code\":\"SignatureNonceUsed\"}", KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY },
    { ENCRYPT, 403, "{\"Code\":\"InvalidSecurityToken.Malformed\"}", KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_CREDENTIALS },
    { ENCRYPT, 404, "{\"Code\":\"InvalidAccessKeyId.NotFound\"}", KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_CREDENTIALS },
    { ENCRYPT, 403, "{\"Code\":\"Forbidden.Whatever\"}", KMSENV_R_KMS_ACCESS_DENIED, KMSENV_VERDICT_FINAL },
    { ENCRYPT, 404, "{\"Code\":\"Forbidden.AliasNotFound\"}", KMSENV_R_KMS_KEY_NOT_FOUND, KMSENV_VERDICT_FINAL },
    { ENCRYPT, 409, "{\"Code\":\"Rejected.PendingImport\"}", KMSENV_R_KMS_KEY_DISABLED, KMSENV_VERDICT_FINAL },
    { ENCRYPT, 409, "{\"Code\":\"Rejected.Unavailable\"}", KMSENV_R_KMS_KEY_DISABLED, KMSENV_VERDICT_FINAL },
    { ENCRYPT, 400, "{\"Code\":\"UnsupportedOperation\"}", KMSENV_R_KMS_UNSUPPORTED, KMSENV_VERDICT_FINAL },
    { ENCRYPT, 500, "{\"Code\":\"Whatever\"}", KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY },
    { ENCRYPT, 502, "<html>", KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY },
    { DESCRIBE, 200, STATE("Enabled", "ENCRYPT/DECRYPT", "Aliyun_AES_256"), 0, KMSENV_VERDICT_OK },
    { DESCRIBE, 200, STATE("Enabled", "ENCRYPT/DECRYPT", "Aliyun_SM4"), 0, KMSENV_VERDICT_OK },
    { DESCRIBE, 200, STATE("Disabled", "ENCRYPT/DECRYPT", "Aliyun_AES_256"), KMSENV_R_KMS_KEY_DISABLED, KMSENV_VERDICT_FINAL },
    { DESCRIBE, 200, STATE("PendingDeletion", "ENCRYPT/DECRYPT", "Aliyun_AES_256"), KMSENV_R_KMS_KEY_DISABLED, KMSENV_VERDICT_FINAL },
    { DESCRIBE, 200, STATE("Enabled", "SIGN/VERIFY", "RSA_2048"), KMSENV_R_KMS_REQUEST_REJECTED, KMSENV_VERDICT_FINAL },
    { DESCRIBE, 200, STATE("Enabled", "ENCRYPT/DECRYPT", "RSA_2048"), KMSENV_R_KMS_REQUEST_REJECTED, KMSENV_VERDICT_FINAL },
    { DESCRIBE, 200, STATE("", "ENCRYPT/DECRYPT", "Aliyun_AES_256"), KMSENV_R_KMS_REPLY_MALFORMED, KMSENV_VERDICT_FINAL },
    { DESCRIBE, 200, "{\"KeyMetadata\":{\"KeyId\":\"other\",\"KeyState\":\"Enabled\"}}", KMSENV_R_KMS_REPLY_MALFORMED, KMSENV_VERDICT_FINAL },
    { DESCRIBE, 200, "{}", KMSENV_R_KMS_REPLY_MALFORMED, KMSENV_VERDICT_FINAL }
};

static int test_replies(int i)
{
    unsigned char *out = kmsenv_secret_zalloc(3);
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_BLOB blob = { 0 };
    KMSENV_REPLY reply;
    char state[40] = "";
    KMSENV_RESULT r = { .key_id = "k", .plaintext = replies[i].what == DECRYPT ? out : NULL, .room = 3,
                        .blob = replies[i].what == ENCRYPT ? &blob : NULL, .state = replies[i].what == DESCRIBE ? state : NULL,
                        .state_room = sizeof(state) };
    int ok;

    kmsenv_reply_init(&reply);
    reply.status = replies[i].status;
    kmsenv_buffer_add_text(&reply.body, replies[i].body);
    ok = TEST_int_eq(kmsenv_alibaba_result(&reply, &r, &err), replies[i].verdict) && TEST_int_eq(err.reason, replies[i].reason)
         && TEST_true(replies[i].reason != 0 || replies[i].what != DECRYPT || (r.plaintext_len == 3 && memcmp(out, "ABC", 3) == 0));
    if (!ok)
        TEST_info("%s: %s", replies[i].body, err.text);
    kmsenv_blob_reset(&blob);
    kmsenv_reply_reset(&reply);
    kmsenv_secret_free(out);
    return ok;
}

/* What STS refuses is a matter of credentials: it must not look as if the KMS had refused the key. */
static const struct { int status; const char *body; int reason; KMSENV_VERDICT verdict; } sts[] = {
    { 400, "{\"Code\":\"NobodyKnows\"}", KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_FINAL },
    { 403, "{\"Code\":\"NoPermission\"}", KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_FINAL },
    { 403, "<html>", KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_FINAL },
    { 404, "", KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_FINAL },
    { 400, "{\"Code\":\"Throttling.User\"}", KMSENV_R_KMS_THROTTLED, KMSENV_VERDICT_RETRY },
    { 400, "{\"Code\":\"InvalidTimeStamp.Expired\"}", KMSENV_R_KMS_CLOCK, KMSENV_VERDICT_CLOCK },
    { 503, "", KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY },
    { 200, "{\"Credentials\":{\"AccessKeyId\":\"i\",\"AccessKeySecret\":\"s\",\"SecurityToken\":\"t\"}}", KMSENV_R_KMS_REPLY_MALFORMED,
      KMSENV_VERDICT_FINAL },
    { 200, "{\"Credentials\":{\"AccessKeyId\":\"i\",\"AccessKeySecret\":\"s\",\"SecurityToken\":\"t\",\"Expiration\":\"tomorrow\"}}",
      KMSENV_R_KMS_REPLY_MALFORMED, KMSENV_VERDICT_FINAL },
    { 200, "{\"Credentials\":{\"AccessKeyId\":\"i\",\"AccessKeySecret\":\"\",\"SecurityToken\":\"t\",\"Expiration\":\"2026-01-01T00:00:00Z\"}}",
      KMSENV_R_KMS_REPLY_MALFORMED, KMSENV_VERDICT_FINAL },
    { 200, "{\"Credentials\":{\"AccessKeyId\":\"i\",\"AccessKeySecret\":\"s\",\"SecurityToken\":\"t\",\"Expiration\":\"2026-01-01T00:00:00Z\"}}",
      0, KMSENV_VERDICT_OK }
};

static int test_sts(int i)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_CREDENTIAL c = { 0 };
    KMSENV_REPLY reply;
    int ok;

    kmsenv_reply_init(&reply);
    reply.status = sts[i].status;
    kmsenv_buffer_add_text(&reply.body, sts[i].body);
    ok = TEST_int_eq(kmsenv_alibaba_sts_credential(&reply, &c, &err), sts[i].verdict) && TEST_int_eq(err.reason, sts[i].reason)
         && (sts[i].reason != 0 || (TEST_str_eq(c.secret, "s") && TEST_str_eq(c.token, "t") && TEST_true(c.expires == 1767225600)));
    kmsenv_credential_reset(&c);
    kmsenv_reply_reset(&reply);
    return ok;
}

/* --- files ---------------------------------------------------------------- */

#define NOW     1700000000
#define LONG_ID "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
#define AK(name, more) "{\"name\":\"" name "\",\"mode\":\"AK\",\"access_key_id\":\"i\",\"access_key_secret\":\"s\"" more "}"
#define STS(mode, token, expiration) "{\"current\":\"x\",\"profiles\":[" AK("y", ",\"sts_token\":\"no\"") ",{\"name\":\"x\",\"mode\":\"" \
    mode "\",\"access_key_id\":\"i\",\"access_key_secret\":\"s\",\"sts_token\":\"" token "\",\"sts_expiration\":" expiration "}]}"

/* id: of the set that comes out; NULL = none, and error is in the text of the error. Of a file that is named. */
static const struct { const char *setting, *section, *text, *id, *token, *error; int64_t expires; } files[] = {
    { "cli-config-file", NULL, "{\"current\":\"x\",\"profiles\":[" AK("y", "") "," AK("x", "") "]}", "i", NULL, NULL, 0 },
    { "cli-config-file", "y", "{\"profiles\":[" AK("y", ",\"sts_token\":null,\"private_key\":\"p\"") "]}", "i", NULL, NULL, 0 },
    { "cli-config-file", NULL, STS("StsToken", "t", "0"), "i", "t", NULL, 0 },
    { "cli-config-file", NULL, STS("OAuth", "t", "1700000001"), "i", "t", NULL, 1700000001 },
    { "cli-config-file", NULL, STS("CloudSSO", "t", "1700000000"), NULL, NULL, "expired", 0 },
    { "cli-config-file", NULL, STS("External", "", "1700000001"), NULL, NULL, "aliyun", 0 },
    { "cli-config-file", NULL, STS("StsToken", "", "1"), NULL, NULL, "sts_token", 0 },
    { "cli-config-file", NULL, STS("RsaKeyPair", "t", "1"), NULL, NULL, "mode of the profile", 0 },
    { "cli-config-file", NULL, STS("ChainableRamRoleArn", "t", "1"), NULL, NULL, "source_profile", 0 },
    { "cli-config-file", NULL, STS("OIDC", "t", "1"), NULL, NULL, "oidc_provider_arn", 0 },
    { "cli-config-file", NULL, STS("RamRoleArn", "t", "1"), NULL, NULL, "ARN of the role", 0 },
    { "cli-config-file", "x", "{\"profiles\":[{\"name\":\"x\"}]}", NULL, NULL, "mode of the profile", 0 },
    { "cli-config-file", "x", "{\"profiles\":[{\"name\":\"x\",\"access_key_id\":\"" LONG_ID LONG_ID LONG_ID "\"}]}", NULL, NULL,
      "malformed", 0 },
    { "cli-config-file", "x", "{\"profiles\":[{\"name\":\"x\",\"access_key_secret\":1}]}", NULL, NULL, "malformed", 0 },
    { "cli-config-file", "x", "{\"profiles\":[3,null,[],\"x\",{}]}", NULL, NULL, "no profile x", 0 },
    { "cli-config-file", "x", "{\"profiles\":{\"name\":\"x\"}}", NULL, NULL, "no profile x", 0 },
    { "cli-config-file", NULL, "{\"current\":\"\",\"profiles\":[" AK("x", "") "]}", NULL, NULL, "current", 0 },
    { "cli-config-file", NULL, "{\"current\":1,\"profiles\":[" AK("x", "") "]}", NULL, NULL, "current", 0 },
    { "cli-config-file", NULL, "[]", NULL, NULL, "current", 0 },
    { "cli-config-file", NULL, "[", NULL, NULL, "not valid JSON", 0 },
    { "cli-config-file", NULL, "{\"profiles\":[]} x", NULL, NULL, "not valid JSON", 0 },
    { "credentials-file", NULL, "[default]\ntype=access_key\naccess_key_id=i\naccess_key_secret=s\n", "i", NULL, NULL, 0 },
    { "credentials-file", "x", "[x]\ntype=sts\naccess_key_id=i\naccess_key_secret=s\nsecurity_token=t\n", "i", "t", NULL, 0 },
    { "credentials-file", "x", "[x]\ntype=sts\naccess_key_id=i\naccess_key_secret=s\n", NULL, NULL, "security_token", 0 },
    { "credentials-file", "x", "[x]\ntype=access_key\naccess_key_id=i\n", NULL, NULL, "access_key_secret", 0 },
    { "credentials-file", "x", "[x]\naccess_key_id=i\naccess_key_secret=s\n", NULL, NULL, "type", 0 },
    { "credentials-file", "x", "[x]\ntype=bearer\n", NULL, NULL, "known: access_key", 0 },
    { "credentials-file", "x", "[x]\ntype=" LONG_ID "\n", NULL, NULL, "longer", 0 },
    { "credentials-file", "x", "[x]\ntype=ram_role_arn\naccess_key_id=i\naccess_key_secret=s\n", NULL, NULL, "ARN of the role", 0 },
    { "credentials-file", "x", "[x]\ntype=oidc_role_arn\nrole_arn=r\n", NULL, NULL, "oidc_token_file_path", 0 },
    { "credentials-file", "x", "[y]\n", NULL, NULL, "[x]", 0 }
};

static int write_file(const char *path, const char *text)
{
    BIO *bio = BIO_new_file(path, "w");
    int ok = TEST_ptr(bio) && TEST_int_gt(BIO_puts(bio, text), 0);

    BIO_free(bio);
    return ok;
}

static KMSENV_SECTION *section_of(int i, const char *path)
{
    const KMSENV_KMS_METHOD *method = kmsenv_kms_method_find("alibaba");
    KMSENV_SECTION *section = kmsenv_section_new("kms_prod");
    KMSENV_ERROR err = KMSENV_ERROR_INIT;

    if (TEST_ptr(method) && TEST_ptr(section) && TEST_true(kmsenv_kms_add_tables(section, method))
        && TEST_true(kmsenv_section_set(section, files[i].setting, path, &err))
        && (files[i].section == NULL || TEST_true(kmsenv_section_set(section, "credentials-section", files[i].section, &err))))
        return section;
    kmsenv_section_free(section);
    return NULL;
}

static int same_set(int i, int found, const KMSENV_CREDENTIAL *c, const KMSENV_ERROR *err)
{
    if (files[i].id == NULL)
        return TEST_int_eq(found, KMSENV_SOURCE_FAILED) && TEST_int_eq(err->reason, KMSENV_R_KMS_CREDENTIALS)
               && TEST_ptr(strstr(err->text, files[i].error));
    return TEST_int_eq(found, KMSENV_SOURCE_FOUND) && TEST_str_eq(c->id, files[i].id) && TEST_str_eq(c->secret, "s")
           && TEST_str_eq(c->token, files[i].token) && TEST_true(c->expires == files[i].expires);
}

static int test_files(int i)
{
    int (*load)(void *, int64_t, uint64_t, KMSENV_CREDENTIAL *, KMSENV_ERROR *)
        = strcmp(files[i].setting, "credentials-file") == 0 ? kmsenv_alibaba_from_file : kmsenv_alibaba_from_cli;
    char path[] = "/tmp/kmsenv-alibaba-XXXXXX";
    int fd = mkstemp(path), found = KMSENV_SOURCE_FAILED, ok;
    KMSENV_SECTION *section = section_of(i, path);
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_HTTP *http = section == NULL ? NULL : kmsenv_http_new(section, &err);
    KMSENV_ALIBABA_CHAIN *chain = http == NULL ? NULL : kmsenv_alibaba_chain_new(section, http, NULL, &err);
    KMSENV_CREDENTIAL c = { 0 };

    ok = TEST_int_ge(fd, 0) && TEST_int_eq(close(fd), 0) && write_file(path, files[i].text) && TEST_ptr(chain);
    if (ok)
        found = load(chain, NOW, kmsenv_clock_ms() + 1000, &c, &err);
    ok = ok && same_set(i, found, &c, &err);
    if (!ok)
        TEST_info("%s\n%s", files[i].text, err.text);
    kmsenv_credential_reset(&c);
    kmsenv_alibaba_chain_free(chain);
    kmsenv_http_free(http);
    kmsenv_section_free(section);
    unlink(path);
    return ok;
}

int setup_tests(void)
{
    ADD_ALL_TESTS(test_files, COUNT(files));
    ADD_ALL_TESTS(test_names, COUNT(names));
    ADD_ALL_TESTS(test_hosts, COUNT(hosts));
    ADD_ALL_TESTS(test_uris, COUNT(uris));
    ADD_ALL_TESTS(test_params, COUNT(params));
    ADD_TEST(test_too_many_params);
    ADD_TEST(test_large);
    ADD_ALL_TESTS(test_spans, COUNT(spans));
    ADD_TEST(test_cut_spans);
    ADD_ALL_TESTS(test_replies, COUNT(replies));
    ADD_ALL_TESTS(test_sts, COUNT(sts));
    return 1;
}
