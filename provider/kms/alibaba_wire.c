/* Requests and replies of Alibaba Cloud KMS: RPC-style actions, parameters as texts. */
#include <stdio.h>
#include <string.h>
#include <openssl/crypto.h>
#include "kms/alibaba.h"
#include "kms/base64.h"
#include "kms/sign.h"

#define VERSION    "2016-01-20"
#define FORM_TYPE  "application/x-www-form-urlencoded"
#define BASE64_MAX 16384    /* characters of a Plaintext */
#define QUERY_MAX  4096     /* characters; more is not put into a URL unless that was asked for */

/* --- parameters ----------------------------------------------------------- */

static void add_if(KMSENV_BUFFER *params, const char *name, const char *value)
{
    if (value != NULL && *value != '\0')
        kmsenv_form_add(params, name, value);
}

static void add_number(KMSENV_BUFFER *params, const char *name, size_t number)
{
    char text[24];

    if (number == 0)
        return;
    snprintf(text, sizeof(text), "%zu", number);
    kmsenv_form_add(params, name, text);
}

/* The KMS takes a plaintext for text, and encrypts that: base64 of the bytes, always. */
static void add_base64(KMSENV_BUFFER *params, const char *name, const unsigned char *data, size_t n)
{
    KMSENV_BUFFER text;

    if (data == NULL)
        return;
    kmsenv_buffer_init(&text, BASE64_MAX, 1);
    if (!kmsenv_base64_add(&text, data, n))
        params->failed = 1;
    kmsenv_form_add(params, name, kmsenv_buffer_text(&text));
    kmsenv_buffer_reset(&text);
}

/* An encryption context is a text that holds JSON. */
static void add_context(KMSENV_BUFFER *params, const char *name, const KMSENV_CONTEXT *context)
{
    KMSENV_BUFFER text;

    if (context == NULL || context->count == 0)
        return;
    kmsenv_buffer_init(&text, 4 * KMSENV_CONTEXT_TEXT_MAX, 0);
    if (!kmsenv_context_json(context, &text))
        params->failed = 1;
    kmsenv_form_add(params, name, kmsenv_buffer_text(&text));
    kmsenv_buffer_reset(&text);
}

static void add_action(KMSENV_BUFFER *params, const KMSENV_ALIBABA_ACTION *a)
{
    add_if(params, "KeyId", a->key_id);
    add_if(params, "KeySpec", a->key_spec);
    add_number(params, "NumberOfBytes", a->number_of_bytes);
    add_base64(params, "Plaintext", a->plaintext, a->plaintext_len);
    add_base64(params, "CiphertextBlob", a->ciphertext, a->ciphertext_len);
    add_if(params, "DestinationKeyId", a->destination_key_id);
    add_context(params, "EncryptionContext", a->context);
    add_context(params, "SourceEncryptionContext", a->source_context);
    add_context(params, "DestinationEncryptionContext", a->destination_context);
}

static void add_common(KMSENV_BUFFER *params, const KMSENV_ALIBABA_FRAME *f, const char *action, const char *time)
{
    kmsenv_form_add(params, "Action", action);
    kmsenv_form_add(params, "Format", "JSON");
    kmsenv_form_add(params, "Version", VERSION);
    kmsenv_form_add(params, "AccessKeyId", f->signer.id);
    add_if(params, "SecurityToken", f->token);
    kmsenv_form_add(params, "SignatureMethod", "HMAC-SHA1");
    kmsenv_form_add(params, "SignatureVersion", "1.0");
    kmsenv_form_add(params, "SignatureNonce", f->nonce);
    kmsenv_form_add(params, "Timestamp", time);
}

/* --- requests ------------------------------------------------------------- */

int kmsenv_alibaba_nonce(KMSENV_CRYPTO *crypto, char out[KMSENV_ALIBABA_NONCE], KMSENV_ERROR *err)
{
    unsigned char random[16];

    if (!kmsenv_crypto_random(crypto, random, sizeof(random), err))
        return 0;
    kmsenv_sign_hex(random, sizeof(random), out);
    return 1;
}

