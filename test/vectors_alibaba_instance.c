/* Runs a vector of a KMS instance of Alibaba Cloud: protocol buffers, signed with the RSA key of a ClientKey. */
#include <stdio.h>
#include <string.h>
#include <openssl/crypto.h>
#include "testutil.h"
#include "core/secret.h"
#include "kms/alibaba_instance.h"
#include "kms/base64.h"
#include "vectors.h"

#define ROOM     8192
#define VENDOR   "alibaba-dkms"
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const char *const compared_headers[] = { "Accept", "Content-Type", "Date", "x-kms-apiversion", "x-kms-apiname",
                                                "x-kms-signaturemethod", "x-kms-acccesskeyid", "Content-Sha256",
                                                "x-kms-migrationkeyversionid", "Authorization", NULL };

/* --- our request ---------------------------------------------------------- */

typedef struct prepared_st {
    KMSENV_INSTANCE_ACTION action;
    unsigned char *plaintext, *ciphertext, *iv, *aad;
} PREPARED;

static void prepared_reset(PREPARED *p)
{
    kmsenv_secret_free(p->plaintext);
    kmsenv_secret_free(p->ciphertext);
    kmsenv_secret_free(p->iv);
    kmsenv_secret_free(p->aad);
}

/* {"$base64": "..."} into bytes; *out stays NULL if there is none. */
static int read_bytes(const cJSON *params, const char *path, unsigned char **room, const unsigned char **out, size_t *len)
{
    const char *text = vector_text(params, path);
    size_t n = ROOM;

    *room = kmsenv_secret_zalloc(ROOM);
    if (text == NULL || !TEST_ptr(*room))
        return *room != NULL;
    *out = *room;
    if (!TEST_true(kmsenv_base64_decode(text, strlen(text), *room, &n)))
        return 0;
    *len = n;
    return 1;
}

/* Every parameter there is must be one that we send; those called "header ..." are headers. */
static int all_known(const cJSON *params)
{
    static const char *const known[] = { "KeyId", "Algorithm", "NumberOfBytes", "Plaintext", "CiphertextBlob", "Iv", "Aad" };
    const cJSON *param;
    size_t i;
    int ok = 1;

    cJSON_ArrayForEach(param, params) {
        for (i = 0; i < COUNT(known) && strcmp(known[i], param->string) != 0; i++)
            ;
        ok &= TEST_true(i < COUNT(known) || strncmp(param->string, "header ", 7) == 0);
    }
    return ok;
}

static int prepare(const cJSON *vector, PREPARED *p)
{
    const cJSON *params = vector_at(vector, "inputs/params"), *number = vector_at(params, "NumberOfBytes");
    const char *operation = vector_text(vector, "operation"), *name;
    KMSENV_INSTANCE_ACTION *a = &p->action;

    memset(p, 0, sizeof(*p));
    a->advance = strncmp(operation, "Advance", 7) == 0;
    name = operation + (a->advance ? 7 : 0);
    a->kind = strcmp(name, "GenerateDataKey") == 0 ? KMSENV_INSTANCE_GENERATE
              : strcmp(name, "Encrypt") == 0 ? KMSENV_INSTANCE_ENCRYPT : KMSENV_INSTANCE_DECRYPT;
    a->key_id = vector_text(params, "KeyId");
    a->algorithm = vector_text(params, "Algorithm");
    a->number_of_bytes = number == NULL ? 0 : (size_t)number->valueint;
    return TEST_str_eq(kmsenv_instance_action_name(a), operation) & all_known(params)
           & read_bytes(params, "Plaintext/$base64", &p->plaintext, &a->plaintext, &a->plaintext_len)
           & read_bytes(params, "CiphertextBlob/$base64", &p->ciphertext, &a->ciphertext, &a->ciphertext_len)
           & read_bytes(params, "Iv/$base64", &p->iv, &a->iv, &a->iv_len)
           & read_bytes(params, "Aad/$base64", &p->aad, &a->aad, &a->aad_len);
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

static int read_client_key(const cJSON *vector, KMSENV_CRYPTO *crypto, KMSENV_CREDENTIAL *out)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_BUFFER text;
    int ok;

    kmsenv_buffer_init(&text, 65536, 1);
    ok = vector_file(VENDOR, vector_text(vector, "inputs/client_key_file"), &text)
         && TEST_true(kmsenv_instance_client_key(crypto, &text, vector_text(vector, "inputs/password"), out, &err))
         && TEST_str_eq(out->id, vector_text(vector, "inputs/client_key_id"));
    if (!ok)
        TEST_info("%s", err.text);
    kmsenv_buffer_reset(&text);
    return ok;
}

