#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/conf.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include "cli/cli.h"
#include "cli/doctor.h"
#include "cli/doctor_files.h"
#include "core/settings.h"
#include "dek/deks.h"
#include "entry/config.h"
#include "kms/kms.h"

#define ACTIVATE_BOTH "list `default` beside kmsenv, in a section with activate = 1"

/* What OpenSSL itself reads in a provider's section. */
static const char *const openssl_settings[] = { "identity", "module", "activate", "soft_load", NULL };

static int is_one_of(const char *const *list, const char *name)
{
    for (; *list != NULL; list++)
        if (strcmp(*list, name) == 0)
            return 1;
    return 0;
}

static char *dup_or_null(const char *s)
{
    return s == NULL ? NULL : OPENSSL_strdup(s);
}

static int read_file(KMSENV_INSTALLATION *in, const char *file, KMSENV_REPORT *report)
{
    long line = 0;

    /* The provider looks for its file itself: it must be the same. */
    if (file != NULL)
        setenv("OPENSSL_CONF", file, 1);
    in->file = CONF_get1_default_config_file();
    if (in->file == NULL || (file == NULL && access(in->file, F_OK) != 0)) {
        kmsenv_reportf(report, KMSENV_CHECK_NOTE, "configuration file", NULL, "%s does not exist: the environment counts",
                       in->file == NULL ? "OpenSSL's openssl.cnf" : in->file);
        OPENSSL_free(in->file);
        in->file = NULL;
        return 1;
    }
    in->conf = NCONF_new(NULL);
    if (in->conf != NULL && NCONF_load(in->conf, in->file, &line) > 0)
        return 1;
    if (line > 0)
        kmsenv_reportf(report, KMSENV_CHECK_FAILED, "configuration file",
                       "correct the line: OpenSSL ignores the whole file as it is", "%s, line %ld: not understood",
                       in->file, line);
    else
        kmsenv_reportf(report, KMSENV_CHECK_FAILED, "configuration file",
                       "give the path of a file that this user can read", "%s: cannot be read: %s", in->file, strerror(errno));
    return 0;
}

/* A value, NULL if it is not there. A missing one is no error to us, so none stays in the queue. */
static const char *get(const KMSENV_INSTALLATION *in, const char *section, const char *name)
{
    const char *value = NCONF_get_string(in->conf, section, name);

    ERR_clear_error();
    return value;
}

/* Is a provider of that section activated, in the words of all releases (3.0 takes any value)? */
static int is_activated(const KMSENV_INSTALLATION *in, const char *section)
{
    static const char *const yes[] = { "1", "yes", "YES", "true", "TRUE", "on", "ON", NULL };
    const char *value = get(in, section, "activate");

    return value != NULL && is_one_of(yes, value);
}

static int is_ours(const KMSENV_INSTALLATION *in, const char *name, const char *section)
{
    const char *module = get(in, section, "module"), *base;

    if (module == NULL)
        return strcmp(name, "kmsenv") == 0;
    base = strrchr(module, '/');
    return strncmp(base == NULL ? module : base + 1, "kmsenv", 6) == 0;
}

/* Walks through the list of providers. A listed one without a section makes OpenSSL drop the rest without a word. */
static void read_providers(KMSENV_INSTALLATION *in, STACK_OF(CONF_VALUE) *list, int *has_default, KMSENV_REPORT *report)
{
    const CONF_VALUE *v;
    int i;

    for (i = 0; i < sk_CONF_VALUE_num(list); i++) {
        v = sk_CONF_VALUE_value(list, i);
        if (NCONF_get_section(in->conf, v->value) == NULL) {
            ERR_clear_error();
            kmsenv_reportf(report, KMSENV_CHECK_FAILED, "configuration file",
                           "add the section, with activate = 1, or remove the line",
                           "%s: provider '%s' has no section [%s]: OpenSSL stops reading there", in->file, v->name, v->value);
        } else if (is_ours(in, v->name, v->value)) {
            in->name = dup_or_null(get(in, v->value, "identity"));
            if (in->name == NULL)
                in->name = OPENSSL_strdup(v->name);
            in->section = OPENSSL_strdup(v->value);
            in->module = dup_or_null(get(in, v->value, "module"));
        } else if (is_activated(in, v->value)) {
            *has_default |= strcmp(v->name, "default") == 0 || strcmp(v->name, "fips") == 0;
        }
    }
}

