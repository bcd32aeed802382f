/* Limits: bounds, the parser of rates, and the edges of the arithmetic. What it decides
 * is held against a model by tests/test_limits_model.py. */
#include "core/limit.h"

#include <string.h>

#include "core/limit_blocked.h"
#include "core/limit_rate.h"
#include "harness.h"

#define DAY INT64_C(86400)
#define NOW INT64_C(1800000000000000)

static RedlaneRateVerdict
parse(const char *text, RedlaneRate *rates, size_t *count)
{
    size_t wrong;

    return redlane_rates_parse(text, strlen(text), rates, REDLANE_LIMITS_MAX, count,
                               &wrong);
}

static void
check_rate(const char *text, int64_t number, int64_t seconds, int64_t burst)
{
    RedlaneRate rates[REDLANE_LIMITS_MAX];
    size_t count = 0;

    CHECK_INTEGER(parse(text, rates, &count), REDLANE_RATE_OK);
    CHECK_INTEGER(count, 1);
    CHECK_INTEGER(rates[0].count, number);
    CHECK_INTEGER(rates[0].seconds, seconds);
    CHECK_INTEGER(rates[0].burst, burst);
}

static void
test_rates(void)
{
    static const char *const wrong[] = {
        "",
        "5",
        "/minute",
        "5/",
        "5/fortnight",
        "5 minute",
        "minute",
        "5/minute;",
        ";5/minute",
        "5/minute 6/hour",
        "5//minute",
        "5/2",
        "-5/minute",
        "5.5/minute",
        "5/minutess",
        "5/minute burst",
        "5/minute bursts 2",
        "5/minute;;5/hour",
        "5perminuteburst2",
    };
    static const char *const range[] = {
        "0/minute",
        "5/0 minutes",
        "5/minute burst 0",
        "99999999999999999999/day",
    };
    RedlaneRate rates[REDLANE_LIMITS_MAX];
    size_t count;

    check_rate("5/minute", 5, 60, 0);
    check_rate(" 10 per 2 hours ", 10, 7200, 0);
    check_rate("1 PER day", 1, DAY, 0);
    check_rate("5perminute", 5, 60, 0);
    check_rate("5/2minute", 5, 120, 0);
    check_rate("5/2Minutes", 5, 120, 0);
    check_rate("500/7days", 500, 7 * DAY, 0);
    check_rate("1/month", 1, 30 * DAY, 0);
    check_rate("1/year", 1, 360 * DAY, 0);
    check_rate("7/s", 7, 1, 0);
    check_rate("10/second burst 20", 10, 1, 20);
    check_rate("5/minute;5 per 60 seconds", 5, 60, 0);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        CHECK_INTEGER(parse(wrong[i], rates, &count), REDLANE_RATE_SYNTAX);
    }
    for (size_t i = 0; i < sizeof(range) / sizeof(range[0]); i++) {
        CHECK_INTEGER(parse(range[i], rates, &count), REDLANE_RATE_RANGE);
    }
    CHECK_INTEGER(parse("1/s;2/s,3/s|4/s;5/s;6/s;7/s;8/s", rates, &count),
                  REDLANE_RATE_OK);
    CHECK_INTEGER(count, 8);
    CHECK_INTEGER(parse("1/s;2/s;3/s;4/s;5/s;6/s;7/s;8/s;9/s", rates, &count),
                  REDLANE_RATE_MANY);
}

static void
test_bounds(void)
{
    RedlaneLimit limit;

    CHECK(redlane_limit_init(&limit, REDLANE_LIMIT_BUCKET, REDLANE_LIMIT_COUNT_MAX, 1,
                             0));
    CHECK(redlane_limit_init(&limit, REDLANE_LIMIT_SLIDING, REDLANE_LIMIT_COUNT_MAX,
                             REDLANE_LIMIT_SECONDS_MAX, 0));
    CHECK(limit.count * limit.span < INT64_C(1) << 52);
    CHECK(!redlane_limit_init(&limit, REDLANE_LIMIT_SLIDING, 5, 60, 6));
    CHECK(!redlane_limit_init(&limit, REDLANE_LIMIT_SLIDING, 5, 0, 0));
    CHECK(!redlane_limit_init(&limit, REDLANE_LIMIT_SLIDING, 0, 60, 0));
    CHECK(!redlane_limit_init(&limit, REDLANE_LIMIT_LOG, REDLANE_LIMIT_LOG_MAX + 1, 60,
                              0));
    CHECK(redlane_limit_init(&limit, REDLANE_LIMIT_BUCKET, 1, DAY, 20000));
    CHECK(!redlane_limit_init(&limit, REDLANE_LIMIT_BUCKET, 1, DAY, 30000)); /* years */
}

