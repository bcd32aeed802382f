/* What a limiter has taken from a server ahead of the hits that will spend it, for a
 * second at most: so that who hits very often costs few round trips. All of it was
 * charged when it was taken, so whatever becomes of it, no limit is passed.
 *
 *   a hit ──▶ the server says what it has left ──▶ the next hit takes a part of that in
 *   one round trip ──▶ those after it spend the part here, until it ends or is spent
 *
 * Bounded: 256 buckets of four, by identity; a fifth takes the place of one that is
 * spent, or else of what ends first.
 *
 * No lock: the limiter's, which is the GIL. Times are CLOCK_MONOTONIC ns. */
#ifndef REDLANE_CORE_LIMIT_AHEAD_H
#define REDLANE_CORE_LIMIT_AHEAD_H

#include "core/hash.h"
#include "core/limit.h"
#include "core/vector.h"

#define REDLANE_AHEAD_BUCKETS 256
#define REDLANE_AHEAD_WAYS 4
#define REDLANE_AHEAD_MAX INT64_C(1000000) /* units at once */

typedef struct {
    uint64_t rates;  /* which rates: a number of its limiter's */
    int64_t units;   /* that are here to be spent */
    int64_t seen;    /* when the answers came */
    int64_t until;   /* no unit is spent from then on */
    uint64_t asking; /* the number of who is taking more, or 0: one at a time does */
    size_t count;    /* of answers */
    size_t size;     /* of the identity, which stands behind them */
    RedlaneLimitAnswer answers[]; /* the server's last ones, without the units */
} RedlaneAhead;

typedef struct {
    RedlaneSeed seed;
    RedlaneAhead *slots[REDLANE_AHEAD_BUCKETS][REDLANE_AHEAD_WAYS];
} RedlaneAheadTable;

/* Zeroed memory but for the seed. */
void redlane_ahead_init(RedlaneAheadTable *table);
void redlane_ahead_clear(RedlaneAheadTable *table);

/* What is known of an identity now, or NULL. BORROWED until the next change. */
RedlaneAhead *redlane_ahead_find(RedlaneAheadTable *table, RedlaneArg identity,
                                 uint64_t rates, int64_t now);

/* How many units to take beside a hit's cost: `batch` less the cost, and no more than
 * half of what the server has left, so that what one process holds is little where
 * there is little. 0: none. */
int64_t redlane_ahead_more(const RedlaneAhead *ahead, int64_t batch, int64_t cost);

/* Until when units may be spent that were charged to these limits by a call that began
 * at `sent`: a second at most, and no longer than the windows that they were charged
 * to.
 */
int64_t redlane_ahead_until(const RedlaneLimit *limits,
                            const RedlaneLimitAnswer *answers, size_t count,
                            int64_t sent);

/* Keeps units, beside those that are there still, and the answers that came with them.
 * Where there is no memory, they are lost. */
void redlane_ahead_note(RedlaneAheadTable *table, RedlaneArg identity, uint64_t rates,
                        int64_t units, int64_t now, int64_t until,
                        const RedlaneLimitAnswer *answers, size_t count);

/* Forgets all of an identity. */
void redlane_ahead_drop(RedlaneAheadTable *table, RedlaneArg identity);

#endif
