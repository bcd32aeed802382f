/* AsyncCache. Lock: the GIL. */
#include "types/async_cache.h"

#include <stddef.h>
#include <structmember.h>

#include "types/async_method.h"
#include "types/cache.h"

static RedlaneState *
state_of(PyObject *self)
{
    return ((RedlaneAsyncTwin *)self)->state;
}

static PyObject *
sync_of(PyObject *self)
{
    return ((RedlaneAsyncTwin *)self)->sync;
}

PyObject *
redlane_async_cache_of(RedlaneState *state, PyObject *cache)
{
    return redlane_async_twin_new(state, (PyTypeObject *)state->AsyncCacheType,
                                  Py_NewRef(cache));
}

static PyObject *
async_cache_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    RedlaneState *state = redlane_state_of_type(type);

    return state ? redlane_async_twin_new(state, type,
                                          PyObject_Call(state->CacheType, args, kwargs))
                 : NULL;
}

static PyObject *
async_cache_tp_call(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return PyObject_Call(sync_of(self), args, kwargs);
}

PyDoc_STRVAR(namespace_doc,
             "namespace($self, name, /)\n--\n\n"
             "A cache of its own inside this one, which ``clear`` ends at once; see\n"
             ":meth:`Cache.namespace`. Nothing is asked: it is not awaited.\n\n"
             "Returns:\n"
             "    AsyncCache");

static PyObject *
async_cache_namespace(PyObject *self, PyObject *name)
{
    PyObject *cache = PyObject_CallMethod(sync_of(self), "namespace", "O", name);

    return redlane_async_twin_new(state_of(self), Py_TYPE(self), cache);
}

PyDoc_STRVAR(counter_doc,
             "counter($self, /, template, ttl=None, source=None)\n--\n\n"
             "Declares a counter on the cache's own keys; see :meth:`Cache.counter`.\n"
             "Nothing is asked: it is not awaited. The source may be a coroutine\n"
             "function.\n\n"
             "Returns:\n"
             "    AsyncCounter");

static PyObject *
async_cache_counter(PyObject *self, PyObject *args, PyObject *kwargs)
{
    RedlaneState *state = state_of(self);
    PyObject *declare = PyObject_GetAttrString(sync_of(self), "counter");
    PyObject *counter = declare ? PyObject_Call(declare, args, kwargs) : NULL;

    Py_XDECREF(declare);
    return redlane_async_twin_new(state, (PyTypeObject *)state->AsyncCounterType,
                                  counter);
}

PyDoc_STRVAR(disabled_doc,
             "disabled($self, /)\n--\n\n"
             "A context manager (``with``) inside which the cache does nothing, for\n"
             "this task and those that it starts; see :meth:`Cache.disabled`.");

static PyObject *
async_cache_disabled(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyObject_CallMethod(sync_of(self), "disabled", NULL);
}

static PyObject *
async_cache_get_client(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *client = PyObject_GetAttrString(sync_of(self), "client"), *twin = NULL;

    if (client) {
        twin = PyObject_GetAttrString(client, "aio");
        Py_DECREF(client);
    }
    return twin;
}

static PyObject *
async_cache_get(PyObject *self, void *name)
{
    return PyObject_GetAttrString(sync_of(self), name);
}

PyDoc_STRVAR(
    async_cache_doc,
    "AsyncCache(client_or_url=None, prefix=\"cache\", ttl=None, serializer=\"json\", *,"
    " fallback=\"memory\", strict=False, compress=None, compress_above=1024,"
    " seal=None, near=True, near_ttl=60)\n--\n\n"
    "A :class:`Cache` whose methods are awaited; also ``cache.aio``.\n\n"
    "It has the same arguments, keys, values and statistics: what one of the two\n"
    "stores the other reads. Called with a function, coroutine function or not, it\n"
    "caches that function, as :class:`Cache` does.");

int
redlane_async_cache_setup(PyObject *module)
{
    static PyMethodDef methods[] = {
        {"namespace", async_cache_namespace, METH_O, namespace_doc},
        {"counter", (PyCFunction)(void (*)(void))async_cache_counter,
         METH_VARARGS | METH_KEYWORDS, counter_doc},
        {"disabled", async_cache_disabled, METH_NOARGS, disabled_doc},
        {NULL, NULL, 0, NULL},
    };
    static PyMemberDef members[] = {
        {"__weaklistoffset__", T_PYSSIZET, offsetof(RedlaneAsyncTwin, weakrefs),
         READONLY, NULL},
        {"sync", T_OBJECT_EX, offsetof(RedlaneAsyncTwin, sync), READONLY,
         "The Cache that it is the twin of."},
        {NULL, 0, 0, 0, NULL},
    };
    static PyGetSetDef getset[] = {
        {"client", async_cache_get_client, NULL, "The AsyncClient in use.", NULL},
        {"prefix", async_cache_get, NULL, "What every key begins with.", "prefix"},
        {NULL, NULL, NULL, NULL, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_doc, (void *)async_cache_doc},
        {Py_tp_new, async_cache_tp_new},
        {Py_tp_traverse, redlane_async_twin_tp_traverse},
        {Py_tp_clear, redlane_async_twin_tp_clear},
        {Py_tp_dealloc, redlane_async_twin_tp_dealloc},
        {Py_tp_repr, redlane_async_twin_tp_repr},
        {Py_tp_call, async_cache_tp_call},
        {Py_tp_methods, methods},
        {Py_tp_members, members},
        {Py_tp_getset, getset},
        {0, NULL},
    };
    static PyType_Spec spec = {
        .name = "redlane.AsyncCache",
        .basicsize = sizeof(RedlaneAsyncTwin),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
        .slots = slots,
    };
    static const char *const awaited[] = {
        "get",      "set",       "add",         "delete",     "has",
        "get_many", "set_many",  "delete_many", "get_or_set", "touch",
        "ttl",      "increment", "decrement",   "invalidate", "invalidate_tags",
        "clear",    NULL,
    };
    static const char *const threaded[] = {"stats", NULL};
    RedlaneState *state = redlane_state_of_module(module);
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);

    if (redlane_state_add(module, &state->AsyncCacheType, "AsyncCache", type) < 0 ||
        redlane_async_methods_add(state, type, state->CacheType, awaited, false) < 0 ||
        redlane_async_method_hasten(type, "get", redlane_cache_get_near) < 0) {
        return -1;
    }
    return redlane_async_methods_add(state, type, state->CacheType, threaded, true);
}
