/* AsyncCache: a cache whose methods are awaited. Under the GIL. */
#ifndef REDLANE_TYPES_ASYNC_CACHE_H
#define REDLANE_TYPES_ASYNC_CACHE_H

#include "py/state.h"

int redlane_async_cache_setup(PyObject *module);

/* The twin of a Cache, or NULL. */
PyObject *redlane_async_cache_of(RedlaneState *state, PyObject *cache);

#endif
