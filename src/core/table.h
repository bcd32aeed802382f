/* A hash table keyed by bytes, whose slots stand in the order of their hashes.
 *
 *   hash * homes >> 64 = home bucket      (so buckets are in the order of hashes too)
 *
 *   slots  | h1 | h2 | -- | h5 | h5'| h6 | -- | … | h9 | spare … | end |
 *   home     0    0         3    3    3  (h6 displaced by one)
 *
 * Open addressing with linear probing. Invariant: going from the first slot to the
 * last, hashes never fall; an item stands at its home or, if that is taken, in the
 * unbroken run behind it; a free slot has the hash REDLANE_TABLE_FREE, the greatest;
 * the last slot is always free. So a look-up is one loop with one comparison, a miss
 * ends early, a deletion closes its gap (no tombstones), and growing is one pass in
 * order (about 3 ns an item; no item is touched).
 *
 * As any number of homes will do, it grows by half: at its emptiest it has two slots
 * for each item, where doubling would leave 2.7.
 *
 * A walk that remembers a hash instead of a slot meets every item that was there all
 * the time exactly once, whatever was inserted, deleted, grown or shrunk meanwhile:
 * SCAN's cursor is such a hash.
 *
 * The table borrows its items: blocks that begin with a RedlaneItem and have their key
 * at one offset. No lock: the owner's. */
#ifndef REDLANE_CORE_TABLE_H
#define REDLANE_CORE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/hash.h"

#define REDLANE_TABLE_FREE UINT64_MAX

typedef struct {
    uint32_t key_size;
} RedlaneItem;

typedef struct {
    uint64_t hash; /* REDLANE_TABLE_FREE: free */
    RedlaneItem *item;
} RedlaneSlot;

typedef struct {
    RedlaneSlot *slots; /* never NULL: empty tables share a free slot */
    size_t count;       /* items */
    size_t homes;       /* 0: nothing allocated */
    uint32_t key_at;    /* where an item's key begins */
} RedlaneTable;

/* An empty table; `key_at` is the offset of the key bytes in each item. */
void redlane_table_init(RedlaneTable *table, size_t key_at);

/* Frees the slots, not the items, and leaves an empty table. */
void redlane_table_free(RedlaneTable *table);

/* A key's hash, as this table wants it: not FREE, and half of it is not 0, the start of
 * a walk. */
static inline uint64_t
redlane_table_hash(const RedlaneSeed *seed, const char *key, size_t size)
{
    uint64_t hash = redlane_hash_bytes(seed, key, size);

    return hash - 2 < REDLANE_TABLE_FREE - 2 ? hash : 2;
}

static inline const char *
redlane_table_key(const RedlaneTable *table, const RedlaneItem *item)
{
    return (const char *)item + table->key_at;
}

/* Where the items of a hash begin to be looked for. */
static inline size_t
redlane_table_home(const RedlaneTable *table, uint64_t hash)
{
    return (size_t)((RedlaneWide)hash * table->homes >> 64);
}

/* The slot of a key, or NULL. It stays valid until the next insert or remove. */
static inline RedlaneSlot *
redlane_table_find(const RedlaneTable *table, uint64_t hash, const char *key,
                   size_t size)
{
    RedlaneSlot *slot = table->slots + redlane_table_home(table, hash);

    while (slot->hash < hash) {
        slot++;
    }
    for (; slot->hash == hash; slot++) {
        if (slot->item->key_size == size &&
            memcmp(redlane_table_key(table, slot->item), key, size) == 0) {
            return slot;
        }
    }
    return NULL;
}

/* Adds an item whose key is not there yet; false when memory is exhausted. */
bool redlane_table_insert(RedlaneTable *table, uint64_t hash, RedlaneItem *item);

/* Takes the item of a slot out; may shrink the table. */
void redlane_table_remove(RedlaneTable *table, RedlaneSlot *slot);

/* The first item whose hash is at least `hash`, and the one after a slot; NULL at the
 * end. for (slot = from(table, 0); slot; slot = next(table, slot)) */
RedlaneSlot *redlane_table_from(const RedlaneTable *table, uint64_t hash);
RedlaneSlot *redlane_table_next(const RedlaneTable *table, RedlaneSlot *slot);

/* Bytes of the slots. */
size_t redlane_table_bytes(const RedlaneTable *table);

#endif
