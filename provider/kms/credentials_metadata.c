#include <string.h>
#include <strings.h>
#include "core/clock.h"
#include "kms/credentials.h"

/* The service is on the same host: a connection takes a millisecond, or there is none. It may have to ask others for its answer. */
#define CONNECT_MS 2000
#define REPLY_MS   6000

int kmsenv_metadata_endpoint(KMSENV_ENDPOINT *e, const char *text, const char *vendor_host, KMSENV_ERROR *err)
{
    if (!kmsenv_endpoint_parse(e, text, 1, "metadata-endpoint", err))
        return 0;
    if (strcasecmp(e->host, vendor_host) == 0 || e->loopback)
        return 1;
    return kmsenv_error_set(err, KMSENV_R_CONFIG_INVALID, "metadata-endpoint = '%.100s': credentials are asked for there without "
                            "any protection; accepted: http://%s, or an address of this machine (127.0.0.1, localhost)",
                            text, vendor_host);
}

int kmsenv_metadata_request(const KMSENV_ENDPOINT *e, const char *path, KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    kmsenv_request_init(request, "GET");
    request->direct = 1;
    request->connect_ms = CONNECT_MS;
    kmsenv_buffer_printf(&request->target, "%s%s", e->path, path);
    return kmsenv_request_add_header(request, "Host", e->authority, err);
}

int kmsenv_metadata_send(KMSENV_HTTP *http, const KMSENV_ENDPOINT *e, const KMSENV_REQUEST *request, uint64_t deadline_ms,
                         KMSENV_REPLY *reply, KMSENV_ERROR *err)
{
    uint64_t soon = kmsenv_clock_ms() + REPLY_MS;
    int result = KMSENV_SOURCE_FAILED;

    if (!kmsenv_http_send(http, e, request, soon < deadline_ms ? soon : deadline_ms, reply, err))
        return err->reason == KMSENV_R_KMS_UNREACHABLE ? KMSENV_SOURCE_ABSENT : KMSENV_SOURCE_FAILED;
    if (reply->status == 200)
        return KMSENV_SOURCE_FOUND;
    if (reply->status == 404)
        result = KMSENV_SOURCE_ABSENT;
    kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "the metadata service at %s answered with HTTP status %d", e->authority,
                     reply->status);
    return result;
}

int kmsenv_metadata_get(KMSENV_HTTP *http, const KMSENV_ENDPOINT *e, const char *path, uint64_t deadline_ms,
                        KMSENV_REPLY *reply, KMSENV_ERROR *err)
{
    KMSENV_REQUEST request;
    int result = KMSENV_SOURCE_FAILED;

    if (kmsenv_metadata_request(e, path, &request, err))
        result = kmsenv_metadata_send(http, e, &request, deadline_ms, reply, err);
    kmsenv_request_reset(&request);
    return result;
}

int kmsenv_metadata_role(const KMSENV_REPLY *reply, char *out, size_t room, KMSENV_ERROR *err)
{
    const char *text = kmsenv_buffer_text(&reply->body);
    size_t n = strcspn(text, "\r\n");

    if (n == 0 || n >= room || strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.,=@+") != n)
        return kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "the metadata service does not give the name of a role");
    memcpy(out, text, n);
    out[n] = '\0';
    return 1;
}
