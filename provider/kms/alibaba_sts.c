/* Credentials of a role of Alibaba Cloud, which STS gives: to an identity provider's token, or to other credentials. */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include "core/clock.h"
#include "kms/alibaba.h"

#define VERSION   "2015-04-01"
#define DURATION  3600
#define TOKEN_MAX 16384

/* --- requests ------------------------------------------------------------- */

/* Query: what the request is. A security token is kept out of the URL. */
static void add_query(const KMSENV_ALIBABA_FRAME *f, const KMSENV_ALIBABA_ROLE *role, const char *time, KMSENV_BUFFER *target)
{
    kmsenv_buffer_printf(target, "%s/?", f->endpoint->path);
    kmsenv_form_add(target, "Version", VERSION);
    kmsenv_form_add(target, "Action", role->provider_arn != NULL ? "AssumeRoleWithOIDC" : "AssumeRole");
    kmsenv_form_add(target, "Format", "JSON");
    kmsenv_form_add(target, "Timestamp", time);
    if (role->provider_arn != NULL)
        return;
    kmsenv_form_add(target, "SignatureMethod", "HMAC-SHA1");
    kmsenv_form_add(target, "SignatureVersion", "1.0");
    kmsenv_form_add(target, "SignatureNonce", f->nonce);
    kmsenv_form_add(target, "AccessKeyId", f->signer.id);
}

static void add_if(KMSENV_BUFFER *body, const char *name, const char *value)
{
    if (value != NULL && *value != '\0')
        kmsenv_form_add(body, name, value);
}

static void add_body(const KMSENV_ALIBABA_FRAME *f, const KMSENV_ALIBABA_ROLE *role, const char *token, KMSENV_BUFFER *body)
{
    char session[48], duration[24];

    snprintf(session, sizeof(session), "kmsenv-%" PRId64, f->timestamp);
    snprintf(duration, sizeof(duration), "%" PRId64, role->duration > 0 ? role->duration : DURATION);
    add_if(body, "OIDCProviderArn", role->provider_arn);
    add_if(body, "OIDCToken", token);
    kmsenv_form_add(body, "RoleArn", role->role_arn);
    add_if(body, "Policy", role->policy);
    add_if(body, "ExternalId", role->external_id);
    kmsenv_form_add(body, "RoleSessionName", role->session != NULL && *role->session != '\0' ? role->session : session);
    kmsenv_form_add(body, "DurationSeconds", duration);
    if (role->provider_arn == NULL)
        add_if(body, "SecurityToken", f->token);
}

int kmsenv_alibaba_sts_request(const KMSENV_ALIBABA_FRAME *frame, const KMSENV_ALIBABA_ROLE *role, const char *token,
                               KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    char time[24];

    if (!kmsenv_acs_time(frame->timestamp, time, sizeof(time), err))
        return 0;
    request->secret = 1;
    add_query(frame, role, time, &request->target);
    add_body(frame, role, token, &request->body);
    return kmsenv_request_add_header(request, "Host", frame->endpoint->authority, err)
           && kmsenv_request_add_header(request, "Content-Type", "application/x-www-form-urlencoded", err)
           && kmsenv_request_check(request, err)
           && (role->provider_arn != NULL || kmsenv_acs_rpc_sign(&frame->signer, request, err));
}

/* --- replies -------------------------------------------------------------- */

