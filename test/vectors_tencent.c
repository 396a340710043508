/* Runs a vector of Tencent Cloud: KMS actions with TC3-HMAC-SHA256, role of a virtual machine, web identity of a pod. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/crypto.h>
#include "testutil.h"
#include "core/secret.h"
#include "kms/base64.h"
#include "kms/registry.h"
#include "kms/sign.h"
#include "kms/tc3.h"
#include "kms/tencent.h"
#include "vectors.h"

#define PLAINTEXT_ROOM 4096

static const char *const compared_headers[] = { "Content-Type", "X-TC-Action", "X-TC-Version", "X-TC-Timestamp", "X-TC-Region",
                                                "X-TC-Token", NULL };

/* --- our request ---------------------------------------------------------- */

/* The parameters of an action, ready for our builder. */
typedef struct prepared_st {
    KMSENV_TENCENT_ACTION action;
    KMSENV_CONTEXT context, source, destination;
    unsigned char *plaintext;
    int ours;               /* the back end can make this request; otherwise it is made of the parameters as they are */
} PREPARED;

/* "{"a":"1"}" into pairs. */
static int read_context(const cJSON *params, const char *name, KMSENV_CONTEXT *c)
{
    const char *text = vector_text(params, name);
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    cJSON *pairs, *pair;
    int ok = 1;

    kmsenv_context_init(c);
    if (text == NULL)
        return 1;
    if (!TEST_ptr(pairs = cJSON_Parse(text)))
        return 0;
    cJSON_ArrayForEach(pair, pairs) {
        const char *value = cJSON_GetStringValue(pair);

        ok = ok && TEST_ptr(value)
             && TEST_true(kmsenv_context_add(c, pair->string, strlen(pair->string), value, strlen(value), &err));
    }
    cJSON_Delete(pairs);
    return ok;
}

static int read_plaintext(const cJSON *params, PREPARED *p)
{
    const char *text = vector_text(params, "Plaintext");

    p->action.plaintext_len = PLAINTEXT_ROOM;
    p->plaintext = kmsenv_secret_zalloc(PLAINTEXT_ROOM);
    if (text == NULL || p->plaintext == NULL)
        return text == NULL;
    p->action.plaintext = p->plaintext;
    return TEST_true(kmsenv_base64_decode(text, strlen(text), p->plaintext, &p->action.plaintext_len));
}

static int prepare(const cJSON *vector, PREPARED *p)
{
    static const char *const known[] = { "KeyId", "NumberOfBytes", "EncryptionContext", "Plaintext", "CiphertextBlob",
                                         "DestinationKeyId", "SourceEncryptionContext", "DestinationEncryptionContext" };
    const cJSON *params = vector_at(vector, "inputs/params"), *param;
    const char *blob = vector_text(params, "CiphertextBlob");
    size_t i;

    memset(p, 0, sizeof(*p));
    p->ours = cJSON_GetArraySize(params) > 0;
    cJSON_ArrayForEach(param, params) {
        for (i = 0; i < sizeof(known) / sizeof(known[0]) && strcmp(known[i], param->string) != 0; i++)
            ;
        p->ours &= i < sizeof(known) / sizeof(known[0]);
    }
    p->action.name = vector_text(vector, "operation");
    p->action.key_id = vector_text(params, "KeyId");
    p->action.destination_key_id = vector_text(params, "DestinationKeyId");
    if ((param = vector_at(params, "NumberOfBytes")) != NULL)
        p->action.number_of_bytes = (size_t)param->valueint;
    p->action.ciphertext = (const unsigned char *)blob;
    p->action.ciphertext_len = blob == NULL ? 0 : strlen(blob);
    p->action.context = &p->context;
    p->action.source_context = &p->source;
    p->action.destination_context = &p->destination;
    return read_plaintext(params, p) & read_context(params, "EncryptionContext", &p->context)
           & read_context(params, "SourceEncryptionContext", &p->source)
           & read_context(params, "DestinationEncryptionContext", &p->destination);
}

