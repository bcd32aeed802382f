/* The thread of a hub: opens the connection, serves it, opens another when it is lost
 * (with backoff), and ends when nobody is subscribed any more.
 *
 * Plain C, all signals blocked, never the GIL, woken by a descriptor. No lock is held
 * while it waits. */
#include <poll.h>
#include <string.h>

#include "core/backoff.h"
#include "core/platform.h"
#include "pubsub/link.h"

#define RETRY_FIRST (20 * REDLANE_NS_PER_MS)
#define RETRY_MOST REDLANE_NS_PER_S
/* What the server refuses, it refuses until its owner changes something. */
#define RETRY_REFUSED (10 * REDLANE_NS_PER_S)
/* A connection that lasted so long has proved itself. One that is confirmed has not:
 * the server may hang up on what it has to say next. */
#define LASTS_AT_LEAST RETRY_MOST

typedef struct {
    RedlaneHub *hub;      /* held */
    RedlaneHubLink *link; /* or NULL */
    RedlaneBackoff backoff;
    int64_t retry_at;
    int64_t opened_at; /* the link, or the one before it */
    bool failed;       /* since the connection was well last */
    uint64_t held_off; /* times in a row that the server was over its quota */
} Thread;

static bool
is_wanted_locked(const RedlaneHub *hub)
{
    return !hub->stopping && hub->feeds;
}

/* RedlaneWait.interrupted */
static bool
is_unwanted(void *context)
{
    RedlaneHub *hub = context;
    bool wanted;

    (void)pthread_mutex_lock(&hub->lock);
    wanted = is_wanted_locked(hub);
    (void)pthread_mutex_unlock(&hub->lock);
    return !wanted;
}

static bool
is_refusal(const RedlaneFault *fault)
{
    return fault->kind == REDLANE_FAULT_REPLY && !redlane_fault_is_crowded(fault) &&
           redlane_fault_of_reply(fault->text, strlen(fault->text)) ==
               REDLANE_FAULT_NONE;
}

/* Until the next attempt, in ns. */
static int64_t
wait_after(Thread *thread, const RedlaneFault *fault, bool refused)
{
    RedlaneFault told;

    if (refused) {
        return RETRY_REFUSED;
    }
    if (!redlane_fault_of_relay(fault->text, strlen(fault->text), &told) ||
        !told.retry_after) {
        return redlane_backoff_next(&thread->backoff);
    }
    if (told.retry_after < 0) {
        return redlane_backoff_hold(thread->held_off++);
    }
    /* Not longer, as the server may ask: whoever subscribes meanwhile waits too. */
    return told.retry_after * REDLANE_NS_PER_S < REDLANE_HOLD_MOST
               ? told.retry_after * REDLANE_NS_PER_S
               : REDLANE_HOLD_MOST;
}

/* There is no connection, or none any more. */
static void
lose_link(Thread *thread, const RedlaneFault *fault)
{
    RedlaneHub *hub = thread->hub;
    /* An error line on an open connection may be its last words, whatever it says. */
    bool was_open = thread->link != NULL, refused = !was_open && is_refusal(fault);

    (void)pthread_mutex_lock(&hub->lock);
    redlane_hub_set_reason_locked(hub, fault->text);
    redlane_topics_lose(hub, fault, refused);
    (void)pthread_mutex_unlock(&hub->lock);
    redlane_hub_link_close(thread->link);
    thread->link = NULL;
    thread->failed = true;
    if (was_open && redlane_clock_now() - thread->opened_at >= LASTS_AT_LEAST) {
        redlane_backoff_reset(&thread->backoff);
    }
    thread->retry_at = redlane_clock_now() + wait_after(thread, fault, refused);
}

static void
open_link(Thread *thread)
{
    RedlaneHub *hub = thread->hub;
    RedlaneWait wait = {
        .deadline = redlane_clock_now() + hub->settings->connect_timeout,
        .interrupted = is_unwanted,
        .context = hub,
    };
    RedlaneFault fault;

    thread->link = redlane_hub_link_open_nogil(hub, &wait, &fault);
    if (thread->link) {
        thread->opened_at = redlane_clock_now();
        (void)pthread_mutex_lock(&hub->lock);
        redlane_topics_list_all(hub);
        (void)pthread_mutex_unlock(&hub->lock);
    }
    else if (!is_unwanted(hub)) {
        lose_link(thread, &fault);
    }
}

