/* The values: storing and finding them in the shards, their SIEVE queues, eviction
 * within the bound, and the queue of the dead. Locks: the shard's, then that of the
 * dead; never two shards' but for fork. See near_internal.h for the drawing. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "near/values.h"

/* What items are counted in. */
#define UNIT ((size_t)16)

static RedlaneNearItem *
item_of_entry(RedlaneNearEntry *entry)
{
    return (RedlaneNearItem *)(void *)((char *)entry -
                                       offsetof(RedlaneNearItem, entry));
}

/* What malloc takes for a block, in units of 16 bytes: a head of 8 bytes, steps of 16.
 */
static size_t
units_of_block(size_t size)
{
    return (size + 8 + UNIT - 1) / UNIT;
}

static size_t
bytes_of(const RedlaneNearItem *item)
{
    return (size_t)item->units * UNIT;
}

static uint64_t
current_generation(const RedlaneNearCache *cache)
{
    return atomic_load_explicit(&cache->head.generation, memory_order_acquire);
}

/* --- the dead -------------------------------------------------------------- */

/* True when it was the last one. */
static bool
drop_reference(RedlaneNearEntry *entry)
{
    unsigned before = atomic_fetch_sub_explicit(
        &entry->references, REDLANE_NEAR_REFERENCE, memory_order_acq_rel);

    return before / REDLANE_NEAR_REFERENCE == 1;
}

void *
redlane_near_entry_release(RedlaneNearEntry *entry)
{
    void *value;

    if (!drop_reference(entry)) {
        return NULL;
    }
    value = entry->value;
    free(item_of_entry(entry));
    return value;
}

size_t
redlane_near_entry_bytes(const RedlaneNearEntry *entry)
{
    return bytes_of(
        (const RedlaneNearItem *)(const void *)((const char *)entry -
                                                offsetof(RedlaneNearItem, entry)));
}

void
redlane_near_items_let_go(RedlaneNearCache *cache, RedlaneNearItem *item)
{
    while (item) {
        RedlaneNearItem *next = item->older;

        if (drop_reference(&item->entry)) {
            redlane_lock(&cache->dead_lock);
            item->older = cache->dead;
            cache->dead = item;
            (void)atomic_fetch_add_explicit(&cache->dead_count, 1,
                                            memory_order_relaxed);
            redlane_unlock(&cache->dead_lock);
        }
        item = next;
    }
}

void *
redlane_near_take_dead(RedlaneNear *near)
{
    RedlaneNearCache *cache = redlane_near_cache(near);
    RedlaneNearItem *item;
    void *value = NULL;

    if (atomic_load_explicit(&cache->dead_count, memory_order_relaxed) == 0) {
        return NULL;
    }
    redlane_lock(&cache->dead_lock);
    item = cache->dead;
    if (item) {
        cache->dead = item->older;
        (void)atomic_fetch_sub_explicit(&cache->dead_count, 1, memory_order_relaxed);
    }
    redlane_unlock(&cache->dead_lock);
    if (item) {
        value = item->entry.value;
        free(item);
    }
    return value;
}

/* --- a shard, locked ------------------------------------------------------- */

/* Counts what the slots have come to. */
static void
count_slots_locked(RedlaneNearCache *cache, const RedlaneNearShard *shard,
                   size_t before)
{
    size_t after = redlane_table_bytes(&shard->table);

    if (after != before) { /* in unsigned arithmetic a fall is an addition too */
        (void)atomic_fetch_add_explicit(&cache->bytes, after - before,
                                        memory_order_relaxed);
    }
}

