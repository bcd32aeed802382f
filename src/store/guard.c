#include <stdlib.h>
#include <string.h>

#include "core/backoff.h"
#include "core/clock.h"
#include "core/command_keys.h"
#include "core/platform.h"
#include "store/guard_internal.h"

/* A write breaker that opens again sooner than this goes on with its long waits: a
 * server at the edge of its memory does not flap. */
#define WRITES_STEADY (10 * REDLANE_NS_PER_S)

/* How long one that asks to be left alone is, at most. */
#define RETRY_MOST (3600 * REDLANE_NS_PER_S)

/* How often a failed operation is news: within one time of trouble, and when a link
 * breaks again and again. */
#define FAILED_AGAIN (60 * REDLANE_NS_PER_S)
#define FAILED_APART (10 * REDLANE_NS_PER_S)

static int
make_sync(RedlaneGuard *guard)
{
    if (redlane_platform_cond_init(&guard->settled) != 0) {
        return -1;
    }
    return pthread_mutex_init(&guard->lock, NULL) == 0 ? 0 : -1;
}

static void
guard_fork_prepare(void *context)
{
    (void)pthread_mutex_lock(&((RedlaneGuard *)context)->lock);
}

static void
guard_fork_parent(void *context)
{
    (void)pthread_mutex_unlock(&((RedlaneGuard *)context)->lock);
}

/* After any change of a breaker or the journal. */
void
redlane_guard_note_well_locked(RedlaneGuard *guard)
{
    bool well = redlane_breaker_state(&guard->breaker) == REDLANE_BREAKER_CLOSED &&
                redlane_breaker_state(&guard->writes) == REDLANE_BREAKER_CLOSED &&
                redlane_journal_is_empty(&guard->journal);

    if (guard->well && !well) {
        guard->period++;
    }
    guard->well = well;
}

/* The thread that may have been probing is not in the child. */
static void
guard_fork_child(void *context)
{
    RedlaneGuard *guard = context;

    (void)make_sync(guard);
    guard->breaker.probing = guard->writes.probing = false;
    redlane_journal_after_fork(&guard->journal);
    guard->lost_told = 0;
    redlane_guard_note_well_locked(guard);
}

RedlaneGuard *
redlane_guard_new(RedlaneSettings *settings)
{
    RedlaneGuard *guard = calloc(1, sizeof(*guard));

    if (!guard) {
        return NULL;
    }
    if (make_sync(guard) < 0) {
        free(guard);
        return NULL;
    }
    atomic_init(&guard->references, 1);
    atomic_init(&guard->has_news, false);
    guard->settings = redlane_settings_hold(settings);
    redlane_breaker_init(&guard->breaker, 0,
                         (uint64_t)redlane_clock_now() ^ (uintptr_t)guard);
    redlane_breaker_init(&guard->writes, WRITES_STEADY,
                         (uint64_t)redlane_clock_now() ^ (uintptr_t)&guard->writes);
    redlane_journal_init(&guard->journal, REDLANE_JOURNAL_MAX_BYTES);
    guard->well = true;
    guard->fork = (RedlaneForkHook){REDLANE_FORK_FALLBACK,
                                    guard_fork_prepare,
                                    guard_fork_parent,
                                    guard_fork_child,
                                    guard,
                                    NULL};
    if (redlane_fork_register(&guard->fork) < 0) {
        redlane_guard_release(guard);
        return NULL;
    }
    return guard;
}

RedlaneGuard *
redlane_guard_hold(RedlaneGuard *guard)
{
    atomic_fetch_add_explicit(&guard->references, 1, memory_order_relaxed);
    return guard;
}

void
redlane_guard_release(RedlaneGuard *guard)
{
    if (atomic_fetch_sub_explicit(&guard->references, 1, memory_order_acq_rel) == 1) {
        redlane_fork_unregister(&guard->fork);
        redlane_settings_release(guard->settings);
        redlane_journal_free(&guard->journal);
        redlane_near_release(guard->near);
        (void)pthread_cond_destroy(&guard->settled);
        (void)pthread_mutex_destroy(&guard->lock);
        free(guard);
    }
}

static RedlaneRoute
route_locked(const RedlaneGuard *guard)
{
    return (RedlaneRoute){
        .state = redlane_breaker_state(&guard->breaker),
        .era = redlane_breaker_era(&guard->breaker),
        .write_era = redlane_breaker_era(&guard->writes),
        .period = guard->period,
        .well = guard->well,
        .refused = redlane_breaker_state(&guard->writes) != REDLANE_BREAKER_CLOSED,
        .deletes = guard->deletes,
    };
}

