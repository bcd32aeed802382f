/* Entries and the bytes they take: blocks, the SIEVE queue, eviction, expiry times.
 *
 * SIEVE: Zhang et al., "SIEVE is Simpler than LRU", NSDI 2024. A hit sets one bit and
 * moves nothing; the hand clears bits on its way from the oldest to the newest and
 * evicts the first entry that was not used since it was last there.
 *
 * Plain C, with the engine's lock held. */
#include <stdlib.h>
#include <string.h>

#include "core/platform.h"
#include "store/engine_internal.h"

/* An engine that held this much gives it back to the system when it is emptied: 64 MB
 * of small entries left 56 behind in the process. Takes 5 ms where freeing them took
 * 10 to 130. */
#define TRIM_FROM ((size_t)1 << 20)

void *
redlane_engine_alloc(RedlaneEngine *engine, size_t size)
{
    void *block = malloc(redlane_block_size(size) - 8);

    if (block) {
        engine->used += redlane_block_size(size);
    }
    return block;
}

void *
redlane_engine_realloc(RedlaneEngine *engine, void *block, size_t old_size, size_t size)
{
    if (redlane_block_size(old_size) == redlane_block_size(size)) {
        return block;
    }
    block = realloc(block, redlane_block_size(size) - 8);
    if (block) {
        engine->used += redlane_block_size(size) - redlane_block_size(old_size);
    }
    return block;
}

void
redlane_engine_release(RedlaneEngine *engine, void *block, size_t size)
{
    free(block);
    engine->used -= redlane_block_size(size);
}

/* What malloc takes for a table's slots. */
static size_t
slots_size(const RedlaneTable *table)
{
    size_t size = redlane_table_bytes(table);

    return size ? redlane_block_size(size) : 0;
}

bool
redlane_engine_insert(RedlaneEngine *engine, RedlaneTable *table, uint64_t hash,
                      RedlaneItem *item)
{
    size_t before = slots_size(table);

    if (!redlane_table_insert(table, hash, item)) {
        return false;
    }
    engine->used += slots_size(table) - before;
    return true;
}

void
redlane_engine_remove(RedlaneEngine *engine, RedlaneTable *table, RedlaneSlot *slot)
{
    size_t before = slots_size(table);

    redlane_table_remove(table, slot);
    engine->used += slots_size(table) - before;
}

static size_t
entry_size(const RedlaneEntry *entry)
{
    return REDLANE_ENTRY_HEAD + entry->item.key_size + entry->value_size;
}

static size_t
item_size(const RedlaneItem *item, RedlaneValueType type)
{
    if (type == REDLANE_VALUE_ZSET) {
        return REDLANE_MEMBER_HEAD + item->key_size;
    }
    return REDLANE_FIELD_HEAD + item->key_size +
           ((const RedlaneField *)(const void *)item)->value_size;
}

/* Frees what an entry holds beside its own block. */
static void
drop_container(RedlaneEngine *engine, RedlaneEntry *entry)
{
    RedlaneContainer *container = entry->container;
    RedlaneValueType type = (RedlaneValueType)entry->type;

    if (!container) {
        return;
    }
    for (RedlaneSlot *slot = redlane_table_from(&container->table, 0); slot;
         slot = redlane_table_next(&container->table, slot)) {
        redlane_engine_release(engine, slot->item, item_size(slot->item, type));
    }
    engine->used -= slots_size(&container->table);
    redlane_table_free(&container->table);
    if (container->order) {
        redlane_engine_release(engine, container->order,
                               container->capacity * sizeof(*container->order));
    }
    redlane_engine_release(engine, container, sizeof(*container));
    entry->container = NULL;
    entry->type = REDLANE_VALUE_STRING;
}

static void
free_entry(RedlaneEngine *engine, RedlaneEntry *entry)
{
    if (entry->expires != REDLANE_NEVER) {
        engine->with_ttl--;
    }
    drop_container(engine, entry);
    redlane_engine_release(engine, entry, entry_size(entry));
}

/* The queue's pointers to an entry: after it came, moved or before it goes. */
static void
link_neighbours(RedlaneEngine *engine, const RedlaneEntry *entry, RedlaneEntry *newer,
                RedlaneEntry *older)
{
    if (entry->newer) {
        entry->newer->older = older;
    }
    else {
        engine->newest = older;
    }
    if (entry->older) {
        entry->older->newer = newer;
    }
    else {
        engine->oldest = newer;
    }
}

static RedlaneSlot *
slot_of(const RedlaneEngine *engine, const RedlaneEntry *entry)
{
    RedlaneArg key = {entry->bytes, entry->item.key_size};

    return redlane_table_find(&engine->keys, redlane_engine_hash(engine, key), key.data,
                              key.size);
}

