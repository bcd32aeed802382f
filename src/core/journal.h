/* What a server must still hear once it takes writes again: the journal of one link.
 *
 *   table   key ─▶ entry { DELETE | VALUE | AMOUNT parts, pending and in flight }
 *   patterns       { glob, pending and in flight }
 *
 * A key has one entry, into which each further change is merged, so that replay sends
 * the outcome, not the history:
 *
 *   then           DELETE        a set kept as one   VALUE            AMOUNT
 *   before ──────────────────────────────────────────────────────────────────────
 *   nothing        DELETE        DELETE              VALUE            AMOUNT
 *   DELETE         DELETE        DELETE              DELETE + VALUE   DELETE + AMOUNT
 *   a set kept so  DELETE        the same            DELETE + VALUE   the same
 *   VALUE          DELETE        DELETE              the new VALUE    VALUE + AMOUNT
 *   AMOUNT         DELETE        DELETE              VALUE            the sum
 *
 * DELETE + VALUE overwrites; VALUE alone is stored only where nothing is, and where the
 * same value is the longer TTL holds. Patterns are
 * replayed before entries: a pattern that comes after an entry turns that into DELETE.
 *
 * A limit's key has a charge in the place of VALUE and AMOUNT: what was admitted is
 * added up, a DELETE (a reset) ends it and stands before it; it is sent at most once.
 *
 * What is in flight stays here until its outcome is known, and is not taken again
 * before that; what is kept meanwhile is merged into what is pending. A VALUE that
 * comes when a former one of its entry has been sent is DELETE + VALUE, for the former
 * may stand there; but a temporary one that must not replace a permanent one stays as
 * it is. What failed is due again beneath what came later; amounts are gone once taken,
 * since they are sent at most once, but for those that the server surely refused.
 *
 * Invariant: every entry has a part pending or is in flight; `bytes` is the sum of what
 * entries and patterns take, 0 where there are none, and stays within `max_bytes`.
 *
 * Pure C, no lock of its own: the guard's. */
#ifndef REDLANE_CORE_JOURNAL_H
#define REDLANE_CORE_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "core/journal_charge.h"
#include "core/table.h"
#include "core/vector.h"

#define REDLANE_JOURNAL_MAX_BYTES ((size_t)16 << 20)
/* In the place of a TTL: an amount that makes no key. */
#define REDLANE_AMOUNT_EXISTING (-1)

#define REDLANE_JOURNAL_BATCH ((size_t)256)
#define REDLANE_JOURNAL_MAX_PATTERNS 256

typedef enum {
    REDLANE_CHANGE_DELETE,
    REDLANE_CHANGE_DROP,  /* a set kept as a delete: amounts added to it go with it */
    REDLANE_CHANGE_VALUE, /* a durable set */
    REDLANE_CHANGE_AMOUNT,
    REDLANE_CHANGE_CHARGE, /* what a limit admitted, or gave back */
} RedlaneChangeKind;

typedef struct {
    RedlaneChangeKind kind;
    RedlaneArg key;
    RedlaneArg value;    /* VALUE */
    int64_t expires_at;  /* VALUE: CLOCK_MONOTONIC ns; 0: never */
    bool permanent_wins; /* VALUE: one without expiry replaces one with */
    int64_t amount;      /* AMOUNT; CHARGE: its cost */
    int64_t amount_px;   /* AMOUNT: ms that a key made by it lives; 0: for ever; or
                            REDLANE_AMOUNT_EXISTING */
    RedlaneLimit limit;  /* CHARGE */
    int64_t index;       /* CHARGE: of a FIXED limit, the window that its key names */
    int64_t at;          /* CHARGE: Unix microseconds */
} RedlaneChange;

typedef struct RedlaneJournalEntry RedlaneJournalEntry;

typedef struct {
    char *text; /* malloc'd */
    size_t size;
    bool pending, inflight;
} RedlaneJournalPattern;

