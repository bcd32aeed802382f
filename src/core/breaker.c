#include "core/breaker.h"

void
redlane_breaker_init(RedlaneBreaker *breaker, int64_t steady, uint64_t seed)
{
    *breaker = (RedlaneBreaker){
        .state = REDLANE_BREAKER_CLOSED,
        .era = 1,
        .opened_at = REDLANE_NEVER,
        .probe_at = REDLANE_NEVER,
        .steady = steady,
    };
    redlane_backoff_init(&breaker->backoff, REDLANE_BREAKER_RETRY,
                         REDLANE_BREAKER_RETRY_CAP, seed);
}

static void
enter_state(RedlaneBreaker *breaker, RedlaneBreakerState state, int64_t now)
{
    breaker->state = state;
    breaker->era++;
    breaker->changed_at = now;
}

static void
become_closed(RedlaneBreaker *breaker, int64_t now)
{
    enter_state(breaker, REDLANE_BREAKER_CLOSED, now);
    breaker->closed++;
    breaker->opened_at = REDLANE_NEVER;
    breaker->probe_at = REDLANE_NEVER;
    breaker->probes_failed = 0;
}

/* From CLOSED: the waits between probes begin anew, unless it flaps. */
static void
begin_trouble(RedlaneBreaker *breaker, int64_t now)
{
    breaker->opened_at = now;
    if (now - breaker->changed_at >= breaker->steady) {
        redlane_backoff_reset(&breaker->backoff);
    }
}

static void
become_suspect(RedlaneBreaker *breaker, int64_t now)
{
    begin_trouble(breaker, now);
    enter_state(breaker, REDLANE_BREAKER_SUSPECT, now);
    breaker->suspected++;
    breaker->probe_at = now;
}

static void
become_open(RedlaneBreaker *breaker, int64_t now)
{
    if (breaker->state == REDLANE_BREAKER_CLOSED) {
        begin_trouble(breaker, now);
    }
    enter_state(breaker, REDLANE_BREAKER_OPEN, now);
    breaker->opened++;
    breaker->probe_at = now + redlane_backoff_next(&breaker->backoff);
}

bool
redlane_breaker_success(RedlaneBreaker *breaker, uint64_t era, int64_t now)
{
    if (era != breaker->era || breaker->state != REDLANE_BREAKER_SUSPECT) {
        return false;
    }
    become_closed(breaker, now);
    return true;
}

bool
redlane_breaker_failure(RedlaneBreaker *breaker, uint64_t era,
                        RedlaneBreakerFailure failure, int64_t now)
{
    if (era != breaker->era || breaker->state == REDLANE_BREAKER_OPEN) {
        return false;
    }
    if (failure == REDLANE_BREAKER_AWAY) {
        become_open(breaker, now);
        return true;
    }
    if (breaker->state == REDLANE_BREAKER_SUSPECT) {
        return false; /* the probe is under way and decides */
    }
    become_suspect(breaker, now);
    return true;
}

int64_t
redlane_breaker_probe_due(const RedlaneBreaker *breaker)
{
    return breaker->probing ? REDLANE_NEVER : breaker->probe_at;
}

bool
redlane_breaker_probe_begin(RedlaneBreaker *breaker, int64_t now)
{
    if (breaker->probing || breaker->probe_at == REDLANE_NEVER ||
        now < breaker->probe_at) {
        return false;
    }
    breaker->probing = true;
    breaker->probe_era = breaker->era;
    return true;
}

bool
redlane_breaker_probe_end(RedlaneBreaker *breaker, bool ok, int64_t now)
{
    bool current = breaker->probe_era == breaker->era;

    if (!breaker->probing) {
        return false;
    }
    breaker->probing = false;
    if (breaker->state == REDLANE_BREAKER_CLOSED || !current) {
        return false;
    }
    if (ok) {
        become_closed(breaker, now);
        return true;
    }
    breaker->probes_failed++;
    if (breaker->state == REDLANE_BREAKER_SUSPECT) {
        become_open(breaker, now);
        return true;
    }
    breaker->probe_at = now + redlane_backoff_next(&breaker->backoff);
    return false;
}

void
redlane_breaker_hold(RedlaneBreaker *breaker, int64_t until)
{
    if (breaker->state == REDLANE_BREAKER_OPEN && breaker->probe_at < until) {
        breaker->probe_at = until;
    }
}

const char *
redlane_breaker_state_name(RedlaneBreakerState state)
{
    switch (state) {
    case REDLANE_BREAKER_CLOSED:
        return "closed";
    case REDLANE_BREAKER_SUSPECT:
        return "suspect";
    case REDLANE_BREAKER_OPEN:
        break;
    }
    return "open";
}
