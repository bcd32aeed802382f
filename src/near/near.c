/* Life and state of near caches: what is watched and confirmed, tickets, waiting,
 * statistics; the registry of all of them, for fork and for the exit. See
 * near_internal.h for the locks; the registry's is outside of them. */
#include "near/near.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/error_line.h"
#include "core/fork.h"
#include "core/platform.h"
#include "near/near_internal.h"

/* How often the exit looks whether the threads have ended. */
#define STOP_LOOK (2 * REDLANE_NS_PER_MS)
/* The server compares each prefix of a link with each other, and each key that is
 * written with all of them. */
#define PREFIXES_MOST 128

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t registry_once = PTHREAD_ONCE_INIT;
static int registry_error;
static RedlaneNearCache *registry; /* by `next` */
static atomic_size_t registered;

static const char too_many_prefixes[] =
    "of the prefixes of its caches only 128 are watched, values of others are not near";

static bool
is_running(const RedlaneNearCache *cache)
{
    return atomic_load_explicit(&cache->running, memory_order_relaxed);
}

/* Until when the link's word holds; nobody sees it while the owner is in doubt. */
static void
set_word_locked(RedlaneNearCache *cache, int64_t word)
{
    cache->word = word;
    atomic_store(&cache->head.valid_until, cache->suspended ? 0 : word);
}

/* --- fork ------------------------------------------------------------------ */

static void
fork_prepare(void *context)
{
    (void)context;
    (void)pthread_mutex_lock(&registry_lock);
    for (RedlaneNearCache *cache = registry; cache; cache = cache->next) {
        (void)pthread_mutex_lock(&cache->lock);
        redlane_near_values_lock(cache);
    }
}

static void
fork_parent(void *context)
{
    (void)context;
    for (RedlaneNearCache *cache = registry; cache; cache = cache->next) {
        redlane_near_values_unlock(cache);
        (void)pthread_mutex_unlock(&cache->lock);
    }
    (void)pthread_mutex_unlock(&registry_lock);
}

/* The thread stayed in the parent, with its connection (which the transports' own hook
 * has closed here) and its reference. */
static void
fork_child(void *context)
{
    (void)context;
    (void)pthread_mutex_init(&registry_lock, NULL);
    for (RedlaneNearCache *cache = registry; cache; cache = cache->next) {
        redlane_near_values_unlock_child(cache);
        (void)pthread_mutex_init(&cache->lock, NULL);
        (void)redlane_platform_cond_init(&cache->changed);
        atomic_store(&cache->waiters, 0);
        redlane_platform_wake_close(cache->wake);
        if (is_running(cache)) {
            atomic_store(&cache->running, false);
            (void)atomic_fetch_sub(&cache->references, 1);
        }
        redlane_near_prefixes_release(cache->confirmed);
        cache->confirmed = NULL;
        cache->stranger = false;
        cache->run_id[0] = '\0';
        if (cache->state != REDLANE_NEAR_CLOSED) {
            cache->state = REDLANE_NEAR_IDLE;
        }
        set_word_locked(cache, 0);
        (void)atomic_fetch_add(&cache->head.generation, 1);
    }
}

static void
watch_forks(void)
{
    static RedlaneForkHook hook = {
        .rank = REDLANE_FORK_NEAR,
        .prepare = fork_prepare,
        .parent = fork_parent,
        .child = fork_child,
    };

    registry_error = redlane_fork_register(&hook);
}

/* --- life ------------------------------------------------------------------ */

RedlaneNear *
redlane_near_new(RedlaneSettings *settings, size_t max_bytes, int64_t ping_interval)
{
    RedlaneNearCache *cache;

    (void)pthread_once(&registry_once, watch_forks);
    cache = registry_error ? NULL : calloc(1, sizeof(*cache));
    if (!cache) {
        return NULL;
    }
    if (pthread_mutex_init(&cache->lock, NULL) != 0) {
        free(cache);
        return NULL;
    }
    if (redlane_platform_cond_init(&cache->changed) != 0) {
        (void)pthread_mutex_destroy(&cache->lock);
        free(cache);
        return NULL;
    }
    atomic_init(&cache->head.generation, 1);
    atomic_init(&cache->floor, 1);
    atomic_init(&cache->references, 1);
    cache->wake[0] = cache->wake[1] = -1;
    cache->max_bytes = max_bytes;
    cache->ping_interval = ping_interval;
    cache->settings = redlane_settings_hold(settings);
    redlane_near_values_init(cache);
    (void)pthread_mutex_lock(&registry_lock);
    cache->next = registry;
    registry = cache;
    (void)atomic_fetch_add(&registered, 1);
    (void)pthread_mutex_unlock(&registry_lock);
    return &cache->head;
}

