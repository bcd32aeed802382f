/* The only part of the C threads that knows Python: their end. GIL held. */
#include "store/background_setup.h"

#include "core/clock.h"
#include "near/near.h"
#include "pubsub/hub.h"
#include "py/state.h"
#include "store/background.h"

/* At exit the thread gets this long to end a probe; then it is left alone. */
#define SHUTDOWN_LIMIT REDLANE_NS_PER_S

static PyObject *
shutdown(PyObject *module, PyObject *Py_UNUSED(unused))
{
    RedlaneState *state = redlane_state_of_module(module);
    bool ended;

    Py_BEGIN_ALLOW_THREADS
    ended = redlane_background_stop(state->background, SHUTDOWN_LIMIT);
    ended = redlane_near_stop_all(SHUTDOWN_LIMIT) && ended;
    ended = redlane_hub_stop_all(SHUTDOWN_LIMIT) && ended;
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(ended);
}

static PyMethodDef shutdown_def = {
    "_shutdown", shutdown, METH_NOARGS,
    PyDoc_STR("Ends the background threads, at exit; says whether they have ended.")};

int
redlane_background_setup(PyObject *module)
{
    RedlaneState *state = redlane_state_of_module(module);
    PyObject *function = NULL, *atexit = NULL, *result = NULL;

    state->background = redlane_background_new();
    if (!state->background) {
        PyErr_NoMemory();
        return -1;
    }
    function = PyCFunction_New(&shutdown_def, module);
    atexit = function ? PyImport_ImportModule("atexit") : NULL;
    if (atexit) {
        result = PyObject_CallMethod(atexit, "register", "O", function);
    }
    Py_XDECREF(function);
    Py_XDECREF(atexit);
    Py_XDECREF(result);
    return result ? 0 : -1;
}
