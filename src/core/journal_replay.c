/* The journal's way to the server: what is taken is in flight until it is settled.
 *
 * Pure C; the guard's lock. */
#include <stdlib.h>

#include "core/clock.h"
#include "core/journal_entry.h"

#define FAILURES_ALONE 10

/* What is smaller fits through any link: it is not the value's fault that it fails. The
 * server may hold writes back for a while, and answer PING all the same. */
#define LARGE_VALUE ((size_t)64 << 10)

/* A value that has expired is due no longer, nor is an amount that was added to it. */
static void
expire(RedlaneJournal *journal, RedlaneJournalEntry *entry, int64_t now)
{
    if (entry->pending & REDLANE_PART_VALUE && entry->expires_at &&
        entry->expires_at <= now) {
        redlane_journal_entry_drop_value(journal, entry);
        entry->pending &= REDLANE_PART_DELETE;
        entry->amount = 0;
    }
    if (entry->pending & REDLANE_PART_CHARGE &&
        !redlane_charge_counts(entry->charge,
                               redlane_clock_read(CLOCK_REALTIME) / 1000)) {
        redlane_journal_entry_drop_charge(journal, &entry->charge);
        entry->pending &= (uint8_t)~REDLANE_PART_CHARGE;
    }
}

static RedlaneOrder
order_of(const RedlaneJournalEntry *entry, int64_t now)
{
    RedlaneOrder order = {
        .key = redlane_journal_entry_key(entry),
        .remove = (entry->pending & REDLANE_PART_DELETE) != 0,
        .store = (entry->pending & REDLANE_PART_VALUE) != 0,
        .permanent_wins = entry->permanent_wins,
        .add = (entry->pending & REDLANE_PART_AMOUNT) != 0,
        .amount = entry->amount,
        .amount_px = entry->amount_px,
        .charge = entry->charge,
    };

    if (order.store) {
        order.value = (RedlaneArg){entry->value, entry->value_size};
        if (entry->expires_at) {
            order.px = (entry->expires_at - now) / REDLANE_NS_PER_MS;
            order.px += order.px == 0;
        }
    }
    return order;
}

static void
set_inflight(RedlaneJournal *journal, RedlaneJournalEntry *entry)
{
    *journal->inflight_end = entry;
    journal->inflight_end = &entry->next;
    entry->next = NULL;
    entry->listed = true;
    entry->inflight = entry->pending;
    entry->inflight_amount = entry->amount;
    entry->inflight_charge = entry->charge;
    entry->pending = 0;
    entry->amount = 0;
    entry->charge = NULL;
    if (entry->inflight & REDLANE_PART_DELETE) {
        entry->stands = false;
    }
}

