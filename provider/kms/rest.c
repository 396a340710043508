#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "core/clock.h"
#include "kms/rest.h"

#define PAUSE_FIRST  100     /* ms before the second attempt, half of it random; doubles */
#define SKEW_MAX     (10 * 365 * 86400LL)

/* --- verdicts ------------------------------------------------------------- */

const KMSENV_REST_CODE *kmsenv_rest_find_code(const KMSENV_REST_CODE *table, const char *code)
{
    const KMSENV_REST_CODE *best = NULL;
    size_t n, longest = 0;

    for (; table->code != NULL; table++) {
        n = strlen(table->code);
        if (n > longest && strncmp(table->code, code, n) == 0 && (code[n] == '\0' || code[n] == '.')) {
            best = table;
            longest = n;
        }
    }
    return best;
}

KMSENV_VERDICT kmsenv_rest_judge(const KMSENV_REST_CODE *table, const char *code, int status, const char *request_id,
                                 KMSENV_ERROR *err)
{
    static const KMSENV_REST_CODE refused = { "", KMSENV_SAYS_REJECTED, "the service refuses, for a reason unknown here" };
    static const KMSENV_REST_CODE trouble = { "", KMSENV_SAYS_LATER, "the service is in trouble, for a reason unknown here" };
    const KMSENV_REST_CODE *c = kmsenv_rest_find_code(table, code);

    if (c == NULL)
        c = status >= 500 ? &trouble : &refused;
    kmsenv_error_set(err, c->reason, "%s: %s (request id %s)", code, c->text, *request_id == '\0' ? "none" : request_id);
    return c->verdict;
}

typedef struct status_st {
    int from, to;
    int reason;
    KMSENV_VERDICT verdict;
    const char *text;
} STATUS;

static const STATUS statuses[] = {
    { 300, 399, KMSENV_R_KMS_REPLY_MALFORMED, KMSENV_VERDICT_FINAL, "a redirect, which is not followed; correct endpoint" },
    { 401, 401, KMSENV_R_KMS_CREDENTIALS, KMSENV_VERDICT_FINAL, "credentials are not accepted" },
    { 403, 403, KMSENV_R_KMS_ACCESS_DENIED, KMSENV_VERDICT_FINAL, "access denied by the service or something before it" },
    { 407, 407, KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_FINAL, "the proxy wants credentials; put them into proxy" },
    { 408, 408, KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY, "the service timed out" },
    { 413, 413, KMSENV_R_KMS_INPUT_TOO_LARGE, KMSENV_VERDICT_FINAL, "the request is too large" },
    { 429, 429, KMSENV_R_KMS_THROTTLED, KMSENV_VERDICT_RETRY, "too many requests" },
    { 500, 599, KMSENV_R_KMS_UNREACHABLE, KMSENV_VERDICT_RETRY, "the service or something before it is in trouble" },
    { 400, 499, KMSENV_R_KMS_REQUEST_REJECTED, KMSENV_VERDICT_FINAL, "the request is not understood there; check endpoint" }
};

KMSENV_VERDICT kmsenv_rest_status(const KMSENV_REPLY *reply, KMSENV_ERROR *err)
{
    size_t i;

    for (i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        if (reply->status < statuses[i].from || reply->status > statuses[i].to)
            continue;
        kmsenv_error_set(err, statuses[i].reason, "HTTP status %d: %s", reply->status, statuses[i].text);
        return statuses[i].verdict;
    }
    kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "HTTP status %d was not expected", reply->status);
    return KMSENV_VERDICT_FINAL;
}

/* --- the loop ------------------------------------------------------------- */

typedef struct loop_st {
    KMSENV_REST *rest;
    const KMSENV_REST_CALL *call;
    uint64_t deadline_ms;
    KMSENV_ERROR *err;
    KMSENV_CREDENTIAL *credential;     /* held */
    unsigned tries;                    /* made, not counting those for clock and credentials */
    unsigned sent;                     /* attempts in all */
    int clock_corrected, credentials_renewed;
    uint64_t retry_after_ms;           /* what the reply asked for; 0 = nothing */
} LOOP;

static int64_t kms_time(const KMSENV_REST *rest)
{
    return kmsenv_clock_unix() + atomic_load(&rest->clock_offset);
}

static void note_retry_after(LOOP *l, const KMSENV_REPLY *reply)
{
    char text[24], *end;
    unsigned long seconds;

    l->retry_after_ms = 0;
    if (!kmsenv_reply_header(reply, "Retry-After", text, sizeof(text)))
        return;
    seconds = strtoul(text, &end, 10);
    if (end != text && *end == '\0' && seconds < 86400)
        l->retry_after_ms = seconds * 1000;
}