static int add_acs3_headers(const KMSENV_ALIBABA_FRAME *f, KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    char time[24];

    return kmsenv_acs_time(f->timestamp, time, sizeof(time), err)
           && kmsenv_request_add_header(request, "x-acs-date", time, err)
           && kmsenv_request_add_header(request, "x-acs-signature-nonce", f->nonce, err)
           && (f->token == NULL || (kmsenv_request_add_header(request, "x-acs-accesskey-id", f->signer.id, err)
                                    && kmsenv_request_add_header(request, "x-acs-security-token", f->token, err)));
}

/* Puts the parameters where they belong. A URL is no place for a secret: servers and proxies log it. */
static int place(const KMSENV_ALIBABA_FRAME *f, int secret, const KMSENV_BUFFER *params, KMSENV_REQUEST *request)
{
    int form = f->place == KMSENV_ALIBABA_FORM || (f->place == KMSENV_ALIBABA_AUTO && (secret || params->length > QUERY_MAX));

    request->secret = secret;
    request->target.secret = secret && !form;
    kmsenv_buffer_printf(&request->target, "%s/", f->endpoint->path);
    if (form)
        kmsenv_buffer_add(&request->body, params->data, params->length);
    if (form || params->length == 0)
        return form;
    kmsenv_buffer_add(&request->target, "?", 1);
    kmsenv_buffer_add(&request->target, params->data, params->length);
    return 0;
}

static int build(const KMSENV_ALIBABA_FRAME *f, const KMSENV_ALIBABA_ACTION *a, const KMSENV_BUFFER *params, KMSENV_REQUEST *request,
                 KMSENV_ERROR *err)
{
    int form = place(f, a->plaintext != NULL || (f->rpc && f->token != NULL), params, request);

    if (!kmsenv_request_add_header(request, "Host", f->endpoint->authority, err)
        || !kmsenv_request_add_header(request, "Accept", "application/json", err)
        || !kmsenv_request_add_header(request, "x-acs-action", a->name, err)
        || !kmsenv_request_add_header(request, "x-acs-version", VERSION, err)
        || (form && !kmsenv_request_add_header(request, "Content-Type", FORM_TYPE, err)))
        return 0;
    if (f->rpc)
        return kmsenv_acs_rpc_sign(&f->signer, request, err);
    return add_acs3_headers(f, request, err) && kmsenv_acs3_sign(&f->signer, request, err);
}

int kmsenv_alibaba_request(const KMSENV_ALIBABA_FRAME *frame, const KMSENV_ALIBABA_ACTION *action, KMSENV_REQUEST *request,
                           KMSENV_ERROR *err)
{
    KMSENV_BUFFER params;
    char time[24];
    int ok;

    if (action->ciphertext != NULL && (action->ciphertext_len == 0 || action->ciphertext_len > KMSENV_ALIBABA_CIPHERTEXT_MAX))
        return kmsenv_error_set(err, KMSENV_R_KMS_WRAP_REJECTED, "the wrapped data key is not one of Alibaba Cloud KMS: those have 1 "
                                "to %d bytes", KMSENV_ALIBABA_CIPHERTEXT_MAX);
    if (!kmsenv_acs_time(frame->timestamp, time, sizeof(time), err))
        return 0;
    kmsenv_buffer_init(&params, KMSENV_REQUEST_BODY_MAX, 1);
    if (frame->rpc)
        add_common(&params, frame, action->name, time);
    add_action(&params, action);
    if (params.failed)
        ok = kmsenv_error_set(err, KMSENV_R_KMS_INPUT_TOO_LARGE, "the parameters are too large for one request to the KMS");
    else
        ok = build(frame, action, &params, request, err) && kmsenv_request_check(request, err);
    kmsenv_buffer_reset(&params);
    return ok;
}

