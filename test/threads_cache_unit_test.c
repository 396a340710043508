/*
 * The cache of data keys (dek/cache.h) with loaders of the test's own: what is loaded, when, how
 * often and by how many. Ages are real, in tens of milliseconds; where a slow machine could be late,
 * the test asks what must hold whatever the time.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "testutil.h"
#include "core/clock.h"
#include "core/secret.h"
#include "dek/cache.h"
#include "kms/apart.h"

#define FOREVER 3600000

static KMSENV_CRYPTO *crypto;

/* What a loader does next, and what it did. */
typedef struct source_st {
    atomic_int loads;
    atomic_int running, most;        /* loads at the same time */
    int reason;                      /* fail with it; KMSENV_R_NONE = succeed */
    unsigned slow_ms;
    unsigned char seed;              /* of the DEK; the loads so far are added */
} SOURCE;

static KMSENV_DEK *make_dek(unsigned char seed, KMSENV_ERROR *err)
{
    KMSENV_DATA_KEY *key = kmsenv_data_key_new();
    unsigned char *secret = kmsenv_secret_zalloc(KMSENV_DEK_LEN_MAX);
    KMSENV_DEK *dek = NULL;

    if (key != NULL && secret != NULL) {
        memset(secret, seed, 32);
        key->length = 32;
        if (kmsenv_dek_id_of(crypto, secret, 32, key->id, err)) {
            dek = kmsenv_dek_new(crypto, key, secret, err);
            secret = NULL;
        }
    }
    kmsenv_secret_free(secret);
    kmsenv_data_key_free(key);
    return dek;
}

static KMSENV_DEK *load(void *arg, KMSENV_ERROR *err)
{
    SOURCE *s = arg;
    int running = atomic_fetch_add(&s->running, 1) + 1, most = atomic_load(&s->most), n;
    KMSENV_DEK *dek = NULL;

    while (running > most && !atomic_compare_exchange_weak(&s->most, &most, running))
        ;
    n = atomic_fetch_add(&s->loads, 1);
    if (s->slow_ms > 0)
        usleep(s->slow_ms * 1000);
    if (s->reason == KMSENV_R_NONE)
        dek = make_dek((unsigned char)(s->seed + n), err);
    else
        kmsenv_error_set(err, s->reason, "made to fail");
    atomic_fetch_sub(&s->running, 1);
    return dek;
}

static KMSENV_CACHE *cache_with(size_t entries, uint64_t max_age, uint64_t grace, uint64_t negative, uint64_t messages)
{
    KMSENV_CACHE_POLICY policy = { entries, max_age, grace, negative, messages, UINT64_MAX };

    return kmsenv_cache_new(&policy, NULL);
}

static KMSENV_DEK *get_dek(KMSENV_CACHE *cache, const char *name, int limited, SOURCE *s, KMSENV_ERROR *err)
{
    KMSENV_CACHE_KEY key = { (const unsigned char *)name, strlen(name), (uint64_t)name[0], limited };

    kmsenv_error_clear(err);
    return kmsenv_cache_get(cache, &key, load, s, err);
}

/* Got one, and s has been asked so many times by now? */
static int got(KMSENV_CACHE *cache, const char *name, int limited, SOURCE *s, int loads)
{
    KMSENV_ERROR err;
    KMSENV_DEK *dek = get_dek(cache, name, limited, s, &err);
    int ok = TEST_ptr(dek) && TEST_int_eq(atomic_load(&s->loads), loads) && TEST_int_eq(err.reason, KMSENV_R_NONE);

    kmsenv_dek_free(dek);
    return ok;
}

static int failed(KMSENV_CACHE *cache, const char *name, SOURCE *s, int reason, int loads)
{
    KMSENV_ERROR err;
    KMSENV_DEK *dek = get_dek(cache, name, 0, s, &err);
    int ok = TEST_ptr_null(dek) && TEST_int_eq(err.reason, reason) && TEST_int_eq(atomic_load(&s->loads), loads);

    kmsenv_dek_free(dek);
    return ok;
}

