/* The values: shards, their SIEVE queues, eviction within the bound, and the queue of
 * the dead. Locks: the shard's, then that of the dead; never two shards' but for fork.
 * See near_internal.h for the drawing. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "near/near_internal.h"

/* One hold of a shard's lock looks at so many items: some microseconds. */
#define WALK_MOST 64
/* And one sweep of a shard takes so many holds. */
#define SWEEP_WALKS 8

static RedlaneNearItem *
item_of_entry(RedlaneNearEntry *entry)
{
    return (RedlaneNearItem *)(void *)((char *)entry -
                                       offsetof(RedlaneNearItem, entry));
}

static RedlaneNearItem *
item_of_slot(const RedlaneSlot *slot)
{
    return (RedlaneNearItem *)(void *)slot->item;
}

/* What malloc takes for a block: a head of 8 bytes, steps of 16. */
static size_t
block_size(size_t size)
{
    return (size + 8 + 15) & ~(size_t)15;
}

static RedlaneNearShard *
shard_of(RedlaneNearCache *cache, uint64_t hash)
{
    return &cache->shards[hash % REDLANE_NEAR_SHARDS];
}

static uint64_t *
epoch_of(RedlaneNearCache *cache, uint64_t hash)
{
    return &shard_of(cache, hash)
                ->epochs[hash / REDLANE_NEAR_SHARDS % REDLANE_NEAR_EPOCHS];
}

static uint64_t
current_generation(const RedlaneNearCache *cache)
{
    return atomic_load_explicit(&cache->head.generation, memory_order_acquire);
}

static uint64_t
generation_of(const RedlaneNearItem *item)
{
    return atomic_load_explicit(&item->entry.generation, memory_order_relaxed);
}

/* --- the dead -------------------------------------------------------------- */

void *
redlane_near_entry_release(RedlaneNearEntry *entry)
{
    void *value;

    if (atomic_fetch_sub_explicit(&entry->references, 1, memory_order_acq_rel) != 1) {
        return NULL;
    }
    value = entry->value;
    free(item_of_entry(entry));
    return value;
}

size_t
redlane_near_entry_bytes(const RedlaneNearEntry *entry)
{
    return ((const RedlaneNearItem *)(const void *)((const char *)entry -
                                                    offsetof(RedlaneNearItem, entry)))
        ->bytes;
}

