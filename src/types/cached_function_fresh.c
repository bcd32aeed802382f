/* A cached function's options of freshness, and its refreshes behind. Lock: the GIL.
 *
 * A refresh is a job for a worker thread, of a coroutine function for a task:
 * (function, capsule, values, names) holds the call's arguments and the flight, which
 * ends with the capsule if the job never runs.
 */
#include "core/buffer.h"
#include "py/args.h"
#include "py/errors.h"
#include "py/state.h"
#include "types/cached_function.h"
#include "types/flow.h"

#define CAPSULE "redlane.refresh"

/* Where on_error="stale" is given and nothing says for how long. */
#define MAX_STALE_MS (INT64_C(3600) * 1000)

typedef struct {
    RedlaneFlight *flight; /* NULL once it runs */
    RedlaneFreshOld old;
} Task;

static int
take_period(PyObject *given, const char *name, int64_t *milliseconds)
{
    return given ? redlane_args_ttl_ms(given, name, milliseconds) : 0;
}

static int
take_on_error(RedlaneFresh *fresh, const RedlaneFunctionOptions *options)
{
    if (!options->on_error) {
        if (options->max_stale) {
            PyErr_SetString(PyExc_ValueError, "max_stale needs on_error='stale'");
            return -1;
        }
        return 0;
    }
    if (!PyUnicode_Check(options->on_error) ||
        PyUnicode_CompareWithASCIIString(options->on_error, "stale") != 0) {
        PyErr_Format(PyExc_ValueError, "on_error must be 'stale' or None, not %R",
                     options->on_error);
        return -1;
    }
    fresh->error_ms = fresh->stale_ms ? fresh->stale_ms : MAX_STALE_MS;
    return take_period(options->max_stale, "max_stale", &fresh->error_ms);
}

/* --- refreshes ------------------------------------------------------------------- */

static void
free_task(PyObject *capsule)
{
    Task *task = PyCapsule_GetPointer(capsule, CAPSULE);

    if (task && task->flight) {
        redlane_flight_finish(task->flight, NULL, NULL);
    }
    PyMem_Free(task);
}

/* RedlaneFresh.is_same */
static int
is_same(void *context, RedlaneArg key)
{
    RedlaneFunctionCall *call = context;
    RedlaneBuffer now = {0};
    bool same = redlane_function_key(call, &now) == 1 && now.size == key.size &&
                memcmp(now.data, key.data, key.size) == 0;

    redlane_buffer_free(&now);
    if (redlane_errors_is_interruption()) {
        return -1;
    }
    PyErr_Clear();
    return same;
}

/* Arguments may have been changed since, and the default client. RAISES_NEG */
static int
is_wanted(RedlaneFunctionCall *call, const RedlaneFlight *flight)
{
    RedlaneTool *tool = &call->self->cache->tool;

    if (redlane_tool_resolve(tool) < 0) {
        return -1;
    }
    return !flight->marked && tool->link == flight->link &&
           is_same(call, (RedlaneArg){flight->key, flight->key_size});
}

static PyObject *
run_refresh(PyObject *bundle, PyObject *Py_UNUSED(ignored))
{
    Task *task = PyCapsule_GetPointer(PyTuple_GET_ITEM(bundle, 1), CAPSULE);
    PyObject *values = PyTuple_GET_ITEM(bundle, 2);
    PyObject *names = PyTuple_GET_ITEM(bundle, 3);
    Py_ssize_t named = names == Py_None ? 0 : PyTuple_GET_SIZE(names);
    RedlaneFunctionCall call;
    RedlaneFlight *flight;
    int wanted;

    if (!task || !task->flight) {
        Py_RETURN_NONE; /* a copy of the job, or one that ran */
    }
    call.self = (RedlaneCachedFunction *)PyTuple_GET_ITEM(bundle, 0);
    call.args = &PyTuple_GET_ITEM(values, 0);
    call.nargsf = (size_t)(PyTuple_GET_SIZE(values) - named);
    call.kwnames = named ? names : NULL;
    wanted = is_wanted(&call, task->flight);
    if (wanted <= 0) {
        return wanted < 0 ? NULL : Py_NewRef(Py_None);
    }
    redlane_function_prepare(&call);
    call.fresh.behind = true;
    flight = task->flight;
    task->flight = NULL;
    redlane_fresh_run(&call.fill, flight, &task->old);
    Py_RETURN_NONE;
}

