#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <openssl/crypto.h>
#include "core/secret.h"
#include "core/settings.h"

#define TABLES_MAX   8
#define VALUES_MAX   64
#define VALUE_MAX    4096      /* bytes of a setting's text */
#define SHOWN_MAX    80        /* of a wrong value in an error text */

typedef struct value_st {
    const KMSENV_SETTING *setting;
    char *text;                /* secret memory if the setting is a SECRET */
    uint64_t number;           /* for the numeric types and BOOLEAN */
} VALUE;

struct kmsenv_section_st {
    char *name;
    const KMSENV_SETTING *table[TABLES_MAX];
    size_t tables;
    VALUE value[VALUES_MAX];
    size_t values;
};

KMSENV_SECTION *kmsenv_section_new(const char *name)
{
    KMSENV_SECTION *s = OPENSSL_zalloc(sizeof(*s));

    if (s != NULL && (s->name = OPENSSL_strdup(name)) == NULL) {
        OPENSSL_free(s);
        return NULL;
    }
    return s;
}

static void free_text(VALUE *v)
{
    if (v->setting->type == KMSENV_SECRET)
        kmsenv_secret_free(v->text);
    else
        OPENSSL_free(v->text);
}

void kmsenv_section_free(KMSENV_SECTION *section)
{
    size_t i;

    if (section == NULL)
        return;
    for (i = 0; i < section->values; i++)
        free_text(&section->value[i]);
    OPENSSL_free(section->name);
    OPENSSL_free(section);
}

int kmsenv_section_add_table(KMSENV_SECTION *section, const KMSENV_SETTING *table)
{
    if (table == NULL)
        return 1;
    if (section->tables == TABLES_MAX)
        return 0;
    section->table[section->tables++] = table;
    return 1;
}

const KMSENV_SETTING *kmsenv_section_find(const KMSENV_SECTION *section, const char *name)
{
    const KMSENV_SETTING *s;
    size_t i;

    for (i = 0; i < section->tables; i++)
        for (s = section->table[i]; s->name != NULL; s++)
            if (strcmp(s->name, name) == 0)
                return s;
    return NULL;
}

const KMSENV_SETTING *kmsenv_section_at(const KMSENV_SECTION *section, size_t i)
{
    const KMSENV_SETTING *s;
    size_t t;

    for (t = 0; t < section->tables; t++)
        for (s = section->table[t]; s->name != NULL; s++)
            if (i-- == 0)
                return s;
    return NULL;
}

/* --- values --------------------------------------------------------------- */

typedef struct unit_st { const char *suffix; uint64_t factor; } UNIT;

static const UNIT no_unit[] = { { "", 1 }, { NULL, 0 } };
static const UNIT time_unit[] = { { "", 1 }, { "s", 1 }, { "m", 60 }, { "h", 3600 }, { "d", 86400 }, { NULL, 0 } };
static const UNIT size_unit[] = { { "", 1 }, { "K", 1024 }, { "M", 1048576 }, { "G", 1073741824 },
                                  { "T", 1099511627776 }, { NULL, 0 } };

static int parse_scaled(const KMSENV_SETTING *s, const UNIT *unit, const char *text, uint64_t *out)
{
    uint64_t n = 0;
    const char *p;

    for (p = text; isdigit((unsigned char)*p); p++) {
        if (n > (UINT64_MAX - 9) / 10)
            return 0;
        n = n * 10 + (uint64_t)(*p - '0');
    }
    if (p == text)
        return 0;
    while (unit->suffix != NULL && strcmp(unit->suffix, p) != 0)
        unit++;
    if (unit->suffix == NULL || n > UINT64_MAX / unit->factor)
        return 0;
    n *= unit->factor;
    if (n < s->min || n > s->max)
        return 0;
    *out = n;
    return 1;
}

int kmsenv_setting_boolean(const char *text, int *yes)
{
    static const char *const word[] = { "no", "yes", "0", "1", "off", "on", "false", "true" };
    size_t i;

    for (i = 0; i < sizeof(word) / sizeof(word[0]); i++) {
        if (strcmp(text, word[i]) == 0) {
            *yes = i & 1;
            return 1;
        }
    }
    return 0;
}

static int is_choice(const char *words, const char *text)
{
    size_t n = strlen(text);
    const char *p = words;

    while (p != NULL && n > 0) {
        if (strncmp(p, text, n) == 0 && (p[n] == '|' || p[n] == '\0'))
            return strchr(text, '|') == NULL;
        p = strchr(p, '|');
        if (p != NULL)
            p++;
    }
    return 0;
}