void
redlane_near_shard_remove_locked(RedlaneNearCache *cache, RedlaneNearShard *shard,
                                 RedlaneSlot *slot)
{
    RedlaneNearItem *item = redlane_near_item_of_slot(slot);
    size_t slots = redlane_table_bytes(&shard->table);

    redlane_table_remove(&shard->table, slot);
    if (!shard->table.count) {
        redlane_table_free(&shard->table);
    }
    count_slots_locked(cache, shard, slots);
    if (shard->hand == item) {
        shard->hand = item->newer;
    }
    *(item->newer ? &item->newer->older : &shard->newest) = item->older;
    *(item->older ? &item->older->newer : &shard->oldest) = item->newer;
    item->older = NULL;
    (void)atomic_fetch_sub_explicit(&cache->bytes, bytes_of(item),
                                    memory_order_relaxed);
    atomic_store_explicit(&shard->count, shard->table.count, memory_order_relaxed);
    atomic_store_explicit(&item->entry.generation, 0, memory_order_release);
}

static RedlaneSlot *
slot_of_locked(RedlaneNearCache *cache, RedlaneNearShard *shard,
               const RedlaneNearItem *item)
{
    size_t size = item->item.key_size;
    uint64_t hash = redlane_table_hash(&cache->seed, item->key, size);

    return redlane_table_find(&shard->table, hash, item->key, size);
}

static bool
is_wanted(const RedlaneNearCache *cache, RedlaneNearItem *item, int64_t now)
{
    unsigned before = atomic_fetch_and_explicit(
        &item->entry.references, ~(unsigned)REDLANE_NEAR_VISITED, memory_order_relaxed);

    return before & REDLANE_NEAR_VISITED &&
           redlane_near_item_generation(item) == current_generation(cache) &&
           now < item->entry.deadline;
}

/* The item that SIEVE gives away, out of the table; NULL for an empty shard. Hits set
 * bits while the hand goes on: after a whole round anything will do. */
static RedlaneNearItem *
evict_locked(RedlaneNearCache *cache, RedlaneNearShard *shard)
{
    RedlaneNearItem *victim = shard->hand ? shard->hand : shard->oldest;
    size_t left = shard->table.count;
    int64_t now = redlane_clock_coarse();

    if (!victim) {
        return NULL;
    }
    while (left-- && is_wanted(cache, victim, now)) {
        victim = victim->newer ? victim->newer : shard->oldest;
    }
    shard->hand = victim;
    shard->evictions++;
    redlane_near_shard_remove_locked(cache, shard,
                                     slot_of_locked(cache, shard, victim));
    return victim;
}

/* The shard with the most items, which gives next: so all keep about as many. (Taking
 * from each in turn lets them drift apart by chance, till one has none to choose from.)
 * NULL when nothing is there. */
static RedlaneNearShard *
fullest_shard(RedlaneNearCache *cache)
{
    RedlaneNearShard *fullest = NULL;
    size_t most = 0;

    for (int i = 0; i < REDLANE_NEAR_SHARDS; i++) {
        size_t count =
            atomic_load_explicit(&cache->shards[i].count, memory_order_relaxed);

        if (count > most) {
            most = count;
            fullest = &cache->shards[i];
        }
    }
    return fullest;
}

/* False when there is nothing to give away. */
static bool
evict(RedlaneNearCache *cache)
{
    RedlaneNearShard *shard;

    while ((shard = fullest_shard(cache))) {
        RedlaneNearItem *victim;

        redlane_lock(&shard->lock);
        victim = evict_locked(cache, shard);
        redlane_unlock(&shard->lock);
        if (victim) { /* else another thread has emptied it meanwhile */
            redlane_near_items_let_go(cache, victim);
            return true;
        }
    }
    return false;
}

/* --- storing --------------------------------------------------------------- */

static bool
holds_locked(RedlaneNearCache *cache, const RedlaneNearTicket *ticket)
{
    return ticket->generation != 0 && ticket->generation == current_generation(cache) &&
           ticket->epoch == *redlane_near_epoch_of(cache, ticket->hash);
}

void
redlane_near_values_stamp(RedlaneNearCache *cache, RedlaneNearTicket *ticket,
                          const char *key, size_t size)
{
    RedlaneNearShard *shard;

    ticket->hash = redlane_table_hash(&cache->seed, key, size);
    shard = redlane_near_shard_of(cache, ticket->hash);
    redlane_lock(&shard->lock);
    ticket->epoch = *redlane_near_epoch_of(cache, ticket->hash);
    redlane_unlock(&shard->lock);
}

