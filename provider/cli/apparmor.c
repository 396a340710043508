#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cli/apparmor.h"
#include "cli/below.h"

#define PATH_ROOM   4096
#define FILES_MAX   400
#define DEPTH_MAX   8
#define BYTES_MAX   (64ul * 1024 * 1024)     /* of all profiles */
#define VALUES_MAX  8192                      /* of one variable: longer ones are not told apart */
#define DIRECTORY   "/etc/apparmor.d"

typedef struct reader_st {
    KMSENV_APPARMOR *aa;
    const char *root, *program;
    unsigned files, includes;       /* read so far; how deep in includes we are */
    unsigned long bytes;            /* read so far, of all profiles */
    unsigned block;                 /* how deep in braces */
    int ours;                       /* in the profile's own block */
    int found;
} READER;

static int read_profiles(READER *r, const char *path);

/* The next word, in quotes or not, without them. */
static int word(const char **rest, char *out, size_t room)
{
    const char *p = *rest + strspn(*rest, " \t");
    char quote = *p == '"' ? *p++ : '\0';
    size_t n = 0;

    for (; *p != '\0' && (quote != '\0' ? *p != quote : *p != ' ' && *p != '\t'); p++)
        if (n + 1 < room)
            out[n++] = *p;
    out[n] = '\0';
    *rest = p + (quote != '\0' && *p == quote);
    return n > 0;
}

/* --- rules ---------------------------------------------------------------- */

static void add_rule(KMSENV_APPARMOR *aa, const char *pattern, const char *permissions, int deny)
{
    char *copy;

    if (aa->rules == KMSENV_APPARMOR_RULES_MAX || (copy = strdup(pattern)) == NULL)
        return;
    aa->rule[aa->rules].pattern = copy;
    aa->rule[aa->rules].deny = deny;
    aa->rule[aa->rules++].permissions = (strchr(permissions, 'r') != NULL ? KMSENV_AA_READ : 0)
                                        | (strpbrk(permissions, "wa") != NULL ? KMSENV_AA_WRITE : 0)
                                        | (strchr(permissions, 'm') != NULL ? KMSENV_AA_MAP : 0);
}

static int is_pattern(const char *text)
{
    return *text == '/' || strncmp(text, "@{", 2) == 0 || *text == '{';
}

/* "network," or "network inet stream," and the like. */
static void read_network(KMSENV_APPARMOR *aa, const char *rest, int deny)
{
    char one[64];

    if (deny)
        return;
    if (!word(&rest, one, sizeof(one)) || ((strcmp(one, "inet") == 0 || strcmp(one, "inet6") == 0)
                                           && (!word(&rest, one, sizeof(one)) || strcmp(one, "stream") == 0 || strcmp(one, "tcp") == 0))
            || strcmp(one, "stream") == 0 || strcmp(one, "tcp") == 0)
        aa->network = 1;
}

/* "[audit] [deny|allow] [owner] [file] PATTERN PERMISSIONS" or the last two the other way around. */
static void read_rule(KMSENV_APPARMOR *aa, const char *text)
{
    const char *rest = text;
    char one[PATH_ROOM], two[PATH_ROOM];
    int deny = 0, all = 0;

    while (word(&rest, one, sizeof(one))) {
        if (strcmp(one, "network") == 0) {
            read_network(aa, rest, deny);
            return;
        }
        deny |= strcmp(one, "deny") == 0;
        all |= strcmp(one, "file") == 0;
        if (strcmp(one, "audit") != 0 && strcmp(one, "deny") != 0 && strcmp(one, "allow") != 0 && strcmp(one, "owner") != 0
                && strcmp(one, "file") != 0)
            break;
        *one = '\0';
    }
    if (*one == '\0' && all) {
        add_rule(aa, "/**", "rwm", deny);
    } else if (word(&rest, two, sizeof(two))) {
        if (is_pattern(one))
            add_rule(aa, one, two, deny);
        else if (is_pattern(two))
            add_rule(aa, two, one, deny);
    }
}

/* "@{NAME} = VALUES" or "+=". */
static void read_variable(KMSENV_APPARMOR *aa, const char *text)
{
    const char *end = strchr(text, '}'), *equals = end == NULL ? NULL : strchr(end, '=');
    char *name = equals == NULL ? NULL : strndup(text + 2, (size_t)(end - text - 2)), *values = NULL;
    size_t i;

    for (i = 0; name != NULL && i < aa->variables && strcmp(aa->variable[i].name, name) != 0; i++)
        ;
    if (name == NULL || i == KMSENV_APPARMOR_VARIABLES_MAX) {
        free(name);
        return;
    }
    equals += 1 + strspn(equals + 1, " \t");
    if (i < aa->variables) {
        if (strlen(aa->variable[i].values) + strlen(equals) < VALUES_MAX && asprintf(&values, "%s %s", aa->variable[i].values, equals) > 0) {
            free(aa->variable[i].values);
            aa->variable[i].values = values;
        }
        free(name);
    } else if ((aa->variable[i].values = strdup(equals)) != NULL) {
        aa->variable[i].name = name;
        aa->variables++;
    } else {
        free(name);
    }
}

/* --- lines ---------------------------------------------------------------- */

/* "profile NAME PATTERN flags=(complain) {": is it the program's? */
static void read_header(READER *r, const char *text)
{
    char one[PATH_ROOM];
    const char *rest = text;

    r->block++;
    if (r->block > 1 || r->found)
        return;
    while (word(&rest, one, sizeof(one)) && strcmp(one, "{") != 0)
        if (is_pattern(one) && kmsenv_apparmor_match(r->aa, one, r->program))
            r->found = r->ours = 1;
    if (r->ours)
        r->aa->complain = strstr(text, "complain") != NULL;
}

