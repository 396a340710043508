/* `kmsenv doctor` for a program that is not this one: a service, the user it runs as, what its program is known to do. */
#ifndef KMSENV_CLI_DOCTOR_SERVICE_H
# define KMSENV_CLI_DOCTOR_SERVICE_H
# include "cli/needs.h"
# include "cli/report.h"
# include "cli/unit.h"

# define KMSENV_DROPIN_MAX 8192

typedef enum kmsenv_habit_en {
    KMSENV_HABIT_UNKNOWN, KMSENV_HABIT_NONE, KMSENV_HABIT_CLEARS_ENVIRONMENT, KMSENV_HABIT_NODEJS_CONF, KMSENV_HABIT_NOT_OPENSSL
} KMSENV_HABIT;

typedef struct kmsenv_service_st {
    KMSENV_UNIT unit;             /* of --service; unit.name "" = none */
    const char *root;             /* of --root */
    char subject[300];            /* of what is said about it: "service nginx.service" */
    char user[64];                /* that it runs as; "" = the one who asks */
    char program[512];            /* its file, absolute; "" = not known */
    char known[64];               /* the name that it is known by (doctor_programs.c): that of --program, or of the file */
    int asked;                    /* that name is of --program */
    KMSENV_HABIT habit;
    KMSENV_NEEDS needs;
    char dropin[KMSENV_DROPIN_MAX];
} KMSENV_SERVICE;

/*
 * unit, user, program: of the options, NULL = not given; one that is given counts more than what the unit says. This
 * process gets the service's environment (the files of others are not this one's), and nothing else of the environment.
 * 0 if there is no such unit.
 */
int kmsenv_service_open(KMSENV_SERVICE *s, const char *root, const char *unit, const char *user, const char *program, KMSENV_REPORT *report);
void kmsenv_service_reset(KMSENV_SERVICE *s);
/* The file of its program, its flaws and habits: what is known without the configuration. */
void kmsenv_service_check_program(KMSENV_SERVICE *s, KMSENV_REPORT *report);
/* For good: this process goes on as its user. 0 if the user is unknown. As another user than root: says so, and goes on as that. */
int kmsenv_service_become_user(KMSENV_SERVICE *s, KMSENV_REPORT *report);
/* Does its configuration load kmsenv, for this program? */
void kmsenv_service_check_use(const KMSENV_SERVICE *s, const KMSENV_INSTALLATION *in, KMSENV_REPORT *report);
/* doctor_sandbox.c: the unit's settings against s->needs. */
void kmsenv_service_check_sandbox(KMSENV_SERVICE *s, KMSENV_REPORT *report);
/* doctor_apparmor.c: the profile for the program, if there is one, against s->needs. */
void kmsenv_service_check_apparmor(KMSENV_SERVICE *s, KMSENV_REPORT *report);
/* A line for the drop-in, once. */
void kmsenv_service_add_dropin(KMSENV_SERVICE *s, const char *line);

/* doctor_programs.c: what is known about programs, as notes. */
/* Reports the notes about a program; returns its habit. */
KMSENV_HABIT kmsenv_program_report(const char *name, KMSENV_REPORT *report);
/* Names of the programs, the list ended by NULL. */
const char *const *kmsenv_program_names(void);

#endif
