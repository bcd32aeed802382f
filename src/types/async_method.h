/* Async twins: objects whose methods are those of another one, awaited. The other one
 * does the work, in a flow. Under the GIL. */
#ifndef REDLANE_TYPES_ASYNC_METHOD_H
#define REDLANE_TYPES_ASYNC_METHOD_H

#include <stdbool.h>

#include "types/flow.h"

/* What every twin's own structure is. */
typedef struct {
    PyObject_HEAD
    RedlaneState *state; /* BORROWED */
    PyObject *sync;      /* the other one */
    PyObject *weakrefs;
} RedlaneAsyncTwin;

int redlane_async_method_setup(PyObject *module);

/* A twin of `sync`, or NULL. STEALS sync, which may be NULL with an exception set */
PyObject *redlane_async_twin_new(RedlaneState *state, PyTypeObject *type,
                                 PyObject *STEALS sync);

int redlane_async_twin_tp_traverse(PyObject *self, visitproc visit, void *arg);
int redlane_async_twin_tp_clear(PyObject *self);
void redlane_async_twin_tp_dealloc(PyObject *self);
PyObject *redlane_async_twin_tp_repr(PyObject *self);

/* Answers a call of the sync method where nothing has to be waited for: a new
 * reference. NULL: it has to, or will fail; an exception that is set is raised now. */
typedef PyObject *(*RedlaneAsyncQuick)(PyObject *sync, PyObject *const *args,
                                       Py_ssize_t nargs, PyObject *kwnames);

/* Has this one of a type's methods look there first. RAISES_NEG */
int redlane_async_method_hasten(PyObject *type, const char *name,
                                RedlaneAsyncQuick quick);

/* Calls it without arguments on a thread of the loop's executor: what waits past every
 * store. Its result, or NULL. STEALS callable, which may be NULL with an exception set
 */
PyObject *redlane_async_on_thread(RedlaneFlow *flow, PyObject *STEALS callable);

/* Gives a twin's type the named methods of `sync_type`; a NULL ends the names. With
 * `threaded` they run on a thread of the loop's executor. RAISES_NEG */
int redlane_async_methods_add(RedlaneState *state, PyObject *type, PyObject *sync_type,
                              const char *const *names, bool threaded);

#endif
