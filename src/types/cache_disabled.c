/* `with cache.disabled():` reads are misses and nothing is stored, in this thread or
 * task only: the flag is a ContextVar of the cache. Lock: the GIL. */

#include "py/state.h"
#include "types/cache.h"

typedef struct {
    PyObject_HEAD
    PyObject *variable; /* the cache's ContextVar */
    PyObject *tokens;   /* list: one for each time it was entered */
} Disabled;

int
redlane_cache_is_disabled(RedlaneCache *cache)
{
    int result = 0;

    for (; cache && result == 0; cache = cache->parent) {
        PyObject *value;

        if (likely(!cache->disabled)) {
            continue;
        }
        if (PyContextVar_Get(cache->disabled, Py_False, &value) < 0) {
            return -1;
        }
        result = value == Py_True;
        Py_DECREF(value);
    }
    return result;
}

PyObject *
redlane_cache_disabled(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    RedlaneCache *cache = (RedlaneCache *)self;
    PyTypeObject *type = (PyTypeObject *)cache->state->CacheDisabledType;
    Disabled *disabled;

    if (!cache->disabled) {
        cache->disabled = PyContextVar_New("redlane.cache.disabled", Py_False);
        if (!cache->disabled) {
            return NULL;
        }
    }
    disabled = (Disabled *)type->tp_alloc(type, 0);
    if (!disabled) {
        return NULL;
    }
    disabled->variable = Py_NewRef(cache->disabled);
    disabled->tokens = PyList_New(0);
    if (!disabled->tokens) {
        Py_CLEAR(disabled);
    }
    return (PyObject *)disabled;
}

/* Takes back what set `token`, keeping the exception that is set. */
static void
undo(Disabled *disabled, PyObject *token)
{
    PyObject *type, *error, *traceback;

    PyErr_Fetch(&type, &error, &traceback);
    if (PyContextVar_Reset(disabled->variable, token) < 0) {
        PyErr_Clear();
    }
    PyErr_Restore(type, error, traceback);
}

static PyObject *
disabled_enter(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Disabled *disabled = (Disabled *)self;
    PyObject *token = PyContextVar_Set(disabled->variable, Py_True);
    int result;

    if (!token) {
        return NULL;
    }
    result = PyList_Append(disabled->tokens, token);
    if (result < 0) { /* __exit__ will not come */
        undo(disabled, token);
    }
    Py_DECREF(token);
    if (result < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
disabled_exit(PyObject *self, PyObject *Py_UNUSED(args))
{
    Disabled *disabled = (Disabled *)self;
    Py_ssize_t last = PyList_GET_SIZE(disabled->tokens) - 1;
    PyObject *token;
    int result;

    if (last < 0) {
        PyErr_SetString(PyExc_RuntimeError, "disabled() was left but not entered");
        return NULL;
    }
    token = Py_NewRef(PyList_GET_ITEM(disabled->tokens, last));
    result = PyList_SetSlice(disabled->tokens, last, last + 1, NULL);
    if (result == 0) {
        result = PyContextVar_Reset(disabled->variable, token);
    }
    Py_DECREF(token);
    if (result < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static int
disabled_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    Disabled *disabled = (Disabled *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(disabled->variable);
    Py_VISIT(disabled->tokens);
    return 0;
}

static int
disabled_tp_clear(PyObject *self)
{
    Disabled *disabled = (Disabled *)self;

    Py_CLEAR(disabled->variable);
    Py_CLEAR(disabled->tokens);
    return 0;
}

static void
disabled_tp_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    (void)disabled_tp_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

int
redlane_cache_disabled_setup(PyObject *module)
{
    static PyMethodDef methods[] = {
        {"__enter__", disabled_enter, METH_NOARGS, NULL},
        {"__exit__", disabled_exit, METH_VARARGS, NULL},
        {NULL, NULL, 0, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_doc, "The context manager of Cache.disabled()."},
        {Py_tp_methods, methods},
        {Py_tp_traverse, disabled_tp_traverse},
        {Py_tp_clear, disabled_tp_clear},
        {Py_tp_dealloc, disabled_tp_dealloc},
        {0, NULL},
    };
    static PyType_Spec spec = {
        .name = "redlane._core.CacheDisabled",
        .basicsize = sizeof(Disabled),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
                 Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };
    RedlaneState *state = redlane_state_of_module(module);

    state->CacheDisabledType = PyType_FromModuleAndSpec(module, &spec, NULL);
    return state->CacheDisabledType ? 0 : -1;
}