static int find_provider(KMSENV_INSTALLATION *in, KMSENV_REPORT *report)
{
    const char *init = get(in, NULL, "openssl_conf");
    const char *providers = init == NULL ? NULL : get(in, init, "providers");
    STACK_OF(CONF_VALUE) *list = providers == NULL ? NULL : NCONF_get_section(in->conf, providers);
    int has_default = 0;

    ERR_clear_error();
    if (list != NULL)
        read_providers(in, list, &has_default, report);
    if (in->section == NULL) {
        kmsenv_reportf(report, KMSENV_CHECK_NOTE, "configuration file", NULL,
                       "%s does not list kmsenv: the environment counts, as with openssl's option -provider", in->file);
        return 1;
    }
    if (!is_activated(in, in->section)) {
        kmsenv_reportf(report, KMSENV_CHECK_FAILED, "configuration file", "add: activate = 1",
                       "%s: section [%s] does not activate kmsenv", in->file, in->section);
        return 0;
    }
    kmsenv_reportf(report, KMSENV_CHECK_OK, "configuration file", NULL, "%s activates kmsenv in section [%s]",
                   in->file, in->section);
    if (has_default)
        kmsenv_report(report, KMSENV_CHECK_OK, "default provider", "activated beside kmsenv", NULL);
    else
        kmsenv_report(report, KMSENV_CHECK_FAILED, "default provider",
                      "not activated: with kmsenv active OpenSSL does not load it by itself, so TLS and all ordinary "
                      "algorithms are missing", ACTIVATE_BOTH);
    return 1;
}

/* --- settings ------------------------------------------------------------- */

static void trim(char *name)
{
    size_t n = strlen(name), lead = strspn(name, " \t");

    while (n > lead && (name[n - 1] == ' ' || name[n - 1] == '\t'))
        n--;
    memmove(name, name + lead, n - lead);
    name[n - lead] = '\0';
}

/* The number'th name of a list into out. 0 if there are fewer. */
static int list_item(const char *list, size_t number, char *out, size_t room)
{
    const char *end;

    for (; number > 0; number--, list++)
        if ((list = strchr(list, ',')) == NULL)
            return 0;
    end = strchrnul(list, ',');
    snprintf(out, room, "%.*s", (int)(end - list), list);
    trim(out);
    return 1;
}

static int is_profile(const KMSENV_INSTALLATION *in, const char *name)
{
    char item[64];
    size_t i;

    if (in->profiles == NULL)
        return 0;
    for (i = 0; list_item(in->profiles, i, item, sizeof(item)); i++)
        if (strcmp(item, name) == 0)
            return 1;
    return 0;
}

/*
 * OpenSSL follows a value that is also the name of a section, for as long as it finds more of them,
 * and refuses to load the provider if that never ends. What stands before the first section is one
 * named "default", and leads back here.
 */
static int is_circular(const KMSENV_INSTALLATION *in, const CONF_VALUE *v)
{
    return strcmp(v->value, "default") == 0 || strcmp(v->value, in->section) == 0 || strcmp(v->value, v->section) == 0;
}

static void check_value(const KMSENV_INSTALLATION *in, const CONF_VALUE *v, KMSENV_SECTION *section, KMSENV_REPORT *report)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    char subject[128];

    snprintf(subject, sizeof(subject), "section [%s]", v->section);
    if (!kmsenv_section_set(section, v->name, v->value, &err))
        kmsenv_report(report, KMSENV_CHECK_FAILED, subject, err.text, kmsenv_doctor_remedy(err.reason));
    else if (is_circular(in, v))
        kmsenv_reportf(report, KMSENV_CHECK_FAILED, subject, "rename the section or choose another value",
                       "the value of '%s' is the name of a section that leads back to this one: OpenSSL refuses that",
                       v->name);
}

/* Sets every value of a section; each that is wrong is a failed check of its own. */
static void check_values(const KMSENV_INSTALLATION *in, const char *name, KMSENV_SECTION *section, KMSENV_REPORT *report)
{
    STACK_OF(CONF_VALUE) *values = NCONF_get_section(in->conf, name);
    size_t failed = report->failed;
    const CONF_VALUE *v;
    char subject[128];
    int i, n = 0, own = strcmp(name, in->section) == 0;

    snprintf(subject, sizeof(subject), "section [%s]", name);
    for (i = 0; i < sk_CONF_VALUE_num(values); i++) {
        v = sk_CONF_VALUE_value(values, i);
        if (own && (is_one_of(openssl_settings, v->name) || is_profile(in, v->name)))
            continue;
        n++;
        check_value(in, v, section, report);
    }
    if (report->failed == failed)
        kmsenv_reportf(report, KMSENV_CHECK_OK, subject, NULL, "%d setting%s, understood", n, n == 1 ? "" : "s");
    for (i = 0; i < sk_CONF_VALUE_num(values); i++) {
        v = sk_CONF_VALUE_value(values, i);
        if (kmsenv_section_find(section, v->name) != NULL && kmsenv_section_is_set(section, v->name))
            kmsenv_doctor_check_value(in, kmsenv_section_find(section, v->name), v->value, report);
    }
}

