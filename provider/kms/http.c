/*
 * The only user of libcurl, which is not linked but loaded: it would cost every process that
 * loads this module 4 ms and 4 MiB, and most of them never call a KMS.
 *
 * Where secrets could stay behind: in libcurl's receive buffer (the write callback wipes what it
 * has copied out), in its send buffer (the debug callback is told what went out, and wipes it), in
 * OpenSSL's record buffer (SSL_OP_CLEANSE_PLAINTEXT). A body that holds a secret is fed through a
 * read callback, because libcurl would append a POSTFIELDS body to the header block, on its heap.
 */
#define CURL_DISABLE_DEPRECATION
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <curl/curl.h>
#include <openssl/crypto.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include "core/clock.h"
#include "core/descriptor.h"
#include "core/library.h"
#include "core/lock.h"
#include "kms/apart.h"
#include "kms/http.h"

#define LIBRARY  "libcurl.so.4"
#define POOL_MAX 8
#define URL_MAX  16384

const KMSENV_SETTING kmsenv_http_settings[] = {
    { "ca-file", KMSENV_PATH, NULL, 0, 0, NULL,
      "PEM file with the certificate authorities that may vouch for the KMS, instead of the system's." },
    { "proxy", KMSENV_TEXT, NULL, 0, 0, "a URL such as http://proxy.example:3128, or none",
      "Proxy for requests to the KMS; without it the usual variables (https_proxy, no_proxy) decide." },
    { "connect-timeout", KMSENV_SECONDS, "3", 1, 60, NULL, "How long a connection to the KMS may take to come about." },
    { "insecure-http", KMSENV_BOOLEAN, "no", 0, 0, NULL,
      "Allow endpoints with plain http that are not on this machine. Keys then travel in the clear." },
    { NULL, KMSENV_TEXT, NULL, 0, 0, NULL, NULL }
};

/* --- the library ---------------------------------------------------------- */

/* X(member, symbol, type) */
#define SYMBOLS(X) \
    X(global_init,  "curl_global_init_mem", CURLcode (*)(long, curl_malloc_callback, curl_free_callback, curl_realloc_callback, \
                                                         curl_strdup_callback, curl_calloc_callback)) \
    X(version_info, "curl_version_info", curl_version_info_data *(*)(CURLversion)) \
    X(easy_init,    "curl_easy_init",    CURL *(*)(void)) \
    X(easy_setopt,  "curl_easy_setopt",  CURLcode (*)(CURL *, CURLoption, ...)) \
    X(easy_perform, "curl_easy_perform", CURLcode (*)(CURL *)) \
    X(easy_getinfo, "curl_easy_getinfo", CURLcode (*)(CURL *, CURLINFO, ...)) \
    X(easy_reset,   "curl_easy_reset",   void (*)(CURL *)) \
    X(easy_cleanup, "curl_easy_cleanup", void (*)(CURL *)) \
    X(easy_strerror, "curl_easy_strerror", const char *(*)(CURLcode))

static struct {
    pthread_once_t once;
    int ready;
    char fault[160];                                   /* why it is not ready */
#define MEMBER(member, symbol, type) __typeof__((type)0) member;
    SYMBOLS(MEMBER)
#undef MEMBER
    uint64_t (*ssl_ctx_set_options)(SSL_CTX *, uint64_t);   /* of the libssl that libcurl uses; NULL if it uses none */
} curl = { .once = PTHREAD_ONCE_INIT };

/*
 * libcurl puts headers together in ordinary memory, which grows while it does: tokens in them would stay behind wherever
 * the text was before. So what it frees is wiped. A process that had set up libcurl before keeps its own functions.
 */
static void wiping_free(void *p)
{
    if (p != NULL)
        OPENSSL_cleanse(p, malloc_usable_size(p));
    free(p);
}

static void *wiping_realloc(void *p, size_t n)
{
    size_t old = p == NULL ? 0 : malloc_usable_size(p);
    void *fresh = malloc(n);

    if (fresh == NULL)
        return NULL;
    if (old > 0)
        memcpy(fresh, p, old < n ? old : n);
    wiping_free(p);
    return fresh;
}

