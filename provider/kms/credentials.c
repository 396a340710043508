#include <stdatomic.h>
#include <string.h>
#include <openssl/crypto.h>
#include "core/clock.h"
#include "core/lock.h"
#include "core/secret.h"
#include "kms/credentials.h"

#define REFRESH_EARLY 300      /* seconds before expiry */
#define RETRY_PAUSE   10000    /* ms between attempts to refresh while the old set is still good */

struct kmsenv_credentials_st {
    const KMSENV_CREDENTIAL_SOURCE *chain;
    const char *which, *remedy;
    void *arg;
    KMSENV_LOCK *lock;                 /* of what follows */
    KMSENV_CREDENTIAL *current;        /* NULL = none yet */
    int loading;                       /* a thread is at it ... */
    unsigned generation;               /* ... of this process: a fork() leaves it behind */
    unsigned rounds;                   /* how often loading ended */
    uint64_t not_before_ms;            /* no early refresh before this */
    KMSENV_ERROR last;                 /* how the last round ended */
};

/* --- one set -------------------------------------------------------------- */

void kmsenv_credential_reset(KMSENV_CREDENTIAL *c)
{
    OPENSSL_free(c->id);
    kmsenv_secret_free(c->secret);
    kmsenv_secret_free(c->token);
    kmsenv_signer_free(c->signer);
    memset(c, 0, sizeof(*c));
}

static void credential_free(KMSENV_CREDENTIAL *c)
{
    if (c == NULL)
        return;
    kmsenv_credential_reset(c);
    OPENSSL_free(c);
}

static int copy_secret(char **to, const char *text)
{
    return text == NULL || (*to = kmsenv_secret_strndup(text, strlen(text))) != NULL;
}

int kmsenv_credential_set(KMSENV_CREDENTIAL *c, const char *id, const char *secret, const char *token, int64_t expires,
                          KMSENV_ERROR *err)
{
    c->expires = expires;
    if ((c->id = OPENSSL_strdup(id)) != NULL && copy_secret(&c->secret, secret) && copy_secret(&c->token, token))
        return 1;
    return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for credentials");
}

/* A new set is wanted 300 s before the end, or at half time if it does not live that long. */
static void set_refresh(KMSENV_CREDENTIAL *c, int64_t now)
{
    int64_t half = now + (c->expires - now) / 2;

    c->refresh = c->expires == 0 ? INT64_MAX : c->expires - REFRESH_EARLY > half ? c->expires - REFRESH_EARLY : half;
}

/* --- the chain ------------------------------------------------------------ */

/* Appends why a source had nothing to the list of what was tried. One that was chosen may say all of it. */
static void note_absent(KMSENV_BUFFER *tried, const char *name, int only, const KMSENV_ERROR *err)
{
    kmsenv_buffer_printf(tried, "%s%s: %.*s", tried->length == 0 ? "" : "; ", name, only ? 300 : 90, err->text);
}

static int load_chain(const KMSENV_CREDENTIALS *c, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    const KMSENV_CREDENTIAL_SOURCE *source;
    KMSENV_BUFFER tried;
    int found = KMSENV_SOURCE_ABSENT;

    kmsenv_buffer_init(&tried, KMSENV_ERROR_TEXT_MAX, 0);
    for (source = c->chain; found == KMSENV_SOURCE_ABSENT && source->name != NULL; source++) {
        if (strcmp(c->which, "auto") != 0 && strcmp(c->which, source->name) != 0)
            continue;
        kmsenv_error_clear(err);
        found = source->load(c->arg, now, deadline_ms, out, err);
        if (found == KMSENV_SOURCE_ABSENT)
            note_absent(&tried, source->name, strcmp(c->which, "auto") != 0, err);
        else if (found == KMSENV_SOURCE_FAILED)
            kmsenv_error_prefix(err, "credentials from %s: ", source->name);
    }
    if (found == KMSENV_SOURCE_ABSENT)
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "no credentials; %s. Tried: %s", c->remedy, kmsenv_buffer_text(&tried));
    kmsenv_buffer_reset(&tried);
    return found == KMSENV_SOURCE_FOUND;
}

static KMSENV_CREDENTIAL *load_new(const KMSENV_CREDENTIALS *c, int64_t now, uint64_t deadline_ms, KMSENV_ERROR *err)
{
    KMSENV_CREDENTIAL *fresh = OPENSSL_zalloc(sizeof(*fresh));

    if (fresh == NULL) {
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for credentials");
        return NULL;
    }
    fresh->references = 1;
    if (!load_chain(c, now, deadline_ms, fresh, err)) {
        credential_free(fresh);
        return NULL;
    }
    if (fresh->expires != 0 && fresh->expires <= now) {
        credential_free(fresh);
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "the credentials just obtained have already expired; check this machine's clock");
        return NULL;
    }
    set_refresh(fresh, now);
    return fresh;
}

/* --- keeping them --------------------------------------------------------- */

