/* Calls of functions with a hard time-out. Lock: the GIL.
 *
 * A function that runs cannot be stopped, so a worker thread runs it (a coroutine
 * function: a task of its own), in a copy of the caller's context, and the caller waits
 * for that: with the value or exception, or, when the time is over, without. The worker
 * goes on and stores what it computes. A value that is there needs no worker, at the
 * price of one more GET for one that is not.
 */
#include "py/state.h"
#include "types/cached_function.h"
#include "types/flow.h"

static PyObject *
compute(PyObject *self, PyObject *const *args, size_t nargs, PyObject *kwnames)
{
    return redlane_function_compute(self, args, nargs, kwnames, false);
}

static PyObject *
compute_anew(PyObject *self, PyObject *const *args, size_t nargs, PyObject *kwnames)
{
    return redlane_function_compute(self, args, nargs, kwnames, true);
}

static PyObject *
compute_on_thread(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames)
{
    return compute(self, args, (size_t)nargs, kwnames);
}

static PyObject *
compute_anew_on_thread(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                       PyObject *kwnames)
{
    return compute_anew(self, args, (size_t)nargs, kwnames);
}

/* call_limited_task(awaitable, seconds, shown, link), awaited */
static PyObject *
await_task(RedlaneFunctionCall *call, RedlaneFlow *flow, RedlaneFlowCall work)
{
    RedlaneCachedFunction *self = call->self;
    PyObject *job = redlane_flow_new(self->state, work, (PyObject *)self, call->args,
                                     call->nargsf, call->kwnames);
    PyObject *waiting = NULL;

    if (job && redlane_tool_resolve(&self->cache->tool) == 0) {
        waiting = PyObject_CallFunction(
            self->state->call_limited_task, "OdON", job, (double)self->hard_ms / 1000,
            self->signature.shown, PyLong_FromVoidPtr(self->cache->tool.link));
    }
    Py_XDECREF(job);
    return waiting ? redlane_flow_await(flow, waiting) : NULL;
}

/* call_limited(work, seconds, shown, *args, **kwargs) */
static PyObject *
call_thread(RedlaneFunctionCall *call, PyMethodDef *work)
{
    RedlaneCachedFunction *self = call->self;
    Py_ssize_t nargs = PyVectorcall_NARGS(call->nargsf);
    Py_ssize_t given = nargs + (call->kwnames ? PyTuple_GET_SIZE(call->kwnames) : 0);
    PyObject *bound = PyCFunction_New(work, (PyObject *)self), *seconds = NULL;
    PyObject **all = PyMem_New(PyObject *, (size_t)given + 3), *value = NULL;

    seconds = PyFloat_FromDouble((double)self->hard_ms / 1000);
    if (!all) {
        (void)PyErr_NoMemory();
    }
    if (all && bound && seconds) {
        all[0] = bound;
        all[1] = seconds;
        all[2] = self->signature.shown;
        if (given) {
            memcpy(all + 3, call->args, (size_t)given * sizeof(*all));
        }
        value = PyObject_Vectorcall(self->state->call_limited, all, (size_t)nargs + 3,
                                    call->kwnames);
    }
    PyMem_Free(all);
    Py_XDECREF(seconds);
    Py_XDECREF(bound);
    return value;
}

static PyObject *
call_worker(RedlaneFunctionCall *call, bool anew)
{
    static PyMethodDef work = {"call", (PyCFunction)(void (*)(void))compute_on_thread,
                               METH_FASTCALL | METH_KEYWORDS, NULL};
    static PyMethodDef refresh = {"refresh",
                                  (PyCFunction)(void (*)(void))compute_anew_on_thread,
                                  METH_FASTCALL | METH_KEYWORDS, NULL};
    RedlaneFlow *flow =
        call->self->awaits ? redlane_flow_current(call->self->state) : NULL;

    if (flow) {
        return await_task(call, flow, anew ? compute_anew : compute);
    }
    return call_thread(call, anew ? &refresh : &work);
}

PyObject *
redlane_function_limited_refresh(RedlaneFunctionCall *call)
{
    return call_worker(call, true);
}

PyObject *
redlane_function_limited(RedlaneFunctionCall *call, RedlaneArg key)
{
    const RedlaneFill *fill = &call->fill;
    PyObject *value;
    int found;

    if (redlane_tool_resolve(fill->tool) < 0) {
        return NULL;
    }
    found = redlane_fill_near_get(fill, key, &value);
    if (found) {
        return value;
    }
    found = redlane_fill_read(fill, key, &value);
    if (found < 0 && (fill->tool->policy == REDLANE_POLICY_RAISE ||
                      redlane_fill_forgive(fill) < 0)) {
        return NULL;
    }
    if (found == 1) {
        redlane_fresh_count(fill);
        return value;
    }
    value = call_worker(call, false);
    return likely(value || !fill->fresh) ? value : redlane_fresh_rescue(fill, key);
}
