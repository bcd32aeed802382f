/* The shards as a whole: their beginning and end, fork, statistics. */
#include <stddef.h>

#include "near/near_internal.h"

void
redlane_near_values_init(RedlaneNearCache *cache)
{
    redlane_hash_seed(&cache->seed);
    redlane_near_dependants_init(&cache->dependants);
    redlane_lock_init(&cache->dead_lock);
    for (int i = 0; i < REDLANE_NEAR_SHARDS; i++) {
        redlane_lock_init(&cache->shards[i].lock);
        redlane_table_init(&cache->shards[i].table, offsetof(RedlaneNearItem, key));
    }
}

/* Values that are still there are not ours to release: closing has made them dead, and
 * their owner has taken them. */
void
redlane_near_values_free(RedlaneNearCache *cache)
{
    while (redlane_near_take_dead(&cache->head)) {
    }
    for (int i = 0; i < REDLANE_NEAR_SHARDS; i++) {
        redlane_table_free(&cache->shards[i].table);
    }
    redlane_near_dependants_free(&cache->dependants);
}

void
redlane_near_values_stats(RedlaneNearCache *cache, RedlaneNearStats *stats)
{
    for (int i = 0; i < REDLANE_NEAR_SHARDS; i++) {
        RedlaneNearShard *shard = &cache->shards[i];

        redlane_lock(&shard->lock);
        stats->entries += shard->table.count;
        stats->hits += shard->hits;
        stats->misses += shard->misses;
        stats->stores += shard->stores;
        stats->overtaken += shard->overtaken;
        stats->evictions += shard->evictions;
        redlane_unlock(&shard->lock);
    }
    stats->bytes = atomic_load_explicit(&cache->bytes, memory_order_relaxed);
    stats->max_bytes = cache->max_bytes;
    stats->dead = atomic_load_explicit(&cache->dead_count, memory_order_relaxed);
}

void
redlane_near_values_lock(RedlaneNearCache *cache)
{
    (void)pthread_mutex_lock(&cache->dependants.lock);
    for (int i = 0; i < REDLANE_NEAR_SHARDS; i++) {
        redlane_lock(&cache->shards[i].lock);
    }
    redlane_lock(&cache->dead_lock);
}

void
redlane_near_values_unlock(RedlaneNearCache *cache)
{
    redlane_unlock(&cache->dead_lock);
    for (int i = 0; i < REDLANE_NEAR_SHARDS; i++) {
        redlane_unlock(&cache->shards[i].lock);
    }
    (void)pthread_mutex_unlock(&cache->dependants.lock);
}

void
redlane_near_values_unlock_child(RedlaneNearCache *cache)
{
    (void)pthread_mutex_init(&cache->dependants.lock, NULL);
    redlane_lock_init(&cache->dead_lock);
    for (int i = 0; i < REDLANE_NEAR_SHARDS; i++) {
        redlane_lock_init(&cache->shards[i].lock);
    }
}
