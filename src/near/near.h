/* The near cache: values of one server that stay in this process, kept true by the
 * server's invalidation messages. One to a server, database and user.
 *
 *   key ──hash──▶ shard: table of entries, their SIEVE queue, epochs
 *                 └─ lock, some tens of ns
 *   invalidation thread ──▶ kill (a key), flush (all of it, by the generation)
 *
 * An entry is a hit while
 *   its generation is the near cache's (an invalidated one has 0; a flush, a lost link
 *     and a new one move the near cache's on),
 *   its own deadline has not passed, and
 *   the link's word holds: two ping intervals from the sending of the last PING that
 *     was answered. So not even a thread that gets no processor makes values last.
 * Whoever holds an entry checks that without a lock.
 *
 * The reply to a read may be read after the invalidation of its key. So a ticket is
 * taken before the read is sent, and what came is stored only if neither the epoch of
 * its key nor the generation has moved since, in one step under the shard's lock.
 *
 * Values are opaque, never NULL. Those that died are kept in a queue until someone
 * takes them who may release them. No Python: every function may be called with or
 * without the GIL, but not from a signal handler; locks are the near cache's own, and
 * taken after any other but a pool's and a connection's. */
#ifndef REDLANE_NEAR_NEAR_H
#define REDLANE_NEAR_NEAR_H

#include "core/clock.h"
#include "near/entry.h"
#include "wire/settings.h"

typedef struct {
    atomic_uint_fast64_t generation; /* never 0 */
    atomic_int_fast64_t valid_until; /* coarse ns; 0 while nothing is confirmed */
    /* Theirs who keep entries for longer, by a lock of their own: */
    void *keepers;
    size_t kept, kept_most; /* bytes */
} RedlaneNear;              /* the head of more that is not to be seen */

typedef struct {
    uint64_t generation; /* 0: nothing may be stored by it */
    uint64_t epoch;
    uint64_t hash;   /* of its key */
    int64_t sent_at; /* CLOCK_MONOTONIC ns: just before the read is sent */
} RedlaneNearTicket;

/* What was read, and shall be kept. */
typedef struct {
    void *value;
    uint32_t form;       /* the owner's mark: the entry bears it */
    size_t cost;         /* bytes of the value */
    int64_t pttl_ms;     /* what PTTL said in the same write; -2 and 0: not stored */
    int64_t near_ttl_ms; /* the limit where that is -1: it has no end */
} RedlaneNearOffer;

typedef enum {
    REDLANE_NEAR_IDLE,       /* nothing has been watched yet, or the process forked */
    REDLANE_NEAR_CONNECTING, /* or waiting to try again */
    REDLANE_NEAR_CONFIRMED,  /* hits are allowed */
    REDLANE_NEAR_REFUSED,    /* by the server: `reason` says what; tried again later */
    REDLANE_NEAR_CLOSED,
} RedlaneNearState;

typedef struct {
    RedlaneNearState state;
    bool resp3;             /* how the last link was made */
    char reason[232];       /* why there are no hits, or ""; no secret in it */
    char run_id[48];        /* of the server behind the link, or "" */
    size_t prefixes;        /* watched, nested ones reduced to the shortest */
    size_t entries;         /* in the table, dead generations included */
    size_t bytes;           /* of them, values and overhead */
    size_t max_bytes;       /* their bound */
    size_t dead;            /* values in the queue of those to be released */
    uint64_t hits, misses;  /* of redlane_near_find */
    uint64_t stores;        /* values taken */
    uint64_t overtaken;     /* values refused: an invalidation or a flush came first */
    uint64_t evictions;     /* for want of room */
    uint64_t invalidations; /* keys that the server named */
    uint64_t flushes;       /* nil messages, lost and silent links, own clears */
    uint64_t links;         /* confirmed, in all */
} RedlaneNearStats;

/* With one reference; holds the settings. `ping_interval` in ns. No thread and no
 * connection before the first prefix is watched. NULL when memory is exhausted. */
RedlaneNear *redlane_near_new(RedlaneSettings *settings, size_t max_bytes,
                              int64_t ping_interval);
RedlaneNear *redlane_near_hold(RedlaneNear *near);

/* With the last reference it is freed: whoever owns the values closes it before and
 * takes the dead ones. NULL is allowed. */
void redlane_near_release(RedlaneNear *near);

/* No hit and no store from here on; all values die. The thread ends soon. */
void redlane_near_close(RedlaneNear *near);

/* Ends the threads of all near caches of the process, waiting `limit` ns at most; true
 * when they have ended. For the exit: without the GIL. */
bool redlane_near_stop_all(int64_t limit);

/* Values of keys with this prefix are wanted: the link will ask for their invalidation
 * (at once if it stands already). False when memory or threads are exhausted, there are
 * too many prefixes, or it is closed. */
bool redlane_near_watch(RedlaneNear *near, const char *prefix, size_t size);

