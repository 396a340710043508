/* Runs a vector of Google Cloud KMS: operations under a given token or one signed by a service account, and every way to a token. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/crypto.h>
#include "testutil.h"
#include "core/secret.h"
#include "kms/base64.h"
#include "kms/crc32c.h"
#include "kms/google.h"
#include "vectors.h"

#define ROOM 8192
/* Which encoding of enumerations the SDK asks for; without it the service uses names, as the back end wants them. */
#define SDK_QUERY "?$alt=json%3Benum-encoding=int"

static const char *const kms_headers[] = { "Content-Type", "Authorization", "x-goog-user-project", NULL };
static const char *const token_headers[] = { "Content-Type", "Authorization", NULL };

/* --- requests ------------------------------------------------------------- */

typedef struct prepared_st {
    KMSENV_GOOGLE_OPERATION op;
    KMSENV_BUFFER plaintext, ciphertext, aad;
} PREPARED;

static int read_bytes(const cJSON *params, const char *name, KMSENV_BUFFER *out)
{
    const char *text = vector_text(vector_at(params, name), "$base64");
    unsigned char *bytes = kmsenv_secret_zalloc(ROOM);
    size_t n = ROOM;
    int ok;

    kmsenv_buffer_init(out, ROOM, 1);
    ok = TEST_ptr(bytes) && (text == NULL || (TEST_true(kmsenv_base64_decode(text, strlen(text), bytes, &n))
                                              && TEST_true(kmsenv_buffer_add(out, bytes, n))));
    kmsenv_secret_free(bytes);
    return ok;
}

static int prepare(const cJSON *vector, PREPARED *p)
{
    static const struct { const char *operation, *verb; } verbs[] = {
        { "Encrypt", "encrypt" }, { "Decrypt", "decrypt" }, { "GenerateRandomBytes", "generateRandomBytes" }, { "GetCryptoKey", NULL },
    };
    const cJSON *params = vector_at(vector, "inputs/params");
    const char *operation = vector_text(vector, "operation");
    size_t i;

    memset(p, 0, sizeof(*p));
    if (!TEST_true(read_bytes(params, "plaintext", &p->plaintext) & read_bytes(params, "ciphertext", &p->ciphertext)
                   & read_bytes(params, "additionalAuthenticatedData", &p->aad)))
        return 0;
    for (i = 0; i < sizeof(verbs) / sizeof(verbs[0]) && strcmp(verbs[i].operation, operation) != 0; i++)
        ;
    if (!TEST_size_t_lt(i, sizeof(verbs) / sizeof(verbs[0])))
        return 0;
    p->op.verb = verbs[i].verb;
    p->op.name = vector_text(params, vector_at(params, "name") == NULL ? "location" : "name");
    p->op.plaintext = p->plaintext.data;
    p->op.plaintext_len = p->plaintext.length;
    p->op.ciphertext = p->ciphertext.data;
    p->op.ciphertext_len = p->ciphertext.length;
    p->op.aad = p->aad.length == 0 ? NULL : &p->aad;
    p->op.checksums = vector_at(params, "plaintextCrc32c") != NULL || vector_at(params, "ciphertextCrc32c") != NULL;
    return TEST_ptr(p->op.name);
}

static void prepared_reset(PREPARED *p)
{
    kmsenv_buffer_reset(&p->plaintext);
    kmsenv_buffer_reset(&p->ciphertext);
    kmsenv_buffer_reset(&p->aad);
}

/* The captured request as it would be without the SDK's own query. */
static cJSON *without_query(const cJSON *captured)
{
    cJSON *copy = cJSON_Duplicate(captured, 1);
    char *query = strchr(vector_text(copy, "target"), '?');

    if (query != NULL && TEST_str_eq(query, SDK_QUERY))
        *query = '\0';
    return copy;
}

