/* Requests and replies of Azure Key Vault and Managed HSM. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <openssl/crypto.h>
#include "kms/azure.h"
#include "kms/base64.h"
#include "kms/sign.h"

#define VALUE_MAX  16384    /* characters of a value in a reply */
#define ALNUM      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

/* --- names ---------------------------------------------------------------- */

static int is_version(const char *text)
{
    return strlen(text) == KMSENV_AZURE_VERSION_LEN && strspn(text, "0123456789abcdefABCDEF") == KMSENV_AZURE_VERSION_LEN;
}

int kmsenv_azure_key_parse(KMSENV_AZURE_KEY *key, const char *text)
{
    const char *name, *version;
    KMSENV_ENDPOINT e;
    size_t n;

    memset(key, 0, sizeof(*key));
    if (text == NULL || strncasecmp(text, "https://", 8) != 0 || !kmsenv_endpoint_parse(&e, text, 0, "key-id", NULL)
        || strncasecmp(e.path, "/keys/", 6) != 0 || text[strlen(text) - 1] == '/')
        return 0;
    name = e.path + 6;
    n = strcspn(name, "/");
    if (n == 0 || n > KMSENV_AZURE_NAME_MAX || strspn(name, ALNUM "-") != n)
        return 0;
    version = name + n + (name[n] == '/');
    if (name[n] == '/' && !is_version(version))
        return 0;
    memcpy(key->name, name, n);
    memcpy(key->version, version, strlen(version));
    memcpy(key->vault, e.authority, sizeof(key->vault));
    return 1;
}

int kmsenv_azure_key_equal(const KMSENV_AZURE_KEY *expected, const KMSENV_AZURE_KEY *key)
{
    return strcasecmp(expected->vault, key->vault) == 0 && strcasecmp(expected->name, key->name) == 0
           && (expected->version[0] == '\0' || strcasecmp(expected->version, key->version) == 0);
}

/* --- how data is wrapped -------------------------------------------------- */

static const KMSENV_AZURE_ALGORITHM algorithms[] = {
    { "RSA-OAEP-256", 1, "RSA", 1, 1 },
    { "A256KW", 2, "oct", 16, 8 },      /* RFC 3394: two blocks of 8 bytes or more */
};

const KMSENV_AZURE_ALGORITHM *kmsenv_azure_algorithm_find(const char *name)
{
    size_t i;

    for (i = 0; i < sizeof(algorithms) / sizeof(algorithms[0]); i++)
        if (strcmp(algorithms[i].name, name) == 0)
            return &algorithms[i];
    return NULL;
}

void kmsenv_azure_extra_make(unsigned char extra[KMSENV_AZURE_EXTRA_LEN], const KMSENV_AZURE_ALGORITHM *algorithm, const char *version)
{
    size_t i;

    extra[0] = algorithm->number;
    for (i = 1; i < KMSENV_AZURE_EXTRA_LEN; i++, version += 2)
        extra[i] = (unsigned char)(OPENSSL_hexchar2int((unsigned char)version[0]) << 4 | OPENSSL_hexchar2int((unsigned char)version[1]));
}

int kmsenv_azure_extra_parse(const unsigned char *extra, size_t n, const KMSENV_AZURE_ALGORITHM **algorithm,
                             char version[KMSENV_AZURE_VERSION_LEN + 1])
{
    size_t i;

    *algorithm = NULL;
    for (i = 0; n == KMSENV_AZURE_EXTRA_LEN && i < sizeof(algorithms) / sizeof(algorithms[0]); i++)
        if (algorithms[i].number == extra[0])
            *algorithm = &algorithms[i];
    if (*algorithm != NULL)
        kmsenv_sign_hex(extra + 1, n - 1, version);
    return *algorithm != NULL;
}

/* --- requests ------------------------------------------------------------- */

int kmsenv_azure_body(const KMSENV_AZURE_ACTION *action, KMSENV_BUFFER *body, KMSENV_ERROR *err)
{
    KMSENV_BUFFER value;

    kmsenv_buffer_init(&value, KMSENV_REQUEST_BODY_MAX, 1);
    kmsenv_base64url_add(&value, action->value, action->value_len);
    kmsenv_json_open(body, NULL);
    kmsenv_json_add_text(body, "alg", action->algorithm);
    kmsenv_json_add_bytes(body, "value", kmsenv_buffer_text(&value), value.length);
    kmsenv_json_close(body);
    body->failed |= value.failed;
    kmsenv_buffer_reset(&value);
    return kmsenv_json_finish(body, err);
}

