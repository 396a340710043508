/* What checks say: line by line as they are made, for people or as JSON. */
#ifndef KMSENV_CLI_REPORT_H
# define KMSENV_CLI_REPORT_H
# include <stddef.h>

typedef enum kmsenv_outcome_en { KMSENV_CHECK_OK, KMSENV_CHECK_NOTE, KMSENV_CHECK_FAILED } KMSENV_OUTCOME;

/* Checks are reported as they are made: a KMS may take its time. */
typedef struct kmsenv_report_st {
    int json;
    size_t checks, failed;
} KMSENV_REPORT;

void kmsenv_report_begin(const KMSENV_REPORT *report);
/* dropin: lines for a drop-in of a service, NULL or "" = none. */
void kmsenv_report_end(const KMSENV_REPORT *report, const char *unit, const char *dropin);
/*
 * subject: what was looked at. message, remedy: sentences; remedy NULL if there is nothing to do. A report that is NULL
 * takes everything and says nothing.
 */
void kmsenv_report(KMSENV_REPORT *report, KMSENV_OUTCOME outcome, const char *subject,
                   const char *message, const char *remedy);
/* As above with a message made by printf. */
void kmsenv_reportf(KMSENV_REPORT *report, KMSENV_OUTCOME outcome, const char *subject, const char *remedy,
                    const char *fmt, ...) __attribute__((format(printf, 5, 6)));

#endif
