/* Runs a vector of AWS: KMS actions with Signature Version 4, credentials of instance, container and web identity. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <openssl/crypto.h>
#include "testutil.h"
#include "core/secret.h"
#include "kms/aws.h"
#include "kms/base64.h"
#include "kms/sign.h"
#include "vectors.h"

#define ROOM 8192

static const char *const compared_headers[] = { "Content-Type", "X-Amz-Target", "X-Amz-Date", "X-Amz-Security-Token", NULL };

/* --- our request ---------------------------------------------------------- */

typedef struct prepared_st {
    KMSENV_AWS_ACTION action;
    KMSENV_CONTEXT context, source, destination;
    unsigned char *plaintext, *ciphertext;
    int ours;               /* the back end can make this request; of others, only framing and signature are under test */
} PREPARED;

static int read_context(const cJSON *params, const char *name, KMSENV_CONTEXT *c)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    const cJSON *pair;
    int ok = 1;

    kmsenv_context_init(c);
    cJSON_ArrayForEach(pair, vector_at(params, name))
        ok = ok && TEST_true(kmsenv_context_add(c, pair->string, strlen(pair->string), pair->valuestring,
                                                strlen(pair->valuestring), &err));
    return ok;
}

/* {"$base64": "..."} into bytes; *out stays NULL if there is none. */
static int read_bytes(const cJSON *params, const char *path, unsigned char *room, const unsigned char **out, size_t *n)
{
    const char *text = vector_text(params, path);

    *n = ROOM;
    if (text == NULL)
        return 1;
    *out = room;
    return TEST_ptr(room) && TEST_true(kmsenv_base64_decode(text, strlen(text), room, n));
}

static int prepare(const cJSON *vector, PREPARED *p)
{
    static const char *const known[] = { "KeyId", "NumberOfBytes", "EncryptionContext", "Plaintext", "CiphertextBlob", "SourceKeyId",
                                         "DestinationKeyId", "SourceEncryptionContext", "DestinationEncryptionContext" };
    const cJSON *params = vector_at(vector, "inputs/params"), *param;
    size_t i;

    memset(p, 0, sizeof(*p));
    p->ours = cJSON_GetArraySize(params) > 0;
    cJSON_ArrayForEach(param, params) {
        for (i = 0; i < sizeof(known) / sizeof(known[0]) && strcmp(known[i], param->string) != 0; i++)
            ;
        p->ours &= i < sizeof(known) / sizeof(known[0]);
    }
    p->plaintext = kmsenv_secret_zalloc(ROOM);
    p->ciphertext = OPENSSL_zalloc(ROOM);
    p->action.name = vector_text(vector, "operation");
    p->action.key_id = vector_text(params, "KeyId");
    p->action.source_key_id = vector_text(params, "SourceKeyId");
    p->action.destination_key_id = vector_text(params, "DestinationKeyId");
    if ((param = vector_at(params, "NumberOfBytes")) != NULL)
        p->action.number_of_bytes = (size_t)param->valueint;
    p->action.context = &p->context;
    p->action.source_context = &p->source;
    p->action.destination_context = &p->destination;
    return read_bytes(params, "Plaintext/$base64", p->plaintext, &p->action.plaintext, &p->action.plaintext_len)
           & read_bytes(params, "CiphertextBlob/$base64", p->ciphertext, &p->action.ciphertext, &p->action.ciphertext_len)
           & read_context(params, "EncryptionContext", &p->context)
           & read_context(params, "SourceEncryptionContext", &p->source)
           & read_context(params, "DestinationEncryptionContext", &p->destination);
}

static void prepared_reset(PREPARED *p)
{
    kmsenv_context_reset(&p->context);
    kmsenv_context_reset(&p->source);
    kmsenv_context_reset(&p->destination);
    kmsenv_secret_free(p->plaintext);
    OPENSSL_free(p->ciphertext);
}

static int same_place(const KMSENV_REQUEST *ours, const cJSON *captured, const KMSENV_ENDPOINT *endpoint)
{
    return TEST_str_eq(ours->method, vector_text(captured, "method"))
           && TEST_str_eq(kmsenv_buffer_text(&ours->target), vector_text(captured, "target"))
           && TEST_str_eq(kmsenv_request_header(ours, "Host"), vector_text(captured, "host"))
           && TEST_str_eq(endpoint->tls ? "https" : "http", vector_text(captured, "scheme"));
}

