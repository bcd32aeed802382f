/* A cached function: the type. It looks like the function that it wraps. Lock: the
 * GIL. */
#include "types/cached_function.h"

#include <stddef.h>
#include <structmember.h>

#include "py/args.h"
#include "py/state.h"

/* What functools.wraps copies. */
static const char *const copied[] = {
    "__module__", "__name__",        "__qualname__",
    "__doc__",    "__annotations__", "__type_params__",
};

static int
copy_attribute(RedlaneCachedFunction *self, const char *name)
{
    PyObject *value = PyObject_GetAttrString(self->function, name);
    int result;

    if (!value) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    result = PyDict_SetItemString(self->dict, name, value);
    Py_DECREF(value);
    return result;
}

/* The function's own attributes, then its names, then __wrapped__. RAISES_NEG */
static int
wrap_function(RedlaneCachedFunction *self)
{
    PyObject *attributes = PyObject_GetAttrString(self->function, "__dict__");
    int result = 0;

    if (!attributes) {
        PyErr_Clear();
    }
    else if (PyDict_Check(attributes)) {
        result = PyDict_Update(self->dict, attributes);
    }
    Py_XDECREF(attributes);
    for (size_t i = 0; result == 0 && i < sizeof(copied) / sizeof(copied[0]); i++) {
        result = copy_attribute(self, copied[i]);
    }
    if (result == 0) {
        result = PyDict_SetItemString(self->dict, "__wrapped__", self->function);
    }
    return result;
}

static int
take_callable(PyObject *given, const char *name, PyObject **slot)
{
    if (given == Py_None) {
        return 0;
    }
    if (!PyCallable_Check(given)) {
        PyErr_Format(PyExc_TypeError, "%s must be callable", name);
        return -1;
    }
    *slot = Py_NewRef(given);
    return 0;
}

static int
init_function(RedlaneCachedFunction *self, PyObject *name, PyObject *ignore,
              PyObject *ttl, PyObject *condition, PyObject *unless, PyObject *tags)
{
    self->ttl_ms = self->cache->ttl_ms;
    if (ttl != Py_None && redlane_args_ttl_ms(ttl, "ttl", &self->ttl_ms) < 0) {
        return -1;
    }
    if (redlane_signature_init(&self->signature, self->state, self->function,
                               name == Py_None ? NULL : name, ignore) < 0 ||
        redlane_result_type_init(
            &self->type, self->state, self->function,
            redlane_serializer_typed_name(&self->cache->serializer)) < 0 ||
        take_callable(condition, "condition", &self->condition) < 0 ||
        take_callable(unless, "unless", &self->unless) < 0) {
        return -1;
    }
    if (tags != Py_None) {
        self->tags = redlane_tag_templates_new(&self->signature, tags);
        if (!self->tags) {
            return -1;
        }
    }
    redlane_level0_init(&self->level0, &self->signature);
    self->form = self->share || self->type.function || self->tags
                     ? redlane_near_form_new()
                     : self->cache->form;
    self->dict = PyDict_New();
    return self->dict ? wrap_function(self) : -1;
}

static PyObject *
function_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"function", "cache", "ttl",   "name", "ignore", "condition",
                            "unless",   "lock",  "share", "tags", NULL};
    PyObject *function, *cache = NULL, *ttl = Py_None, *name = Py_None,
                        *ignore = Py_None;
    PyObject *condition = Py_None, *unless = Py_None, *tags = Py_None;
    RedlaneState *state = redlane_state_of_type(type);
    RedlaneCachedFunction *self;
    int lock = 1, share = 0;

    if (!state || !PyArg_ParseTupleAndKeywords(
                      args, kwargs, "O|$O!OOOOOppO:cache", names, &function,
                      (PyTypeObject *)state->CacheType, &cache, &ttl, &name, &ignore,
                      &condition, &unless, &lock, &share, &tags)) {
        return NULL;
    }
    if (!cache) {
        PyErr_SetString(PyExc_TypeError, "a cached function is made by @cache");
        return NULL;
    }
    self = (RedlaneCachedFunction *)type->tp_alloc(type, 0);
    if (!self) {
        return NULL;
    }
    self->vectorcall = redlane_cached_function_vectorcall;
    self->state = state;
    self->function = Py_NewRef(function);
    self->cache = (RedlaneCache *)Py_NewRef(cache);
    self->lock = lock != 0;
    self->share = share != 0;
    if (init_function(self, name, ignore, ttl, condition, unless, tags) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static int
function_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    RedlaneCachedFunction *function = (RedlaneCachedFunction *)self;
    int result;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(function->dict);
    Py_VISIT(function->function);
    Py_VISIT(function->cache);
    Py_VISIT(function->condition);
    Py_VISIT(function->unless);
    Py_VISIT(function->tags);
    result = redlane_result_type_traverse(&function->type, visit, arg);
    return result ? result
                  : redlane_signature_traverse(&function->signature, visit, arg);
}

/* Functions in a cycle are cleared by their own dict and defaults; ours must stay
 * callable for finalisers, so only the dict goes. */
static int
function_tp_clear(PyObject *self)
{
    RedlaneCachedFunction *function = (RedlaneCachedFunction *)self;

    if (function->dict) {
        PyDict_Clear(function->dict);
    }
    return 0;
}

