/* The journal when memory is exhausted: each allocation in turn is refused, alone and
 * with all that follow. What could not be kept is told and counted; the rest holds. */
#include "core/journal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPACE REDLANE_ARG_LITERAL("k*")

static size_t refusals;
static long until_refusal = -1; /* allocations that still succeed; -1: all */
static bool once;

static bool
is_refused(void)
{
    if (until_refusal < 0) {
        return false;
    }
    if (until_refusal > 0) {
        until_refusal--;
        return false;
    }
    refusals++;
    until_refusal = once ? -1 : 0;
    return true;
}

/* The linker's --wrap puts these in the place of the three, and names those so. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *block, size_t size);

void *
__wrap_malloc(size_t size)
{
    return is_refused() ? NULL : __real_malloc(size);
}

void *
__wrap_calloc(size_t count, size_t size)
{
    return is_refused() ? NULL : __real_calloc(count, size);
}

void *
__wrap_realloc(void *block, size_t size)
{
    return is_refused() ? NULL : __real_realloc(block, size);
}

static void
require(bool ok, const char *what)
{
    if (!ok) {
        printf("broken promise: %s\n", what);
        exit(1);
    }
}

static int
put(void *context, const RedlaneOrder *order)
{
    (void)order;
    (*(size_t *)context)++;
    return 1;
}

/* Changes of all kinds, on keys that come again; returns how many were lost. */
static uint64_t
change_much(RedlaneJournal *journal)
{
    uint64_t lost = 0;
    char name[16], value[40] = "value";

    for (int i = 0; i < 40; i++) {
        RedlaneChange change = {.kind = (RedlaneChangeKind)(i % 4),
                                .value = {value, (size_t)i},
                                .amount = 1};
        bool kept;

        change.key.size = (size_t)snprintf(name, sizeof(name), "k%d", i % 13);
        change.key.data = name;
        kept = redlane_journal_keep(journal, &change, SPACE);
        require(!kept || redlane_journal_holds(journal, change.key),
                "what is kept is held");
        lost += !kept;
        if (i % 6 == 5) {
            name[0] = (char)('a' + i / 6);
            lost += !redlane_journal_keep_pattern(journal, change.key);
        }
    }
    return lost;
}

static void
run(void)
{
    RedlaneJournal journal;
    uint64_t lost;
    size_t told = 0, entries;

    redlane_journal_init(&journal, 4096);
    lost = change_much(&journal);
    require(journal.lost == lost, "what is lost is counted");
    while (redlane_journal_take_pattern(&journal)) {
    }
    entries = journal.table.count;
    require(redlane_journal_take(&journal, 1, put, &told) == entries && told == entries,
            "all entries are told");
    lost += change_much(&journal);
    redlane_journal_settle(&journal, false);
    require(journal.lost >= lost, "what is lost is counted");
    redlane_journal_after_fork(&journal);
    until_refusal = -1;
    while (redlane_journal_take_pattern(&journal)) {
    }
    (void)redlane_journal_take(&journal, 1, put, &told);
    redlane_journal_settle(&journal, true);
    require(redlane_journal_is_empty(&journal), "it ends empty");
    require(journal.bytes == 0, "and counts no bytes");
    redlane_journal_free(&journal);
}

int
main(void)
{
    for (int pass = 0; pass < 2; pass++) {
        size_t before;
        long at = 0;

        once = pass == 0;
        do {
            before = refusals;
            until_refusal = at++;
            run();
            until_refusal = -1;
        } while (refusals > before);
    }
    printf("%zu allocations refused\n", refusals);
    return 0;
}
