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

/*
 * Each thread adds to one of a few copies, so that threads do not pass cache lines to and fro
 * with every message (measured: 8 % of a 1 KiB message with two threads). A reader adds them up.
 */
# define KMSENV_COUNTER_COPIES 8
# define KMSENV_COUNTER_LINE   64    /* bytes: of the CPU's cache */

typedef struct kmsenv_counters_st {
    struct {
        _Alignas(KMSENV_COUNTER_LINE) _Atomic uint64_t value[KMSENV_COUNTER_COUNT];
    } copy[KMSENV_COUNTER_COPIES];
} KMSENV_COUNTERS;

/* c may be NULL. */
void kmsenv_count(KMSENV_COUNTERS *c, int which, uint64_t n);
/* For what is a level and not a count. */
void kmsenv_count_set(KMSENV_COUNTERS *c, int which, uint64_t n);
uint64_t kmsenv_count_read(const KMSENV_COUNTERS *c, int which);

#endif
