/* Items of dicts by a C string's name. */
#ifndef REDLANE_PY_ITEM_H
#define REDLANE_PY_ITEM_H

#include "py/python.h"

/* Gives `*item`, BORROWED, or NULL where there is none. PyDict_GetItemString() would
 * say so, too, where there is no memory to look. RAISES_NEG, `*item` is NULL then */
static inline int
redlane_item_find(PyObject *dict, const char *name, PyObject **item)
{
    PyObject *key = PyUnicode_FromString(name);

    *item = key ? PyDict_GetItemWithError(dict, key) : NULL;
    Py_XDECREF(key);
    return !*item && PyErr_Occurred() ? -1 : 0;
}

#endif
