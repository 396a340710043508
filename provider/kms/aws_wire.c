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

static void add_text(KMSENV_BUFFER *body, const char *name, const char *text)
{
    if (text != NULL)
        kmsenv_json_add_text(body, name, text);
}

static void add_context(KMSENV_BUFFER *body, const char *name, const KMSENV_CONTEXT *context)
{
    size_t i;

    if (context == NULL || context->count == 0)
        return;
    kmsenv_json_open(body, name);
    for (i = 0; i < context->count; i++)
        kmsenv_json_add_text(body, context->name[i], context->value[i]);
    kmsenv_json_close(body);
}

int kmsenv_aws_body(const KMSENV_AWS_ACTION *a, KMSENV_BUFFER *body, KMSENV_ERROR *err)
{
    if (a->ciphertext != NULL && (a->ciphertext_len == 0 || a->ciphertext_len > KMSENV_AWS_CIPHERTEXT_MAX))
        return kmsenv_error_set(err, KMSENV_R_KMS_WRAP_REJECTED, "the wrapped data key is not one of AWS KMS: those have 1 to %d "
                                "bytes", KMSENV_AWS_CIPHERTEXT_MAX);
    kmsenv_json_open(body, NULL);
    add_text(body, "KeyId", a->key_id);
    if (a->number_of_bytes > 0)
        kmsenv_json_add_number(body, "NumberOfBytes", (int64_t)a->number_of_bytes);
    if (a->plaintext != NULL)
        kmsenv_json_add_base64(body, "Plaintext", a->plaintext, a->plaintext_len);
    if (a->ciphertext != NULL)
        kmsenv_json_add_base64(body, "CiphertextBlob", a->ciphertext, a->ciphertext_len);
    add_text(body, "SourceKeyId", a->source_key_id);
    add_text(body, "DestinationKeyId", a->destination_key_id);
    add_context(body, "EncryptionContext", a->context);
    add_context(body, "SourceEncryptionContext", a->source_context);
    add_context(body, "DestinationEncryptionContext", a->destination_context);
    kmsenv_json_close(body);
    return !body->failed || kmsenv_error_set(err, KMSENV_R_KMS_INPUT_TOO_LARGE, "the parameters are too large for one request to "
                                             "the KMS");
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

#define CREDENTIALS KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_FINAL
#define RENEW       KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_CREDENTIALS
#define REJECTED    KMSENV_R_KMS_REQUEST_REJECTED, KMSENV_VERDICT_FINAL
#define WRAP        KMSENV_R_KMS_WRAP_REJECTED, KMSENV_VERDICT_FINAL
#define DENIED      KMSENV_R_KMS_ACCESS_DENIED, KMSENV_VERDICT_FINAL
#define DISABLED    KMSENV_R_KMS_KEY_DISABLED, KMSENV_VERDICT_FINAL
#define NOT_FOUND   KMSENV_R_KMS_KEY_NOT_FOUND, KMSENV_VERDICT_FINAL
#define LATER       KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY
#define THROTTLED   KMSENV_R_KMS_THROTTLED, KMSENV_VERDICT_RETRY
#define CLOCK       KMSENV_R_KMS_CLOCK, KMSENV_VERDICT_CLOCK
#define SLOW_DOWN   "too many requests for this account and region; slow down or ask for a higher quota"

static const KMSENV_REST_CODE codes[] = {
    { "ThrottlingException", THROTTLED, SLOW_DOWN },
    { "Throttling", THROTTLED, SLOW_DOWN },
    { "ThrottledException", THROTTLED, SLOW_DOWN },
    { "RequestThrottledException", THROTTLED, SLOW_DOWN },
    { "TooManyRequestsException", THROTTLED, SLOW_DOWN },
    { "RequestLimitExceeded", THROTTLED, SLOW_DOWN },
    { "LimitExceededException", THROTTLED, SLOW_DOWN },
    { "SlowDown", THROTTLED, SLOW_DOWN },
    { "KMSInternalException", LATER, "a fault inside the service" },
    { "InternalFailure", LATER, "a fault inside the service" },
    { "DependencyTimeoutException", LATER, "the service timed out on something that it needs" },
    { "KeyUnavailableException", LATER, "the KMS key is not available at the moment" },
    { "RequestTimeout", LATER, "the service timed out" },
    { "RequestTimeoutException", LATER, "the service timed out" },
    { "ServiceUnavailable", LATER, "the service is temporarily unavailable" },
    { "RequestExpired", CLOCK, "this machine's clock is more than 5 minutes off; set it (NTP)" },
    { "ExpiredTokenException", RENEW, "the temporary credentials have expired; renew them" },
    { "ExpiredToken", RENEW, "the temporary credentials have expired; renew them" },
    { "UnrecognizedClientException", RENEW, "the access key or the session token is unknown to the service" },
    { "InvalidClientTokenId", RENEW, "the access key or the session token is unknown to the service" },
    { "InvalidSignatureException", CREDENTIALS,
      "the signature is wrong: secret access key and access key id do not belong together, or the region is not the endpoint's" },
    { "IncompleteSignature", CREDENTIALS, "the signature is not understood there" },
    { "IncompleteSignatureException", CREDENTIALS, "the signature is not understood there" },
    { "MissingAuthenticationToken", CREDENTIALS, "the signature got lost on its way; check endpoint and proxy" },
    { "MissingAuthenticationTokenException", CREDENTIALS, "the signature got lost on its way; check endpoint and proxy" },
    { "OptInRequired", DENIED, "the account has no subscription for the service" },
    { "NotAuthorized", DENIED, "policies do not allow this action on this key" },
    { "AccessDeniedException", DENIED, "policies of IAM or of the key do not allow this action on this key" },
    { "DisabledException", DISABLED, "the KMS key is disabled; enable it" },
    { "KMSInvalidStateException", DISABLED, "the KMS key is in a state that does not allow this, such as pending deletion" },
    { "NotFoundException", NOT_FOUND, "there is no such KMS key in this account and region; check key-id and region" },
    { "InvalidArnException", NOT_FOUND, "key-id is not the ARN of a key; check key-id" },
    { "InvalidCiphertextException", WRAP,
      "the wrapped data key is damaged, from elsewhere, or its encryption context is not the one given" },
    { "IncorrectKeyException", WRAP, "the wrapped data key was made under another KMS key than the one it names" },
    { "InvalidKeyUsageException", REJECTED, "the KMS key is not a symmetric one for encryption" },
    { "InvalidGrantTokenException", REJECTED, "a grant token is not valid" },
    { "DryRunOperationException", REJECTED, "the request was a dry run" },
    { "ValidationException", REJECTED, "the service does not accept a parameter; check key-id" },
    { "UnknownOperationException", REJECTED, "what answers there is not AWS KMS; check endpoint" },
    { "InvalidAction", REJECTED, "what answers there is not AWS KMS; check endpoint" },
    { NULL, 0, KMSENV_VERDICT_FINAL, NULL }
};

/* The name of the error in "com.amazonaws.kms#Name:http://..."; nothing but words is worth showing. */
static void copy_code(char *out, size_t room, const char *text)
{
    const char *sharp = text == NULL ? NULL : strchr(text, '#');
    size_t i;

    text = sharp == NULL ? text : sharp + 1;
    for (i = 0; text != NULL && i + 1 < room && text[i] != '\0'
                && (isalnum((unsigned char)text[i]) || strchr("._-", text[i]) != NULL); i++)
        out[i] = text[i];
    out[i] = '\0';
}

/* The service calls a stale signature an invalid one: only the reply's Date tells them apart. */
static int is_clock(const KMSENV_REPLY *http, const char *code, int64_t sent)
{
    int64_t date = kmsenv_reply_date(http);

    return sent != 0 && date != 0 && strcmp(code, "InvalidSignatureException") == 0
           && llabs((long long)(date - sent)) > SKEW_SEEN;
}

static KMSENV_VERDICT judge_code(const KMSENV_REPLY *http, const char *code, const KMSENV_AWS_RESULT *result, KMSENV_ERROR *err)
{
    const char *known = is_clock(http, code, result->sent) ? "RequestExpired" : code;
    const KMSENV_REST_CODE *c = kmsenv_rest_find_code(codes, known);
    KMSENV_VERDICT verdict = c == NULL ? KMSENV_VERDICT_FINAL : c->verdict;
    int reason = c == NULL ? KMSENV_R_KMS_REQUEST_REJECTED : c->reason;

    if (c == NULL && http->status >= 500) {
        reason = KMSENV_R_KMS_UNREACHABLE;
        verdict = KMSENV_VERDICT_RETRY;
    }
    kmsenv_error_set(err, reason, "%s: %s (request id %s)", code,
                     c == NULL ? "the service refuses, for a reason unknown here" : c->text,
                     result->request_id[0] == '\0' ? "none" : result->request_id);
    return verdict;
}

/* --- replies -------------------------------------------------------------- */

static int malformed(KMSENV_ERROR *err, const char *what)
{
    return kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "the reply has %s", what);
}

