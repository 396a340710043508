#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/below.h"
#include "cli/unit.h"
#include "core/settings.h"

#define PATH_ROOM   4096
#define DROPINS_MAX 256

/* What is read of a unit. Those with `list` add up; an empty value begins anew. */
static const struct { const char *name; int list; } known[] = {
    { "User", 0 }, { "Group", 0 }, { "SupplementaryGroups", 1 }, { "DynamicUser", 0 },
    { "ExecStart", 0 }, { "After", 1 }, { "Environment", 1 }, { "EnvironmentFile", 1 }, { "UnsetEnvironment", 1 },
    { "ProtectHome", 0 }, { "ProtectSystem", 0 }, { "PrivateTmp", 0 }, { "PrivateNetwork", 0 }, { "PrivateDevices", 0 },
    { "InaccessiblePaths", 1 }, { "ReadOnlyPaths", 1 }, { "ReadWritePaths", 1 }, { "TemporaryFileSystem", 1 },
    { "BindPaths", 1 }, { "BindReadOnlyPaths", 1 }, { "NoExecPaths", 1 }, { "ExecPaths", 1 },
    { "RootDirectory", 0 }, { "RootImage", 0 }, { "RuntimeDirectory", 1 }, { "StateDirectory", 1 },
    { "CacheDirectory", 1 }, { "LogsDirectory", 1 }, { "RestrictAddressFamilies", 1 }, { "IPAddressDeny", 1 },
    { "IPAddressAllow", 1 }, { "LimitMEMLOCK", 0 }, { "LimitNPROC", 0 }, { "TasksMax", 0 },
    { "SystemCallFilter", 1 }, { "CapabilityBoundingSet", 1 },
};

/* In the order of their rank. */
static const char *const directories[] = {
    "/etc/systemd/system", "/run/systemd/system", "/run/systemd/generator", "/usr/local/lib/systemd/system",
    "/lib/systemd/system", "/usr/lib/systemd/system",
};
#define DIRECTORIES (sizeof(directories) / sizeof(directories[0]))

static int find(const char *name)
{
    size_t i;

    for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(known[i].name, name) == 0)
            return (int)i;
    return -1;
}

/* --- lines ---------------------------------------------------------------- */

/* "~A B" takes away A and B: "~A ~B", so that it still says so behind other lists. */
static const char *spread(const char *value, char *out, size_t room)
{
    size_t n = 0;

    if (*value != '~')
        return value;
    for (; *value != '\0' && n + 2 < room; value++) {
        out[n++] = *value;
        if (*value == ' ' && value[1] != ' ' && value[1] != '\0')
            out[n++] = '~';
    }
    out[n] = '\0';
    return out;
}

static void set(KMSENV_UNIT *unit, const char *name, const char *text)
{
    char room[KMSENV_UNIT_VALUE_MAX], expanded[KMSENV_UNIT_VALUE_MAX];
    const char *value = spread(kmsenv_unit_expand(unit, text, expanded, sizeof(expanded)), room, sizeof(room));
    int i = find(name);
    char *now = i < 0 ? NULL : unit->value[i], *whole = NULL;
    size_t len = now == NULL ? 0 : strlen(now);

    if (i < 0 || len + strlen(value) > KMSENV_UNIT_VALUE_MAX)
        return;
    if (*value != '\0' && asprintf(&whole, "%s%s%s", known[i].list && now != NULL ? now : "",
                                   known[i].list && now != NULL ? " " : "", value) < 0)
        whole = NULL;
    free(now);
    unit->value[i] = whole;
}

static char *trimmed(char *text)
{
    char *end = text + strlen(text);

    while (end > text && strchr(" \t\r\n", end[-1]) != NULL)
        *--end = '\0';
    return text + strspn(text, " \t");
}

static void read_assignment(KMSENV_UNIT *unit, char *line)
{
    char *equals = strchr(line, '=');

    if (equals == NULL)
        return;
    *equals = '\0';
    set(unit, trimmed(line), trimmed(equals + 1));
}

