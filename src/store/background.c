#include "store/background.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/fork.h"
#include "core/platform.h"

typedef struct Watched {
    struct Watched *next;
    RedlaneGuard *guard; /* held */
} Watched;

struct RedlaneBackground {
    size_t references; /* under the GIL */
    pthread_mutex_t lock;
    pthread_cond_t ended; /* a thread has left its loop */
    Watched *watched;     /* under lock */
    int wake[2];          /* read end, write end (one descriptor where it is eventfd) */
    unsigned threads;     /* under lock: that exist in this process */
    unsigned busy;        /* under lock: of them, with a guard each */
    bool stopping;        /* under lock */
    RedlaneForkHook fork;
};

/* A replay may take long. Where all threads hang on servers and another's probe is due,
 * one more is started for it, up to so many; it ends when it finds nothing to do. */
#define THREADS_MAX 4

/* The guard whose probe has been due longest, held for the caller; NULL when none is
 * due now, with *due set to when the next one will be. */
static RedlaneGuard *
find_due_locked(RedlaneBackground *background, int64_t *due)
{
    RedlaneGuard *first = NULL;

    *due = REDLANE_NEVER;
    for (Watched *watched = background->watched; watched; watched = watched->next) {
        int64_t when = redlane_guard_probe_due(watched->guard);

        if (when < *due) {
            *due = when;
            first = watched->guard;
        }
    }
    return first && *due <= redlane_clock_now() ? redlane_guard_hold(first) : NULL;
}

/* Sleeps until `due` or a wake-up. */
static void
sleep_until(RedlaneBackground *background, int64_t due)
{
    struct pollfd descriptor = {.fd = background->wake[0], .events = POLLIN};
    int timeout = -1;

    if (due != REDLANE_NEVER) {
        int64_t left = due - redlane_clock_now();

        timeout = left <= 0 ? 0 : (int)(left / REDLANE_NS_PER_MS) + 1;
    }
    (void)poll(&descriptor, 1, timeout);
    redlane_platform_wake_drain(background->wake);
}

static void *
run_thread(void *argument)
{
    RedlaneBackground *background = argument;

    pthread_mutex_lock(&background->lock);
    while (!background->stopping) {
        int64_t due;
        RedlaneGuard *guard = find_due_locked(background, &due);

        if (!guard && background->threads > background->busy + 1) {
            /* Another one waits already; but for what it knew when it began to. */
            redlane_platform_wake_signal(background->wake);
            break;
        }
        background->busy += guard != NULL;
        pthread_mutex_unlock(&background->lock);
        if (guard) {
            redlane_guard_probe_nogil(guard);
            redlane_guard_release(guard);
        }
        else {
            sleep_until(background, due);
        }
        pthread_mutex_lock(&background->lock);
        background->busy -= guard != NULL;
    }
    background->threads--;
    pthread_cond_broadcast(&background->ended);
    pthread_mutex_unlock(&background->lock);
    return NULL;
}

static void
background_fork_prepare(void *context)
{
    (void)pthread_mutex_lock(&((RedlaneBackground *)context)->lock);
}

static void
background_fork_parent(void *context)
{
    (void)pthread_mutex_unlock(&((RedlaneBackground *)context)->lock);
}

/* The thread stayed in the parent; so does the descriptor that wakes it. */
static void
background_fork_child(void *context)
{
    RedlaneBackground *background = context;

    (void)pthread_mutex_init(&background->lock, NULL);
    (void)redlane_platform_cond_init(&background->ended);
    background->threads = background->busy = 0;
    redlane_platform_wake_close(background->wake);
}

RedlaneBackground *
redlane_background_new(void)
{
    RedlaneBackground *background = calloc(1, sizeof(*background));

    if (!background) {
        return NULL;
    }
    background->references = 1;
    background->wake[0] = background->wake[1] = -1;
    background->fork = (RedlaneForkHook){REDLANE_FORK_BACKGROUND,
                                         background_fork_prepare,
                                         background_fork_parent,
                                         background_fork_child,
                                         background,
                                         NULL};
    if (pthread_mutex_init(&background->lock, NULL) != 0 ||
        redlane_platform_cond_init(&background->ended) != 0 ||
        redlane_fork_register(&background->fork) < 0) {
        free(background);
        return NULL;
    }
    return background;
}

