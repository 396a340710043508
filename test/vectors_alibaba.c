/* Runs a vector of Alibaba Cloud: KMS actions with both signatures, credentials of instance, URI and assumed roles. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <openssl/crypto.h>
#include "testutil.h"
#include "core/secret.h"
#include "kms/alibaba.h"
#include "kms/base64.h"
#include "vectors.h"

#define ROOM 16384

static const char *const acs3_headers[] = { "x-acs-version", "x-acs-action", "x-acs-date", "x-acs-signature-nonce", "x-acs-accesskey-id",
                                            "x-acs-security-token", "Content-Type", "Accept", NULL };
static const char *const rpc_headers[] = { "x-acs-version", "x-acs-action", "Content-Type", NULL };

/* --- parameters, decoded -------------------------------------------------- */

static int hex(char c)
{
    const char *digits = "0123456789abcdef", *at = c == '\0' ? NULL : strchr(digits, c >= 'A' && c <= 'F' ? c + 32 : c);

    return at == NULL ? 0 : (int)(at - digits);
}

static void decode(char *text)
{
    char *to = text;

    for (; *text != '\0'; text++, to++) {
        *to = *text == '+' ? ' ' : *text;
        if (*text == '%' && text[1] != '\0' && text[2] != '\0') {
            *to = (char)(hex(text[1]) * 16 + hex(text[2]));
            text += 2;
        }
    }
    *to = '\0';
}

/* "a=b&c=d" as an object of strings. */
static cJSON *params_of(const char *encoded)
{
    cJSON *object = cJSON_CreateObject();
    char *copy = OPENSSL_strdup(encoded), *name, *value, *rest = copy;

    while (rest != NULL && *rest != '\0') {
        name = strsep(&rest, "&");
        value = name + strcspn(name, "=");
        if (*value != '\0')
            *value++ = '\0';
        decode(name);
        decode(value);
        cJSON_AddStringToObject(object, name, value);
    }
    OPENSSL_free(copy);
    return object;
}

static int same_value(const char *name, const char *a, const char *b)
{
    cJSON *x, *y;
    int same;

    if (!TEST_ptr(b))
        return 0;
    if (strcmp(name, "Format") == 0)
        return TEST_int_eq(strcasecmp(a, b), 0);
    if (strstr(name, "EncryptionContext") == NULL)
        return TEST_str_eq(a, b);
    x = cJSON_Parse(a);
    y = cJSON_Parse(b);
    same = TEST_ptr(x) && TEST_true(cJSON_Compare(x, y, 1));
    cJSON_Delete(x);
    cJSON_Delete(y);
    return same;
}

/* The same names, with values that mean the same. signature: is Signature to be the same, too? */
static int same_params(const char *ours, const char *theirs, int signature)
{
    cJSON *a = params_of(ours), *b = params_of(theirs);
    const cJSON *item;
    int ok;

    if (!signature) {
        cJSON_DeleteItemFromObjectCaseSensitive(a, "Signature");
        cJSON_DeleteItemFromObjectCaseSensitive(b, "Signature");
    }
    ok = TEST_int_eq(cJSON_GetArraySize(a), cJSON_GetArraySize(b));
    cJSON_ArrayForEach(item, a)
        ok = ok && same_value(item->string, item->valuestring, vector_text(b, item->string));
    if (!ok)
        TEST_info("ours %s\ncaptured %s", ours, theirs);
    cJSON_Delete(a);
    cJSON_Delete(b);
    return ok;
}

static const char *query_of(const char *target)
{
    const char *query = strchr(target, '?');

    return query == NULL ? "" : query + 1;
}

static int same_request(const KMSENV_REQUEST *ours, const KMSENV_ENDPOINT *endpoint, const cJSON *captured, int signature)
{
    const char *target = kmsenv_buffer_text(&ours->target), *theirs = vector_text(captured, "target");
    size_t path = strcspn(target, "?");

    return TEST_str_eq(ours->method, vector_text(captured, "method"))
           && TEST_str_eq(endpoint->tls ? "https" : "http", vector_text(captured, "scheme"))
           && TEST_str_eq(kmsenv_request_header(ours, "Host"), vector_text(captured, "host"))
           && TEST_size_t_eq(path, strcspn(theirs, "?")) && TEST_mem_eq(target, path, theirs, path)
           && same_params(query_of(target), query_of(theirs), signature)
           && same_params(kmsenv_buffer_text(&ours->body), vector_text(captured, "body_utf8"), signature);
}