/* Until there is something to do, or `until`. */
static void
sleep_until(Thread *thread, int64_t until)
{
    struct pollfd entries[2] = {{.fd = thread->hub->wake[0], .events = POLLIN},
                                {.fd = -1}};
    int64_t left = until - redlane_clock_now();
    int timeout = -1;

    if (thread->link) {
        const RedlaneConnection *connection = thread->link->connection;

        if (!thread->link->starved) {
            entries[1].events = connection->transport.wants_read;
        }
        if (connection->sent < connection->out.size) {
            entries[1].events |= connection->transport.wants_write;
        }
        entries[1].fd = entries[1].events ? connection->transport.fd : -1;
    }
    if (until != REDLANE_NEVER) {
        timeout = left <= 0 ? 0 : (int)(left / REDLANE_NS_PER_MS) + 1;
    }
    (void)poll(entries, 2, timeout);
    redlane_platform_wake_drain(thread->hub->wake);
}

/* Nothing is on its way any more: all is confirmed. */
static void
note_health(Thread *thread)
{
    RedlaneHub *hub = thread->hub;

    if (thread->link->count == 0 && thread->failed) {
        thread->failed = false;
        thread->held_off = 0;
        (void)pthread_mutex_lock(&hub->lock);
        redlane_hub_set_reason_locked(hub, "");
        (void)pthread_mutex_unlock(&hub->lock);
    }
}

static void
turn(Thread *thread)
{
    RedlaneFault fault;
    int more;

    if (!thread->link) {
        if (redlane_clock_now() >= thread->retry_at) {
            open_link(thread);
        }
        else {
            sleep_until(thread, thread->retry_at);
        }
        return;
    }
    more = redlane_hub_link_serve_nogil(thread->link, &fault);
    if (more < 0) {
        lose_link(thread, &fault);
        return;
    }
    note_health(thread);
    if (!more) {
        sleep_until(thread, redlane_hub_link_due(thread->link));
    }
}

/* Nobody is subscribed, or it is the end: closes the connection, and ends unless there
 * is somebody again. From the moment on in which that is settled nobody takes what this
 * connection had subscribed to for his own; whoever sees that the thread has ended sees
 * no trace of it. */
static bool
retires(Thread *thread)
{
    RedlaneHub *hub = thread->hub;
    bool over;

    (void)pthread_mutex_lock(&hub->lock);
    over = !is_wanted_locked(hub);
    if (over) {
        redlane_topics_lose(hub, NULL, false);
    }
    (void)pthread_mutex_unlock(&hub->lock);
    if (!over) {
        return false;
    }
    redlane_hub_link_close(thread->link);
    thread->link = NULL;
    (void)pthread_mutex_lock(&hub->lock);
    over = !is_wanted_locked(hub);
    if (over) {
        redlane_hub_set_reason_locked(hub, "");
        atomic_store(&hub->running, false);
    }
    (void)pthread_mutex_unlock(&hub->lock);
    return over;
}

static void *
run_thread(void *argument)
{
    Thread thread = {.hub = argument};

    redlane_backoff_init(&thread.backoff, RETRY_FIRST, RETRY_MOST,
                         (uint64_t)redlane_clock_now());
    while (!is_unwanted(thread.hub) || !retires(&thread)) {
        turn(&thread);
    }
    redlane_hub_release(thread.hub);
    return NULL;
}

bool
redlane_hub_thread_start_locked(RedlaneHub *hub)
{
    if (atomic_load(&hub->running)) {
        redlane_platform_wake_signal(hub->wake);
        return true;
    }
    if (hub->wake[0] < 0 && redlane_platform_wake_open(hub->wake) < 0) {
        return false;
    }
    (void)redlane_hub_hold(hub);
    atomic_store(&hub->running, true);
    if (redlane_platform_thread(run_thread, hub) != 0) {
        atomic_store(&hub->running, false);
        (void)atomic_fetch_sub(&hub->references, 1); /* the caller has one */
        return false;
    }
    return true;
}
