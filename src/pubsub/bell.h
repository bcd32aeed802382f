/* What wakes those who wait for feeds: a descriptor that becomes readable, and the list
 * of the feeds that have something. One serves all feeds of an event loop, or the one
 * feed of a thread that waits.
 *
 *   feed, armed ── ring ──▶ ready: feed ▶ feed ▶ …      wake[0] readable once
 *   waiter: drain ──▶ take, take, … NULL ──▶ arms them again
 *
 * Lock: its own spin, inside a feed's. Atomic references. No Python. */
#ifndef REDLANE_PUBSUB_BELL_H
#define REDLANE_PUBSUB_BELL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "core/lock.h"

typedef struct RedlaneFeed RedlaneFeed;

typedef struct {
    atomic_size_t references;
    RedlaneLock lock;
    RedlaneFeed *ready, *last; /* by next_ready; under lock */
    unsigned era;              /* of the process: a forked child's is another */
    int wake[2];               /* core/platform.h */
} RedlaneBell;

RedlaneBell *redlane_bell_new(void); /* NULL with errno */
RedlaneBell *redlane_bell_hold(RedlaneBell *bell);
void redlane_bell_release(RedlaneBell *bell); /* or NULL */

/* Puts a feed on the list unless it stands there; true when the descriptor is to be
 * signalled, which is done without a lock. */
bool redlane_bell_list(RedlaneBell *bell, RedlaneFeed *feed);

/* The next feed that has something, or NULL. The caller sees to it that none is freed
 * meanwhile. */
RedlaneFeed *redlane_bell_take(RedlaneBell *bell);

/* Takes a feed off the list. */
void redlane_bell_forget(RedlaneBell *bell, RedlaneFeed *feed);

/* False in a child whose parent has made it: it would wake that one. */
bool redlane_bell_is_own(const RedlaneBell *bell);

/* In a forked child, for one that stands among its feeds: closes the descriptor. */
void redlane_bell_orphan(RedlaneBell *bell);

/* In a forked child, first of all: bells of before are not its own. */
void redlane_bell_begin_era(void);

#endif
