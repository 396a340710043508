/* Ordinary private keys read from PEM, 2 * 500 of them a round: in a library context with kmsenv, and in one without. */
#include <stdlib.h>
#include <string.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/rsa.h>
#include "bench.h"

#define KINDS 16                   /* different keys */
#define LOADS 500

typedef struct pem_st {
    OSSL_LIB_CTX *libctx[2];
    BUF_MEM *pem[KINDS];
} PEM;

static double run(void *arg, int side)
{
    PEM *p = arg;
    double before = bench_ns(CLOCK_THREAD_CPUTIME_ID);
    EVP_PKEY *pkey;
    BIO *bio;
    int i;

    for (i = 0; i < LOADS; i++) {
        bio = BIO_new_mem_buf(p->pem[i % KINDS]->data, (int)p->pem[i % KINDS]->length);
        pkey = PEM_read_bio_PrivateKey_ex(bio, NULL, NULL, NULL, p->libctx[side], NULL);
        bench_check(pkey != NULL, "reading a PEM key");
        EVP_PKEY_free(pkey);
        BIO_free(bio);
    }
    return (bench_ns(CLOCK_THREAD_CPUTIME_ID) - before) / LOADS;
}

static BUF_MEM *make_pem(int rsa)
{
    EVP_PKEY *pkey = rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
    BIO *bio = BIO_new(BIO_s_mem());
    BUF_MEM *pem = NULL;

    bench_check(pkey != NULL && bio != NULL && PEM_write_bio_PrivateKey(bio, pkey, NULL, NULL, 0, NULL, NULL)
                && BIO_get_mem_ptr(bio, &pem) > 0 && BIO_set_close(bio, BIO_NOCLOSE) > 0, "making a key");
    BIO_free(bio);
    EVP_PKEY_free(pkey);
    return pem;
}

/* argv[0]: kinds of key, "rsa" or "ec"; argv[1]: "envelope" or, for noise, "raw" */
void bench_pem(unsigned long rounds, char **argv)
{
    PEM p;
    int i;

    for (i = 0; i < 2; i++) {
        bench_check((p.libctx[i] = OSSL_LIB_CTX_new()) != NULL, "a library context");
        if (i == 0 && strcmp(argv[1], "raw") != 0)
            bench_load_provider(p.libctx[i]);
        else
            bench_check(OSSL_PROVIDER_load(p.libctx[i], "default") != NULL, "loading the default provider");
    }
    for (i = 0; i < KINDS; i++)
        p.pem[i] = make_pem(strcmp(argv[0], "rsa") == 0);
    bench_pairs(rounds, 2, run, &p);
}