/* The credentials to use: those we have, or others if those were rejected. */
static int take_credential(LOOP *l, const KMSENV_CREDENTIAL *rejected)
{
    KMSENV_CREDENTIAL *old = l->credential;

    if (l->rest->credentials == NULL || (old != NULL && rejected == NULL))
        return 1;
    l->credential = kmsenv_credentials_get1(l->rest->credentials, rejected, kms_time(l->rest), l->deadline_ms, l->err);
    kmsenv_credential_release(l->rest->credentials, old);
    return l->credential != NULL;
}

/* One attempt: build, sign, send, parse. */
static KMSENV_VERDICT attempt(LOOP *l, KMSENV_REPLY *reply)
{
    KMSENV_VERDICT verdict = KMSENV_VERDICT_FINAL;
    KMSENV_REQUEST request;

    kmsenv_request_init(&request, "POST");
    if (l->call->build(l->call->arg, kms_time(l->rest), l->credential, &request, l->err)) {
        l->sent++;
        kmsenv_count(l->rest->counters, KMSENV_COUNTER_KMS_ATTEMPTS, 1);
        if (kmsenv_http_send(l->rest->http, &l->rest->endpoint, &request, l->deadline_ms, reply, l->err))
            verdict = l->call->parse(l->call->arg, reply, l->err);
        else if (reply->transient)
            verdict = KMSENV_VERDICT_RETRY;
        note_retry_after(l, reply);
    }
    kmsenv_request_reset(&request);
    return verdict;
}

/* Pauses before the next try; 0 if there is none to be made. */
static int may_retry(LOOP *l)
{
    uint64_t pause = (uint64_t)PAUSE_FIRST << l->tries, now = kmsenv_clock_ms();
    unsigned char random = 128;

    if (++l->tries >= KMSENV_REST_TRIES)
        return 0;
    if (getrandom(&random, 1, GRND_NONBLOCK) != 1)
        random = (unsigned char)now;
    pause = pause / 2 + pause / 2 * random / 255;
    if (pause < l->retry_after_ms)
        pause = l->retry_after_ms;
    if (now + pause >= l->deadline_ms)
        return 0;
    kmsenv_clock_sleep_ms(pause);
    return 1;
}

static int correct_clock(LOOP *l, const KMSENV_REPLY *reply)
{
    int64_t date = kmsenv_reply_date(reply), offset = date - kmsenv_clock_unix();

    if (date == 0 || llabs((long long)offset) > SKEW_MAX)
        return 0;
    atomic_store(&l->rest->clock_offset, offset);   /* also when it is too late for this call: the next one has it */
    return l->clock_corrected++ == 0;
}

static int renew_credentials(LOOP *l)
{
    KMSENV_ERROR refused = *l->err;

    if (l->rest->credentials == NULL || l->credentials_renewed++)
        return 0;
    if (take_credential(l, l->credential))
        return 1;
    kmsenv_error_prefix(l->err, "%.160s; renewing the credentials failed: ", refused.text);
    return 0;
}

static int may_go_on(LOOP *l, KMSENV_VERDICT verdict, const KMSENV_REPLY *reply)
{
    switch (verdict) {
    case KMSENV_VERDICT_RETRY:
        return may_retry(l);
    case KMSENV_VERDICT_CLOCK:
        return correct_clock(l, reply);
    case KMSENV_VERDICT_CREDENTIALS:
        return renew_credentials(l);
    default:
        return 0;
    }
}

int kmsenv_rest_perform(KMSENV_REST *rest, const KMSENV_REST_CALL *call, uint64_t deadline_ms, unsigned *attempts,
                        KMSENV_ERROR *err)
{
    LOOP l = { .rest = rest, .call = call, .deadline_ms = deadline_ms, .err = err };
    KMSENV_VERDICT verdict = KMSENV_VERDICT_FINAL;
    KMSENV_REPLY reply;
    int again = take_credential(&l, NULL);

    while (again) {
        kmsenv_reply_init(&reply);
        verdict = attempt(&l, &reply);
        again = may_go_on(&l, verdict, &reply);
        kmsenv_reply_reset(&reply);
    }
    if (l.credential != NULL && verdict != KMSENV_VERDICT_OK && err->reason == KMSENV_R_KMS_CREDENTIALS)
        kmsenv_credentials_forget(rest->credentials, l.credential);
    kmsenv_credential_release(rest->credentials, l.credential);
    *attempts += l.sent;
    if (verdict == KMSENV_VERDICT_OK) {
        kmsenv_error_clear(err);
        return 1;
    }
    if (l.sent > 1)
        kmsenv_error_prefix(err, "%u attempts: ", l.sent);
    return 0;
}

int kmsenv_rest_operation(KMSENV_REST *rest, const KMSENV_REST_CALL *call, const char *name, KMSENV_RESULT *result,
                          KMSENV_CALL *kms_call)
{
    int ok = kmsenv_rest_perform(rest, call, kms_call->deadline_ms, &kms_call->attempts, kms_call->err);

    memcpy(kms_call->request_id, result->request_id, sizeof(kms_call->request_id));
    return ok || kmsenv_error_prefix(kms_call->err, "%s: ", name);
}
