/*
 * `kmsenv doctor` in parts: the report (report.c), where the configuration is (installation.c), what its settings say and
 * lead to (doctor_settings.c, doctor_files.c), the files of OpenSSL (doctor_system.c), what the provider does when it is
 * used (doctor_trial.c) and can open (doctor_sealed.c), and what keeps a service from using it (doctor_service.h).
 */
#ifndef KMSENV_CLI_DOCTOR_H
# define KMSENV_CLI_DOCTOR_H
# include "cli/installation.h"
# include "cli/needs.h"
# include "cli/report.h"

/* The remedy for a reason of the provider, NULL if there is none. doctor_remedies.c. */
const char *kmsenv_doctor_remedy(int reason);
/* Every section and setting of ours, and the files that settings lead to. */
void kmsenv_doctor_check_settings(const KMSENV_INSTALLATION *in, KMSENV_REPORT *report);
/* The files that OpenSSL opens for us. doctor_system.c. */
void kmsenv_doctor_check_system(const KMSENV_INSTALLATION *in, const KMSENV_NEEDS *needs, KMSENV_REPORT *report);
/*
 * Messages, sealed keys and data keys in files, or in files below directories (list ended by NULL): does a configured
 * profile answer for them? try: and does its KMS unwrap them? scan: also in the usual places, and in the keyring.
 * doctor_sealed.c.
 */
void kmsenv_doctor_check_sealed(const KMSENV_INSTALLATION *in, char **files, int scan, int try, KMSENV_REPORT *report);
/* Loads the provider as a program would, then has each profile (or the one named) make and unwrap a data key. */
void kmsenv_doctor_try(const KMSENV_INSTALLATION *in, const char *profile, KMSENV_REPORT *report);

#endif
