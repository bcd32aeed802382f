/* CooldownState: whether a cooldown is over, and what is left of it. Under the GIL. */
#ifndef REDLANE_TYPES_COOLDOWN_STATE_H
#define REDLANE_TYPES_COOLDOWN_STATE_H

#include <stdint.h>

#include "py/state.h"

/* `remaining` in ms; 0: it is over. A new object, or NULL. */
PyObject *redlane_cooldown_state_new(RedlaneState *state, int64_t remaining);

int redlane_cooldown_state_setup(PyObject *module);

#endif
