/* The first steps of a hit in a web framework: what a plain request of ASGI asks for,
 * and whether a call of a cached function would be answered at once. In C because they
 * are taken for each request, and the frameworks around them take some 30 us.
 * Lock: the GIL. */
#include "types/web_hit.h"

#include <string.h>

#include "py/state.h"
#include "types/cached_function.h"

/* What a scope has by that name: a new reference, or NULL; then an exception is set
 * where `needed`, or where the scope raises something else than KeyError. */
static PyObject *
scope_get(PyObject *scope, PyObject *name, bool needed)
{
    PyObject *value;

    if (PyDict_CheckExact(scope)) {
        value = Py_XNewRef(PyDict_GetItemWithError(scope, name));
        if (!value && needed && !PyErr_Occurred()) {
            PyErr_SetObject(PyExc_KeyError, name);
        }
        return value;
    }
    value = PyObject_GetItem(scope, name);
    if (!value && !needed && PyErr_ExceptionMatches(PyExc_KeyError)) {
        PyErr_Clear();
    }
    return value;
}

static bool
is_host(PyObject *name)
{
    return PyBytes_GET_SIZE(name) == 4 &&
           memcmp(PyBytes_AS_STRING(name), "host", 4) == 0;
}

/* Looks through the fields: 1, and *host is BORROWED from them, or NULL; 0: there is
 * one in `special`, two of a host, or what is no pair of bytes. RAISES_NEG
 *
 * Only exact types are looked at, so that no other code runs meanwhile. */
static int
read_fields(PyObject *fields, PyObject *special, PyObject **host)
{
    Py_ssize_t count = PySequence_Fast_GET_SIZE(fields);

    *host = NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *pair = PySequence_Fast_GET_ITEM(fields, i);
        PyObject *const *part;
        int found;

        if (!(PyTuple_CheckExact(pair) || PyList_CheckExact(pair)) ||
            PySequence_Fast_GET_SIZE(pair) != 2) {
            return 0;
        }
        part = PySequence_Fast_ITEMS(pair);
        if (!PyBytes_CheckExact(part[0]) || !PyBytes_CheckExact(part[1])) {
            return 0;
        }
        found = PySet_Contains(special, part[0]);
        if (found) {
            return found < 0 ? -1 : 0;
        }
        if (is_host(part[0])) {
            if (*host) {
                return 0;
            }
            *host = part[1];
        }
    }
    return 1;
}

static PyObject *
decode_latin1(PyObject *bytes)
{
    return PyUnicode_DecodeLatin1(PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes),
                                  NULL);
}

/* Whether a path is `root` or begins with it and a slash. RAISES_NEG */
static int
is_below(PyObject *path, PyObject *root)
{
    Py_ssize_t size = PyUnicode_GET_LENGTH(root);
    Py_ssize_t starts = PyUnicode_Tailmatch(path, root, 0, PY_SSIZE_T_MAX, -1);

    if (starts <= 0) {
        return (int)starts;
    }
    return PyUnicode_GET_LENGTH(path) == size || PyUnicode_READ_CHAR(path, size) == '/';
}

/* The path with what the application is mounted at, its bytes as Latin-1. A new
 * reference, or NULL. */
static PyObject *
full_path(PyObject *STEALS path, PyObject *root)
{
    PyObject *whole = path, *bytes;
    Py_ssize_t size = root ? PyUnicode_GET_LENGTH(root) : 0;

    while (size > 0 && PyUnicode_READ_CHAR(root, size - 1) == '/') {
        size--;
    }
    if (size > 0) {
        PyObject *mounted = PyUnicode_Substring(root, 0, size);
        int below = mounted ? is_below(path, mounted) : -1;

        if (below <= 0) {
            whole = below < 0 ? NULL : PyUnicode_Concat(mounted, path);
            Py_DECREF(path);
        }
        Py_XDECREF(mounted);
    }
    if (!whole || PyUnicode_IS_ASCII(whole)) {
        return whole;
    }
    bytes = PyUnicode_AsEncodedString(whole, "utf-8", "surrogateescape");
    Py_DECREF(whole);
    whole = bytes ? decode_latin1(bytes) : NULL;
    Py_XDECREF(bytes);
    return whole;
}

