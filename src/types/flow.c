/* Flows: awaitables whose C code may wait. Lock: the GIL. */
#include "types/flow.h"

#include <pthread.h>

#include "types/awaitable.h"

#if PY_VERSION_HEX >= 0x030E0000
#error \
    "redlane is for Python 3.10 to 3.13: 3.14 watches the C stack, which flows change"
#endif

typedef enum {
    FLOW_NEW,
    FLOW_RUNNING, /* or what it awaits does */
    FLOW_WAITING,
    FLOW_DONE,
} Phase;

struct RedlaneFlow {
    PyObject_VAR_HEAD RedlaneState *state; /* BORROWED */
    RedlaneFlowCall call;
    PyObject *target;  /* NULL once it is done, as kwnames and args */
    PyObject *kwnames; /* or NULL */
    size_t nargsf;
    Phase phase;
    bool closing;
    bool task_known;
    const void *task;
    RedlaneFiber *fiber;   /* while it is RUNNING or WAITING */
    PyObject *awaited;     /* an iterator, or NULL */
    PyObject *const *held; /* what is shown to the collector besides … */
    size_t held_count;     /* … so many; BORROWED from its own stack */
    PyObject *outcome;     /* what it gave; NULL with an exception set */
    PyObject *result;      /* the call's own, on the way out */
    PyThreadState *thread; /* while its fiber runs … */
    pthread_t native;
    const void *frame;  /* … the frame that it was entered from … */
    RedlaneFlow *outer; /* … and the flow that was entered before */
    int depth;          /* of C calls that stand on its fiber */
    PyObject *args[];
};

/* --- the interpreter's thread --- */

static const void *
frame_of(PyThreadState *thread)
{
#if PY_VERSION_HEX >= 0x030D0000
    return thread->current_frame;
#elif PY_VERSION_HEX >= 0x030B0000
    return thread->cframe->current_frame;
#else
    return thread->frame;
#endif
}

/* So many more C calls may be nested; on 3.10, so many are. */
static int *
depth_of(PyThreadState *thread)
{
#if PY_VERSION_HEX >= 0x030C0000
    return &thread->c_recursion_remaining;
#elif PY_VERSION_HEX >= 0x030B0000
    return &thread->recursion_remaining;
#else
    return &thread->recursion_depth;
#endif
}

RedlaneFlow *
redlane_flow_find(RedlaneState *state)
{
    PyThreadState *thread = PyThreadState_Get();
    RedlaneFlow *flow = state->flows->running;

    while (flow && flow->thread != thread) {
        flow = flow->outer;
    }
    return flow && flow->frame == frame_of(thread) ? flow : NULL;
}

/* --- fibers --- */

static void
ignore_fork(void *context)
{
    (void)context;
}

/* In a child only the thread that forked is left. The others' flows never go on, and a
 * new thread may get the address of one that is gone. */
static void
forget_threads(void *context)
{
    RedlaneFlow **where = &((struct RedlaneFlows *)context)->running;

    while (*where) {
        if (pthread_equal((*where)->native, pthread_self())) {
            where = &(*where)->outer;
        }
        else {
            *where = (*where)->outer;
        }
    }
}

/* On the fiber. */
static void
run_flow(void *context)
{
    RedlaneFlow *flow = context;

    flow->result = flow->call(flow->target, flow->args, flow->nargsf, flow->kwnames);
}

/* Runs its code until it waits or ends: true at the end. */
static bool
enter(RedlaneFlow *flow)
{
    struct RedlaneFlows *flows = flow->state->flows;
    PyThreadState *thread = PyThreadState_Get();
    RedlaneFlow **where = &flows->running;
    int outside = *depth_of(thread);
    bool done;

    flow->thread = thread;
    flow->native = pthread_self();
    flow->frame = frame_of(thread);
    flow->outer = flows->running;
    flows->running = flow;
    *depth_of(thread) = outside + flow->depth;
    done = redlane_fiber_enter(flow->fiber);
    flow->depth = *depth_of(thread) - outside;
    *depth_of(thread) = outside;
    while (*where != flow) { /* other threads may have entered theirs */
        where = &(*where)->outer;
    }
    *where = flow->outer;
    return done;
}

/* --- inside --- */

bool
redlane_flow_is_closing(const RedlaneFlow *flow)
{
    return flow->closing;
}

PyObject *
redlane_flow_await(RedlaneFlow *flow, PyObject *STEALS awaitable)
{
    PyObject *outcome;

    if (flow->closing) {
        Py_DECREF(awaitable);
        PyErr_SetNone(PyExc_GeneratorExit);
        return NULL;
    }
    flow->awaited = redlane_awaitable_iterator(awaitable);
    if (!flow->awaited) {
        return NULL;
    }
    redlane_fiber_leave(flow->fiber);
    outcome = flow->outcome;
    flow->outcome = NULL;
    return outcome;
}

