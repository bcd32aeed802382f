/* INFO's text as a dict, with the conversions of redis-py: numbers become int or float,
 * "a,b" a list, "a=1,b=2" a dict.
 *
 * GIL held. */
#include <string.h>

#include "py/item.h"
#include "types/results.h"

typedef struct {
    const char *data, *end;
} Span;

static PyObject *
make_str(Span span)
{
    return PyUnicode_DecodeUTF8(span.data, span.end - span.data, "replace");
}

static bool
has_byte(Span span, char byte)
{
    return span.data < span.end &&
           memchr(span.data, byte, (size_t)(span.end - span.data)) != NULL;
}

/* Cuts the part before the first `byte` off; the whole if there is none. */
static Span
cut_part(Span *rest, char byte)
{
    const char *stop = memchr(rest->data, byte, (size_t)(rest->end - rest->data));
    Span part = {rest->data, stop ? stop : rest->end};

    rest->data = stop ? stop + 1 : rest->end;
    return part;
}

/* An int or a float where the whole is one, else a str. */
static PyObject *
make_scalar(Span span)
{
    PyObject *text = make_str(span), *number;

    if (!text) {
        return NULL;
    }
    number = has_byte(span, '.') ? PyFloat_FromString(text)
                                 : PyLong_FromUnicodeObject(text, 10);
    if (!number && PyErr_ExceptionMatches(PyExc_ValueError)) {
        PyErr_Clear();
        return text;
    }
    Py_DECREF(text);
    return number;
}

static PyObject *
make_list(Span span)
{
    PyObject *list = PyList_New(0);

    while (list && span.data < span.end) {
        Span part = cut_part(&span, ',');
        PyObject *value;

        if (part.data == part.end) {
            continue;
        }
        value = make_scalar(part);
        if (!value || PyList_Append(list, value) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(value);
    }
    return list;
}

/* Sets dict[key] = value. STEALS value */
static int
set_item(PyObject *dict, Span key, PyObject *value)
{
    PyObject *name = value ? make_str(key) : NULL;
    int status = name ? PyDict_SetItem(dict, name, value) : -1;

    Py_XDECREF(name);
    Py_XDECREF(value);
    return status;
}

static PyObject *
make_dict(Span span)
{
    PyObject *dict = PyDict_New();

    while (dict && span.data < span.end) {
        Span part = cut_part(&span, ',');
        const char *equals = part.end;

        while (equals > part.data && *equals != '=') { /* the last one */
            equals--;
        }
        if (part.data == part.end) {
            continue;
        }
        if (equals == part.data
                ? set_item(dict, part, Py_NewRef(Py_True)) < 0
                : set_item(dict, (Span){part.data, equals},
                           make_scalar((Span){equals + 1, part.end})) < 0) {
            Py_CLEAR(dict);
        }
    }
    return dict;
}

static PyObject *
make_value(Span span)
{
    if (has_byte(span, '=')) {
        return make_dict(span);
    }
    return has_byte(span, ',') ? make_list(span) : make_scalar(span);
}

/* "module:…" lines come many times, so they are a list. */
static int
add_module(PyObject *info, Span value)
{
    PyObject *modules, *module;
    int status;

    if (redlane_item_find(info, "modules", &modules) < 0) {
        return -1;
    }
    if (!modules || !PyList_Check(modules)) { /* a "modules:" line may say anything */
        modules = PyList_New(0);
        status = modules ? PyDict_SetItemString(info, "modules", modules) : -1;
        Py_XDECREF(modules); /* the dict has it */
        if (status < 0) {
            return -1;
        }
    }
    module = make_value(value);
    status = module ? PyList_Append(modules, module) : -1;
    Py_XDECREF(module);
    return status;
}

static int
add_line(PyObject *info, Span line)
{
    Span key;

    if (line.data < line.end && line.end[-1] == '\r') {
        line.end--;
    }
    if (line.data == line.end || *line.data == '#' || !has_byte(line, ':')) {
        return 0;
    }
    key = cut_part(&line, ':');
    if (key.end - key.data == 6 && memcmp(key.data, "module", 6) == 0) {
        return add_module(info, line);
    }
    return set_item(info, key, make_value(line));
}

PyObject *
redlane_info_parse(PyObject *text)
{
    PyObject *info;
    Span rest;

    if (PyUnicode_Check(text)) {
        Py_ssize_t size;

        rest.data = PyUnicode_AsUTF8AndSize(text, &size);
        if (!rest.data) {
            return NULL;
        }
        rest.end = rest.data + size;
    }
    else if (PyBytes_Check(text)) {
        rest = (Span){PyBytes_AS_STRING(text),
                      PyBytes_AS_STRING(text) + PyBytes_GET_SIZE(text)};
    }
    else {
        PyErr_SetString(PyExc_TypeError, "INFO is a text");
        return NULL;
    }
    info = PyDict_New();
    while (info && rest.data < rest.end) {
        if (add_line(info, cut_part(&rest, '\n')) < 0) {
            Py_CLEAR(info);
        }
    }
    return info;
}
