/* Credentials of Alibaba Cloud that are there for the asking: of the role of an ECS instance, and from a URI. */
#include <stdio.h>
#include <string.h>
#include "kms/alibaba.h"

#define ROLE_MAX  128
#define ROLE_PATH "/latest/meta-data/ram/security-credentials/"
#define URI_MAX   512

/* --- replies -------------------------------------------------------------- */

int kmsenv_alibaba_read_set(const KMSENV_JSON *json, KMSENV_CREDENTIAL_TEXTS *t, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    const char *id = kmsenv_json_text(kmsenv_json_get(json, "AccessKeyId"));
    int64_t expires;

    if (id == NULL || *id == '\0' || t->secret.length == 0 || t->token.length == 0
        || !kmsenv_text_time(kmsenv_json_text(kmsenv_json_get(json, "Expiration")), &expires))
        return kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "the reply misses one of AccessKeyId, AccessKeySecret, SecurityToken, "
                                "Expiration");
    if (!kmsenv_buffer_add_text(&t->id, id))
        return kmsenv_result_malformed(err, "an AccessKeyId that is too long");
    return kmsenv_credential_texts_set(t, expires, out, err);
}

int kmsenv_alibaba_role_credential(KMSENV_REPLY *reply, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    KMSENV_CREDENTIAL_TEXTS t;
    KMSENV_JSON_SECRET secrets[] = { { "AccessKeySecret", &t.secret, 0 }, { "SecurityToken", &t.token, 0 } };
    const char *code;
    KMSENV_JSON *json;
    int ok = 0;

    kmsenv_credential_texts_init(&t);
    json = kmsenv_json_parse(&reply->body, secrets, 2, err);
    code = kmsenv_json_text(kmsenv_json_get(json, "Code"));
    if (code != NULL && strcmp(code, "Success") != 0)
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "what answers there has no credentials for the role");
    else if (json != NULL)
        ok = kmsenv_alibaba_read_set(json, &t, out, err);
    kmsenv_json_free(json);
    kmsenv_credential_texts_reset(&t);
    return ok;
}

/* --- ECS ------------------------------------------------------------------ */

int kmsenv_alibaba_ecs_token_request(const KMSENV_ENDPOINT *endpoint, KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    int ok = kmsenv_metadata_request(endpoint, "/latest/api/token", request, err)
             && kmsenv_request_add_header(request, "X-aliyun-ecs-metadata-token-ttl-seconds", "21600", err);

    request->method = "PUT";
    return ok;
}

int kmsenv_alibaba_ecs_request(const KMSENV_ENDPOINT *endpoint, const char *token, const char *role, KMSENV_REQUEST *request,
                               KMSENV_ERROR *err)
{
    char path[sizeof(ROLE_PATH) + ROLE_MAX];

    snprintf(path, sizeof(path), "%s%s", ROLE_PATH, role);
    return kmsenv_metadata_request(endpoint, path, request, err)
           && (token == NULL || kmsenv_request_add_header(request, "X-aliyun-ecs-metadata-token", token, err));
}

/*
 * The token of version 2 of the service, as text in reply; none (an empty text) if the service is too old to have one, as
 * long as nobody has switched version 1 off. ABSENT if there is no service.
 */
static int get_token(const KMSENV_ALIBABA_CHAIN *chain, uint64_t deadline_ms, KMSENV_REPLY *reply, KMSENV_ERROR *err)
{
    KMSENV_REQUEST request;
    int found = KMSENV_SOURCE_FAILED;

    if (kmsenv_alibaba_ecs_token_request(&chain->metadata, &request, err))
        found = kmsenv_metadata_send(chain->http, &chain->metadata, &request, deadline_ms, reply, err);
    kmsenv_request_reset(&request);
    if (found == KMSENV_SOURCE_FOUND && reply->body.length == 0)
        found = kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "the metadata service gives an empty token");
    if (found == KMSENV_SOURCE_FOUND || err->reason != KMSENV_R_KMS_CREDENTIALS)
        return found;
    kmsenv_reply_reset(reply);
    return kmsenv_alibaba_env_true("ALIBABA_CLOUD_IMDSV1_DISABLED") ? KMSENV_SOURCE_FAILED : KMSENV_SOURCE_FOUND;
}

static int ask(const KMSENV_ALIBABA_CHAIN *chain, const KMSENV_REPLY *token, const char *role, uint64_t deadline_ms,
               KMSENV_REPLY *reply, KMSENV_ERROR *err)
{
    KMSENV_REQUEST request;
    int found = KMSENV_SOURCE_FAILED;

    if (kmsenv_alibaba_ecs_request(&chain->metadata, token->body.length == 0 ? NULL : kmsenv_buffer_text(&token->body), role, &request,
                                   err))
        found = kmsenv_metadata_send(chain->http, &chain->metadata, &request, deadline_ms, reply, err);
    kmsenv_request_reset(&request);
    return found;
}

