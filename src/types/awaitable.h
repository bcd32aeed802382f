/* What types that are awaited share: the protocol of coroutines, from inside and from
 * outside. Under the GIL. */
#ifndef REDLANE_TYPES_AWAITABLE_H
#define REDLANE_TYPES_AWAITABLE_H

#include "py/python.h"

/* StopIteration with this result is set. BORROWED */
void redlane_awaitable_return(PyObject *value);

/* The exception that the arguments of `throw` ask for is set. */
void redlane_awaitable_throw(PyObject *const *args, Py_ssize_t nargs);

/* An exception is set with which one ends. StopIteration would be taken for a result:
 * it becomes the cause of a RuntimeError, as in a coroutine. */
void redlane_awaitable_guard_stop(void);

/* What is sent to, as `await` finds it: a new reference, or NULL. STEALS */
PyObject *redlane_awaitable_iterator(PyObject *STEALS awaitable);

/* Calls a method that an iterator may have: 1, 0 where it has none. RAISES_NEG */
int redlane_awaitable_call_optional(PyObject *iterator, const char *name,
                                    PyObject *const *args, Py_ssize_t nargs,
                                    PyObject **result);

/* An iterator's end by `throw`: StopIteration's value, or NULL with the exception set.
 */
PyObject *redlane_awaitable_take_return(void);

/* A getter of what is None, or False, at all times. */
PyObject *redlane_awaitable_get_none(PyObject *self, void *closure);
PyObject *redlane_awaitable_get_false(PyObject *self, void *closure);

#endif
