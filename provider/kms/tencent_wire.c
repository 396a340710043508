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
    kmsenv_json_add_text_if(body, "KeyId", a->key_id);
    if (a->number_of_bytes > 0)
        kmsenv_json_add_number(body, "NumberOfBytes", (int64_t)a->number_of_bytes);
    if (a->plaintext != NULL)
        kmsenv_json_add_base64(body, "Plaintext", a->plaintext, a->plaintext_len);
    if (a->ciphertext != NULL)
        kmsenv_json_add_bytes(body, "CiphertextBlob", a->ciphertext, a->ciphertext_len);
    kmsenv_json_add_text_if(body, "DestinationKeyId", a->destination_key_id);
    ok = add_context(body, "EncryptionContext", a->context)
         && add_context(body, "SourceEncryptionContext", a->source_context)
         && add_context(body, "DestinationEncryptionContext", a->destination_context);
    kmsenv_json_close(body);
    body->failed |= !ok;
    return kmsenv_json_finish(body, err);
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


static const KMSENV_REST_CODE codes[] = {
    { "RequestLimitExceeded", KMSENV_SAYS_THROTTLED, "too many requests for this account and region; slow down or buy a higher rate" },
    { "InternalError", KMSENV_SAYS_LATER, "a fault inside the service" },
    { "UnsupportedOperation.ServiceTemporaryUnavailable", KMSENV_SAYS_LATER, "the service is temporarily unavailable" },
    { "AuthFailure.SignatureExpire", KMSENV_R_KMS_CLOCK, KMSENV_VERDICT_CLOCK,
      "this machine's clock is more than 5 minutes off; set it (NTP)" },
    { "AuthFailure.TokenFailure", KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_CREDENTIALS,
      "the temporary credentials have expired or do not belong together; renew them" },
    { "AuthFailure.SecretIdNotFound", KMSENV_SAYS_CREDENTIALS, "the SecretId does not exist or is disabled; check secret-id" },
    { "AuthFailure.InvalidSecretId", KMSENV_SAYS_CREDENTIALS, "the SecretId is not one of the API; check secret-id" },
    { "AuthFailure.SignatureFailure", KMSENV_SAYS_CREDENTIALS, "the signature is wrong: SecretKey and SecretId do not belong together" },
    { "AuthFailure.UnauthorizedOperation", KMSENV_SAYS_DENIED, "a policy of CAM does not allow this; see the policy examples" },
    { "AuthFailure", KMSENV_SAYS_CREDENTIALS, "the credentials are not accepted" },
    { "UnauthorizedOperation", KMSENV_SAYS_DENIED, "a policy of CAM does not allow this action on this key" },
    { "InvalidParameterValue.InvalidCiphertext", KMSENV_SAYS_WRAP,
      "the wrapped data key is damaged, from elsewhere, or its encryption context is not the one given" },
    { "FailedOperation.DecryptError", KMSENV_SAYS_WRAP,
      "the wrapped data key does not open: it is damaged, or its encryption context is not the one given" },
    { "FailedOperation.EncryptionError", KMSENV_SAYS_REJECTED, "the service could not encrypt" },
    { "FailedOperation", KMSENV_SAYS_REJECTED, "the service could not do it" },
    { "InvalidParameterValue.InvalidKeyId", KMSENV_SAYS_NOT_FOUND, "key-id is not the id of a key; give the CMK's id, not an alias" },
    { "InvalidParameterValue.InvalidKeyUsage", KMSENV_SAYS_REJECTED, "the CMK is not for encryption (KeyUsage must be ENCRYPT_DECRYPT)" },
    { "InvalidParameterValue.InvalidPlaintext", KMSENV_SAYS_REJECTED, "the service does not accept the plaintext" },
    { "InvalidParameter", KMSENV_SAYS_REJECTED, "the service does not accept a parameter" },
    { "MissingParameter", KMSENV_SAYS_REJECTED, "the service misses a parameter" },
    { "UnknownParameter", KMSENV_SAYS_REJECTED, "the service does not know a parameter" },
    { "UnsupportedRegion", KMSENV_SAYS_REJECTED, "the service is not there in this region; check region" },
    { "UnsupportedOperation", KMSENV_SAYS_REJECTED, "the service does not offer this for this key" },
    { "InvalidAction", KMSENV_SAYS_REJECTED, "what answers there is not Tencent Cloud KMS; check endpoint" },
    { "NoSuchVersion", KMSENV_SAYS_REJECTED, "what answers there is not Tencent Cloud KMS; check endpoint" },
    { "ResourceUnavailable.CmkDisabled", KMSENV_SAYS_DISABLED, "the CMK is disabled; enable it in the console" },
    { "ResourceUnavailable.KeyDisabled", KMSENV_SAYS_DISABLED, "the CMK is disabled; enable it in the console" },
    { "ResourceUnavailable.KeyPendingDelete", KMSENV_SAYS_DISABLED, "the CMK is going to be deleted; cancel that in the console" },
    { "ResourceUnavailable.CmkArchived", KMSENV_SAYS_DISABLED, "the CMK is archived; un-archive it in the console" },
    { "ResourceUnavailable.CmkStateNotSupport", KMSENV_SAYS_DISABLED, "the CMK is in a state that does not allow this" },
    { "ResourceUnavailable.CmkNotFound", KMSENV_SAYS_NOT_FOUND, "there is no such CMK in this account and region; check key-id and region" },
    { "ResourceUnavailable.TokenExpired", KMSENV_SAYS_REJECTED, "a token has expired" },
    { "ResourceUnavailable.CmkShouldBeEnabled", KMSENV_SAYS_DISABLED, "the CMK is not enabled" },
    { "ResourceUnavailable.ServiceNotEnabled", KMSENV_SAYS_DENIED, "the KMS is not activated for this account; activate it in the console" },
    { "ResourceUnavailable", KMSENV_SAYS_REJECTED, "the resource is not available" },
    { "ResourceNotFound", KMSENV_SAYS_NOT_FOUND, "there is no such CMK in this account and region; check key-id and region" },
    { NULL, 0, KMSENV_VERDICT_FINAL, NULL }
};

