/* The byte-keyed table in hash order: see table.h for its drawing and invariant.
 *
 * Plain C; the owner's lock. */
#include "core/table.h"

#include <stdlib.h>
#if defined(__linux__)
#include <sys/random.h>
#endif

#include "core/clock.h"

#define BITS_MIN 2
#define BITS_MAX 48

/* Spare slots behind the last home. The tail of displacements falls by e^-0.55 a slot
 * at three quarters full, so 40 overflow (and grow the table early) about never. */
#define SPARE_MAX 40

static const RedlaneSlot free_slot = {REDLANE_TABLE_FREE, NULL};

/* What a table without slots looks into: never written. */
static RedlaneSlot no_slots[2] = {{REDLANE_TABLE_FREE, NULL},
                                  {REDLANE_TABLE_FREE, NULL}};

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

static size_t
items_of_bits(unsigned bits)
{
    return ((size_t)3 << bits) / 4;
}

static size_t
slots_of_bits(unsigned bits)
{
    size_t spare = items_of_bits(bits);

    return ((size_t)1 << bits) + (spare < SPARE_MAX ? spare : SPARE_MAX) + 1;
}

static void
set_slots(RedlaneTable *table, RedlaneSlot *slots, unsigned bits)
{
    table->slots = slots;
    table->bits = (uint8_t)bits;
    table->shift = (uint8_t)(bits ? 64 - bits : 63);
    table->limit = bits ? items_of_bits(bits) : 0;
}

void
redlane_table_init(RedlaneTable *table, size_t key_at)
{
    set_slots(table, no_slots, 0);
    table->count = 0;
    table->key_at = (uint32_t)key_at;
}

void
redlane_table_free(RedlaneTable *table)
{
    if (table->bits) {
        free(table->slots);
    }
    redlane_table_init(table, table->key_at);
}

size_t
redlane_table_bytes(const RedlaneTable *table)
{
    return table->bits ? slots_of_bits(table->bits) * sizeof(RedlaneSlot) : 0;
}

/* Copies all items, in order, into slots of 1 << bits homes; false if they run into
 * the last slot. */
static bool
spread(const RedlaneTable *table, RedlaneSlot *slots, unsigned bits)
{
    size_t total = slots_of_bits(bits), at = 0;

    for (RedlaneSlot *slot = redlane_table_from(table, 0); slot;
         slot = redlane_table_next(table, slot)) {
        size_t home = slot->hash >> (64 - bits);

        for (; at < home; at++) {
            slots[at] = free_slot;
        }
        if (at >= total - 1) {
            return false;
        }
        slots[at++] = *slot;
    }
    for (; at < total; at++) {
        slots[at] = free_slot;
    }
    return true;
}

/* To 1 << bits homes, or more if the last run does not end in time; but where hashes
 * are so alike that even a nearly empty table does not hold them, it gives up. */
static bool
resize(RedlaneTable *table, unsigned bits)
{
    for (; bits <= BITS_MAX && items_of_bits(bits) / 64 <= table->count + 1; bits++) {
        RedlaneSlot *slots = malloc(slots_of_bits(bits) * sizeof(RedlaneSlot));

        if (!slots) {
            return false;
        }
        if (spread(table, slots, bits)) {
            if (table->bits) {
                free(table->slots);
            }
            set_slots(table, slots, bits);
            return true;
        }
        free(slots);
    }
    return false;
}

bool
redlane_table_insert(RedlaneTable *table, uint64_t hash, RedlaneItem *item)
{
    RedlaneSlot *slot, *gap;

    if (table->count == table->limit &&
        !resize(table, table->bits < BITS_MIN ? BITS_MIN : table->bits + 1u)) {
        return false;
    }
    for (;;) {
        slot = table->slots + (hash >> table->shift);
        while (slot->hash <= hash) {
            slot++;
        }
        gap = slot;
        while (gap->item) {
            gap++;
        }
        if (gap != table->slots + slots_of_bits(table->bits) - 1) {
            break;
        }
        if (!resize(table, table->bits + 1u)) {
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
    return table->bits > BITS_MIN && table->count < table->limit / 8 &&
           (table->count & (table->count - 1)) == 0;
}

void
redlane_table_remove(RedlaneTable *table, RedlaneSlot *slot)
{
    RedlaneSlot *end = slot + 1;

    while (end->item && (size_t)(end - table->slots) > end->hash >> table->shift) {
        end++;
    }
    memmove(slot, slot + 1, (size_t)(end - slot - 1) * sizeof(*slot));
    end[-1] = free_slot;
    table->count--;
    if (is_time_to_shrink(table)) {
        /* without memory it stays as it is */
        (void)resize(table, table->count ? table->bits - 1u : BITS_MIN);
    }
}

RedlaneSlot *
redlane_table_from(const RedlaneTable *table, uint64_t hash)
{
    RedlaneSlot *slot;

    if (!table->count) {
        return NULL;
    }
    slot = table->slots + (hash >> table->shift);
    while (slot->item && slot->hash < hash) {
        slot++;
    }
    return slot->item ? slot : redlane_table_next(table, slot);
}

RedlaneSlot *
redlane_table_next(const RedlaneTable *table, RedlaneSlot *slot)
{
    const RedlaneSlot *end =
        table->slots + (table->bits ? slots_of_bits(table->bits) : 2);

    while (++slot < end) {
        if (slot->item) {
            return slot;
        }
    }
    return NULL;
}
