/* Periods of time as people write them: "250ms", "30s", "1.5h", "1d12h". Pure. */
#ifndef REDLANE_CORE_DURATION_H
#define REDLANE_CORE_DURATION_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
    REDLANE_DURATION_OK,
    REDLANE_DURATION_SYNTAX,
    REDLANE_DURATION_TOO_LONG, /* more than int64 milliseconds */
} RedlaneDuration;

/* One or more numbers, each with its unit behind it: w, d, h, m, s, ms, from the
 * largest to the smallest, each at most once, nothing between them. A number may have a
 * fraction. Rounded to the millisecond; what is not zero never becomes zero. */
RedlaneDuration redlane_duration_parse(const char *text, size_t size,
                                       int64_t *milliseconds);

#endif
