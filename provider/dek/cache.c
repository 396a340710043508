#include <string.h>
#include <openssl/crypto.h>
#include <openssl/lhash.h>
#include "core/clock.h"
#include "core/lock.h"
#include "core/secret.h"
#include "dek/cache.h"
#include "kms/kms.h"

#define RETRY_MS        1000      /* between tries to replace a key that is still usable */
#define WAIT_MS         600000    /* bound of one wait for another thread's load; loads have deadlines of their own */

typedef struct entry_st {
    unsigned char *bytes;
    size_t len;
    uint64_t hash;
    KMSENV_DEK *dek;              /* NULL: none yet, or refused */
    uint64_t loaded_ms;
    uint64_t retry_ms;            /* not before this is a usable key replaced again */
    uint64_t refused_until_ms;
    uint64_t failed_until_ms;
    KMSENV_ERROR error;           /* of the last load, if it failed */
    unsigned flights;             /* loads finished, so that waiters know theirs is over */
    int loading;                  /* somebody loads ... */
    unsigned generation;          /* ... in this fork generation; a loader of the parent does not exist here */
    int pins;                     /* threads inside kmsenv_cache_get() with this entry */
    struct entry_st *newer, *older;
} ENTRY;

DEFINE_LHASH_OF(ENTRY);

struct kmsenv_cache_st {
    KMSENV_CACHE_POLICY policy;
    KMSENV_COUNTERS *counters;
    KMSENV_LOCK *lock;
    LHASH_OF(ENTRY) *table;
    size_t count;
    ENTRY *newest, *oldest;
};

typedef enum { USABLE, AGING, SPENT, EMPTY } CONDITION;

static unsigned long entry_hash(const ENTRY *e)
{
    return (unsigned long)e->hash;
}

static int entry_cmp(const ENTRY *a, const ENTRY *b)
{
    return a->len != b->len || memcmp(a->bytes, b->bytes, a->len) != 0;
}

KMSENV_CACHE *kmsenv_cache_new(const KMSENV_CACHE_POLICY *policy, KMSENV_COUNTERS *counters)
{
    KMSENV_CACHE *c = OPENSSL_zalloc(sizeof(*c));

    if (c == NULL)
        return NULL;
    kmsenv_secret_prepare();
    c->policy = *policy;
    c->counters = counters;
    c->lock = kmsenv_lock_new(KMSENV_LEVEL_CACHE);
    c->table = lh_ENTRY_new(entry_hash, entry_cmp);
    if (c->lock == NULL || c->table == NULL) {
        kmsenv_cache_free(c);
        return NULL;
    }
    return c;
}

static void entry_free(ENTRY *e)
{
    kmsenv_dek_free(e->dek);
    OPENSSL_free(e->bytes);
    OPENSSL_free(e);
}

void kmsenv_cache_free(KMSENV_CACHE *cache)
{
    ENTRY *e, *older;

    if (cache == NULL)
        return;
    for (e = cache->newest; e != NULL; e = older) {
        older = e->older;
        entry_free(e);
    }
    lh_ENTRY_free(cache->table);
    kmsenv_lock_free(cache->lock);
    OPENSSL_free(cache);
}

/* --- the list, newest use first ------------------------------------------- */

static void list_remove(KMSENV_CACHE *c, ENTRY *e)
{
    *(e->newer != NULL ? &e->newer->older : &c->newest) = e->older;
    *(e->older != NULL ? &e->older->newer : &c->oldest) = e->newer;
}

static void list_add_newest(KMSENV_CACHE *c, ENTRY *e)
{
    e->newer = NULL;
    e->older = c->newest;
    *(e->older != NULL ? &e->older->newer : &c->oldest) = e;
    c->newest = e;
}

static void list_add_oldest(KMSENV_CACHE *c, ENTRY *e)
{
    e->older = NULL;
    e->newer = c->oldest;
    *(e->newer != NULL ? &e->newer->older : &c->newest) = e;
    c->oldest = e;
}

/* The counter is for all caches of a provider: each adds what is its own, modulo 2^64. */
static void count_entries(KMSENV_CACHE *c, int more)
{
    c->count += (size_t)more;
    kmsenv_count(c->counters, KMSENV_COUNTER_CACHE_ENTRIES, (uint64_t)(int64_t)more);
}

static void drop(KMSENV_CACHE *c, ENTRY *e)
{
    list_remove(c, e);
    lh_ENTRY_delete(c->table, e);
    entry_free(e);
    count_entries(c, -1);
}

/* Makes room for one more. Entries that threads are using stay, even beyond the limit. */
static void evict(KMSENV_CACHE *c)
{
    ENTRY *e = c->oldest, *newer;

    for (; e != NULL && c->count >= c->policy.entries; e = newer) {
        newer = e->newer;
        if (e->pins == 0)
            drop(c, e);
    }
}

