/*
 * Files of credentials, as Google's tools write them. Such a file names hosts, and gets here from
 * others at times: see kmsenv_google_service_url() for those that are shown a credential.
 */
#include <stdio.h>
#include <string.h>
#include "core/clock.h"
#include "kms/google.h"

#define PRIVATE_KEY_MAX 16384
#define LIFETIME        3600     /* seconds, of a token of another service account; what may be asked for: */
#define LIFETIME_MIN    600
#define LIFETIME_MAX    43200

void kmsenv_google_file_reset(KMSENV_GOOGLE_FILE *file)
{
    kmsenv_json_free(file->json);
    file->json = NULL;
    kmsenv_buffer_reset(&file->private_key);
    kmsenv_buffer_reset(&file->client_secret);
    kmsenv_buffer_reset(&file->refresh_token);
    kmsenv_buffer_reset(&file->authorization);
}

int kmsenv_google_file_parse(KMSENV_GOOGLE_FILE *file, KMSENV_BUFFER *text, KMSENV_ERROR *err)
{
    KMSENV_JSON_SECRET secrets[] = {
        { "private_key", &file->private_key, 0 }, { "client_secret", &file->client_secret, 0 },
        { "refresh_token", &file->refresh_token, 0 }, { "Authorization", &file->authorization, 0 },
        { "authorization", &file->authorization, 0 }
    };

    memset(file, 0, sizeof(*file));
    kmsenv_buffer_init(&file->private_key, PRIVATE_KEY_MAX, 1);
    kmsenv_buffer_init(&file->client_secret, KMSENV_GOOGLE_TOKEN_MAX, 1);
    kmsenv_buffer_init(&file->refresh_token, KMSENV_GOOGLE_TOKEN_MAX, 1);
    kmsenv_buffer_init(&file->authorization, KMSENV_GOOGLE_TOKEN_MAX, 1);
    file->json = kmsenv_json_parse(text, secrets, sizeof(secrets) / sizeof(secrets[0]), err);
    if (file->json != NULL)
        return 1;
    if (err == NULL || err->reason != KMSENV_R_KMS_REPLY_MALFORMED)
        return 0;
    return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "not a JSON file with credentials of Google Cloud");
}

/* --- asking a service ----------------------------------------------------- */

typedef struct job_st {
    const KMSENV_GOOGLE_ASK *ask;
    const KMSENV_ENDPOINT *endpoint;
    const char *path;
    int64_t sent;
    KMSENV_GOOGLE_TOKEN *out;
} JOB;

static int build(void *arg, int64_t now, const KMSENV_CREDENTIAL *credential, KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    JOB *job = arg;

    (void)credential;
    job->sent = now;
    request->secret = 1;
    return job->ask->make(job->ask->arg, now, &request->body, err)
           && kmsenv_google_token_frame(job->endpoint, job->path, job->ask->token, request, err);
}

static KMSENV_VERDICT parse(void *arg, KMSENV_REPLY *reply, KMSENV_ERROR *err)
{
    const JOB *job = arg;

    return kmsenv_google_token_result(reply, job->sent, job->out, err);
}

int kmsenv_google_ask(const KMSENV_GOOGLE_WISH *wish, const KMSENV_GOOGLE_ASK *ask, KMSENV_GOOGLE_TOKEN *out, KMSENV_ERROR *err)
{
    KMSENV_REST rest = { .http = wish->chain->http };
    JOB job = { .ask = ask, .endpoint = &rest.endpoint, .out = out };
    const KMSENV_REST_CALL call = { build, parse, &job };
    unsigned attempts = 0;

    if (!kmsenv_google_service_url(ask->url, ask->service, wish->chain->universe, ask->what, &rest.endpoint, &job.path, err))
        return 0;
    if (wish->chain->has_tokens)
        rest.endpoint = wish->chain->tokens;
    atomic_store(&rest.clock_offset, wish->now - kmsenv_clock_unix());
    if (kmsenv_rest_perform(&rest, &call, wish->deadline_ms, &attempts, err)) {
        out->expires += wish->now - job.sent;      /* by the clock of whoever asks, also if another had to be used here */
        return 1;
    }
    if (err->reason == KMSENV_R_KMS_ACCESS_DENIED || err->reason == KMSENV_R_KMS_KEY_NOT_FOUND
        || err->reason == KMSENV_R_KMS_REQUEST_REJECTED)
        err->reason = KMSENV_R_KMS_CREDENTIALS;    /* it says nothing about the key */
    return kmsenv_error_prefix(err, "token from %s: ", ask->service);
}

