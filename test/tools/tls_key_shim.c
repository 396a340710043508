/*
 * For LD_PRELOAD: every SSL_CTX of the process is given a private key, as by a program, a resolver or another provider that has
 * one for all of its connections. KMSENV_TEST_TLS_KEY is its file. Whether it loads is written to standard error.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

__attribute__((visibility("default"))) SSL_CTX *SSL_CTX_new(const SSL_METHOD *method);

SSL_CTX *SSL_CTX_new(const SSL_METHOD *method)
{
    void *symbol = dlsym(RTLD_NEXT, "SSL_CTX_new");
    const char *file = getenv("KMSENV_TEST_TLS_KEY");
    SSL_CTX *(*real)(const SSL_METHOD *);
    const char *reason;
    SSL_CTX *ctx;

    if (symbol == NULL)
        return NULL;
    memcpy(&real, &symbol, sizeof(real));
    if ((ctx = real(method)) == NULL || file == NULL)
        return ctx;
    if (SSL_CTX_use_PrivateKey_file(ctx, file, SSL_FILETYPE_PEM) == 1) {
        fputs("TLS key: loaded\n", stderr);
        return ctx;
    }
    reason = ERR_reason_error_string(ERR_peek_error());
    fprintf(stderr, "TLS key: %s\n", reason == NULL ? "no reason" : reason);
    ERR_clear_error();
    return ctx;
}