static ENTRY *entry_add(KMSENV_CACHE *c, const KMSENV_CACHE_KEY *key)
{
    ENTRY *e = OPENSSL_zalloc(sizeof(*e));

    if (e == NULL || (e->bytes = OPENSSL_memdup(key->bytes, key->len)) == NULL) {
        OPENSSL_free(e);
        return NULL;
    }
    e->len = key->len;
    e->hash = key->hash;
    evict(c);
    lh_ENTRY_insert(c->table, e);
    if (lh_ENTRY_error(c->table)) {
        entry_free(e);
        return NULL;
    }
    /* Until it holds a key it is the first to go: garbage must not push good keys out. */
    list_add_oldest(c, e);
    count_entries(c, 1);
    return e;
}

/* --- judging -------------------------------------------------------------- */

/* The coarse clock may lag behind the exact one that stamped the load. */
static uint64_t age_of(const ENTRY *e, uint64_t now)
{
    return now > e->loaded_ms ? now - e->loaded_ms : 0;
}

static uint64_t aging_ms(const KMSENV_CACHE *c)
{
    return c->policy.no_refresh_ahead ? c->policy.max_age_ms : c->policy.max_age_ms / 5 * 4;
}

static CONDITION condition_of(const KMSENV_CACHE *c, const ENTRY *e, int limited, uint64_t now)
{
    uint64_t age = age_of(e, now);

    if (e->dek == NULL)
        return EMPTY;
    if (age >= c->policy.max_age_ms)
        return SPENT;
    if (limited && kmsenv_dek_is_spent(e->dek))
        return SPENT;
    return age >= aging_ms(c) ? AGING : USABLE;
}

static int within_grace(const KMSENV_CACHE *c, const ENTRY *e, uint64_t now)
{
    return e->dek != NULL && c->policy.grace_ms > 0
        && age_of(e, now) < c->policy.max_age_ms + c->policy.grace_ms;
}

/* Lets go of keys that will not be used again: memory is not the place to keep them. */
static void purge(KMSENV_CACHE *c, uint64_t now)
{
    ENTRY *e = c->oldest, *newer;

    for (; e != NULL; e = newer) {
        newer = e->newer;
        if (e->pins == 0 && now >= e->refused_until_ms && age_of(e, now) >= c->policy.max_age_ms + c->policy.grace_ms)
            drop(c, e);
    }
}

static int is_loading(const ENTRY *e)
{
    return e->loading && e->generation == kmsenv_fork_generation();
}

static KMSENV_DEK *use(KMSENV_CACHE *c, ENTRY *e, const KMSENV_CACHE_KEY *key)
{
    if (c->newest != e) {
        list_remove(c, e);
        list_add_newest(c, e);
    }
    if (e->dek != key->have)
        kmsenv_dek_up_ref(e->dek);
    return e->dek;
}

/* --- loading -------------------------------------------------------------- */

static void take_loaded(const KMSENV_CACHE *c, ENTRY *e, KMSENV_DEK *dek, uint64_t now, KMSENV_DEK **old)
{
    kmsenv_dek_grant(dek, now + aging_ms(c), c->policy.max_messages, c->policy.max_bytes);
    *old = e->dek;
    e->dek = dek;
    e->loaded_ms = now;
    e->retry_ms = 0;
    e->refused_until_ms = 0;
    kmsenv_error_clear(&e->error);
}

static void take_failure(KMSENV_CACHE *c, ENTRY *e, const KMSENV_ERROR *err, uint64_t now, KMSENV_DEK **old)
{
    e->error = *err;
    e->retry_ms = now + RETRY_MS;
    e->failed_until_ms = c->policy.failure_ms == 0 ? 0 : now + c->policy.failure_ms;
    if (!kmsenv_reason_is_refusal(err->reason))
        return;
    *old = e->dek;
    e->dek = NULL;
    /* Not just now + 0: the coarse clock that this is compared with lags behind. */
    e->refused_until_ms = c->policy.negative_ms == 0 ? 0 : now + c->policy.negative_ms;
    list_remove(c, e);
    list_add_oldest(c, e);
}

/* Loads with the lock released. Called and left with the lock held. *old: a replaced key, to be freed without the lock. */
static void fly(KMSENV_CACHE *c, ENTRY *e, KMSENV_CACHE_LOAD *load, void *arg, KMSENV_DEK **old)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_DEK *dek;
    uint64_t now;

    e->loading = 1;
    e->generation = kmsenv_fork_generation();
    kmsenv_lock_release(c->lock);
    dek = load(arg, &err);
    now = kmsenv_clock_ms();
    kmsenv_lock_take(c->lock);
    e->loading = 0;
    e->flights++;
    if (dek != NULL)
        take_loaded(c, e, dek, now, old);
    else
        take_failure(c, e, &err, now, old);
    purge(c, now);
    if (*old != NULL)
        kmsenv_dek_revoke(*old);
    kmsenv_lock_wake(c->lock);
}

