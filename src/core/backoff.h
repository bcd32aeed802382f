/* Exponential backoff with full jitter: each wait is drawn evenly from [0, ceiling],
 * and the ceiling doubles up to a cap. (Source: M. Brooker, "Exponential Backoff And
 * Jitter", AWS Architecture Blog, 2015.)
 *
 * Plain data with its own random state; no lock, no GIL: the owner sees to that. */
#ifndef REDLANE_CORE_BACKOFF_H
#define REDLANE_CORE_BACKOFF_H

#include <stdint.h>

#include "core/clock.h"

#define REDLANE_HOLD_MOST (300 * REDLANE_NS_PER_S)

typedef struct {
    uint64_t random;   /* splitmix64 state */
    int64_t first;     /* ns, the first ceiling, > 0 */
    int64_t cap;       /* ns, the last ceiling, >= first */
    unsigned attempts; /* waits drawn since the last reset */
} RedlaneBackoff;

void redlane_backoff_init(RedlaneBackoff *backoff, int64_t first, int64_t cap,
                          uint64_t seed);

/* The next wait in ns. Never 0: a quarter of the ceiling's first step is the floor, so
 * that an unlucky draw does not become a tight loop. */
int64_t redlane_backoff_next(RedlaneBackoff *backoff);

/* Back to the first ceiling; the random state goes on. */
void redlane_backoff_reset(RedlaneBackoff *backoff);

/* For how long, in ns, a server that is over its quota is left alone after so many
 * failures: 1, 2, 4 s … up to REDLANE_HOLD_MOST. */
int64_t redlane_backoff_hold(uint64_t failed);

#endif
