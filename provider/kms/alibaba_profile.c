/* The credentials file of Alibaba Cloud's SDKs: INI, a section per profile, of a type. */
#include <string.h>
#include "kms/alibaba.h"

#define FILE_BYTES 262144
#define VALUE_MAX  4096

/* What a section may hold besides an access key. */
enum { ROLE_NAME, ROLE_ARN, SESSION, POLICY, PROVIDER, TOKEN_FILE, VALUES };
static const char *const value_names[VALUES] = { "role_name", "role_arn", "role_session_name", "policy", "oidc_provider_arn",
                                                 "oidc_token_file_path" };

typedef struct profile_st {
    const KMSENV_ALIBABA_CHAIN *chain;
    int64_t now;
    uint64_t deadline_ms;
    int missing;                       /* there is no file */
    KMSENV_CREDENTIAL_TEXTS texts;
    KMSENV_BUFFER type, value[VALUES];
} PROFILE;

static const char *text_of(const PROFILE *p, int which)
{
    return p->value[which].length == 0 ? NULL : kmsenv_buffer_text(&p->value[which]);
}

/* --- types ---------------------------------------------------------------- */

static int use_key(const PROFILE *p, int with_token, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    if (p->texts.id.length == 0 || p->texts.secret.length == 0 || (with_token && p->texts.token.length == 0))
        return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "one of access_key_id, access_key_secret%s is missing",
                                with_token ? ", security_token" : "");
    return kmsenv_credential_set(out, kmsenv_buffer_text(&p->texts.id), kmsenv_buffer_text(&p->texts.secret),
                                 with_token ? kmsenv_buffer_text(&p->texts.token) : NULL, 0, err);
}

static int type_key(const PROFILE *p, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    return use_key(p, 0, out, err);
}

static int type_sts(const PROFILE *p, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    return use_key(p, 1, out, err);
}

static int type_ecs(const PROFILE *p, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    return kmsenv_alibaba_from_ecs_role(p->chain, text_of(p, ROLE_NAME), p->deadline_ms, out, err) == KMSENV_SOURCE_FOUND;
}

static int type_role(const PROFILE *p, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    KMSENV_CREDENTIAL by = { 0 };
    const KMSENV_ALIBABA_ROLE role = { .role_arn = text_of(p, ROLE_ARN), .session = text_of(p, SESSION), .policy = text_of(p, POLICY),
                                       .by = &by };
    int ok = use_key(p, 0, &by, err) && kmsenv_alibaba_assume(p->chain, &role, p->now, p->deadline_ms, out, err);

    kmsenv_credential_reset(&by);
    return ok;
}

static int type_oidc(const PROFILE *p, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    const KMSENV_ALIBABA_ROLE role = { .role_arn = text_of(p, ROLE_ARN), .session = text_of(p, SESSION), .policy = text_of(p, POLICY),
                                       .provider_arn = text_of(p, PROVIDER), .token_file = text_of(p, TOKEN_FILE) };

    if (role.provider_arn == NULL || role.token_file == NULL)
        return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "one of oidc_provider_arn, oidc_token_file_path is missing");
    return kmsenv_alibaba_assume(p->chain, &role, p->now, p->deadline_ms, out, err);
}

static const struct { const char *name; int (*use)(const PROFILE *, KMSENV_CREDENTIAL *, KMSENV_ERROR *); } types[] = {
    { "access_key", type_key },
    { "sts", type_sts },
    { "ecs_ram_role", type_ecs },
    { "ram_role_arn", type_role },
    { "oidc_role_arn", type_oidc }
};

static int use(const PROFILE *p, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    size_t i;

    for (i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (strcmp(types[i].name, kmsenv_buffer_text(&p->type)) == 0)
            return types[i].use(p, out, err) || kmsenv_error_prefix(err, "type %s: ", types[i].name);
    return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "the type is none that is known here; known: access_key, sts, ecs_ram_role, "
                            "ram_role_arn, oidc_role_arn");
}

/* --- the file ------------------------------------------------------------- */

/* FOUND if the section has a type: then it is in use. */
static int read_section(const KMSENV_BUFFER *text, const char *section, PROFILE *p, KMSENV_ERROR *err)
{
    int i, found = kmsenv_credentials_ini(text, section, "type", &p->type, err);

    if (found != KMSENV_SOURCE_FOUND)
        return found;
    if (kmsenv_credentials_ini(text, section, "access_key_id", &p->texts.id, err) == KMSENV_SOURCE_FAILED
        || kmsenv_credentials_ini(text, section, "access_key_secret", &p->texts.secret, err) == KMSENV_SOURCE_FAILED
        || kmsenv_credentials_ini(text, section, "security_token", &p->texts.token, err) == KMSENV_SOURCE_FAILED)
        return KMSENV_SOURCE_FAILED;
    for (i = 0; i < VALUES; i++)
        if (kmsenv_credentials_ini(text, section, value_names[i], &p->value[i], err) == KMSENV_SOURCE_FAILED)
            return KMSENV_SOURCE_FAILED;
    return found;
}

static int from_path(const char *path, const char *section, PROFILE *p, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    KMSENV_BUFFER text;
    int i, found;

    kmsenv_buffer_init(&text, FILE_BYTES, 1);
    kmsenv_buffer_init(&p->type, 64, 0);
    for (i = 0; i < VALUES; i++)
        kmsenv_buffer_init(&p->value[i], VALUE_MAX, 0);
    kmsenv_credential_texts_init(&p->texts);
    found = kmsenv_credentials_file(path, &text, err);
    p->missing = found == KMSENV_SOURCE_ABSENT;
    if (found == KMSENV_SOURCE_FOUND) {
        if ((found = read_section(&text, section, p, err)) == KMSENV_SOURCE_FOUND)
            found = use(p, out, err);
        if (found != KMSENV_SOURCE_FOUND)
            kmsenv_error_prefix(err, "%.200s: ", path);
    }
    kmsenv_credential_texts_reset(&p->texts);
    for (i = 0; i < VALUES; i++)
        kmsenv_buffer_reset(&p->value[i]);
    kmsenv_buffer_reset(&p->type);
    kmsenv_buffer_reset(&text);
    return found;
}

int kmsenv_alibaba_from_file(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    const KMSENV_SECTION *section = ((KMSENV_ALIBABA_CHAIN *)arg)->section;
    const char *set = kmsenv_section_text(section, "credentials-file"), *part = kmsenv_section_text(section, "credentials-section");
    const char *path = set;
    PROFILE p = { .chain = arg, .now = now, .deadline_ms = deadline_ms };
    char home[512];
    int found;

    if (part == NULL && (part = kmsenv_credentials_env("ALIBABA_CLOUD_PROFILE")) == NULL)
        part = "default";
    if (path == NULL)
        path = kmsenv_credentials_env("ALIBABA_CLOUD_CREDENTIALS_FILE");
    if (path == NULL && kmsenv_credentials_home(".alibabacloud/credentials", home, sizeof(home)))
        path = home;
    if (path == NULL) {
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "no home directory");
        return KMSENV_SOURCE_ABSENT;
    }
    found = from_path(path, part, &p, out, err);
    if (found == KMSENV_SOURCE_ABSENT && path == home && p.missing)
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "no ~/.alibabacloud/credentials");
    return set == NULL ? found : found == KMSENV_SOURCE_FOUND;   /* named, so it must be there */
}