/* --- errors --------------------------------------------------------------- */

#define SLOW_DOWN   "too many requests for this account; slow down or ask for a higher quota"
#define UNKNOWN_KEY "the access key or the security token is unknown to the service"
#define BAD_WRAP    "the wrapped data key is damaged, from elsewhere, or its encryption context is not the one given"
#define NO_MONEY    "the account is overdue, or barred from the service"
#define FORM_HINT   "the service misses a parameter; if this was Encrypt, set parameters = query"

static const KMSENV_REST_CODE codes[] = {
    { "Rejected.Throttling", KMSENV_SAYS_THROTTLED, SLOW_DOWN },
    { "Throttling", KMSENV_SAYS_THROTTLED, SLOW_DOWN },
    { "InternalFailure", KMSENV_SAYS_LATER, "a fault inside the service" },
    { "InternalError", KMSENV_SAYS_LATER, "a fault inside the service" },
    { "ServiceUnavailableTemporary", KMSENV_SAYS_LATER, "the service is temporarily unavailable" },
    { "ServiceUnavailable", KMSENV_SAYS_LATER, "the service is temporarily unavailable" },
    { "SignatureNonceUsed", KMSENV_SAYS_LATER, "the service saw this request twice" },
    { "IllegalTimestamp", KMSENV_SAYS_CLOCK, "this machine's clock is more than 15 minutes off; set it (NTP)" },
    { "InvalidTimeStamp", KMSENV_SAYS_CLOCK, "this machine's clock is more than 15 minutes off; set it (NTP)" },
    { "RequestTimeTooSkewed", KMSENV_SAYS_CLOCK, "this machine's clock is more than 15 minutes off; set it (NTP)" },
    { "InvalidSecurityToken", KMSENV_SAYS_RENEW, "the temporary credentials have expired or are not valid; renew them" },
    { "InvalidAccessKeyId", KMSENV_SAYS_RENEW, UNKNOWN_KEY },
    { "MissingSecurityToken", KMSENV_SAYS_CREDENTIALS, "these are temporary credentials without their security token" },
    { "Forbidden.AccessKey", KMSENV_SAYS_CREDENTIALS, "the access key is disabled" },
    { "SignatureDoesNotMatch", KMSENV_SAYS_CREDENTIALS,
      "the signature is wrong: access-key-secret and access-key-id do not belong together" },
    { "IncompleteSignature", KMSENV_SAYS_CREDENTIALS,
      "the signature is wrong: access-key-secret and access-key-id do not belong together" },
    { "Forbidden.NoPermission", KMSENV_SAYS_DENIED, "RAM policies do not allow this action on this key" },
    { "NoPermission", KMSENV_SAYS_DENIED, "RAM policies do not allow this action on this key" },
    { "AccessDeniedError", KMSENV_SAYS_DENIED, "policies do not allow this action on this key" },
    { "Forbidden.RAM", KMSENV_SAYS_DENIED, "RAM policies do not allow this action on this key" },
    { "Forbidden.KmsServiceNotEnabled", KMSENV_SAYS_DENIED, "the account has not activated KMS" },
    { "Forbidden.InDebt", KMSENV_SAYS_DENIED, NO_MONEY },
    { "Forbidden.InDebtOverdue", KMSENV_SAYS_DENIED, NO_MONEY },
    { "Forbidden.ProhibitedByRiskControl", KMSENV_SAYS_DENIED, NO_MONEY },
    { "Forbidden.KeyNotFound", KMSENV_SAYS_NOT_FOUND,
      "there is no such key in this account and region, or it is not for these credentials to see; check key-id and region" },
    { "Forbidden.AliasNotFound", KMSENV_SAYS_NOT_FOUND, "there is no such alias in this account and region; check key-id and region" },
    { "Forbidden", KMSENV_SAYS_DENIED, "this is forbidden to these credentials" },
    { "Rejected.Disabled", KMSENV_SAYS_DISABLED, "the key is disabled; enable it" },
    { "Rejected.PendingDeletion", KMSENV_SAYS_DISABLED, "the key is about to be deleted; cancel the deletion" },
    { "Rejected.PendingImport", KMSENV_SAYS_DISABLED, "the key has no material yet; import it" },
    { "Rejected.Unavailable", KMSENV_SAYS_DISABLED, "the key is unavailable, such as one in a KMS instance that is not running" },
    { "InvalidCiphertext", KMSENV_SAYS_WRAP, BAD_WRAP },
    { "InvalidParameter.CiphertextBlob", KMSENV_SAYS_WRAP, BAD_WRAP },
    { "Rejected.InvalidCiphertext", KMSENV_SAYS_WRAP, BAD_WRAP },
    { "UnsupportedOperation", KMSENV_R_KMS_UNSUPPORTED, KMSENV_VERDICT_FINAL, "this kind of key, or this gateway, does not offer that" },
    { "Rejected.UnsupportedOperation", KMSENV_R_KMS_UNSUPPORTED, KMSENV_VERDICT_FINAL,
      "this kind of key, or this gateway, does not offer that" },
    { "MissingParameter", KMSENV_SAYS_REJECTED, FORM_HINT },
    { "InvalidParameter", KMSENV_SAYS_REJECTED, "the service does not accept a parameter; check key-id" },
    { "InvalidAction", KMSENV_SAYS_REJECTED, "what answers there is not Alibaba Cloud KMS; check endpoint" },
    { "InvalidApi", KMSENV_SAYS_REJECTED, "what answers there is not Alibaba Cloud KMS; check endpoint" },
    { NULL, 0, KMSENV_VERDICT_FINAL, NULL }
};

