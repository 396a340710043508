/* Credentials of AWS that a service gives: for a web identity, to a container, to an instance (IMDSv2 only). */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include "kms/aws.h"

#define TOKEN_MAX      8192
#define ROLE_MAX       128
#define CONTAINER_HOST "169.254.170.2"
#define ROLE_PATH      "/latest/meta-data/iam/security-credentials/"

static int malformed(KMSENV_ERROR *err, const char *what)
{
    return kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "the reply %s", what);
}

/* --- JSON of container and instance --------------------------------------- */

static int read_role(const KMSENV_JSON *json, KMSENV_CREDENTIAL_TEXTS *t, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    const char *code = kmsenv_json_text(kmsenv_json_get(json, "Code")), *id = kmsenv_json_text(kmsenv_json_get(json, "AccessKeyId"));
    int64_t expires;

    if (code != NULL && strcmp(code, "Success") != 0)
        return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "the metadata service has no credentials for the role");
    if (id == NULL || *id == '\0' || t->secret.length == 0 || t->token.length == 0
        || !kmsenv_text_time(kmsenv_json_text(kmsenv_json_get(json, "Expiration")), &expires))
        return malformed(err, "misses one of AccessKeyId, SecretAccessKey, Token, Expiration");
    if (!kmsenv_buffer_add_text(&t->id, id))
        return malformed(err, "has an AccessKeyId that is too long");
    return kmsenv_credential_texts_set(t, expires, out, err);
}

int kmsenv_aws_role_credential(KMSENV_REPLY *reply, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    KMSENV_CREDENTIAL_TEXTS t;
    KMSENV_JSON_SECRET secrets[] = { { "SecretAccessKey", &t.secret, 0 }, { "Token", &t.token, 0 } };
    KMSENV_JSON *json;
    int ok;

    kmsenv_credential_texts_init(&t);
    json = kmsenv_json_parse(&reply->body, secrets, 2, err);
    ok = json != NULL && read_role(json, &t, out, err);
    kmsenv_json_free(json);
    kmsenv_credential_texts_reset(&t);
    return ok;
}

/* --- instance ------------------------------------------------------------- */

int kmsenv_aws_instance_request(const KMSENV_ENDPOINT *endpoint, const char *token, const char *role, KMSENV_REQUEST *request,
                                KMSENV_ERROR *err)
{
    char path[sizeof(ROLE_PATH) + ROLE_MAX];

    snprintf(path, sizeof(path), "%s%s", ROLE_PATH, role == NULL ? "" : role);
    if (!kmsenv_metadata_request(endpoint, token == NULL ? "/latest/api/token" : path, request, err))
        return 0;
    if (token != NULL)
        return kmsenv_request_add_header(request, "x-aws-ec2-metadata-token", token, err);
    request->method = "PUT";
    return kmsenv_request_add_header(request, "x-aws-ec2-metadata-token-ttl-seconds", "21600", err);
}

static int ask_instance(const KMSENV_AWS_CHAIN *chain, const char *token, const char *role, uint64_t deadline_ms,
                        KMSENV_REPLY *reply, KMSENV_ERROR *err)
{
    KMSENV_REQUEST request;
    int found = KMSENV_SOURCE_FAILED;

    kmsenv_reply_init(reply);
    if (kmsenv_aws_instance_request(&chain->metadata, token, role, &request, err))
        found = kmsenv_metadata_send(chain->http, &chain->metadata, &request, deadline_ms, reply, err);
    kmsenv_request_reset(&request);
    return found;
}

int kmsenv_aws_from_instance(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    const KMSENV_AWS_CHAIN *chain = arg;
    const char *off = kmsenv_credentials_env("AWS_EC2_METADATA_DISABLED");
    KMSENV_REPLY token, name, reply;
    char role[ROLE_MAX];
    int found;

    (void)now;
    if (off != NULL && strcasecmp(off, "true") == 0) {
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "AWS_EC2_METADATA_DISABLED is set");
        return KMSENV_SOURCE_ABSENT;
    }
    kmsenv_reply_init(&name);
    kmsenv_reply_init(&reply);
    found = ask_instance(chain, NULL, NULL, deadline_ms, &token, err);
    if (found == KMSENV_SOURCE_FOUND && token.body.length == 0)
        found = malformed(err, "of the metadata service has no token");
    if (found == KMSENV_SOURCE_FOUND)
        found = ask_instance(chain, kmsenv_buffer_text(&token.body), "", deadline_ms, &name, err);
    if (found == KMSENV_SOURCE_FOUND)
        found = kmsenv_metadata_role(&name, role, sizeof(role), err);
    if (found == KMSENV_SOURCE_FOUND)
        found = ask_instance(chain, kmsenv_buffer_text(&token.body), role, deadline_ms, &reply, err);
    if (found == KMSENV_SOURCE_FOUND)
        found = kmsenv_aws_role_credential(&reply, out, err);
    kmsenv_reply_reset(&token);
    kmsenv_reply_reset(&name);
    kmsenv_reply_reset(&reply);
    return found;
}

