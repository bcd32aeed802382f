#include "core/limit_ahead.h"

#include "core/clock.h"

#define LONGEST REDLANE_NS_PER_S
#define NS_PER_US 1000

int64_t
redlane_ahead_more(const RedlaneLimitNote *ahead, int64_t batch, int64_t cost)
{
    int64_t part = batch;

    for (size_t i = 0; i < ahead->count; i++) {
        if (ahead->answers[i].remaining / 2 < part) {
            part = ahead->answers[i].remaining / 2;
        }
    }
    part -= cost;
    return part > 0 ? part : 0;
}

int64_t
redlane_ahead_until(const RedlaneLimit *limits, const RedlaneLimitAnswer *answers,
                    size_t count, int64_t sent)
{
    int64_t least = LONGEST / NS_PER_US;

    for (size_t i = 0; i < count; i++) {
        int64_t left = answers[i].reset; /* of a window that something was charged to */

        if (limits[i].kind == REDLANE_LIMIT_SLIDING) {
            left -= limits[i].window;
        }
        if (left < least) {
            least = left;
        }
    }
    return sent + least * NS_PER_US;
}

void
redlane_ahead_note(RedlaneLimitNotes *notes, RedlaneArg identity, uint64_t rates,
                   int64_t units, int64_t now, int64_t until,
                   const RedlaneLimitAnswer *answers, size_t count)
{
    const RedlaneLimitNote *ahead =
        redlane_limit_notes_find(notes, identity, rates, now);
    RedlaneLimitNote note = {
        .rates = rates, .units = units, .seen = now, .until = until, .count = count};

    if (ahead) {
        note.asking = ahead->asking;
    }
    /* Those that may be spent still are of the same windows as the new ones: their time
     * ends before their window does, and that is not over. They live no longer. */
    if (ahead && ahead->units) {
        note.units += ahead->units;
        note.until = until < ahead->until ? until : ahead->until;
    }
    redlane_limit_notes_put(notes, identity, &note, answers);
}
