#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/conf.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include "cli/cli.h"
#include "cli/conf_files.h"
#include "cli/needs.h"
#include "core/settings.h"
#include "dek/deks.h"
#include "entry/config.h"
#include "kms/kms.h"

#define PATH_ROOM 4096

/* Only the configuration can be relative: to where we are. */
static void add(KMSENV_NEEDS *needs, KMSENV_NEED_KIND kind, const char *path, const char *what)
{
    char here[PATH_ROOM], *copy = NULL;

    if (needs->count == KMSENV_NEEDS_MAX || (*path != '/' && getcwd(here, sizeof(here)) == NULL)
            || asprintf(&copy, "%s%s%s", *path == '/' ? "" : here, *path == '/' ? "" : "/", path) < 0)
        return;
    needs->need[needs->count].kind = kind;
    needs->need[needs->count].path = copy;
    needs->need[needs->count++].what = what;
}

static void add_configuration(KMSENV_NEEDS *needs, const char *root, const char *file)
{
    KMSENV_CONF_FILES files;
    size_t i;

    kmsenv_conf_files_read(&files, root, file, NULL);
    for (i = 0; i < files.count; i++)
        add(needs, KMSENV_NEED_READ, files.path[i], i == 0 ? "the configuration" : "an included file");
    kmsenv_conf_files_reset(&files);
}

/* As OpenSSL finds it: a name without a directory is in that of the modules, and has the ending added. */
static void add_module(KMSENV_NEEDS *needs, const KMSENV_INSTALLATION *in)
{
    const char *module = in->module != NULL ? in->module : kmsenv_installation_name(in);
    const char *dir = secure_getenv("OPENSSL_MODULES");
    size_t n = strlen(module);
    char path[PATH_ROOM];

    if (dir == NULL)
        dir = OPENSSL_info(OPENSSL_INFO_MODULES_DIR);
    if (*module == '/')
        snprintf(path, sizeof(path), "%s", module);
    else
        snprintf(path, sizeof(path), "%s/%s%s", dir, module, n > 3 && strcmp(module + n - 3, ".so") == 0 ? "" : ".so");
    add(needs, KMSENV_NEED_MODULE, path, "the module");
}

static void add_paths(KMSENV_NEEDS *needs, const char *list, const char *what)
{
    char *copy = strdup(list), *rest = copy, *path;

    while (copy != NULL && (path = strsep(&rest, ":")) != NULL)
        add(needs, KMSENV_NEED_DIRECTORY, path, what);
    free(copy);
}

static void add_value(KMSENV_NEEDS *needs, const KMSENV_SETTING *s, const char *value)
{
    int file = strncmp(value, "file:", 5) == 0;

    if (s->type == KMSENV_SECRET && file)
        add(needs, KMSENV_NEED_READ, value + 5, s->name);
    else if (s->type == KMSENV_PATHS)
        add_paths(needs, value, s->name);
    else if (strcmp(s->name, "audit-log") == 0 && *value == '/')
        add(needs, KMSENV_NEED_APPEND, value, s->name);
    else if (s->type == KMSENV_PATH)
        add(needs, KMSENV_NEED_READ, value, s->name);
}

/* A setting in a section (NULL = there is none); flat: that of the provider, over which the environment wins. */
static const char *value_of(const KMSENV_INSTALLATION *in, const char *section, const char *name, int flat)
{
    char variable[128];
    const char *value = flat ? secure_getenv(kmsenv_cli_environment(name, variable, sizeof(variable))) : NULL;

    if (value != NULL && *value != '\0')
        return value;
    return section == NULL ? NULL : kmsenv_installation_get(in, section, name);
}

static void add_table(KMSENV_NEEDS *needs, const KMSENV_INSTALLATION *in, const KMSENV_SETTING *table)
{
    const char *value;

    for (; table->name != NULL; table++)
        if ((value = value_of(in, in->section, table->name, 1)) != NULL)
            add_value(needs, table, value);
}