/* --- our request ---------------------------------------------------------- */

typedef struct prepared_st {
    KMSENV_ALIBABA_ACTION action;
    KMSENV_ALIBABA_FRAME frame;
    KMSENV_ENDPOINT endpoint;
    KMSENV_CONTEXT context, source, destination;
    unsigned char *plaintext, *ciphertext;
    char nonce[80];
    int same_text;          /* our contexts are written as the captured ones are */
} PREPARED;

static int read_context(PREPARED *p, const cJSON *params, const char *name, KMSENV_CONTEXT *c)
{
    const char *text = vector_text(params, name);
    cJSON *map = cJSON_Parse(text == NULL ? "{}" : text);
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_BUFFER canonical;
    const cJSON *pair;
    int ok = TEST_ptr(map);

    kmsenv_context_init(c);
    cJSON_ArrayForEach(pair, map)
        ok = ok && TEST_true(kmsenv_context_add(c, pair->string, strlen(pair->string), pair->valuestring,
                                                strlen(pair->valuestring), &err));
    kmsenv_buffer_init(&canonical, ROOM, 0);
    ok = ok && TEST_true(kmsenv_context_json(c, &canonical));
    p->same_text &= text == NULL || strcmp(text, kmsenv_buffer_text(&canonical)) == 0;
    kmsenv_buffer_reset(&canonical);
    cJSON_Delete(map);
    return ok;
}

static int read_bytes(const char *text, unsigned char *room, const unsigned char **out, size_t *n)
{
    *n = ROOM;
    if (text == NULL)
        return 1;
    *out = room;
    return TEST_ptr(room) && TEST_true(kmsenv_base64_decode(text, strlen(text), room, n));
}

static int endpoint_of(const char *host, KMSENV_ENDPOINT *out)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;

    return TEST_true(kmsenv_endpoint_parse(out, host, 0, "endpoint", &err));
}

/* The captured request's, wherever it is. */
static int read_nonce(const cJSON *captured, char *out, size_t room)
{
    const char *header = vector_header(captured, "x-acs-signature-nonce"), *text;
    cJSON *query = params_of(query_of(vector_text(captured, "target"))), *body = params_of(vector_text(captured, "body_utf8"));

    text = header != NULL ? header : vector_text(query, "SignatureNonce") != NULL ? vector_text(query, "SignatureNonce")
         : vector_text(body, "SignatureNonce");
    if (text != NULL)
        snprintf(out, room, "%s", text);
    cJSON_Delete(query);
    cJSON_Delete(body);
    return TEST_ptr(text);
}

static KMSENV_ACS_SIGNER signer_of(const cJSON *credentials, KMSENV_CRYPTO *crypto)
{
    const KMSENV_ACS_SIGNER s = { crypto, vector_text(credentials, "access_key_id"), vector_text(credentials, "access_key_secret") };

    return s;
}

static int prepare(const cJSON *vector, KMSENV_CRYPTO *crypto, PREPARED *p)
{
    const cJSON *inputs = vector_at(vector, "inputs"), *params = vector_at(inputs, "params"), *number = vector_at(params, "NumberOfBytes");
    const cJSON *captured = vector_at(vector, "exchanges/0/request");

    memset(p, 0, sizeof(*p));
    p->plaintext = kmsenv_secret_zalloc(ROOM);
    p->ciphertext = OPENSSL_zalloc(ROOM);
    p->same_text = 1;
    p->frame.endpoint = &p->endpoint;
    p->frame.rpc = strcmp(vector_text(vector, "auth"), "RPC-HMAC-SHA1") == 0;
    p->frame.place = *vector_text(captured, "body_utf8") == '\0' ? KMSENV_ALIBABA_QUERY : KMSENV_ALIBABA_FORM;
    p->frame.signer = signer_of(vector_at(inputs, "credentials"), crypto);
    p->frame.token = vector_text(inputs, "credentials/security_token");
    p->frame.timestamp = (int64_t)vector_at(vector, "time/unix")->valuedouble;
    p->frame.nonce = p->nonce;
    p->action.name = vector_text(vector, "operation");
    p->action.key_id = vector_text(params, "KeyId");
    p->action.key_spec = vector_text(params, "KeySpec");
    p->action.destination_key_id = vector_text(params, "DestinationKeyId");
    p->action.number_of_bytes = number == NULL ? 0 : (size_t)number->valueint;
    p->action.context = &p->context;
    p->action.source_context = &p->source;
    p->action.destination_context = &p->destination;
    return read_nonce(captured, p->nonce, sizeof(p->nonce))
           & endpoint_of(vector_text(inputs, "endpoint"), &p->endpoint)
           & read_bytes(vector_text(params, "Plaintext"), p->plaintext, &p->action.plaintext, &p->action.plaintext_len)
           & read_bytes(vector_text(params, "CiphertextBlob"), p->ciphertext, &p->action.ciphertext, &p->action.ciphertext_len)
           & read_context(p, params, "EncryptionContext", &p->context)
           & read_context(p, params, "SourceEncryptionContext", &p->source)
           & read_context(p, params, "DestinationEncryptionContext", &p->destination);
}

