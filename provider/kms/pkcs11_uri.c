#include <string.h>
#include "kms/context.h"
#include "kms/pkcs11_uri.h"

#define SCHEME      "pkcs11:"
#define KIND        "secret-key"
#define TOKEN_LAST  KMSENV_PKCS11_MODEL

/* Of a token's own data there are fixed fields (CK_TOKEN_INFO): nothing longer can be one. */
static const struct { const char *name; size_t max; } attribute[KMSENV_PKCS11_ATTRIBUTES] = {
    [KMSENV_PKCS11_TOKEN] = { "token", 32 },
    [KMSENV_PKCS11_MANUFACTURER] = { "manufacturer", 32 },
    [KMSENV_PKCS11_SERIAL] = { "serial", 16 },
    [KMSENV_PKCS11_MODEL] = { "model", 16 },
    [KMSENV_PKCS11_OBJECT] = { "object", KMSENV_PKCS11_VALUE_MAX },
    [KMSENV_PKCS11_ID] = { "id", 64 }
};

/* What else RFC 7512 knows, and what to do instead. */
static const struct { const char *name, *remedy; } refused[] = {
    { "pin-value", "a PIN has no place in the id of a key: set pin = env:NAME or pin = file:PATH" },
    { "pin-source", "the PIN is a setting: pin = file:PATH" },
    { "module-path", "the module is a setting: pkcs11-module = PATH" },
    { "module-name", "the module is a setting: pkcs11-module = PATH" },
    { "slot-id", "slots may change: name the token by token or serial" },
    { "slot-description", "slots may change: name the token by token or serial" },
    { "slot-manufacturer", "slots may change: name the token by token or serial" },
    { "library-description", "the module is a setting: pkcs11-module = PATH" },
    { "library-manufacturer", "the module is a setting: pkcs11-module = PATH" },
    { "library-version", "the module is a setting: pkcs11-module = PATH" },
    { NULL, NULL }
};

typedef struct span_st { const char *p; size_t n; } SPAN;

static int fault(KMSENV_ERROR *err, const char *name, const char *what)
{
    return kmsenv_error_set(err, KMSENV_R_CONFIG_INVALID, "the PKCS#11 URI is malformed: %s%s%s", name, *name == '\0' ? "" : ": ",
                            what);
}