static int test_hit(void)
{
    KMSENV_CACHE *c = cache_with(10, FOREVER, 0, 0, 1000);
    SOURCE a = { 0 }, b = { 0 };
    int ok = TEST_ptr(c) && got(c, "a", 0, &a, 1) && got(c, "a", 0, &a, 1) && got(c, "b", 0, &b, 1)
        && got(c, "a", 0, &a, 1) && got(c, "a2", 0, &a, 2);   /* the same hash, another name */

    kmsenv_cache_free(c);
    return ok;
}

/*
 * failure_ms: what cannot be had is not asked for again at once, whether there was a key before or not. Within the grace
 * the old key serves.
 */
static int test_failure_is_remembered(int with_grace)
{
    KMSENV_CACHE_POLICY policy = {
        .entries = 10, .max_age_ms = 30, .grace_ms = with_grace ? FOREVER : 0, .max_messages = 1000, .max_bytes = UINT64_MAX,
        .no_refresh_ahead = 1, .failure_ms = FOREVER
    };
    KMSENV_CACHE *c = kmsenv_cache_new(&policy, NULL);
    SOURCE a = { 0 }, b = { .reason = KMSENV_R_KMS_UNREACHABLE };
    int ok = TEST_ptr(c) && got(c, "a", 0, &a, 1)
        && failed(c, "b", &b, KMSENV_R_KMS_UNREACHABLE, 1) && failed(c, "b", &b, KMSENV_R_KMS_UNREACHABLE, 1);

    usleep(50000);
    a.reason = KMSENV_R_KMS_UNREACHABLE;
    if (with_grace)
        ok = ok && got(c, "a", 0, &a, 2) && got(c, "a", 0, &a, 2);
    else
        ok = ok && failed(c, "a", &a, KMSENV_R_KMS_UNREACHABLE, 2) && failed(c, "a", &a, KMSENV_R_KMS_UNREACHABLE, 2);
    kmsenv_cache_free(c);
    return ok;
}

/* The least recently used goes first. */
static int test_eviction(void)
{
    KMSENV_CACHE *c = cache_with(3, FOREVER, 0, 0, 1000);
    SOURCE s = { 0 };
    int ok = TEST_ptr(c) && got(c, "a", 0, &s, 1) && got(c, "b", 0, &s, 2) && got(c, "c", 0, &s, 3)
        && got(c, "a", 0, &s, 3)                              /* b is the oldest now */
        && got(c, "d", 0, &s, 4)
        && got(c, "a", 0, &s, 4) && got(c, "c", 0, &s, 4) && got(c, "d", 0, &s, 4)
        && got(c, "b", 0, &s, 5);

    kmsenv_cache_free(c);
    return ok;
}

/* What cannot be loaded does not push out what was. */
static int test_garbage_does_not_evict(void)
{
    KMSENV_CACHE *c = cache_with(3, FOREVER, 0, FOREVER, 1000);
    SOURCE good = { 0 }, bad = { .reason = KMSENV_R_KMS_WRAP_REJECTED };
    char name[16];
    int i, ok = TEST_ptr(c) && got(c, "a", 0, &good, 1) && got(c, "b", 0, &good, 2);

    for (i = 0; ok && i < 50; i++) {
        snprintf(name, sizeof(name), "x%d", i);
        ok = failed(c, name, &bad, KMSENV_R_KMS_WRAP_REJECTED, i + 1);
    }
    ok = ok && got(c, "a", 0, &good, 2) && got(c, "b", 0, &good, 2);
    kmsenv_cache_free(c);
    return ok;
}

/* A limited entry serves max_messages, then a new one is loaded; an entry that is not limited goes on. */
static int test_message_limit(void)
{
    KMSENV_CACHE *c = cache_with(10, FOREVER, 0, 0, 3);
    SOURCE a = { 0 }, b = { 0 };
    int i, ok = TEST_ptr(c);

    for (i = 0; ok && i < 12; i++)
        ok = got(c, "a", 1, &a, 1 + i / 3) && got(c, "b", 0, &b, 1);
    kmsenv_cache_free(c);
    return ok;
}

static int test_byte_limit(void)
{
    KMSENV_CACHE_POLICY policy = { 10, FOREVER, 0, 0, 1000, 100 };
    KMSENV_CACHE *c = kmsenv_cache_new(&policy, NULL);
    SOURCE s = { 0 };
    KMSENV_ERROR err;
    KMSENV_DEK *dek = c == NULL ? NULL : get_dek(c, "a", 1, &s, &err);
    int ok = TEST_ptr(dek);

    if (ok)
        kmsenv_dek_take_bytes(dek, 99);
    ok = ok && got(c, "a", 1, &s, 1);
    if (ok)
        kmsenv_dek_take_bytes(dek, 1);
    ok = ok && got(c, "a", 1, &s, 2);
    kmsenv_dek_free(dek);
    kmsenv_cache_free(c);
    return ok;
}

