/* Methods of async twins. Lock: the GIL. */
#include "types/async_method.h"

#include <stddef.h>
#include <structmember.h>

#include "types/ready_awaitable.h"

#define ARGS_INLINE 8 /* longer calls take their array from the heap */

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    RedlaneState *state; /* BORROWED */
    PyTypeObject *owner;
    PyObject *sync;          /* the method of the other type */
    RedlaneAsyncQuick quick; /* or NULL */
    bool threaded;
} Method;

/* --- twins --- */

PyObject *
redlane_async_twin_new(RedlaneState *state, PyTypeObject *type, PyObject *STEALS sync)
{
    RedlaneAsyncTwin *self = NULL;

    if (sync) {
        self = (RedlaneAsyncTwin *)type->tp_alloc(type, 0);
    }
    if (!self) {
        Py_XDECREF(sync);
        return NULL;
    }
    self->state = state;
    self->sync = sync;
    return (PyObject *)self;
}

int
redlane_async_twin_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((RedlaneAsyncTwin *)self)->sync);
    return 0;
}

/* What it refers to breaks any cycle, and it must stay usable for finalisers. */
int
redlane_async_twin_tp_clear(PyObject *Py_UNUSED(self))
{
    return 0;
}

void
redlane_async_twin_tp_dealloc(PyObject *self)
{
    RedlaneAsyncTwin *twin = (RedlaneAsyncTwin *)self;
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    if (twin->weakrefs) {
        PyObject_ClearWeakRefs(self);
    }
    Py_CLEAR(twin->sync);
    type->tp_free(self);
    Py_DECREF(type);
}

PyObject *
redlane_async_twin_tp_repr(PyObject *self)
{
    return PyUnicode_FromFormat("%R.aio", ((RedlaneAsyncTwin *)self)->sync);
}

/* --- methods --- */

typedef PyObject *(*FastCall)(PyObject *self, PyObject *const *args, Py_ssize_t nargs);
typedef PyObject *(*KeywordCall)(PyObject *self, PyObject *const *args,
                                 Py_ssize_t nargs, PyObject *kwnames);

/* Runs in a flow. The method's own function is called: where another thread's collector
 * ends what waits, the interpreter's code for calls would go on with the state of the
 * thread that it had begun in, which may be gone. It is left to refuse what is wrong,
 * and to call what never waits. */
static PyObject *
call_sync(PyObject *method, PyObject *const *args, size_t nargs, PyObject *kwnames)
{
    PyObject *sync = ((Method *)method)->sync, *self = args[0];
    Py_ssize_t given = (Py_ssize_t)nargs - 1;
    const PyMethodDef *code;

    if (Py_IS_TYPE(sync, &PyMethodDescr_Type)) {
        code = ((PyMethodDescrObject *)sync)->d_method;
        if (code->ml_flags == (METH_FASTCALL | METH_KEYWORDS)) {
            return ((KeywordCall)(void (*)(void))code->ml_meth)(self, args + 1, given,
                                                                kwnames);
        }
        if (code->ml_flags == METH_FASTCALL && !kwnames) {
            return ((FastCall)(void (*)(void))code->ml_meth)(self, args + 1, given);
        }
        if (code->ml_flags == METH_NOARGS && given == 0 && !kwnames) {
            return code->ml_meth(self, NULL);
        }
        if (code->ml_flags == METH_O && given == 1 && !kwnames) {
            return code->ml_meth(self, args[1]);
        }
    }
    return PyObject_Vectorcall(sync, args, nargs, kwnames);
}

PyObject *
redlane_async_on_thread(RedlaneFlow *flow, PyObject *STEALS callable)
{
    PyObject *asyncio = callable ? PyImport_ImportModule("asyncio") : NULL;
    PyObject *waiting = NULL;

    if (asyncio) {
        waiting = PyObject_CallMethod(asyncio, "to_thread", "O", callable);
        Py_DECREF(asyncio);
    }
    Py_XDECREF(callable);
    return waiting ? redlane_flow_await(flow, waiting) : NULL;
}

/* The same on a thread. */
static PyObject *
call_on_thread(PyObject *method, PyObject *const *args, size_t Py_UNUSED(nargs),
               PyObject *Py_UNUSED(kwnames))
{
    RedlaneState *state = redlane_state_of_type(Py_TYPE(args[0]));
    RedlaneFlow *flow = state ? redlane_flow_current(state) : NULL;

    return flow ? redlane_async_on_thread(
                      flow, PyMethod_New(((Method *)method)->sync, args[0]))
                : NULL;
}

/* With the twin's other one in the place of `self`. */
static PyObject *
call_method(Method *method, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *value;

    if (method->quick) {
        value = method->quick(args[0], args + 1, nargs - 1, kwnames);
        if (value) {
            return redlane_ready_awaitable_new(method->state, value);
        }
        if (PyErr_Occurred()) {
            return NULL;
        }
    }
    return redlane_flow_new(method->state,
                            method->threaded ? call_on_thread : call_sync,
                            (PyObject *)method, args, (size_t)nargs, kwnames);
}

