#include "core/breaker.h"

#include <string.h>

#include "harness.h"

#define MS REDLANE_NS_PER_MS

static RedlaneBreaker
new_breaker(void)
{
    RedlaneBreaker breaker;

    redlane_breaker_init(&breaker, 0, 42);
    return breaker;
}

static void
test_doubt_and_its_end(void)
{
    RedlaneBreaker breaker = new_breaker();
    uint64_t era = redlane_breaker_era(&breaker);

    CHECK_INTEGER(redlane_breaker_state(&breaker), REDLANE_BREAKER_CLOSED);
    CHECK(redlane_breaker_probe_due(&breaker) == REDLANE_NEVER);
    CHECK(!redlane_breaker_probe_begin(&breaker, 10));
    CHECK(!redlane_breaker_success(&breaker, era, 10));
    CHECK(redlane_breaker_failure(&breaker, era, REDLANE_BREAKER_DOUBT, 100));
    CHECK_INTEGER(redlane_breaker_state(&breaker), REDLANE_BREAKER_SUSPECT);
    CHECK_INTEGER(redlane_breaker_probe_due(&breaker), 100);

    /* results from before the doubt neither end nor deepen it */
    CHECK(!redlane_breaker_success(&breaker, era, 101));
    CHECK(!redlane_breaker_failure(&breaker, era, REDLANE_BREAKER_AWAY, 101));
    CHECK_INTEGER(redlane_breaker_state(&breaker), REDLANE_BREAKER_SUSPECT);

    /* a second doubt changes nothing; a success of this era ends it */
    era = redlane_breaker_era(&breaker);
    CHECK(!redlane_breaker_failure(&breaker, era, REDLANE_BREAKER_DOUBT, 102));
    CHECK(redlane_breaker_success(&breaker, era, 103));
    CHECK_INTEGER(redlane_breaker_state(&breaker), REDLANE_BREAKER_CLOSED);
    CHECK(breaker.opened_at == REDLANE_NEVER);
    CHECK(redlane_breaker_probe_due(&breaker) == REDLANE_NEVER);
    CHECK_INTEGER(breaker.suspected, 1);
    CHECK_INTEGER(breaker.closed, 1);
    CHECK_INTEGER(breaker.opened, 0);
}

static void
test_probe_decides(void)
{
    RedlaneBreaker breaker = new_breaker();
    uint64_t era = redlane_breaker_era(&breaker);
    int64_t due;

    redlane_breaker_failure(&breaker, era, REDLANE_BREAKER_DOUBT, 100);
    CHECK(redlane_breaker_probe_begin(&breaker, 100));
    CHECK(!redlane_breaker_probe_begin(&breaker, 100)); /* one at a time */
    CHECK(redlane_breaker_probe_due(&breaker) == REDLANE_NEVER);
    CHECK(redlane_breaker_probe_end(&breaker, false, 200));
    CHECK_INTEGER(redlane_breaker_state(&breaker), REDLANE_BREAKER_OPEN);
    CHECK_INTEGER(breaker.opened_at, 100);

    /* nothing but a probe closes it now */
    era = redlane_breaker_era(&breaker);
    CHECK(!redlane_breaker_success(&breaker, era, 210));
    CHECK(!redlane_breaker_failure(&breaker, era, REDLANE_BREAKER_AWAY, 210));
    due = redlane_breaker_probe_due(&breaker);
    CHECK(due > 200 && due <= 200 + 50 * MS);
    CHECK(!redlane_breaker_probe_begin(&breaker, due - 1));
    for (int i = 0; i < 20; i++) {
        int64_t ceiling = i < 4 ? (100 << i) * MS : 1000 * MS;

        CHECK(redlane_breaker_probe_begin(&breaker, due));
        CHECK(!redlane_breaker_probe_end(&breaker, false, due));
        CHECK_INTEGER(redlane_breaker_state(&breaker), REDLANE_BREAKER_OPEN);
        CHECK(redlane_breaker_probe_due(&breaker) > due);
        CHECK(redlane_breaker_probe_due(&breaker) <= due + ceiling);
        due = redlane_breaker_probe_due(&breaker);
    }
    CHECK_INTEGER(breaker.probes_failed, 21);
    CHECK(redlane_breaker_probe_begin(&breaker, due));
    CHECK(redlane_breaker_probe_end(&breaker, true, due));
    CHECK_INTEGER(redlane_breaker_state(&breaker), REDLANE_BREAKER_CLOSED);
    CHECK_INTEGER(breaker.probes_failed, 0);
    CHECK_INTEGER(breaker.opened, 1);

    /* the backoff begins anew */
    CHECK(redlane_breaker_failure(&breaker, redlane_breaker_era(&breaker),
                                  REDLANE_BREAKER_AWAY, due));
    CHECK(redlane_breaker_probe_due(&breaker) <= due + 50 * MS);
}

