/* Whoever wants to hear of each trip to the server, for spans and the like: a callable,
 * one to a link. What the engine, a near cache or a policy answers is no trip.
 *
 *     observer(operation, count, text, began, ended, error)
 *
 * operation: "GET"; of several commands "PIPELINE GET" where all are the same, else
 * "PIPELINE", and MULTI for a transaction. text: None, or with `keys` the commands, a
 * '?' in place of what follows a key. began, ended: ns since 1970. error: an exception
 * or None; of several replies, the first that is one.
 *
 * GIL held; any Python code may run in a call. What it raises is written as
 * unraisable. */
#ifndef REDLANE_STORE_OBSERVER_H
#define REDLANE_STORE_OBSERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/vector.h"
#include "py/python.h"

typedef struct {
    PyObject *call; /* or NULL */
    bool keys;
} RedlaneObserver;

/* When a trip began; `wall` is 0 where nobody observes. */
typedef struct {
    int64_t wall;
    int64_t monotonic;
} RedlaneObserved;

void redlane_observer_begin_slow(RedlaneObserved *observed);

static inline void
redlane_observer_begin(const RedlaneObserver *observer, RedlaneObserved *observed)
{
    observed->wall = 0;
    if (unlikely(observer->call)) {
        redlane_observer_begin_slow(observed);
    }
}

/* It is over. `replies` are `count` replies or exception instances, or NULL: then an
 * exception is set, which stays. `context`: a contextvars.Context to call in, or NULL.
 */
void redlane_observer_tell(const RedlaneObserver *observer,
                           const RedlaneObserved *observed,
                           const RedlaneVector *vectors, size_t count, bool transaction,
                           PyObject *const *replies, PyObject *context);

#endif
