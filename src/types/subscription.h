/* Subscription: what comes of some channels and patterns, for a thread that waits or
 * for the tasks of an event loop. GIL held; given up only while a thread waits. */
#ifndef REDLANE_TYPES_SUBSCRIPTION_H
#define REDLANE_TYPES_SUBSCRIPTION_H

#include <stdbool.h>

#include "py/state.h"
#include "store/link.h"

#define REDLANE_NAME_KEPT 64 /* bytes of a channel's name that is remembered */

/* The object of the name that came last, which most likely comes again. */
typedef struct {
    PyObject *object; /* or NULL */
    size_t size;
    char name[REDLANE_NAME_KEPT];
} RedlaneNameKept;

typedef struct {
    PyObject_HEAD
    RedlaneState *state;           /* BORROWED: the type keeps the module */
    RedlaneLink *link;             /* held */
    RedlaneFeed *feed;             /* held */
    PyObject *channels, *patterns; /* tuples, as they were given */
    PyObject *on_gap;              /* or NULL */
    RedlaneNameKept channel, pattern;
    PyObject *loop, *loop_bell; /* of the tasks that wait; or NULL */
    PyObject *future;           /* what one of them awaits now; or NULL */
    PyObject *spare_wait;       /* an awaitable that is not in use; or NULL */
    PyObject *weakrefs;
    unsigned turns; /* messages that tasks took since others could run */
    bool decode;
    bool busy; /* a thread waits */
} RedlaneSubscription;

/* Client.subscribe: `client` BORROWED. A new Subscription, or NULL. */
PyObject *redlane_subscription_new(RedlaneState *state, RedlaneLink *link, bool decode,
                                   PyObject *args, PyObject *kwargs);

/* --- for its files alone ------------------------------------------------------ */

/* The oldest message: a new reference. NULL without an exception where there is none.
 * Gaps before it have been told. Any Python code may run. `told`: NULL for a thread;
 * for a task it becomes what on_gap gave where that is to be awaited first: a new
 * reference, and no message. */
PyObject *redlane_subscription_take(RedlaneSubscription *self, PyObject **told);

/* on_gap has raised what is set, which is logged and cleared. RAISES_NEG: what is no
 * Exception. */
int redlane_subscription_gap_raised(const RedlaneSubscription *self);

/* What to do where there is no message: 0: wait, 1: no more come, -1: an exception. */
int redlane_subscription_look(RedlaneSubscription *self, RedlaneFeedState *state);

/* That nobody else reads it now. RAISES_NEG */
int redlane_subscription_check_idle(RedlaneSubscription *self);

/* Has the task look again that waits. RAISES_NEG */
int redlane_subscription_wake(void *subscription);

/* An awaitable of the next message, or with `enter` of the subscription itself once it
 * stands. */
PyObject *redlane_subscription_wait_new(RedlaneSubscription *self, bool enter);

/* An awaitable that gives None at once. */
PyObject *redlane_subscription_wait_done(RedlaneSubscription *self);

int redlane_subscription_setup(PyObject *module);
int redlane_subscription_wait_setup(PyObject *module);
int redlane_gap_setup(PyObject *module);

/* A new Gap. */
PyObject *redlane_gap_new(RedlaneState *state, const RedlaneLetter *letter);

#endif
