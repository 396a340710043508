/* Runs a vector of Vault: operations of the transit engine, sign-ins, renewal. Nothing is signed; a token is sent. */
#include <stdlib.h>
#include <string.h>
#include <openssl/crypto.h>
#include "testutil.h"
#include "core/secret.h"
#include "kms/base64.h"
#include "kms/vault.h"
#include "vectors.h"

#define PLAINTEXT_ROOM 4096

static const char *const compared_headers[] = { "Content-Type", "X-Vault-Token", "X-Vault-Namespace", NULL };

/* --- our request ---------------------------------------------------------- */

typedef struct prepared_st {
    KMSENV_VAULT_PARAMETERS parameters;
    KMSENV_BUFFER context, associated_data;
    unsigned char *plaintext;
    int ours;               /* the back end can make this body; otherwise only the framing is under test */
} PREPARED;

static int read_base64(const cJSON *params, const char *name, KMSENV_BUFFER *out, const KMSENV_BUFFER **used)
{
    const char *text = vector_text(params, name);
    unsigned char bytes[512];
    size_t n = sizeof(bytes);

    kmsenv_buffer_init(out, sizeof(bytes), 0);
    if (text == NULL)
        return 1;
    *used = out;
    return TEST_true(kmsenv_base64_decode(text, strlen(text), bytes, &n)) && TEST_true(kmsenv_buffer_add(out, bytes, n));
}

static int prepare(const cJSON *vector, PREPARED *p)
{
    static const char *const known[] = { "bits", "plaintext", "ciphertext", "context", "associated_data" };
    const cJSON *params = vector_at(vector, "inputs/params"), *param;
    const char *blob = vector_text(params, "ciphertext"), *text = vector_text(params, "plaintext");
    size_t i;

    memset(p, 0, sizeof(*p));
    p->ours = 1;
    cJSON_ArrayForEach(param, params) {
        for (i = 0; i < sizeof(known) / sizeof(known[0]) && strcmp(known[i], param->string) != 0; i++)
            ;
        p->ours &= i < sizeof(known) / sizeof(known[0]);
    }
    if ((param = vector_at(params, "bits")) != NULL)
        p->parameters.bits = (size_t)param->valueint;
    p->parameters.ciphertext = (const unsigned char *)blob;
    p->parameters.ciphertext_len = blob == NULL ? 0 : strlen(blob);
    if (!TEST_ptr(p->plaintext = kmsenv_secret_zalloc(PLAINTEXT_ROOM)))
        return 0;
    p->parameters.plaintext_len = PLAINTEXT_ROOM;
    p->parameters.plaintext = text == NULL ? NULL : p->plaintext;
    return (text == NULL
            || TEST_true(kmsenv_base64_decode(text, strlen(text), p->plaintext, &p->parameters.plaintext_len)))
           && read_base64(params, "context", &p->context, &p->parameters.context)
           && read_base64(params, "associated_data", &p->associated_data, &p->parameters.associated_data);
}

static void prepared_reset(PREPARED *p)
{
    kmsenv_buffer_reset(&p->context);
    kmsenv_buffer_reset(&p->associated_data);
    kmsenv_secret_free(p->plaintext);
}

