/* The table: its order, its invariant under random change, and the promise that SCAN
 * builds on. */
#include "core/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_tests.h"

typedef struct {
    RedlaneItem item;
    uint32_t number;
    bool in;
    unsigned seen;
    char key[12];
} Item;

#define ITEMS 5000

static Item items[ITEMS];
static RedlaneSeed seed;

static uint64_t
hash_of(const Item *item)
{
    return redlane_table_hash(&seed, item->key, item->item.key_size);
}

static RedlaneSlot *
find(const RedlaneTable *table, const Item *item)
{
    return redlane_table_find(table, hash_of(item), item->key, item->item.key_size);
}

static void
make_items(void)
{
    for (uint32_t i = 0; i < ITEMS; i++) {
        items[i] = (Item){.number = i};
        items[i].item.key_size =
            (uint32_t)snprintf(items[i].key, sizeof(items[i].key), "k%u", i);
    }
}

/* Hashes never fall, every item is found, the count is right. */
static void
check_order(const RedlaneTable *table)
{
    uint64_t last = 0;
    size_t count = 0;

    for (RedlaneSlot *slot = redlane_table_from(table, 0); slot;
         slot = redlane_table_next(table, slot)) {
        const Item *item = (const Item *)(const void *)slot->item;

        CHECK(slot->hash >= last && slot->hash == hash_of(item) && item->in);
        CHECK(find(table, item) == slot);
        last = slot->hash;
        count++;
    }
    CHECK_INTEGER(count, table->count);
}

static void
flip(RedlaneTable *table, Item *item)
{
    if (item->in) {
        redlane_table_remove(table, find(table, item));
    }
    else {
        CHECK(redlane_table_insert(table, hash_of(item), &item->item));
    }
    item->in = !item->in;
}

static void
test_random_change(void)
{
    RedlaneTable table;

    redlane_table_init(&table, offsetof(Item, key));
    CHECK(redlane_table_from(&table, 0) == NULL && find(&table, &items[0]) == NULL);
    CHECK_INTEGER(redlane_table_bytes(&table), 0);
    srand(1);
    for (int i = 0; i < 60000; i++) {
        /* waves, so that it grows and shrinks */
        int span = (i / 10000) % 2 ? 20 : ITEMS;

        flip(&table, &items[rand() % span]);
        if (i % 5000 == 0) {
            check_order(&table);
        }
    }
    for (int i = 0; i < ITEMS; i++) {
        CHECK((find(&table, &items[i]) != NULL) == items[i].in);
        if (items[i].in) {
            flip(&table, &items[i]);
        }
    }
    CHECK(table.count == 0 && redlane_table_bytes(&table) < 1024);
    redlane_table_free(&table);
}

/* A walk by hash meets what is there throughout exactly once, while the table grows to
 * many times its size and shrinks again around it. */
static void
test_walk_through_growth(void)
{
    RedlaneTable table;
    uint64_t cursor = 0;
    int next = 100;
    bool growing = true;

    redlane_table_init(&table, offsetof(Item, key));
    for (int i = 0; i < 100; i++) {
        flip(&table, &items[i]);
    }
    for (;;) {
        RedlaneSlot *slot = redlane_table_from(&table, cursor);

        if (!slot) {
            break;
        }
        ((Item *)(void *)slot->item)->seen++;
        cursor = slot->hash + 1;
        for (int i = 0; i < 100; i++) {
            growing = next >= ITEMS ? false : next <= 100 ? true : growing;
            flip(&table, &items[growing ? next++ : --next]);
        }
    }
    for (int i = 0; i < 100; i++) {
        CHECK_INTEGER(items[i].seen, 1);
    }
    for (int i = 0; i < ITEMS; i++) {
        if (items[i].in) {
            flip(&table, &items[i]);
        }
    }
    redlane_table_free(&table);
}

/* Items of one hash, also at both ends; more than a table's end can hold are refused.
 */
static void
test_equal_hashes(void)
{
    static const uint64_t hashes[] = {2, 3, REDLANE_TABLE_FREE - 1,
                                      UINT64_C(0x8000000000000000)};
    RedlaneTable table;
    int refused = 0;

    redlane_table_init(&table, offsetof(Item, key));
    for (int i = 0; i < 120; i++) {
        CHECK(redlane_table_insert(&table, hashes[i % 4], &items[i].item));
    }
    for (int i = 0; i < 120; i++) {
        RedlaneSlot *slot = redlane_table_find(&table, hashes[i % 4], items[i].key,
                                               items[i].item.key_size);

        CHECK(slot && slot->item == &items[i].item);
        if (slot) {
            redlane_table_remove(&table, slot);
        }
    }
    CHECK_INTEGER(table.count, 0);
    for (int i = 0; i < 200; i++) {
        refused += !redlane_table_insert(&table, hashes[2], &items[i].item);
    }
    CHECK(refused > 0 && redlane_table_bytes(&table) < (1 << 20));
    redlane_table_free(&table);
}

/* Every bit of a key moves about half of the top 32 bits of its hash. */
static void
test_hash_spreads(void)
{
    RedlaneSeed other;

    redlane_hash_seed(&other);
    CHECK(memcmp(&seed, &other, sizeof(seed)) != 0);
    for (size_t size = 1; size < 70; size++) {
        char key[70] = "";
        int changed = 0, flips = 0;
        uint64_t hash = redlane_hash_bytes(&seed, key, size);

        CHECK(hash != redlane_hash_bytes(&other, key, size));
        CHECK(hash != redlane_hash_bytes(&seed, key, size - 1));
        for (size_t bit = 0; bit < size * 8; bit++, flips++) {
            key[bit / 8] ^= (char)(1 << bit % 8);
            changed += __builtin_popcountll(
                (hash ^ redlane_hash_bytes(&seed, key, size)) >> 32);
            key[bit / 8] ^= (char)(1 << bit % 8);
        }
        CHECK(changed > flips * 10 && changed < flips * 22);
    }
}

void
test_table(void)
{
    redlane_hash_seed(&seed);
    make_items();
    test_random_change();
    make_items();
    test_walk_through_growth();
    test_equal_hashes();
    test_hash_spreads();
}
