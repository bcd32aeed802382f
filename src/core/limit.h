/* Rate limits as integer arithmetic: what a limit's state is, and what a hit of some
 * cost makes of it. The script in core/script_limits.c does the same on a server; both
 * give the same numbers for the same times, to the microsecond.
 *
 *   open ──▶ meter ──▶ retry (0: there is room) ──▶ add or refund ──▶ answer, close
 *
 *   fixed window    a count, under a key that names its window
 *   sliding window  the counts of this window and of the one before, which weighs as
 *                   much of itself as still lies within one window from now, rounded up
 *   sliding log     the time of each unit
 *   bucket          a debt that drains: the token bucket and GCRA. They are one
 *                   arithmetic: a bucket that lacks d tokens is a meter that holds d,
 *                   and the theoretical arrival time is when nothing will be left of it
 *
 * Times are Unix microseconds. All numbers stay within 2^53, where a server's Lua is
 * exact; no accepted limit, cost or time can overflow. Where a scale must be rounded
 * (more than 2^51 units in all), that is to the strict side.
 *
 * A state may be what another program wrote under the key: any numbers will do, and
 * count as the nearest that are possible.
 *
 * A clock that is set back gives nothing away and blocks no longer than a clock that
 * was right all the time could have: what lies in the future counts as of now.
 *
 * Pure functions, no lock. */
#ifndef REDLANE_CORE_LIMIT_H
#define REDLANE_CORE_LIMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REDLANE_LIMITS_MAX 8 /* that one call decides on */
#define REDLANE_LIMIT_COUNT_MAX INT64_C(1000000000)
#define REDLANE_LIMIT_LOG_MAX INT64_C(100000)        /* its state has a time for each */
#define REDLANE_LIMIT_SECONDS_MAX (INT64_C(1) << 31) /* 68 years */
#define REDLANE_LIMIT_TIME_MAX (INT64_C(1) << 52)    /* the year 2112 */

typedef enum {
    REDLANE_LIMIT_FIXED = 'f',
    REDLANE_LIMIT_SLIDING = 's',
    REDLANE_LIMIT_LOG = 'l',
    REDLANE_LIMIT_BUCKET = 'b',
} RedlaneLimitKind;

#define REDLANE_LIMIT_SPARE_MS 10 /* that a state is kept for longer than it counts */

typedef struct {
    RedlaneLimitKind kind;
    int64_t count;  /* so much is admitted ... */
    int64_t window; /* ... in so many microseconds */
    int64_t tick;   /* SLIDING: microseconds of one step of the weight */
    int64_t span;   /* SLIDING: steps of a window, rounded up */
    int64_t token;  /* BUCKET: debt that a unit of cost makes */
    int64_t drain;  /* BUCKET: debt that drains in a microsecond */
    int64_t burst;  /* BUCKET: so many units at once; else `count` */
} RedlaneLimit;

/* `burst` 0: not given. False where it is out of bounds: a count or window above the
 * constants, a burst for what is no bucket, a bucket that takes longer than 71 years to
 * drain. */
bool redlane_limit_init(RedlaneLimit *limit, RedlaneLimitKind kind, int64_t count,
                        int64_t seconds, int64_t burst);

/* The greatest cost that is ever admitted. */
static inline int64_t
redlane_limit_most(const RedlaneLimit *limit)
{
    return limit->burst;
}

/* What is kept between calls, but for a log; zeroed: nothing. */
typedef struct {
    int64_t index;    /* FIXED, SLIDING: Unix time / window */
    int64_t current;  /* units in that window; BUCKET: when the debt is gone */
    int64_t previous; /* in the one before; BUCKET: what is left of the debt then, less
                         than one microsecond drains */
} RedlaneLimitState;

/* One limit at one moment. */
typedef struct {
    const RedlaneLimit *limit; /* BORROWED */
    int64_t now;
    int64_t index, current, previous;
    int64_t phase; /* SLIDING: since its window began */
    int64_t left;  /* FIXED, SLIDING: until its window ends */
    int64_t used;  /* units; BUCKET: the debt */
    bool moved;  /* the clock was set back: to be closed even where nothing changes, or
                    what lies in the future would count until then */
    char *times; /* LOG: BORROWED, int64 each, oldest first, of any alignment */
    size_t gone; /* LOG: so many at the beginning of them count no more */
} RedlaneLimitMeter;

/* Of any kind but LOG; a FIXED state's index says which window the key names. */
void redlane_limit_open(RedlaneLimitMeter *meter, const RedlaneLimit *limit,
                        const RedlaneLimitState *state, int64_t now);

/* Of a LOG, with `count` times. Those in the future become `now`. */
void redlane_limit_open_log(RedlaneLimitMeter *meter, const RedlaneLimit *limit,
                            char *times, size_t count, int64_t now);

/* Microseconds until `cost` is admitted, if nothing comes between; 0: now. `cost` is 0
 * to redlane_limit_most. */
int64_t redlane_limit_retry(const RedlaneLimitMeter *meter, int64_t cost);

/* Charges what was admitted, or what was admitted elsewhere, to the limit's bound. A
 * LOG has room for it behind its times. */
void redlane_limit_add(RedlaneLimitMeter *meter, int64_t cost);

/* Gives back, the newest first, as much as there is. */
void redlane_limit_refund(RedlaneLimitMeter *meter, int64_t cost);

typedef struct {
    int64_t remaining; /* units */
    int64_t reset;     /* microseconds until nothing counts any more; FIXED: until the
                          window ends; 0: nothing counts now */
    int64_t retry;     /* redlane_limit_retry of the call's cost, before it */
} RedlaneLimitAnswer;

/* Fills remaining and reset. */
void redlane_limit_answer(const RedlaneLimitMeter *meter, RedlaneLimitAnswer *answer);

/* The state to be kept (not of a LOG, whose times are in place), and for how many
 * milliseconds: some more than are needed, for a server counts them from when it began
 * with the script. 0: nothing is to be kept. */
int64_t redlane_limit_close(const RedlaneLimitMeter *meter, RedlaneLimitState *state);

#endif
