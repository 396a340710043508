/*
 * Data keys kept for a while: least recently used out, one loader per missing key (single
 * flight), refresh ahead of expiry by one caller, and two clocks. No lock is held while a key
 * is loaded.
 *
 *   age < 80 % of max_age   used
 *   age < max_age           used; one caller loads a new one meanwhile
 *   older, or a limit hit   a new one is loaded first. If the KMS is unreachable, the old one is
 *                           used until age reaches max_age + grace
 *
 * A key that is used without asking carries a grant (dek/dek.h) for its messages and bytes, valid
 * for those 80 %. The limits are the grant's; the cache only judges it.
 *
 * A KMS that answers with a refusal ends the use of the old key at once, and the refusal is
 * remembered for negative_ms.
 */
#ifndef KMSENV_DEK_CACHE_H
# define KMSENV_DEK_CACHE_H
# include "core/counters.h"
# include "dek/dek.h"

typedef struct kmsenv_cache_st KMSENV_CACHE;

typedef struct kmsenv_cache_policy_st {
    size_t entries;            /* at most; 1 or more */
    uint64_t max_age_ms, grace_ms, negative_ms;
    uint64_t max_messages;     /* per DEK, for entries of kind LIMITED */
    uint64_t max_bytes;
    int no_refresh_ahead;      /* keys are used up to max_age, and loaded again by who comes then */
    uint64_t failure_ms;       /* how long a failure that is no refusal is remembered where there is no key that may serve; 0 = not */
} KMSENV_CACHE_POLICY;

/* What names an entry. bytes are compared in full; hash only finds the place. Borrowed during a call. */
typedef struct kmsenv_cache_key_st {
    const unsigned char *bytes;
    size_t len;
    uint64_t hash;
    int limited;               /* each use counts as a message; max_messages and max_bytes apply (DEKs for encryption) */
    KMSENV_DEK *have;          /* the DEK that the caller got last time and holds, or NULL */
} KMSENV_CACHE_KEY;

/* Makes the DEK of an entry: a new reference, or NULL with err filled. Called with no lock held. */
typedef KMSENV_DEK *KMSENV_CACHE_LOAD(void *arg, KMSENV_ERROR *err);

KMSENV_CACHE *kmsenv_cache_new(const KMSENV_CACHE_POLICY *policy, KMSENV_COUNTERS *counters);
void kmsenv_cache_free(KMSENV_CACHE *cache);
/* From the cache or loaded: a new reference, or key->have itself without one. NULL with err filled. */
KMSENV_DEK *kmsenv_cache_get(KMSENV_CACHE *cache, const KMSENV_CACHE_KEY *key,
                             KMSENV_CACHE_LOAD *load, void *arg, KMSENV_ERROR *err);

#endif
