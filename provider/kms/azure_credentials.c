/* Where tokens for Azure come from, in the order of Azure's own clients, after the settings of the profile. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <openssl/crypto.h>
#include "kms/azure.h"

#define SECRET_MAX    1024
#define ASSERTION_MAX 16384    /* the token of a workload */
#define TENANT_MAX    128
#define METADATA_HOST "169.254.169.254"

/* --- clouds --------------------------------------------------------------- */

int kmsenv_azure_cloud(const char *host, char resource[KMSENV_AZURE_RESOURCE_MAX], const char **authority)
{
    static const struct { const char *suffix, *authority; } clouds[] = {
        { "vault.azure.net", "https://login.microsoftonline.com" },
        { "managedhsm.azure.net", "https://login.microsoftonline.com" },
        { "vault.azure.cn", "https://login.chinacloudapi.cn" },
        { "managedhsm.azure.cn", "https://login.chinacloudapi.cn" },
        { "vault.usgovcloudapi.net", "https://login.microsoftonline.us" },
        { "managedhsm.usgovcloudapi.net", "https://login.microsoftonline.us" },
    };
    size_t i, n = strlen(host), m;

    for (i = 0; i < sizeof(clouds) / sizeof(clouds[0]); i++) {
        m = strlen(clouds[i].suffix);
        if (n < m || strcasecmp(host + n - m, clouds[i].suffix) != 0 || (n > m && host[n - m - 1] != '.'))
            continue;
        snprintf(resource, KMSENV_AZURE_RESOURCE_MAX, "https://%s", clouds[i].suffix);
        *authority = clouds[i].authority;
        return 1;
    }
    return 0;
}

/* --- the chain ------------------------------------------------------------ */

/* Sets resource; *authority: that of the cloud, NULL if neither vault nor resource tells. */
static int set_resource(KMSENV_AZURE_CHAIN *chain, const char *host, const char **authority, KMSENV_ERROR *err)
{
    const char *set = kmsenv_section_text(chain->section, "resource");
    char of_cloud[KMSENV_AZURE_RESOURCE_MAX];
    KMSENV_ENDPOINT e;

    *authority = NULL;
    kmsenv_azure_cloud(host, chain->resource, authority);
    if (set != NULL) {
        if (!kmsenv_endpoint_parse(&e, set, 0, "resource", err))
            return kmsenv_error_prefix(err, "section [%s]: ", kmsenv_section_name(chain->section));
        if (!e.tls)
            return kmsenv_section_invalid(chain->section, err, "resource is not one of a vault; accepted: such as https://vault.azure.net");
        snprintf(chain->resource, sizeof(chain->resource), "https://%s%s", e.authority, e.path);
        kmsenv_azure_cloud(e.host, of_cloud, authority);
    }
    return chain->resource[0] != '\0' || kmsenv_section_missing(chain->section, "resource", err);
}

static int set_authority(KMSENV_AZURE_CHAIN *chain, const char *of_cloud, KMSENV_ERROR *err)
{
    const char *text = kmsenv_section_text(chain->section, "authority");

    if (text == NULL && (text = kmsenv_credentials_env("AZURE_AUTHORITY_HOST")) == NULL && (text = of_cloud) == NULL)
        return kmsenv_section_missing(chain->section, "authority", err);
    if (kmsenv_http_endpoint(chain->http, &chain->login.endpoint, text, "authority", err)
        && kmsenv_metadata_endpoint(&chain->metadata, kmsenv_section_text(chain->section, "metadata-endpoint"), METADATA_HOST, err))
        return 1;
    return kmsenv_error_prefix(err, "section [%s]: ", kmsenv_section_name(chain->section));
}

KMSENV_AZURE_CHAIN *kmsenv_azure_chain_new(const KMSENV_SECTION *section, const char *host, KMSENV_HTTP *http, KMSENV_ERROR *err)
{
    KMSENV_AZURE_CHAIN *chain = OPENSSL_zalloc(sizeof(*chain));
    const char *of_cloud;

    if (chain == NULL) {
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for credentials");
        return NULL;
    }
    chain->section = section;
    chain->http = chain->login.http = http;
    if (set_resource(chain, host, &of_cloud, err) && set_authority(chain, of_cloud, err))
        return chain;
    OPENSSL_free(chain);
    return NULL;
}

void kmsenv_azure_chain_free(KMSENV_AZURE_CHAIN *chain)
{
    OPENSSL_free(chain);
}

/* --- requests of a sign-in ------------------------------------------------ */

