/*
 * Configuration: openssl.cnf through the core, KMSENV_* environment twins, and the checked
 * sections that come of them. A setting in the environment wins over openssl.cnf for the flat
 * section; named profiles are configured in openssl.cnf only. The environment is not read in
 * setuid programs.
 */
#ifndef KMSENV_ENTRY_CONFIG_H
# define KMSENV_ENTRY_CONFIG_H
# include <openssl/core.h>
# include <openssl/core_dispatch.h>
# include "core/error.h"
# include "core/settings.h"
# include "kms/kms.h"

# define KMSENV_CONFIG_PROFILES_MAX 16

/* Settings of the provider as a whole; kmsenv_deks_settings are accepted beside them. */
extern const KMSENV_SETTING kmsenv_provider_settings[];

/* The core's way to our section of openssl.cnf. */
typedef struct kmsenv_source_st {
    const OSSL_CORE_HANDLE *handle;
    OSSL_FUNC_core_get_params_fn *get_params;
} KMSENV_SOURCE;

typedef struct kmsenv_config_st {
    KMSENV_SECTION *provider;
    size_t profiles;
    struct {
        char *name;
        const KMSENV_KMS_METHOD *method;
        KMSENV_SECTION *section;      /* in a flat configuration the same as `provider` */
    } profile[KMSENV_CONFIG_PROFILES_MAX];
} KMSENV_CONFIG;

/* Reads and checks everything. NULL with err naming section, setting, value and what is accepted. libctx: for parsing files. */
KMSENV_CONFIG *kmsenv_config_load(const KMSENV_SOURCE *source, OSSL_LIB_CTX *libctx, KMSENV_ERROR *err);
void kmsenv_config_free(KMSENV_CONFIG *config);
/* A setting as the core has it, "name" or "profile.name"; NULL if not set. */
const char *kmsenv_config_core_text(const KMSENV_SOURCE *source, const char *key);
/* How many bytes the header of a message with a wrap of every profile is likely to have. Looks at no more than it needs. */
size_t kmsenv_config_header_room(const KMSENV_SOURCE *source);
/* One setting of the flat section as it stands, unchecked: for what must be known before the rest. NULL if not set. */
const char *kmsenv_config_peek(const KMSENV_SOURCE *source, const char *name);

/*
 * config_file.c: names of settings cannot be listed through the core, so the configuration file
 * that OpenSSL reads by default is parsed once more to find settings that nothing accepts.
 */
typedef struct kmsenv_config_file_st KMSENV_CONFIG_FILE;
/*
 * NULL if there is no such file, if provider_name has no section in it, or if the core has not all
 * settings of that section (this library context was configured by another file, or by none): then
 * nothing is checked.
 */
KMSENV_CONFIG_FILE *kmsenv_config_file_open(OSSL_LIB_CTX *libctx, const char *provider_name, const KMSENV_SOURCE *source);
void kmsenv_config_file_free(KMSENV_CONFIG_FILE *file);
/* The name of the provider's section, or of the subsection that key points to (NULL if it does not). Borrowed. */
const char *kmsenv_config_file_section(const KMSENV_CONFIG_FILE *file, const char *key);
/*
 * A value as it stands in a section of the file, NULL if there is none. OpenSSL takes a value that
 * is also the name of a section (`profiles = prod` beside `[prod]`) for a reference to it and keeps
 * the value itself to itself. Borrowed.
 */
const char *kmsenv_config_file_text(const KMSENV_CONFIG_FILE *file, const char *section, const char *name);
/* Is each name in that section a setting of `section`, one of OpenSSL's own, or one of `also` (comma separated, may be NULL)? */
int kmsenv_config_file_check(const KMSENV_CONFIG_FILE *file, const char *name, const KMSENV_SECTION *section,
                             const char *also, KMSENV_ERROR *err);
/* Can users other than the file's owner read it? Then no secret may stand in it. */
int kmsenv_config_file_is_public(const KMSENV_CONFIG_FILE *file);

#endif
