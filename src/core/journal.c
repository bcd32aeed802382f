#include "core/journal.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/glob.h"

enum {
    PART_DELETE = 1 << 0,
    PART_VALUE = 1 << 1,
    PART_AMOUNT = 1 << 2,
};

struct RedlaneJournalEntry {
    RedlaneItem item;
    uint8_t pending;  /* parts to be sent */
    uint8_t inflight; /* parts whose outcome is not known */
    bool refused;     /* what is in flight */
    bool absorbs;     /* PART_DELETE stands for a set: amounts go with it */
    bool permanent_wins;
    uint64_t hash;
    RedlaneJournalEntry *next; /* in the list of what is in flight */
    int64_t expires_at;
    int64_t amount, amount_px;
    int64_t inflight_amount;
    char *value; /* malloc'd; NULL without PART_VALUE, or where it is empty */
    size_t value_size;
    char key[];
};

#define ENTRY_COST (sizeof(RedlaneJournalEntry) + 2 * sizeof(RedlaneSlot) + 32)
#define PATTERN_COST (sizeof(RedlaneJournalPattern) + 16)

void
redlane_journal_init(RedlaneJournal *journal, size_t max_bytes)
{
    *journal = (RedlaneJournal){.max_bytes = max_bytes};
    journal->inflight_end = &journal->inflight;
    redlane_table_init(&journal->table, offsetof(RedlaneJournalEntry, key));
    redlane_hash_seed(&journal->seed);
}

static RedlaneJournalEntry *
entry_of(const RedlaneSlot *slot)
{
    return (RedlaneJournalEntry *)slot->item;
}

static RedlaneArg
key_of(const RedlaneJournalEntry *entry)
{
    return (RedlaneArg){entry->key, entry->item.key_size};
}

static void
drop_value(RedlaneJournal *journal, RedlaneJournalEntry *entry)
{
    journal->bytes -= entry->value_size;
    free(entry->value);
    entry->value = NULL;
    entry->value_size = 0;
}

static void
remove_entry(RedlaneJournal *journal, RedlaneJournalEntry *entry)
{
    RedlaneSlot *slot = redlane_table_find(&journal->table, entry->hash, entry->key,
                                           entry->item.key_size);

    redlane_table_remove(&journal->table, slot);
    drop_value(journal, entry);
    journal->bytes -= ENTRY_COST + entry->item.key_size;
    free(entry);
}

void
redlane_journal_free(RedlaneJournal *journal)
{
    for (RedlaneSlot *slot = redlane_table_from(&journal->table, 0); slot;
         slot = redlane_table_next(&journal->table, slot)) {
        free(entry_of(slot)->value);
        free(slot->item);
    }
    redlane_table_free(&journal->table);
    for (size_t i = 0; i < journal->pattern_count; i++) {
        free(journal->patterns[i].text);
    }
    free(journal->patterns);
    redlane_journal_init(journal, journal->max_bytes);
}

static RedlaneJournalEntry *
find_entry(const RedlaneJournal *journal, RedlaneArg key)
{
    RedlaneSlot *slot;

    if (key.size > UINT32_MAX) {
        return NULL;
    }
    slot = redlane_table_find(&journal->table,
                              redlane_table_hash(&journal->seed, key.data, key.size),
                              key.data, key.size);
    return slot ? entry_of(slot) : NULL;
}

static bool
has_room(const RedlaneJournal *journal, size_t extra)
{
    return extra <= journal->max_bytes && journal->bytes <= journal->max_bytes - extra;
}

/* A new entry without parts; NULL where there is no room or no memory. */
static RedlaneJournalEntry *
add_entry(RedlaneJournal *journal, RedlaneArg key)
{
    RedlaneJournalEntry *entry;

    if (key.size > UINT32_MAX || !has_room(journal, ENTRY_COST + key.size)) {
        return NULL;
    }
    entry = calloc(1, sizeof(*entry) + key.size);
    if (!entry) {
        return NULL;
    }
    entry->item.key_size = (uint32_t)key.size;
    if (key.size) {
        memcpy(entry->key, key.data, key.size);
    }
    entry->hash = redlane_table_hash(&journal->seed, key.data, key.size);
    if (!redlane_table_insert(&journal->table, entry->hash, &entry->item)) {
        free(entry);
        return NULL;
    }
    journal->bytes += ENTRY_COST + key.size;
    return entry;
}