void
redlane_flow_show(RedlaneFlow *flow, PyObject *const *held, size_t count)
{
    flow->held = held;
    flow->held_count = count;
}

const void *
redlane_flow_task(RedlaneFlow *flow)
{
    PyObject *module, *task;

    if (flow->task_known) {
        return flow->task;
    }
    flow->task_known = true;
    if (!flow->state->current_task) {
        module = PyImport_ImportModule("asyncio");
        if (module) {
            Py_XSETREF(flow->state->current_task,
                       PyObject_GetAttrString(module, "current_task"));
            Py_DECREF(module);
        }
    }
    task = flow->state->current_task ? PyObject_CallNoArgs(flow->state->current_task)
                                     : NULL;
    PyErr_Clear(); /* no event loop of asyncio runs */
    flow->task = task == Py_None ? NULL : task;
    Py_XDECREF(task); /* it lives while it runs this */
    return flow->task;
}

/* --- from outside --- */

static void
drop_call(RedlaneFlow *flow)
{
    PyObject *target = flow->target, *kwnames = flow->kwnames;

    flow->target = flow->kwnames = NULL;
    for (Py_ssize_t i = 0; i < Py_SIZE(flow); i++) {
        Py_CLEAR(flow->args[i]);
    }
    Py_XDECREF(target);
    Py_XDECREF(kwnames);
}

/* What it awaited is over. Keeps the exception that may be set. */
static void
drop_awaited(RedlaneFlow *flow)
{
    PyObject *type, *error, *traceback;

    PyErr_Fetch(&type, &error, &traceback);
    Py_CLEAR(flow->awaited);
    PyErr_Restore(type, error, traceback);
}

/* Goes on until it has to wait: PYGEN_NEXT with what the loop is to be given. With
 * `sent`, what it awaits goes on first; else that is over: there is an outcome, or an
 * exception is set. */
static PySendResult
advance(RedlaneFlow *flow, PyObject *sent, PyObject **result)
{
    PyObject *type, *error, *traceback;

    flow->phase = FLOW_RUNNING;
    do {
        if (flow->awaited && sent) {
            PySendResult status = PyIter_Send(flow->awaited, sent, result);

            if (status == PYGEN_NEXT) {
                flow->phase = FLOW_WAITING;
                return PYGEN_NEXT;
            }
            flow->outcome = *result;
            drop_awaited(flow);
        }
        sent = Py_None;
    } while (!enter(flow));
    *result = flow->result;
    flow->result = NULL;
    flow->phase = FLOW_DONE;
    redlane_fiber_give(&flow->state->flows->fibers, flow->fiber);
    flow->fiber = NULL;
    PyErr_Fetch(&type, &error, &traceback);
    drop_call(flow);
    PyErr_Restore(type, error, traceback);
    if (*result) {
        return PYGEN_RETURN;
    }
    redlane_awaitable_guard_stop();
    return PYGEN_ERROR;
}

/* Whether it can be sent to. RAISES_NEG */
static int
check_phase(const RedlaneFlow *flow)
{
    if (flow->phase == FLOW_RUNNING) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
        return -1;
    }
    if (flow->phase == FLOW_DONE) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return -1;
    }
    return 0;
}

static PySendResult
flow_am_send(PyObject *self, PyObject *sent, PyObject **result)
{
    RedlaneFlow *flow = (RedlaneFlow *)self;

    *result = NULL;
    if (check_phase(flow) < 0) {
        return PYGEN_ERROR;
    }
    if (flow->phase == FLOW_NEW) {
        if (sent && sent != Py_None) {
            PyErr_SetString(PyExc_TypeError,
                            "can't send non-None value to a just-started coroutine");
            return PYGEN_ERROR;
        }
        flow->fiber = redlane_fiber_take(&flow->state->flows->fibers);
        if (!flow->fiber) {
            (void)PyErr_NoMemory();
            return PYGEN_ERROR;
        }
        redlane_fiber_start(flow->fiber, run_flow, flow);
    }
    return advance(flow, sent ? sent : Py_None, result);
}

/* What a method or iternext returns for it. */
static PyObject *
unwrap(PySendResult status, PyObject *result)
{
    if (status == PYGEN_RETURN) {
        redlane_awaitable_return(result);
        Py_CLEAR(result);
    }
    return result;
}

PyDoc_STRVAR(send_doc, "send($self, value, /)\n--\n\nAs of a coroutine.");

static PyObject *
flow_send(PyObject *self, PyObject *sent)
{
    PyObject *result;
    PySendResult status = flow_am_send(self, sent, &result);

    return unwrap(status, result);
}

static PyObject *
flow_tp_iternext(PyObject *self)
{
    return flow_send(self, Py_None);
}

