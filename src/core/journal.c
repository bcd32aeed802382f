#include "core/journal.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "core/glob.h"
#include "core/journal_entry.h"

void
redlane_journal_init(RedlaneJournal *journal, size_t max_bytes)
{
    *journal = (RedlaneJournal){.max_bytes = max_bytes, .batch = REDLANE_JOURNAL_BATCH};
    journal->inflight_end = &journal->inflight;
    redlane_table_init(&journal->table, offsetof(RedlaneJournalEntry, key));
    redlane_hash_seed(&journal->seed);
}

static size_t
cost_of(const RedlaneJournalEntry *entry)
{
    return REDLANE_JOURNAL_ENTRY_COST + entry->item.key_size + entry->value_size +
           redlane_charge_size(entry->charge);
}

void
redlane_journal_entry_drop_charge(RedlaneJournal *journal, RedlaneCharge **charge)
{
    journal->bytes -= redlane_charge_size(*charge);
    free(*charge);
    *charge = NULL;
}

void
redlane_journal_entry_drop_value(RedlaneJournal *journal, RedlaneJournalEntry *entry)
{
    journal->bytes -= entry->value_size;
    free(entry->value);
    entry->value = NULL;
    entry->value_size = 0;
}

void
redlane_journal_entry_remove(RedlaneJournal *journal, RedlaneJournalEntry *entry)
{
    RedlaneSlot *slot = redlane_table_find(&journal->table, entry->hash, entry->key,
                                           entry->item.key_size);

    redlane_table_remove(&journal->table, slot);
    redlane_journal_entry_drop_value(journal, entry);
    redlane_journal_entry_drop_charge(journal, &entry->charge);
    redlane_journal_entry_drop_charge(journal, &entry->inflight_charge);
    journal->bytes -= REDLANE_JOURNAL_ENTRY_COST + entry->item.key_size;
    free(entry);
}