static int same_json(const KMSENV_REQUEST *ours, const cJSON *captured)
{
    cJSON *a = cJSON_Parse(kmsenv_buffer_text(&ours->body)), *b = cJSON_Parse(vector_text(captured, "body_utf8"));
    int ok = TEST_ptr(a) && TEST_ptr(b) && TEST_true(cJSON_Compare(a, b, 1));

    cJSON_Delete(a);
    cJSON_Delete(b);
    return ok;
}

static KMSENV_SIGV4_SIGNER signer_of(const cJSON *vector, KMSENV_CRYPTO *crypto)
{
    const cJSON *inputs = vector_at(vector, "inputs");
    const KMSENV_SIGV4_SIGNER s = { crypto, vector_text(inputs, "region"), "kms", vector_text(inputs, "credentials/access_key_id"),
                                    vector_text(inputs, "credentials/secret_access_key") };

    return s;
}

static int check_request(const cJSON *vector, const PREPARED *p)
{
    const cJSON *captured = vector_at(vector, "exchanges/0/request");
    int64_t now = (int64_t)vector_at(vector, "time/unix")->valuedouble;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_ENDPOINT endpoint;
    KMSENV_REQUEST request;
    char url[256];
    int ok;

    kmsenv_request_init(&request, "POST");
    ok = TEST_true(kmsenv_aws_endpoint("kms", vector_text(vector, "inputs/region"), url, sizeof(url)))
         && TEST_true(kmsenv_endpoint_parse(&endpoint, url, 0, "endpoint", &err))
         && TEST_true(kmsenv_aws_frame(&endpoint, p->action.name, now, vector_text(vector, "inputs/credentials/session_token"),
                                       &request, &err))
         && same_place(&request, captured, &endpoint) && vector_same_headers(&request, captured, compared_headers)
         && (!p->ours || (TEST_true(kmsenv_aws_body(&p->action, &request.body, &err)) && same_json(&request, captured)));
    kmsenv_request_reset(&request);
    return ok;
}

/* --- signature ------------------------------------------------------------ */

/* The captured request, with the headers that were signed. */
static int copy_request(const cJSON *captured, KMSENV_REQUEST *r)
{
    const char *p = strstr(vector_header(captured, "Authorization"), "SignedHeaders=");
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    char name[64];
    size_t n;
    int ok = 1;

    kmsenv_request_init(r, vector_text(captured, "method"));
    kmsenv_buffer_add_text(&r->target, vector_text(captured, "target"));
    kmsenv_buffer_add_text(&r->body, vector_text(captured, "body_utf8"));
    for (p = p == NULL ? "" : p + strlen("SignedHeaders="); ok && *p != '\0' && *p != ','; p += n + (p[n] == ';')) {
        n = strcspn(p, ";,");
        snprintf(name, sizeof(name), "%.*s", (int)n, p);
        ok = TEST_ptr(vector_header(captured, name)) && TEST_true(kmsenv_request_add_header(r, name, vector_header(captured, name), &err));
    }
    return ok & TEST_size_t_gt(r->headers, 0);
}

static int same_hex(const unsigned char *key, const cJSON *derived, const char *name)
{
    char hex[KMSENV_HEX_SHA256];

    kmsenv_sign_hex(key, 32, hex);
    return TEST_str_eq(hex, vector_text(derived, name));
}

