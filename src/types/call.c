/* Arguments of a METH_FASTCALL | METH_KEYWORDS method, by name. Lock: the GIL. */
#include "types/call.h"

static Py_ssize_t
find_name(const RedlaneCall *call, PyObject *name)
{
    for (Py_ssize_t i = 0; call->names[i]; i++) {
        if (PyUnicode_CompareWithASCIIString(name, call->names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

int
redlane_call_parse(const RedlaneCall *call, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames, PyObject **values)
{
    Py_ssize_t keywords = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;

    if (nargs > call->positional) {
        PyErr_Format(PyExc_TypeError,
                     "%s() takes at most %zd positional arguments (%zd given)",
                     call->function, call->positional, nargs);
        return -1;
    }
    for (Py_ssize_t i = 0; call->names[i]; i++) {
        values[i] = i < nargs ? args[i] : NULL;
    }
    for (Py_ssize_t i = 0; i < keywords; i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        Py_ssize_t at = find_name(call, name);

        if (at < 0) {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument %R",
                         call->function, name);
            return -1;
        }
        if (values[at]) {
            PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%s'",
                         call->function, call->names[at]);
            return -1;
        }
        values[at] = args[nargs + i];
    }
    for (Py_ssize_t i = 0; i < call->required; i++) {
        if (!values[i]) {
            PyErr_Format(PyExc_TypeError, "%s() is missing the argument '%s'",
                         call->function, call->names[i]);
            return -1;
        }
    }
    return 0;
}