static void
function_tp_dealloc(PyObject *self)
{
    RedlaneCachedFunction *function = (RedlaneCachedFunction *)self;
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    if (function->weakrefs) {
        PyObject_ClearWeakRefs(self);
    }
    redlane_level0_free(&function->level0);
    redlane_signature_clear(&function->signature);
    redlane_result_type_clear(&function->type);
    Py_CLEAR(function->dict);
    Py_CLEAR(function->function);
    Py_CLEAR(function->cache);
    Py_CLEAR(function->condition);
    Py_CLEAR(function->unless);
    Py_CLEAR(function->tags);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
function_tp_descr_get(PyObject *self, PyObject *object, PyObject *Py_UNUSED(type))
{
    if (!object || object == Py_None) {
        return Py_NewRef(self);
    }
    return PyMethod_New(self, object);
}

static PyObject *
function_tp_repr(PyObject *self)
{
    return PyUnicode_FromFormat("<cached function %U at %p>",
                                ((RedlaneCachedFunction *)self)->signature.shown, self);
}

PyDoc_STRVAR(reduce_doc, "__reduce__($self, /)\n--\n\n"
                         "Pickled and copied by reference, as a function is.");

static PyObject *
function_reduce(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyObject_GetAttrString(self, "__qualname__");
}

PyDoc_STRVAR(
    function_doc,
    "A function whose results are cached; made by ``@cache`` or ``@cache(...)``.\n\n"
    "Options:\n"
    "    ttl: seconds (int or float) or a timedelta; None: the cache's own.\n"
    "    name: takes the place of the qualified name in keys; ``:`` and ``%`` in it\n"
    "        are percent-encoded. A bound method, a partial or a\n"
    "        callable object needs one, which tells it from others of its kind.\n"
    "    ignore: names of parameters that are no part of the key, such as\n"
    "        ``[\"self\"]``.\n"
    "    condition: called with a fresh result; a false answer: it is returned but "
    "not\n"
    "        stored.\n"
    "    unless: called with the call's own arguments; a true answer: the function is\n"
    "        called, nothing is read or stored.\n"
    "    lock: concurrent callers, of all processes, wait for one computation.\n"
    "    share: near hits return one object again and again, though it could be\n"
    "        changed; else each caller gets its own.\n"
    "    tags: what :meth:`Cache.invalidate_tags` can end results by: a str or a\n"
    "        list of them, with parameters as fields, as in\n"
    "        ``\"user:{user_id}\"``; or a callable that is given the call's\n"
    "        arguments and returns a tag, several, or None.\n\n"
    "A first call returns what later ones will: the decoded form of the result. A "
    "result\n"
    "that cannot be serialised is returned uncached, logged once and counted. "
    "Whatever\n"
    "the function raises is not cached.");

static int
setup_info(PyObject *module)
{
    static PyStructSequence_Field fields[] = {
        {"hits", "Calls answered from the cache."},
        {"near_hits", "Those of them that did not leave the process."},
        {"misses", "Calls that ran the function."},
        {"waits", "Calls answered by another caller's computation."},
        {"sets", "Results stored."},
        {"errors", "Failures of the link or server that the cache went on without."},
        {"corrupted", "Unreadable values dropped."},
        {"uncached", "Results that cannot be serialised."},
        {"bytes_read", "Bytes of stored values read."},
        {"bytes_written", "Bytes of values stored."},
        {NULL, NULL},
    };
    static PyStructSequence_Desc description = {
        .name = "redlane.CacheInfo",
        .doc = "What a cached function's cache did in this process.",
        .fields = fields,
        .n_in_sequence = 10,
    };
    RedlaneState *state = redlane_state_of_module(module);

    return redlane_state_add(module, &state->CacheInfoType, "CacheInfo",
                             (PyObject *)PyStructSequence_NewType(&description));
}

int
redlane_cached_function_setup(PyObject *module)
{
    static PyMemberDef members[] = {
        {"__vectorcalloffset__", T_PYSSIZET,
         offsetof(RedlaneCachedFunction, vectorcall), READONLY, NULL},
        {"__dictoffset__", T_PYSSIZET, offsetof(RedlaneCachedFunction, dict), READONLY,
         NULL},
        {"__weaklistoffset__", T_PYSSIZET, offsetof(RedlaneCachedFunction, weakrefs),
         READONLY, NULL},
        {"cache", T_OBJECT_EX, offsetof(RedlaneCachedFunction, cache), READONLY,
         "The Cache that holds the results."},
        {NULL, 0, 0, 0, NULL},
    };
    static PyGetSetDef getset[] = {
        {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
        {NULL, NULL, NULL, NULL, NULL},
    };
    static PyMethodDef methods[16];
    static const PyMethodDef reduce = {"__reduce__", function_reduce, METH_NOARGS,
                                       reduce_doc};
    PyType_Slot slots[] = {
        {Py_tp_doc, (void *)function_doc},
        {Py_tp_new, function_tp_new},
        {Py_tp_traverse, function_tp_traverse},
        {Py_tp_clear, function_tp_clear},
        {Py_tp_dealloc, function_tp_dealloc},
        {Py_tp_repr, function_tp_repr},
        {Py_tp_call, PyVectorcall_Call},
        {Py_tp_descr_get, function_tp_descr_get},
        {Py_tp_methods, methods},
        {Py_tp_members, members},
        {Py_tp_getset, getset},
        {0, NULL},
    };
    PyType_Spec spec = {
        .name = "redlane.CachedFunction",
        .basicsize = sizeof(RedlaneCachedFunction),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
                 Py_TPFLAGS_METHOD_DESCRIPTOR | Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };
    RedlaneState *state = redlane_state_of_module(module);
    size_t count = 0;

    for (PyMethodDef *row = redlane_cached_function_methods; row->ml_name; row++) {
        methods[count++] = *row;
    }
    methods[count++] = reduce;
    methods[count] = (PyMethodDef){NULL, NULL, 0, NULL};
    if (setup_info(module) < 0) {
        return -1;
    }
    return redlane_state_add(module, &state->CachedFunctionType, "CachedFunction",
                             PyType_FromModuleAndSpec(module, &spec, NULL));
}
