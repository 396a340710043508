#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/err.h>
#include <openssl/provider.h>
#include "bench.h"
#include "kmsenv/params.h"

double bench_ns(clockid_t clock)
{
    struct timespec t;

    bench_check(clock_gettime(clock, &t) == 0, "clock");
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

void bench_check(int ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "benchmark: %s failed\n", what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

unsigned long bench_number(const char *text)
{
    char *end;
    unsigned long n;

    errno = 0;
    n = strtoul(text, &end, 10);
    bench_check(errno == 0 && end != text && *end == '\0' && n > 0, "reading a number");
    return n;
}

void bench_load_provider(OSSL_LIB_CTX *libctx)
{
    bench_check(OSSL_PROVIDER_load(libctx, "default") != NULL, "loading the default provider");
    bench_check(OSSL_PROVIDER_load(libctx, "kmsenv") != NULL, "loading kmsenv");
    bench_check(OSSL_PROVIDER_available(libctx, "kmsenv"), "finding kmsenv");
}

EVP_CIPHER *bench_raw_cipher(void)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", "provider=default");

    bench_check(cipher != NULL, "fetching AES-256-GCM");
    return cipher;
}

EVP_CIPHER *bench_envelope_cipher(void)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, KMSENV_CIPHER_ENVELOPE, NULL);

    bench_check(cipher != NULL, "fetching " KMSENV_CIPHER_ENVELOPE);
    bench_check(strcmp(OSSL_PROVIDER_get0_name(EVP_CIPHER_get0_provider(cipher)), "kmsenv") == 0, "identifying the cipher");
    return cipher;
}

void bench_reference(unsigned char key[32])
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, KMSENV_KEYMGMT_DATA_KEY, NULL);
    EVP_PKEY *pkey = NULL;
    size_t n;

    bench_check(ctx != NULL && EVP_PKEY_keygen_init(ctx) > 0
                && EVP_PKEY_CTX_ctrl_str(ctx, KMSENV_PKEY_PARAM_KEYRING, "yes") > 0 && EVP_PKEY_keygen(ctx, &pkey) > 0
                && EVP_PKEY_get_octet_string_param(pkey, KMSENV_PKEY_PARAM_REFERENCE, key, 32, &n), "making a data key");
    EVP_PKEY_free(pkey);
    EVP_PKEY_CTX_free(ctx);
}

EVP_CIPHER *bench_reference_cipher(unsigned char key[32])
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, "KMS-AES-256-GCM", NULL);

    bench_check(cipher != NULL, "fetching KMS-AES-256-GCM");
    bench_reference(key);
    return cipher;
}

size_t bench_seal(const EVP_CIPHER *cipher, unsigned char *out, const unsigned char *in, size_t n)
{
    static const unsigned char no_key[32];
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    size_t total = 0, piece;
    int len;

    bench_check(ctx != NULL && EVP_EncryptInit_ex2(ctx, cipher, no_key, NULL, NULL), "init");
    for (; n > 0; n -= piece, in += piece) {
        piece = n < 65536 ? n : 65536;
        bench_check(EVP_EncryptUpdate(ctx, out + total, &len, in, (int)piece), "update");
        total += (size_t)len;
    }
    bench_check(EVP_EncryptFinal_ex(ctx, out + total, &len), "final");
    EVP_CIPHER_CTX_free(ctx);
    return total + (size_t)len;
}

void bench_pairs(unsigned long rounds, unsigned long slices, BENCH_SIDE *run, void *arg)
{
    double cost[2];
    unsigned long i, j;

    run(arg, 0);
    run(arg, 1);
    for (i = 0; i < rounds; i++) {
        cost[0] = cost[1] = 0;
        for (j = 0; j < slices; j++) {
            cost[(i + j) % 2] += run(arg, (int)((i + j) % 2));
            cost[(i + j + 1) % 2] += run(arg, (int)((i + j + 1) % 2));
        }
        printf("%.3f %.3f\n", cost[0] / (double)slices, cost[1] / (double)slices);
    }
}
