/* Requests and replies of AWS KMS: JSON 1.1, operations named by X-Amz-Target. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/crypto.h>
#include "kms/aws.h"
#include "kms/base64.h"

#define BASE64_MAX 16384    /* characters of a Plaintext */
#define SKEW_SEEN  240      /* seconds: from here on a refused signature is put down to the clock; the service allows 300 */
#define SCHEME     "application/x-amz-json-1.1"

/* --- requests ------------------------------------------------------------- */

int kmsenv_aws_body(const KMSENV_AWS_ACTION *a, KMSENV_BUFFER *body, KMSENV_ERROR *err)
{
    if (a->ciphertext != NULL && (a->ciphertext_len == 0 || a->ciphertext_len > KMSENV_AWS_CIPHERTEXT_MAX))
        return kmsenv_error_set(err, KMSENV_R_KMS_WRAP_REJECTED, "the wrapped data key is not one of AWS KMS: those have 1 to %d "
                                "bytes", KMSENV_AWS_CIPHERTEXT_MAX);
    kmsenv_json_open(body, NULL);
    kmsenv_json_add_text_if(body, "KeyId", a->key_id);
    if (a->number_of_bytes > 0)
        kmsenv_json_add_number(body, "NumberOfBytes", (int64_t)a->number_of_bytes);
    if (a->plaintext != NULL)
        kmsenv_json_add_base64(body, "Plaintext", a->plaintext, a->plaintext_len);
    if (a->ciphertext != NULL)
        kmsenv_json_add_base64(body, "CiphertextBlob", a->ciphertext, a->ciphertext_len);
    kmsenv_json_add_text_if(body, "SourceKeyId", a->source_key_id);
    kmsenv_json_add_text_if(body, "DestinationKeyId", a->destination_key_id);
    kmsenv_json_add_context(body, "EncryptionContext", a->context);
    kmsenv_json_add_context(body, "SourceEncryptionContext", a->source_context);
    kmsenv_json_add_context(body, "DestinationEncryptionContext", a->destination_context);
    kmsenv_json_close(body);
    return kmsenv_json_finish(body, err);
}

int kmsenv_aws_frame(const KMSENV_ENDPOINT *endpoint, const char *action, int64_t timestamp, const char *token,
                     KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    char time[24] = "", target[64];

    if (!kmsenv_sigv4_time(timestamp, time, sizeof(time)))
        return kmsenv_error_set(err, KMSENV_R_KMS_CLOCK, "this machine's clock is beyond calendars; set it (NTP)");
    snprintf(target, sizeof(target), "TrentService.%s", action);
    kmsenv_buffer_printf(&request->target, "%s/", endpoint->path);
    return kmsenv_request_add_header(request, "Host", endpoint->authority, err)
           && kmsenv_request_add_header(request, "Content-Type", SCHEME, err)
           && kmsenv_request_add_header(request, "X-Amz-Target", target, err)
           && kmsenv_request_add_header(request, "X-Amz-Date", time, err)
           && (token == NULL || kmsenv_request_add_header(request, "X-Amz-Security-Token", token, err));
}

/* --- errors --------------------------------------------------------------- */

#define SLOW_DOWN   "too many requests for this account and region; slow down or ask for a higher quota"

