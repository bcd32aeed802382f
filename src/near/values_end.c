/* What ends values: kills of one key or of all with a prefix, flushes, and the sweep of
 * those that have expired. Locks: the shard's, one at a time, then that of the dead. */
#include <string.h>

#include "near/values.h"

/* One hold of a shard's lock looks at so many items: some microseconds. */
#define WALK_MOST 64
/* And one sweep of a shard takes so many holds. */
#define SWEEP_WALKS 8

void
redlane_near_kill(RedlaneNear *near, const char *key, size_t size)
{
    RedlaneNearCache *cache = redlane_near_cache(near);
    uint64_t hash = redlane_table_hash(&cache->seed, key, size);
    RedlaneNearShard *shard = redlane_near_shard_of(cache, hash);
    RedlaneNearItem *item = NULL;
    RedlaneSlot *slot;

    redlane_lock(&shard->lock);
    ++*redlane_near_epoch_of(cache, hash);
    slot = redlane_table_find(&shard->table, hash, key, size);
    if (slot) {
        item = redlane_near_item_of_slot(slot);
        redlane_near_shard_remove_locked(cache, shard, slot);
    }
    redlane_unlock(&shard->lock);
    redlane_near_items_let_go(cache, item);
    redlane_near_dependants_kill(cache, hash);
    redlane_near_wake_waiters(cache);
}

static RedlaneSlot *
first_with_hash(RedlaneNearShard *shard, uint64_t hash)
{
    RedlaneSlot *slot = redlane_table_from(&shard->table, hash);

    return slot && slot->hash == hash ? slot : NULL;
}

void
redlane_near_values_kill_hash(RedlaneNearCache *cache, uint64_t hash)
{
    RedlaneNearShard *shard = redlane_near_shard_of(cache, hash);
    RedlaneNearItem *removed = NULL;
    RedlaneSlot *slot;

    redlane_lock(&shard->lock);
    ++*redlane_near_epoch_of(cache, hash);
    while ((slot = first_with_hash(shard, hash))) {
        RedlaneNearItem *item = redlane_near_item_of_slot(slot);

        redlane_near_shard_remove_locked(cache, shard, slot);
        item->older = removed;
        removed = item;
    }
    redlane_unlock(&shard->lock);
    redlane_near_items_let_go(cache, removed);
}

bool
redlane_near_values_have_hash(RedlaneNearCache *cache, uint64_t hash)
{
    RedlaneNearShard *shard = redlane_near_shard_of(cache, hash);
    bool have;

    redlane_lock(&shard->lock);
    have = first_with_hash(shard, hash) != NULL;
    redlane_unlock(&shard->lock);
    return have;
}

/* What a walk takes out: expired and dead ones, or those that a prefix begins. */
typedef struct {
    const char *prefix; /* NULL: the former */
    size_t size;
    uint64_t floor;
    int64_t now;
} Choice;

static bool
is_chosen(const RedlaneNearItem *item, const Choice *choice)
{
    if (choice->prefix) {
        return item->item.key_size >= choice->size &&
               memcmp(item->key, choice->prefix, choice->size) == 0;
    }
    return item->entry.deadline <= choice->now ||
           redlane_near_item_generation(item) < choice->floor;
}

/* Takes out what is chosen of WALK_MOST items or a few more (those of one hash are not
 * parted) from the hash `from` on. Returns the hash to go on at, or 0 at the end. */
static uint64_t
walk(RedlaneNearCache *cache, RedlaneNearShard *shard, uint64_t from,
     const Choice *choice)
{
    RedlaneNearItem *removed = NULL;
    RedlaneSlot *slot;
    uint64_t last = from;
    size_t looked = 0;

    redlane_lock(&shard->lock);
    slot = redlane_table_from(&shard->table, from);
    while (slot && (looked++ < WALK_MOST || slot->hash == last)) {
        last = slot->hash;
        if (is_chosen(redlane_near_item_of_slot(slot), choice)) {
            RedlaneNearItem *item = redlane_near_item_of_slot(slot);

            redlane_near_shard_remove_locked(cache, shard, slot);
            item->older = removed;
            removed = item;
            slot = redlane_table_from(&shard->table, last);
        }
        else {
            slot = redlane_table_next(&shard->table, slot);
        }
    }
    from = slot ? slot->hash : 0;
    redlane_unlock(&shard->lock);
    redlane_near_items_let_go(cache, removed);
    return from;
}

static void
move_epochs(RedlaneNearShard *shard)
{
    redlane_lock(&shard->lock);
    for (int i = 0; i < REDLANE_NEAR_EPOCHS; i++) {
        shard->epochs[i]++;
    }
    redlane_unlock(&shard->lock);
}

static void
take_out(RedlaneNearCache *cache, const Choice *choice)
{
    for (int i = 0; i < REDLANE_NEAR_SHARDS; i++) {
        uint64_t from = 0;

        move_epochs(&cache->shards[i]); /* nothing read before comes back */
        do {
            from = walk(cache, &cache->shards[i], from, choice);
        } while (from);
    }
}

void
redlane_near_kill_prefix(RedlaneNear *near, const char *prefix, size_t size)
{
    Choice choice = {.prefix = size ? prefix : "", .size = size};

    take_out(redlane_near_cache(near), &choice);
    redlane_near_wake_waiters(redlane_near_cache(near));
}

void
redlane_near_values_clear(RedlaneNearCache *cache)
{
    redlane_near_values_flush(cache, true);
    redlane_near_kill_prefix(&cache->head, "", 0);
}

void
redlane_near_values_flush(RedlaneNearCache *cache, bool dead)
{
    uint64_t generation = atomic_fetch_add(&cache->head.generation, 1) + 1;
    uint64_t floor = atomic_load(&cache->floor);

    while (dead && floor < generation &&
           !atomic_compare_exchange_weak(&cache->floor, &floor, generation)) {
    }
    (void)atomic_fetch_add_explicit(&cache->flushes, 1, memory_order_relaxed);
    redlane_near_wake_waiters(cache);
}

void
redlane_near_values_sweep(RedlaneNearCache *cache)
{
    Choice choice = {.floor = atomic_load(&cache->floor),
                     .now = redlane_clock_coarse()};

    for (int i = 0; i < REDLANE_NEAR_SHARDS; i++) {
        RedlaneNearShard *shard = &cache->shards[i];

        for (int walks = 0; walks < SWEEP_WALKS; walks++) {
            shard->sweep = walk(cache, shard, shard->sweep, &choice);
            if (!shard->sweep) {
                break;
            }
        }
    }
}
