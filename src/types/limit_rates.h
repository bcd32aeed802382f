/* Rates, worked out: what a RateLimiter's methods are given, as limits, as the
 * arguments of their script, and as the ends of their keys. Counted references, under
 * the GIL. */
#ifndef REDLANE_TYPES_LIMIT_RATES_H
#define REDLANE_TYPES_LIMIT_RATES_H

#include "core/limit.h"
#include "core/limit_rate.h"
#include "core/number.h"
#include "core/vector.h"
#include "py/python.h"

#define REDLANE_LIMIT_ARGS 6 /* of the script, for each limit */
#define REDLANE_LIMIT_NAME 64

typedef struct {
    size_t references;
    uint64_t number; /* a hash of what they say, whatever said it */
    size_t count;
    int64_t most; /* no cost above it is ever admitted */
    RedlaneLimit limits[REDLANE_LIMITS_MAX];
    char names[REDLANE_LIMITS_MAX][REDLANE_LIMIT_NAME]; /* the ends of tagged keys */
    size_t name_sizes[REDLANE_LIMITS_MAX];
    RedlaneArg argv[REDLANE_LIMITS_MAX][REDLANE_LIMIT_ARGS]; /* into `digits` */
    char digits[REDLANE_LIMITS_MAX][REDLANE_LIMIT_ARGS][REDLANE_INT64_TEXT];
} RedlaneRates;

#define REDLANE_RATES_KEPT 64 /* a power of two */

typedef struct {
    PyObject *texts[REDLANE_RATES_KEPT]; /* exact str */
    RedlaneRates *rates[REDLANE_RATES_KEPT];
} RedlaneRatesCache;

/* The rates that an object means: a text of the grammar, a (count, seconds) or (count,
 * seconds, burst) tuple, or a list of either; a new reference. ConfigurationError and
 * NULL for any other. `single`: limits of one window would share a key. */
RedlaneRates *redlane_rates_of(RedlaneState *state, RedlaneRatesCache *cache,
                               RedlaneLimitKind kind, bool single, PyObject *object);

static inline RedlaneRates *
redlane_rates_hold(RedlaneRates *rates)
{
    rates->references++;
    return rates;
}

static inline void
redlane_rates_release(RedlaneRates *rates)
{
    if (rates && --rates->references == 0) {
        PyMem_Free(rates);
    }
}

void redlane_rates_forget(RedlaneRatesCache *cache);

#endif