size_t
redlane_journal_take(RedlaneJournal *journal, int64_t now,
                     int (*put)(void *context, const RedlaneOrder *order),
                     void *context)
{
    RedlaneSlot *slot = redlane_table_from(&journal->table, 0);
    size_t taken = 0;
    int more = 1;

    while (slot && more > 0) {
        RedlaneJournalEntry *entry = redlane_journal_entry_of(slot);
        RedlaneOrder order;

        if (entry->listed) {
            slot = redlane_table_next(&journal->table, slot);
            continue;
        }
        expire(journal, entry, now);
        if (!entry->pending) {
            uint64_t hash = slot->hash;

            redlane_journal_entry_remove(journal, entry);
            slot = redlane_table_from(&journal->table, hash);
            taken++;
            continue;
        }
        order = order_of(entry, now);
        more = put(context, &order);
        if (more >= 0) {
            set_inflight(journal, entry);
            taken++;
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
redlane_journal_refuse(RedlaneJournal *journal, size_t index, bool amount)
{
    RedlaneJournalEntry *entry = journal->inflight;

    while (entry && index--) {
        entry = entry->next;
    }
    if (entry) {
        entry->refused = true;
        entry->amount_refused = amount;
    }
}

/* An amount is due again only where it surely was not added. */
static void
settle_amount(RedlaneJournal *journal, RedlaneJournalEntry *entry)
{
    int64_t sum;

    if (entry->refused && !entry->amount_refused) {
        return; /* it was added */
    }
    if (entry->refused &&
        !__builtin_add_overflow(entry->amount, entry->inflight_amount, &sum)) {
        entry->amount = sum;
        entry->pending |= REDLANE_PART_AMOUNT;
    }
    else {
        journal->lost++;
    }
}

/* A charge too, unless there is a new one, or its key was deleted since. */
static void
settle_charge(RedlaneJournal *journal, RedlaneJournalEntry *entry, bool overwritten)
{
    if (entry->refused && !entry->amount_refused) {
        return; /* it was charged */
    }
    if (entry->refused && !entry->charge && !overwritten) {
        entry->charge = entry->inflight_charge;
        entry->inflight_charge = NULL;
        entry->pending |= REDLANE_PART_CHARGE;
    }
    else if (!overwritten) {
        journal->lost++;
    }
}

/* What was not done, or perhaps not, is due again, unless a later change has taken its
 * place. */
static void
settle_undone(RedlaneJournal *journal, RedlaneJournalEntry *entry)
{
    uint8_t undone = entry->inflight;
    bool overwritten =
        (entry->pending & (REDLANE_PART_DELETE | REDLANE_PART_VALUE)) != 0;

    if (undone & REDLANE_PART_AMOUNT && !overwritten) {
        settle_amount(journal, entry);
    }
    if (undone & REDLANE_PART_CHARGE) {
        settle_charge(journal, entry, overwritten);
    }
    if (!(entry->pending & REDLANE_PART_DELETE)) {
        entry->pending |= undone & REDLANE_PART_DELETE;
        if (!overwritten) {
            entry->pending |= undone & REDLANE_PART_VALUE;
        }
    }
}

/* What failed alone again and again would keep the server away for ever. */
static void
give_up(RedlaneJournal *journal, RedlaneJournalEntry *entry)
{
    if (entry->inflight & REDLANE_PART_VALUE) {
        entry->inflight = REDLANE_PART_DELETE;
        entry->absorbs = true;
        journal->lost++;
    }
    journal->alone = 0;
}

/* Fits the next batch to the outcome of this one. */
static void
note_batch(RedlaneJournal *journal, bool sent)
{
    RedlaneJournalEntry *first = journal->inflight;

    if (!first) {
        return;
    }
    if (sent) {
        journal->batch = journal->batch < REDLANE_JOURNAL_BATCH / 2
                             ? journal->batch * 2
                             : REDLANE_JOURNAL_BATCH;
        journal->alone = 0;
        return;
    }
    journal->batch = journal->batch > 4 ? journal->batch / 4 : 1;
    if (first->next) {
        journal->alone = 0;
    }
    else if (first->value_size >= LARGE_VALUE && ++journal->alone == FAILURES_ALONE) {
        give_up(journal, first);
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
            journal->bytes -= REDLANE_JOURNAL_PATTERN_COST + pattern->size;
            free(pattern->text);
        }
    }
    journal->pattern_count = kept;
}

void
redlane_journal_settle(RedlaneJournal *journal, bool sent)
{
    RedlaneJournalEntry *entry = journal->inflight, *next;

    note_batch(journal, sent);
    journal->inflight = NULL;
    journal->inflight_end = &journal->inflight;
    journal->futile = 0;
    for (; entry; entry = next) {
        next = entry->next;
        entry->stands |= entry->inflight & REDLANE_PART_VALUE && !entry->refused;
        if (!sent || entry->refused) {
            settle_undone(journal, entry);
        }
        entry->next = NULL;
        entry->listed = entry->refused = entry->amount_refused = false;
        entry->inflight = 0;
        entry->inflight_amount = 0;
        redlane_journal_entry_drop_charge(journal, &entry->inflight_charge);
        if (!entry->pending) {
            redlane_journal_entry_remove(journal, entry);
        }
        else if (!(entry->pending & REDLANE_PART_VALUE)) {
            redlane_journal_entry_drop_value(journal, entry);
        }
    }
    settle_patterns(journal, sent);
}

/* A value stays the parent's: sent by a child later, it might overwrite what came after
 * it, or bring back what was deleted since. A delete repeated makes a miss at worst. */
static void
leave_to_parent(RedlaneJournal *journal, RedlaneJournalEntry *entry)
{
    if (entry->pending & REDLANE_PART_VALUE) {
        redlane_journal_entry_drop_value(journal, entry);
        entry->absorbs = true;
    }
    entry->pending &= REDLANE_PART_DELETE;
    entry->stands = false;
    entry->amount = 0;
    redlane_journal_entry_drop_charge(journal, &entry->charge);
    if (!entry->pending) {
        redlane_journal_entry_remove(journal, entry);
    }
}

void
redlane_journal_after_fork(RedlaneJournal *journal)
{
    redlane_journal_settle(journal, false);
    redlane_journal_visit(journal, REDLANE_ARG_LITERAL("*"), leave_to_parent);
    journal->lost = 0;
}
