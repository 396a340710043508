/* TLS handshakes and one record each way, in memory; nanoseconds of one: with the ordinary ciphers from kmsenv, and without it. */
#include <openssl/provider.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <string.h>
#include "bench.h"

#define SLICES     16
#define HANDSHAKES 8

typedef struct tls_st {
    SSL_CTX *server[2], *client[2];
} TLS;

static void step(SSL *ssl, int result)
{
    int error = result > 0 ? SSL_ERROR_NONE : SSL_get_error(ssl, result);

    bench_check(error == SSL_ERROR_NONE || error == SSL_ERROR_WANT_READ, "a handshake");
}

static void handshake(SSL_CTX *server_ctx, SSL_CTX *client_ctx)
{
    SSL *server = SSL_new(server_ctx), *client = SSL_new(client_ctx);
    char text[16] = "a record of data", back[16];
    BIO *one = NULL, *other = NULL;
    int i;

    bench_check(server != NULL && client != NULL && BIO_new_bio_pair(&one, 0, &other, 0), "a connection");
    SSL_set_bio(server, one, one);
    SSL_set_bio(client, other, other);
    SSL_set_accept_state(server);
    SSL_set_connect_state(client);
    for (i = 0; i < 10 && !(SSL_is_init_finished(server) && SSL_is_init_finished(client)); i++) {
        step(client, SSL_do_handshake(client));
        step(server, SSL_do_handshake(server));
    }
    bench_check(SSL_write(client, text, sizeof(text)) == sizeof(text) && SSL_read(server, back, sizeof(back)) == sizeof(back)
                && SSL_write(server, back, sizeof(back)) == sizeof(back) && SSL_read(client, back, sizeof(back)) == sizeof(back)
                && memcmp(text, back, sizeof(text)) == 0, "a record");
    SSL_free(server);
    SSL_free(client);
}

static double run(void *arg, int side)
{
    TLS *t = arg;
    double before = bench_ns(CLOCK_THREAD_CPUTIME_ID);
    int i;

    for (i = 0; i < HANDSHAKES; i++)
        handshake(t->server[side], t->client[side]);
    return (bench_ns(CLOCK_THREAD_CPUTIME_ID) - before) / HANDSHAKES;
}

static SSL_CTX *new_ctx(OSSL_LIB_CTX *libctx, const SSL_METHOD *method, const char *version)
{
    SSL_CTX *ctx = SSL_CTX_new_ex(libctx, NULL, method);
    int number = strcmp(version, "1.2") == 0 ? TLS1_2_VERSION : TLS1_3_VERSION;

    bench_check(ctx != NULL && SSL_CTX_set_min_proto_version(ctx, number) && SSL_CTX_set_max_proto_version(ctx, number), "a TLS context");
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(ctx, 0);
    return ctx;
}

static void set_up(TLS *t, int side, OSSL_LIB_CTX *libctx, const char *version)
{
    EVP_PKEY *pkey = EVP_PKEY_Q_keygen(libctx, NULL, "EC", "P-256");
    X509 *certificate = bench_certificate(libctx, pkey);

    t->server[side] = new_ctx(libctx, TLS_server_method(), version);
    t->client[side] = new_ctx(libctx, TLS_client_method(), version);
    bench_check(SSL_CTX_use_certificate(t->server[side], certificate) && SSL_CTX_use_PrivateKey(t->server[side], pkey), "the key");
    X509_free(certificate);
    EVP_PKEY_free(pkey);
}

/*
 * argv[0]: "1.2" or "1.3"; argv[1]: "references" (KMSENV_KEY_REFERENCES=yes is in the environment), "loaded" (kmsenv is there, and
 * nobody asks for it) or, for noise, "raw"
 */
void bench_tls(unsigned long rounds, char **argv)
{
    EVP_CIPHER *cipher = NULL;
    OSSL_LIB_CTX *libctx;
    TLS t;
    int i;

    for (i = 0; i < 2; i++) {
        bench_check((libctx = OSSL_LIB_CTX_new()) != NULL, "a library context");
        if (i == 1 || strcmp(argv[1], "raw") == 0)
            bench_check(OSSL_PROVIDER_load(libctx, "default") != NULL, "loading the default provider");
        else
            bench_load_provider(libctx);
        if (i == 0 && strcmp(argv[1], "references") == 0) {
            bench_check(EVP_set_default_properties(libctx, "?provider=kmsenv")
                        && (cipher = EVP_CIPHER_fetch(libctx, "AES-256-GCM", NULL)) != NULL
                        && strcmp(OSSL_PROVIDER_get0_name(EVP_CIPHER_get0_provider(cipher)), "kmsenv") == 0, "key references");
            EVP_CIPHER_free(cipher);
        }
        set_up(&t, i, libctx, argv[0]);
    }
    bench_pairs(rounds, SLICES, run, &t);
}
