/* AsyncCooldown. Lock: the GIL. */
#include "types/async_cooldown.h"

#include <stddef.h>
#include <structmember.h>

#include "types/async_method.h"

PyObject *
redlane_async_cooldown_of(RedlaneState *state, PyObject *cooldown)
{
    return redlane_async_twin_new(state, (PyTypeObject *)state->AsyncCooldownType,
                                  Py_NewRef(cooldown));
}

static PyObject *
async_cooldown_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    RedlaneState *state = redlane_state_of_type(type);

    return state ? redlane_async_twin_new(
                       state, type, PyObject_Call(state->CooldownType, args, kwargs))
                 : NULL;
}

static PyObject *
async_cooldown_get(PyObject *self, void *name)
{
    return PyObject_GetAttrString(((RedlaneAsyncTwin *)self)->sync, name);
}

PyDoc_STRVAR(key_doc, "key($self, id)\n--\n\n"
                      "The key of an id (str); not awaited.");

static PyObject *
async_cooldown_key(PyObject *self, PyObject *args, PyObject *kwargs)
{
    PyObject *key = async_cooldown_get(self, "key"), *text = NULL;

    if (key) {
        text = PyObject_Call(key, args, kwargs);
        Py_DECREF(key);
    }
    return text;
}

PyDoc_STRVAR(async_cooldown_doc,
             "AsyncCooldown(client, seconds, *, prefix=\"cooldown\", "
             "fallback=\"memory\")\n--\n\n"
             "A :class:`Cooldown` whose methods are awaited; also ``cooldown.aio``.");

int
redlane_async_cooldown_setup(PyObject *module)
{
    static PyMethodDef methods[] = {
        {"key", (PyCFunction)(void (*)(void))async_cooldown_key,
         METH_VARARGS | METH_KEYWORDS, key_doc},
        {NULL, NULL, 0, NULL},
    };
    static PyMemberDef members[] = {
        {"__weaklistoffset__", T_PYSSIZET, offsetof(RedlaneAsyncTwin, weakrefs),
         READONLY, NULL},
        {"sync", T_OBJECT_EX, offsetof(RedlaneAsyncTwin, sync), READONLY,
         "The Cooldown that it is the twin of."},
        {NULL, 0, 0, 0, NULL},
    };
    static PyGetSetDef getset[] = {
        {"seconds", async_cooldown_get, NULL, "How long it lasts (float).", "seconds"},
        {"prefix", async_cooldown_get, NULL, "What its keys begin with.", "prefix"},
        {NULL, NULL, NULL, NULL, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_doc, (void *)async_cooldown_doc},
        {Py_tp_new, async_cooldown_tp_new},
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
        .name = "redlane.AsyncCooldown",
        .basicsize = sizeof(RedlaneAsyncTwin),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
        .slots = slots,
    };
    static const char *const awaited[] = {"acquire", "peek", "reset", NULL};
    RedlaneState *state = redlane_state_of_module(module);
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);

    if (redlane_state_add(module, &state->AsyncCooldownType, "AsyncCooldown", type) <
        0) {
        return -1;
    }
    return redlane_async_methods_add(state, type, state->CooldownType, awaited, false);
}