static void prepared_reset(PREPARED *p)
{
    kmsenv_context_reset(&p->context);
    kmsenv_context_reset(&p->source);
    kmsenv_context_reset(&p->destination);
    kmsenv_secret_free(p->plaintext);
    OPENSSL_free(p->ciphertext);
}

/* The host that we would make out of the region alone is one that the vectors use: public, or inside a VPC. */
static int check_host(const cJSON *vector)
{
    const char *host = vector_text(vector, "inputs/endpoint"), *region = vector_text(vector, "inputs/region");
    char made[KMSENV_ENDPOINT_TEXT_MAX];

    if (strstr(host, ".cryptoservice.kms.") != NULL)
        return 1;
    return TEST_true(kmsenv_alibaba_endpoint("kms", strncmp(host, "kms-vpc.", 8) == 0, region, made, sizeof(made)))
           && TEST_str_eq(made + strlen("https://"), host);
}

static int check_request(const cJSON *vector, const PREPARED *p)
{
    const cJSON *captured = vector_at(vector, "exchanges/0/request");
    /* one of the vendor's clients says "json": what it signs is not what we sign */
    int signature = p->same_text && strstr(vector_text(vector, "sdk/name"), "pop-core") != NULL;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_REQUEST request;
    int ok;

    kmsenv_request_init(&request, vector_text(captured, "method"));
    ok = check_host(vector)
         && TEST_true(kmsenv_alibaba_request(&p->frame, &p->action, &request, &err))
         && same_request(&request, &p->endpoint, captured, signature)
         && vector_same_headers(&request, captured, p->frame.rpc ? rpc_headers : acs3_headers)
         && (p->frame.rpc || TEST_ptr(kmsenv_request_header(&request, "Authorization")))
         && TEST_int_eq(request.secret, p->action.plaintext != NULL || (p->frame.rpc && p->frame.token != NULL));
    if (!ok)
        TEST_info("%s", err.text);
    kmsenv_request_reset(&request);
    return ok;
}

/* --- signature ------------------------------------------------------------ */

/* The captured request without Authorization. */
static int copy_request(const cJSON *captured, KMSENV_REQUEST *r)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    const cJSON *header;
    int ok = 1;

    kmsenv_request_init(r, vector_text(captured, "method"));
    kmsenv_buffer_add_text(&r->target, vector_text(captured, "target"));
    kmsenv_buffer_add_text(&r->body, vector_text(captured, "body_utf8"));
    cJSON_ArrayForEach(header, vector_at(captured, "headers"))
        if (strcasecmp(vector_text(header, "0"), "Authorization") != 0)
            ok = ok && TEST_true(kmsenv_request_add_header(r, vector_text(header, "0"), vector_text(header, "1"), &err));
    return ok;
}

