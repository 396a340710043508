/* Requests and replies of Tencent Cloud's API 3.0 (KMS 2019-01-18). */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <openssl/crypto.h>
#include "kms/base64.h"
#include "kms/tencent.h"

#define BASE64_MAX 16384    /* characters of a Plaintext */

/* --- requests ------------------------------------------------------------- */

static void add_text(KMSENV_BUFFER *body, const char *name, const char *text)
{
    if (text != NULL)
        kmsenv_json_add_text(body, name, text);
}

/* A context is a string that contains JSON: the service compares it as text, so it is always the canonical form. */
static int add_context(KMSENV_BUFFER *body, const char *name, const KMSENV_CONTEXT *context)
{
    KMSENV_BUFFER json;
    int ok;

    if (context == NULL || context->count == 0)
        return 1;
    kmsenv_buffer_init(&json, KMSENV_CONTEXT_TEXT_MAX, 0);
    if ((ok = kmsenv_context_json(context, &json)) != 0)
        kmsenv_json_add_bytes(body, name, json.data, json.length);
    kmsenv_buffer_reset(&json);
    return ok;
}

/* A wrap that no JSON string can hold did not come from this service. */
static int is_ciphertext(const unsigned char *text, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++)
        if (text[i] < 0x21 || text[i] > 0x7e)
            return 0;
    return n > 0 && n <= KMSENV_CIPHERTEXT_MAX;
}

int kmsenv_tencent_body(const KMSENV_TENCENT_ACTION *a, KMSENV_BUFFER *body, KMSENV_ERROR *err)
{
    int ok;

    if (a->ciphertext != NULL && !is_ciphertext(a->ciphertext, a->ciphertext_len))
        return kmsenv_error_set(err, KMSENV_R_KMS_WRAP_REJECTED, "the wrapped data key is not one of Tencent Cloud KMS: those are "
                                "printable ASCII of 1 to %d bytes", KMSENV_CIPHERTEXT_MAX);
    kmsenv_json_open(body, NULL);
    add_text(body, "KeyId", a->key_id);
    if (a->number_of_bytes > 0)
        kmsenv_json_add_number(body, "NumberOfBytes", (int64_t)a->number_of_bytes);
    if (a->plaintext != NULL)
        kmsenv_json_add_base64(body, "Plaintext", a->plaintext, a->plaintext_len);
    if (a->ciphertext != NULL)
        kmsenv_json_add_bytes(body, "CiphertextBlob", a->ciphertext, a->ciphertext_len);
    add_text(body, "DestinationKeyId", a->destination_key_id);
    ok = add_context(body, "EncryptionContext", a->context)
         && add_context(body, "SourceEncryptionContext", a->source_context)
         && add_context(body, "DestinationEncryptionContext", a->destination_context);
    kmsenv_json_close(body);
    if (ok && !body->failed)
        return 1;
    return kmsenv_error_set(err, KMSENV_R_KMS_INPUT_TOO_LARGE, "the parameters are too large for one request to the KMS");
}

int kmsenv_tencent_frame(const KMSENV_TENCENT_TARGET *target, const char *action, int64_t timestamp, const char *token,
                         KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    char time[24];

    snprintf(time, sizeof(time), "%" PRId64, timestamp);
    kmsenv_buffer_printf(&request->target, "%s/", target->endpoint->path);
    return kmsenv_request_add_header(request, "Host", target->endpoint->authority, err)
           && kmsenv_request_add_header(request, "Content-Type", "application/json", err)
           && kmsenv_request_add_header(request, "X-TC-Action", action, err)
           && kmsenv_request_add_header(request, "X-TC-Version", target->version, err)
           && kmsenv_request_add_header(request, "X-TC-Timestamp", time, err)
           && kmsenv_request_add_header(request, "X-TC-Region", target->region, err)
           && (token == NULL || kmsenv_request_add_header(request, "X-TC-Token", token, err));
}

