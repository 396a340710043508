/* The provider's counters: one atomic 64-bit number each, readable as provider parameters. */
#ifndef KMSENV_CORE_COUNTERS_H
# define KMSENV_CORE_COUNTERS_H
# include <stdatomic.h>
# include <stdint.h>
# include "kmsenv/params.h"

enum {
# define KMSENV_COUNTER_ENUM(symbol, name, help) KMSENV_COUNTER_##symbol,
    KMSENV_COUNTERS(KMSENV_COUNTER_ENUM)
# undef KMSENV_COUNTER_ENUM
    KMSENV_COUNTER_COUNT
};

typedef struct kmsenv_counters_st { _Atomic uint64_t value[KMSENV_COUNTER_COUNT]; } KMSENV_COUNTERS;

static inline void kmsenv_count(KMSENV_COUNTERS *c, int which, uint64_t n)
{
    if (c != NULL)
        atomic_fetch_add_explicit(&c->value[which], n, memory_order_relaxed);
}

#endif