/* Gives a section the tables of a profile of the kind that it names. */
static int add_profile_tables(const KMSENV_INSTALLATION *in, const char *name, KMSENV_SECTION *section, KMSENV_REPORT *report)
{
    const char *kind = get(in, name, "kms");
    const KMSENV_KMS_METHOD *method = kind == NULL ? NULL : kmsenv_kms_method_find(kind);
    const KMSENV_KMS_METHOD *const *m;
    char subject[128], kinds[256] = "";

    if (method != NULL)
        return kmsenv_kms_add_tables(section, method);
    for (m = kmsenv_kms_methods(); *m != NULL; m++)
        snprintf(kinds + strlen(kinds), sizeof(kinds) - strlen(kinds), "%s%s", *kinds ? ", " : "", (*m)->name);
    snprintf(subject, sizeof(subject), "section [%s]", name);
    if (kind == NULL)
        kmsenv_reportf(report, KMSENV_CHECK_FAILED, subject, "add the setting", "setting 'kms' is missing; accepted: %s", kinds);
    else
        kmsenv_reportf(report, KMSENV_CHECK_FAILED, subject, "correct the setting",
                       "setting 'kms' has the value '%.80s'; accepted: %s", kind, kinds);
    return 0;
}

static void check_profile(const KMSENV_INSTALLATION *in, const char *profile, KMSENV_REPORT *report)
{
    const char *name = get(in, in->section, profile);
    KMSENV_SECTION *section;
    char subject[128];

    if (name == NULL || NCONF_get_section(in->conf, name) == NULL) {
        ERR_clear_error();
        snprintf(subject, sizeof(subject), "profile %s", profile);
        kmsenv_reportf(report, KMSENV_CHECK_FAILED, subject, "give the profile a section with its settings, kms first",
                       name == NULL ? "section [%s] has no line '%s = SECTION'" : "section [%s] names a section for '%s' that is not there",
                       in->section, profile);
        return;
    }
    if ((section = kmsenv_section_new(name)) != NULL && add_profile_tables(in, name, section, report))
        check_values(in, name, section, report);
    kmsenv_section_free(section);
}

/* A variable wins over the file, in the provider's section. Not an error, but it has puzzled people. */
static void check_environment(KMSENV_SECTION *section, KMSENV_REPORT *report)
{
    const KMSENV_SETTING *s;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    char name[128];
    const char *value;
    size_t i;

    for (i = 0; (s = kmsenv_section_at(section, i)) != NULL; i++) {
        if ((value = secure_getenv(kmsenv_cli_environment(s->name, name, sizeof(name)))) == NULL || *value == '\0')
            continue;
        if (kmsenv_section_set(section, s->name, value, &err))
            kmsenv_reportf(report, KMSENV_CHECK_NOTE, "environment", NULL, "%s is set and wins over the setting %s", name, s->name);
        else
            kmsenv_reportf(report, KMSENV_CHECK_FAILED, "environment", "correct or unset the variable", "%s: %s", name, err.text);
    }
}

static void check_settings(const KMSENV_INSTALLATION *in, KMSENV_REPORT *report)
{
    KMSENV_SECTION *section = kmsenv_section_new(in->section);
    char profile[64];
    size_t i;

    if (section != NULL && kmsenv_section_add_table(section, kmsenv_provider_settings)
            && kmsenv_section_add_table(section, kmsenv_deks_settings)
            && (in->profiles != NULL || get(in, in->section, "kms") == NULL
                || add_profile_tables(in, in->section, section, report)))
        check_values(in, in->section, section, report);
    if (section != NULL)
        check_environment(section, report);
    kmsenv_section_free(section);
    for (i = 0; in->profiles != NULL && list_item(in->profiles, i, profile, sizeof(profile)); i++)
        check_profile(in, profile, report);
}

int kmsenv_doctor_read_config(KMSENV_INSTALLATION *in, const char *file, KMSENV_REPORT *report)
{
    memset(in, 0, sizeof(*in));
    if (!read_file(in, file, report))
        return 0;
    if (in->conf != NULL && !find_provider(in, report))
        return 0;
    if (in->section != NULL) {
        in->profiles = dup_or_null(get(in, in->section, "profiles"));
        kmsenv_doctor_check_config_file(in, report);
        check_settings(in, report);
    }
    if (in->profiles == NULL && secure_getenv("KMSENV_PROFILES") != NULL)
        in->profiles = OPENSSL_strdup(secure_getenv("KMSENV_PROFILES"));
    return 1;
}

void kmsenv_installation_reset(KMSENV_INSTALLATION *in)
{
    NCONF_free(in->conf);
    OPENSSL_free(in->file);
    OPENSSL_free(in->name);
    OPENSSL_free(in->section);
    OPENSSL_free(in->module);
    OPENSSL_free(in->profiles);
    memset(in, 0, sizeof(*in));
}