static int check_acs3(const cJSON *vector, const KMSENV_ACS_SIGNER *signer)
{
    const cJSON *derived = vector_at(vector, "derived"), *captured = vector_at(vector, "exchanges/0/request");
    KMSENV_BUFFER names, canonical, text;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_REQUEST r;
    int ok;

    kmsenv_buffer_init(&names, ROOM, 0);
    kmsenv_buffer_init(&canonical, ROOM, 0);
    kmsenv_buffer_init(&text, ROOM, 0);
    ok = copy_request(captured, &r)
         && TEST_true(kmsenv_acs3_canonical(signer->crypto, &r, &names, &canonical, &err))
         && TEST_str_eq(kmsenv_buffer_text(&canonical), vector_text(derived, "canonical_request"))
         && TEST_true(kmsenv_acs3_string_to_sign(signer->crypto, &canonical, &text, &err))
         && TEST_str_eq(kmsenv_buffer_text(&text), vector_text(derived, "string_to_sign"))
         && TEST_true(kmsenv_acs3_sign(signer, &r, &err))
         && TEST_str_eq(kmsenv_request_header(&r, "Authorization"), vector_text(derived, "authorization"))
         && TEST_str_eq(kmsenv_request_header(&r, "Authorization"), vector_header(captured, "Authorization"))
         && TEST_ptr(strstr(kmsenv_request_header(&r, "Authorization"), vector_text(derived, "signature")))
         && TEST_str_eq(kmsenv_request_header(&r, "x-acs-content-sha256"), vector_text(captured, "body_sha256"));
    kmsenv_buffer_reset(&names);
    kmsenv_buffer_reset(&canonical);
    kmsenv_buffer_reset(&text);
    kmsenv_request_reset(&r);
    return ok;
}

/* What signing adds is "Signature=" and the signature, encoded, at the end of the query or of the body. */
static int ends_with_signature(const KMSENV_REQUEST *r, const char *signature)
{
    int query = strchr(kmsenv_buffer_text(&r->target), '?') != NULL;
    const char *all = kmsenv_buffer_text(query ? &r->target : &r->body), *last = strrchr(all, '&');
    KMSENV_BUFFER expected;
    int ok;

    kmsenv_buffer_init(&expected, 256, 0);
    kmsenv_form_add(&expected, "Signature", signature);
    ok = TEST_ptr(last) && TEST_str_eq(last + 1, kmsenv_buffer_text(&expected));
    kmsenv_buffer_reset(&expected);
    return ok;
}

static int check_rpc(const cJSON *vector, const KMSENV_ACS_SIGNER *signer)
{
    const cJSON *derived = vector_at(vector, "derived");
    KMSENV_BUFFER canonical, text;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_REQUEST r;
    int ok;

    kmsenv_buffer_init(&canonical, ROOM, 0);
    kmsenv_buffer_init(&text, ROOM, 0);
    ok = copy_request(vector_at(vector, "exchanges/0/request"), &r)
         && TEST_true(kmsenv_acs_canonical_params(&r, 1, &canonical, &err))
         && TEST_str_eq(kmsenv_buffer_text(&canonical), vector_text(derived, "canonicalized_query"))
         && TEST_true(kmsenv_acs_rpc_string_to_sign(r.method, &canonical, &text, &err))
         && TEST_str_eq(kmsenv_buffer_text(&text), vector_text(derived, "string_to_sign"))
         && TEST_true(kmsenv_acs_rpc_sign(signer, &r, &err))
         && ends_with_signature(&r, vector_text(derived, "signature"));
    kmsenv_buffer_reset(&canonical);
    kmsenv_buffer_reset(&text);
    kmsenv_request_reset(&r);
    return ok;
}

/* --- reply ---------------------------------------------------------------- */

/* Three clients give their callers the same thing in three shapes. */
static const char *sdk_text(const cJSON *vector, const char *name)
{
    char path[96], lower[64];
    const char *text;
    size_t i;

    snprintf(path, sizeof(path), "sdk_result/body/%s", name);
    if ((text = vector_text(vector, path)) != NULL)
        return text;
    snprintf(lower, sizeof(lower), "%s", name);
    for (i = 0; lower[i] != '\0'; i++)
        if ((i == 0 || lower[i - 1] == '/') && lower[i] >= 'A' && lower[i] <= 'Z')
            lower[i] += 32;
    snprintf(path, sizeof(path), "sdk_result/%s", name);
    if ((text = vector_text(vector, path)) != NULL)
        return text;
    snprintf(path, sizeof(path), "sdk_result/%s", lower);
    return vector_text(vector, path);
}

