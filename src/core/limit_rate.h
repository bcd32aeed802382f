/* Rates as people write them: "5/minute", "10 per 2 hours; 1000/day", "10/second burst
 * 20". The grammar is that of the `limits` package, and a burst:
 *
 *   rates  = rate *((";" | "," | "|") rate)
 *   rate   = number ("/" | "per") [number] unit ["burst" number]
 *   unit   = second minute hour day week month (30 days) year (360 days), or their
 *            plurals, or s sec m min h hr d w
 *
 * Any case; space where no word is cut. Pure functions, no lock. */
#ifndef REDLANE_CORE_LIMIT_RATE_H
#define REDLANE_CORE_LIMIT_RATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REDLANE_RATE_TEXT_MAX 1000 /* bytes */

typedef struct {
    int64_t count;
    int64_t seconds;
    int64_t burst; /* 0: none was given */
} RedlaneRate;

typedef enum {
    REDLANE_RATE_OK,
    REDLANE_RATE_SYNTAX, /* not the grammar */
    REDLANE_RATE_RANGE,  /* a number is 0 or too large */
    REDLANE_RATE_MANY,   /* more than `most` */
} RedlaneRateVerdict;

/* Reads all of `text` into `rates`, which has room for `most`, those that are there
 * already left out, and tells their number; else where in the text it went wrong. */
RedlaneRateVerdict redlane_rates_parse(const char *text, size_t size,
                                       RedlaneRate *rates, size_t most, size_t *count,
                                       size_t *wrong);

/* Adds a rate to `count` of them, unless it is there. False: no room. */
bool redlane_rates_add(RedlaneRate *rates, size_t most, size_t *count,
                       const RedlaneRate *rate);

#endif
