/* A cached function with the object that it is a method of: `obj.method`. What takes
 * the arguments of a call takes the object first. Calls of the form `obj.method(x)` do
 * without one. Lock: the GIL. */
#include "types/cached_method.h"

#include <stddef.h>
#include <structmember.h>

#include "py/state.h"

#define ARGS_INLINE 8 /* longer calls take their array from the heap */

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    RedlaneCachedFunction *function;
    PyObject *object;
    PyObject *weakrefs;
} Method;

static PyObject *
method_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf,
                  PyObject *kwnames)
{
    Method *method = (Method *)self;
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    Py_ssize_t given = nargs + (kwnames ? PyTuple_GET_SIZE(kwnames) : 0);
    PyObject *few[ARGS_INLINE], **all = few, *result;

    if (given + 1 > ARGS_INLINE) {
        all = PyMem_New(PyObject *, (size_t)given + 1);
        if (!all) {
            return PyErr_NoMemory();
        }
    }
    all[0] = method->object;
    if (given) {
        memcpy(all + 1, args, (size_t)given * sizeof(*all));
    }
    result = method->function->vectorcall((PyObject *)method->function, all,
                                          (size_t)nargs + 1, kwnames);
    if (all != few) {
        PyMem_Free(all);
    }
    return result;
}

/* function.name(object, *args, **kwargs) */
static PyObject *
forward(PyObject *self, const char *name, PyObject *const *args, Py_ssize_t nargs,
        PyObject *kwnames)
{
    Method *method = (Method *)self;
    Py_ssize_t given = nargs + (kwnames ? PyTuple_GET_SIZE(kwnames) : 0);
    PyObject *text = PyUnicode_InternFromString(name), *result = NULL;
    PyObject **all = text ? PyMem_New(PyObject *, (size_t)given + 2) : NULL;

    if (text && !all) {
        (void)PyErr_NoMemory();
    }
    if (all) {
        all[0] = (PyObject *)method->function;
        all[1] = method->object;
        if (given) {
            memcpy(all + 2, args, (size_t)given * sizeof(*all));
        }
        result = PyObject_VectorcallMethod(text, all, (size_t)nargs + 2, kwnames);
        PyMem_Free(all);
    }
    Py_XDECREF(text);
    return result;
}

#define FORWARD_DOC "As of the cached function, for this object."

PyDoc_STRVAR(invalidate_doc,
             "invalidate($self, /, *args, **kwargs)\n--\n\n" FORWARD_DOC);

static PyObject *
method_invalidate(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames)
{
    return forward(self, "invalidate", args, nargs, kwnames);
}

PyDoc_STRVAR(refresh_doc, "refresh($self, /, *args, **kwargs)\n--\n\n" FORWARD_DOC);

static PyObject *
method_refresh(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    return forward(self, "refresh", args, nargs, kwnames);
}

PyDoc_STRVAR(uncached_doc, "uncached($self, /, *args, **kwargs)\n--\n\n" FORWARD_DOC);

static PyObject *
method_uncached(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    return forward(self, "uncached", args, nargs, kwnames);
}

PyDoc_STRVAR(cache_key_doc, "cache_key($self, /, *args, **kwargs)\n--\n\n" FORWARD_DOC);

static PyObject *
method_cache_key(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    return forward(self, "cache_key", args, nargs, kwnames);
}

PyDoc_STRVAR(reduce_doc, "__reduce__($self, /)\n--\n\n"
                         "Pickled and copied as the attribute of its object.");

static PyObject *
method_reduce(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Method *method = (Method *)self;
    PyObject *name = PyObject_GetAttrString((PyObject *)method->function, "__name__");
    PyObject *builtins = name ? PyImport_ImportModule("builtins") : NULL;
    PyObject *getattr = builtins ? PyObject_GetAttrString(builtins, "getattr") : NULL;
    PyObject *result = NULL;

    if (getattr) {
        result = Py_BuildValue("O(OO)", getattr, method->object, name);
    }
    Py_XDECREF(getattr);
    Py_XDECREF(builtins);
    Py_XDECREF(name);
    return result;
}

/* What the type itself has no descriptor for is the function's: __name__, __doc__,
 * cache_info, … */
static PyObject *
method_tp_getattro(PyObject *self, PyObject *name)
{
    PyObject *own = _PyType_Lookup(Py_TYPE(self), name); /* BORROWED */

    if (own && Py_TYPE(own)->tp_descr_get) {
        return PyObject_GenericGetAttr(self, name);
    }
    return PyObject_GetAttr((PyObject *)((Method *)self)->function, name);
}

static PyObject *
method_get_wrapped(PyObject *self, void *Py_UNUSED(closure))
{
    Method *method = (Method *)self;

    return PyMethod_New(method->function->function, method->object);
}

