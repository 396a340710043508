#include <inttypes.h>
#include <string.h>
#include "kms/base64.h"
#include "kms/json.h"

/* What a character needs behind a backslash; 0 = nothing. */
static char short_escape(unsigned char c)
{
    switch (c) {
    case '"':
    case '\\':
        return (char)c;
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return 0;
    }
}

static void add_escaped(KMSENV_BUFFER *b, const unsigned char *text, size_t n)
{
    size_t i, plain = 0;
    char e[2] = "\\";

    for (i = 0; i < n; i++) {
        if (text[i] >= 0x20 && text[i] != '"' && text[i] != '\\')
            continue;
        kmsenv_buffer_add(b, text + plain, i - plain);
        plain = i + 1;
        e[1] = short_escape(text[i]);
        if (e[1] != 0)
            kmsenv_buffer_add(b, e, 2);
        else
            kmsenv_buffer_printf(b, "\\u%04x", (unsigned)text[i]);
    }
    kmsenv_buffer_add(b, text + plain, n - plain);
}

static void add_string(KMSENV_BUFFER *b, const void *text, size_t n)
{
    kmsenv_buffer_add(b, "\"", 1);
    add_escaped(b, text, n);
    kmsenv_buffer_add(b, "\"", 1);
}

/* Comma if something stands before it in the same object or array, then the name. */
static void begin(KMSENV_BUFFER *b, const char *name)
{
    char last = b->length == 0 ? '{' : (char)b->data[b->length - 1];

    if (last != '{' && last != '[' && last != ':' && last != '\n')
        kmsenv_buffer_add(b, ",", 1);
    if (name != NULL) {
        add_string(b, name, strlen(name));
        kmsenv_buffer_add(b, ":", 1);
    }
}

void kmsenv_json_open(KMSENV_BUFFER *b, const char *name)
{
    begin(b, name);
    kmsenv_buffer_add(b, "{", 1);
}

void kmsenv_json_close(KMSENV_BUFFER *b)
{
    kmsenv_buffer_add(b, "}", 1);
}

void kmsenv_json_open_list(KMSENV_BUFFER *b, const char *name)
{
    begin(b, name);
    kmsenv_buffer_add(b, "[", 1);
}

void kmsenv_json_close_list(KMSENV_BUFFER *b)
{
    kmsenv_buffer_add(b, "]", 1);
}

void kmsenv_json_add_bytes(KMSENV_BUFFER *b, const char *name, const void *text, size_t n)
{
    begin(b, name);
    add_string(b, text, n);
}

void kmsenv_json_add_text(KMSENV_BUFFER *b, const char *name, const char *text)
{
    kmsenv_json_add_bytes(b, name, text, strlen(text));
}

void kmsenv_json_add_base64(KMSENV_BUFFER *b, const char *name, const void *data, size_t n)
{
    begin(b, name);
    kmsenv_buffer_add(b, "\"", 1);
    kmsenv_base64_add(b, data, n);
    kmsenv_buffer_add(b, "\"", 1);
}

void kmsenv_json_add_number(KMSENV_BUFFER *b, const char *name, int64_t number)
{
    begin(b, name);
    kmsenv_buffer_printf(b, "%" PRId64, number);
}
