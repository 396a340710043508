/* Where Alibaba Cloud's own clients find credentials, in their order, after the settings of the profile. */
#include <string.h>
#include <strings.h>
#include <openssl/crypto.h>
#include "kms/alibaba.h"

#define METADATA_HOST "100.100.100.200"

KMSENV_ALIBABA_CHAIN *kmsenv_alibaba_chain_new(const KMSENV_SECTION *section, KMSENV_HTTP *http, KMSENV_CRYPTO *crypto,
                                               KMSENV_ERROR *err)
{
    const char *sts = kmsenv_section_text(section, "sts-endpoint");
    KMSENV_ALIBABA_CHAIN *chain = OPENSSL_zalloc(sizeof(*chain));

    if (chain == NULL) {
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for credentials");
        return NULL;
    }
    chain->section = section;
    chain->http = http;
    chain->crypto = crypto;
    if (kmsenv_metadata_endpoint(&chain->metadata, kmsenv_section_text(section, "metadata-endpoint"), METADATA_HOST, err)
        && (sts == NULL || kmsenv_http_endpoint(http, &chain->sts, sts, "sts-endpoint", err)))
        return chain;
    OPENSSL_free(chain);
    return NULL;
}

void kmsenv_alibaba_chain_free(KMSENV_ALIBABA_CHAIN *chain)
{
    OPENSSL_free(chain);
}

int kmsenv_alibaba_env_true(const char *name)
{
    const char *value = kmsenv_credentials_env(name);

    return value != NULL && strcasecmp(value, "true") == 0;
}

static int from_settings(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    static const KMSENV_CREDENTIAL_NAMES names = { "access-key-id", "access-key-secret", "security-token" };

    (void)now;
    (void)deadline_ms;
    return kmsenv_credentials_from_settings(((KMSENV_ALIBABA_CHAIN *)arg)->section, &names, out, err);
}

static int from_environment(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    static const KMSENV_CREDENTIAL_NAMES names = { "ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
                                                   "ALIBABA_CLOUD_SECURITY_TOKEN" };

    (void)arg;
    (void)now;
    (void)deadline_ms;
    return kmsenv_credentials_from_env(&names, out, err);
}

const KMSENV_CREDENTIAL_SOURCE kmsenv_alibaba_sources[] = {
    { "settings", from_settings },
    { "environment", from_environment },
    { "oidc", kmsenv_alibaba_from_oidc },
    { "cli", kmsenv_alibaba_from_cli },
    { "file", kmsenv_alibaba_from_file },
    { "ecs", kmsenv_alibaba_from_ecs },
    { "uri", kmsenv_alibaba_from_uri },
    { NULL, NULL }
};