int kmsenv_azure_frame(const KMSENV_ENDPOINT *endpoint, const KMSENV_AZURE_ACTION *action, const char *api, const char *token,
                       KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    static const char bearer[] = "Bearer ";
    const KMSENV_AZURE_KEY *key = action->key;
    KMSENV_BUFFER header;
    int ok;

    request->method = action->verb == NULL ? "GET" : "POST";
    kmsenv_buffer_printf(&request->target, "%s/keys/%s/%s%s%s?api-version=%s", endpoint->path, key->name, key->version,
                         key->version[0] == '\0' || action->verb == NULL ? "" : "/", action->verb == NULL ? "" : action->verb, api);
    kmsenv_buffer_init(&header, sizeof(bearer) + strlen(token), 1);
    ok = kmsenv_buffer_add_text(&header, bearer) && kmsenv_buffer_add_text(&header, token);
    if (!ok)
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a token");
    ok = ok && kmsenv_request_add_header(request, "Host", endpoint->authority, err)
         && kmsenv_request_add_header(request, "Accept", "application/json", err)
         && (action->verb == NULL || kmsenv_request_add_header(request, "Content-Type", "application/json", err))
         && kmsenv_request_add_header(request, "Authorization", kmsenv_buffer_text(&header), err);
    kmsenv_buffer_reset(&header);
    return ok;
}

/* --- errors --------------------------------------------------------------- */

/* The inner code says more than the outer one, which is `Forbidden` for many things. */
static const KMSENV_REST_CODE codes[] = {
    { "Unauthorized", KMSENV_SAYS_RENEW, "the token is not accepted; check tenant-id, resource and this machine's clock" },
    { "KeyDisabled", KMSENV_SAYS_DISABLED, "this version of the key is disabled; enable it" },
    { "KeyExpired", KMSENV_SAYS_DISABLED, "this version of the key has expired; set another date, or rotate the key" },
    { "KeyNotYetValid", KMSENV_SAYS_DISABLED, "this version of the key is not valid yet" },
    { "ObjectIsDeletedButRecoverable", KMSENV_SAYS_DISABLED, "the key is deleted; recover it" },
    { "ObjectIsBeingDeleted", KMSENV_SAYS_DISABLED, "the key is being deleted; recover it" },
    { "ForbiddenByPolicy", KMSENV_SAYS_DENIED, "no access policy of the vault allows this; it must allow wrapKey and unwrapKey" },
    { "ForbiddenByRbac", KMSENV_SAYS_DENIED, "no role allows this; assign one with wrap and unwrap on the key" },
    { "ForbiddenByFirewall", KMSENV_SAYS_DENIED, "the firewall of the vault refuses this machine's address" },
    { "ForbiddenByConnection", KMSENV_SAYS_DENIED, "the vault is not open to public networks; use its private endpoint" },
    { "AccessDenied", KMSENV_SAYS_DENIED, "access denied; a role must allow wrap and unwrap on the key" },
    { "Forbidden", KMSENV_SAYS_DENIED, "access denied; a policy or role must allow wrapKey and unwrapKey on the key" },
    { "KeyNotFound", KMSENV_SAYS_NOT_FOUND, "there is no such key, or not that version of it; check key-id" },
    { "NotFound", KMSENV_SAYS_NOT_FOUND, "there is no such key, or not that version of it; check key-id" },
    { "BadParameter", KMSENV_SAYS_REJECTED, "the service does not accept the request; check algorithm, the type of the key and api-version" },
    { "Throttled", KMSENV_SAYS_THROTTLED, "too many requests" },
    { "TooManyRequests", KMSENV_SAYS_THROTTLED, "too many requests" },
    { NULL, 0, KMSENV_VERDICT_FINAL, NULL }
};

/* What means something else when a wrap is opened. */
static const KMSENV_REST_CODE unwrap_codes[] = {
    { "BadParameter", KMSENV_SAYS_WRAP, "the wrapped data key is damaged or not of this version of the key" },
    { NULL, 0, KMSENV_VERDICT_FINAL, NULL }
};

/* The value of a parameter of WWW-Authenticate, in quotes; "" if there is none, or it is not shown for its characters. */
static void challenge_part(const char *challenge, const char *name, char *out, size_t room)
{
    const char *at = strcasestr(challenge, name);
    size_t n = 0;

    out[0] = '\0';
    if (at != NULL && strncmp(at += strlen(name), "=\"", 2) == 0 && (n = strcspn(at += 2, "\"")) < room
        && strspn(at, ALNUM "-._~:/") >= n)
        snprintf(out, room, "%.*s", (int)n, at);
}

