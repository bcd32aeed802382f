/* The guard of one server: its two breakers (the link's, and that of its writes), the
 * journal of what it must still hear, the lock around them, the probes, and what is to
 * be logged.
 *
 *      callers ── route ──▶ ┌───────┐ ◀── probe, replay ── background thread
 *              ── report ─▶ │ guard │
 *              ── keep ───▶ │       │
 *              ◀── news ─── └───────┘
 *
 * A link is well when both breakers are closed and the journal is empty. A time in
 * which it is not is one period, with a number; what the fallback engine holds belongs
 * to one.
 *
 * The rule of the journal: a request that is answered elsewhere than by the server, and
 * what is kept of it, are one step (redlane_guard_keep), which fails once the link is
 * well again; and the link's breaker closes only in a step that finds the journal
 * empty, or writes refused. So no read reaches the server before this process has told
 * it what it missed.
 *
 * Plain C with atomic references: the background thread holds one and never takes the
 * GIL. Lock: its own mutex, held for a few instructions, or for one batch of the
 * journal; nothing Python under it. It is the fallback's place in the order of locks:
 * after the GIL, before the engine. */
#ifndef REDLANE_STORE_GUARD_H
#define REDLANE_STORE_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#include "core/breaker.h"
#include "core/fault.h"
#include "core/journal.h"
#include "near/near.h"
#include "wire/settings.h"

typedef struct RedlaneGuard RedlaneGuard;

/* Holds `settings`. NULL when memory is exhausted. */
RedlaneGuard *redlane_guard_new(RedlaneSettings *settings);
RedlaneGuard *redlane_guard_hold(RedlaneGuard *guard);
void redlane_guard_release(RedlaneGuard *guard);

/* The link's near cache, which is held: it gives no hits while the link is not closed.
 * To be called once at most. */
void redlane_guard_set_near(RedlaneGuard *guard, RedlaneNear *near);

/* Where a request goes now. */
typedef struct {
    RedlaneBreakerState state; /* of the link */
    uint64_t era;              /* to be given back with the report */
    uint64_t write_era;
    uint64_t period; /* the number of this time of trouble, or of the last */
    bool well;
    bool refused; /* the server takes no writes */
    bool deletes; /* but for deletes */
} RedlaneRoute;

RedlaneRoute redlane_guard_route(RedlaneGuard *guard);

/* Waits, without the GIL, until the link is no longer suspect or `until` has passed;
 * returns the route as it is then. */
RedlaneRoute redlane_guard_wait_nogil(RedlaneGuard *guard, int64_t until);

/* What became of a request that was routed to the server. */
void redlane_guard_success(RedlaneGuard *guard, uint64_t era);
void redlane_guard_failure(RedlaneGuard *guard, uint64_t era,
                           const RedlaneFault *fault);

/* It refused a write to `key` (any key the caller may write to; for the probe). */
void redlane_guard_refused(RedlaneGuard *guard, uint64_t write_era,
                           const RedlaneFault *fault, RedlaneArg key);

/* True when a fault says that the server is away, as against a request's own error. */
bool redlane_guard_is_outage(const RedlaneFault *fault);

/* An operation failed for `fault`, or, with NULL, for the reason below, whether its
 * caller hears of that or is answered in another way: news, at its first in a period,
 * and then each minute. To be told after what it does to the state. */
void redlane_guard_operation_failed(RedlaneGuard *guard, const RedlaneFault *fault);

/* The reason of the last failure of the link, or, where that is closed, of the writes;
 * for messages. */
void redlane_guard_reason(RedlaneGuard *guard, RedlaneFault *fault);

/* True when a change of any of the vectors' keys waits in the journal. */
bool redlane_guard_holds(RedlaneGuard *guard, const RedlaneVector *vectors,
                         size_t count);

/* Keeps changes that were answered for elsewhere by `route`, whose period is brought up
 * to date. False, with nothing kept, when the link is well again: the server is to be
 * asked; with `force` they are kept all the same, and the link is suspect until they
 * are replayed. `space`: as in core/journal.h. */
bool redlane_guard_keep(RedlaneGuard *guard, RedlaneRoute *route,
                        const RedlaneChange *changes, size_t count, RedlaneArg space,
                        bool force);

/* Everything that matches is to be deleted: kept, whatever the state, when the server
 * has not heard of it (`away`); else only what waits in the journal is changed. */
void redlane_guard_keep_pattern(RedlaneGuard *guard, RedlaneArg pattern,
                                RedlaneArg space, bool away);

typedef struct {
    size_t entries, patterns, bytes;
    uint64_t lost;
} RedlaneJournalStats;

void redlane_guard_journal(RedlaneGuard *guard, RedlaneJournalStats *stats);

/* When the next probe is due (REDLANE_NEVER: none is wanted), and doing it if it is: on
 * a connection of its own, a PING, or a write of nothing, each within the time-out;
 * then the journal. One runs at a time. Not under the GIL: the background thread, or a
 * call where that cannot run. */
int64_t redlane_guard_probe_due(RedlaneGuard *guard);
void redlane_guard_probe_nogil(RedlaneGuard *guard);

/* Something that nobody has logged yet; false when there is none. */
typedef enum {
    REDLANE_NEWS_BACK,
    REDLANE_NEWS_SUSPECT,
    REDLANE_NEWS_AWAY,
    REDLANE_NEWS_REFUSED,  /* the server refuses us (password, ACL): loud */
    REDLANE_NEWS_READONLY, /* it takes no writes */
    REDLANE_NEWS_WRITES,   /* it takes them again */
    REDLANE_NEWS_LOST,     /* changes were lost: `lost` */
    REDLANE_NEWS_FAILED,   /* an operation failed */
} RedlaneNewsKind;

typedef struct {
    RedlaneNewsKind kind;
    uint64_t lost;
    char reason[232];
} RedlaneNews;

bool redlane_guard_take_news(RedlaneGuard *guard, RedlaneNews *news);

#endif
