/* A cached function: the type. It looks like the function that it wraps. Lock: the
 * GIL. */
#include "types/cached_function.h"

#include <stddef.h>
#include <structmember.h>

#include "py/item.h"
#include "py/state.h"
#include "types/cached_method.h"

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

/* What inspect and asyncio look at to tell that something is a coroutine function, by
 * which FastAPI goes too: all four, on every Python from 3.10 to 3.13. RAISES_NEG */
static int
show_code(RedlaneCachedFunction *self, PyObject *code)
{
    static const char *const defaults[] = {"__defaults__", "__kwdefaults__"};
    PyObject *name;
    int result = redlane_item_find(self->dict, "__name__", &name);

    if (result == 0) {
        result = PyDict_SetItemString(self->dict, "__code__", code);
    }
    if (result == 0 && !(name && PyUnicode_Check(name))) { /* of a partial */
        result = PyDict_SetItemString(self->dict, "__name__", self->signature.shown);
    }
    for (size_t i = 0; result == 0 && i < sizeof(defaults) / sizeof(defaults[0]); i++) {
        result = PyDict_SetItemString(self->dict, defaults[i], Py_None);
        result = result < 0 ? -1 : copy_attribute(self, defaults[i]);
    }
    return result;
}

/* The function's own attributes, then its names, then __wrapped__. RAISES_NEG */
static int
wrap_function(RedlaneCachedFunction *self, PyObject *code)
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
    if (result == 0 && code) {
        result = show_code(self, code);
    }
    if (result == 0) {
        result = PyDict_SetItemString(self->dict, "__wrapped__", self->function);
    }
    return result;
}

static int
init_function(RedlaneCachedFunction *self, const RedlaneFunctionOptions *options)
{
    PyObject *code;
    int result = -1;

    if (redlane_signature_init(&self->signature, self->state, self->function,
                               &options->key, &code) < 0) {
        return -1;
    }
    self->awaits = code != NULL;
    if (self->awaits) {
        self->vectorcall = redlane_cached_function_await;
    }
    if (redlane_result_type_init(
            &self->type, self->state, self->function,
            redlane_serializer_typed_name(&self->cache->serializer)) == 0 &&
        redlane_function_options_init(self, options) == 0) {
        redlane_level0_init(&self->level0, &self->signature);
        self->form = redlane_near_form_new();
        self->dict = PyDict_New();
        result = self->dict ? wrap_function(self, code) : -1;
    }
    Py_XDECREF(code);
    return result;
}

static PyObject *
wrap_static(RedlaneCachedFunction *function)
{
    return PyStaticMethod_New((PyObject *)function);
}

/* What is None was not given. */
static void
drop_nones(RedlaneFunctionOptions *options)
{
    PyObject **all[] = {
        &options->key.name,   &options->key.namespace, &options->key.key,
        &options->key.ignore, &options->ttl,           &options->jitter,
        &options->condition,  &options->unless,        &options->exceptions,
        &options->soft,       &options->hard,          &options->stale,
        &options->early,      &options->on_error,      &options->max_stale,
        &options->tags,
    };

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (*all[i] == Py_None) {
            *all[i] = NULL;
        }
    }
}

/* What stands in a staticmethod or classmethod, of which `*wrap` makes one again; any
 * other callable is itself. A new reference, or NULL. */
static PyObject *
unwrap_descriptor(PyObject *function, PyObject *(**wrap)(RedlaneCachedFunction *))
{
    *wrap = NULL;
    if (PyObject_TypeCheck(function, &PyStaticMethod_Type)) {
        *wrap = wrap_static;
    }
    else if (PyObject_TypeCheck(function, &PyClassMethod_Type)) {
        *wrap = redlane_cached_classmethod_new;
    }
    return *wrap ? PyObject_GetAttrString(function, "__func__") : Py_NewRef(function);
}

