#include "core/limit_ahead.h"

#include <stdlib.h>
#include <string.h>

#include "core/clock.h"

#define LONGEST REDLANE_NS_PER_S
#define NS_PER_US 1000

void
redlane_ahead_init(RedlaneAheadTable *table)
{
    memset(table, 0, sizeof(*table));
    redlane_hash_seed(&table->seed);
}

static void
forget(RedlaneAhead **slot)
{
    free(*slot);
    *slot = NULL;
}

void
redlane_ahead_clear(RedlaneAheadTable *table)
{
    for (size_t i = 0; i < REDLANE_AHEAD_BUCKETS; i++) {
        for (size_t way = 0; way < REDLANE_AHEAD_WAYS; way++) {
            forget(&table->slots[i][way]);
        }
    }
}

static RedlaneAhead **
bucket_of(RedlaneAheadTable *table, RedlaneArg identity)
{
    return table->slots[redlane_hash_bytes(&table->seed, identity.data, identity.size) %
                        REDLANE_AHEAD_BUCKETS];
}

static bool
is_of(const RedlaneAhead *ahead, RedlaneArg identity)
{
    return ahead && ahead->size == identity.size &&
           memcmp(&ahead->answers[ahead->count], identity.data, identity.size) == 0;
}

RedlaneAhead *
redlane_ahead_find(RedlaneAheadTable *table, RedlaneArg identity, uint64_t rates,
                   int64_t now)
{
    RedlaneAhead **bucket = bucket_of(table, identity);

    for (size_t way = 0; way < REDLANE_AHEAD_WAYS; way++) {
        if (is_of(bucket[way], identity) && bucket[way]->rates == rates &&
            now < bucket[way]->until) {
            return bucket[way];
        }
    }
    return NULL;
}

int64_t
redlane_ahead_more(const RedlaneAhead *ahead, int64_t batch, int64_t cost)
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

/* The place for it: its own, a free one, one that is spent, or what ends first. */
static RedlaneAhead **
choose_slot(RedlaneAhead **bucket, RedlaneArg identity, uint64_t rates)
{
    RedlaneAhead **chosen = &bucket[0];

    for (size_t way = 0; way < REDLANE_AHEAD_WAYS; way++) {
        RedlaneAhead **slot = &bucket[way], *here = *slot, *other = *chosen;

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
redlane_ahead_note(RedlaneAheadTable *table, RedlaneArg identity, uint64_t rates,
                   int64_t units, int64_t now, int64_t until,
                   const RedlaneLimitAnswer *answers, size_t count)
{
    RedlaneAhead *ahead = redlane_ahead_find(table, identity, rates, now), **slot;
    uint64_t asking = ahead ? ahead->asking : 0;

    /* Those that may be spent still are of the same windows as the new ones: their time
     * ends before their window does, and that is not over. They live no longer. */
    if (ahead && ahead->units) {
        units += ahead->units;
        until = until < ahead->until ? until : ahead->until;
    }
    ahead = malloc(sizeof(*ahead) + count * sizeof(*answers) + identity.size);
    if (!ahead) {
        return;
    }
    *ahead = (RedlaneAhead){
        .rates = rates,
        .units = units,
        .seen = now,
        .until = until,
        .asking = asking,
        .count = count,
        .size = identity.size,
    };
    memcpy(ahead->answers, answers, count * sizeof(*answers));
    if (identity.size) {
        memcpy(&ahead->answers[count], identity.data, identity.size);
    }
    slot = choose_slot(bucket_of(table, identity), identity, rates);
    forget(slot);
    *slot = ahead;
}

void
redlane_ahead_drop(RedlaneAheadTable *table, RedlaneArg identity)
{
    RedlaneAhead **bucket = bucket_of(table, identity);

    for (size_t way = 0; way < REDLANE_AHEAD_WAYS; way++) {
        if (is_of(bucket[way], identity)) {
            forget(&bucket[way]);
        }
    }
}