/* The table's reference to items that are in it no more, chained by `older`. */
static void
let_go(RedlaneNearCache *cache, RedlaneNearItem *item)
{
    while (item) {
        RedlaneNearItem *next = item->older;

        if (atomic_fetch_sub_explicit(&item->entry.references, 1,
                                      memory_order_acq_rel) == 1) {
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

/* Takes an item out and kills it; the table's reference is the caller's then. */
static void
remove_locked(RedlaneNearCache *cache, RedlaneNearShard *shard, RedlaneSlot *slot)
{
    RedlaneNearItem *item = item_of_slot(slot);
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
    (void)atomic_fetch_sub_explicit(&cache->bytes, item->bytes, memory_order_relaxed);
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
    return atomic_exchange_explicit(&item->entry.visited, false,
                                    memory_order_relaxed) &&
           generation_of(item) == current_generation(cache) &&
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
    remove_locked(cache, shard, slot_of_locked(cache, shard, victim));
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
            let_go(cache, victim);
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
           ticket->epoch == *epoch_of(cache, ticket->hash);
}

void
redlane_near_values_stamp(RedlaneNearCache *cache, RedlaneNearTicket *ticket,
                          const char *key, size_t size)
{
    RedlaneNearShard *shard;

    ticket->hash = redlane_table_hash(&cache->seed, key, size);
    shard = shard_of(cache, ticket->hash);
    redlane_lock(&shard->lock);
    ticket->epoch = *epoch_of(cache, ticket->hash);
    redlane_unlock(&shard->lock);
}

bool
redlane_near_ticket_holds(RedlaneNear *near, const RedlaneNearTicket *ticket)
{
    RedlaneNearCache *cache = redlane_near_cache(near);
    RedlaneNearShard *shard = shard_of(cache, ticket->hash);
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
    RedlaneNearShard *shard = shard_of(cache, ticket->hash);
    bool holds;

    redlane_lock(&shard->lock);
    holds = holds_locked(cache, ticket);
    shard->overtaken += !holds;
    redlane_unlock(&shard->lock);
    return holds;
}

/* 0 when it may not be stored at all. */
static int64_t
deadline_of(const RedlaneNearTicket *ticket, int64_t pttl_ms, int64_t near_ttl_ms)
{
    int64_t left = pttl_ms == -1 ? near_ttl_ms : pttl_ms;

    if (left <= 0) {
        return 0;
    }
    if (left >= (REDLANE_NEVER - ticket->sent_at) / REDLANE_NS_PER_MS) {
        return REDLANE_NEVER;
    }
    return ticket->sent_at + left * REDLANE_NS_PER_MS - REDLANE_COARSE_TICK;
}

static RedlaneNearItem *
make_item(const char *key, size_t size, void *value, size_t cost)
{
    RedlaneNearItem *item = malloc(sizeof(*item) + size);

    if (!item) {
        return NULL;
    }
    item->item.key_size = (uint32_t)size;
    item->bytes = block_size(sizeof(*item) + size) + cost;
    item->newer = item->older = NULL;
    item->entry.value = value;
    atomic_init(&item->entry.references, 2);
    atomic_init(&item->entry.visited, false);
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
        *replaced = item_of_slot(slot);
        remove_locked(cache, shard, slot);
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
                   const RedlaneNearTicket *ticket, void *value, size_t cost,
                   int64_t pttl_ms, int64_t near_ttl_ms)
{
    RedlaneNearCache *cache = redlane_near_cache(near);
    RedlaneNearShard *shard = shard_of(cache, ticket->hash);
    RedlaneNearItem *item, *replaced = NULL;
    int64_t deadline = deadline_of(ticket, pttl_ms, near_ttl_ms);
    int result;

    if (!ticket->generation || !deadline || size > UINT32_MAX / 2 ||
        cost > cache->max_bytes / 2 || size > cache->max_bytes / 2) {
        return NULL;
    }
    item = make_item(key, size, value, cost);
    if (!item) {
        return NULL;
    }
    item->entry.deadline = deadline;
    atomic_init(&item->entry.generation, ticket->generation);
    if (!admit(cache, ticket) || !reserve(cache, item->bytes)) {
        result = 1;
    }
    else {
        redlane_lock(&shard->lock);
        result = insert_locked(cache, shard, ticket, item, &replaced);
        redlane_unlock(&shard->lock);
        if (result != 0) {
            (void)atomic_fetch_sub_explicit(&cache->bytes, item->bytes,
                                            memory_order_relaxed);
        }
        let_go(cache, replaced);
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
    RedlaneNearShard *shard = shard_of(cache, hash);
    int64_t now = redlane_clock_coarse();
    RedlaneNearEntry *entry = NULL;
    RedlaneSlot *slot;

    redlane_lock(&shard->lock);
    slot = redlane_table_find(&shard->table, hash, key, size);
    if (slot && redlane_near_is_hit(near, &item_of_slot(slot)->entry, now)) {
        entry = redlane_near_entry_hold(&item_of_slot(slot)->entry);
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
    RedlaneNearShard *shard = shard_of(cache, hash);
    int64_t now = redlane_clock_coarse();
    RedlaneNearEntry *entry = NULL;
    RedlaneSlot *slot;

    redlane_lock(&shard->lock);
    slot = redlane_table_find(&shard->table, hash, key, size);
    if (slot && now < item_of_slot(slot)->entry.deadline &&
        generation_of(item_of_slot(slot)) >= atomic_load(&cache->floor)) {
        entry = redlane_near_entry_hold(&item_of_slot(slot)->entry);
        redlane_near_entry_visit(entry);
    }
    redlane_unlock(&shard->lock);
    return entry;
}

/* --- killing --------------------------------------------------------------- */

void
redlane_near_kill(RedlaneNear *near, const char *key, size_t size)
{
    RedlaneNearCache *cache = redlane_near_cache(near);
    uint64_t hash = redlane_table_hash(&cache->seed, key, size);
    RedlaneNearShard *shard = shard_of(cache, hash);
    RedlaneNearItem *item = NULL;
    RedlaneSlot *slot;

    redlane_lock(&shard->lock);
    ++*epoch_of(cache, hash);
    slot = redlane_table_find(&shard->table, hash, key, size);
    if (slot) {
        item = item_of_slot(slot);
        remove_locked(cache, shard, slot);
    }
    redlane_unlock(&shard->lock);
    let_go(cache, item);
    redlane_near_wake_waiters(cache);
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
    return item->entry.deadline <= choice->now || generation_of(item) < choice->floor;
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
        if (is_chosen(item_of_slot(slot), choice)) {
            RedlaneNearItem *item = item_of_slot(slot);

            remove_locked(cache, shard, slot);
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
    let_go(cache, removed);
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
