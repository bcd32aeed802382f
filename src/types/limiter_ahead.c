/* A rate limiter with a batch: hits of who hits often are taken from the server in
 * advance, and spent here. Lock: the GIL, which is given up while the server is asked:
 * what is known of an identity is looked for anew after that. */
#include "core/clock.h"
#include "core/fork.h"
#include "types/decision.h"
#include "types/rate_limiter.h"

#define NS_PER_US 1000

static RedlaneArg
name_of(const RedlaneIdentity *identity)
{
    return (RedlaneArg){identity->text, identity->size};
}

/* The limiter's table; NULL: none was made. What a parent has taken is the parent's. */
static RedlaneLimitNotes *
own_table(RedlaneRateLimiter *limiter)
{
    if (limiter->ahead && limiter->ahead_depth != redlane_fork_depth()) {
        redlane_limit_notes_clear(limiter->ahead);
        limiter->ahead_depth = redlane_fork_depth();
    }
    return limiter->ahead;
}

/* The same, made where there is none. NULL: no memory, or forks cannot be told. */
static RedlaneLimitNotes *
make_table(RedlaneRateLimiter *limiter)
{
    if (!limiter->ahead && redlane_fork_depth() >= 0) {
        limiter->ahead = PyMem_Malloc(sizeof(*limiter->ahead));
        if (limiter->ahead) {
            redlane_limit_notes_init(limiter->ahead);
            limiter->ahead_depth = redlane_fork_depth();
        }
    }
    return own_table(limiter);
}

static RedlaneLimitNote *
find(RedlaneRateLimiter *limiter, const RedlaneIdentity *identity,
     const RedlaneRates *rates, int64_t now)
{
    RedlaneLimitNotes *table = own_table(limiter);

    return table
               ? redlane_limit_notes_find(table, name_of(identity), rates->number, now)
               : NULL;
}

/* A hit that was allowed, with what is left here beside what the server has. */
static PyObject *
allow(const RedlaneRateLimiter *limiter, const RedlaneRates *rates,
      const RedlaneLimitAnswer *answers, int64_t units, int64_t passed)
{
    RedlaneLimitAnswer told[REDLANE_LIMITS_MAX];

    for (size_t i = 0; i < rates->count; i++) {
        told[i] = answers[i];
        told[i].remaining += units;
    }
    return redlane_decision_new(limiter->state, rates->limits, told, rates->count,
                                passed);
}

PyObject *
redlane_limiter_spend(RedlaneRateLimiter *limiter, const RedlaneIdentity *identity,
                      const RedlaneRates *rates, int64_t cost)
{
    int64_t now = redlane_clock_now();
    RedlaneLimitNote *ahead = find(limiter, identity, rates, now);
    PyObject *decision;

    if (!ahead || ahead->units < cost || redlane_link_closed(limiter->tool.link)) {
        return NULL;
    }
    decision = allow(limiter, rates, ahead->answers, ahead->units - cost,
                     (now - ahead->seen) / NS_PER_US);
    if (decision) {
        ahead->units -= cost;
        limiter->counts.allowed++;
        limiter->counts.ahead++;
    }
    return decision;
}

/* Asks for the cost and `more`; where that is too much, for the cost alone. What was
 * taken beside the cost is *more then. RAISES_NEG */
static int
ask_for(RedlaneRateLimiter *limiter, const RedlaneIdentity *identity,
        RedlaneRates *rates, int64_t cost, int64_t *more, RedlaneLimitAnswer *answers,
        RedlaneAnswer *answer)
{
    bool refused = false;

    if (*more) {
        if (redlane_limiter_ask(limiter, 'h', identity, rates, cost + *more, answers,
                                answer) < 0) {
            return -1;
        }
        for (size_t i = 0; i < rates->count; i++) {
            refused |= answers[i].retry != 0;
        }
        if (!refused) {
            return 0;
        }
        *more = 0;
    }
    return redlane_limiter_ask(limiter, 'h', identity, rates, cost, answers, answer);
}

PyObject *
redlane_limiter_take(RedlaneRateLimiter *limiter, const RedlaneIdentity *identity,
                     RedlaneRates *rates, int64_t cost)
{
    int64_t sent = redlane_clock_now(), more = 0, units = 0, now;
    RedlaneLimitNote *ahead = find(limiter, identity, rates, sent);
    RedlaneLimitAnswer answers[REDLANE_LIMITS_MAX];
    RedlaneAnswer answer = REDLANE_ANSWER_NOTHING;
    RedlaneLimitNotes *table;
    uint64_t number = 0;
    int result;

    if (ahead && !ahead->asking) {
        more = redlane_ahead_more(
            ahead, limiter->batch < rates->most ? limiter->batch : rates->most, cost);
        ahead->asking = number = more ? ++limiter->asked : 0;
    }
    result = ask_for(limiter, identity, rates, cost, &more, answers, &answer);
    now = redlane_clock_now();
    ahead = find(limiter, identity, rates, now);
    if (number && ahead && ahead->asking == number) {
        ahead->asking = 0;
    }
    else {
        more = 0; /* a reset came between: what was charged before it is not spent */
    }
    if (result < 0) {
        return NULL;
    }
    if (redlane_limiter_count(limiter, identity, rates, cost, answers, answer)) {
        return redlane_decision_new(limiter->state, rates->limits, answers,
                                    rates->count, 0);
    }
    table = answer == REDLANE_ANSWER_NOTHING ? NULL : make_table(limiter);
    if (table) {
        redlane_ahead_note(
            table, name_of(identity), rates->number, more, now,
            redlane_ahead_until(rates->limits, answers, rates->count, sent), answers,
            rates->count);
        ahead = find(limiter, identity, rates, now);
        units = ahead ? ahead->units : 0;
    }
    return allow(limiter, rates, answers, units, 0);
}

void
redlane_limiter_add_ahead(RedlaneRateLimiter *limiter, const RedlaneIdentity *identity,
                          const RedlaneRates *rates, int64_t cost,
                          RedlaneLimitAnswer *answers)
{
    const RedlaneLimitNote *ahead = find(limiter, identity, rates, redlane_clock_now());

    for (size_t i = 0; ahead && i < rates->count; i++) {
        answers[i].remaining += ahead->units;
        if (ahead->units >= cost) {
            answers[i].retry = 0;
        }
    }
}

void
redlane_limiter_forget_ahead(RedlaneRateLimiter *limiter,
                             const RedlaneIdentity *identity)
{
    RedlaneLimitNotes *table = own_table(limiter);

    if (table) {
        redlane_limit_notes_drop(table, name_of(identity));
    }
}

void
redlane_limiter_free_ahead(RedlaneRateLimiter *limiter)
{
    if (limiter->ahead) {
        redlane_limit_notes_clear(limiter->ahead);
        PyMem_Free(limiter->ahead);
    }
}
