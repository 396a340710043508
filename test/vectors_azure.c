/* Runs a vector of Azure Key Vault: operations on a key, sign-ins, managed identities. Nothing is signed; a token is sent. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <openssl/crypto.h>
#include "testutil.h"
#include "core/secret.h"
#include "kms/azure.h"
#include "kms/base64.h"
#include "vectors.h"

#define ROOM      4096
#define COUNT(a)  (sizeof(a) / sizeof((a)[0]))

/* --- captured requests ---------------------------------------------------- */

/* The SDK writes api%2Dversion, and adds an id of its own to sign-ins: the same target, as we write it. */
static cJSON *normalised(const cJSON *captured)
{
    cJSON *copy = cJSON_Duplicate(captured, 1);
    const char *target = vector_text(copy, "target"), *dash = strstr(target, "%2D"), *mine = strstr(target, "?client-request-id=");
    char text[1024];

    BIO_snprintf(text, sizeof(text), "%.*s%s%s", (int)(dash != NULL ? dash - target : mine != NULL ? mine - target : (int)strlen(target)),
                 target, dash != NULL ? "-" : "", dash != NULL ? dash + 3 : "");
    cJSON_ReplaceItemInObject(copy, "target", cJSON_CreateString(text));
    return copy;
}

/* body: compare it, too, as JSON. */
static int same_request(const KMSENV_REQUEST *ours, const cJSON *captured, int body, const char *const *headers)
{
    cJSON *theirs = normalised(captured);
    int ok = (body ? vector_same_request(ours, theirs)
                   : TEST_str_eq(ours->method, vector_text(theirs, "method"))
                     & TEST_str_eq(kmsenv_buffer_text(&ours->target), vector_text(theirs, "target"))
                     & TEST_str_eq(kmsenv_request_header(ours, "Host"), vector_text(theirs, "host")))
             && vector_same_headers(ours, captured, headers);

    cJSON_Delete(theirs);
    return ok;
}

/* Decodes {"$base64": ...}, up to room bytes; 0 if it is not there. */
static size_t read_bytes(const cJSON *json, const char *name, unsigned char *out, size_t room)
{
    const char *text = vector_text(vector_at(json, name), "$base64");

    return text != NULL && TEST_true(kmsenv_base64_decode(text, strlen(text), out, &room)) ? room : 0;
}

/* --- operations on a key -------------------------------------------------- */

static const struct { const char *operation, *verb, *input; } operations[] = {
    { "wrapKey", "wrapkey", "key" }, { "unwrapKey", "unwrapkey", "wrapped" }, { "encrypt", "encrypt", "plaintext" },
    { "decrypt", "decrypt", "ciphertext" }, { "getKey", NULL, NULL },
};

typedef struct case_st {
    const cJSON *vector;
    size_t operation;
    KMSENV_AZURE_KEY key;
    KMSENV_ENDPOINT endpoint;
    char resource[KMSENV_AZURE_RESOURCE_MAX];
    unsigned char value[ROOM];
    size_t value_len;
    int64_t now;
} CASE;

static int prepare(const cJSON *vector, CASE *c)
{
    const cJSON *inputs = vector_at(vector, "inputs"), *params = vector_at(inputs, "params");
    const char *version = vector_text(params, "version"), *authority;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    char id[512];

    memset(c, 0, sizeof(*c));
    c->vector = vector;
    c->now = (int64_t)vector_at(vector, "time/unix")->valuedouble;
    for (; c->operation < COUNT(operations); c->operation++)
        if (strcmp(operations[c->operation].operation, vector_text(vector, "operation")) == 0)
            break;
    if (!TEST_size_t_lt(c->operation, COUNT(operations)))
        return 0;
    if (version == NULL)
        version = vector_text(inputs, "key_version");
    BIO_snprintf(id, sizeof(id), "https://%s/keys/%s%s%s", vector_text(inputs, "vault"), vector_text(inputs, "key"),
                 *version == '\0' ? "" : "/", version);
    if (operations[c->operation].input != NULL)
        c->value_len = read_bytes(params, operations[c->operation].input, c->value, ROOM);
    return TEST_true(kmsenv_azure_key_parse(&c->key, id)) && TEST_str_eq(c->key.version, version)
           && TEST_true(kmsenv_endpoint_parse(&c->endpoint, vector_text(inputs, "vault"), 0, "endpoint", &err))
           && TEST_true(kmsenv_azure_cloud(c->endpoint.host, c->resource, &authority))
           && TEST_true(operations[c->operation].input == NULL || c->value_len > 0);
}