/* --- container ------------------------------------------------------------ */

/* Plain http only to where ECS and EKS answer, and to this machine. */
static int container_endpoint(const char *full, KMSENV_ENDPOINT *e, KMSENV_ERROR *err)
{
    static const char *const hosts[] = { CONTAINER_HOST, "169.254.170.23", "fd00:ec2::23" };
    size_t i;

    if (!kmsenv_endpoint_parse(e, full, 1, "AWS_CONTAINER_CREDENTIALS_FULL_URI", err))
        return 0;
    for (i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++)
        if (strcmp(e->host, hosts[i]) == 0)
            return 1;
    if (e->tls || e->loopback)
        return 1;
    return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "AWS_CONTAINER_CREDENTIALS_FULL_URI: plain http is accepted to "
                            "169.254.170.2, 169.254.170.23, [fd00:ec2::23] and this machine only");
}

int kmsenv_aws_container_request(const char *relative, const char *full, const char *token, KMSENV_ENDPOINT *endpoint,
                                 KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    const char *path = relative;
    int ok;

    kmsenv_request_init(request, "GET");
    if (relative == NULL) {
        ok = container_endpoint(full, endpoint, err);
        path = ok && (endpoint->path[0] == '\0' || full[strlen(full) - 1] == '/') ? "/" : "";
    } else {
        ok = kmsenv_endpoint_parse(endpoint, "http://" CONTAINER_HOST, 1, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", err);
        if (ok && (*path != '/' || strspn(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/?=&%:") != strlen(path)))
            ok = kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is not a path");
    }
    return ok && kmsenv_metadata_request(endpoint, path, request, err)
           && (token == NULL || kmsenv_request_add_header(request, "Authorization", token, err));
}

/* The token that the service wants to see: NULL = none is set up. */
static int container_token(KMSENV_BUFFER *buffer, const char **token, KMSENV_ERROR *err)
{
    const char *path = kmsenv_credentials_env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");

    *token = kmsenv_credentials_env("AWS_CONTAINER_AUTHORIZATION_TOKEN");
    if (path == NULL)
        return 1;
    if (kmsenv_credentials_file(path, buffer, err) != KMSENV_SOURCE_FOUND)
        return 0;
    *token = kmsenv_buffer_text(buffer);
    return 1;
}

int kmsenv_aws_from_container(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    const KMSENV_AWS_CHAIN *chain = arg;
    const char *relative = kmsenv_credentials_env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    const char *full = kmsenv_credentials_env("AWS_CONTAINER_CREDENTIALS_FULL_URI"), *token;
    KMSENV_ENDPOINT endpoint;
    KMSENV_REQUEST request;
    KMSENV_BUFFER buffer;
    KMSENV_REPLY reply;
    int ok;

    (void)now;
    if (relative == NULL && full == NULL) {
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "AWS_CONTAINER_CREDENTIALS_*_URI not set");
        return KMSENV_SOURCE_ABSENT;
    }
    kmsenv_buffer_init(&buffer, TOKEN_MAX, 1);
    kmsenv_request_init(&request, "GET");
    kmsenv_reply_init(&reply);
    ok = container_token(&buffer, &token, err)
         && kmsenv_aws_container_request(relative, full, token, &endpoint, &request, err)
         && kmsenv_metadata_send(chain->http, &endpoint, &request, deadline_ms, &reply, err) == KMSENV_SOURCE_FOUND
         && kmsenv_aws_role_credential(&reply, out, err);
    kmsenv_request_reset(&request);
    kmsenv_reply_reset(&reply);
    kmsenv_buffer_reset(&buffer);
    return ok;   /* set up, so it must work */
}