static int same_base64(const unsigned char *bytes, size_t n, const char *base64)
{
    KMSENV_BUFFER text;
    int ok;

    kmsenv_buffer_init(&text, 2 * ROOM, 1);
    ok = TEST_true(kmsenv_base64_add(&text, bytes, n)) && TEST_str_eq(kmsenv_buffer_text(&text), base64);
    kmsenv_buffer_reset(&text);
    return ok;
}

static int check_result(const cJSON *vector, KMSENV_REPLY *reply)
{
    const char *plaintext = sdk_text(vector, "Plaintext"), *blob = sdk_text(vector, "CiphertextBlob");
    const char *state = sdk_text(vector, "KeyMetadata/KeyState"), *key = sdk_text(vector, state == NULL ? "KeyId" : "KeyMetadata/KeyId");
    unsigned char *out = kmsenv_secret_zalloc(ROOM);
    KMSENV_BLOB wrap = { 0 };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    char seen[80];
    KMSENV_RESULT r = { .key_id = key, .plaintext = plaintext == NULL ? NULL : out, .room = ROOM, .blob = blob == NULL ? NULL : &wrap,
                        .state = state == NULL ? NULL : seen, .state_room = sizeof(seen) };
    int ok = TEST_ptr(out) && TEST_ptr(key) && TEST_true(plaintext != NULL || blob != NULL || state != NULL)
             && TEST_int_eq(kmsenv_alibaba_result(reply, &r, &err), KMSENV_VERDICT_OK)
             && TEST_str_eq(r.request_id, sdk_text(vector, "RequestId"))
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
    { "Rejected.Throttling", KMSENV_R_KMS_THROTTLED, KMSENV_VERDICT_RETRY },
    { "InternalFailure", KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY },
    { "ServiceUnavailableTemporary", KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY },
    { "IllegalTimestamp", KMSENV_R_KMS_CLOCK, KMSENV_VERDICT_CLOCK },
    { "InvalidSecurityToken.Expired", KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_CREDENTIALS },
    { "InvalidAccessKeyId.NotFound", KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_CREDENTIALS },
    { "SignatureDoesNotMatch", KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_FINAL },
    { "IncompleteSignature", KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_FINAL },
    { "Forbidden.NoPermission", KMSENV_R_KMS_ACCESS_DENIED, KMSENV_VERDICT_FINAL },
    { "Forbidden.KeyNotFound", KMSENV_R_KMS_KEY_NOT_FOUND, KMSENV_VERDICT_FINAL },
    { "Rejected.Disabled", KMSENV_R_KMS_KEY_DISABLED, KMSENV_VERDICT_FINAL },
    { "Rejected.PendingDeletion", KMSENV_R_KMS_KEY_DISABLED, KMSENV_VERDICT_FINAL },
    { "Rejected.Unavailable", KMSENV_R_KMS_KEY_DISABLED, KMSENV_VERDICT_FINAL },
    { "InvalidCiphertext", KMSENV_R_KMS_WRAP_REJECTED, KMSENV_VERDICT_FINAL },
    { "Throttling", KMSENV_R_KMS_THROTTLED, KMSENV_VERDICT_RETRY },
    { "Throttling.User", KMSENV_R_KMS_THROTTLED, KMSENV_VERDICT_RETRY },
    { "Throttling.Api", KMSENV_R_KMS_THROTTLED, KMSENV_VERDICT_RETRY },
    { "InvalidTimeStamp.Expired", KMSENV_R_KMS_CLOCK, KMSENV_VERDICT_CLOCK },
    { "SignatureNonceUsed", KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY },
    { "UnsupportedOperation", KMSENV_R_KMS_UNSUPPORTED, KMSENV_VERDICT_FINAL },
    { "InvalidParameter", KMSENV_R_KMS_REQUEST_REJECTED, KMSENV_VERDICT_FINAL },
    { "MissingParameter", KMSENV_R_KMS_REQUEST_REJECTED, KMSENV_VERDICT_FINAL },
};

