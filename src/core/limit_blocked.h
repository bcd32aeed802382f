/* What a limiter knows to be blocked, for at most a second at a time: so that who is
 * over a limit costs no round trip. Bounded: 256 buckets of four, by identity; a fifth
 * takes the place of what ends first.
 *
 * No lock: the limiter's, which is the GIL. Times are CLOCK_MONOTONIC ns. */
#ifndef REDLANE_CORE_LIMIT_BLOCKED_H
#define REDLANE_CORE_LIMIT_BLOCKED_H

#include "core/hash.h"
#include "core/limit.h"
#include "core/vector.h"

#define REDLANE_BLOCKED_BUCKETS 256
#define REDLANE_BLOCKED_WAYS 4

typedef struct {
    uint64_t rates; /* which rates: a number of its limiter's */
    int64_t cost;   /* what was refused; so is all that costs more */
    int64_t seen;   /* when */
    int64_t until;  /* what is remembered ends */
    size_t count;   /* of answers */
    size_t size;    /* of the identity, which stands behind them */
    RedlaneLimitAnswer answers[];
} RedlaneBlocked;

typedef struct {
    RedlaneSeed seed;
    size_t count;
    RedlaneBlocked *slots[REDLANE_BLOCKED_BUCKETS][REDLANE_BLOCKED_WAYS];
} RedlaneBlockedTable;

/* Zeroed memory but for the seed. */
void redlane_blocked_init(RedlaneBlockedTable *table);
void redlane_blocked_clear(RedlaneBlockedTable *table);

/* What is known to refuse this cost now, or NULL. BORROWED until the next change. */
const RedlaneBlocked *redlane_blocked_find(const RedlaneBlockedTable *table,
                                           RedlaneArg identity, uint64_t rates,
                                           int64_t cost, int64_t now);

/* Remembers a refusal for as long as it holds, a second at most. Where there is no
 * memory, nothing is. */
void redlane_blocked_note(RedlaneBlockedTable *table, RedlaneArg identity,
                          uint64_t rates, int64_t cost, int64_t now,
                          const RedlaneLimitAnswer *answers, size_t count);

/* Forgets all of an identity. */
void redlane_blocked_drop(RedlaneBlockedTable *table, RedlaneArg identity);

#endif
