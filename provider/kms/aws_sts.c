/* Credentials of AWS for a web identity: the token in a file is exchanged at STS, which speaks forms and XML. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "kms/aws.h"

#define TOKEN_MAX 16384

/* --- request -------------------------------------------------------------- */

int kmsenv_aws_sts_body(const char *role_arn, const char *session, const char *token, KMSENV_BUFFER *body, KMSENV_ERROR *err)
{
    kmsenv_buffer_add_text(body, "Action=AssumeRoleWithWebIdentity&Version=2011-06-15");
    kmsenv_form_add(body, "RoleArn", role_arn);
    kmsenv_form_add(body, "RoleSessionName", session);
    kmsenv_form_add(body, "WebIdentityToken", token);
    return !body->failed || kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "the web identity token is too long");
}

int kmsenv_aws_sts_frame(const KMSENV_ENDPOINT *endpoint, KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    kmsenv_buffer_printf(&request->target, "%s/", endpoint->path);
    return kmsenv_request_add_header(request, "Host", endpoint->authority, err)
           && kmsenv_request_add_header(request, "Content-Type", "application/x-www-form-urlencoded", err);
}

/* --- XML ------------------------------------------------------------------ */

typedef struct span_st { const char *p; size_t n; } SPAN;

/*
 * What stands between <name> and </name>: only for the one element of that name there is, without attributes. That is all of
 * XML that replies of STS need; what is written another way is refused, not guessed at.
 */
static int element(SPAN in, const char *name, SPAN *out)
{
    char open[48], close[48];
    const char *from, *to, *end = in.p + in.n;
    size_t n = (size_t)snprintf(open, sizeof(open), "<%s>", name), m = (size_t)snprintf(close, sizeof(close), "</%s>", name);

    if (in.n == 0 || (from = memmem(in.p, in.n, open, n)) == NULL)
        return 0;
    from += n;
    if ((to = memmem(from, (size_t)(end - from), close, m)) == NULL
        || memmem(from, (size_t)(end - from), open, n) != NULL)
        return 0;
    out->p = from;
    out->n = (size_t)(to - from);
    return 1;
}

/* An element that holds nothing but a text of printable ASCII, without references. */
static int text_element(SPAN in, const char *name, KMSENV_BUFFER *out)
{
    SPAN text;
    size_t i;

    if (!element(in, name, &text) || text.n == 0)
        return 0;
    for (i = 0; i < text.n; i++)
        if (text.p[i] < 0x21 || text.p[i] > 0x7e || text.p[i] == '<' || text.p[i] == '&')
            return 0;
    return kmsenv_buffer_add(out, text.p, text.n);
}

static int read_time(SPAN in, int64_t *out)
{
    KMSENV_BUFFER text;
    int ok;

    kmsenv_buffer_init(&text, 64, 0);
    ok = text_element(in, "Expiration", &text) && kmsenv_text_time(kmsenv_buffer_text(&text), out);
    kmsenv_buffer_reset(&text);
    return ok;
}

/* --- reply ---------------------------------------------------------------- */

#define REFUSED KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_FINAL
#define LATER   KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY

static const KMSENV_REST_CODE codes[] = {
    { "ExpiredTokenException", REFUSED, "the web identity token has expired; who puts it into its file must renew it" },
    { "InvalidIdentityToken", REFUSED, "the web identity token is not accepted; check the identity provider in IAM" },
    { "IDPRejectedClaim", REFUSED, "the identity provider rejects the token" },
    { "AccessDenied", REFUSED, "the trust policy of the role does not allow this identity" },
    { "ValidationError", REFUSED, "AWS_ROLE_ARN or AWS_ROLE_SESSION_NAME is not well-formed" },
    { "RegionDisabledException", REFUSED, "STS is not activated in this region" },
    { "IDPCommunicationError", LATER, "STS could not reach the identity provider" },
    { "Throttling", KMSENV_R_KMS_THROTTLED, KMSENV_VERDICT_RETRY, "too many requests" },
    { NULL, 0, KMSENV_VERDICT_FINAL, NULL }
};