static void prepared_reset(PREPARED *p)
{
    kmsenv_context_reset(&p->context);
    kmsenv_context_reset(&p->source);
    kmsenv_context_reset(&p->destination);
    kmsenv_secret_free(p->plaintext);
}

/* For actions that the back end does not use: only framing and signature are under test. */
static int plain_body(const cJSON *params, KMSENV_BUFFER *body)
{
    const cJSON *param;

    kmsenv_json_open(body, NULL);
    cJSON_ArrayForEach(param, params) {
        if (cJSON_IsNumber(param))
            kmsenv_json_add_number(body, param->string, (int64_t)param->valuedouble);
        else
            kmsenv_json_add_text(body, param->string, cJSON_GetStringValue((cJSON *)param));
    }
    kmsenv_json_close(body);
    return !body->failed;
}

/* Ours in everything but, perhaps, the order of the members; the signature is the same if even that is. */
static int same_authorization(const KMSENV_REQUEST *ours, const cJSON *captured)
{
    const char *mine = kmsenv_request_header(ours, "Authorization"), *theirs = vector_header(captured, "Authorization");
    const char *end = theirs == NULL ? NULL : strstr(theirs, "Signature=");

    if (!TEST_ptr(mine) || !TEST_ptr(theirs))
        return 0;
    if (end == NULL || strcmp(kmsenv_buffer_text(&ours->body), vector_text(captured, "body_utf8")) == 0)
        return TEST_str_eq(mine, theirs);
    return TEST_strn_eq(mine, theirs, (size_t)(end - theirs));
}

static int check_request(const cJSON *vector, const PREPARED *p, KMSENV_CRYPTO *crypto)
{
    const cJSON *inputs = vector_at(vector, "inputs"), *captured = vector_at(vector, "exchanges/0/request");
    int64_t now = (int64_t)vector_at(vector, "time/unix")->valuedouble;
    KMSENV_CREDENTIAL credential = { .id = (char *)vector_text(inputs, "credentials/secret_id"),
                                     .secret = (char *)vector_text(inputs, "credentials/secret_key"),
                                     .token = (char *)vector_text(inputs, "credentials/token") };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_REQUEST request;
    KMSENV_ENDPOINT endpoint;
    KMSENV_TENCENT_TARGET target = { &endpoint, vector_text(inputs, "service"), KMSENV_TENCENT_KMS_VERSION,
                                     vector_text(inputs, "region") };
    int ok;

    kmsenv_request_init(&request, "POST");
    ok = TEST_true(kmsenv_endpoint_parse(&endpoint, vector_text(inputs, "endpoint"), 0, "endpoint", &err))
         && TEST_true(p->ours ? kmsenv_tencent_body(&p->action, &request.body, &err)
                              : plain_body(vector_at(inputs, "params"), &request.body))
         && TEST_true(kmsenv_tencent_frame(&target, p->action.name, now, credential.token, &request, &err))
         && TEST_true(kmsenv_tencent_sign(crypto, NULL, &target, now, &credential, &request, &err))
         && vector_same_request(&request, captured) && vector_same_headers(&request, captured, compared_headers)
         && same_authorization(&request, captured);
    if (!ok)
        TEST_info("%s", err.text);
    kmsenv_request_reset(&request);
    return ok;
}

/* --- signature ------------------------------------------------------------ */

/* The captured request with nothing changed. */
static int copy_request(const cJSON *captured, KMSENV_REQUEST *r)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;

    kmsenv_request_init(r, vector_text(captured, "method"));
    kmsenv_buffer_add_text(&r->target, vector_text(captured, "target"));
    kmsenv_buffer_add_text(&r->body, vector_text(captured, "body_utf8"));
    return TEST_true(kmsenv_request_add_header(r, "Content-Type", vector_header(captured, "Content-Type"), &err))
           && TEST_true(kmsenv_request_add_header(r, "Host", vector_header(captured, "Host"), &err));
}

