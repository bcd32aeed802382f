/* The invalidation thread of a near cache: one, so that a server that hangs delays no
 * other's messages. It opens the link, listens to it, opens another when it is lost
 * (with backoff) or when more prefixes are wanted: then the new one is confirmed before
 * the old one closes, which is listened to meanwhile.
 *
 * Plain C, all signals blocked, never the GIL, woken by a descriptor. No lock is held
 * while it waits. */
#include <poll.h>
#include <string.h>

#include "core/backoff.h"
#include "core/fault.h"
#include "core/platform.h"
#include "near/link.h"

#define RETRY_FIRST (20 * REDLANE_NS_PER_MS)
#define RETRY_MOST REDLANE_NS_PER_S
/* What the server refuses, it refuses until its owner changes something. */
#define RETRY_REFUSED (60 * REDLANE_NS_PER_S)

typedef struct {
    RedlaneNearCache *cache; /* held */
    RedlaneNearLink *link;   /* or NULL */
    RedlaneBackoff backoff;
    int64_t retry_at;
} Thread;

static bool
is_stopping(RedlaneNearCache *cache)
{
    bool stopping;

    (void)pthread_mutex_lock(&cache->lock);
    stopping = cache->stopping;
    (void)pthread_mutex_unlock(&cache->lock);
    return stopping;
}

/* Held; NULL when the thread shall end. */
static RedlaneNearPrefixes *
wanted_prefixes(RedlaneNearCache *cache)
{
    RedlaneNearPrefixes *wanted = NULL;

    (void)pthread_mutex_lock(&cache->lock);
    if (!cache->stopping) {
        wanted = redlane_near_prefixes_hold(cache->wanted);
    }
    (void)pthread_mutex_unlock(&cache->lock);
    return wanted;
}

/* True where the server has said no, and not just "not now". */
static bool
is_refusal(const RedlaneFault *fault)
{
    return fault->kind == REDLANE_FAULT_REPLY && !redlane_fault_is_crowded(fault) &&
           redlane_fault_of_reply(fault->text, strlen(fault->text)) ==
               REDLANE_FAULT_NONE;
}

static void
put_off(Thread *thread, const RedlaneFault *fault)
{
    thread->retry_at =
        redlane_clock_now() +
        (is_refusal(fault) ? RETRY_REFUSED : redlane_backoff_next(&thread->backoff));
}

/* There is no link, or none any more. */
static void
lose_link(Thread *thread, const RedlaneFault *fault)
{
    redlane_near_unconfirm(thread->cache,
                           is_refusal(fault) ? REDLANE_NEAR_REFUSED
                                             : REDLANE_NEAR_CONNECTING,
                           fault->text);
    redlane_near_link_close(thread->link);
    thread->link = NULL;
    put_off(thread, fault);
}

/* 1 when there may be more to do at once, 0, -1: the link was lost. */
static int
serve(Thread *thread)
{
    RedlaneFault fault;
    bool pinged = thread->link->pinged;
    int result = redlane_near_link_serve_nogil(thread->link, &fault);

    if (result < 0) {
        lose_link(thread, &fault);
    }
    else if (pinged && !thread->link->pinged) {
        redlane_backoff_reset(&thread->backoff); /* a link that has proved itself */
    }
    return result;
}

/* RedlaneWait.interrupted: while a link is being opened, the one before it goes on. */
static bool
serve_meanwhile(void *context)
{
    Thread *thread = context;

    if (thread->link) {
        (void)serve(thread);
    }
    return is_stopping(thread->cache);
}

/* What the server said on the old link before the new one tracked is still to be read:
 * if it does not come, all is flushed. */
static void
retire_link(Thread *thread)
{
    RedlaneWait wait = {.deadline = redlane_clock_now() + thread->cache->ping_interval};
    RedlaneFault fault;

    if (thread->link &&
        redlane_near_link_drain_nogil(thread->link, &wait, &fault) < 0) {
        lose_link(thread, &fault);
    }
}