RedlaneNear *
redlane_near_hold(RedlaneNear *near)
{
    (void)atomic_fetch_add_explicit(&redlane_near_cache(near)->references, 1,
                                    memory_order_relaxed);
    return near;
}

void
redlane_near_release(RedlaneNear *near)
{
    RedlaneNearCache *cache = redlane_near_cache(near);

    if (!near ||
        atomic_fetch_sub_explicit(&cache->references, 1, memory_order_acq_rel) != 1) {
        return;
    }
    (void)pthread_mutex_lock(&registry_lock);
    for (RedlaneNearCache **place = &registry; *place; place = &(*place)->next) {
        if (*place == cache) {
            *place = cache->next;
            (void)atomic_fetch_sub(&registered, 1);
            break;
        }
    }
    (void)pthread_mutex_unlock(&registry_lock);
    redlane_near_values_free(cache);
    redlane_near_prefixes_release(cache->wanted);
    redlane_near_prefixes_release(cache->confirmed);
    redlane_settings_release(cache->settings);
    redlane_platform_wake_close(cache->wake);
    (void)pthread_cond_destroy(&cache->changed);
    (void)pthread_mutex_destroy(&cache->lock);
    free(cache);
}

static bool
same_text(const char *left, const char *right)
{
    return left && right ? strcmp(left, right) == 0 : left == right;
}

void
redlane_near_each(const RedlaneSettings *settings,
                  void (*act)(RedlaneNear *near, const void *context),
                  const void *context)
{
    if (atomic_load_explicit(&registered, memory_order_acquire) == 0) {
        return;
    }
    (void)pthread_mutex_lock(&registry_lock);
    for (RedlaneNearCache *cache = registry; cache; cache = cache->next) {
        const RedlaneSettings *other = cache->settings;

        if (other == settings ||
            (other->scheme == settings->scheme && other->port == settings->port &&
             same_text(other->host, settings->host) &&
             same_text(other->path, settings->path))) {
            act(&cache->head, context);
        }
    }
    (void)pthread_mutex_unlock(&registry_lock);
}

/* Nothing is confirmed any more; with the state locked. */
static void
forget_link_locked(RedlaneNearCache *cache)
{
    redlane_near_prefixes_release(cache->confirmed);
    cache->confirmed = NULL;
    cache->stranger = false;
    cache->run_id[0] = '\0';
    set_word_locked(cache, 0);
}

void
redlane_near_close(RedlaneNear *near)
{
    RedlaneNearCache *cache = redlane_near_cache(near);

    (void)pthread_mutex_lock(&cache->lock);
    cache->state = REDLANE_NEAR_CLOSED;
    cache->stopping = true;
    forget_link_locked(cache);
    redlane_near_thread_wake_locked(cache);
    (void)pthread_mutex_unlock(&cache->lock);
    redlane_near_values_clear(cache);
}

/* Tells every thread to end; true when none is left. */
static bool
all_have_ended(void)
{
    bool ended = true;

    (void)pthread_mutex_lock(&registry_lock);
    for (RedlaneNearCache *cache = registry; cache; cache = cache->next) {
        (void)pthread_mutex_lock(&cache->lock);
        if (!cache->stopping) {
            cache->stopping = true;
            redlane_near_thread_wake_locked(cache);
        }
        ended = ended && !is_running(cache);
        (void)pthread_mutex_unlock(&cache->lock);
    }
    (void)pthread_mutex_unlock(&registry_lock);
    return ended;
}

bool
redlane_near_stop_all(int64_t limit)
{
    const struct timespec pause = {.tv_nsec = STOP_LOOK};
    int64_t until = redlane_clock_now() + limit;
    bool ended = all_have_ended();

    while (!ended && redlane_clock_now() < until) {
        (void)nanosleep(&pause, NULL);
        ended = all_have_ended();
    }
    return ended;
}

/* --- what is watched ------------------------------------------------------- */

/* A new reason, without what a server repeats of a secret; one that is not worth a log
 * is taken for told. */
static void
set_reason_locked(RedlaneNearCache *cache, const char *reason, bool loud)
{
    const RedlaneSettings *settings = cache->settings;
    char shown[sizeof(cache->reason)];

    (void)snprintf(shown, sizeof(shown), "%s", reason);
    shown[redlane_error_line_shown(shown, strlen(shown), settings->password,
                                   settings->password_size)] = '\0';
    if (strcmp(cache->reason, shown) != 0) {
        memcpy(cache->reason, shown, sizeof(shown));
        cache->told = !loud;
    }
}

bool
redlane_near_is_told(const RedlaneNear *near)
{
    return redlane_near_cache(near)->settings->scheme != REDLANE_SCHEME_REST;
}

