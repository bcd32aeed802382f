/* The guard of one server: its breaker, the lock around it, the probe, and what is to
 * be logged about both.
 *
 *      callers ── route ──▶ ┌───────┐ ◀── probe ── background thread
 *              ── report ─▶ │ guard │
 *              ◀── news ─── └───────┘
 *
 * Plain C with atomic references: the background thread holds one and never takes the
 * GIL. Lock: its own mutex, held for a few instructions; nothing Python under it. It
 * stands where `design.md` has the fallback's lock: after the GIL, before the engine.
 */
#ifndef REDLANE_STORE_GUARD_H
#define REDLANE_STORE_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#include "core/breaker.h"
#include "core/fault.h"
#include "wire/settings.h"

typedef struct RedlaneGuard RedlaneGuard;

/* Holds `settings`. NULL when memory is exhausted. */
RedlaneGuard *redlane_guard_new(RedlaneSettings *settings);
RedlaneGuard *redlane_guard_hold(RedlaneGuard *guard);
void redlane_guard_release(RedlaneGuard *guard);

/* Where a request goes now. */
typedef struct {
    RedlaneBreakerState state;
    uint64_t era;    /* to be given back with the report */
    uint64_t outage; /* which outage this is: counts openings */
} RedlaneRoute;

RedlaneRoute redlane_guard_route(RedlaneGuard *guard);

/* Waits, without the GIL, until the link is no longer suspect or `until` has passed;
 * returns the route as it is then. */
RedlaneRoute redlane_guard_wait_nogil(RedlaneGuard *guard, int64_t until);

/* What became of a request that was routed to the server. */
void redlane_guard_success(RedlaneGuard *guard, uint64_t era);
void redlane_guard_failure(RedlaneGuard *guard, uint64_t era,
                           const RedlaneFault *fault);

/* True when a fault says that the server is away, as against a request's own error. */
bool redlane_guard_is_outage(const RedlaneFault *fault);

/* The reason of the last failure, for messages. */
void redlane_guard_reason(RedlaneGuard *guard, RedlaneFault *fault);

/* When the next probe is due (REDLANE_NEVER: none is wanted), and doing it if it is: a
 * PING on a connection of its own within its own deadline. One runs at a time. Not
 * under the GIL: the background thread, or a call where that cannot run. */
int64_t redlane_guard_probe_due(RedlaneGuard *guard);
void redlane_guard_probe_nogil(RedlaneGuard *guard);

/* A change of state that nobody has logged yet; false when there is none. */
typedef struct {
    RedlaneBreakerState state;
    bool refused; /* the server refused us (password, ACL): loud */
    char reason[232];
} RedlaneNews;

bool redlane_guard_take_news(RedlaneGuard *guard, RedlaneNews *news);

#endif
