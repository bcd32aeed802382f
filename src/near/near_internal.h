/* Inside near/: the near cache itself.
 *
 *   RedlaneNear ── settings, prefixes, what the link has come to      (state lock)
 *     ├─ shards[hash & 15] ── table ──▶ items                         (shard lock)
 *     │     newest ◀─newer─ item ─older─▶ … oldest     the SIEVE queue; `hand` walks
 *     │                                                from the oldest to the newest
 *     ├─ dependants: which values end when a key changes      (lock of their own)
 *     └─ dead ──older─▶ items without a reference                     (dead lock)
 *
 * SIEVE: Zhang et al., "SIEVE is Simpler than LRU", NSDI 2024.
 *
 * Locks, in this order: state, dependants, shard (one at a time), dead. The last two
 * are spins. */
#ifndef REDLANE_NEAR_NEAR_INTERNAL_H
#define REDLANE_NEAR_NEAR_INTERNAL_H

#include <pthread.h>

#include "core/lock.h"
#include "core/table.h"
#include "near/dependants.h"
#include "near/near.h"
#include "near/prefixes.h"

#define REDLANE_NEAR_SHARDS                                                          \
    16                         /* by a hash's low bits: the table uses the high ones \
                                */
#define REDLANE_NEAR_EPOCHS 64 /* of a shard: a write makes 1 read of 1000 a miss */

typedef struct RedlaneNearItem RedlaneNearItem;

struct RedlaneNearItem {
    RedlaneItem item;
    uint32_t units;                 /* of 16 bytes: what it counts for, but for slots */
    RedlaneNearItem *newer, *older; /* the queue; older: also the dead ones */
    RedlaneNearEntry entry;
    char key[];
};

typedef struct {
    RedlaneLock lock;
    RedlaneTable table;
    atomic_size_t count; /* of the table, for those without the lock */
    RedlaneNearItem *newest, *oldest, *hand;
    uint64_t sweep; /* where the search for expired ones goes on: a hash */
    uint64_t hits, misses, stores, overtaken, evictions;
    uint64_t epochs[REDLANE_NEAR_EPOCHS];
} RedlaneNearShard;

typedef struct RedlaneNearCache RedlaneNearCache;

struct RedlaneNearCache {
    RedlaneNear head;           /* first: what others see is a pointer to it */
    RedlaneNearCache *next;     /* in the registry */
    atomic_uint_fast64_t floor; /* generations below it are not even stale */
    atomic_size_t references;
    RedlaneSettings *settings; /* held */
    int64_t ping_interval;     /* ns */
    RedlaneSeed seed;
    size_t max_bytes;
    atomic_size_t bytes; /* of all shards, and what is about to be stored */
    RedlaneNearShard shards[REDLANE_NEAR_SHARDS];

    RedlaneNearDependants dependants;

    RedlaneLock dead_lock;
    RedlaneNearItem *dead;
    atomic_size_t dead_count;

    pthread_mutex_t lock; /* the state: all that follows but the atomics */
    RedlaneNearPrefixes *wanted, *confirmed; /* or NULL; held */
    RedlaneNearState state;
    bool resp3;
    bool told; /* the reason was taken to be logged */
    bool suspended;
    bool crowded; /* a prefix was refused: there are too many */
    int64_t word; /* until when the link's word holds; head.valid_until, or 0 */
    char reason[232];
    char run_id[48];
    bool stranger; /* a data connection reached another server than the link does */
    uint64_t links;
    atomic_uint_fast64_t invalidations, flushes;

    pthread_cond_t changed; /* for those that wait for a ticket to be overtaken */
    atomic_size_t waiters;
    int wake[2];         /* of the thread */
    atomic_bool running; /* the thread, which has a reference; written under lock */
    bool stopping;
};

static inline RedlaneNearCache *
redlane_near_cache(const RedlaneNear *near)
{
    return (RedlaneNearCache *)(uintptr_t)near;
}

/* --- values.c, values_end.c, values_life.c: none needs the state -------------- */

void redlane_near_values_init(RedlaneNearCache *cache);
void redlane_near_values_free(RedlaneNearCache *cache);

/* Notes the hash and the epoch of a key in its ticket. */
void redlane_near_values_stamp(RedlaneNearCache *cache, RedlaneNearTicket *ticket,
                               const char *key, size_t size);

/* The same as redlane_near_kill for all keys with that hash. */
void redlane_near_values_kill_hash(RedlaneNearCache *cache, uint64_t hash);

/* Whether there is a value under any. */
bool redlane_near_values_have_hash(RedlaneNearCache *cache, uint64_t hash);

/* Every value dies, and no ticket of before stores anything. */
void redlane_near_values_clear(RedlaneNearCache *cache);

/* Moves the generation on: no entry of before is a hit. With `dead` none is even
 * stale. */
void redlane_near_values_flush(RedlaneNearCache *cache, bool dead);

/* Lets go of what has expired or is dead, some of it at each call. */
void redlane_near_values_sweep(RedlaneNearCache *cache);

void redlane_near_values_stats(RedlaneNearCache *cache, RedlaneNearStats *stats);

/* All shards and the dead: for fork. */
void redlane_near_values_lock(RedlaneNearCache *cache);
void redlane_near_values_unlock(RedlaneNearCache *cache);
void redlane_near_values_unlock_child(RedlaneNearCache *cache);

/* --- dependants.c ---------------------------------------------------------- */

/* Kills the values that depend on a key with that hash. */
void redlane_near_dependants_kill(RedlaneNearCache *cache, uint64_t hash);

/* --- thread.c -------------------------------------------------------------- */

/* With the state locked: makes sure that the thread runs, and tells it to look. */
bool redlane_near_thread_start_locked(RedlaneNearCache *cache);
void redlane_near_thread_wake_locked(RedlaneNearCache *cache);

/* --- near.c ---------------------------------------------------------------- */

/* After an epoch or the generation has moved. With the state unlocked. */
void redlane_near_wake_waiters(RedlaneNearCache *cache);

/* The thread alone calls these, without a lock.
 * Nothing is a hit from here on, for this reason. */
void redlane_near_unconfirm(RedlaneNearCache *cache, RedlaneNearState state,
                            const char *reason);

/* A link tracks `prefixes` on the server `run_id`. Where it follows one to that server
 * that is still confirmed, what is in the table stays. */
void redlane_near_confirm(RedlaneNearCache *cache, RedlaneNearPrefixes *prefixes,
                          const char *run_id, bool resp3, int64_t valid_until);

/* A PING was answered. */
void redlane_near_extend(RedlaneNearCache *cache, int64_t valid_until);

/* Whether a data connection has met another server than this link's since this was
 * asked last, and what is to be said then. */
bool redlane_near_meets_strangers(RedlaneNearCache *cache);
void redlane_near_tell(RedlaneNearCache *cache, const char *reason);

#endif
