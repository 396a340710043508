/*
 * What an AppArmor profile allows, as far as its text tells: a guess. The parser of AppArmor knows more (conditional
 * rules, child profiles, namespaces); what is not understood here counts as allowed.
 */
#ifndef KMSENV_CLI_APPARMOR_H
# define KMSENV_CLI_APPARMOR_H
# include <stddef.h>

# define KMSENV_APPARMOR_RULES_MAX     2000
# define KMSENV_APPARMOR_VARIABLES_MAX 128

/* Permissions on a file. */
enum { KMSENV_AA_READ = 1, KMSENV_AA_WRITE = 2, KMSENV_AA_MAP = 4 };

typedef struct kmsenv_apparmor_st {
    char file[256];                 /* name of the profile's file in /etc/apparmor.d */
    int complain;                   /* violations are only logged */
    int incomplete;                 /* an included file is not there */
    int network;                    /* there is a rule for TCP, or for all of the network */
    size_t rules, variables;
    unsigned long work;             /* spent on matching, for all profiles together: patterns can be made to take for ever */
    struct { char *pattern; unsigned permissions; int deny; } rule[KMSENV_APPARMOR_RULES_MAX];
    struct { char *name, *values; } variable[KMSENV_APPARMOR_VARIABLES_MAX];
} KMSENV_APPARMOR;

/* Looks in root/etc/apparmor.d for a profile of a program. 0 = there is none that is in force. To be reset in any case. */
int kmsenv_apparmor_find(KMSENV_APPARMOR *aa, const char *root, const char *program);
void kmsenv_apparmor_reset(KMSENV_APPARMOR *aa);
/* What the rules allow on a file. */
unsigned kmsenv_apparmor_allows(KMSENV_APPARMOR *aa, const char *path);
/*
 * Does a path match a pattern of AppArmor: * ? [] {,} and ** (which goes over slashes), @{variables}? One too involved to
 * tell, or with a variable that is not known, matches. apparmor_match.c.
 */
int kmsenv_apparmor_match(KMSENV_APPARMOR *aa, const char *pattern, const char *path);

#endif
