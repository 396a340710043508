#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "cli/cli.h"
#include "cli/report.h"

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

    printf("%s  ", word[outcome]);
    kmsenv_cli_print_text(stdout, subject, strlen(subject));
    fputs(": ", stdout);
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
    if (report == NULL)
        return;
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

void kmsenv_report_begin(const KMSENV_REPORT *report)
{
    if (report->json)
        fputs("{\"checks\": [", stdout);
}

/* Line by line, each made harmless for the terminal. */
static void print_dropin(const char *unit, const char *dropin)
{
    size_t n;

    printf("\nFor a drop-in (systemctl edit %s):\n", unit);
    for (; *dropin != '\0'; dropin += n + (dropin[n] == '\n')) {
        n = strcspn(dropin, "\n");
        fputs("    ", stdout);
        kmsenv_cli_print_text(stdout, dropin, n);
        putchar('\n');
    }
    putchar('\n');
}

void kmsenv_report_end(const KMSENV_REPORT *report, const char *unit, const char *dropin)
{
    int more = dropin != NULL && *dropin != '\0';

    if (report->json) {
        fputs("\n]", stdout);
        if (more)
            print_member("dropIn", dropin);
        printf(", \"failed\": %zu}\n", report->failed);
        return;
    }
    if (more)
        print_dropin(unit, dropin);
    printf("%zu checks, %zu failed\n", report->checks, report->failed);
}
