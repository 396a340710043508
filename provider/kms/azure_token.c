/* Tokens of Azure: what a sign-in answers, and managed identities, whose tokens a service next to the machine gives. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/crypto.h>
#include "core/clock.h"
#include "kms/azure.h"

#define TOKEN_MAX     12288
#define LIFE_MAX      (31 * 86400)
#define IDENTITY_TRIES 3

/* --- the token in a reply ------------------------------------------------- */

/* A number of seconds, which some of these services write as a string. 0 if it is none, or not positive. */
static int64_t seconds(const KMSENV_JSON *json)
{
    const char *text = kmsenv_json_text(json);
    int64_t number = 0;
    size_t n;

    if (text == NULL)
        return kmsenv_json_number(json, &number) && number > 0 ? number : 0;
    n = strspn(text, "0123456789");
    return n > 0 && n <= 12 && text[n] == '\0' ? strtoll(text, NULL, 10) : 0;
}

/* expires_in counts from now, and needs no clock that is right; not all services give it. */
static int64_t life(const KMSENV_JSON *json, int64_t now)
{
    int64_t in = seconds(kmsenv_json_get(json, "expires_in")), on = seconds(kmsenv_json_get(json, "expires_on"));

    if (in == 0 && on > now)
        in = on - now;
    return in > LIFE_MAX ? LIFE_MAX : in;
}

static int read_token(const KMSENV_JSON *json, const KMSENV_BUFFER *token, int64_t now, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    int64_t left = life(json, now);

    if (token->length == 0)
        return kmsenv_result_malformed(err, "no access_token");
    if (left == 0)
        return kmsenv_result_malformed(err, "no expires_in or expires_on in the future");
    return kmsenv_credential_set(out, "", NULL, kmsenv_buffer_text(token), now + left, err);
}

/* --- sign-in -------------------------------------------------------------- */

static const KMSENV_REST_CODE codes[] = {
    { "invalid_client", KMSENV_SAYS_CREDENTIALS, "the application or its secret is not accepted; check client-id and tenant-id, and "
      "whether client-secret or the federated credential is wrong or has expired" },
    { "unauthorized_client", KMSENV_SAYS_CREDENTIALS, "there is no such application in this tenant; check client-id and tenant-id" },
    { "invalid_request", KMSENV_SAYS_CREDENTIALS, "the sign-in is not accepted; check tenant-id, client-id and authority" },
    { "invalid_grant", KMSENV_SAYS_CREDENTIALS, "the token of the workload is not accepted; check the federated credential" },
    { "invalid_scope", KMSENV_SAYS_CREDENTIALS, "there are no tokens for this resource here; check resource and authority" },
    { "invalid_resource", KMSENV_SAYS_CREDENTIALS, "there are no tokens for this resource here; check resource and authority" },
    { "invalid_target", KMSENV_SAYS_CREDENTIALS, "there are no tokens for this resource here; check resource and authority" },
    { "access_denied", KMSENV_SAYS_CREDENTIALS, "a policy of the tenant refuses the sign-in" },
    { "temporarily_unavailable", KMSENV_SAYS_LATER, "the sign-in service is overloaded" },
    { "server_error", KMSENV_SAYS_LATER, "the sign-in service is in trouble" },
    { NULL, 0, KMSENV_VERDICT_FINAL, NULL }
};