/* A line that ends in a backslash goes on in the next one. 0 with errno if the file cannot be opened. */
static int read_unit_file(KMSENV_UNIT *unit, const char *root, const char *path)
{
    FILE *file = kmsenv_below_open(root, path);
    char whole[KMSENV_UNIT_VALUE_MAX], *line = NULL, *text;
    size_t room = 0, used = 0, len;
    int lines = 0;

    if (file == NULL)
        return 0;
    while (getline(&line, &room, file) > 0 && lines++ < 10000) {
        text = trimmed(line);
        if (*text == '#' || *text == ';')
            continue;
        len = strlen(text);
        if (used + len + 2 > sizeof(whole)) {      /* no setting that is known is so long */
            used = 0;
            continue;
        }
        memcpy(whole + used, text, len + 1);
        used += len;
        if (used > 0 && whole[used - 1] == '\\') {
            whole[used - 1] = ' ';
            continue;
        }
        read_assignment(unit, whole);
        used = 0;
    }
    free(line);
    fclose(file);
    return 1;
}

/* What DynamicUser=yes means besides. */
static void imply(KMSENV_UNIT *unit)
{
    const char *home = kmsenv_unit_get(unit, "ProtectHome");

    if (!kmsenv_unit_is_on(unit, "DynamicUser"))
        return;
    set(unit, "PrivateTmp", "yes");
    set(unit, "ProtectSystem", "strict");
    if (home == NULL || (strcmp(home, "tmpfs") != 0 && !kmsenv_unit_is_on(unit, "ProtectHome")))
        set(unit, "ProtectHome", "read-only");
}

/* --- drop-ins ------------------------------------------------------------- */

typedef struct dropins_st {
    size_t count;
    char *name[DROPINS_MAX];      /* NAME.conf */
    char *path[DROPINS_MAX];
} DROPINS;

static int is_conf(const struct dirent *entry)
{
    size_t n = strlen(entry->d_name);

    return n > 5 && strcmp(entry->d_name + n - 5, ".conf") == 0;
}

/* The first of a name counts, in whatever directory it is. They apply in the order of their names. */
static void add_dropin(DROPINS *all, const char *directory, const char *name)
{
    size_t at = 0;
    char *path = NULL;

    while (at < all->count && strcmp(all->name[at], name) < 0)
        at++;
    if (all->count == DROPINS_MAX || (at < all->count && strcmp(all->name[at], name) == 0)
            || asprintf(&path, "%s/%s", directory, name) < 0)
        return;
    memmove(&all->name[at + 1], &all->name[at], (all->count - at) * sizeof(all->name[0]));
    memmove(&all->path[at + 1], &all->path[at], (all->count - at) * sizeof(all->path[0]));
    all->name[at] = strdup(name);
    all->path[at] = path;
    all->count++;
}

static void find_dropins(DROPINS *all, const char *root, const char *unit)
{
    char directory[PATH_ROOM], real[PATH_ROOM];
    struct dirent **entry = NULL;
    size_t d;
    int i, count;

    for (d = 0; d < DIRECTORIES; d++) {
        snprintf(directory, sizeof(directory), "%s/%s.d", directories[d], unit);
        count = kmsenv_below(root, directory, real, sizeof(real)) ? scandir(real, &entry, is_conf, alphasort) : -1;
        for (i = 0; i < count; i++) {
            add_dropin(all, directory, entry[i]->d_name);
            free(entry[i]);
        }
        if (count >= 0)
            free(entry);
    }
}

/* "a@b.service" has the template "a@.service"; "" if it has none. */
static void template_of(const char *name, char *out, size_t room)
{
    const char *at = strchr(name, '@'), *dot = strrchr(name, '.');

    *out = '\0';
    if (at != NULL && dot != NULL && dot > at + 1)
        snprintf(out, room, "%.*s%s", (int)(at + 1 - name), name, dot);
}

