/* Tags of a call. Lock: the GIL. */
#include "types/tag_templates.h"

#include "core/buffer.h"

PyObject *
redlane_tag_templates_new(const RedlaneSignature *signature, PyObject *given)
{
    PyObject *module = PyImport_ImportModule("redlane._describe"), *ignored, *rows;

    ignored = module ? PyList_New(0) : NULL;
    for (Py_ssize_t i = 0; ignored && i < signature->count; i++) {
        if (signature->ignored[i] &&
            PyList_Append(ignored, PyTuple_GET_ITEM(signature->names, i)) < 0) {
            Py_CLEAR(ignored);
        }
    }
    rows = ignored
               ? PyObject_CallMethod(module, "describe_tags", "OOOO", signature->shown,
                                     signature->names, ignored, given)
               : NULL;
    Py_XDECREF(ignored);
    Py_XDECREF(module);
    if (rows && !PyTuple_Check(rows)) {
        PyErr_SetString(PyExc_TypeError, "describe_tags() must return a tuple");
        Py_CLEAR(rows);
    }
    return rows;
}

/* The value of a keyword; BORROWED, or NULL. */
static PyObject *
find_keyword(PyObject *names, PyObject *name, PyObject *const *values)
{
    for (Py_ssize_t i = 0; names && i < PyTuple_GET_SIZE(names); i++) {
        if (PyUnicode_Compare(PyTuple_GET_ITEM(names, i), name) == 0) {
            return values[i];
        }
    }
    return NULL;
}

/* The argument of a parameter, as wire_key.c binds it; BORROWED. NULL: the call does
 * not fit (no exception). */
static PyObject *
find_argument(const RedlaneTagCall *call, Py_ssize_t index)
{
    const RedlaneSignature *signature = call->signature;
    PyObject *name = PyTuple_GET_ITEM(signature->names, index), *value = NULL;
    PyObject *carried = signature->carried, *carried_names = signature->carried_names;
    Py_ssize_t lead = 0;

    if (carried) { /* positional ones stand before the call's */
        lead = PyTuple_GET_SIZE(carried) - PyTuple_GET_SIZE(carried_names);
    }
    if (index < lead) {
        return PyTuple_GET_ITEM(carried, index);
    }
    if (index < signature->positional && index - lead < call->nargs) {
        return call->args[index - lead];
    }
    if (index >= signature->positional_only) {
        value = find_keyword(call->kwnames, name, call->args + call->nargs);
        if (!value && carried) {
            value =
                find_keyword(carried_names, name, &PyTuple_GET_ITEM(carried, 0) + lead);
        }
    }
    if (!value) {
        value = PyTuple_GET_ITEM(signature->defaults, index);
    }
    return value == signature->no_default ? NULL : value;
}

static int
append_bytes(RedlaneBuffer *text, const char *data, Py_ssize_t size)
{
    if (redlane_buffer_append(text, data, (size_t)size) < 0) {
        (void)PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static int
append_str(RedlaneBuffer *text, PyObject *value)
{
    Py_ssize_t size;
    const char *data = PyUnicode_AsUTF8AndSize(value, &size);

    return data ? append_bytes(text, data, size) : -1;
}

/* An argument as plain text: what str() gives, but for bytes, which are themselves. */
static int
append_argument(RedlaneBuffer *text, const RedlaneTagCall *call, Py_ssize_t index)
{
    PyObject *value = find_argument(call, index), *shown;
    int result;

    if (!value) {
        PyErr_Format(PyExc_TypeError, "the arguments do not fit %U()",
                     call->signature->shown);
        return -1;
    }
    if (PyBytes_Check(value)) {
        return append_bytes(text, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value));
    }
    if (PyUnicode_CheckExact(value)) {
        return append_str(text, value);
    }
    if (Py_TYPE(value)->tp_str == PyBaseObject_Type.tp_str &&
        Py_TYPE(value)->tp_repr == PyBaseObject_Type.tp_repr) {
        PyErr_Format(PyExc_TypeError,
                     "tags: %U of %U() is of type '%.100s', which has no text of its "
                     "own: give it __str__, or use a callable",
                     PyTuple_GET_ITEM(call->signature->names, index),
                     call->signature->shown, Py_TYPE(value)->tp_name);
        return -1;
    }
    shown = PyObject_Str(value);
    result = shown ? append_str(text, shown) : -1;
    Py_XDECREF(shown);
    return result;
}

static int
add_template(const RedlaneTagCall *call, PyObject *parts, PyObject *head,
             RedlaneTags *tags)
{
    RedlaneBuffer text = {0};
    PyObject *tag = NULL;
    int result = 0;

    for (Py_ssize_t i = 0; result == 0 && i < PyTuple_GET_SIZE(parts); i++) {
        PyObject *part = PyTuple_GET_ITEM(parts, i);

        result = PyUnicode_Check(part)
                     ? append_str(&text, part)
                     : append_argument(&text, call, PyLong_AsSsize_t(part));
    }
    if (result == 0) {
        tag = PyBytes_FromStringAndSize(text.data, (Py_ssize_t)text.size);
        result = tag ? redlane_tags_add(tags, call->signature->state, head, tag) : -1;
    }
    Py_XDECREF(tag);
    redlane_buffer_free(&text);
    return result;
}

int
redlane_tag_templates_add(PyObject *templates, const RedlaneTagCall *call,
                          PyObject *head, RedlaneTags *tags)
{
    int result = 0;

    for (Py_ssize_t i = 0; result == 0 && i < PyTuple_GET_SIZE(templates); i++) {
        PyObject *row = PyTuple_GET_ITEM(templates, i), *given;

        if (PyTuple_Check(row)) {
            result = add_template(call, row, head, tags);
            continue;
        }
        given =
            PyObject_Vectorcall(row, call->args, (size_t)call->nargs, call->kwnames);
        if (!given) {
            return -1;
        }
        if (given != Py_None) {
            result = redlane_tags_add_all(tags, call->signature->state, head, given);
        }
        Py_DECREF(given);
    }
    return result;
}