/* The description begins with a number that says what it is exactly, AADSTS7000215: the rest of it is not shown. */
static KMSENV_VERDICT judge(const KMSENV_REPLY *http, const KMSENV_JSON *json, KMSENV_ERROR *err)
{
    char code[64], number[32], id[80], request_id[80];
    KMSENV_VERDICT verdict;

    kmsenv_text_word(code, sizeof(code), kmsenv_json_text(kmsenv_json_get(json, "error")));
    kmsenv_text_word(number, sizeof(number), kmsenv_json_text(kmsenv_json_get(json, "error_description")));
    kmsenv_reply_header(http, "x-ms-request-id", id, sizeof(id));
    kmsenv_text_word(request_id, sizeof(request_id), id);
    if (code[0] == '\0' || http->status == 429 || http->status >= 500)
        verdict = kmsenv_rest_status(http, err);
    else
        verdict = kmsenv_rest_judge(codes, code, http->status, request_id, err);
    if (strncmp(number, "AADSTS", 6) == 0)
        kmsenv_error_prefix(err, "%s: ", number);
    if (!kmsenv_reason_is_unreachable(err->reason))
        err->reason = KMSENV_R_KMS_CREDENTIALS;      /* it says nothing about the key */
    return verdict;
}

static KMSENV_VERDICT result(KMSENV_REPLY *http, int64_t now, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    KMSENV_VERDICT verdict = KMSENV_VERDICT_FINAL;
    KMSENV_BUFFER token;
    KMSENV_JSON_SECRET secret = { "access_token", &token, 0 };
    KMSENV_JSON *json;

    kmsenv_buffer_init(&token, TOKEN_MAX, 1);
    json = kmsenv_json_parse(&http->body, &secret, 1, err);
    if (http->status != 200)
        verdict = judge(http, json, err);
    else if (json != NULL && read_token(json, &token, now, out, err))
        verdict = KMSENV_VERDICT_OK;
    kmsenv_buffer_reset(&token);
    kmsenv_json_free(json);
    return verdict;
}

KMSENV_VERDICT kmsenv_azure_login_result(KMSENV_REPLY *http, int64_t now, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    return result(http, now, out, err);
}

int kmsenv_azure_identity_result(KMSENV_REPLY *http, int64_t now, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    return result(http, now, out, err) == KMSENV_VERDICT_OK;
}

/* --- managed identities --------------------------------------------------- */

/* path: from the endpoint's path on, without the query. */
static int identity_request(const KMSENV_ENDPOINT *e, const char *path, const char *api, const char *resource, const char *client,
                            KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    KMSENV_BUFFER query, target;
    int ok;

    kmsenv_buffer_init(&query, 4096, 0);
    kmsenv_buffer_init(&target, 4096, 0);
    kmsenv_form_add(&query, "api-version", api);
    kmsenv_form_add(&query, "resource", resource);
    if (client != NULL)
        kmsenv_form_add(&query, "client_id", client);
    ok = !query.failed && kmsenv_buffer_printf(&target, "%s?%s", path, kmsenv_buffer_text(&query));
    if (!ok)
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "client-id is longer than one can be");
    ok = ok && kmsenv_metadata_request(e, kmsenv_buffer_text(&target), request, err);
    kmsenv_buffer_reset(&query);
    kmsenv_buffer_reset(&target);
    return ok;
}

int kmsenv_azure_instance_request(const KMSENV_ENDPOINT *metadata, const char *resource, const char *client, KMSENV_REQUEST *request,
                                  KMSENV_ERROR *err)
{
    return identity_request(metadata, "/metadata/identity/oauth2/token", "2018-02-01", resource, client, request, err)
           && kmsenv_request_add_header(request, "Metadata", "true", err);
}

/* Plain http only to where App Service answers: an address of this machine, link-local, or of a private network. */
static int is_near(const KMSENV_ENDPOINT *e)
{
    static const struct { uint32_t net, mask; } nets[] = {
        { 0xa9fe0000, 0xffff0000 }, { 0x0a000000, 0xff000000 }, { 0xac100000, 0xfff00000 }, { 0xc0a80000, 0xffff0000 }
    };
    struct in_addr v4;
    size_t i;

    if (e->tls || e->loopback)
        return 1;
    for (i = 0; inet_pton(AF_INET, e->host, &v4) == 1 && i < sizeof(nets) / sizeof(nets[0]); i++)
        if ((ntohl(v4.s_addr) & nets[i].mask) == nets[i].net)
            return 1;
    return 0;
}

