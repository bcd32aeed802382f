/* Reading a cached value. Lock: the GIL. */
#include "py/errors.h"
#include "py/log.h"
#include "py/state.h"
#include "types/fill.h"

/* Larger unreadable values are deleted without being compared: comparing sends them
 * back to the server. */
#define COMPARE_LIMIT ((Py_ssize_t)64 << 10)

#define SHOWN_KEY 200 /* bytes of a key at most, in a log line */

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

/* Deletes a value of no use, if it is still that value. RAISES_NEG */
static int
drop_value(const RedlaneFill *fill, RedlaneArg key, PyObject *stored)
{
    PyObject *reply;

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

/* Somebody without the key wrote it, or a cache that has other keys or none. Keeps the
 * exception that is set. */
static void
count_bad_seal(const RedlaneFill *fill, RedlaneArg key)
{
    PyObject *type, *error, *traceback, *shown;

    REDLANE_FILL_COUNT(fill, bad_seals, 1);
    if (fill->serializer->warned) {
        return;
    }
    fill->serializer->warned = true;
    PyErr_Fetch(&type, &error, &traceback);
    shown = PyUnicode_DecodeUTF8(
        key.data, (Py_ssize_t)(key.size < SHOWN_KEY ? key.size : SHOWN_KEY), "replace");
    if (shown) {
        redlane_log(fill->tool->state, REDLANE_LOG_WARNING,
                    "The value of %R has no valid seal and is dropped; others like it "
                    "are only counted, as bad_seals",
                    shown);
        Py_DECREF(shown);
    }
    PyErr_Clear();
    PyErr_Restore(type, error, traceback);
}

/* The value in a wrapped one: 1, 0 when its time is over or a tag of it was
 * invalidated, -1. */
static int
unwrap_bytes(const RedlaneFill *fill, RedlaneArg key, PyObject *stored,
             PyObject **value)
{
    RedlaneOpening opening = {
        .key = key,
        .type = fill->type,
        .size_max = redlane_link_settings(fill->tool->link)->max_reply,
    };

    *value = redlane_envelope_loads(fill->serializer, &opening, stored);
    if (*value) {
        return redlane_envelope_is_expired(&opening.header)
                   ? 0
                   : redlane_fill_tags_check(fill, &opening.header);
    }
    if (opening.bad_seal) {
        count_bad_seal(fill, key);
    }
    return -1;
}

/* The value in stored bytes: 1, 0 when they are of no use, -1. */
static int
open_bytes(const RedlaneFill *fill, RedlaneArg key, PyObject *stored, PyObject **value)
{
    int result = 1;

    if (likely(!redlane_envelope_is_marked(stored) && !fill->serializer->seal)) {
        if (unlikely(fill->tags)) { /* of another cache, or of before it had any */
            return 0;
        }
        *value = redlane_serializer_loads(fill->serializer, fill->type, stored, true);
    }
    else {
        result = unwrap_bytes(fill, key, stored, value);
    }
    if (unlikely(!*value || result < 0)) {
        if (!PyErr_ExceptionMatches(fill->tool->state->SerializationError)) {
            return -1;
        }
        PyErr_Clear();
        REDLANE_FILL_COUNT(fill, corrupted, 1);
        return 0;
    }
    if (fill->accept && !fill->accept(*value)) {
        REDLANE_FILL_COUNT(fill, corrupted, 1);
        return 0;
    }
    return result;
}

static int
decode_bytes(const RedlaneFill *fill, RedlaneArg key, PyObject *stored,
             PyObject **value)
{
    Py_ssize_t size = PyBytes_GET_SIZE(stored);
    int result;

    if (redlane_envelope_is_marked(stored) &&
        redlane_envelope_is_lease(PyBytes_AS_STRING(stored), (size_t)size)) {
        return 0;
    }
    REDLANE_FILL_COUNT(fill, bytes_read, size);
    result = open_bytes(fill, key, stored, value);
    if (likely(result == 1)) {
        return 1;
    }
    Py_CLEAR(*value);
    if (result < 0 || (fill->tags && !fill->tags->known)) {
        return result; /* of what generation it is nobody can tell now */
    }
    return drop_value(fill, key, stored) < 0 ? -1 : 2;
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

static int
read_tagged(const RedlaneFill *fill, RedlaneArg key, PyObject **value)
{
    RedlaneNearFill near_fill;
    bool near = redlane_fill_near_begin(fill, key, &near_fill);
    const RedlaneToolManner manner = {.read = true};
    PyObject *pttl = NULL, *reply;
    int result;

    reply = redlane_fill_ask(fill, REDLANE_CMD_GET, &key, 1, manner,
                             near ? &near_fill : NULL, &pttl, false);
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
    return result == 2 ? 0 : result;
}

int
redlane_fill_read(const RedlaneFill *given, RedlaneArg key, PyObject **value)
{
    RedlaneTags *extras = NULL;
    RedlaneFill fill = *given;
    int result;

    *value = NULL;
    fill.extras = &extras;
    if (given->tags) {
        result = read_tagged(&fill, key, value);
    }
    else {
        result = redlane_fill_tags_begin(&fill);
        result = result < 0 ? -1 : read_tagged(&fill, key, value);
        redlane_fill_tags_end(&fill);
    }
    redlane_tags_free(extras);
    return result;
}
