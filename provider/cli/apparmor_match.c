#include <stdio.h>
#include <string.h>
#include "cli/apparmor.h"

#define PATTERN_ROOM 8192
#define STEPS_MAX    200000           /* of one pattern */
#define WORK_MAX     50000000         /* of all: a second, about. A usual profile takes a hundredth of it */
#define DEPTH_MAX    24

/* --- variables ------------------------------------------------------------ */

static const char *values_of(const KMSENV_APPARMOR *aa, const char *name, size_t len)
{
    size_t i;

    for (i = 0; i < aa->variables; i++)
        if (strlen(aa->variable[i].name) == len && strncmp(aa->variable[i].name, name, len) == 0)
            return aa->variable[i].values;
    return NULL;
}

/* "a b" becomes {a,b}; a variable that is not known becomes **. Returns the new length. */
static size_t append_values(char *out, size_t n, const char *values)
{
    if (values == NULL)
        return n + (size_t)snprintf(out + n, PATTERN_ROOM - n, "**");
    out[n++] = '{';
    for (; *values != '\0' && n + 2 < PATTERN_ROOM; values++)
        out[n++] = *values == ' ' || *values == '\t' ? ',' : *values;
    out[n++] = '}';
    out[n] = '\0';
    return n;
}

/* Values may contain variables themselves. 0 if it becomes too long. */
static int expand(KMSENV_APPARMOR *aa, const char *pattern, char *out)
{
    char before[PATTERN_ROOM];
    const char *p, *end;
    size_t n, round;

    snprintf(out, PATTERN_ROOM, "%s", pattern);
    for (round = 0; round < 8 && strstr(out, "@{") != NULL; round++) {
        memcpy(before, out, PATTERN_ROOM);
        aa->work += PATTERN_ROOM / 16;
        for (p = before, n = 0; *p != '\0'; p++) {
            if (n + 256 > PATTERN_ROOM)
                return 0;
            if (strncmp(p, "@{", 2) != 0 || (end = strchr(p, '}')) == NULL) {
                out[n++] = *p;
                continue;
            }
            n = append_values(out, n, values_of(aa, p + 2, (size_t)(end - p - 2)));
            aa->work += 1 + aa->variables;
            p = end;
        }
        out[n] = '\0';
    }
    return strstr(out, "@{") == NULL;
}

/* --- patterns ------------------------------------------------------------- */

typedef struct budget_st { unsigned steps, depth; } BUDGET;

static int match(BUDGET *b, const char *p, const char *s);

/* The end of an alternation that begins at p, on its brace; NULL if it has none. */
static const char *closing(const char *p)
{
    int depth = 0;

    for (; *p != '\0'; p++) {
        if (*p == '\\' && p[1] != '\0')
            p++;
        else if (*p == '{')
            depth++;
        else if (*p == '}' && --depth == 0)
            return p;
    }
    return NULL;
}

static int match_alternatives(BUDGET *b, const char *p, const char *s)
{
    const char *end = closing(p), *from = p + 1, *at;
    char whole[PATTERN_ROOM];
    int depth = 0;

    if (end == NULL || b->depth >= DEPTH_MAX)
        return 1;
    for (at = from; at <= end; at++) {
        depth += *at == '{';
        if ((*at == ',' && depth == 0) || at == end) {
            b->steps += (unsigned)snprintf(whole, sizeof(whole), "%.*s%s", (int)(at - from), from, end + 1) / 8;
            b->depth++;
            if (match(b, whole, s))
                return 1;
            b->depth--;
            from = at + 1;
        }
        depth -= *at == '}';
    }
    return 0;
}

static int match_star(BUDGET *b, const char *p, const char *s)
{
    int any = p[1] == '*';

    for (p += any ? 2 : 1;; s++) {
        if (match(b, p, s))
            return 1;
        if (*s == '\0' || (!any && *s == '/'))
            return 0;
    }
}

static int match_class(BUDGET *b, const char *p, const char *s)
{
    int not = p[1] == '^', found = 0;
    const char *end = strchr(p + 2, ']');

    if (end == NULL)
        return 1;
    for (p += not ? 2 : 1; p < end; p++) {
        if (p + 2 < end && p[1] == '-') {
            found |= *s >= *p && *s <= p[2];
            p += 2;
        } else {
            found |= *s == *p;
        }
    }
    return *s != '\0' && *s != '/' && found != not && match(b, end + 1, s + 1);
}

static int match(BUDGET *b, const char *p, const char *s)
{
    for (; *p != '\0'; p++, s++) {
        if (b->steps++ > STEPS_MAX)
            return 1;
        if (*p == '{')
            return match_alternatives(b, p, s);
        if (*p == '*')
            return match_star(b, p, s);
        if (*p == '[')
            return match_class(b, p, s);
        if (*p == '?' ? *s == '\0' || *s == '/' : (*p == '\\' && p[1] != '\0' ? *++p : *p) != *s)
            return 0;
    }
    return *s == '\0';
}

int kmsenv_apparmor_match(KMSENV_APPARMOR *aa, const char *pattern, const char *path)
{
    char whole[PATTERN_ROOM];
    BUDGET budget = { 0, 0 };
    int yes;

    if (aa->work > WORK_MAX)
        return 1;
    yes = !expand(aa, pattern, whole) || match(&budget, whole, path);
    aa->work += budget.steps + 1;
    return yes;
}