static KMSENV_AZURE_ACTION action_of(const CASE *c, int asks_for_key)
{
    const char *algorithm = vector_text(c->vector, "inputs/params/algorithm"), *type = vector_text(c->vector, "sdk_result/keyType");
    KMSENV_AZURE_ACTION a = { .key = &c->key, .algorithm = algorithm };

    if (algorithm == NULL)
        a.algorithm = type != NULL && strncmp(type, "oct", 3) == 0 ? "A256KW" : "RSA-OAEP-256";
    if (asks_for_key)
        return a;
    a.verb = operations[c->operation].verb;
    a.value = c->value;
    a.value_len = c->value_len;
    return a;
}

/* Which class an error belongs to, said once more than in the code under test. code: that of the inner error, if it has one. */
static const struct { int status; const char *code; int reason; KMSENV_VERDICT verdict; } classes[] = {
    { 400, "BadParameter", KMSENV_R_KMS_WRAP_REJECTED, KMSENV_VERDICT_FINAL },
    { 401, "Unauthorized", KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_CREDENTIALS },
    { 403, "ForbiddenByPolicy", KMSENV_R_KMS_ACCESS_DENIED, KMSENV_VERDICT_FINAL },
    { 403, "KeyDisabled", KMSENV_R_KMS_KEY_DISABLED, KMSENV_VERDICT_FINAL },
    { 404, "KeyNotFound", KMSENV_R_KMS_KEY_NOT_FOUND, KMSENV_VERDICT_FINAL },
    { 429, "Throttled", KMSENV_R_KMS_THROTTLED, KMSENV_VERDICT_RETRY },
    { 500, "InternalServerError", KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY },
    { 503, "ServiceUnavailable", KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY },
};

static int check_error(const CASE *c, const cJSON *response, KMSENV_REPLY *reply, const KMSENV_AZURE_ACTION *action)
{
    cJSON *body = cJSON_Parse(vector_text(response, "body_utf8"));
    const char *code = vector_text(body, "error/innererror/code"), *challenge, *message = vector_text(body, "error/message");
    KMSENV_RESULT r = { 0 };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_VERDICT verdict = kmsenv_azure_result(reply, action, c->now, &r, &err);
    size_t i;
    int ok;

    if (code == NULL)
        code = vector_text(body, "error/code");
    for (i = 0; i < COUNT(classes); i++)
        if (classes[i].status == reply->status && strcmp(classes[i].code, code) == 0)
            break;
    ok = TEST_size_t_lt(i, COUNT(classes)) && TEST_int_eq(err.reason, classes[i].reason)
         && TEST_int_eq(verdict, classes[i].verdict) && TEST_ptr(strstr(err.text, code))
         && TEST_str_eq(r.request_id, vector_text(vector_at(response, "headers"), "x-ms-request-id"))
         && TEST_ptr(strstr(err.text, r.request_id)) && TEST_ptr(message) && TEST_ptr_null(strstr(err.text, message));
    /* The vault says what tokens it wants: what we would ask for, too. */
    if (ok && (challenge = vector_text(vector_at(response, "headers"), "WWW-Authenticate")) != NULL)
        ok = TEST_ptr(strstr(challenge, c->resource)) && TEST_ptr(strstr(err.text, c->resource));
    if (!ok)
        TEST_info("%s", err.text);
    cJSON_Delete(body);
    return ok;
}

