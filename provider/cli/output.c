#include <string.h>
#include "cli/cli.h"

/* Length and code point of the well-formed UTF-8 character at p; length 0 if there is none. */
static size_t utf8_char(const unsigned char *p, size_t n, uint32_t *code)
{
    static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
    size_t len = p[0] < 0x80 ? 1 : (p[0] & 0xe0) == 0xc0 ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : (p[0] & 0xf8) == 0xf0 ? 4 : 0;
    size_t i;

    if (len == 0 || len > n)
        return 0;
    *code = len == 1 ? p[0] : p[0] & (0x7fu >> len);
    for (i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        *code = *code << 6 | (p[i] & 0x3f);
    }
    if (*code < smallest[len] || *code > 0x10ffff || (*code >= 0xd800 && *code <= 0xdfff))
        return 0;
    return len;
}

/* Characters that only change how the others look: controls, line separators, direction marks. */
static int is_unprintable(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || c == 0x61c || (c >= 0x200b && c <= 0x200f)
        || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff || c >= 0xe0000;
}

void kmsenv_cli_print_text(FILE *out, const void *text, size_t n)
{
    const unsigned char *p = text;
    uint32_t code = 0;
    size_t len, i;

    while (n > 0) {
        len = utf8_char(p, n, &code);
        if (len > 0 && !is_unprintable(code)) {
            fwrite(p, 1, len, out);
        } else {
            len = len == 0 ? 1 : len;
            for (i = 0; i < len; i++)
                fprintf(out, "\\x%02x", p[i]);
        }
        p += len;
        n -= len;
    }
}

void kmsenv_cli_print_json(FILE *out, const void *text, size_t n)
{
    const unsigned char *p = text;
    uint32_t code = 0;
    size_t len;

    fputc('"', out);
    while (n > 0) {
        len = utf8_char(p, n, &code);
        if (len == 0)
            fputs("\\ufffd", out);
        else if (code == '"' || code == '\\')
            fprintf(out, "\\%c", (int)code);
        else if (is_unprintable(code) && code < 0x10000)
            fprintf(out, "\\u%04x", (unsigned)code);
        else
            fwrite(p, 1, len, out);
        len = len == 0 ? 1 : len;
        p += len;
        n -= len;
    }
    fputc('"', out);
}

void kmsenv_cli_print_hex(FILE *out, const unsigned char *data, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++)
        fprintf(out, "%02x", data[i]);
}