bool
redlane_near_ticket_holds(RedlaneNear *near, const RedlaneNearTicket *ticket)
{
    RedlaneNearCache *cache = redlane_near_cache(near);
    RedlaneNearShard *shard = redlane_near_shard_of(cache, ticket->hash);
    bool holds;

    redlane_lock(&shard->lock);
    holds = holds_locked(cache, ticket);
    redlane_unlock(&shard->lock);
    return holds;
}

/* Before room is made for what would be refused anyway. */
static bool
admit(RedlaneNearCache *cache, const RedlaneNearTicket *ticket)
{
    RedlaneNearShard *shard = redlane_near_shard_of(cache, ticket->hash);
    bool holds;

    redlane_lock(&shard->lock);
    holds = holds_locked(cache, ticket);
    shard->overtaken += !holds;
    redlane_unlock(&shard->lock);
    return holds;
}

/* 0 when it may not be stored at all. */
static int64_t
deadline_of(const RedlaneNearTicket *ticket, const RedlaneNearOffer *offer)
{
    int64_t left = offer->pttl_ms == -1 ? offer->near_ttl_ms : offer->pttl_ms;

    if (left <= 0) {
        return 0;
    }
    if (left >= (REDLANE_NEVER - ticket->sent_at) / REDLANE_NS_PER_MS) {
        return REDLANE_NEVER;
    }
    return ticket->sent_at + left * REDLANE_NS_PER_MS - REDLANE_COARSE_TICK;
}

/* Whether one value may take so much. */
static bool
is_small_enough(const RedlaneNearCache *cache, size_t key_size, size_t cost)
{
    return key_size <= UINT32_MAX / 2 && key_size <= cache->max_bytes / 2 &&
           cost <= UINT32_MAX / 2 * UNIT && cost <= cache->max_bytes / 2;
}

/* Its deadline is the caller's to set. */
static RedlaneNearItem *
make_item(const char *key, size_t size, const RedlaneNearTicket *ticket,
          const RedlaneNearOffer *offer)
{
    RedlaneNearItem *item = malloc(sizeof(*item) + size);

    if (!item) {
        return NULL;
    }
    item->item.key_size = (uint32_t)size;
    item->units = (uint32_t)(units_of_block(sizeof(*item) + size) +
                             (offer->cost + UNIT - 1) / UNIT);
    item->newer = item->older = NULL;
    item->entry.value = offer->value;
    item->entry.form = offer->form;
    atomic_init(&item->entry.generation, ticket->generation);
    atomic_init(&item->entry.references, 2 * REDLANE_NEAR_REFERENCE);
    if (size) {
        memcpy(item->key, key, size);
    }
    return item;
}

/* Room for `need` bytes, which are counted from here on; false when there is none. */
static bool
reserve(RedlaneNearCache *cache, size_t need)
{
    (void)atomic_fetch_add_explicit(&cache->bytes, need, memory_order_relaxed);
    while (atomic_load_explicit(&cache->bytes, memory_order_relaxed) >
           cache->max_bytes) {
        if (!evict(cache)) {
            (void)atomic_fetch_sub_explicit(&cache->bytes, need, memory_order_relaxed);
            return false;
        }
    }
    return true;
}

/* Puts it into the table instead of what is there under its key, which goes to
 * *replaced. 0: done, 1: overtaken, -1: no memory. */
