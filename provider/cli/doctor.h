/*
 * `kmsenv doctor` in parts: the report (report.c), where the configuration is (installation.c), what its settings say and
 * lead to (doctor_settings.c, doctor_files.c), and what the provider does when it is used (doctor_trial.c).
 */
#ifndef KMSENV_CLI_DOCTOR_H
# define KMSENV_CLI_DOCTOR_H
# include "cli/installation.h"
# include "cli/report.h"

/* The remedy for a reason of the provider, NULL if there is none. doctor_remedies.c. */
const char *kmsenv_doctor_remedy(int reason);
/* Every section and setting of ours, and the files that settings lead to. */
void kmsenv_doctor_check_settings(const KMSENV_INSTALLATION *in, KMSENV_REPORT *report);
/* Loads the provider as a program would, then has each profile (or the one named) make and unwrap a data key. */
void kmsenv_doctor_try(const KMSENV_INSTALLATION *in, const char *profile, KMSENV_REPORT *report);

#endif
