/* The only place that talks to Python's logging. */
#include "py/log.h"

#include <stdarg.h>
#include <stdio.h>

#include "core/command_keys.h"

int
redlane_log_prepare(RedlaneState *state)
{
    PyObject *module;

    if (state->logger) {
        return 0;
    }
    if (!state->debug_level) {
        state->debug_level = PyLong_FromLong(REDLANE_LOG_DEBUG);
    }
    module = state->debug_level ? PyImport_ImportModule("redlane._logging") : NULL;
    if (!module) {
        return -1;
    }
    state->logger = PyObject_CallMethod(module, "get_logger", NULL);
    Py_DECREF(module);
    if (!state->logger) {
        return -1;
    }
    state->logger_cache = PyObject_GetAttrString(state->logger, "_cache");
    if (!state->logger_cache || !PyDict_CheckExact(state->logger_cache)) {
        PyErr_Clear(); /* another logging: isEnabledFor() is asked each time */
        Py_CLEAR(state->logger_cache);
    }
    return 0;
}

/* The logger, kept in the state; BORROWED, NULL with an exception set. */
static PyObject *
find_logger(RedlaneState *state)
{
    return redlane_log_prepare(state) < 0 ? NULL : state->logger;
}

/* The truth of an object that may be NULL; an exception is dropped. STEALS object */
static bool
is_true(PyObject *object)
{
    int truth = object ? PyObject_IsTrue(object) : -1;

    Py_XDECREF(object);
    if (truth < 0) {
        PyErr_Clear();
    }
    return truth > 0;
}

bool
redlane_log_debugging_slow(RedlaneState *state)
{
    PyObject *type, *value, *traceback;
    bool enabled = false;

    if (!state->logger) {
        return false;
    }
    PyErr_Fetch(&type, &value, &traceback);
    /* A disabled logger, as dictConfig() leaves those it does not know, answers before
     * it looks into its cache, and fills none: 15 ns here instead of 100. */
    if (!is_true(PyObject_GetAttrString(state->logger, "disabled"))) {
        enabled = is_true(PyObject_CallMethod(state->logger, "isEnabledFor", "O",
                                              state->debug_level));
    }
    PyErr_Restore(type, value, traceback);
    return enabled;
}

/* logger.log(level, line, extra={"event": event}). RAISES_NEG */
static int
call_logger(PyObject *logger, int level, const char *event, PyObject *line)
{
    PyObject *method = PyObject_GetAttrString(logger, "log");
    PyObject *args = Py_BuildValue("(iO)", level, line);
    PyObject *kwargs = Py_BuildValue("{s:{s:s}}", "extra", "event", event);
    PyObject *result = NULL;

    if (method && args && kwargs) {
        result = PyObject_Call(method, args, kwargs);
    }
    Py_XDECREF(kwargs);
    Py_XDECREF(args);
    Py_XDECREF(method);
    Py_XDECREF(result);
    return result ? 0 : -1;
}

void
redlane_log_event(RedlaneState *state, int level, const char *event, const char *format,
                  ...)
{
    PyObject *type, *value, *traceback, *logger, *line;
    va_list arguments;

    PyErr_Fetch(&type, &value, &traceback);
    va_start(arguments, format);
    line = PyUnicode_FromFormatV(format, arguments);
    va_end(arguments);
    logger = line ? find_logger(state) : NULL;
    if (!logger || call_logger(logger, level, event, line) < 0) {
        PyErr_WriteUnraisable(state->logger);
    }
    Py_XDECREF(line);
    PyErr_Restore(type, value, traceback);
}

/* The key or channel of a command that has one, its first; NULL for all others, of
 * which any argument may be a value. */
static const RedlaneArg *
find_key(const RedlaneVector *vector)
{
    RedlaneCommandId id = vector->command->id;
    RedlaneKeySpan keys;

    if (id == REDLANE_CMD_PUBLISH) {
        return vector->argc > 1 ? &vector->argv[1] : NULL;
    }
    keys = redlane_command_keys(vector);
    return keys.first < keys.end ? &vector->argv[keys.first] : NULL;
}

#define SHOWN_KEY 200 /* bytes of a key at most */

PyObject *
redlane_log_key(const RedlaneVector *vector)
{
    const RedlaneArg *key = find_key(vector);

    if (!key) {
        return Py_NewRef(Py_None);
    }
    return PyUnicode_DecodeUTF8(
        key->data, (Py_ssize_t)(key->size < SHOWN_KEY ? key->size : SHOWN_KEY),
        "replace");
}

#define COMMAND "redlane.command"

static void
log_vector(RedlaneState *state, const RedlaneVector *vector, const char *outcome,
           const char *time)
{
    PyObject *shown = redlane_log_key(vector);

    if (!shown) {
        PyErr_Clear();
        return;
    }
    if (shown == Py_None) {
        redlane_log_event(state, REDLANE_LOG_DEBUG, COMMAND, "%s%s %s ms",
                          vector->command->name, outcome, time);
    }
    else {
        redlane_log_event(state, REDLANE_LOG_DEBUG, COMMAND, "%s %R%s %s ms",
                          vector->command->name, shown, outcome, time);
    }
    Py_DECREF(shown);
}

void
redlane_log_command(RedlaneState *state, const RedlaneVector *vectors, size_t count,
                    int64_t nanoseconds)
{
    PyObject *type, *value, *traceback;
    char time[32];

    PyErr_Fetch(&type, &value, &traceback);
    (void)snprintf(time, sizeof(time), "%.3f", (double)nanoseconds / 1e6);
    for (size_t i = 0; i < count; i++) {
        log_vector(state, &vectors[i], type ? " failed" : "", time);
    }
    PyErr_Restore(type, value, traceback);
}
