/* Tells an observer of a trip. GIL held. */
#include "store/observer.h"

#include "core/clock.h"
#include "py/log.h"

#define SHOWN_COMMANDS 16 /* of a pipeline, in the text */

void
redlane_observer_begin_slow(RedlaneObserved *observed)
{
    observed->wall = redlane_clock_read(CLOCK_REALTIME);
    observed->monotonic = redlane_clock_now();
}

static bool
is_all_one(const RedlaneVector *vectors, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        if (vectors[i].command != vectors[0].command) {
            return false;
        }
    }
    return true;
}

/* Commands that the table does not know share a row, and may not be told apart. */
static PyObject *
name_operation(const RedlaneVector *vectors, size_t count, bool transaction)
{
    const char *name = vectors[0].command->name;

    if (count == 1 && !transaction) {
        return PyUnicode_FromString(name);
    }
    return PyUnicode_FromFormat("%s%s%s", transaction ? "MULTI" : "PIPELINE",
                                is_all_one(vectors, count) ? " " : "",
                                is_all_one(vectors, count) ? name : "");
}

/* "SET key ?" */
static PyObject *
show_command(const RedlaneVector *vector)
{
    PyObject *key = redlane_log_key(vector), *text;

    if (!key) {
        return NULL;
    }
    text = key == Py_None ? PyUnicode_FromFormat("%s%s", vector->command->name,
                                                 vector->argc > 1 ? " ?" : "")
                          : PyUnicode_FromFormat("%s %U%s", vector->command->name, key,
                                                 vector->argc > 2 ? " ?" : "");
    Py_DECREF(key);
    return text;
}

static PyObject *
show_commands(const RedlaneVector *vectors, size_t count)
{
    size_t shown = count < SHOWN_COMMANDS ? count : SHOWN_COMMANDS;
    PyObject *text = show_command(&vectors[0]);

    for (size_t i = 1; text && i < shown; i++) {
        PyObject *next = show_command(&vectors[i]), *joined;

        joined = next ? PyUnicode_FromFormat("%U; %U", text, next) : NULL;
        Py_XDECREF(next);
        Py_SETREF(text, joined);
    }
    return text;
}

/* BORROWED; None where all went well. */
static PyObject *
find_error(PyObject *const *replies, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (PyExceptionInstance_Check(replies[i])) {
            return replies[i];
        }
    }
    return Py_None;
}

/* RAISES_NEG */
static int
call_observer(PyObject *call, PyObject *args, PyObject *context)
{
    PyObject *result;

    if (context && PyContext_Enter(context) < 0) {
        return -1;
    }
    result = PyObject_Call(call, args, NULL);
    if (context && PyContext_Exit(context) < 0) {
        Py_CLEAR(result);
    }
    Py_XDECREF(result);
    return result ? 0 : -1;
}

void
redlane_observer_tell(const RedlaneObserver *observer, const RedlaneObserved *observed,
                      const RedlaneVector *vectors, size_t count, bool transaction,
                      PyObject *const *replies, PyObject *context)
{
    int64_t ended = observed->wall + redlane_clock_now() - observed->monotonic;
    PyObject *type, *value, *traceback, *call = observer->call, *args = NULL;
    PyObject *operation, *text;

    if (!call) { /* it was taken away meanwhile */
        return;
    }
    Py_INCREF(call); /* what runs from here on may take it away */
    PyErr_Fetch(&type, &value, &traceback);
    if (type) {
        PyErr_NormalizeException(&type, &value, &traceback);
    }
    operation = name_operation(vectors, count, transaction);
    text = observer->keys ? show_commands(vectors, count) : Py_NewRef(Py_None);
    if (operation && text) {
        args = Py_BuildValue("(OnOLLO)", operation, (Py_ssize_t)count, text,
                             (long long)observed->wall, (long long)ended,
                             replies ? find_error(replies, count)
                             : value ? value
                                     : Py_None);
    }
    if (!args || call_observer(call, args, context) < 0) {
        PyErr_WriteUnraisable(call);
    }
    Py_XDECREF(args);
    Py_XDECREF(text);
    Py_XDECREF(operation);
    Py_DECREF(call);
    PyErr_Restore(type, value, traceback);
}
