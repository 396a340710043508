/* The files that OpenSSL itself opens for us - configuration, what it includes, module - and what other programs make of them. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cli/doctor.h"
#include "cli/doctor_files.h"

#define PATH_ROOM 4096

/* Values of settings have checks of their own (doctor_files.c). */
static int is_openssls(const KMSENV_NEEDS *needs, size_t i)
{
    return strncmp(needs->need[i].what, "the ", 4) == 0 || strncmp(needs->need[i].what, "an ", 3) == 0;
}

static void check_file(const KMSENV_NEEDS *needs, size_t i, const char *subject, KMSENV_REPORT *report)
{
    const char *path = needs->need[i].path;
    char obstacle[PATH_ROOM + 256];
    struct stat st;

    if (*kmsenv_path_obstacle(path, needs->need[i].kind, obstacle, sizeof(obstacle)) != '\0')
        kmsenv_reportf(report, KMSENV_CHECK_FAILED, subject, "give this user access, or correct the path", "%s (%s) cannot be opened, and "
                       "OpenSSL goes on without it: %s", path, needs->need[i].what, obstacle);
    else if (stat(path, &st) == 0 && (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        kmsenv_reportf(report, KMSENV_CHECK_FAILED, subject,
                       needs->need[i].kind == KMSENV_NEED_MODULE ? "chmod go-w it: who writes it runs code in every program that loads it"
                                                                 : "chmod go-w it: who writes it chooses where keys come from",
                       "%s has mode %04o: others can write it", path, (unsigned)(st.st_mode & 07777));
}

/* The system's openssl.cnf is everybody's: a part that some cannot read is missing for them, without a word. */
static void check_public(const KMSENV_NEEDS *needs, size_t i, KMSENV_REPORT *report)
{
    struct stat st;

    if (stat(needs->need[i].path, &st) == 0 && (st.st_mode & S_IROTH) == 0)
        kmsenv_reportf(report, KMSENV_CHECK_NOTE, "configuration file", "chmod o+r it, and keep secrets elsewhere: env:NAME or file:/PATH",
                       "%s has mode %04o: programs of users who cannot read it go on without kmsenv", needs->need[i].path,
                       (unsigned)(st.st_mode & 07777));
}

static void check_node(const KMSENV_INSTALLATION *in, KMSENV_REPORT *report)
{
    static const char *const files[] = { "/usr/bin/node", "/usr/bin/nodejs", "/usr/local/bin/node" };
    size_t i;

    for (i = 0; i < sizeof(files) / sizeof(files[0]) && access(files[i], X_OK) != 0; i++)
        ;
    if (i < sizeof(files) / sizeof(files[0]) && kmsenv_installation_get(in, NULL, "nodejs_conf") == NULL)
        kmsenv_reportf(report, KMSENV_CHECK_NOTE, "node", "add beside openssl_conf, with the same value: nodejs_conf",
                       "%s reads the section that nodejs_conf names, and %s has no such line: it goes without kmsenv", files[i], in->file);
}

void kmsenv_doctor_check_system(const KMSENV_INSTALLATION *in, const KMSENV_NEEDS *needs, KMSENV_REPORT *report)
{
    char subject[32];
    size_t i;

    if (in->section == NULL)
        return;
    for (i = 0; i < needs->count; i++) {
        if (!is_openssls(needs, i))
            continue;
        snprintf(subject, sizeof(subject), "%s", needs->need[i].kind == KMSENV_NEED_MODULE ? "module" : "configuration file");
        check_file(needs, i, subject, report);
        if (needs->need[i].kind == KMSENV_NEED_READ && kmsenv_installation_is_system(in))
            check_public(needs, i, report);
    }
    if (kmsenv_installation_is_system(in))
        check_node(in, report);
}
