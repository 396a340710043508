/* The configuration of Alibaba Cloud's command line tool: JSON, with any number of profiles. */
#include <stdio.h>
#include <string.h>
#include "kms/alibaba.h"

#define FILE_BYTES   262144
#define PROFILES_MAX 256
#define CHAIN_MAX    4       /* roles that are assumed by way of others */

/* A profile while it is read. Everything in it that is secret is taken out of the text, wanted or not. */
typedef struct profile_st {
    KMSENV_JSON *json;
    KMSENV_CREDENTIAL_TEXTS texts;
    KMSENV_BUFFER dropped;
} PROFILE;

/* What a profile is read for. */
typedef struct reading_st {
    const KMSENV_ALIBABA_CHAIN *chain;
    const KMSENV_BUFFER *file;
    int64_t now;
    uint64_t deadline_ms;
    unsigned depth;
    KMSENV_ERROR *err;
} READING;

static const char *text_of(const PROFILE *p, const char *name)
{
    const char *text = kmsenv_json_text(kmsenv_json_get(p->json, name));

    return text == NULL || *text == '\0' ? NULL : text;
}

static int64_t number_of(const PROFILE *p, const char *name)
{
    int64_t number = 0;

    kmsenv_json_number(kmsenv_json_get(p->json, name), &number);
    return number;
}

static void profile_reset(PROFILE *p)
{
    kmsenv_json_free(p->json);
    kmsenv_credential_texts_reset(&p->texts);
    kmsenv_buffer_reset(&p->dropped);
}

static int parse_profile(KMSENV_JSON_SPAN span, PROFILE *p)
{
    KMSENV_JSON_SECRET secrets[] = {
        { "access_key_secret", &p->texts.secret, 0 }, { "sts_token", &p->texts.token, 0 }, { "access_token", &p->dropped, 0 },
        { "oauth_access_token", &p->dropped, 0 }, { "oauth_refresh_token", &p->dropped, 0 }, { "private_key", &p->dropped, 0 },
        { "bearer_token", &p->dropped, 0 }
    };
    KMSENV_BUFFER text;
    const char *id;

    kmsenv_credential_texts_init(&p->texts);
    kmsenv_buffer_init(&p->dropped, FILE_BYTES, 1);
    kmsenv_buffer_init(&text, FILE_BYTES, 1);
    kmsenv_buffer_add(&text, span.text, span.length);
    p->json = kmsenv_json_parse(&text, secrets, sizeof(secrets) / sizeof(secrets[0]), NULL);
    kmsenv_buffer_reset(&text);
    id = text_of(p, "access_key_id");
    return p->json != NULL && (id == NULL || kmsenv_buffer_add_text(&p->texts.id, id));
}

/* FOUND: to be reset. name may be NULL: the current one. */
static int find_profile(const READING *r, const char *name, PROFILE *p)
{
    KMSENV_JSON_SPAN all = { kmsenv_buffer_text(r->file), r->file->length }, current, list, one;
    const char *seen;
    size_t i;

    if (!kmsenv_json_span_member(all, "profiles", &list))
        list.length = 0;
    for (i = 0; i < PROFILES_MAX && kmsenv_json_span_element(list, i, &one); i++) {
        if (!parse_profile(one, p)) {
            profile_reset(p);
            return kmsenv_error_set(r->err, KMSENV_R_KMS_CREDENTIALS, "profile number %zu is malformed", i + 1);
        }
        seen = text_of(p, "name");
        if (seen != NULL && (name != NULL ? strcmp(seen, name) == 0
                             : kmsenv_json_span_member(all, "current", &current) && current.length == strlen(seen) + 2
                               && memcmp(current.text + 1, seen, current.length - 2) == 0))
            return KMSENV_SOURCE_FOUND;
        profile_reset(p);
    }
    kmsenv_error_set(r->err, KMSENV_R_KMS_CREDENTIALS, "no profile %.60s", name == NULL ? "that is the current one" : name);
    return KMSENV_SOURCE_ABSENT;
}

/* --- modes ---------------------------------------------------------------- */

static int from_profile(const READING *r, const char *name, KMSENV_CREDENTIAL *out);