/* A token that is refused may be for another tenant or resource than the vault wants: it says so itself. */
static void add_challenge(const KMSENV_REPLY *http, KMSENV_ERROR *err)
{
    char challenge[512], authority[128], resource[128];
    size_t used = strlen(err->text);

    if (!kmsenv_reply_header(http, "WWW-Authenticate", challenge, sizeof(challenge)))
        return;
    challenge_part(challenge, "authorization", authority, sizeof(authority));
    challenge_part(challenge, "resource", resource, sizeof(resource));
    if (authority[0] != '\0' && resource[0] != '\0')
        snprintf(err->text + used, sizeof(err->text) - used, "; the vault wants one for %s, given by %s", resource, authority);
}

static KMSENV_VERDICT judge(const KMSENV_REPLY *http, const KMSENV_JSON *json, const KMSENV_AZURE_ACTION *action, const char *request_id,
                            KMSENV_ERROR *err)
{
    const KMSENV_JSON *error = kmsenv_json_get(json, "error"), *inner = kmsenv_json_get(error, "innererror");
    int unwraps = action->verb != NULL && (strcmp(action->verb, "unwrapkey") == 0 || strcmp(action->verb, "decrypt") == 0);
    char code[64], inner_code[64];
    KMSENV_VERDICT verdict;

    if (inner == NULL)
        inner = kmsenv_json_get(error, "innerError");   /* seen, too */
    kmsenv_text_word(code, sizeof(code), kmsenv_json_text(kmsenv_json_get(error, "code")));
    kmsenv_text_word(inner_code, sizeof(inner_code), kmsenv_json_text(kmsenv_json_get(inner, "code")));
    if (inner_code[0] != '\0' && kmsenv_rest_find_code(codes, inner_code) != NULL)
        memcpy(code, inner_code, sizeof(code));
    if (unwraps && kmsenv_rest_find_code(unwrap_codes, code) != NULL)
        verdict = kmsenv_rest_judge(unwrap_codes, code, http->status, request_id, err);
    else if (kmsenv_rest_find_code(codes, code) == NULL
             && (code[0] == '\0' || http->status == 401 || http->status == 408 || http->status == 429))
        verdict = kmsenv_rest_status(http, err);
    else
        verdict = kmsenv_rest_judge(codes, code, http->status, request_id, err);
    if (http->status == 401) {
        verdict = KMSENV_VERDICT_CREDENTIALS;           /* also without a code: another token may do */
        add_challenge(http, err);
    }
    return verdict;
}

/* --- replies -------------------------------------------------------------- */

static int read_kid(const KMSENV_JSON *json, const KMSENV_AZURE_KEY *expected, KMSENV_AZURE_KEY *key, KMSENV_ERROR *err)
{
    if (!kmsenv_azure_key_parse(key, kmsenv_json_text(kmsenv_json_get(json, "kid"))) || key->version[0] == '\0')
        return kmsenv_result_malformed(err, "no kid, the identifier of a key with its version of 32 hexadecimal digits");
    if (kmsenv_azure_key_equal(expected, key))
        return 1;
    if (strcasecmp(expected->vault, key->vault) == 0)
        return kmsenv_result_wrong_key(err, expected->name);
    return kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "the reply is about another key, in the vault %.100s; if that is the one, "
                            "put its name into key-id, and the one that leads there into endpoint", key->vault);
}

/* The result of an operation is base64url, whichever way it goes. */
static int read_value(const KMSENV_JSON_SECRET *member, unsigned char *out, size_t *n, KMSENV_ERROR *err)
{
    if (!member->found)
        return kmsenv_result_malformed(err, "no value");
    if (kmsenv_base64url_decode(kmsenv_buffer_text(member->value), member->value->length, out, n) && *n > 0)
        return 1;
    return kmsenv_result_malformed(err, "a value that is not base64url, or empty, or longer than expected");
}

static int read_blob(const KMSENV_JSON_SECRET *member, const char *algorithm, const KMSENV_AZURE_KEY *key, KMSENV_BLOB *blob,
                     KMSENV_ERROR *err)
{
    const KMSENV_AZURE_ALGORITHM *known = kmsenv_azure_algorithm_find(algorithm);
    unsigned char bytes[VALUE_MAX / 4 * 3], extra[KMSENV_AZURE_EXTRA_LEN];
    size_t n = sizeof(bytes);

    if (!read_value(member, bytes, &n, err) || !kmsenv_blob_copy(blob, bytes, n, err))
        return 0;
    if (known == NULL)                                 /* nothing that the back end asks for */
        return 1;
    kmsenv_azure_extra_make(extra, known, key->version);
    return kmsenv_blob_extra(blob, extra, sizeof(extra), err);
}

