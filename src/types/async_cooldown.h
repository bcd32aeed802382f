/* AsyncCooldown: a Cooldown whose methods are awaited. Under the GIL. */
#ifndef REDLANE_TYPES_ASYNC_COOLDOWN_H
#define REDLANE_TYPES_ASYNC_COOLDOWN_H

#include "py/state.h"

/* The twin of a Cooldown, or NULL. */
PyObject *redlane_async_cooldown_of(RedlaneState *state, PyObject *cooldown);

int redlane_async_cooldown_setup(PyObject *module);

#endif
