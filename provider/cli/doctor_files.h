/* The files that a configuration leads to: are they there, and who else can read or write them? */
#ifndef KMSENV_CLI_DOCTOR_FILES_H
# define KMSENV_CLI_DOCTOR_FILES_H
# include "cli/doctor.h"
# include "core/settings.h"

/* What a setting's value leads to: key file, directories, a secret's file or variable. Nothing to check for most settings. */
void kmsenv_doctor_check_value(const KMSENV_INSTALLATION *in, const KMSENV_SETTING *setting, const char *value,
                               KMSENV_REPORT *report);

#endif
