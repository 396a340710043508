/* Where Tencent Cloud's own clients find credentials, in their order, after the settings of the profile. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <openssl/crypto.h>
#include "kms/tencent.h"

#define TOKEN_MAX     8192       /* session tokens, web identity tokens */
#define ROLE_MAX      128
#define METADATA_HOST "metadata.tencentyun.com"
#define PATH_MAX_LEN  (ROLE_MAX + 64)

struct kmsenv_tencent_chain_st {
    const KMSENV_SECTION *section;
    KMSENV_HTTP *http;
    KMSENV_CRYPTO *crypto;
    KMSENV_ENDPOINT metadata;
    KMSENV_REST sts;
};

KMSENV_TENCENT_CHAIN *kmsenv_tencent_chain_new(const KMSENV_SECTION *section, KMSENV_HTTP *http, KMSENV_CRYPTO *crypto,
                                               KMSENV_ERROR *err)
{
    KMSENV_TENCENT_CHAIN *chain = OPENSSL_zalloc(sizeof(*chain));

    if (chain == NULL) {
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for credentials");
        return NULL;
    }
    chain->section = section;
    chain->http = chain->sts.http = http;
    chain->crypto = crypto;
    if (kmsenv_metadata_endpoint(&chain->metadata, kmsenv_section_text(section, "metadata-endpoint"), METADATA_HOST, err)
        && kmsenv_http_endpoint(http, &chain->sts.endpoint, kmsenv_section_text(section, "sts-endpoint"), "sts-endpoint", err))
        return chain;
    OPENSSL_free(chain);
    return NULL;
}

void kmsenv_tencent_chain_free(KMSENV_TENCENT_CHAIN *chain)
{
    OPENSSL_free(chain);
}

/* --- what is written down ------------------------------------------------- */

static int from_settings(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    static const KMSENV_CREDENTIAL_NAMES names = { "secret-id", "secret-key", "token" };

    (void)now;
    (void)deadline_ms;
    return kmsenv_credentials_from_settings(((KMSENV_TENCENT_CHAIN *)arg)->section, &names, out, err);
}

/* The vendor's command line tool calls the token otherwise than its libraries do. */
static int from_environment(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    KMSENV_CREDENTIAL_NAMES names = { "TENCENTCLOUD_SECRET_ID", "TENCENTCLOUD_SECRET_KEY", "TENCENTCLOUD_SESSION_TOKEN" };

    (void)arg;
    (void)now;
    (void)deadline_ms;
    if (kmsenv_credentials_env(names.token) == NULL)
        names.token = "TENCENTCLOUD_TOKEN";
    return kmsenv_credentials_from_env(&names, out, err);
}

static int from_path(const char *path, const char *section, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    static const KMSENV_CREDENTIAL_NAMES names = { "secret_id", "secret_key", "token" };

    return kmsenv_credentials_from_ini(path, section, &names, out, err);
}

static int from_file(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    const KMSENV_SECTION *section = ((KMSENV_TENCENT_CHAIN *)arg)->section;
    const char *set = kmsenv_section_text(section, "credentials-file");
    const char *part = kmsenv_section_text(section, "credentials-section");
    char home[512];
    int found;

    (void)now;
    (void)deadline_ms;
    if (set != NULL) {
        found = from_path(set, part, out, err);
        return found == KMSENV_SOURCE_FOUND;   /* named, so it must be there */
    }
    if (kmsenv_credentials_home(".tencentcloud/credentials", home, sizeof(home))
        && (found = from_path(home, part, out, err)) != KMSENV_SOURCE_ABSENT)
        return found;
    if ((found = from_path("/etc/tencentcloud/credentials", part, out, err)) == KMSENV_SOURCE_ABSENT)
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "no [%.40s] with secret_id in ~/.tencentcloud/credentials or "
                         "/etc/tencentcloud/credentials", part);
    return found;
}

/* --- role of the virtual machine ------------------------------------------ */

int kmsenv_tencent_role_path(const char *role, char *out, size_t room)
{
    int n = snprintf(out, room, "/latest/meta-data/cam/security-credentials/%s", role == NULL ? "" : role);

    return n > 0 && (size_t)n < room;
}

