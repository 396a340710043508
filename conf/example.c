/*
 * Encrypts or decrypts standard input to standard output with kmsenv.
 *
 *   cc -o example example.c -lcrypto
 *   export OPENSSL_CONF=.../kmsenv-local.cnf
 *   ./example encrypt <plain >message
 *   ./example decrypt <message >plain
 */
#include <stdio.h>
#include <string.h>
#include <openssl/err.h>
#include <openssl/evp.h>

/* Every failure of kmsenv leaves one entry: a stable reason, and a sentence with cause and remedy. */
static int failed(void)
{
    const char *sentence;
    unsigned long code;
    int flags;

    while ((code = ERR_get_error_all(NULL, NULL, NULL, &sentence, &flags)) != 0)
        fprintf(stderr, "example: %s: %s\n", ERR_reason_error_string(code), sentence);
    return 1;
}

static int crypt(EVP_CIPHER_CTX *ctx, const EVP_CIPHER *cipher, int encrypt, FILE *in, FILE *out)
{
    static unsigned char from[65536], to[65536 + 65536];  /* input, and input + block size */
    size_t n;
    int len;

    /* No key, no IV: the data key comes from the KMS, the rest is in the message. */
    if (!EVP_CipherInit_ex2(ctx, cipher, NULL, NULL, encrypt, NULL))
        return 0;
    while ((n = fread(from, 1, sizeof(from), in)) > 0)
        if (!EVP_CipherUpdate(ctx, to, &len, from, (int)n) || fwrite(to, 1, (size_t)len, out) != (size_t)len)
            return 0;
    /* On decryption, what came out so far is not to be trusted before this returns 1. */
    return EVP_CipherFinal_ex(ctx, to, &len) && fwrite(to, 1, (size_t)len, out) == (size_t)len
        && !ferror(in) && fflush(out) == 0;
}

int main(int argc, char **argv)
{
    int encrypt = argc == 2 && strcmp(argv[1], "encrypt") == 0, ok;
    EVP_CIPHER *cipher;
    EVP_CIPHER_CTX *ctx;

    if (!encrypt && (argc != 2 || strcmp(argv[1], "decrypt") != 0)) {
        fputs("usage: example encrypt|decrypt\n", stderr);
        return 2;
    }
    cipher = EVP_CIPHER_fetch(NULL, "kms-envelope", NULL);
    ctx = EVP_CIPHER_CTX_new();
    ok = cipher != NULL && ctx != NULL && crypt(ctx, cipher, encrypt, stdin, stdout);
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
    return ok ? 0 : failed();
}