static int check_signature(const cJSON *vector, KMSENV_CRYPTO *crypto)
{
    const cJSON *derived = vector_at(vector, "derived"), *captured = vector_at(vector, "exchanges/0/request");
    const KMSENV_SIGV4_SIGNER signer = signer_of(vector, crypto);
    int64_t now = (int64_t)vector_at(vector, "time/unix")->valuedouble;
    KMSENV_BUFFER names, canonical, text;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_SIGV4_KEYS keys;
    KMSENV_REQUEST r;
    char date[16];
    int ok;

    kmsenv_buffer_init(&names, ROOM, 0);
    kmsenv_buffer_init(&canonical, ROOM, 0);
    kmsenv_buffer_init(&text, ROOM, 0);
    ok = copy_request(captured, &r)
         && TEST_true(kmsenv_sigv4_canonical(crypto, &r, &names, &canonical, &err))
         && TEST_str_eq(kmsenv_buffer_text(&canonical), vector_text(derived, "canonical_request"))
         && TEST_true(kmsenv_sigv4_string_to_sign(&signer, &canonical, now, &text, &err))
         && TEST_str_eq(kmsenv_buffer_text(&text), vector_text(derived, "string_to_sign"))
         && TEST_true(kmsenv_sign_time(now, "%Y%m%d", date, sizeof(date)))
         && TEST_true(kmsenv_sigv4_derive(&signer, date, &keys, &err))
         && same_hex(keys.date, derived, "k_date_hex") && same_hex(keys.region, derived, "k_region_hex")
         && same_hex(keys.service, derived, "k_service_hex") && same_hex(keys.signing, derived, "k_signing_hex")
         && TEST_true(kmsenv_sigv4_sign(&signer, &r, now, &err))
         && TEST_str_eq(kmsenv_request_header(&r, "Authorization"), vector_header(captured, "Authorization"))
         && TEST_ptr(strstr(kmsenv_request_header(&r, "Authorization"), vector_text(derived, "signature")));
    kmsenv_buffer_reset(&names);
    kmsenv_buffer_reset(&canonical);
    kmsenv_buffer_reset(&text);
    kmsenv_request_reset(&r);
    return ok;
}

/* --- reply ---------------------------------------------------------------- */

static int same_base64(const unsigned char *bytes, size_t n, const char *base64)
{
    KMSENV_BUFFER text;
    int ok;

    kmsenv_buffer_init(&text, 2 * ROOM, 1);
    ok = TEST_true(kmsenv_base64_add(&text, bytes, n)) && TEST_str_eq(kmsenv_buffer_text(&text), base64);
    kmsenv_buffer_reset(&text);
    return ok;
}

/* What the SDK gave its caller is what our parser gives. */
static int check_result(const cJSON *vector, KMSENV_REPLY *reply)
{
    const cJSON *sdk = vector_at(vector, "sdk_result");
    const char *plaintext = vector_text(sdk, "Plaintext/$base64"), *blob = vector_text(sdk, "CiphertextBlob/$base64");
    const char *state = vector_text(sdk, "KeyMetadata/KeyState");
    unsigned char *out = kmsenv_secret_zalloc(ROOM);
    KMSENV_BLOB wrap = { 0 };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    char seen[80];
    KMSENV_RESULT r = { .key_id = vector_text(sdk, "KeyId"), .plaintext = plaintext == NULL ? NULL : out,
                            .room = ROOM, .blob = blob == NULL ? NULL : &wrap, .state = state == NULL ? NULL : seen,
                            .state_room = sizeof(seen) };
    int ok = TEST_ptr(out) && TEST_int_eq(kmsenv_aws_result(reply, 0, &r, &err), KMSENV_VERDICT_OK)
             && TEST_str_eq(r.request_id, vector_text(vector, "exchanges/0/response/headers/x-amzn-RequestId"))
             && (plaintext == NULL || same_base64(r.plaintext, r.plaintext_len, plaintext))
             && (blob == NULL || same_base64(wrap.ciphertext, wrap.ciphertext_len, blob))
             && (state == NULL || TEST_str_eq(seen, state))
             && TEST_true(plaintext == NULL || strstr(kmsenv_buffer_text(&reply->body), plaintext) == NULL);

    if (!ok)
        TEST_info("%s", err.text);
    kmsenv_blob_reset(&wrap);
    kmsenv_secret_free(out);
    return ok;
}