static int
insert_locked(RedlaneNearCache *cache, RedlaneNearShard *shard,
              const RedlaneNearTicket *ticket, RedlaneNearItem *item,
              RedlaneNearItem **replaced)
{
    RedlaneSlot *slot;
    size_t slots;

    if (!holds_locked(cache, ticket)) {
        shard->overtaken++;
        return 1;
    }
    slot =
        redlane_table_find(&shard->table, ticket->hash, item->key, item->item.key_size);
    if (slot) {
        *replaced = redlane_near_item_of_slot(slot);
        redlane_near_shard_remove_locked(cache, shard, slot);
    }
    slots = redlane_table_bytes(&shard->table);
    if (!redlane_table_insert(&shard->table, ticket->hash, &item->item)) {
        return -1;
    }
    count_slots_locked(cache, shard, slots);
    atomic_store_explicit(&shard->count, shard->table.count, memory_order_relaxed);
    item->older = shard->newest;
    *(shard->newest ? &shard->newest->newer : &shard->oldest) = item;
    shard->newest = item;
    shard->stores++;
    return 0;
}

RedlaneNearEntry *
redlane_near_store(RedlaneNear *near, const char *key, size_t size,
                   const RedlaneNearTicket *ticket, const RedlaneNearOffer *offer)
{
    RedlaneNearCache *cache = redlane_near_cache(near);
    RedlaneNearShard *shard = redlane_near_shard_of(cache, ticket->hash);
    RedlaneNearItem *item = NULL, *replaced = NULL;
    int64_t deadline = deadline_of(ticket, offer);
    int result;

    if (ticket->generation && deadline && is_small_enough(cache, size, offer->cost)) {
        item = make_item(key, size, ticket, offer);
    }
    if (!item) {
        return NULL;
    }
    item->entry.deadline = deadline;
    if (!admit(cache, ticket) || !reserve(cache, bytes_of(item))) {
        result = 1;
    }
    else {
        redlane_lock(&shard->lock);
        result = insert_locked(cache, shard, ticket, item, &replaced);
        redlane_unlock(&shard->lock);
        if (result != 0) {
            (void)atomic_fetch_sub_explicit(&cache->bytes, bytes_of(item),
                                            memory_order_relaxed);
        }
        redlane_near_items_let_go(cache, replaced);
    }
    if (result != 0) {
        free(item);
        return NULL;
    }
    (void)reserve(cache, 0); /* the slots may have grown */
    return &item->entry;
}

/* --- finding --------------------------------------------------------------- */

RedlaneNearEntry *
redlane_near_find(RedlaneNear *near, const char *key, size_t size)
{
    RedlaneNearCache *cache = redlane_near_cache(near);
    uint64_t hash = redlane_table_hash(&cache->seed, key, size);
    RedlaneNearShard *shard = redlane_near_shard_of(cache, hash);
    int64_t now = redlane_clock_coarse();
    RedlaneNearEntry *entry = NULL;
    RedlaneSlot *slot;

    redlane_lock(&shard->lock);
    slot = redlane_table_find(&shard->table, hash, key, size);
    if (slot &&
        redlane_near_is_hit(near, &redlane_near_item_of_slot(slot)->entry, now)) {
        entry = redlane_near_entry_hold(&redlane_near_item_of_slot(slot)->entry);
        redlane_near_entry_visit(entry);
        shard->hits++;
    }
    else {
        shard->misses++;
    }
    redlane_unlock(&shard->lock);
    return entry;
}

RedlaneNearEntry *
redlane_near_find_stale(RedlaneNear *near, const char *key, size_t size)
{
    RedlaneNearCache *cache = redlane_near_cache(near);
    uint64_t hash = redlane_table_hash(&cache->seed, key, size);
    RedlaneNearShard *shard = redlane_near_shard_of(cache, hash);
    int64_t now = redlane_clock_coarse();
    RedlaneNearEntry *entry = NULL;
    RedlaneSlot *slot;

    redlane_lock(&shard->lock);
    slot = redlane_table_find(&shard->table, hash, key, size);
    if (slot && now < redlane_near_item_of_slot(slot)->entry.deadline &&
        redlane_near_item_generation(redlane_near_item_of_slot(slot)) >=
            atomic_load(&cache->floor)) {
        entry = redlane_near_entry_hold(&redlane_near_item_of_slot(slot)->entry);
        redlane_near_entry_visit(entry);
    }
    redlane_unlock(&shard->lock);
    return entry;
}
