#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cli/doctor_files.h"
#include "cli/needs.h"
#include "kms/local_key.h"

#define SUBJECT_MAX 1024

typedef void CHECK(const KMSENV_INSTALLATION *in, const char *subject, const char *value, KMSENV_REPORT *report);

static unsigned mode_of(const struct stat *st)
{
    return (unsigned)(st->st_mode & 07777);
}

/* What is in the way to a file that cannot be opened. */
static const char *obstacle(const char *path, KMSENV_NEED_KIND kind)
{
    static char text[SUBJECT_MAX];

    kmsenv_path_obstacle(path, kind, text, sizeof(text));
    return *text == '\0' ? "it can be opened now" : text;
}

static void check_key_file(const KMSENV_INSTALLATION *in, const char *subject, const char *value, KMSENV_REPORT *report)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_LOCAL_KEY *key = kmsenv_local_key_load(value, &err);

    (void)in;
    if (key == NULL && access(value, R_OK) != 0 && errno == EACCES)
        kmsenv_report(report, KMSENV_CHECK_FAILED, subject, obstacle(value, KMSENV_NEED_READ), "give this user access to it");
    else if (key == NULL)
        kmsenv_report(report, KMSENV_CHECK_FAILED, subject, err.text, kmsenv_doctor_remedy(err.reason));
    else
        kmsenv_reportf(report, KMSENV_CHECK_OK, subject, NULL, "%s holds the key %s, version %lu", value,
                       kmsenv_local_key_id(key), (unsigned long)kmsenv_local_key_newest(key));
    kmsenv_local_key_free(key);
}

static void check_directory(const char *subject, const char *path, int written, KMSENV_REPORT *report)
{
    struct stat st;

    if (stat(path, &st) != 0)
        kmsenv_reportf(report, KMSENV_CHECK_FAILED, subject, "make the directory, or correct the path", "%s: %s", path, strerror(errno));
    else if (!S_ISDIR(st.st_mode))
        kmsenv_reportf(report, KMSENV_CHECK_FAILED, subject, "name a directory", "%s is not a directory", path);
    else if (access(path, R_OK | X_OK) != 0)
        kmsenv_reportf(report, KMSENV_CHECK_FAILED, subject, "give this user access to it", "%s cannot be read: %s", path,
                       obstacle(path, KMSENV_NEED_DIRECTORY));
    else if ((st.st_mode & S_IWOTH) != 0 && (st.st_mode & S_ISVTX) == 0)
        kmsenv_reportf(report, KMSENV_CHECK_FAILED, subject, "chmod o-w it: whoever removes a data key there destroys what is encrypted under it",
                       "%s has mode %04o: everybody can write it", path, mode_of(&st));
    else if ((st.st_mode & S_IWGRP) != 0 && (st.st_mode & S_ISVTX) == 0)
        kmsenv_reportf(report, KMSENV_CHECK_NOTE, subject, "chmod g-w it, unless all of the group may destroy what is encrypted under its keys",
                       "%s has mode %04o: its group can remove data keys", path, mode_of(&st));
    else if (written && access(path, W_OK) != 0)
        kmsenv_reportf(report, KMSENV_CHECK_NOTE, subject, NULL, "%s can be read, not written: new detached data keys cannot be made here", path);
    else
        kmsenv_reportf(report, KMSENV_CHECK_OK, subject, NULL, "%s can be read%s", path, written ? " and written" : "");
}

/* Directories separated by ':'; new data keys go into the first. */
static void check_directories(const KMSENV_INSTALLATION *in, const char *subject, const char *value, KMSENV_REPORT *report)
{
    char *copy = strdup(value), *rest = copy, *path;
    int first = 1;

    (void)in;
    while (copy != NULL && (path = strsep(&rest, ":")) != NULL) {
        check_directory(subject, path, first, report);
        first = 0;
    }
    free(copy);
}

