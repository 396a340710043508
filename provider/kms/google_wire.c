/* Requests and replies of Google Cloud KMS: JSON, the resource and the verb in the path. Checksums are CRC-32C. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/crypto.h>
#include "kms/crc32c.h"
#include "kms/google.h"

#define BASE64_MAX 16384    /* characters of a plaintext */
#define SKEW_SEEN  60       /* seconds: from here on a token that is refused is put down to the clock */

/* --- requests ------------------------------------------------------------- */

/* A 64-bit number in JSON is a string. */
static void add_sum(KMSENV_BUFFER *body, const char *name, const void *data, size_t n)
{
    char text[16];

    snprintf(text, sizeof(text), "%" PRIu32, kmsenv_crc32c(data, n));
    kmsenv_json_add_text(body, name, text);
    OPENSSL_cleanse(text, sizeof(text));
}

int kmsenv_google_body(const KMSENV_GOOGLE_OPERATION *op, KMSENV_BUFFER *body, KMSENV_ERROR *err)
{
    kmsenv_json_open(body, NULL);
    if (op->plaintext != NULL)
        kmsenv_json_add_base64(body, "plaintext", op->plaintext, op->plaintext_len);
    if (op->ciphertext != NULL)
        kmsenv_json_add_base64(body, "ciphertext", op->ciphertext, op->ciphertext_len);
    if (op->aad != NULL)
        kmsenv_json_add_base64(body, "additionalAuthenticatedData", op->aad->data, op->aad->length);
    if (op->checksums && op->plaintext != NULL)
        add_sum(body, "plaintextCrc32c", op->plaintext, op->plaintext_len);
    if (op->checksums && op->ciphertext != NULL)
        add_sum(body, "ciphertextCrc32c", op->ciphertext, op->ciphertext_len);
    if (op->checksums && op->aad != NULL)
        add_sum(body, "additionalAuthenticatedDataCrc32c", op->aad->data, op->aad->length);
    kmsenv_json_close(body);
    return kmsenv_json_finish(body, err);
}

int kmsenv_google_authorize(KMSENV_REQUEST *request, const char *token, KMSENV_ERROR *err)
{
    KMSENV_BUFFER value;
    int ok;

    kmsenv_buffer_init(&value, KMSENV_GOOGLE_TOKEN_MAX + 16, 1);
    ok = (kmsenv_buffer_add_text(&value, "Bearer ") && kmsenv_buffer_add_text(&value, token))
         || kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "the token is longer than %d bytes", KMSENV_GOOGLE_TOKEN_MAX);
    ok = ok && kmsenv_request_add_header(request, "Authorization", kmsenv_buffer_text(&value), err);
    kmsenv_buffer_reset(&value);
    return ok;
}

int kmsenv_google_frame(const KMSENV_ENDPOINT *endpoint, const char *name, const char *verb, const char *token,
                        const char *quota_project, KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    request->method = verb == NULL ? "GET" : "POST";
    kmsenv_buffer_printf(&request->target, "%s/v1/%s%s%s", endpoint->path, name, verb == NULL ? "" : ":", verb == NULL ? "" : verb);
    return kmsenv_request_add_header(request, "Host", endpoint->authority, err)
           && kmsenv_request_add_header(request, "Content-Type", "application/json", err)
           && kmsenv_google_authorize(request, token, err)
           && (quota_project == NULL || kmsenv_request_add_header(request, "x-goog-user-project", quota_project, err))
           && kmsenv_request_check(request, err);
}

/* --- errors --------------------------------------------------------------- */

