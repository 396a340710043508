/*
 * Tokens for Vault and OpenBao: given ones, and those of a sign-in. A token that came from a sign-in
 * is renewed as long as that is worth while; then the sign-in is made anew. A given token belongs to
 * whoever gave it: it is used as it is, and read again when the service no longer takes it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <openssl/crypto.h>
#include "core/secret.h"
#include "kms/vault.h"

#define TOKEN_MAX 8192       /* tokens, also those of Kubernetes */
#define ID_MAX    512

struct kmsenv_vault_chain_st {
    const KMSENV_SECTION *section;
    const KMSENV_VAULT_TARGET *target;
    KMSENV_REST login;                 /* without credentials of its own */
    char approle[256], kubernetes[256];/* mounts */
    /* The last sign-in. Only the one thread that loads credentials touches it (credentials.c). */
    char *token;                       /* secret memory; NULL = none, or not renewable */
    int64_t lease;                     /* seconds that the sign-in gave */
};

const char *kmsenv_vault_env(const char *name)
{
    static const char *const vendors[] = { "BAO", "VAULT" };   /* the order of OpenBao's own client */
    const char *value = NULL;
    char text[40];
    size_t i;

    for (i = 0; value == NULL && i < 2; i++) {
        snprintf(text, sizeof(text), "%s_%s", vendors[i], name);
        value = kmsenv_credentials_env(text);
    }
    return value;
}

static int set_mount(const KMSENV_SECTION *section, const char *name, char *out, size_t room, KMSENV_ERROR *err)
{
    if (kmsenv_vault_mount(kmsenv_section_text(section, name), out, room))
        return 1;
    return kmsenv_error_set(err, KMSENV_R_CONFIG_INVALID, "setting '%s' is not the path of a mount, such as %s", name, name);
}

KMSENV_VAULT_CHAIN *kmsenv_vault_chain_new(const KMSENV_SECTION *section, const KMSENV_VAULT_TARGET *target, KMSENV_HTTP *http,
                                           KMSENV_ERROR *err)
{
    KMSENV_VAULT_CHAIN *chain = OPENSSL_zalloc(sizeof(*chain));

    if (chain == NULL) {
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for credentials");
        return NULL;
    }
    chain->section = section;
    chain->target = target;
    chain->login.http = http;
    chain->login.endpoint = *target->endpoint;
    if (set_mount(section, "approle-mount", chain->approle, sizeof(chain->approle), err)
        && set_mount(section, "kubernetes-mount", chain->kubernetes, sizeof(chain->kubernetes), err))
        return chain;
    OPENSSL_free(chain);
    return NULL;
}

void kmsenv_vault_chain_free(KMSENV_VAULT_CHAIN *chain)
{
    if (chain == NULL)
        return;
    kmsenv_secret_free(chain->token);
    OPENSSL_free(chain);
}

/* --- given tokens --------------------------------------------------------- */

static int from_settings(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    KMSENV_BUFFER token;
    int found;

    (void)now;
    (void)deadline_ms;
    kmsenv_buffer_init(&token, TOKEN_MAX, 1);
    found = kmsenv_credentials_setting(((KMSENV_VAULT_CHAIN *)arg)->section, "token", &token, err);
    if (found == KMSENV_SOURCE_FOUND)
        found = kmsenv_credential_set(out, "", NULL, kmsenv_buffer_text(&token), 0, err);
    kmsenv_buffer_reset(&token);
    return found;
}

static int from_environment(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    const char *token = kmsenv_vault_env("TOKEN");

    (void)arg;
    (void)now;
    (void)deadline_ms;
    if (token != NULL)
        return kmsenv_credential_set(out, "", NULL, token, 0, err);
    kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "VAULT_TOKEN, BAO_TOKEN not set");
    return KMSENV_SOURCE_ABSENT;
}

static int from_file(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    const char *set = kmsenv_section_text(((KMSENV_VAULT_CHAIN *)arg)->section, "token-file"), *path = set;
    KMSENV_BUFFER token;
    char home[512];
    int found = KMSENV_SOURCE_ABSENT;

    (void)now;
    (void)deadline_ms;
    if (path == NULL && (path = kmsenv_credentials_env("BAO_TOKEN_PATH")) == NULL)
        path = kmsenv_credentials_home(".vault-token", home, sizeof(home)) ? home : NULL;
    kmsenv_buffer_init(&token, TOKEN_MAX, 1);
    if (path != NULL)
        found = kmsenv_credentials_file(path, &token, err);
    else
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "there is no home directory");
    if (set != NULL && found == KMSENV_SOURCE_ABSENT)
        found = KMSENV_SOURCE_FAILED;              /* named, so it must be there */
    if (found == KMSENV_SOURCE_FOUND)
        found = kmsenv_credential_set(out, "", NULL, kmsenv_buffer_text(&token), 0, err);
    kmsenv_buffer_reset(&token);
    return found;
}

