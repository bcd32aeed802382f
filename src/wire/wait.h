/* Waiting without the GIL: for a descriptor, a condition, until one total deadline, in
 * slices short enough that a signal handler runs soon. */
#ifndef REDLANE_WIRE_WAIT_H
#define REDLANE_WIRE_WAIT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/clock.h"
#include "core/fault.h"

/* A signal may be delivered to another thread than the one that waits; Ctrl-C must end
 * a call within 100 ms all the same. */
#define REDLANE_WAIT_SLICE (50 * REDLANE_NS_PER_MS)

typedef struct {
    int64_t deadline; /* total, CLOCK_MONOTONIC ns, or REDLANE_NEVER */
    /* Called without locks after EINTR and after each slice; true ends the wait with
     * REDLANE_FAULT_PYTHON. NULL: nothing interrupts. It may run anything: the process
     * may have forked when it returns. */
    bool (*interrupted)(void *context);
    void *context;
} RedlaneWait;

/* The same wait with a deadline no later than `limit` from now. */
RedlaneWait redlane_wait_within(const RedlaneWait *wait, int64_t limit);

/* One slice of waiting for `events` on `fd`. 0 when there may be something to do, -1
 * with a fault: TIMEOUT or PYTHON. */
int redlane_wait_fd_nogil(const RedlaneWait *wait, int fd, short events,
                          RedlaneFault *fault);

/* Lets signal handlers run, after a wait of one's own. 0, or -1 with PYTHON. */
int redlane_wait_interrupted_nogil(const RedlaneWait *wait, RedlaneFault *fault);

/* A pause of `length` ns at most. Results as above. */
int redlane_wait_pause_nogil(const RedlaneWait *wait, int64_t length,
                             RedlaneFault *fault);

/* One slice of waiting for a condition, whose mutex the caller holds; it is given up
 * while `interrupted` runs. Results as above. */
int redlane_wait_cond_nogil(const RedlaneWait *wait, pthread_cond_t *condition,
                            pthread_mutex_t *mutex, RedlaneFault *fault);

#endif
