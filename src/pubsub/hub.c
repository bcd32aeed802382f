/* Life of hubs: feeds that come and go, what is to be logged, and the registry of all
 * of them, for fork, for the exit, and for what is published here. */
#include "pubsub/hub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/error_line.h"
#include "core/fork.h"
#include "core/platform.h"
#include "pubsub/hub_internal.h"

/* How often the exit looks whether the threads have ended. */
#define STOP_LOOK (2 * REDLANE_NS_PER_MS)

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t registry_once = PTHREAD_ONCE_INIT;
static int registry_error;
static RedlaneHub *registry; /* by `next` */
static atomic_size_t registered;

/* --- fork ----------------------------------------------------------------- */

static void
fork_prepare(void *context)
{
    (void)context;
    (void)pthread_mutex_lock(&registry_lock);
    for (RedlaneHub *hub = registry; hub; hub = hub->next) {
        (void)pthread_mutex_lock(&hub->lock);
        for (RedlaneFeed *feed = hub->feeds; feed; feed = feed->next) {
            redlane_lock(&feed->lock);
        }
    }
}

static void
fork_parent(void *context)
{
    (void)context;
    for (RedlaneHub *hub = registry; hub; hub = hub->next) {
        for (RedlaneFeed *feed = hub->feeds; feed; feed = feed->next) {
            redlane_unlock(&feed->lock);
        }
        (void)pthread_mutex_unlock(&hub->lock);
    }
    (void)pthread_mutex_unlock(&registry_lock);
}

/* The thread stayed in the parent, with its connection (which the transports' own hook
 * has closed here) and its reference; and so do the subscriptions. */
static void
fork_child(void *context)
{
    (void)context;
    redlane_bell_begin_era();
    (void)pthread_mutex_init(&registry_lock, NULL);
    for (RedlaneHub *hub = registry; hub; hub = hub->next) {
        (void)pthread_mutex_init(&hub->lock, NULL);
        redlane_platform_wake_close(hub->wake);
        if (atomic_load(&hub->running)) {
            atomic_store(&hub->running, false);
            (void)atomic_fetch_sub(&hub->references, 1);
        }
        for (RedlaneFeed *feed = hub->feeds; feed; feed = feed->next) {
            redlane_feed_orphan(feed);
            redlane_topics_leave(hub, feed);
        }
        redlane_topics_lose(hub, NULL, false);
    }
}

static void
watch_forks(void)
{
    static RedlaneForkHook hook = {
        .rank = REDLANE_FORK_PUBSUB,
        .prepare = fork_prepare,
        .parent = fork_parent,
        .child = fork_child,
    };

    registry_error = redlane_fork_register(&hook);
}

/* --- life --- */

RedlaneHub *
redlane_hub_new(RedlaneSettings *settings, int64_t ping_interval)
{
    RedlaneHub *hub;

    (void)pthread_once(&registry_once, watch_forks);
    hub = registry_error ? NULL : calloc(1, sizeof(*hub));
    if (!hub) {
        return NULL;
    }
    if (pthread_mutex_init(&hub->lock, NULL) != 0) {
        free(hub);
        return NULL;
    }
    atomic_init(&hub->references, 1);
    hub->told = true;
    hub->wake[0] = hub->wake[1] = -1;
    hub->ping_interval = ping_interval;
    hub->is_local = settings->scheme == REDLANE_SCHEME_MEMORY;
    hub->settings = redlane_settings_hold(settings);
    redlane_topics_init(hub);
    (void)pthread_mutex_lock(&registry_lock);
    hub->next = registry;
    registry = hub;
    (void)atomic_fetch_add(&registered, 1);
    (void)pthread_mutex_unlock(&registry_lock);
    return hub;
}

RedlaneHub *
redlane_hub_hold(RedlaneHub *hub)
{
    (void)atomic_fetch_add_explicit(&hub->references, 1, memory_order_relaxed);
    return hub;
}

void
redlane_hub_release(RedlaneHub *hub)
{
    if (!hub ||
        atomic_fetch_sub_explicit(&hub->references, 1, memory_order_acq_rel) != 1) {
        return;
    }
    (void)pthread_mutex_lock(&registry_lock);
    for (RedlaneHub **place = &registry; *place; place = &(*place)->next) {
        if (*place == hub) {
            *place = hub->next;
            (void)atomic_fetch_sub(&registered, 1);
            break;
        }
    }
    (void)pthread_mutex_unlock(&registry_lock);
    redlane_topics_free(hub);
    redlane_settings_release(hub->settings);
    redlane_platform_wake_close(hub->wake);
    (void)pthread_mutex_destroy(&hub->lock);
    free(hub);
}