static const KMSENV_REST_CODE codes[] = {
    { "RESOURCE_EXHAUSTED", KMSENV_SAYS_THROTTLED, "too many requests for the project; slow down or ask for a higher quota" },
    { "UNAVAILABLE", KMSENV_SAYS_LATER, "the service is temporarily unavailable" },
    { "INTERNAL", KMSENV_SAYS_LATER, "a fault inside the service" },
    { "UNKNOWN", KMSENV_SAYS_LATER, "a fault inside the service" },
    { "DEADLINE_EXCEEDED", KMSENV_SAYS_LATER, "the service timed out" },
    { "ABORTED", KMSENV_SAYS_LATER, "the service gave up on the request" },
    { "CANCELLED", KMSENV_SAYS_LATER, "the service gave up on the request" },
    { "UNAUTHENTICATED", KMSENV_SAYS_RENEW, "the token is not accepted: it has expired, was revoked, or its key was deleted" },
    { "CLOCK", KMSENV_SAYS_CLOCK, "the token is not accepted, and this machine's clock is more than a minute off; set it (NTP)" },
    { "PERMISSION_DENIED", KMSENV_SAYS_DENIED,
      "IAM does not allow this on this key; it takes cloudkms.cryptoKeyVersions.useToEncrypt and useToDecrypt, and cloudkms.cryptoKeys.get "
      "to look at its state" },
    { "PERMISSION_DENIED.SERVICE_DISABLED", KMSENV_SAYS_DENIED, "the Cloud KMS API is not enabled in the project; enable it" },
    { "PERMISSION_DENIED.ACCESS_TOKEN_SCOPE_INSUFFICIENT", KMSENV_SAYS_DENIED,
      "the token's scope does not cover Cloud KMS; give the instance the scope cloud-platform, or set scope" },
    { "PERMISSION_DENIED.USER_PROJECT_DENIED", KMSENV_SAYS_DENIED, "the quota project may not be used; check quota-project" },
    { "NOT_FOUND", KMSENV_SAYS_NOT_FOUND, "there is no such key or key version; check key-id" },
    { "FAILED_PRECONDITION", KMSENV_SAYS_DISABLED,
      "the key version is not enabled: it is disabled, destroyed, or about to be; enable or restore it" },
    { "INVALID_ARGUMENT", KMSENV_SAYS_REJECTED,
      "the service does not accept the request; check that the purpose of the key in key-id is ENCRYPT_DECRYPT" },
    { "OUT_OF_RANGE", KMSENV_SAYS_REJECTED, "the service does not accept the request" },
    { "UNIMPLEMENTED", KMSENV_SAYS_REJECTED, "what answers there is not Cloud KMS, or not for such keys; check endpoint and key-id" },
    { NULL, 0, KMSENV_VERDICT_FINAL, NULL }
};

/* What means something else when a wrap is to be opened. */
static const KMSENV_REST_CODE codes_of_decrypt[] = {
    { "INVALID_ARGUMENT", KMSENV_SAYS_WRAP,
      "the wrapped data key is damaged, from elsewhere, or its encryption context is not the one given" },
    { NULL, 0, KMSENV_VERDICT_FINAL, NULL }
};

void kmsenv_google_code(const KMSENV_JSON *reply, char *out, size_t room)
{
    const KMSENV_JSON *error = kmsenv_json_get(reply, "error"), *details = kmsenv_json_get(error, "details"), *detail;
    const char *text = kmsenv_json_text(error), *reason = NULL;
    char word[64];
    size_t i, n;

    kmsenv_text_word(out, room, text != NULL ? text : kmsenv_json_text(kmsenv_json_get(error, "status")));
    for (i = 0; reason == NULL && (detail = kmsenv_json_at(details, i)) != NULL; i++)
        reason = kmsenv_json_text(kmsenv_json_get(detail, "reason"));
    n = strlen(out);
    kmsenv_text_word(word, sizeof(word), reason);
    if (n > 0 && word[0] != '\0')
        snprintf(out + n, room - n, ".%s", word);
}

int kmsenv_google_is_clock(const KMSENV_REPLY *http, int64_t sent)
{
    int64_t date = kmsenv_reply_date(http);

    return sent != 0 && date != 0 && llabs((long long)(date - sent)) > SKEW_SEEN;
}