int kmsenv_tencent_sign(KMSENV_CRYPTO *crypto, KMSENV_TC3_CACHE *cache, const KMSENV_TENCENT_TARGET *target, int64_t timestamp,
                        const KMSENV_CREDENTIAL *credential, KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    KMSENV_TC3_SIGNER signer = { crypto, cache, target->service, NULL, NULL };

    if (credential == NULL)
        return kmsenv_request_add_header(request, "Authorization", "SKIP", err);
    signer.secret_id = credential->id;
    signer.secret_key = credential->secret;
    return kmsenv_tc3_sign(&signer, request, timestamp, err);
}

/* --- errors --------------------------------------------------------------- */

#define CREDENTIALS KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_FINAL
#define REJECTED    KMSENV_R_KMS_REQUEST_REJECTED, KMSENV_VERDICT_FINAL
#define WRAP        KMSENV_R_KMS_WRAP_REJECTED, KMSENV_VERDICT_FINAL
#define DENIED      KMSENV_R_KMS_ACCESS_DENIED, KMSENV_VERDICT_FINAL
#define DISABLED    KMSENV_R_KMS_KEY_DISABLED, KMSENV_VERDICT_FINAL
#define NOT_FOUND   KMSENV_R_KMS_KEY_NOT_FOUND, KMSENV_VERDICT_FINAL
#define LATER       KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY
#define THROTTLED   KMSENV_R_KMS_THROTTLED, KMSENV_VERDICT_RETRY

static const KMSENV_REST_CODE codes[] = {
    { "RequestLimitExceeded", THROTTLED, "too many requests for this account and region; slow down or buy a higher rate" },
    { "InternalError", LATER, "a fault inside the service" },
    { "UnsupportedOperation.ServiceTemporaryUnavailable", LATER, "the service is temporarily unavailable" },
    { "AuthFailure.SignatureExpire", KMSENV_R_KMS_CLOCK, KMSENV_VERDICT_CLOCK,
      "this machine's clock is more than 5 minutes off; set it (NTP)" },
    { "AuthFailure.TokenFailure", KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_CREDENTIALS,
      "the temporary credentials have expired or do not belong together; renew them" },
    { "AuthFailure.SecretIdNotFound", CREDENTIALS, "the SecretId does not exist or is disabled; check secret-id" },
    { "AuthFailure.InvalidSecretId", CREDENTIALS, "the SecretId is not one of the API; check secret-id" },
    { "AuthFailure.SignatureFailure", CREDENTIALS, "the signature is wrong: SecretKey and SecretId do not belong together" },
    { "AuthFailure.UnauthorizedOperation", DENIED, "a policy of CAM does not allow this; see the policy examples" },
    { "AuthFailure", CREDENTIALS, "the credentials are not accepted" },
    { "UnauthorizedOperation", DENIED, "a policy of CAM does not allow this action on this key" },
    { "InvalidParameterValue.InvalidCiphertext", WRAP,
      "the wrapped data key is damaged, from elsewhere, or its encryption context is not the one given" },
    { "FailedOperation.DecryptError", WRAP,
      "the wrapped data key does not open: it is damaged, or its encryption context is not the one given" },
    { "FailedOperation.EncryptionError", REJECTED, "the service could not encrypt" },
    { "FailedOperation", REJECTED, "the service could not do it" },
    { "InvalidParameterValue.InvalidKeyId", NOT_FOUND, "key-id is not the id of a key; give the CMK's id, not an alias" },
    { "InvalidParameterValue.InvalidKeyUsage", REJECTED, "the CMK is not for encryption (KeyUsage must be ENCRYPT_DECRYPT)" },
    { "InvalidParameterValue.InvalidPlaintext", REJECTED, "the service does not accept the plaintext" },
    { "InvalidParameter", REJECTED, "the service does not accept a parameter" },
    { "MissingParameter", REJECTED, "the service misses a parameter" },
    { "UnknownParameter", REJECTED, "the service does not know a parameter" },
    { "UnsupportedRegion", REJECTED, "the service is not there in this region; check region" },
    { "UnsupportedOperation", REJECTED, "the service does not offer this for this key" },
    { "InvalidAction", REJECTED, "what answers there is not Tencent Cloud KMS; check endpoint" },
    { "NoSuchVersion", REJECTED, "what answers there is not Tencent Cloud KMS; check endpoint" },
    { "ResourceUnavailable.CmkDisabled", DISABLED, "the CMK is disabled; enable it in the console" },
    { "ResourceUnavailable.KeyDisabled", DISABLED, "the CMK is disabled; enable it in the console" },
    { "ResourceUnavailable.KeyPendingDelete", DISABLED, "the CMK is going to be deleted; cancel that in the console" },
    { "ResourceUnavailable.CmkArchived", DISABLED, "the CMK is archived; un-archive it in the console" },
    { "ResourceUnavailable.CmkStateNotSupport", DISABLED, "the CMK is in a state that does not allow this" },
    { "ResourceUnavailable.CmkNotFound", NOT_FOUND, "there is no such CMK in this account and region; check key-id and region" },
    { "ResourceUnavailable.TokenExpired", REJECTED, "a token has expired" },
    { "ResourceUnavailable.CmkShouldBeEnabled", DISABLED, "the CMK is not enabled" },
    { "ResourceUnavailable.ServiceNotEnabled", DENIED, "the KMS is not activated for this account; activate it in the console" },
    { "ResourceUnavailable", REJECTED, "the resource is not available" },
    { "ResourceNotFound", NOT_FOUND, "there is no such CMK in this account and region; check key-id and region" },
    { NULL, 0, KMSENV_VERDICT_FINAL, NULL }
};

