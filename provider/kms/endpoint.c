#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "kms/endpoint.h"

#define ACCEPTED "accepted: https://HOST, https://HOST:PORT, HOST or HOST:PORT"

static int fail(const char *what, const char *text, const char *why, KMSENV_ERROR *err)
{
    const char *p;

    for (p = text; *p != '\0'; p++)
        if (!isprint((unsigned char)*p) || *p == '@')   /* a URL with a password in it must not get into logs */
            text = "(not shown)";
    return kmsenv_error_set(err, KMSENV_R_CONFIG_INVALID, "%s = '%.100s': %s; " ACCEPTED, what, text, why);
}

int kmsenv_endpoint_is_loopback(const char *host)
{
    struct in6_addr v6;
    struct in_addr v4;

    if (strcasecmp(host, "localhost") == 0)
        return 1;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return (ntohl(v4.s_addr) >> 24) == 127;
    return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

/* Takes the scheme off *p. */
static void parse_scheme(KMSENV_ENDPOINT *e, const char **p)
{
    e->tls = 1;
    if (strncasecmp(*p, "https://", 8) == 0) {
        *p += 8;
    } else if (strncasecmp(*p, "http://", 7) == 0) {
        *p += 7;
        e->tls = 0;
    }
    e->port = e->tls ? 443 : 80;
}

static int is_host(const char *host)
{
    struct in6_addr v6;

    if (strchr(host, ':') != NULL)
        return inet_pton(AF_INET6, host, &v6) == 1;
    return host[0] != '\0' && host[0] != '.' && host[0] != '-'
           && strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") == strlen(host);
}

/* Takes HOST or [IPv6] off *p. */
static int parse_host(KMSENV_ENDPOINT *e, const char **p)
{
    int bracket = **p == '[';
    size_t n = bracket ? strcspn(++*p, "]") : strcspn(*p, ":/?#");

    size_t i;

    if (n >= sizeof(e->host) || (bracket && (*p)[n] != ']'))
        return 0;
    for (i = 0; i < n; i++)   /* lower case, as some services want it in what is signed */
        e->host[i] = (char)tolower((unsigned char)(*p)[i]);
    *p += n + (size_t)bracket;
    return is_host(e->host) && bracket == (strchr(e->host, ':') != NULL);
}

/* Takes :PORT off *p, if it is there. */
static int parse_port(KMSENV_ENDPOINT *e, const char **p)
{
    unsigned port = 0;

    if (**p != ':')
        return 1;
    for (++*p; isdigit((unsigned char)**p) && port < 65536; ++*p)
        port = port * 10 + (unsigned)(**p - '0');
    e->port = port;
    return port >= 1 && port <= 65535;
}

static int parse_path(KMSENV_ENDPOINT *e, const char *p)
{
    size_t n = strlen(p);

    while (n > 0 && p[n - 1] == '/')
        n--;
    if (n >= sizeof(e->path) || strstr(p, "..") != NULL
        || strspn(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/") < n
        || (p[0] != '\0' && p[0] != '/'))
        return 0;
    memcpy(e->path, p, n);
    e->path[n] = '\0';
    return 1;
}

static void make_authority(KMSENV_ENDPOINT *e)
{
    const char *left = strchr(e->host, ':') == NULL ? "" : "[";
    const char *right = *left == '\0' ? "" : "]";

    if (e->port == (e->tls ? 443u : 80u))
        snprintf(e->authority, sizeof(e->authority), "%s%s%s", left, e->host, right);
    else
        snprintf(e->authority, sizeof(e->authority), "%s%s%s:%u", left, e->host, right, e->port);
}

int kmsenv_endpoint_parse(KMSENV_ENDPOINT *e, const char *text, int plain_http, const char *what, KMSENV_ERROR *err)
{
    const char *p = text;

    memset(e, 0, sizeof(*e));
    if (strnlen(text, KMSENV_ENDPOINT_TEXT_MAX) == KMSENV_ENDPOINT_TEXT_MAX)
        return fail(what, "(too long)", "longer than a URL of a KMS can be", err);
    parse_scheme(e, &p);
    if (!parse_host(e, &p))
        return fail(what, text, "no valid host name or address", err);
    if (!parse_port(e, &p))
        return fail(what, text, "the port is not a number from 1 to 65535", err);
    if (!parse_path(e, p))
        return fail(what, text, "something that does not belong there follows the host", err);
    e->loopback = kmsenv_endpoint_is_loopback(e->host);
    if (!e->tls && !e->loopback && !plain_http)
        return fail(what, text, "plain http would send keys and credentials in the clear (insecure-http = yes allows it)",
                    err);
    make_authority(e);
    return 1;
}
