/* AsyncCounter: a Counter whose methods are awaited. Under the GIL. */
#ifndef REDLANE_TYPES_ASYNC_COUNTER_H
#define REDLANE_TYPES_ASYNC_COUNTER_H

#include "py/state.h"

/* The twin of a Counter, or NULL. */
PyObject *redlane_async_counter_of(RedlaneState *state, PyObject *counter);

int redlane_async_counter_setup(PyObject *module);

#endif