/* expected may be the bare id of the key whose ARN the service gives. */
static int is_same_key(const char *expected, const char *arn)
{
    return strcmp(expected, arn) == 0 || (kmsenv_aws_is_key_arn(arn) && strcmp(strchr(arn, '/') + 1, expected) == 0);
}

static int check_key_id(const KMSENV_JSON *json, const char *expected, KMSENV_ERROR *err)
{
    const char *key_id = kmsenv_json_text(kmsenv_json_get(json, "KeyId"));

    if (key_id == NULL || *key_id == '\0' || strlen(key_id) > KMSENV_NAME_MAX)
        return malformed(err, "no KeyId");
    if (expected == NULL || kmsenv_aws_is_alias(expected) || is_same_key(expected, key_id))
        return 1;
    return kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "the reply is about another key than the %.200s asked for", expected);
}

static int read_plaintext(const KMSENV_JSON_SECRET *text, KMSENV_AWS_RESULT *result, KMSENV_ERROR *err)
{
    if (!text->found)
        return malformed(err, "no Plaintext");
    if (kmsenv_base64_decode(kmsenv_buffer_text(text->value), text->value->length, result->plaintext, &result->plaintext_len))
        return 1;
    return malformed(err, "a Plaintext that is not base64, or longer than expected");
}

