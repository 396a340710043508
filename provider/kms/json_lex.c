#include <ctype.h>
#include <string.h>
#include <openssl/crypto.h>
#include "kms/json.h"

#define NAME_MAX_LEN 64     /* longer member names cannot be those of secrets */
#define FILLER       'x'

typedef struct lexer_st {
    unsigned char *start, *p, *end;
    unsigned values;
    const char *fault;              /* what is wrong at p; NULL = nothing yet */
    KMSENV_JSON_SECRET *secrets;
    size_t count;
    KMSENV_BUFFER *sink;            /* where the string being read goes decoded; NULL = nowhere */
} LEXER;

static int fail(LEXER *l, const char *fault)
{
    if (l->fault == NULL)
        l->fault = fault;
    return 0;
}

/* --- UTF-8 ---------------------------------------------------------------- */

/* Length of the well-formed character at p, 0 if there is none. */
static size_t utf8_length(const unsigned char *p, const unsigned char *end)
{
    size_t i, n = p[0] < 0x80 ? 1 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : (p[0] & 0xf0) == 0xe0 ? 3
                  : p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : 0;

    if (n == 0 || n > (size_t)(end - p))
        return 0;
    for (i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if (n == 3 && ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f)))
        return 0;   /* overlong, surrogate */
    if (n == 4 && ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f)))
        return 0;   /* overlong, beyond U+10FFFF */
    return n;
}

int kmsenv_json_is_utf8(const void *text, size_t n)
{
    const unsigned char *p = text, *end = p + n;
    size_t length;

    for (; p < end; p += length)
        if ((length = utf8_length(p, end)) == 0)
            return 0;
    return 1;
}

