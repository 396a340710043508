#include <stddef.h>
#include "core/counters.h"

/* Which copy this thread adds to. Threads are spread in the order they come. */
static unsigned my_copy(void)
{
    static atomic_uint next;
    static _Thread_local unsigned mine;

    if (mine == 0)
        mine = atomic_fetch_add(&next, 1) % KMSENV_COUNTER_COPIES + 1;
    return mine - 1;
}

void kmsenv_count(KMSENV_COUNTERS *c, int which, uint64_t n)
{
    if (c != NULL)
        atomic_fetch_add_explicit(&c->copy[my_copy()].value[which], n, memory_order_relaxed);
}

void kmsenv_count_set(KMSENV_COUNTERS *c, int which, uint64_t n)
{
    if (c != NULL)
        atomic_store_explicit(&c->copy[0].value[which], n, memory_order_relaxed);
}

uint64_t kmsenv_count_read(const KMSENV_COUNTERS *c, int which)
{
    uint64_t sum = 0;
    size_t i;

    for (i = 0; i < KMSENV_COUNTER_COPIES; i++)
        sum += atomic_load_explicit(&c->copy[i].value[which], memory_order_relaxed);
    return sum;
}
