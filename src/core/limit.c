#include "core/limit.h"

#include <string.h>

/* What products are bounded by; sums of two of them are then below 2^53. */
#define EXACT (INT64_C(1) << 51)
#define US_PER_S INT64_C(1000000)

__extension__ typedef __int128 Wide;

static int64_t
divide_up(int64_t number, int64_t by)
{
    return (number + by - 1) / by;
}

static int64_t
least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t
at_least(int64_t number, int64_t floor)
{
    return number < floor ? floor : number;
}

static int64_t
within(int64_t number, int64_t most)
{
    return at_least(least(number, most), 0);
}

/* --- limits ------------------------------------------------------------------------
 */

static int64_t
common_divisor(int64_t a, int64_t b)
{
    while (b) {
        int64_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

/* A unit makes `token` of debt, of which `drain` goes in a microsecond: window and
 * count in lowest terms or, where a full bucket would be too large a number, scaled
 * down so that it drains no faster. */
static bool
init_bucket(RedlaneLimit *limit)
{
    int64_t divisor = common_divisor(limit->window, limit->count);

    limit->token = limit->window / divisor;
    limit->drain = limit->count / divisor;
    if (limit->token > EXACT / limit->burst) {
        limit->token = EXACT / limit->burst;
        limit->drain = (int64_t)((Wide)limit->token * limit->count / limit->window);
        limit->token =
            (int64_t)(((Wide)limit->drain * limit->window + limit->count - 1) /
                      limit->count);
    }
    return limit->drain > 0;
}

bool
redlane_limit_init(RedlaneLimit *limit, RedlaneLimitKind kind, int64_t count,
                   int64_t seconds, int64_t burst)
{
    int64_t most =
        kind == REDLANE_LIMIT_LOG ? REDLANE_LIMIT_LOG_MAX : REDLANE_LIMIT_COUNT_MAX;

    if (count < 1 || count > most || seconds < 1 ||
        seconds > REDLANE_LIMIT_SECONDS_MAX || burst < 0 ||
        burst > REDLANE_LIMIT_COUNT_MAX || (burst && kind != REDLANE_LIMIT_BUCKET)) {
        return false;
    }
    *limit = (RedlaneLimit){
        .kind = kind,
        .count = count,
        .window = seconds * US_PER_S,
        .burst = burst ? burst : count,
    };
    if (kind == REDLANE_LIMIT_BUCKET) {
        return init_bucket(limit);
    }
    if (kind == REDLANE_LIMIT_SLIDING) {
        limit->tick = (int64_t)(((Wide)count * limit->window + EXACT - 1) / EXACT);
        limit->span = divide_up(limit->window, limit->tick);
    }
    return true;
}

/* --- a moment ----------------------------------------------------------------------
 */

/* What is left of a debt that will be gone a part of a microsecond after `at`. */
static int64_t
debt_left(RedlaneLimitMeter *meter, int64_t at, int64_t part)
{
    const RedlaneLimit *limit = meter->limit;
    int64_t most = limit->burst * limit->token, wait;

    if (at < meter->now) {
        return 0;
    }
    wait = at - meter->now;
    if (wait > most / limit->drain) {
        meter->moved = true;
        return most;
    }
    return least(most, wait * limit->drain + within(part, limit->drain));
}

/* What of the window before still counts, rounded up. */
static int64_t
weigh_previous(const RedlaneLimitMeter *meter)
{
    const RedlaneLimit *limit = meter->limit;
    int64_t step;

    if (!meter->previous) {
        return 0;
    }
    step = limit->tick == 1 ? meter->phase : meter->phase / limit->tick;
    return divide_up(meter->previous * (limit->span - step), limit->span);
}

static void
open_sliding(RedlaneLimitMeter *meter, const RedlaneLimitState *state)
{
    const RedlaneLimit *limit = meter->limit;
    int64_t current = within(state->current, limit->count);
    int64_t previous = within(state->previous, limit->count);

    meter->index = meter->now / limit->window;
    meter->phase = meter->now - meter->index * limit->window;
    meter->left = limit->window - meter->phase;
    if (state->index == meter->index) {
        meter->current = current;
        meter->previous = previous;
    }
    else if (state->index == meter->index - 1) {
        meter->previous = current;
    }
    else if (state->index > meter->index) {
        meter->moved = true;
        meter->current = least(limit->count, current + previous);
    }
    meter->used = meter->current + weigh_previous(meter);
}

void
redlane_limit_open(RedlaneLimitMeter *meter, const RedlaneLimit *limit,
                   const RedlaneLimitState *state, int64_t now)
{
    *meter = (RedlaneLimitMeter){.limit = limit, .now = now};
    switch (limit->kind) {
    case REDLANE_LIMIT_FIXED:
        meter->index = state->index;
        meter->left = at_least((state->index + 1) * limit->window - now, 1);
        meter->used = within(state->current, limit->count);
        break;
    case REDLANE_LIMIT_SLIDING:
        open_sliding(meter, state);
        break;
    case REDLANE_LIMIT_BUCKET:
        meter->used = debt_left(meter, state->current, state->previous);
        break;
    case REDLANE_LIMIT_LOG:
        break;
    }
}

static int64_t
time_at(const RedlaneLimitMeter *meter, size_t index)
{
    int64_t time;

    memcpy(&time, meter->times + index * sizeof(time), sizeof(time));
    return time;
}

static void
set_time(RedlaneLimitMeter *meter, size_t index)
{
    memcpy(meter->times + index * sizeof(meter->now), &meter->now, sizeof(meter->now));
}

void
redlane_limit_open_log(RedlaneLimitMeter *meter, const RedlaneLimit *limit, char *times,
                       size_t count, int64_t now)
{
    size_t low = 0, high = count;

    *meter = (RedlaneLimitMeter){.limit = limit, .now = now, .times = times};
    for (size_t i = count; i > 0 && time_at(meter, i - 1) > now; i--) {
        set_time(meter, i - 1);
    }
    while (low < high) { /* the first that still counts */
        size_t middle = low + (high - low) / 2;

        if (time_at(meter, middle) <= now - limit->window) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    meter->gone = low;
    meter->used = (int64_t)(count - low);
}

/* --- decisions ---------------------------------------------------------------------
 */

/* Microseconds until a time of a LOG counts no more. */
static int64_t
until_gone(const RedlaneLimitMeter *meter, size_t index)
{
    int64_t time = least(time_at(meter, index), meter->now);
    int64_t first = meter->now - meter->limit->window + 1; /* that still counts */

    return at_least(time, first) - first + 1;
}

/* Microseconds into a window at which `previous` weighs no more than `room`. */
static int64_t
phase_with_room(const RedlaneLimit *limit, int64_t previous, int64_t room)
{
    int64_t step;

    if (previous <= room) {
        return 0;
    }
    step = limit->span - room * limit->span / previous;
    return least(step * limit->tick, limit->window);
}

static int64_t
retry_sliding(const RedlaneLimitMeter *meter, int64_t cost)
{
    const RedlaneLimit *limit = meter->limit;
    int64_t room = limit->count - meter->current - cost;

    if (meter->used + cost <= limit->count) {
        return 0;
    }
    if (room >= 0) { /* once the window before weighs less */
        return at_least(phase_with_room(limit, meter->previous, room) - meter->phase,
                        1);
    }
    return meter->left + phase_with_room(limit, meter->current, limit->count - cost);
}

int64_t
redlane_limit_retry(const RedlaneLimitMeter *meter, int64_t cost)
{
    const RedlaneLimit *limit = meter->limit;
    int64_t over;

    switch (limit->kind) {
    case REDLANE_LIMIT_SLIDING:
        return retry_sliding(meter, cost);
    case REDLANE_LIMIT_BUCKET:
        over = meter->used + (cost - limit->burst) * limit->token;
        return over > 0 ? divide_up(over, limit->drain) : 0;
    case REDLANE_LIMIT_FIXED:
        return meter->used + cost <= limit->count ? 0 : meter->left;
    case REDLANE_LIMIT_LOG:
        break;
    }
    over = meter->used + cost - limit->count;
    return over > 0 ? until_gone(meter, meter->gone + (size_t)over - 1) : 0;
}

void
redlane_limit_add(RedlaneLimitMeter *meter, int64_t cost)
{
    const RedlaneLimit *limit = meter->limit;

    switch (limit->kind) {
    case REDLANE_LIMIT_FIXED:
        meter->used = least(limit->count, meter->used + cost);
        break;
    case REDLANE_LIMIT_SLIDING:
        meter->current = least(limit->count, meter->current + cost);
        meter->used = meter->current + weigh_previous(meter);
        break;
    case REDLANE_LIMIT_BUCKET:
        meter->used =
            least(limit->burst * limit->token, meter->used + cost * limit->token);
        break;
    case REDLANE_LIMIT_LOG:
        for (; cost > 0 && meter->used < limit->count; cost--, meter->used++) {
            set_time(meter, meter->gone + (size_t)meter->used);
        }
        break;
    }
}

void
redlane_limit_refund(RedlaneLimitMeter *meter, int64_t cost)
{
    int64_t here;

    switch (meter->limit->kind) {
    case REDLANE_LIMIT_SLIDING:
        here = least(cost, meter->current);
        meter->current -= here;
        meter->previous = at_least(meter->previous - (cost - here), 0);
        meter->used = meter->current + weigh_previous(meter);
        break;
    case REDLANE_LIMIT_BUCKET:
        meter->used = at_least(meter->used - cost * meter->limit->token, 0);
        break;
    case REDLANE_LIMIT_FIXED:
    case REDLANE_LIMIT_LOG:
        meter->used = at_least(meter->used - cost, 0);
        break;
    }
}

static int64_t
reset_of(const RedlaneLimitMeter *meter)
{
    const RedlaneLimit *limit = meter->limit;

    if (!meter->used && !meter->previous) {
        return 0;
    }
    switch (limit->kind) {
    case REDLANE_LIMIT_SLIDING:
        return meter->left + (meter->current ? limit->window : 0);
    case REDLANE_LIMIT_BUCKET:
        return divide_up(meter->used, limit->drain);
    case REDLANE_LIMIT_FIXED:
        return meter->left;
    case REDLANE_LIMIT_LOG:
        break;
    }
    return until_gone(meter, meter->gone + (size_t)meter->used - 1);
}

void
redlane_limit_answer(const RedlaneLimitMeter *meter, RedlaneLimitAnswer *answer)
{
    const RedlaneLimit *limit = meter->limit;

    if (limit->kind == REDLANE_LIMIT_BUCKET) {
        answer->remaining = (limit->burst * limit->token - meter->used) / limit->token;
    }
    else {
        answer->remaining = at_least(limit->count - meter->used, 0);
    }
    answer->reset = reset_of(meter);
}

int64_t
redlane_limit_close(const RedlaneLimitMeter *meter, RedlaneLimitState *state)
{
    const RedlaneLimit *limit = meter->limit;
    int64_t reset = reset_of(meter);

    switch (limit->kind) {
    case REDLANE_LIMIT_FIXED:
        *state = (RedlaneLimitState){meter->index, meter->used, 0};
        break;
    case REDLANE_LIMIT_SLIDING:
        *state = (RedlaneLimitState){meter->index, meter->current, meter->previous};
        break;
    case REDLANE_LIMIT_BUCKET:
        *state = (RedlaneLimitState){.current = meter->now + meter->used / limit->drain,
                                     .previous = meter->used % limit->drain};
        break;
    case REDLANE_LIMIT_LOG:
        break;
    }
    return reset ? divide_up(reset, 1000) + REDLANE_LIMIT_SPARE_MS : 0;
}
