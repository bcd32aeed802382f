#include "core/backoff.h"

#define HOLD_DOUBLINGS 9

void
redlane_backoff_init(RedlaneBackoff *backoff, int64_t first, int64_t cap, uint64_t seed)
{
    *backoff = (RedlaneBackoff){.random = seed, .first = first, .cap = cap};
}

/* splitmix64 (G. Steele, D. Lea, C. Flood, OOPSLA 2014): any seed will do, 0 too. */
static uint64_t
draw_random(RedlaneBackoff *backoff)
{
    uint64_t mixed = backoff->random += UINT64_C(0x9e3779b97f4a7c15);

    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ mixed >> 31;
}

int64_t
redlane_backoff_next(RedlaneBackoff *backoff)
{
    int64_t ceiling = backoff->first;
    int64_t floor = backoff->first / 4;
    int64_t wait;

    for (unsigned i = 0; i < backoff->attempts && ceiling < backoff->cap; i++) {
        ceiling = ceiling > backoff->cap / 2 ? backoff->cap : ceiling * 2;
    }
    if (backoff->attempts < 64) { /* enough for any cap in int64_t */
        backoff->attempts++;
    }
    /* the remainder's bias, below 2^-30 for a ceiling of seconds, does not matter */
    wait = (int64_t)(draw_random(backoff) % ((uint64_t)ceiling + 1));
    return wait > floor ? wait : floor > 0 ? floor : 1;
}

void
redlane_backoff_reset(RedlaneBackoff *backoff)
{
    backoff->attempts = 0;
}

int64_t
redlane_backoff_hold(uint64_t failed)
{
    return failed < HOLD_DOUBLINGS ? REDLANE_NS_PER_S << failed : REDLANE_HOLD_MOST;
}
