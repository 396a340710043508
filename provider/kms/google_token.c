/* Requests for access tokens of Google Cloud, and what comes back. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "kms/base64.h"
#include "kms/google.h"

#define LIFETIME     3600       /* seconds that a JWT is good for: the service takes no longer ones */
#define LIFETIME_MAX 86400
#define JWT_ROOM     8192
#define FORM         "application/x-www-form-urlencoded;charset=UTF-8"

/* --- JWT ------------------------------------------------------------------ */

static void jwt_header(const KMSENV_GOOGLE_CLAIMS *claims, KMSENV_BUFFER *out)
{
    kmsenv_json_open(out, NULL);
    kmsenv_json_add_text(out, "alg", "RS256");
    if (claims->key_id != NULL) {
        kmsenv_json_add_text(out, "typ", "JWT");
        kmsenv_json_add_text(out, "kid", claims->key_id);
    }
    kmsenv_json_close(out);
}

static void jwt_payload(const KMSENV_GOOGLE_CLAIMS *claims, int64_t now, KMSENV_BUFFER *out)
{
    kmsenv_json_open(out, NULL);
    kmsenv_json_add_text(out, "iss", claims->issuer);
    kmsenv_json_add_text_if(out, "sub", claims->subject);
    kmsenv_json_add_text_if(out, "scope", claims->scope);
    kmsenv_json_add_text(out, "aud", claims->audience);
    kmsenv_json_add_number(out, "exp", now + LIFETIME);
    kmsenv_json_add_number(out, "iat", now);
    kmsenv_json_close(out);
}

int kmsenv_google_jwt(const KMSENV_SIGNER *signer, const KMSENV_GOOGLE_CLAIMS *claims, int64_t now, KMSENV_BUFFER *out,
                      int64_t *expires, KMSENV_ERROR *err)
{
    KMSENV_BUFFER header, payload, signature;
    int ok;

    kmsenv_buffer_init(&header, JWT_ROOM, 0);
    kmsenv_buffer_init(&payload, JWT_ROOM, 0);
    kmsenv_buffer_init(&signature, JWT_ROOM, 1);
    jwt_header(claims, &header);
    jwt_payload(claims, now, &payload);
    ok = !header.failed && !payload.failed && kmsenv_base64url_add(out, header.data, header.length)
         && kmsenv_buffer_add_text(out, ".") && kmsenv_base64url_add(out, payload.data, payload.length);
    if (!ok)
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "what a token says of the service account is too long");
    ok = ok && kmsenv_signer_sign(signer, out->data, out->length, &signature, err);
    if (ok && !(kmsenv_buffer_add_text(out, ".") && kmsenv_base64url_add(out, signature.data, signature.length)))
        ok = kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a token");
    kmsenv_buffer_reset(&header);
    kmsenv_buffer_reset(&payload);
    kmsenv_buffer_reset(&signature);
    *expires = now + LIFETIME;
    return ok;
}

/* --- bodies --------------------------------------------------------------- */

static int finish_form(const KMSENV_BUFFER *body, KMSENV_ERROR *err)
{
    return !body->failed || kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "what is to be exchanged for a token is too long");
}

