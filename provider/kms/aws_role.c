/* Profiles of AWS's configuration files that say "assume this role": role_arn with source_profile or credential_source. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <openssl/crypto.h>
#include "kms/aws.h"

#define FILE_BYTES 262144
#define VALUE_MAX  1024

/* --- values of a profile -------------------------------------------------- */

static int value_in(const char *path, const char *section, const char *key, KMSENV_BUFFER *out, KMSENV_ERROR *err)
{
    KMSENV_BUFFER text;
    int found;

    kmsenv_buffer_init(&text, FILE_BYTES, 1);
    found = kmsenv_credentials_file(path, &text, err);
    if (found == KMSENV_SOURCE_FOUND && (found = kmsenv_credentials_ini(&text, section, key, out, err)) == KMSENV_SOURCE_FAILED)
        kmsenv_error_prefix(err, "%.200s: ", path);
    kmsenv_buffer_reset(&text);
    return found;
}

/* Where the profile says it: in the file that is set, or else in AWS's configuration file. */
static int profile_value(const KMSENV_AWS_CHAIN *chain, const char *profile, const char *key, KMSENV_BUFFER *out, KMSENV_ERROR *err)
{
    const char *path = kmsenv_section_text(chain->section, "credentials-file");
    char home[512], section[300];

    kmsenv_buffer_init(out, VALUE_MAX, 0);
    if (path != NULL)
        return value_in(path, profile, key, out, err);
    if ((path = kmsenv_credentials_env("AWS_CONFIG_FILE")) == NULL && kmsenv_credentials_home(".aws/config", home, sizeof(home)))
        path = home;
    snprintf(section, sizeof(section), "%s%.255s", strcmp(profile, "default") == 0 ? "" : "profile ", profile);
    return path == NULL ? KMSENV_SOURCE_ABSENT : value_in(path, section, key, out, err);
}

/* --- AssumeRole ----------------------------------------------------------- */

typedef struct role_st {
    const KMSENV_AWS_CHAIN *chain;
    const KMSENV_CREDENTIAL *source;
    KMSENV_BUFFER arn, session, external_id;
    KMSENV_CREDENTIAL *out;
} ROLE;

static int build(void *arg, int64_t now, const KMSENV_CREDENTIAL *credential, KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    const ROLE *r = arg;
    const KMSENV_SIGV4_SIGNER signer = { r->chain->crypto, r->chain->region, "sts", r->source->id, r->source->secret };
    char session[48], time[24] = "";

    (void)credential;
    snprintf(session, sizeof(session), "kmsenv-%" PRId64, now);
    kmsenv_buffer_add_text(&request->body, "Action=AssumeRole&Version=2011-06-15");
    kmsenv_form_add(&request->body, "RoleArn", kmsenv_buffer_text(&r->arn));
    kmsenv_form_add(&request->body, "RoleSessionName", r->session.length > 0 ? kmsenv_buffer_text(&r->session) : session);
    if (r->external_id.length > 0)
        kmsenv_form_add(&request->body, "ExternalId", kmsenv_buffer_text(&r->external_id));
    if (!kmsenv_sigv4_time(now, time, sizeof(time)))
        return kmsenv_error_set(err, KMSENV_R_KMS_CLOCK, "this machine's clock is beyond calendars; set it (NTP)");
    return kmsenv_aws_sts_frame(&r->chain->sts.endpoint, request, err) && kmsenv_request_add_header(request, "X-Amz-Date", time, err)
           && (r->source->token == NULL || kmsenv_request_add_header(request, "X-Amz-Security-Token", r->source->token, err))
           && kmsenv_request_check(request, err) && kmsenv_sigv4_sign(&signer, request, now, err);
}

static KMSENV_VERDICT parse(void *arg, KMSENV_REPLY *reply, KMSENV_ERROR *err)
{
    return kmsenv_aws_sts_credential(reply, ((ROLE *)arg)->out, err);
}

/* --- whose credentials ask for it ----------------------------------------- */

static const struct {
    const char *name;
    int (*load)(void *chain, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err);
} credential_sources[] = {
    { "Environment", kmsenv_aws_from_environment },
    { "EcsContainer", kmsenv_aws_from_container },
    { "Ec2InstanceMetadata", kmsenv_aws_from_instance }
};

static int load_source(KMSENV_AWS_CHAIN *chain, const char *profile, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out,
                       KMSENV_ERROR *err)
{
    KMSENV_BUFFER name;
    int found = profile_value(chain, profile, "source_profile", &name, err);
    size_t i;

    if (found == KMSENV_SOURCE_FOUND) {
        found = kmsenv_aws_from_profile(chain, kmsenv_buffer_text(&name), out, err);
    } else if (found == KMSENV_SOURCE_ABSENT) {
        kmsenv_buffer_reset(&name);
        found = profile_value(chain, profile, "credential_source", &name, err);
        for (i = 0; found == KMSENV_SOURCE_FOUND && i < sizeof(credential_sources) / sizeof(credential_sources[0]); i++)
            if (strcmp(kmsenv_buffer_text(&name), credential_sources[i].name) == 0) {
                found = credential_sources[i].load(chain, now, deadline_ms, out, err);
                kmsenv_buffer_reset(&name);
                return found == KMSENV_SOURCE_FOUND;
            }
        found = KMSENV_SOURCE_FAILED;
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "the AWS profile %.60s has a role_arn; accepted with it: source_profile, or "
                         "credential_source = Environment, EcsContainer or Ec2InstanceMetadata", profile);
    }
    kmsenv_buffer_reset(&name);
    return found == KMSENV_SOURCE_FOUND;
}

int kmsenv_aws_from_role(KMSENV_AWS_CHAIN *chain, const char *profile, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out,
                         KMSENV_ERROR *err)
{
    KMSENV_CREDENTIAL source = { 0 };
    ROLE role = { .chain = chain, .source = &source, .out = out };
    const KMSENV_REST_CALL call = { build, parse, &role };
    unsigned attempts = 0;
    int found = profile_value(chain, profile, "role_arn", &role.arn, err);

    if (found == KMSENV_SOURCE_FOUND) {
        found = profile_value(chain, profile, "role_session_name", &role.session, err) != KMSENV_SOURCE_FAILED
                && profile_value(chain, profile, "external_id", &role.external_id, err) != KMSENV_SOURCE_FAILED
                && load_source(chain, profile, now, deadline_ms, &source, err)
                && kmsenv_rest_perform(&chain->sts, &call, deadline_ms, &attempts, err);
        if (!found)
            kmsenv_error_prefix(err, "role of the AWS profile %.60s: ", profile);
        kmsenv_buffer_reset(&role.session);
        kmsenv_buffer_reset(&role.external_id);
    }
    kmsenv_credential_reset(&source);
    kmsenv_buffer_reset(&role.arn);
    return found;
}