static void
become_delete(RedlaneJournal *journal, RedlaneJournalEntry *entry, bool absorbs)
{
    drop_value(journal, entry);
    entry->pending = PART_DELETE;
    entry->absorbs = absorbs;
    entry->amount = 0;
}

/* False when there is no room; the entry is as it was. */
static bool
merge_value(RedlaneJournal *journal, RedlaneJournalEntry *entry,
            const RedlaneChange *change)
{
    char *value = NULL;

    if (entry->pending & PART_VALUE && entry->permanent_wins &&
        change->permanent_wins && !entry->expires_at && change->expires_at) {
        return true; /* a temporary one does not replace a permanent one */
    }
    if (!has_room(journal, change->value.size)) {
        return false;
    }
    if (change->value.size) {
        value = malloc(change->value.size);
        if (!value) {
            return false;
        }
        memcpy(value, change->value.data, change->value.size);
    }
    drop_value(journal, entry);
    entry->value = value;
    entry->value_size = change->value.size;
    journal->bytes += change->value.size;
    entry->expires_at = change->expires_at;
    entry->permanent_wins = change->permanent_wins;
    entry->absorbs = false;
    entry->amount = 0;
    entry->pending = (entry->pending & PART_DELETE) | PART_VALUE;
    return true;
}

static bool
merge_amount(RedlaneJournalEntry *entry, const RedlaneChange *change)
{
    int64_t sum;

    if ((entry->pending | entry->inflight) & PART_DELETE && entry->absorbs) {
        return true;
    }
    if (__builtin_add_overflow(entry->amount, change->amount, &sum)) {
        return false;
    }
    entry->amount = sum;
    entry->amount_px = change->amount_px;
    entry->pending |= PART_AMOUNT;
    return true;
}

static bool
merge(RedlaneJournal *journal, RedlaneJournalEntry *entry, const RedlaneChange *change)
{
    switch (change->kind) {
    case REDLANE_CHANGE_DELETE:
    case REDLANE_CHANGE_DROP:
        become_delete(journal, entry, change->kind == REDLANE_CHANGE_DROP);
        return true;
    case REDLANE_CHANGE_VALUE:
        return merge_value(journal, entry, change);
    case REDLANE_CHANGE_AMOUNT:
        break;
    }
    return merge_amount(entry, change);
}

static RedlaneJournalPattern *
find_pattern(const RedlaneJournal *journal, RedlaneArg pattern)
{
    for (size_t i = 0; i < journal->pattern_count; i++) {
        RedlaneJournalPattern *known = &journal->patterns[i];

        if (known->size == pattern.size &&
            memcmp(known->text, pattern.data, pattern.size) == 0) {
            return known;
        }
    }
    return NULL;
}

static bool
add_pattern(RedlaneJournal *journal, RedlaneArg pattern)
{
    RedlaneJournalPattern *known = find_pattern(journal, pattern), *larger;

    if (known) {
        known->pending = true;
        return true;
    }
    if (journal->pattern_count == REDLANE_JOURNAL_MAX_PATTERNS ||
        !has_room(journal, PATTERN_COST + pattern.size)) {
        return false;
    }
    if (journal->pattern_count == journal->pattern_capacity) {
        size_t capacity = journal->pattern_capacity ? journal->pattern_capacity * 2 : 4;

        larger = realloc(journal->patterns, capacity * sizeof(*larger));
        if (!larger) {
            return false;
        }
        journal->patterns = larger;
        journal->pattern_capacity = capacity;
    }
    known = &journal->patterns[journal->pattern_count];
    known->text = malloc(pattern.size ? pattern.size : 1);
    if (!known->text) {
        return false;
    }
    memcpy(known->text, pattern.data, pattern.size);
    known->size = pattern.size;
    known->pending = true;
    known->inflight = false;
    journal->pattern_count++;
    journal->bytes += PATTERN_COST + pattern.size;
    return true;
}

static bool
matches(RedlaneArg pattern, RedlaneArg key)
{
    return redlane_glob_match(pattern.data, pattern.size, key.data, key.size);
}