/* "include <NAME>", "#include <NAME>", "include if exists <NAME>", "include "NAME"". 0 if the line is none. */
static int read_include(READER *r, const char *text)
{
    char name[512], path[PATH_ROOM];
    const char *open;
    size_t n;

    text += *text == '#';
    if (strncmp(text, "include", 7) != 0 || !isspace((unsigned char)text[7]))
        return 0;
    if ((open = strpbrk(text, "<\"")) == NULL || (n = strcspn(open + 1, ">\"")) >= sizeof(name) || r->includes >= DEPTH_MAX
            || (r->block > 0 && !r->ours))
        return 1;
    memcpy(name, open + 1, n);
    name[n] = '\0';
    snprintf(path, sizeof(path), "%s%s", *name == '/' ? "" : DIRECTORY "/", name);
    r->includes++;
    if (!read_profiles(r, path) && strstr(text, " if exists ") == NULL)
        r->aa->incomplete = 1;
    r->includes--;
    return 1;
}

static void read_line(READER *r, char *line)
{
    char *text = line + strspn(line, " \t"), *end, *comment;

    text[strcspn(text, "\r\n")] = '\0';
    if (read_include(r, text) || *text == '#' || *text == '\0')
        return;
    if ((comment = strstr(text, " #")) != NULL)
        *comment = '\0';
    end = text + strlen(text);
    while (end > text && isspace((unsigned char)end[-1]))
        *--end = '\0';
    if (strcmp(text, "}") == 0) {
        r->block -= r->block > 0;
        r->ours = r->ours && r->block > 0;
    } else if (end > text && end[-1] == '{') {
        read_header(r, text);
    } else if (end > text && end[-1] == ',') {
        end[-1] = '\0';
        if (r->ours && r->block == 1)
            read_rule(r->aa, text);
    } else if (strncmp(text, "@{", 2) == 0) {
        read_variable(r->aa, text);
    }
}

static int is_profile(const struct dirent *entry)
{
    const char *name = entry->d_name;
    size_t n = strlen(name);

    return *name != '.' && name[n - 1] != '~' && strstr(name, ".dpkg-") == NULL;
}

/* Included directories count with all their files. */
static void read_directory(READER *r, const char *path, const char *real)
{
    struct dirent **entry = NULL;
    char file[PATH_ROOM];
    int i, count = scandir(real, &entry, is_profile, alphasort);

    for (i = 0; i < count; i++) {
        if (snprintf(file, sizeof(file), "%s/%s", path, entry[i]->d_name) < (int)sizeof(file))
            read_profiles(r, file);
        free(entry[i]);
    }
    free(entry);
}

static int read_profiles(READER *r, const char *path)
{
    char real[PATH_ROOM], *line = NULL;
    struct stat st;
    size_t room = 0;
    FILE *file;

    if (r->files >= FILES_MAX || !kmsenv_below(r->root, path, real, sizeof(real)) || stat(real, &st) != 0)
        return 0;
    if (S_ISDIR(st.st_mode)) {
        if (r->includes > 0)
            read_directory(r, path, real);
        return 1;
    }
    if ((r->bytes += (unsigned long)st.st_size) > BYTES_MAX || (file = kmsenv_below_open(r->root, path)) == NULL)
        return 0;
    r->files++;
    while (getline(&line, &room, file) > 0)
        read_line(r, line);
    free(line);
    fclose(file);
    return 1;
}

int kmsenv_apparmor_find(KMSENV_APPARMOR *aa, const char *root, const char *program)
{
    READER r = { .aa = aa, .root = root, .program = program };
    struct dirent **entry = NULL;
    char path[PATH_ROOM], disabled[PATH_ROOM];
    unsigned long work;
    int i, count, is_off;

    memset(aa, 0, sizeof(*aa));
    count = kmsenv_below(root, DIRECTORY, path, sizeof(path)) ? scandir(path, &entry, is_profile, alphasort) : -1;
    for (i = 0; i < count; i++) {
        snprintf(path, sizeof(path), DIRECTORY "/disable/%s", entry[i]->d_name);
        is_off = kmsenv_below(root, path, disabled, sizeof(disabled)) && access(disabled, F_OK) == 0;
        snprintf(path, sizeof(path), DIRECTORY "/%s", entry[i]->d_name);
        if (!r.found && !is_off) {
            work = aa->work;
            kmsenv_apparmor_reset(aa);
            aa->work = work;
            r.block = r.files = 0;
            read_profiles(&r, path);
            if (r.found)
                snprintf(aa->file, sizeof(aa->file), "%s", entry[i]->d_name);
        }
        free(entry[i]);
    }
    free(entry);
    return r.found;
}

void kmsenv_apparmor_reset(KMSENV_APPARMOR *aa)
{
    size_t i;

    for (i = 0; i < aa->rules; i++)
        free(aa->rule[i].pattern);
    for (i = 0; i < aa->variables; i++) {
        free(aa->variable[i].name);
        free(aa->variable[i].values);
    }
    memset(aa, 0, sizeof(*aa));
}

unsigned kmsenv_apparmor_allows(KMSENV_APPARMOR *aa, const char *path)
{
    unsigned allowed = 0, denied = 0;
    size_t i;

    for (i = 0; i < aa->rules; i++)
        if (kmsenv_apparmor_match(aa, aa->rule[i].pattern, path))
            *(aa->rule[i].deny ? &denied : &allowed) |= aa->rule[i].permissions;
    return allowed & ~denied;
}