typedef struct {
    RedlaneTable table;
    RedlaneSeed seed;
    RedlaneJournalEntry *inflight, **inflight_end; /* a list, in the order taken */
    RedlaneJournalPattern *patterns;
    size_t pattern_count, pattern_capacity;
    size_t bytes, max_bytes;
    size_t batch;   /* entries that are to be sent at once, at most */
    unsigned alone; /* how often in turn an entry that was sent alone has failed */
    size_t futile;  /* so many changes more may not look for room: one that looked found
                       none, and looking is a walk over all entries */
    uint64_t lost;  /* changes that found no room, and amounts of unknown outcome */
} RedlaneJournal;

/* Takes no memory before the first change. */
void redlane_journal_init(RedlaneJournal *journal, size_t max_bytes);
void redlane_journal_free(RedlaneJournal *journal);

static inline bool
redlane_journal_is_empty(const RedlaneJournal *journal)
{
    return journal->table.count == 0 && journal->pattern_count == 0;
}

/* Keeps a change. Where there is no room for it, the deletes under `space`, a glob that
 * matches the key, are replaced by that pattern, if that makes room. If not, or if
 * `space` is empty, or memory is exhausted, or a sum of amounts leaves int64, the
 * change is lost and counted: false. What a lost VALUE would have replaced goes with
 * it. */
bool redlane_journal_keep(RedlaneJournal *journal, const RedlaneChange *change,
                          RedlaneArg space);

/* Keeps the deletion of everything that matches. False: lost and counted. */
bool redlane_journal_keep_pattern(RedlaneJournal *journal, RedlaneArg pattern);

/* The same; where there is no room for it, and it begins as `space` does (a prefix and
 * "*", so that all it matches is under that), `space` takes its place, and that of all
 * that begin so. */
bool redlane_journal_keep_pattern_in(RedlaneJournal *journal, RedlaneArg pattern,
                                     RedlaneArg space);

/* The server itself has deleted what matches: what is kept of it is to be a delete. */
void redlane_journal_drop_matching(RedlaneJournal *journal, RedlaneArg pattern);

/* True while a change of this key has not reached the server. */
bool redlane_journal_holds(const RedlaneJournal *journal, RedlaneArg key);

/* What one entry becomes on the wire, in this order. */
typedef struct {
    RedlaneArg key;
    bool remove; /* delete it first (a value then overwrites) */
    bool store;  /* store `value` */
    RedlaneArg value;
    int64_t px; /* ms it still lives; 0: for ever */
    bool permanent_wins;
    bool add; /* add `amount`, creating the key with `amount_px` */
    int64_t amount;
    int64_t amount_px;
    const RedlaneCharge *charge; /* charge it to a limit; NULL: there is none */
} RedlaneOrder;

/* Hands pending entries to `put` (BORROWED for its time) as long as that returns 1, and
 * marks them as in flight; 0: no more now, -1: failed. The entry is taken unless -1
 * was returned. Patterns are to be taken first. Returns how many were taken, those that
 * had expired and are simply gone too: 0 when `put` failed at once, or when nothing is
 * left but what is in flight. */
size_t redlane_journal_take(RedlaneJournal *journal, int64_t now,
                            int (*put)(void *context, const RedlaneOrder *order),
                            void *context);

/* A pending pattern, now in flight, or NULL. BORROWED until the next change is kept:
 * copy its text before the lock is given up. */
const RedlaneJournalPattern *redlane_journal_take_pattern(RedlaneJournal *journal);

/* The server refused a write of the entry that `put` took as number `index` since the
 * last settling: when the rest is settled as sent, its deletes and its value are due
 * again, and with `amount`, when the addition was refused too, that. */
void redlane_journal_refuse(RedlaneJournal *journal, size_t index, bool amount);

/* The outcome of everything in flight. What fails is sent in ever smaller batches, so
 * that a value which no server takes (it is too large for the link, say) is found: a
 * large one that has failed alone ten times is lost, and its key is deleted. */
void redlane_journal_settle(RedlaneJournal *journal, bool sent);

/* In a forked child: amounts and values are the parent's to send; deletes and patterns
 * stay, for the child is not to read what they are to remove. */
void redlane_journal_after_fork(RedlaneJournal *journal);

#endif