static void load_library(void)
{
    static const KMSENV_SYMBOL wanted[] = {
#define WANTED(member, symbol, type) { symbol, &curl.member },
        SYMBOLS(WANTED)
#undef WANTED
    };
    const curl_version_info_data *info;
    void *handle = kmsenv_library_load(LIBRARY, wanted, sizeof(wanted) / sizeof(wanted[0]), curl.fault, sizeof(curl.fault));

    if (handle == NULL)
        return;
    if (curl.global_init(CURL_GLOBAL_DEFAULT, malloc, wiping_free, wiping_realloc, strdup, calloc) != CURLE_OK) {
        snprintf(curl.fault, sizeof(curl.fault), "curl_global_init failed");
        return;
    }
    info = curl.version_info(CURLVERSION_NOW);
    if (info->ssl_version != NULL && strncmp(info->ssl_version, "OpenSSL/", 8) == 0 && info->ssl_version[8] >= '3')
        kmsenv_library_find(handle, "SSL_CTX_set_options", &curl.ssl_ctx_set_options);
    curl.ready = 1;
}

/* --- the pool ------------------------------------------------------------- */

struct kmsenv_http_st {
    char *ca_file, *proxy;              /* NULL = libcurl's own choice */
    uint64_t connect_ms;
    int plain_http;
    KMSENV_LOCK *lock;                  /* of what follows */
    CURL *idle[POOL_MAX];               /* the one used last is on top: its connection is the most likely to be alive */
    size_t count;
    unsigned generation;                /* of the process that the idle handles belong to */
    KMSENV_DESCRIPTOR mark;             /* as long as it is ours, so are the sockets of the idle handles */
};

static int copy_text(char **to, const char *text)
{
    return text == NULL || (*to = OPENSSL_strdup(text)) != NULL;
}

KMSENV_HTTP *kmsenv_http_new(const KMSENV_SECTION *section, KMSENV_ERROR *err)
{
    KMSENV_HTTP *http = OPENSSL_zalloc(sizeof(*http));

    if (http != NULL)
        http->mark.fd = -1;
    if (http == NULL || !copy_text(&http->ca_file, kmsenv_section_text(section, "ca-file"))
        || !copy_text(&http->proxy, kmsenv_section_text(section, "proxy"))
        || (http->lock = kmsenv_lock_new(KMSENV_LEVEL_HTTP)) == NULL) {
        kmsenv_http_free(http);
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "section [%s]: no memory", kmsenv_section_name(section));
        return NULL;
    }
    if (http->proxy != NULL && strcmp(http->proxy, "none") == 0)
        http->proxy[0] = '\0';   /* what libcurl understands as no proxy, whatever the variables say */
    http->connect_ms = kmsenv_section_number(section, "connect-timeout") * 1000;
    http->plain_http = kmsenv_section_boolean(section, "insecure-http");
    http->generation = kmsenv_fork_generation();
    return http;
}

int kmsenv_http_endpoint(const KMSENV_HTTP *http, KMSENV_ENDPOINT *e, const char *text, const char *what, KMSENV_ERROR *err)
{
    return kmsenv_endpoint_parse(e, text, http->plain_http, what, err);
}

/*
 * Handles that must be neither used nor cleaned up any more: those of a parent process, whose
 * sockets are not ours to talk on; those whose descriptors the program has closed, and maybe opened
 * others in their places; and those left when OpenSSL goes away before us. They stay as
 * they are, and can still be found, so that leak checkers do not take them for lost.
 */
typedef struct parked_st {
    struct parked_st *next;
    CURL *handle[POOL_MAX];
} PARKED;

static _Atomic(PARKED *) parked;

/* Under the lock, or when nobody else uses http any more. */
static void pool_park(KMSENV_HTTP *http)
{
    PARKED *p;

    if (http->count > 0 && (p = OPENSSL_zalloc(sizeof(*p))) != NULL) {
        memcpy(p->handle, http->idle, http->count * sizeof(http->idle[0]));
        p->next = atomic_load(&parked);
        while (!atomic_compare_exchange_weak(&parked, &p->next, p))
            ;
    }
    http->count = 0;
}