RedlaneRoute
redlane_guard_route(RedlaneGuard *guard)
{
    RedlaneRoute route;

    pthread_mutex_lock(&guard->lock);
    route = route_locked(guard);
    pthread_mutex_unlock(&guard->lock);
    return route;
}

RedlaneRoute
redlane_guard_wait_nogil(RedlaneGuard *guard, int64_t until)
{
    RedlaneRoute route;

    pthread_mutex_lock(&guard->lock);
    while (redlane_breaker_state(&guard->breaker) == REDLANE_BREAKER_SUSPECT &&
           redlane_clock_now() < until) {
        redlane_platform_cond_wait(&guard->settled, &guard->lock, until);
    }
    route = route_locked(guard);
    pthread_mutex_unlock(&guard->lock);
    return route;
}

static void
tell_locked(RedlaneGuard *guard, RedlaneNewsKind kind, const char *reason)
{
    RedlaneNews *news;

    if (guard->news_count == REDLANE_NEWS_KEPT) {
        guard->news_first = (guard->news_first + 1) % REDLANE_NEWS_KEPT;
        guard->news_count--;
    }
    news = &guard->news[(guard->news_first + guard->news_count) % REDLANE_NEWS_KEPT];
    guard->news_count++;
    news->kind = kind;
    news->lost = guard->journal.lost - guard->lost_told;
    memcpy(news->reason, reason, sizeof(news->reason));
    if (kind == REDLANE_NEWS_LOST) {
        guard->lost_told = guard->journal.lost;
    }
    atomic_store_explicit(&guard->has_news, true, memory_order_release);
}

static void
tell_lost_locked(RedlaneGuard *guard)
{
    if (guard->journal.lost != guard->lost_told) {
        tell_locked(guard, REDLANE_NEWS_LOST, guard->last.text);
    }
}

/* While the link is in doubt the near cache gives no hits; if only that, it has lost
 * none of them afterwards. */
static void
tell_near_locked(RedlaneGuard *guard)
{
    RedlaneBreakerState state = redlane_breaker_state(&guard->breaker);

    if (!guard->near) {
        return;
    }
    if (state != REDLANE_BREAKER_CLOSED) {
        guard->was_open |= state == REDLANE_BREAKER_OPEN;
        redlane_near_suspend(guard->near);
    }
    else {
        redlane_near_resume(guard->near, guard->was_open);
        guard->was_open = false;
    }
}

void
redlane_guard_set_near(RedlaneGuard *guard, RedlaneNear *near)
{
    pthread_mutex_lock(&guard->lock);
    guard->near = redlane_near_hold(near);
    if (redlane_breaker_state(&guard->breaker) != REDLANE_BREAKER_CLOSED) {
        tell_near_locked(guard);
    }
    pthread_mutex_unlock(&guard->lock);
}

/* After a change of the link's state: wakes waiters, keeps the news. */
void
redlane_guard_note_link_locked(RedlaneGuard *guard)
{
    tell_near_locked(guard);
    switch (redlane_breaker_state(&guard->breaker)) {
    case REDLANE_BREAKER_CLOSED:
        tell_locked(guard, REDLANE_NEWS_BACK, guard->last.text);
        tell_lost_locked(guard);
        break;
    case REDLANE_BREAKER_SUSPECT:
        tell_locked(guard, REDLANE_NEWS_SUSPECT, guard->last.text);
        break;
    case REDLANE_BREAKER_OPEN:
        tell_locked(guard,
                    guard->last.kind == REDLANE_FAULT_REPLY ? REDLANE_NEWS_REFUSED
                                                            : REDLANE_NEWS_AWAY,
                    guard->last.text);
        break;
    }
    if (redlane_breaker_state(&guard->breaker) != REDLANE_BREAKER_SUSPECT) {
        pthread_cond_broadcast(&guard->settled);
    }
    redlane_guard_note_well_locked(guard);
}

/* The same for the writes alone. */
void
redlane_guard_note_writes_locked(RedlaneGuard *guard)
{
    if (redlane_breaker_state(&guard->writes) == REDLANE_BREAKER_CLOSED) {
        tell_locked(guard, REDLANE_NEWS_WRITES, guard->last_writes.text);
        tell_lost_locked(guard);
    }
    else {
        tell_locked(guard, REDLANE_NEWS_READONLY, guard->last_writes.text);
    }
    redlane_guard_note_well_locked(guard);
}

