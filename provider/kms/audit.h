/*
 * Audit log: one JSON object per line and KMS operation, to a file (O_APPEND, created 0600) or
 * syslog. Fields: time (ISO 8601 UTC, milliseconds), operation, profile, kms, keyId, dekId,
 * requestId, attempts, milliseconds, outcome ("ok" or the reason's text), pid. Never a secret,
 * plaintext, token or signature.
 */
#ifndef KMSENV_KMS_AUDIT_H
# define KMSENV_KMS_AUDIT_H
# include "kms/kms.h"

/* target: NULL or "" = none (returns NULL without err), "syslog", or an absolute path. Opens nothing until the first line. */
KMSENV_AUDIT *kmsenv_audit_new(const char *target, KMSENV_ERROR *err);
void kmsenv_audit_free(KMSENV_AUDIT *audit);

typedef struct kmsenv_audit_event_st {
    const char *operation, *profile, *kms, *key_id, *dek_id, *request_id;   /* NULL = left out */
    unsigned attempts;
    uint64_t milliseconds;
    int reason;            /* KMSENV_R_NONE = ok */
} KMSENV_AUDIT_EVENT;
/* Writes with one write(2), so that lines of several processes do not mix. A line that cannot be written is dropped: the log never stops an operation. */
void kmsenv_audit_write(KMSENV_AUDIT *audit, const KMSENV_AUDIT_EVENT *event);

#endif