static void
shut_locked(RedlaneHub *hub)
{
    hub->stopping = true;
    for (RedlaneFeed *feed = hub->feeds; feed; feed = feed->next) {
        redlane_feed_set_state(feed, REDLANE_FEED_CLOSED, NULL);
    }
    redlane_platform_wake_signal(hub->wake);
}

void
redlane_hub_shut(const RedlaneSettings *settings)
{
    (void)pthread_mutex_lock(&registry_lock);
    for (RedlaneHub *hub = registry; hub; hub = hub->next) {
        if (hub->settings == settings) {
            (void)pthread_mutex_lock(&hub->lock);
            shut_locked(hub);
            (void)pthread_mutex_unlock(&hub->lock);
        }
    }
    (void)pthread_mutex_unlock(&registry_lock);
}

RedlaneSettings *
redlane_hub_settings(RedlaneHub *hub)
{
    return hub->settings;
}

void
redlane_hub_wake(RedlaneHub *hub)
{
    (void)pthread_mutex_lock(&hub->lock);
    redlane_platform_wake_signal(hub->wake);
    (void)pthread_mutex_unlock(&hub->lock);
}

/* Tells every thread to end; true when none is left. */
static bool
all_have_ended(void)
{
    bool ended = true;

    (void)pthread_mutex_lock(&registry_lock);
    for (RedlaneHub *hub = registry; hub; hub = hub->next) {
        (void)pthread_mutex_lock(&hub->lock);
        if (!hub->stopping) {
            shut_locked(hub);
        }
        ended = ended && !atomic_load(&hub->running);
        (void)pthread_mutex_unlock(&hub->lock);
    }
    (void)pthread_mutex_unlock(&registry_lock);
    return ended;
}

bool
redlane_hub_stop_all(int64_t limit)
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

/* --- feeds --- */

/* Enters it into the hub. 0, or -1 with a fault. */
static int
join_locked(RedlaneHub *hub, RedlaneFeed *feed, const RedlaneSubscribe *what,
            RedlaneFault *fault)
{
    if (hub->stopping) {
        redlane_fault_set(fault, REDLANE_FAULT_CLOSED, "closed");
        return -1;
    }
    for (size_t i = 0; i < what->count; i++) {
        if (!redlane_topic_join(hub, feed, what->names[i], i >= what->channels)) {
            redlane_fault_set(fault, REDLANE_FAULT_MEMORY, "out of memory");
            return -1;
        }
    }
    feed->joined = true;
    feed->next = hub->feeds;
    hub->feeds = feed;
    if (feed->unconfirmed == 0) {
        redlane_feed_set_state(feed, REDLANE_FEED_LIVE, NULL);
    }
    if (!hub->is_local && !redlane_hub_thread_start_locked(hub)) {
        redlane_fault_set(fault, REDLANE_FAULT_MEMORY, "no thread can be started");
        return -1;
    }
    return 0;
}

static void
leave_locked(RedlaneHub *hub, RedlaneFeed *feed)
{
    redlane_topics_leave(hub, feed);
    if (feed->joined) {
        RedlaneFeed **place = &hub->feeds;

        while (*place != feed) {
            place = &(*place)->next;
        }
        *place = feed->next;
        feed->joined = false;
    }
    redlane_platform_wake_signal(hub->wake);
}

RedlaneFeed *
redlane_hub_subscribe(RedlaneHub *hub, const RedlaneSubscribe *what,
                      RedlaneFault *fault)
{
    RedlaneFeed *feed =
        redlane_feed_new(hub, what->max_count, what->max_bytes, what->waits);
    int result;

    if (feed) {
        feed->topics = calloc(what->count ? what->count : 1, sizeof(RedlaneTopic *));
    }
    if (!feed || !feed->topics) {
        redlane_feed_release(feed);
        redlane_fault_set(fault, REDLANE_FAULT_MEMORY, "out of memory");
        return NULL;
    }
    (void)pthread_mutex_lock(&hub->lock);
    result = join_locked(hub, feed, what, fault);
    if (result < 0) {
        leave_locked(hub, feed);
    }
    (void)pthread_mutex_unlock(&hub->lock);
    if (result < 0) {
        redlane_feed_release(feed);
        return NULL;
    }
    return feed;
}

