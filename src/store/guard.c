#include "store/guard.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/fork.h"
#include "core/platform.h"
#include "wire/probe.h"

/* Changes of state come in at most one a probe; what is not fetched is overwritten, so
 * a process that is idle through many outages logs the last few. */
#define NEWS_KEPT 4

struct RedlaneGuard {
    atomic_size_t references;
    RedlaneSettings *settings;
    pthread_mutex_t lock;
    pthread_cond_t settled;      /* the state is no longer SUSPECT */
    RedlaneBreaker breaker;      /* under lock */
    RedlaneFault last;           /* under lock: the last failure */
    RedlaneNews news[NEWS_KEPT]; /* under lock: a ring, oldest first */
    size_t news_first, news_count;
    atomic_bool has_news; /* read without the lock on every request */
    RedlaneForkHook fork;
};

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

/* The thread that may have been probing is not in the child. */
static void
guard_fork_child(void *context)
{
    RedlaneGuard *guard = context;

    (void)make_sync(guard);
    guard->breaker.probing = false;
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
    redlane_breaker_init(&guard->breaker,
                         (uint64_t)redlane_clock_now() ^ (uintptr_t)guard);
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
        .outage = guard->breaker.opened,
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
keep_news_locked(RedlaneGuard *guard, RedlaneBreakerState state)
{
    RedlaneNews *news;

    if (guard->news_count == NEWS_KEPT) {
        guard->news_first = (guard->news_first + 1) % NEWS_KEPT;
        guard->news_count--;
    }
    news = &guard->news[(guard->news_first + guard->news_count) % NEWS_KEPT];
    guard->news_count++;
    news->state = state;
    news->refused = guard->last.kind == REDLANE_FAULT_REPLY;
    memcpy(news->reason, guard->last.text, sizeof(news->reason));
    atomic_store_explicit(&guard->has_news, true, memory_order_release);
}

/* After a change of the breaker's state: wakes waiters, keeps the news. */
static void
note_change_locked(RedlaneGuard *guard)
{
    RedlaneBreakerState state = redlane_breaker_state(&guard->breaker);

    keep_news_locked(guard, state);
    if (state != REDLANE_BREAKER_SUSPECT) {
        pthread_cond_broadcast(&guard->settled);
    }
}

void
redlane_guard_success(RedlaneGuard *guard, uint64_t era)
{
    pthread_mutex_lock(&guard->lock);
    if (redlane_breaker_success(&guard->breaker, era, redlane_clock_coarse())) {
        note_change_locked(guard);
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
    case REDLANE_FAULT_POOL:
    case REDLANE_FAULT_MEMORY:
    case REDLANE_FAULT_CLOSED:
    case REDLANE_FAULT_PYTHON:
        break;
    }
    return false;
}

static RedlaneBreakerFailure
breaker_failure_of(const RedlaneFault *fault)
{
    return fault->kind == REDLANE_FAULT_CONNECT || fault->kind == REDLANE_FAULT_REPLY
               ? REDLANE_BREAKER_AWAY
               : REDLANE_BREAKER_DOUBT;
}

void
redlane_guard_failure(RedlaneGuard *guard, uint64_t era, const RedlaneFault *fault)
{
    pthread_mutex_lock(&guard->lock);
    guard->last = *fault;
    if (redlane_breaker_failure(&guard->breaker, era, breaker_failure_of(fault),
                                redlane_clock_now())) {
        note_change_locked(guard);
    }
    pthread_mutex_unlock(&guard->lock);
}

void
redlane_guard_reason(RedlaneGuard *guard, RedlaneFault *fault)
{
    pthread_mutex_lock(&guard->lock);
    *fault = guard->last;
    pthread_mutex_unlock(&guard->lock);
}

int64_t
redlane_guard_probe_due(RedlaneGuard *guard)
{
    int64_t due;

    pthread_mutex_lock(&guard->lock);
    due = redlane_breaker_probe_due(&guard->breaker);
    pthread_mutex_unlock(&guard->lock);
    return due;
}

void
redlane_guard_probe_nogil(RedlaneGuard *guard)
{
    RedlaneFault fault = {0};
    bool taken;
    int failed;

    pthread_mutex_lock(&guard->lock);
    taken = redlane_breaker_probe_begin(&guard->breaker, redlane_clock_now());
    pthread_mutex_unlock(&guard->lock);
    if (!taken) {
        return;
    }
    failed = redlane_wire_probe_nogil(
        guard->settings, redlane_clock_now() + guard->settings->timeout, &fault);

    pthread_mutex_lock(&guard->lock);
    if (failed) {
        guard->last = fault;
    }
    if (redlane_breaker_probe_end(&guard->breaker, !failed, redlane_clock_now())) {
        note_change_locked(guard);
    }
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
        guard->news_first = (guard->news_first + 1) % NEWS_KEPT;
        guard->news_count--;
        found = true;
    }
    atomic_store_explicit(&guard->has_news, guard->news_count > 0,
                          memory_order_release);
    pthread_mutex_unlock(&guard->lock);
    return found;
}