/* Under the lock: leaves handles in the pool that may be used, or none. */
static void pool_check(KMSENV_HTTP *http)
{
    if (http->generation != kmsenv_fork_generation() || (http->count > 0 && !kmsenv_descriptor_is_ours(&http->mark)))
        pool_park(http);
    http->generation = kmsenv_fork_generation();
}

/* An idle handle of this process, or NULL. */
static CURL *pool_take(KMSENV_HTTP *http)
{
    CURL *handle = NULL;

    kmsenv_lock_take(http->lock);
    pool_check(http);
    if (http->count > 0)
        handle = http->idle[--http->count];
    kmsenv_lock_release(http->lock);
    return handle;
}

/* Is there a handle whose connection is probably up? */
static int pool_is_warm(KMSENV_HTTP *http)
{
    int warm;

    kmsenv_lock_take(http->lock);
    pool_check(http);
    warm = http->count > 0;
    kmsenv_lock_release(http->lock);
    return warm;
}

/* 0 if the pool does not take it. */
static int pool_give(KMSENV_HTTP *http, CURL *handle)
{
    int taken;

    kmsenv_lock_take(http->lock);
    taken = http->count < POOL_MAX && http->generation == kmsenv_fork_generation()
            && (kmsenv_descriptor_is_ours(&http->mark) || (http->count == 0 && kmsenv_descriptor_mark(&http->mark)));
    if (taken)
        http->idle[http->count++] = handle;
    kmsenv_lock_release(http->lock);
    return taken;
}

/* --- one transfer --------------------------------------------------------- */

typedef struct transfer_st {
    KMSENV_HTTP *http;
    const KMSENV_ENDPOINT *to;
    const KMSENV_REQUEST *request;
    KMSENV_REPLY *reply;
    uint64_t deadline_ms;
    size_t sent;                        /* bytes of the body that the read callback has given */
    int too_long;                       /* the reply's body did not fit */
    CURLcode code;
    long verify_result;
} TRANSFER;

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    TRANSFER *t = arg;
    int ok = kmsenv_buffer_add(&t->reply->body, data, size * n);

    OPENSSL_cleanse(data, size * n);
    if (!ok)
        t->too_long = 1;
    return ok ? size * n : 0;
}

static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
    TRANSFER *t = arg;

    if (size * n >= 5 && memcmp(data, "HTTP/", 5) == 0)
        kmsenv_buffer_reset(&t->reply->headers);   /* a new block: what came before was an interim reply */
    else
        kmsenv_buffer_add(&t->reply->headers, data, size * n);
    return size * n;
}

static size_t on_read(char *out, size_t size, size_t n, void *arg)
{
    TRANSFER *t = arg;
    size_t left = t->request->body.length - t->sent, part = size * n < left ? size * n : left;

    if (part > 0)
        memcpy(out, t->request->body.data + t->sent, part);
    t->sent += part;
    return part;
}