static const KMSENV_REST_CODE codes[] = {
    { "Throttling", KMSENV_SAYS_THROTTLED, "too many requests" },
    { "InternalError", KMSENV_SAYS_LATER, "a fault inside STS" },
    { "ServiceUnavailable", KMSENV_SAYS_LATER, "STS is temporarily unavailable" },
    { "SignatureNonceUsed", KMSENV_SAYS_LATER, "STS saw this request twice" },
    { "IllegalTimestamp", KMSENV_SAYS_CLOCK, "this machine's clock is more than 15 minutes off; set it (NTP)" },
    { "InvalidTimeStamp", KMSENV_SAYS_CLOCK, "this machine's clock is more than 15 minutes off; set it (NTP)" },
    { "NoPermission", KMSENV_SAYS_CREDENTIALS, "RAM policies, or the role's trust policy, do not allow to assume it" },
    { "EntityNotExist.Role", KMSENV_SAYS_CREDENTIALS, "there is no such role; check its ARN" },
    { "AuthenticationFail.NoPermission", KMSENV_SAYS_CREDENTIALS, "the trust policy of the role does not allow this identity" },
    { "AuthenticationFail", KMSENV_SAYS_CREDENTIALS, "the OIDC token is not accepted; who puts it into its file must renew it" },
    { "InvalidAccessKeyId", KMSENV_SAYS_CREDENTIALS, "the access key is unknown to STS" },
    { "InvalidSecurityToken", KMSENV_SAYS_CREDENTIALS, "the temporary credentials have expired or are not valid; renew them" },
    { "SignatureDoesNotMatch", KMSENV_SAYS_CREDENTIALS, "the secret of the access key is wrong" },
    { "InvalidParameter", KMSENV_SAYS_CREDENTIALS, "STS does not accept the role's ARN, its session's name or its duration" },
    { NULL, 0, KMSENV_VERDICT_FINAL, NULL }
};

KMSENV_VERDICT kmsenv_alibaba_sts_credential(KMSENV_REPLY *reply, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    KMSENV_CREDENTIAL_TEXTS t;
    KMSENV_JSON_SECRET secrets[] = { { "AccessKeySecret", &t.secret, 0 }, { "SecurityToken", &t.token, 0 } };
    KMSENV_VERDICT verdict = KMSENV_VERDICT_FINAL;
    char code[96], request_id[80];
    KMSENV_JSON *json;

    kmsenv_credential_texts_init(&t);
    json = kmsenv_json_parse(&reply->body, secrets, 2, err);
    kmsenv_text_word(code, sizeof(code), kmsenv_json_text(kmsenv_json_get(json, "Code")));
    kmsenv_text_word(request_id, sizeof(request_id), kmsenv_json_text(kmsenv_json_get(json, "RequestId")));
    if (code[0] != '\0')
        verdict = kmsenv_rest_judge(codes, code, reply->status, request_id, err);
    else if (reply->status != 200)
        verdict = kmsenv_rest_status(reply, err);
    else if (json != NULL && kmsenv_alibaba_read_set(kmsenv_json_get(json, "Credentials"), &t, out, err))
        verdict = KMSENV_VERDICT_OK;
    if (verdict == KMSENV_VERDICT_FINAL && kmsenv_reason_is_refusal(err->reason))
        err->reason = KMSENV_R_KMS_CREDENTIALS;   /* STS has refused, not the KMS: that says nothing about a key */
    kmsenv_json_free(json);
    kmsenv_credential_texts_reset(&t);
    return verdict;
}

/* --- assuming a role ------------------------------------------------------ */

typedef struct assumption_st {
    const KMSENV_ALIBABA_CHAIN *chain;
    const KMSENV_ALIBABA_ROLE *role;
    const KMSENV_ENDPOINT *endpoint;
    const KMSENV_BUFFER *token;
    KMSENV_CREDENTIAL *out;
} ASSUMPTION;

static int build(void *arg, int64_t now, const KMSENV_CREDENTIAL *credential, KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    const ASSUMPTION *a = arg;
    const KMSENV_CREDENTIAL *by = a->role->by;
    char nonce[KMSENV_ALIBABA_NONCE];
    KMSENV_ALIBABA_FRAME frame = { .endpoint = a->endpoint, .signer = { .crypto = a->chain->crypto }, .timestamp = now, .nonce = nonce };

    (void)credential;
    if (by != NULL) {
        frame.signer.id = by->id;
        frame.signer.secret = by->secret;
        frame.token = by->token;
    }
    return kmsenv_alibaba_nonce(a->chain->crypto, nonce, err)
           && kmsenv_alibaba_sts_request(&frame, a->role, kmsenv_buffer_text(a->token), request, err);
}

