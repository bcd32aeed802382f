/* A request that is awaited.
 *
 *   AsyncReply ── await ──▶ starts the trip, and is done with
 *   trip ──▶ Waiter ──▶ [over before it was waited for: a ready awaitable]
 *   trip ══▶ Waiter ──▶ future.set_result ──▶ whoever awaits
 *
 * Whoever is cancelled has a cancelled future, which takes no result: the reply is then
 * dropped here. GIL held. */
#include "types/async_reply.h"

#include "py/errors.h"
#include "py/log.h"
#include "py/state.h"
#include "store/async_store.h"
#include "types/awaitable.h"
#include "types/ready_awaitable.h"

#define STOPPED "a command raised StopIteration"

/* How a request ended that was over while it was being started. */
typedef struct {
    bool over;
    PyObject *result; /* or NULL, and: */
    PyObject *type, *value, *traceback;
} Early;

typedef struct {
    RedlaneCompletion completion; /* first */
    RedlaneState *state;          /* BORROWED */
    PyObject *future;             /* NULL before it is waited for */
    Early *early;                 /* BORROWED, while it is being started */
    RedlaneShape shape;
    PyObject *cast; /* score_cast_func, or NULL */
    bool empty;     /* nothing is sent: the result is an empty list */
    bool batch;     /* of a pipeline: what follows */
    bool raise_on_error;
    RedlaneBatch queued;
    const RedlaneVector *vectors; /* BORROWED from the trip; for the log */
    int64_t started;              /* for the log, or 0 */
} Waiter;

typedef struct {
    PyObject_HEAD
    RedlaneClient *client;         /* NULL once it is started, closed or cleared */
    struct RedlaneAsyncTrip *trip; /* NULL once it is started, or nothing is sent */
    Waiter *waiter;                /* NULL once it is started */
    PyObject *iterator; /* of its future, where it is driven as a coroutine */
} AsyncReply;

/* --- the waiter --- */

static void
free_waiter(Waiter *waiter)
{
    if (!waiter) {
        return;
    }
    Py_CLEAR(waiter->future);
    Py_CLEAR(waiter->cast);
    if (waiter->batch) {
        redlane_batch_clear(&waiter->queued);
    }
    PyMem_Free(waiter);
}

static int
visit_waiter(const Waiter *waiter, visitproc visit, void *arg)
{
    Py_VISIT(waiter->future);
    Py_VISIT(waiter->cast);
    return waiter->batch ? redlane_queue_traverse(&waiter->queued.queue, visit, arg)
                         : 0;
}

/* The result of one command; NULL with an exception set. STEALS reply */
static PyObject *
make_result(const Waiter *waiter, PyObject *STEALS reply)
{
    if (unlikely(PyExceptionInstance_Check(reply))) {
        PyErr_SetObject((PyObject *)Py_TYPE(reply), reply);
        Py_DECREF(reply);
        return NULL;
    }
    if (waiter->shape == REDLANE_SHAPE_RAW && !PyList_CheckExact(reply)) {
        return reply;
    }
    return redlane_result(waiter->state, waiter->shape, waiter->cast, reply);
}

static PyObject *
make_results(Waiter *waiter, PyObject **replies, size_t count)
{
    RedlaneBatch *batch = &waiter->queued;

    for (size_t i = 0; i < count; i++) {
        batch->replies[i] = replies[i];
        replies[i] = NULL;
    }
    return redlane_batch_results(batch, waiter->state, waiter->raise_on_error);
}

static int
call_future(PyObject *future, PyObject *name, PyObject *argument)
{
    PyObject *result = PyObject_CallMethodOneArg(future, name, argument);

    Py_XDECREF(result);
    return result ? 0 : -1;
}

/* Gives the future the exception that is set. */
static void
raise_in(Waiter *waiter)
{
    PyObject *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback && value) {
        (void)PyException_SetTraceback(value, traceback);
    }
    if (value && call_future(waiter->future, waiter->state->set_exception, value) < 0) {
        PyObject *refusal;

        /* A cancelled one takes nothing, a StopIteration is not taken. */
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Clear();
            refusal = PyObject_CallFunction(PyExc_RuntimeError, "s", STOPPED);
            if (refusal) {
                (void)call_future(waiter->future, waiter->state->set_exception,
                                  refusal);
                Py_DECREF(refusal);
            }
        }
        redlane_errors_put_off();
    }
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
}

/* Gives whoever waits the result, or the exception that is set for NULL; frees the
 * waiter. STEALS result */
static void
settle(Waiter *waiter, PyObject *STEALS result)
{
    Early *early = waiter->early;

    if (early) {
        early->over = true;
        early->result = result;
        if (!result) {
            PyErr_Fetch(&early->type, &early->value, &early->traceback);
        }
        free_waiter(waiter);
        return;
    }
    if (unlikely(!result)) {
        raise_in(waiter);
    }
    else if (call_future(waiter->future, waiter->state->set_result, result) < 0) {
        redlane_errors_put_off(); /* whoever awaited it was cancelled */
    }
    Py_XDECREF(result);
    free_waiter(waiter);
}

