/* The breaker of one link: whether its server is thought to be there.
 *
 *               a time-out, a lost connection
 *        ┌───────────────────────────────────────┐
 *        │                                       ▼
 *   ┌────────┐   a call's or the probe's    ┌─────────┐
 *   │ CLOSED │◀──────── success ────────────│ SUSPECT │
 *   └────────┘                              └─────────┘
 *     ▲    │ refused, LOADING, …                │ the probe fails, or a call's
 *     │    ▼                                    ▼ connect is refused, LOADING, …
 *     │  ┌──────────────────────────────────────────┐
 *     └──│                   OPEN                   │ probes with backoff
 *  probe └──────────────────────────────────────────┘
 *
 * A pure state machine: time is handed in (CLOCK_MONOTONIC ns), it has no lock of its
 * own, and it starts no probe by itself. The owner calls it under its lock.
 *
 * Eras. Each change of state begins a new era. A call remembers the era it was admitted
 * in; what it reports counts only in that era, so that a call from before an outage
 * cannot close the breaker, nor one from within it open the link again.
 *
 * Invariant: a probe is due or running in SUSPECT and OPEN, never in CLOSED; one runs
 * at a time.
 *
 * The same machine serves a link and, beside it, the writes of a link alone (OOM,
 * READONLY, MISCONF, NOREPLICAS), which goes straight from CLOSED to OPEN; only their
 * probes differ. */
#ifndef REDLANE_CORE_BREAKER_H
#define REDLANE_CORE_BREAKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/backoff.h"
#include "core/clock.h"

typedef enum {
    REDLANE_BREAKER_CLOSED,  /* the server answers */
    REDLANE_BREAKER_SUSPECT, /* one call failed; a PING decides */
    REDLANE_BREAKER_OPEN,    /* the server is away */
} RedlaneBreakerState;

/* What a call that failed says about its server. (One whose reply was still coming when
 * its deadline ended says nothing, and is not reported.) */
typedef enum {
    REDLANE_BREAKER_DOUBT, /* a time-out, or an open connection broke: perhaps away */
    REDLANE_BREAKER_AWAY,  /* refused, unreachable, LOADING, MASTERDOWN, CLUSTERDOWN:
                              certainly away */
} RedlaneBreakerFailure;

#define REDLANE_BREAKER_RETRY (50 * REDLANE_NS_PER_MS) /* first backoff ceiling */
#define REDLANE_BREAKER_RETRY_CAP REDLANE_NS_PER_S

typedef struct {
    RedlaneBreakerState state;
    uint64_t era;       /* grows with each change of state, from 1 */
    int64_t changed_at; /* when the state was last changed */
    int64_t opened_at;  /* of the present outage: when doubt began; REDLANE_NEVER while
                           CLOSED */
    int64_t probe_at;   /* when the next probe is due; REDLANE_NEVER in CLOSED */
    bool probing;       /* a probe is running */
    uint64_t probe_era; /* the era it began in */
    RedlaneBackoff backoff;
    int64_t steady;     /* ns that it must have been CLOSED for to begin anew with short
                           waits: one that flaps is probed as rarely as one that is open */
    uint64_t suspected; /* transitions into SUSPECT, for health */
    uint64_t opened;    /* into OPEN */
    uint64_t closed;    /* into CLOSED */
    uint64_t probes_failed; /* of the present outage */
} RedlaneBreaker;

/* CLOSED. `seed` is for the jitter alone. */
void redlane_breaker_init(RedlaneBreaker *breaker, int64_t steady, uint64_t seed);

static inline RedlaneBreakerState
redlane_breaker_state(const RedlaneBreaker *breaker)
{
    return breaker->state;
}

/* What a call takes along when it is admitted, and hands back with its result. */
static inline uint64_t
redlane_breaker_era(const RedlaneBreaker *breaker)
{
    return breaker->era;
}

/* A call that was admitted in `era` got its reply (an error reply is one, but for those
 * that say AWAY). Returns true when the state changed: SUSPECT to CLOSED. A success
 * while OPEN changes nothing; the probe decides there. */
bool redlane_breaker_success(RedlaneBreaker *breaker, uint64_t era, int64_t now);

/* A call that was admitted in `era` failed. Returns true when the state changed. */
bool redlane_breaker_failure(RedlaneBreaker *breaker, uint64_t era,
                             RedlaneBreakerFailure failure, int64_t now);

/* When the next probe is due (in the past: now); REDLANE_NEVER when none is, or one is
 * running. */
int64_t redlane_breaker_probe_due(const RedlaneBreaker *breaker);

/* Takes the probe: true when it is due, none is running, and the caller is the one to
 * run it and to call _end, whatever happens. */
bool redlane_breaker_probe_begin(RedlaneBreaker *breaker, int64_t now);

/* The probe's result. Returns true when the state changed. A failure that tells of an
 * earlier era than the present one only lets the next probe begin. */
bool redlane_breaker_probe_end(RedlaneBreaker *breaker, bool ok, int64_t now);

/* While OPEN: no probe before `until`. */
void redlane_breaker_hold(RedlaneBreaker *breaker, int64_t until);

/* "closed", "suspect", "open". */
const char *redlane_breaker_state_name(RedlaneBreakerState state);

#endif
