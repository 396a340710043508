/*
 * crypt legacy|fetch encrypt|decrypt HEXKEY: standard input to standard output through AES-256-GCM with a fixed IV, by the
 * calls of OpenSSL 1.x (legacy) or those of 3.x (fetch). It knows nothing of kmsenv.
 */
#include <stdio.h>
#include <string.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#define ROOM 65536

static int crypt(const EVP_CIPHER *cipher, int enc, const unsigned char *key, unsigned char *data, size_t n)
{
    static unsigned char out[ROOM + 32];
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    unsigned char *in = enc ? data : data + 16;
    int len = 0, last = 0;

    if (ctx == NULL || (!enc && n < 16)
        || !EVP_CipherInit_ex(ctx, cipher, NULL, key, (const unsigned char *)"iviviviviviv", enc)
        || (!enc && !EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, 16, data))
        || !EVP_CipherUpdate(ctx, out + 16, &len, in, (int)(enc ? n : n - 16)) || !EVP_CipherFinal_ex(ctx, out + 16 + len, &last)
        || (enc && !EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, 16, out)))
        return 0;
    EVP_CIPHER_CTX_free(ctx);
    fwrite(enc ? out : out + 16, 1, (size_t)(len + last) + (enc ? 16 : 0), stdout);
    return 1;
}

int main(int argc, char **argv)
{
    static unsigned char data[ROOM];
    const EVP_CIPHER *cipher;
    unsigned char *key;
    long keylen;
    size_t n = fread(data, 1, sizeof(data), stdin);

    if (argc != 4 || (key = OPENSSL_hexstr2buf(argv[3], &keylen)) == NULL || keylen != 32)
        return 2;
    cipher = strcmp(argv[1], "legacy") == 0 ? EVP_aes_256_gcm() : EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    if (cipher != NULL && crypt(cipher, strcmp(argv[2], "encrypt") == 0, key, data, n))
        return 0;
    ERR_print_errors_fp(stderr);
    return 1;
}
