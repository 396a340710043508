/*
 * The kmsenv command. Each subcommand is one file with a KMSENV_COMMAND and one line in the table
 * of main.c. Results go to stdout; errors go to stderr, one line each, as "kmsenv: ...".
 */
#ifndef KMSENV_CLI_CLI_H
# define KMSENV_CLI_CLI_H
# include <getopt.h>
# include <stddef.h>
# include <stdint.h>
# include <stdio.h>
# include "core/error.h"
# include "ops/provctx.h"

/* Exit statuses: part of the interface. */
enum { KMSENV_EXIT_OK = 0, KMSENV_EXIT_FAILED = 1, KMSENV_EXIT_USAGE = 2 };

typedef struct kmsenv_command_st {
    const char *name;
    const char *synopsis;            /* what follows "kmsenv NAME" */
    const char *summary;             /* one line without a full stop */
    const char *help;                /* options and notes, lines ended */
    const struct option *options;    /* without --help, which every command has; a value that is a letter is a short option, too */
    int (*run)(int argc, char **argv);
    /*
     * For completion: the words that the value of an option, or (option NULL) operand number 0, 1... is one of, the list
     * ended by NULL. NULL if it can be anything else, such as a file; NULL for words: so it is with all of them.
     */
    const char *const *(*words)(const char *option, int operand);
} KMSENV_COMMAND;

extern const KMSENV_COMMAND kmsenv_command_init;
extern const KMSENV_COMMAND kmsenv_command_inspect;
extern const KMSENV_COMMAND kmsenv_command_seal;
extern const KMSENV_COMMAND kmsenv_command_open;
extern const KMSENV_COMMAND kmsenv_command_doctor;
extern const KMSENV_COMMAND kmsenv_command_settings;
extern const KMSENV_COMMAND kmsenv_command_keyring;
extern const KMSENV_COMMAND kmsenv_command_seal_key;
extern const KMSENV_COMMAND kmsenv_command_open_key;
extern const KMSENV_COMMAND kmsenv_command_rewrap;

/*
 * The next option of a command: its value in the table, or -1 when the command line is done with
 * (optind is then the first operand), either well (*status = -1: go on) or with an exit status in
 * *status (help was printed, or bad usage reported).
 */
int kmsenv_cli_option(const KMSENV_COMMAND *command, int argc, char **argv, int *status);
/* Both print "kmsenv: ..." to stderr and return the exit status for it. */
int kmsenv_cli_failed(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int kmsenv_cli_usage(const KMSENV_COMMAND *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* As kmsenv_cli_failed(), with the text of err. */
int kmsenv_cli_error(const KMSENV_ERROR *err);
/* The provider in the default library context: as openssl.cnf says, or else loaded by name. provider.c. */
int kmsenv_cli_use_provider(KMSENV_ERROR *err);
/*
 * The same provider from inside the command, whatever module the configuration names, and its context: for the work that
 * no EVP call offers (re-encryption in the KMS, segments one by one). Call it before anything else of libcrypto.
 */
KMSENV_PROVCTX *kmsenv_cli_own_provider(KMSENV_ERROR *err);
/* What went wrong, from OpenSSL's error queue, which is emptied: the entry of that provider if there is one, else the first. Returns its reason. */
int kmsenv_cli_take_error(const char *provider, char *text, size_t room);
/* As kmsenv_cli_failed(), with what the error queue says. */
int kmsenv_cli_openssl_error(const char *what);
/* Flushes stdout: a full disk or a closed pipe must not look like success. Returns status, or FAILED. */
int kmsenv_cli_finish(int status);

/*
 * Text from outside, for people: control characters, invalid UTF-8 and characters that change the
 * direction of text come out as \xNN, so that a file cannot command the terminal.
 */
void kmsenv_cli_print_text(FILE *out, const void *text, size_t n);
/* The same as a JSON string, quotes included; bytes that are not UTF-8 come out as U+FFFD. */
void kmsenv_cli_print_json(FILE *out, const void *text, size_t n);
/* The environment variable of a setting, into out. Returns out. settings.c. */
const char *kmsenv_cli_environment(const char *setting, char *out, size_t room);
void kmsenv_cli_print_hex(FILE *out, const unsigned char *data, size_t n);

#endif
