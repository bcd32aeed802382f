/* Module functions for redlane._rest: _is_read and _script_text. */
#ifndef REDLANE_TYPES_REST_H
#define REDLANE_TYPES_REST_H

#include "py/python.h"

int redlane_rest_setup(PyObject *module); /* RAISES_NEG */

#endif
