#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include "core/secret.h"
#include "kms/credentials.h"

#define CHUNK 4096

const char *kmsenv_credentials_env(const char *name)
{
    const char *value = secure_getenv(name);

    return value == NULL || *value == '\0' ? NULL : value;
}

int kmsenv_credentials_home(const char *tail, char *out, size_t room)
{
    const char *home = kmsenv_credentials_env("HOME");
    struct passwd entry, *found = NULL;
    char text[4096];
    int n;

    if (home == NULL && getpwuid_r(getuid(), &entry, text, sizeof(text), &found) == 0 && found != NULL)
        home = found->pw_dir;
    if (home == NULL || *home != '/')
        return 0;
    n = snprintf(out, room, "%s/%s", home, tail);
    return n > 0 && (size_t)n < room;
}

/* --- files ---------------------------------------------------------------- */

static int file_error(const char *path, const char *why, KMSENV_ERROR *err)
{
    return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "file %.200s %s", path, why);
}

static int read_all(int fd, const char *path, KMSENV_BUFFER *out, KMSENV_ERROR *err)
{
    char *chunk = kmsenv_secret_zalloc(CHUNK);
    ssize_t n = -1;

    if (chunk == NULL)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory to read %.200s", path);
    do {
        n = read(fd, chunk, CHUNK);
        if (n > 0 && !kmsenv_buffer_add(out, chunk, (size_t)n))
            break;
    } while (n > 0 || (n < 0 && errno == EINTR));
    kmsenv_secret_free(chunk);
    if (n < 0)
        return file_error(path, "cannot be read", err);
    if (out->failed)
        return file_error(path, "is larger than such a file can be", err);
    return 1;
}

/* O_NONBLOCK: a FIFO in its place must not stop us. Symbolic links are followed: mounted secrets are made of them. */
int kmsenv_credentials_file(const char *path, KMSENV_BUFFER *out, KMSENV_ERROR *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), ok;
    struct stat st;

    if (fd < 0) {
        ok = errno == ENOENT || errno == ENOTDIR ? KMSENV_SOURCE_ABSENT : KMSENV_SOURCE_FAILED;
        file_error(path, ok == KMSENV_SOURCE_ABSENT ? "does not exist" : "cannot be opened (permissions?)", err);
        return ok;
    }
    ok = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? read_all(fd, path, out, err)
                                                    : file_error(path, "is not a regular file", err);
    close(fd);
    if (!ok)
        return KMSENV_SOURCE_FAILED;
    while (out->length > 0 && isspace(out->data[out->length - 1]))
        out->data[--out->length] = '\0';
    return out->length > 0 ? KMSENV_SOURCE_FOUND : file_error(path, "is empty", err);
}

int kmsenv_credentials_setting(const KMSENV_SECTION *section, const char *name, KMSENV_BUFFER *out, KMSENV_ERROR *err)
{
    const char *text = kmsenv_section_text(section, name), *value = text;
    int found;

    if (text == NULL) {
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "setting %s not set", name);
        return KMSENV_SOURCE_ABSENT;
    }
    if (strncmp(text, "file:", 5) == 0) {
        found = kmsenv_credentials_file(text + 5, out, err);
        kmsenv_error_prefix(found == KMSENV_SOURCE_FOUND ? NULL : err, "setting %s: ", name);
        return found == KMSENV_SOURCE_FOUND;   /* named, so it must be there */
    }
    if (strncmp(text, "env:", 4) == 0 && (value = kmsenv_credentials_env(text + 4)) == NULL)
        return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "setting %s: the environment variable %.80s is not set", name,
                                text + 4);
    if (kmsenv_buffer_add_text(out, value))
        return KMSENV_SOURCE_FOUND;
    return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "setting %s is longer than such a value can be", name);
}

/* --- INI ------------------------------------------------------------------ */

typedef struct span_st { const char *p; size_t n; } SPAN;

static SPAN trim(SPAN s)
{
    while (s.n > 0 && isspace((unsigned char)s.p[0])) {
        s.p++;
        s.n--;
    }
    while (s.n > 0 && isspace((unsigned char)s.p[s.n - 1]))
        s.n--;
    return s;
}

/* The next line of text, without its end and outer blanks. 0 at the end. */
static int next_line(SPAN *text, SPAN *line)
{
    const char *end;

    if (text->n == 0)
        return 0;
    end = memchr(text->p, '\n', text->n);
    line->p = text->p;
    line->n = end == NULL ? text->n : (size_t)(end - text->p);
    text->p += line->n + (end != NULL);
    text->n -= line->n + (end != NULL);
    *line = trim(*line);
    return 1;
}

static int equals(SPAN s, const char *text, int (*compare)(const char *, const char *, size_t))
{
    return s.n == strlen(text) && compare(s.p, text, s.n) == 0;
}

/* key = value, or key: value */
static int split(SPAN line, SPAN *key, SPAN *value)
{
    size_t i;

    for (i = 0; i < line.n && line.p[i] != '=' && line.p[i] != ':'; i++)
        ;
    key->p = line.p;
    key->n = i;
    *key = trim(*key);
    if (i == line.n || key->n == 0)
        return 0;
    value->p = line.p + i + 1;
    value->n = line.n - i - 1;
    *value = trim(*value);
    return 1;
}

static int ini_error(unsigned line, const char *why, KMSENV_ERROR *err)
{
    return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "line %u: %s", line, why);
}

int kmsenv_credentials_ini(const KMSENV_BUFFER *text, const char *section, const char *key, KMSENV_BUFFER *out,
                           KMSENV_ERROR *err)
{
    SPAN rest = { kmsenv_buffer_text(text), text->length }, line, name, value;
    int inside = 0, found = KMSENV_SOURCE_ABSENT;
    unsigned number = 0;

    if (rest.n >= 3 && memcmp(rest.p, "\xef\xbb\xbf", 3) == 0)   /* byte order mark */
        rest = (SPAN){ rest.p + 3, rest.n - 3 };
    while (next_line(&rest, &line)) {
        number++;
        if (line.n == 0 || line.p[0] == '#' || line.p[0] == ';')
            continue;
        if (line.p[0] == '[') {
            if (line.p[line.n - 1] != ']')
                return ini_error(number, "a section without its ']'", err);
            inside = equals(trim((SPAN){ line.p + 1, line.n - 2 }), section, strncmp);
            continue;
        }
        if (!split(line, &name, &value))
            return ini_error(number, "neither a section, a comment, nor key = value", err);
        if (!inside || !equals(name, key, strncasecmp))
            continue;
        if (found == KMSENV_SOURCE_FOUND)
            return ini_error(number, "a key that is there twice", err);
        if (memchr(value.p, '\0', value.n) != NULL || !kmsenv_buffer_add(out, value.p, value.n))
            return ini_error(number, "a value with a NUL in it, or longer than such a value can be", err);
        found = value.n > 0 ? KMSENV_SOURCE_FOUND : KMSENV_SOURCE_ABSENT;
    }
    if (found == KMSENV_SOURCE_ABSENT)
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "no %s in section [%s]", key, section);
    return found;
}