/* A caller that holds its key says so: it gets the same one without a reference. What is replaced can be used no longer. */
static int test_have(void)
{
    KMSENV_CACHE_POLICY policy = { 10, FOREVER, 0, 0, 1000, 100 };
    KMSENV_CACHE *c = kmsenv_cache_new(&policy, NULL);
    SOURCE s = { 0 };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_CACHE_KEY key = { (const unsigned char *)"a", 1, 'a', 1, NULL };
    KMSENV_DEK *mine = c == NULL ? NULL : kmsenv_cache_get(c, &key, load, &s, &err), *next = NULL;
    int ok = TEST_ptr(mine);

    key.have = mine;
    if (ok)
        kmsenv_dek_take_bytes(mine, 60);
    ok = ok && TEST_ptr_eq(kmsenv_cache_get(c, &key, load, &s, &err), mine);
    if (ok)
        kmsenv_dek_take_bytes(mine, 39);
    ok = ok && TEST_ptr_eq(kmsenv_cache_get(c, &key, load, &s, &err), mine) && TEST_int_eq(atomic_load(&s.loads), 1)
        && TEST_true(kmsenv_dek_is_granted(mine, kmsenv_clock_ms()));
    if (ok)
        kmsenv_dek_take_bytes(mine, 1);
    ok = ok && TEST_ptr(next = kmsenv_cache_get(c, &key, load, &s, &err)) && TEST_ptr_ne(next, mine)
        && TEST_int_eq(atomic_load(&s.loads), 2)
        && TEST_size_t_eq(kmsenv_dek_get_length(mine), 32)    /* replaced, and still ours ... */
        && TEST_false(kmsenv_dek_is_granted(mine, kmsenv_clock_ms()));
    if (ok) {                                                 /* ... but it is not what we get: that is a new reference */
        KMSENV_DEK *again = kmsenv_cache_get(c, &key, load, &s, &err);

        ok = TEST_ptr_eq(again, next) && TEST_int_eq(atomic_load(&s.loads), 2);
        kmsenv_dek_free(again);
    }
    kmsenv_dek_free(mine);
    kmsenv_dek_free(next);
    kmsenv_cache_free(c);
    return ok;
}

/* A grant is exact: so many messages, so many bytes, so long; and over when it is revoked. */
static int test_grant(void)
{
    SOURCE s = { 0 };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_DEK *dek = load(&s, &err);
    int ok = TEST_ptr(dek) && TEST_false(kmsenv_dek_is_granted(dek, 1));

    if (ok)
        kmsenv_dek_grant(dek, 1000, 2, 10);
    ok = ok && TEST_true(kmsenv_dek_is_granted(dek, 999)) && TEST_false(kmsenv_dek_is_granted(dek, 1000))
        && TEST_true(kmsenv_dek_take_message(dek)) && TEST_false(kmsenv_dek_is_spent(dek))
        && TEST_true(kmsenv_dek_take_message(dek)) && TEST_true(kmsenv_dek_is_spent(dek))
        && TEST_false(kmsenv_dek_take_message(dek));
    if (ok)
        kmsenv_dek_grant(dek, 1000, UINT64_MAX, UINT64_MAX);
    ok = ok && TEST_true(kmsenv_dek_take_message(dek)) && TEST_false(kmsenv_dek_is_spent(dek));
    if (ok)
        kmsenv_dek_revoke(dek);
    ok = ok && TEST_false(kmsenv_dek_is_granted(dek, 1));
    kmsenv_dek_free(dek);
    return ok;
}