/* --- replies -------------------------------------------------------------- */

KMSENV_VERDICT kmsenv_tencent_parse(KMSENV_REPLY *http, KMSENV_JSON_SECRET *secrets, size_t count,
                                    KMSENV_TENCENT_REPLY *reply, KMSENV_ERROR *err)
{
    const KMSENV_JSON *error;

    memset(reply, 0, sizeof(*reply));
    if ((reply->json = kmsenv_json_parse(&http->body, secrets, count, err)) == NULL)
        return http->status == 200 ? KMSENV_VERDICT_FINAL : kmsenv_rest_status(http, err);
    reply->response = kmsenv_json_get(reply->json, "Response");
    kmsenv_text_word(reply->request_id, sizeof(reply->request_id), kmsenv_json_text(kmsenv_json_get(reply->response, "RequestId")));
    error = kmsenv_json_get(reply->response, "Error");
    kmsenv_text_word(reply->code, sizeof(reply->code), kmsenv_json_text(kmsenv_json_get(error, "Code")));
    if (reply->code[0] != '\0')
        return kmsenv_rest_judge(codes, reply->code, http->status, reply->request_id, err);
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

/* 8-4-4-4-12 hexadecimal digits: the id of a key, and not another way to name it. */
static int is_uuid(const char *text)
{
    size_t i;

    for (i = 0; i < 36; i++)
        if (i == 8 || i == 13 || i == 18 || i == 23 ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
            return 0;
    return text[36] == '\0';
}

static int check_key_id(const KMSENV_TENCENT_REPLY *reply, const char *member, const char *expected, KMSENV_ERROR *err)
{
    const char *key_id = kmsenv_json_text(kmsenv_json_get(reply->response, member));

    if (expected == NULL || key_id == NULL || !is_uuid(expected) || strcmp(expected, key_id) == 0)
        return 1;
    return kmsenv_result_wrong_key(err, expected);
}

static int read_blob(const KMSENV_TENCENT_REPLY *reply, KMSENV_BLOB *blob, KMSENV_ERROR *err)
{
    const char *text = kmsenv_json_text(kmsenv_json_get(reply->response, "CiphertextBlob"));
    size_t n = text == NULL ? 0 : strlen(text);

    if (text == NULL || !is_ciphertext((const unsigned char *)text, n))
        return kmsenv_result_malformed(err, "no CiphertextBlob of printable ASCII with 1 to 16384 bytes");
    return kmsenv_blob_copy(blob, text, n, err);
}

static int read_state(const KMSENV_TENCENT_REPLY *reply, KMSENV_RESULT *result, KMSENV_ERROR *err)
{
    const KMSENV_JSON *metadata = kmsenv_json_get(reply->response, "KeyMetadata");
    const char *usage = kmsenv_json_text(kmsenv_json_get(metadata, "KeyUsage"));

    kmsenv_text_word(result->state, result->state_room, kmsenv_json_text(kmsenv_json_get(metadata, "KeyState")));
    if (result->state[0] == '\0')
        return kmsenv_result_malformed(err, "no KeyMetadata.KeyState");
    if (strcmp(result->state, "Enabled") != 0)
        return kmsenv_error_set(err, KMSENV_R_KMS_KEY_DISABLED, "the CMK is in the state %s; it must be Enabled", result->state);
    if (usage != NULL && strcmp(usage, "ENCRYPT_DECRYPT") != 0)
        return kmsenv_error_set(err, KMSENV_R_KMS_REQUEST_REJECTED, "the CMK is not for encryption; its KeyUsage must be ENCRYPT_DECRYPT");
    return 1;
}

KMSENV_VERDICT kmsenv_tencent_result(KMSENV_REPLY *http, KMSENV_RESULT *result, KMSENV_ERROR *err)
{
    KMSENV_TENCENT_REPLY reply;
    KMSENV_BUFFER plaintext;
    KMSENV_JSON_SECRET secret = { "Plaintext", &plaintext, 0 };
    KMSENV_VERDICT verdict;

    kmsenv_buffer_init(&plaintext, BASE64_MAX, 1);
    verdict = kmsenv_tencent_parse(http, &secret, 1, &reply, err);
    memcpy(result->request_id, reply.request_id, sizeof(result->request_id));
    if (verdict == KMSENV_VERDICT_OK
        && (!check_key_id(&reply, "KeyId", result->key_id, err)
            || !check_key_id(&reply, "SourceKeyId", result->source_key_id, err)
            || (result->plaintext != NULL && !kmsenv_result_plaintext(result, &secret, err))
            || (result->blob != NULL && !read_blob(&reply, result->blob, err))
            || (result->state != NULL && !read_state(&reply, result, err))))
        verdict = KMSENV_VERDICT_FINAL;
    kmsenv_buffer_reset(&plaintext);
    kmsenv_tencent_reply_reset(&reply);
    return verdict;
}
