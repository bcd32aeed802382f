/* What comes of flows, for those who call them. Lock: the GIL. */
#include "types/flow.h"

PyObject *
redlane_flow_result(RedlaneState *state, PyObject *STEALS value)
{
    PyAsyncMethods *methods = value ? Py_TYPE(value)->tp_as_async : NULL;
    RedlaneFlow *flow =
        likely(!methods || !methods->am_await) ? NULL : redlane_flow_current(state);

    return flow ? redlane_flow_await(flow, value) : value;
}

void
redlane_flow_warn_unawaited(PyObject *flow, PyObject *target)
{
    PyObject *type, *error, *traceback, *name;

    PyErr_Fetch(&type, &error, &traceback);
    name = PyObject_GetAttrString(target, "__qualname__");
    if (!name) {
        PyErr_Clear(); /* it was not made for a caller */
    }
    else if (PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
                              "coroutine '%S' was never awaited", name) < 0) {
        PyErr_WriteUnraisable(flow);
    }
    Py_XDECREF(name);
    PyErr_Restore(type, error, traceback);
}