void
redlane_engine_delete(RedlaneEngine *engine, RedlaneEntry *entry)
{
    redlane_engine_remove(engine, &engine->keys, slot_of(engine, entry));
    if (engine->hand == entry) {
        engine->hand = entry->newer;
    }
    link_neighbours(engine, entry, entry->newer, entry->older);
    free_entry(engine, entry);
}

void
redlane_engine_delete_expired(RedlaneEngine *engine, RedlaneEntry *entry)
{
    engine->expired++;
    redlane_engine_delete(engine, entry);
}

void
redlane_engine_clear(RedlaneEngine *engine)
{
    RedlaneEntry *entry = engine->newest;
    size_t before = engine->used;

    while (entry) {
        RedlaneEntry *older = entry->older;

        free_entry(engine, entry);
        entry = older;
    }
    engine->used -= slots_size(&engine->keys);
    redlane_table_free(&engine->keys);
    engine->newest = engine->oldest = engine->hand = NULL;
    engine->sweep = 0;
    if (before - engine->used >= TRIM_FROM) {
        redlane_platform_trim_heap();
    }
}

bool
redlane_engine_evict(RedlaneEngine *engine, const RedlaneEntry *keep)
{
    RedlaneEntry *victim = engine->hand ? engine->hand : engine->oldest;

    if (engine->keys.count < (keep ? 2 : 1)) {
        return false;
    }
    while (victim == keep || (victim->visited && !redlane_entry_expired(victim))) {
        victim->visited = false;
        victim = victim->newer ? victim->newer : engine->oldest;
    }
    if (redlane_entry_expired(victim)) {
        engine->expired++;
    }
    else {
        engine->evictions++;
    }
    engine->hand = victim;
    redlane_engine_delete(engine, victim);
    return true;
}

/* Bytes that stay when all but `entry` is evicted: its own and the smallest table. */
static size_t
entry_bytes(const RedlaneEntry *entry)
{
    if (!entry) {
        return 0;
    }
    return redlane_block_size(entry_size(entry)) +
           (entry->container ? entry->container->bytes : 0);
}

bool
redlane_engine_reserve(RedlaneEngine *engine, size_t need, RedlaneEntry *keep,
                       RedlaneReply *reply)
{
    if (__builtin_expect(
            need <= engine->max_bytes && engine->used <= engine->max_bytes - need, 1)) {
        return true;
    }
    if (need <= engine->max_bytes && entry_bytes(keep) <= engine->max_bytes - need) {
        while (engine->used > engine->max_bytes - need &&
               redlane_engine_evict(engine, keep)) {
        }
        if (engine->used <= engine->max_bytes - need) {
            return true;
        }
    }
    redlane_reply_error(reply, REDLANE_ERROR_MEMORY);
    return false;
}

RedlaneEntry *
redlane_engine_create(RedlaneEngine *engine, RedlaneArg key, RedlaneValueType type,
                      size_t value_size)
{
    size_t size = REDLANE_ENTRY_HEAD + key.size + value_size;
    RedlaneEntry *entry = redlane_engine_alloc(engine, size);
    RedlaneContainer *container = NULL;

    if (!entry) {
        return NULL;
    }
    if (type != REDLANE_VALUE_STRING) {
        container = redlane_engine_alloc(engine, sizeof(*container));
        if (!container) {
            goto error;
        }
        *container =
            (RedlaneContainer){.bytes = redlane_block_size(sizeof(*container))};
        redlane_table_init(&container->table, type == REDLANE_VALUE_ZSET
                                                  ? REDLANE_MEMBER_HEAD
                                                  : REDLANE_FIELD_HEAD);
    }
    entry->item.key_size = (uint32_t)key.size;
    entry->value_size = (uint32_t)value_size;
    entry->expires = REDLANE_NEVER;
    entry->container = container;
    entry->type = (uint8_t)type;
    entry->visited = false;
    if (key.size) {
        memcpy(entry->bytes, key.data, key.size);
    }
    if (!redlane_engine_insert(engine, &engine->keys, redlane_engine_hash(engine, key),
                               &entry->item)) {
        goto error;
    }
    entry->newer = NULL;
    entry->older = engine->newest;
    link_neighbours(engine, entry, entry, entry);
    return entry;
error:
    if (container) {
        redlane_engine_release(engine, container, sizeof(*container));
    }
    redlane_engine_release(engine, entry, size);
    return NULL;
}