/* Every item of a list separated by `separator` begins with `first` (0 = anything) and is not empty. */
static int is_list(const char *text, char separator, char first)
{
    const char *p;

    for (p = text;; p++) {
        if (*p == separator || *p == '\0' || (first != '\0' && *p != first))
            return 0;
        p = strchr(p, separator);
        if (p == NULL)
            return 1;
    }
}

static int is_names(const char *text)
{
    const char *p;

    for (p = text; *p != '\0'; p++)
        if (!isalnum((unsigned char)*p) && strchr("-_., ", *p) == NULL)
            return 0;
    return is_list(text, ',', '\0');
}

static int is_secret(const char *text)
{
    if (strncmp(text, "env:", 4) == 0)
        return text[4] != '\0';
    return strncmp(text, "file:", 5) != 0 || text[5] == '/';
}

static int is_printable(const char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return 0;
    return 1;
}

static int parse_value(const KMSENV_SETTING *s, const char *text, uint64_t *number)
{
    size_t n = strnlen(text, VALUE_MAX + 1);
    int yes;

    if (n == 0 || n > VALUE_MAX || !is_printable(text))
        return 0;
    switch (s->type) {
    case KMSENV_NUMBER:
        return parse_scaled(s, no_unit, text, number);
    case KMSENV_SECONDS:
        return parse_scaled(s, time_unit, text, number);
    case KMSENV_SIZE:
        return parse_scaled(s, size_unit, text, number);
    case KMSENV_BOOLEAN:
        if (!kmsenv_setting_boolean(text, &yes))
            return 0;
        *number = (uint64_t)yes;
        return 1;
    case KMSENV_CHOICE:
        return is_choice(s->accepts, text);
    case KMSENV_PATH:
        return text[0] == '/';
    case KMSENV_PATHS:
        return is_list(text, ':', '/');
    case KMSENV_NAMES:
        return is_names(text);
    case KMSENV_SECRET:
        return is_secret(text);
    case KMSENV_TEXT:
    case KMSENV_PAIRS:
        break;
    }
    return 1;
}

static const char *with_unit(uint64_t n, const UNIT *unit, char *out, size_t room)
{
    const UNIT *best = unit;

    for (; unit->suffix != NULL; unit++)
        if (n != 0 && n % unit->factor == 0 && unit->factor >= best->factor)
            best = unit;
    snprintf(out, room, "%llu%s", (unsigned long long)(n / best->factor), best->suffix);
    return out;
}

static void accepts_range(const KMSENV_SETTING *s, const UNIT *unit, const char *what, char *out, size_t room)
{
    char low[32], high[32];

    snprintf(out, room, "%s from %s to %s", what, with_unit(s->min, unit, low, sizeof(low)),
             with_unit(s->max, unit, high, sizeof(high)));
}

const char *kmsenv_setting_accepts(const KMSENV_SETTING *setting, char *out, size_t room)
{
    static const char *const plain[] = {
        [KMSENV_TEXT] = "printable text of 1 to 4096 bytes",
        [KMSENV_BOOLEAN] = "yes or no",
        [KMSENV_PATH] = "an absolute path",
        [KMSENV_PATHS] = "absolute paths separated by ':'",
        [KMSENV_NAMES] = "names of letters, digits, '-', '_' and '.', separated by ','",
        [KMSENV_SECRET] = "env:NAME, file:/PATH, or the secret itself in a file that only its owner can read",
        [KMSENV_PAIRS] = "name=value,name=value ('\\' before a ',', '=' or '\\' that is part of a name or value)"
    };

    if (setting->accepts != NULL) {
        snprintf(out, room, "%s", setting->accepts);
        return out;
    }
    switch (setting->type) {
    case KMSENV_NUMBER:
        accepts_range(setting, no_unit, "a number", out, room);
        break;
    case KMSENV_SECONDS:
        accepts_range(setting, time_unit, "seconds, or a number with s, m, h or d,", out, room);
        break;
    case KMSENV_SIZE:
        accepts_range(setting, size_unit, "bytes, or a number with K, M, G or T,", out, room);
        break;
    default:
        snprintf(out, room, "%s", plain[setting->type]);
        break;
    }
    return out;
}

/* --- set ------------------------------------------------------------------ */

/* A few of the names that would have been right, for the error about an unknown one. */
static void list_names(const KMSENV_SECTION *section, char *out, size_t room)
{
    const KMSENV_SETTING *s;
    size_t i, used = 0;

    out[0] = '\0';
    for (i = 0; i < section->tables; i++)
        for (s = section->table[i]; s->name != NULL && used + strlen(s->name) + 8 < room; s++)
            if (kmsenv_section_find(section, s->name) == s)    /* not one that another table has, too */
                used += (size_t)snprintf(out + used, room - used, "%s%s", used ? ", " : "", s->name);
}

