/* Private keys or certificates read from PEM, 2 * 500 of them a round: in a library context with kmsenv, and in one without; or sealed and ordinary ones. */
#include <string.h>
#include <openssl/provider.h>
#include "bench.h"

#define KINDS 16                   /* different keys */
#define LOADS 500

typedef struct pem_st {
    OSSL_LIB_CTX *libctx[2];
    void (*load)(const BUF_MEM *pem, OSSL_LIB_CTX *libctx);
    BUF_MEM *pem[2][KINDS];
} PEM;

static double run(void *arg, int side)
{
    PEM *p = arg;
    double before = bench_ns(CLOCK_THREAD_CPUTIME_ID);
    int i;

    for (i = 0; i < LOADS; i++)
        p->load(p->pem[side][i % KINDS], p->libctx[side]);
    return (bench_ns(CLOCK_THREAD_CPUTIME_ID) - before) / LOADS;
}

/* argv[0]: "rsa" or "ec" keys, or "certificate"; argv[1]: "envelope", "sealed" or, for noise, "raw" */
void bench_pem(unsigned long rounds, char **argv)
{
    int sealed = strcmp(argv[1], "sealed") == 0, raw = strcmp(argv[1], "raw") == 0, i;
    EVP_CIPHER *cipher;
    PEM p;

    p.load = strcmp(argv[0], "certificate") == 0 ? bench_load_certificate : bench_load_key;
    for (i = 0; i < 2; i++) {
        bench_check((p.libctx[i] = OSSL_LIB_CTX_new()) != NULL, "a library context");
        if (sealed || (i == 0 && !raw))
            bench_load_provider(p.libctx[i]);
        else
            bench_check(OSSL_PROVIDER_load(p.libctx[i], "default") != NULL, "loading the default provider");
        /* As in a program that speaks TLS: then there are all the ciphers, which OpenSSL 3.0 goes through at each load. */
        bench_check((cipher = EVP_CIPHER_fetch(p.libctx[i], "AES-256-GCM", NULL)) != NULL, "a cipher");
        EVP_CIPHER_free(cipher);
    }
    for (i = 0; i < KINDS; i++) {
        p.pem[1][i] = bench_key(argv[0], 0);
        p.pem[0][i] = sealed ? bench_key(argv[0], 1) : p.pem[1][i];
    }
    bench_pairs(rounds, 2, run, &p);
}