int kmsenv_google_assertion_form(const char *jwt, KMSENV_BUFFER *body, KMSENV_ERROR *err)
{
    kmsenv_form_add(body, "grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
    kmsenv_form_add(body, "assertion", jwt);
    return finish_form(body, err);
}

int kmsenv_google_refresh_form(const char *refresh_token, const char *client_id, const char *client_secret, KMSENV_BUFFER *body,
                               KMSENV_ERROR *err)
{
    kmsenv_form_add(body, "refresh_token", refresh_token);
    kmsenv_form_add(body, "client_id", client_id);
    kmsenv_form_add(body, "client_secret", client_secret);
    kmsenv_form_add(body, "grant_type", "refresh_token");
    return finish_form(body, err);
}

int kmsenv_google_exchange_form(const char *audience, const char *scope, const char *subject_token, const char *subject_token_type,
                                KMSENV_BUFFER *body, KMSENV_ERROR *err)
{
    kmsenv_form_add(body, "grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
    kmsenv_form_add(body, "audience", audience);
    kmsenv_form_add(body, "scope", scope);
    kmsenv_form_add(body, "requested_token_type", "urn:ietf:params:oauth:token-type:access_token");
    kmsenv_form_add(body, "subject_token", subject_token);
    kmsenv_form_add(body, "subject_token_type", subject_token_type);
    return finish_form(body, err);
}

int kmsenv_google_impersonate_body(const char *scope, int64_t seconds, const KMSENV_JSON *delegates, KMSENV_BUFFER *body,
                                   KMSENV_ERROR *err)
{
    const KMSENV_JSON *delegate;
    char lifetime[24];
    size_t i;

    snprintf(lifetime, sizeof(lifetime), "%" PRId64 "s", seconds);
    kmsenv_json_open(body, NULL);
    if (kmsenv_json_at(delegates, 0) != NULL) {
        kmsenv_json_open_list(body, "delegates");
        for (i = 0; (delegate = kmsenv_json_at(delegates, i)) != NULL; i++) {
            if (kmsenv_json_text(delegate) == NULL)
                return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "delegates has something that is not a text");
            kmsenv_json_add_text(body, NULL, kmsenv_json_text(delegate));
        }
        kmsenv_json_close_list(body);
    }
    kmsenv_json_open_list(body, "scope");
    kmsenv_json_add_text(body, NULL, scope);
    kmsenv_json_close_list(body);
    kmsenv_json_add_text(body, "lifetime", lifetime);
    kmsenv_json_close(body);
    return kmsenv_json_finish(body, err);
}

int kmsenv_google_token_frame(const KMSENV_ENDPOINT *endpoint, const char *path, const char *token, KMSENV_REQUEST *request,
                              KMSENV_ERROR *err)
{
    kmsenv_buffer_printf(&request->target, "%s%s", endpoint->path, path);
    return kmsenv_request_add_header(request, "Host", endpoint->authority, err)
           && kmsenv_request_add_header(request, "Content-Type", token == NULL ? FORM : "application/json", err)
           && (token == NULL || kmsenv_google_authorize(request, token, err))
           && kmsenv_request_check(request, err);
}

/* --- replies -------------------------------------------------------------- */

#define SAYS_NO_API "the API that gives tokens of service accounts (iamcredentials.googleapis.com) is not enabled; enable it"

/* Of oauth2 and sts in lower case, of iamcredentials in upper case. Nothing here says anything of a key. */
static const KMSENV_REST_CODE codes[] = {
    { "invalid_grant", KMSENV_SAYS_CREDENTIALS,
      "what was to be exchanged for a token is refused: deleted, revoked, expired, or not trusted by that pool" },
    { "invalid_client", KMSENV_SAYS_CREDENTIALS, "client_id and client_secret do not belong together; sign in anew" },
    { "unauthorized_client", KMSENV_SAYS_CREDENTIALS, "the account may not have such tokens" },
    { "invalid_scope", KMSENV_SAYS_CREDENTIALS, "the scope is unknown; check scope" },
    { "invalid_target", KMSENV_SAYS_CREDENTIALS, "the pool or provider in audience does not exist or is disabled" },
    { "invalid_request", KMSENV_SAYS_CREDENTIALS, "the token or the credentials file is not what the service expects" },
    { "access_denied", KMSENV_SAYS_CREDENTIALS, "the account may not have such tokens" },
    { "internal_failure", KMSENV_SAYS_LATER, "a fault inside the service" },
    { "temporarily_unavailable", KMSENV_SAYS_LATER, "the service is temporarily unavailable" },
    { "CLOCK", KMSENV_SAYS_CLOCK, "the credentials are refused, and this machine's clock is more than a minute off; set it (NTP)" },
    { "RESOURCE_EXHAUSTED", KMSENV_SAYS_THROTTLED, "too many requests for tokens" },
    { "UNAVAILABLE", KMSENV_SAYS_LATER, "the service is temporarily unavailable" },
    { "INTERNAL", KMSENV_SAYS_LATER, "a fault inside the service" },
    { "DEADLINE_EXCEEDED", KMSENV_SAYS_LATER, "the service timed out" },
    { "PERMISSION_DENIED", KMSENV_SAYS_CREDENTIALS,
      "this identity may not act as the service account; it needs the role Service Account Token Creator or Workload Identity User on it" },
    { "PERMISSION_DENIED.SERVICE_DISABLED", KMSENV_SAYS_CREDENTIALS, SAYS_NO_API },
    { "NOT_FOUND", KMSENV_SAYS_CREDENTIALS, "there is no such service account" },
    { "UNAUTHENTICATED", KMSENV_SAYS_CREDENTIALS, "the token that stands for this identity is not accepted" },
    { "FAILED_PRECONDITION", KMSENV_SAYS_CREDENTIALS, "the service account is disabled, or its organisation does not allow this" },
    { "INVALID_ARGUMENT", KMSENV_SAYS_CREDENTIALS, "the service does not accept scope or lifetime" },
    { NULL, 0, KMSENV_VERDICT_FINAL, NULL }
};

void kmsenv_google_token_init(KMSENV_GOOGLE_TOKEN *token)
{
    token->expires = 0;
    kmsenv_buffer_init(&token->text, KMSENV_GOOGLE_TOKEN_MAX, 1);
}

void kmsenv_google_token_reset(KMSENV_GOOGLE_TOKEN *token)
{
    kmsenv_buffer_reset(&token->text);
}

/* The end of a token by our clock. When it is given as a time, the service's own clock is what counts. */
static int read_end(const KMSENV_REPLY *http, const KMSENV_JSON *json, int64_t now, int64_t *expires)
{
    int64_t date = kmsenv_reply_date(http), seconds, end;

    if (kmsenv_text_time(kmsenv_json_text(kmsenv_json_get(json, "expireTime")), &end))
        seconds = end - (date == 0 ? now : date);
    else if (!kmsenv_json_number(kmsenv_json_get(json, "expires_in"), &seconds))
        return 0;
    if (seconds < 1 || seconds > LIFETIME_MAX)
        return 0;
    *expires = now + seconds;
    return 1;
}

static int read_token(const KMSENV_REPLY *http, const KMSENV_JSON *json, int64_t now, KMSENV_GOOGLE_TOKEN *out, KMSENV_ERROR *err)
{
    const char *type = kmsenv_json_text(kmsenv_json_get(json, "token_type"));

    if (out->text.length == 0 || (type != NULL && strcasecmp(type, "Bearer") != 0))
        return kmsenv_result_malformed(err, "no access token; check token-endpoint or metadata-endpoint");
    return read_end(http, json, now, &out->expires)
           || kmsenv_result_malformed(err, "no sensible time at which the token expires");
}

KMSENV_VERDICT kmsenv_google_token_result(KMSENV_REPLY *http, int64_t now, KMSENV_GOOGLE_TOKEN *out, KMSENV_ERROR *err)
{
    KMSENV_JSON_SECRET secrets[] = { { "access_token", &out->text, 0 }, { "accessToken", &out->text, 0 } };
    KMSENV_VERDICT verdict = KMSENV_VERDICT_FINAL;
    KMSENV_JSON *json;
    char code[128];

    kmsenv_buffer_reset(&out->text);
    json = kmsenv_json_parse(&http->body, secrets, 2, err);
    kmsenv_google_code(json, code, sizeof(code));
    if (strcmp(code, "invalid_grant") == 0 && kmsenv_google_is_clock(http, now))
        verdict = kmsenv_rest_judge(codes, "CLOCK", http->status, "", err);
    else if (code[0] != '\0')
        verdict = kmsenv_rest_judge(codes, code, http->status, "", err);
    else if (http->status != 200)
        verdict = kmsenv_rest_status(http, err);
    else if (json != NULL && read_token(http, json, now, out, err))
        verdict = KMSENV_VERDICT_OK;
    if (verdict != KMSENV_VERDICT_OK)
        kmsenv_buffer_reset(&out->text);
    kmsenv_json_free(json);
    return verdict;
}
