/* Python objects to command arguments.
 *
 * GIL held throughout. User code can run in here (a buffer's __buffer__, a mapping's
 * items, an iterable), so whatever is borrowed from a container is first held. */
#include "py/args.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
redlane_args_init(RedlaneArgs *args, const RedlaneCommand *command)
{
    redlane_args_start(args, (RedlaneArg){command->name, strlen(command->name)});
}

void
redlane_args_release(RedlaneArgs *args)
{
    if (args->argv != args->inline_argv) {
        free(args->argv);
        args->argv = args->inline_argv;
        args->capacity = REDLANE_ARGS_INLINE;
    }
    args->argc = 0;
    Py_CLEAR(args->held);
}

int
redlane_args_grow(RedlaneArgs *args)
{
    size_t capacity = args->capacity * 2;
    RedlaneArg *argv;

    if (args->argc < args->capacity) {
        return 0;
    }
    if (args->argv == args->inline_argv) {
        argv = malloc(capacity * sizeof(*argv));
        if (argv) {
            memcpy(argv, args->inline_argv, args->argc * sizeof(*argv));
        }
    }
    else {
        argv = realloc(args->argv, capacity * sizeof(*argv));
    }
    if (!argv) {
        PyErr_NoMemory();
        return -1;
    }
    args->argv = argv;
    args->capacity = capacity;
    return 0;
}

int
redlane_args_hold(RedlaneArgs *args, PyObject *object)
{
    if (!args->held) {
        args->held = PyList_New(0);
        if (!args->held) {
            return -1;
        }
    }
    return PyList_Append(args->held, object);
}

int
redlane_args_add_bytes(RedlaneArgs *args, const char *data, size_t size)
{
    if (redlane_args_grow(args) < 0) {
        return -1;
    }
    args->argv[args->argc++] = (RedlaneArg){data, size};
    return 0;
}

/* Appends the bytes of a new bytes object, which the argv takes over. STEALS bytes */
static int
add_own_bytes(RedlaneArgs *args, PyObject *bytes)
{
    int status;

    if (!bytes) {
        return -1;
    }
    status = redlane_args_hold(args, bytes);
    if (status == 0) {
        status = redlane_args_add_bytes(args, PyBytes_AS_STRING(bytes),
                                        (size_t)PyBytes_GET_SIZE(bytes));
    }
    Py_DECREF(bytes);
    return status;
}

/* Appends a short formatted text: into the scratch while there is room. */
static int
add_copy(RedlaneArgs *args, const char *text, size_t size)
{
    char *place = args->scratch + args->scratch_used;

    if (size > sizeof(args->scratch) - args->scratch_used) {
        return add_own_bytes(args, PyBytes_FromStringAndSize(text, (Py_ssize_t)size));
    }
    memcpy(place, text, size);
    args->scratch_used += size;
    return redlane_args_add_bytes(args, place, size);
}

