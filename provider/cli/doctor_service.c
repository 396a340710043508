#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "cli/below.h"
#include "cli/doctor_service.h"

#define PATH_ROOM 4096

void kmsenv_service_add_dropin(KMSENV_SERVICE *s, const char *line)
{
    size_t n = strlen(s->dropin);

    if (n == 0)
        n = (size_t)snprintf(s->dropin, sizeof(s->dropin), "[Service]\n");
    if (strstr(s->dropin, line) == NULL && n + strlen(line) + 2 < sizeof(s->dropin))
        snprintf(s->dropin + n, sizeof(s->dropin) - n, "%s\n", line);
}

/* Units name users and groups by number, too. *id: that number; 0 if it is none. */
static int is_number(const char *name, unsigned *id)
{
    char *end;
    unsigned long n;

    errno = 0;
    n = strtoul(name, &end, 10);
    *id = (unsigned)n;
    return *name >= '0' && *name <= '9' && *end == '\0' && errno == 0 && n < UINT_MAX;
}

/* NULL if there is none. */
static const struct passwd *find_user(const char *name)
{
    const struct passwd *user = *name == '\0' ? NULL : getpwnam(name);
    unsigned id;

    return user == NULL && is_number(name, &id) ? getpwuid(id) : user;
}

static int find_group(const char *name, gid_t *gid)
{
    const struct group *group = getgrnam(name);
    unsigned id;

    if (group == NULL && !is_number(name, &id))
        return 0;
    *gid = group != NULL ? group->gr_gid : id;
    return 1;
}

/* --- the service ---------------------------------------------------------- */

/* What systemd gives it: HOME and the like only with User=. */
static void take_environment(const KMSENV_SERVICE *s)
{
    const struct passwd *user = find_user(s->user);
    const char *value;
    char name[256];
    size_t at;

    clearenv();
    setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
    if (user != NULL && kmsenv_unit_get(&s->unit, "User") != NULL) {
        setenv("HOME", user->pw_dir, 1);
        setenv("USER", user->pw_name, 1);
    }
    for (at = 0; kmsenv_unit_variable_at(&s->unit, &at, name, sizeof(name)); )
        if ((value = kmsenv_unit_variable(&s->unit, name)) != NULL)
            setenv(name, value, 1);
}

static int open_unit(KMSENV_SERVICE *s, const char *unit, KMSENV_REPORT *report)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    const char *user;

    if (!kmsenv_unit_load(&s->unit, s->root, unit, &err)) {
        kmsenv_reportf(report, KMSENV_CHECK_FAILED, "service", "give the name of a unit: systemctl list-units --type=service", "%s", err.text);
        return 0;
    }
    snprintf(s->subject, sizeof(s->subject), "service %s", s->unit.name);
    user = kmsenv_unit_get(&s->unit, "User");
    if (kmsenv_unit_is_on(&s->unit, "DynamicUser"))
        user = "nobody";
    snprintf(s->user, sizeof(s->user), "%s", user == NULL ? "root" : user);
    kmsenv_unit_program(&s->unit, s->program, sizeof(s->program));
    if (kmsenv_unit_is_on(&s->unit, "DynamicUser"))
        kmsenv_report(report, KMSENV_CHECK_NOTE, s->subject, "DynamicUser=yes: its user exists only while it runs; nobody stands for it here. It implies PrivateTmp=yes, ProtectSystem=strict and "
                      "ProtectHome=read-only", NULL);
    if (s->unit.unread != NULL)
        kmsenv_reportf(report, KMSENV_CHECK_NOTE, s->subject, "run doctor as root", "EnvironmentFile=%s cannot be read", s->unit.unread);
    return 1;
}

int kmsenv_service_open(KMSENV_SERVICE *s, const char *root, const char *unit, const char *user, const char *program, KMSENV_REPORT *report)
{
    const char *base;

    memset(s, 0, sizeof(*s));
    s->root = root;
    if (unit != NULL && !open_unit(s, unit, report))
        return 0;
    if (user != NULL)
        snprintf(s->user, sizeof(s->user), "%s", user);
    if (program != NULL && *program == '/')
        snprintf(s->program, sizeof(s->program), "%s", program);
    base = program != NULL ? program : s->program;
    base = strrchr(base, '/') == NULL ? base : strrchr(base, '/') + 1;
    s->asked = program != NULL;
    snprintf(s->known, sizeof(s->known), "%.63s", base);
    if (*s->subject == '\0')
        snprintf(s->subject, sizeof(s->subject), "program %s", *s->known == '\0' ? "(none)" : s->known);
    if (unit != NULL)
        take_environment(s);
    return 1;
}

void kmsenv_service_reset(KMSENV_SERVICE *s)
{
    kmsenv_unit_reset(&s->unit);
    kmsenv_needs_reset(&s->needs);
}

/* --- its program ---------------------------------------------------------- */

/* What makes the kernel set AT_SECURE, so that OpenSSL and we ignore the environment. NULL if nothing does. */
static const char *secure_reason(const char *path)
{
    struct stat st;

    if (stat(path, &st) != 0)
        return NULL;
    if ((st.st_mode & S_ISUID) != 0)
        return "is set-user-ID";
    if ((st.st_mode & S_ISGID) != 0)
        return "is set-group-ID";
    return getxattr(path, "security.capability", NULL, 0) > 0 ? "has file capabilities" : NULL;
}