/* There is no link whose word would have to be waited for. */
static void
confirm_wanted_locked(RedlaneNearCache *cache)
{
    if (!cache->confirmed) {
        (void)atomic_fetch_add(&cache->head.generation, 1);
    }
    redlane_near_prefixes_release(cache->confirmed);
    cache->confirmed = redlane_near_prefixes_hold(cache->wanted);
    cache->state = REDLANE_NEAR_CONFIRMED;
    set_word_locked(cache, REDLANE_NEVER);
}

/* What is wanted is to be confirmed; with the state locked. */
static bool
seek_confirmation_locked(RedlaneNearCache *cache)
{
    if (redlane_near_is_told(&cache->head)) {
        return redlane_near_thread_start_locked(cache);
    }
    confirm_wanted_locked(cache);
    return true;
}

bool
redlane_near_watch(RedlaneNear *near, const char *prefix, size_t size)
{
    RedlaneNearCache *cache = redlane_near_cache(near);
    RedlaneNearPrefixes *set = NULL;
    bool done = false;

    (void)pthread_mutex_lock(&cache->lock);
    if (!cache->stopping) {
        set = redlane_near_prefixes_with(cache->wanted, prefix, size);
    }
    if (set && set->count > PREFIXES_MOST && set->count > cache->wanted->count) {
        cache->crowded = true;
        set_reason_locked(cache, too_many_prefixes, true);
        redlane_near_prefixes_release(set);
        set = NULL;
    }
    if (set) {
        redlane_near_prefixes_release(cache->wanted);
        cache->wanted = set;
        done = seek_confirmation_locked(cache);
    }
    (void)pthread_mutex_unlock(&cache->lock);
    return done;
}

void
redlane_near_suspend(RedlaneNear *near)
{
    RedlaneNearCache *cache = redlane_near_cache(near);

    (void)pthread_mutex_lock(&cache->lock);
    cache->suspended = true;
    set_word_locked(cache, cache->word);
    (void)pthread_mutex_unlock(&cache->lock);
}

void
redlane_near_resume(RedlaneNear *near, bool flush)
{
    RedlaneNearCache *cache = redlane_near_cache(near);

    if (flush) {
        redlane_near_values_flush(cache, false);
    }
    (void)pthread_mutex_lock(&cache->lock);
    cache->suspended = false;
    set_word_locked(cache, cache->word);
    (void)pthread_mutex_unlock(&cache->lock);
}

bool
redlane_near_is_confirmed(const RedlaneNear *near)
{
    return redlane_clock_coarse() <
           atomic_load_explicit(&near->valid_until, memory_order_relaxed);
}

bool
redlane_near_is_same_server(RedlaneNear *near, const char *run_id)
{
    RedlaneNearCache *cache = redlane_near_cache(near);
    bool same;

    if (!redlane_near_is_told(near)) {
        return true;
    }
    (void)pthread_mutex_lock(&cache->lock);
    same = cache->run_id[0] && strcmp(cache->run_id, run_id) == 0;
    if (!same && cache->run_id[0]) {
        cache->stranger = true;
    }
    (void)pthread_mutex_unlock(&cache->lock);
    return same;
}

/* --- tickets --------------------------------------------------------------- */

RedlaneNearTicket
redlane_near_ticket(RedlaneNear *near, const char *key, size_t size)
{
    RedlaneNearCache *cache = redlane_near_cache(near);
    RedlaneNearTicket ticket = {0};

    (void)pthread_mutex_lock(&cache->lock);
    if (redlane_near_prefixes_cover(cache->confirmed, key, size)) {
        ticket.generation = atomic_load(&near->generation);
    }
    if (cache->wanted && !cache->stopping &&
        !(redlane_near_is_told(near) ? is_running(cache) : cache->confirmed != NULL)) {
        (void)seek_confirmation_locked(cache); /* the next miss tries again */
    }
    (void)pthread_mutex_unlock(&cache->lock);
    redlane_near_values_stamp(cache, &ticket, key, size);
    ticket.sent_at = redlane_clock_now();
    return ticket;
}

bool
redlane_near_wait_nogil(RedlaneNear *near, const RedlaneNearTicket *ticket,
                        int64_t deadline)
{
    RedlaneNearCache *cache = redlane_near_cache(near);
    bool holds;

    (void)pthread_mutex_lock(&cache->lock);
    (void)atomic_fetch_add(&cache->waiters, 1);
    while ((holds = redlane_near_ticket_holds(near, ticket)) &&
           redlane_clock_now() < deadline) {
        redlane_platform_cond_wait(&cache->changed, &cache->lock, deadline);
    }
    (void)atomic_fetch_sub(&cache->waiters, 1);
    (void)pthread_mutex_unlock(&cache->lock);
    return !holds;
}