int kmsenv_azure_login_body(const KMSENV_AZURE_LOGIN *login, const char *resource, KMSENV_BUFFER *body, KMSENV_ERROR *err)
{
    char scope[KMSENV_AZURE_RESOURCE_MAX + 16];

    snprintf(scope, sizeof(scope), "%s/.default", resource);
    kmsenv_form_add(body, "client_id", login->client);
    kmsenv_form_add(body, "scope", scope);
    kmsenv_form_add(body, "grant_type", "client_credentials");
    if (login->secret != NULL)
        kmsenv_form_add(body, "client_secret", login->secret);
    if (login->assertion != NULL) {
        kmsenv_form_add(body, "client_assertion", login->assertion);
        kmsenv_form_add(body, "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    }
    return !body->failed || kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "what the sign-in needs is too long");
}

int kmsenv_azure_login_frame(const KMSENV_ENDPOINT *authority, const KMSENV_AZURE_LOGIN *login, KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    kmsenv_buffer_printf(&request->target, "%s/%s/oauth2/v2.0/token", authority->path, login->tenant);
    return kmsenv_request_add_header(request, "Host", authority->authority, err)
           && kmsenv_request_add_header(request, "Content-Type", "application/x-www-form-urlencoded;charset=utf-8", err)
           && kmsenv_request_add_header(request, "Accept", "application/json", err);
}

/* --- signing in ----------------------------------------------------------- */

typedef struct job_st {
    const KMSENV_AZURE_CHAIN *chain;
    const KMSENV_AZURE_LOGIN *login;
    int64_t now;
    KMSENV_CREDENTIAL *out;
} JOB;

static int build(void *arg, int64_t now, const KMSENV_CREDENTIAL *credential, KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    const JOB *job = arg;

    (void)now;
    (void)credential;
    request->secret = 1;
    return kmsenv_azure_login_body(job->login, job->chain->resource, &request->body, err)
           && kmsenv_azure_login_frame(&job->chain->login.endpoint, job->login, request, err);
}

static KMSENV_VERDICT parse(void *arg, KMSENV_REPLY *reply, KMSENV_ERROR *err)
{
    const JOB *job = arg;

    return kmsenv_azure_login_result(reply, job->now, job->out, err);
}

/* The tenant becomes part of a path. */
static int is_tenant(const char *text)
{
    return strlen(text) <= TENANT_MAX && text[0] != '.'
           && strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") == strlen(text);
}

static const char *set_or_env(const KMSENV_AZURE_CHAIN *chain, const char *setting, const char *variable)
{
    const char *text = kmsenv_section_text(chain->section, setting);

    return text != NULL ? text : kmsenv_credentials_env(variable);
}

/* login has the secret or the assertion; the rest is found here. */
static int sign_in(KMSENV_AZURE_CHAIN *chain, KMSENV_AZURE_LOGIN login, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out,
                   KMSENV_ERROR *err)
{
    JOB job = { chain, &login, now, out };
    const KMSENV_REST_CALL call = { build, parse, &job };
    unsigned attempts = 0;

    login.tenant = set_or_env(chain, "tenant-id", "AZURE_TENANT_ID");
    login.client = set_or_env(chain, "client-id", "AZURE_CLIENT_ID");
    if (login.tenant == NULL || login.client == NULL)
        return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "%s is not set, which is needed to sign in; set it or %s",
                                login.tenant == NULL ? "tenant-id" : "client-id",
                                login.tenant == NULL ? "AZURE_TENANT_ID" : "AZURE_CLIENT_ID");
    if (!is_tenant(login.tenant))
        return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "tenant-id or AZURE_TENANT_ID is not the id or domain of a tenant: those "
                                "are letters, digits, '.' and '-'");
    if (kmsenv_rest_perform(&chain->login, &call, deadline_ms, &attempts, err))
        return KMSENV_SOURCE_FOUND;
    return kmsenv_error_prefix(err, "sign-in at %.100s: ", chain->login.endpoint.authority);
}

static int from_settings(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    KMSENV_AZURE_CHAIN *chain = arg;
    KMSENV_BUFFER secret;
    int found;

    kmsenv_buffer_init(&secret, SECRET_MAX, 1);
    found = kmsenv_credentials_setting(chain->section, "client-secret", &secret, err);
    if (found == KMSENV_SOURCE_FOUND)
        found = sign_in(chain, (KMSENV_AZURE_LOGIN){ .secret = kmsenv_buffer_text(&secret) }, now, deadline_ms, out, err);
    kmsenv_buffer_reset(&secret);
    return found;
}

static int from_environment(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    const char *secret = kmsenv_credentials_env("AZURE_CLIENT_SECRET");

    if (secret != NULL)
        return sign_in(arg, (KMSENV_AZURE_LOGIN){ .secret = secret }, now, deadline_ms, out, err);
    kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "AZURE_CLIENT_SECRET not set");
    return KMSENV_SOURCE_ABSENT;
}

/* The file is read each time: who puts the token there renews it. */
static int from_workload(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    KMSENV_AZURE_CHAIN *chain = arg;
    const char *path = set_or_env(chain, "federated-token-file", "AZURE_FEDERATED_TOKEN_FILE");
    KMSENV_BUFFER token;
    int found;

    if (path == NULL) {
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "AZURE_FEDERATED_TOKEN_FILE not set");
        return KMSENV_SOURCE_ABSENT;
    }
    kmsenv_buffer_init(&token, ASSERTION_MAX, 1);
    found = kmsenv_credentials_file(path, &token, err) == KMSENV_SOURCE_FOUND
            && sign_in(chain, (KMSENV_AZURE_LOGIN){ .assertion = kmsenv_buffer_text(&token) }, now, deadline_ms, out, err);
    kmsenv_buffer_reset(&token);
    return found;
}

const KMSENV_CREDENTIAL_SOURCE kmsenv_azure_sources[] = {
    { "settings", from_settings },
    { "environment", from_environment },
    { "workload-identity", from_workload },
    { "app-service", kmsenv_azure_from_app },
    { "instance", kmsenv_azure_from_instance },
    { NULL, NULL }
};