static int check_error(const cJSON *vector, KMSENV_REPLY *reply)
{
    const cJSON *sdk = vector_at(vector, "sdk_error");
    const char *code = vector_text(sdk, "code"), *message = vector_text(sdk, "message"), *id = vector_text(sdk, "requestId");
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_RESULT r = { 0 };
    KMSENV_VERDICT verdict = kmsenv_alibaba_result(reply, &r, &err);
    size_t i;

    for (i = 0; i < sizeof(classes) / sizeof(classes[0]) && strcmp(code, classes[i].code) != 0; i++)
        ;
    return TEST_size_t_lt(i, sizeof(classes) / sizeof(classes[0]))
           && TEST_int_eq(err.reason, classes[i].reason) && TEST_int_eq(verdict, classes[i].verdict)
           && TEST_ptr(strstr(err.text, code)) && TEST_ptr(strstr(err.text, id)) && TEST_str_eq(r.request_id, id)
           && TEST_ptr_null(strstr(err.text, message));
}

static int run_action(const cJSON *vector, KMSENV_CRYPTO *crypto)
{
    KMSENV_REPLY reply;
    PREPARED p;
    int ok = prepare(vector, crypto, &p) && check_request(vector, &p)
             && (p.frame.rpc ? check_rpc(vector, &p.frame.signer) : check_acs3(vector, &p.frame.signer));

    prepared_reset(&p);
    if (!ok)
        return 0;
    ok = vector_reply(vector_at(vector, "exchanges/0/response"), &reply)
         && (vector_at(vector, "sdk_error") == NULL ? check_result(vector, &reply) : check_error(vector, &reply));
    kmsenv_reply_reset(&reply);
    return ok;
}

/* --- credentials ---------------------------------------------------------- */

/* The expiry is only in the reply: expiration is the path to it there. */
static int same_credential(KMSENV_CREDENTIAL *c, const cJSON *vector, const cJSON *response, const char *expiration)
{
    cJSON *body = cJSON_Parse(vector_text(response, "body_utf8"));
    int64_t expires = 0;
    int ok = TEST_str_eq(c->id, vector_text(vector, "sdk_result/accessKeyId"))
             && TEST_str_eq(c->secret, vector_text(vector, "sdk_result/accessKeySecret"))
             && TEST_str_eq(c->token, vector_text(vector, "sdk_result/securityToken"))
             && TEST_true(kmsenv_text_time(vector_text(body, expiration), &expires)) && TEST_true(c->expires == expires);

    cJSON_Delete(body);
    kmsenv_credential_reset(c);
    return ok;
}

static int run_ecs_request(const cJSON *exchange, const KMSENV_ENDPOINT *endpoint, const char *token, const char *role)
{
    static const char *const headers[] = { "X-aliyun-ecs-metadata-token", "X-aliyun-ecs-metadata-token-ttl-seconds", NULL };
    const cJSON *captured = vector_at(exchange, "request");
    const char *target = vector_text(captured, "target");
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_REQUEST r;
    int ok;

    if (strcmp(vector_text(captured, "method"), "PUT") == 0)
        ok = TEST_true(kmsenv_alibaba_ecs_token_request(endpoint, &r, &err));
    else
        ok = TEST_true(kmsenv_alibaba_ecs_request(endpoint, token, target[strlen(target) - 1] == '/' ? "" : role, &r, &err));
    ok = ok && same_request(&r, endpoint, captured, 1) && vector_same_headers(&r, captured, headers);
    kmsenv_request_reset(&r);
    return ok;
}

static int run_ecs(const cJSON *vector)
{
    const cJSON *exchanges = vector_at(vector, "exchanges"), *exchange, *last = NULL;
    const char *token = vector_text(vector, "exchanges/0/response/body_utf8"), *role = vector_text(vector, "inputs/role");
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_CREDENTIAL credential = { 0 };
    KMSENV_ENDPOINT endpoint;
    KMSENV_REPLY name, set;
    char seen[128] = "";
    int ok;

    ok = vector_reply(vector_at(vector, "exchanges/1/response"), &name)
         & TEST_true(kmsenv_endpoint_parse(&endpoint, "http://100.100.100.200", 1, "metadata-endpoint", &err));
    ok = ok && TEST_true(kmsenv_metadata_role(&name, seen, sizeof(seen), &err)) && TEST_str_eq(seen, role);
    cJSON_ArrayForEach(exchange, exchanges) {
        ok = ok && run_ecs_request(exchange, &endpoint, token, seen);
        last = vector_at(exchange, "response");
    }
    kmsenv_reply_reset(&name);
    ok = vector_reply(last, &set) && ok && TEST_true(kmsenv_alibaba_role_credential(&set, &credential, &err))
         && same_credential(&credential, vector, last, "Expiration");
    kmsenv_reply_reset(&set);
    return ok;
}

