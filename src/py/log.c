/* The only place that talks to Python's logging. */
#include "py/log.h"

#include <stdarg.h>
#include <stdio.h>

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

void
redlane_log(RedlaneState *state, int level, const char *format, ...)
{
    PyObject *type, *value, *traceback, *logger, *result = NULL, *line = NULL;
    va_list arguments;

    PyErr_Fetch(&type, &value, &traceback);
    va_start(arguments, format);
    line = PyUnicode_FromFormatV(format, arguments);
    va_end(arguments);
    logger = line ? find_logger(state) : NULL;
    if (logger) {
        result = PyObject_CallMethod(logger, "log", "iO", level, line);
    }
    if (!result) {
        PyErr_WriteUnraisable(state->logger);
    }
    Py_XDECREF(result);
    Py_XDECREF(line);
    PyErr_Restore(type, value, traceback);
}

/* Whether argv[1] is a key or a channel: for all others it may be a value. */
static bool
has_key(const RedlaneVector *vector)
{
    RedlaneCommandId id = vector->command->id;

    return vector->argc > 1 && id != REDLANE_CMD_KEYS && id != REDLANE_CMD_SCAN &&
           ((id >= REDLANE_CMD_GET && id <= REDLANE_CMD_ZREMRANGEBYSCORE) ||
            id == REDLANE_CMD_PUBLISH);
}

#define SHOWN_KEY 200 /* bytes of a key at most */

static void
log_vector(RedlaneState *state, const RedlaneVector *vector, const char *outcome,
           const char *time)
{
    const RedlaneArg *key = &vector->argv[1];
    PyObject *shown;

    if (!has_key(vector)) {
        redlane_log(state, REDLANE_LOG_DEBUG, "%s%s %s ms", vector->command->name,
                    outcome, time);
        return;
    }
    shown = PyUnicode_DecodeUTF8(
        key->data, (Py_ssize_t)(key->size < SHOWN_KEY ? key->size : SHOWN_KEY),
        "replace");
    if (!shown) {
        PyErr_Clear();
        return;
    }
    redlane_log(state, REDLANE_LOG_DEBUG, "%s %R%s %s ms", vector->command->name, shown,
                outcome, time);
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