static size_t utf8_encode(unsigned long c, unsigned char out[4])
{
    if (c < 0x80) {
        out[0] = (unsigned char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (unsigned char)(0xc0 | c >> 6);
        out[1] = (unsigned char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (unsigned char)(0xe0 | c >> 12);
        out[1] = (unsigned char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (unsigned char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (unsigned char)(0xf0 | c >> 18);
    out[1] = (unsigned char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (unsigned char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (unsigned char)(0x80 | (c & 0x3f));
    return 4;
}

/* --- strings -------------------------------------------------------------- */

/* Four hexadecimal digits after \u. */
static int read_hex4(LEXER *l, unsigned long *out)
{
    unsigned long n = 0;
    int i, c;

    if (l->end - l->p < 4)
        return fail(l, "the text ends within a string");
    for (i = 0; i < 4; i++) {
        c = tolower(*l->p++);
        if (!isxdigit(c))
            return fail(l, "\\u without four hexadecimal digits");
        n = n << 4 | (unsigned long)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    *out = n;
    return 1;
}

static int read_unicode(LEXER *l, unsigned long *out)
{
    unsigned long low;

    if (!read_hex4(l, out))
        return 0;
    if (*out == 0)
        return fail(l, "a NUL character in a string");
    if (*out < 0xd800 || *out > 0xdfff)
        return 1;
    if (*out > 0xdbff || l->end - l->p < 2 || l->p[0] != '\\' || l->p[1] != 'u')
        return fail(l, "half of a surrogate pair in a string");
    l->p += 2;
    if (!read_hex4(l, &low))
        return 0;
    if (low < 0xdc00 || low > 0xdfff)
        return fail(l, "half of a surrogate pair in a string");
    *out = 0x10000 + ((*out - 0xd800) << 10) + (low - 0xdc00);
    return 1;
}

/* What follows a backslash, decoded into the sink. */
static int read_escape(LEXER *l)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    unsigned char utf8[4];
    unsigned long c;
    const char *e;
    size_t n;

    if (l->p == l->end)
        return fail(l, "the text ends within a string");
    if (*l->p == 'u') {
        l->p++;
        if (!read_unicode(l, &c))
            return 0;
    } else {
        if (*l->p == '\0' || (e = strchr(from, *l->p)) == NULL)
            return fail(l, "an unknown escape in a string");
        l->p++;
        c = (unsigned char)to[e - from];
    }
    n = utf8_encode(c, utf8);
    if (l->sink != NULL)
        kmsenv_buffer_add(l->sink, utf8, n);
    OPENSSL_cleanse(utf8, sizeof(utf8));
    return 1;
}

/* Plain characters up to the next quote or backslash, into the sink. */
static int read_plain(LEXER *l)
{
    const unsigned char *from = l->p;
    size_t n;

    for (; l->p < l->end && *l->p != '"' && *l->p != '\\'; l->p += n) {
        if (*l->p < 0x20)
            return fail(l, "a control character in a string");
        if ((n = utf8_length(l->p, l->end)) == 0)
            return fail(l, "a string that is not UTF-8");
    }
    if (l->p == l->end)
        return fail(l, "the text ends within a string");
    if (l->sink != NULL)
        kmsenv_buffer_add(l->sink, from, (size_t)(l->p - from));
    return 1;
}

/* A string at the opening quote; decoded into sink unless that is NULL. */
static int read_string(LEXER *l, KMSENV_BUFFER *sink)
{
    l->sink = sink;
    for (l->p++; read_plain(l);) {
        if (*l->p++ == '"')
            return 1;
        if (!read_escape(l))
            return 0;
    }
    return 0;
}

/* --- values --------------------------------------------------------------- */

static void skip_blanks(LEXER *l)
{
    while (l->p < l->end && (*l->p == ' ' || *l->p == '\t' || *l->p == '\n' || *l->p == '\r'))
        l->p++;
}

static int at(const LEXER *l, char c)
{
    return l->p < l->end && *l->p == (unsigned char)c;
}

static size_t skip_digits(LEXER *l)
{
    const unsigned char *from = l->p;

    while (l->p < l->end && isdigit(*l->p))
        l->p++;
    return (size_t)(l->p - from);
}

static int read_number(LEXER *l)
{
    const unsigned char *from = l->p;

    l->p += at(l, '-');
    if (at(l, '0'))
        l->p++;
    else if (skip_digits(l) == 0)
        return fail(l, "no value where one belongs");
    if (at(l, '.') && (l->p++, skip_digits(l) == 0))
        return fail(l, "a malformed number");
    if (at(l, 'e') || at(l, 'E')) {
        l->p++;
        l->p += at(l, '+') || at(l, '-');
        if (skip_digits(l) == 0)
            return fail(l, "a malformed number");
    }
    return l->p - from <= 40 ? 1 : fail(l, "a number of more than 40 characters");
}

static int is_word(const LEXER *l, const char *word)
{
    size_t n = strlen(word);

    return (size_t)(l->end - l->p) >= n && memcmp(l->p, word, n) == 0;
}

static int read_scalar(LEXER *l)
{
    static const char *const word[] = { "true", "false", "null" };
    size_t i;

    if (at(l, '"'))
        return read_string(l, NULL);
    for (i = 0; i < sizeof(word) / sizeof(word[0]); i++) {
        if (is_word(l, word[i])) {
            l->p += strlen(word[i]);
            return 1;
        }
    }
    return read_number(l);
}

/* The secret that the member name just read stands for, NULL if none. */
static KMSENV_JSON_SECRET *find_secret(const LEXER *l, const KMSENV_BUFFER *name)
{
    size_t i;

    if (name->failed)
        return NULL;
    for (i = 0; i < l->count; i++)
        if (strcmp(l->secrets[i].name, kmsenv_buffer_text(name)) == 0)
            return &l->secrets[i];
    return NULL;
}

/* Moves the string at p into the secret's buffer and puts filler in its place. */
static int take_secret(LEXER *l, KMSENV_JSON_SECRET *secret)
{
    unsigned char *from = l->p;

    if (is_word(l, "null"))
        return read_scalar(l);
    if (!at(l, '"'))
        return fail(l, "a value that is no string where a string belongs");
    if (secret->found)
        return fail(l, "a member that must be there once, twice");
    secret->found = 1;
    if (!read_string(l, secret->value))
        return 0;
    memset(from + 1, FILLER, (size_t)(l->p - from) - 2);
    return secret->value->failed ? fail(l, "a string that is longer than expected") : 1;
}

static int read_value(LEXER *l, int depth);

/* "name": value */
static int read_member(LEXER *l, int depth)
{
    KMSENV_JSON_SECRET *secret;
    KMSENV_BUFFER name;
    int ok;

    if (!at(l, '"'))
        return fail(l, "no member name where one belongs");
    kmsenv_buffer_init(&name, NAME_MAX_LEN, 0);
    ok = read_string(l, &name);
    secret = ok ? find_secret(l, &name) : NULL;
    kmsenv_buffer_reset(&name);
    if (!ok)
        return 0;
    skip_blanks(l);
    if (!at(l, ':'))
        return fail(l, "no colon after a member name");
    l->p++;
    skip_blanks(l);
    return secret == NULL ? read_value(l, depth) : take_secret(l, secret);
}

/* The rest of an object or array, from the character after its bracket. */
static int read_items(LEXER *l, int depth, char close)
{
    skip_blanks(l);
    if (at(l, close)) {
        l->p++;
        return 1;
    }
    for (;;) {
        skip_blanks(l);
        if (!(close == '}' ? read_member(l, depth) : read_value(l, depth)))
            return 0;
        skip_blanks(l);
        if (at(l, close)) {
            l->p++;
            return 1;
        }
        if (!at(l, ','))
            return fail(l, "no comma or closing bracket where one belongs");
        l->p++;
    }
}

static int read_value(LEXER *l, int depth)
{
    if (++l->values > KMSENV_JSON_VALUES_MAX)
        return fail(l, "too many values");
    if (!at(l, '{') && !at(l, '['))
        return read_scalar(l);
    if (depth == KMSENV_JSON_DEPTH_MAX)
        return fail(l, "nested too deeply");
    return read_items(l, depth + 1, *l->p++ == '{' ? '}' : ']');
}

int kmsenv_json_check(KMSENV_BUFFER *text, KMSENV_JSON_SECRET *secrets, size_t count, KMSENV_ERROR *err)
{
    static unsigned char nothing[1];   /* what an empty text points to */
    LEXER l = { 0 };
    int ok;

    l.start = l.p = text->data == NULL ? nothing : text->data;
    l.end = l.start + text->length;
    l.secrets = secrets;
    l.count = count;
    skip_blanks(&l);
    if ((ok = read_value(&l, 0)) != 0) {
        skip_blanks(&l);
        ok = l.p == l.end || fail(&l, "something after the end");
    }
    if (ok)
        return 1;
    return kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "the reply is not the JSON it should be: %s, at byte %zu of %zu",
                            l.fault, (size_t)(l.p - l.start), text->length);
}
