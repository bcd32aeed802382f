/* AsyncVideoCache: a VideoCache whose methods are awaited. Under the GIL. */
#ifndef REDLANE_TYPES_ASYNC_VIDEO_CACHE_H
#define REDLANE_TYPES_ASYNC_VIDEO_CACHE_H

#include "py/state.h"

/* The twin of a VideoCache, or NULL. */
PyObject *redlane_async_video_cache_of(RedlaneState *state, PyObject *videos);

int redlane_async_video_cache_setup(PyObject *module);

#endif
