#include <stdarg.h>
#include <string.h>
#include "cli/cli.h"
#include "cli/doctor.h"

enum { CONFIG = 1, PROFILE, JSON };

static void print_member(const char *name, const char *text)
{
    printf(", \"%s\": ", name);
    if (text == NULL)
        fputs("null", stdout);
    else
        kmsenv_cli_print_json(stdout, text, strlen(text));
}

static void report_json(const KMSENV_REPORT *report, KMSENV_OUTCOME outcome, const char *subject,
                        const char *message, const char *remedy)
{
    static const char *const word[] = { "ok", "note", "failed" };

    printf("%s\n  {\"outcome\": \"%s\"", report->checks == 0 ? "" : ",", word[outcome]);
    print_member("subject", subject);
    print_member("message", message);
    print_member("remedy", remedy);
    putchar('}');
}

static void report_text(KMSENV_OUTCOME outcome, const char *subject, const char *message, const char *remedy)
{
    static const char *const word[] = { "ok    ", "note  ", "FAILED" };

    printf("%s  %s: ", word[outcome], subject);
    kmsenv_cli_print_text(stdout, message, strlen(message));
    putchar('\n');
    if (remedy != NULL) {
        fputs("        remedy: ", stdout);
        kmsenv_cli_print_text(stdout, remedy, strlen(remedy));
        putchar('\n');
    }
}

void kmsenv_report(KMSENV_REPORT *report, KMSENV_OUTCOME outcome, const char *subject,
                   const char *message, const char *remedy)
{
    if (report->json)
        report_json(report, outcome, subject, message, remedy);
    else
        report_text(outcome, subject, message, remedy);
    fflush(stdout);
    report->checks++;
    report->failed += outcome == KMSENV_CHECK_FAILED;
}

void kmsenv_reportf(KMSENV_REPORT *report, KMSENV_OUTCOME outcome, const char *subject, const char *remedy,
                    const char *fmt, ...)
{
    char message[2048];
    va_list args;

    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    kmsenv_report(report, outcome, subject, message, remedy);
}

static int examine(const char *config, const char *profile, int json)
{
    KMSENV_REPORT report = { .json = json };
    KMSENV_INSTALLATION installation = { 0 };

    if (json)
        fputs("{\"checks\": [", stdout);
    if (kmsenv_doctor_read_config(&installation, config, &report))
        kmsenv_doctor_try(&installation, profile, &report);
    kmsenv_installation_reset(&installation);
    if (json)
        printf("\n], \"failed\": %zu}\n", report.failed);
    else
        printf("%zu checks, %zu failed\n", report.checks, report.failed);
    return kmsenv_cli_finish(report.failed == 0 ? KMSENV_EXIT_OK : KMSENV_EXIT_FAILED);
}

static int run(int argc, char **argv)
{
    const KMSENV_COMMAND *self = &kmsenv_command_doctor;
    const char *config = NULL, *profile = NULL;
    int option, status, json = 0;

    while ((option = kmsenv_cli_option(self, argc, argv, &status)) != -1) {
        if (option == CONFIG)
            config = optarg;
        else if (option == PROFILE)
            profile = optarg;
        else
            json = 1;
    }
    if (status != -1)
        return status;
    if (optind < argc)
        return kmsenv_cli_usage(self, "doctor: '%s' is one argument too many", argv[optind]);
    return examine(config, profile, json);
}

static const struct option options[] = {
    { "config", required_argument, NULL, CONFIG },
    { "profile", required_argument, NULL, PROFILE },
    { "json", no_argument, NULL, JSON },
    { NULL, 0, NULL, 0 }
};

const KMSENV_COMMAND kmsenv_command_doctor = {
    .name = "doctor",
    .synopsis = "[--config FILE] [--profile NAME] [--json]",
    .summary = "Check the configuration, and every profile with a round trip to its KMS",
    .help = "  --config FILE       the configuration file; else $OPENSSL_CONF or OpenSSL's own openssl.cnf.\n"
            "                      If kmsenv is not in it, the KMSENV_ variables of the environment count\n"
            "  --profile NAME      ask the KMS of this profile only\n"
            "  --json              the report as JSON, for programs\n"
            "Each profile's KMS makes a data key and unwraps it again: two calls, nothing is kept.\n"
            "Run it as the user whose program will use the provider.\n",
    .options = options,
    .run = run
};
