/* Reading a cached value. Lock: the GIL. */
#include "py/errors.h"
#include "py/log.h"
#include "py/state.h"
#include "types/fresh.h"

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

/* Somebody without the key wrote it, or a cache that has other keys or none. */
static void
count_bad_seal(const RedlaneFill *fill, RedlaneArg key)
{
    PyObject *shown;

    REDLANE_FILL_COUNT(fill, bad_seals, 1);
    if (fill->serializer->warned) {
        return;
    }
    fill->serializer->warned = true;
    shown = PyUnicode_DecodeUTF8(
        key.data, (Py_ssize_t)(key.size < SHOWN_KEY ? key.size : SHOWN_KEY), "replace");
    if (!shown) {
        PyErr_Clear();
        return;
    }
    redlane_log_event(
        fill->tool->state, REDLANE_LOG_WARNING, "redlane.cache.bad_seal",
        "The value of %R has no valid seal and is dropped; others like it are "
        "only counted, as bad_seals",
        shown);
    Py_DECREF(shown);
}

int
redlane_fill_open(const RedlaneFill *fill, RedlaneArg key, PyObject *stored,
                  PyObject **value, RedlaneFillSeen *seen)
{
    RedlaneOpening opening;

    *seen = (RedlaneFillSeen){.raised = false};
    if (likely(!redlane_envelope_is_marked(stored) && !fill->serializer->seal)) {
        *value = redlane_serializer_loads(fill->serializer, fill->type, stored, true);
        return likely(*value != NULL) ? 1 : -1;
    }
    opening = (RedlaneOpening){
        .key = key,
        .type = fill->type,
        .size_max = redlane_link_settings(fill->tool->link)->max_reply,
    };
    *value = redlane_envelope_loads(fill->serializer, &opening, stored);
    *seen = (RedlaneFillSeen){.bad_seal = opening.bad_seal,
                              .raised = opening.raised,
                              .header = opening.header};
    if (!*value) {
        return -1;
    }
    if (likely(!redlane_envelope_is_expired(&opening.header))) {
        return 1;
    }
    if (!seen->raised && redlane_fresh_is_useful(fill, &opening.header)) {
        return REDLANE_FILL_OLD;
    }
    seen->useful = opening.header.fields & REDLANE_ENVELOPE_NONCE;
    Py_CLEAR(*value);
    return 0;
}

/* What a function raised: raised again. -1; 0 for a miss, 2 for one that is dropped. */
static int
raise_again(const RedlaneFill *fill, RedlaneArg key, PyObject *stored, PyObject *raised)
{
    if (!fill->raise) {
        return 0;
    }
    if (fill->raise(fill->context, raised) < 0) {
        REDLANE_FILL_COUNT(fill, hits, 1);
        return -1;
    }
    REDLANE_FILL_COUNT(fill, corrupted, 1);
    return drop_value(fill, key, stored) < 0 ? -1 : 2;
}

/* The value in stored bytes: 1; 0 for a miss; 2 when they are of no use and dropped;
 * -1.
 */
static int
open_bytes(const RedlaneFill *fill, RedlaneArg key, PyObject *stored, PyObject **value)
{
    RedlaneFillSeen seen;
    int result = redlane_fill_open(fill, key, stored, value, &seen);

    if (result > 0 && unlikely(fill->tags || seen.header.fields)) {
        int now = redlane_fill_tags_check(fill, &seen.header);

        result = now == 1 ? result : now;
        if (now == 0 && fill->tags && !fill->tags->known) {
            Py_CLEAR(*value); /* of what generation it is nobody can tell now */
            return 0;
        }
    }
    if (result <= 0) {
        Py_CLEAR(*value);
    }
    if (unlikely(result < 0)) {
        if (!PyErr_ExceptionMatches(fill->tool->state->SerializationError)) {
            return -1;
        }
        PyErr_Clear();
        REDLANE_FILL_COUNT(fill, corrupted, 1);
        if (seen.bad_seal) {
            count_bad_seal(fill, key);
        }
        result = 0;
    }
    else if (unlikely(result == 1 && seen.raised)) {
        PyObject *raised = *value;

        *value = NULL;
        result = raise_again(fill, key, stored, raised);
        Py_DECREF(raised);
        return result;
    }
    else if (result == 0 && seen.useful && !fill->load) {
        return 0; /* a plain read takes nothing away */
    }
    else if (result > 0 && fill->accept && !fill->accept(*value)) {
        Py_CLEAR(*value);
        REDLANE_FILL_COUNT(fill, corrupted, 1);
        result = 0;
    }
    if (likely(result)) {
        return result;
    }
    return drop_value(fill, key, stored) < 0 ? -1 : 2;
}

static int
decode_bytes(const RedlaneFill *fill, RedlaneArg key, PyObject *stored,
             PyObject **value)
{
    const char *data = PyBytes_AS_STRING(stored);
    size_t size = (size_t)PyBytes_GET_SIZE(stored);
    bool marked = redlane_envelope_is_marked(stored);

    if (marked && redlane_envelope_is_lease(data, size)) {
        return 0;
    }
    REDLANE_FILL_COUNT(fill, bytes_read, size);
    if (marked && !fill->serializer->seal && redlane_envelope_is_raised(data, size)) {
        if (unlikely(fill->tags)) { /* it has none, so it may be of any generation */
            return drop_value(fill, key, stored) < 0 ? -1 : 2;
        }
        return raise_again(fill, key, stored, stored);
    }
    return open_bytes(fill, key, stored, value);
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
    if (reply) {
        result = redlane_fill_decode(fill, key, reply, value);
        if (unlikely(fill->fresh) && (result == 1 || result == REDLANE_FILL_OLD)) {
            result = redlane_fresh_take(fill, key, reply, result == REDLANE_FILL_OLD);
        }
        if (result == 1 && pttl &&
            redlane_fill_near_keep(fill, key, &near_fill, pttl, reply, *value) < 0) {
            result = -1;
        }
        if (result != 1) {
            Py_CLEAR(*value);
        }
        Py_XDECREF(pttl);
        Py_DECREF(reply);
    }
    else {
        result = PyErr_ExceptionMatches(fill->tool->state->WrongTypeError) ? 0 : -1;
        if (result == 0) {
            PyErr_Clear();
        }
    }
    if (near) {
        redlane_fill_near_end(&near_fill);
    }
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
