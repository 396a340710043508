#include <string.h>
#include "cli/cli.h"
#include "cli/doctor.h"

enum { CONFIG = 1, PROFILE, JSON };

static int examine(const char *config, const char *profile, int json)
{
    KMSENV_REPORT report = { .json = json };
    KMSENV_INSTALLATION installation = { 0 };

    kmsenv_report_begin(&report);
    if (kmsenv_installation_open(&installation, "", config, &report)) {
        kmsenv_doctor_check_settings(&installation, &report);
        kmsenv_doctor_try(&installation, profile, &report);
    }
    kmsenv_installation_reset(&installation);
    kmsenv_report_end(&report, NULL, NULL);
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