static KMSENV_VERDICT judge(const KMSENV_REPLY *http, const char *code, const KMSENV_GOOGLE_OPERATION *op, int64_t sent,
                            const KMSENV_RESULT *result, KMSENV_ERROR *err)
{
    const KMSENV_REST_CODE *table = codes;

    if (op->ciphertext != NULL && kmsenv_rest_find_code(codes_of_decrypt, code) != NULL)
        table = codes_of_decrypt;
    if (http->status == 401 && kmsenv_google_is_clock(http, sent))
        code = "CLOCK";
    return kmsenv_rest_judge(table, code, http->status, result->request_id, err);
}

/* --- replies -------------------------------------------------------------- */

/* The project's part, which has two names: an id, and a number. */
static size_t project_length(const char *name)
{
    return strcspn(name + strlen("projects/"), "/") + strlen("projects/");
}

static int is_number(const char *name, size_t n)
{
    return strspn(name + strlen("projects/"), "0123456789") + strlen("projects/") == n;
}

/* name: that of the key expected, or of one of its versions. */
static int is_same_key(const char *expected, const char *name)
{
    size_t n = project_length(expected), m, rest;

    if (kmsenv_google_key_length(name) == 0)
        return 0;
    m = project_length(name);
    if ((n != m || strncmp(expected, name, n) != 0) && is_number(expected, n) == is_number(name, m))
        return 0;
    rest = strlen(expected + n);
    return strncmp(expected + n, name + m, rest) == 0 && (name[m + rest] == '\0' || name[m + rest] == '/');
}

static int check_name(const KMSENV_JSON *json, const char *expected, KMSENV_ERROR *err)
{
    const char *name = kmsenv_json_text(kmsenv_json_get(json, "name"));

    if (name == NULL)
        return kmsenv_result_malformed(err, "no name of a key");
    return is_same_key(expected, name) || kmsenv_result_wrong_key(err, expected);
}

/* must: it has to be there. */
static int check_sum(const char *member, const char *text, const void *data, size_t n, int must, KMSENV_ERROR *err)
{
    char *end = NULL;
    unsigned long long sum;

    if (text == NULL)
        return !must || kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "the reply has no %s", member);
    sum = strtoull(text, &end, 10);
    if (isdigit((unsigned char)*text) && *end == '\0' && sum == kmsenv_crc32c(data, n))
        return 1;
    return kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "the reply was damaged on its way: %s is not its checksum", member);
}

static int check_verified(const KMSENV_JSON *json, const char *member, KMSENV_ERROR *err)
{
    int verified = 0;

    if (kmsenv_json_boolean(kmsenv_json_get(json, member), &verified) && verified)
        return 1;
    return kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "the request was damaged on its way: the reply does not say %s", member);
}

/* Damage on the way calls for another try, of which nothing may be left over. */
static int check_sums(const KMSENV_JSON *json, const KMSENV_JSON_SECRET *sum, const KMSENV_GOOGLE_OPERATION *op,
                      KMSENV_RESULT *result, KMSENV_ERROR *err)
{
    const char *text = sum->found ? kmsenv_buffer_text(sum->value) : NULL;
    int ok = 1;

    if (result->plaintext != NULL)
        ok = check_sum(sum->name, text, result->plaintext, result->plaintext_len, op->checksums, err);
    if (ok && result->blob != NULL)
        ok = check_sum("ciphertextCrc32c", kmsenv_json_text(kmsenv_json_get(json, "ciphertextCrc32c")), result->blob->ciphertext,
                       result->blob->ciphertext_len, op->checksums, err)
             && (!op->checksums || check_verified(json, "verifiedPlaintextCrc32c", err))
             && (!op->checksums || op->aad == NULL || check_verified(json, "verifiedAdditionalAuthenticatedDataCrc32c", err));
    if (!ok && result->blob != NULL)
        kmsenv_blob_reset(result->blob);
    if (!ok && result->plaintext != NULL)
        OPENSSL_cleanse(result->plaintext, result->room);
    return ok;
}

