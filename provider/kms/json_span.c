#include <string.h>
#include "kms/json.h"

/* The text has been checked: what is skipped here is known to end. The ends are looked after all the same. */
typedef struct cursor_st { const char *p, *end; } CURSOR;

static int at(const CURSOR *c, const char *set)
{
    return c->p < c->end && *c->p != '\0' && strchr(set, *c->p) != NULL;
}

static void skip_blanks(CURSOR *c)
{
    while (at(c, " \t\r\n"))
        c->p++;
}

static void skip_string(CURSOR *c)
{
    for (c->p++; c->p < c->end && *c->p != '"'; c->p++)
        if (*c->p == '\\')
            c->p++;
    c->p++;
}

static void skip_value(CURSOR *c)
{
    unsigned depth = 0;

    do {
        if (at(c, "\"")) {
            skip_string(c);
        } else if (at(c, "{[")) {
            depth++;
            c->p++;
        } else if (at(c, "}]")) {
            depth--;
            c->p++;
        } else if (depth > 0) {
            c->p++;
        } else {
            while (c->p < c->end && !at(c, ",]} \t\r\n"))
                c->p++;
        }
    } while (depth > 0 && c->p < c->end);
    if (c->p > c->end)
        c->p = c->end;
}

static int begin(CURSOR *c, KMSENV_JSON_SPAN span, const char *bracket)
{
    c->p = span.text;
    c->end = span.text + span.length;
    skip_blanks(c);
    if (!at(c, bracket))
        return 0;
    c->p++;
    skip_blanks(c);
    return 1;
}

static void take_value(CURSOR *c, KMSENV_JSON_SPAN *out)
{
    skip_blanks(c);
    out->text = c->p;
    skip_value(c);
    out->length = (size_t)(c->p - out->text);
    skip_blanks(c);
}

int kmsenv_json_span_member(KMSENV_JSON_SPAN object, const char *name, KMSENV_JSON_SPAN *out)
{
    KMSENV_JSON_SPAN value;
    const char *key;
    CURSOR c;
    size_t n;

    if (!begin(&c, object, "{"))
        return 0;
    while (at(&c, "\"")) {
        key = c.p;
        skip_string(&c);
        n = c.p <= c.end ? (size_t)(c.p - key) : 0;
        skip_blanks(&c);
        if (!at(&c, ":"))
            return 0;
        c.p++;
        take_value(&c, &value);
        if (n == strlen(name) + 2 && memcmp(key + 1, name, n - 2) == 0) {
            *out = value;
            return 1;
        }
        if (!at(&c, ","))
            return 0;
        c.p++;
        skip_blanks(&c);
    }
    return 0;
}

int kmsenv_json_span_element(KMSENV_JSON_SPAN array, size_t i, KMSENV_JSON_SPAN *out)
{
    KMSENV_JSON_SPAN value;
    CURSOR c;

    if (!begin(&c, array, "[") || at(&c, "]"))
        return 0;
    for (;; i--) {
        take_value(&c, &value);
        if (i == 0) {
            *out = value;
            return value.length > 0;
        }
        if (!at(&c, ","))
            return 0;
        c.p++;
    }
}
