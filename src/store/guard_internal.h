/* Inside the guard: what guard.c and guard_probe.c share. Names that end in _locked
 * want its lock. */
#ifndef REDLANE_STORE_GUARD_INTERNAL_H
#define REDLANE_STORE_GUARD_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/fork.h"
#include "store/guard.h"

/* Changes of state come in at most one a probe; what is not fetched is overwritten, so
 * a process that is idle through many outages logs the last few. */
#define REDLANE_NEWS_KEPT 7

/* A longer key is not kept for the probe of writes: the old one stays. */
#define REDLANE_PROBE_KEY_MAX 1024

struct RedlaneGuard {
    atomic_size_t references;
    RedlaneSettings *settings;
    pthread_mutex_t lock;
    pthread_cond_t settled; /* the state is no longer SUSPECT */
    /* all under lock */
    RedlaneBreaker breaker; /* of the link */
    RedlaneBreaker writes;
    RedlaneJournal journal;
    RedlaneNear *near; /* or NULL */
    bool was_open;     /* since near gave hits */
    uint64_t period;   /* grows when the link ceases to be well */
    bool well;
    bool deletes;             /* while writes are refused: deletes are not */
    uint64_t lost_told;       /* of journal.lost, in the news */
    int64_t failed_told;      /* when a failed operation was in them, or 0 */
    uint64_t failed_period;   /* and in which period */
    RedlaneFault last;        /* the link's last failure */
    RedlaneFault last_writes; /* the last refusal */
    char probe_key[REDLANE_PROBE_KEY_MAX];
    size_t probe_key_size;
    RedlaneNews news[REDLANE_NEWS_KEPT]; /* a ring, oldest first */
    size_t news_first, news_count;
    /* not under it */
    atomic_bool has_news; /* read on every request */
    RedlaneForkHook fork;
};

/* After any change of a breaker or the journal. */
void redlane_guard_note_well_locked(RedlaneGuard *guard);

/* After a change of the link's state, or of that of its writes: wakes who waits, keeps
 * the news. */
void redlane_guard_note_link_locked(RedlaneGuard *guard);
void redlane_guard_note_writes_locked(RedlaneGuard *guard);

/* Why writes are refused, as the server said last. */
void redlane_guard_note_refusal_locked(RedlaneGuard *guard, const RedlaneFault *fault);

/* After a failure that opened the link's breaker, or a probe that did not close it. */
void redlane_guard_hold_off_locked(RedlaneGuard *guard, const RedlaneFault *fault);

RedlaneBreakerFailure redlane_guard_failure_of(const RedlaneFault *fault);

#endif
