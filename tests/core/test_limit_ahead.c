#include <stdio.h>

#include "core/clock.h"
#include "core/limit_ahead.h"
#include "harness.h"

#define SECOND REDLANE_NS_PER_S
#define ARG(text) ((RedlaneArg){text, sizeof(text) - 1})

static RedlaneLimit
limit_of(RedlaneLimitKind kind, int64_t seconds)
{
    RedlaneLimit limit;

    CHECK(redlane_limit_init(&limit, kind, 1000, seconds, 0));
    return limit;
}

static void
test_until(void)
{
    RedlaneLimit limits[] = {limit_of(REDLANE_LIMIT_FIXED, 60),
                             limit_of(REDLANE_LIMIT_SLIDING, 60)};
    RedlaneLimitAnswer answers[] = {{5, 30000000, 0}, {5, 90000000, 0}};

    CHECK_INTEGER(redlane_ahead_until(limits, answers, 2, 7), 7 + SECOND);
    answers[0].reset = 250000; /* so much is left of that window */
    CHECK_INTEGER(redlane_ahead_until(limits, answers, 2, 7), 7 + SECOND / 4);
    answers[1].reset = 60000000 + 1; /* and of this one, before the next */
    CHECK_INTEGER(redlane_ahead_until(limits, answers, 2, 7), 7 + 1000);
    CHECK_INTEGER(redlane_ahead_until(limits, answers, 1, 7), 7 + SECOND / 4);
}

/* Each limit's kind at each moment of a window: what was charged then is over with it.
 */
static void
test_until_of_real_answers(void)
{
    static const RedlaneLimitKind kinds[] = {REDLANE_LIMIT_FIXED,
                                             REDLANE_LIMIT_SLIDING};
    RedlaneLimitState state = {0};
    RedlaneLimitAnswer answer;
    RedlaneLimitMeter meter;

    for (size_t i = 0; i < 2; i++) {
        RedlaneLimit limit = limit_of(kinds[i], 2);

        for (int64_t phase = 0; phase < limit.window; phase += 99991) {
            int64_t left = limit.window - phase, until;

            state.index = 1000;
            state.current = 3;
            redlane_limit_open(&meter, &limit, &state, 1000 * limit.window + phase);
            redlane_limit_add(&meter, 10);
            redlane_limit_answer(&meter, &answer);
            until = redlane_ahead_until(&limit, &answer, 1, 0);
            CHECK_INTEGER(until, (left < 1000000 ? left : 1000000) * 1000);
        }
    }
}

static void
test_more(void)
{
    RedlaneLimitNotes table;
    RedlaneLimitAnswer answers[] = {{1000, 1, 0}, {41, 1, 0}};
    RedlaneLimitNote *ahead;

    redlane_limit_notes_init(&table);
    redlane_ahead_note(&table, ARG("ann"), 1, 0, 0, SECOND, answers, 1);
    ahead = redlane_limit_notes_find(&table, ARG("ann"), 1, 0);
    CHECK_INTEGER(redlane_ahead_more(ahead, 100, 1), 99);
    CHECK_INTEGER(redlane_ahead_more(ahead, 100, 100), 0);
    CHECK_INTEGER(redlane_ahead_more(ahead, 100, 300), 0);
    CHECK_INTEGER(redlane_ahead_more(ahead, 100000, 1), 499); /* half of all */
    redlane_ahead_note(&table, ARG("ann"), 1, 0, 0, SECOND, answers, 2);
    ahead = redlane_limit_notes_find(&table, ARG("ann"), 1, 0);
    CHECK_INTEGER(redlane_ahead_more(ahead, 100, 1), 19); /* of the tightest */
    redlane_limit_notes_clear(&table);
}

static void
test_table(void)
{
    RedlaneLimitNotes table;
    RedlaneLimitAnswer answer = {500, 1, 0}, later = {400, 1, 0};
    RedlaneArg ann = ARG("ann"), bob = ARG("bob");
    RedlaneLimitNote *ahead;

    redlane_limit_notes_init(&table);
    CHECK(!redlane_limit_notes_find(&table, ann, 1, 0));
    redlane_ahead_note(&table, ann, 1, 30, 0, SECOND, &answer, 1);
    redlane_ahead_note(&table, ann, 2, 7, 0, SECOND, &answer, 1);
    CHECK(!redlane_limit_notes_find(&table, bob, 1, 0));
    CHECK(!redlane_limit_notes_find(&table, ann, 3, 0));
    CHECK(!redlane_limit_notes_find(&table, ann, 1, SECOND));
    ahead = redlane_limit_notes_find(&table, ann, 1, SECOND - 1);
    CHECK(ahead && ahead->units == 30 && ahead->answers[0].remaining == 500);
    if (ahead) {
        ahead->asking = 7;
    }
    /* More comes beside what is there, and what is there lives no longer. */
    redlane_ahead_note(&table, ann, 1, 12, 100, SECOND + 100, &later, 1);
    ahead = redlane_limit_notes_find(&table, ann, 1, 100);
    CHECK(ahead && ahead->units == 42 && ahead->until == SECOND && ahead->asking == 7);
    CHECK(ahead && ahead->answers[0].remaining == 400 && ahead->seen == 100);
    /* What has ended is not added to. */
    redlane_ahead_note(&table, ann, 1, 5, SECOND, 2 * SECOND, &later, 1);
    ahead = redlane_limit_notes_find(&table, ann, 1, SECOND);
    CHECK(ahead && ahead->units == 5 && ahead->until == 2 * SECOND && !ahead->asking);
    redlane_limit_notes_drop(&table, bob);
    CHECK(redlane_limit_notes_find(&table, ann, 2, 0));
    redlane_limit_notes_drop(&table, ann);
    CHECK(!redlane_limit_notes_find(&table, ann, 1, SECOND));
    CHECK(!redlane_limit_notes_find(&table, ann, 2, 0));
    redlane_limit_notes_clear(&table);
}

/* Many identities take the places of those that hold nothing first. */
static void
test_bound(void)
{
    RedlaneLimitNotes table;
    RedlaneLimitAnswer answer = {500, 1, 0};
    char name[16];
    int kept = 0;

    redlane_limit_notes_init(&table);
    for (int i = 0; i < 200; i++) {
        size_t size = (size_t)snprintf(name, sizeof(name), "hot%d", i);

        redlane_ahead_note(&table, (RedlaneArg){name, size}, 1, 9, 0, SECOND, &answer,
                           1);
    }
    for (int i = 0; i < 20000; i++) {
        size_t size = (size_t)snprintf(name, sizeof(name), "cold%d", i);

        redlane_ahead_note(&table, (RedlaneArg){name, size}, 1, 0, 0, SECOND, &answer,
                           1);
    }
    for (int i = 0; i < 200; i++) {
        size_t size = (size_t)snprintf(name, sizeof(name), "hot%d", i);

        kept +=
            redlane_limit_notes_find(&table, (RedlaneArg){name, size}, 1, 0) != NULL;
    }
    CHECK(kept >= 190); /* but where five of them share a bucket */
    redlane_limit_notes_clear(&table);
}

void
test_limit_ahead(void)
{
    test_until();
    test_until_of_real_answers();
    test_more();
    test_table();
    test_bound();
}