/* Members that both kinds of temporary credentials have; now the secrets are in t, the rest is in json. */
static int read_temporary(const KMSENV_JSON *where, const KMSENV_JSON *expires, KMSENV_CREDENTIAL_TEXTS *t, KMSENV_CREDENTIAL *out,
                          KMSENV_ERROR *err)
{
    const char *id = kmsenv_json_text(kmsenv_json_get(where, "TmpSecretId"));
    int64_t until;

    if (id == NULL || *id == '\0' || t->secret.length == 0 || t->token.length == 0
        || !kmsenv_json_number(expires, &until) || until <= 0)
        return kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "the reply misses one of TmpSecretId, TmpSecretKey, Token, ExpiredTime");
    if (!kmsenv_buffer_add_text(&t->id, id))
        return kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "the reply has a TmpSecretId that is too long");
    return kmsenv_credential_texts_set(t, until, out, err);
}

int kmsenv_tencent_role_credential(KMSENV_REPLY *reply, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    KMSENV_JSON *json;
    const char *code;
    KMSENV_CREDENTIAL_TEXTS t;
    KMSENV_JSON_SECRET secrets[] = { { "TmpSecretKey", &t.secret, 0 }, { "Token", &t.token, 0 } };
    int ok = 0;

    kmsenv_credential_texts_init(&t);
    if ((json = kmsenv_json_parse(&reply->body, secrets, 2, err)) != NULL) {
        code = kmsenv_json_text(kmsenv_json_get(json, "Code"));
        if (code == NULL || strcmp(code, "Success") == 0)
            ok = read_temporary(json, kmsenv_json_get(json, "ExpiredTime"), &t, out, err);
        else
            kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "the metadata service has no credentials for the role");
    }
    kmsenv_json_free(json);
    kmsenv_credential_texts_reset(&t);
    return ok;
}

/* The name of the role: as set, or as the metadata service tells. */
static int get_role(KMSENV_TENCENT_CHAIN *chain, uint64_t deadline_ms, char *role, KMSENV_ERROR *err)
{
    const char *set = kmsenv_section_text(chain->section, "cvm-role");
    char path[PATH_MAX_LEN];
    KMSENV_REPLY reply;
    int found;

    kmsenv_reply_init(&reply);
    kmsenv_tencent_role_path(NULL, path, sizeof(path));
    if (set != NULL) {
        kmsenv_buffer_add_text(&reply.body, set);
        found = KMSENV_SOURCE_FOUND;
    } else {
        found = kmsenv_metadata_get(chain->http, &chain->metadata, path, deadline_ms, &reply, err);
    }
    if (found == KMSENV_SOURCE_FOUND)
        found = kmsenv_metadata_role(&reply, role, ROLE_MAX, err);
    kmsenv_reply_reset(&reply);
    return found;
}

static int from_cvm_role(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    KMSENV_TENCENT_CHAIN *chain = arg;
    char role[ROLE_MAX], path[PATH_MAX_LEN];
    KMSENV_REPLY reply;
    int found;

    (void)now;
    if ((found = get_role(chain, deadline_ms, role, err)) != KMSENV_SOURCE_FOUND)
        return found;
    kmsenv_tencent_role_path(role, path, sizeof(path));
    kmsenv_reply_init(&reply);
    found = kmsenv_metadata_get(chain->http, &chain->metadata, path, deadline_ms, &reply, err);
    if (found == KMSENV_SOURCE_FOUND)
        found = kmsenv_tencent_role_credential(&reply, out, err);
    kmsenv_reply_reset(&reply);
    return found;
}

/* --- web identity of a TKE pod -------------------------------------------- */

int kmsenv_tencent_sts_body(const char *role_arn, const char *session, const char *token, const char *provider,
                            KMSENV_BUFFER *body, KMSENV_ERROR *err)
{
    kmsenv_json_open(body, NULL);
    kmsenv_json_add_text(body, "RoleArn", role_arn);
    kmsenv_json_add_text(body, "RoleSessionName", session);
    kmsenv_json_add_text(body, "WebIdentityToken", token);
    kmsenv_json_add_text(body, "ProviderId", provider);
    kmsenv_json_close(body);
    if (!body->failed)
        return 1;
    return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "the web identity token is too long");
}

