/* Ids as they stand in keys. Lock: the GIL. */
#include "types/id_text.h"

#include <stdbool.h>

static bool
is_id(PyObject *id)
{
    return !(id == Py_None || PyBool_Check(id) || PyFloat_Check(id) ||
             PyBytes_Check(id) || PyByteArray_Check(id) || PyTuple_Check(id) ||
             PyList_Check(id) || PyDict_Check(id) || PyAnySet_Check(id));
}

PyObject *
redlane_id_text(PyObject *id, const char *owner)
{
    if (likely(PyUnicode_CheckExact(id))) {
        return Py_NewRef(id);
    }
    if (!is_id(id)) {
        PyErr_Format(PyExc_TypeError, "%s id must be str or int, not %.100s", owner,
                     Py_TYPE(id)->tp_name);
        return NULL;
    }
    return PyObject_Str(id);
}