/* Error codes are words and dots; anything else is not worth showing. */
static void copy_word(char *out, size_t room, const char *text)
{
    size_t i;

    for (i = 0; text != NULL && i + 1 < room && (isalnum((unsigned char)text[i]) || strchr("._-", text[i]) != NULL)
                && text[i] != '\0'; i++)
        out[i] = text[i];
    out[i] = '\0';
}

static KMSENV_VERDICT judge_code(const KMSENV_TENCENT_REPLY *reply, KMSENV_ERROR *err)
{
    const KMSENV_REST_CODE *c = kmsenv_rest_find_code(codes, reply->code);

    kmsenv_error_set(err, c == NULL ? KMSENV_R_KMS_REQUEST_REJECTED : c->reason, "%s: %s (request id %s)", reply->code,
                     c == NULL ? "the service refuses, for a reason unknown here" : c->text,
                     reply->request_id[0] == '\0' ? "none" : reply->request_id);
    return c == NULL ? KMSENV_VERDICT_FINAL : c->verdict;
}

/* --- replies -------------------------------------------------------------- */

KMSENV_VERDICT kmsenv_tencent_parse(KMSENV_REPLY *http, KMSENV_JSON_SECRET *secrets, size_t count,
                                    KMSENV_TENCENT_REPLY *reply, KMSENV_ERROR *err)
{
    const KMSENV_JSON *error;

    memset(reply, 0, sizeof(*reply));
    if ((reply->json = kmsenv_json_parse(&http->body, secrets, count, err)) == NULL)
        return http->status == 200 ? KMSENV_VERDICT_FINAL : kmsenv_rest_status(http, err);
    reply->response = kmsenv_json_get(reply->json, "Response");
    copy_word(reply->request_id, sizeof(reply->request_id), kmsenv_json_text(kmsenv_json_get(reply->response, "RequestId")));
    error = kmsenv_json_get(reply->response, "Error");
    copy_word(reply->code, sizeof(reply->code), kmsenv_json_text(kmsenv_json_get(error, "Code")));
    if (reply->code[0] != '\0')
        return judge_code(reply, err);
    if (http->status != 200)
        return kmsenv_rest_status(http, err);
    if (reply->response != NULL && error == NULL)
        return KMSENV_VERDICT_OK;
    kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "the reply has no member %s; check endpoint",
                     error == NULL ? "Response" : "Response.Error.Code");
    return KMSENV_VERDICT_FINAL;
}

void kmsenv_tencent_reply_reset(KMSENV_TENCENT_REPLY *reply)
{
    kmsenv_json_free(reply->json);
    memset(reply, 0, sizeof(*reply));
}

static int malformed(KMSENV_ERROR *err, const char *what)
{
    return kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "the reply has %s", what);
}