static int check_wrap(const KMSENV_BLOB *wrap, const CASE *c, const char *algorithm)
{
    const KMSENV_AZURE_ALGORITHM *found = NULL;
    unsigned char expected[ROOM];
    size_t n = read_bytes(vector_at(c->vector, "sdk_result"), "result", expected, sizeof(expected));
    char version[KMSENV_AZURE_VERSION_LEN + 1];
    KMSENV_AZURE_KEY key;

    if (!TEST_mem_eq(wrap->ciphertext, wrap->ciphertext_len, expected, n))
        return 0;
    if (kmsenv_azure_algorithm_find(algorithm) == NULL)   /* one that our wraps do not have */
        return TEST_ptr_null(wrap->extra);
    return TEST_true(kmsenv_azure_key_parse(&key, vector_text(c->vector, "sdk_result/keyID")))
           && TEST_true(kmsenv_azure_extra_parse(wrap->extra, wrap->extra_len, &found, version))
           && TEST_str_eq(found->name, algorithm) && TEST_str_eq(version, key.version);
}

/* What the SDK gave its caller is what our parser gives. The key itself is also asked for by operations that need not. */
static int check_result(const CASE *c, const cJSON *response, KMSENV_REPLY *reply, const KMSENV_AZURE_ACTION *action)
{
    unsigned char *out = kmsenv_secret_zalloc(ROOM), expected[ROOM];
    int opens = action->verb != NULL && (strcmp(action->verb, "unwrapkey") == 0 || strcmp(action->verb, "decrypt") == 0);
    size_t n = read_bytes(vector_at(c->vector, "sdk_result"), "result", expected, sizeof(expected));
    char state[32] = "";
    KMSENV_BLOB wrap = { 0 };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_RESULT r = { .plaintext = opens ? out : NULL, .room = ROOM, .blob = action->verb == NULL || opens ? NULL : &wrap,
                        .state = action->verb == NULL ? state : NULL, .state_room = sizeof(state) };
    int ok;

    ok = TEST_ptr(out) && TEST_int_eq(kmsenv_azure_result(reply, action, c->now, &r, &err), KMSENV_VERDICT_OK)
         && TEST_int_eq(err.reason, KMSENV_R_NONE)
         && TEST_str_eq(r.request_id, vector_text(vector_at(response, "headers"), "x-ms-request-id"))
         && (action->verb != NULL || TEST_str_eq(state, "Enabled"))
         && (!opens || TEST_mem_eq(out, r.plaintext_len, expected, n))
         && (r.blob == NULL || check_wrap(&wrap, c, action->algorithm));
    if (!ok)
        TEST_info("%s", err.text);
    kmsenv_blob_reset(&wrap);
    kmsenv_secret_free(out);
    return ok;
}

static int check_request(const CASE *c, const KMSENV_AZURE_ACTION *action, const cJSON *captured)
{
    static const char *const headers[] = { "Content-Type", "Authorization", "Accept", NULL };
    const char *api = strstr(vector_text(captured, "target"), "version=");
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_REQUEST request;
    int ok;

    kmsenv_request_init(&request, "POST");
    ok = TEST_ptr(api)
         && (action->value == NULL || TEST_true(kmsenv_azure_body(action, &request.body, &err)))
         && TEST_true(kmsenv_azure_frame(&c->endpoint, action, api + 8, vector_text(c->vector, "inputs/credentials/access_token"),
                                         &request, &err))
         && TEST_true(kmsenv_request_check(&request, &err)) && same_request(&request, captured, 1, headers);
    kmsenv_request_reset(&request);
    return ok;
}