static int read_blob(const KMSENV_JSON *json, const KMSENV_AWS_RESULT *result, KMSENV_ERROR *err)
{
    const char *text = kmsenv_json_text(kmsenv_json_get(json, "CiphertextBlob"));
    const char *arn = kmsenv_json_text(kmsenv_json_get(json, "KeyId"));
    KMSENV_BLOB *blob = result->blob;
    size_t n = KMSENV_AWS_CIPHERTEXT_MAX;

    if (text == NULL)
        return malformed(err, "no CiphertextBlob");
    if ((blob->ciphertext = OPENSSL_malloc(n)) == NULL)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a wrapped data key");
    if (!kmsenv_base64_decode(text, strlen(text), blob->ciphertext, &n) || n == 0) {
        kmsenv_blob_reset(blob);
        return malformed(err, "a CiphertextBlob that is not base64 of 1 to 6144 bytes");
    }
    blob->ciphertext_len = n;
    if (!result->keep_arn)
        return 1;
    if (!kmsenv_aws_is_key_arn(arn))
        return malformed(err, "a KeyId that is not the ARN of a key");
    blob->extra_len = strlen(arn);
    blob->extra = OPENSSL_memdup(arn, blob->extra_len);
    return blob->extra != NULL || kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a wrapped data key");
}

static int read_state(const KMSENV_JSON *json, KMSENV_AWS_RESULT *result, KMSENV_ERROR *err)
{
    const KMSENV_JSON *metadata = kmsenv_json_get(json, "KeyMetadata");
    const char *usage = kmsenv_json_text(kmsenv_json_get(metadata, "KeyUsage"));
    const char *spec = kmsenv_json_text(kmsenv_json_get(metadata, "KeySpec"));

    copy_code(result->state, result->state_room, kmsenv_json_text(kmsenv_json_get(metadata, "KeyState")));
    if (result->state[0] == '\0')
        return malformed(err, "no KeyMetadata.KeyState");
    if (strcmp(result->state, "Enabled") != 0)
        return kmsenv_error_set(err, KMSENV_R_KMS_KEY_DISABLED, "the KMS key is in the state %s; it must be Enabled", result->state);
    if ((usage != NULL && strcmp(usage, "ENCRYPT_DECRYPT") != 0) || (spec != NULL && strcmp(spec, "SYMMETRIC_DEFAULT") != 0))
        return kmsenv_error_set(err, KMSENV_R_KMS_REQUEST_REJECTED, "the KMS key is not a symmetric one for encryption; its KeyUsage "
                                "must be ENCRYPT_DECRYPT and its KeySpec SYMMETRIC_DEFAULT");
    return 1;
}

static int read_result(const KMSENV_JSON *json, const KMSENV_JSON_SECRET *secret, KMSENV_AWS_RESULT *result, KMSENV_ERROR *err)
{
    return (result->state != NULL || check_key_id(json, result->expected_key_id, err))
           && (result->plaintext == NULL || read_plaintext(secret, result, err))
           && (result->blob == NULL || read_blob(json, result, err))
           && (result->state == NULL || read_state(json, result, err));
}

KMSENV_VERDICT kmsenv_aws_result(KMSENV_REPLY *http, KMSENV_AWS_RESULT *result, KMSENV_ERROR *err)
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
        verdict = judge_code(http, code, result, err);
    else if (http->status != 200)
        verdict = kmsenv_rest_status(http, err);
    else if (json != NULL && read_result(json, &secret, result, err))
        verdict = KMSENV_VERDICT_OK;
    kmsenv_buffer_reset(&plaintext);
    kmsenv_json_free(json);
    return verdict;
}
