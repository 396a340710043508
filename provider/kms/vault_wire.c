/* Requests and replies of the secrets engine transit of HashiCorp Vault and OpenBao. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <openssl/crypto.h>
#include "kms/base64.h"
#include "kms/vault.h"

#define BASE64_MAX 65536    /* characters of a plaintext */

/* --- requests ------------------------------------------------------------- */

static int is_name_byte(char c)
{
    return isalnum((unsigned char)c) || (c != '\0' && strchr("_-.", c) != NULL);
}

/* The service's own rule: letters, digits, '_', and inside also '-' and '.'. */
int kmsenv_vault_is_key_name(const char *text)
{
    size_t i, n = strlen(text);

    for (i = 0; i < n; i++)
        if (!is_name_byte(text[i]) || ((i == 0 || i + 1 == n) && (text[i] == '-' || text[i] == '.')))
            return 0;
    return n > 0 && n <= KMSENV_NAME_MAX;
}

/* Segments of ordinary characters; none of them empty, "." or "..". */
int kmsenv_vault_mount(const char *text, char *out, size_t room)
{
    size_t i, n, segment = 0;

    text += strspn(text, "/");
    n = strlen(text);
    while (n > 0 && text[n - 1] == '/')
        n--;
    if (n == 0 || n >= room)
        return 0;
    for (i = 0; i < n; i++) {
        if (text[i] == '/' ? i == segment : !is_name_byte(text[i]))
            return 0;
        if (text[i] == '/')
            segment = i + 1;
        else if (i == segment && text[i] == '.')
            return 0;
    }
    memcpy(out, text, n);
    out[n] = '\0';
    return 1;
}

int kmsenv_vault_path(const char *mount, const char *verb, const char *key, char *out, size_t room, KMSENV_ERROR *err)
{
    int n = snprintf(out, room, "%s/%s/%s", mount, verb, key);

    if (kmsenv_vault_is_key_name(key) && n > 0 && (size_t)n < room)
        return 1;
    return kmsenv_error_set(err, KMSENV_R_KMS_WRAP_REJECTED, "the id of the key is not one of Vault: those are letters, digits, "
                            "'_', '-' and '.'");
}

/* "vault:v1:" and base64. What is anything else did not come from this service. */
static int is_ciphertext(const unsigned char *text, size_t n)
{
    size_t i = 7;

    if (n < 11 || n > KMSENV_CIPHERTEXT_MAX || memcmp(text, "vault:v", 7) != 0)
        return 0;
    while (i < n && isdigit(text[i]))
        i++;
    if (i == 7 || i + 1 >= n || text[i++] != ':')
        return 0;
    for (; i < n; i++)
        if (!isalnum(text[i]) && text[i] != '+' && text[i] != '/' && text[i] != '=')
            return 0;
    return 1;
}

static void add_bytes(KMSENV_BUFFER *body, const char *name, const KMSENV_BUFFER *bytes)
{
    if (bytes != NULL && bytes->length > 0)
        kmsenv_json_add_base64(body, name, bytes->data, bytes->length);
}

int kmsenv_vault_body(const KMSENV_VAULT_PARAMETERS *p, KMSENV_BUFFER *body, KMSENV_ERROR *err)
{
    if (p->ciphertext != NULL && !is_ciphertext(p->ciphertext, p->ciphertext_len))
        return kmsenv_error_set(err, KMSENV_R_KMS_WRAP_REJECTED, "the wrapped data key is not one of Vault: those begin with "
                                "vault:v1: (or another version) and have at most %d bytes", KMSENV_CIPHERTEXT_MAX);
    kmsenv_json_open(body, NULL);
    if (p->bits > 0)
        kmsenv_json_add_number(body, "bits", (int64_t)p->bits);
    if (p->plaintext != NULL)
        kmsenv_json_add_base64(body, "plaintext", p->plaintext, p->plaintext_len);
    if (p->ciphertext != NULL)
        kmsenv_json_add_bytes(body, "ciphertext", p->ciphertext, p->ciphertext_len);
    add_bytes(body, "context", p->context);
    add_bytes(body, "associated_data", p->associated_data);
    kmsenv_json_close(body);
    return kmsenv_json_finish(body, err);
}

