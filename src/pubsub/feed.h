/* One subscription: the queue of what has come for it, bounded in number and bytes, and
 * how it stands with the server.
 *
 *   hub ── put ──▶ ring [ oldest … newest ] ── take ──▶ whoever reads
 *                    ▲ dropped, with a count that is told before the next one
 *
 * A gap stands in the queue where messages may be missing: before it everything has
 * come in order, after it everything does again. What was dropped for want of room is a
 * gap too, at the oldest end.
 *
 * Locks: `next`, `topics` and what is said there by the hub's; the rest by its own
 * spin, which is inside the hub's and outside a bell's. Putting is the hub's, one at a
 * time; one reader at a time is the caller's affair. Atomic references. No Python. */
#ifndef REDLANE_PUBSUB_FEED_H
#define REDLANE_PUBSUB_FEED_H

#include "core/fault.h"
#include "pubsub/bell.h"
#include "pubsub/letter.h"

typedef struct RedlaneHub RedlaneHub;
typedef struct RedlaneTopic RedlaneTopic;

typedef enum {
    REDLANE_FEED_JOINING, /* its first answers are awaited */
    REDLANE_FEED_LIVE,    /* all that is published comes */
    REDLANE_FEED_LOST,    /* there is no connection; a gap will be told */
    REDLANE_FEED_REFUSED, /* by the server, for good: `fault` */
    REDLANE_FEED_CLOSED,  /* by its owner, the client or the exit */
    REDLANE_FEED_FORKED,  /* made by the parent of this process */
} RedlaneFeedState;

struct RedlaneFeed {
    atomic_size_t references;
    RedlaneHub *hub; /* held */
    bool waits;      /* where it is full nothing is dropped: the hub stops reading */
    size_t max_count, max_bytes;

    RedlaneFeed *next;     /* in the hub's list; hub's lock */
    RedlaneTopic **topics; /* hub's lock */
    size_t topic_count;    /* hub's lock */
    size_t unconfirmed;    /* of its topics; hub's lock */
    bool joined;           /* stands in the hub's list; hub's lock */
    bool owes_gap;         /* when it is live again; hub's lock */
    int64_t lost_at;       /* hub's lock */

    RedlaneLock lock;
    RedlaneLetter **ring;
    size_t room; /* of the ring: a power of two, or 0 */
    size_t first, count, bytes;
    bool has_front_gap;        /* at the oldest end */
    uint64_t front_dropped;    /* messages of that gap */
    RedlaneLetter *front_lost; /* the gap of a lost connection that was dropped with
                                  them, whose words it uses; or NULL */
    uint64_t dropped, gaps;    /* in all */
    bool armed;                /* the reader sleeps: ring */
    RedlaneFeedState state;
    RedlaneFault fault;
    RedlaneBell *bell; /* held; or NULL while nobody waits */

    RedlaneFeed *next_ready; /* the bell's lock, as is the next */
    bool is_ready;
    void *owner; /* the reader's own */
};

RedlaneFeed *redlane_feed_hold(RedlaneFeed *feed);
void redlane_feed_release(RedlaneFeed *feed); /* or NULL; it has left its hub */

/* --- for who reads -------------------------------------------------------- */

/* The oldest letter, whose reference is the caller's, or NULL. */
RedlaneLetter *redlane_feed_take(RedlaneFeed *feed);

/* Who is woken from here on; NULL: nobody. */
void redlane_feed_attach(RedlaneFeed *feed, RedlaneBell *bell);

/* Before sleeping: true when there is nothing to read and the state is still `seen`;
 * then the next letter or state rings the bell. */
bool redlane_feed_arm(RedlaneFeed *feed, RedlaneFeedState seen);

/* `fault` may be NULL. */
RedlaneFeedState redlane_feed_state(RedlaneFeed *feed, RedlaneFault *fault);

typedef struct {
    size_t count, bytes;
    uint64_t dropped, gaps;
} RedlaneFeedStats;

void redlane_feed_stats(RedlaneFeed *feed, RedlaneFeedStats *stats);

/* --- for the hub ---------------------------------------------------------- */

/* A feed that has joined nothing; NULL when memory is exhausted. */
RedlaneFeed *redlane_feed_new(RedlaneHub *hub, size_t max_count, size_t max_bytes,
                              bool waits);

/* Puts a letter (held by it from then on) at the end; where there is no room and it may
 * be, what is oldest is dropped. False when memory is exhausted. With the hub's lock.
 */
bool redlane_feed_put(RedlaneFeed *feed, RedlaneLetter *letter, bool may_drop);

/* A message that is not put at all. */
void redlane_feed_count_dropped(RedlaneFeed *feed);

/* True while its reader is so far behind that a hub should wait for it. */
bool redlane_feed_is_full(RedlaneFeed *feed);

/* Another state, unless it has ended; wakes the reader. */
void redlane_feed_set_state(RedlaneFeed *feed, RedlaneFeedState state,
                            const RedlaneFault *fault);

/* Wakes the reader for what is no letter and no state. */
void redlane_feed_rouse(RedlaneFeed *feed);

/* In a forked child: nothing can come any more. */
void redlane_feed_orphan(RedlaneFeed *feed);

#endif