/* The verb of the API that our operation of that name uses. */
static const char *verb_of(const char *operation)
{
    static const struct { const char *operation, *verb; } verbs[] = {
        { "GenerateDataKey", "datakey/plaintext" }, { "GenerateDataKeyWithoutPlaintext", "datakey/wrapped" },
        { "Encrypt", "encrypt" }, { "Decrypt", "decrypt" }, { "ReEncrypt", "rewrap" }, { "DescribeKey", "keys" },
    };
    size_t i;

    for (i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
        if (strcmp(verbs[i].operation, operation) == 0)
            return verbs[i].verb;
    return NULL;
}

/* body: ours, or NULL: the captured one. path NULL: that of the vector. */
static int check_frame(const cJSON *vector, const char *path, const char *token, const KMSENV_BUFFER *body)
{
    const cJSON *captured = vector_at(vector, "exchanges/0/request");
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_REQUEST request;
    KMSENV_ENDPOINT endpoint;
    KMSENV_VAULT_TARGET target = { &endpoint, vector_text(vector, "inputs/namespace") };
    int ok;

    kmsenv_request_init(&request, "POST");
    ok = body == NULL ? kmsenv_buffer_add_text(&request.body, vector_text(captured, "body_utf8"))
                      : kmsenv_buffer_add(&request.body, body->data, body->length);
    ok = TEST_true(ok)
         && TEST_true(kmsenv_endpoint_parse(&endpoint, vector_text(vector, "inputs/address"), 0, "endpoint", &err))
         && TEST_true(kmsenv_vault_frame(&target, path, token, &request, &err))
         && TEST_true(kmsenv_request_check(&request, &err))
         && vector_same_request(&request, captured) && vector_same_headers(&request, captured, compared_headers);
    if (!ok)
        TEST_info("%s", err.text);
    kmsenv_request_reset(&request);
    return ok;
}

static int check_request(const cJSON *vector, const PREPARED *p)
{
    const cJSON *inputs = vector_at(vector, "inputs");
    const char *verb = verb_of(vector_text(vector, "operation"));
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    char mount[64], path[KMSENV_VAULT_PATH_MAX];
    KMSENV_BUFFER body;
    int ok;

    kmsenv_buffer_init(&body, 65536, 1);
    ok = TEST_ptr(verb) && TEST_true(kmsenv_vault_mount(vector_text(inputs, "mount"), mount, sizeof(mount)))
         && TEST_true(kmsenv_vault_path(mount, verb, vector_text(inputs, "key"), path, sizeof(path), &err))
         && TEST_str_eq(path, vector_text(inputs, "path"))
         && (vector_at(inputs, "params") == NULL || !p->ours || TEST_true(kmsenv_vault_body(&p->parameters, &body, &err)))
         && check_frame(vector, path, vector_text(inputs, "credentials/token"), p->ours ? &body : NULL);
    kmsenv_buffer_reset(&body);
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
    const cJSON *data = vector_at(vector, "sdk_result/data");
    const char *plaintext = vector_text(data, "plaintext"), *blob = vector_text(data, "ciphertext");
    unsigned char *out = kmsenv_secret_zalloc(PLAINTEXT_ROOM);
    KMSENV_VAULT_KEY key = { vector_text(vector, "inputs/key"), -1 };
    int describes = vector_at(data, "keys") != NULL, batch = vector_at(data, "batch_results") != NULL, ok;
    KMSENV_BLOB wrap = { 0 };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_RESULT r = { .plaintext = plaintext == NULL ? NULL : out, .room = PLAINTEXT_ROOM,
                              .blob = blob == NULL && !batch ? NULL : &wrap };

    ok = TEST_ptr(out) && TEST_true(batch || describes || plaintext != NULL || blob != NULL)
         /* a batch is nothing that we ask for, and its result no ciphertext */
         && TEST_int_eq(kmsenv_vault_result(reply, describes ? &key : NULL, &r, &err), batch ? KMSENV_VERDICT_FINAL : KMSENV_VERDICT_OK)
         && TEST_int_eq(err.reason, batch ? KMSENV_R_KMS_REPLY_MALFORMED : KMSENV_R_NONE)
         && TEST_str_eq(r.request_id, vector_text(vector, "sdk_result/request_id"))
         && (plaintext == NULL || same_plaintext(&r, plaintext))
         && (blob == NULL || TEST_mem_eq(wrap.ciphertext, wrap.ciphertext_len, blob, strlen(blob)))
         && (!describes || TEST_int_eq(key.derived, cJSON_IsTrue(vector_at(data, "derived"))))
         && TEST_true(plaintext == NULL || strstr(kmsenv_buffer_text(&reply->body), plaintext) == NULL);
    if (!ok)
        TEST_info("%s", err.text);
    kmsenv_blob_reset(&wrap);
    kmsenv_secret_free(out);
    return ok;
}

/* Which class an error belongs to, said once more than in the code under test. */
static const struct { int status; const char *message; int reason; KMSENV_VERDICT verdict; } classes[] = {
    { 400, "cipher: message authentication failed", KMSENV_R_KMS_WRAP_REJECTED, KMSENV_VERDICT_FINAL },
    { 400, "ciphertext or signature version is disallowed by policy (too old)", KMSENV_R_KMS_KEY_DISABLED, KMSENV_VERDICT_FINAL },
    { 400, "encryption key not found", KMSENV_R_KMS_KEY_NOT_FOUND, KMSENV_VERDICT_FINAL },
    { 403, "permission denied", KMSENV_R_KMS_ACCESS_DENIED, KMSENV_VERDICT_CREDENTIALS },
    { 404, NULL, KMSENV_R_KMS_KEY_NOT_FOUND, KMSENV_VERDICT_FINAL },
    { 412, NULL, KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY },
    { 429, NULL, KMSENV_R_KMS_THROTTLED, KMSENV_VERDICT_RETRY },
    { 500, NULL, KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY },
    { 503, NULL, KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY },
};

static int check_error(const cJSON *vector, KMSENV_REPLY *reply)
{
    const cJSON *sdk = vector_at(vector, "sdk_error");
    const char *message = vector_text(sdk, "message");
    int status = vector_at(sdk, "statusCode")->valueint;
    unsigned char *out = kmsenv_secret_zalloc(PLAINTEXT_ROOM);
    KMSENV_RESULT r = { .plaintext = out, .room = PLAINTEXT_ROOM };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_VERDICT verdict = kmsenv_vault_result(reply, NULL, &r, &err);
    char shown[16];
    size_t i;

    kmsenv_secret_free(out);
    BIO_snprintf(shown, sizeof(shown), "%d", status);
    for (i = 0; i < sizeof(classes) / sizeof(classes[0]); i++)
        if (classes[i].status == status && (classes[i].message == NULL || strcmp(classes[i].message, message) == 0))
            break;
    return TEST_size_t_lt(i, sizeof(classes) / sizeof(classes[0])) && TEST_int_eq(err.reason, classes[i].reason)
           && TEST_int_eq(verdict, classes[i].verdict) && TEST_ptr(strstr(err.text, shown))
           && TEST_ptr(message) && TEST_true(strncmp(message, "fake", 4) != 0 || strstr(err.text, message) == NULL);
}

static int run_operation(const cJSON *vector)
{
    KMSENV_REPLY reply;
    PREPARED p;
    int ok = prepare(vector, &p) && check_request(vector, &p);

    prepared_reset(&p);
    if (!ok)
        return 0;
    ok = vector_reply(vector_at(vector, "exchanges/0/response"), &reply)
         && (vector_at(vector, "sdk_error") == NULL ? check_result(vector, &reply) : check_error(vector, &reply));
    kmsenv_reply_reset(&reply);
    return ok;
}

/* --- sign-in -------------------------------------------------------------- */

static int check_login(const cJSON *vector)
{
    const cJSON *auth = vector_at(vector, "sdk_result/auth");
    KMSENV_VAULT_LOGIN login = { .lease = -1, .renewable = -1 };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_REPLY reply;
    int ok;

    kmsenv_buffer_init(&login.token, 8192, 1);
    ok = vector_reply(vector_at(vector, "exchanges/0/response"), &reply) && TEST_ptr(auth)
         && TEST_int_eq(kmsenv_vault_login_result(&reply, &login, &err), KMSENV_VERDICT_OK)
         && TEST_str_eq(kmsenv_buffer_text(&login.token), vector_text(auth, "client_token"))
         && TEST_true(login.lease == (int64_t)vector_at(auth, "lease_duration")->valuedouble)
         && TEST_int_eq(login.renewable, cJSON_IsTrue(vector_at(auth, "renewable")))
         && TEST_ptr_null(strstr(kmsenv_buffer_text(&reply.body), vector_text(auth, "client_token")));
    kmsenv_buffer_reset(&login.token);
    kmsenv_reply_reset(&reply);
    return ok;
}

static int run_approle(const cJSON *inputs, const cJSON *captured, KMSENV_BUFFER *body, KMSENV_ERROR *err)
{
    (void)captured;
    return kmsenv_vault_approle_body(vector_text(inputs, "role_id"), vector_text(inputs, "secret_id"), body, err);
}

static int run_kubernetes(const cJSON *inputs, const cJSON *captured, KMSENV_BUFFER *body, KMSENV_ERROR *err)
{
    (void)captured;
    return kmsenv_vault_kubernetes_body(vector_text(inputs, "role"), vector_text(inputs, "jwt"), body, err);
}

/* How much time to ask for is the client's choice: it is taken from the captured request. */
static int run_renew(const cJSON *inputs, const cJSON *captured, KMSENV_BUFFER *body, KMSENV_ERROR *err)
{
    cJSON *theirs = cJSON_Parse(vector_text(captured, "body_utf8"));
    int ok = TEST_ptr(theirs) && kmsenv_vault_renew_body(vector_text(theirs, "increment"), body, err);

    (void)inputs;
    cJSON_Delete(theirs);
    return ok;
}

/* What the back end does not ask (body NULL) is only framed. */
static const struct {
    const char *operation, *path;
    int (*body)(const cJSON *inputs, const cJSON *captured, KMSENV_BUFFER *body, KMSENV_ERROR *err);
} flows[] = {
    { "credentials:approle", "auth/approle/login", run_approle },
    { "credentials:kubernetes", "auth/kubernetes/login", run_kubernetes },
    { "credentials:token-renew-self", "auth/token/renew-self", run_renew },
    { "credentials:token-lookup-self", "auth/token/lookup-self", NULL },
};

static int run_flow(const cJSON *vector, size_t i)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_BUFFER body;
    int ok;

    kmsenv_buffer_init(&body, 65536, 1);
    ok = (flows[i].body == NULL || TEST_true(flows[i].body(vector_at(vector, "inputs"),
                                                           vector_at(vector, "exchanges/0/request"), &body, &err)))
         && check_frame(vector, flows[i].path, vector_text(vector, "inputs/token"), &body)
         && check_login(vector);
    kmsenv_buffer_reset(&body);
    return ok;
}