int kmsenv_alibaba_from_ecs_role(const KMSENV_ALIBABA_CHAIN *chain, const char *set, uint64_t deadline_ms, KMSENV_CREDENTIAL *out,
                                 KMSENV_ERROR *err)
{
    KMSENV_REPLY token, name, reply;
    char role[ROLE_MAX];
    int found;

    kmsenv_reply_init(&token);
    kmsenv_reply_init(&name);
    kmsenv_reply_init(&reply);
    found = get_token(chain, deadline_ms, &token, err);
    if (found == KMSENV_SOURCE_FOUND && set != NULL)
        kmsenv_buffer_add_text(&name.body, set);
    else if (found == KMSENV_SOURCE_FOUND)
        found = ask(chain, &token, "", deadline_ms, &name, err);
    if (found == KMSENV_SOURCE_FOUND)
        found = kmsenv_metadata_role(&name, role, sizeof(role), err);
    if (found == KMSENV_SOURCE_FOUND)
        found = ask(chain, &token, role, deadline_ms, &reply, err);
    if (found == KMSENV_SOURCE_FOUND)
        found = kmsenv_alibaba_role_credential(&reply, out, err);
    kmsenv_reply_reset(&token);
    kmsenv_reply_reset(&name);
    kmsenv_reply_reset(&reply);
    return found;
}

int kmsenv_alibaba_from_ecs(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    const KMSENV_ALIBABA_CHAIN *chain = arg;
    const char *role = kmsenv_section_text(chain->section, "ecs-role");

    (void)now;
    if (kmsenv_alibaba_env_true("ALIBABA_CLOUD_ECS_METADATA_DISABLED")) {
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "ALIBABA_CLOUD_ECS_METADATA_DISABLED is set");
        return KMSENV_SOURCE_ABSENT;
    }
    if (role == NULL)
        role = kmsenv_credentials_env("ALIBABA_CLOUD_ECS_METADATA");
    return kmsenv_alibaba_from_ecs_role(chain, role, deadline_ms, out, err);
}

/* --- a URI ---------------------------------------------------------------- */

int kmsenv_alibaba_uri_request(const char *uri, int plain_http, KMSENV_ENDPOINT *endpoint, KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    static const char name[] = "ALIBABA_CLOUD_CREDENTIALS_URI";
    char text[URI_MAX], tail[URI_MAX];
    size_t n = strcspn(uri, "?"), i;

    kmsenv_request_init(request, "GET");
    if (strlen(uri) >= sizeof(text))
        return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "%s is longer than %d bytes", name, URI_MAX - 1);
    for (i = n; uri[i] != '\0'; i++)
        if (uri[i] <= ' ' || uri[i] > '~' || uri[i] == '#')
            return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "%s has something in its query that does not belong there", name);
    snprintf(text, sizeof(text), "%.*s", (int)n, uri);
    if (!kmsenv_endpoint_parse(endpoint, text, plain_http, name, err))
        return 0;
    snprintf(tail, sizeof(tail), "%s%s", endpoint->path[0] == '\0' || text[n - 1] == '/' ? "/" : "", uri + n);
    kmsenv_request_reset(request);
    return kmsenv_metadata_request(endpoint, tail, request, err);
}

int kmsenv_alibaba_from_uri(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    const KMSENV_ALIBABA_CHAIN *chain = arg;
    const char *uri = kmsenv_credentials_env("ALIBABA_CLOUD_CREDENTIALS_URI");
    KMSENV_ENDPOINT endpoint;
    KMSENV_REQUEST request;
    KMSENV_REPLY reply;
    int ok;

    (void)now;
    if (uri == NULL) {
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "ALIBABA_CLOUD_CREDENTIALS_URI not set");
        return KMSENV_SOURCE_ABSENT;
    }
    kmsenv_reply_init(&reply);
    ok = kmsenv_alibaba_uri_request(uri, kmsenv_section_boolean(chain->section, "insecure-http"), &endpoint, &request, err)
         && kmsenv_metadata_send(chain->http, &endpoint, &request, deadline_ms, &reply, err) == KMSENV_SOURCE_FOUND
         && kmsenv_alibaba_role_credential(&reply, out, err);
    kmsenv_request_reset(&request);
    kmsenv_reply_reset(&reply);
    return ok;   /* set up, so it must work */
}