/* A call's success clears doubt, unless the server must hear the journal first: then
 * the probe does. */
void
redlane_guard_success(RedlaneGuard *guard, uint64_t era)
{
    pthread_mutex_lock(&guard->lock);
    if (redlane_journal_is_empty(&guard->journal) &&
        redlane_breaker_success(&guard->breaker, era, redlane_clock_coarse())) {
        redlane_guard_note_link_locked(guard);
    }
    pthread_mutex_unlock(&guard->lock);
}

bool
redlane_guard_is_outage(const RedlaneFault *fault)
{
    switch (fault->kind) {
    case REDLANE_FAULT_CONNECT:
    case REDLANE_FAULT_LOST:
    case REDLANE_FAULT_TIMEOUT:
    case REDLANE_FAULT_PROTOCOL:
    case REDLANE_FAULT_REPLY:
        return true;
    case REDLANE_FAULT_NONE:
    case REDLANE_FAULT_WRITES:
    case REDLANE_FAULT_POOL:
    case REDLANE_FAULT_MEMORY:
    case REDLANE_FAULT_CLOSED:
    case REDLANE_FAULT_PYTHON:
        break;
    }
    return false;
}

RedlaneBreakerFailure
redlane_guard_failure_of(const RedlaneFault *fault)
{
    return fault->kind == REDLANE_FAULT_CONNECT || fault->kind == REDLANE_FAULT_REPLY
               ? REDLANE_BREAKER_AWAY
               : REDLANE_BREAKER_DOUBT;
}

/* A server with a quota is not asked each second whether it has one again. */
void
redlane_guard_hold_off_locked(RedlaneGuard *guard, const RedlaneFault *fault)
{
    int64_t wait = fault->retry_after < 0
                       ? redlane_backoff_hold(guard->breaker.probes_failed)
                       : fault->retry_after * REDLANE_NS_PER_S;

    if (wait > 0) {
        redlane_breaker_hold(&guard->breaker,
                             redlane_clock_now() +
                                 (wait < RETRY_MOST ? wait : RETRY_MOST));
    }
}

void
redlane_guard_failure(RedlaneGuard *guard, uint64_t era, const RedlaneFault *fault)
{
    pthread_mutex_lock(&guard->lock);
    guard->last = *fault;
    if (redlane_breaker_failure(&guard->breaker, era, redlane_guard_failure_of(fault),
                                redlane_clock_now())) {
        redlane_guard_hold_off_locked(guard, fault);
        redlane_guard_note_link_locked(guard);
    }
    pthread_mutex_unlock(&guard->lock);
}

/* Opens the write breaker, or notes the latest reason. */
void
redlane_guard_note_refusal_locked(RedlaneGuard *guard, const RedlaneFault *fault)
{
    guard->last_writes = *fault;
    guard->deletes = redlane_fault_allows_deletes(fault->text, strlen(fault->text));
}

void
redlane_guard_refused(RedlaneGuard *guard, uint64_t write_era,
                      const RedlaneFault *fault, RedlaneArg key)
{
    pthread_mutex_lock(&guard->lock);
    if (redlane_breaker_failure(&guard->writes, write_era, REDLANE_BREAKER_AWAY,
                                redlane_clock_now())) {
        redlane_guard_note_refusal_locked(guard, fault);
        if (key.size <= REDLANE_PROBE_KEY_MAX) {
            memcpy(guard->probe_key, key.data, key.size);
            guard->probe_key_size = key.size;
        }
        redlane_guard_note_writes_locked(guard);
    }
    pthread_mutex_unlock(&guard->lock);
}

static const RedlaneFault *
reason_locked(const RedlaneGuard *guard)
{
    return redlane_breaker_state(&guard->breaker) == REDLANE_BREAKER_CLOSED &&
                   redlane_breaker_state(&guard->writes) != REDLANE_BREAKER_CLOSED
               ? &guard->last_writes
               : &guard->last;
}

void
redlane_guard_reason(RedlaneGuard *guard, RedlaneFault *fault)
{
    pthread_mutex_lock(&guard->lock);
    *fault = *reason_locked(guard);
    pthread_mutex_unlock(&guard->lock);
}

