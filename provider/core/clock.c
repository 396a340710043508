#include <errno.h>
#include <time.h>
#include "core/clock.h"

static uint64_t read_ms(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

uint64_t kmsenv_clock_ms(void)
{
    return read_ms(CLOCK_MONOTONIC);
}

uint64_t kmsenv_clock_coarse_ms(void)
{
    return read_ms(CLOCK_MONOTONIC_COARSE);
}

int64_t kmsenv_clock_unix(void)
{
    return (int64_t)time(NULL);
}

void kmsenv_clock_sleep_ms(uint64_t ms)
{
    struct timespec t = { (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 };

    while (nanosleep(&t, &t) != 0 && errno == EINTR)
        ;
}
