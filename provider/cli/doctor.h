/*
 * `kmsenv doctor` in parts: the report, what can be read off the configuration file
 * (doctor_config.c), and what the provider does when it is used (doctor_trial.c).
 */
#ifndef KMSENV_CLI_DOCTOR_H
# define KMSENV_CLI_DOCTOR_H
# include <stddef.h>
# include <stdint.h>
# include <openssl/types.h>
# include "core/buffer.h"
# include "core/error.h"

typedef enum kmsenv_outcome_en { KMSENV_CHECK_OK, KMSENV_CHECK_NOTE, KMSENV_CHECK_FAILED } KMSENV_OUTCOME;

/* Checks are reported as they are made: a KMS may take its time. */
typedef struct kmsenv_report_st {
    int json;
    size_t checks, failed;
} KMSENV_REPORT;

/* subject: what was looked at. message, remedy: sentences; remedy NULL if there is nothing to do. */
void kmsenv_report(KMSENV_REPORT *report, KMSENV_OUTCOME outcome, const char *subject,
                   const char *message, const char *remedy);
/* As above with a message made by printf. */
void kmsenv_reportf(KMSENV_REPORT *report, KMSENV_OUTCOME outcome, const char *subject, const char *remedy,
                    const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* The remedy for a reason of the provider, NULL if there is none. doctor_remedies.c. */
const char *kmsenv_doctor_remedy(int reason);

/* What the configuration file says about us. */
typedef struct kmsenv_installation_st {
    char *file;               /* the configuration file; NULL = none exists */
    CONF *conf;               /* NULL = no file, or it cannot be read */
    char *name;               /* our provider's name there; NULL = it is not listed: the environment configures it */
    char *section;            /* our section */
    char *module;             /* its setting `module`; NULL = none */
    char *profiles;           /* names of profiles, comma separated; NULL = the one called "default" */
} KMSENV_INSTALLATION;

/* file: NULL = the one that OpenSSL takes. Reports what it finds. Returns 0 if nothing more can be checked. */
int kmsenv_doctor_read_config(KMSENV_INSTALLATION *in, const char *file, KMSENV_REPORT *report);
void kmsenv_installation_reset(KMSENV_INSTALLATION *in);

/* Loads the provider as a program would, then has each profile (or the one named) make and unwrap a data key. */
void kmsenv_doctor_try(const KMSENV_INSTALLATION *in, const char *profile, KMSENV_REPORT *report);

#endif