/* Every exchange: first without a token, which we never try; then as it is. */
static int run_operation(const cJSON *vector)
{
    const cJSON *exchange;
    KMSENV_AZURE_ACTION action;
    KMSENV_REPLY reply;
    int ok = 1, replies = 0;
    CASE c;

    if (!prepare(vector, &c))
        return 0;
    cJSON_ArrayForEach(exchange, vector_at(vector, "exchanges")) {
        const cJSON *captured = vector_at(exchange, "request"), *response = vector_at(exchange, "response");

        action = action_of(&c, strcmp(vector_text(captured, "method"), "GET") == 0);
        ok = ok && (vector_header(captured, "Authorization") == NULL || check_request(&c, &action, captured))
             && vector_reply(response, &reply);
        if (ok) {
            ok = reply.status == 200 ? check_result(&c, response, &reply, &action) : check_error(&c, response, &reply, &action);
            kmsenv_reply_reset(&reply);
            replies++;
        }
    }
    return ok && TEST_int_gt(replies, 1);
}

/* --- tokens --------------------------------------------------------------- */

/* The reply of every source of tokens. */
static int check_token(const cJSON *vector, int (*parse)(KMSENV_REPLY *, int64_t, KMSENV_CREDENTIAL *, KMSENV_ERROR *))
{
    const cJSON *response = vector_at(vector, "exchanges/0/response");
    cJSON *body = cJSON_Parse(vector_text(response, "body_utf8"));
    const cJSON *in = vector_at(body, "expires_in");
    int64_t now = (int64_t)vector_at(vector, "time/unix")->valuedouble, life;
    const char *token = vector_text(vector, "sdk_result");
    KMSENV_CREDENTIAL c = { 0 };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_REPLY reply;
    int ok;

    life = in == NULL ? 0 : cJSON_IsNumber(in) ? (int64_t)in->valuedouble : strtoll(cJSON_GetStringValue((cJSON *)in), NULL, 10);
    ok = vector_reply(response, &reply) && TEST_ptr(token) && TEST_true(parse(&reply, now, &c, &err))
         && TEST_str_eq(c.token, token) && TEST_str_eq(c.id, "") && TEST_ptr_null(c.secret)
         && TEST_true(life == 0 || c.expires == now + life)
         && TEST_ptr_null(strstr(kmsenv_buffer_text(&reply.body), token));
    if (!ok)
        TEST_info("%s", err.text);
    OPENSSL_free(c.id);
    kmsenv_secret_free(c.token);
    kmsenv_reply_reset(&reply);
    cJSON_Delete(body);
    return ok;
}

/* What the scope of a case says that a token is for. */
static int read_resource(const cJSON *vector, char resource[KMSENV_AZURE_RESOURCE_MAX], const char **authority)
{
    const char *scope = vector_text(vector, "inputs/scope"), *tail = scope == NULL ? NULL : strstr(scope, "/.default");

    if (!TEST_ptr(tail))
        return 0;
    BIO_snprintf(resource, KMSENV_AZURE_RESOURCE_MAX, "%.*s", (int)(tail - scope), scope);
    return TEST_true(kmsenv_azure_cloud(resource + strlen("https://"), resource, authority));
}

/* The next field of a form, decoded: how much is escaped is a client's choice. 0 at the end. */
static int next_field(const char **form, char *out, size_t room)
{
    size_t n = strcspn(*form, "&"), i, k = 0;
    char hex[3] = "";

    if (**form == '\0' || n >= room)
        return 0;
    for (i = 0; i < n; i++, k++) {
        out[k] = (*form)[i] == '+' ? ' ' : (*form)[i];
        if (out[k] == '%' && i + 2 < n) {
            memcpy(hex, *form + i + 1, 2);
            out[k] = (char)strtol(hex, NULL, 16);
            i += 2;
        }
    }
    out[k] = '\0';
    *form += n + ((*form)[n] == '&');
    return 1;
}

static int has_field(const char *form, const char *field)
{
    char other[8192];

    while (next_field(&form, other, sizeof(other)))
        if (strcmp(other, field) == 0)
            return 1;
    TEST_info("field %s", field);
    return 0;
}

