#include "core/limit_blocked.h"

#include "core/clock.h"

#define LONGEST REDLANE_NS_PER_S
#define NS_PER_US 1000

const RedlaneLimitNote *
redlane_blocked_find(const RedlaneLimitNotes *notes, RedlaneArg identity,
                     uint64_t rates, int64_t cost, int64_t now)
{
    const RedlaneLimitNote *note =
        redlane_limit_notes_find(notes, identity, rates, now);

    return note && note->units <= cost ? note : NULL; /* so is all that costs more */
}

void
redlane_blocked_note(RedlaneLimitNotes *notes, RedlaneArg identity, uint64_t rates,
                     int64_t cost, int64_t now, const RedlaneLimitAnswer *answers,
                     size_t count)
{
    int64_t longest = 0;
    RedlaneLimitNote note = {
        .rates = rates, .units = cost, .seen = now, .count = count};

    for (size_t i = 0; i < count; i++) {
        longest = answers[i].retry > longest ? answers[i].retry : longest;
    }
    if (longest > 0) {
        note.until =
            now + (longest < LONGEST / NS_PER_US ? longest * NS_PER_US : LONGEST);
        redlane_limit_notes_put(notes, identity, &note, answers);
    }
}
