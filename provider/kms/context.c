#include <string.h>
#include <openssl/crypto.h>
#include "kms/context.h"
#include "kms/json.h"

void kmsenv_context_init(KMSENV_CONTEXT *c)
{
    memset(c, 0, sizeof(*c));
}

void kmsenv_context_reset(KMSENV_CONTEXT *c)
{
    size_t i;

    for (i = 0; i < c->count; i++) {
        OPENSSL_free(c->name[i]);
        OPENSSL_free(c->value[i]);
    }
    kmsenv_context_init(c);
}

int kmsenv_context_copy(KMSENV_CONTEXT *to, const KMSENV_CONTEXT *from)
{
    kmsenv_context_reset(to);
    while (to->count < from->count) {
        to->name[to->count] = OPENSSL_strdup(from->name[to->count]);
        to->value[to->count] = OPENSSL_strdup(from->value[to->count]);
        to->count++;
        if (to->name[to->count - 1] == NULL || to->value[to->count - 1] == NULL) {
            kmsenv_context_reset(to);
            return 0;
        }
    }
    return 1;
}

static int fail(KMSENV_ERROR *err, const char *why)
{
    return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "encryption context: %s", why);
}

int kmsenv_context_is_text(const char *text, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return 0;
    return kmsenv_json_is_utf8(text, n);
}

int kmsenv_context_json(const KMSENV_CONTEXT *c, KMSENV_BUFFER *out)
{
    size_t i;

    kmsenv_json_open(out, NULL);
    for (i = 0; i < c->count; i++)
        kmsenv_json_add_text(out, c->name[i], c->value[i]);
    kmsenv_json_close(out);
    return !out->failed;
}

static int fits(const KMSENV_CONTEXT *c)
{
    KMSENV_BUFFER json;
    int ok;

    kmsenv_buffer_init(&json, KMSENV_CONTEXT_TEXT_MAX, 0);
    ok = kmsenv_context_json(c, &json);
    kmsenv_buffer_reset(&json);
    return ok;
}

/* Index where a name belongs. *taken: it is there already. */
static size_t find_place(const KMSENV_CONTEXT *c, const char *name, int *taken)
{
    size_t i;
    int order = 1;

    for (i = 0; i < c->count && (order = strcmp(name, c->name[i])) > 0; i++)
        ;
    *taken = i < c->count && order == 0;
    return i;
}

static void insert(KMSENV_CONTEXT *c, size_t at, char *name, char *value)
{
    memmove(c->name + at + 1, c->name + at, (c->count - at) * sizeof(c->name[0]));
    memmove(c->value + at + 1, c->value + at, (c->count - at) * sizeof(c->value[0]));
    c->name[at] = name;
    c->value[at] = value;
    c->count++;
}

static void remove_at(KMSENV_CONTEXT *c, size_t at)
{
    OPENSSL_free(c->name[at]);
    OPENSSL_free(c->value[at]);
    c->count--;
    memmove(c->name + at, c->name + at + 1, (c->count - at) * sizeof(c->name[0]));
    memmove(c->value + at, c->value + at + 1, (c->count - at) * sizeof(c->value[0]));
    c->name[c->count] = c->value[c->count] = NULL;
}

int kmsenv_context_add(KMSENV_CONTEXT *c, const char *name, size_t namelen,
                       const char *value, size_t valuelen, KMSENV_ERROR *err)
{
    char *n, *v;
    size_t at;
    int taken;

    if (namelen == 0)
        return fail(err, "a name is empty");
    if (namelen > KMSENV_CONTEXT_TEXT_MAX || valuelen > KMSENV_CONTEXT_TEXT_MAX)
        return fail(err, "it is longer than 1024 bytes as JSON");
    if (!kmsenv_context_is_text(name, namelen) || !kmsenv_context_is_text(value, valuelen))
        return fail(err, "a name or value is not UTF-8, or holds a control character");
    if (c->count == KMSENV_CONTEXT_PAIRS_MAX)
        return fail(err, "more than 32 pairs");
    n = OPENSSL_strndup(name, namelen);
    v = OPENSSL_strndup(value, valuelen);
    if (n == NULL || v == NULL) {
        OPENSSL_free(n);
        OPENSSL_free(v);
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for the encryption context");
    }
    at = find_place(c, n, &taken);
    if (taken) {
        OPENSSL_free(n);
        OPENSSL_free(v);
        return fail(err, "a name is there twice");
    }
    insert(c, at, n, v);
    if (fits(c))
        return 1;
    remove_at(c, at);
    return fail(err, "it is longer than 1024 bytes as JSON");
}

/* Takes text up to one of the stop characters off *p, without its escapes. room: that of KMSENV_CONTEXT_TEXT_MAX + 1. */
static int take_part(const char **p, const char *stop, char *out, size_t *outlen, KMSENV_ERROR *err)
{
    size_t n = 0;

    for (; **p != '\0' && strchr(stop, **p) == NULL; ++*p) {
        if (**p == '\\') {
            ++*p;
            if (**p == '\0' || strchr(",=\\", **p) == NULL)
                return fail(err, "a '\\' that is not followed by ',', '=' or '\\'");
        }
        if (n == KMSENV_CONTEXT_TEXT_MAX)
            return fail(err, "it is longer than 1024 bytes as JSON");
        out[n++] = **p;
    }
    *outlen = n;
    return 1;
}

int kmsenv_context_parse(KMSENV_CONTEXT *c, const char *text, KMSENV_ERROR *err)
{
    char name[KMSENV_CONTEXT_TEXT_MAX], value[KMSENV_CONTEXT_TEXT_MAX];
    size_t namelen, valuelen;
    const char *p = text;
    int ok = 1;

    kmsenv_context_reset(c);
    while (ok && (*p != '\0' || p != text)) {
        ok = take_part(&p, "=,", name, &namelen, err);
        if (ok && *p != '=')
            ok = fail(err, "a pair without '='; accepted: name=value,name=value");
        if (!ok)
            break;
        p++;
        ok = take_part(&p, ",", value, &valuelen, err)
             && kmsenv_context_add(c, name, namelen, value, valuelen, err);
        if (*p == '\0')
            break;
        p++;
    }
    if (!ok)
        kmsenv_context_reset(c);
    return ok;
}

int kmsenv_context_equal(const KMSENV_CONTEXT *a, const KMSENV_CONTEXT *b)
{
    return a->count == b->count && kmsenv_context_contains(a, b);
}

int kmsenv_context_contains(const KMSENV_CONTEXT *whole, const KMSENV_CONTEXT *part)
{
    size_t i, at;
    int there;

    for (i = 0; i < part->count; i++) {
        at = find_place(whole, part->name[i], &there);
        if (!there || strcmp(whole->value[at], part->value[i]) != 0)
            return 0;
    }
    return 1;
}
