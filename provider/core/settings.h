/*
 * Settings: tables that describe what a configuration section may contain, and the checked
 * values of one section. The same tables drive parsing, defaults, error texts, the
 * documentation (`kmsenv settings`) and `kmsenv doctor`.
 */
#ifndef KMSENV_CORE_SETTINGS_H
# define KMSENV_CORE_SETTINGS_H
# include <stddef.h>
# include <stdint.h>
# include "core/error.h"

typedef enum kmsenv_setting_type_en {
    KMSENV_TEXT,       /* any text of 1..4096 bytes */
    KMSENV_NUMBER,     /* decimal, min..max */
    KMSENV_BOOLEAN,    /* yes|no (also 1|0, on|off, true|false) */
    KMSENV_CHOICE,     /* one word of `accepts`, words separated by '|' */
    KMSENV_SECONDS,    /* decimal seconds, or with a suffix s, m, h, d; min..max in seconds */
    KMSENV_SIZE,       /* bytes, or with a suffix K, M, G, T (powers of 1024); min..max in bytes */
    KMSENV_PATH,       /* absolute path */
    KMSENV_PATHS,      /* absolute paths separated by ':' */
    KMSENV_NAMES,      /* names of letters, digits, '-', '_', separated by ',' */
    KMSENV_SECRET,     /* env:NAME, file:PATH, or the secret itself if the configuration file is private */
    KMSENV_PAIRS       /* encryption context: name=value,name=value; '\' escapes , = and \ */
} KMSENV_SETTING_TYPE;

typedef struct kmsenv_setting_st {
    const char *name;              /* as in openssl.cnf; NULL ends a table */
    KMSENV_SETTING_TYPE type;
    const char *initial;           /* default, in the syntax of the type; NULL = unset */
    uint64_t min, max;             /* for NUMBER, SECONDS, SIZE */
    const char *accepts;           /* what to print as "accepted:"; for CHOICE the words. NULL = derived from the type */
    const char *help;              /* one sentence for the documentation */
} KMSENV_SETTING;

/* The values of one section, in any number of tables. */
typedef struct kmsenv_section_st KMSENV_SECTION;

/* name: what error texts call the section, for example "kms_prod". Copied. */
KMSENV_SECTION *kmsenv_section_new(const char *name);
void kmsenv_section_free(KMSENV_SECTION *section);
/* Lets the section have the settings of a table too (defaults apply). The table must outlive the section. */
int kmsenv_section_add_table(KMSENV_SECTION *section, const KMSENV_SETTING *table);
/* The description of a setting; NULL if no table of the section has it. */
const KMSENV_SETTING *kmsenv_section_find(const KMSENV_SECTION *section, const char *name);
/* The i-th setting of all the tables together, NULL after the last. */
const KMSENV_SETTING *kmsenv_section_at(const KMSENV_SECTION *section, size_t i);
/* Checks and sets. On error names section, setting, value (never of a SECRET) and what is accepted. */
int kmsenv_section_set(KMSENV_SECTION *section, const char *name, const char *value, KMSENV_ERROR *err);
int kmsenv_section_is_set(const KMSENV_SECTION *section, const char *name);   /* explicitly, not by default */

/* The value or the default. Text is borrowed; NULL when unset. A name that no table has is a programming error: NULL or 0. */
const char *kmsenv_section_name(const KMSENV_SECTION *section);
const char *kmsenv_section_text(const KMSENV_SECTION *section, const char *name);
uint64_t kmsenv_section_number(const KMSENV_SECTION *section, const char *name);   /* NUMBER, SECONDS (seconds), SIZE (bytes) */
int kmsenv_section_boolean(const KMSENV_SECTION *section, const char *name);
/* "set 'x' in section [y]: help; accepted: ..." as a CONFIG_INVALID error, for a setting that is required and missing. Returns 0. */
int kmsenv_section_missing(const KMSENV_SECTION *section, const char *name, KMSENV_ERROR *err);
/* "section [y]: ..." as a CONFIG_INVALID error, for settings that do not go together or that a table cannot check. Returns 0. */
int kmsenv_section_invalid(const KMSENV_SECTION *section, KMSENV_ERROR *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* yes or no, in any of the words that a BOOLEAN accepts. 0 if text is none of them. */
int kmsenv_setting_boolean(const char *text, int *yes);
/* What a setting accepts, as text, into out (always terminated). Returns out. */
const char *kmsenv_setting_accepts(const KMSENV_SETTING *setting, char *out, size_t room);

#endif