static int same_hex(const unsigned char key[32], const cJSON *derived, const char *name)
{
    char hex[65];

    kmsenv_sign_hex(key, 32, hex);
    return TEST_str_eq(hex, vector_text(derived, name));
}

static int check_signature(const cJSON *vector, KMSENV_CRYPTO *crypto)
{
    const cJSON *derived = vector_at(vector, "derived"), *inputs = vector_at(vector, "inputs");
    const cJSON *captured = vector_at(vector, "exchanges/0/request");
    const char *service = vector_text(inputs, "service"), *secret = vector_text(inputs, "credentials/secret_key");
    const KMSENV_TC3_SIGNER signer = { crypto, NULL, service, vector_text(inputs, "credentials/secret_id"), secret };
    int64_t now = atoll(vector_header(captured, "X-TC-Timestamp"));
    KMSENV_BUFFER canonical, text;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_TC3_KEYS keys;
    KMSENV_REQUEST r;
    char date[16];
    int ok;

    kmsenv_buffer_init(&canonical, 8192, 0);
    kmsenv_buffer_init(&text, 8192, 0);
    ok = copy_request(captured, &r)
         && TEST_true(kmsenv_tc3_canonical(crypto, &r, &canonical, &err))
         && TEST_str_eq(kmsenv_buffer_text(&canonical), vector_text(derived, "canonical_request"))
         && TEST_true(kmsenv_tc3_string_to_sign(crypto, &canonical, now, service, &text, &err))
         && TEST_str_eq(kmsenv_buffer_text(&text), vector_text(derived, "string_to_sign"))
         && TEST_true(kmsenv_sign_time(now, "%Y-%m-%d", date, sizeof(date)))
         && TEST_true(kmsenv_tc3_derive(crypto, secret, date, service, &keys, &err))
         && same_hex(keys.date, derived, "secret_date_hex") && same_hex(keys.service, derived, "secret_service_hex")
         && same_hex(keys.signing, derived, "secret_signing_hex")
         && TEST_true(kmsenv_tc3_sign(&signer, &r, now, &err))
         && TEST_str_eq(kmsenv_request_header(&r, "Authorization"), vector_text(derived, "authorization"))
         && TEST_str_eq(kmsenv_request_header(&r, "Authorization"), vector_header(captured, "Authorization"))
         && TEST_ptr(strstr(kmsenv_request_header(&r, "Authorization"), vector_text(derived, "signature")));
    kmsenv_buffer_reset(&canonical);
    kmsenv_buffer_reset(&text);
    kmsenv_request_reset(&r);
    return ok;
}

/* --- reply ---------------------------------------------------------------- */

static int same_plaintext(const KMSENV_RESULT *r, const char *base64)
{
    KMSENV_BUFFER text;
    int ok;

    kmsenv_buffer_init(&text, 8192, 1);
    ok = TEST_true(kmsenv_base64_add(&text, r->plaintext, r->plaintext_len)) && TEST_str_eq(kmsenv_buffer_text(&text), base64);
    kmsenv_buffer_reset(&text);
    return ok;
}