/* Of Decrypt, whose only parameters are the wrap and its context. */
static const KMSENV_REST_CODE decrypt_codes[] = {
    { "InvalidParameter", KMSENV_SAYS_WRAP, BAD_WRAP },
    { NULL, 0, KMSENV_VERDICT_FINAL, NULL }
};

static KMSENV_VERDICT judge(const KMSENV_REPLY *http, const char *code, const KMSENV_RESULT *result, KMSENV_ERROR *err)
{
    int decrypt = result->plaintext != NULL && result->blob == NULL;

    return kmsenv_rest_judge(decrypt && kmsenv_rest_find_code(decrypt_codes, code) != NULL ? decrypt_codes : codes, code, http->status,
                             result->request_id, err);
}

/* --- replies -------------------------------------------------------------- */

/* The service gives the bare id of the key, whatever it was asked with: so it is documented. */
static int check_key_id(const KMSENV_JSON *json, const char *expected, KMSENV_ERROR *err)
{
    const char *key_id = kmsenv_json_text(kmsenv_json_get(json, "KeyId"));

    if (key_id == NULL || !kmsenv_alibaba_is_key_id(key_id))
        return kmsenv_result_malformed(err, "no KeyId");
    if (expected == NULL || kmsenv_alibaba_is_alias(expected)
        || strcmp(kmsenv_alibaba_bare_id(expected), kmsenv_alibaba_bare_id(key_id)) == 0)
        return 1;
    return kmsenv_result_wrong_key(err, expected);
}

static int read_blob(const KMSENV_JSON *json, const KMSENV_RESULT *result, KMSENV_ERROR *err)
{
    const char *key_id = kmsenv_alibaba_bare_id(kmsenv_json_text(kmsenv_json_get(json, "KeyId")));

    if (!kmsenv_blob_base64(result->blob, "CiphertextBlob", kmsenv_json_text(kmsenv_json_get(json, "CiphertextBlob")),
                            KMSENV_ALIBABA_CIPHERTEXT_MAX, err))
        return 0;
    return result->key_id == NULL || !kmsenv_alibaba_is_alias(result->key_id) || kmsenv_alibaba_is_alias(key_id)
           || kmsenv_blob_extra(result->blob, key_id, strlen(key_id), err);
}

