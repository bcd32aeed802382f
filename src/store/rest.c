#include "store/rest.h"

#include <string.h>

#include "py/errors.h"

/* The relay's thread is Python's, and has the descriptor from here on, also where it
 * cannot be started. RAISES_NEG */
static int
start_relay(RedlaneSettings *settings, PyObject *start, int control)
{
    PyObject *result = PyObject_CallFunction(
        start, "isy#dnn", control, settings->redacted, settings->password,
        (Py_ssize_t)settings->password_size,
        (double)settings->timeout / (double)REDLANE_NS_PER_S,
        (Py_ssize_t)settings->pool_size, (Py_ssize_t)settings->max_reply);

    Py_XDECREF(result);
    return result ? 0 : -1;
}

/* RAISES_NEG */
static int
ensure_relay(RedlaneSettings *settings)
{
    PyObject *module, *start;
    int control, result;

    if (redlane_relay_is_open(settings->relay)) {
        return 0;
    }
    module = PyImport_ImportModule("redlane._rest");
    start = module ? PyObject_GetAttrString(module, "start") : NULL;
    Py_XDECREF(module);
    if (!start) {
        return -1;
    }
    if (redlane_relay_is_open(settings->relay)) { /* another thread was here */
        Py_DECREF(start);
        return 0;
    }
    control = redlane_relay_open(settings->relay);
    if (control < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        result = -1;
    }
    else {
        result = start_relay(settings, start, control);
        if (result < 0) {
            redlane_relay_close(settings->relay);
        }
    }
    Py_DECREF(start);
    return result;
}

void
redlane_rest_prepare(RedlaneSettings *settings)
{
    PyObject *type, *error, *traceback;

    if (likely(settings->scheme != REDLANE_SCHEME_REST)) {
        return;
    }
    PyErr_Fetch(&type, &error, &traceback);
    if (ensure_relay(settings) < 0) {
        redlane_errors_put_off();
    }
    PyErr_Restore(type, error, traceback);
}

bool
redlane_rest_failed(const RedlaneState *state, PyObject **replies, size_t count,
                    RedlaneFault *fault, bool *unsure)
{
    size_t failed = 0;

    for (size_t i = 0; i < count; i++) {
        RedlaneFault found;
        PyObject *text;
        const char *line;
        Py_ssize_t size;

        if (!PyObject_TypeCheck(replies[i], (PyTypeObject *)state->ReplyError)) {
            continue;
        }
        text = PyObject_Str(replies[i]);
        line = text ? PyUnicode_AsUTF8AndSize(text, &size) : NULL;
        if (!line) {
            PyErr_Clear();
        }
        else if (redlane_fault_of_relay(line, (size_t)size, &found)) {
            *unsure = *unsure || found.kind == REDLANE_FAULT_LOST;
            *fault = failed++ ? *fault : found;
        }
        Py_XDECREF(text);
    }
    /* A pipeline may take several requests: what came before was executed. */
    *unsure = *unsure || (failed && failed < count);
    return failed > 0;
}