RedlaneEntry *
redlane_engine_resize(RedlaneEngine *engine, RedlaneEntry *entry, size_t value_size)
{
    RedlaneSlot *slot;
    RedlaneEntry *moved;
    bool at_hand = engine->hand == entry;
    size_t old_size = entry_size(entry);
    size_t size = old_size - entry->value_size + value_size;

    if (redlane_block_size(old_size) == redlane_block_size(size)) {
        entry->value_size = (uint32_t)value_size;
        return entry;
    }
    slot = slot_of(engine, entry);
    moved = redlane_engine_realloc(engine, entry, old_size, size);
    if (!moved) {
        return NULL;
    }
    moved->value_size = (uint32_t)value_size;
    slot->item = &moved->item;
    link_neighbours(engine, moved, moved, moved);
    if (at_hand) {
        engine->hand = moved;
    }
    return moved;
}

size_t
redlane_engine_need(RedlaneArg key, size_t size)
{
    return redlane_block_size(REDLANE_ENTRY_HEAD + key.size + size) +
           2 * sizeof(RedlaneSlot);
}

RedlaneEntry *
redlane_engine_store(RedlaneEngine *engine, RedlaneArg key, RedlaneEntry *old,
                     const char *data, size_t size, RedlaneReply *reply)
{
    size_t need = redlane_engine_need(key, size);
    RedlaneEntry *entry;

    if (old) { /* its place is used again */
        size_t has = entry_bytes(old);

        need = need > has ? need - has : 0;
    }
    if (!redlane_engine_reserve(engine, need, old, reply)) {
        return NULL;
    }
    if (old) {
        drop_container(engine, old);
        entry = redlane_engine_resize(engine, old, size);
    }
    else {
        entry = redlane_engine_create(engine, key, REDLANE_VALUE_STRING, size);
    }
    if (!entry) {
        redlane_reply_error(reply, REDLANE_ERROR_MEMORY);
        return NULL;
    }
    if (size) {
        memcpy(entry->bytes + entry->item.key_size, data, size);
    }
    return entry;
}

void
redlane_engine_set_expires(RedlaneEngine *engine, RedlaneEntry *entry, int64_t expires)
{
    if (entry->expires != REDLANE_NEVER) {
        engine->with_ttl--;
    }
    if (expires != REDLANE_NEVER) {
        engine->with_ttl++;
    }
    entry->expires = expires;
}

/* What is added to a Unix time to make it a monotonic one, in milliseconds. Kept until
 * the clocks are 5 ms apart from it, so that one Unix time is always one expiry: a
 * fresh difference of two readings is off by a millisecond now and then. */
static int64_t
unix_to_monotonic(RedlaneEngine *engine)
{
    int64_t shift = redlane_clock_now() / REDLANE_NS_PER_MS - redlane_clock_unix_ms();

    if (!engine->unix_shift || shift - engine->unix_shift > 5 ||
        engine->unix_shift - shift > 5) {
        engine->unix_shift = shift;
    }
    return engine->unix_shift;
}

int64_t
redlane_engine_expires_at(RedlaneEngine *engine, int64_t unix_ms)
{
    int64_t shift = unix_to_monotonic(engine);

    if (shift > 0 && unix_ms > REDLANE_NEVER - 1 - shift) {
        return REDLANE_NEVER - 1;
    }
    if (unix_ms <= 0 || unix_ms + shift <= 0) {
        return 0; /* long past: one past is like another */
    }
    return unix_ms + shift < REDLANE_NEVER ? unix_ms + shift : REDLANE_NEVER - 1;
}

int64_t
redlane_engine_unix_of(RedlaneEngine *engine, int64_t expires)
{
    int64_t unix_ms;

    if (__builtin_sub_overflow(expires, unix_to_monotonic(engine), &unix_ms)) {
        return REDLANE_NEVER -
               1; /* the clock was put back since a far expiry was set */
    }
    return unix_ms;
}

RedlaneEntry *
redlane_engine_open(RedlaneEngine *engine, RedlaneArg key, RedlaneValueType type,
                    size_t need, RedlaneReply *reply)
{
    RedlaneEntry *entry = redlane_engine_find(engine, key);

    if (redlane_entry_mismatch(entry, type, reply)) {
        return NULL;
    }
    if (!entry) {
        need +=
            redlane_engine_need(key, 0) + redlane_block_size(sizeof(RedlaneContainer));
    }
    if (!redlane_engine_reserve(engine, need, entry, reply)) {
        return NULL;
    }
    if (!entry) {
        entry = redlane_engine_create(engine, key, type, 0);
        if (!entry) {
            redlane_reply_error(reply, REDLANE_ERROR_MEMORY);
        }
    }
    return entry;
}

void
redlane_engine_close(RedlaneEngine *engine, RedlaneEntry *entry, size_t before)
{
    entry->container->bytes += engine->used - before;
    if (!entry->container->table.count) {
        redlane_engine_delete(engine, entry);
    }
}