static PyObject *
method_get_doc(PyObject *self, void *Py_UNUSED(closure))
{
    return PyObject_GetAttrString((PyObject *)((Method *)self)->function, "__doc__");
}

static PyObject *
method_tp_repr(PyObject *self)
{
    Method *method = (Method *)self;

    return PyUnicode_FromFormat("<bound cached function %U of %R>",
                                method->function->signature.shown, method->object);
}

/* As Python's bound methods have it: bound already. With it inspect.isroutine() is
 * true, by which FastAPI 0.100 tells coroutine functions from objects that are called.
 */
static PyObject *
method_tp_descr_get(PyObject *self, PyObject *Py_UNUSED(object),
                    PyObject *Py_UNUSED(owner))
{
    return Py_NewRef(self);
}

static PyObject *
method_tp_richcompare(PyObject *self, PyObject *other, int op)
{
    Method *left = (Method *)self, *right = (Method *)other;
    bool same;

    if ((op != Py_EQ && op != Py_NE) || !Py_IS_TYPE(other, Py_TYPE(self))) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    same = left->function == right->function && left->object == right->object;
    return PyBool_FromLong(same == (op == Py_EQ));
}

static Py_hash_t
method_tp_hash(PyObject *self)
{
    Method *method = (Method *)self;
    size_t hash = (size_t)method->function >> 4 ^ (size_t)method->object;

    return hash == (size_t)-1 ? -2 : (Py_hash_t)hash;
}

static int
method_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    Method *method = (Method *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(method->function);
    Py_VISIT(method->object);
    return 0;
}

static void
method_tp_dealloc(PyObject *self)
{
    Method *method = (Method *)self;
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    if (method->weakrefs) {
        PyObject_ClearWeakRefs(self);
    }
    Py_CLEAR(method->function);
    Py_CLEAR(method->object);
    type->tp_free(self);
    Py_DECREF(type);
}

PyObject *
redlane_cached_method_new(RedlaneCachedFunction *function, PyObject *object)
{
    PyTypeObject *type = (PyTypeObject *)function->state->CachedMethodType;
    Method *method = (Method *)type->tp_alloc(type, 0);

    if (method) {
        method->vectorcall = method_vectorcall;
        method->function = (RedlaneCachedFunction *)Py_NewRef((PyObject *)function);
        method->object = Py_NewRef(object);
    }
    return (PyObject *)method;
}

int
redlane_cached_method_setup(PyObject *module)
{
    static PyMemberDef members[] = {
        {"__vectorcalloffset__", T_PYSSIZET, offsetof(Method, vectorcall), READONLY,
         NULL},
        {"__weaklistoffset__", T_PYSSIZET, offsetof(Method, weakrefs), READONLY, NULL},
        {"__func__", T_OBJECT_EX, offsetof(Method, function), READONLY,
         "The cached function."},
        {"__self__", T_OBJECT_EX, offsetof(Method, object), READONLY,
         "The object that it is a method of."},
        {NULL, 0, 0, 0, NULL},
    };
    static PyGetSetDef getset[] = {
        {"__doc__", method_get_doc, NULL, NULL, NULL},
        {"__wrapped__", method_get_wrapped, NULL, "The plain bound method.", NULL},
        {NULL, NULL, NULL, NULL, NULL},
    };
#define METHOD(name)                                       \
    {                                                      \
        #name, (PyCFunction)(void (*)(void))method_##name, \
            METH_FASTCALL | METH_KEYWORDS, name##_doc      \
    }
    static PyMethodDef methods[] = {
        METHOD(invalidate),
        METHOD(refresh),
        METHOD(uncached),
        METHOD(cache_key),
        {"__reduce__", method_reduce, METH_NOARGS, reduce_doc},
        {NULL, NULL, 0, NULL},
    };
#undef METHOD
    static PyType_Slot slots[] = {
        {Py_tp_traverse, method_tp_traverse},
        {Py_tp_dealloc, method_tp_dealloc},
        {Py_tp_repr, method_tp_repr},
        {Py_tp_hash, method_tp_hash},
        {Py_tp_richcompare, method_tp_richcompare},
        {Py_tp_getattro, method_tp_getattro},
        {Py_tp_descr_get, method_tp_descr_get},
        {Py_tp_call, PyVectorcall_Call},
        {Py_tp_methods, methods},
        {Py_tp_members, members},
        {Py_tp_getset, getset},
        {0, NULL},
    };
    static PyType_Spec spec = {
        .name = "redlane._core.CachedMethod",
        .basicsize = sizeof(Method),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
                 Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };
    RedlaneState *state = redlane_state_of_module(module);

    state->CachedMethodType = PyType_FromModuleAndSpec(module, &spec, NULL);
    return state->CachedMethodType ? 0 : -1;
}