/* The back end does not ask for random bytes: their body is taken as it was captured. */
static int check_request(const cJSON *vector, const PREPARED *p, const char *token)
{
    const char *host = vector_text(vector, "inputs/endpoint");
    cJSON *captured = without_query(vector_at(vector, "exchanges/0/request"));
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_ENDPOINT endpoint;
    KMSENV_REQUEST request;
    int ok;

    kmsenv_request_init(&request, "POST");
    if (p->op.plaintext == NULL && p->op.ciphertext == NULL)
        ok = kmsenv_buffer_add_text(&request.body, vector_text(captured, "body_utf8"));
    else
        ok = TEST_size_t_eq(kmsenv_google_key_length(p->op.name) == 0, 0) && kmsenv_google_body(&p->op, &request.body, &err);
    ok = TEST_true(ok)
         && TEST_true(kmsenv_endpoint_parse(&endpoint, host == NULL ? "cloudkms.googleapis.com" : host, 0, "endpoint", &err))
         && TEST_true(kmsenv_google_frame(&endpoint, p->op.name, p->op.verb, token,
                                          vector_text(vector, "inputs/credentials/quota_project"), &request, &err))
         && vector_same_request(&request, captured) && vector_same_headers(&request, captured, kms_headers);
    if (!ok)
        TEST_info("%s", err.text);
    kmsenv_request_reset(&request);
    cJSON_Delete(captured);
    return ok;
}

/* --- replies -------------------------------------------------------------- */

static int same_bytes(const void *ours, size_t n, const cJSON *sdk)
{
    KMSENV_BUFFER text;
    int ok;

    kmsenv_buffer_init(&text, 2 * ROOM, 1);
    ok = TEST_true(kmsenv_base64_add(&text, ours, n)) && TEST_str_eq(kmsenv_buffer_text(&text), vector_text(sdk, "$base64"));
    kmsenv_buffer_reset(&text);
    return ok;
}

/* What the SDK gave its caller is what our parser gives, and a secret part is out of the text that is parsed. */
static int check_result(const cJSON *vector, const PREPARED *p, KMSENV_REPLY *reply)
{
    const cJSON *sdk = vector_at(vector, "sdk_result");
    const char *plaintext = vector_text(vector_at(sdk, "plaintext"), "$base64");
    unsigned char *out = kmsenv_secret_zalloc(ROOM);
    char state[40] = "";
    KMSENV_BLOB wrap = { 0 };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_RESULT r = { .key_id = p->op.name, .plaintext = plaintext == NULL ? NULL : out, .room = ROOM,
                        .blob = p->op.plaintext == NULL ? NULL : &wrap, .state = p->op.verb == NULL ? state : NULL,
                        .state_room = sizeof(state) };
    int ok = TEST_ptr(out) && TEST_int_eq(kmsenv_google_result(reply, &p->op, 0, &r, &err), KMSENV_VERDICT_OK)
             && (r.plaintext == NULL || same_bytes(out, r.plaintext_len, vector_at(sdk, "plaintext")))
             && (r.blob == NULL || same_bytes(wrap.ciphertext, wrap.ciphertext_len, vector_at(sdk, "ciphertext")))
             && (r.state == NULL || TEST_str_eq(state, vector_text(sdk, "primary/state")))
             && TEST_true(plaintext == NULL || strstr(kmsenv_buffer_text(&reply->body), plaintext) == NULL);

    if (!ok)
        TEST_info("%s", err.text);
    kmsenv_blob_reset(&wrap);
    kmsenv_secret_free(out);
    return ok;
}

/* Their checksum is ours. */
static int check_random(const cJSON *vector)
{
    const cJSON *sdk = vector_at(vector, "sdk_result");
    KMSENV_BUFFER data;
    int ok = read_bytes(sdk, "data", &data)
             && TEST_true(kmsenv_crc32c(data.data, data.length) == strtoul(vector_text(sdk, "dataCrc32c/value"), NULL, 10));

    kmsenv_buffer_reset(&data);
    return ok;
}

