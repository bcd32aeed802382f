#include "core/duration.h"

#include <string.h>

#include "harness.h"

static void
check_duration(const char *text, int64_t wanted)
{
    int64_t milliseconds = -1;

    CHECK_INTEGER(redlane_duration_parse(text, strlen(text), &milliseconds),
                  REDLANE_DURATION_OK);
    CHECK_INTEGER(milliseconds, wanted);
}

static void
check_refused(const char *text, size_t size, RedlaneDuration why)
{
    int64_t milliseconds;

    CHECK_INTEGER(redlane_duration_parse(text, size, &milliseconds), why);
}

void
test_duration(void)
{
    static const char *const bad[] = {"",      "5",     "s",    "5 s",   "s5",  "5S",
                                      "5s ",   "1m1h",  "1s1s", "1ms1s", ".5s", "5.s",
                                      "1..5s", "1.5.s", "1e3s", "-1s",   "+1s", "5min"};

    check_duration("250ms", 250);
    check_duration("1w1d1h1m1s1ms", 694861001);
    check_duration("1.5h", 5400000);
    check_duration("0.0005s", 1);
    check_duration("0.0004s", 1); /* not nothing, so not zero */
    check_duration("0s", 0);
    check_duration("0.000000000000001w", 1);
    check_duration("0.9999999999999999s", 1000);
    check_duration("9223372036854775807ms", INT64_MAX);

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        check_refused(bad[i], strlen(bad[i]), REDLANE_DURATION_SYNTAX);
    }
    check_refused("1m\0", 3, REDLANE_DURATION_SYNTAX);
    check_refused("9223372036854775808ms", 21, REDLANE_DURATION_TOO_LONG);
    check_refused("15250284453w", 12, REDLANE_DURATION_TOO_LONG);
    check_refused("9223372036854775806ms", 21, REDLANE_DURATION_OK);
    check_refused("9223372036854775s999ms", 22, REDLANE_DURATION_TOO_LONG);

    /* no byte behind the end is read */
    check_refused("5s", 1, REDLANE_DURATION_SYNTAX);
    check_refused("5.5s", 2, REDLANE_DURATION_SYNTAX);
    check_refused("5ms", 2, REDLANE_DURATION_OK); /* 5m */
}
