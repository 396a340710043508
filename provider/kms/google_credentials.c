/* Where Google's own clients find credentials (Application Default Credentials), in their order, after the settings of the profile. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <openssl/crypto.h>
#include "kms/google.h"

#define FILE_MAX_SIZE 65536
#define METADATA_HOST "169.254.169.254"
#define METADATA_NAME "metadata.google.internal"
#define FILE_NAME     "application_default_credentials.json"

/* --- where ---------------------------------------------------------------- */

static int find_universe(KMSENV_GOOGLE_CHAIN *chain, KMSENV_ERROR *err)
{
    const char *text = kmsenv_section_text(chain->section, "universe-domain");

    if (text == NULL)
        text = kmsenv_credentials_env("GOOGLE_CLOUD_UNIVERSE_DOMAIN");
    if (text == NULL)
        text = KMSENV_GOOGLE_UNIVERSE;
    if (!kmsenv_google_is_universe(text))
        return kmsenv_error_set(err, KMSENV_R_CONFIG_INVALID, "universe-domain (or GOOGLE_CLOUD_UNIVERSE_DOMAIN) is not a domain, such as "
                                KMSENV_GOOGLE_UNIVERSE);
    snprintf(chain->universe, sizeof(chain->universe), "%s", text);
    return 1;
}

/*
 * What comes from there is not protected, so that not any host will do. The variables hold HOST or HOST:PORT; they are
 * looked at only when it comes to that, for those who have credentials elsewhere need not mind them.
 */
static int find_metadata(const KMSENV_GOOGLE_CHAIN *chain, KMSENV_ENDPOINT *e, KMSENV_ERROR *err)
{
    const char *set = kmsenv_section_text(chain->section, "metadata-endpoint");
    const char *host = kmsenv_credentials_env("GCE_METADATA_IP");
    char text[KMSENV_ENDPOINT_TEXT_MAX];

    if (host == NULL)
        host = kmsenv_credentials_env("GCE_METADATA_HOST");
    snprintf(text, sizeof(text), "http://%s", host == NULL ? METADATA_HOST : host);
    if (set == NULL)
        set = text;
    return kmsenv_metadata_endpoint(e, set, strstr(set, METADATA_NAME) == NULL ? METADATA_HOST : METADATA_NAME, err);
}

KMSENV_GOOGLE_CHAIN *kmsenv_google_chain_new(const KMSENV_SECTION *section, KMSENV_CRYPTO *crypto, KMSENV_HTTP *http,
                                             KMSENV_ERROR *err)
{
    const char *tokens = kmsenv_section_text(section, "token-endpoint");
    KMSENV_GOOGLE_CHAIN *chain = OPENSSL_zalloc(sizeof(*chain));
    KMSENV_ENDPOINT metadata;

    if (chain == NULL) {
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for credentials");
        return NULL;
    }
    chain->section = section;
    chain->crypto = crypto;
    chain->http = http;
    chain->has_tokens = tokens != NULL;
    if (find_universe(chain, err)
        && (!kmsenv_section_is_set(section, "metadata-endpoint") || find_metadata(chain, &metadata, err))
        && (tokens == NULL || kmsenv_http_endpoint(http, &chain->tokens, tokens, "token-endpoint", err)))
        return chain;
    OPENSSL_free(chain);
    return NULL;
}

void kmsenv_google_chain_free(KMSENV_GOOGLE_CHAIN *chain)
{
    OPENSSL_free(chain);
}

/* --- settings ------------------------------------------------------------- */

static int from_settings(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    KMSENV_GOOGLE_TOKEN token;
    int found;

    (void)now;
    (void)deadline_ms;
    kmsenv_google_token_init(&token);
    found = kmsenv_credentials_setting(((KMSENV_GOOGLE_CHAIN *)arg)->section, "access-token", &token.text, err);
    if (found == KMSENV_SOURCE_FOUND)
        found = kmsenv_credential_set(out, "", NULL, kmsenv_buffer_text(&token.text), 0, err);
    kmsenv_google_token_reset(&token);
    return found;
}

/* --- files ---------------------------------------------------------------- */

/* The id of a credential is the project that its file wants the use of the service to be charged to. */
static int use_file(const KMSENV_GOOGLE_CHAIN *chain, KMSENV_BUFFER *text, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out,
                    KMSENV_ERROR *err)
{
    const char *scope = kmsenv_section_text(chain->section, "scope"), *project;
    KMSENV_GOOGLE_FILE file;
    KMSENV_GOOGLE_WISH wish = { chain, &file, scope == NULL ? KMSENV_GOOGLE_SCOPE_KMS : scope, scope == NULL, now, deadline_ms };
    KMSENV_GOOGLE_TOKEN token;
    int ok;

    kmsenv_google_token_init(&token);
    ok = kmsenv_google_file_parse(&file, text, err) && kmsenv_google_file_token(&wish, file.json, &token, err);
    if (ok) {
        project = kmsenv_json_text(kmsenv_json_get(file.json, "quota_project_id"));
        ok = kmsenv_credential_set(out, project == NULL ? "" : project, NULL, kmsenv_buffer_text(&token.text), token.expires, err);
    }
    kmsenv_google_token_reset(&token);
    kmsenv_google_file_reset(&file);
    return ok;
}