static int same_string_to_sign(const KMSENV_REQUEST *request, const cJSON *vector)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_BUFFER text;
    int ok;

    kmsenv_buffer_init(&text, ROOM, 0);
    ok = TEST_true(kmsenv_instance_string_to_sign(request, &text, &err))
         && TEST_str_eq(kmsenv_buffer_text(&text), vector_text(vector, "string_to_sign"))
         && TEST_str_eq(kmsenv_buffer_text(&text), vector_text(vector, "derived/string_to_sign"));
    kmsenv_buffer_reset(&text);
    return ok;
}

static int check_request(const cJSON *vector, const PREPARED *p, KMSENV_CRYPTO *crypto)
{
    const cJSON *captured = vector_at(vector, "exchanges/0/request"), *params = vector_at(vector, "inputs/params"), *param;
    int64_t now = (int64_t)vector_at(vector, "time/unix")->valuedouble;
    KMSENV_CREDENTIAL key = { 0 };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_ENDPOINT endpoint;
    KMSENV_REQUEST r;
    int ok;

    kmsenv_request_init(&r, "POST");
    ok = read_client_key(vector, crypto, &key)
         && TEST_true(kmsenv_endpoint_parse(&endpoint, vector_text(vector, "inputs/endpoint"), 0, "endpoint", &err))
         && TEST_true(kmsenv_instance_body(&p->action, &r.body, &err))
         && same_base64(r.body.data, r.body.length, vector_text(captured, "body_base64"));
    cJSON_ArrayForEach(param, params)
        if (ok && strncmp(param->string, "header ", 7) == 0)
            ok = TEST_true(kmsenv_request_add_header(&r, param->string + 7, param->valuestring, &err));
    ok = ok && TEST_true(kmsenv_instance_frame(crypto, &endpoint, kmsenv_instance_action_name(&p->action), key.id, now, &r, &err))
         && same_string_to_sign(&r, vector) && TEST_true(kmsenv_instance_sign(key.signer, &r, &err))
         && TEST_str_eq(r.method, vector_text(captured, "method"))
         && TEST_str_eq(kmsenv_buffer_text(&r.target), vector_text(captured, "target"))
         && TEST_str_eq(kmsenv_request_header(&r, "Host"), vector_text(captured, "host"))
         && TEST_str_eq(endpoint.tls ? "https" : "http", vector_text(captured, "scheme"))
         && vector_same_headers(&r, captured, compared_headers)
         && TEST_str_eq(kmsenv_request_header(&r, "Authorization"), vector_text(vector, "derived/authorization"));
    kmsenv_request_reset(&r);
    kmsenv_signer_free(key.signer);
    OPENSSL_free(key.id);
    return ok;
}

/* --- reply ---------------------------------------------------------------- */