/* An access key; with its token, if that belongs to the mode. */
static int use_key(const READING *r, const PROFILE *p, int with_token, int64_t expires, KMSENV_CREDENTIAL *out)
{
    if (p->texts.id.length == 0 || p->texts.secret.length == 0 || (with_token && p->texts.token.length == 0))
        return kmsenv_error_set(r->err, KMSENV_R_KMS_CREDENTIALS, "one of access_key_id, access_key_secret%s is missing",
                                with_token ? ", sts_token" : "");
    return kmsenv_credential_set(out, kmsenv_buffer_text(&p->texts.id), kmsenv_buffer_text(&p->texts.secret),
                                 with_token ? kmsenv_buffer_text(&p->texts.token) : NULL, expires, r->err);
}

static int mode_key(const READING *r, const PROFILE *p, KMSENV_CREDENTIAL *out)
{
    return use_key(r, p, 0, 0, out);
}

static int mode_token(const READING *r, const PROFILE *p, KMSENV_CREDENTIAL *out)
{
    return use_key(r, p, 1, 0, out);
}

/* What needs a person or another program: the session that the tool has stored is used, and never renewed from here. */
static int mode_session(const READING *r, const PROFILE *p, KMSENV_CREDENTIAL *out)
{
    int64_t expires = number_of(p, "sts_expiration");

    if (p->texts.token.length > 0 && expires > r->now)
        return use_key(r, p, 1, expires, out);
    return kmsenv_error_set(r->err, KMSENV_R_KMS_CREDENTIALS, "the session in the file has expired, or there is none; use the aliyun "
                            "command, which renews it");
}

static int mode_ecs(const READING *r, const PROFILE *p, KMSENV_CREDENTIAL *out)
{
    return kmsenv_alibaba_from_ecs_role(r->chain, text_of(p, "ram_role_name"), r->deadline_ms, out, r->err) == KMSENV_SOURCE_FOUND;
}

static KMSENV_ALIBABA_ROLE role_of(const PROFILE *p)
{
    int64_t duration = number_of(p, "duration_seconds");
    KMSENV_ALIBABA_ROLE role = { .role_arn = text_of(p, "ram_role_arn"), .session = text_of(p, "ram_session_name"),
                                 .policy = text_of(p, "policy"), .external_id = text_of(p, "external_id"),
                                 .duration = duration > 0 ? duration : number_of(p, "expired_seconds"),
                                 .sts_endpoint = text_of(p, "sts_endpoint"), .sts_region = text_of(p, "sts_region") };

    kmsenv_json_boolean(kmsenv_json_get(p->json, "enable_vpc"), &role.vpc);
    return role;
}

static int assume(const READING *r, KMSENV_ALIBABA_ROLE *role, int have, const KMSENV_CREDENTIAL *by, KMSENV_CREDENTIAL *out)
{
    role->by = by;
    return have && kmsenv_alibaba_assume(r->chain, role, r->now, r->deadline_ms, out, r->err);
}

static int mode_role(const READING *r, const PROFILE *p, KMSENV_CREDENTIAL *out)
{
    KMSENV_ALIBABA_ROLE role = role_of(p);
    KMSENV_CREDENTIAL by = { 0 };
    int ok = assume(r, &role, use_key(r, p, 0, 0, &by), &by, out);

    kmsenv_credential_reset(&by);
    return ok;
}

static int mode_chain(const READING *r, const PROFILE *p, KMSENV_CREDENTIAL *out)
{
    const char *source = text_of(p, "source_profile");
    KMSENV_ALIBABA_ROLE role = role_of(p);
    KMSENV_CREDENTIAL by = { 0 };
    READING deeper = *r;
    int ok;

    if (source == NULL || ++deeper.depth >= CHAIN_MAX)
        return kmsenv_error_set(r->err, KMSENV_R_KMS_CREDENTIALS, source == NULL ? "source_profile is missing"
                                : "more than %d profiles, one by way of the other", CHAIN_MAX);
    ok = assume(r, &role, from_profile(&deeper, source, &by) == KMSENV_SOURCE_FOUND, &by, out);
    kmsenv_credential_reset(&by);
    return ok;
}