/* What the SDK gave its caller is what our parser gives. */
static int check_result(const cJSON *vector, KMSENV_REPLY *reply)
{
    const cJSON *sdk = vector_at(vector, "sdk_result");
    const char *plaintext = vector_text(sdk, "Plaintext"), *blob = vector_text(sdk, "CiphertextBlob");
    const char *state = vector_text(sdk, "KeyMetadata/KeyState");
    unsigned char *out = kmsenv_secret_zalloc(PLAINTEXT_ROOM);
    KMSENV_BLOB wrap = { 0 };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    char seen[80];
    KMSENV_RESULT r = { .plaintext = plaintext == NULL ? NULL : out, .room = PLAINTEXT_ROOM,
                                .blob = blob == NULL ? NULL : &wrap, .state = state == NULL ? NULL : seen, .state_room = sizeof(seen) };
    int ok;

    r.key_id = vector_text(sdk, "KeyId");
    ok = TEST_ptr(out) && TEST_int_eq(kmsenv_tencent_result(reply, &r, &err), KMSENV_VERDICT_OK)
         && TEST_str_eq(r.request_id, vector_text(sdk, "RequestId"))
         && (plaintext == NULL || same_plaintext(&r, plaintext))
         && (blob == NULL || TEST_mem_eq(wrap.ciphertext, wrap.ciphertext_len, blob, strlen(blob)))
         && (state == NULL || TEST_str_eq(seen, state))
         && TEST_true(plaintext == NULL || strstr(kmsenv_buffer_text(&reply->body), plaintext) == NULL);
    if (!ok)
        TEST_info("%s", err.text);
    kmsenv_blob_reset(&wrap);
    kmsenv_secret_free(out);
    return ok;
}

/* Which class an error belongs to, said once more than in the code under test. */
static const struct { const char *code; int reason; KMSENV_VERDICT verdict; } classes[] = {
    { "RequestLimitExceeded", KMSENV_R_KMS_THROTTLED, KMSENV_VERDICT_RETRY },
    { "RequestLimitExceeded.UinLimitExceeded", KMSENV_R_KMS_THROTTLED, KMSENV_VERDICT_RETRY },
    { "RequestLimitExceeded.GlobalRegionUinLimitExceeded", KMSENV_R_KMS_THROTTLED, KMSENV_VERDICT_RETRY },
    { "InternalError", KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY },
    { "UnsupportedOperation.ServiceTemporaryUnavailable", KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY },
    { "AuthFailure.SignatureExpire", KMSENV_R_KMS_CLOCK, KMSENV_VERDICT_CLOCK },
    { "AuthFailure.TokenFailure", KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_CREDENTIALS },
    { "AuthFailure.SignatureFailure", KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_FINAL },
    { "AuthFailure.SecretIdNotFound", KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_FINAL },
    { "AuthFailure.InvalidSecretId", KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_FINAL },
    { "AuthFailure.UnauthorizedOperation", KMSENV_R_KMS_ACCESS_DENIED, KMSENV_VERDICT_FINAL },
    { "UnauthorizedOperation", KMSENV_R_KMS_ACCESS_DENIED, KMSENV_VERDICT_FINAL },
    { "InvalidParameterValue.InvalidCiphertext", KMSENV_R_KMS_WRAP_REJECTED, KMSENV_VERDICT_FINAL },
    { "FailedOperation.DecryptError", KMSENV_R_KMS_WRAP_REJECTED, KMSENV_VERDICT_FINAL },
    { "ResourceUnavailable.CmkDisabled", KMSENV_R_KMS_KEY_DISABLED, KMSENV_VERDICT_FINAL },
    { "ResourceUnavailable.KeyDisabled", KMSENV_R_KMS_KEY_DISABLED, KMSENV_VERDICT_FINAL },
    { "ResourceUnavailable.KeyPendingDelete", KMSENV_R_KMS_KEY_DISABLED, KMSENV_VERDICT_FINAL },
    { "ResourceUnavailable.CmkArchived", KMSENV_R_KMS_KEY_DISABLED, KMSENV_VERDICT_FINAL },
    { "ResourceUnavailable.CmkStateNotSupport", KMSENV_R_KMS_KEY_DISABLED, KMSENV_VERDICT_FINAL },
    { "ResourceUnavailable.CmkNotFound", KMSENV_R_KMS_KEY_NOT_FOUND, KMSENV_VERDICT_FINAL },
    { "ResourceNotFound", KMSENV_R_KMS_KEY_NOT_FOUND, KMSENV_VERDICT_FINAL },
};

