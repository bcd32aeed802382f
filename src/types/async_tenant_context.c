/* AsyncTenantContext: a TenantContext whose get and set are awaited. Lock: the GIL. */
#include "types/tenant_cache.h"

#include <stddef.h>
#include <structmember.h>

#include "types/async_method.h"

static PyObject *
async_context_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"sync", NULL};
    RedlaneState *state = redlane_state_of_type(type);
    PyObject *sync;

    if (!state ||
        !PyArg_ParseTupleAndKeywords(args, kwargs, "O!:AsyncTenantContext", names,
                                     state->TenantContextType, &sync)) {
        return NULL;
    }
    return redlane_async_twin_new(state, type, Py_NewRef(sync));
}

static PyObject *
async_context_get(PyObject *self, void *name)
{
    return PyObject_GetAttrString(((RedlaneAsyncTwin *)self)->sync, name);
}

PyDoc_STRVAR(key_doc, "key($self, name, /)\n--\n\n"
                      "The full key of a name (str); not awaited.");

static PyObject *
async_context_key(PyObject *self, PyObject *name)
{
    PyObject *key = async_context_get(self, "key"), *text = NULL;

    if (key) {
        text = PyObject_CallOneArg(key, name);
        Py_DECREF(key);
    }
    return text;
}

PyDoc_STRVAR(async_context_doc, "AsyncTenantContext(sync)\n--\n\n"
                                "What ``redlane.AsyncContextualRedisCache`` is made "
                                "of.");

int
redlane_async_tenant_context_setup(PyObject *module)
{
    static PyMethodDef methods[] = {
        {"key", async_context_key, METH_O, key_doc},
        {NULL, NULL, 0, NULL},
    };
    static PyMemberDef members[] = {
        {"__weaklistoffset__", T_PYSSIZET, offsetof(RedlaneAsyncTwin, weakrefs),
         READONLY, NULL},
        {"sync", T_OBJECT_EX, offsetof(RedlaneAsyncTwin, sync), READONLY,
         "The context that it is the twin of."},
        {NULL, 0, 0, 0, NULL},
    };
    static PyGetSetDef getset[] = {
        {"app_id", async_context_get, NULL, "The app's id (str).", "app_id"},
        {"device_id", async_context_get, NULL, "The device's id (str).", "device_id"},
        {NULL, NULL, NULL, NULL, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_doc, (void *)async_context_doc},
        {Py_tp_new, async_context_tp_new},
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
        .name = "redlane._core.AsyncTenantContext",
        .basicsize = sizeof(RedlaneAsyncTwin),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
        .slots = slots,
    };
    static const char *const awaited[] = {"get", "set", NULL};
    RedlaneState *state = redlane_state_of_module(module);
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);

    if (redlane_state_add(module, &state->AsyncTenantContextType, "AsyncTenantContext",
                          type) < 0) {
        return -1;
    }
    return redlane_async_methods_add(state, type, state->TenantContextType, awaited,
                                     false);
}