static int mode_oidc(const READING *r, const PROFILE *p, KMSENV_CREDENTIAL *out)
{
    KMSENV_ALIBABA_ROLE role = role_of(p);

    role.provider_arn = text_of(p, "oidc_provider_arn");
    role.token_file = text_of(p, "oidc_token_file");
    if (role.provider_arn == NULL || role.token_file == NULL)
        return kmsenv_error_set(r->err, KMSENV_R_KMS_CREDENTIALS, "one of oidc_provider_arn, oidc_token_file is missing");
    return kmsenv_alibaba_assume(r->chain, &role, r->now, r->deadline_ms, out, r->err);
}

static const struct { const char *name; int (*use)(const READING *, const PROFILE *, KMSENV_CREDENTIAL *); } modes[] = {
    { "AK", mode_key },
    { "StsToken", mode_token },
    { "RamRoleArn", mode_role },
    { "EcsRamRole", mode_ecs },
    { "OIDC", mode_oidc },
    { "ChainableRamRoleArn", mode_chain },
    { "CloudSSO", mode_session },
    { "OAuth", mode_session },
    { "External", mode_session }
};

static int from_profile(const READING *r, const char *name, KMSENV_CREDENTIAL *out)
{
    const char *mode;
    PROFILE p;
    size_t i;
    int found = find_profile(r, name, &p);

    if (found != KMSENV_SOURCE_FOUND)
        return found;
    if ((mode = text_of(&p, "mode")) == NULL)
        mode = "";
    for (i = 0; i < sizeof(modes) / sizeof(modes[0]) && strcmp(modes[i].name, mode) != 0; i++)
        ;
    if (i == sizeof(modes) / sizeof(modes[0]))
        found = kmsenv_error_set(r->err, KMSENV_R_KMS_CREDENTIALS, "the mode of the profile is none that is known here; known: AK, "
                                 "StsToken, RamRoleArn, EcsRamRole, OIDC, ChainableRamRoleArn, CloudSSO, OAuth, External");
    else if (!(found = modes[i].use(r, &p, out)))
        kmsenv_error_prefix(r->err, "mode %s: ", modes[i].name);
    profile_reset(&p);
    return found;
}

/* --- the file ------------------------------------------------------------- */

static int from_text(const READING *r, KMSENV_BUFFER *text, KMSENV_CREDENTIAL *out)
{
    const char *name = kmsenv_section_text(r->chain->section, "credentials-section");

    if (!kmsenv_json_check(text, NULL, 0, r->err))
        return kmsenv_error_set(r->err, KMSENV_R_KMS_CREDENTIALS, "not valid JSON");
    return from_profile(r, name != NULL ? name : kmsenv_credentials_env("ALIBABA_CLOUD_PROFILE"), out);
}

int kmsenv_alibaba_from_cli(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    const KMSENV_ALIBABA_CHAIN *chain = arg;
    const char *set = kmsenv_section_text(chain->section, "cli-config-file"), *path = set;
    KMSENV_BUFFER text;
    const READING r = { chain, &text, now, deadline_ms, 0, err };
    char home[512];
    int found;

    if (kmsenv_alibaba_env_true("ALIBABA_CLOUD_CLI_PROFILE_DISABLED")) {
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "ALIBABA_CLOUD_CLI_PROFILE_DISABLED is set");
        return KMSENV_SOURCE_ABSENT;
    }
    if (path == NULL && kmsenv_credentials_home(".aliyun/config.json", home, sizeof(home)))
        path = home;
    if (path == NULL) {
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "no home directory");
        return KMSENV_SOURCE_ABSENT;
    }
    kmsenv_buffer_init(&text, FILE_BYTES, 1);
    if ((found = kmsenv_credentials_file(path, &text, err)) == KMSENV_SOURCE_ABSENT && set == NULL)
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "no ~/.aliyun/config.json");
    if (found == KMSENV_SOURCE_FOUND && (found = from_text(&r, &text, out)) != KMSENV_SOURCE_FOUND)
        kmsenv_error_prefix(err, "%.200s: ", path);
    kmsenv_buffer_reset(&text);
    return set == NULL ? found : found == KMSENV_SOURCE_FOUND;   /* named, so it must be there */
}
