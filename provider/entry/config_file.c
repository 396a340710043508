#include <string.h>
#include <sys/stat.h>
#include <openssl/conf.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include "entry/config.h"

struct kmsenv_config_file_st {
    CONF *conf;
    const char *section;       /* of the provider, in conf */
    int is_public;
};

static const char openssl_own[] = "identity,soft_load,module,activate";

const char *kmsenv_config_file_text(const KMSENV_CONFIG_FILE *file, const char *section, const char *name)
{
    const STACK_OF(CONF_VALUE) *values = NCONF_get_section(file->conf, section);
    int i = sk_CONF_VALUE_num(values);

    /* Not NCONF_get_string(), which goes on in the unnamed section; the last of several wins there, too. */
    while (i-- > 0)
        if (strcmp(sk_CONF_VALUE_value(values, i)->name, name) == 0)
            return sk_CONF_VALUE_value(values, i)->value;
    return NULL;
}

static int in_list(const char *list, const char *name)
{
    size_t n = strlen(name);
    const char *p;

    for (p = list; p != NULL && *p != '\0'; p += strcspn(p, ", "), p += strspn(p, ", "))
        if (strcspn(p, ", ") == n && memcmp(p, name, n) == 0)
            return 1;
    return 0;
}

/* The section that openssl_conf -> providers -> <provider name> leads to. */
static const char *find_section(const CONF *conf, const char *provider_name)
{
    const char *section = NCONF_get_string(conf, NULL, "openssl_conf");

    if (section != NULL)
        section = NCONF_get_string(conf, section, "providers");
    if (section != NULL)
        section = NCONF_get_string(conf, section, provider_name);
    return section;
}

/* Does the core have what the section says? Subsections do not show under their own name there. */
static int is_in_core(const KMSENV_CONFIG_FILE *file, const KMSENV_SOURCE *source)
{
    const STACK_OF(CONF_VALUE) *values = NCONF_get_section(file->conf, file->section);
    const CONF_VALUE *v;
    const char *text;
    int i;

    for (i = 0; i < sk_CONF_VALUE_num(values); i++) {
        v = sk_CONF_VALUE_value(values, i);
        if (in_list(openssl_own, v->name) || NCONF_get_section(file->conf, v->value) != NULL)
            continue;
        text = kmsenv_config_core_text(source, v->name);
        if (text == NULL || strcmp(text, v->value) != 0)
            return 0;
    }
    return 1;
}

KMSENV_CONFIG_FILE *kmsenv_config_file_open(OSSL_LIB_CTX *libctx, const char *provider_name, const KMSENV_SOURCE *source)
{
    KMSENV_CONFIG_FILE *file = OPENSSL_zalloc(sizeof(*file));
    char *path = CONF_get1_default_config_file();
    struct stat st;

    ERR_set_mark();
    if (file != NULL && path != NULL && (file->conf = NCONF_new_ex(libctx, NULL)) != NULL
            && NCONF_load(file->conf, path, NULL) > 0) {
        file->section = find_section(file->conf, provider_name);
        if (file->section != NULL && !is_in_core(file, source))
            file->section = NULL;
        file->is_public = stat(path, &st) != 0 || (st.st_mode & S_IROTH) != 0;
    }
    ERR_pop_to_mark();
    OPENSSL_free(path);
    if (file != NULL && file->section == NULL) {
        kmsenv_config_file_free(file);
        return NULL;
    }
    return file;
}

void kmsenv_config_file_free(KMSENV_CONFIG_FILE *file)
{
    if (file == NULL)
        return;
    NCONF_free(file->conf);
    OPENSSL_free(file);
}

int kmsenv_config_file_is_public(const KMSENV_CONFIG_FILE *file)
{
    return file->is_public;
}

const char *kmsenv_config_file_section(const KMSENV_CONFIG_FILE *file, const char *key)
{
    const char *name;

    if (key == NULL)
        return file->section;
    ERR_set_mark();
    name = NCONF_get_string(file->conf, file->section, key);
    if (name != NULL && NCONF_get_section(file->conf, name) == NULL)
        name = NULL;
    ERR_pop_to_mark();
    return name;
}

int kmsenv_config_file_check(const KMSENV_CONFIG_FILE *file, const char *name, const KMSENV_SECTION *section,
                             const char *also, KMSENV_ERROR *err)
{
    const STACK_OF(CONF_VALUE) *values = NCONF_get_section(file->conf, name);
    int i, top = strcmp(name, file->section) == 0;
    const char *key;

    for (i = 0; i < sk_CONF_VALUE_num(values); i++) {
        key = sk_CONF_VALUE_value(values, i)->name;
        if ((top && in_list(openssl_own, key)) || in_list(also, key) || kmsenv_section_find(section, key) != NULL)
            continue;
        /* The setter knows how to say it. */
        return kmsenv_section_set((KMSENV_SECTION *)section, key, "", err);
    }
    return 1;
}