static const KMSENV_REST_CODE codes[] = {
    { "ThrottlingException", KMSENV_SAYS_THROTTLED, SLOW_DOWN },
    { "Throttling", KMSENV_SAYS_THROTTLED, SLOW_DOWN },
    { "ThrottledException", KMSENV_SAYS_THROTTLED, SLOW_DOWN },
    { "RequestThrottledException", KMSENV_SAYS_THROTTLED, SLOW_DOWN },
    { "TooManyRequestsException", KMSENV_SAYS_THROTTLED, SLOW_DOWN },
    { "RequestLimitExceeded", KMSENV_SAYS_THROTTLED, SLOW_DOWN },
    { "LimitExceededException", KMSENV_SAYS_THROTTLED, SLOW_DOWN },
    { "SlowDown", KMSENV_SAYS_THROTTLED, SLOW_DOWN },
    { "KMSInternalException", KMSENV_SAYS_LATER, "a fault inside the service" },
    { "InternalFailure", KMSENV_SAYS_LATER, "a fault inside the service" },
    { "DependencyTimeoutException", KMSENV_SAYS_LATER, "the service timed out on something that it needs" },
    { "KeyUnavailableException", KMSENV_SAYS_LATER, "the KMS key is not available at the moment" },
    { "RequestTimeout", KMSENV_SAYS_LATER, "the service timed out" },
    { "RequestTimeoutException", KMSENV_SAYS_LATER, "the service timed out" },
    { "ServiceUnavailable", KMSENV_SAYS_LATER, "the service is temporarily unavailable" },
    { "RequestExpired", KMSENV_SAYS_CLOCK, "this machine's clock is more than 5 minutes off; set it (NTP)" },
    { "ExpiredTokenException", KMSENV_SAYS_RENEW, "the temporary credentials have expired; renew them" },
    { "ExpiredToken", KMSENV_SAYS_RENEW, "the temporary credentials have expired; renew them" },
    { "UnrecognizedClientException", KMSENV_SAYS_RENEW, "the access key or the session token is unknown to the service" },
    { "InvalidClientTokenId", KMSENV_SAYS_RENEW, "the access key or the session token is unknown to the service" },
    { "InvalidSignatureException", KMSENV_SAYS_CREDENTIALS,
      "the signature is wrong: secret access key and access key id do not belong together, or the region is not the endpoint's" },
    { "IncompleteSignature", KMSENV_SAYS_CREDENTIALS, "the signature is not understood there" },
    { "IncompleteSignatureException", KMSENV_SAYS_CREDENTIALS, "the signature is not understood there" },
    { "MissingAuthenticationToken", KMSENV_SAYS_CREDENTIALS, "the signature got lost on its way; check endpoint and proxy" },
    { "MissingAuthenticationTokenException", KMSENV_SAYS_CREDENTIALS, "the signature got lost on its way; check endpoint and proxy" },
    { "OptInRequired", KMSENV_SAYS_DENIED, "the account has no subscription for the service" },
    { "NotAuthorized", KMSENV_SAYS_DENIED, "policies do not allow this action on this key" },
    { "AccessDeniedException", KMSENV_SAYS_DENIED, "policies of IAM or of the key do not allow this action on this key" },
    { "DisabledException", KMSENV_SAYS_DISABLED, "the KMS key is disabled; enable it" },
    { "KMSInvalidStateException", KMSENV_SAYS_DISABLED, "the KMS key is in a state that does not allow this, such as pending deletion" },
    { "NotFoundException", KMSENV_SAYS_NOT_FOUND, "there is no such KMS key in this account and region; check key-id and region" },
    { "InvalidArnException", KMSENV_SAYS_NOT_FOUND, "key-id is not the ARN of a key; check key-id" },
    { "InvalidCiphertextException", KMSENV_SAYS_WRAP,
      "the wrapped data key is damaged, from elsewhere, or its encryption context is not the one given" },
    { "IncorrectKeyException", KMSENV_SAYS_WRAP, "the wrapped data key was made under another KMS key than the one it names" },
    { "InvalidKeyUsageException", KMSENV_SAYS_REJECTED, "the KMS key is not a symmetric one for encryption" },
    { "InvalidGrantTokenException", KMSENV_SAYS_REJECTED, "a grant token is not valid" },
    { "DryRunOperationException", KMSENV_SAYS_REJECTED, "the request was a dry run" },
    { "ValidationException", KMSENV_SAYS_REJECTED, "the service does not accept a parameter; check key-id" },
    { "UnknownOperationException", KMSENV_SAYS_REJECTED, "what answers there is not AWS KMS; check endpoint" },
    { "InvalidAction", KMSENV_SAYS_REJECTED, "what answers there is not AWS KMS; check endpoint" },
    { NULL, 0, KMSENV_VERDICT_FINAL, NULL }
};

/* The name of the error in "com.amazonaws.kms#Name:http://..."; nothing but words is worth showing. */
static void copy_code(char *out, size_t room, const char *text)
{
    const char *sharp = text == NULL ? NULL : strchr(text, '#');

    kmsenv_text_word(out, room, sharp == NULL ? text : sharp + 1);
}

/* The service calls a stale signature an invalid one: only the reply's Date tells them apart. */
static int is_clock(const KMSENV_REPLY *http, const char *code, int64_t sent)
{
    int64_t date = kmsenv_reply_date(http);

    return sent != 0 && date != 0 && strcmp(code, "InvalidSignatureException") == 0
           && llabs((long long)(date - sent)) > SKEW_SEEN;
}

/* --- replies -------------------------------------------------------------- */

/* expected may be the bare id of the key whose ARN the service gives. */
static int is_same_key(const char *expected, const char *arn)
{
    return strcmp(expected, arn) == 0 || (kmsenv_aws_is_key_arn(arn) && strcmp(strchr(arn, '/') + 1, expected) == 0);
}