/* Which class an error belongs to, said once more than in the code under test. */
static const struct { const char *code; int reason; KMSENV_VERDICT verdict; } classes[] = {
    { "FAILED_PRECONDITION", KMSENV_R_KMS_KEY_DISABLED, KMSENV_VERDICT_FINAL },
    { "INTERNAL", KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY },
    { "INVALID_ARGUMENT", KMSENV_R_KMS_WRAP_REJECTED, KMSENV_VERDICT_FINAL },
    { "NOT_FOUND", KMSENV_R_KMS_KEY_NOT_FOUND, KMSENV_VERDICT_FINAL },
    { "PERMISSION_DENIED", KMSENV_R_KMS_ACCESS_DENIED, KMSENV_VERDICT_FINAL },
    { "RESOURCE_EXHAUSTED", KMSENV_R_KMS_THROTTLED, KMSENV_VERDICT_RETRY },
    { "UNAUTHENTICATED", KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_CREDENTIALS },
    { "UNAVAILABLE", KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY },
    { "DEADLINE_EXCEEDED", KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY },
};

static int check_error(const cJSON *vector, const PREPARED *p, KMSENV_REPLY *reply)
{
    cJSON *body = cJSON_Parse(vector_text(vector, "exchanges/0/response/body_utf8"));
    const char *code = vector_text(body, "error/status"), *message = vector_text(body, "error/message");
    unsigned char *out = kmsenv_secret_zalloc(ROOM);
    KMSENV_RESULT r = { .key_id = p->op.name, .plaintext = out, .room = ROOM };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_VERDICT verdict = kmsenv_google_result(reply, &p->op, 0, &r, &err);
    int reason = p->op.ciphertext == NULL ? KMSENV_R_KMS_REQUEST_REJECTED : KMSENV_R_KMS_WRAP_REJECTED, ok;
    size_t i;

    for (i = 0; code != NULL && i < sizeof(classes) / sizeof(classes[0]) && strcmp(classes[i].code, code) != 0; i++)
        ;
    ok = TEST_ptr(code) && TEST_ptr(message) && TEST_size_t_lt(i, sizeof(classes) / sizeof(classes[0]))
         && TEST_int_eq(err.reason, strcmp(code, "INVALID_ARGUMENT") == 0 ? reason : classes[i].reason)
         && TEST_int_eq(verdict, classes[i].verdict) && TEST_ptr(strstr(err.text, code)) && TEST_ptr_null(strstr(err.text, message));
    if (!ok)
        TEST_info("%s", err.text);
    kmsenv_secret_free(out);
    cJSON_Delete(body);
    return ok;
}

/* --- credentials files ---------------------------------------------------- */

static KMSENV_GOOGLE_CHAIN chain_of(KMSENV_CRYPTO *crypto)
{
    KMSENV_GOOGLE_CHAIN chain = { .crypto = crypto, .universe = KMSENV_GOOGLE_UNIVERSE };

    return chain;
}

static int64_t time_of(const cJSON *vector)
{
    return (int64_t)vector_at(vector, "time/unix")->valuedouble;
}

static int read_key_file(const cJSON *vector, KMSENV_GOOGLE_FILE *file)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_BUFFER text;
    int ok;

    memset(file, 0, sizeof(*file));
    kmsenv_buffer_init(&text, 65536, 1);
    ok = vector_file("gcp", vector_text(vector, "inputs/credentials/service_account_key_file"), &text)
         && TEST_true(kmsenv_google_file_parse(file, &text, &err))
         && TEST_ptr_null(strstr(kmsenv_buffer_text(&text), "PRIVATE KEY"));
    kmsenv_buffer_reset(&text);
    return ok;
}

/* The token that the back end itself would use at that time. */
static int self_signed(const cJSON *vector, KMSENV_CRYPTO *crypto, KMSENV_GOOGLE_TOKEN *token)
{
    const KMSENV_GOOGLE_CHAIN chain = chain_of(crypto);
    KMSENV_GOOGLE_FILE file;
    const KMSENV_GOOGLE_WISH wish = { &chain, &file, KMSENV_GOOGLE_SCOPE_KMS, 1, time_of(vector), 0 };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    int ok = read_key_file(vector, &file) && TEST_true(kmsenv_google_file_token(&wish, file.json, token, &err))
             && TEST_str_eq(kmsenv_buffer_text(&token->text), vector_text(vector, "derived/jwt"))
             && TEST_true(token->expires == wish.now + 3600);

    kmsenv_google_file_reset(&file);
    return ok;
}