/* A variable of ours, or OpenSSL's, that the unit sets; NULL if there is none. */
static const char *variable_of(const KMSENV_SERVICE *s)
{
    static char name[128];
    size_t at;

    for (at = 0; kmsenv_unit_variable_at(&s->unit, &at, name, sizeof(name)); )
        if ((strncmp(name, "KMSENV_", 7) == 0 || strncmp(name, "OPENSSL_", 8) == 0) && kmsenv_unit_variable(&s->unit, name) != NULL)
            return name;
    return NULL;
}

static void report_unknown(const KMSENV_SERVICE *s, KMSENV_REPORT *report)
{
    const char *const *name = kmsenv_program_names();
    char list[1024] = "";

    for (; *name != NULL; name++)
        snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s", *list == '\0' ? "" : ", ", *name);
    kmsenv_reportf(report, KMSENV_CHECK_NOTE, s->subject, NULL, "nothing is known of it here; it is of: %s", list);
}

void kmsenv_service_check_program(KMSENV_SERVICE *s, KMSENV_REPORT *report)
{
    static const char remedy[] = "configure kmsenv in the system's openssl.cnf (openssl version -d), which needs no variable";
    char path[PATH_ROOM];
    const char *reason, *variable = variable_of(s);

    s->habit = *s->known == '\0' ? KMSENV_HABIT_UNKNOWN : kmsenv_program_report(s->known, report);
    if (s->asked && s->habit == KMSENV_HABIT_UNKNOWN)
        report_unknown(s, report);
    if (s->habit == KMSENV_HABIT_CLEARS_ENVIRONMENT && variable != NULL)
        kmsenv_reportf(report, KMSENV_CHECK_FAILED, s->subject, remedy, "the unit sets %s, which %s does not hand on", variable, s->known);
    if (*s->program == '\0')
        return;
    if (!kmsenv_below(s->root, s->program, path, sizeof(path)) || access(path, F_OK) != 0)
        kmsenv_reportf(report, KMSENV_CHECK_NOTE, s->subject, NULL, "its program %s is not there: %s", s->program, strerror(errno));
    if ((reason = secure_reason(path)) == NULL)
        return;
    if (variable != NULL)
        kmsenv_reportf(report, KMSENV_CHECK_FAILED, s->subject, remedy, "the unit sets %s, but %s %s: OPENSSL_CONF and KMSENV_ variables "
                       "are ignored in it", variable, s->program, reason);
    else
        kmsenv_reportf(report, KMSENV_CHECK_NOTE, s->subject, remedy, "%s %s: OPENSSL_CONF and KMSENV_ variables are ignored in it",
                       s->program, reason);
}

/* A service has no option -provider: what its configuration does not load is not there. */
void kmsenv_service_check_use(const KMSENV_SERVICE *s, const KMSENV_INSTALLATION *in, KMSENV_REPORT *report)
{
    const char *file = in->file == NULL ? "OpenSSL's own openssl.cnf, which is not there" : in->file;

    if (in->section == NULL && *s->unit.name != '\0')
        kmsenv_reportf(report, KMSENV_CHECK_FAILED, s->subject, "add kmsenv to that file, or in a drop-in: Environment=OPENSSL_CONF= with a file "
                       "that has it", "it does not load kmsenv: its configuration is %s, which does not list it", file);
    if (in->section != NULL && s->habit == KMSENV_HABIT_NODEJS_CONF && kmsenv_installation_get(in, NULL, "nodejs_conf") == NULL)
        kmsenv_reportf(report, KMSENV_CHECK_FAILED, s->subject, "add beside openssl_conf, with the same value: nodejs_conf",
                       "it does not load kmsenv: %s has no line nodejs_conf", file);
}

/* --- its user ------------------------------------------------------------- */

/* As systemd does it: the user's own groups, and those of SupplementaryGroups=. */
static int switch_user(const struct passwd *user, const char *group, const char *more)
{
    gid_t gid = user->pw_gid, list[128];
    int count = 64;
    char word[64];

    if (group != NULL && !find_group(group, &gid)) {
        errno = EINVAL;
        return 0;
    }
    if (getgrouplist(user->pw_name, gid, list, &count) < 0)
        count = 64;
    while (more != NULL && count < 128 && kmsenv_unit_word(&more, word, sizeof(word)))
        count += find_group(word, &list[count]);
    return setgroups((size_t)count, list) == 0 && setgid(gid) == 0 && setuid(user->pw_uid) == 0
        && (user->pw_uid == 0 || setuid(0) != 0);
}

int kmsenv_service_become_user(KMSENV_SERVICE *s, KMSENV_REPORT *report)
{
    const struct passwd *user = find_user(s->user);

    if (*s->user == '\0' || *s->root != '\0')
        return 1;
    if (user == NULL) {
        kmsenv_reportf(report, KMSENV_CHECK_FAILED, "user", "correct the name, or make the user", "there is no user %s", s->user);
        return 0;
    }
    if (user->pw_uid == geteuid()) {
        kmsenv_reportf(report, KMSENV_CHECK_OK, "user", NULL, "what follows is checked as %s", s->user);
        return 1;
    }
    if (geteuid() != 0) {
        kmsenv_reportf(report, KMSENV_CHECK_NOTE, "user", "run doctor as root, which can become that user",
                       "what follows is checked as you, not as %s", s->user);
        return 1;
    }
    if (!switch_user(user, kmsenv_unit_get(&s->unit, "Group"), kmsenv_unit_get(&s->unit, "SupplementaryGroups"))) {
        kmsenv_reportf(report, KMSENV_CHECK_FAILED, "user", "run doctor as root, outside of a sandbox", "cannot become %s: %s", s->user, strerror(errno));
        return 0;
    }
    kmsenv_reportf(report, KMSENV_CHECK_OK, "user", NULL, "what follows is checked as %s", s->user);
    return 1;
}