static int check_key_id(const KMSENV_JSON *json, const char *expected, KMSENV_ERROR *err)
{
    const char *key_id = kmsenv_json_text(kmsenv_json_get(json, "KeyId"));

    if (key_id == NULL || *key_id == '\0' || strlen(key_id) > KMSENV_NAME_MAX)
        return kmsenv_result_malformed(err, "no KeyId");
    if (expected == NULL || kmsenv_aws_is_alias(expected) || is_same_key(expected, key_id))
        return 1;
    return kmsenv_result_wrong_key(err, expected);
}

/* Under an alias the key that it meant is put into the blob's extra. */
static int read_blob(const KMSENV_JSON *json, const KMSENV_RESULT *result, KMSENV_ERROR *err)
{
    const char *arn = kmsenv_json_text(kmsenv_json_get(json, "KeyId"));

    if (!kmsenv_blob_base64(result->blob, "CiphertextBlob", kmsenv_json_text(kmsenv_json_get(json, "CiphertextBlob")),
                            KMSENV_AWS_CIPHERTEXT_MAX, err))
        return 0;
    if (result->key_id == NULL || !kmsenv_aws_is_alias(result->key_id))
        return 1;
    if (!kmsenv_aws_is_key_arn(arn))
        return kmsenv_result_malformed(err, "a KeyId that is not the ARN of a key");
    return kmsenv_blob_extra(result->blob, arn, strlen(arn), err);
}

static int read_state(const KMSENV_JSON *json, KMSENV_RESULT *result, KMSENV_ERROR *err)
{
    const KMSENV_JSON *metadata = kmsenv_json_get(json, "KeyMetadata");
    const char *usage = kmsenv_json_text(kmsenv_json_get(metadata, "KeyUsage"));
    const char *spec = kmsenv_json_text(kmsenv_json_get(metadata, "KeySpec"));

    copy_code(result->state, result->state_room, kmsenv_json_text(kmsenv_json_get(metadata, "KeyState")));
    if (result->state[0] == '\0')
        return kmsenv_result_malformed(err, "no KeyMetadata.KeyState");
    if (strcmp(result->state, "Enabled") != 0)
        return kmsenv_error_set(err, KMSENV_R_KMS_KEY_DISABLED, "the KMS key is in the state %s; it must be Enabled", result->state);
    if ((usage != NULL && strcmp(usage, "ENCRYPT_DECRYPT") != 0) || (spec != NULL && strcmp(spec, "SYMMETRIC_DEFAULT") != 0))
        return kmsenv_error_set(err, KMSENV_R_KMS_REQUEST_REJECTED, "the KMS key is not a symmetric one for encryption; its KeyUsage "
                                "must be ENCRYPT_DECRYPT and its KeySpec SYMMETRIC_DEFAULT");
    return 1;
}

static int read_result(const KMSENV_JSON *json, const KMSENV_JSON_SECRET *secret, KMSENV_RESULT *result, KMSENV_ERROR *err)
{
    return (result->state != NULL || check_key_id(json, result->key_id, err))
           && (result->plaintext == NULL || kmsenv_result_plaintext(result, secret, err))
           && (result->blob == NULL || read_blob(json, result, err))
           && (result->state == NULL || read_state(json, result, err));
}

KMSENV_VERDICT kmsenv_aws_result(KMSENV_REPLY *http, int64_t sent, KMSENV_RESULT *result, KMSENV_ERROR *err)
{
    KMSENV_VERDICT verdict = KMSENV_VERDICT_FINAL;
    KMSENV_BUFFER plaintext;
    KMSENV_JSON_SECRET secret = { "Plaintext", &plaintext, 0 };
    KMSENV_JSON *json;
    char code[96], type[160];

    kmsenv_buffer_init(&plaintext, BASE64_MAX, 1);
    kmsenv_reply_header(http, "x-amzn-RequestId", type, sizeof(type));
    copy_code(result->request_id, sizeof(result->request_id), type);
    json = kmsenv_json_parse(&http->body, &secret, 1, err);
    copy_code(code, sizeof(code), kmsenv_json_text(kmsenv_json_get(json, "__type")));
    if (code[0] == '\0' && http->status != 200 && kmsenv_reply_header(http, "x-amzn-errortype", type, sizeof(type)))
        copy_code(code, sizeof(code), type);
    if (code[0] != '\0')
        verdict = kmsenv_rest_judge(codes, is_clock(http, code, sent) ? "RequestExpired" : code, http->status, result->request_id, err);
    else if (http->status != 200)
        verdict = kmsenv_rest_status(http, err);
    else if (json != NULL && read_result(json, &secret, result, err))
        verdict = KMSENV_VERDICT_OK;
    kmsenv_buffer_reset(&plaintext);
    kmsenv_json_free(json);
    return verdict;
}