static PyObject *
run_in_flow(PyObject *bundle, PyObject *const *Py_UNUSED(args), size_t Py_UNUSED(nargs),
            PyObject *Py_UNUSED(kwnames))
{
    return run_refresh(bundle, NULL);
}

/* Lets somebody run it, if anybody can: a new reference, or NULL. */
static PyObject *
submit(RedlaneCachedFunction *self, PyObject *bundle)
{
    static PyMethodDef method = {"refresh", run_refresh, METH_NOARGS, NULL};
    RedlaneState *state = self->state;
    PyObject *job, *answer = NULL;

    job = self->awaits ? redlane_flow_new(state, run_in_flow, bundle, NULL, 0, NULL)
                       : PyCFunction_New(&method, bundle);
    if (job && self->awaits) { /* it ends with the client */
        answer = PyObject_CallFunction(state->submit_task, "ON", job,
                                       PyLong_FromVoidPtr(self->cache->tool.link));
    }
    else if (job) {
        answer = PyObject_CallOneArg(state->submit_refresh, job);
    }
    Py_XDECREF(job);
    return answer;
}

/* STEALS flight */
static PyObject *
new_task(RedlaneFlight *flight, const RedlaneFreshOld *old)
{
    Task *task = PyMem_Malloc(sizeof(*task));
    PyObject *capsule;

    if (!task) {
        redlane_flight_finish(flight, NULL, NULL);
        return PyErr_NoMemory();
    }
    *task = (Task){flight, *old};
    capsule = PyCapsule_New(task, CAPSULE, free_task);
    if (!capsule) {
        redlane_flight_finish(flight, NULL, NULL);
        PyMem_Free(task);
    }
    return capsule;
}

/* RedlaneFresh.spawn */
static int
spawn_refresh(void *context, RedlaneFlight *flight, const RedlaneFreshOld *old)
{
    RedlaneFunctionCall *call = context;
    PyObject *names = call->kwnames ? call->kwnames : Py_None;
    Py_ssize_t count = PyVectorcall_NARGS(call->nargsf);
    PyObject *capsule = new_task(flight, old), *values = NULL, *bundle = NULL;
    PyObject *answer = NULL;

    count += call->kwnames ? PyTuple_GET_SIZE(call->kwnames) : 0;
    values = capsule ? PyTuple_New(count) : NULL;
    for (Py_ssize_t i = 0; values && i < count; i++) {
        PyTuple_SET_ITEM(values, i, Py_NewRef(call->args[i]));
    }
    if (values) {
        bundle = PyTuple_Pack(4, call->self, capsule, values, names);
    }
    if (bundle) {
        answer = submit(call->self, bundle);
    }
    if (!answer && (PyErr_ExceptionMatches(PyExc_MemoryError) ||
                    PyErr_ExceptionMatches(PyExc_RuntimeError))) {
        PyErr_Clear(); /* no worker is to be had: a later call will try */
    }
    Py_XDECREF(answer);
    Py_XDECREF(bundle);
    Py_XDECREF(values);
    Py_XDECREF(capsule);
    return PyErr_Occurred() ? -1 : 0;
}

int
redlane_function_fresh_init(RedlaneCachedFunction *self,
                            const RedlaneFunctionOptions *options)
{
    RedlaneFresh *fresh = &self->fresh;
    int early = options->early ? PyObject_IsTrue(options->early) : 0;

    if (early < 0 || take_period(options->stale, "stale", &fresh->stale_ms) < 0 ||
        take_on_error(fresh, options) < 0) {
        return -1;
    }
    fresh->early = early;
    fresh->soft_ms = self->soft_ms;
    if (fresh->soft_ms && !fresh->stale_ms && !fresh->error_ms) {
        PyErr_SetString(PyExc_ValueError,
                        "soft_timeout needs stale= or on_error='stale': a value to "
                        "return when it is over");
        return -1;
    }
    self->freshens = fresh->stale_ms || fresh->error_ms || fresh->early;
    if (!self->freshens) {
        return 0;
    }
    if (self->ttl_ms == 0 && !self->ttl_of) {
        PyErr_SetString(PyExc_ValueError,
                        "stale, early and on_error need a ttl: what has none is never "
                        "past its time");
        return -1;
    }
    fresh->spawn = spawn_refresh;
    fresh->is_same = is_same;
    fresh->reported = &self->reported;
    return self->awaits ? redlane_function_import(&self->state->submit_task,
                                                  "redlane._tasks", "submit_task")
                        : redlane_function_import(&self->state->submit_refresh,
                                                  "redlane._workers", "submit_refresh");
}
