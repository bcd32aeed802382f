/* Which flights the running code computes for, in a context variable: so the tasks
 * that a loader starts know it too, and the threads of asyncio.to_thread. Lock: the
 * GIL. */
#include "py/state.h"
#include "types/flight.h"
#include "types/flow.h"

/* The tuple of their numbers in this context, or NULL (no exception). */
static PyObject *
held_here(const RedlaneState *state)
{
    PyObject *held = NULL;

    if (state->flight_context &&
        PyContextVar_Get(state->flight_context, NULL, &held) < 0) {
        PyErr_Clear();
    }
    return held;
}

/* `held` and one more; or NULL. */
static PyObject *
with_number(PyObject *held, uint64_t id)
{
    Py_ssize_t count = held ? PyTuple_GET_SIZE(held) : 0;
    PyObject *number = PyLong_FromUnsignedLongLong(id);
    PyObject *more = number ? PyTuple_New(count + 1) : NULL;

    if (!more) {
        Py_XDECREF(number);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyTuple_SET_ITEM(more, i, Py_NewRef(PyTuple_GET_ITEM(held, i)));
    }
    PyTuple_SET_ITEM(more, count, number);
    return more;
}

PyObject *
redlane_flight_enter(RedlaneState *state, const RedlaneFlight *flight)
{
    PyObject *held, *more, *token = NULL;

    if (!redlane_flow_current(state)) {
        return NULL; /* its thread is known, and that it has no children is not */
    }
    if (!state->flight_context) {
        state->flight_context = PyContextVar_New("redlane_flights", NULL);
    }
    held = held_here(state);
    more = state->flight_context ? with_number(held, flight->id) : NULL;
    if (more) {
        token = PyContextVar_Set(state->flight_context, more);
    }
    Py_XDECREF(more);
    Py_XDECREF(held);
    if (!token) {
        PyErr_Clear(); /* no memory: go on without */
    }
    return token;
}

void
redlane_flight_leave(RedlaneState *state, PyObject *token)
{
    PyObject *type, *error, *traceback;

    if (!token) {
        return;
    }
    PyErr_Fetch(&type, &error, &traceback);
    if (PyContextVar_Reset(state->flight_context, token) < 0) {
        PyErr_Clear(); /* it is being closed, in the context of someone else */
    }
    Py_DECREF(token);
    PyErr_Restore(type, error, traceback);
}

bool
redlane_flight_is_inside(RedlaneState *state, const RedlaneFlight *flight)
{
    PyObject *held = held_here(state);
    bool inside = false;

    for (Py_ssize_t i = 0; held && !inside && i < PyTuple_GET_SIZE(held); i++) {
        inside = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(held, i)) == flight->id;
    }
    Py_XDECREF(held);
    return inside;
}
