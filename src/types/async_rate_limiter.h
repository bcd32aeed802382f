/* AsyncRateLimiter. Under the GIL. */
#ifndef REDLANE_TYPES_ASYNC_RATE_LIMITER_H
#define REDLANE_TYPES_ASYNC_RATE_LIMITER_H

#include "py/state.h"

int redlane_async_rate_limiter_setup(PyObject *module);

/* The twin of a RateLimiter; NULL with an exception set. */
PyObject *redlane_async_rate_limiter_of(RedlaneState *state, PyObject *limiter);

#endif