/* Ends what it awaits, and lets its code end: it waits no more. The exception that is
 * set is raised where it stands. */
static PySendResult
unwind(RedlaneFlow *flow, PyObject **result)
{
    PyObject *type, *error, *traceback, *closed;

    flow->phase = FLOW_RUNNING;
    flow->closing = true;
    PyErr_Fetch(&type, &error, &traceback);
    if (redlane_awaitable_call_optional(flow->awaited, "close", NULL, 0, &closed) < 0) {
        Py_XDECREF(type); /* its own exception counts */
        Py_XDECREF(error);
        Py_XDECREF(traceback);
    }
    else {
        PyErr_Restore(type, error, traceback);
    }
    Py_XDECREF(closed);
    drop_awaited(flow);
    return advance(flow, NULL, result);
}

PyDoc_STRVAR(throw_doc, "throw($self, typ, val=None, tb=None, /)\n--\n\n"
                        "As of a coroutine.");

static PyObject *
flow_throw(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    RedlaneFlow *flow = (RedlaneFlow *)self;
    PyObject *result;
    PySendResult status;
    int thrown;

    if (check_phase(flow) < 0) {
        return NULL;
    }
    if (flow->phase == FLOW_NEW) {
        flow->phase = FLOW_DONE;
        drop_call(flow);
        redlane_awaitable_throw(args, nargs);
        return NULL;
    }
    if (nargs && PyErr_GivenExceptionMatches(args[0], PyExc_GeneratorExit)) {
        redlane_awaitable_throw(args, nargs);
        status = unwind(flow, &result);
        return unwrap(status, result);
    }
    flow->phase = FLOW_RUNNING;
    thrown =
        redlane_awaitable_call_optional(flow->awaited, "throw", args, nargs, &result);
    if (thrown == 1) {
        flow->phase = FLOW_WAITING;
        return result;
    }
    if (thrown == 0) {
        redlane_awaitable_throw(args, nargs);
    }
    else {
        flow->outcome = redlane_awaitable_take_return();
    }
    drop_awaited(flow);
    status = advance(flow, NULL, &result);
    return unwrap(status, result);
}

PyDoc_STRVAR(close_doc, "close($self, /)\n--\n\nAs of a coroutine.");

static PyObject *
flow_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    RedlaneFlow *flow = (RedlaneFlow *)self;
    PyObject *result = NULL;

    if (flow->phase == FLOW_RUNNING) {
        (void)check_phase(flow);
        return NULL;
    }
    if (flow->phase == FLOW_NEW) {
        flow->phase = FLOW_DONE;
        drop_call(flow);
    }
    if (flow->phase == FLOW_WAITING) {
        PyErr_SetNone(PyExc_GeneratorExit);
        if (unwind(flow, &result) == PYGEN_ERROR) {
            if (!PyErr_ExceptionMatches(PyExc_GeneratorExit)) {
                return NULL;
            }
            PyErr_Clear();
        }
        Py_XDECREF(result);
    }
    Py_RETURN_NONE;
}

static void
flow_tp_finalize(PyObject *self)
{
    RedlaneFlow *flow = (RedlaneFlow *)self;
    PyObject *type, *error, *traceback, *closed;

    if (unlikely(flow->phase == FLOW_NEW) && flow->target &&
        flow->state->RedlaneError) {
        redlane_flow_warn_unawaited(self, flow->target);
        return;
    }
    /* Once the module is being taken down its code has nothing to stand on. */
    if (flow->phase != FLOW_WAITING || !flow->state->RedlaneError) {
        return;
    }
    PyErr_Fetch(&type, &error, &traceback);
    closed = flow_close(self, NULL);
    if (!closed) {
        PyErr_WriteUnraisable(self);
    }
    Py_XDECREF(closed);
    PyErr_Restore(type, error, traceback);
}

/* What inspect.getcoroutinestate() asks for. A flow has no frame;
 * Python 3.10 looks into that for whether it has begun, unless it runs. */
static PyObject *
flow_get_running(PyObject *self, void *Py_UNUSED(closure))
{
    Phase phase = ((RedlaneFlow *)self)->phase;

    return PyBool_FromLong(phase == FLOW_RUNNING ||
                           (PY_VERSION_HEX < 0x030B0000 && phase == FLOW_WAITING));
}

static PyObject *
flow_get_suspended(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((RedlaneFlow *)self)->phase == FLOW_WAITING);
}

static PyObject *
flow_get_await(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *awaited = ((RedlaneFlow *)self)->awaited;

    return Py_NewRef(awaited ? awaited : Py_None);
}

