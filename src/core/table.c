/* The byte-keyed table in hash order: see table.h for its drawing and invariant.
 *
 * Plain C; the owner's lock. */
#include "core/table.h"

#include <stdlib.h>
#if defined(__linux__)
#include <sys/random.h>
#endif

#include "core/clock.h"

#define HOMES_MIN ((size_t)4)
#define HOMES_MAX (SIZE_MAX / 4 / sizeof(RedlaneSlot))

/* Spare slots behind the last home. The tail of displacements falls by e^-0.55 a slot
 * at three quarters full, so 40 overflow (and grow the table early) about never. */
#define SPARE_MAX 40

static const RedlaneSlot free_slot = {REDLANE_TABLE_FREE, NULL};

/* What a table without slots looks into: never written. */
static RedlaneSlot no_slots[1] = {{REDLANE_TABLE_FREE, NULL}};

void
redlane_hash_seed(RedlaneSeed *seed)
{
    ssize_t got = -1;

#if defined(__linux__)
    got = getrandom(seed->words, sizeof(seed->words), GRND_NONBLOCK);
#elif defined(__APPLE__) || defined(__FreeBSD__)
    arc4random_buf(seed->words, sizeof(seed->words));
    got = (ssize_t)sizeof(seed->words);
#endif
    if (got != (ssize_t)sizeof(seed->words)) {
        seed->words[0] =
            redlane_hash_fold((uint64_t)redlane_clock_now() ^ REDLANE_HASH_A,
                              (uint64_t)(uintptr_t)seed | 1);
        seed->words[1] = redlane_hash_fold(
            (uint64_t)redlane_clock_unix_ms() ^ REDLANE_HASH_B, seed->words[0] | 1);
    }
    if (!seed->words[0] && !seed->words[1]) {
        seed->words[0] = REDLANE_HASH_C;
    }
}

/* Items that fit before it grows. */
static size_t
items_of_homes(size_t homes)
{
    return homes / 4 * 3 + homes % 4 * 3 / 4;
}

static size_t
slots_of_homes(size_t homes)
{
    size_t spare = items_of_homes(homes);

    return homes + (spare < SPARE_MAX ? spare : SPARE_MAX) + 1;
}

static size_t
more_homes(size_t homes)
{
    return homes < HOMES_MIN ? HOMES_MIN : homes + homes / 2;
}

void
redlane_table_init(RedlaneTable *table, size_t key_at)
{
    *table = (RedlaneTable){.slots = no_slots, .key_at = (uint32_t)key_at};
}

void
redlane_table_free(RedlaneTable *table)
{
    if (table->homes) {
        free(table->slots);
    }
    redlane_table_init(table, table->key_at);
}

size_t
redlane_table_bytes(const RedlaneTable *table)
{
    return table->homes ? slots_of_homes(table->homes) * sizeof(RedlaneSlot) : 0;
}

/* Copies all items, in order, into the slots of a table of another size; false if they
 * run into the last slot. */
static bool
spread(const RedlaneTable *table, const RedlaneTable *other)
{
    size_t total = slots_of_homes(other->homes), at = 0;

    for (RedlaneSlot *slot = redlane_table_from(table, 0); slot;
         slot = redlane_table_next(table, slot)) {
        size_t home = redlane_table_home(other, slot->hash);

        for (; at < home; at++) {
            other->slots[at] = free_slot;
        }
        if (at >= total - 1) {
            return false;
        }
        other->slots[at++] = *slot;
    }
    for (; at < total; at++) {
        other->slots[at] = free_slot;
    }
    return true;
}

/* To so many homes, or more if the last run does not end in time; but where hashes are
 * so alike that even a nearly empty table does not hold them, it gives up. */
static bool
resize(RedlaneTable *table, size_t homes)
{
    RedlaneTable other = *table;

    for (; homes <= HOMES_MAX && items_of_homes(homes) / 64 <= table->count + 1;
         homes = more_homes(homes)) {
        other.homes = homes;
        other.slots = malloc(slots_of_homes(homes) * sizeof(RedlaneSlot));
        if (!other.slots) {
            return false;
        }
        if (spread(table, &other)) {
            if (table->homes) {
                free(table->slots);
            }
            *table = other;
            return true;
        }
        free(other.slots);
    }
    return false;
}

bool
redlane_table_insert(RedlaneTable *table, uint64_t hash, RedlaneItem *item)
{
    RedlaneSlot *slot, *gap;

    if (table->count == items_of_homes(table->homes) &&
        !resize(table, more_homes(table->homes))) {
        return false;
    }
    for (;;) {
        slot = table->slots + redlane_table_home(table, hash);
        while (slot->hash <= hash) {
            slot++;
        }
        gap = slot;
        while (gap->item) {
            gap++;
        }
        if (gap != table->slots + slots_of_homes(table->homes) - 1) {
            break;
        }
        if (!resize(table, more_homes(table->homes))) {
            return false;
        }
    }
    memmove(slot + 1, slot, (size_t)(gap - slot) * sizeof(*slot));
    *slot = (RedlaneSlot){hash, item};
    table->count++;
    return true;
}

/* Tried where the count comes to a power of two, not at each removal: what a walk that
 * removes in the order of hashes leaves is too dense for half the slots, and to find
 * that out costs a pass over all of them. */
static bool
is_time_to_shrink(const RedlaneTable *table)
{
    return table->homes > HOMES_MIN &&
           table->count < items_of_homes(table->homes) / 8 &&
           (table->count & (table->count - 1)) == 0;
}

void
redlane_table_remove(RedlaneTable *table, RedlaneSlot *slot)
{
    RedlaneSlot *end = slot + 1;

    while (end->item &&
           (size_t)(end - table->slots) > redlane_table_home(table, end->hash)) {
        end++;
    }
    memmove(slot, slot + 1, (size_t)(end - slot - 1) * sizeof(*slot));
    end[-1] = free_slot;
    table->count--;
    if (is_time_to_shrink(table)) {
        /* without memory it stays as it is */
        (void)resize(table, table->count ? table->homes / 2 : HOMES_MIN);
    }
}

RedlaneSlot *
redlane_table_from(const RedlaneTable *table, uint64_t hash)
{
    RedlaneSlot *slot;

    if (!table->count) {
        return NULL;
    }
    slot = table->slots + redlane_table_home(table, hash);
    while (slot->item && slot->hash < hash) {
        slot++;
    }
    return slot->item ? slot : redlane_table_next(table, slot);
}

RedlaneSlot *
redlane_table_next(const RedlaneTable *table, RedlaneSlot *slot)
{
    const RedlaneSlot *end =
        table->slots + (table->homes ? slots_of_homes(table->homes) : 1);

    while (++slot < end) {
        if (slot->item) {
            return slot;
        }
    }
    return NULL;
}
