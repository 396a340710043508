/*
 * Workload identity federation: a token of another identity provider, out of a file or from a URL,
 * is exchanged at the security token service, and that token perhaps for one of a service account.
 *
 * The file that describes this may have been made by somebody else. What it can do: have a file of
 * one line read, or a URL fetched with GET, and the result shown to Google's token service, to which
 * nothing else is sent. It cannot run programs here.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "kms/google.h"

#define METADATA_HOST "169.254.169.254"   /* Azure's, too */
#define HEADERS_MAX   8

static int wrong(KMSENV_ERROR *err, const char *what)
{
    return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "credentials of type external_account: %s", what);
}

static const char *text_of(const KMSENV_JSON *json, const char *name)
{
    return kmsenv_json_text(kmsenv_json_get(json, name));
}

/* --- the subject token ---------------------------------------------------- */

/* Headers that say how a request is framed are not for others to say. */
static int is_header(const char *name)
{
    static const char *const ours[] = { "Host", "Content-Length", "Transfer-Encoding", "Connection", "Expect", "TE", "Upgrade",
                                        "Trailer", "Proxy-Authorization", "Proxy-Connection" };
    size_t i;

    for (i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        if (strcasecmp(name, ours[i]) == 0)
            return 0;
    return 1;
}

static int add_headers(const KMSENV_GOOGLE_FILE *file, const KMSENV_JSON *headers, KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    const KMSENV_JSON *header;
    const char *name, *value;
    size_t i;

    for (i = 0; (header = kmsenv_json_at(headers, i)) != NULL; i++) {
        name = kmsenv_json_name(header);
        value = kmsenv_json_text(header);
        if (i == HEADERS_MAX || name == NULL || value == NULL || !is_header(name))
            return wrong(err, "headers has more than 8, one without a text, or one that is not to be set");
        if (strcasecmp(name, "Authorization") == 0)   /* it was taken out of the text */
            value = kmsenv_buffer_text(&file->authorization);
        if (!kmsenv_request_add_header(request, name, value, err))
            return 0;
    }
    return 1;
}

static int fetch(const KMSENV_GOOGLE_WISH *wish, const KMSENV_JSON *source, KMSENV_BUFFER *out, KMSENV_ERROR *err)
{
    KMSENV_ENDPOINT host;
    KMSENV_REQUEST request;
    KMSENV_REPLY reply;
    const char *path;
    int ok;

    if (!kmsenv_google_split_url(text_of(source, "url"), 1, "credential_source.url", &host, &path, err))
        return 0;
    if (!host.tls && !host.loopback && strcmp(host.host, METADATA_HOST) != 0)
        return wrong(err, "credential_source.url with plain http; accepted: https, or http to " METADATA_HOST " or this machine");
    kmsenv_request_init(&request, "GET");
    kmsenv_reply_init(&reply);
    request.direct = !host.tls;
    kmsenv_buffer_add_text(&request.target, path);
    ok = kmsenv_request_add_header(&request, "Host", host.authority, err)
         && add_headers(wish->file, kmsenv_json_get(source, "headers"), &request, err) && kmsenv_request_check(&request, err)
         && kmsenv_http_send(wish->chain->http, &host, &request, wish->deadline_ms, &reply, err);
    if (ok && reply.status != 200)
        ok = kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "credential_source.url answered with HTTP status %d", reply.status);
    if (ok && !kmsenv_buffer_add(out, reply.body.data, reply.body.length))
        ok = wrong(err, "what credential_source.url gives is too long for a token");
    kmsenv_request_reset(&request);
    kmsenv_reply_reset(&reply);
    return ok;
}

static int read_source(const KMSENV_GOOGLE_WISH *wish, const KMSENV_JSON *source, KMSENV_BUFFER *out, KMSENV_ERROR *err)
{
    const char *path = text_of(source, "file");

    if (path == NULL && text_of(source, "url") != NULL)
        return fetch(wish, source, out, err);
    if (path == NULL || *path != '/')
        return wrong(err, "credential_source needs file, an absolute path, or url; executables, certificates and AWS are not used here");
    return kmsenv_credentials_file(path, out, err) == KMSENV_SOURCE_FOUND;
}

/* One word of printable characters: no key file, and no other file that has lines, can be taken for a token. */
static int is_token(const KMSENV_BUFFER *text)
{
    size_t i;

    for (i = 0; i < text->length; i++)
        if (text->data[i] <= 0x20 || text->data[i] >= 0x7f)
            return 0;
    return text->length > 0;
}

