/* What a limiter has taken from a server ahead of the hits that will spend it, for a
 * second at most: so that who hits very often costs few round trips. All of it was
 * charged when it was taken, so whatever becomes of it, no limit is passed.
 *
 *   a hit ──▶ the server says what it has left ──▶ the next hit takes a part of that in
 *   one round trip ──▶ those after it spend the part here, until it ends or is spent */
#ifndef REDLANE_CORE_LIMIT_AHEAD_H
#define REDLANE_CORE_LIMIT_AHEAD_H

#include "core/limit_notes.h"

#define REDLANE_AHEAD_MAX INT64_C(1000000) /* units at once */

/* How many units to take beside a hit's cost: `batch` less the cost, and no more than
 * half of what the server has left, so that what one process holds is little where
 * there is little. 0: none. `batch` is no more than what may be charged at once,
 * whatever the server has said. */
int64_t redlane_ahead_more(const RedlaneLimitNote *ahead, int64_t batch, int64_t cost);

/* Until when units may be spent that were charged to these limits by a call that began
 * at `sent`: a second at most, and no longer than the windows that they were charged
 * to.
 */
int64_t redlane_ahead_until(const RedlaneLimit *limits,
                            const RedlaneLimitAnswer *answers, size_t count,
                            int64_t sent);

/* Keeps units, beside those that are there still, and the answers that came with them.
 * Where there is no memory, they are lost. */
void redlane_ahead_note(RedlaneLimitNotes *notes, RedlaneArg identity, uint64_t rates,
                        int64_t units, int64_t now, int64_t until,
                        const RedlaneLimitAnswer *answers, size_t count);

#endif