/* Over age: loaded anew. Unreachable then: an error, for there is no grace. */
static int test_age(void)
{
    KMSENV_CACHE *c = cache_with(10, 40, 0, 0, 1000);
    SOURCE s = { 0 };
    int ok = TEST_ptr(c) && got(c, "a", 0, &s, 1);

    usleep(60000);
    ok = ok && got(c, "a", 0, &s, 2);
    usleep(60000);
    s.reason = KMSENV_R_KMS_UNREACHABLE;
    ok = ok && failed(c, "a", &s, KMSENV_R_KMS_UNREACHABLE, 3) && failed(c, "a", &s, KMSENV_R_KMS_UNREACHABLE, 4);
    s.reason = KMSENV_R_NONE;
    ok = ok && got(c, "a", 0, &s, 5);
    kmsenv_cache_free(c);
    return ok;
}

/* Grace: an over-age key serves while the KMS is unreachable, is not asked for at each use, and ends in the end. */
static int test_grace(void)
{
    KMSENV_CACHE *c = cache_with(10, 40, 1500, 0, 1000);
    SOURCE s = { 0 };
    KMSENV_ERROR err;
    KMSENV_DEK *dek;
    uint64_t start, spent = 0;
    int i, ok = TEST_ptr(c) && got(c, "a", 0, &s, 1);

    usleep(60000);
    s.reason = KMSENV_R_KMS_UNREACHABLE;
    start = kmsenv_clock_ms();
    for (i = 0; ok && i < 20 && spent < 500; i++) {   /* on a machine that stands still it may be over before */
        dek = get_dek(c, "a", 0, &s, &err);
        spent = kmsenv_clock_ms() - start;
        ok = spent >= 500 || (TEST_ptr(dek) && TEST_int_eq(atomic_load(&s.loads), 2));
        kmsenv_dek_free(dek);
    }
    usleep(1600000);
    i = atomic_load(&s.loads);
    ok = ok && failed(c, "a", &s, KMSENV_R_KMS_UNREACHABLE, i + 1);
    kmsenv_cache_free(c);
    return ok;
}

/* Throttled counts as unreachable; a refusal does not, and ends the use of the key at once. */
static int test_refusal_ends_use(void)
{
    KMSENV_CACHE *c = cache_with(10, 40, FOREVER, 1000, 1000);
    SOURCE s = { 0 };
    int ok = TEST_ptr(c) && got(c, "a", 0, &s, 1);

    usleep(60000);
    s.reason = KMSENV_R_KMS_THROTTLED;
    ok = ok && got(c, "a", 0, &s, 2);
    usleep(1100000);                                        /* past the pause between tries */
    s.reason = KMSENV_R_KMS_ACCESS_DENIED;
    ok = ok && failed(c, "a", &s, KMSENV_R_KMS_ACCESS_DENIED, 3)
        && failed(c, "a", &s, KMSENV_R_KMS_ACCESS_DENIED, 3);   /* remembered */
    s.reason = KMSENV_R_KMS_UNREACHABLE;                    /* the old key must not come back */
    usleep(1100000);
    ok = ok && failed(c, "a", &s, KMSENV_R_KMS_UNREACHABLE, 4);
    s.reason = KMSENV_R_NONE;
    ok = ok && got(c, "a", 0, &s, 5);
    kmsenv_cache_free(c);
    return ok;
}

/* negative_ms = 0: every call asks. */
static int test_no_negative_cache(void)
{
    KMSENV_CACHE *c = cache_with(10, FOREVER, 0, 0, 1000);
    SOURCE s = { .reason = KMSENV_R_KMS_KEY_DISABLED };
    int ok = TEST_ptr(c) && failed(c, "a", &s, KMSENV_R_KMS_KEY_DISABLED, 1)
        && failed(c, "a", &s, KMSENV_R_KMS_KEY_DISABLED, 2);

    s.reason = KMSENV_R_NONE;
    ok = ok && got(c, "a", 0, &s, 3);
    kmsenv_cache_free(c);
    return ok;
}

typedef struct worker_st {
    pthread_t thread;
    KMSENV_CACHE *cache;
    SOURCE *source;
    int uses, limited, fails;
    unsigned pause_us;
    const char *const *names;
} WORKER;

static void *work(void *arg)
{
    WORKER *w = arg;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_DEK *dek;
    int i;

    for (i = 0; i < w->uses; i++) {
        dek = get_dek(w->cache, w->names[i % 4], w->limited, w->source, &err);
        w->fails += dek == NULL;
        kmsenv_dek_free(dek);
        if (w->pause_us > 0)
            usleep(w->pause_us);
    }
    return NULL;
}