/* What the SDK gave its caller is what our parser gives, and what it puts into a wrap comes out again. */
static int check_result(const cJSON *vector, const PREPARED *p, KMSENV_REPLY *reply)
{
    const cJSON *sdk = vector_at(vector, "sdk_result");
    const char *plaintext = vector_text(sdk, "plaintext/$base64"), *blob = vector_text(sdk, "ciphertext_blob/$base64");
    unsigned char *out = kmsenv_secret_zalloc(ROOM);
    KMSENV_INSTANCE_WRAP seen, again;
    KMSENV_BLOB wrap = { 0 };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_RESULT r = { .key_id = p->action.key_id, .plaintext = plaintext == NULL ? NULL : out, .room = ROOM,
                        .blob = blob == NULL ? NULL : &wrap };
    int ok = TEST_ptr(out) && TEST_true(plaintext != NULL || blob != NULL)
             && TEST_int_eq(kmsenv_instance_result(&p->action, reply, &r, &seen, &err), KMSENV_VERDICT_OK)
             && TEST_str_eq(r.request_id, vector_text(sdk, "request_id"))
             && TEST_str_eq(seen.key_id, vector_text(sdk, "key_id")) && TEST_str_eq(seen.algorithm, vector_text(sdk, "algorithm"))
             && (vector_at(sdk, "iv") == NULL || same_base64(seen.iv, seen.iv_len, vector_text(sdk, "iv/$base64")))
             && (plaintext == NULL || same_base64(out, r.plaintext_len, plaintext))
             && (blob == NULL || (same_base64(wrap.ciphertext, wrap.ciphertext_len, blob)
                                  && TEST_true(kmsenv_instance_wrap_print(&seen, &wrap, &err))
                                  && TEST_true(kmsenv_instance_wrap_parse(&again, &wrap, &err))
                                  && TEST_mem_eq(&again, sizeof(again), &seen, sizeof(seen))));

    if (!ok)
        TEST_info("%s", err.text);
    kmsenv_blob_reset(&wrap);
    kmsenv_secret_free(out);
    return ok;
}

/* Which class an error belongs to, said once more than in the code under test. Every vector's must be here. */
static const struct { const char *code; int reason; KMSENV_VERDICT verdict; } classes[] = {
    { "Rejected.Throttling", KMSENV_R_KMS_THROTTLED, KMSENV_VERDICT_RETRY },
    { "ServiceUnavailableTemporary", KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY },
    { "InternalFailure", KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY },
    { "InvalidParam", KMSENV_R_KMS_CLOCK, KMSENV_VERDICT_CLOCK },   /* of the Date */
    { "RequestTimeTooSkewed", KMSENV_R_KMS_CLOCK, KMSENV_VERDICT_CLOCK },
    { "Unauthorized", KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_CREDENTIALS },
    { "SignatureNotMatch", KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_FINAL },
    { "Forbidden.KeyNotFound", KMSENV_R_KMS_KEY_NOT_FOUND, KMSENV_VERDICT_FINAL },
    { "Forbidden.NoPermission", KMSENV_R_KMS_ACCESS_DENIED, KMSENV_VERDICT_FINAL },
    { "UnsupportedOperation", KMSENV_R_KMS_REQUEST_REJECTED, KMSENV_VERDICT_FINAL },
};

static int check_error(const cJSON *vector, const PREPARED *p, KMSENV_REPLY *reply)
{
    const char *code = vector_text(vector, "sdk_error/code"), *message = vector_text(vector, "sdk_error/message");
    const char *id = vector_text(vector, "sdk_error/data/requestId");
    unsigned char *out = kmsenv_secret_zalloc(ROOM);
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_RESULT r = { .plaintext = out, .room = ROOM };
    KMSENV_VERDICT verdict = kmsenv_instance_result(&p->action, reply, &r, NULL, &err);
    size_t i;

    kmsenv_secret_free(out);
    for (i = 0; i < COUNT(classes) && strcmp(code, classes[i].code) != 0; i++)
        ;
    return TEST_size_t_lt(i, COUNT(classes))
           && TEST_int_eq(err.reason, classes[i].reason) && TEST_int_eq(verdict, classes[i].verdict)
           && TEST_ptr(strstr(err.text, code)) && TEST_ptr(strstr(err.text, id)) && TEST_str_eq(r.request_id, id)
           && TEST_true(message == NULL || *message == '\0' || strstr(err.text, message) == NULL);
}

int vectors_alibaba_instance(const cJSON *vector, KMSENV_CRYPTO *crypto)
{
    KMSENV_REPLY reply;
    PREPARED p;
    int ok;

    if (!TEST_str_eq(vector_text(vector, "auth"), "RSA_PKCS1_SHA_256") || !TEST_ptr(vector_text(vector, "operation")))
        return 0;
    ok = prepare(vector, &p) && check_request(vector, &p, crypto)
         && vector_reply(vector_at(vector, "exchanges/0/response"), &reply);
    if (ok) {
        ok = vector_at(vector, "sdk_error") == NULL ? check_result(vector, &p, &reply) : check_error(vector, &p, &reply);
        kmsenv_reply_reset(&reply);
    }
    prepared_reset(&p);
    return ok;
}
