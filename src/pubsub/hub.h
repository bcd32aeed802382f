/* The subscriber hub of one link: one connection that is subscribed to what any of its
 * feeds wants, and a thread that hands what comes to them. For memory:// there is
 * neither: what is published reaches the feeds at once.
 *
 *   feeds ── subscribe ──▶ topics ── SUBSCRIBE … ──▶ server
 *     ▲                      │
 *     └────── put ◀──────────┴──◀── messages: the thread, plain C, without the GIL
 *
 * A feed gets messages while all of its topics are confirmed. When the connection is
 * lost it gets none until they are again, and then a gap first: what it gets after the
 * gap is complete from there on.
 *
 * Plain C with atomic references. Locks, in this order: the registry's, a hub's mutex,
 * a feed's spin, a bell's spin. A caller with the GIL may wait for the mutex while the
 * thread reads a buffer: about 0.1 ms. */
#ifndef REDLANE_PUBSUB_HUB_H
#define REDLANE_PUBSUB_HUB_H

#include "core/clock.h"
#include "core/vector.h"
#include "pubsub/feed.h"
#include "wire/settings.h"

/* Holds the settings. No thread and no connection before something is subscribed.
 * `ping_interval` in ns. NULL when memory is exhausted. */
RedlaneHub *redlane_hub_new(RedlaneSettings *settings, int64_t ping_interval);
RedlaneHub *redlane_hub_hold(RedlaneHub *hub);
void redlane_hub_release(RedlaneHub *hub); /* or NULL */

/* For good: the feeds of all hubs of these very settings are closed, the threads end
 * soon. */
void redlane_hub_shut(const RedlaneSettings *settings);

/* BORROWED by whoever holds the hub. */
RedlaneSettings *redlane_hub_settings(RedlaneHub *hub);

/* Ends the threads of all hubs of the process, waiting `limit` ns at most; true when
 * they have ended. For the exit: without the GIL. */
bool redlane_hub_stop_all(int64_t limit);

typedef struct {
    const RedlaneArg *names;
    size_t count;
    size_t channels; /* the first so many are channels, the others patterns */
    size_t max_count, max_bytes;
    bool waits;
} RedlaneSubscribe;

/* A feed with one reference, to be left (redlane_hub_leave) before that is released.
 * NULL with a fault: MEMORY, CLOSED. */
RedlaneFeed *redlane_hub_subscribe(RedlaneHub *hub, const RedlaneSubscribe *what,
                                   RedlaneFault *fault);

/* Nothing more comes; what is in the queue can still be read. */
void redlane_hub_leave(RedlaneFeed *feed);

/* The reader goes on though its feed is not live yet: a gap will be told. */
void redlane_hub_owe_gap(RedlaneFeed *feed);

/* A message that no server hands on, to the feeds of this process: those of these very
 * settings for memory://, of the same server for others. How many there were. */
size_t redlane_hub_publish(const RedlaneSettings *settings, RedlaneArg channel,
                           RedlaneArg payload);

/* All hubs of these very settings together: what there is now. */
typedef struct {
    bool connected; /* every one that wants something gets it */
    size_t feeds, channels, patterns;
    size_t count, bytes;    /* in their queues */
    uint64_t dropped, gaps; /* of theirs, so far */
} RedlaneHubStats;

void redlane_hub_stats(const RedlaneSettings *settings, RedlaneHubStats *stats);

/* Has the thread look at what has changed. */
void redlane_hub_wake(RedlaneHub *hub);

/* True once for each new reason why nothing comes, which is copied, and once with ""
 * when that is over: to be logged. `size` > 0. */
bool redlane_hub_take_notice(RedlaneHub *hub, char *text, size_t size);

#endif
