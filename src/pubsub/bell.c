#include "pubsub/bell.h"

#include <stdlib.h>

#include "core/platform.h"
#include "pubsub/feed.h"

static atomic_uint process_era;

RedlaneBell *
redlane_bell_new(void)
{
    RedlaneBell *bell = calloc(1, sizeof(*bell));

    if (bell) {
        atomic_init(&bell->references, 1);
        redlane_lock_init(&bell->lock);
        bell->era = atomic_load(&process_era);
        if (redlane_platform_wake_open(bell->wake) < 0) {
            free(bell);
            bell = NULL;
        }
    }
    return bell;
}

RedlaneBell *
redlane_bell_hold(RedlaneBell *bell)
{
    (void)atomic_fetch_add_explicit(&bell->references, 1, memory_order_relaxed);
    return bell;
}

void
redlane_bell_release(RedlaneBell *bell)
{
    if (bell &&
        atomic_fetch_sub_explicit(&bell->references, 1, memory_order_acq_rel) == 1) {
        redlane_platform_wake_close(bell->wake);
        free(bell);
    }
}

bool
redlane_bell_list(RedlaneBell *bell, RedlaneFeed *feed)
{
    bool first = false;

    redlane_lock(&bell->lock);
    if (!feed->is_ready) {
        feed->is_ready = true;
        feed->next_ready = NULL;
        first = !bell->ready;
        if (first) {
            bell->ready = feed;
        }
        else {
            bell->last->next_ready = feed;
        }
        bell->last = feed;
    }
    redlane_unlock(&bell->lock);
    return first;
}

RedlaneFeed *
redlane_bell_take(RedlaneBell *bell)
{
    RedlaneFeed *feed;

    redlane_lock(&bell->lock);
    feed = bell->ready;
    if (feed) {
        bell->ready = feed->next_ready;
        feed->is_ready = false;
    }
    redlane_unlock(&bell->lock);
    return feed;
}

void
redlane_bell_forget(RedlaneBell *bell, RedlaneFeed *feed)
{
    RedlaneFeed *before = NULL;

    redlane_lock(&bell->lock);
    if (feed->is_ready) {
        RedlaneFeed **place = &bell->ready;

        while (*place != feed) {
            before = *place;
            place = &before->next_ready;
        }
        *place = feed->next_ready;
        if (bell->last == feed) {
            bell->last = before;
        }
        feed->is_ready = false;
    }
    redlane_unlock(&bell->lock);
}

bool
redlane_bell_is_own(const RedlaneBell *bell)
{
    return bell->era == atomic_load(&process_era);
}

void
redlane_bell_orphan(RedlaneBell *bell)
{
    redlane_lock_init(&bell->lock);
    redlane_platform_wake_close(bell->wake);
}

void
redlane_bell_begin_era(void)
{
    (void)atomic_fetch_add(&process_era, 1);
}