/* Nobody here asks for it; the token that the client sends along is no input of the case. */
static int run_health(const cJSON *vector)
{
    KMSENV_VAULT_REPLY parsed;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_REPLY reply;
    int ok = check_frame(vector, "sys/health", vector_header(vector_at(vector, "exchanges/0/request"), "X-Vault-Token"), NULL);

    ok = vector_reply(vector_at(vector, "exchanges/0/response"), &reply) && ok
         && TEST_int_eq(kmsenv_vault_parse(&reply, NULL, 0, &parsed, &err), KMSENV_VERDICT_OK);
    if (ok)
        kmsenv_vault_reply_reset(&parsed);
    kmsenv_reply_reset(&reply);
    return ok;
}

int vectors_vault(const cJSON *vector, KMSENV_CRYPTO *crypto)
{
    const char *operation = vector_text(vector, "operation");
    size_t i;

    (void)crypto;
    if (!TEST_ptr(operation))
        return 0;
    for (i = 0; i < sizeof(flows) / sizeof(flows[0]); i++)
        if (strcmp(operation, flows[i].operation) == 0)
            return run_flow(vector, i);
    if (strcmp(operation, "health") == 0)
        return run_health(vector);
    return TEST_str_eq(vector_text(vector, "auth"), "X-Vault-Token") && run_operation(vector);
}
