/* One entry of the journal: what journal.c, which keeps changes, and journal_replay.c,
 * which sends them, both work on. For them alone. */
#ifndef REDLANE_CORE_JOURNAL_ENTRY_H
#define REDLANE_CORE_JOURNAL_ENTRY_H

#include "core/journal.h"

enum {
    REDLANE_PART_DELETE = 1 << 0,
    REDLANE_PART_VALUE = 1 << 1,
    REDLANE_PART_AMOUNT = 1 << 2,
    REDLANE_PART_CHARGE = 1 << 3,
};

struct RedlaneJournalEntry {
    RedlaneItem item;
    uint8_t pending;     /* parts to be sent */
    uint8_t inflight;    /* parts that, should they fail, are due again */
    bool listed;         /* in the list of what is in flight: not taken, not removed */
    bool refused;        /* what is in flight was not done */
    bool amount_refused; /* its amount neither */
    bool stands;         /* a value of this entry was sent, and may stand there */
    bool absorbs;        /* the delete stands for a set: amounts go with it */
    bool permanent_wins;
    uint64_t hash;
    RedlaneJournalEntry *next; /* in the list of what is in flight */
    int64_t expires_at;
    int64_t amount, amount_px;
    int64_t inflight_amount;
    RedlaneCharge *charge, *inflight_charge; /* malloc'd, or NULL */
    char *value; /* malloc'd; NULL without a value, or where it is empty */
    size_t value_size;
    char key[];
};

/* What the bound counts: the block, its slots, and what malloc adds. */
#define REDLANE_JOURNAL_ENTRY_COST \
    (sizeof(RedlaneJournalEntry) + 2 * sizeof(RedlaneSlot) + 32)
#define REDLANE_JOURNAL_PATTERN_COST (sizeof(RedlaneJournalPattern) + 16)

static inline RedlaneJournalEntry *
redlane_journal_entry_of(const RedlaneSlot *slot)
{
    return (RedlaneJournalEntry *)slot->item;
}

static inline RedlaneArg
redlane_journal_entry_key(const RedlaneJournalEntry *entry)
{
    return (RedlaneArg){entry->key, entry->item.key_size};
}

void redlane_journal_entry_drop_value(RedlaneJournal *journal,
                                      RedlaneJournalEntry *entry);

/* Frees what is not NULL, and sets it so. */
void redlane_journal_entry_drop_charge(RedlaneJournal *journal, RedlaneCharge **charge);

/* Takes an entry that is not listed out, and frees it. */
void redlane_journal_entry_remove(RedlaneJournal *journal, RedlaneJournalEntry *entry);

/* Calls `visit` for each entry that matches; it may remove that entry. */
void redlane_journal_visit(RedlaneJournal *journal, RedlaneArg pattern,
                           void (*visit)(RedlaneJournal *, RedlaneJournalEntry *));

#endif