static KMSENV_VERDICT judge(const KMSENV_REPLY *http, SPAN body, KMSENV_ERROR *err)
{
    const KMSENV_REST_CODE *c = NULL;
    KMSENV_BUFFER code;
    char shown[80];

    kmsenv_buffer_init(&code, 64, 0);
    if (text_element(body, "Code", &code))
        c = kmsenv_rest_find_code(codes, kmsenv_buffer_text(&code));
    kmsenv_text_printable(shown, sizeof(shown), kmsenv_buffer_text(&code), code.length);
    kmsenv_buffer_reset(&code);
    if (c != NULL)
        kmsenv_error_set(err, c->reason, "STS: %s: %s", shown, c->text);
    else if (http->status >= 500 || http->status == 429 || shown[0] == '\0')
        return kmsenv_rest_status(http, err);
    else
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "STS: %s: it refuses", shown);
    return c == NULL ? KMSENV_VERDICT_FINAL : c->verdict;
}

KMSENV_VERDICT kmsenv_aws_sts_credential(KMSENV_REPLY *http, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    SPAN body = { kmsenv_buffer_text(&http->body), http->body.length }, set;
    KMSENV_VERDICT verdict = KMSENV_VERDICT_FINAL;
    KMSENV_CREDENTIAL_TEXTS t;
    int64_t expires;

    if (http->status != 200)
        return judge(http, body, err);
    kmsenv_credential_texts_init(&t);
    if (!element(body, "Credentials", &set) || !text_element(set, "AccessKeyId", &t.id)
        || !text_element(set, "SecretAccessKey", &t.secret) || !text_element(set, "SessionToken", &t.token)
        || !read_time(set, &expires))
        kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "STS: the reply has no Credentials with AccessKeyId, "
                         "SecretAccessKey, SessionToken and Expiration; check sts-endpoint");
    else if (kmsenv_credential_texts_set(&t, expires, out, err))
        verdict = KMSENV_VERDICT_OK;
    kmsenv_credential_texts_reset(&t);
    return verdict;
}

/* --- the exchange --------------------------------------------------------- */

typedef struct identity_st {
    const KMSENV_AWS_CHAIN *chain;
    const char *role_arn, *session;
    const KMSENV_BUFFER *token;
    KMSENV_CREDENTIAL *out;
} IDENTITY;

static int build(void *arg, int64_t now, const KMSENV_CREDENTIAL *credential, KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    const IDENTITY *i = arg;
    char session[48];

    (void)credential;
    snprintf(session, sizeof(session), "kmsenv-%" PRId64, now);
    request->secret = 1;
    return kmsenv_aws_sts_body(i->role_arn, i->session == NULL ? session : i->session, kmsenv_buffer_text(i->token), &request->body, err)
           && kmsenv_aws_sts_frame(&i->chain->sts.endpoint, request, err);
}

static KMSENV_VERDICT parse(void *arg, KMSENV_REPLY *reply, KMSENV_ERROR *err)
{
    return kmsenv_aws_sts_credential(reply, ((IDENTITY *)arg)->out, err);
}

int kmsenv_aws_from_web_identity(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    KMSENV_AWS_CHAIN *chain = arg;
    const char *path = kmsenv_credentials_env("AWS_WEB_IDENTITY_TOKEN_FILE");
    KMSENV_BUFFER token;
    IDENTITY identity = { chain, kmsenv_credentials_env("AWS_ROLE_ARN"), kmsenv_credentials_env("AWS_ROLE_SESSION_NAME"), &token, out };
    const KMSENV_REST_CALL call = { build, parse, &identity };
    unsigned attempts = 0;
    int found;

    (void)now;
    if (path == NULL || identity.role_arn == NULL) {
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "AWS_WEB_IDENTITY_TOKEN_FILE not set with AWS_ROLE_ARN");
        return KMSENV_SOURCE_ABSENT;
    }
    kmsenv_buffer_init(&token, TOKEN_MAX, 1);
    found = kmsenv_credentials_file(path, &token, err) == KMSENV_SOURCE_FOUND
            && kmsenv_rest_perform(&chain->sts, &call, deadline_ms, &attempts, err);
    kmsenv_buffer_reset(&token);
    return found;
}
