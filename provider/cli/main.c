#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include "cli/cli.h"
#include "cli/complete.h"

#define OPTIONS_MAX 32
#define HELP        1000   /* value of --help in every table of options */

static const KMSENV_COMMAND *const commands[] = {
    &kmsenv_command_init,
    &kmsenv_command_seal,
    &kmsenv_command_open,
    &kmsenv_command_inspect,
    &kmsenv_command_doctor,
    &kmsenv_command_settings,
    &kmsenv_command_keyring,
    &kmsenv_command_seal_key,
    &kmsenv_command_open_key,
    &kmsenv_command_rewrap,
    NULL
};

static const char exit_statuses[] =
    "Exit status: 0 done, 1 failed, 2 wrong usage.\n";

static void print_help(FILE *out)
{
    const KMSENV_COMMAND *const *c;

    fputs("usage: kmsenv COMMAND [OPTION...]\n"
          "       kmsenv --version | --help\n"
          "\n"
          "Companion of the kmsenv provider for OpenSSL: envelope encryption under a KMS.\n"
          "\n", out);
    for (c = commands; *c != NULL; c++)
        fprintf(out, "  %-10s %s\n", (*c)->name, (*c)->summary);
    fprintf(out, "\nkmsenv COMMAND --help tells more about a command.\n%s", exit_statuses);
}

static void print_command_help(FILE *out, const KMSENV_COMMAND *command)
{
    fprintf(out, "usage: kmsenv %s %s\n\n%s.\n\n%s  --help              this text\n\n%s",
            command->name, command->synopsis, command->summary, command->help, exit_statuses);
}

static void vreport(const char *fmt, va_list args)
{
    fputs("kmsenv: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
}

int kmsenv_cli_failed(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vreport(fmt, args);
    va_end(args);
    return KMSENV_EXIT_FAILED;
}

int kmsenv_cli_usage(const KMSENV_COMMAND *command, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vreport(fmt, args);
    va_end(args);
    if (command == NULL)
        fputs("kmsenv: try: kmsenv --help\n", stderr);
    else
        fprintf(stderr, "kmsenv: usage: kmsenv %s %s\n", command->name, command->synopsis);
    return KMSENV_EXIT_USAGE;
}

int kmsenv_cli_error(const KMSENV_ERROR *err)
{
    fputs("kmsenv: ", stderr);
    kmsenv_cli_print_text(stderr, err->text, strlen(err->text));
    fputc('\n', stderr);
    return KMSENV_EXIT_FAILED;
}

int kmsenv_cli_finish(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    return kmsenv_cli_failed("cannot write the result: %s", strerror(errno));
}

int kmsenv_cli_option(const KMSENV_COMMAND *command, int argc, char **argv, int *status)
{
    static const struct option help = { "help", no_argument, NULL, HELP };
    struct option all[OPTIONS_MAX] = { { NULL, 0, NULL, 0 } };
    char letters[2 * OPTIONS_MAX + 2] = ":";
    size_t n = 0, used = 1;
    int value;

    while (n + 2 < OPTIONS_MAX && command->options[n].name != NULL) {
        all[n] = command->options[n];
        if (all[n].val >= 'a' && all[n].val <= 'z') {
            letters[used++] = (char)all[n].val;
            if (all[n].has_arg == required_argument)
                letters[used++] = ':';
        }
        n++;
    }
    all[n] = help;
    opterr = 0;
    *status = -1;
    value = getopt_long(argc, argv, letters, all, NULL);
    if (value == HELP) {
        print_command_help(stdout, command);
        *status = kmsenv_cli_finish(KMSENV_EXIT_OK);
    } else if (value == ':') {
        *status = kmsenv_cli_usage(command, "%s: %s needs a value", command->name, argv[optind - 1]);
    } else if (value == '?') {
        *status = kmsenv_cli_usage(command, "%s: unknown option, or one with a value too many: %s",
                                   command->name, argv[optind - 1]);
    }
    return *status == -1 ? value : -1;
}

static int print_version(void)
{
    printf("kmsenv %s (%s)\n", KMSENV_VERSION, OpenSSL_version(OPENSSL_VERSION));
    return kmsenv_cli_finish(KMSENV_EXIT_OK);
}

/*
 * A file that is opened must not become standard output because that was closed: what has no descriptor gets one that fails.
 * And data keys and plaintext must not get into a core dump.
 */
static void protect(void)
{
    int fd;

    for (fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0)
            exit(KMSENV_EXIT_FAILED);
    prctl(PR_SET_DUMPABLE, 0);
}

int main(int argc, char **argv)
{
    const KMSENV_COMMAND *const *c;

    protect();
    if (argc < 2)
        return kmsenv_cli_usage(NULL, "which command?");
    if (strcmp(argv[1], "--version") == 0 && argc == 2)
        return print_version();
    if (strcmp(argv[1], "--complete") == 0)     /* for the shell: complete.c */
        return kmsenv_cli_complete(commands, argc - 2, argv + 2);
    if ((strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) && argc == 2) {
        print_help(stdout);
        return kmsenv_cli_finish(KMSENV_EXIT_OK);
    }
    for (c = commands; *c != NULL; c++)
        if (strcmp((*c)->name, argv[1]) == 0)
            return (*c)->run(argc - 1, argv + 1);
    return kmsenv_cli_usage(NULL, "there is no command or option '%s'", argv[1]);
}