static int run_operation(const cJSON *vector, KMSENV_CRYPTO *crypto)
{
    const char *given = vector_text(vector, "inputs/credentials/access_token");
    KMSENV_GOOGLE_TOKEN token;
    KMSENV_REPLY reply;
    PREPARED p;
    int ok;

    kmsenv_google_token_init(&token);
    ok = (given != NULL || self_signed(vector, crypto, &token)) && prepare(vector, &p)
         && check_request(vector, &p, given == NULL ? kmsenv_buffer_text(&token.text) : given);
    kmsenv_google_token_reset(&token);
    if (!ok)
        return 0;
    ok = vector_reply(vector_at(vector, "exchanges/0/response"), &reply);
    if (ok && vector_at(vector, "sdk_error") != NULL)
        ok = check_error(vector, &p, &reply);
    else if (ok)
        ok = vector_at(vector, "sdk_result/data") != NULL ? check_random(vector) : check_result(vector, &p, &reply);
    kmsenv_reply_reset(&reply);
    prepared_reset(&p);
    return ok;
}

/* --- ways to a token ------------------------------------------------------ */

static int hex(char c)
{
    return (int)strtol((char[]){ c, '\0' }, NULL, 16);
}

/* One field of a form, decoded: clients differ in what they escape. */
static const char *next_field(const char *p, char *out, size_t room)
{
    size_t n = 0;

    for (; *p != '\0' && *p != '&' && n + 1 < room; p++) {
        if (*p == '%' && p[1] != '\0' && p[2] != '\0') {
            out[n++] = (char)(hex(p[1]) << 4 | hex(p[2]));
            p += 2;
        } else {
            out[n++] = *p == '+' ? ' ' : *p;
        }
    }
    out[n] = '\0';
    return *p == '&' ? p + 1 : p;
}

static int same_form(const char *ours, const char *theirs)
{
    static char a[ROOM * 2], b[ROOM * 2];
    int ok = 1;

    while (ok && (*ours != '\0' || *theirs != '\0')) {
        ours = next_field(ours, a, sizeof(a));
        theirs = next_field(theirs, b, sizeof(b));
        ok = TEST_str_eq(a, b);
    }
    return ok;
}

/* url: where that service is asked, by a file of credentials. token NULL: the body is a form, else JSON. */
static int check_ask(const cJSON *captured, const char *url, const char *service, const char *token, const KMSENV_BUFFER *body)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_ENDPOINT endpoint;
    KMSENV_REQUEST r;
    const char *path;
    int ok;

    kmsenv_request_init(&r, "POST");
    ok = TEST_true(kmsenv_google_service_url(url, service, KMSENV_GOOGLE_UNIVERSE, "url", &endpoint, &path, &err))
         && TEST_true(kmsenv_buffer_add(&r.body, body->data, body->length))
         && TEST_true(kmsenv_google_token_frame(&endpoint, path, token, &r, &err))
         && TEST_str_eq(r.method, vector_text(captured, "method")) && TEST_str_eq(vector_text(captured, "scheme"), "https")
         && TEST_str_eq(kmsenv_buffer_text(&r.target), vector_text(captured, "target"))
         && TEST_str_eq(kmsenv_request_header(&r, "Host"), vector_text(captured, "host"))
         && vector_same_headers(&r, captured, token_headers);
    if (ok && token == NULL)
        ok = same_form(kmsenv_buffer_text(&r.body), vector_text(captured, "body_utf8"));
    else if (ok)
        ok = vector_same_request(&r, captured);
    if (!ok)
        TEST_info("%s", err.text);
    kmsenv_request_reset(&r);
    return ok;
}