/* Which class an error belongs to, said once more than in the code under test. Every vector's must be here. */
static const struct { const char *code; int reason; KMSENV_VERDICT verdict; } classes[] = {
    { "ThrottlingException", KMSENV_R_KMS_THROTTLED, KMSENV_VERDICT_RETRY },
    { "KMSInternalException", KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY },
    { "DependencyTimeoutException", KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY },
    { "KeyUnavailableException", KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY },
    { "ExpiredTokenException", KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_CREDENTIALS },
    { "InvalidSignatureException", KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_FINAL },
    { "AccessDeniedException", KMSENV_R_KMS_ACCESS_DENIED, KMSENV_VERDICT_FINAL },
    { "DisabledException", KMSENV_R_KMS_KEY_DISABLED, KMSENV_VERDICT_FINAL },
    { "KMSInvalidStateException", KMSENV_R_KMS_KEY_DISABLED, KMSENV_VERDICT_FINAL },
    { "NotFoundException", KMSENV_R_KMS_KEY_NOT_FOUND, KMSENV_VERDICT_FINAL },
    { "InvalidCiphertextException", KMSENV_R_KMS_WRAP_REJECTED, KMSENV_VERDICT_FINAL },
};

static int check_error(const cJSON *vector, KMSENV_REPLY *reply)
{
    const cJSON *sdk = vector_at(vector, "sdk_error");
    const char *code = vector_text(sdk, "code") != NULL ? vector_text(sdk, "code") : vector_text(sdk, "name");
    const char *message = vector_text(sdk, "message"), *id = vector_text(vector, "exchanges/0/response/headers/x-amzn-RequestId");
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_RESULT r = { 0 };
    KMSENV_VERDICT verdict = kmsenv_aws_result(reply, (int64_t)vector_at(vector, "time/unix")->valuedouble, &r, &err);
    size_t i;

    for (i = 0; i < sizeof(classes) / sizeof(classes[0]) && strstr(vector_text(vector, "name"), classes[i].code) == NULL; i++)
        ;
    return TEST_size_t_lt(i, sizeof(classes) / sizeof(classes[0]))
           && TEST_int_eq(err.reason, classes[i].reason) && TEST_int_eq(verdict, classes[i].verdict)
           && TEST_ptr(strstr(err.text, classes[i].code)) && (code == NULL || TEST_ptr(strstr(code, classes[i].code)))
           && TEST_ptr(strstr(err.text, id)) && TEST_str_eq(r.request_id, id)
           && TEST_true(message == NULL || *message == '\0' || strstr(err.text, message) == NULL);
}

static int run_action(const cJSON *vector, KMSENV_CRYPTO *crypto)
{
    KMSENV_REPLY reply;
    PREPARED p;
    int ok = prepare(vector, &p) && check_request(vector, &p) && check_signature(vector, crypto);

    prepared_reset(&p);
    if (!ok)
        return 0;
    ok = vector_reply(vector_at(vector, "exchanges/0/response"), &reply)
         && (vector_at(vector, "sdk_error") == NULL ? check_result(vector, &reply) : check_error(vector, &reply));
    kmsenv_reply_reset(&reply);
    return ok;
}

/* --- credentials ---------------------------------------------------------- */

static int same_credential(KMSENV_CREDENTIAL *c, const cJSON *vector)
{
    int64_t expires = 0;
    int ok = TEST_str_eq(c->id, vector_text(vector, "sdk_result/accessKeyId"))
             && TEST_str_eq(c->secret, vector_text(vector, "sdk_result/secretAccessKey"))
             && TEST_str_eq(c->token, vector_text(vector, "sdk_result/sessionToken"))
             && TEST_true(kmsenv_text_time(vector_text(vector, "sdk_result/expiration"), &expires))
             && TEST_true(c->expires == expires) && TEST_true(expires == 1700003600);

    OPENSSL_free(c->id);
    kmsenv_secret_free(c->secret);
    kmsenv_secret_free(c->token);
    return ok;
}

