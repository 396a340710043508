/* Words of a unit's settings, and the environment that they make. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/below.h"
#include "cli/unit.h"

int kmsenv_unit_word(const char **rest, char *out, size_t room)
{
    const char *p = *rest;
    size_t n = 0;
    char quote = '\0';

    p += strspn(p, " \t");
    if (*p == '\0')
        return 0;
    for (; *p != '\0' && (quote != '\0' || (*p != ' ' && *p != '\t')); p++) {
        if (quote == '\0' && (*p == '"' || *p == '\'')) {
            quote = *p;
            continue;
        }
        if (*p == quote) {
            quote = '\0';
            continue;
        }
        if (*p == '\\' && p[1] != '\0')
            p++;
        if (n + 1 < room)
            out[n++] = *p;
    }
    out[n] = '\0';
    *rest = p;
    return 1;
}

/* What a specifier stands for, into out; 0 if it is not known. */
static int specifier(const KMSENV_UNIT *unit, char c, char *out, size_t room)
{
    static const struct { char c; const char *text; } directory[] = {
        { '%', "%" }, { 'C', "/var/cache" }, { 'E', "/etc" }, { 'L', "/var/log" }, { 'S', "/var/lib" }, { 't', "/run" },
        { 'T', "/tmp" }, { 'V', "/var/tmp" },
    };
    const char *at = strchr(unit->name, '@'), *dot = strrchr(unit->name, '.');
    size_t i, len = dot == NULL ? strlen(unit->name) : (size_t)(dot - unit->name);
    size_t prefix = at == NULL ? len : (size_t)(at - unit->name);

    for (i = 0; i < sizeof(directory) / sizeof(directory[0]); i++)
        if (directory[i].c == c)
            return snprintf(out, room, "%s", directory[i].text) > 0;
    if (c == 'n')
        return snprintf(out, room, "%s", unit->name) > 0;
    if (c == 'N' || c == 'p')
        return snprintf(out, room, "%.*s", (int)(c == 'N' ? len : prefix), unit->name) > 0;
    return (c == 'i' || c == 'I') && at != NULL && len > prefix && snprintf(out, room, "%.*s", (int)(len - prefix - 1), at + 1) > 0;
}

const char *kmsenv_unit_expand(const KMSENV_UNIT *unit, const char *text, char *out, size_t room)
{
    char word[256];
    size_t n = 0;

    for (; *text != '\0' && n + sizeof(word) < room; text++) {
        if (*text == '%' && text[1] != '\0' && specifier(unit, text[1], word, sizeof(word))) {
            n += (size_t)snprintf(out + n, room - n, "%s", word);
            text++;
        } else {
            out[n++] = *text;
        }
    }
    out[n] = '\0';
    return out;
}

/* The last assignment of a variable counts; kmsenv_unit_variable() looks for it from the end. */
static void add(KMSENV_UNIT *unit, const char *assignment)
{
    size_t n = strlen(assignment) + 1;
    char *more;

    if (strchr(assignment, '=') == NULL || unit->environment_len + n > KMSENV_UNIT_VALUE_MAX
            || (more = realloc(unit->environment, unit->environment_len + n)) == NULL)
        return;
    memcpy(more + unit->environment_len, assignment, n);
    unit->environment = more;
    unit->environment_len += n;
}

/* NAME=VALUE lines, values perhaps in quotes. */
static void read_file(KMSENV_UNIT *unit, const char *name)
{
    char text[4096], *line = NULL;
    const char *optional = *name == '-' ? name++ : NULL, *start, *rest;
    size_t room = 0, n;
    FILE *file;

    if ((file = kmsenv_below_open(unit->root, name)) == NULL) {
        if (unit->unread == NULL && (optional == NULL || errno != ENOENT))
            unit->unread = strdup(name);
        return;
    }
    while (getline(&line, &room, file) > 0) {
        line[strcspn(line, "\r\n")] = '\0';
        start = line + strspn(line, " \t");
        if (*start == '#' || *start == ';' || (n = strcspn(start, "=")) == strlen(start) || n > 200)
            continue;
        rest = start + n + 1;
        snprintf(text, sizeof(text), "%.*s=", (int)n, start);
        if (*rest == '"' || *rest == '\'')
            kmsenv_unit_word(&rest, text + n + 1, sizeof(text) - n - 1);
        else
            snprintf(text + n + 1, sizeof(text) - n - 1, "%s", rest);
        add(unit, text);
    }
    free(line);
    fclose(file);
}

/* Files are read last, as systemd does. */
void kmsenv_unit_read_environment(KMSENV_UNIT *unit)
{
    const char *rest = kmsenv_unit_get(unit, "Environment");
    char word[4096];

    while (rest != NULL && kmsenv_unit_word(&rest, word, sizeof(word)))
        add(unit, word);
    rest = kmsenv_unit_get(unit, "EnvironmentFile");
    while (rest != NULL && kmsenv_unit_word(&rest, word, sizeof(word)))
        read_file(unit, word);
}

static int is_unset(const KMSENV_UNIT *unit, const char *name)
{
    const char *rest = kmsenv_unit_get(unit, "UnsetEnvironment");
    char word[256];

    while (rest != NULL && kmsenv_unit_word(&rest, word, sizeof(word)))
        if (strcmp(word, name) == 0)
            return 1;
    return 0;
}

const char *kmsenv_unit_variable(const KMSENV_UNIT *unit, const char *name)
{
    const char *found = NULL;
    size_t at, n = strlen(name);

    for (at = 0; at < unit->environment_len; at += strlen(unit->environment + at) + 1)
        if (strncmp(unit->environment + at, name, n) == 0 && unit->environment[at + n] == '=')
            found = unit->environment + at + n + 1;
    return is_unset(unit, name) ? NULL : found;
}

int kmsenv_unit_variable_at(const KMSENV_UNIT *unit, size_t *at, char *name, size_t room)
{
    if (*at >= unit->environment_len)
        return 0;
    snprintf(name, room, "%.*s", (int)strcspn(unit->environment + *at, "="), unit->environment + *at);
    *at += strlen(unit->environment + *at) + 1;
    return 1;
}

/* ExecStart= may begin with characters that change how it is run. */
const char *kmsenv_unit_program(const KMSENV_UNIT *unit, char *out, size_t room)
{
    const char *rest = kmsenv_unit_get(unit, "ExecStart");

    *out = '\0';
    if (rest != NULL) {
        rest += strspn(rest, "@-:+!|");
        kmsenv_unit_word(&rest, out, room);
    }
    return out;
}