KMSENV_VERDICT kmsenv_tencent_sts_credential(KMSENV_REPLY *http, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    KMSENV_TENCENT_REPLY reply;
    KMSENV_VERDICT verdict;
    KMSENV_CREDENTIAL_TEXTS t;
    KMSENV_JSON_SECRET secrets[] = { { "TmpSecretKey", &t.secret, 0 }, { "Token", &t.token, 0 } };

    kmsenv_credential_texts_init(&t);
    verdict = kmsenv_tencent_parse(http, secrets, 2, &reply, err);
    if (verdict == KMSENV_VERDICT_OK
        && !read_temporary(kmsenv_json_get(reply.response, "Credentials"), kmsenv_json_get(reply.response, "ExpiredTime"), &t,
                           out, err))
        verdict = KMSENV_VERDICT_FINAL;
    kmsenv_tencent_reply_reset(&reply);
    kmsenv_credential_texts_reset(&t);
    return verdict;
}

typedef struct identity_st {
    const KMSENV_TENCENT_CHAIN *chain;
    const char *region, *provider, *role_arn;
    const KMSENV_BUFFER *token;
    KMSENV_CREDENTIAL *out;
} IDENTITY;

static int build_assume(void *arg, int64_t now, const KMSENV_CREDENTIAL *credential, KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    const IDENTITY *i = arg;
    const KMSENV_TENCENT_TARGET target = { &i->chain->sts.endpoint, "sts", KMSENV_TENCENT_STS_VERSION, i->region };
    char session[48];

    snprintf(session, sizeof(session), "kmsenv-%" PRId64, now);
    request->secret = 1;
    return kmsenv_tencent_sts_body(i->role_arn, session, kmsenv_buffer_text(i->token), i->provider, &request->body, err)
           && kmsenv_tencent_frame(&target, "AssumeRoleWithWebIdentity", now, NULL, request, err)
           && kmsenv_tencent_sign(i->chain->crypto, NULL, &target, now, credential, request, err);
}

static KMSENV_VERDICT parse_assume(void *arg, KMSENV_REPLY *reply, KMSENV_ERROR *err)
{
    return kmsenv_tencent_sts_credential(reply, ((IDENTITY *)arg)->out, err);
}

static int from_tke_oidc(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    KMSENV_TENCENT_CHAIN *chain = arg;
    const char *path = kmsenv_credentials_env("TKE_WEB_IDENTITY_TOKEN_FILE");
    KMSENV_BUFFER token;
    IDENTITY identity = { chain, kmsenv_credentials_env("TKE_REGION"), kmsenv_credentials_env("TKE_PROVIDER_ID"),
                          kmsenv_credentials_env("TKE_ROLE_ARN"), &token, out };
    const KMSENV_REST_CALL call = { build_assume, parse_assume, &identity };
    unsigned attempts = 0;
    int found;

    (void)now;
    if (path == NULL || identity.region == NULL || identity.provider == NULL || identity.role_arn == NULL) {
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS,
                         "TKE_REGION, TKE_PROVIDER_ID, TKE_WEB_IDENTITY_TOKEN_FILE, TKE_ROLE_ARN not all set");
        return KMSENV_SOURCE_ABSENT;
    }
    kmsenv_buffer_init(&token, TOKEN_MAX, 1);
    found = kmsenv_credentials_file(path, &token, err) == KMSENV_SOURCE_FOUND
            && kmsenv_rest_perform(&chain->sts, &call, deadline_ms, &attempts, err);
    kmsenv_buffer_reset(&token);
    return found;
}

const KMSENV_CREDENTIAL_SOURCE kmsenv_tencent_sources[] = {
    { "settings", from_settings },
    { "environment", from_environment },
    { "file", from_file },
    { "cvm-role", from_cvm_role },
    { "tke-oidc", from_tke_oidc },
    { NULL, NULL }
};