static int run_sts(const cJSON *vector, KMSENV_CRYPTO *crypto)
{
    static const char *const headers[] = { "Content-Type", "Authorization", NULL };
    const cJSON *inputs = vector_at(vector, "inputs"), *captured = vector_at(vector, "exchanges/0/request");
    const cJSON *response = vector_at(vector, "exchanges/0/response");
    const KMSENV_ALIBABA_ROLE role = { .role_arn = vector_text(inputs, "role_arn"), .session = vector_text(inputs, "role_session_name"),
                                       .provider_arn = vector_text(inputs, "oidc_provider_arn") };
    KMSENV_ENDPOINT endpoint;
    char nonce[80] = "", made[KMSENV_ENDPOINT_TEXT_MAX];
    const KMSENV_ALIBABA_FRAME frame = { .endpoint = &endpoint, .signer = signer_of(inputs, crypto), .nonce = nonce,
                                         .timestamp = (int64_t)vector_at(vector, "time/unix")->valuedouble };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_CREDENTIAL credential = { 0 };
    KMSENV_REPLY reply;
    KMSENV_REQUEST r;
    int ok;

    kmsenv_request_init(&r, "POST");
    ok = vector_reply(response, &reply) && TEST_true(kmsenv_alibaba_endpoint("sts", 0, vector_text(inputs, "sts_region"), made, sizeof(made)))
         && endpoint_of(made, &endpoint) && (role.provider_arn != NULL || read_nonce(captured, nonce, sizeof(nonce)))
         && TEST_true(kmsenv_alibaba_sts_request(&frame, &role, vector_text(inputs, "token_file_content"), &r, &err))
         && same_request(&r, &endpoint, captured, 1) && vector_same_headers(&r, captured, headers)
         && TEST_str_eq(kmsenv_buffer_text(&r.body), vector_text(captured, "body_utf8"))
         && (role.provider_arn != NULL || check_rpc(vector, &frame.signer))
         && TEST_int_eq(kmsenv_alibaba_sts_credential(&reply, &credential, &err), KMSENV_VERDICT_OK)
         && same_credential(&credential, vector, response, "Credentials/Expiration");
    kmsenv_request_reset(&r);
    kmsenv_reply_reset(&reply);
    return ok;
}

static int run_uri(const cJSON *vector)
{
    const cJSON *response = vector_at(vector, "exchanges/0/response");
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_CREDENTIAL credential = { 0 };
    KMSENV_ENDPOINT endpoint;
    KMSENV_REPLY reply;
    KMSENV_REQUEST r;
    int ok = vector_reply(response, &reply)
             & TEST_true(kmsenv_alibaba_uri_request(vector_text(vector, "inputs/uri"), 1, &endpoint, &r, &err));

    ok = ok && same_request(&r, &endpoint, vector_at(vector, "exchanges/0/request"), 1)
         && TEST_true(kmsenv_alibaba_role_credential(&reply, &credential, &err))
         && same_credential(&credential, vector, response, "Expiration");
    kmsenv_request_reset(&r);
    kmsenv_reply_reset(&reply);
    return ok;
}

int vectors_alibaba(const cJSON *vector, KMSENV_CRYPTO *crypto)
{
    const char *operation = vector_text(vector, "operation"), *auth = vector_text(vector, "auth");

    if (!TEST_ptr(operation) || !TEST_ptr(auth))
        return 0;
    if (strcmp(operation, "credentials:ecs-ram-role") == 0)
        return run_ecs(vector);
    if (strcmp(operation, "credentials:uri") == 0)
        return run_uri(vector);
    if (strncmp(operation, "credentials:", 12) == 0)
        return run_sts(vector, crypto);
    return TEST_true(strcmp(auth, "ACS3-HMAC-SHA256") == 0 || strcmp(auth, "RPC-HMAC-SHA1") == 0) && run_action(vector, crypto);
}