/* Calls `visit` for each entry that matches; it may remove that entry. */
static void
visit_matching(RedlaneJournal *journal, RedlaneArg pattern,
               void (*visit)(RedlaneJournal *, RedlaneJournalEntry *))
{
    RedlaneSlot *slot = redlane_table_from(&journal->table, 0);

    while (slot) {
        RedlaneJournalEntry *entry = entry_of(slot);
        uint64_t hash = slot->hash;
        size_t count = journal->table.count;

        if (matches(pattern, key_of(entry))) {
            visit(journal, entry);
        }
        /* A removal closes its gap: the same place holds the next one, unless the
         * table shrank; hashes stand in order, so that the walk goes on by hash. */
        if (journal->table.count != count) {
            slot = redlane_table_from(&journal->table, hash);
        }
        else {
            slot = redlane_table_next(&journal->table, slot);
        }
    }
}

/* Under a pattern that is replayed first, a delete needs no entry of its own. */
static void
cover_entry(RedlaneJournal *journal, RedlaneJournalEntry *entry)
{
    if (entry->pending == PART_DELETE && !entry->inflight) {
        remove_entry(journal, entry);
    }
}

static void
delete_entry(RedlaneJournal *journal, RedlaneJournalEntry *entry)
{
    become_delete(journal, entry, false);
    cover_entry(journal, entry);
}

static void
delete_and_stay(RedlaneJournal *journal, RedlaneJournalEntry *entry)
{
    become_delete(journal, entry, false);
}

/* Puts a pattern in the place of the deletes that it covers. */
static bool
cover(RedlaneJournal *journal, RedlaneArg space)
{
    if (!space.size) {
        return false;
    }
    visit_matching(journal, space, cover_entry);
    return add_pattern(journal, space);
}

bool
redlane_journal_keep(RedlaneJournal *journal, const RedlaneChange *change,
                     RedlaneArg space)
{
    bool delete =
        change->kind == REDLANE_CHANGE_DELETE || change->kind == REDLANE_CHANGE_DROP;
    RedlaneJournalEntry *entry = find_entry(journal, change->key);

    for (int attempt = 0; attempt < 2; attempt++) {
        RedlaneJournalEntry *fresh = NULL;

        if (!entry) {
            entry = fresh = add_entry(journal, change->key);
        }
        if (entry && merge(journal, entry, change)) {
            return true;
        }
        if (fresh) {
            remove_entry(journal, fresh);
        }
        if (attempt == 0 && cover(journal, space)) {
            if (delete) {
                return true;
            }
            entry = find_entry(journal, change->key); /* covering may have removed it */
            continue;
        }
        break;
    }
    journal->lost++;
    return false;
}

bool
redlane_journal_keep_pattern(RedlaneJournal *journal, RedlaneArg pattern)
{
    if (!add_pattern(journal, pattern)) {
        redlane_journal_drop_matching(journal, pattern);
        journal->lost++;
        return false;
    }
    visit_matching(journal, pattern, delete_entry);
    return true;
}

void
redlane_journal_drop_matching(RedlaneJournal *journal, RedlaneArg pattern)
{
    visit_matching(journal, pattern, delete_and_stay);
}

bool
redlane_journal_holds(const RedlaneJournal *journal, RedlaneArg key)
{
    if (find_entry(journal, key)) {
        return true;
    }
    for (size_t i = 0; i < journal->pattern_count; i++) {
        const RedlaneJournalPattern *known = &journal->patterns[i];

        if (matches((RedlaneArg){known->text, known->size}, key)) {
            return true;
        }
    }
    return false;
}

/* What is due of an entry; a value that has expired meanwhile is due no longer. */
static RedlaneOrder
order_of(RedlaneJournal *journal, RedlaneJournalEntry *entry, int64_t now)
{
    RedlaneOrder order = {
        .key = key_of(entry),
        .permanent_wins = entry->permanent_wins,
        .amount = entry->amount,
        .amount_px = entry->amount_px,
    };

    if (entry->pending & PART_VALUE && entry->expires_at && entry->expires_at <= now) {
        drop_value(journal, entry);
        entry->pending &= PART_DELETE; /* an amount was added to that value */
    }
    order.remove = (entry->pending & PART_DELETE) != 0;
    order.store = (entry->pending & PART_VALUE) != 0;
    order.add = (entry->pending & PART_AMOUNT) != 0;
    if (order.store) {
        order.value = (RedlaneArg){entry->value, entry->value_size};
        if (entry->expires_at) {
            order.px = (entry->expires_at - now) / REDLANE_NS_PER_MS;
            order.px += order.px == 0;
        }
    }
    return order;
}

