/* HMAC-SHA-256 of many short texts, one context, re-keyed for each; nanoseconds of one: by reference, and with the plain key. */
#include <string.h>
#include <openssl/core_names.h>
#include <openssl/params.h>
#include "bench.h"

#define SIZE_MAXIMUM 65536
#define SLICES       16
#define COUNT        2000

typedef struct mac_st {
    EVP_MAC_CTX *ctx[2];
    unsigned char key[2][32], in[SIZE_MAXIMUM];
    size_t size;
} MAC;

static double run(void *arg, int side)
{
    MAC *m = arg;
    unsigned char out[32];
    double before = bench_ns(CLOCK_THREAD_CPUTIME_ID);
    size_t n;
    int i;

    for (i = 0; i < COUNT; i++)
        bench_check(EVP_MAC_init(m->ctx[side], m->key[side], sizeof(m->key[side]), NULL) && EVP_MAC_update(m->ctx[side], m->in, m->size)
                    && EVP_MAC_final(m->ctx[side], out, &n, sizeof(out)) && n == sizeof(out), "a MAC");
    return (bench_ns(CLOCK_THREAD_CPUTIME_ID) - before) / COUNT;
}

/* argv: SIZE reference|raw */
void bench_mac(unsigned long rounds, char **argv)
{
    OSSL_PARAM digest[] = { OSSL_PARAM_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0), OSSL_PARAM_END };
    int by_reference = strcmp(argv[1], "reference") == 0, i;
    static MAC m;
    EVP_MAC *mac;

    m.size = bench_number(argv[0]);
    bench_check(m.size <= SIZE_MAXIMUM, "the size");
    if (by_reference)
        bench_reference(m.key[0]);
    for (i = 0; i < 2; i++) {
        mac = i == 0 && by_reference ? EVP_MAC_fetch(NULL, "KMS-HMAC", NULL) : EVP_MAC_fetch(NULL, "HMAC", "provider=default");
        bench_check(mac != NULL && (m.ctx[i] = EVP_MAC_CTX_new(mac)) != NULL
                    && EVP_MAC_init(m.ctx[i], m.key[i], sizeof(m.key[i]), digest), "a MAC's context");
    }
    bench_pairs(rounds, SLICES, run, &m);
}
