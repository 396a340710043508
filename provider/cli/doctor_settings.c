/* Every setting of our sections: is it known, is its value right, and what does the value lead to? */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/conf.h>
#include <openssl/err.h>
#include "cli/cli.h"
#include "cli/doctor.h"
#include "cli/doctor_files.h"
#include "core/settings.h"
#include "dek/deks.h"
#include "entry/config.h"
#include "kms/kms.h"

/* What OpenSSL itself reads in a provider's section. */
static const char *const openssl_settings[] = { "identity", "module", "activate", "soft_load", NULL };

static int is_one_of(const char *const *list, const char *name)
{
    for (; *list != NULL; list++)
        if (strcmp(*list, name) == 0)
            return 1;
    return 0;
}

static int is_profile(const KMSENV_INSTALLATION *in, const char *name)
{
    char item[KMSENV_PROFILE_NAME_MAX];
    size_t i;

    if (in->profiles == NULL)
        return 0;
    for (i = 0; kmsenv_list_item(in->profiles, i, item, sizeof(item)); i++)
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
    const char *kind = kmsenv_installation_get(in, name, "kms");
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
    const char *name = kmsenv_installation_get(in, in->section, profile);
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

void kmsenv_doctor_check_settings(const KMSENV_INSTALLATION *in, KMSENV_REPORT *report)
{
    KMSENV_SECTION *section = in->section == NULL ? NULL : kmsenv_section_new(in->section);
    char profile[KMSENV_PROFILE_NAME_MAX];
    size_t i;

    if (in->section == NULL)
        return;
    if (section != NULL && kmsenv_section_add_table(section, kmsenv_provider_settings)
            && kmsenv_section_add_table(section, kmsenv_deks_settings)
            && (in->profiles != NULL || kmsenv_installation_get(in, in->section, "kms") == NULL
                || add_profile_tables(in, in->section, section, report)))
        check_values(in, in->section, section, report);
    if (section != NULL)
        check_environment(section, report);
    kmsenv_section_free(section);
    for (i = 0; in->profiles != NULL && kmsenv_list_item(in->profiles, i, profile, sizeof(profile)); i++)
        check_profile(in, profile, report);
}

