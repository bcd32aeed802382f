#include "core/limit_blocked.h"

#include <stdlib.h>
#include <string.h>

#include "core/clock.h"

#define LONGEST REDLANE_NS_PER_S
#define NS_PER_US 1000

void
redlane_blocked_init(RedlaneBlockedTable *table)
{
    memset(table, 0, sizeof(*table));
    redlane_hash_seed(&table->seed);
}

static void
forget(RedlaneBlockedTable *table, RedlaneBlocked **slot)
{
    if (*slot) {
        free(*slot);
        *slot = NULL;
        table->count--;
    }
}

void
redlane_blocked_clear(RedlaneBlockedTable *table)
{
    for (size_t i = 0; i < REDLANE_BLOCKED_BUCKETS; i++) {
        for (size_t way = 0; way < REDLANE_BLOCKED_WAYS; way++) {
            forget(table, &table->slots[i][way]);
        }
    }
}

static size_t
bucket_of(const RedlaneBlockedTable *table, RedlaneArg identity)
{
    return redlane_hash_bytes(&table->seed, identity.data, identity.size) %
           REDLANE_BLOCKED_BUCKETS;
}

static bool
is_of(const RedlaneBlocked *blocked, RedlaneArg identity)
{
    return blocked && blocked->size == identity.size &&
           memcmp(&blocked->answers[blocked->count], identity.data, identity.size) == 0;
}

const RedlaneBlocked *
redlane_blocked_find(const RedlaneBlockedTable *table, RedlaneArg identity,
                     uint64_t rates, int64_t cost, int64_t now)
{
    RedlaneBlocked *const *bucket = table->slots[bucket_of(table, identity)];

    for (size_t way = 0; way < REDLANE_BLOCKED_WAYS; way++) {
        const RedlaneBlocked *blocked = bucket[way];

        if (blocked && blocked->rates == rates && blocked->cost <= cost &&
            now < blocked->until && is_of(blocked, identity)) {
            return blocked;
        }
    }
    return NULL;
}

/* The place for it: its own, a free one, or that of what ends first. */
static RedlaneBlocked **
choose_slot(RedlaneBlocked **bucket, RedlaneArg identity, uint64_t rates)
{
    RedlaneBlocked **chosen = &bucket[0];

    for (size_t way = 0; way < REDLANE_BLOCKED_WAYS; way++) {
        RedlaneBlocked **slot = &bucket[way];

        if (is_of(*slot, identity) && (*slot)->rates == rates) {
            return slot;
        }
        if (*chosen && (!*slot || (*slot)->until < (*chosen)->until)) {
            chosen = slot;
        }
    }
    return chosen;
}

void
redlane_blocked_note(RedlaneBlockedTable *table, RedlaneArg identity, uint64_t rates,
                     int64_t cost, int64_t now, const RedlaneLimitAnswer *answers,
                     size_t count)
{
    RedlaneBlocked *blocked, **slot;
    int64_t longest = 0;

    for (size_t i = 0; i < count; i++) {
        longest = answers[i].retry > longest ? answers[i].retry : longest;
    }
    if (longest <= 0) {
        return;
    }
    blocked = malloc(sizeof(*blocked) + count * sizeof(*answers) + identity.size);
    if (!blocked) {
        return;
    }
    *blocked = (RedlaneBlocked){
        .rates = rates,
        .cost = cost,
        .seen = now,
        .until = now + (longest < LONGEST / NS_PER_US ? longest * NS_PER_US : LONGEST),
        .count = count,
        .size = identity.size,
    };
    memcpy(blocked->answers, answers, count * sizeof(*answers));
    if (identity.size) {
        memcpy(&blocked->answers[count], identity.data, identity.size);
    }
    slot = choose_slot(table->slots[bucket_of(table, identity)], identity, rates);
    forget(table, slot);
    *slot = blocked;
    table->count++;
}

void
redlane_blocked_drop(RedlaneBlockedTable *table, RedlaneArg identity)
{
    RedlaneBlocked **bucket;

    if (!table->count) {
        return;
    }
    bucket = table->slots[bucket_of(table, identity)];
    for (size_t way = 0; way < REDLANE_BLOCKED_WAYS; way++) {
        if (is_of(bucket[way], identity)) {
            forget(table, &bucket[way]);
        }
    }
}
