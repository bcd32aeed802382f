/* JSON: the standard library decides what is JSON and what it means; msgspec does the
 * work where it gives the same. Lock: the GIL. */
#include <math.h>

#include "py/state.h"
#include "types/serializer.h"

/* Values nested deeper go to the standard library, which has a limit of its own. */
#define PLAIN_DEPTH 100

static int
import_attribute(PyObject **slot, const char *module_name, const char *name)
{
    PyObject *module;

    if (likely(*slot != NULL)) {
        return 0;
    }
    module = PyImport_ImportModule(module_name);
    if (!module) {
        return -1;
    }
    *slot = PyObject_GetAttrString(module, name);
    Py_DECREF(module);
    return *slot ? 0 : -1;
}

int
redlane_json_prepare(RedlaneState *state)
{
    return import_attribute(&state->json_encode, "msgspec.json", "encode") < 0 ||
                   import_attribute(&state->json_decode, "msgspec.json", "decode") < 0
               ? -1
               : 0;
}

static bool
is_plain_int(PyObject *value)
{
    int overflow;

    (void)PyLong_AsLongLongAndOverflow(value, &overflow);
    return !overflow;
}

/* True for what msgspec and json write to texts of one meaning: exact built-in types,
 * integers of 64 bits, finite floats, str keys. Runs no Python code. */
static bool
is_plain(PyObject *value, int depth)
{
    PyTypeObject *type = Py_TYPE(value);
    PyObject *key, *item;
    Py_ssize_t position = 0;

    if (type == &PyUnicode_Type || value == Py_None || type == &PyBool_Type) {
        return true;
    }
    if (type == &PyLong_Type) {
        return is_plain_int(value);
    }
    if (type == &PyFloat_Type) {
        return isfinite(PyFloat_AS_DOUBLE(value));
    }
    if (depth == 0) {
        return false;
    }
    if (type == &PyDict_Type) {
        while (PyDict_Next(value, &position, &key, &item)) {
            if (Py_TYPE(key) != &PyUnicode_Type || !is_plain(item, depth - 1)) {
                return false;
            }
        }
        return true;
    }
    if (type == &PyList_Type || type == &PyTuple_Type) {
        for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(value); i++) {
            if (!is_plain(PySequence_Fast_GET_ITEM(value, i), depth - 1)) {
                return false;
            }
        }
        return true;
    }
    return false;
}

/* json.dumps(value, ensure_ascii=…, separators=(",", ":")) */
static PyObject *
dump_text(RedlaneState *state, PyObject *value, PyObject *ensure_ascii)
{
    PyObject *args = NULL, *options = NULL, *text = NULL;

    if (import_attribute(&state->stdlib_dumps, "json", "dumps") < 0) {
        return NULL;
    }
    args = PyTuple_Pack(1, value);
    options = Py_BuildValue("{s:O,s:(ss)}", "ensure_ascii", ensure_ascii, "separators",
                            ",", ":");
    if (args && options) {
        text = PyObject_Call(state->stdlib_dumps, args, options);
    }
    Py_XDECREF(args);
    Py_XDECREF(options);
    return text;
}

static PyObject *
dump_by_stdlib(RedlaneState *state, PyObject *value)
{
    PyObject *text = dump_text(state, value, Py_False), *bytes;

    if (!text) {
        return NULL;
    }
    bytes = PyUnicode_AsUTF8String(text);
    Py_DECREF(text);
    if (bytes || !PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
        return bytes;
    }
    PyErr_Clear(); /* a lone surrogate: ASCII can say it */
    text = dump_text(state, value, Py_True);
    bytes = text ? PyUnicode_AsUTF8String(text) : NULL;
    Py_XDECREF(text);
    return bytes;
}

PyObject *
redlane_json_dumps(RedlaneState *state, PyObject *value)
{
    PyObject *bytes;

    if (!is_plain(value, PLAIN_DEPTH)) {
        return dump_by_stdlib(state, value);
    }
    if (import_attribute(&state->json_encode, "msgspec.json", "encode") < 0) {
        return NULL;
    }
    bytes = PyObject_CallOneArg(state->json_encode, value);
    if (!bytes && PyErr_ExceptionMatches(PyExc_Exception) &&
        !PyErr_ExceptionMatches(PyExc_MemoryError)) {
        PyErr_Clear();
        return dump_by_stdlib(state, value);
    }
    return bytes;
}

PyObject *
redlane_json_loads(RedlaneState *state, PyObject *stored)
{
    PyObject *value;

    if (import_attribute(&state->json_decode, "msgspec.json", "decode") < 0) {
        return NULL;
    }
    value = PyObject_CallOneArg(state->json_decode, stored);
    if (value || !PyErr_ExceptionMatches(PyExc_Exception) ||
        PyErr_ExceptionMatches(PyExc_MemoryError)) {
        return value;
    }
    PyErr_Clear(); /* NaN, lone surrogates: not msgspec's JSON */
    if (import_attribute(&state->stdlib_loads, "json", "loads") < 0) {
        return NULL;
    }
    return PyObject_CallOneArg(state->stdlib_loads, stored);
}