/* RedlaneState.scope_names, by place. */
enum { HEADERS, PATH, QUERY, ROOT, SCHEME, SCOPE_NAMES };

static const char *const scope_texts[SCOPE_NAMES] = {
    "headers", "path", "query_string", "root_path", "scheme",
};

/* The values of a scope, by their names' places: new references, or NULL. */
typedef PyObject *ScopeValues[SCOPE_NAMES];

/* 1: all that is needed is there, and of its type; 0: it is not. RAISES_NEG */
static int
read_scope(PyObject *scope, PyObject *names, ScopeValues values)
{
    for (int i = PATH; i < SCOPE_NAMES; i++) {
        values[i] = scope_get(scope, PyTuple_GET_ITEM(names, i), i < ROOT);
        if (!values[i] && PyErr_Occurred()) {
            return -1;
        }
    }
    return PyUnicode_CheckExact(values[PATH]) && PyBytes_CheckExact(values[QUERY]) &&
           (!values[ROOT] || PyUnicode_CheckExact(values[ROOT])) && values[SCHEME];
}

PyDoc_STRVAR(look_doc,
             "_look(scope, special, /)\n--\n\n"
             "Scheme, host, path and query of a request of ASGI, as text; None where\n"
             "it has a field of `special`, or is not to be read so simply.");

static PyObject *
look(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *names = redlane_state_of_module(module)->scope_names;
    ScopeValues values = {NULL};
    PyObject *fields = NULL, *host = NULL, *path, *result = NULL;
    int plain = -1;

    if (nargs != 2 || !PyFrozenSet_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError, "_look() takes a scope and a frozenset");
        return NULL;
    }
    values[HEADERS] = scope_get(args[0], PyTuple_GET_ITEM(names, HEADERS), true);
    if (values[HEADERS]) {
        fields = PySequence_Fast(values[HEADERS], "headers: not to be iterated");
        plain = fields ? read_fields(fields, args[1], &host) : -1;
    }
    if (plain > 0 && host) {
        plain = read_scope(args[0], names, values);
    }
    if (plain > 0 && host) {
        path = full_path(Py_NewRef(values[PATH]), values[ROOT]);
        result = path ? Py_BuildValue("(ONNN)", values[SCHEME], decode_latin1(host),
                                      path, decode_latin1(values[QUERY]))
                      : NULL;
    }
    else if (plain >= 0) {
        result = Py_NewRef(Py_None);
    }
    for (int i = 0; i < SCOPE_NAMES; i++) {
        Py_XDECREF(values[i]);
    }
    Py_XDECREF(fields);
    return result;
}

PyDoc_STRVAR(
    peek_doc,
    "_peek(function, reads, /, *args)\n--\n\n"
    "What a call of a cached function would be answered with at once: by what\n"
    "is near, or where `reads` by the store, an engine of this process; None\n"
    "where there is nothing, or the function's options ask for more.");

static PyObject *
peek(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    RedlaneState *state = redlane_state_of_module(module);
    PyObject *value;

    if (nargs < 2 || !Py_IS_TYPE(args[0], (PyTypeObject *)state->CachedFunctionType)) {
        PyErr_SetString(PyExc_TypeError, "_peek() takes a cached function");
        return NULL;
    }
    value = redlane_cached_function_peek(args[0], args + 2, (size_t)nargs - 2,
                                         args[1] == Py_True);
    return value || PyErr_Occurred() ? value : Py_NewRef(Py_None);
}

static PyMethodDef web_hit_functions[] = {
    {"_look", (PyCFunction)(void (*)(void))look, METH_FASTCALL, look_doc},
    {"_peek", (PyCFunction)(void (*)(void))peek, METH_FASTCALL, peek_doc},
    {NULL, NULL, 0, NULL},
};

int
redlane_web_hit_setup(PyObject *module)
{
    PyObject *names = PyTuple_New(SCOPE_NAMES);

    for (int i = 0; names && i < SCOPE_NAMES; i++) {
        PyObject *name = PyUnicode_InternFromString(scope_texts[i]);

        if (!name) {
            Py_CLEAR(names);
            break;
        }
        PyTuple_SET_ITEM(names, i, name);
    }
    redlane_state_of_module(module)->scope_names = names;
    return names ? PyModule_AddFunctions(module, web_hit_functions) : -1;
}
