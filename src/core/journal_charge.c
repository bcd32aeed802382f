#include "core/journal_charge.h"

#include <stdlib.h>
#include <string.h>

#define TIME_SIZE sizeof(int64_t)

static size_t
size_with(size_t capacity)
{
    return sizeof(RedlaneCharge) + capacity * TIME_SIZE;
}

size_t
redlane_charge_size(const RedlaneCharge *charge)
{
    return charge ? size_with(charge->capacity) : 0;
}

/* Times that there must be room for, without those that are gone. */
static size_t
times_needed(const RedlaneCharge *charge, const RedlaneLimit *limit, int64_t cost)
{
    size_t used = charge ? charge->end - charge->first : 0;

    if (limit->kind != REDLANE_LIMIT_LOG || cost < 0) {
        return used;
    }
    used += (size_t)cost;
    return used < (size_t)limit->count ? used : (size_t)limit->count;
}

/* The capacity that it is given. */
static size_t
capacity_for(const RedlaneCharge *charge, const RedlaneLimit *limit, int64_t cost)
{
    size_t needed = times_needed(charge, limit, cost), most = (size_t)limit->count;

    if (charge && needed <= charge->capacity) {
        return charge->capacity;
    }
    return needed * 2 < most ? needed * 2 : most > needed ? most : needed;
}

size_t
redlane_charge_growth(const RedlaneCharge *charge, const RedlaneLimit *limit,
                      int64_t cost)
{
    size_t capacity =
        limit->kind == REDLANE_LIMIT_LOG ? capacity_for(charge, limit, cost) : 0;

    return size_with(capacity) - redlane_charge_size(charge);
}

bool
redlane_charge_fits(const RedlaneCharge *charge, const RedlaneLimit *limit)
{
    return !charge ||
           (charge->limit.kind == limit->kind &&
            (limit->kind != REDLANE_LIMIT_LOG || charge->limit.count == limit->count));
}

static void
open_times(RedlaneLimitMeter *meter, const RedlaneCharge *charge, char *times,
           int64_t now)
{
    redlane_limit_open_log(meter, &charge->limit, times + charge->first * TIME_SIZE,
                           charge->end - charge->first, now);
}

static void
change(RedlaneLimitMeter *meter, int64_t cost)
{
    if (cost < 0) {
        redlane_limit_refund(meter, -cost);
    }
    else {
        redlane_limit_add(meter, cost);
    }
}

static void
change_times(RedlaneCharge *charge, int64_t cost, int64_t now)
{
    RedlaneLimitMeter meter;

    memmove(charge->times, charge->times + charge->first * TIME_SIZE,
            (charge->end - charge->first) * TIME_SIZE);
    charge->end -= charge->first;
    charge->first = 0;
    open_times(&meter, charge, charge->times, now);
    change(&meter, cost);
    charge->first = meter.gone;
    charge->end = meter.gone + (size_t)meter.used;
}

static void
change_state(RedlaneCharge *charge, int64_t index, int64_t cost, int64_t now)
{
    RedlaneLimitMeter meter;

    if (charge->limit.kind == REDLANE_LIMIT_FIXED && charge->state.index != index) {
        charge->state = (RedlaneLimitState){.index = index};
    }
    redlane_limit_open(&meter, &charge->limit, &charge->state, now);
    change(&meter, cost);
    (void)redlane_limit_close(&meter, &charge->state);
}

bool
redlane_charge_add(RedlaneCharge **charge, const RedlaneLimit *limit, int64_t index,
                   int64_t cost, int64_t now)
{
    RedlaneCharge *grown = *charge;
    size_t capacity;

    if (grown) {
        (void)redlane_charge_counts(grown, now);
    }
    capacity = limit->kind == REDLANE_LIMIT_LOG ? capacity_for(grown, limit, cost) : 0;
    if (!grown || capacity > grown->capacity) {
        grown = realloc(*charge, size_with(capacity));
        if (!grown) {
            return false;
        }
        if (!*charge) {
            memset(grown, 0, sizeof(*grown));
            grown->limit = *limit;
            grown->state.index = index;
        }
        grown->capacity = capacity;
        *charge = grown;
    }
    if (limit->kind == REDLANE_LIMIT_LOG) {
        change_times(grown, cost, now);
    }
    else {
        change_state(grown, index, cost, now);
    }
    return true;
}

bool
redlane_charge_counts(RedlaneCharge *charge, int64_t now)
{
    RedlaneLimitMeter meter;
    RedlaneLimitState state;

    if (charge->limit.kind == REDLANE_LIMIT_LOG) {
        open_times(&meter, charge, charge->times, now);
        charge->first += meter.gone;
        return meter.used > 0;
    }
    if (charge->limit.kind == REDLANE_LIMIT_FIXED &&
        charge->state.index < now / charge->limit.window) {
        return false;
    }
    redlane_limit_open(&meter, &charge->limit, &charge->state, now);
    return redlane_limit_close(&meter, &state) > 0;
}