/* expected: the token; seconds: how long it lives. */
static int check_token(const cJSON *vector, const char *exchange, const char *expected, int64_t seconds)
{
    int metadata = strcmp(vector_text(vector, "operation"), "credentials:metadata") == 0;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_GOOGLE_TOKEN token;
    KMSENV_REPLY reply;
    int ok = vector_reply(vector_at(vector_at(vector, exchange), "response"), &reply);

    kmsenv_google_token_init(&token);
    ok = ok && TEST_true(metadata ? kmsenv_google_metadata_token(&reply, time_of(vector), &token, &err)
                         : kmsenv_google_token_result(&reply, time_of(vector), &token, &err) == KMSENV_VERDICT_OK)
         && TEST_str_eq(kmsenv_buffer_text(&token.text), expected) && TEST_true(token.expires == time_of(vector) + seconds)
         && TEST_ptr_null(strstr(kmsenv_buffer_text(&reply.body), expected));
    if (!ok)
        TEST_info("%s", err.text);
    kmsenv_google_token_reset(&token);
    kmsenv_reply_reset(&reply);
    return ok;
}

/* How long the reply says, read by the test's own JSON reader. */
static int64_t lifetime(const cJSON *vector, const char *exchange)
{
    cJSON *body = cJSON_Parse(vector_text(vector_at(vector, exchange), "response/body_utf8"));
    const cJSON *seconds = vector_at(body, "expires_in");
    int64_t end = 0, result = seconds == NULL ? 0 : (int64_t)seconds->valuedouble;

    if (seconds == NULL && TEST_true(kmsenv_text_time(vector_text(body, "expireTime"), &end)))
        result = end - time_of(vector);
    cJSON_Delete(body);
    return result;
}

static int run_service_account(const cJSON *vector, KMSENV_CRYPTO *crypto)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_SIGNER *signer = NULL;
    KMSENV_GOOGLE_CLAIMS claims = { .scope = vector_text(vector, "inputs/scope") };
    KMSENV_GOOGLE_TOKEN jwt;
    KMSENV_GOOGLE_FILE file;
    KMSENV_BUFFER body;
    int ok = read_key_file(vector, &file);

    kmsenv_google_token_init(&jwt);
    kmsenv_buffer_init(&body, 65536, 1);
    claims.issuer = kmsenv_json_text(kmsenv_json_get(file.json, "client_email"));
    claims.audience = kmsenv_json_text(kmsenv_json_get(file.json, "token_uri"));
    ok = ok && TEST_ptr(signer = kmsenv_signer_from_pem(crypto, file.private_key.data, file.private_key.length, &err))
         && TEST_true(kmsenv_google_jwt(signer, &claims, time_of(vector), &jwt.text, &jwt.expires, &err))
         && TEST_str_eq(kmsenv_buffer_text(&jwt.text), vector_text(vector, "derived/jwt"))
         && TEST_true(kmsenv_google_assertion_form(kmsenv_buffer_text(&jwt.text), &body, &err))
         && check_ask(vector_at(vector, "exchanges/0/request"), claims.audience, "oauth2", NULL, &body)
         && check_token(vector, "exchanges/0", vector_text(vector, "sdk_result"), lifetime(vector, "exchanges/0"));
    kmsenv_signer_free(signer);
    kmsenv_google_token_reset(&jwt);
    kmsenv_google_file_reset(&file);
    kmsenv_buffer_reset(&body);
    return ok;
}

static int run_metadata(const cJSON *vector, KMSENV_CRYPTO *crypto)
{
    static const char *const headers[] = { "Metadata-Flavor", "Authorization", NULL };
    const cJSON *captured = vector_at(vector, "exchanges/0/request");
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_ENDPOINT endpoint;
    KMSENV_REQUEST r;
    int ok;

    (void)crypto;
    kmsenv_request_init(&r, "GET");
    ok = TEST_true(kmsenv_endpoint_parse(&endpoint, "http://169.254.169.254", 1, "metadata-endpoint", &err))
         && TEST_true(kmsenv_google_metadata_request(&endpoint, vector_text(vector, "inputs/service_account"), &r, &err))
         && vector_same_request(&r, captured) && vector_same_headers(&r, captured, headers) && TEST_true(r.direct)
         && check_token(vector, "exchanges/0", vector_text(vector, "sdk_result"), lifetime(vector, "exchanges/0"));
    kmsenv_request_reset(&r);
    return ok;
}

