#include <string.h>
#include <time.h>
#include <openssl/crypto.h>
#include "kms/sign.h"

void kmsenv_sign_hex(const unsigned char *in, size_t n, char *out)
{
    static const char digit[] = "0123456789abcdef";
    size_t i;

    for (i = 0; i < n; i++) {
        out[2 * i] = digit[in[i] >> 4];
        out[2 * i + 1] = digit[in[i] & 15];
    }
    out[2 * n] = '\0';
}

int kmsenv_sign_hash(KMSENV_CRYPTO *crypto, const void *data, size_t n, char out[KMSENV_HEX_SHA256], KMSENV_ERROR *err)
{
    unsigned char hash[32];

    if (!kmsenv_crypto_sha256(crypto, data, n, hash, err))
        return 0;
    kmsenv_sign_hex(hash, sizeof(hash), out);
    return 1;
}

int kmsenv_sign_time(int64_t unix_time, const char *format, char *out, size_t room)
{
    time_t t = (time_t)unix_time;
    struct tm tm;

    return gmtime_r(&t, &tm) != NULL && strftime(out, room, format, &tm) > 0;
}

int kmsenv_sign_step(KMSENV_CRYPTO *crypto, unsigned char key[32], const char *text, KMSENV_ERROR *err)
{
    unsigned char next[32];
    int ok = kmsenv_crypto_hmac_sha256(crypto, key, 32, text, strlen(text), next, err);

    if (ok)
        memcpy(key, next, sizeof(next));
    OPENSSL_cleanse(next, sizeof(next));
    return ok;
}