/* RedlaneCompletion.done */
static void
waiter_done(RedlaneCompletion *completion, PyObject **replies, size_t count)
{
    Waiter *waiter = (Waiter *)completion;
    PyObject *result = NULL;

    if (unlikely(waiter->started)) {
        redlane_log_command(waiter->state, waiter->vectors, count,
                            redlane_clock_now() - waiter->started);
    }
    if (replies) {
        result = waiter->batch ? make_results(waiter, replies, count)
                               : make_result(waiter, replies[0]);
    }
    settle(waiter, result);
}

/* RedlaneCompletion.drop */
static void
waiter_drop(RedlaneCompletion *completion)
{
    Waiter *waiter = (Waiter *)completion;

    if (unlikely(waiter->early)) {
        PyErr_SetString(PyExc_RuntimeError, "the event loop is gone");
        settle(waiter, NULL);
        return;
    }
    free_waiter(waiter);
}

/* RedlaneCompletion.wanted */
static bool
waiter_wanted(RedlaneCompletion *completion)
{
    PyObject *future = ((Waiter *)completion)->future, *done;
    bool wanted;

    if (!future) { /* it is being started */
        return true;
    }
    done = PyObject_CallMethod(future, "done", NULL);
    wanted = done != Py_True;
    Py_XDECREF(done);
    redlane_errors_put_off();
    return wanted;
}

static int
waiter_traverse(RedlaneCompletion *completion, visitproc visit, void *arg)
{
    return visit_waiter((Waiter *)completion, visit, arg);
}

/* --- starting --- */

static void
refuse_reuse(void)
{
    PyErr_SetString(PyExc_RuntimeError, "cannot await the same reply twice");
}

/* The iterator of a future, as `await` takes it. */
static PyObject *
iterate(PyObject *future)
{
    const PyAsyncMethods *methods = Py_TYPE(future)->tp_as_async;

    if (!methods || !methods->am_await) {
        PyErr_SetString(PyExc_TypeError, "the loop's futures cannot be awaited");
        return NULL;
    }
    return methods->am_await(future);
}

/* What is awaited of one that is over: an iterator with its result; NULL with its
 * exception. */
static PyObject *
take_early(RedlaneState *state, Early *early)
{
    if (unlikely(!early->result)) {
        PyErr_Restore(early->type, early->value, early->traceback);
        if (PyErr_ExceptionMatches(PyExc_StopIteration)) { /* it would say: a result */
            PyErr_SetString(PyExc_RuntimeError, STOPPED);
        }
        return NULL;
    }
    return redlane_ready_awaitable_new(state, early->result);
}

/* What is awaited of one that is on its way. Making a future may run anything, also
 * what ends the request. */
static PyObject *
await_future(Waiter *waiter, RedlaneLoop *loop, Early *early)
{
    PyObject *future = redlane_loop_future(loop), *iterator;

    if (unlikely(early->over)) {
        Py_XDECREF(future);
        return NULL;
    }
    if (!future) {
        redlane_async_store_abandon(&waiter->completion);
        free_waiter(waiter);
        return NULL;
    }
    waiter->early = NULL;
    waiter->future = Py_NewRef(future);
    iterator = iterate(future);
    Py_DECREF(future);
    return iterator;
}

/* Ends one that was not started. */
static void
give_up(AsyncReply *self)
{
    struct RedlaneAsyncTrip *trip = self->trip;
    Waiter *waiter = self->waiter;
    RedlaneClient *client = self->client;

    self->trip = NULL;
    self->waiter = NULL;
    self->client = NULL;
    redlane_async_store_discard(trip);
    free_waiter(waiter);
    Py_XDECREF((PyObject *)client);
}

/* Starts it, and gives what the awaiting coroutine goes on with. */
static PyObject *
start(AsyncReply *self)
{
    RedlaneClient *client = self->client;
    Waiter *waiter = self->waiter;
    struct RedlaneAsyncTrip *trip = self->trip;
    Early early = {.over = false};
    PyObject *iterator, *type, *value, *traceback;
    RedlaneLoop *loop;

    if (!client) {
        refuse_reuse();
        return NULL;
    }
    loop = redlane_loop_running(client->state);
    if (!loop || redlane_client_check(client) < 0) {
        PyErr_Fetch(&type, &value, &traceback);
        give_up(self); /* it was awaited */
        PyErr_Restore(type, value, traceback);
        return NULL;
    }
    self->waiter = NULL;
    self->trip = NULL;
    self->client = NULL;
    waiter->early = &early;
    if (unlikely(!trip)) {
        settle(waiter, PyList_New(0));
    }
    else {
        if (unlikely(redlane_log_debugging(client->state))) {
            waiter->vectors = redlane_async_store_vectors(trip);
            waiter->started = redlane_clock_now();
        }
        redlane_async_store_begin(trip, loop, redlane_client_deadline(client),
                                  &waiter->completion);
    }
    iterator = early.over ? NULL : await_future(waiter, loop, &early);
    if (early.over) {
        PyErr_Clear(); /* of a future that was not made */
        iterator = take_early(client->state, &early);
    }
    Py_DECREF(client);
    return iterator;
}