/* The source's text is the token, or is JSON that has it. */
static int take_token(const KMSENV_JSON *format, KMSENV_BUFFER *text, KMSENV_BUFFER *out, KMSENV_ERROR *err)
{
    const char *type = text_of(format, "type"), *field = text_of(format, "subject_token_field_name");
    KMSENV_JSON_SECRET secret = { field, out, 0 };

    if (type != NULL && strcmp(type, "json") == 0) {
        if (field == NULL)
            return wrong(err, "format needs subject_token_field_name");
        if (!kmsenv_json_check(text, &secret, 1, err) || !secret.found)
            return wrong(err, "the source of the subject token is not JSON with the member that subject_token_field_name says");
    } else if (type != NULL && strcmp(type, "text") != 0) {
        return wrong(err, "format has a type that is neither text nor json");
    } else {
        kmsenv_buffer_add(out, text->data, text->length);
    }
    return (!out->failed && is_token(out)) || wrong(err, "the subject token is not one word of printable characters, or too long");
}

static int get_subject(const KMSENV_GOOGLE_WISH *wish, const KMSENV_JSON *json, KMSENV_BUFFER *out, KMSENV_ERROR *err)
{
    const KMSENV_JSON *source = kmsenv_json_get(json, "credential_source");
    KMSENV_BUFFER text;
    int ok;

    kmsenv_buffer_init(&text, 2 * KMSENV_GOOGLE_TOKEN_MAX, 1);
    ok = read_source(wish, source, &text, err) && take_token(kmsenv_json_get(source, "format"), &text, out, err);
    kmsenv_buffer_reset(&text);
    return ok;
}

/* --- the exchange --------------------------------------------------------- */

typedef struct exchange_st { const char *audience, *scope, *subject, *type; } EXCHANGE;

static int make_exchange(const void *arg, int64_t now, KMSENV_BUFFER *body, KMSENV_ERROR *err)
{
    const EXCHANGE *e = arg;

    (void)now;
    return kmsenv_google_exchange_form(e->audience, e->scope, e->subject, e->type, body, err);
}

static int exchange(const KMSENV_GOOGLE_WISH *wish, const KMSENV_JSON *json, const KMSENV_BUFFER *subject, KMSENV_GOOGLE_TOKEN *out,
                    KMSENV_ERROR *err)
{
    const EXCHANGE e = { text_of(json, "audience"), wish->scope, kmsenv_buffer_text(subject), text_of(json, "subject_token_type") };
    const KMSENV_GOOGLE_ASK ask = { "sts", "token_url", text_of(json, "token_url"), NULL, make_exchange, &e };

    return kmsenv_google_ask(wish, &ask, out, err);
}

/* What such a file may ask for and is not done here: better said than left out. */
static int check_members(const KMSENV_JSON *json, KMSENV_ERROR *err)
{
    if (text_of(json, "audience") == NULL || text_of(json, "subject_token_type") == NULL || text_of(json, "token_url") == NULL)
        return wrong(err, "it needs audience, subject_token_type and token_url");
    if (kmsenv_json_get(json, "workforce_pool_user_project") != NULL || kmsenv_json_get(json, "client_id") != NULL)
        return wrong(err, "workforce pools with a user project or a client are not used here; use a workload identity pool");
    return 1;
}

int kmsenv_google_from_external(const KMSENV_GOOGLE_WISH *wish, const KMSENV_JSON *json, KMSENV_GOOGLE_TOKEN *out, KMSENV_ERROR *err)
{
    int impersonates = kmsenv_json_get(json, "service_account_impersonation_url") != NULL, ok;
    KMSENV_GOOGLE_WISH first = *wish;
    KMSENV_GOOGLE_TOKEN subject, federated;

    if (!check_members(json, err))
        return 0;
    if (impersonates)
        first.scope = KMSENV_GOOGLE_SCOPE_ALL;
    kmsenv_google_token_init(&subject);
    kmsenv_google_token_init(&federated);
    ok = get_subject(wish, json, &subject.text, err)
         && exchange(&first, json, &subject.text, impersonates ? &federated : out, err)
         && (!impersonates || kmsenv_google_impersonate(wish, json, kmsenv_buffer_text(&federated.text), out, err));
    kmsenv_google_token_reset(&subject);
    kmsenv_google_token_reset(&federated);
    return ok;
}