/* What is rounded is rounded to the strict side, and stays within 2^53. */
static void
test_scales(void)
{
    static const int64_t counts[] = {1, 7, 999983, 999999937, 1000000000};
    static const int64_t times[] = {1, 59, 3600, DAY, 360 * DAY, 31 * 360 * DAY};
    RedlaneLimit limit;

    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        for (size_t j = 0; j < sizeof(times) / sizeof(times[0]); j++) {
            CHECK(redlane_limit_init(&limit, REDLANE_LIMIT_BUCKET, counts[i], times[j],
                                     0));
            CHECK(limit.token <= (INT64_C(1) << 51) / limit.burst);
            CHECK((__int128)limit.drain * limit.window <=
                  (__int128)limit.token * limit.count);
            CHECK((__int128)limit.drain * limit.window * 1000001 >=
                  (__int128)limit.token * limit.count * 1000000);
        }
    }
}

static void
test_clock_set_back(void)
{
    RedlaneLimitState state = {0};
    RedlaneLimitMeter meter;
    RedlaneLimit limit;

    CHECK(redlane_limit_init(&limit, REDLANE_LIMIT_BUCKET, 10, 60, 0));
    redlane_limit_open(&meter, &limit, &state, NOW);
    redlane_limit_add(&meter, 10);
    CHECK(redlane_limit_close(&meter, &state) > 60000);
    redlane_limit_open(&meter, &limit, &state, 0); /* fifty years earlier */
    CHECK_INTEGER(redlane_limit_retry(&meter, 1), 6000000);
    CHECK_INTEGER(redlane_limit_retry(&meter, 10), 60000000);
    redlane_limit_open(&meter, &limit, &state, NOW + 60000000);
    CHECK_INTEGER(redlane_limit_retry(&meter, 10), 0);
    CHECK_INTEGER(redlane_limit_close(&meter, &state), 0);

    CHECK(redlane_limit_init(&limit, REDLANE_LIMIT_SLIDING, 10, 60, 0));
    state = (RedlaneLimitState){0};
    redlane_limit_open(&meter, &limit, &state, NOW);
    redlane_limit_add(&meter, 10);
    CHECK(redlane_limit_close(&meter, &state) > 0);
    redlane_limit_open(&meter, &limit, &state, 0);
    CHECK(redlane_limit_retry(&meter, 1) > 0);
    CHECK(redlane_limit_retry(&meter, 10) <= 120000000);
}

static void
test_blocked(void)
{
    static RedlaneLimitNotes table;
    const RedlaneLimitAnswer hour = {0, 3600000000, 3600000000}, soon = {0, 500, 500};
    const RedlaneArg ann = REDLANE_ARG_LITERAL("ann"), bob = REDLANE_ARG_LITERAL("bob");
    char name[8] = "u000000";

    redlane_limit_notes_init(&table);
    CHECK(!redlane_blocked_find(&table, ann, 1, 1, 0));
    redlane_blocked_note(&table, ann, 1, 3, 0, &hour, 1);
    CHECK(redlane_blocked_find(&table, ann, 1, 3, 0));
    CHECK(redlane_blocked_find(&table, ann, 1, 4, 999999999));
    CHECK(!redlane_blocked_find(&table, ann, 1, 2, 0)); /* that may have room */
    CHECK(!redlane_blocked_find(&table, ann, 2, 3, 0));
    CHECK(!redlane_blocked_find(&table, bob, 1, 3, 0));
    CHECK(!redlane_blocked_find(&table, ann, 1, 3, 1000000000)); /* a second at most */
    redlane_blocked_note(&table, ann, 1, 1, 0, &soon, 1);
    CHECK(redlane_blocked_find(&table, ann, 1, 1, 499999));
    CHECK(!redlane_blocked_find(&table, ann, 1, 1, 500000));
    redlane_blocked_note(&table, ann, 2, 1, 0, &hour, 1);
    CHECK_INTEGER(table.count, 2);
    redlane_limit_notes_drop(&table, ann);
    CHECK_INTEGER(table.count, 0);
    for (int i = 0; i < 100000; i++) {
        for (int at = 6, rest = i; at > 0; at--, rest /= 10) {
            name[at] = (char)('0' + rest % 10);
        }
        redlane_blocked_note(&table, (RedlaneArg){name, 7}, 1, 1, i, &hour, 1);
    }
    CHECK(table.count <= REDLANE_LIMIT_NOTES_BUCKETS * REDLANE_LIMIT_NOTES_WAYS);
    CHECK(redlane_blocked_find(&table, (RedlaneArg){name, 7}, 1, 1, 99999));
    redlane_limit_notes_clear(&table);
    CHECK_INTEGER(table.count, 0);
}

void
test_limit(void)
{
    test_rates();
    test_bounds();
    test_scales();
    test_clock_set_back();
    test_blocked();
}