KMSENV_CREDENTIALS *kmsenv_credentials_new(const KMSENV_CREDENTIAL_SOURCE *chain, const char *which, const char *remedy,
                                           void *arg)
{
    KMSENV_CREDENTIALS *c = OPENSSL_zalloc(sizeof(*c));

    if (c == NULL)
        return NULL;
    c->chain = chain;
    c->which = which;
    c->remedy = remedy;
    c->arg = arg;
    if ((c->lock = kmsenv_lock_new(KMSENV_LEVEL_KMS)) != NULL)
        return c;
    OPENSSL_free(c);
    return NULL;
}

void kmsenv_credentials_free(KMSENV_CREDENTIALS *c)
{
    if (c == NULL)
        return;
    credential_free(c->current);
    kmsenv_lock_free(c->lock);
    OPENSSL_free(c);
}

/* Under the lock. */
static KMSENV_CREDENTIAL *reference(KMSENV_CREDENTIAL *credential)
{
    credential->references++;
    return credential;
}

/* Under the lock. Takes the reference away; what is to be freed, without the lock, is returned. */
static KMSENV_CREDENTIAL *unreference(KMSENV_CREDENTIAL *credential)
{
    return credential != NULL && --credential->references == 0 ? credential : NULL;
}

void kmsenv_credential_release(KMSENV_CREDENTIALS *c, KMSENV_CREDENTIAL *credential)
{
    KMSENV_CREDENTIAL *dead;

    if (credential == NULL)
        return;
    kmsenv_lock_take(c->lock);
    dead = unreference(credential);
    kmsenv_lock_release(c->lock);
    credential_free(dead);
}

void kmsenv_credentials_forget(KMSENV_CREDENTIALS *c, const KMSENV_CREDENTIAL *credential)
{
    KMSENV_CREDENTIAL *dead = NULL;

    kmsenv_lock_take(c->lock);
    if (c->current == credential) {
        dead = unreference(c->current);
        c->current = NULL;
    }
    kmsenv_lock_release(c->lock);
    credential_free(dead);
}

static int is_usable(const KMSENV_CREDENTIAL *c, const KMSENV_CREDENTIAL *rejected, int64_t now)
{
    return c != NULL && c != rejected && (c->expires == 0 || now < c->expires);
}

static int is_loading(const KMSENV_CREDENTIALS *c)
{
    return c->loading && c->generation == kmsenv_fork_generation();
}

/* Under the lock. Waits for the thread that is loading; 0 with err if that fails or takes too long. */
static int wait_for_loader(KMSENV_CREDENTIALS *c, uint64_t deadline_ms, KMSENV_ERROR *err)
{
    unsigned round = c->rounds;

    while (is_loading(c) && c->rounds == round)
        if (!kmsenv_lock_wait(c->lock, deadline_ms))
            return kmsenv_error_set(err, KMSENV_R_KMS_UNREACHABLE, "timed out waiting for credentials that another thread is getting");
    if (c->rounds != round && c->last.reason != KMSENV_R_NONE) {
        *err = c->last;
        return 0;
    }
    return 1;
}

/* Under the lock, which is released meanwhile. Loads a new set; on failure the old one may do. */
static KMSENV_CREDENTIAL *refresh(KMSENV_CREDENTIALS *c, const KMSENV_CREDENTIAL *rejected, int64_t now,
                                  uint64_t deadline_ms, KMSENV_ERROR *err)
{
    KMSENV_CREDENTIAL *fresh, *dead = NULL, *result = NULL;
    uint64_t start = kmsenv_clock_ms();

    if (is_usable(c->current, rejected, now) && deadline_ms > start)
        deadline_ms = start + (deadline_ms - start) / 2;   /* leave time for the call itself, with the old set */
    c->loading = 1;
    c->generation = kmsenv_fork_generation();
    kmsenv_lock_release(c->lock);
    fresh = load_new(c, now, deadline_ms, err);
    kmsenv_lock_take(c->lock);
    c->loading = 0;
    c->rounds++;
    kmsenv_error_clear(&c->last);
    if (fresh != NULL) {
        dead = unreference(c->current);
        c->current = fresh;
    } else {
        c->last = *err;
        c->not_before_ms = kmsenv_clock_ms() + RETRY_PAUSE;
    }
    if (fresh != NULL || is_usable(c->current, rejected, now)) {
        result = reference(c->current);
        kmsenv_error_clear(err);
    }
    kmsenv_lock_wake(c->lock);
    kmsenv_lock_release(c->lock);
    credential_free(dead);
    kmsenv_lock_take(c->lock);
    return result;
}

KMSENV_CREDENTIAL *kmsenv_credentials_get1(KMSENV_CREDENTIALS *c, const KMSENV_CREDENTIAL *rejected, int64_t now,
                                           uint64_t deadline_ms, KMSENV_ERROR *err)
{
    KMSENV_CREDENTIAL *result = NULL;
    int usable;

    kmsenv_lock_take(c->lock);
    for (;;) {
        usable = is_usable(c->current, rejected, now);
        if (usable && (now < c->current->refresh || is_loading(c) || kmsenv_clock_ms() < c->not_before_ms)) {
            result = reference(c->current);
            break;
        }
        if (!is_loading(c)) {
            result = refresh(c, rejected, now, deadline_ms, err);
            break;
        }
        if (!wait_for_loader(c, deadline_ms, err))
            break;
    }
    kmsenv_lock_release(c->lock);
    return result;
}
