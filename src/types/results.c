/* Replies to results.
 *
 * GIL held. A reply comes from a server, so its type is checked before it is believed:
 * what does not fit is a ReplyError, never a crash. */
#include "types/results.h"

#include <string.h>

#include "py/state.h"

static PyObject *
refuse_reply(RedlaneState *state, PyObject *reply)
{
    PyErr_Format(state->ReplyError, "unexpected reply of type %.100s",
                 Py_TYPE(reply)->tp_name);
    return NULL;
}

/* A conversion that the reply did not bear: what it raised shows the reply, which may
 * be somebody's value. */
static PyObject *
refuse_converted(RedlaneState *state, PyObject *reply, PyObject *result)
{
    if (result || !(PyErr_ExceptionMatches(PyExc_ValueError) ||
                    PyErr_ExceptionMatches(PyExc_TypeError))) {
        return result;
    }
    PyErr_Clear();
    PyErr_Format(state->ReplyError, "a reply of type %.100s is not as it should be",
                 Py_TYPE(reply)->tp_name);
    return NULL;
}

/* The first error among the elements of a list, however deep (the wire bounds that), or
 * NULL. */
static PyObject *BORROWED
find_error(PyObject *list)
{
    PyObject *found = NULL;

    for (Py_ssize_t i = 0; !found && i < PyList_GET_SIZE(list); i++) {
        PyObject *element = PyList_GET_ITEM(list, i);

        if (PyList_CheckExact(element)) {
            found = find_error(element);
        }
        else if (PyExceptionInstance_Check(element)) {
            found = element;
        }
    }
    return found;
}

/* Whether a str or bytes reply is this text. */
static bool
reply_is(PyObject *reply, const char *text)
{
    if (PyBytes_Check(reply)) {
        size_t size = strlen(text);

        return (size_t)PyBytes_GET_SIZE(reply) == size &&
               memcmp(PyBytes_AS_STRING(reply), text, size) == 0;
    }
    return PyUnicode_Check(reply) && PyUnicode_CompareWithASCIIString(reply, text) == 0;
}

static PyObject *
make_bool(RedlaneState *state, PyObject *reply)
{
    if (reply == Py_None) {
        Py_RETURN_FALSE;
    }
    if (!PyLong_Check(reply)) {
        return refuse_reply(state, reply);
    }
    return PyBool_FromLong(PyObject_IsTrue(reply));
}

static PyObject *
make_float(RedlaneState *state, PyObject *reply)
{
    if (reply == Py_None) {
        Py_RETURN_NONE;
    }
    if (!PyBytes_Check(reply) && !PyUnicode_Check(reply)) {
        return refuse_reply(state, reply);
    }
    return refuse_converted(state, reply, PyFloat_FromString(reply));
}

static PyObject *
make_members(RedlaneState *state, PyObject *reply)
{
    if (reply == Py_None) {
        return PySet_New(NULL);
    }
    if (!PyList_Check(reply)) {
        return refuse_reply(state, reply);
    }
    return refuse_converted(state, reply, PySet_New(reply));
}

/* A list with an even number of elements. */
static bool
is_pairs(PyObject *reply)
{
    return PyList_Check(reply) && PyList_GET_SIZE(reply) % 2 == 0;
}

static PyObject *
make_fields(RedlaneState *state, PyObject *reply)
{
    PyObject *dict;

    if (reply == Py_None) {
        return PyDict_New();
    }
    if (!is_pairs(reply)) {
        return refuse_reply(state, reply);
    }
    dict = PyDict_New();
    for (Py_ssize_t i = 0; dict && i < PyList_GET_SIZE(reply); i += 2) {
        if (PyDict_SetItem(dict, PyList_GET_ITEM(reply, i),
                           PyList_GET_ITEM(reply, i + 1)) < 0) {
            Py_CLEAR(dict);
        }
    }
    return refuse_converted(state, reply, dict);
}

/* A score through `cast`: first as it came, as redis-py does, then, for an int() that
 * cannot read "1e+18", as a float. */
static PyObject *
cast_score(RedlaneState *state, PyObject *cast, PyObject *text)
{
    PyObject *result, *number;

    if (!cast) {
        return make_float(state, text);
    }
    if (!PyBytes_Check(text) && !PyUnicode_Check(text)) {
        return refuse_reply(state, text);
    }
    result = PyObject_CallOneArg(cast, text);
    if (result || !(PyErr_ExceptionMatches(PyExc_ValueError) ||
                    PyErr_ExceptionMatches(PyExc_TypeError))) {
        return result;
    }
    PyErr_Clear();
    number = make_float(state, text);
    if (!number) {
        return NULL;
    }
    result = PyObject_CallOneArg(cast, number);
    Py_DECREF(number);
    return result;
}