void
redlane_journal_free(RedlaneJournal *journal)
{
    for (RedlaneSlot *slot = redlane_table_from(&journal->table, 0); slot;
         slot = redlane_table_next(&journal->table, slot)) {
        RedlaneJournalEntry *entry = redlane_journal_entry_of(slot);

        free(entry->value);
        free(entry->charge);
        free(entry->inflight_charge);
        free(entry);
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
    return slot ? redlane_journal_entry_of(slot) : NULL;
}

/* Room for `extra` bytes once `freed` of those kept are gone. */
static bool
has_room(const RedlaneJournal *journal, size_t extra, size_t freed)
{
    return extra <= journal->max_bytes &&
           journal->bytes - freed <= journal->max_bytes - extra;
}

/* A new entry without parts; NULL where there is no room or no memory. */
static RedlaneJournalEntry *
add_entry(RedlaneJournal *journal, RedlaneArg key)
{
    RedlaneJournalEntry *entry;

    if (key.size > UINT32_MAX ||
        !has_room(journal, REDLANE_JOURNAL_ENTRY_COST + key.size, 0)) {
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
    journal->bytes += REDLANE_JOURNAL_ENTRY_COST + key.size;
    return entry;
}

static void
become_delete(RedlaneJournal *journal, RedlaneJournalEntry *entry, bool absorbs)
{
    if (entry->pending != REDLANE_PART_DELETE) {
        journal->futile = 0; /* a pattern may now take its place */
    }
    redlane_journal_entry_drop_value(journal, entry);
    redlane_journal_entry_drop_charge(journal, &entry->charge);
    entry->pending = REDLANE_PART_DELETE;
    entry->absorbs = absorbs;
    entry->amount = 0;
}

/* True while `value` is what was set last, in flight or not. */
static bool
has_value(const RedlaneJournalEntry *entry)
{
    uint8_t parts = entry->pending & REDLANE_PART_DELETE
                        ? entry->pending
                        : entry->pending | entry->inflight;

    return (parts & REDLANE_PART_VALUE) != 0;
}

static bool
is_temporary(const RedlaneChange *change)
{
    return change->permanent_wins && change->expires_at;
}

/* A value of ours that was sent may stand where the next one is to stand, so that one
 * overwrites; but a temporary one never takes the place of a permanent one. */
static uint8_t
delete_for(const RedlaneJournalEntry *entry, const RedlaneChange *change)
{
    bool sent = entry->stands || entry->inflight & REDLANE_PART_VALUE;

    return sent && !is_temporary(change) ? REDLANE_PART_DELETE : 0;
}

/* False when there is no room; the entry is as it was. */
static bool
merge_value(RedlaneJournal *journal, RedlaneJournalEntry *entry,
            const RedlaneChange *change)
{
    char *value = NULL;

    if (has_value(entry) && entry->permanent_wins && !entry->expires_at &&
        is_temporary(change)) {
        return true; /* a temporary one does not replace a permanent one */
    }
    if (!has_room(journal, change->value.size, entry->value_size)) {
        return false;
    }
    if (change->value.size) {
        value = malloc(change->value.size);
        if (!value) {
            return false;
        }
        memcpy(value, change->value.data, change->value.size);
    }
    redlane_journal_entry_drop_value(journal, entry);
    entry->value = value;
    entry->value_size = change->value.size;
    journal->bytes += change->value.size;
    entry->pending = (entry->pending & REDLANE_PART_DELETE) |
                     delete_for(entry, change) | REDLANE_PART_VALUE;
    entry->expires_at = change->expires_at;
    entry->permanent_wins = change->permanent_wins;
    entry->absorbs = false;
    entry->amount = 0;
    return true;
}

static bool
merge_amount(RedlaneJournalEntry *entry, const RedlaneChange *change)
{
    int64_t sum;

    if ((entry->pending | entry->inflight) & REDLANE_PART_DELETE && entry->absorbs) {
        return true;
    }
    if (__builtin_add_overflow(entry->amount, change->amount, &sum)) {
        return false;
    }
    entry->amount = sum;
    if (!(entry->pending & REDLANE_PART_AMOUNT) ||
        entry->amount_px == REDLANE_AMOUNT_EXISTING) {
        entry->amount_px = change->amount_px; /* later ones find the key there */
    }
    entry->pending |= REDLANE_PART_AMOUNT;
    return true;
}

/* False when there is no room. */
static bool
merge_charge(RedlaneJournal *journal, RedlaneJournalEntry *entry,
             const RedlaneChange *change)
{
    size_t before = redlane_charge_size(entry->charge);

    if ((entry->pending | entry->inflight) &
            (REDLANE_PART_VALUE | REDLANE_PART_AMOUNT) ||
        !redlane_charge_fits(entry->charge, &change->limit)) {
        return false; /* it is another tool's key */
    }
    if (!has_room(journal,
                  redlane_charge_growth(entry->charge, &change->limit, change->amount),
                  0) ||
        !redlane_charge_add(&entry->charge, &change->limit, change->index,
                            change->amount, change->at)) {
        return false;
    }
    journal->bytes += redlane_charge_size(entry->charge) - before;
    entry->pending |= REDLANE_PART_CHARGE;
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
    case REDLANE_CHANGE_CHARGE:
        return merge_charge(journal, entry, change);
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
            (known->size == 0 || memcmp(known->text, pattern.data, known->size) == 0)) {
            return known;
        }
    }
    return NULL;
}