/* Is it of the type that the algorithm needs? "RSA-HSM" is "RSA", too. */
static int is_type(const char *type, const char *wanted)
{
    size_t n = strlen(wanted);

    return type != NULL && strncmp(type, wanted, n) == 0 && (type[n] == '\0' || strcmp(type + n, "-HSM") == 0);
}

static int has_operation(const KMSENV_JSON *key, const char *name)
{
    const KMSENV_JSON *list = kmsenv_json_get(key, "key_ops"), *element;
    const char *text;
    size_t i;

    for (i = 0; (element = kmsenv_json_at(list, i)) != NULL; i++)
        if ((text = kmsenv_json_text(element)) != NULL && strcmp(text, name) == 0)
            return 1;
    return 0;
}

static int read_state(const KMSENV_JSON *json, const KMSENV_AZURE_ALGORITHM *algorithm, int64_t now, KMSENV_ERROR *err)
{
    const KMSENV_JSON *key = kmsenv_json_get(json, "key"), *attributes = kmsenv_json_get(json, "attributes");
    const char *type = kmsenv_json_text(kmsenv_json_get(key, "kty"));
    int enabled = 0;
    int64_t date;

    if (type == NULL || !kmsenv_json_boolean(kmsenv_json_get(attributes, "enabled"), &enabled))
        return kmsenv_result_malformed(err, "not all of key.kty, attributes.enabled");
    if (!enabled)
        return kmsenv_error_set(err, KMSENV_R_KMS_KEY_DISABLED, "this version of the key is disabled: it may still wrap, but what it "
                                "wraps cannot be unwrapped; enable it");
    if (kmsenv_json_number(kmsenv_json_get(attributes, "exp"), &date) && date <= now)
        return kmsenv_error_set(err, KMSENV_R_KMS_KEY_DISABLED, "this version of the key has expired; set another date, or rotate the key");
    if (kmsenv_json_number(kmsenv_json_get(attributes, "nbf"), &date) && date > now)
        return kmsenv_error_set(err, KMSENV_R_KMS_KEY_DISABLED, "this version of the key is not valid yet");
    if (algorithm != NULL && !is_type(type, algorithm->type))
        return kmsenv_error_set(err, KMSENV_R_KMS_REQUEST_REJECTED, "the key is not of the type %s that %s needs; change algorithm or "
                                "key-id", algorithm->type, algorithm->name);
    if (!has_operation(key, "wrapKey") || !has_operation(key, "unwrapKey"))
        return kmsenv_error_set(err, KMSENV_R_KMS_REQUEST_REJECTED, "the key is not for this: its key_ops must have wrapKey and unwrapKey");
    return 1;
}

static int read_result(const KMSENV_JSON *json, const KMSENV_JSON_SECRET *value, const KMSENV_AZURE_ACTION *action, int64_t now,
                       KMSENV_RESULT *result, KMSENV_ERROR *err)
{
    const KMSENV_JSON *about = action->verb == NULL ? kmsenv_json_get(json, "key") : json;
    KMSENV_AZURE_KEY key;

    if (!read_kid(about, action->key, &key, err))
        return 0;
    result->plaintext_len = result->room;
    if ((result->plaintext != NULL && !read_value(value, result->plaintext, &result->plaintext_len, err))
        || (result->blob != NULL && !read_blob(value, action->algorithm, &key, result->blob, err)))
        return 0;
    if (result->state == NULL)
        return 1;
    OPENSSL_strlcpy(result->state, "Enabled", result->state_room);
    return read_state(json, kmsenv_azure_algorithm_find(action->algorithm), now, err);
}

KMSENV_VERDICT kmsenv_azure_result(KMSENV_REPLY *http, const KMSENV_AZURE_ACTION *action, int64_t now, KMSENV_RESULT *result,
                                   KMSENV_ERROR *err)
{
    KMSENV_VERDICT verdict = KMSENV_VERDICT_FINAL;
    KMSENV_BUFFER text;
    KMSENV_JSON_SECRET value = { "value", &text, 0 };
    KMSENV_JSON *json;
    char id[80];

    kmsenv_buffer_init(&text, VALUE_MAX, 1);
    kmsenv_reply_header(http, "x-ms-request-id", id, sizeof(id));
    kmsenv_text_word(result->request_id, sizeof(result->request_id), id);
    json = kmsenv_json_parse(&http->body, &value, action->verb == NULL ? 0 : 1, err);
    if (http->status != 200)
        verdict = judge(http, json, action, result->request_id, err);
    else if (json != NULL && read_result(json, &value, action, now, result, err))
        verdict = KMSENV_VERDICT_OK;
    kmsenv_buffer_reset(&text);
    kmsenv_json_free(json);
    return verdict;
}
