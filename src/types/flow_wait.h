/* Waiting in a flow for what this process does, or for a time. Under the GIL. */
#ifndef REDLANE_TYPES_FLOW_WAIT_H
#define REDLANE_TYPES_FLOW_WAIT_H

#include "types/flow.h"

/* Who waits: on the flow's own stack, in a list of whoever wakes it. */
typedef struct RedlaneWaker {
    struct RedlaneWaker *next;
    unsigned long thread;
    PyObject *loop;
    PyObject *future; /* NULL between waits */
    bool woken;       /* since the last wait ended */
} RedlaneWaker;

/* To be cleared in any case. RAISES_NEG */
int redlane_waker_init(RedlaneWaker *waker, RedlaneState *state);
void redlane_waker_clear(RedlaneWaker *waker);

/* From any thread. No exception; keeps one that is set. */
void redlane_waker_wake(RedlaneWaker *waker);

/* Waits until it is woken, or until a deadline (CLOCK_MONOTONIC ns). -1 with an
 * exception set where the flow was cancelled. */
int redlane_flow_wait(RedlaneFlow *flow, RedlaneWaker *waker, int64_t deadline);

/* The same for nothing but the time, of so many ns. */
int redlane_flow_pause(RedlaneFlow *flow, RedlaneState *state, int64_t length);

#endif