static int missing(KMSENV_ERROR *err, const char *type, const char *what)
{
    return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "credentials of type %s need %s", type, what);
}

/* --- service_account ------------------------------------------------------ */

typedef struct assertion_st {
    const KMSENV_SIGNER *signer;
    KMSENV_GOOGLE_CLAIMS claims;
} ASSERTION;

static int make_assertion(const void *arg, int64_t now, KMSENV_BUFFER *body, KMSENV_ERROR *err)
{
    const ASSERTION *a = arg;
    KMSENV_GOOGLE_TOKEN jwt;
    int ok;

    kmsenv_google_token_init(&jwt);
    ok = kmsenv_google_jwt(a->signer, &a->claims, now, &jwt.text, &jwt.expires, err)
         && kmsenv_google_assertion_form(kmsenv_buffer_text(&jwt.text), body, err);
    kmsenv_google_token_reset(&jwt);
    return ok;
}

/* A token that is signed here will do for the KMS, and spares a call; another service, or another scope, has to be asked for one. */
static int sign_in(const KMSENV_GOOGLE_WISH *wish, const KMSENV_JSON *json, const KMSENV_SIGNER *signer, const char *email,
                   KMSENV_GOOGLE_TOKEN *out, KMSENV_ERROR *err)
{
    const char *set = kmsenv_json_text(kmsenv_json_get(json, "token_uri"));
    char usual[KMSENV_GOOGLE_UNIVERSE_MAX + 32], audience[KMSENV_GOOGLE_UNIVERSE_MAX + 32];
    ASSERTION a = { signer, { NULL, email, NULL, wish->scope, set == NULL ? usual : set } };
    const KMSENV_GOOGLE_CLAIMS direct = { kmsenv_json_text(kmsenv_json_get(json, "private_key_id")), email, email, NULL, audience };
    const KMSENV_GOOGLE_ASK ask = { "oauth2", "token_uri", a.claims.audience, NULL, make_assertion, &a };

    snprintf(usual, sizeof(usual), "https://oauth2.%s/token", wish->chain->universe);
    snprintf(audience, sizeof(audience), "https://cloudkms.%s/", wish->chain->universe);
    if (!wish->self_signed)
        return kmsenv_google_ask(wish, &ask, out, err);
    return kmsenv_google_jwt(signer, &direct, wish->now, &out->text, &out->expires, err);
}

static int from_service_account(const KMSENV_GOOGLE_WISH *wish, const KMSENV_JSON *json, KMSENV_GOOGLE_TOKEN *out, KMSENV_ERROR *err)
{
    const char *email = kmsenv_json_text(kmsenv_json_get(json, "client_email"));
    const KMSENV_BUFFER *pem = &wish->file->private_key;
    KMSENV_SIGNER *signer;
    int ok;

    if (email == NULL || pem->length == 0)
        return missing(err, "service_account", "client_email and private_key");
    signer = kmsenv_signer_from_pem(wish->chain->crypto, pem->data, pem->length, err);
    ok = signer != NULL && sign_in(wish, json, signer, email, out, err);
    kmsenv_signer_free(signer);
    return ok;
}

/* --- authorized_user ------------------------------------------------------ */

typedef struct user_st { const char *client_id, *client_secret, *refresh_token; } USER;

static int make_refresh(const void *arg, int64_t now, KMSENV_BUFFER *body, KMSENV_ERROR *err)
{
    const USER *u = arg;

    (void)now;
    return kmsenv_google_refresh_form(u->refresh_token, u->client_id, u->client_secret, body, err);
}

static int from_user(const KMSENV_GOOGLE_WISH *wish, const KMSENV_JSON *json, KMSENV_GOOGLE_TOKEN *out, KMSENV_ERROR *err)
{
    const char *set = kmsenv_json_text(kmsenv_json_get(json, "token_uri"));
    const USER user = { kmsenv_json_text(kmsenv_json_get(json, "client_id")), kmsenv_buffer_text(&wish->file->client_secret),
                        kmsenv_buffer_text(&wish->file->refresh_token) };
    char usual[KMSENV_GOOGLE_UNIVERSE_MAX + 32];
    const KMSENV_GOOGLE_ASK ask = { "oauth2", "token_uri", set == NULL ? usual : set, NULL, make_refresh, &user };

    if (user.client_id == NULL || *user.client_secret == '\0' || *user.refresh_token == '\0')
        return missing(err, "authorized_user", "client_id, client_secret and refresh_token");
    snprintf(usual, sizeof(usual), "https://oauth2.%s/token", wish->chain->universe);
    return kmsenv_google_ask(wish, &ask, out, err);
}

