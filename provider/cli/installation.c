#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <openssl/bio.h>
#include <openssl/conf.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include "cli/below.h"
#include "cli/conf_files.h"
#include "cli/installation.h"
#include "cli/needs.h"
#include "core/settings.h"
#include "kms/kms.h"

#define ACTIVATE_BOTH "list `default` beside kmsenv, in a section with activate = 1"

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

static const char *system_file(char *out, size_t room)
{
    snprintf(out, room, "%s/openssl.cnf", X509_get_default_cert_area());
    return out;
}

int kmsenv_installation_is_system(const KMSENV_INSTALLATION *in)
{
    char path[4096];

    return in->file != NULL && strcmp(in->file, system_file(path, sizeof(path))) == 0;
}

/* Which file, into in->file; it becomes that of this process. 0 = there is none, and none was asked for. */
static int choose_file(KMSENV_INSTALLATION *in, const char *root, const char *file)
{
    char path[4096];

    /* The provider looks for its file itself: it must be the same. */
    if (file != NULL && *root == '\0')
        setenv("OPENSSL_CONF", file, 1);
    in->file = *root == '\0' ? CONF_get1_default_config_file()
                             : OPENSSL_strdup(file != NULL ? file : system_file(path, sizeof(path)));
    return in->file != NULL && (file != NULL || (kmsenv_below(root, in->file, path, sizeof(path)) && access(path, F_OK) == 0));
}

/* Below another root OpenSSL would take the included files from this one. */
static int load_below(KMSENV_INSTALLATION *in, const char *root, long *line)
{
    KMSENV_CONF_FILES files;
    BIO *text = BIO_new(BIO_s_mem());
    int ok = text != NULL && kmsenv_conf_files_read(&files, root, in->file, text), saved = errno;

    if (ok)
        ok = NCONF_load_bio(in->conf, text, line) > 0;
    if (text != NULL)
        kmsenv_conf_files_reset(&files);
    BIO_free(text);
    errno = saved;
    return ok;
}

static int read_file(KMSENV_INSTALLATION *in, const char *root, const char *file, KMSENV_REPORT *report)
{
    char obstacle[1024], path[4096];
    long line = 0;

    if (!choose_file(in, root, file)) {
        kmsenv_reportf(report, KMSENV_CHECK_NOTE, "configuration file", NULL, "%s does not exist: the environment counts",
                       in->file == NULL ? "OpenSSL's openssl.cnf" : in->file);
        OPENSSL_free(in->file);
        in->file = NULL;
        return 1;
    }
    in->conf = NCONF_new(NULL);
    errno = 0;
    if (in->conf != NULL && (*root != '\0' ? load_below(in, root, &line) : NCONF_load(in->conf, in->file, &line) > 0))
        return 1;
    snprintf(path, sizeof(path), "%s%s", root, in->file);
    if (*kmsenv_path_obstacle(path, KMSENV_NEED_READ, obstacle, sizeof(obstacle)) == '\0')
        snprintf(obstacle, sizeof(obstacle), "%s", strerror(errno));
    if (line > 0)
        kmsenv_reportf(report, KMSENV_CHECK_FAILED, "configuration file",
                       "correct the line: OpenSSL ignores the whole file as it is", "%s, line %ld: not understood",
                       in->file, line);
    else
        kmsenv_reportf(report, KMSENV_CHECK_FAILED, "configuration file",
                       "give the path of a file that this user can read", "%s: cannot be read: %s", in->file, obstacle);
    return 0;
}

const char *kmsenv_installation_get(const KMSENV_INSTALLATION *in, const char *section, const char *name)
{
    const char *value = NCONF_get_string(in->conf, section, name);

    ERR_clear_error();
    return value;
}

/* Is a provider of that section activated, in the words of all releases (3.0 takes any value)? */
static int is_activated(const KMSENV_INSTALLATION *in, const char *section)
{
    static const char *const yes[] = { "1", "yes", "YES", "true", "TRUE", "on", "ON", NULL };
    const char *value = kmsenv_installation_get(in, section, "activate");

    return value != NULL && is_one_of(yes, value);
}

static int is_ours(const KMSENV_INSTALLATION *in, const char *name, const char *section)
{
    const char *module = kmsenv_installation_get(in, section, "module"), *base;

    if (module == NULL)
        return strcmp(name, "kmsenv") == 0;
    base = strrchr(module, '/');
    return strncmp(base == NULL ? module : base + 1, "kmsenv", 6) == 0;
}

/* The last one that is listed counts. */
static void take_provider(KMSENV_INSTALLATION *in, const CONF_VALUE *v)
{
    const char *identity = kmsenv_installation_get(in, v->value, "identity");

    OPENSSL_free(in->name);
    OPENSSL_free(in->section);
    OPENSSL_free(in->module);
    in->name = OPENSSL_strdup(identity != NULL ? identity : v->name);
    in->section = OPENSSL_strdup(v->value);
    in->module = dup_or_null(kmsenv_installation_get(in, v->value, "module"));
}

