/* How keys and services of Google Cloud are called, and which services a credentials file may name. */
#include <string.h>
#include "kms/google.h"

#define LETTERS_DIGITS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
#define NAME_CHARS     LETTERS_DIGITS "-_"
#define URL_CHARS      LETTERS_DIGITS "-._~/?=&%:@+,;"
#define VERSIONS       "/cryptoKeyVersions/"
#define IMPERSONATE    "/v1/projects/-/serviceAccounts/"

/* --- keys ----------------------------------------------------------------- */

size_t kmsenv_google_key_length(const char *text)
{
    static const char *const collection[] = { "projects/", "/locations/", "/keyRings/", "/cryptoKeys/" };
    const char *p = text;
    size_t i, n;

    if (strlen(text) > KMSENV_NAME_MAX || strstr(text, "..") != NULL)
        return 0;
    for (i = 0; i < sizeof(collection) / sizeof(collection[0]); i++) {
        n = strlen(collection[i]);
        if (strncmp(p, collection[i], n) != 0)
            return 0;
        p += n;
        n = strspn(p, i == 0 ? NAME_CHARS ".:" : NAME_CHARS);   /* the ids of old projects begin with a domain */
        if (n == 0 || *p == '.')
            return 0;
        p += n;
    }
    i = (size_t)(p - text);
    if (*p == '\0')
        return i;
    if (strncmp(p, VERSIONS, strlen(VERSIONS)) != 0)
        return 0;
    p += strlen(VERSIONS);
    n = strspn(p, "0123456789");
    return n > 0 && p[n] == '\0' ? i : 0;
}

/* --- services ------------------------------------------------------------- */

int kmsenv_google_is_universe(const char *text)
{
    size_t n = strlen(text);

    return n > 0 && n < KMSENV_GOOGLE_UNIVERSE_MAX && strspn(text, LETTERS_DIGITS "-.") == n && text[0] != '.' && text[n - 1] != '.'
           && strchr(text, '.') != NULL && strstr(text, "..") == NULL;
}

static int bad_url(KMSENV_ERROR *err, const char *what, const char *why)
{
    return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "%s %s", what, why);
}

int kmsenv_google_split_url(const char *url, int plain_http, const char *what, KMSENV_ENDPOINT *host, const char **path,
                            KMSENV_ERROR *err)
{
    const char *p = strstr(url, "://");
    char authority[KMSENV_ENDPOINT_TEXT_MAX];
    size_t n = p == NULL ? 0 : (size_t)(p - url) + 3;

    n += strcspn(url + n, "/?#");
    if (p == NULL || n >= sizeof(authority) || url[n] != '/' || strlen(url) > 2048 || strstr(url + n, "..") != NULL
        || strspn(url + n, URL_CHARS) != strlen(url + n))
        return bad_url(err, what, "is not a URL of the form https://HOST/PATH");
    memcpy(authority, url, n);
    authority[n] = '\0';
    *path = url + n;
    if (kmsenv_endpoint_parse(host, authority, plain_http, what, err))
        return 1;
    if (err != NULL)
        err->reason = KMSENV_R_KMS_CREDENTIALS;   /* it is not in the configuration */
    return 0;
}

/* SERVICE.UNIVERSE, SERVICE.LABELS.UNIVERSE or SERVICE-NAME.LABELS.UNIVERSE */
static int is_host_of(const char *host, const char *service, const char *universe)
{
    size_t s = strlen(service), u = strlen(universe), h = strlen(host);

    return h > s + u && strncmp(host, service, s) == 0 && (host[s] == '.' || host[s] == '-')
           && host[h - u - 1] == '.' && strcmp(host + h - u, universe) == 0;
}

/* A service may have hosts and paths where others than Google read what is sent (buckets, say): only those for tokens will do. */
static int is_path_of(const char *path, const char *service)
{
    size_t n;

    if (strcmp(service, "iamcredentials") != 0)
        return strcmp(path, strcmp(service, "sts") == 0 ? "/v1/token" : "/token") == 0;
    if (strncmp(path, IMPERSONATE, strlen(IMPERSONATE)) != 0)
        return 0;
    path += strlen(IMPERSONATE);
    n = strspn(path, LETTERS_DIGITS "-._@");
    return n > 0 && strcmp(path + n, ":generateAccessToken") == 0;
}

int kmsenv_google_service_url(const char *url, const char *service, const char *universe, const char *what,
                              KMSENV_ENDPOINT *host, const char **path, KMSENV_ERROR *err)
{
    static const char *const formerly[] = { "https://accounts.google.com/o/oauth2/token", "https://www.googleapis.com/oauth2/v4/token" };
    int former = strcmp(service, "oauth2") == 0 && (strcmp(url, formerly[0]) == 0 || strcmp(url, formerly[1]) == 0);

    if (!kmsenv_google_split_url(url, 0, what, host, path, err))
        return 0;
    if (host->tls && host->port == 443
        && (former ? strcmp(universe, KMSENV_GOOGLE_UNIVERSE) == 0 : is_host_of(host->host, service, universe) && is_path_of(*path, service)))
        return 1;
    return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "%s names another host or path than those of %s.%s, which alone are shown "
                            "credentials; correct it, or set universe-domain", what, service, universe);
}
