/* Time. Milliseconds of the monotonic clock for ages and deadlines, Unix seconds for signatures. */
#ifndef KMSENV_CORE_CLOCK_H
# define KMSENV_CORE_CLOCK_H
# include <stdint.h>

uint64_t kmsenv_clock_ms(void);         /* CLOCK_MONOTONIC, exact */
uint64_t kmsenv_clock_coarse_ms(void);  /* CLOCK_MONOTONIC_COARSE: about 4 ms granular, 3 ns a call */
int64_t kmsenv_clock_unix(void);        /* CLOCK_REALTIME, seconds */
void kmsenv_clock_sleep_ms(uint64_t ms);

#endif
