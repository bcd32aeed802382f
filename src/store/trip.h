/* Inside store/: a request on its way to the server, to what stands in for it, and
 * back, whoever waits: fallback.c in a thread, async_trip.c in a loop.
 *
 *   begin ──▶ route ──▶ server ──▶ judge ──▶ answered ──────────────▶ end
 *               ▲ │                  │└────▶ refused: part by part ──▶
 *               │ └─▶ run_away ──────┼─────────────────────────────▶
 *               └──────── away ◀─────┘
 *
 * GIL held; none of these waits (but see_to_probe where no thread can be had). */
#ifndef REDLANE_STORE_TRIP_H
#define REDLANE_STORE_TRIP_H

#include "core/envelope.h"
#include "store/fallback.h"
#include "store/remote.h"

typedef struct {
    RedlaneStore base;
    RedlaneLink *link; /* held */
    RedlaneMembers *members;
    RedlanePolicy policy;
} RedlaneFallback;

typedef struct {
    RedlaneFallback *self;
    const RedlaneRequest *request;
    const RedlaneVector *vectors;
    size_t count;
    PyObject **replies;
    RedlaneRoute route;
    bool unsure; /* the server may have executed it */
    bool writes; /* keys that a near cache may hold */
} RedlaneTrip;

/* Around all of it: what this process writes it does not read from near. */
void redlane_trip_begin(RedlaneTrip *trip);
void redlane_trip_end(RedlaneTrip *trip);

/* Each asks the server, or what stands in for it; the last takes what it gets. */
#define REDLANE_TRIP_ROUNDS 3

/* Sees to it that somebody probes a link that is not well: the thread, which a forked
 * child does not have yet; or, where none can run (at exit, or without the means to
 * start it), this call, if the probe is due. */
void redlane_trip_see_to_probe(RedlaneFallback *self);

/* True when a request must not meet the server though the link is up: it would be
 * refused, or read what the server has not heard to be gone. */
bool redlane_trip_stays(const RedlaneTrip *trip);

/* Each always returns -1. */
int redlane_trip_raise_closed(RedlaneFallback *self);
int redlane_trip_raise_away(RedlaneFallback *self, const RedlaneVector *vector);

/* Answers by policy what the server does not. 1: done, 0: the server is well again and
 * is to be asked (never with `force`). RAISES_NEG */
int redlane_trip_run_away(RedlaneTrip *trip, bool force);

#define REDLANE_LEASE_VECTORS 3 /* the lease, PTTL, generations */

/* A request that places a lease where none can be placed: what is there is read, and
 * what was to be asked besides (REDLANE_LEASE_VECTORS in all at most). */
typedef struct {
    RedlaneArg get[2];
    RedlaneArg tags[1 + REDLANE_ENVELOPE_TAGS_MAX];
    RedlaneVector vectors[REDLANE_LEASE_VECTORS];
} RedlaneLeaseless;

bool redlane_trip_is_leaseless(const RedlaneTrip *trip);

/* Makes it; `instead` must not move. */
void redlane_trip_leaseless(const RedlaneTrip *trip, RedlaneLeaseless *instead);

/* What the server's answer comes to; the guard is told. */
typedef enum {
    REDLANE_VERDICT_FAILED, /* an exception is set */
    REDLANE_VERDICT_ANSWERED,
    REDLANE_VERDICT_AWAY,    /* to be answered by policy */
    REDLANE_VERDICT_REFUSED, /* in part: redlane_trip_part for each reply */
} RedlaneVerdict;

/* `result` and `report` as redlane_remote_store_run left them. */
RedlaneVerdict redlane_trip_judge(RedlaneTrip *trip, int result,
                                  const RedlaneRemoteReport *report);

/* What becomes of one reply of a request that the server answered in part; for the last
 * two, `one` is its trip but for `replies`. */
typedef enum {
    REDLANE_PART_FAILED, /* an exception is set */
    REDLANE_PART_STAYS,
    REDLANE_PART_LEASELESS, /* the server is asked once more; away, it is as the next */
    REDLANE_PART_AWAY,      /* redlane_trip_run_away, with force */
} RedlanePart;

RedlanePart redlane_trip_part(const RedlaneTrip *trip, size_t index, RedlaneTrip *one);

#endif
