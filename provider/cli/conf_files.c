#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <openssl/bio.h>
#include "cli/below.h"
#include "cli/conf_files.h"

#define PATH_ROOM  4096
#define DEPTH_MAX  8

typedef struct walk_st {
    KMSENV_CONF_FILES *files;
    const char *root;
    BIO *text;
    char includedir[PATH_ROOM];      /* of a .pragma, "" = none */
    unsigned depth;
} WALK;

static int read_one(WALK *walk, const char *path);

static int has_ending(const char *name, const char *ending)
{
    size_t n = strlen(name), m = strlen(ending);

    return n > m && strcmp(name + n - m, ending) == 0;
}

static int is_included(const struct dirent *entry)
{
    return has_ending(entry->d_name, ".cnf") || has_ending(entry->d_name, ".conf");
}

static void read_directory(WALK *walk, const char *path, const char *real)
{
    char file[PATH_ROOM];
    struct dirent **entry = NULL;
    int i, count = scandir(real, &entry, is_included, alphasort);

    for (i = 0; i < count; i++) {
        if (snprintf(file, sizeof(file), "%s/%s", path, entry[i]->d_name) < (int)sizeof(file))
            read_one(walk, file);
        free(entry[i]);
    }
    free(entry);
}

/* A file, or a directory of them. */
static void include(WALK *walk, const char *name)
{
    const char *dir = *walk->includedir != '\0' ? walk->includedir : secure_getenv("OPENSSL_CONF_INCLUDE");
    char path[PATH_ROOM], real[PATH_ROOM];
    struct stat st;

    if (walk->depth >= DEPTH_MAX || strchr(name, '$') != NULL)
        return;
    if ((*name == '/' || dir == NULL ? snprintf(path, sizeof(path), "%s", name)
                                     : snprintf(path, sizeof(path), "%s/%s", dir, name)) >= (int)sizeof(path)
            || !kmsenv_below(walk->root, path, real, sizeof(real)))
        return;
    walk->depth++;
    if (stat(real, &st) == 0 && S_ISDIR(st.st_mode))
        read_directory(walk, path, real);
    else
        read_one(walk, path);
    walk->depth--;
}

/* The value of a line ".word value" or ".word = value", in place; NULL if it is another line. */
static char *directive(char *line, const char *word)
{
    size_t n = strlen(word);
    char *end;

    line += strspn(line, " \t");
    if (strncmp(line, word, n) != 0 || (line[n] != ' ' && line[n] != '\t' && line[n] != '='))
        return NULL;
    line += n + strspn(line + n, " \t=");
    end = line + strcspn(line, "\r\n");
    while (end > line && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *end = '\0';
    return line;
}

static void read_line(WALK *walk, char *line)
{
    char copy[PATH_ROOM], *value;

    if (snprintf(copy, sizeof(copy), "%s", line) < (int)sizeof(copy)) {
        if ((value = directive(copy, ".include")) != NULL) {
            include(walk, value);
            return;
        }
        if ((value = directive(copy, ".pragma")) != NULL && strncmp(value, "includedir:", 11) == 0)
            snprintf(walk->includedir, sizeof(walk->includedir), "%s", value + 11);
    }
    if (walk->text != NULL)
        BIO_puts(walk->text, line);
}

static int read_one(WALK *walk, const char *path)
{
    char *line = NULL;
    size_t room = 0;
    FILE *file;

    if (walk->files->count == KMSENV_CONF_FILES_MAX || (walk->files->path[walk->files->count] = strdup(path)) == NULL)
        return 0;
    walk->files->count++;
    if ((file = kmsenv_below_open(walk->root, path)) == NULL)
        return 0;
    while (getline(&line, &room, file) > 0)
        read_line(walk, line);
    free(line);
    fclose(file);
    if (walk->text != NULL)
        BIO_puts(walk->text, "\n");
    return 1;
}

int kmsenv_conf_files_read(KMSENV_CONF_FILES *files, const char *root, const char *path, BIO *text)
{
    WALK walk = { .files = files, .root = root, .text = text };

    memset(files, 0, sizeof(*files));
    errno = 0;
    return read_one(&walk, path);
}

void kmsenv_conf_files_reset(KMSENV_CONF_FILES *files)
{
    size_t i;

    for (i = 0; i < files->count; i++)
        free(files->path[i]);
    memset(files, 0, sizeof(*files));
}
