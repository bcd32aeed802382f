/* The guard's probes: the question, then the journal, on one connection. Plain C; the
 * lock is given up around each wait. */
#include <string.h>

#include "core/clock.h"
#include "store/guard_internal.h"
#include "store/replay.h"

/* The breaker whose probe comes next; writes wait for the link. */
static RedlaneBreaker *
breaker_to_probe_locked(RedlaneGuard *guard)
{
    return redlane_breaker_state(&guard->breaker) == REDLANE_BREAKER_CLOSED
               ? &guard->writes
               : &guard->breaker;
}

int64_t
redlane_guard_probe_due(RedlaneGuard *guard)
{
    int64_t due;

    pthread_mutex_lock(&guard->lock);
    due = guard->breaker.probing || guard->writes.probing
              ? REDLANE_NEVER
              : redlane_breaker_probe_due(breaker_to_probe_locked(guard));
    pthread_mutex_unlock(&guard->lock);
    return due;
}

/* Asks the question of the breaker that is probed. 0: well, 1: writes are refused, -1.
 */
static int
ask_nogil(RedlaneGuard *guard, RedlaneConnection *connection, bool writes,
          RedlaneFault *fault)
{
    const RedlaneWait wait = {.deadline =
                                  redlane_clock_now() + guard->settings->timeout};
    char text[REDLANE_PROBE_KEY_MAX];
    RedlaneArg key = {text, 0};

    if (redlane_connection_open_nogil(connection, guard->settings, &wait, fault) < 0) {
        return -1;
    }
    if (!writes) {
        return redlane_connection_ping_nogil(connection, &wait, fault);
    }
    pthread_mutex_lock(&guard->lock);
    key.size = guard->probe_key_size;
    memcpy(text, guard->probe_key, key.size);
    pthread_mutex_unlock(&guard->lock);
    return redlane_replay_probe_nogil(connection, key, &wait, fault);
}

/* Ends the probe of the link: it closes with an empty journal, or when only writes
 * are refused. A suspect server that has no room for the probe answers: calls go on
 * with the connections that there are, and open the breaker if there are none. */
static void
end_link_probe_locked(RedlaneGuard *guard, RedlaneReplayResult result,
                      const RedlaneFault *fault)
{
    if (result == REDLANE_REPLAY_FAILED && redlane_fault_is_crowded(fault) &&
        redlane_breaker_state(&guard->breaker) == REDLANE_BREAKER_SUSPECT &&
        redlane_journal_is_empty(&guard->journal)) {
        result = REDLANE_REPLAY_DONE;
    }
    if (result == REDLANE_REPLAY_FAILED) {
        guard->last = *fault;
    }
    else if (result == REDLANE_REPLAY_REFUSED) {
        redlane_guard_note_refusal_locked(guard, fault);
        if (redlane_breaker_failure(&guard->writes, redlane_breaker_era(&guard->writes),
                                    REDLANE_BREAKER_AWAY, redlane_clock_now())) {
            redlane_guard_note_writes_locked(guard);
        }
    }
    if (redlane_breaker_probe_end(&guard->breaker, result != REDLANE_REPLAY_FAILED,
                                  redlane_clock_now())) {
        redlane_guard_note_link_locked(guard);
    }
    if (result == REDLANE_REPLAY_FAILED) {
        redlane_guard_hold_off_locked(guard, fault);
    }
}

static void
end_write_probe_locked(RedlaneGuard *guard, RedlaneReplayResult result,
                       const RedlaneFault *fault)
{
    if (result == REDLANE_REPLAY_REFUSED) {
        redlane_guard_note_refusal_locked(guard, fault);
    }
    if (redlane_breaker_probe_end(&guard->writes, result == REDLANE_REPLAY_DONE,
                                  redlane_clock_now())) {
        redlane_guard_note_writes_locked(guard);
    }
    if (result == REDLANE_REPLAY_FAILED && redlane_guard_is_outage(fault) &&
        !redlane_fault_is_crowded(fault)) {
        guard->last = *fault;
        if (redlane_breaker_failure(
                &guard->breaker, redlane_breaker_era(&guard->breaker),
                redlane_guard_failure_of(fault), redlane_clock_now())) {
            redlane_guard_note_link_locked(guard);
        }
    }
}

void
redlane_guard_probe_nogil(RedlaneGuard *guard)
{
    RedlaneConnection *connection;
    RedlaneReplayResult result = REDLANE_REPLAY_FAILED;
    RedlaneFault fault = {0};
    bool taken = false, writes = false;
    int asked = -1;

    pthread_mutex_lock(&guard->lock);
    if (!guard->breaker.probing && !guard->writes.probing) {
        RedlaneBreaker *breaker = breaker_to_probe_locked(guard);

        writes = breaker == &guard->writes;
        taken = redlane_breaker_probe_begin(breaker, redlane_clock_now());
    }
    pthread_mutex_unlock(&guard->lock);
    if (!taken) {
        return;
    }
    connection = redlane_connection_new();
    if (connection) {
        asked = ask_nogil(guard, connection, writes, &fault);
    }
    else {
        redlane_fault_set(&fault, REDLANE_FAULT_MEMORY, "out of memory");
    }
    pthread_mutex_lock(&guard->lock);
    if (asked == 0) {
        result = redlane_replay_nogil(connection, &guard->journal, &guard->lock,
                                      guard->settings->timeout, &fault);
    }
    else if (asked > 0) {
        result = REDLANE_REPLAY_REFUSED;
    }
    if (writes) {
        end_write_probe_locked(guard, result, &fault);
    }
    else {
        end_link_probe_locked(guard, result, &fault);
    }
    redlane_guard_note_well_locked(guard);
    pthread_mutex_unlock(&guard->lock);
    redlane_connection_free(connection);
}
