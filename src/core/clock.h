/* Clocks. All deadlines are int64_t nanoseconds of CLOCK_MONOTONIC. */
#ifndef REDLANE_CORE_CLOCK_H
#define REDLANE_CORE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define REDLANE_NS_PER_S INT64_C(1000000000)
#define REDLANE_NS_PER_MS INT64_C(1000000)
#define REDLANE_NEVER INT64_MAX

#ifdef CLOCK_MONOTONIC_COARSE
#define REDLANE_CLOCK_COARSE CLOCK_MONOTONIC_COARSE
#else
#define REDLANE_CLOCK_COARSE CLOCK_MONOTONIC
#endif

/* The coarse clock is behind the exact one by no more than this (a kernel tick at
 * 100 Hz, the slowest that distributions ship). */
#define REDLANE_COARSE_TICK (10 * REDLANE_NS_PER_MS)

static inline int64_t
redlane_clock_read(clockid_t clock)
{
    struct timespec now;

    (void)clock_gettime(clock, &now); /* cannot fail for these clocks */
    return (int64_t)now.tv_sec * REDLANE_NS_PER_S + now.tv_nsec;
}

/* Exact, about 20 ns. */
static inline int64_t
redlane_clock_now(void)
{
    return redlane_clock_read(CLOCK_MONOTONIC);
}

/* About 3 ns, up to one tick late. */
static inline int64_t
redlane_clock_coarse(void)
{
    return redlane_clock_read(REDLANE_CLOCK_COARSE);
}

/* Unix time in milliseconds, as Redis keeps it. */
static inline int64_t
redlane_clock_unix_ms(void)
{
    return redlane_clock_read(CLOCK_REALTIME) / REDLANE_NS_PER_MS;
}

/* True when `deadline` has passed; exact, but reads the exact clock only near it. */
static inline int
redlane_clock_passed(int64_t deadline)
{
    int64_t coarse;

    if (deadline == REDLANE_NEVER) {
        return 0;
    }
    coarse = redlane_clock_coarse();
    if (coarse >= deadline) {
        return 1;
    }
    if (deadline - coarse > REDLANE_COARSE_TICK) {
        return 0;
    }
    return redlane_clock_now() >= deadline;
}

#endif