static int equals(SPAN s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

static int hex_digit(int c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int is_unreserved(int c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')
           || (c != '\0' && strchr("-._~", c) != NULL);
}

int kmsenv_pkcs11_uri_set(KMSENV_PKCS11_URI *uri, int which, const void *data, size_t n)
{
    if (n == 0 || n > attribute[which].max || (which != KMSENV_PKCS11_ID && !kmsenv_context_is_text(data, n)))
        return 0;
    memcpy(uri->value[which].data, data, n);
    uri->value[which].length = n;
    return 1;
}

/* --- reading -------------------------------------------------------------- */

/* *n: room on entry. 0 if it is malformed or too long. */
static int decode(SPAN s, unsigned char *out, size_t *n)
{
    size_t used = 0, i;
    int high, low;

    for (i = 0; i < s.n; i++) {
        if (used == *n)
            return 0;
        if (s.p[i] != '%') {
            if (!is_unreserved((unsigned char)s.p[i]) && (s.p[i] == '\0' || strchr(":[]@!$'()*+,=&", s.p[i]) == NULL))
                return 0;
            out[used++] = (unsigned char)s.p[i];
            continue;
        }
        if (s.n - i < 3 || (high = hex_digit((unsigned char)s.p[i + 1])) < 0 || (low = hex_digit((unsigned char)s.p[i + 2])) < 0)
            return 0;
        out[used++] = (unsigned char)(high << 4 | low);
        i += 2;
    }
    *n = used;
    return 1;
}

static int refuse(SPAN name, KMSENV_ERROR *err)
{
    size_t i;

    for (i = 0; refused[i].name != NULL; i++)
        if (equals(name, refused[i].name))
            return fault(err, refused[i].name, refused[i].remedy);
    return fault(err, "", "an attribute that is not known here; accepted: token, manufacturer, serial, model, object, id and "
                 "type=" KIND);
}

static int take_attribute(KMSENV_PKCS11_URI *uri, SPAN name, SPAN value, int *typed, KMSENV_ERROR *err)
{
    unsigned char data[KMSENV_PKCS11_VALUE_MAX];
    size_t n = sizeof(data);
    int which;

    if (equals(name, "type")) {
        if (*typed || !equals(value, KIND))
            return fault(err, "type", "not once, or not " KIND);
        return *typed = 1;
    }
    for (which = 0; which < KMSENV_PKCS11_ATTRIBUTES && !equals(name, attribute[which].name); which++)
        ;
    if (which == KMSENV_PKCS11_ATTRIBUTES)
        return refuse(name, err);
    if (uri->value[which].length > 0)
        return fault(err, attribute[which].name, "it is there twice");
    if (!decode(value, data, &n) || !kmsenv_pkcs11_uri_set(uri, which, data, n))
        return fault(err, attribute[which].name, "it is empty, too long, not UTF-8, or has a character that must be written as %XX");
    return 1;
}

/* Takes what is before the next separator off the rest. */
static SPAN take(SPAN *rest, char separator)
{
    const char *end = memchr(rest->p, separator, rest->n);
    SPAN part = { rest->p, end == NULL ? rest->n : (size_t)(end - rest->p) };
    size_t gone = part.n + (end != NULL);

    rest->p += gone;
    rest->n -= gone;
    return part;
}

int kmsenv_pkcs11_uri_parse(KMSENV_PKCS11_URI *uri, const char *text, size_t n, KMSENV_ERROR *err)
{
    SPAN rest = { text, n }, part, name;
    int typed = 0;

    memset(uri, 0, sizeof(*uri));
    if (n > KMSENV_PKCS11_URI_MAX || n < strlen(SCHEME) || memcmp(text, SCHEME, strlen(SCHEME)) != 0)
        return fault(err, "", "it does not begin with " SCHEME ", or is too long");
    rest.p += strlen(SCHEME);
    rest.n -= strlen(SCHEME);
    part = take(&rest, '?');
    if (rest.n > 0)
        return refuse(take(&rest, '='), err);   /* all that RFC 7512 has for a query is refused */
    if (part.n == 0 || part.p[part.n - 1] == ';')
        return fault(err, "", "it names nothing, or ends in ';'");
    for (rest = part; rest.n > 0;) {
        part = take(&rest, ';');
        name = take(&part, '=');
        if (!take_attribute(uri, name, part, &typed, err))
            return 0;
    }
    return 1;
}

/* --- writing and comparing ------------------------------------------------ */

/* More than need be is escaped: of two ways to write a value only one is canonical, and ',' separates ids in a setting. */
static void write_value(const KMSENV_PKCS11_VALUE *v, int all, KMSENV_BUFFER *out)
{
    size_t i;

    for (i = 0; i < v->length; i++) {
        if (!all && is_unreserved(v->data[i]))
            kmsenv_buffer_add(out, &v->data[i], 1);
        else
            kmsenv_buffer_printf(out, "%%%02X", v->data[i]);
    }
}

int kmsenv_pkcs11_uri_write(const KMSENV_PKCS11_URI *uri, KMSENV_BUFFER *out)
{
    static const int written[] = { KMSENV_PKCS11_TOKEN, KMSENV_PKCS11_OBJECT, KMSENV_PKCS11_ID };
    const char *separator = SCHEME;
    size_t i;

    for (i = 0; i < sizeof(written) / sizeof(written[0]); i++) {
        if (uri->value[written[i]].length == 0)
            continue;
        kmsenv_buffer_printf(out, "%s%s=", separator, attribute[written[i]].name);
        write_value(&uri->value[written[i]], written[i] == KMSENV_PKCS11_ID, out);
        separator = ";";
    }
    return !out->failed;
}

int kmsenv_pkcs11_uri_names_token(const KMSENV_PKCS11_URI *uri)
{
    return uri->value[KMSENV_PKCS11_TOKEN].length > 0 || uri->value[KMSENV_PKCS11_SERIAL].length > 0;
}

int kmsenv_pkcs11_uri_names_key(const KMSENV_PKCS11_URI *uri)
{
    return uri->value[KMSENV_PKCS11_OBJECT].length > 0 || uri->value[KMSENV_PKCS11_ID].length > 0;
}

static int same_value(const KMSENV_PKCS11_VALUE *a, const KMSENV_PKCS11_VALUE *b)
{
    return a->length == b->length && memcmp(a->data, b->data, a->length) == 0;
}

int kmsenv_pkcs11_uri_matches(const KMSENV_PKCS11_URI *configured, const KMSENV_PKCS11_URI *wrap)
{
    const KMSENV_PKCS11_VALUE *c, *w;
    int i, recorded;

    for (i = 0; i < KMSENV_PKCS11_ATTRIBUTES; i++) {
        c = &configured->value[i];
        w = &wrap->value[i];
        recorded = i == KMSENV_PKCS11_TOKEN || i > TOKEN_LAST;   /* serial and so on are not: they go with the device */
        if (c->length > 0 && (recorded || w->length > 0) && !same_value(c, w))
            return 0;
    }
    return kmsenv_pkcs11_uri_names_key(wrap);
}

int kmsenv_pkcs11_uri_same_token(const KMSENV_PKCS11_URI *a, const KMSENV_PKCS11_URI *b)
{
    int i;

    for (i = 0; i <= TOKEN_LAST; i++)
        if (!same_value(&a->value[i], &b->value[i]))
            return 0;
    return 1;
}