static int from_path(const KMSENV_GOOGLE_CHAIN *chain, const char *path, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out,
                     KMSENV_ERROR *err)
{
    KMSENV_BUFFER text;
    int found;

    kmsenv_buffer_init(&text, FILE_MAX_SIZE, 1);
    found = kmsenv_credentials_file(path, &text, err);
    if (found == KMSENV_SOURCE_FOUND && !(found = use_file(chain, &text, now, deadline_ms, out, err)))
        kmsenv_error_prefix(err, "%.120s: ", path);
    kmsenv_buffer_reset(&text);
    return found;
}

/* Where gcloud puts the file. 0 if there is no such place. */
static int usual_path(char *out, size_t room)
{
    const char *folder = kmsenv_credentials_env("CLOUDSDK_CONFIG");
    int n;

    if (folder == NULL)
        return kmsenv_credentials_home(".config/gcloud/" FILE_NAME, out, room);
    n = snprintf(out, room, "%s/" FILE_NAME, folder);
    return n > 0 && (size_t)n < room;
}

static int from_file(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    const KMSENV_GOOGLE_CHAIN *chain = arg;
    const char *named = kmsenv_section_text(chain->section, "credentials-file");
    char usual[1024];

    if (named == NULL)
        named = kmsenv_credentials_env("GOOGLE_APPLICATION_CREDENTIALS");
    if (named != NULL)
        return from_path(chain, named, now, deadline_ms, out, err) == KMSENV_SOURCE_FOUND;   /* named, so it must be there */
    if (usual_path(usual, sizeof(usual)))
        return from_path(chain, usual, now, deadline_ms, out, err);
    kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "GOOGLE_APPLICATION_CREDENTIALS not set");
    return KMSENV_SOURCE_ABSENT;
}

/* --- instance ------------------------------------------------------------- */

int kmsenv_google_metadata_request(const KMSENV_ENDPOINT *endpoint, const char *account, KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    char path[384];

    snprintf(path, sizeof(path), "/computeMetadata/v1/instance/service-accounts/%.256s/token", account);
    return kmsenv_metadata_request(endpoint, path, request, err)
           && kmsenv_request_add_header(request, "Metadata-Flavor", "Google", err);
}

int kmsenv_google_metadata_token(KMSENV_REPLY *reply, int64_t now, KMSENV_GOOGLE_TOKEN *out, KMSENV_ERROR *err)
{
    char flavor[16];

    if (!kmsenv_reply_header(reply, "Metadata-Flavor", flavor, sizeof(flavor)) || strcmp(flavor, "Google") != 0)
        return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "what answers there is not the metadata service of Google");
    return kmsenv_google_token_result(reply, now, out, err) == KMSENV_VERDICT_OK;
}

static int from_instance(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    const KMSENV_GOOGLE_CHAIN *chain = arg;
    const char *off = kmsenv_credentials_env("NO_GCE_CHECK");
    KMSENV_GOOGLE_TOKEN token;
    KMSENV_ENDPOINT metadata;
    KMSENV_REQUEST request;
    KMSENV_REPLY reply;
    int found = KMSENV_SOURCE_FAILED;

    if (off != NULL && strcasecmp(off, "true") == 0) {
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "NO_GCE_CHECK is set");
        return KMSENV_SOURCE_ABSENT;
    }
    if (!find_metadata(chain, &metadata, err))
        return KMSENV_SOURCE_FAILED;
    kmsenv_google_token_init(&token);
    kmsenv_reply_init(&reply);
    if (kmsenv_google_metadata_request(&metadata, kmsenv_section_text(chain->section, "service-account"), &request, err))
        found = kmsenv_metadata_send(chain->http, &metadata, &request, deadline_ms, &reply, err);
    if (found == KMSENV_SOURCE_FOUND)
        found = kmsenv_google_metadata_token(&reply, now, &token, err)
                && kmsenv_credential_set(out, "", NULL, kmsenv_buffer_text(&token.text), token.expires, err);
    kmsenv_request_reset(&request);
    kmsenv_reply_reset(&reply);
    kmsenv_google_token_reset(&token);
    return found;
}

const KMSENV_CREDENTIAL_SOURCE kmsenv_google_sources[] = {
    { "settings", from_settings },
    { "file", from_file },
    { "instance", from_instance },
    { NULL, NULL }
};
