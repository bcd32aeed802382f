/* What a limiter knows to be blocked, for at most a second at a time: so that who is
 * over a limit costs no round trip. A note's units are the cost that was refused. */
#ifndef REDLANE_CORE_LIMIT_BLOCKED_H
#define REDLANE_CORE_LIMIT_BLOCKED_H

#include "core/limit_notes.h"

/* What is known to refuse this cost now, or NULL. BORROWED until the next change. */
const RedlaneLimitNote *redlane_blocked_find(const RedlaneLimitNotes *notes,
                                             RedlaneArg identity, uint64_t rates,
                                             int64_t cost, int64_t now);

/* Remembers a refusal for as long as it holds, a second at most. Where there is no
 * memory, nothing is. */
void redlane_blocked_note(RedlaneLimitNotes *notes, RedlaneArg identity, uint64_t rates,
                          int64_t cost, int64_t now, const RedlaneLimitAnswer *answers,
                          size_t count);

#endif
