/* Where requests go: a checked URL, taken apart. */
#ifndef KMSENV_KMS_ENDPOINT_H
# define KMSENV_KMS_ENDPOINT_H
# include <stddef.h>
# include "core/error.h"

# define KMSENV_ENDPOINT_TEXT_MAX 512

typedef struct kmsenv_endpoint_st {
    int tls;                                 /* https; otherwise http */
    int loopback;                            /* the host is this machine: no proxy, plain http allowed */
    unsigned port;
    char host[256];                          /* name or address, an IPv6 address without its brackets */
    char authority[272];                     /* what the Host header says: the port only if it is not the default */
    char path[256];                          /* prefix of every request-target, "" or "/a/b" without a slash at the end */
} KMSENV_ENDPOINT;

/*
 * Parses "https://host[:port][/path]" or "host[:port]" (meaning https). Plain http is refused
 * unless the host is loopback or plain_http is set. what: the setting's name, for error texts
 * (CONFIG_INVALID).
 */
int kmsenv_endpoint_parse(KMSENV_ENDPOINT *e, const char *text, int plain_http, const char *what, KMSENV_ERROR *err);
/* Is it "localhost", 127.0.0.0/8 or ::1? */
int kmsenv_endpoint_is_loopback(const char *host);

#endif
