/* AsyncCounter. Lock: the GIL. */
#include "types/async_counter.h"

#include <stddef.h>
#include <structmember.h>

#include "types/async_method.h"

PyObject *
redlane_async_counter_of(RedlaneState *state, PyObject *counter)
{
    return redlane_async_twin_new(state, (PyTypeObject *)state->AsyncCounterType,
                                  Py_NewRef(counter));
}

static PyObject *
async_counter_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    RedlaneState *state = redlane_state_of_type(type);
    PyObject *client = PyTuple_GET_SIZE(args) ? PyTuple_GET_ITEM(args, 0) : NULL;
    PyObject *sync = NULL;

    if (!state) {
        return NULL;
    }
    if (client && Py_IS_TYPE(client, (PyTypeObject *)state->AsyncCacheType)) {
        args = PySequence_List(args);
        if (args) {
            (void)PyList_SetItem(args, 0,
                                 Py_NewRef(((RedlaneAsyncTwin *)client)->sync));
            Py_SETREF(args, PyList_AsTuple(args));
        }
    }
    else {
        Py_INCREF(args);
    }
    if (args) {
        sync = PyObject_Call(state->CounterType, args, kwargs);
        Py_DECREF(args);
    }
    return redlane_async_twin_new(state, type, sync);
}

static PyObject *
async_counter_get(PyObject *self, void *name)
{
    return PyObject_GetAttrString(((RedlaneAsyncTwin *)self)->sync, name);
}

PyDoc_STRVAR(key_doc, "key($self, /, *ids)\n--\n\n"
                      "The full key of a counter; not awaited.\n\n"
                      "Returns:\n"
                      "    str");

static PyObject *
async_counter_key(PyObject *self, PyObject *ids)
{
    PyObject *key = async_counter_get(self, "key"), *text = NULL;

    if (key) {
        text = PyObject_CallObject(key, ids);
        Py_DECREF(key);
    }
    return text;
}

PyDoc_STRVAR(
    async_counter_doc,
    "AsyncCounter(client, template, ttl=None, source=None, *, fallback=\"memory\")\n"
    "--\n\n"
    "A :class:`Counter` whose methods are awaited; also ``counter.aio``. Its source\n"
    "may be a coroutine function.");

int
redlane_async_counter_setup(PyObject *module)
{
    static PyMethodDef methods[] = {
        {"key", async_counter_key, METH_VARARGS, key_doc},
        {NULL, NULL, 0, NULL},
    };
    static PyMemberDef members[] = {
        {"__weaklistoffset__", T_PYSSIZET, offsetof(RedlaneAsyncTwin, weakrefs),
         READONLY, NULL},
        {"sync", T_OBJECT_EX, offsetof(RedlaneAsyncTwin, sync), READONLY,
         "The Counter that it is the twin of."},
        {NULL, 0, 0, 0, NULL},
    };
    static PyGetSetDef getset[] = {
        {"template", async_counter_get, NULL, "The template of its keys.", "template"},
        {NULL, NULL, NULL, NULL, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_doc, (void *)async_counter_doc},
        {Py_tp_new, async_counter_tp_new},
        {Py_tp_traverse, redlane_async_twin_tp_traverse},
        {Py_tp_clear, redlane_async_twin_tp_clear},
        {Py_tp_dealloc, redlane_async_twin_tp_dealloc},
        {Py_tp_repr, redlane_async_twin_tp_repr},
        {Py_tp_methods, methods},
        {Py_tp_members, members},
        {Py_tp_getset, getset},
        {0, NULL},
    };
    static PyType_Spec spec = {
        .name = "redlane.AsyncCounter",
        .basicsize = sizeof(RedlaneAsyncTwin),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
        .slots = slots,
    };
    static const char *const awaited[] = {
        "get", "increment", "decrement", "transfer", "delete", "reset", NULL,
    };
    RedlaneState *state = redlane_state_of_module(module);
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);

    if (redlane_state_add(module, &state->AsyncCounterType, "AsyncCounter", type) < 0) {
        return -1;
    }
    return redlane_async_methods_add(state, type, state->CounterType, awaited, false);
}