/* True when a probe is due that nobody has begun: the thread may sleep, and know
 * nothing of a doubt that came up after it had looked. */
static bool
is_due(RedlaneGuard *guard)
{
    return redlane_guard_probe_due(guard) <= redlane_clock_now();
}

/* True when a guard is due that no thread is free for. */
static bool
is_overdue_locked(const RedlaneBackground *background, RedlaneGuard *guard)
{
    return background->threads == background->busy &&
           background->threads < THREADS_MAX && is_due(guard);
}

/* 1: a thread was started, 0: there were enough, -1: there is none. */
static int
start_locked(RedlaneBackground *background, RedlaneGuard *guard)
{
    if (background->threads && !is_overdue_locked(background, guard)) {
        return 0;
    }
    if (background->wake[0] < 0 && redlane_platform_wake_open(background->wake) < 0) {
        return -1;
    }
    if (redlane_platform_thread(run_thread, background) != 0) {
        return background->threads ? 0 : -1;
    }
    background->threads++;
    return 1;
}

/* 1: added, 0: it was there, -1. */
static int
add_locked(RedlaneBackground *background, RedlaneGuard *guard)
{
    Watched *watched;

    for (watched = background->watched; watched; watched = watched->next) {
        if (watched->guard == guard) {
            return 0;
        }
    }
    watched = malloc(sizeof(*watched));
    if (!watched) {
        return -1;
    }
    watched->guard = redlane_guard_hold(guard);
    watched->next = background->watched;
    background->watched = watched;
    return 1;
}

int
redlane_background_watch(RedlaneBackground *background, RedlaneGuard *guard, bool look)
{
    int added = -1, started = -1;

    pthread_mutex_lock(&background->lock);
    if (!background->stopping) {
        added = add_locked(background, guard);
        started = added < 0 ? -1 : start_locked(background, guard);
    }
    if (started >= 0 && (look || added || started || is_due(guard))) {
        redlane_platform_wake_signal(background->wake);
    }
    pthread_mutex_unlock(&background->lock);
    return started < 0 ? -1 : 0;
}

void
redlane_background_forget(RedlaneBackground *background, RedlaneGuard *guard)
{
    Watched *found = NULL;

    pthread_mutex_lock(&background->lock);
    for (Watched **place = &background->watched; *place; place = &(*place)->next) {
        if ((*place)->guard == guard) {
            found = *place;
            *place = found->next;
            break;
        }
    }
    pthread_mutex_unlock(&background->lock);
    if (found) {
        redlane_guard_release(found->guard);
        free(found);
    }
}

bool
redlane_background_stop(RedlaneBackground *background, int64_t limit)
{
    int64_t until = redlane_clock_now() + limit;
    bool ended;

    pthread_mutex_lock(&background->lock);
    background->stopping = true;
    if (background->threads) {
        redlane_platform_wake_signal(background->wake);
    }
    while (background->threads && redlane_clock_now() < until) {
        redlane_platform_cond_wait(&background->ended, &background->lock, until);
    }
    ended = !background->threads;
    pthread_mutex_unlock(&background->lock);
    return ended;
}

RedlaneBackground *
redlane_background_hold(RedlaneBackground *background)
{
    background->references++;
    return background;
}

void
redlane_background_release(RedlaneBackground *background)
{
    if (!background || --background->references > 0 ||
        !redlane_background_stop(background, 0)) {
        return;
    }
    redlane_fork_unregister(&background->fork);
    redlane_platform_wake_close(background->wake);
    while (background->watched) {
        redlane_background_forget(background, background->watched->guard);
    }
    (void)pthread_cond_destroy(&background->ended);
    (void)pthread_mutex_destroy(&background->lock);
    free(background);
}
