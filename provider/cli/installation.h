/* What a configuration file of OpenSSL says about us: where our section is, and what is in it. No setting is checked here. */
#ifndef KMSENV_CLI_INSTALLATION_H
# define KMSENV_CLI_INSTALLATION_H
# include <stddef.h>
# include <openssl/types.h>
# include "cli/report.h"

# define KMSENV_PROFILE_NAME_MAX 64

typedef struct kmsenv_installation_st {
    char *file;               /* the configuration file; NULL = none exists */
    CONF *conf;               /* NULL = no file, or it cannot be read */
    char *name;               /* our provider's name there; NULL = it is not listed: the environment configures it */
    char *section;            /* our section */
    char *module;             /* its setting `module`; NULL = none */
    char *profiles;           /* names of profiles, comma separated; NULL = the one called "default" */
} KMSENV_INSTALLATION;

/*
 * root: where absolute paths begin, "" = at the root. file: NULL = the one that OpenSSL takes; it becomes $OPENSSL_CONF of
 * this process, unless there is a root. Reports what it finds; report may be NULL. Returns 0 if the file cannot be read, or
 * OpenSSL would not load us. Asks no KMS, and reads no other file than those that the configuration includes.
 */
int kmsenv_installation_open(KMSENV_INSTALLATION *in, const char *root, const char *file, KMSENV_REPORT *report);
void kmsenv_installation_reset(KMSENV_INSTALLATION *in);
/* A value, NULL if it is not there. A missing one is no error to us, so none stays in OpenSSL's queue. */
const char *kmsenv_installation_get(const KMSENV_INSTALLATION *in, const char *section, const char *name);
/* Is its file the one that OpenSSL takes when no variable names another? */
int kmsenv_installation_is_system(const KMSENV_INSTALLATION *in);
/* Our provider's name, to OpenSSL. */
const char *kmsenv_installation_name(const KMSENV_INSTALLATION *in);
/* The number'th name of a comma separated list into out, without blanks. 0 if there are fewer. */
int kmsenv_list_item(const char *list, size_t number, char *out, size_t room);

#endif