/* Is it a setting of ours, of whatever kind of KMS? */
static int is_setting(const char *name)
{
    const KMSENV_KMS_METHOD *const *m = kmsenv_kms_methods();
    KMSENV_SECTION *section;
    int yes = 0;

    for (; *m != NULL && !yes; m++) {
        section = kmsenv_section_new("");
        yes = section != NULL && kmsenv_kms_add_tables(section, *m) && kmsenv_section_find(section, name) != NULL;
        kmsenv_section_free(section);
    }
    return yes;
}

/* The value of a setting that is in the wrong place may be a secret. */
static void report_no_section(const KMSENV_INSTALLATION *in, const CONF_VALUE *v, KMSENV_REPORT *report)
{
    if (is_setting(v->name))
        kmsenv_reportf(report, KMSENV_CHECK_FAILED, "configuration file", "move the line to the section of kmsenv, or of a profile",
                       "%s: the setting '%s' stands in [%s], the list of providers: OpenSSL stops reading there", in->file, v->name, v->section);
    else
        kmsenv_reportf(report, KMSENV_CHECK_FAILED, "configuration file", "add the section, with activate = 1, or remove the line",
                       "%s: provider '%s' has no section [%s]: OpenSSL stops reading there", in->file, v->name, v->value);
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
            report_no_section(in, v, report);
        } else if (is_ours(in, v->name, v->value)) {
            take_provider(in, v);
        } else if (is_activated(in, v->value)) {
            *has_default |= strcmp(v->name, "default") == 0 || strcmp(v->name, "fips") == 0;
        }
    }
}

/* A section for us that no line leads to: its owner believes that it counts. */
static void report_stray(const KMSENV_INSTALLATION *in, KMSENV_REPORT *report)
{
    STACK_OF(OPENSSL_CSTRING) *names = NCONF_get_section_names(in->conf);
    const char *name, *module, *base;
    int i;

    for (i = 0; i < sk_OPENSSL_CSTRING_num(names); i++) {
        name = sk_OPENSSL_CSTRING_value(names, i);
        module = kmsenv_installation_get(in, name, "module");
        base = module == NULL ? NULL : strrchr(module, '/');
        if (module != NULL && strncmp(base == NULL ? module : base + 1, "kmsenv", 6) == 0)
            kmsenv_reportf(report, KMSENV_CHECK_FAILED, "configuration file",
                           "lead to it: openssl_conf = INIT before the first section, providers = LIST in [INIT], kmsenv = SECTION in [LIST]",
                           "%s: OpenSSL does not get to section [%s], which is kmsenv's", in->file, name);
    }
    sk_OPENSSL_CSTRING_free(names);
}

static int find_provider(KMSENV_INSTALLATION *in, KMSENV_REPORT *report)
{
    const char *init = kmsenv_installation_get(in, NULL, "openssl_conf");
    const char *providers = init == NULL ? NULL : kmsenv_installation_get(in, init, "providers");
    STACK_OF(CONF_VALUE) *list = providers == NULL ? NULL : NCONF_get_section(in->conf, providers);
    int has_default = 0;

    ERR_clear_error();
    if (list != NULL)
        read_providers(in, list, &has_default, report);
    if (in->section == NULL) {
        kmsenv_reportf(report, KMSENV_CHECK_NOTE, "configuration file", NULL,
                       "%s does not list kmsenv: the environment counts, as with openssl's option -provider", in->file);
        report_stray(in, report);
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

static void trim(char *name)
{
    size_t n = strlen(name), lead = strspn(name, " \t");

    while (n > lead && (name[n - 1] == ' ' || name[n - 1] == '\t'))
        n--;
    memmove(name, name + lead, n - lead);
    name[n - lead] = '\0';
}

int kmsenv_list_item(const char *list, size_t number, char *out, size_t room)
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

const char *kmsenv_installation_name(const KMSENV_INSTALLATION *in)
{
    return in->name == NULL ? "kmsenv" : in->name;
}

int kmsenv_installation_open(KMSENV_INSTALLATION *in, const char *root, const char *file, KMSENV_REPORT *report)
{
    int ok;

    memset(in, 0, sizeof(*in));
    ok = read_file(in, root, file, report) && (in->conf == NULL || find_provider(in, report));
    if (in->section != NULL)
        in->profiles = dup_or_null(kmsenv_installation_get(in, in->section, "profiles"));
    if (in->profiles == NULL && *root == '\0')
        in->profiles = dup_or_null(secure_getenv("KMSENV_PROFILES"));
    return ok;
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