static void
test_away_opens(void)
{
    RedlaneBreaker breaker = new_breaker();
    uint64_t era = redlane_breaker_era(&breaker);

    CHECK(redlane_breaker_failure(&breaker, era, REDLANE_BREAKER_AWAY, 5));
    CHECK_INTEGER(redlane_breaker_state(&breaker), REDLANE_BREAKER_OPEN);
    CHECK_INTEGER(breaker.opened_at, 5);
    CHECK(!redlane_breaker_failure(&breaker, redlane_breaker_era(&breaker),
                                   REDLANE_BREAKER_AWAY, 6));
    CHECK_INTEGER(breaker.opened_at, 5);
    CHECK_INTEGER(breaker.opened, 1);
}

static void
test_late_probe(void)
{
    RedlaneBreaker breaker = new_breaker();

    /* a probe of the suspect era, whose answer comes when the link is open already */
    redlane_breaker_failure(&breaker, redlane_breaker_era(&breaker),
                            REDLANE_BREAKER_DOUBT, 10);
    CHECK(redlane_breaker_probe_begin(&breaker, 10));
    CHECK(redlane_breaker_failure(&breaker, redlane_breaker_era(&breaker),
                                  REDLANE_BREAKER_AWAY, 20));
    CHECK(!redlane_breaker_probe_end(&breaker, true, 30));
    CHECK_INTEGER(redlane_breaker_state(&breaker), REDLANE_BREAKER_OPEN);
    CHECK(redlane_breaker_probe_due(&breaker) < REDLANE_NEVER);

    /* one whose failure comes when a call has closed the link already */
    breaker = new_breaker();
    redlane_breaker_failure(&breaker, redlane_breaker_era(&breaker),
                            REDLANE_BREAKER_DOUBT, 10);
    CHECK(redlane_breaker_probe_begin(&breaker, 10));
    CHECK(redlane_breaker_success(&breaker, redlane_breaker_era(&breaker), 20));
    CHECK(!redlane_breaker_probe_end(&breaker, false, 30));
    CHECK_INTEGER(redlane_breaker_state(&breaker), REDLANE_BREAKER_CLOSED);
    CHECK(!redlane_breaker_probe_end(&breaker, false, 40));

    CHECK(strcmp(redlane_breaker_state_name(REDLANE_BREAKER_SUSPECT), "suspect") == 0);
}

/* Any sequence of reports keeps the invariant: a probe is due or running just when the
 * breaker is not closed. */
static void
test_invariant(void)
{
    RedlaneBreaker breaker = new_breaker();
    RedlaneBackoff dice;
    uint64_t eras[4] = {1, 1, 1, 1};

    redlane_backoff_init(&dice, 1000, 1000, 3);
    for (int64_t now = 0; now < 20000 * MS; now += MS) {
        int64_t throw = redlane_backoff_next(&dice);
        uint64_t *era = &eras[throw &3];
        uint64_t before = breaker.era;
        bool changed = false;

        switch (throw / 4 % 6) {
        case 0:
            *era = redlane_breaker_era(&breaker);
            break;
        case 1:
            changed = redlane_breaker_success(&breaker, *era, now);
            break;
        case 2:
            changed =
                redlane_breaker_failure(&breaker, *era, REDLANE_BREAKER_DOUBT, now);
            break;
        case 3:
            changed =
                redlane_breaker_failure(&breaker, *era, REDLANE_BREAKER_AWAY, now);
            break;
        case 4:
            (void)redlane_breaker_probe_begin(&breaker, now);
            break;
        default:
            changed = redlane_breaker_probe_end(&breaker, throw &1, now);
        }
        CHECK_INTEGER(breaker.era, before + changed);
        CHECK((breaker.state == REDLANE_BREAKER_CLOSED) ==
              (breaker.probe_at == REDLANE_NEVER));
        CHECK((breaker.state == REDLANE_BREAKER_CLOSED) ==
              (breaker.opened_at == REDLANE_NEVER));
    }
    CHECK(breaker.closed > 10 && breaker.opened > 10 && breaker.suspected > 10);
}

void
test_breaker(void)
{
    test_doubt_and_its_end();
    test_probe_decides();
    test_away_opens();
    test_late_probe();
    test_invariant();
}