void
redlane_hub_leave(RedlaneFeed *feed)
{
    RedlaneHub *hub = feed->hub;

    (void)pthread_mutex_lock(&hub->lock);
    leave_locked(hub, feed);
    (void)pthread_mutex_unlock(&hub->lock);
    redlane_feed_set_state(feed, REDLANE_FEED_CLOSED, NULL);
}

void
redlane_hub_owe_gap(RedlaneFeed *feed)
{
    RedlaneHub *hub = feed->hub;

    (void)pthread_mutex_lock(&hub->lock);
    if (feed->unconfirmed && !feed->owes_gap) {
        feed->owes_gap = true;
        feed->lost_at = redlane_clock_now();
    }
    (void)pthread_mutex_unlock(&hub->lock);
}

/* --- what is published here --- */

static bool
same_text(const char *left, const char *right)
{
    return left && right ? strcmp(left, right) == 0 : left == right;
}

/* Channels know no database. */
static bool
is_of_server(const RedlaneHub *hub, const RedlaneSettings *settings)
{
    const RedlaneSettings *own = hub->settings;

    return own == settings ||
           (!hub->is_local && own->scheme == settings->scheme &&
            own->port == settings->port && same_text(own->host, settings->host) &&
            same_text(own->path, settings->path));
}

size_t
redlane_hub_publish(const RedlaneSettings *settings, RedlaneArg channel,
                    RedlaneArg payload)
{
    size_t count = 0;

    if (atomic_load_explicit(&registered, memory_order_acquire) == 0) {
        return 0;
    }
    (void)pthread_mutex_lock(&registry_lock);
    for (RedlaneHub *hub = registry; hub; hub = hub->next) {
        if (is_of_server(hub, settings)) {
            (void)pthread_mutex_lock(&hub->lock);
            count += redlane_topics_publish(hub, channel, payload);
            (void)pthread_mutex_unlock(&hub->lock);
        }
    }
    (void)pthread_mutex_unlock(&registry_lock);
    return count;
}

/* --- what is to be seen --- */

static void
add_stats_locked(const RedlaneHub *hub, RedlaneHubStats *stats)
{
    if (hub->feeds && !hub->is_local && !hub->connected) {
        stats->connected = false;
    }
    stats->channels += redlane_topics_count(hub, false);
    stats->patterns += redlane_topics_count(hub, true);
    for (RedlaneFeed *feed = hub->feeds; feed; feed = feed->next) {
        RedlaneFeedStats one;

        redlane_feed_stats(feed, &one);
        stats->feeds++;
        stats->count += one.count;
        stats->bytes += one.bytes;
        stats->dropped += one.dropped;
        stats->gaps += one.gaps;
    }
}

void
redlane_hub_stats(const RedlaneSettings *settings, RedlaneHubStats *stats)
{
    *stats = (RedlaneHubStats){.connected = true};
    (void)pthread_mutex_lock(&registry_lock);
    for (RedlaneHub *hub = registry; hub; hub = hub->next) {
        if (hub->settings == settings) {
            (void)pthread_mutex_lock(&hub->lock);
            add_stats_locked(hub, stats);
            (void)pthread_mutex_unlock(&hub->lock);
        }
    }
    (void)pthread_mutex_unlock(&registry_lock);
    stats->connected = stats->connected && stats->feeds > 0;
}

/* --- what is to be logged --- */

void
redlane_hub_set_reason_locked(RedlaneHub *hub, const char *reason)
{
    const RedlaneSettings *settings = hub->settings;
    char shown[sizeof(hub->reason)];

    (void)snprintf(shown, sizeof(shown), "%s", redlane_fault_shown(reason));
    shown[redlane_error_line_shown(shown, strlen(shown), settings->password,
                                   settings->password_size)] = '\0';
    if (strcmp(hub->reason, shown) != 0) {
        memcpy(hub->reason, shown, sizeof(shown));
        hub->told = !shown[0] && !hub->was_told;
        for (RedlaneFeed *feed = hub->told ? NULL : hub->feeds; feed;
             feed = feed->next) {
            redlane_feed_rouse(feed);
        }
    }
}

bool
redlane_hub_take_notice(RedlaneHub *hub, char *text, size_t size)
{
    bool news;

    (void)pthread_mutex_lock(&hub->lock);
    news = !hub->told;
    if (news) {
        (void)snprintf(text, size, "%s", hub->reason);
        hub->told = true;
        hub->was_told = hub->reason[0] != '\0';
    }
    (void)pthread_mutex_unlock(&hub->lock);
    return news;
}