static void read_dropins(KMSENV_UNIT *unit, const char *real)
{
    DROPINS all = { 0 };
    char template[256];
    size_t i;

    template_of(unit->name, template, sizeof(template));
    find_dropins(&all, unit->root, unit->name);
    if (strcmp(real, unit->name) != 0)
        find_dropins(&all, unit->root, real);
    if (*template != '\0')
        find_dropins(&all, unit->root, template);
    find_dropins(&all, unit->root, "service");
    for (i = 0; i < all.count; i++) {
        read_unit_file(unit, unit->root, all.path[i]);
        free(all.name[i]);
        free(all.path[i]);
    }
}

/* --- the unit ------------------------------------------------------------- */

/* real: the name behind an alias. */
static int read_main_file(KMSENV_UNIT *unit, char *real, size_t room)
{
    char template[256], path[PATH_ROOM], real_path[PATH_ROOM], target[PATH_ROOM];
    const char *names[2] = { unit->name, template }, *base;
    ssize_t n;
    size_t i, d;

    template_of(unit->name, template, sizeof(template));
    for (i = 0; i < 2 && *names[i] != '\0'; i++) {
        for (d = 0; d < DIRECTORIES; d++) {
            if (!kmsenv_below(unit->root, directories[d], real_path, sizeof(real_path) - sizeof(unit->name)))
                continue;
            snprintf(real_path + strlen(real_path), sizeof(real_path) - strlen(real_path), "/%s", names[i]);
            snprintf(path, sizeof(path), "%s/%s", directories[d], names[i]);
            n = readlink(real_path, target, sizeof(target) - 1);
            target[n < 0 ? 0 : n] = '\0';
            if (strcmp(target, "/dev/null") == 0)      /* masked */
                return 0;
            if (!read_unit_file(unit, unit->root, path))
                continue;
            base = strrchr(target, '/');
            snprintf(real, room, "%.255s", n <= 0 ? unit->name : base == NULL ? target : base + 1);
            return 1;
        }
    }
    return 0;
}

int kmsenv_unit_load(KMSENV_UNIT *unit, const char *root, const char *name, KMSENV_ERROR *err)
{
    char real[256];
    const char *slash = strrchr(name, '/'), *base = slash == NULL ? name : slash + 1, *dot = strrchr(base, '.');

    memset(unit, 0, sizeof(*unit));
    unit->root = root;
    snprintf(unit->name, sizeof(unit->name), "%.200s%s", base, dot != NULL && strcmp(dot, ".service") == 0 ? "" : ".service");
    if (*base == '\0' || strlen(base) > 200)
        return kmsenv_error_set(err, KMSENV_R_CONFIG_INVALID, "not the name of a service: %.200s", name);
    snprintf(real, sizeof(real), "%s", unit->name);
    if (slash != NULL && !read_unit_file(unit, "", name))
        return kmsenv_error_set(err, KMSENV_R_CONFIG_INVALID, "the unit file %.200s cannot be read: %s", name, strerror(errno));
    if (slash == NULL && !read_main_file(unit, real, sizeof(real)))
        return kmsenv_error_set(err, KMSENV_R_CONFIG_INVALID, "there is no unit file %s in %s, %s or the like, or it is masked", unit->name,
                                directories[0], directories[4]);
    read_dropins(unit, real);
    imply(unit);
    kmsenv_unit_read_environment(unit);
    return 1;
}

void kmsenv_unit_reset(KMSENV_UNIT *unit)
{
    size_t i;

    for (i = 0; i < KMSENV_UNIT_SETTINGS_MAX; i++)
        free(unit->value[i]);
    free(unit->environment);
    free(unit->unread);
    memset(unit, 0, sizeof(*unit));
}

const char *kmsenv_unit_get(const KMSENV_UNIT *unit, const char *setting)
{
    int i = find(setting);

    return i < 0 ? NULL : unit->value[i];
}

int kmsenv_unit_is_on(const KMSENV_UNIT *unit, const char *setting)
{
    const char *value = kmsenv_unit_get(unit, setting);
    int yes = 0;

    return value != NULL && kmsenv_setting_boolean(value, &yes) && yes;
}
