/* A reference that is given back within nanoseconds. Lock: the GIL.
 *
 * CPython 3.12 and 3.13 write half of the count in Py_INCREF and read all of it in
 * Py_DECREF, which then waits until the half has left the processor's store buffer:
 * some 5 ns each time, of 85 for a whole near hit that is awaited. */
#ifndef REDLANE_PY_HOLD_H
#define REDLANE_PY_HOLD_H

#include "py/python.h"

#if PY_VERSION_HEX >= 0x030C0000 && PY_VERSION_HEX < 0x030E0000 && \
    SIZEOF_VOID_P > 4 && !defined(Py_GIL_DISABLED) && !defined(Py_REF_DEBUG)
/* Py_NewRef, which writes the whole count. */
static inline PyObject *
redlane_hold(PyObject *object)
{
    Py_SET_REFCNT(object, Py_REFCNT(object) + 1); /* leaves immortal ones alone */
    return object;
}
#else
static inline PyObject *
redlane_hold(PyObject *object)
{
    return Py_NewRef(object);
}
#endif

/* A free object that has its type still is one with a single reference again. */
static inline void
redlane_hold_first(PyObject *object)
{
#if defined(Py_REF_DEBUG) || defined(Py_TRACE_REFS)
    _Py_NewReference(object);
#else
    Py_SET_REFCNT(object, 1); /* without the call that tells tracemalloc */
#endif
}

#endif