/* Whoever waits has been counted before it looked at its epoch, under the shard's lock
 * as the epoch moved: it has seen the new one, or is seen here. */
void
redlane_near_wake_waiters(RedlaneNearCache *cache)
{
    if (atomic_load(&cache->waiters) > 0) {
        (void)pthread_mutex_lock(&cache->lock);
        (void)pthread_cond_broadcast(&cache->changed);
        (void)pthread_mutex_unlock(&cache->lock);
    }
}

void
redlane_near_kill_all(RedlaneNear *near)
{
    redlane_near_values_flush(redlane_near_cache(near), true);
}

/* --- what the thread says -------------------------------------------------- */

void
redlane_near_unconfirm(RedlaneNearCache *cache, RedlaneNearState state,
                       const char *reason)
{
    bool lost;

    (void)pthread_mutex_lock(&cache->lock);
    lost = cache->confirmed != NULL;
    if (cache->state != REDLANE_NEAR_CLOSED) {
        cache->state = state;
    }
    forget_link_locked(cache);
    set_reason_locked(cache, reason, state == REDLANE_NEAR_REFUSED);
    (void)pthread_mutex_unlock(&cache->lock);
    if (lost) {
        redlane_near_values_flush(cache, false);
    }
}

void
redlane_near_confirm(RedlaneNearCache *cache, RedlaneNearPrefixes *prefixes,
                     const char *run_id, bool resp3, int64_t valid_until)
{
    bool follows;

    (void)pthread_mutex_lock(&cache->lock);
    follows = cache->confirmed && strcmp(cache->run_id, run_id) == 0;
    if (!cache->stopping) {
        if (!follows) {
            (void)atomic_fetch_add(&cache->head.generation, 1);
            cache->stranger = false;
            (void)snprintf(cache->run_id, sizeof(cache->run_id), "%s", run_id);
        }
        redlane_near_prefixes_release(cache->confirmed);
        cache->confirmed = redlane_near_prefixes_hold(prefixes);
        cache->state = REDLANE_NEAR_CONFIRMED;
        cache->resp3 = resp3;
        set_reason_locked(cache, cache->crowded ? too_many_prefixes : "", true);
        cache->links++;
        set_word_locked(cache, valid_until);
    }
    (void)pthread_mutex_unlock(&cache->lock);
}

void
redlane_near_extend(RedlaneNearCache *cache, int64_t valid_until)
{
    (void)pthread_mutex_lock(&cache->lock);
    if (cache->state == REDLANE_NEAR_CONFIRMED) {
        set_word_locked(cache, valid_until);
    }
    (void)pthread_mutex_unlock(&cache->lock);
}

bool
redlane_near_meets_strangers(RedlaneNearCache *cache)
{
    bool stranger;

    (void)pthread_mutex_lock(&cache->lock);
    stranger = cache->stranger;
    cache->stranger = false;
    (void)pthread_mutex_unlock(&cache->lock);
    return stranger;
}

void
redlane_near_tell(RedlaneNearCache *cache, const char *reason)
{
    (void)pthread_mutex_lock(&cache->lock);
    set_reason_locked(cache, reason, true);
    (void)pthread_mutex_unlock(&cache->lock);
}

/* --- what others ask ------------------------------------------------------- */

bool
redlane_near_take_notice(RedlaneNear *near, char *text, size_t size)
{
    RedlaneNearCache *cache = redlane_near_cache(near);
    bool fresh;

    (void)pthread_mutex_lock(&cache->lock);
    fresh = cache->reason[0] && !cache->told;
    if (fresh) {
        (void)snprintf(text, size, "%s", cache->reason);
        cache->told = true;
    }
    (void)pthread_mutex_unlock(&cache->lock);
    return fresh;
}

void
redlane_near_stats(RedlaneNear *near, RedlaneNearStats *stats)
{
    RedlaneNearCache *cache = redlane_near_cache(near);

    *stats = (RedlaneNearStats){0};
    (void)pthread_mutex_lock(&cache->lock);
    stats->state = cache->state;
    stats->resp3 = cache->resp3;
    (void)snprintf(stats->reason, sizeof(stats->reason), "%s", cache->reason);
    (void)snprintf(stats->run_id, sizeof(stats->run_id), "%s", cache->run_id);
    stats->prefixes = cache->wanted ? cache->wanted->count : 0;
    stats->links = cache->links;
    (void)pthread_mutex_unlock(&cache->lock);
    stats->invalidations =
        atomic_load_explicit(&cache->invalidations, memory_order_relaxed);
    stats->flushes = atomic_load_explicit(&cache->flushes, memory_order_relaxed);
    redlane_near_values_stats(cache, stats);
}