static int wrong_value(const KMSENV_SECTION *section, const KMSENV_SETTING *s, const char *value, KMSENV_ERROR *err)
{
    char accepts[200];

    kmsenv_setting_accepts(s, accepts, sizeof(accepts));
    if (s->type == KMSENV_SECRET)
        return kmsenv_error_set(err, KMSENV_R_CONFIG_INVALID, "section [%s]: setting '%s' is malformed; accepted: %s",
                                section->name, s->name, accepts);
    return kmsenv_error_set(err, KMSENV_R_CONFIG_INVALID,
                            "section [%s]: setting '%s' has the value '%.*s'; accepted: %s",
                            section->name, s->name, SHOWN_MAX, is_printable(value) ? value : "(not printable)", accepts);
}

static VALUE *find_value(const KMSENV_SECTION *section, const char *name)
{
    size_t i;

    for (i = 0; i < section->values; i++)
        if (strcmp(section->value[i].setting->name, name) == 0)
            return (VALUE *)&section->value[i];
    return NULL;
}

int kmsenv_section_set(KMSENV_SECTION *section, const char *name, const char *value, KMSENV_ERROR *err)
{
    const KMSENV_SETTING *s = kmsenv_section_find(section, name);
    char names[KMSENV_ERROR_TEXT_MAX - 140], *text;
    uint64_t number = 0;
    VALUE *v;

    if (s == NULL) {
        list_names(section, names, sizeof(names));
        return kmsenv_error_set(err, KMSENV_R_CONFIG_INVALID, "section [%s]: unknown setting '%.*s'; accepted: %s",
                                section->name, SHOWN_MAX, is_printable(name) ? name : "(not printable)", names);
    }
    if (!parse_value(s, value, &number))
        return wrong_value(section, s, value, err);
    text = s->type == KMSENV_SECRET ? kmsenv_secret_strndup(value, strlen(value)) : OPENSSL_strdup(value);
    v = find_value(section, name);
    if (text == NULL || (v == NULL && section->values == VALUES_MAX)) {
        OPENSSL_free(s->type == KMSENV_SECRET ? NULL : text);
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "section [%s]: no memory for setting '%s'", section->name, name);
    }
    if (v == NULL)
        v = &section->value[section->values++];
    else
        free_text(v);
    v->setting = s;
    v->text = text;
    v->number = number;
    return 1;
}

/* --- get ------------------------------------------------------------------ */

int kmsenv_section_is_set(const KMSENV_SECTION *section, const char *name)
{
    return find_value(section, name) != NULL;
}

const char *kmsenv_section_name(const KMSENV_SECTION *section)
{
    return section->name;
}

const char *kmsenv_section_text(const KMSENV_SECTION *section, const char *name)
{
    const VALUE *v = find_value(section, name);
    const KMSENV_SETTING *s;

    if (v != NULL)
        return v->text;
    s = kmsenv_section_find(section, name);
    return s == NULL ? NULL : s->initial;
}

uint64_t kmsenv_section_number(const KMSENV_SECTION *section, const char *name)
{
    const VALUE *v = find_value(section, name);
    const KMSENV_SETTING *s;
    uint64_t number = 0;

    if (v != NULL)
        return v->number;
    s = kmsenv_section_find(section, name);
    if (s != NULL && s->initial != NULL)
        parse_value(s, s->initial, &number);
    return number;
}

int kmsenv_section_boolean(const KMSENV_SECTION *section, const char *name)
{
    return kmsenv_section_number(section, name) != 0;
}

int kmsenv_section_missing(const KMSENV_SECTION *section, const char *name, KMSENV_ERROR *err)
{
    const KMSENV_SETTING *s = kmsenv_section_find(section, name);
    char accepts[200] = "";

    if (s != NULL)
        kmsenv_setting_accepts(s, accepts, sizeof(accepts));
    return kmsenv_error_set(err, KMSENV_R_CONFIG_INVALID, "section [%s]: setting '%s' is required: %s; accepted: %s",
                            section->name, name, s == NULL ? "" : s->help, accepts);
}

int kmsenv_section_invalid(const KMSENV_SECTION *section, KMSENV_ERROR *err, const char *fmt, ...)
{
    char text[KMSENV_ERROR_TEXT_MAX];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    return kmsenv_error_set(err, KMSENV_R_CONFIG_INVALID, "section [%s]: %s", section->name, text);
}
