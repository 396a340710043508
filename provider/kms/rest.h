/*
 * The loop around one signed call to a KMS: credentials, build and sign, send, look at the answer,
 * and again if that is worth while. At most KMSENV_REST_TRIES attempts, for throttling, HTTP 5xx and broken
 * connections only, with jittered pauses; besides, once each, after correcting the clock and after
 * renewing credentials. All under one deadline. Every attempt is built and signed afresh.
 */
#ifndef KMSENV_KMS_REST_H
# define KMSENV_KMS_REST_H
# include <stdatomic.h>
# include "core/counters.h"
# include "kms/credentials.h"
# include "kms/http.h"
# include "kms/kms.h"
# include "kms/result.h"

# define KMSENV_REST_TRIES 3

/* What the parser makes of a reply. Except for OK, err is filled. */
typedef enum kmsenv_verdict_en {
    KMSENV_VERDICT_OK,
    KMSENV_VERDICT_FINAL,       /* no, and no again */
    KMSENV_VERDICT_RETRY,       /* throttled, overloaded, broken: later perhaps */
    KMSENV_VERDICT_CLOCK,       /* our clock is off: correct it from the reply's Date */
    KMSENV_VERDICT_CREDENTIALS  /* the token has expired: get new credentials */
} KMSENV_VERDICT;

/* Where calls go and what is shared between them. Filled by the back end; clock_offset starts at 0. */
typedef struct kmsenv_rest_st {
    KMSENV_HTTP *http;
    KMSENV_CREDENTIALS *credentials;   /* NULL: calls that need none */
    KMSENV_COUNTERS *counters;         /* may be NULL */
    KMSENV_ENDPOINT endpoint;
    _Atomic int64_t clock_offset;      /* seconds to add to our clock to have the KMS's */
} KMSENV_REST;

/* A call. build: a fresh, signed request for the time `now`, with the credential (NULL if rest has none). */
typedef struct kmsenv_rest_call_st {
    int (*build)(void *arg, int64_t now, const KMSENV_CREDENTIAL *credential, KMSENV_REQUEST *request, KMSENV_ERROR *err);
    KMSENV_VERDICT (*parse)(void *arg, KMSENV_REPLY *reply, KMSENV_ERROR *err);
    void *arg;
} KMSENV_REST_CALL;

/* Makes the call. *attempts is added to. 1, or 0 with err of the last attempt. */
int kmsenv_rest_perform(KMSENV_REST *rest, const KMSENV_REST_CALL *call, uint64_t deadline_ms, unsigned *attempts,
                        KMSENV_ERROR *err);
/*
 * The same as an operation of a back end: keeps call's deadline, counts its attempts, hands over result's request id, and
 * begins the text of an error with the operation's name.
 */
int kmsenv_rest_operation(KMSENV_REST *rest, const KMSENV_REST_CALL *call, const char *name, KMSENV_RESULT *result,
                          KMSENV_CALL *kms_call);
/* Verdict on a reply by its HTTP status alone, for replies that do not say more. Always fills err. Not for 200. */
KMSENV_VERDICT kmsenv_rest_status(const KMSENV_REPLY *reply, KMSENV_ERROR *err);

/* A vendor's error code and what to make of it. Tables end with a NULL code; "A" also stands for "A.B" unless that is there too. */
typedef struct kmsenv_rest_code_st {
    const char *code;
    int reason;
    KMSENV_VERDICT verdict;
    const char *text;                  /* what it means and what to do */
} KMSENV_REST_CODE;
/* What the rows of such tables say of the usual cases. */
# define KMSENV_SAYS_CREDENTIALS KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_FINAL
# define KMSENV_SAYS_RENEW       KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_CREDENTIALS
# define KMSENV_SAYS_REJECTED    KMSENV_R_KMS_REQUEST_REJECTED, KMSENV_VERDICT_FINAL
# define KMSENV_SAYS_WRAP        KMSENV_R_KMS_WRAP_REJECTED, KMSENV_VERDICT_FINAL
# define KMSENV_SAYS_DENIED      KMSENV_R_KMS_ACCESS_DENIED, KMSENV_VERDICT_FINAL
# define KMSENV_SAYS_DISABLED    KMSENV_R_KMS_KEY_DISABLED, KMSENV_VERDICT_FINAL
# define KMSENV_SAYS_NOT_FOUND   KMSENV_R_KMS_KEY_NOT_FOUND, KMSENV_VERDICT_FINAL
# define KMSENV_SAYS_LATER       KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY
# define KMSENV_SAYS_THROTTLED   KMSENV_R_KMS_THROTTLED, KMSENV_VERDICT_RETRY
# define KMSENV_SAYS_CLOCK       KMSENV_R_KMS_CLOCK, KMSENV_VERDICT_CLOCK

/* Verdict on an error that has a code; one that is not in the table is judged by the HTTP status: 5xx RETRY, else FINAL. Fills err. */
KMSENV_VERDICT kmsenv_rest_judge(const KMSENV_REST_CODE *table, const char *code, int status, const char *request_id,
                                 KMSENV_ERROR *err);
/* The longest match, NULL if there is none. */
const KMSENV_REST_CODE *kmsenv_rest_find_code(const KMSENV_REST_CODE *table, const char *code);

#endif
