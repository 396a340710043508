/*
 * A warm KMS call: the CPU of this process for one message under `dek-reuse = no` (one
 * GenerateDataKey, signed, parsed and checked, and a short message made with it), over the CPU for
 * one bare POST of the same bytes on a kept libcurl handle. The server is another process.
 * Or a sealed private key loaded with `sealed-key-cache = 0` (one Decrypt), over the same POST, and both by wall.
 *
 * usage: bench_kms ROUNDS CALLS URL CA-FILE HEADERS BODY envelope|unseal|raw; the files hold a request as the server wants it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <curl/curl.h>
#include "bench.h"

#define SLICES 4

typedef struct kms_st {
    EVP_CIPHER_CTX *ctx;
    CURL *handle;
    struct curl_slist *headers;
    char body[4096];
    unsigned long calls;
    int both_bare, unseal;
    BUF_MEM *sealed_key;
    size_t received;
} KMS;

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    KMS *k = arg;

    (void)data;
    k->received += size * n;
    return size * n;
}

static void bare_call(KMS *k)
{
    long status = 0;

    k->received = 0;
    bench_check(curl_easy_perform(k->handle) == CURLE_OK, "a bare request");
    curl_easy_getinfo(k->handle, CURLINFO_RESPONSE_CODE, &status);
    bench_check(status == 200 && k->received > 200, "a bare request's reply");   /* an error's reply is shorter */
}

static void kmsenv_call(KMS *k)
{
    static const unsigned char key[32], in[16];
    unsigned char out[sizeof(in) + BENCH_HEADER_ROOM];
    int first, last;

    bench_check(EVP_EncryptInit_ex2(k->ctx, NULL, key, NULL, NULL) && EVP_EncryptUpdate(k->ctx, out, &first, in, sizeof(in))
                && EVP_EncryptFinal_ex(k->ctx, out + first, &last), "a message");
}

static double run(void *arg, int side)
{
    KMS *k = arg;
    clockid_t clock = k->unseal ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID;
    double before = bench_ns(clock);
    unsigned long i;

    for (i = 0; i < k->calls; i++) {
        if (side == 0 && k->unseal)
            bench_load_key(k->sealed_key, NULL);
        else if (side == 0 && !k->both_bare)
            kmsenv_call(k);
        else
            bare_call(k);
    }
    return (bench_ns(clock) - before) / (double)k->calls;
}

static void read_headers(KMS *k, const char *path)
{
    char line[1024];
    FILE *in = fopen(path, "r");

    bench_check(in != NULL, "opening the headers");
    while (fgets(line, sizeof(line), in) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        bench_check((k->headers = curl_slist_append(k->headers, line)) != NULL, "a header");
    }
    fclose(in);
}

static void read_body(KMS *k, const char *path)
{
    FILE *in = fopen(path, "r");

    bench_check(in != NULL, "opening the body");
    k->body[fread(k->body, 1, sizeof(k->body) - 1, in)] = '\0';
    fclose(in);
}

static void prepare_bare(KMS *k, char **argv)
{
    read_headers(k, argv[5]);
    read_body(k, argv[6]);
    bench_check(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK && (k->handle = curl_easy_init()) != NULL, "libcurl");
    curl_easy_setopt(k->handle, CURLOPT_URL, argv[3]);
    curl_easy_setopt(k->handle, CURLOPT_CAINFO, argv[4]);
    curl_easy_setopt(k->handle, CURLOPT_PROXY, "");
    curl_easy_setopt(k->handle, CURLOPT_HTTPHEADER, k->headers);
    curl_easy_setopt(k->handle, CURLOPT_POSTFIELDS, k->body);
    curl_easy_setopt(k->handle, CURLOPT_TIMEOUT_MS, 10000L);
    curl_easy_setopt(k->handle, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(k->handle, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(k->handle, CURLOPT_WRITEDATA, k);
}

int main(int argc, char **argv)
{
    static const unsigned char key[32];
    static KMS k;

    if (argc != 8) {
        fprintf(stderr, "usage: bench_kms ROUNDS CALLS URL CA-FILE HEADERS BODY envelope|unseal|raw\n");
        return 2;
    }
    k.calls = bench_number(argv[2]);
    k.both_bare = strcmp(argv[7], "raw") == 0;
    k.unseal = strcmp(argv[7], "unseal") == 0;
    bench_load_provider(NULL);
    if (k.unseal)
        k.sealed_key = bench_key("ec", 1);
    bench_check((k.ctx = EVP_CIPHER_CTX_new()) != NULL
                && EVP_EncryptInit_ex2(k.ctx, bench_envelope_cipher(), key, NULL, NULL), "init");
    prepare_bare(&k, argv);
    bench_pairs(bench_number(argv[1]), SLICES, run, &k);
    return 0;
}
