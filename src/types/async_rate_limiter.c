/* AsyncRateLimiter. Lock: the GIL. */
#include "types/async_rate_limiter.h"

#include <stddef.h>
#include <structmember.h>

#include "types/async_method.h"
#include "types/limit_method.h"
#include "types/rate_limiter.h"

PyObject *
redlane_async_rate_limiter_of(RedlaneState *state, PyObject *limiter)
{
    return redlane_async_twin_new(state, (PyTypeObject *)state->AsyncRateLimiterType,
                                  Py_NewRef(limiter));
}

static PyObject *
async_rate_limiter_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    RedlaneState *state = redlane_state_of_type(type);

    return state ? redlane_async_twin_new(
                       state, type, PyObject_Call(state->RateLimiterType, args, kwargs))
                 : NULL;
}

static PyObject *
async_rate_limiter_get(PyObject *self, void *name)
{
    return PyObject_GetAttrString(((RedlaneAsyncTwin *)self)->sync, name);
}

PyDoc_STRVAR(
    async_rate_limiter_doc,
    "AsyncRateLimiter(client=None, algorithm=\"sliding-window\", on_error=\"memory\", "
    "*, prefix=None, hashed=False, batch=None)\n--\n\n"
    "A :class:`RateLimiter` whose methods are awaited; also ``limiter.aio``.");

int
redlane_async_rate_limiter_setup(PyObject *module)
{
    static PyMemberDef members[] = {
        {"__weaklistoffset__", T_PYSSIZET, offsetof(RedlaneAsyncTwin, weakrefs),
         READONLY, NULL},
        {"sync", T_OBJECT_EX, offsetof(RedlaneAsyncTwin, sync), READONLY,
         "The RateLimiter that it is the twin of."},
        {NULL, 0, 0, 0, NULL},
    };
    static PyGetSetDef getset[] = {
        {"algorithm", async_rate_limiter_get, NULL, "The name of the algorithm.",
         "algorithm"},
        {"prefix", async_rate_limiter_get, NULL, "What its keys begin with.", "prefix"},
        {"on_error", async_rate_limiter_get, NULL,
         "Who decides while the server is away.", "on_error"},
        {"batch", async_rate_limiter_get, NULL,
         "How many hits are taken in one round trip, at most, or None.", "batch"},
        {NULL, NULL, NULL, NULL, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_doc, (void *)async_rate_limiter_doc},
        {Py_tp_new, async_rate_limiter_tp_new},
        {Py_tp_traverse, redlane_async_twin_tp_traverse},
        {Py_tp_clear, redlane_async_twin_tp_clear},
        {Py_tp_dealloc, redlane_async_twin_tp_dealloc},
        {Py_tp_repr, redlane_async_twin_tp_repr},
        {Py_tp_members, members},
        {Py_tp_getset, getset},
        {0, NULL},
    };
    static PyType_Spec spec = {
        .name = "redlane.AsyncRateLimiter",
        .basicsize = sizeof(RedlaneAsyncTwin),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
        .slots = slots,
    };
    static const char *const awaited[] = {"hit",   "peek",  "refund",
                                          "reset", "stats", NULL};
    RedlaneState *state = redlane_state_of_module(module);
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);

    if (redlane_state_add(module, &state->AsyncRateLimiterType, "AsyncRateLimiter",
                          type) < 0 ||
        redlane_limit_method_add(module, type) < 0) {
        return -1;
    }
    if (redlane_async_methods_add(state, type, state->RateLimiterType, awaited, false) <
            0 ||
        redlane_async_method_hasten(type, "hit", redlane_rate_limiter_hit_here) < 0 ||
        redlane_async_method_hasten(type, "peek", redlane_rate_limiter_peek_here) < 0) {
        return -1;
    }
    return redlane_async_method_hasten(type, "refund",
                                       redlane_rate_limiter_refund_here);
}