int kmsenv_vault_frame(const KMSENV_VAULT_TARGET *target, const char *path, const char *token, KMSENV_REQUEST *request,
                       KMSENV_ERROR *err)
{
    int has_body = request->body.length > 0;

    request->method = has_body ? "POST" : "GET";
    kmsenv_buffer_printf(&request->target, "%s/v1/%s", target->endpoint->path, path);
    return kmsenv_request_add_header(request, "Host", target->endpoint->authority, err)
           && (!has_body || kmsenv_request_add_header(request, "Content-Type", "application/json", err))
           && kmsenv_request_add_header(request, "X-Vault-Request", "true", err)   /* an agent in between may insist on it */
           && (target->space == NULL || kmsenv_request_add_header(request, "X-Vault-Namespace", target->space, err))
           && (token == NULL || kmsenv_request_add_header(request, "X-Vault-Token", token, err));
}

/* --- errors --------------------------------------------------------------- */


/* There are no error codes: words in the texts have to do. The first row that fits counts; words "" fit always. */
static const struct fault_st { int status; const char *words; int reason; KMSENV_VERDICT verdict; const char *text; } faults[] = {
    { 400, "encryption key not found", KMSENV_SAYS_NOT_FOUND, "there is no such transit key; check key-id, mount and namespace" },
    { 400, "policy not found", KMSENV_SAYS_NOT_FOUND, "there is no such transit key; check key-id, mount and namespace" },
    { 400, "deleted", KMSENV_SAYS_DISABLED, "the transit key is deleted; restore it" },
    { 400, "message authentication failed", KMSENV_SAYS_WRAP,
      "the wrapped data key is damaged, from elsewhere, or its encryption context is not the one given" },
    { 400, "disallowed by policy", KMSENV_SAYS_DISABLED, "this version of the transit key is disabled: its min_decryption_version or "
      "min_encryption_version is higher" },
    { 400, "invalid ciphertext", KMSENV_SAYS_WRAP, "the wrapped data key is damaged or from elsewhere" },
    { 400, "missing 'context'", KMSENV_SAYS_REJECTED, "the transit key derives keys from a context; set derived = yes" },
    { 400, "context", KMSENV_SAYS_REJECTED, "the service does not accept the context; check derived" },
    { 400, "associated_data", KMSENV_SAYS_REJECTED, "a key of this type cannot bind an encryption context; use one of type aes256-gcm96" },
    { 400, "invalid role", KMSENV_SAYS_CREDENTIALS, "the sign-in is not accepted; check role-id, secret-id or kubernetes-role" },
    { 400, "secret id", KMSENV_SAYS_CREDENTIALS, "the sign-in is not accepted: the SecretID is wrong, expired or used up" },
    { 400, "", KMSENV_SAYS_REJECTED, "the service does not accept the request" },
    { 403, "invalid token", KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_CREDENTIALS, "the token has expired or is none" },
    { 403, "", KMSENV_R_KMS_ACCESS_DENIED, KMSENV_VERDICT_CREDENTIALS,
      "permission denied: a policy does not allow this on this path, or the token has expired" },
    { 404, "no handler", KMSENV_SAYS_NOT_FOUND, "no transit engine is mounted there; check mount and namespace" },
    { 404, "", KMSENV_SAYS_NOT_FOUND, "there is no such transit key or mount; check key-id, mount and namespace" },
    { 405, "", KMSENV_SAYS_REJECTED, "what answers there is not the transit engine; check endpoint and mount" },
    { 412, "", KMSENV_SAYS_LATER, "the server is behind the others" },
    { 472, "", KMSENV_SAYS_LATER, "the server is a standby for disaster recovery" },
    { 473, "", KMSENV_SAYS_LATER, "the server is a standby" },
    { 503, "sealed", KMSENV_SAYS_LATER, "the server is sealed; unseal it" },
    { 0, NULL, 0, KMSENV_VERDICT_FINAL, NULL }
};

static KMSENV_VERDICT judge(const KMSENV_REPLY *http, const char *texts, KMSENV_ERROR *err)
{
    const struct fault_st *f;

    for (f = faults; f->words != NULL; f++) {
        if (f->status != http->status || strcasestr(texts, f->words) == NULL)
            continue;
        kmsenv_error_set(err, f->reason, "HTTP status %d: %s", http->status, f->text);
        return f->verdict;
    }
    return kmsenv_rest_status(http, err);
}

/* --- replies -------------------------------------------------------------- */

