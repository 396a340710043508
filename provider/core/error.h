/*
 * Errors as values. A function that can fail takes a KMSENV_ERROR and fills it where the
 * fault is known; only the outermost adapter (ops, entry) raises it into OpenSSL's error
 * queue, so a failure leaves exactly one entry of ours whatever happened underneath.
 */
#ifndef KMSENV_CORE_ERROR_H
# define KMSENV_CORE_ERROR_H
# include <openssl/core.h>
# include "kmsenv/reasons.h"

# define KMSENV_ERROR_TEXT_MAX 512

typedef struct kmsenv_error_st {
    int reason;                        /* KMSENV_R_*; KMSENV_R_NONE = no error */
    char text[KMSENV_ERROR_TEXT_MAX];  /* a sentence; never a secret, token, signature or plaintext */
} KMSENV_ERROR;

# define KMSENV_ERROR_INIT { KMSENV_R_NONE, "" }

/* Fills err, replacing what it held. Returns 0 always, so that callers can `return` it. err may be NULL. */
int kmsenv_error_set(KMSENV_ERROR *err, int reason, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Puts a prefix such as "profile prod: " in front of the text; the text is cut if it grows too long. Returns 0. */
int kmsenv_error_prefix(KMSENV_ERROR *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void kmsenv_error_clear(KMSENV_ERROR *err);

/* The fixed text of a reason, NULL if there is no such reason. */
const char *kmsenv_reason_text(int reason);
/* The KMS was not reached or asked to come back later: an older key may serve in the meantime. */
int kmsenv_reason_is_unreachable(int reason);
/* The KMS answered, and the answer was a definite no: use of the key ends at once. */
int kmsenv_reason_is_refusal(int reason);

/* The core's error upcalls, copied from its dispatch table at init. */
typedef struct kmsenv_reporter_st KMSENV_REPORTER;
KMSENV_REPORTER *kmsenv_reporter_new(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in);
void kmsenv_reporter_free(KMSENV_REPORTER *reporter);
/* Raises err as one entry of this provider. Does nothing if err holds no reason. Returns 0. */
int kmsenv_reporter_raise(const KMSENV_REPORTER *reporter, const KMSENV_ERROR *err);
/* For OSSL_FUNC_PROVIDER_GET_REASON_STRINGS. */
const OSSL_ITEM *kmsenv_reason_items(void);

#endif