static PyObject *
async_reply_am_await(PyObject *object)
{
    AsyncReply *self = (AsyncReply *)object;

    if (self->iterator) {
        refuse_reuse();
        return NULL;
    }
    return start(self);
}

/* --- as a coroutine --- */

static PySendResult
async_reply_am_send(PyObject *object, PyObject *value, PyObject **result)
{
    AsyncReply *self = (AsyncReply *)object;
    PySendResult outcome;
    PyObject *iterator;

    *result = NULL;
    if (!self->iterator) {
        if (value && value != Py_None) {
            PyErr_SetString(PyExc_TypeError,
                            "can't send non-None value to a just-started coroutine");
            return PYGEN_ERROR;
        }
        self->iterator = start(self);
        if (!self->iterator) {
            return PYGEN_ERROR;
        }
    }
    iterator = Py_NewRef(self->iterator);
    outcome = PyIter_Send(iterator, value ? value : Py_None, result);
    Py_DECREF(iterator);
    return outcome;
}

static PyObject *
async_reply_send(PyObject *self, PyObject *value)
{
    PyObject *result, *stop;

    switch (async_reply_am_send(self, value, &result)) {
    case PYGEN_NEXT:
        return result;
    case PYGEN_RETURN:
        stop = PyObject_CallOneArg(PyExc_StopIteration, result);
        Py_DECREF(result);
        if (stop) {
            PyErr_SetObject(PyExc_StopIteration, stop);
            Py_DECREF(stop);
        }
        return NULL;
    case PYGEN_ERROR:
        break;
    }
    return NULL;
}

static PyObject *
async_reply_throw(PyObject *object, PyObject *args)
{
    AsyncReply *self = (AsyncReply *)object;
    PyObject *method, *result, *type, *value = NULL, *traceback = NULL;

    if (self->iterator) {
        method = PyObject_GetAttrString(self->iterator, "throw");
        result = method ? PyObject_CallObject(method, args) : NULL;
        Py_XDECREF(method);
        return result;
    }
    if (!PyArg_ParseTuple(args, "O|OO:throw", &type, &value, &traceback)) {
        return NULL;
    }
    give_up(self);
    if (PyExceptionInstance_Check(type)) {
        PyErr_SetObject((PyObject *)Py_TYPE(type), type);
    }
    else if (PyExceptionClass_Check(type)) {
        PyErr_SetObject(type, value);
    }
    else {
        PyErr_SetString(PyExc_TypeError, "exceptions must be classes or instances");
    }
    return NULL;
}

static PyObject *
async_reply_close(PyObject *object, PyObject *unused)
{
    AsyncReply *self = (AsyncReply *)object;
    PyObject *iterator = self->iterator;

    (void)unused;
    give_up(self);
    if (iterator) {
        return PyObject_CallMethod(iterator, "close", NULL);
    }
    Py_RETURN_NONE;
}

/* --- the type --- */

static AsyncReply *
new_reply(RedlaneClient *client)
{
    PyTypeObject *type = (PyTypeObject *)client->state->AsyncReplyType;
    AsyncReply *self = (AsyncReply *)type->tp_alloc(type, 0);

    if (!self) {
        return NULL;
    }
    self->waiter = PyMem_Calloc(1, sizeof(*self->waiter));
    if (!self->waiter) {
        Py_DECREF(self);
        PyErr_NoMemory();
        return NULL;
    }
    self->waiter->state = client->state;
    self->waiter->completion.done = waiter_done;
    self->waiter->completion.drop = waiter_drop;
    self->waiter->completion.wanted = waiter_wanted;
    self->waiter->completion.traverse = waiter_traverse;
    return self;
}

PyObject *
redlane_async_reply_new(RedlaneClient *client, RedlaneCall *call)
{
    RedlaneRequest request = {.decode = client->decode};
    RedlaneVector vector = redlane_args_vector(&call->args, call->command);
    AsyncReply *self;

    if (redlane_client_check(client) < 0) {
        return NULL;
    }
    self = new_reply(client);
    if (!self) {
        return NULL;
    }
    self->waiter->shape = call->shape;
    self->waiter->cast = Py_XNewRef(call->cast);
    if (likely(!call->empty)) {
        self->trip = redlane_async_store_prepare(client->store, &request, &vector, 1);
        if (!self->trip) {
            Py_DECREF(self);
            return NULL;
        }
    }
    self->client = (RedlaneClient *)Py_NewRef((PyObject *)client);
    return (PyObject *)self;
}

