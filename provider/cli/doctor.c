#include <string.h>
#include "cli/cli.h"
#include "cli/doctor.h"
#include "cli/doctor_service.h"

enum { CONFIG = 1, PROFILE, SERVICE, PROGRAM, USER, ROOT, SCAN, TRY, OFFLINE, JSON, OPTIONS };

/* The values of the options, by the numbers above; those without an argument have one, too. */
typedef struct request_st {
    const char *option[OPTIONS];
    char **files;
} REQUEST;

/* What is asked about a program that is not this one; then this process goes on as its user, with its configuration. */
static int begin(KMSENV_SERVICE *service, const REQUEST *r, KMSENV_REPORT *report)
{
    const char *const *o = r->option;

    if (!kmsenv_service_open(service, o[ROOT] == NULL ? "" : o[ROOT], o[SERVICE], o[USER], o[PROGRAM], report))
        return 0;
    kmsenv_service_check_program(service, report);
    return kmsenv_service_become_user(service, report);
}

static const char *config_of(const KMSENV_SERVICE *service, const REQUEST *r)
{
    if (r->option[CONFIG] != NULL)
        return r->option[CONFIG];
    return r->option[SERVICE] == NULL ? NULL : kmsenv_unit_variable(&service->unit, "OPENSSL_CONF");
}

static void check_all(KMSENV_SERVICE *service, const REQUEST *r, KMSENV_REPORT *report)
{
    KMSENV_INSTALLATION in;
    int usable = kmsenv_installation_open(&in, service->root, config_of(service, r), report), here = *service->root == '\0';

    kmsenv_needs_collect(&service->needs, &in, service->root);
    if (usable && here) {
        kmsenv_doctor_check_system(&in, &service->needs, report);
        kmsenv_doctor_check_settings(&in, report);
    }
    if (usable && (r->option[SERVICE] != NULL || r->option[PROGRAM] != NULL))
        kmsenv_service_check_use(service, &in, report);
    if (r->option[SERVICE] != NULL)
        kmsenv_service_check_sandbox(service, report);
    if (*service->program != '\0')
        kmsenv_service_check_apparmor(service, report);
    if (usable && here) {
        kmsenv_doctor_check_sealed(&in, r->files, r->option[SCAN] != NULL, r->option[TRY] != NULL, report);
        if (r->option[OFFLINE] == NULL)
            kmsenv_doctor_try(&in, r->option[PROFILE], report);
    }
    kmsenv_installation_reset(&in);
}

static int examine(const REQUEST *r)
{
    KMSENV_REPORT report = { .json = r->option[JSON] != NULL };
    KMSENV_SERVICE service;

    kmsenv_report_begin(&report);
    if (begin(&service, r, &report))
        check_all(&service, r, &report);
    kmsenv_report_end(&report, service.unit.name, service.dropin);
    kmsenv_service_reset(&service);
    return kmsenv_cli_finish(report.failed == 0 ? KMSENV_EXIT_OK : KMSENV_EXIT_FAILED);
}

static int run(int argc, char **argv)
{
    const KMSENV_COMMAND *self = &kmsenv_command_doctor;
    REQUEST r = { { NULL }, NULL };
    int option, status;

    while ((option = kmsenv_cli_option(self, argc, argv, &status)) != -1)
        r.option[option] = optarg == NULL ? "" : optarg;
    if (status != -1)
        return status;
    r.files = argv + optind;
    if (r.option[ROOT] != NULL && r.option[SERVICE] == NULL && r.option[PROGRAM] == NULL)
        return kmsenv_cli_usage(self, "doctor: --root is for --service and --program");
    if (r.option[ROOT] != NULL && (r.option[SCAN] != NULL || r.option[TRY] != NULL || *r.files != NULL))
        return kmsenv_cli_usage(self, "doctor: nothing is opened below --root");
    if (r.option[TRY] != NULL && r.option[SCAN] == NULL && *r.files == NULL)
        return kmsenv_cli_usage(self, "doctor: --try which files?");
    return examine(&r);
}

static const char *const *words(const char *option, int operand)
{
    (void)operand;
    return option != NULL && strcmp(option, "program") == 0 ? kmsenv_program_names() : NULL;
}

static const struct option options[] = {
    { "config", required_argument, NULL, CONFIG },
    { "profile", required_argument, NULL, PROFILE },
    { "service", required_argument, NULL, SERVICE },
    { "program", required_argument, NULL, PROGRAM },
    { "user", required_argument, NULL, USER },
    { "root", required_argument, NULL, ROOT },
    { "scan", no_argument, NULL, SCAN },
    { "try", no_argument, NULL, TRY },
    { "offline", no_argument, NULL, OFFLINE },
    { "json", no_argument, NULL, JSON },
    { NULL, 0, NULL, 0 }
};

const KMSENV_COMMAND kmsenv_command_doctor = {
    .name = "doctor",
    .synopsis = "[OPTION...] [FILE | DIRECTORY]...",
    .summary = "Check configuration, profiles, services and what is sealed",
    .help = "  --config FILE       the configuration file; else $OPENSSL_CONF or OpenSSL's own openssl.cnf.\n"
            "                      If kmsenv is not in it, the KMSENV_ variables of the environment count\n"
            "  --profile NAME      ask the KMS of this profile only\n"
            "  --service UNIT      check as this systemd service: its user, environment and configuration,\n"
            "                      its sandbox, its AppArmor profile, its program\n"
            "  --program NAME      what is known of a program, or a file that is one (postfix, /usr/sbin/x)\n"
            "  --user NAME         check as this user (as root only)\n"
            "  --root DIRECTORY    look for the files of --service and --program below it, and ask no KMS\n"
            "  --scan              look for what is sealed in the keyring and in usual directories of /etc\n"
            "  --try               have the KMS unwrap the data key of each file\n"
            "  --offline           ask no KMS about the profiles\n"
            "  --json              the report as JSON, for programs\n"
            "Each profile's KMS makes a data key and unwraps it again: two calls, nothing is kept. For each\n"
            "message, sealed key or data key that a FILE is, or that is found below a DIRECTORY, a configured\n"
            "profile must answer. Run it as the user whose program will use the provider, or as root with\n"
            "--service or --user.\n",
    .options = options,
    .run = run,
    .words = words
};
