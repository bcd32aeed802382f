#include "core/limit_notes.h"

#include <stdlib.h>
#include <string.h>

void
redlane_limit_notes_init(RedlaneLimitNotes *notes)
{
    memset(notes, 0, sizeof(*notes));
    redlane_hash_seed(&notes->seed);
}

static void
forget(RedlaneLimitNotes *notes, RedlaneLimitNote **slot)
{
    if (*slot) {
        free(*slot);
        *slot = NULL;
        notes->count--;
    }
}

void
redlane_limit_notes_clear(RedlaneLimitNotes *notes)
{
    for (size_t i = 0; i < REDLANE_LIMIT_NOTES_BUCKETS; i++) {
        for (size_t way = 0; way < REDLANE_LIMIT_NOTES_WAYS; way++) {
            forget(notes, &notes->slots[i][way]);
        }
    }
}

static size_t
bucket_of(const RedlaneLimitNotes *notes, RedlaneArg identity)
{
    return redlane_hash_bytes(&notes->seed, identity.data, identity.size) %
           REDLANE_LIMIT_NOTES_BUCKETS;
}

static bool
is_of(const RedlaneLimitNote *note, RedlaneArg identity)
{
    return note && note->size == identity.size &&
           memcmp(&note->answers[note->count], identity.data, identity.size) == 0;
}

RedlaneLimitNote *
redlane_limit_notes_find(const RedlaneLimitNotes *notes, RedlaneArg identity,
                         uint64_t rates, int64_t now)
{
    RedlaneLimitNote *const *bucket = notes->slots[bucket_of(notes, identity)];

    for (size_t way = 0; way < REDLANE_LIMIT_NOTES_WAYS; way++) {
        RedlaneLimitNote *note = bucket[way];

        if (note && note->rates == rates && now < note->until &&
            is_of(note, identity)) {
            return note;
        }
    }
    return NULL;
}

/* The place for it: its own, a free one, one without units, or what ends first. */
static RedlaneLimitNote **
choose_slot(RedlaneLimitNote **bucket, RedlaneArg identity, uint64_t rates)
{
    RedlaneLimitNote **chosen = &bucket[0];

    for (size_t way = 0; way < REDLANE_LIMIT_NOTES_WAYS; way++) {
        RedlaneLimitNote **slot = &bucket[way], *here = *slot, *other = *chosen;

        if (is_of(here, identity) && here->rates == rates) {
            return slot;
        }
        if (other && (!here || (!here->units && other->units) ||
                      (!here->units == !other->units && here->until < other->until))) {
            chosen = slot;
        }
    }
    return chosen;
}

void
redlane_limit_notes_put(RedlaneLimitNotes *notes, RedlaneArg identity,
                        const RedlaneLimitNote *note, const RedlaneLimitAnswer *answers)
{
    RedlaneLimitNote **slot, *made;

    made = malloc(sizeof(*made) + note->count * sizeof(*answers) + identity.size);
    if (!made) {
        return;
    }
    *made = *note;
    made->size = identity.size;
    memcpy(made->answers, answers, note->count * sizeof(*answers));
    if (identity.size) {
        memcpy(&made->answers[note->count], identity.data, identity.size);
    }
    slot = choose_slot(notes->slots[bucket_of(notes, identity)], identity, note->rates);
    forget(notes, slot);
    *slot = made;
    notes->count++;
}

void
redlane_limit_notes_drop(RedlaneLimitNotes *notes, RedlaneArg identity)
{
    RedlaneLimitNote **bucket;

    if (!notes->count) {
        return;
    }
    bucket = notes->slots[bucket_of(notes, identity)];
    for (size_t way = 0; way < REDLANE_LIMIT_NOTES_WAYS; way++) {
        if (is_of(bucket[way], identity)) {
            forget(notes, &bucket[way]);
        }
    }
}