static int read_state(const KMSENV_JSON *json, KMSENV_RESULT *result, KMSENV_ERROR *err)
{
    const KMSENV_JSON *metadata = kmsenv_json_get(json, "KeyMetadata");
    const char *usage = kmsenv_json_text(kmsenv_json_get(metadata, "KeyUsage"));
    const char *spec = kmsenv_json_text(kmsenv_json_get(metadata, "KeySpec"));

    if (metadata == NULL)
        return kmsenv_result_malformed(err, "no KeyMetadata");
    if (!check_key_id(metadata, result->key_id, err))
        return 0;
    kmsenv_text_word(result->state, result->state_room, kmsenv_json_text(kmsenv_json_get(metadata, "KeyState")));
    if (result->state[0] == '\0')
        return kmsenv_result_malformed(err, "no KeyMetadata.KeyState");
    if (strcmp(result->state, "Enabled") != 0)
        return kmsenv_error_set(err, KMSENV_R_KMS_KEY_DISABLED, "the key is in the state %s; it must be Enabled", result->state);
    if ((usage != NULL && strcmp(usage, "ENCRYPT/DECRYPT") != 0) || (spec != NULL && strncmp(spec, "Aliyun_", 7) != 0))
        return kmsenv_error_set(err, KMSENV_R_KMS_REQUEST_REJECTED, "the key is not a symmetric one for encryption; its KeyUsage must "
                                "be ENCRYPT/DECRYPT and its KeySpec one such as Aliyun_AES_256");
    return 1;
}

static int read_result(const KMSENV_JSON *json, const KMSENV_JSON_SECRET *secret, KMSENV_RESULT *result, KMSENV_ERROR *err)
{
    if (result->state != NULL)
        return read_state(json, result, err);
    return check_key_id(json, result->key_id, err)
           && (result->plaintext == NULL || kmsenv_result_plaintext(result, secret, err))
           && (result->blob == NULL || read_blob(json, result, err));
}

/* The id is in the body, and in a header if something before the service answers. */
static void read_request_id(const KMSENV_REPLY *http, const KMSENV_JSON *json, KMSENV_RESULT *result)
{
    const char *text = kmsenv_json_text(kmsenv_json_get(json, "RequestId"));
    char header[160] = "";

    if (text == NULL)
        kmsenv_reply_header(http, "x-acs-request-id", header, sizeof(header));
    kmsenv_text_word(result->request_id, sizeof(result->request_id), text == NULL ? header : text);
}

static void read_code(const KMSENV_JSON *json, char *out, size_t room)
{
    const KMSENV_JSON *code = kmsenv_json_get(json, "Code");

    kmsenv_text_word(out, room, kmsenv_json_text(code != NULL ? code : kmsenv_json_get(json, "code")));
}

KMSENV_VERDICT kmsenv_alibaba_result(KMSENV_REPLY *http, KMSENV_RESULT *result, KMSENV_ERROR *err)
{
    KMSENV_VERDICT verdict = KMSENV_VERDICT_FINAL;
    KMSENV_BUFFER plaintext;
    KMSENV_JSON_SECRET secret = { "Plaintext", &plaintext, 0 };
    KMSENV_JSON *json;
    char code[96];

    kmsenv_buffer_init(&plaintext, BASE64_MAX, 1);
    json = kmsenv_json_parse(&http->body, &secret, 1, err);
    read_request_id(http, json, result);
    read_code(json, code, sizeof(code));
    if (code[0] != '\0')
        verdict = judge(http, code, result, err);
    else if (http->status != 200)
        verdict = kmsenv_rest_status(http, err);
    else if (json != NULL && read_result(json, &secret, result, err))
        verdict = KMSENV_VERDICT_OK;
    kmsenv_buffer_reset(&plaintext);
    kmsenv_json_free(json);
    return verdict;
}