/* libcurl starts over when a kept connection turns out to be dead. */
static int on_seek(void *arg, curl_off_t offset, int origin)
{
    TRANSFER *t = arg;

    if (origin != SEEK_SET || offset < 0 || (size_t)offset > t->request->body.length)
        return CURL_SEEKFUNC_FAIL;
    t->sent = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* Called with what has just been sent, still in libcurl's buffer. Our own body is not libcurl's to wipe. */
static int on_debug(CURL *handle, curl_infotype type, char *data, size_t n, void *arg)
{
    const TRANSFER *t = arg;
    const char *body = (const char *)t->request->body.data;

    (void)handle;
    if ((type == CURLINFO_DATA_OUT || type == CURLINFO_HEADER_OUT)
        && (body == NULL || data + n <= body || data >= body + t->request->body.room))
        OPENSSL_cleanse(data, n);
    return 0;
}

static int on_socket(void *arg, curl_socket_t fd, curlsocktype purpose)
{
    (void)arg;
    (void)purpose;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    return CURL_SOCKOPT_OK;
}

static CURLcode on_ssl_ctx(CURL *handle, void *ssl_ctx, void *arg)
{
    (void)handle;
    (void)arg;
    curl.ssl_ctx_set_options(ssl_ctx, SSL_OP_CLEANSE_PLAINTEXT);
    return CURLE_OK;
}

/* Sets an option; the first failure stays in code. */
#define SET(option, value) \
    do { \
        if (code == CURLE_OK) \
            code = curl.easy_setopt(handle, option, value); \
    } while (0)

static CURLcode set_target(CURL *handle, const TRANSFER *t, KMSENV_BUFFER *url)
{
    CURLcode code = CURLE_OK;

    kmsenv_buffer_add_text(url, t->to->tls ? "https://" : "http://");
    kmsenv_buffer_add_text(url, t->to->authority);
    kmsenv_buffer_add_text(url, kmsenv_buffer_text(&t->request->target));
    if (url->failed)
        return CURLE_URL_MALFORMAT;
    SET(CURLOPT_URL, kmsenv_buffer_text(url));
    SET(CURLOPT_PATH_AS_IS, 1L);
    if (code == CURLE_OK
        && curl.easy_setopt(handle, CURLOPT_PROTOCOLS_STR, t->to->tls ? "https" : "http") == CURLE_UNKNOWN_OPTION)
        SET(CURLOPT_PROTOCOLS, (long)(t->to->tls ? CURLPROTO_HTTPS : CURLPROTO_HTTP));   /* before 7.85 */
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    if (t->request->direct || t->to->loopback)
        SET(CURLOPT_PROXY, "");
    else if (t->http->proxy != NULL)
        SET(CURLOPT_PROXY, t->http->proxy);
    else if (getauxval(AT_SECURE))
        SET(CURLOPT_PROXY, "");   /* a setuid program does not let its caller's environment choose where requests go */
    return code;
}

static CURLcode set_tls(CURL *handle, const TRANSFER *t)
{
    CURLcode code = CURLE_OK;

    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(CURLOPT_PROXY_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_PROXY_SSL_VERIFYHOST, 2L);
    if (t->http->ca_file != NULL) {
        SET(CURLOPT_CAINFO, t->http->ca_file);
        SET(CURLOPT_CAPATH, NULL);
    }
    if (code == CURLE_OK && curl.ssl_ctx_set_options != NULL)
        curl.easy_setopt(handle, CURLOPT_SSL_CTX_FUNCTION, on_ssl_ctx);   /* a refusal costs a cleansing, not the request */
    return code;
}

static CURLcode set_limits(CURL *handle, const TRANSFER *t)
{
    uint64_t now = kmsenv_clock_ms(), left = t->deadline_ms > now ? t->deadline_ms - now : 0, connect = t->http->connect_ms;
    CURLcode code = CURLE_OK;

    if (left == 0)
        return CURLE_OPERATION_TIMEDOUT;
    if (t->request->connect_ms > 0 && t->request->connect_ms < connect)
        connect = t->request->connect_ms;
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_NOPROGRESS, 1L);
    SET(CURLOPT_TIMEOUT_MS, (long)left);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)(left < connect ? left : connect));
    SET(CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)KMSENV_REPLY_BODY_MAX);
    SET(CURLOPT_SOCKOPTFUNCTION, on_socket);
    return code;
}

static CURLcode set_callbacks(CURL *handle, TRANSFER *t)
{
    CURLcode code = CURLE_OK;

    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, t);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, t);
    SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    if (t->request->secret) {
        SET(CURLOPT_DEBUGFUNCTION, on_debug);
        SET(CURLOPT_DEBUGDATA, t);
        SET(CURLOPT_VERBOSE, 1L);   /* prints nothing: on_debug gets it all */
    }
    return code;
}

/* links: room for the header list, which libcurl only borrows; the lines stay in secret memory. */
static CURLcode set_message(CURL *handle, TRANSFER *t, struct curl_slist *links)
{
    static char no_expect[] = "Expect:", no_type[] = "Content-Type:";   /* what libcurl would add by itself, unsigned */
    const KMSENV_REQUEST *r = t->request;
    CURLcode code = CURLE_OK;
    size_t i;

    for (i = 0; i < r->headers + 2; i++) {
        links[i].data = i < r->headers ? r->header[i] : i == r->headers ? no_expect : no_type;
        links[i].next = &links[i + 1];
    }
    links[kmsenv_request_header(r, "Content-Type") == NULL ? i - 1 : i - 2].next = NULL;
    SET(CURLOPT_HTTPHEADER, links);
    SET(CURLOPT_USERAGENT, "kmsenv/" KMSENV_VERSION);
    if (strcmp(r->method, "GET") == 0) {
        SET(CURLOPT_HTTPGET, 1L);
        return code;
    }
    SET(CURLOPT_POST, 1L);
    SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.length);
    if (strcmp(r->method, "POST") != 0)
        SET(CURLOPT_CUSTOMREQUEST, r->method);
    if (!r->secret) {
        SET(CURLOPT_POSTFIELDS, kmsenv_buffer_text(&r->body));
        return code;
    }
    SET(CURLOPT_READFUNCTION, on_read);
    SET(CURLOPT_READDATA, t);
    SET(CURLOPT_SEEKFUNCTION, on_seek);
    SET(CURLOPT_SEEKDATA, t);
    return code;
}

