#include "wire/wait.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "core/platform.h"

RedlaneWait
redlane_wait_within(const RedlaneWait *wait, int64_t limit)
{
    RedlaneWait shorter = *wait;
    int64_t now = redlane_clock_now();

    if (limit < wait->deadline - now) {
        shorter.deadline = now + limit;
    }
    return shorter;
}

static int
set_timed_out(RedlaneFault *fault)
{
    redlane_fault_set(fault, REDLANE_FAULT_TIMEOUT, "timed out");
    return -1;
}

int
redlane_wait_interrupted_nogil(const RedlaneWait *wait, RedlaneFault *fault)
{
    if (wait->interrupted && wait->interrupted(wait->context)) {
        redlane_fault_set(fault, REDLANE_FAULT_PYTHON, "interrupted");
        return -1;
    }
    return 0;
}

static int
wait_entry(const RedlaneWait *wait, struct pollfd *entry, int64_t slice,
           RedlaneFault *fault)
{
    int64_t left = wait->deadline - redlane_clock_now();
    int ready;

    if (left <= 0) {
        return set_timed_out(fault);
    }
    if (left > slice) {
        left = slice;
    }
    /* Rounded up: waking a moment before the deadline would spin. */
    ready = poll(entry, 1, (int)((left + REDLANE_NS_PER_MS - 1) / REDLANE_NS_PER_MS));
    if (ready > 0) {
        return 0;
    }
    if (ready < 0 && errno != EINTR && errno != EAGAIN) {
        redlane_fault_set(fault, REDLANE_FAULT_LOST, "%s", strerror(errno));
        return -1;
    }
    /* The caller takes the GIL to say so: not twice, where busy threads make each time
     * cost a switch interval. */
    if (ready == 0 && redlane_clock_passed(wait->deadline)) {
        return set_timed_out(fault);
    }
    return redlane_wait_interrupted_nogil(wait, fault);
}

int
redlane_wait_fd_nogil(const RedlaneWait *wait, int fd, short events,
                      RedlaneFault *fault)
{
    struct pollfd entry = {.fd = fd, .events = events};

    return wait_entry(wait, &entry, REDLANE_WAIT_SLICE, fault);
}

int
redlane_wait_pause_nogil(const RedlaneWait *wait, int64_t length, RedlaneFault *fault)
{
    struct pollfd nothing = {.fd = -1};

    return wait_entry(wait, &nothing, length, fault);
}

int
redlane_wait_cond_nogil(const RedlaneWait *wait, pthread_cond_t *condition,
                        pthread_mutex_t *mutex, RedlaneFault *fault)
{
    int64_t now = redlane_clock_now(), until = now + REDLANE_WAIT_SLICE;
    int result;

    if (now >= wait->deadline) {
        return set_timed_out(fault);
    }
    redlane_platform_cond_wait(condition, mutex,
                               until < wait->deadline ? until : wait->deadline);
    if (!wait->interrupted || redlane_clock_now() < until) {
        return 0;
    }
    (void)pthread_mutex_unlock(mutex);
    result = redlane_wait_interrupted_nogil(wait, fault);
    (void)pthread_mutex_lock(mutex);
    return result;
}