/* Is every field of ours in the captured form, and nothing else there but what SDKs tell about themselves? */
static int same_form(const char *ours, const char *captured)
{
    static const char *const ignored[] = { "x-client-", "x-ms-", "client-request-id=", NULL };
    const char *p = ours;
    char field[8192];
    size_t i, fields = 0;

    for (; next_field(&p, field, sizeof(field)); fields++)
        if (!TEST_true(has_field(captured, field)))
            return 0;
    for (p = captured; next_field(&p, field, sizeof(field));) {
        for (i = 0; ignored[i] != NULL && strncmp(field, ignored[i], strlen(ignored[i])) != 0; i++)
            ;
        if (ignored[i] == NULL && !TEST_true(has_field(ours, field)))
            return 0;
    }
    return TEST_size_t_ge(fields, 4);
}

static int parse_login(KMSENV_REPLY *reply, int64_t now, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    return kmsenv_azure_login_result(reply, now, out, err) == KMSENV_VERDICT_OK;
}

static int run_login(const cJSON *vector)
{
    static const char *const headers[] = { "Content-Type", NULL };
    const cJSON *inputs = vector_at(vector, "inputs"), *captured = vector_at(vector, "exchanges/0/request");
    const KMSENV_AZURE_LOGIN login = { vector_text(inputs, "tenant"), vector_text(inputs, "client_id"),
                                       vector_text(inputs, "client_secret"), vector_text(inputs, "token_file_content") };
    char resource[KMSENV_AZURE_RESOURCE_MAX];
    const char *host;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_ENDPOINT authority;
    KMSENV_REQUEST request;
    int ok;

    kmsenv_request_init(&request, "POST");
    ok = read_resource(vector, resource, &host)
         && TEST_true(kmsenv_endpoint_parse(&authority, host, 0, "authority", &err))
         && TEST_true(kmsenv_azure_login_body(&login, resource, &request.body, &err))
         && TEST_true(kmsenv_azure_login_frame(&authority, &login, &request, &err))
         && same_request(&request, captured, 0, headers)
         && same_form(kmsenv_buffer_text(&request.body), vector_text(captured, "body_utf8"))
         && check_token(vector, parse_login);
    kmsenv_request_reset(&request);
    return ok;
}

static int run_identity(const cJSON *vector, int app)
{
    static const char *const headers[] = { "Metadata", "X-IDENTITY-HEADER", NULL };
    const cJSON *inputs = vector_at(vector, "inputs");
    const char *client = vector_text(inputs, "client_id"), *host;
    char resource[KMSENV_AZURE_RESOURCE_MAX];
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_ENDPOINT endpoint;
    KMSENV_REQUEST request;
    int ok;

    kmsenv_request_init(&request, "GET");
    ok = read_resource(vector, resource, &host)
         && (app ? TEST_true(kmsenv_azure_app_request(vector_text(inputs, "IDENTITY_ENDPOINT"), vector_text(inputs, "IDENTITY_HEADER"),
                                                      resource, client, &endpoint, &request, &err))
                 : TEST_true(kmsenv_metadata_endpoint(&endpoint, "http://169.254.169.254", "169.254.169.254", &err))
                   && TEST_true(kmsenv_azure_instance_request(&endpoint, resource, client, &request, &err)))
         && same_request(&request, vector_at(vector, "exchanges/0/request"), 0, headers)
         && check_token(vector, kmsenv_azure_identity_result);
    kmsenv_request_reset(&request);
    return ok;
}

int vectors_azure(const cJSON *vector, KMSENV_CRYPTO *crypto)
{
    const char *operation = vector_text(vector, "operation");

    (void)crypto;
    if (!TEST_ptr(operation))
        return 0;
    if (strcmp(operation, "credentials:client-secret") == 0 || strcmp(operation, "credentials:workload-identity") == 0)
        return run_login(vector);
    if (strcmp(operation, "credentials:imds") == 0 || strcmp(operation, "credentials:app-service") == 0)
        return run_identity(vector, strcmp(operation, "credentials:app-service") == 0);
    return TEST_str_eq(vector_text(vector, "auth"), "Bearer+challenge") && run_operation(vector);
}