static CURLcode perform(CURL *handle, TRANSFER *t)
{
    struct curl_slist links[KMSENV_REQUEST_HEADERS_MAX + 2];
    KMSENV_BUFFER url;
    CURLcode code;
    long status = 0;

    kmsenv_buffer_init(&url, URL_MAX, 0);
    if ((code = set_target(handle, t, &url)) == CURLE_OK
        && (code = set_tls(handle, t)) == CURLE_OK
        && (code = set_limits(handle, t)) == CURLE_OK
        && (code = set_callbacks(handle, t)) == CURLE_OK
        && (code = set_message(handle, t, links)) == CURLE_OK)
        code = curl.easy_perform(handle);
    curl.easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
    curl.easy_getinfo(handle, CURLINFO_SSL_VERIFYRESULT, &t->verify_result);
    t->reply->status = (int)status;
    kmsenv_buffer_reset(&url);
    curl.easy_reset(handle);   /* forgets our pointers, keeps connections and trust store */
    return code;
}

static void run_transfer(void *arg)
{
    TRANSFER *t = arg;
    CURL *handle;

    pthread_once(&curl.once, load_library);
    if (!curl.ready) {
        t->code = CURLE_FAILED_INIT;
        return;
    }
    if ((handle = pool_take(t->http)) == NULL && (handle = curl.easy_init()) == NULL) {
        t->code = CURLE_OUT_OF_MEMORY;
        return;
    }
    t->code = perform(handle, t);
    if (!pool_give(t->http, handle))
        curl.easy_cleanup(handle);
}

static void run_cleanup(void *arg)
{
    KMSENV_HTTP *http = arg;

    while (http->count > 0)
        curl.easy_cleanup(http->idle[--http->count]);
}

void kmsenv_http_free(KMSENV_HTTP *http)
{
    if (http == NULL)
        return;
    /* While OpenSSL itself goes away, libcurl's use of it is no longer safe: the process ends anyway. */
    pool_check(http);
    if (http->count > 0 && OPENSSL_init_crypto(0, NULL))
        kmsenv_apart_run(run_cleanup, http);
    pool_park(http);
    kmsenv_descriptor_set(&http->mark, -1);
    kmsenv_lock_free(http->lock);
    OPENSSL_free(http->ca_file);
    OPENSSL_free(http->proxy);
    OPENSSL_free(http);
}

/* --- errors --------------------------------------------------------------- */

typedef struct fault_st {
    CURLcode code;
    int reason;
    int transient;
    const char *text;
} FAULT;