static PyObject *
method_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf,
                  PyObject *kwnames)
{
    Method *method = (Method *)self;
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    Py_ssize_t given = nargs + (kwnames ? PyTuple_GET_SIZE(kwnames) : 0);
    PyObject *few[ARGS_INLINE], **all = few, *awaitable;

    if (nargs < 1 || !PyObject_TypeCheck(args[0], method->owner)) {
        PyErr_Format(PyExc_TypeError, "%R needs a '%s' object as its first argument",
                     self, method->owner->tp_name);
        return NULL;
    }
    if (method->threaded && given > 1) {
        PyErr_Format(PyExc_TypeError, "%R takes no arguments", self);
        return NULL;
    }
    if (given > ARGS_INLINE) {
        all = PyMem_New(PyObject *, (size_t)given);
        if (!all) {
            return PyErr_NoMemory();
        }
    }
    memcpy(all, args, (size_t)given * sizeof(*all));
    all[0] = ((RedlaneAsyncTwin *)args[0])->sync;
    awaitable = call_method(method, all, nargs, kwnames);
    if (all != few) {
        PyMem_Free(all);
    }
    return awaitable;
}

static PyObject *
method_tp_descr_get(PyObject *self, PyObject *object, PyObject *Py_UNUSED(type))
{
    return object ? PyMethod_New(self, object) : Py_NewRef(self);
}

/* __name__, __doc__, __text_signature__: as of the other type's method. */
static PyObject *
method_get(PyObject *self, void *name)
{
    return PyObject_GetAttrString(((Method *)self)->sync, name);
}

static PyObject *
method_get_module(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    return PyUnicode_FromString("redlane");
}

static PyObject *
method_get_qualname(PyObject *self, void *Py_UNUSED(closure))
{
    Method *method = (Method *)self;
    const char *dot = strrchr(method->owner->tp_name, '.');
    PyObject *name = PyObject_GetAttrString(method->sync, "__name__"), *qualname = NULL;

    if (name) {
        qualname =
            PyUnicode_FromFormat("%s.%U", dot ? dot + 1 : method->owner->tp_name, name);
        Py_DECREF(name);
    }
    return qualname;
}

static PyObject *
method_tp_repr(PyObject *self)
{
    PyObject *name = method_get_qualname(self, NULL), *text = NULL;

    if (name) {
        text = PyUnicode_FromFormat("<async method %U>", name);
        Py_DECREF(name);
    }
    return text;
}

static int
method_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((Method *)self)->owner);
    Py_VISIT(((Method *)self)->sync);
    return 0;
}

static void
method_tp_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    Py_CLEAR(((Method *)self)->owner);
    Py_CLEAR(((Method *)self)->sync);
    type->tp_free(self);
    Py_DECREF(type);
}

/* RAISES_NEG */
static int
add_method(RedlaneState *state, PyObject *type, PyObject *sync_type, const char *name,
           bool threaded)
{
    PyTypeObject *method_type = (PyTypeObject *)state->AsyncMethodType;
    PyObject *sync = PyObject_GetAttrString(sync_type, name);
    Method *method = sync ? (Method *)method_type->tp_alloc(method_type, 0) : NULL;
    int result;

    if (!method) {
        Py_XDECREF(sync);
        return -1;
    }
    method->vectorcall = method_vectorcall;
    method->state = state;
    method->owner = (PyTypeObject *)Py_NewRef(type);
    method->sync = sync;
    method->threaded = threaded;
    result = PyObject_SetAttrString(type, name, (PyObject *)method);
    Py_DECREF(method);
    return result;
}

int
redlane_async_methods_add(RedlaneState *state, PyObject *type, PyObject *sync_type,
                          const char *const *names, bool threaded)
{
    for (; *names; names++) {
        if (add_method(state, type, sync_type, *names, threaded) < 0) {
            return -1;
        }
    }
    return 0;
}

int
redlane_async_method_hasten(PyObject *type, const char *name, RedlaneAsyncQuick quick)
{
    PyObject *method = PyObject_GetAttrString(type, name);

    if (!method) {
        return -1;
    }
    ((Method *)method)->quick = quick;
    Py_DECREF(method);
    return 0;
}

int
redlane_async_method_setup(PyObject *module)
{
    static PyMemberDef members[] = {
        {"__vectorcalloffset__", T_PYSSIZET, offsetof(Method, vectorcall), READONLY,
         NULL},
        {"__objclass__", T_OBJECT_EX, offsetof(Method, owner), READONLY, NULL},
        {NULL, 0, 0, 0, NULL},
    };
    static PyGetSetDef getset[] = {
        {"__name__", method_get, NULL, NULL, "__name__"},
        {"__doc__", method_get, NULL, NULL, "__doc__"},
        {"__text_signature__", method_get, NULL, NULL, "__text_signature__"},
        {"__qualname__", method_get_qualname, NULL, NULL, NULL},
        {"__module__", method_get_module, NULL, NULL, NULL},
        {NULL, NULL, NULL, NULL, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_traverse, method_tp_traverse},
        {Py_tp_dealloc, method_tp_dealloc},
        {Py_tp_descr_get, method_tp_descr_get},
        {Py_tp_repr, method_tp_repr},
        {Py_tp_call, PyVectorcall_Call},
        {Py_tp_getset, getset},
        {Py_tp_members, members},
        {0, NULL},
    };
    static PyType_Spec spec = {
        .name = "redlane._core.AsyncMethod",
        .basicsize = sizeof(Method),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
                 Py_TPFLAGS_METHOD_DESCRIPTOR | Py_TPFLAGS_DISALLOW_INSTANTIATION |
                 Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };
    RedlaneState *state = redlane_state_of_module(module);

    state->AsyncMethodType = PyType_FromModuleAndSpec(module, &spec, NULL);
    return state->AsyncMethodType ? 0 : -1;
}
