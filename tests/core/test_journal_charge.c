/* Charges in the journal: added up, ended by a delete, sent at most once. */
#include <string.h>

#include "core/clock.h"
#include "core/journal.h"
#include "harness.h"

#define KEY REDLANE_ARG_LITERAL("limit:{u}:b10/60")
#define SPACE ((RedlaneArg){0})

typedef struct {
    size_t orders, removes, charges;
    RedlaneLimitState state;
    size_t times;
} Seen;

static int
see(void *context, const RedlaneOrder *order)
{
    Seen *seen = context;

    seen->orders++;
    seen->removes += order->remove;
    if (order->charge) {
        seen->charges++;
        seen->state = order->charge->state;
        seen->times = order->charge->end - order->charge->first;
    }
    return 1;
}

static int64_t
unix_us(void)
{
    return redlane_clock_read(CLOCK_REALTIME) / 1000;
}

static RedlaneChange
charge(RedlaneLimitKind kind, int64_t cost, int64_t at)
{
    RedlaneChange change = {
        .kind = REDLANE_CHANGE_CHARGE, .key = KEY, .amount = cost, .at = at};

    CHECK(redlane_limit_init(&change.limit, kind, 10, 3600, 0));
    change.index = at / change.limit.window;
    return change;
}

static void
keep(RedlaneJournal *journal, RedlaneLimitKind kind, int64_t cost, int64_t at)
{
    RedlaneChange change = charge(kind, cost, at);

    CHECK(redlane_journal_keep(journal, &change, SPACE));
}

static Seen
take(RedlaneJournal *journal)
{
    Seen seen = {0};

    (void)redlane_journal_take(journal, redlane_clock_now(), see, &seen);
    return seen;
}

static void
test_added_up(RedlaneJournal *journal)
{
    static const RedlaneLimitKind kinds[] = {REDLANE_LIMIT_FIXED, REDLANE_LIMIT_SLIDING,
                                             REDLANE_LIMIT_LOG, REDLANE_LIMIT_BUCKET};
    int64_t now = unix_us();

    for (size_t i = 0; i < 4; i++) {
        Seen seen;

        for (int n = 0; n < 5; n++) {
            keep(journal, kinds[i], 2, now);
        }
        keep(journal, kinds[i], -3, now);
        keep(journal, kinds[i], 50, now); /* to the limit's bound */
        keep(journal, kinds[i], -1, now);
        seen = take(journal);
        CHECK_INTEGER(seen.charges, 1);
        if (kinds[i] == REDLANE_LIMIT_LOG) {
            CHECK_INTEGER(seen.times, 9);
        }
        else if (kinds[i] == REDLANE_LIMIT_BUCKET) {
            CHECK_INTEGER(seen.state.current, now + INT64_C(3600000000) / 10 * 9);
        }
        else {
            CHECK_INTEGER(seen.state.current, 9);
        }
        redlane_journal_settle(journal, true);
        CHECK(redlane_journal_is_empty(journal));
        CHECK_INTEGER(journal->bytes, 0);
    }
}

static void
test_deleted(RedlaneJournal *journal)
{
    RedlaneChange gone = {.kind = REDLANE_CHANGE_DELETE, .key = KEY};
    int64_t now = unix_us();
    Seen seen;

    keep(journal, REDLANE_LIMIT_BUCKET, 5, now);
    CHECK(redlane_journal_keep(journal, &gone, SPACE));
    keep(journal, REDLANE_LIMIT_BUCKET, 1, now);
    seen = take(journal);
    CHECK_INTEGER(seen.removes, 1);
    CHECK_INTEGER(seen.charges, 1);
    CHECK_INTEGER(seen.state.current, now + INT64_C(360000000));
    CHECK(redlane_journal_keep(journal, &gone, SPACE)); /* while it is in flight */
    redlane_journal_settle(journal, false);
    seen = take(journal);
    CHECK_INTEGER(seen.removes, 1);
    CHECK_INTEGER(seen.charges, 0);
    redlane_journal_settle(journal, true);
    CHECK(redlane_journal_is_empty(journal));
}

static void
test_at_most_once(RedlaneJournal *journal)
{
    int64_t now = unix_us();
    uint64_t lost = journal->lost;

    keep(journal, REDLANE_LIMIT_LOG, 3, now);
    CHECK_INTEGER(take(journal).times, 3);
    redlane_journal_settle(journal, false); /* nobody knows */
    CHECK_INTEGER(journal->lost, lost + 1);
    CHECK(redlane_journal_is_empty(journal));

    keep(journal, REDLANE_LIMIT_LOG, 3, now);
    CHECK_INTEGER(take(journal).times, 3);
    redlane_journal_refuse(journal, 0, true); /* it surely was not charged */
    redlane_journal_settle(journal, true);
    CHECK_INTEGER(take(journal).times, 3);
    keep(journal, REDLANE_LIMIT_LOG, 2, now);
    redlane_journal_settle(journal, true);
    CHECK_INTEGER(take(journal).times, 2);
    redlane_journal_settle(journal, true);
    CHECK(redlane_journal_is_empty(journal));
    CHECK_INTEGER(journal->bytes, 0);
}

static void
test_what_ends(RedlaneJournal *journal)
{
    int64_t past = unix_us() - INT64_C(100) * 3600 * 1000000;

    keep(journal, REDLANE_LIMIT_SLIDING, 3, past);
    CHECK_INTEGER(take(journal).charges, 0);
    redlane_journal_settle(journal, true);
    CHECK(redlane_journal_is_empty(journal));
    keep(journal, REDLANE_LIMIT_BUCKET, 3, unix_us());
    redlane_journal_after_fork(journal); /* it is the parent's */
    CHECK(redlane_journal_is_empty(journal));
    CHECK_INTEGER(journal->bytes, 0);
}

static void
test_no_room(void)
{
    RedlaneJournal small;
    RedlaneChange change = charge(REDLANE_LIMIT_LOG, 5, unix_us());

    redlane_journal_init(&small, 64);
    CHECK(!redlane_journal_keep(&small, &change, SPACE));
    CHECK_INTEGER(small.lost, 1);
    CHECK(redlane_journal_is_empty(&small));
    redlane_journal_free(&small);
}

void
test_journal_charge(void)
{
    RedlaneJournal journal;

    redlane_journal_init(&journal, REDLANE_JOURNAL_MAX_BYTES);
    test_added_up(&journal);
    test_deleted(&journal);
    test_at_most_once(&journal);
    test_what_ends(&journal);
    keep(&journal, REDLANE_LIMIT_LOG, 3, unix_us());
    redlane_journal_free(&journal);
    test_no_room();
}
