/* One event loop's ear for subscriptions: a descriptor with a reader on that loop, for
 * all of its subscriptions that wait. It lives as long as the loop. GIL held. */
#ifndef REDLANE_TYPES_LOOP_BELL_H
#define REDLANE_TYPES_LOOP_BELL_H

#include "pubsub/bell.h"
#include "py/python.h"

/* The running loop; RuntimeError where there is none. A new reference. */
PyObject *redlane_loop_bell_running(RedlaneState *state);

/* Its bell, made on first use. A new reference. */
PyObject *redlane_loop_bell_of(RedlaneState *state, PyObject *loop);

/* BORROWED */
RedlaneBell *redlane_loop_bell_bell(PyObject *loop_bell);

int redlane_loop_bell_setup(PyObject *module);

#endif
