/* Reading a cached value. Lock: the GIL. */
#include "py/errors.h"
#include "py/state.h"
#include "types/fill.h"

/* Larger unreadable values are deleted without being compared: comparing sends them
 * back to the server. */
#define COMPARE_LIMIT ((Py_ssize_t)64 << 10)

int
redlane_fill_forgive(const RedlaneFill *fill)
{
    if (!PyErr_ExceptionMatches(fill->tool->state->RedlaneError)) {
        return -1;
    }
    PyErr_Clear();
    REDLANE_FILL_COUNT(fill, errors, 1);
    return 0;
}

bool
redlane_fill_is_refusal(RedlaneState *state)
{
    PyObject *type, *error, *traceback;
    int refusal;

    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    refusal = error ? redlane_errors_is_refusal(state, error) : 0;
    PyErr_Clear();
    PyErr_Restore(type, error, traceback);
    return refusal > 0;
}

/* Deletes an unreadable value, if it is still that value. RAISES_NEG */
static int
drop_value(const RedlaneFill *fill, RedlaneArg key, PyObject *stored)
{
    PyObject *reply;

    REDLANE_FILL_COUNT(fill, corrupted, 1);
    if (stored && PyBytes_GET_SIZE(stored) <= COMPARE_LIMIT) {
        RedlaneArg argv[] = {
            key, {PyBytes_AS_STRING(stored), (size_t)PyBytes_GET_SIZE(stored)}};

        reply = redlane_tool_script(fill->tool, REDLANE_SCRIPT_RELEASE, argv, 2, 1,
                                    &redlane_tool_writes);
    }
    else {
        reply = redlane_tool_execute(fill->tool, REDLANE_CMD_DEL, &key, 1, false);
    }
    if (!reply) {
        return redlane_fill_forgive(fill);
    }
    Py_DECREF(reply);
    return 0;
}

/* What a function raised: raised again. -1, or 0 for a miss. */
static int
raise_again(const RedlaneFill *fill, RedlaneArg key, PyObject *stored)
{
    if (!fill->raise) {
        return 0;
    }
    if (fill->raise(fill->context, stored) < 0) {
        REDLANE_FILL_COUNT(fill, hits, 1);
        return -1;
    }
    return drop_value(fill, key, stored);
}

static int
decode_bytes(const RedlaneFill *fill, RedlaneArg key, PyObject *stored,
             PyObject **value)
{
    Py_ssize_t size = PyBytes_GET_SIZE(stored);

    if (redlane_serializer_is_lease(PyBytes_AS_STRING(stored), (size_t)size)) {
        return 0;
    }
    REDLANE_FILL_COUNT(fill, bytes_read, size);
    if (unlikely(
            redlane_serializer_is_raised(PyBytes_AS_STRING(stored), (size_t)size))) {
        return raise_again(fill, key, stored);
    }
    *value = redlane_serializer_loads(fill->serializer, stored);
    if (!*value) {
        if (!PyErr_ExceptionMatches(fill->tool->state->SerializationError)) {
            return -1;
        }
        PyErr_Clear();
    }
    else if (!fill->accept || fill->accept(*value)) {
        return 1;
    }
    Py_CLEAR(*value);
    return drop_value(fill, key, stored);
}

int
redlane_fill_decode(const RedlaneFill *fill, RedlaneArg key, PyObject *reply,
                    PyObject **value)
{
    *value = NULL;
    if (PyBytes_Check(reply)) {
        return decode_bytes(fill, key, reply, value);
    }
    if (reply == Py_None ||
        PyObject_TypeCheck(reply, (PyTypeObject *)fill->tool->state->WrongTypeError)) {
        return 0;
    }
    if (PyExceptionInstance_Check(reply)) {
        PyErr_SetObject((PyObject *)Py_TYPE(reply), reply);
        return -1;
    }
    PyErr_SetString(fill->tool->state->ReplyError, "GET: not the reply of a GET");
    return -1;
}

int
redlane_fill_read(const RedlaneFill *fill, RedlaneArg key, PyObject **value)
{
    RedlaneNearFill near_fill;
    bool near = redlane_fill_near_begin(fill, key, &near_fill);
    const RedlaneToolManner manner = {.read = true,
                                      .near_read = near ? &near_fill.read : NULL};
    PyObject *pttl = NULL, *reply;
    int result;

    *value = NULL;
    reply =
        near ? redlane_tool_execute_pttl(fill->tool, REDLANE_CMD_GET, &key, 1, &manner,
                                         &pttl)
             : redlane_tool_execute_as(fill->tool, REDLANE_CMD_GET, &key, 1, &manner);
    if (!reply) {
        if (!PyErr_ExceptionMatches(fill->tool->state->WrongTypeError)) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    result = redlane_fill_decode(fill, key, reply, value);
    if (result == 1 && pttl) {
        redlane_fill_near_keep(fill, key, &near_fill, pttl, reply, *value);
    }
    Py_XDECREF(pttl);
    Py_DECREF(reply);
    return result;
}