static int run_workers(WORKER *w, int n, const WORKER *like)
{
    int i, fails = 0;

    for (i = 0; i < n; i++) {
        w[i] = *like;
        if (!TEST_int_eq(pthread_create(&w[i].thread, NULL, work, &w[i]), 0))
            return -1;
    }
    for (i = 0; i < n; i++) {
        pthread_join(w[i].thread, NULL);
        fails += w[i].fails;
    }
    return fails;
}

static const char *const one_name[] = { "a", "a", "a", "a" };
static const char *const four_names[] = { "a", "b", "c", "d" };

/* Many threads miss on one key: one load. The same for a failure: all get its error. */
static int test_single_flight(int fail)
{
    KMSENV_CACHE *c = cache_with(10, FOREVER, 0, FOREVER, 1000);
    SOURCE s = { .slow_ms = 50 };
    WORKER w[12], like = { .cache = c, .source = &s, .uses = 1, .names = one_name };
    int ok;

    s.reason = fail ? KMSENV_R_KMS_ACCESS_DENIED : KMSENV_R_NONE;
    ok = TEST_ptr(c) && TEST_int_eq(run_workers(w, 12, &like), fail ? 12 : 0) && TEST_int_eq(atomic_load(&s.loads), 1);
    kmsenv_cache_free(c);
    return ok;
}

typedef struct inside_st {
    KMSENV_CACHE *cache;
    SOURCE source;                   /* of what is asked for while a key is loaded */
    int ok;
} INSIDE;

/* Where a KMS is called: of keys that are not there none is loaded, and none waited for. */
static void ask_inside(void *arg)
{
    INSIDE *i = arg;

    i->ok = failed(i->cache, "a", &i->source, KMSENV_R_KMS_REENTERED, 0)       /* the one that is being loaded */
        && failed(i->cache, "b", &i->source, KMSENV_R_KMS_REENTERED, 0)
        && got(i->cache, "here", 0, &i->source, 0);
}

static KMSENV_DEK *load_and_ask(void *arg, KMSENV_ERROR *err)
{
    return kmsenv_apart_run(ask_inside, arg) ? make_dek(1, err) : NULL;
}

static int test_inside_a_kms_call(void)
{
    static const KMSENV_CACHE_KEY key = { (const unsigned char *)"a", 1, 'a', 0 };
    INSIDE inside = { .cache = cache_with(10, FOREVER, 0, FOREVER, 1000) };
    SOURCE s = { 0 };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_DEK *dek;
    int ok = TEST_ptr(inside.cache) && got(inside.cache, "here", 0, &s, 1);

    dek = ok ? kmsenv_cache_get(inside.cache, &key, load_and_ask, &inside, &err) : NULL;
    ok = TEST_ptr(dek) && TEST_true(inside.ok) && got(inside.cache, "a", 0, &s, 1)
        && got(inside.cache, "b", 0, &s, 2);                /* that it was refused then is not remembered */
    kmsenv_dek_free(dek);
    kmsenv_cache_free(inside.cache);
    return ok;
}

/* Near its end a key is replaced by one caller; the others go on with the old one and do not wait. */
static int test_refresh_ahead(void)
{
    KMSENV_CACHE *c = cache_with(10, 1000, 0, 0, UINT64_MAX);
    SOURCE s = { 0 };
    WORKER w[4], like = { .cache = c, .source = &s, .uses = 300, .pause_us = 1000, .names = one_name };
    uint64_t start = kmsenv_clock_ms();
    int most, ok = TEST_ptr(c) && got(c, "a", 0, &s, 1);

    s.slow_ms = 100;
    usleep(850000);                                         /* 80 % have passed */
    ok = ok && TEST_int_eq(run_workers(w, 4, &like), 0);
    most = 2 + (int)((kmsenv_clock_ms() - start) / 800);
    ok = ok && TEST_int_eq(atomic_load(&s.most), 1)
        && TEST_int_ge(atomic_load(&s.loads), 2) && TEST_int_le(atomic_load(&s.loads), most);
    kmsenv_cache_free(c);
    return ok;
}

