/* What a limiter remembers of identities for a moment: a table of what it knows to be
 * blocked (core/limit_blocked.h), and one of what it has taken ahead
 * (core/limit_ahead.h). Bounded: 256 buckets of four, by identity; a fifth takes the
 * place of one without units, or else of what ends first.
 *
 * No lock: the limiter's, which is the GIL. Times are CLOCK_MONOTONIC ns. */
#ifndef REDLANE_CORE_LIMIT_NOTES_H
#define REDLANE_CORE_LIMIT_NOTES_H

#include "core/hash.h"
#include "core/limit.h"
#include "core/vector.h"

#define REDLANE_LIMIT_NOTES_BUCKETS 256
#define REDLANE_LIMIT_NOTES_WAYS 4

typedef struct {
    uint64_t rates;  /* which rates: a number of its limiter's */
    int64_t units;   /* that are here to be spent; or the cost that was refused */
    int64_t seen;    /* when the answers came */
    int64_t until;   /* it is known no longer */
    uint64_t asking; /* the number of who is taking more, or 0: one at a time does */
    size_t count;    /* of answers */
    size_t size;     /* of the identity, which stands behind them */
    RedlaneLimitAnswer answers[]; /* the server's last ones, without the units */
} RedlaneLimitNote;

typedef struct {
    RedlaneSeed seed;
    size_t count;
    RedlaneLimitNote *slots[REDLANE_LIMIT_NOTES_BUCKETS][REDLANE_LIMIT_NOTES_WAYS];
} RedlaneLimitNotes;

/* Zeroed memory but for the seed. */
void redlane_limit_notes_init(RedlaneLimitNotes *notes);
void redlane_limit_notes_clear(RedlaneLimitNotes *notes);

/* What is known of an identity now, or NULL. BORROWED until the next change. */
RedlaneLimitNote *redlane_limit_notes_find(const RedlaneLimitNotes *notes,
                                           RedlaneArg identity, uint64_t rates,
                                           int64_t now);

/* Keeps `note`, whose `size` is told by the identity, in the place of what was known of
 * that and these rates. Where there is no memory, nothing changes. */
void redlane_limit_notes_put(RedlaneLimitNotes *notes, RedlaneArg identity,
                             const RedlaneLimitNote *note,
                             const RedlaneLimitAnswer *answers);

/* Forgets all of an identity. */
void redlane_limit_notes_drop(RedlaneLimitNotes *notes, RedlaneArg identity);

#endif