PyObject *
redlane_async_reply_new_batch(RedlaneClient *client, STEALS RedlaneBatch *batch,
                              bool transaction, bool raise_on_error)
{
    RedlaneRequest request = {.decode = client->decode, .transaction = transaction};
    AsyncReply *self = NULL;

    if (redlane_client_check(client) == 0) {
        self = new_reply(client);
    }
    if (!self) {
        redlane_batch_clear(batch);
        return NULL;
    }
    self->waiter->batch = true;
    self->waiter->raise_on_error = raise_on_error;
    self->waiter->queued = *batch;
    request.transaction = transaction && batch->count > 0;
    self->trip = redlane_async_store_prepare(client->store, &request, batch->vectors,
                                             batch->count);
    if (!self->trip) {
        Py_DECREF(self);
        return NULL;
    }
    self->client = (RedlaneClient *)Py_NewRef((PyObject *)client);
    return (PyObject *)self;
}

static int
async_reply_tp_traverse(PyObject *object, visitproc visit, void *arg)
{
    AsyncReply *self = (AsyncReply *)object;

    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->client);
    Py_VISIT(self->iterator);
    return self->waiter ? visit_waiter(self->waiter, visit, arg) : 0;
}

static int
async_reply_tp_clear(PyObject *object)
{
    AsyncReply *self = (AsyncReply *)object;

    give_up(self);
    Py_CLEAR(self->iterator);
    return 0;
}

/* As of a coroutine: a command that nobody awaited was not run, which is a mistake. */
static void
async_reply_tp_finalize(PyObject *object)
{
    AsyncReply *self = (AsyncReply *)object;
    PyObject *type, *value, *traceback;

    if (!self->client) {
        return;
    }
    PyErr_Fetch(&type, &value, &traceback);
    if (PyErr_WarnEx(PyExc_RuntimeWarning,
                     self->waiter && self->waiter->batch
                         ? "AsyncPipeline.execute() was never awaited"
                         : "a command of AsyncClient was never awaited",
                     1) < 0) {
        PyErr_WriteUnraisable(object);
    }
    PyErr_Restore(type, value, traceback);
}

static void
async_reply_tp_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);

    if (PyObject_CallFinalizerFromDealloc(object) < 0) {
        return;
    }
    PyObject_GC_UnTrack(object);
    (void)async_reply_tp_clear(object);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMethodDef async_reply_methods[] = {
    {"send", async_reply_send, METH_O, NULL},
    {"throw", async_reply_throw, METH_VARARGS, NULL},
    {"close", async_reply_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

/* What inspect.getcoroutinestate() asks for. It has no frame, in
 * which Python 3.10 looks whether it has begun, unless it runs. */
static PyObject *
async_reply_get_suspended(PyObject *object, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((AsyncReply *)object)->iterator != NULL);
}

static PyGetSetDef async_reply_getset[] = {
#if PY_VERSION_HEX >= 0x030B0000
    {"cr_running", redlane_awaitable_get_false, NULL, NULL, NULL},
#else
    {"cr_running", async_reply_get_suspended, NULL, NULL, NULL},
#endif
    {"cr_suspended", async_reply_get_suspended, NULL, NULL, NULL},
    {"cr_frame", redlane_awaitable_get_none, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(async_reply_doc,
             "What a method of AsyncClient gives: runs when it is awaited, once.");

static PyType_Slot async_reply_slots[] = {
    {Py_tp_doc, (void *)async_reply_doc},
    {Py_tp_dealloc, async_reply_tp_dealloc},
    {Py_tp_finalize, async_reply_tp_finalize},
    {Py_tp_traverse, async_reply_tp_traverse},
    {Py_tp_clear, async_reply_tp_clear},
    {Py_tp_methods, async_reply_methods},
    {Py_tp_getset, async_reply_getset},
    {Py_am_await, async_reply_am_await},
    {Py_am_send, async_reply_am_send},
    {0, NULL},
};

static PyType_Spec async_reply_spec = {
    .name = "redlane._core.AsyncReply",
    .basicsize = sizeof(AsyncReply),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = async_reply_slots,
};

int
redlane_async_reply_setup(PyObject *module)
{
    RedlaneState *state = redlane_state_of_module(module);

    state->set_result = PyUnicode_InternFromString("set_result");
    state->set_exception = PyUnicode_InternFromString("set_exception");
    state->AsyncReplyType = PyType_FromModuleAndSpec(module, &async_reply_spec, NULL);
    return state->set_result && state->set_exception && state->AsyncReplyType ? 0 : -1;
}