int
redlane_args_add_int64(RedlaneArgs *args, int64_t value)
{
    char text[24], *start = text + sizeof(text);
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;

    do {
        *--start = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    if (value < 0) {
        *--start = '-';
    }
    return add_copy(args, start, (size_t)(text + sizeof(text) - start));
}

/* Digits of any int; more than int64 holds goes through int.__repr__, which no
 * subclass can replace here. */
static int
add_long(RedlaneArgs *args, PyObject *object)
{
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
    PyObject *text, *bytes;

    if (!overflow) {
        return value == -1 && PyErr_Occurred() ? -1
                                               : redlane_args_add_int64(args, value);
    }
    text = PyLong_Type.tp_repr(object);
    if (!text) {
        return -1;
    }
    bytes = PyUnicode_AsASCIIString(text);
    Py_DECREF(text);
    return add_own_bytes(args, bytes);
}

static int
add_double(RedlaneArgs *args, double value)
{
    char *text;
    int status;

    text = PyOS_double_to_string(value, 'r', 0, Py_DTSF_ADD_DOT_0, NULL);
    if (!text) {
        return -1;
    }
    status = add_copy(args, text, strlen(text));
    PyMem_Free(text);
    return status;
}

static int
add_buffer(RedlaneArgs *args, PyObject *object)
{
    Py_buffer view;
    PyObject *bytes;

    if (PyObject_GetBuffer(object, &view, PyBUF_FULL_RO) < 0) {
        return -1;
    }
    bytes = PyBytes_FromStringAndSize(NULL, view.len);
    if (bytes &&
        PyBuffer_ToContiguous(PyBytes_AS_STRING(bytes), &view, view.len, 'C') < 0) {
        Py_CLEAR(bytes);
    }
    PyBuffer_Release(&view);
    return add_own_bytes(args, bytes);
}

static int
refuse_type(PyObject *object)
{
    PyErr_Format(PyExc_TypeError, "expected str, bytes, int or float, got %.100s",
                 Py_TYPE(object)->tp_name);
    return -1;
}

int
redlane_arg_from_text_slow(PyObject *object, RedlaneArg *arg)
{
    if (PyUnicode_Check(object)) {
        Py_ssize_t size;

        arg->data = PyUnicode_AsUTF8AndSize(object, &size);
        arg->size = (size_t)size;
        return arg->data ? 0 : -1;
    }
    if (PyBytes_Check(object)) {
        arg->data = PyBytes_AS_STRING(object);
        arg->size = (size_t)PyBytes_GET_SIZE(object);
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "expected str or bytes, got %.100s",
                 Py_TYPE(object)->tp_name);
    return -1;
}

/* Appends str, bytes, int or a buffer; floats are the caller's. */
static int
add_other(RedlaneArgs *args, PyObject *object)
{
    if (PyUnicode_Check(object) || PyBytes_Check(object)) {
        RedlaneArg arg;

        return redlane_arg_from_text(object, &arg) < 0
                   ? -1
                   : redlane_args_add_bytes(args, arg.data, arg.size);
    }
    if (PyLong_Check(object) && !PyBool_Check(object)) {
        return add_long(args, object);
    }
    if (PyObject_CheckBuffer(object)) {
        return add_buffer(args, object);
    }
    return refuse_type(object);
}

int
redlane_args_add_object_slow(RedlaneArgs *args, PyObject *object)
{
    if (PyFloat_Check(object)) {
        double value = PyFloat_AS_DOUBLE(object);

        if (!Py_IS_FINITE(value)) {
            PyErr_SetString(PyExc_ValueError, "NaN and infinity cannot be stored");
            return -1;
        }
        return add_double(args, value);
    }
    return add_other(args, object);
}

int
redlane_args_add_score(RedlaneArgs *args, PyObject *object)
{
    if (PyFloat_Check(object)) {
        double value = PyFloat_AS_DOUBLE(object);

        if (Py_IS_NAN(value)) {
            PyErr_SetString(PyExc_ValueError, "a score cannot be NaN");
            return -1;
        }
        return add_double(args, value);
    }
    return add_other(args, object);
}

int
redlane_args_add_int(RedlaneArgs *args, PyObject *object, const char *name)
{
    PyObject *number;
    long long value;
    int overflow;

    if (PyBool_Check(object) || !PyIndex_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s must be an int, not %.100s", name,
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    number = PyNumber_Index(object);
    if (!number) {
        return -1;
    }
    value = PyLong_AsLongLongAndOverflow(number, &overflow);
    Py_DECREF(number);
    if (overflow) {
        PyErr_Format(PyExc_OverflowError, "%s does not fit in 64 bits", name);
        return -1;
    }
    return redlane_args_add_int64(args, value);
}

int
redlane_args_add_all(RedlaneArgs *args, PyObject *iterable)
{
    PyObject *elements;
    int status = -1;

    if (PyUnicode_Check(iterable) || PyObject_CheckBuffer(iterable)) {
        return redlane_args_add_object(args, iterable);
    }
    elements = PySequence_Tuple(iterable);
    if (!elements || redlane_args_hold(args, elements) < 0) {
        goto exit;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(elements); i++) {
        if (redlane_args_add_object(args, PyTuple_GET_ITEM(elements, i)) < 0) {
            goto exit;
        }
    }
    status = 0;

exit:
    Py_XDECREF(elements);
    return status;
}

PyObject *
redlane_args_items(RedlaneArgs *args, PyObject *mapping)
{
    PyObject *items;
    int status;

    items = PyMapping_Items(mapping);
    if (!items) {
        if (PyErr_ExceptionMatches(PyExc_AttributeError)) {
            PyErr_Format(PyExc_TypeError, "expected a mapping, got %.100s",
                         Py_TYPE(mapping)->tp_name);
        }
        return NULL;
    }
    status = redlane_args_hold(args, items);
    Py_DECREF(items);
    return status < 0 ? NULL : items;
}

int
redlane_args_item(PyObject *items, Py_ssize_t index, PyObject **key, PyObject **value)
{
    PyObject *pair = PyList_GET_ITEM(items, index);

    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2) {
        PyErr_SetString(PyExc_TypeError, "items() of the mapping gave no pairs");
        return -1;
    }
    *key = PyTuple_GET_ITEM(pair, 0);
    *value = PyTuple_GET_ITEM(pair, 1);
    return 0;
}
