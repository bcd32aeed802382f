/* RateLimiter.limit: redlane._limit.limit, bound to the object, or to None where it is
 * asked of the class. Lock: the GIL. */
#include "types/limit_method.h"

static PyObject *
limit_method_tp_descr_get(PyObject *Py_UNUSED(self), PyObject *object,
                          PyObject *Py_UNUSED(type))
{
    PyObject *module = PyImport_ImportModule("redlane._limit"), *bound = NULL;

    if (module) {
        bound = PyObject_CallMethod(module, "bind", "O", object ? object : Py_None);
        Py_DECREF(module);
    }
    return bound;
}

/* Without it the collector could not tell that only the object holds its type. */
static int
limit_method_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static void
limit_method_tp_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    type->tp_free(self);
    Py_DECREF(type);
}

int
redlane_limit_method_add(PyObject *module, PyObject *type)
{
    static PyType_Slot slots[] = {
        {Py_tp_dealloc, limit_method_tp_dealloc},
        {Py_tp_traverse, limit_method_tp_traverse},
        {Py_tp_descr_get, limit_method_tp_descr_get},
        {0, NULL},
    };
    static PyType_Spec spec = {
        .name = "redlane._core.LimitMethod",
        .basicsize = sizeof(PyObject),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
                 Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };
    PyTypeObject *made = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    PyObject *method = made ? made->tp_alloc(made, 0) : NULL;
    int result = method ? PyObject_SetAttrString(type, "limit", method) : -1;

    Py_XDECREF(method);
    Py_XDECREF(made);
    return result;
}