static void add_profile(KMSENV_NEEDS *needs, const KMSENV_INSTALLATION *in, const char *section, int flat)
{
    const char *kind = value_of(in, section, "kms", flat), *value;
    const KMSENV_KMS_METHOD *method = kind == NULL ? NULL : kmsenv_kms_method_find(kind);
    KMSENV_SECTION *all = kmsenv_section_new(section == NULL ? "" : section);
    const KMSENV_SETTING *s;
    size_t i;

    if (method != NULL && all != NULL && kmsenv_kms_add_tables(all, method)) {
        needs->network |= method->network;
        needs->pkcs11 |= strcmp(method->name, "pkcs11") == 0;
        for (i = 0; (s = kmsenv_section_at(all, i)) != NULL; i++)
            if ((value = value_of(in, section, s->name, flat)) != NULL)
                add_value(needs, s, value);
    }
    kmsenv_section_free(all);
}

void kmsenv_needs_collect(KMSENV_NEEDS *needs, const KMSENV_INSTALLATION *in, const char *root)
{
    char profile[KMSENV_PROFILE_NAME_MAX];
    size_t i;

    memset(needs, 0, sizeof(*needs));
    if (in->file != NULL)
        add_configuration(needs, root, in->file);
    add_module(needs, in);
    add_table(needs, in, kmsenv_provider_settings);
    add_table(needs, in, kmsenv_deks_settings);
    if (in->profiles == NULL)
        add_profile(needs, in, in->section, 1);
    for (i = 0; in->profiles != NULL && kmsenv_list_item(in->profiles, i, profile, sizeof(profile)); i++)
        if (in->section != NULL)
            add_profile(needs, in, kmsenv_installation_get(in, in->section, profile), 0);
}

void kmsenv_needs_reset(KMSENV_NEEDS *needs)
{
    size_t i;

    for (i = 0; i < needs->count; i++)
        free(needs->need[i].path);
    memset(needs, 0, sizeof(*needs));
}

int kmsenv_path_is_below(const char *path, const char *top)
{
    size_t n = strlen(top);

    while (n > 0 && top[n - 1] == '/')
        n--;
    return strncmp(path, top, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

static const char *describe(const char *path, int error, char *out, size_t room)
{
    struct passwd *user;
    struct group *group;
    struct stat st;
    char owner[64];

    if (error != EACCES || stat(path, &st) != 0) {
        snprintf(out, room, "%s: %s", path, strerror(error));
        return out;
    }
    user = getpwuid(st.st_uid);
    snprintf(owner, sizeof(owner), "%u", (unsigned)st.st_uid);
    group = getgrgid(st.st_gid);
    snprintf(out, room, "%s %s, with mode %04o, owner %s, group %s, is closed to this user", S_ISDIR(st.st_mode) ? "directory" : "file",
             path, (unsigned)(st.st_mode & 07777), user == NULL ? owner : user->pw_name, group == NULL ? "(no name)" : group->gr_name);
    return out;
}

/* Each directory on the way, and then the thing itself. */
const char *kmsenv_path_obstacle(const char *path, KMSENV_NEED_KIND kind, char *out, size_t room)
{
    static const int mode[] = { R_OK, R_OK, R_OK | X_OK, W_OK };
    char way[PATH_ROOM], *slash;

    *out = '\0';
    snprintf(way, sizeof(way), "%s", path);
    for (slash = strchr(way + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (access(way, X_OK) != 0)
            return describe(way, errno, out, room);
        *slash = '/';
    }
    if (access(path, mode[kind]) == 0)
        return out;
    slash = strrchr(way, '/');
    if (kind != KMSENV_NEED_APPEND || errno != ENOENT || slash == NULL)
        return describe(path, errno, out, room);
    slash[slash == way] = '\0';
    return access(way, W_OK | X_OK) == 0 ? out : describe(way, errno, out, room);
}
