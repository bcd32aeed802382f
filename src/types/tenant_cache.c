/* TenantCache: the client that all contexts share. Lock: the GIL. */
#include "types/tenant_cache.h"

#include <stddef.h>
#include <structmember.h>

#include "types/call.h"

/* TenantCache(client, context_type) */
static PyObject *
tenant_cache_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"client", "context_type", NULL};
    RedlaneState *state = redlane_state_of_type(type);
    PyObject *client, *context_type;
    RedlaneTenantCache *cache;

    if (!state || !PyArg_ParseTupleAndKeywords(args, kwargs, "OO!:TenantCache", names,
                                               &client, &PyType_Type, &context_type)) {
        return NULL;
    }
    if (!PyType_IsSubtype((PyTypeObject *)context_type,
                          (PyTypeObject *)state->TenantContextType)) {
        PyErr_SetString(PyExc_TypeError, "context_type must be a TenantContext");
        return NULL;
    }
    cache = (RedlaneTenantCache *)type->tp_alloc(type, 0);
    if (!cache) {
        return NULL;
    }
    if (redlane_tool_init(&cache->tool, state, client, REDLANE_POLICY_NONE) < 0) {
        Py_DECREF(cache);
        return NULL;
    }
    cache->context_type = Py_NewRef(context_type);
    cache->tool.space =
        PyBytes_FromString("\\/*"); /* core/glob.h: tenants' keys alone */
    if (!cache->tool.space) {
        Py_CLEAR(cache);
    }
    return (PyObject *)cache;
}

static int
tenant_cache_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    RedlaneTenantCache *cache = (RedlaneTenantCache *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(cache->context_type);
    return redlane_tool_traverse(&cache->tool, visit, arg);
}

static void
tenant_cache_tp_dealloc(PyObject *self)
{
    RedlaneTenantCache *cache = (RedlaneTenantCache *)self;
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    redlane_tool_clear(&cache->tool);
    Py_CLEAR(cache->context_type);
    type->tp_free(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(with_context_doc,
             "with_context($self, /, app_id, device_id)\n--\n\n"
             "The cache of one app on one device; nothing is connected or sent.\n\n"
             "Args:\n"
             "    app_id, device_id: str, not empty and without \"/\".\n\n"
             "Raises:\n"
             "    ValueError: for an id that could meet another tenant's keys.");

static PyObject *
tenant_cache_with_context(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                          PyObject *kwnames)
{
    static const char *const names[] = {"app_id", "device_id", NULL};
    static const RedlaneCall call = {"with_context", names, 2, 2};
    RedlaneTenantCache *cache = (RedlaneTenantCache *)self;
    PyObject *values[2];

    if (redlane_call_parse(&call, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    return redlane_tenant_context_new((PyTypeObject *)cache->context_type, cache,
                                      values[0], values[1]);
}

PyDoc_STRVAR(tenant_cache_doc, "TenantCache(client, context_type)\n--\n\n"
                               "What ``redlane.RedisCache`` is made of.");

int
redlane_tenant_cache_setup(PyObject *module)
{
    static PyMethodDef methods[] = {
        {"with_context", (PyCFunction)(void (*)(void))tenant_cache_with_context,
         METH_FASTCALL | METH_KEYWORDS, with_context_doc},
        {NULL, NULL, 0, NULL},
    };
    static PyMemberDef members[] = {
        {"errors", T_ULONGLONG, offsetof(RedlaneTenantCache, errors), READONLY,
         "How many commands the server refused: misses, and values not stored (int)."},
        {NULL, 0, 0, 0, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_doc, (void *)tenant_cache_doc},
        {Py_tp_new, tenant_cache_tp_new},
        {Py_tp_traverse, tenant_cache_tp_traverse},
        {Py_tp_dealloc, tenant_cache_tp_dealloc},
        {Py_tp_methods, methods},
        {Py_tp_members, members},
        {0, NULL},
    };
    static PyType_Spec spec = {
        .name = "redlane._core.TenantCache",
        .basicsize = sizeof(RedlaneTenantCache),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE |
                 Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };
    RedlaneState *state = redlane_state_of_module(module);

    return redlane_state_add(module, &state->TenantCacheType, "TenantCache",
                             PyType_FromModuleAndSpec(module, &spec, NULL));
}