static int check_error(const cJSON *vector, KMSENV_REPLY *reply)
{
    const cJSON *sdk = vector_at(vector, "sdk_error");
    const char *code = vector_text(sdk, "code"), *message = vector_text(sdk, "message");
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_RESULT r = { 0 };
    KMSENV_VERDICT verdict = kmsenv_tencent_result(reply, &r, &err);
    size_t i;

    for (i = 0; i < sizeof(classes) / sizeof(classes[0]) && strcmp(classes[i].code, code) != 0; i++)
        ;
    if (i < sizeof(classes) / sizeof(classes[0])
        && (!TEST_int_eq(err.reason, classes[i].reason) || !TEST_int_eq(verdict, classes[i].verdict)))
        return 0;
    return TEST_int_ne(verdict, KMSENV_VERDICT_OK) && TEST_int_ne(err.reason, KMSENV_R_NONE)
           && TEST_ptr(strstr(err.text, code)) && TEST_ptr(strstr(err.text, vector_text(sdk, "requestId")))
           && TEST_str_eq(r.request_id, vector_text(sdk, "requestId"))
           && TEST_true(message == NULL || strstr(err.text, message) == NULL);
}

static int run_action(const cJSON *vector, KMSENV_CRYPTO *crypto)
{
    KMSENV_REPLY reply;
    PREPARED p;
    int ok = prepare(vector, &p) && check_request(vector, &p, crypto) && check_signature(vector, crypto);

    prepared_reset(&p);
    if (!ok)
        return 0;
    ok = vector_reply(vector_at(vector, "exchanges/0/response"), &reply)
         && (vector_at(vector, "sdk_error") == NULL ? check_result(vector, &reply) : check_error(vector, &reply));
    kmsenv_reply_reset(&reply);
    return ok;
}

/* --- credentials ---------------------------------------------------------- */

static const char *default_of(const char *name)
{
    const KMSENV_SETTING *s = kmsenv_kms_tencent.settings;

    while (s->name != NULL && strcmp(s->name, name) != 0)
        s++;
    return s->initial;
}

static int same_credential(const KMSENV_CREDENTIAL *c, const cJSON *vector, const cJSON *expires)
{
    return TEST_str_eq(c->id, vector_text(vector, "sdk_result/secretId"))
           && TEST_str_eq(c->secret, vector_text(vector, "sdk_result/secretKey"))
           && TEST_str_eq(c->token, vector_text(vector, "sdk_result/token"))
           && TEST_ptr(expires) && TEST_true(c->expires == (int64_t)expires->valuedouble);
}

static void forget_credential(KMSENV_CREDENTIAL *c)
{
    OPENSSL_free(c->id);
    kmsenv_secret_free(c->secret);
    kmsenv_secret_free(c->token);
}

static int check_metadata(const cJSON *captured, const KMSENV_ENDPOINT *endpoint, const char *role)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_REQUEST request;
    char path[256];
    int ok = TEST_true(kmsenv_tencent_role_path(role, path, sizeof(path)))
             && TEST_true(kmsenv_metadata_request(endpoint, path, &request, &err));

    ok = ok && TEST_str_eq(vector_text(captured, "scheme"), endpoint->tls ? "https" : "http")
         && vector_same_request(&request, captured);
    kmsenv_request_reset(&request);
    return ok;
}