/* With `freed` bytes about to go. False: no room, or no memory. */
static bool
add_pattern(RedlaneJournal *journal, RedlaneArg pattern, size_t freed)
{
    RedlaneJournalPattern *known = find_pattern(journal, pattern), *larger;

    if (known) {
        known->pending = true;
        return true;
    }
    if (journal->pattern_count == REDLANE_JOURNAL_MAX_PATTERNS ||
        !has_room(journal, REDLANE_JOURNAL_PATTERN_COST + pattern.size, freed)) {
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
    if (pattern.size) {
        memcpy(known->text, pattern.data, pattern.size);
    }
    known->size = pattern.size;
    known->pending = true;
    known->inflight = false;
    journal->pattern_count++;
    journal->bytes += REDLANE_JOURNAL_PATTERN_COST + pattern.size;
    return true;
}

static bool
matches(RedlaneArg pattern, RedlaneArg key)
{
    return redlane_glob_means(pattern.data, pattern.size, key.data, key.size);
}

void
redlane_journal_visit(RedlaneJournal *journal, RedlaneArg pattern,
                      void (*visit)(RedlaneJournal *, RedlaneJournalEntry *))
{
    RedlaneSlot *slot = redlane_table_from(&journal->table, 0);

    while (slot) {
        RedlaneJournalEntry *entry = redlane_journal_entry_of(slot);
        uint64_t hash = slot->hash;
        size_t count = journal->table.count;

        if (matches(pattern, redlane_journal_entry_key(entry))) {
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
static bool
is_coverable(const RedlaneJournalEntry *entry)
{
    return entry->pending == REDLANE_PART_DELETE && !entry->listed;
}

static void
cover_entry(RedlaneJournal *journal, RedlaneJournalEntry *entry)
{
    if (is_coverable(entry)) {
        redlane_journal_entry_remove(journal, entry);
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

/* What a pattern frees when it takes the place of the deletes that it matches, or, with
 * `all`, when all that it matches becomes a delete. */
static size_t
freed_by(const RedlaneJournal *journal, RedlaneArg pattern, bool all)
{
    size_t freed = 0;

    for (RedlaneSlot *slot = redlane_table_from(&journal->table, 0); slot;
         slot = redlane_table_next(&journal->table, slot)) {
        const RedlaneJournalEntry *entry = redlane_journal_entry_of(slot);

        if (!matches(pattern, redlane_journal_entry_key(entry))) {
            continue;
        }
        if (is_coverable(entry) || (all && !entry->listed)) {
            freed += cost_of(entry);
        }
        else if (all) {
            freed += entry->value_size + redlane_charge_size(entry->charge);
        }
    }
    return freed;
}

/* Puts a pattern in the place of the deletes that it covers, where that makes room for
 * `need` bytes, when `freed` are about to go besides; else nothing changes. */
static bool
cover(RedlaneJournal *journal, RedlaneArg space, size_t need, size_t freed)
{
    const RedlaneJournalPattern *known = find_pattern(journal, space);

    if (!space.size) {
        return false;
    }
    if (known && known->pending && need == 0) {
        return true;
    }
    if (!known) {
        need += REDLANE_JOURNAL_PATTERN_COST + space.size;
    }
    if (!has_room(journal, need, freed)) {
        if (journal->futile) {
            journal->futile--;
            return false;
        }
        freed += freed_by(journal, space, false);
        if (!has_room(journal, need, freed)) {
            journal->futile = journal->table.count;
            return false;
        }
    }
    if (!add_pattern(journal, space, freed)) {
        return false;
    }
    redlane_journal_visit(journal, space, cover_entry);
    return true;
}

/* False where there is no room or no memory: what was kept is as it was. */
static bool
try_keep(RedlaneJournal *journal, const RedlaneChange *change)
{
    RedlaneJournalEntry *entry = find_entry(journal, change->key), *fresh = NULL;

    if (!entry) {
        entry = fresh = add_entry(journal, change->key);
    }
    if (entry && merge(journal, entry, change)) {
        return true;
    }
    if (fresh) {
        redlane_journal_entry_remove(journal, fresh);
    }
    return false;
}

/* False: room is not what the change lacks, or there is none to be made. */
static bool
make_room(RedlaneJournal *journal, const RedlaneChange *change, RedlaneArg space)
{
    const RedlaneJournalEntry *entry = find_entry(journal, change->key);
    size_t need = 0, freed = 0;

    if (!entry || is_coverable(entry)) {
        need = REDLANE_JOURNAL_ENTRY_COST + change->key.size;
    }
    if (change->kind == REDLANE_CHANGE_VALUE) {
        need += change->value.size;
        freed = entry ? entry->value_size : 0;
    }
    return !has_room(journal, need, freed) && cover(journal, space, need, freed);
}

/* A set that is lost takes with it what it had replaced. */
static void
lose(RedlaneJournal *journal, const RedlaneChange *change)
{
    RedlaneJournalEntry *entry = find_entry(journal, change->key);

    journal->lost++;
    if (!entry || change->kind != REDLANE_CHANGE_VALUE) {
        return;
    }
    redlane_journal_entry_drop_value(journal, entry);
    entry->pending = (entry->pending & REDLANE_PART_DELETE) | delete_for(entry, change);
    entry->inflight &= (uint8_t)~REDLANE_PART_VALUE;
    entry->absorbs = true;
    entry->amount = 0;
    if (!entry->pending && !entry->listed) {
        redlane_journal_entry_remove(journal, entry);
    }
}

bool
redlane_journal_keep(RedlaneJournal *journal, const RedlaneChange *change,
                     RedlaneArg space)
{
    bool delete =
        change->kind == REDLANE_CHANGE_DELETE || change->kind == REDLANE_CHANGE_DROP;

    if (try_keep(journal, change)) {
        return true;
    }
    if (delete ? cover(journal, space, 0, 0)
               : make_room(journal, change, space) && try_keep(journal, change)) {
        return true;
    }
    lose(journal, change);
    return false;
}

bool
redlane_journal_keep_pattern(RedlaneJournal *journal, RedlaneArg pattern)
{
    if (!add_pattern(journal, pattern, freed_by(journal, pattern, true))) {
        redlane_journal_drop_matching(journal, pattern);
        journal->lost++;
        return false;
    }
    redlane_journal_visit(journal, pattern, delete_entry);
    return true;
}

/* The next byte of what a glob's matches begin with; -1 where that is not one byte. */
static int
next_literal(RedlaneArg glob, size_t *at)
{
    if (*at + 1 < glob.size && glob.data[*at] == '\\') {
        *at += 2;
        return (unsigned char)glob.data[*at - 1];
    }
    if (*at == glob.size || memchr("*?[\\", glob.data[*at], 4)) {
        return -1;
    }
    return (unsigned char)glob.data[(*at)++];
}

/* True when all that `pattern` matches begins as what `space`, a prefix and "*",
 * matches. */
static bool
begins_as(RedlaneArg pattern, RedlaneArg space)
{
    size_t here = 0, there = 0;

    while (there + 1 < space.size) {
        int literal = next_literal(space, &there);

        if (literal < 0 || next_literal(pattern, &here) != literal) {
            return false;
        }
    }
    return space.size > 0;
}

static bool
may_join(const RedlaneJournalPattern *pattern, RedlaneArg space)
{
    return !pattern->inflight &&
           begins_as((RedlaneArg){pattern->text, pattern->size}, space);
}

/* Puts `space` in the place of the patterns that begin as it does, but for those in
 * flight. False where there is none, no room, or no memory. */
static bool
join_patterns(RedlaneJournal *journal, RedlaneArg space)
{
    RedlaneJournalPattern joined = {.size = space.size, .pending = true};
    size_t kept = 0, freed = 0;

    for (size_t i = 0; i < journal->pattern_count; i++) {
        if (may_join(&journal->patterns[i], space)) {
            freed += REDLANE_JOURNAL_PATTERN_COST + journal->patterns[i].size;
        }
    }
    if (!freed ||
        !has_room(journal, REDLANE_JOURNAL_PATTERN_COST + space.size, freed)) {
        return false;
    }
    joined.text = malloc(space.size);
    if (!joined.text) {
        return false;
    }
    memcpy(joined.text, space.data, space.size);
    for (size_t i = 0; i < journal->pattern_count; i++) {
        if (may_join(&journal->patterns[i], space)) {
            free(journal->patterns[i].text);
        }
        else {
            journal->patterns[kept++] = journal->patterns[i];
        }
    }
    journal->patterns[kept++] = joined;
    journal->pattern_count = kept;
    journal->bytes += REDLANE_JOURNAL_PATTERN_COST + space.size - freed;
    return true;
}

bool
redlane_journal_keep_pattern_in(RedlaneJournal *journal, RedlaneArg pattern,
                                RedlaneArg space)
{
    if (!begins_as(pattern, space) ||
        add_pattern(journal, pattern, freed_by(journal, pattern, true)) ||
        !(cover(journal, space, 0, 0) || join_patterns(journal, space))) {
        return redlane_journal_keep_pattern(journal, pattern);
    }
    redlane_journal_visit(journal, pattern, delete_entry);
    return true;
}

void
redlane_journal_drop_matching(RedlaneJournal *journal, RedlaneArg pattern)
{
    redlane_journal_visit(journal, pattern, delete_and_stay);
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