static int run_user(const cJSON *vector, KMSENV_CRYPTO *crypto)
{
    const cJSON *inputs = vector_at(vector, "inputs");
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_BUFFER body;
    int ok;

    (void)crypto;
    kmsenv_buffer_init(&body, 65536, 1);
    ok = TEST_true(kmsenv_google_refresh_form(vector_text(inputs, "refresh_token"), vector_text(inputs, "client_id"),
                                              vector_text(inputs, "client_secret"), &body, &err))
         && check_ask(vector_at(vector, "exchanges/0/request"), "https://oauth2.googleapis.com/token", "oauth2", NULL, &body)
         && check_token(vector, "exchanges/0", vector_text(vector, "sdk_result"), lifetime(vector, "exchanges/0"));
    kmsenv_buffer_reset(&body);
    return ok;
}

/* The first token is for becoming the service account, if there is one; the scope is what the SDK asks for unless told. */
static int run_external(const cJSON *vector, KMSENV_CRYPTO *crypto)
{
    const cJSON *file = vector_at(vector, "inputs/external_account");
    const char *scope = vector_text(vector, "inputs/scope"), *as = vector_text(file, "service_account_impersonation_url");
    cJSON *reply = cJSON_Parse(vector_text(vector, "exchanges/0/response/body_utf8"));
    const char *first = vector_text(reply, "access_token");
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_BUFFER form, json;
    int ok;

    (void)crypto;
    scope = scope == NULL ? KMSENV_GOOGLE_SCOPE_ALL : scope;
    kmsenv_buffer_init(&form, 65536, 1);
    kmsenv_buffer_init(&json, 65536, 1);
    ok = TEST_true(kmsenv_google_exchange_form(vector_text(file, "audience"), as == NULL ? scope : KMSENV_GOOGLE_SCOPE_ALL,
                                               vector_text(vector, "inputs/token_file_content"),
                                               vector_text(file, "subject_token_type"), &form, &err))
         && check_ask(vector_at(vector, "exchanges/0/request"), vector_text(file, "token_url"), "sts", NULL, &form)
         && TEST_ptr(first) && check_token(vector, "exchanges/0", first, lifetime(vector, "exchanges/0"))
         && (as == NULL || (TEST_true(kmsenv_google_impersonate_body(scope, 3600, NULL, &json, &err))
                            && check_ask(vector_at(vector, "exchanges/1/request"), as, "iamcredentials", first, &json)
                            && check_token(vector, "exchanges/1", vector_text(vector, "sdk_result"), lifetime(vector, "exchanges/1"))));
    kmsenv_buffer_reset(&form);
    kmsenv_buffer_reset(&json);
    cJSON_Delete(reply);
    return ok;
}

static const struct { const char *operation; int (*run)(const cJSON *vector, KMSENV_CRYPTO *crypto); } flows[] = {
    { "credentials:service-account", run_service_account },
    { "credentials:metadata", run_metadata },
    { "credentials:authorized-user", run_user },
    { "credentials:external-account", run_external },
};

int vectors_google(const cJSON *vector, KMSENV_CRYPTO *crypto)
{
    const char *operation = vector_text(vector, "operation");
    size_t i;

    if (!TEST_ptr(operation) || !TEST_ptr(vector_at(vector, "time/unix")))
        return 0;
    for (i = 0; i < sizeof(flows) / sizeof(flows[0]); i++)
        if (strcmp(operation, flows[i].operation) == 0)
            return flows[i].run(vector, crypto);
    return run_operation(vector, crypto);
}
