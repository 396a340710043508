#include <ctype.h>
#include <stdlib.h>
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

/* --- headers in canonical form --------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    const char *x = *(const char *const *)a, *y = *(const char *const *)b;

    for (; *x != ':' && tolower((unsigned char)*x) == tolower((unsigned char)*y); x++, y++)
        ;
    return (*x == ':' ? 0 : tolower((unsigned char)*x)) - (*y == ':' ? 0 : tolower((unsigned char)*y));
}

static void add_lower(KMSENV_BUFFER *out, const char *text, size_t n)
{
    char c;

    for (; n > 0; n--, text++) {
        c = (char)tolower((unsigned char)*text);
        kmsenv_buffer_add(out, &c, 1);
    }
}

/* Without blanks at the ends, and with one where there are several. */
static void add_folded(KMSENV_BUFFER *out, const char *text)
{
    size_t n;

    for (text += strspn(text, " \t"); *text != '\0'; text += strspn(text, " \t")) {
        n = strcspn(text, " \t");
        kmsenv_buffer_add(out, text, n);
        text += n;
        if (text[strspn(text, " \t")] != '\0')
            kmsenv_buffer_add(out, " ", 1);
    }
}

void kmsenv_sign_headers(const KMSENV_REQUEST *request, int (*wanted)(const char *line), int fold, KMSENV_BUFFER *names,
                         KMSENV_BUFFER *out)
{
    const char *sorted[KMSENV_REQUEST_HEADERS_MAX];
    size_t i, n, count = 0;

    for (i = 0; i < request->headers; i++)
        if (wanted == NULL || wanted(request->header[i]))
            sorted[count++] = request->header[i];
    qsort(sorted, count, sizeof(sorted[0]), by_name);
    for (i = 0; i < count; i++) {
        n = strcspn(sorted[i], ":");
        add_lower(names, ";", i > 0);
        add_lower(names, sorted[i], n);
        add_lower(out, sorted[i], n);
        kmsenv_buffer_add(out, ":", 1);
        if (fold)
            add_folded(out, sorted[i] + n + 1);
        else
            kmsenv_buffer_add_text(out, sorted[i] + n + 2);
        kmsenv_buffer_add(out, "\n", 1);
    }
}
