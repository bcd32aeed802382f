/* The method `limit` of both kinds of RateLimiter: a decorator, written in Python,
 * which is callable on the class too. Under the GIL. */
#ifndef REDLANE_TYPES_LIMIT_METHOD_H
#define REDLANE_TYPES_LIMIT_METHOD_H

#include "py/state.h"

/* Gives the type that method. RAISES_NEG */
int redlane_limit_method_add(PyObject *module, PyObject *type);

#endif
