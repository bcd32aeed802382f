/* Cached functions in classes. Under the GIL.
 *
 * cached_method.c: `obj.method`, a cached function with its object;
 * cached_classmethod.c: what `@cache` makes of a classmethod. */
#ifndef REDLANE_TYPES_CACHED_METHOD_H
#define REDLANE_TYPES_CACHED_METHOD_H

#include "types/cached_function.h"

int redlane_cached_method_setup(PyObject *module);
int redlane_cached_classmethod_setup(PyObject *module);

/* A new reference, or NULL. */
PyObject *redlane_cached_method_new(RedlaneCachedFunction *function, PyObject *object);
PyObject *redlane_cached_classmethod_new(RedlaneCachedFunction *function);

#endif