/* Texts of errors stay inside: what another party writes is not shown, only searched. */
KMSENV_VERDICT kmsenv_vault_parse(KMSENV_REPLY *http, KMSENV_JSON_SECRET *secrets, size_t count, KMSENV_VAULT_REPLY *reply,
                                  KMSENV_ERROR *err)
{
    memset(reply, 0, sizeof(*reply));
    if ((reply->json = kmsenv_json_parse(&http->body, secrets, count, err)) == NULL)
        return http->status == 200 ? KMSENV_VERDICT_FINAL : kmsenv_rest_status(http, err);
    kmsenv_text_word(reply->request_id, sizeof(reply->request_id), kmsenv_json_text(kmsenv_json_get(reply->json, "request_id")));
    if (http->status != 200)
        return judge(http, kmsenv_buffer_text(&http->body), err);
    if (kmsenv_json_get(reply->json, "errors") == NULL)
        return KMSENV_VERDICT_OK;
    kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "the reply has HTTP status 200 and errors; check endpoint");
    return KMSENV_VERDICT_FINAL;
}

void kmsenv_vault_reply_reset(KMSENV_VAULT_REPLY *reply)
{
    kmsenv_json_free(reply->json);
    memset(reply, 0, sizeof(*reply));
}

static int read_blob(const KMSENV_JSON *data, KMSENV_BLOB *blob, KMSENV_ERROR *err)
{
    const char *text = kmsenv_json_text(kmsenv_json_get(data, "ciphertext"));
    size_t n = text == NULL ? 0 : strlen(text);

    if (text == NULL || !is_ciphertext((const unsigned char *)text, n))
        return kmsenv_result_malformed(err, "no ciphertext of the form vault:v1:... with at most 16384 bytes");
    return kmsenv_blob_copy(blob, text, n, err);
}

static int read_key(const KMSENV_JSON *data, KMSENV_VAULT_KEY *key, KMSENV_ERROR *err)
{
    const char *name = kmsenv_json_text(kmsenv_json_get(data, "name"));
    int encrypts, deleted = 0;
    int64_t latest;

    if (!kmsenv_json_number(kmsenv_json_get(data, "latest_version"), &latest) || latest < 1
        || !kmsenv_json_boolean(kmsenv_json_get(data, "supports_encryption"), &encrypts)
        || !kmsenv_json_boolean(kmsenv_json_get(data, "derived"), &key->derived))
        return kmsenv_result_malformed(err, "not all of latest_version, supports_encryption, derived");
    if (name != NULL && strcmp(name, key->name) != 0)
        return kmsenv_result_wrong_key(err, key->name);
    if (kmsenv_json_boolean(kmsenv_json_get(data, "soft_deleted"), &deleted) && deleted)
        return kmsenv_error_set(err, KMSENV_R_KMS_KEY_DISABLED, "the transit key is deleted; restore it");
    if (!encrypts)
        return kmsenv_error_set(err, KMSENV_R_KMS_REQUEST_REJECTED, "the transit key is not for encryption; use one of type aes256-gcm96");
    return 1;
}

KMSENV_VERDICT kmsenv_vault_result(KMSENV_REPLY *http, KMSENV_VAULT_KEY *key, KMSENV_RESULT *result, KMSENV_ERROR *err)
{
    KMSENV_VAULT_REPLY reply;
    KMSENV_BUFFER plaintext;
    KMSENV_JSON_SECRET secret = { "plaintext", &plaintext, 0 };
    const KMSENV_JSON *data;
    KMSENV_VERDICT verdict;

    kmsenv_buffer_init(&plaintext, BASE64_MAX, 1);
    verdict = kmsenv_vault_parse(http, &secret, 1, &reply, err);
    memcpy(result->request_id, reply.request_id, sizeof(result->request_id));
    data = kmsenv_json_get(reply.json, "data");
    if (verdict == KMSENV_VERDICT_OK
        && ((data == NULL && !kmsenv_result_malformed(err, "no member data; check endpoint"))
            || (result->plaintext != NULL && !kmsenv_result_plaintext(result, &secret, err))
            || (result->blob != NULL && !read_blob(data, result->blob, err))
            || (key != NULL && !read_key(data, key, err))))
        verdict = KMSENV_VERDICT_FINAL;
    kmsenv_buffer_reset(&plaintext);
    kmsenv_vault_reply_reset(&reply);
    return verdict;
}