/* Takes a message off a limited key; 0 if somebody else took the last one. */
static int take_message(const ENTRY *e, const KMSENV_CACHE_KEY *key)
{
    return !key->limited || kmsenv_dek_take_message(e->dek);
}

/* After a flight: may what there is serve, be it the old key? NULL with no reason in err: look again. */
static KMSENV_DEK *fall_back(KMSENV_CACHE *c, ENTRY *e, const KMSENV_CACHE_KEY *key, KMSENV_ERROR *err)
{
    uint64_t now = kmsenv_clock_ms();
    CONDITION condition = condition_of(c, e, key->limited, now);

    kmsenv_error_clear(err);
    if (condition == USABLE || condition == AGING)
        return take_message(e, key) ? use(c, e, key) : NULL;
    if (kmsenv_reason_is_unreachable(e->error.reason) && within_grace(c, e, now)) {
        kmsenv_count(c->counters, KMSENV_COUNTER_GRACE_USES, 1);
        return use(c, e, key);
    }
    *err = e->error;
    return NULL;
}

/* One look, with the lock held and the entry pinned. NULL with no reason in err: look again. */
static KMSENV_DEK *look(KMSENV_CACHE *c, ENTRY *e, const KMSENV_CACHE_KEY *key, KMSENV_CACHE_LOAD *load, void *arg,
                        KMSENV_DEK **old, KMSENV_ERROR *err)
{
    uint64_t now = kmsenv_clock_ms();
    CONDITION condition = condition_of(c, e, key->limited, now);
    unsigned flights = e->flights;

    if (condition == USABLE || (condition == AGING && (is_loading(e) || now < e->retry_ms || kmsenv_kms_thread_is_inside()))) {
        if (!take_message(e, key))
            return NULL;
        kmsenv_count(c->counters, KMSENV_COUNTER_CACHE_HITS, 1);
        return use(c, e, key);
    }
    if (now < e->refused_until_ms || (condition >= SPENT && now < e->failed_until_ms && !within_grace(c, e, now))) {
        kmsenv_count(c->counters, KMSENV_COUNTER_REFUSALS_CACHED, 1);
        *err = e->error;
        return NULL;
    }
    if (condition == SPENT && now < e->retry_ms && within_grace(c, e, now))
        return fall_back(c, e, key, err);
    if (kmsenv_kms_thread_is_inside()) {
        kmsenv_kms_set_reentered(err);
        return NULL;
    }
    if (!is_loading(e)) {
        kmsenv_count(c->counters, KMSENV_COUNTER_CACHE_MISSES, 1);
        fly(c, e, load, arg, old);
        return fall_back(c, e, key, err);
    }
    kmsenv_lock_wait(c->lock, now + WAIT_MS);
    if (e->flights != flights && condition_of(c, e, key->limited, kmsenv_clock_ms()) >= SPENT
            && e->error.reason != KMSENV_R_NONE)
        return fall_back(c, e, key, err);   /* the flight we waited for failed: its error is ours */
    return NULL;
}

/* The whole decision for one caller. replaced: room for a key to be freed once the lock is released. */
static KMSENV_DEK *get(KMSENV_CACHE *c, ENTRY *e, const KMSENV_CACHE_KEY *key, KMSENV_CACHE_LOAD *load, void *arg,
                       KMSENV_DEK **replaced, KMSENV_ERROR *err)
{
    KMSENV_DEK *dek, *old;

    kmsenv_error_clear(err);
    do {
        old = NULL;
        dek = look(c, e, key, load, arg, &old, err);
        if (old != NULL) {
            kmsenv_dek_free(*replaced);     /* a second flight for one caller: rare, and only a reference less */
            *replaced = old;
        }
    } while (dek == NULL && err->reason == KMSENV_R_NONE);
    return dek;
}

KMSENV_DEK *kmsenv_cache_get(KMSENV_CACHE *cache, const KMSENV_CACHE_KEY *key,
                             KMSENV_CACHE_LOAD *load, void *arg, KMSENV_ERROR *err)
{
    KMSENV_DEK *dek = NULL, *old = NULL;
    ENTRY pattern, *e;

    pattern.bytes = (unsigned char *)key->bytes;
    pattern.len = key->len;
    pattern.hash = key->hash;
    kmsenv_lock_take(cache->lock);
    e = lh_ENTRY_retrieve(cache->table, &pattern);
    if (e == NULL)
        e = entry_add(cache, key);
    if (e == NULL) {
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory to remember a data key");
    } else {
        e->pins++;
        dek = get(cache, e, key, load, arg, &old, err);
        e->pins--;
    }
    kmsenv_lock_release(cache->lock);
    kmsenv_dek_free(old);
    return dek;
}
