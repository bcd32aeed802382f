/* Cooldown: once in so many seconds for each user. Under the GIL. */
#ifndef REDLANE_TYPES_COOLDOWN_H
#define REDLANE_TYPES_COOLDOWN_H

#include "py/state.h"

int redlane_cooldown_setup(PyObject *module);

#endif
