/* Where AWS's own clients find credentials, in their order, after the settings of the profile: what is written down somewhere. */
#include <stdio.h>
#include <string.h>
#include <openssl/crypto.h>
#include "kms/aws.h"

#define ID_MAX        256
#define SECRET_MAX    1024
#define TOKEN_MAX     8192
#define FILE_MAX_SIZE 262144
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

/* --- three texts ---------------------------------------------------------- */

void kmsenv_aws_texts_init(KMSENV_AWS_TEXTS *t)
{
    kmsenv_buffer_init(&t->id, ID_MAX, 1);
    kmsenv_buffer_init(&t->secret, SECRET_MAX, 1);
    kmsenv_buffer_init(&t->token, TOKEN_MAX, 1);
}

void kmsenv_aws_texts_reset(KMSENV_AWS_TEXTS *t)
{
    kmsenv_buffer_reset(&t->id);
    kmsenv_buffer_reset(&t->secret);
    kmsenv_buffer_reset(&t->token);
}

int kmsenv_aws_texts_to_credential(const KMSENV_AWS_TEXTS *t, int64_t expires, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    return kmsenv_credential_set(out, kmsenv_buffer_text(&t->id), kmsenv_buffer_text(&t->secret),
                                 t->token.length == 0 ? NULL : kmsenv_buffer_text(&t->token), expires, err);
}

/* What a source says of id and secret together: both, none, or half, which is an error. */
static int both(int id, int secret, const char *what, KMSENV_ERROR *err)
{
    if (id == KMSENV_SOURCE_FAILED || secret == KMSENV_SOURCE_FAILED)
        return KMSENV_SOURCE_FAILED;
    if (id != secret)
        return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "only one of %s is set", what);
    return id;
}

/* --- settings ------------------------------------------------------------- */

static int from_settings(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    const KMSENV_SECTION *section = ((KMSENV_AWS_CHAIN *)arg)->section;
    int found, secret;
    KMSENV_AWS_TEXTS t;

    (void)now;
    (void)deadline_ms;
    kmsenv_aws_texts_init(&t);
    found = kmsenv_credentials_setting(section, "access-key-id", &t.id, err);
    secret = found == KMSENV_SOURCE_FAILED ? found : kmsenv_credentials_setting(section, "secret-access-key", &t.secret, err);
    found = both(found, secret, "access-key-id and secret-access-key", err);
    if (found == KMSENV_SOURCE_ABSENT)
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "access-key-id not set");
    if (found == KMSENV_SOURCE_FOUND
        && kmsenv_credentials_setting(section, "session-token", &t.token, err) == KMSENV_SOURCE_FAILED)
        found = KMSENV_SOURCE_FAILED;
    if (found == KMSENV_SOURCE_FOUND)
        found = kmsenv_aws_texts_to_credential(&t, 0, out, err);
    kmsenv_aws_texts_reset(&t);
    return found;
}

/* --- environment ---------------------------------------------------------- */

static int from_environment(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    const char *id = kmsenv_credentials_env("AWS_ACCESS_KEY_ID");
    const char *secret = kmsenv_credentials_env("AWS_SECRET_ACCESS_KEY");

    (void)arg;
    (void)now;
    (void)deadline_ms;
    if (id == NULL && secret == NULL) {
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "AWS_ACCESS_KEY_ID not set");
        return KMSENV_SOURCE_ABSENT;
    }
    if (id == NULL || secret == NULL)
        return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set");
    return kmsenv_credential_set(out, id, secret, kmsenv_credentials_env("AWS_SESSION_TOKEN"), 0, err);
}

/* --- files ---------------------------------------------------------------- */

static int read_ini(const KMSENV_BUFFER *text, const char *section, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    int found, secret;
    KMSENV_AWS_TEXTS t;

    kmsenv_aws_texts_init(&t);
    found = kmsenv_credentials_ini(text, section, "aws_access_key_id", &t.id, err);
    secret = found == KMSENV_SOURCE_FAILED ? found : kmsenv_credentials_ini(text, section, "aws_secret_access_key", &t.secret, err);
    found = both(found, secret, "aws_access_key_id and aws_secret_access_key", err);
    if (found == KMSENV_SOURCE_FOUND
        && kmsenv_credentials_ini(text, section, "aws_session_token", &t.token, err) == KMSENV_SOURCE_FAILED)
        found = KMSENV_SOURCE_FAILED;
    if (found == KMSENV_SOURCE_FOUND)
        found = kmsenv_aws_texts_to_credential(&t, 0, out, err);
    kmsenv_aws_texts_reset(&t);
    return found;
}

static int from_path(const char *path, const char *section, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    KMSENV_BUFFER text;
    int found;

    kmsenv_buffer_init(&text, FILE_MAX_SIZE, 1);
    found = kmsenv_credentials_file(path, &text, err);
    if (found == KMSENV_SOURCE_FOUND) {
        found = read_ini(&text, section, out, err);
        kmsenv_error_prefix(found == KMSENV_SOURCE_FOUND ? NULL : err, "%.200s: ", path);
    }
    kmsenv_buffer_reset(&text);
    return found;
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

static int from_file(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    const KMSENV_SECTION *section = ((KMSENV_AWS_CHAIN *)arg)->section;
    const char *set = kmsenv_section_text(section, "credentials-file"), *part = kmsenv_section_text(section, "credentials-section");
    char name[300];
    int found;

    (void)now;
    (void)deadline_ms;
    if (part == NULL && (part = kmsenv_credentials_env("AWS_PROFILE")) == NULL)
        part = "default";
    if (strlen(part) > 255)
        return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "the name of the AWS profile is longer than 255 bytes");
    if (set != NULL) {
        found = from_path(set, part, out, err);
        return found == KMSENV_SOURCE_FOUND;   /* named, so it must be there */
    }
    if ((found = from_usual("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials", part, out, err)) != KMSENV_SOURCE_ABSENT)
        return found;
    snprintf(name, sizeof(name), "%s%s", strcmp(part, "default") == 0 ? "" : "profile ", part);
    if ((found = from_usual("AWS_CONFIG_FILE", ".aws/config", name, out, err)) == KMSENV_SOURCE_ABSENT)
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "no access key for [%.40s] in ~/.aws", part);
    return found;
}

const KMSENV_CREDENTIAL_SOURCE kmsenv_aws_sources[] = {
    { "settings", from_settings },
    { "environment", from_environment },
    { "web-identity", kmsenv_aws_from_web_identity },
    { "file", from_file },
    { "container", kmsenv_aws_from_container },
    { "instance", kmsenv_aws_from_instance },
    { NULL, NULL }
};
