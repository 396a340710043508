/*
 * The settings of a systemd service, from its unit file and drop-ins, as systemd itself would read them. systemd is not
 * asked: it need not run here, and the files may be those of an image.
 */
#ifndef KMSENV_CLI_UNIT_H
# define KMSENV_CLI_UNIT_H
# include <stddef.h>
# include "core/error.h"

# define KMSENV_UNIT_SETTINGS_MAX 64
# define KMSENV_UNIT_VALUE_MAX    16384    /* bytes of one setting, or of the environment */

typedef struct kmsenv_unit_st {
    char name[256];                        /* with its ending */
    const char *root;                      /* where absolute paths begin, "" = at the root. Borrowed */
    char *value[KMSENV_UNIT_SETTINGS_MAX]; /* by the table of unit.c; NULL = not set */
    char *environment;                     /* NAME=VALUE of Environment= and EnvironmentFile=, each ended by a zero byte */
    size_t environment_len;
    char *unread;                          /* a file of EnvironmentFile= that cannot be read; NULL = none */
} KMSENV_UNIT;

/* name: "nginx", "nginx.service", "postgresql@15-main", or the path of a unit file that need not be installed. 0 with err if there is no such unit. To be reset in any case. */
int kmsenv_unit_load(KMSENV_UNIT *unit, const char *root, const char *name, KMSENV_ERROR *err);
void kmsenv_unit_reset(KMSENV_UNIT *unit);
/* The value of a setting, NULL if it is not set. Of one that may be given several times: all of them, blanks between. */
const char *kmsenv_unit_get(const KMSENV_UNIT *unit, const char *setting);
/* Is it set to yes? */
int kmsenv_unit_is_on(const KMSENV_UNIT *unit, const char *setting);
/* The next word of a value, without quotes; *rest goes on behind it. 0 at the end. A word too long for out is cut. */
int kmsenv_unit_word(const char **rest, char *out, size_t room);
/* Text with the specifiers in it replaced: those of names and of directories; others stay. Returns out. unit_words.c. */
const char *kmsenv_unit_expand(const KMSENV_UNIT *unit, const char *text, char *out, size_t room);
/* Environment= and EnvironmentFile= into unit->environment. unit_words.c; kmsenv_unit_load() calls it. */
void kmsenv_unit_read_environment(KMSENV_UNIT *unit);
/* A variable as the service has it, NULL if it has none. */
const char *kmsenv_unit_variable(const KMSENV_UNIT *unit, const char *name);
/* The name of the variable at *at in the environment, which goes on to the next; 0 at the end. A name may come twice. */
int kmsenv_unit_variable_at(const KMSENV_UNIT *unit, size_t *at, char *name, size_t room);
/* The program that it starts, "" if that cannot be told. Returns out. */
const char *kmsenv_unit_program(const KMSENV_UNIT *unit, char *out, size_t room);

#endif