/* Eviction, expiry and limits all at once: nothing is freed under a user, and never two loads for one key. */
static int test_pressure(void)
{
    KMSENV_CACHE *c = cache_with(2, 20, 10, 5, 7);
    SOURCE s = { 0 };
    WORKER w[8], like = { .cache = c, .source = &s, .uses = 2000, .limited = 1, .names = four_names };
    int ok = TEST_ptr(c) && TEST_int_eq(run_workers(w, 8, &like), 0) && TEST_int_ge(atomic_load(&s.loads), 4)
        && TEST_int_le(atomic_load(&s.most), 4);

    kmsenv_cache_free(c);
    return ok;
}

/* The entries that are there are counted once each, in two caches at the same time, whatever the threads do meanwhile. */
static int test_entries_are_counted(void)
{
    static KMSENV_COUNTERS counters;
    KMSENV_CACHE_POLICY policy = { 3, FOREVER, 0, 0, 1000, UINT64_MAX }, small = { 1, FOREVER, 0, 0, 1000, UINT64_MAX };
    KMSENV_CACHE *one = kmsenv_cache_new(&policy, &counters), *two = kmsenv_cache_new(&small, &counters);
    SOURCE s = { .slow_ms = 20 };
    WORKER w[4];
    int i, ok = TEST_ptr(one) && TEST_ptr(two);

    for (i = 0; ok && i < 4; i++) {
        w[i] = (WORKER) { .cache = i % 2 ? one : two, .source = &s, .uses = 8, .names = four_names };
        ok = TEST_int_eq(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
    }
    while (i-- > 0)
        pthread_join(w[i].thread, NULL);
    /* one at a time now, so that what is beyond the limits goes */
    s.slow_ms = 0;
    ok = ok && got(one, "x", 0, &s, atomic_load(&s.loads) + 1) && got(two, "x", 0, &s, atomic_load(&s.loads) + 1)
        && TEST_int_eq((int)kmsenv_count_read(&counters, KMSENV_COUNTER_CACHE_ENTRIES), 4);
    kmsenv_cache_free(one);
    kmsenv_cache_free(two);
    return ok;
}

/* The key of an entry that was replaced or thrown out lives on with who holds it. */
static int test_references(void)
{
    KMSENV_CACHE *c = cache_with(1, FOREVER, 0, 0, 1);
    SOURCE s = { 0 };
    KMSENV_ERROR err;
    KMSENV_DEK *first = get_dek(c, "a", 1, &s, &err), *second = get_dek(c, "a", 1, &s, &err);
    KMSENV_DEK *third = get_dek(c, "b", 1, &s, &err);
    int ok = TEST_ptr(first) && TEST_ptr(second) && TEST_ptr(third) && TEST_int_eq(atomic_load(&s.loads), 3)
        && TEST_mem_ne(kmsenv_dek_get0_id(first), KMSENV_DEK_ID_LEN, kmsenv_dek_get0_id(second), KMSENV_DEK_ID_LEN);

    kmsenv_cache_free(c);
    ok = ok && TEST_size_t_eq(kmsenv_dek_get_length(first), 32) && TEST_size_t_eq(kmsenv_dek_get_length(third), 32);
    kmsenv_dek_free(first);
    kmsenv_dek_free(second);
    kmsenv_dek_free(third);
    return ok;
}

int setup_tests(void)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;

    if (!TEST_ptr(crypto = kmsenv_crypto_new(NULL, NULL, "default")) || !TEST_true(kmsenv_crypto_ready(crypto, &err)))
        return 0;
    ADD_TEST(test_hit);
    ADD_ALL_TESTS(test_failure_is_remembered, 2);
    ADD_TEST(test_entries_are_counted);
    ADD_TEST(test_eviction);
    ADD_TEST(test_garbage_does_not_evict);
    ADD_TEST(test_message_limit);
    ADD_TEST(test_byte_limit);
    ADD_TEST(test_have);
    ADD_TEST(test_grant);
    ADD_TEST(test_age);
    ADD_TEST(test_grace);
    ADD_TEST(test_refusal_ends_use);
    ADD_TEST(test_no_negative_cache);
    ADD_ALL_TESTS(test_single_flight, 2);
    ADD_TEST(test_inside_a_kms_call);
    ADD_TEST(test_refresh_ahead);
    ADD_TEST(test_pressure);
    ADD_TEST(test_references);
    return 1;
}

void cleanup_tests(void)
{
    kmsenv_crypto_free(crypto);
}