/* --- bodies and reply of a sign-in ---------------------------------------- */

static int finish_body(KMSENV_BUFFER *body, KMSENV_ERROR *err)
{
    kmsenv_json_close(body);
    if (!body->failed)
        return 1;
    return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "what the sign-in needs is too long");
}

int kmsenv_vault_approle_body(const char *role_id, const char *secret_id, KMSENV_BUFFER *body, KMSENV_ERROR *err)
{
    kmsenv_json_open(body, NULL);
    kmsenv_json_add_text(body, "role_id", role_id);
    if (secret_id != NULL)
        kmsenv_json_add_text(body, "secret_id", secret_id);
    return finish_body(body, err);
}

int kmsenv_vault_kubernetes_body(const char *role, const char *jwt, KMSENV_BUFFER *body, KMSENV_ERROR *err)
{
    kmsenv_json_open(body, NULL);
    kmsenv_json_add_text(body, "role", role);
    kmsenv_json_add_text(body, "jwt", jwt);
    return finish_body(body, err);
}

int kmsenv_vault_renew_body(const char *increment, KMSENV_BUFFER *body, KMSENV_ERROR *err)
{
    kmsenv_json_open(body, NULL);
    kmsenv_json_add_text(body, "increment", increment);
    return finish_body(body, err);
}

KMSENV_VERDICT kmsenv_vault_login_result(KMSENV_REPLY *http, KMSENV_VAULT_LOGIN *login, KMSENV_ERROR *err)
{
    KMSENV_JSON_SECRET secret = { "client_token", &login->token, 0 };
    KMSENV_VAULT_REPLY reply;
    const KMSENV_JSON *auth;
    KMSENV_VERDICT verdict = kmsenv_vault_parse(http, &secret, 1, &reply, err);

    auth = kmsenv_json_get(reply.json, "auth");
    if (verdict == KMSENV_VERDICT_OK
        && (!secret.found || login->token.length == 0
            || !kmsenv_json_number(kmsenv_json_get(auth, "lease_duration"), &login->lease)
            || login->lease < 0 || login->lease > INT32_MAX
            || !kmsenv_json_boolean(kmsenv_json_get(auth, "renewable"), &login->renewable))) {
        kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "the reply has not all of auth.client_token, lease_duration, renewable");
        verdict = KMSENV_VERDICT_FINAL;
    }
    kmsenv_vault_reply_reset(&reply);
    /* A sign-in that is refused is not tried again: a SecretID may be good for a few uses only. */
    return verdict == KMSENV_VERDICT_CREDENTIALS ? KMSENV_VERDICT_FINAL : verdict;
}

/* --- signing in ----------------------------------------------------------- */

typedef struct job_st {
    const KMSENV_VAULT_CHAIN *chain;
    char path[300];
    const char *token;                 /* that signs the request; NULL = none */
    const KMSENV_BUFFER *body;
    KMSENV_VAULT_LOGIN *login;
} JOB;

static int build(void *arg, int64_t now, const KMSENV_CREDENTIAL *credential, KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    const JOB *job = arg;

    (void)now;
    (void)credential;
    request->secret = 1;
    kmsenv_buffer_add(&request->body, job->body->data, job->body->length);
    return kmsenv_vault_frame(job->chain->target, job->path, job->token, request, err) && kmsenv_request_check(request, err);
}

static KMSENV_VERDICT parse(void *arg, KMSENV_REPLY *reply, KMSENV_ERROR *err)
{
    JOB *job = arg;

    kmsenv_buffer_reset(&job->login->token);
    return kmsenv_vault_login_result(reply, job->login, err);
}

static int perform(KMSENV_VAULT_CHAIN *chain, JOB *job, uint64_t deadline_ms, KMSENV_ERROR *err)
{
    const KMSENV_REST_CALL call = { build, parse, job };
    unsigned attempts = 0;

    if (kmsenv_rest_perform(&chain->login, &call, deadline_ms, &attempts, err))
        return 1;
    if (err->reason == KMSENV_R_KMS_ACCESS_DENIED || err->reason == KMSENV_R_KMS_KEY_NOT_FOUND
        || err->reason == KMSENV_R_KMS_REQUEST_REJECTED)
        err->reason = KMSENV_R_KMS_CREDENTIALS;    /* it says nothing about the key */
    return kmsenv_error_prefix(err, "%.120s: ", job->path);
}

static void forget(KMSENV_VAULT_CHAIN *chain)
{
    char *old = chain->token;

    chain->token = NULL;               /* first: a fork() in between must not leave it dangling */
    kmsenv_secret_free(old);
}