static KMSENV_VERDICT parse(void *arg, KMSENV_REPLY *reply, KMSENV_ERROR *err)
{
    return kmsenv_alibaba_sts_credential(reply, ((ASSUMPTION *)arg)->out, err);
}

static int find_endpoint(const KMSENV_ALIBABA_CHAIN *chain, const KMSENV_ALIBABA_ROLE *role, KMSENV_ENDPOINT *e, KMSENV_ERROR *err)
{
    const char *text = role->sts_endpoint, *region = role->sts_region;
    char made[KMSENV_ENDPOINT_TEXT_MAX];

    if (chain->sts.host[0] != '\0') {
        *e = chain->sts;
        return 1;
    }
    if (text == NULL || *text == '\0') {
        if (region == NULL || *region == '\0')
            region = kmsenv_credentials_env("ALIBABA_CLOUD_STS_REGION");
        if (!kmsenv_alibaba_endpoint("sts", role->vpc || kmsenv_alibaba_env_true("ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED"), region, made,
                                     sizeof(made)))
            return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "ALIBABA_CLOUD_STS_REGION, or sts_region, is not the name of a region");
        text = made;
    }
    return kmsenv_http_endpoint(chain->http, e, text, "sts_endpoint", err);
}

int kmsenv_alibaba_assume(const KMSENV_ALIBABA_CHAIN *chain, const KMSENV_ALIBABA_ROLE *role, int64_t now, uint64_t deadline_ms,
                          KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    KMSENV_REST rest = { .http = chain->http };
    KMSENV_ALIBABA_ROLE whole = *role;
    KMSENV_BUFFER token;
    ASSUMPTION a = { chain, &whole, &rest.endpoint, &token, out };
    const KMSENV_REST_CALL call = { build, parse, &a };
    unsigned attempts = 0;
    int ok;

    if (role->role_arn == NULL || *role->role_arn == '\0')
        return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "the ARN of the role to assume is not given");
    if (whole.session == NULL || *whole.session == '\0')
        whole.session = kmsenv_credentials_env("ALIBABA_CLOUD_ROLE_SESSION_NAME");
    atomic_init(&rest.clock_offset, now - kmsenv_clock_unix());
    kmsenv_buffer_init(&token, TOKEN_MAX, 1);
    ok = (role->token_file == NULL || kmsenv_credentials_file(role->token_file, &token, err) == KMSENV_SOURCE_FOUND)
         && find_endpoint(chain, role, &rest.endpoint, err);
    if (ok && !(ok = kmsenv_rest_perform(&rest, &call, deadline_ms, &attempts, err)))
        kmsenv_error_prefix(err, "%s: ", role->provider_arn != NULL ? "AssumeRoleWithOIDC" : "AssumeRole");
    kmsenv_buffer_reset(&token);
    return ok;
}

int kmsenv_alibaba_from_oidc(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    const KMSENV_ALIBABA_ROLE role = { .role_arn = kmsenv_credentials_env("ALIBABA_CLOUD_ROLE_ARN"),
                                       .provider_arn = kmsenv_credentials_env("ALIBABA_CLOUD_OIDC_PROVIDER_ARN"),
                                       .token_file = kmsenv_credentials_env("ALIBABA_CLOUD_OIDC_TOKEN_FILE") };

    if (role.role_arn == NULL || role.provider_arn == NULL || role.token_file == NULL) {
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "ALIBABA_CLOUD_%s not set", role.token_file == NULL ? "OIDC_TOKEN_FILE"
                         : role.provider_arn == NULL ? "OIDC_PROVIDER_ARN" : "ROLE_ARN");
        return KMSENV_SOURCE_ABSENT;
    }
    return kmsenv_alibaba_assume(arg, &role, now, deadline_ms, out, err);
}