/* No entry is a hit while the near cache is suspended: its owner is in doubt whether
 * the server is there. With `flush`, nor is any of before one after it; they stay as
 * what may be served as stale. */
void redlane_near_suspend(RedlaneNear *near);
void redlane_near_resume(RedlaneNear *near, bool flush);

/* False for a server over HTTP, which tells of no change: its prefixes are confirmed at
 * once, values live for as long as they may, and only own writes end them. */
bool redlane_near_is_told(const RedlaneNear *near);

/* True while hits are allowed. */
bool redlane_near_is_confirmed(const RedlaneNear *near);

/* Whether a data connection reaches the server that sends the invalidations; `run_id`
 * is what that connection learned ("" where it could not). If not, what it reads must
 * not be stored, and the statistics will say so. */
bool redlane_near_is_same_server(RedlaneNear *near, const char *run_id);

/* Before the read is sent. Starts the thread where the process has forked. */
RedlaneNearTicket redlane_near_ticket(RedlaneNear *near, const char *key, size_t size);

/* True while nothing has overtaken the ticket: what waits for a key's invalidation
 * looks here. */
bool redlane_near_ticket_holds(RedlaneNear *near, const RedlaneNearTicket *ticket);

/* Waits until something has overtaken the ticket (true) or the deadline
 * (CLOCK_MONOTONIC ns) has come; without the GIL. One who waits for a lease takes the
 * ticket before it looks at the key, and waits in slices, for its signal handlers. */
bool redlane_near_wait_nogil(RedlaneNear *near, const RedlaneNearTicket *ticket,
                             int64_t deadline);

/* What was read by the ticket. Held by the table and, the entry that is returned, by
 * the caller. NULL when it was overtaken, is too large, has no prefix that is
 * confirmed, or memory is exhausted: the value is the caller's then; else it is the
 * table's. Some dead values may wait afterwards. */
RedlaneNearEntry *redlane_near_store(RedlaneNear *near, const char *key, size_t size,
                                     const RedlaneNearTicket *ticket,
                                     const RedlaneNearOffer *offer);

/* The same for a value that lasts only as long as other keys stay as they are: `keys`
 * are their tickets, of before they were read. Who kills one of them (the server does,
 * when it changes) kills the value. */
RedlaneNearEntry *redlane_near_store_dependent(
    RedlaneNear *near, const char *key, size_t size, const RedlaneNearTicket *ticket,
    const RedlaneNearOffer *offer, const RedlaneNearTicket *keys, size_t count);

/* The held entry of a key if it is a hit, or NULL. */
RedlaneNearEntry *redlane_near_find(RedlaneNear *near, const char *key, size_t size);

/* The same for one that no invalidation has killed, within its deadline, though the
 * link is lost or was since it was stored: what may be served as stale. */
RedlaneNearEntry *redlane_near_find_stale(RedlaneNear *near, const char *key,
                                          size_t size);

/* Own writes: before they are sent, and again after their reply, failure or time-out.
 * Entries die, and no ticket that was taken before stores anything. */
void redlane_near_kill(RedlaneNear *near, const char *key, size_t size);
void redlane_near_kill_prefix(RedlaneNear *near, const char *prefix, size_t size);
void redlane_near_kill_all(RedlaneNear *near);

/* Calls `act` for every near cache of the process that is of the server at this
 * address, whatever its database and user: own writes end the values of all. `act` must
 * not make or release any. */
void redlane_near_each(const RedlaneSettings *settings,
                       void (*act)(RedlaneNear *near, const void *context),
                       const void *context);

/* A value to be released by the caller, who has the GIL, or NULL. Take two for each
 * store at least, so that the queue does not grow. */
void *redlane_near_take_dead(RedlaneNear *near);

/* True once for each new reason why there are no hits, which is copied: to be logged.
 */
bool redlane_near_take_notice(RedlaneNear *near, char *text, size_t size);

void redlane_near_stats(RedlaneNear *near, RedlaneNearStats *stats);

/* The look of a hit, for those that hold an entry; `now` is redlane_clock_coarse(). */
static inline bool
redlane_near_is_hit(const RedlaneNear *near, const RedlaneNearEntry *entry, int64_t now)
{
    return atomic_load_explicit(&entry->generation, memory_order_acquire) ==
               atomic_load_explicit(&near->generation, memory_order_acquire) &&
           now < entry->deadline &&
           now < atomic_load_explicit(&near->valid_until, memory_order_relaxed);
}

/* Tells the eviction that it was used. */
static inline void
redlane_near_entry_visit(RedlaneNearEntry *entry)
{
    if (!(atomic_load_explicit(&entry->references, memory_order_relaxed) &
          REDLANE_NEAR_VISITED)) {
        (void)atomic_fetch_or_explicit(&entry->references, REDLANE_NEAR_VISITED,
                                       memory_order_relaxed);
    }
}

#endif