static int finish(KMSENV_VAULT_CHAIN *chain, const KMSENV_VAULT_LOGIN *login, int64_t now, KMSENV_CREDENTIAL *out,
                  KMSENV_ERROR *err)
{
    forget(chain);
    if (login->renewable && login->lease > 0)
        chain->token = kmsenv_secret_strndup(kmsenv_buffer_text(&login->token), login->token.length);
    return kmsenv_credential_set(out, "", NULL, kmsenv_buffer_text(&login->token), login->lease == 0 ? 0 : now + login->lease, err);
}

/* 0: better sign in. A renewal that brings less than half of the first lease nears the end of what is allowed. */
static int renew(KMSENV_VAULT_CHAIN *chain, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    KMSENV_VAULT_LOGIN login = { .lease = 0 };
    KMSENV_BUFFER body;
    JOB job = { .chain = chain, .path = "auth/token/renew-self", .token = chain->token, .body = &body, .login = &login };
    char increment[32];
    int ok;

    if (chain->token == NULL)
        return 0;
    snprintf(increment, sizeof(increment), "%" PRId64 "s", chain->lease);
    kmsenv_buffer_init(&body, ID_MAX, 1);
    kmsenv_buffer_init(&login.token, TOKEN_MAX, 1);
    ok = kmsenv_vault_renew_body(increment, &body, err) && perform(chain, &job, deadline_ms, err)
         && login.lease >= chain->lease / 2 && finish(chain, &login, now, out, err);
    if (!ok)
        forget(chain);
    kmsenv_buffer_reset(&body);
    kmsenv_buffer_reset(&login.token);
    return ok;
}

static int sign_in(KMSENV_VAULT_CHAIN *chain, const char *mount, const KMSENV_BUFFER *body, int64_t now, uint64_t deadline_ms,
                   KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    KMSENV_VAULT_LOGIN login = { .lease = 0 };
    JOB job = { .chain = chain, .token = NULL, .body = body, .login = &login };
    int ok;

    snprintf(job.path, sizeof(job.path), "auth/%s/login", mount);
    kmsenv_buffer_init(&login.token, TOKEN_MAX, 1);
    ok = perform(chain, &job, deadline_ms, err);
    if (ok) {
        chain->lease = login.lease;
        ok = finish(chain, &login, now, out, err);
    }
    kmsenv_buffer_reset(&login.token);
    return ok;
}

static int from_approle(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    KMSENV_VAULT_CHAIN *chain = arg;
    KMSENV_BUFFER role, secret, body;
    int found, has_secret;

    kmsenv_buffer_init(&role, ID_MAX, 1);
    kmsenv_buffer_init(&secret, TOKEN_MAX, 1);
    kmsenv_buffer_init(&body, 2 * TOKEN_MAX, 1);
    found = kmsenv_credentials_setting(chain->section, "role-id", &role, err);
    if (found == KMSENV_SOURCE_FOUND && !renew(chain, now, deadline_ms, out, err)) {
        has_secret = kmsenv_credentials_setting(chain->section, "secret-id", &secret, err);
        found = has_secret != KMSENV_SOURCE_FAILED
                && kmsenv_vault_approle_body(kmsenv_buffer_text(&role), has_secret == KMSENV_SOURCE_FOUND
                                             ? kmsenv_buffer_text(&secret) : NULL, &body, err)
                && sign_in(chain, chain->approle, &body, now, deadline_ms, out, err);
    }
    kmsenv_buffer_reset(&role);
    kmsenv_buffer_reset(&secret);
    kmsenv_buffer_reset(&body);
    return found;
}

static int from_kubernetes(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    KMSENV_VAULT_CHAIN *chain = arg;
    const char *role = kmsenv_section_text(chain->section, "kubernetes-role");
    KMSENV_BUFFER jwt, body;
    int found;

    if (role == NULL) {
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "setting kubernetes-role not set");
        return KMSENV_SOURCE_ABSENT;
    }
    if (renew(chain, now, deadline_ms, out, err))
        return KMSENV_SOURCE_FOUND;
    kmsenv_buffer_init(&jwt, TOKEN_MAX, 1);
    kmsenv_buffer_init(&body, 2 * TOKEN_MAX, 1);
    found = kmsenv_credentials_file(kmsenv_section_text(chain->section, "jwt-file"), &jwt, err) == KMSENV_SOURCE_FOUND
            && kmsenv_vault_kubernetes_body(role, kmsenv_buffer_text(&jwt), &body, err)
            && sign_in(chain, chain->kubernetes, &body, now, deadline_ms, out, err);
    kmsenv_buffer_reset(&jwt);
    kmsenv_buffer_reset(&body);
    return found;
}

/* What the configuration says goes before what happens to be in the environment of the process. */
const KMSENV_CREDENTIAL_SOURCE kmsenv_vault_sources[] = {
    { "settings", from_settings },
    { "approle", from_approle },
    { "kubernetes", from_kubernetes },
    { "environment", from_environment },
    { "file", from_file },
    { NULL, NULL }
};
