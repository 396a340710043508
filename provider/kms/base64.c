#include <string.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include "kms/base64.h"

#define CHUNK 48   /* bytes at a time: 64 characters */
#define TEXT_MAX (16 * 1024 * 1024)

int kmsenv_base64_add(KMSENV_BUFFER *b, const void *data, size_t n)
{
    const unsigned char *in = data;
    unsigned char text[CHUNK / 3 * 4 + 1];
    size_t part;
    int length, ok = 1;

    for (; ok && n > 0; in += part, n -= part) {
        part = n < CHUNK ? n : CHUNK;
        length = EVP_EncodeBlock(text, in, (int)part);
        ok = kmsenv_buffer_add(b, text, (size_t)length);
    }
    OPENSSL_cleanse(text, sizeof(text));
    return ok;
}

int kmsenv_base64url_add(KMSENV_BUFFER *b, const void *data, size_t n)
{
    size_t i, start = b->length;

    if (!kmsenv_base64_add(b, data, n))
        return 0;
    for (i = start; i < b->length; i++)
        b->data[i] = b->data[i] == '+' ? '-' : b->data[i] == '/' ? '_' : b->data[i];
    while (b->length > start && b->data[b->length - 1] == '=')
        b->data[--b->length] = '\0';
    return 1;
}

/* Value of a base64 digit, 64 if it is none. */
static unsigned digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (unsigned)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (unsigned)(c - 'a') + 26;
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0') + 52;
    return c == '+' ? 62 : c == '/' ? 63 : 64;
}

/* Is it canonical? *pad: number of '=' at the end. */
static int check(const char *text, size_t n, size_t *pad)
{
    size_t i;

    if (n % 4 != 0)
        return 0;
    *pad = 0;
    while (*pad < 2 && n > 0 && text[n - 1 - *pad] == '=')
        ++*pad;
    for (i = 0; i < n - *pad; i++)
        if (digit(text[i]) == 64)
            return 0;
    return *pad == 0 || (digit(text[n - *pad - 1]) & (*pad == 1 ? 3u : 15u)) == 0;
}

int kmsenv_base64_decode(const char *text, size_t n, unsigned char *out, size_t *outlen)
{
    unsigned char last[3];
    size_t pad, whole, length;
    int ok;

    if (n > TEXT_MAX || !check(text, n, &pad) || (length = n / 4 * 3 - pad) > *outlen)
        return 0;
    if (n == 0) {
        *outlen = 0;
        return 1;
    }
    whole = n - 4;   /* EVP_DecodeBlock() writes whole groups of three: the last goes through a buffer of ours */
    ok = (whole == 0 || EVP_DecodeBlock(out, (const unsigned char *)text, (int)whole) == (int)(whole / 4 * 3))
         && EVP_DecodeBlock(last, (const unsigned char *)text + whole, 4) == 3;
    if (ok) {
        memcpy(out + whole / 4 * 3, last, 3 - pad);
        *outlen = length;
    } else {
        OPENSSL_cleanse(out, length);
    }
    OPENSSL_cleanse(last, sizeof(last));
    return ok;
}

/* By way of the other alphabet; what is of that one only becomes something that is of neither. */
int kmsenv_base64url_decode(const char *text, size_t n, unsigned char *out, size_t *outlen)
{
    static const char from[] = "-_+/=", to[] = "+/***";
    KMSENV_BUFFER standard;
    const char *found;
    size_t i;
    int ok;

    if (n > TEXT_MAX || n % 4 == 1)
        return 0;
    kmsenv_buffer_init(&standard, n + 2, 1);
    ok = kmsenv_buffer_add(&standard, text, n);
    for (i = 0; ok && i < n; i++)
        if (standard.data[i] != '\0' && (found = strchr(from, standard.data[i])) != NULL)
            standard.data[i] = (unsigned char)to[found - from];
    ok = ok && kmsenv_buffer_add(&standard, "==", (4 - n % 4) % 4)
         && kmsenv_base64_decode(kmsenv_buffer_text(&standard), standard.length, out, outlen);
    kmsenv_buffer_reset(&standard);
    return ok;
}