static PyObject *
make_scores(RedlaneState *state, PyObject *cast, PyObject *reply)
{
    Py_ssize_t count;
    PyObject *list;

    if (reply == Py_None) {
        return PyList_New(0);
    }
    if (!is_pairs(reply)) {
        return refuse_reply(state, reply);
    }
    count = PyList_GET_SIZE(reply) / 2;
    list = PyList_New(count);
    for (Py_ssize_t i = 0; list && i < count; i++) {
        PyObject *score, *pair;

        score = cast_score(state, cast, PyList_GET_ITEM(reply, 2 * i + 1));
        pair = score ? PyTuple_Pack(2, PyList_GET_ITEM(reply, 2 * i), score) : NULL;
        Py_XDECREF(score);
        if (!pair) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, i, pair);
    }
    return list;
}

/* A new int from decimal digits, or from an integer reply. */
static PyObject *
make_int(RedlaneState *state, PyObject *reply)
{
    if (PyLong_Check(reply)) {
        return Py_NewRef(reply);
    }
    if (PyBytes_Check(reply)) {
        return refuse_converted(state, reply,
                                PyLong_FromString(PyBytes_AS_STRING(reply), NULL, 10));
    }
    if (PyUnicode_Check(reply)) {
        return refuse_converted(state, reply, PyLong_FromUnicodeObject(reply, 10));
    }
    return refuse_reply(state, reply);
}

PyObject *
redlane_result_integer(RedlaneState *state, PyObject *reply)
{
    PyObject *result;

    if (!reply || reply == Py_None) {
        return reply;
    }
    if (PyExceptionInstance_Check(reply)) { /* an element of a script's reply */
        PyErr_SetObject((PyObject *)Py_TYPE(reply), reply);
        result = NULL;
    }
    else {
        result = make_int(state, reply);
    }
    Py_DECREF(reply);
    return result;
}

static PyObject *
make_scan(RedlaneState *state, PyObject *reply)
{
    PyObject *cursor, *result;

    if (reply == Py_None) {
        return Py_BuildValue("(i[])", 0);
    }
    if (!PyList_Check(reply) || PyList_GET_SIZE(reply) != 2 ||
        !PyList_Check(PyList_GET_ITEM(reply, 1))) {
        return refuse_reply(state, reply);
    }
    cursor = make_int(state, PyList_GET_ITEM(reply, 0));
    if (!cursor) {
        return NULL;
    }
    (void)PyLong_AsUnsignedLongLong(cursor);
    if (PyErr_Occurred()) {
        PyErr_Clear();
        result = refuse_reply(state, reply);
    }
    else {
        result = PyTuple_Pack(2, cursor, PyList_GET_ITEM(reply, 1));
    }
    Py_DECREF(cursor);
    return result;
}

static PyObject *
make_time(RedlaneState *state, PyObject *reply)
{
    PyObject *seconds, *microseconds, *result = NULL;

    if (!PyList_Check(reply) || PyList_GET_SIZE(reply) != 2) {
        return refuse_reply(state, reply);
    }
    seconds = make_int(state, PyList_GET_ITEM(reply, 0));
    microseconds = seconds ? make_int(state, PyList_GET_ITEM(reply, 1)) : NULL;
    if (seconds && microseconds) {
        result = PyTuple_Pack(2, seconds, microseconds);
    }
    Py_XDECREF(seconds);
    Py_XDECREF(microseconds);
    return result;
}

static PyObject *
make_result(RedlaneState *state, RedlaneShape shape, PyObject *cast, PyObject *reply)
{
    switch (shape) {
    case REDLANE_SHAPE_RAW:
    case REDLANE_SHAPE_ANY:
        break;
    case REDLANE_SHAPE_OK:
        return PyBool_FromLong(reply_is(reply, "OK"));
    case REDLANE_SHAPE_SET:
        return reply_is(reply, "OK") ? Py_NewRef(Py_True) : Py_NewRef(Py_None);
    case REDLANE_SHAPE_BOOL:
        return make_bool(state, reply);
    case REDLANE_SHAPE_FLOAT:
        return make_float(state, reply);
    case REDLANE_SHAPE_MEMBERS:
        return make_members(state, reply);
    case REDLANE_SHAPE_FIELDS:
        return make_fields(state, reply);
    case REDLANE_SHAPE_SCORES:
        return make_scores(state, cast, reply);
    case REDLANE_SHAPE_SCAN:
        return make_scan(state, reply);
    case REDLANE_SHAPE_PONG:
        return PyBool_FromLong(reply_is(reply, "PONG"));
    case REDLANE_SHAPE_TIME:
        return make_time(state, reply);
    case REDLANE_SHAPE_INFO:
        if (reply == Py_None) {
            return PyDict_New();
        }
        return refuse_converted(state, reply, redlane_info_parse(reply));
    }
    return Py_NewRef(reply);
}

PyObject *
redlane_result(RedlaneState *state, RedlaneShape shape, PyObject *cast, PyObject *reply)
{
    PyObject *error = NULL, *result = NULL;

    if (shape != REDLANE_SHAPE_ANY && PyList_CheckExact(reply)) {
        error = find_error(reply);
    }
    if (error) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    }
    else {
        result = make_result(state, shape, cast, reply);
    }
    Py_DECREF(reply);
    return result;
}