/* Of a key, whose primary version encrypts, or of a version. */
static int read_state(const KMSENV_JSON *json, KMSENV_RESULT *result, KMSENV_ERROR *err)
{
    const char *name = kmsenv_json_text(kmsenv_json_get(json, "name"));
    int versioned = name != NULL && name[kmsenv_google_key_length(name)] != '\0';
    const KMSENV_JSON *version = versioned ? json : kmsenv_json_get(json, "primary");
    const char *purpose = kmsenv_json_text(kmsenv_json_get(json, "purpose"));
    const char *algorithm = kmsenv_json_text(kmsenv_json_get(version, "algorithm"));

    if (!check_name(json, result->key_id, err))
        return 0;
    if ((!versioned && (purpose == NULL || strcmp(purpose, "ENCRYPT_DECRYPT") != 0))
        || (algorithm != NULL && strstr(algorithm, "SYMMETRIC_ENCRYPTION") == NULL))
        return kmsenv_error_set(err, KMSENV_R_KMS_REQUEST_REJECTED, "the key is not a symmetric one for encryption; its purpose must be "
                                "ENCRYPT_DECRYPT");
    if (version == NULL)
        return kmsenv_error_set(err, KMSENV_R_KMS_KEY_DISABLED, "the key has no primary version; make one of its versions the primary");
    kmsenv_text_word(result->state, result->state_room, kmsenv_json_text(kmsenv_json_get(version, "state")));
    if (result->state[0] == '\0')
        return kmsenv_result_malformed(err, "no state of the key version");
    if (strcmp(result->state, "ENABLED") == 0)
        return 1;
    return kmsenv_error_set(err, KMSENV_R_KMS_KEY_DISABLED, "the %skey version is in the state %s; it must be ENABLED",
                            versioned ? "" : "primary ", result->state);
}

static KMSENV_VERDICT read_result(const KMSENV_JSON *json, const KMSENV_JSON_SECRET secrets[2], const KMSENV_GOOGLE_OPERATION *op,
                                  KMSENV_RESULT *result, KMSENV_ERROR *err)
{
    if ((result->blob != NULL && !check_name(json, result->key_id, err))
        || (result->plaintext != NULL && !kmsenv_result_plaintext(result, &secrets[0], err))
        || (result->blob != NULL && !kmsenv_blob_base64(result->blob, "ciphertext", kmsenv_json_text(kmsenv_json_get(json, "ciphertext")),
                                                        KMSENV_CIPHERTEXT_MAX, err))
        || (result->state != NULL && !read_state(json, result, err)))
        return KMSENV_VERDICT_FINAL;
    return check_sums(json, &secrets[1], op, result, err) ? KMSENV_VERDICT_OK : KMSENV_VERDICT_RETRY;
}

KMSENV_VERDICT kmsenv_google_result(KMSENV_REPLY *http, const KMSENV_GOOGLE_OPERATION *op, int64_t sent, KMSENV_RESULT *result,
                                    KMSENV_ERROR *err)
{
    KMSENV_VERDICT verdict = KMSENV_VERDICT_FINAL;
    KMSENV_BUFFER plaintext, sum;   /* the checksum says something of the data key, too */
    KMSENV_JSON_SECRET secrets[] = { { "plaintext", &plaintext, 0 }, { "plaintextCrc32c", &sum, 0 } };
    KMSENV_JSON *json;
    char code[128], id[80];

    kmsenv_buffer_init(&plaintext, BASE64_MAX, 1);
    kmsenv_buffer_init(&sum, 24, 1);
    kmsenv_reply_header(http, "x-goog-request-id", id, sizeof(id));
    kmsenv_text_word(result->request_id, sizeof(result->request_id), id);
    json = kmsenv_json_parse(&http->body, secrets, 2, err);
    kmsenv_google_code(json, code, sizeof(code));
    if (code[0] != '\0')
        verdict = judge(http, code, op, sent, result, err);
    else if (http->status != 200)
        verdict = kmsenv_rest_status(http, err);
    else if (json != NULL)
        verdict = read_result(json, secrets, op, result, err);
    kmsenv_buffer_reset(&plaintext);
    kmsenv_buffer_reset(&sum);
    kmsenv_json_free(json);
    return verdict;
}