static int
flow_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    RedlaneFlow *flow = (RedlaneFlow *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(flow->target);
    Py_VISIT(flow->kwnames);
    Py_VISIT(flow->awaited);
    Py_VISIT(flow->outcome);
    for (size_t i = 0; i < flow->held_count; i++) {
        Py_VISIT(flow->held[i]);
    }
    for (Py_ssize_t i = 0; i < Py_SIZE(flow); i++) {
        Py_VISIT(flow->args[i]);
    }
    return 0;
}

/* What still waits uses its arguments: it was not to be closed. */
static int
flow_tp_clear(PyObject *self)
{
    RedlaneFlow *flow = (RedlaneFlow *)self;

    Py_CLEAR(flow->awaited);
    if (!flow->fiber) {
        drop_call(flow);
    }
    return 0;
}

static void
flow_tp_dealloc(PyObject *self)
{
    RedlaneFlow *flow = (RedlaneFlow *)self;
    PyTypeObject *type = Py_TYPE(self);

    if (PyObject_CallFinalizerFromDealloc(self) < 0) {
        return;
    }
    PyObject_GC_UnTrack(self);
    Py_CLEAR(flow->awaited);
    drop_call(flow);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

PyObject *
redlane_flow_new(RedlaneState *state, RedlaneFlowCall call, PyObject *target,
                 PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    Py_ssize_t count = PyVectorcall_NARGS(nargsf);
    RedlaneFlow *flow;

    count += kwnames ? PyTuple_GET_SIZE(kwnames) : 0;
    flow = PyObject_GC_NewVar(RedlaneFlow, (PyTypeObject *)state->FlowType, count);
    if (!flow) {
        return NULL;
    }
    flow->state = state;
    flow->call = call;
    flow->target = Py_NewRef(target);
    flow->kwnames = Py_XNewRef(kwnames);
    flow->nargsf = (size_t)PyVectorcall_NARGS(nargsf);
    flow->phase = FLOW_NEW;
    flow->closing = flow->task_known = false;
    flow->fiber = NULL;
    flow->awaited = flow->outcome = flow->result = NULL;
    flow->held = NULL;
    flow->held_count = 0;
    flow->depth = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        flow->args[i] = Py_NewRef(args[i]);
    }
    PyObject_GC_Track(flow);
    return (PyObject *)flow;
}

void
redlane_flow_free_kept(RedlaneState *state)
{
    struct RedlaneFlows *flows = state->flows;

    if (!flows) {
        return;
    }
    redlane_fork_unregister(&flows->hook);
    redlane_fiber_pool_clear(&flows->fibers);
    PyMem_Free(flows);
    state->flows = NULL;
}

int
redlane_flow_setup(PyObject *module)
{
    static PyMethodDef methods[] = {
        {"send", flow_send, METH_O, send_doc},
        {"throw", (PyCFunction)(void (*)(void))flow_throw, METH_FASTCALL, throw_doc},
        {"close", flow_close, METH_NOARGS, close_doc},
        {NULL, NULL, 0, NULL},
    };
    static PyGetSetDef getset[] = {
        {"cr_running", flow_get_running, NULL, NULL, NULL},
        {"cr_suspended", flow_get_suspended, NULL, NULL, NULL},
        {"cr_await", flow_get_await, NULL, NULL, NULL},
        {"cr_frame", redlane_awaitable_get_none, NULL, NULL, NULL},
        {NULL, NULL, NULL, NULL, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_doc, "A coroutine whose code is C."},
        {Py_tp_traverse, flow_tp_traverse},
        {Py_tp_clear, flow_tp_clear},
        {Py_tp_finalize, flow_tp_finalize},
        {Py_tp_dealloc, flow_tp_dealloc},
        {Py_am_await, PyObject_SelfIter},
        {Py_am_send, flow_am_send},
        {Py_tp_iter, PyObject_SelfIter},
        {Py_tp_iternext, flow_tp_iternext},
        {Py_tp_methods, methods},
        {Py_tp_getset, getset},
        {0, NULL},
    };
    static PyType_Spec spec = {
        .name = "redlane._core.Flow",
        .basicsize = sizeof(RedlaneFlow),
        .itemsize = sizeof(PyObject *),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
                 Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };
    RedlaneState *state = redlane_state_of_module(module);
    struct RedlaneFlows *flows = PyMem_Calloc(1, sizeof(*flows));

    if (!flows) {
        (void)PyErr_NoMemory();
        return -1;
    }
    flows->hook = (RedlaneForkHook){
        .rank = REDLANE_FORK_FALLBACK,
        .prepare = ignore_fork,
        .parent = ignore_fork,
        .child = forget_threads,
        .context = flows,
    };
    if (redlane_fork_register(&flows->hook) < 0) {
        PyMem_Free(flows);
        (void)PyErr_NoMemory();
        return -1;
    }
    state->flows = flows;
    state->FlowType = PyType_FromModuleAndSpec(module, &spec, NULL);
    return state->FlowType ? 0 : -1;
}
