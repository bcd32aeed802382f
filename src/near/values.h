/* What values.c and values_end.c have in common: an item and its shard. */
#ifndef REDLANE_NEAR_VALUES_H
#define REDLANE_NEAR_VALUES_H

#include "near/near_internal.h"

static inline RedlaneNearItem *
redlane_near_item_of_slot(const RedlaneSlot *slot)
{
    return (RedlaneNearItem *)(void *)slot->item;
}

static inline uint64_t
redlane_near_item_generation(const RedlaneNearItem *item)
{
    return atomic_load_explicit(&item->entry.generation, memory_order_relaxed);
}

static inline RedlaneNearShard *
redlane_near_shard_of(RedlaneNearCache *cache, uint64_t hash)
{
    return &cache->shards[hash % REDLANE_NEAR_SHARDS];
}

static inline uint64_t *
redlane_near_epoch_of(RedlaneNearCache *cache, uint64_t hash)
{
    return &redlane_near_shard_of(cache, hash)
                ->epochs[hash / REDLANE_NEAR_SHARDS % REDLANE_NEAR_EPOCHS];
}

/* Takes an item out and kills it; the table's reference is the caller's then. */
void redlane_near_shard_remove_locked(RedlaneNearCache *cache, RedlaneNearShard *shard,
                                      RedlaneSlot *slot);

/* Gives the table's reference to such items back, which are chained by `older`. */
void redlane_near_items_let_go(RedlaneNearCache *cache, RedlaneNearItem *item);

#endif