int kmsenv_azure_app_request(const char *url, const char *header, const char *resource, const char *client, KMSENV_ENDPOINT *endpoint,
                             KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    kmsenv_request_init(request, "GET");
    if (!kmsenv_endpoint_parse(endpoint, url, 1, "IDENTITY_ENDPOINT", err))
        return 0;
    if (!is_near(endpoint))
        return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "IDENTITY_ENDPOINT: plain http is accepted to this machine and to "
                                "addresses of private networks only");
    return identity_request(endpoint, url[strlen(url) - 1] == '/' ? "/" : "", "2019-08-01", resource, client, request, err)
           && kmsenv_request_add_header(request, "X-IDENTITY-HEADER", header, err);
}

/* These services ask their clients to try again; the pauses are short, for somebody waits. */
static int ask(const KMSENV_AZURE_CHAIN *chain, const KMSENV_ENDPOINT *e, const KMSENV_REQUEST *request, uint64_t deadline_ms,
               KMSENV_REPLY *reply, KMSENV_ERROR *err)
{
    int found, tries = 0;

    do {
        if (tries > 0)
            kmsenv_clock_sleep_ms(100u << tries);
        kmsenv_reply_reset(reply);
        found = kmsenv_metadata_send(chain->http, e, request, deadline_ms, reply, err);
    } while (found == KMSENV_SOURCE_FAILED && (reply->status == 410 || reply->status == 429 || reply->status >= 500)
             && ++tries < IDENTITY_TRIES && kmsenv_clock_ms() + 1000 < deadline_ms);
    if (found == KMSENV_SOURCE_FAILED && reply->status == 400)
        return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "%s answers that there is no such managed identity: assign one to this "
                                "machine, or correct client-id", e->authority);
    return found;
}

static const char *client_of(const KMSENV_AZURE_CHAIN *chain)
{
    const char *text = kmsenv_section_text(chain->section, "client-id");

    return text != NULL ? text : kmsenv_credentials_env("AZURE_CLIENT_ID");
}

int kmsenv_azure_from_app(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    const KMSENV_AZURE_CHAIN *chain = arg;
    const char *url = kmsenv_credentials_env("IDENTITY_ENDPOINT"), *header = kmsenv_credentials_env("IDENTITY_HEADER");
    KMSENV_ENDPOINT endpoint;
    KMSENV_REQUEST request;
    KMSENV_REPLY reply;
    int ok;

    if (url == NULL || header == NULL) {
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "IDENTITY_ENDPOINT not set with IDENTITY_HEADER");
        return KMSENV_SOURCE_ABSENT;
    }
    kmsenv_reply_init(&reply);
    ok = kmsenv_azure_app_request(url, header, chain->resource, client_of(chain), &endpoint, &request, err)
         && ask(chain, &endpoint, &request, deadline_ms, &reply, err) == KMSENV_SOURCE_FOUND
         && kmsenv_azure_identity_result(&reply, now, out, err);
    kmsenv_request_reset(&request);
    kmsenv_reply_reset(&reply);
    return ok;   /* set up, so it must work */
}

int kmsenv_azure_from_instance(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    const KMSENV_AZURE_CHAIN *chain = arg;
    KMSENV_REQUEST request;
    KMSENV_REPLY reply;
    int found = KMSENV_SOURCE_FAILED;

    kmsenv_reply_init(&reply);
    kmsenv_request_init(&request, "GET");
    if (kmsenv_azure_instance_request(&chain->metadata, chain->resource, client_of(chain), &request, err))
        found = ask(chain, &chain->metadata, &request, deadline_ms, &reply, err);
    if (found == KMSENV_SOURCE_FOUND)
        found = kmsenv_azure_identity_result(&reply, now, out, err);
    kmsenv_request_reset(&request);
    kmsenv_reply_reset(&reply);
    return found;
}
