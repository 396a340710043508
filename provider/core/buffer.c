#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <openssl/crypto.h>
#include "core/buffer.h"
#include "core/secret.h"

#define FIRST_ROOM 256

void kmsenv_buffer_init(KMSENV_BUFFER *b, size_t limit, int secret)
{
    memset(b, 0, sizeof(*b));
    b->limit = limit;
    b->secret = secret;
}

void kmsenv_buffer_reset(KMSENV_BUFFER *b)
{
    if (b->secret)
        kmsenv_secret_free(b->data);
    else
        OPENSSL_free(b->data);
    kmsenv_buffer_init(b, b->limit, b->secret);
}

static int fail(KMSENV_BUFFER *b)
{
    b->failed = 1;
    return 0;
}

/* Room for n more bytes and the NUL. */
static int reserve(KMSENV_BUFFER *b, size_t n)
{
    size_t room = b->room == 0 ? FIRST_ROOM : b->room;
    unsigned char *data;

    if (b->failed || n > b->limit - b->length)
        return fail(b);
    if (b->length + n + 1 <= b->room)
        return 1;
    while (room < b->length + n + 1)
        room *= 2;
    data = b->secret ? kmsenv_secret_realloc(b->data, room) : OPENSSL_realloc(b->data, room);
    if (data == NULL)
        return fail(b);
    b->data = data;
    b->room = room;
    return 1;
}

int kmsenv_buffer_add(KMSENV_BUFFER *b, const void *data, size_t n)
{
    if (!reserve(b, n))
        return 0;
    if (n > 0)
        memcpy(b->data + b->length, data, n);
    b->length += n;
    b->data[b->length] = '\0';
    return 1;
}

int kmsenv_buffer_add_text(KMSENV_BUFFER *b, const char *text)
{
    return kmsenv_buffer_add(b, text, strlen(text));
}

int kmsenv_buffer_printf(KMSENV_BUFFER *b, const char *fmt, ...)
{
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0 || !reserve(b, (size_t)n))
        return fail(b);
    va_start(args, fmt);
    vsnprintf((char *)b->data + b->length, (size_t)n + 1, fmt, args);
    va_end(args);
    b->length += (size_t)n;
    return 1;
}

const char *kmsenv_buffer_text(const KMSENV_BUFFER *b)
{
    return b->data == NULL ? "" : (const char *)b->data;
}