static void check_log(const KMSENV_INSTALLATION *in, const char *subject, const char *value, KMSENV_REPORT *report)
{
    char *dir = strdup(value), *slash = dir == NULL ? NULL : strrchr(dir, '/');

    (void)in;
    if (slash != NULL) {
        slash[slash == dir] = '\0';
        if (access(value, W_OK) == 0 || (errno == ENOENT && access(dir, W_OK | X_OK) == 0))
            kmsenv_reportf(report, KMSENV_CHECK_OK, subject, NULL, "%s can be written", value);
        else
            kmsenv_reportf(report, KMSENV_CHECK_FAILED, subject,
                           "give this user write access: lines that cannot be written are lost without an error",
                           "%s cannot be written: %s", value, obstacle(value, KMSENV_NEED_APPEND));
    }
    free(dir);
}

/* forbidden: the bits of the mode that must not be set. */
static void check_private(const char *subject, const char *path, mode_t forbidden, KMSENV_REPORT *report)
{
    struct stat st;

    if (stat(path, &st) != 0 || access(path, R_OK) != 0)
        kmsenv_reportf(report, KMSENV_CHECK_FAILED, subject, "correct the path, or give this user access", "%s", obstacle(path, KMSENV_NEED_READ));
    else if ((st.st_mode & forbidden) != 0)
        kmsenv_reportf(report, KMSENV_CHECK_FAILED, subject, "chmod 600 it, or put the secret elsewhere: env:NAME or file:/PATH",
                       "%s has mode %04o, but holds a secret", path, mode_of(&st));
    else
        kmsenv_reportf(report, KMSENV_CHECK_OK, subject, NULL, "%s is private", path);
}

static void check_secret(const KMSENV_INSTALLATION *in, const char *subject, const char *value, KMSENV_REPORT *report)
{
    if (strncmp(value, "file:", 5) == 0)
        check_private(subject, value + 5, S_IRWXG | S_IRWXO, report);
    else if (strncmp(value, "env:", 4) != 0)
        check_private(subject, in->file, S_IRWXO, report);
    else if (secure_getenv(value + 4) == NULL)
        kmsenv_reportf(report, KMSENV_CHECK_FAILED, subject, "set it for the program that uses the provider, and for this command",
                       "the environment variable %s is not set", value + 4);
}

/* Their makers' own tools make them; the provider takes them as they are. */
static void check_credentials(const KMSENV_INSTALLATION *in, const char *subject, const char *value, KMSENV_REPORT *report)
{
    struct stat st;

    (void)in;
    if (access(value, R_OK) != 0 || stat(value, &st) != 0)
        kmsenv_report(report, KMSENV_CHECK_FAILED, subject, obstacle(value, KMSENV_NEED_READ), "correct the path, or give this user access");
    else if ((st.st_mode & S_IRWXO) != 0)
        kmsenv_reportf(report, KMSENV_CHECK_NOTE, subject, "chmod o-rwx it", "%s has mode %04o: everybody has access to these credentials",
                       value, mode_of(&st));
}

static const struct { const char *name; CHECK *check; } by_name[] = {
    { "credentials-file", check_credentials },
    { "cli-config-file", check_credentials },
    { "client-key-file", check_credentials },
    { "token-file", check_credentials },
    { "key-file", check_key_file },
    { "keyring", check_directories },
    { "audit-log", check_log },
};

void kmsenv_doctor_check_value(const KMSENV_INSTALLATION *in, const KMSENV_SETTING *setting, const char *value,
                               KMSENV_REPORT *report)
{
    char subject[SUBJECT_MAX];
    size_t i;

    snprintf(subject, sizeof(subject), "setting %s", setting->name);
    if (setting->type == KMSENV_SECRET) {
        check_secret(in, subject, value, report);
        return;
    }
    if (value[0] != '/')      /* audit-log = syslog */
        return;
    for (i = 0; i < sizeof(by_name) / sizeof(by_name[0]); i++) {
        if (strcmp(by_name[i].name, setting->name) == 0) {
            by_name[i].check(in, subject, value, report);
            return;
        }
    }
    if (setting->type == KMSENV_PATH && access(value, R_OK) != 0)
        kmsenv_reportf(report, KMSENV_CHECK_FAILED, subject, "correct the path, or give this user access", "%s",
                       obstacle(value, KMSENV_NEED_READ));
}