static int run_instance(const cJSON *vector)
{
    static const char *const headers[] = { "x-aws-ec2-metadata-token", "x-aws-ec2-metadata-token-ttl-seconds", NULL };
    const char *token = vector_text(vector, "exchanges/0/response/body_utf8");
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_CREDENTIAL credential = { 0 };
    KMSENV_ENDPOINT endpoint;
    KMSENV_REPLY name, set;
    KMSENV_REQUEST r;
    char role[128] = "", path[64];
    int i, ok = vector_reply(vector_at(vector, "exchanges/1/response"), &name)
                & vector_reply(vector_at(vector, "exchanges/2/response"), &set);

    ok = ok && TEST_true(kmsenv_endpoint_parse(&endpoint, "http://169.254.169.254", 1, "metadata-endpoint", &err))
         && TEST_true(kmsenv_metadata_role(&name, role, sizeof(role), &err)) && TEST_str_eq(role, vector_text(vector, "inputs/role"));
    for (i = 0; ok && i < 3; i++) {
        snprintf(path, sizeof(path), "exchanges/%d/request", i);
        ok = TEST_true(kmsenv_aws_instance_request(&endpoint, i == 0 ? NULL : token, i == 2 ? role : "", &r, &err))
             && same_place(&r, vector_at(vector, path), &endpoint) && vector_same_headers(&r, vector_at(vector, path), headers);
        kmsenv_request_reset(&r);
    }
    ok = ok && TEST_true(kmsenv_aws_role_credential(&set, &credential, &err)) && same_credential(&credential, vector);
    kmsenv_reply_reset(&name);
    kmsenv_reply_reset(&set);
    return ok;
}

static int run_container(const cJSON *vector)
{
    static const char *const headers[] = { "Authorization", NULL };
    const cJSON *inputs = vector_at(vector, "inputs"), *captured = vector_at(vector, "exchanges/0/request");
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_CREDENTIAL credential = { 0 };
    KMSENV_ENDPOINT endpoint;
    KMSENV_REPLY reply;
    KMSENV_REQUEST r = { 0 };
    int ok = vector_reply(vector_at(vector, "exchanges/0/response"), &reply)
             && TEST_true(kmsenv_aws_container_request(vector_text(inputs, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
                                                       vector_text(inputs, "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
                                                       vector_text(inputs, "AWS_CONTAINER_AUTHORIZATION_TOKEN"), &endpoint, &r, &err))
             && same_place(&r, captured, &endpoint) && vector_same_headers(&r, captured, headers)
             && TEST_true(kmsenv_aws_role_credential(&reply, &credential, &err)) && same_credential(&credential, vector);

    kmsenv_request_reset(&r);
    kmsenv_reply_reset(&reply);
    return ok;
}

static int run_web_identity(const cJSON *vector)
{
    static const char *const headers[] = { "Content-Type", "Authorization", NULL };
    const cJSON *inputs = vector_at(vector, "inputs"), *captured = vector_at(vector, "exchanges/0/request");
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_CREDENTIAL credential = { 0 };
    KMSENV_ENDPOINT endpoint;
    KMSENV_REPLY reply;
    KMSENV_REQUEST r;
    char url[256];
    int ok = vector_reply(vector_at(vector, "exchanges/0/response"), &reply);

    kmsenv_request_init(&r, "POST");
    ok = ok && TEST_true(kmsenv_aws_endpoint("sts", vector_text(inputs, "AWS_REGION"), url, sizeof(url)))
         && TEST_true(kmsenv_endpoint_parse(&endpoint, url, 0, "sts-endpoint", &err))
         && TEST_true(kmsenv_aws_sts_body(vector_text(inputs, "AWS_ROLE_ARN"), vector_text(inputs, "AWS_ROLE_SESSION_NAME"),
                                          vector_text(inputs, "token_file_content"), &r.body, &err))
         && TEST_true(kmsenv_aws_sts_frame(&endpoint, &r, &err))
         && same_place(&r, captured, &endpoint) && vector_same_headers(&r, captured, headers)
         && TEST_str_eq(kmsenv_buffer_text(&r.body), vector_text(captured, "body_utf8"))
         && TEST_int_eq(kmsenv_aws_sts_credential(&reply, &credential, &err), KMSENV_VERDICT_OK)
         && same_credential(&credential, vector);
    kmsenv_request_reset(&r);
    kmsenv_reply_reset(&reply);
    return ok;
}

int vectors_aws(const cJSON *vector, KMSENV_CRYPTO *crypto)
{
    const char *operation = vector_text(vector, "operation");

    if (!TEST_ptr(operation))
        return 0;
    if (strcmp(operation, "credentials:imdsv2") == 0)
        return run_instance(vector);
    if (strncmp(operation, "credentials:ecs", 15) == 0)
        return run_container(vector);
    if (strcmp(operation, "credentials:web-identity") == 0)
        return run_web_identity(vector);
    return TEST_str_eq(vector_text(vector, "auth"), "AWS4-HMAC-SHA256") && run_action(vector, crypto);
}
