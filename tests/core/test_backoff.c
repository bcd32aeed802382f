#include "core/backoff.h"

#include "harness.h"

void
test_backoff(void)
{
    RedlaneBackoff backoff, twin;
    int64_t longest[8] = {0};

    for (uint64_t seed = 0; seed < 500; seed++) {
        redlane_backoff_init(&backoff, 100, 1000, seed);
        for (int i = 0; i < 8; i++) {
            int64_t ceiling = i < 4 ? 100 << i : 1000;
            int64_t wait = redlane_backoff_next(&backoff);

            CHECK(wait >= 25 && wait <= ceiling);
            longest[i] = wait > longest[i] ? wait : longest[i];
        }
    }
    /* full jitter: with 500 draws some come near each ceiling */
    CHECK(longest[0] > 95 && longest[1] > 190 && longest[3] > 760 && longest[7] > 950);

    redlane_backoff_reset(&backoff);
    CHECK(redlane_backoff_next(&backoff) <= 100);

    /* one seed, one sequence; another seed, another one */
    redlane_backoff_init(&backoff, 1000000, 1000000, 1);
    redlane_backoff_init(&twin, 1000000, 1000000, 1);
    CHECK_INTEGER(redlane_backoff_next(&backoff), redlane_backoff_next(&twin));
    redlane_backoff_init(&twin, 1000000, 1000000, 2);
    CHECK(redlane_backoff_next(&backoff) != redlane_backoff_next(&twin));

    /* no ceiling overflows, no wait is 0 */
    redlane_backoff_init(&backoff, 1, INT64_MAX, 7);
    for (int i = 0; i < 200; i++) {
        CHECK(redlane_backoff_next(&backoff) > 0);
    }
}