/* 8-4-4-4-12 hexadecimal digits: the id of a key, and not another way to name it. */
static int is_uuid(const char *text)
{
    size_t i;

    for (i = 0; i < 36; i++)
        if (i == 8 || i == 13 || i == 18 || i == 23 ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
            return 0;
    return text[36] == '\0';
}

static int check_key_id(const KMSENV_TENCENT_REPLY *reply, const char *expected, KMSENV_ERROR *err)
{
    const char *key_id = kmsenv_json_text(kmsenv_json_get(reply->response, "KeyId"));

    if (expected == NULL || key_id == NULL || !is_uuid(expected) || strcmp(expected, key_id) == 0)
        return 1;
    return kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "the reply is about another key than the %s asked for", expected);
}

static int read_plaintext(const KMSENV_JSON_SECRET *text, KMSENV_TENCENT_RESULT *result, KMSENV_ERROR *err)
{
    if (!text->found)
        return malformed(err, "no Plaintext");
    if (kmsenv_base64_decode(kmsenv_buffer_text(text->value), text->value->length, result->plaintext, &result->plaintext_len))
        return 1;
    return malformed(err, "a Plaintext that is not base64, or longer than expected");
}

static int read_blob(const KMSENV_TENCENT_REPLY *reply, KMSENV_BLOB *blob, KMSENV_ERROR *err)
{
    const char *text = kmsenv_json_text(kmsenv_json_get(reply->response, "CiphertextBlob"));
    size_t n = text == NULL ? 0 : strlen(text);

    if (text == NULL || !is_ciphertext((const unsigned char *)text, n))
        return malformed(err, "no CiphertextBlob of printable ASCII with 1 to 16384 bytes");
    if ((blob->ciphertext = OPENSSL_memdup(text, n)) == NULL)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a wrapped data key");
    blob->ciphertext_len = n;
    return 1;
}

static int read_state(const KMSENV_TENCENT_REPLY *reply, KMSENV_TENCENT_RESULT *result, KMSENV_ERROR *err)
{
    const KMSENV_JSON *metadata = kmsenv_json_get(reply->response, "KeyMetadata");
    const char *usage = kmsenv_json_text(kmsenv_json_get(metadata, "KeyUsage"));

    copy_word(result->state, result->state_room, kmsenv_json_text(kmsenv_json_get(metadata, "KeyState")));
    if (result->state[0] == '\0')
        return malformed(err, "no KeyMetadata.KeyState");
    if (strcmp(result->state, "Enabled") != 0)
        return kmsenv_error_set(err, KMSENV_R_KMS_KEY_DISABLED, "the CMK is in the state %s; it must be Enabled", result->state);
    if (usage != NULL && strcmp(usage, "ENCRYPT_DECRYPT") != 0)
        return kmsenv_error_set(err, KMSENV_R_KMS_REQUEST_REJECTED, "the CMK is not for encryption; its KeyUsage must be ENCRYPT_DECRYPT");
    return 1;
}

KMSENV_VERDICT kmsenv_tencent_result(KMSENV_REPLY *http, KMSENV_TENCENT_RESULT *result, KMSENV_ERROR *err)
{
    KMSENV_TENCENT_REPLY reply;
    KMSENV_BUFFER plaintext;
    KMSENV_JSON_SECRET secret = { "Plaintext", &plaintext, 0 };
    KMSENV_VERDICT verdict;

    kmsenv_buffer_init(&plaintext, BASE64_MAX, 1);
    verdict = kmsenv_tencent_parse(http, &secret, 1, &reply, err);
    memcpy(result->request_id, reply.request_id, sizeof(result->request_id));
    if (verdict == KMSENV_VERDICT_OK
        && (!check_key_id(&reply, result->expected_key_id, err)
            || (result->plaintext != NULL && !read_plaintext(&secret, result, err))
            || (result->blob != NULL && !read_blob(&reply, result->blob, err))
            || (result->state != NULL && !read_state(&reply, result, err))))
        verdict = KMSENV_VERDICT_FINAL;
    kmsenv_buffer_reset(&plaintext);
    kmsenv_tencent_reply_reset(&reply);
    return verdict;
}