static const FAULT faults[] = {
    { CURLE_COULDNT_RESOLVE_HOST, KMSENV_R_KMS_UNREACHABLE, 1, "the host name does not resolve; check endpoint, region and DNS" },
    { CURLE_COULDNT_RESOLVE_PROXY, KMSENV_R_KMS_UNREACHABLE, 1, "the proxy's name does not resolve; check proxy and https_proxy" },
    { CURLE_COULDNT_CONNECT, KMSENV_R_KMS_UNREACHABLE, 1,
      "no connection (refused, or no route); check endpoint, firewall and proxy" },
    { CURLE_OPERATION_TIMEDOUT, KMSENV_R_KMS_UNREACHABLE, 1,
      "timed out; check network and proxy, or raise kms-timeout or connect-timeout" },
    { CURLE_PEER_FAILED_VERIFICATION, KMSENV_R_KMS_UNREACHABLE, 0,
      "its TLS certificate is not trusted or is for another name; set ca-file to the CA that issued it, or correct endpoint" },
    { CURLE_SSL_CACERT_BADFILE, KMSENV_R_KMS_UNREACHABLE, 0, "the file with trusted CAs cannot be read; correct ca-file" },
    { CURLE_SSL_CONNECT_ERROR, KMSENV_R_KMS_UNREACHABLE, 1,
      "the TLS handshake failed; TLS 1.2 or later is needed, and a proxy must not interfere" },
    { CURLE_SSL_CIPHER, KMSENV_R_KMS_UNREACHABLE, 0, "no common TLS cipher; check OpenSSL's configuration" },
    { CURLE_GOT_NOTHING, KMSENV_R_KMS_UNREACHABLE, 1, "it closed the connection without a reply" },
    { CURLE_SEND_ERROR, KMSENV_R_KMS_UNREACHABLE, 1, "the connection broke while sending" },
    { CURLE_RECV_ERROR, KMSENV_R_KMS_UNREACHABLE, 1, "the connection broke while receiving" },
    { CURLE_PARTIAL_FILE, KMSENV_R_KMS_UNREACHABLE, 1, "the reply ended too early" },
    { CURLE_FILESIZE_EXCEEDED, KMSENV_R_KMS_REPLY_MALFORMED, 0, "the reply is larger than 1 MiB" },
    { CURLE_WEIRD_SERVER_REPLY, KMSENV_R_KMS_REPLY_MALFORMED, 0, "what answers there does not speak HTTP" },
    { CURLE_UNSUPPORTED_PROTOCOL, KMSENV_R_KMS_REPLY_MALFORMED, 0, "what answers there does not speak HTTP/1.1" },
    { CURLE_OUT_OF_MEMORY, KMSENV_R_OUT_OF_MEMORY, 0, "no memory" }
};

static int report(const TRANSFER *t, KMSENV_ERROR *err)
{
    const FAULT *f = NULL;
    const char *detail = "", *prefix = "";
    size_t i;

    t->reply->transient = 0;
    for (i = 0; f == NULL && i < sizeof(faults) / sizeof(faults[0]); i++)
        if (faults[i].code == (t->too_long ? CURLE_FILESIZE_EXCEEDED : t->code))
            f = &faults[i];
    if (!curl.ready)
        return kmsenv_error_set(err, KMSENV_R_KMS_UNREACHABLE, LIBRARY ", needed for KMSes in the network, cannot be loaded "
                                "(%s); install the package that has it", curl.fault);
    if (f == NULL)
        return kmsenv_error_set(err, KMSENV_R_KMS_UNREACHABLE, "cannot reach %s://%s: %s (libcurl %d)",
                                t->to->tls ? "https" : "http", t->to->authority, curl.easy_strerror(t->code), (int)t->code);
    if (t->code == CURLE_PEER_FAILED_VERIFICATION && t->verify_result > X509_V_ERR_UNSPECIFIED)
        detail = X509_verify_cert_error_string(t->verify_result);
    if (f->reason == KMSENV_R_KMS_UNREACHABLE)
        prefix = "cannot reach ";
    t->reply->transient = f->transient;
    return kmsenv_error_set(err, f->reason, "%s%s://%s: %s (libcurl %d%s%s)", prefix, t->to->tls ? "https" : "http",
                            t->to->authority, f->text, (int)t->code, *detail == '\0' ? "" : ": ", detail);
}

int kmsenv_http_send(KMSENV_HTTP *http, const KMSENV_ENDPOINT *to, const KMSENV_REQUEST *request, uint64_t deadline_ms,
                     KMSENV_REPLY *reply, KMSENV_ERROR *err)
{
    TRANSFER t = { .http = http, .to = to, .request = request, .reply = reply, .deadline_ms = deadline_ms };

    if (!kmsenv_request_check(request, err))
        return 0;
    if (!(pool_is_warm(http) && kmsenv_apart_run_here(run_transfer, &t)) && !kmsenv_apart_run(run_transfer, &t))
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no thread for the request to the KMS; check the limit on processes");
    if (t.code == CURLE_OK)
        return 1;
    return report(&t, err);
}
