/* TenantCache and TenantContext: one client for all tenants, each with keys of its own
 * that no other can reach. Under the GIL. */
#ifndef REDLANE_TYPES_TENANT_CACHE_H
#define REDLANE_TYPES_TENANT_CACHE_H

#include "types/tool.h"

typedef struct {
    PyObject_HEAD
    RedlaneTool tool;
    PyObject *context_type; /* of what with_context gives: TenantContext or below it */
    uint64_t errors;        /* commands that the server refused */
} RedlaneTenantCache;

/* What one app on one device may touch: the keys under "/{app_id}/{device_id}/". */
typedef struct {
    PyObject_HEAD
    RedlaneState *state;       /* BORROWED */
    RedlaneTenantCache *cache; /* held */
    PyObject *scope;           /* bytes: what its keys begin with */
    Py_ssize_t app_size;       /* of the app's id in it, in bytes */
} RedlaneTenantContext;

/* A context of that type; the ids are checked. A new object, or NULL. */
PyObject *redlane_tenant_context_new(PyTypeObject *type, RedlaneTenantCache *cache,
                                     PyObject *app_id, PyObject *device_id);

int redlane_tenant_cache_setup(PyObject *module);
int redlane_tenant_context_setup(PyObject *module);
int redlane_async_tenant_context_setup(PyObject *module);

#endif