size_t
redlane_journal_take(RedlaneJournal *journal, int64_t now,
                     int (*put)(void *context, const RedlaneOrder *order),
                     void *context)
{
    RedlaneSlot *slot = redlane_table_from(&journal->table, 0);
    size_t taken = 0;

    while (slot) {
        RedlaneJournalEntry *entry = entry_of(slot);
        RedlaneOrder order;
        int more;

        if (!entry->pending) {
            slot = redlane_table_next(&journal->table, slot);
            continue;
        }
        order = order_of(journal, entry, now);
        more = put(context, &order);
        if (more < 0) {
            break;
        }
        *journal->inflight_end = entry;
        journal->inflight_end = &entry->next;
        entry->next = NULL;
        entry->inflight = entry->pending;
        entry->inflight_amount = entry->amount;
        entry->pending = 0;
        entry->amount = 0;
        taken++;
        if (more == 0) {
            break;
        }
        slot = redlane_table_next(&journal->table, slot);
    }
    return taken;
}

const RedlaneJournalPattern *
redlane_journal_take_pattern(RedlaneJournal *journal)
{
    for (size_t i = 0; i < journal->pattern_count; i++) {
        RedlaneJournalPattern *pattern = &journal->patterns[i];

        if (pattern->pending) {
            pattern->pending = false;
            pattern->inflight = true;
            return pattern;
        }
    }
    return NULL;
}

void
redlane_journal_refuse(RedlaneJournal *journal, size_t index)
{
    RedlaneJournalEntry *entry = journal->inflight;

    while (entry && index--) {
        entry = entry->next;
    }
    if (entry) {
        entry->refused = true;
    }
}

/* What was not done is due again, unless a later change has taken its place. */
static void
settle_undone(RedlaneJournal *journal, RedlaneJournalEntry *entry)
{
    uint8_t undone = entry->inflight;
    bool overwritten = (entry->pending & (PART_DELETE | PART_VALUE)) != 0;
    int64_t sum;

    entry->inflight = 0;
    if (undone & PART_AMOUNT && !overwritten) {
        if (entry->refused &&
            !__builtin_add_overflow(entry->amount, entry->inflight_amount, &sum)) {
            entry->amount = sum;
            entry->pending |= PART_AMOUNT;
        }
        else {
            journal->lost++;
        }
    }
    if (!(entry->pending & PART_DELETE)) {
        entry->pending |= undone & PART_DELETE;
        if (!overwritten) {
            entry->pending |= undone & PART_VALUE;
        }
    }
}

static void
settle_patterns(RedlaneJournal *journal, bool sent)
{
    size_t kept = 0;

    for (size_t i = 0; i < journal->pattern_count; i++) {
        RedlaneJournalPattern *pattern = &journal->patterns[i];

        if (pattern->inflight) {
            pattern->inflight = false;
            pattern->pending = pattern->pending || !sent;
        }
        if (pattern->pending) {
            journal->patterns[kept++] = *pattern;
        }
        else {
            journal->bytes -= PATTERN_COST + pattern->size;
            free(pattern->text);
        }
    }
    journal->pattern_count = kept;
}

void
redlane_journal_settle(RedlaneJournal *journal, bool sent)
{
    RedlaneJournalEntry *entry = journal->inflight, *next;

    journal->inflight = NULL;
    journal->inflight_end = &journal->inflight;
    for (; entry; entry = next) {
        next = entry->next;
        entry->next = NULL;
        if (sent && !entry->refused) {
            entry->inflight = 0;
        }
        else {
            settle_undone(journal, entry);
        }
        entry->refused = false;
        if (!entry->pending) {
            remove_entry(journal, entry);
        }
        else if (!(entry->pending & PART_VALUE)) {
            drop_value(journal, entry);
        }
    }
    settle_patterns(journal, sent);
}

void
redlane_journal_after_fork(RedlaneJournal *journal)
{
    RedlaneSlot *slot;

    redlane_journal_settle(journal, false);
    for (slot = redlane_table_from(&journal->table, 0); slot;) {
        RedlaneJournalEntry *entry = entry_of(slot);
        uint64_t hash = slot->hash;

        entry->pending &= (uint8_t)~PART_AMOUNT;
        if (!entry->pending) {
            remove_entry(journal, entry);
            slot = redlane_table_from(&journal->table, hash);
        }
        else {
            slot = redlane_table_next(&journal->table, slot);
        }
    }
    journal->lost = 0;
}
