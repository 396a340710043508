/*
 * HTTP for the back ends: one pool of connections per profile, on top of libcurl, which is loaded
 * at the first request and not before. A request runs on a helper thread with all signals
 * blocked, or on the caller's where that leaves no trace (kms/apart.h); in any case the caller
 * waits for it, and finds its OpenSSL error queue as it was.
 */
#ifndef KMSENV_KMS_HTTP_H
# define KMSENV_KMS_HTTP_H
# include <stdint.h>
# include "core/error.h"
# include "core/settings.h"
# include "kms/endpoint.h"
# include "kms/request.h"

extern const KMSENV_SETTING kmsenv_http_settings[];

typedef struct kmsenv_http_st KMSENV_HTTP;

/* Reads the settings only. */
KMSENV_HTTP *kmsenv_http_new(const KMSENV_SECTION *section, KMSENV_ERROR *err);
void kmsenv_http_free(KMSENV_HTTP *http);
/* Checks a setting that is an endpoint (kms/endpoint.h) by what this profile allows. */
int kmsenv_http_endpoint(const KMSENV_HTTP *http, KMSENV_ENDPOINT *e, const char *text, const char *what, KMSENV_ERROR *err);
/*
 * One attempt. 1: a reply is there, whatever its status. 0: err says why not (KMS_UNREACHABLE,
 * KMS_REPLY_MALFORMED), and reply->transient whether it is worth another try.
 */
int kmsenv_http_send(KMSENV_HTTP *http, const KMSENV_ENDPOINT *to, const KMSENV_REQUEST *request, uint64_t deadline_ms,
                     KMSENV_REPLY *reply, KMSENV_ERROR *err);

#endif
