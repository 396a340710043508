/* Where AWS's own clients find credentials, in their order, after the settings of the profile: what is written down somewhere. */
#include <stdio.h>
#include <string.h>
#include <openssl/crypto.h>
#include "kms/aws.h"

#define METADATA_HOST "169.254.169.254"

KMSENV_AWS_CHAIN *kmsenv_aws_chain_new(const KMSENV_SECTION *section, const char *region, KMSENV_HTTP *http, KMSENV_ERROR *err)
{
    const char *set = kmsenv_section_text(section, "sts-endpoint");
    KMSENV_AWS_CHAIN *chain = OPENSSL_zalloc(sizeof(*chain));
    char sts[KMSENV_ENDPOINT_TEXT_MAX] = "";

    if (chain == NULL) {
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for credentials");
        return NULL;
    }
    chain->section = section;
    chain->http = chain->sts.http = http;
    kmsenv_aws_endpoint("sts", region, sts, sizeof(sts));
    if (kmsenv_metadata_endpoint(&chain->metadata, kmsenv_section_text(section, "metadata-endpoint"), METADATA_HOST, err)
        && kmsenv_http_endpoint(http, &chain->sts.endpoint, set == NULL ? sts : set, "sts-endpoint", err))
        return chain;
    OPENSSL_free(chain);
    return NULL;
}

void kmsenv_aws_chain_free(KMSENV_AWS_CHAIN *chain)
{
    OPENSSL_free(chain);
}

/* --- what is written down ------------------------------------------------- */

static int from_settings(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    static const KMSENV_CREDENTIAL_NAMES names = { "access-key-id", "secret-access-key", "session-token" };

    (void)now;
    (void)deadline_ms;
    return kmsenv_credentials_from_settings(((KMSENV_AWS_CHAIN *)arg)->section, &names, out, err);
}

int kmsenv_aws_from_environment(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    static const KMSENV_CREDENTIAL_NAMES names = { "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN" };

    (void)arg;
    (void)now;
    (void)deadline_ms;
    return kmsenv_credentials_from_env(&names, out, err);
}

static int from_path(const char *path, const char *section, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    static const KMSENV_CREDENTIAL_NAMES names = { "aws_access_key_id", "aws_secret_access_key", "aws_session_token" };

    return kmsenv_credentials_from_ini(path, section, &names, out, err);
}

/* One of the two files that AWS's clients read: where a variable says, or below the home directory. */
static int from_usual(const char *variable, const char *usual, const char *section, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    const char *path = kmsenv_credentials_env(variable);
    char home[512];

    if (path == NULL && kmsenv_credentials_home(usual, home, sizeof(home)))
        path = home;
    return path == NULL ? KMSENV_SOURCE_ABSENT : from_path(path, section, out, err);
}

int kmsenv_aws_from_profile(const KMSENV_AWS_CHAIN *chain, const char *profile, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    const char *set = kmsenv_section_text(chain->section, "credentials-file");
    char name[300];
    int found;

    if (set != NULL)
        return from_path(set, profile, out, err) == KMSENV_SOURCE_FOUND;   /* named, so it must be there */
    if ((found = from_usual("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials", profile, out, err)) != KMSENV_SOURCE_ABSENT)
        return found;
    snprintf(name, sizeof(name), "%s%.255s", strcmp(profile, "default") == 0 ? "" : "profile ", profile);
    if ((found = from_usual("AWS_CONFIG_FILE", ".aws/config", name, out, err)) == KMSENV_SOURCE_ABSENT)
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "no access key for [%.40s] in ~/.aws", profile);
    return found;
}

static int from_file(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    KMSENV_AWS_CHAIN *chain = arg;
    const char *part = kmsenv_section_text(chain->section, "credentials-section");
    int found;

    if (part == NULL && (part = kmsenv_credentials_env("AWS_PROFILE")) == NULL)
        part = "default";
    if (strlen(part) > 255)
        return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "the name of the AWS profile is longer than 255 bytes");
    if ((found = kmsenv_aws_from_role(chain, part, now, deadline_ms, out, err)) != KMSENV_SOURCE_ABSENT)
        return found;
    return kmsenv_aws_from_profile(chain, part, out, err);
}

const KMSENV_CREDENTIAL_SOURCE kmsenv_aws_sources[] = {
    { "settings", from_settings },
    { "environment", kmsenv_aws_from_environment },
    { "web-identity", kmsenv_aws_from_web_identity },
    { "file", from_file },
    { "container", kmsenv_aws_from_container },
    { "instance", kmsenv_aws_from_instance },
    { NULL, NULL }
};
