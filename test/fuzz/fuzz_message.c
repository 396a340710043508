/* A whole message, opened through EVP with a key that can open it. The last byte of the input chooses the size of the updates. */
#include "fuzz_provider.h"
#include "kmsenv/format.h"

#define SURPLUS 31
#define BLOCK   512

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    fuzz_provider_start();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    size_t chunk = size == 0 || data[size - 1] == 0 ? 1 << 20 : data[size - 1], done, n;
    unsigned char *out;
    int outl, ok = ctx != NULL && EVP_CipherInit_ex2(ctx, fuzz_cipher, NULL, NULL, 0, NULL);

    FUZZ_REQUIRE(ok);
    for (done = 0; ok && done < size; done += n) {
        n = size - done < chunk ? size - done : chunk;
        FUZZ_REQUIRE((out = malloc(n + SURPLUS)) != NULL);   /* AddressSanitizer guards its end */
        outl = 0;
        ok = EVP_CipherUpdate(ctx, out, &outl, data + done, (int)n);
        FUZZ_REQUIRE(outl >= 0 && (size_t)outl <= n + SURPLUS);
        free(out);
    }
    if (ok) {
        FUZZ_REQUIRE((out = malloc(BLOCK)) != NULL);
        outl = 0;
        ok = EVP_CipherFinal_ex(ctx, out, &outl);
        FUZZ_REQUIRE(outl >= 0 && outl <= BLOCK);
        free(out);
    }
    fuzz_check_queue(ok);
    EVP_CIPHER_CTX_free(ctx);
    return 0;
}
