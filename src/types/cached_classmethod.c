/* What `@cache` makes of a classmethod: `Class.method` and `obj.method` are the cached
 * function with the class. (classmethod() itself binds in ways that differ between
 * Python versions.) Lock: the GIL. */
#include "types/cached_method.h"

#include <stddef.h>
#include <structmember.h>

#include "py/state.h"

typedef struct {
    PyObject_HEAD
    RedlaneCachedFunction *function;
} ClassMethod;

static PyObject *
classmethod_tp_descr_get(PyObject *self, PyObject *object, PyObject *type)
{
    RedlaneCachedFunction *function = ((ClassMethod *)self)->function;

    return redlane_cached_method_new(function,
                                     type ? type : (PyObject *)Py_TYPE(object));
}

static PyObject *
classmethod_is_abstract(PyObject *self, void *Py_UNUSED(closure))
{
    ClassMethod *method = (ClassMethod *)self;
    PyObject *answer =
        PyObject_GetAttrString((PyObject *)method->function, "__isabstractmethod__");

    if (!answer && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        Py_RETURN_FALSE;
    }
    return answer;
}

static int
classmethod_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((ClassMethod *)self)->function);
    return 0;
}

static void
classmethod_tp_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    Py_CLEAR(((ClassMethod *)self)->function);
    type->tp_free(self);
    Py_DECREF(type);
}

PyObject *
redlane_cached_classmethod_new(RedlaneCachedFunction *function)
{
    PyTypeObject *type = (PyTypeObject *)function->state->CachedClassMethodType;
    ClassMethod *method = (ClassMethod *)type->tp_alloc(type, 0);

    if (method) {
        method->function = (RedlaneCachedFunction *)Py_NewRef((PyObject *)function);
    }
    return (PyObject *)method;
}

int
redlane_cached_classmethod_setup(PyObject *module)
{
    static PyMemberDef members[] = {
        {"__func__", T_OBJECT_EX, offsetof(ClassMethod, function), READONLY,
         "The cached function."},
        {"__wrapped__", T_OBJECT_EX, offsetof(ClassMethod, function), READONLY,
         "The cached function."},
        {NULL, 0, 0, 0, NULL},
    };
    static PyGetSetDef getset[] = {
        {"__isabstractmethod__", classmethod_is_abstract, NULL, NULL, NULL},
        {NULL, NULL, NULL, NULL, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_traverse, classmethod_tp_traverse},
        {Py_tp_dealloc, classmethod_tp_dealloc},
        {Py_tp_descr_get, classmethod_tp_descr_get},
        {Py_tp_members, members},
        {Py_tp_getset, getset},
        {0, NULL},
    };
    static PyType_Spec spec = {
        .name = "redlane._core.CachedClassMethod",
        .basicsize = sizeof(ClassMethod),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
                 Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };
    RedlaneState *state = redlane_state_of_module(module);

    state->CachedClassMethodType = PyType_FromModuleAndSpec(module, &spec, NULL);
    return state->CachedClassMethodType ? 0 : -1;
}
