/* Inside store/: one request on its way for an event loop, in one block of memory.
 *
 *   [ trip | vectors | arguments | replies | bytes of the arguments ] */
#ifndef REDLANE_STORE_ASYNC_TRIP_H
#define REDLANE_STORE_ASYNC_TRIP_H

#include "store/async_store.h"
#include "store/remote.h"
#include "store/trip.h"

typedef struct RedlaneAsyncTrip RedlaneAsyncTrip;

struct RedlaneAsyncTrip {
    RedlaneErrand errand;     /* first: on the wire */
    RedlaneLoopMember parked; /* while the link is suspect */
    RedlaneStore *store;      /* held */
    RedlaneRequest request;
    RedlaneTrip trip; /* of a fallback store */
    RedlaneLoop *loop;
    RedlaneCompletion *completion; /* NULL: nobody waits any more */
    int round;
    int64_t pause; /* until it is looked at again while parked */
    /* what the server is asked now: all of it, one part, or a script's text */
    const RedlaneVector *vectors;
    size_t count;
    PyObject **replies;
    RedlaneRemoteReport report;
    void (*asked)(RedlaneAsyncTrip *trip, int result);
    PyObject **all;      /* of a transaction, or NULL */
    size_t judged;       /* replies that were looked through */
    RedlaneVector whole; /* a script by its text; its argv is ours */
    PyObject *text_reply;
    /* one refused reply after the other */
    size_t part_index;
    RedlaneTrip part;
    PyObject *part_reply;
    RedlaneLeaseless *instead; /* or NULL */
    RedlaneObserved observed;
    PyObject *context; /* whoever asked is observed in: a contextvars.Context or NULL */
};

/* RedlaneStoreOps.start of a fallback store. */
void redlane_async_trip_start(RedlaneAsyncTrip *trip);

/* Ends it: tells whoever waits, and frees it. With `result` -1 an exception is set. */
void redlane_async_trip_finish(RedlaneAsyncTrip *trip, int result);

/* Ends it where the loop is no more. */
void redlane_async_trip_drop(RedlaneAsyncTrip *trip);

int redlane_async_trip_traverse(RedlaneAsyncTrip *trip, visitproc visit, void *arg);

#endif
