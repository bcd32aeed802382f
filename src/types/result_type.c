/* Return types of cached functions. Lock: the GIL. */
#include "types/result_type.h"

#include "py/item.h"
#include "py/state.h"

/* Annotations that ask for nothing, as types and, where annotations are strings, by
 * name: for them nothing is imported. */
static bool
is_plain(PyObject *annotation)
{
    static const char *const names[] = {"None", "bool", "int", "float",
                                        "str",  "list", "dict"};
    PyObject *const types[] = {
        Py_None,
        (PyObject *)Py_TYPE(Py_None),
        (PyObject *)&PyBool_Type,
        (PyObject *)&PyLong_Type,
        (PyObject *)&PyFloat_Type,
        (PyObject *)&PyUnicode_Type,
        (PyObject *)&PyList_Type,
        (PyObject *)&PyDict_Type,
    };

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (annotation == types[i]) {
            return true;
        }
    }
    if (PyUnicode_CheckExact(annotation)) {
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
            if (PyUnicode_CompareWithASCIIString(annotation, names[i]) == 0) {
                return true;
            }
        }
    }
    return false;
}

/* 1 when the function has an annotation that must be looked at. RAISES_NEG */
static int
has_annotation(PyObject *function)
{
    PyObject *annotations = PyObject_GetAttrString(function, "__annotations__");
    PyObject *annotation;

    if (!annotations) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    annotation = NULL;
    if (PyDict_Check(annotations) &&
        redlane_item_find(annotations, "return", &annotation) < 0) {
        Py_DECREF(annotations);
        return -1;
    }
    Py_XINCREF(annotation);
    Py_DECREF(annotations);
    if (!annotation || is_plain(annotation)) {
        Py_XDECREF(annotation);
        return 0;
    }
    Py_DECREF(annotation);
    return 1;
}

int
redlane_result_type_init(RedlaneResultType *type, RedlaneState *state,
                         PyObject *function, const char *serializer)
{
    int wanted = serializer ? has_annotation(function) : 0;

    *type = (RedlaneResultType){.serializer = serializer};
    if (wanted <= 0) {
        return wanted;
    }
    /* early: a module that another thread imports while this one forks stays locked in
     * the child for ever */
    if (!state->find_codec) {
        PyObject *module = PyImport_ImportModule("redlane._result_types");

        if (!module) {
            return -1;
        }
        Py_XSETREF(state->find_codec, PyObject_GetAttrString(module, "find_codec"));
        Py_DECREF(module);
        if (!state->find_codec) {
            return -1;
        }
    }
    type->function = Py_NewRef(function);
    return 0;
}

int
redlane_result_type_traverse(RedlaneResultType *type, visitproc visit, void *arg)
{
    Py_VISIT(type->function);
    Py_VISIT(type->dumps);
    Py_VISIT(type->loads);
    return 0;
}

void
redlane_result_type_clear(RedlaneResultType *type)
{
    Py_CLEAR(type->function);
    Py_CLEAR(type->dumps);
    Py_CLEAR(type->loads);
}

int
redlane_result_type_find(RedlaneResultType *type, RedlaneState *state)
{
    PyObject *function = Py_NewRef(type->function), *codec;
    PyObject *dumps = NULL, *loads = NULL;
    int result = -1;

    codec = PyObject_CallFunction(state->find_codec, "Os", function, type->serializer);
    if (codec && codec != Py_None && !PyArg_ParseTuple(codec, "OO", &dumps, &loads)) {
        Py_CLEAR(codec);
    }
    if (codec) {
        /* another thread may have found them meanwhile: those stay */
        if (type->function && dumps) {
            type->dumps = Py_NewRef(dumps);
            type->loads = Py_NewRef(loads);
        }
        Py_CLEAR(type->function);
        result = 0;
    }
    Py_XDECREF(codec);
    Py_DECREF(function);
    return result;
}