static PyObject *
function_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"function",     "cache",        "ttl",
                            "jitter",       "name",         "key",
                            "namespace",    "ignore",       "condition",
                            "unless",       "lock",         "cache_exceptions",
                            "soft_timeout", "hard_timeout", "share",
                            "stale",        "early",        "on_error",
                            "max_stale",    "tags",         NULL};
    RedlaneState *state = redlane_state_of_type(type);
    RedlaneFunctionOptions options = {.ttl = NULL};
    RedlaneKeyOptions *key = &options.key;
    PyObject *(*wrap)(RedlaneCachedFunction *);
    RedlaneCachedFunction *self;
    PyObject *function, *cache = NULL;
    int lock = 1, share = 0;

    if (!state ||
        !PyArg_ParseTupleAndKeywords(
            args, kwargs, "O|$O!OOOOOOOOpOOOpOOOOO:cache", names, &function,
            (PyTypeObject *)state->CacheType, &cache, &options.ttl, &options.jitter,
            &key->name, &key->key, &key->namespace, &key->ignore, &options.condition,
            &options.unless, &lock, &options.exceptions, &options.soft, &options.hard,
            &share, &options.stale, &options.early, &options.on_error,
            &options.max_stale, &options.tags)) {
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
    self->function = unwrap_descriptor(function, &wrap);
    self->cache = (RedlaneCache *)Py_NewRef(cache);
    self->lock = lock != 0;
    self->share = share != 0;
    drop_nones(&options);
    if (!self->function || init_function(self, &options) < 0) {
        Py_CLEAR(self);
    }
    if (self && wrap) {
        function = wrap(self);
        Py_DECREF(self);
        return function;
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
    Py_VISIT(function->ttl_of);
    Py_VISIT(function->failures);
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
    redlane_function_options_clear(function);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
function_tp_descr_get(PyObject *self, PyObject *object, PyObject *type)
{
    if (!object || object == Py_None) {
        return Py_NewRef(self);
    }
    /* A classmethod() around it, up to Python 3.12; later ones make this by themselves.
     */
    if (object == type) {
        return PyMethod_New(self, object);
    }
    return redlane_cached_method_new((RedlaneCachedFunction *)self, object);
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
    "    ttl: seconds, a timedelta, a text such as ``\"10m\"``, or a callable of the\n"
    "        fresh result that returns one of those; None: the cache's own.\n"
    "    jitter: a fraction, 0 to less than 1, of every TTL that is taken off at "
    "random\n"
    "        in part or whole, so that what was stored at once does not expire at "
    "once.\n"
    "    name: takes the place of the qualified name in keys; ``:`` and ``%`` in it "
    "are\n"
    "        percent-encoded.\n"
    "    key: in the place of name, module and arguments, a template such as\n"
    "        ``\"user:{user_id}\"``, or a callable of the call's own arguments that\n"
    "        returns str or bytes. A parameter that a template does not name must be\n"
    "        ignored.\n"
    "    namespace: stands before all that, behind the cache's prefix.\n"
    "    ignore: names of parameters that are no part of the key, such as\n"
    "        ``[\"self\"]``.\n"
    "    condition: called with a fresh result; a false answer: it is returned but "
    "not\n"
    "        stored.\n"
    "    unless: called with the call's own arguments; a true answer: the function is\n"
    "        called, nothing is read or stored.\n"
    "    lock: concurrent callers, of all processes, wait for one computation.\n"
    "    cache_exceptions: a mapping of exception classes to TTLs: what the function\n"
    "        raises of these is stored, and raised anew for later callers.\n"
    "    hard_timeout: seconds (or as ttl) that a caller waits for the function, "
    "which\n"
    "        a worker thread runs; then TimeoutError, while the function goes on and\n"
    "        its result is stored.\n"
    "    share: near hits return one object again and again, though it could be\n"
    "        changed; else each caller gets its own.\n"
    "    stale: how long after its TTL a result is still returned, at once, while a\n"
    "        worker thread computes a new one.\n"
    "    early: a result that is asked for shortly before the end of its TTL may be\n"
    "        computed anew behind, the sooner the longer that takes.\n"
    "    on_error: ``\"stale\"``: where the function raises, the old result is "
    "returned.\n"
    "    max_stale: how long after its TTL at most; None: as ``stale``, or an hour.\n"
    "    soft_timeout: seconds (or as ttl) that a caller waits for a new result while\n"
    "        an old one may be returned; the function goes on.\n"
    "    tags: what :meth:`Cache.invalidate_tags` can end results by: a str or a\n"
    "        list of them, with parameters as fields, as in\n"
    "        ``\"user:{user_id}\"``; or a callable that is given the call's\n"
    "        arguments and returns a tag, several, or None.\n\n"
    "A first call returns what later ones will: the decoded form of the result. A "
    "result\n"
    "that cannot be serialised is returned uncached, logged once and counted.");

static int
setup_info(PyObject *module)
{
    static PyStructSequence_Field fields[] = {
        {"hits", "Calls answered from the cache."},
        {"near_hits", "Those of them that did not leave the process."},
        {"misses", "Calls that ran the function."},
        {"waits", "Calls answered by another caller's computation."},
        {"stale", "Calls answered by a result past its time."},
        {"refreshes", "Runs of the function behind such calls."},
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
        .n_in_sequence = 12,
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