/* --- impersonated_service_account ----------------------------------------- */

typedef struct impersonation_st { const char *scope; int64_t seconds; const KMSENV_JSON *delegates; } IMPERSONATION;

static int make_impersonation(const void *arg, int64_t now, KMSENV_BUFFER *body, KMSENV_ERROR *err)
{
    const IMPERSONATION *i = arg;

    (void)now;
    return kmsenv_google_impersonate_body(i->scope, i->seconds, i->delegates, body, err);
}

int kmsenv_google_impersonate(const KMSENV_GOOGLE_WISH *wish, const KMSENV_JSON *json, const char *token, KMSENV_GOOGLE_TOKEN *out,
                              KMSENV_ERROR *err)
{
    const KMSENV_JSON *more = kmsenv_json_get(json, "service_account_impersonation");
    const KMSENV_JSON *seconds = kmsenv_json_get(more, "token_lifetime_seconds");
    IMPERSONATION i = { wish->scope, LIFETIME, kmsenv_json_get(json, "delegates") };
    const KMSENV_GOOGLE_ASK ask = { "iamcredentials", "service_account_impersonation_url",
                                    kmsenv_json_text(kmsenv_json_get(json, "service_account_impersonation_url")), token,
                                    make_impersonation, &i };

    if (ask.url == NULL)
        return missing(err, "impersonated_service_account", "service_account_impersonation_url");
    if (seconds != NULL && (!kmsenv_json_number(seconds, &i.seconds) || i.seconds < LIFETIME_MIN || i.seconds > LIFETIME_MAX))
        return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "token_lifetime_seconds is not a number from %d to %d", LIFETIME_MIN,
                                LIFETIME_MAX);
    return kmsenv_google_ask(wish, &ask, out, err);
}

static int from_impersonated(const KMSENV_GOOGLE_WISH *wish, const KMSENV_JSON *json, KMSENV_GOOGLE_TOKEN *out, KMSENV_ERROR *err)
{
    const KMSENV_JSON *source = kmsenv_json_get(json, "source_credentials");
    const char *type = kmsenv_json_text(kmsenv_json_get(source, "type"));
    KMSENV_GOOGLE_WISH other = *wish;
    KMSENV_GOOGLE_TOKEN token;
    int ok;

    if (type == NULL || strcmp(type, "impersonated_service_account") == 0)
        return missing(err, "impersonated_service_account", "source_credentials of another type");
    other.scope = KMSENV_GOOGLE_SCOPE_ALL;
    other.self_signed = 0;
    kmsenv_google_token_init(&token);
    ok = kmsenv_google_file_token(&other, source, &token, err)
         && kmsenv_google_impersonate(wish, json, kmsenv_buffer_text(&token.text), out, err);
    kmsenv_google_token_reset(&token);
    return ok;
}

/* --- types ---------------------------------------------------------------- */

static const struct {
    const char *type;
    int (*get)(const KMSENV_GOOGLE_WISH *wish, const KMSENV_JSON *json, KMSENV_GOOGLE_TOKEN *out, KMSENV_ERROR *err);
} types[] = {
    { "service_account", from_service_account },
    { "authorized_user", from_user },
    { "external_account", kmsenv_google_from_external },
    { "impersonated_service_account", from_impersonated },
};

int kmsenv_google_file_token(const KMSENV_GOOGLE_WISH *wish, const KMSENV_JSON *json, KMSENV_GOOGLE_TOKEN *out, KMSENV_ERROR *err)
{
    const char *type = kmsenv_json_text(kmsenv_json_get(json, "type"));
    const char *universe = kmsenv_json_text(kmsenv_json_get(json, "universe_domain"));
    char shown[64];
    size_t i;

    if (universe != NULL && strcmp(universe, wish->chain->universe) != 0) {
        kmsenv_text_word(shown, sizeof(shown), universe);
        return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "the credentials are for the universe %s, and universe-domain is %s; "
                                "set it to the other if that is meant", shown, wish->chain->universe);
    }
    for (i = 0; type != NULL && i < sizeof(types) / sizeof(types[0]); i++)
        if (strcmp(type, types[i].type) == 0)
            return types[i].get(wish, json, out, err);
    kmsenv_text_word(shown, sizeof(shown), type);
    return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "credentials of type '%s'; accepted: service_account, authorized_user, "
                            "external_account, impersonated_service_account", shown);
}