static int run_role(const cJSON *vector, KMSENV_CRYPTO *crypto)
{
    const char *body = vector_text(vector, "exchanges/1/response/body_utf8");
    KMSENV_CREDENTIAL credential = { 0 };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_ENDPOINT endpoint;
    KMSENV_REPLY name, set;
    cJSON *said = cJSON_Parse(body == NULL ? "" : body);
    char role[128];
    int ok = vector_reply(vector_at(vector, "exchanges/0/response"), &name)
             & vector_reply(vector_at(vector, "exchanges/1/response"), &set);

    (void)crypto;
    ok = ok && TEST_true(kmsenv_endpoint_parse(&endpoint, default_of("metadata-endpoint"), 1, "metadata-endpoint", &err))
         && check_metadata(vector_at(vector, "exchanges/0/request"), &endpoint, NULL)
         && TEST_true(kmsenv_metadata_role(&name, role, sizeof(role), &err))
         && TEST_str_eq(role, vector_text(vector, "inputs/role"))
         && check_metadata(vector_at(vector, "exchanges/1/request"), &endpoint, role)
         && TEST_true(kmsenv_tencent_role_credential(&set, &credential, &err))
         && same_credential(&credential, vector, vector_at(said, "ExpiredTime"));
    forget_credential(&credential);
    kmsenv_reply_reset(&name);
    kmsenv_reply_reset(&set);
    cJSON_Delete(said);
    return ok;
}

/* The name of the session is the client's choice: it is taken from the captured request. */
static int check_assume(const cJSON *vector, KMSENV_CRYPTO *crypto)
{
    static const char *const more[] = { "Authorization", NULL };
    const cJSON *inputs = vector_at(vector, "inputs"), *captured = vector_at(vector, "exchanges/0/request");
    cJSON *body = cJSON_Parse(vector_text(captured, "body_utf8"));
    int64_t now = (int64_t)vector_at(vector, "time/unix")->valuedouble;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_REQUEST request;
    KMSENV_ENDPOINT endpoint;
    KMSENV_TENCENT_TARGET target = { &endpoint, "sts", KMSENV_TENCENT_STS_VERSION, vector_text(inputs, "TKE_REGION") };
    int ok;

    kmsenv_request_init(&request, "POST");
    ok = TEST_true(kmsenv_endpoint_parse(&endpoint, default_of("sts-endpoint"), 0, "sts-endpoint", &err))
         && TEST_true(kmsenv_tencent_sts_body(vector_text(inputs, "TKE_ROLE_ARN"), vector_text(body, "RoleSessionName"),
                                              vector_text(inputs, "token_file_content"), vector_text(inputs, "TKE_PROVIDER_ID"),
                                              &request.body, &err))
         && TEST_true(kmsenv_tencent_frame(&target, "AssumeRoleWithWebIdentity", now, NULL, &request, &err))
         && TEST_true(kmsenv_tencent_sign(crypto, NULL, &target, now, NULL, &request, &err))
         && vector_same_request(&request, captured) && vector_same_headers(&request, captured, compared_headers)
         && vector_same_headers(&request, captured, more);
    kmsenv_request_reset(&request);
    cJSON_Delete(body);
    return ok;
}

static int run_web_identity(const cJSON *vector, KMSENV_CRYPTO *crypto)
{
    const char *body = vector_text(vector, "exchanges/0/response/body_utf8");
    cJSON *said = cJSON_Parse(body == NULL ? "" : body);
    KMSENV_CREDENTIAL credential = { 0 };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_REPLY reply;
    int ok = vector_reply(vector_at(vector, "exchanges/0/response"), &reply) && check_assume(vector, crypto)
             && TEST_int_eq(kmsenv_tencent_sts_credential(&reply, &credential, &err), KMSENV_VERDICT_OK)
             && same_credential(&credential, vector, vector_at(said, "Response/ExpiredTime"));

    forget_credential(&credential);
    kmsenv_reply_reset(&reply);
    cJSON_Delete(said);
    return ok;
}

int vectors_tencent(const cJSON *vector, KMSENV_CRYPTO *crypto)
{
    const char *operation = vector_text(vector, "operation");

    if (!TEST_ptr(operation))
        return 0;
    if (strcmp(operation, "credentials:cvm-role") == 0)
        return run_role(vector, crypto);
    if (strcmp(operation, "credentials:tke-oidc") == 0)
        return run_web_identity(vector, crypto);
    return TEST_str_eq(vector_text(vector, "auth"), "TC3-HMAC-SHA256") && run_action(vector, crypto);
}