void
redlane_guard_operation_failed(RedlaneGuard *guard, const RedlaneFault *fault)
{
    int64_t now = redlane_clock_coarse(), pause;

    pthread_mutex_lock(&guard->lock);
    pause = guard->failed_period == guard->period ? FAILED_AGAIN : FAILED_APART;
    if (!guard->failed_told || now - guard->failed_told >= pause) {
        guard->failed_told = now;
        guard->failed_period = guard->period;
        tell_locked(guard, REDLANE_NEWS_FAILED,
                    fault ? fault->text : reason_locked(guard)->text);
    }
    pthread_mutex_unlock(&guard->lock);
}

bool
redlane_guard_holds(RedlaneGuard *guard, const RedlaneVector *vectors, size_t count)
{
    bool found = false;

    pthread_mutex_lock(&guard->lock);
    if (!redlane_journal_is_empty(&guard->journal)) {
        for (size_t i = 0; !found && i < count; i++) {
            RedlaneKeySpan keys = redlane_command_keys(&vectors[i]);

            for (size_t at = keys.first; !found && at < keys.end; at += keys.step) {
                found = redlane_journal_holds(&guard->journal, vectors[i].argv[at]);
            }
        }
    }
    pthread_mutex_unlock(&guard->lock);
    return found;
}

/* Something was kept while the link is thought to be well: it must be replayed before
 * anything is read. */
static void
doubt_locked(RedlaneGuard *guard)
{
    if (redlane_breaker_state(&guard->breaker) == REDLANE_BREAKER_CLOSED &&
        redlane_breaker_state(&guard->writes) == REDLANE_BREAKER_CLOSED &&
        redlane_breaker_failure(&guard->breaker, redlane_breaker_era(&guard->breaker),
                                REDLANE_BREAKER_DOUBT, redlane_clock_now())) {
        redlane_fault_set(&guard->last, REDLANE_FAULT_TIMEOUT,
                          "it must hear first of what it missed");
        redlane_guard_note_link_locked(guard);
    }
}

bool
redlane_guard_keep(RedlaneGuard *guard, RedlaneRoute *route,
                   const RedlaneChange *changes, size_t count, RedlaneArg space,
                   bool force)
{
    bool kept;

    pthread_mutex_lock(&guard->lock);
    kept = force || (!guard->well && guard->period == route->period);
    if (kept && count) {
        for (size_t i = 0; i < count; i++) {
            (void)redlane_journal_keep(&guard->journal, &changes[i], space);
        }
        if (!redlane_journal_is_empty(&guard->journal)) {
            doubt_locked(guard);
        }
        redlane_guard_note_well_locked(guard);
    }
    route->period = guard->period;
    pthread_mutex_unlock(&guard->lock);
    return kept;
}

void
redlane_guard_keep_pattern(RedlaneGuard *guard, RedlaneArg pattern, RedlaneArg space,
                           bool away)
{
    pthread_mutex_lock(&guard->lock);
    if (away) {
        (void)redlane_journal_keep_pattern_in(&guard->journal, pattern, space);
        doubt_locked(guard);
        redlane_guard_note_well_locked(guard);
    }
    else {
        redlane_journal_drop_matching(&guard->journal, pattern);
    }
    pthread_mutex_unlock(&guard->lock);
}

void
redlane_guard_journal(RedlaneGuard *guard, RedlaneJournalStats *stats)
{
    pthread_mutex_lock(&guard->lock);
    *stats = (RedlaneJournalStats){
        .entries = guard->journal.table.count,
        .patterns = guard->journal.pattern_count,
        .bytes = guard->journal.bytes,
        .lost = guard->journal.lost,
    };
    pthread_mutex_unlock(&guard->lock);
}

bool
redlane_guard_take_news(RedlaneGuard *guard, RedlaneNews *news)
{
    bool found = false;

    if (!atomic_load_explicit(&guard->has_news, memory_order_acquire)) {
        return false;
    }
    pthread_mutex_lock(&guard->lock);
    if (guard->news_count) {
        *news = guard->news[guard->news_first];
        guard->news_first = (guard->news_first + 1) % REDLANE_NEWS_KEPT;
        guard->news_count--;
        found = true;
    }
    atomic_store_explicit(&guard->has_news, guard->news_count > 0,
                          memory_order_release);
    pthread_mutex_unlock(&guard->lock);
    return found;
}