static void
open_link(Thread *thread, RedlaneNearPrefixes *prefixes)
{
    RedlaneNearCache *cache = thread->cache;
    RedlaneWait wait = {
        .deadline = redlane_clock_now() + cache->settings->connect_timeout,
        .interrupted = serve_meanwhile,
        .context = thread,
    };
    RedlaneFault fault;
    RedlaneNearLink *link =
        redlane_near_link_open_nogil(cache, prefixes, &wait, &fault);

    if (link) {
        retire_link(thread);
        redlane_near_confirm(cache, link->prefixes, link->run_id, link->resp3,
                             redlane_near_link_valid_until(link));
        redlane_near_link_close(thread->link);
        thread->link = link;
    }
    else if (thread->link) {
        put_off(thread, &fault);
    }
    else if (!is_stopping(cache)) {
        lose_link(thread, &fault);
    }
}

/* Until there is something to do, or `until`. */
static void
sleep_until(Thread *thread, int64_t until)
{
    struct pollfd entries[2] = {{.fd = thread->cache->wake[0], .events = POLLIN},
                                {.fd = -1}};
    int64_t left = until - redlane_clock_now();

    if (thread->link) {
        const RedlaneConnection *connection = thread->link->connection;

        entries[1].fd = connection->transport.fd;
        entries[1].events = connection->transport.wants_read;
        if (connection->sent < connection->out.size) {
            entries[1].events |= connection->transport.wants_write;
        }
    }
    (void)poll(entries, 2, left <= 0 ? 0 : (int)(left / REDLANE_NS_PER_MS) + 1);
    redlane_platform_wake_drain(thread->cache->wake);
}

static void
turn(Thread *thread, RedlaneNearPrefixes *wanted)
{
    int64_t due = thread->retry_at;

    if ((!thread->link || thread->link->prefixes != wanted) &&
        redlane_clock_now() >= thread->retry_at) {
        open_link(thread, wanted);
        return;
    }
    if (thread->link) {
        if (serve(thread) != 0) {
            return;
        }
        if (thread->link->prefixes == wanted ||
            redlane_near_link_due(thread->link) < due) {
            due = redlane_near_link_due(thread->link);
        }
    }
    sleep_until(thread, due);
}

static void *
run_thread(void *argument)
{
    Thread thread = {.cache = argument};
    RedlaneNearCache *cache = argument;
    RedlaneNearPrefixes *wanted;

    redlane_backoff_init(&thread.backoff, RETRY_FIRST, RETRY_MOST,
                         (uint64_t)redlane_clock_now());
    while ((wanted = wanted_prefixes(cache))) {
        turn(&thread, wanted);
        redlane_near_prefixes_release(wanted);
    }
    redlane_near_unconfirm(cache, REDLANE_NEAR_IDLE, "");
    redlane_near_link_close(thread.link);
    (void)pthread_mutex_lock(&cache->lock);
    atomic_store(&cache->running, false);
    (void)pthread_mutex_unlock(&cache->lock);
    redlane_near_release(&cache->head);
    return NULL;
}

bool
redlane_near_thread_start_locked(RedlaneNearCache *cache)
{
    if (atomic_load(&cache->running)) {
        redlane_near_thread_wake_locked(cache);
        return true;
    }
    if (cache->wake[0] < 0 && redlane_platform_wake_open(cache->wake) < 0) {
        return false;
    }
    (void)redlane_near_hold(&cache->head);
    atomic_store(&cache->running, true);
    if (redlane_platform_thread(run_thread, cache) != 0) {
        atomic_store(&cache->running, false);
        (void)atomic_fetch_sub(&cache->references, 1); /* the caller has one */
        return false;
    }
    if (cache->state == REDLANE_NEAR_IDLE) {
        cache->state = REDLANE_NEAR_CONNECTING;
    }
    return true;
}

void
redlane_near_thread_wake_locked(RedlaneNearCache *cache)
{
    redlane_platform_wake_signal(cache->wake);
}
