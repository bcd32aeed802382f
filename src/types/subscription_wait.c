/* What is awaited of a Subscription: its next message, or that it stands. Where the
 * message is there, awaiting it does not wait. A task that is cancelled loses nothing:
 * the message is taken when the task runs again, not when it is woken. What on_gap
 * gives is awaited on the way, before the message after the gap. GIL held. */
#include "types/awaitable.h"
#include "types/loop_bell.h"
#include "types/subscription.h"

typedef enum {
    WAIT_NEXT,  /* for a message */
    WAIT_ENTER, /* until it stands */
    WAIT_DONE,  /* for nothing: None */
    WAIT_OVER,
} WaitKind;

typedef struct {
    PyObject_HEAD
    RedlaneSubscription *subscription; /* held while it is awaited, or NULL */
    PyObject *inner;  /* of what it waits for, what is sent to; or NULL */
    PyObject *future; /* what that is; NULL where it is what on_gap gave */
    WaitKind kind;
    bool busy; /* it runs Python code, which must not drive it */
} Wait;

/* A task that always finds a message lets the others run after so many. */
#define MESSAGES_A_TURN 256

static PyObject *
make_wait(RedlaneSubscription *subscription, WaitKind kind)
{
    PyTypeObject *type = (PyTypeObject *)subscription->state->SubscriptionWaitType;
    Wait *self = (Wait *)subscription->spare_wait;

    if (self && Py_REFCNT(self) == 1) {
        Py_INCREF(self);
    }
    else {
        self = (Wait *)type->tp_alloc(type, 0);
        if (!self) {
            return NULL;
        }
        Py_XSETREF(subscription->spare_wait, Py_NewRef((PyObject *)self));
    }
    Py_XSETREF(self->subscription,
               (RedlaneSubscription *)Py_NewRef((PyObject *)subscription));
    self->kind = kind;
    return (PyObject *)self;
}

PyObject *
redlane_subscription_wait_new(RedlaneSubscription *self, bool enter)
{
    return make_wait(self, enter ? WAIT_ENTER : WAIT_NEXT);
}

PyObject *
redlane_subscription_wait_done(RedlaneSubscription *self)
{
    return make_wait(self, WAIT_DONE);
}

/* The future is awaited no more. A subscription that went on to another loop has
 * another one by now. */
static void
drop_future(Wait *self)
{
    if (self->future && self->subscription &&
        self->subscription->future == self->future) {
        Py_CLEAR(self->subscription->future);
    }
    Py_CLEAR(self->inner);
    Py_CLEAR(self->future);
}

/* Nothing is awaited any more. */
static void
finish(Wait *self)
{
    RedlaneSubscription *subscription;

    drop_future(self);
    subscription = self->subscription;
    self->kind = WAIT_OVER;
    self->subscription = NULL;
    Py_XDECREF(subscription);
}

/* RAISES_NEG */
static int
check_idle(const Wait *self)
{
    if (self->busy) {
        PyErr_SetString(PyExc_RuntimeError, "this is being awaited already");
        return -1;
    }
    return 0;
}

/* Has the feed ring in the running loop. RAISES_NEG */
static int
attach_loop(RedlaneSubscription *subscription, PyObject *loop)
{
    PyObject *bell;

    if (subscription->loop == loop && subscription->loop_bell) {
        return 0;
    }
    bell = redlane_loop_bell_of(subscription->state, loop);
    if (!bell) {
        return -1;
    }
    redlane_feed_attach(subscription->feed, redlane_loop_bell_bell(bell));
    Py_XSETREF(subscription->loop_bell, bell);
    Py_XSETREF(subscription->loop, Py_NewRef(loop));
    return 0;
}

/* Begins to wait for something else than `seen`; with nothing to wait for there is no
 * inner iterator. RAISES_NEG */
static int
begin(Wait *self, RedlaneFeedState seen)
{
    RedlaneSubscription *subscription = self->subscription;
    PyObject *loop, *future = NULL, *inner = NULL;
    int result = -1;

    if (redlane_subscription_check_idle(subscription) < 0) {
        return -1;
    }
    loop = redlane_loop_bell_running(subscription->state);
    if (!loop || attach_loop(subscription, loop) < 0) {
        goto exit;
    }
    future = PyObject_CallMethod(loop, "create_future", NULL);
    inner = future ? PyObject_CallMethod(future, "__await__", NULL) : NULL;
    if (!inner) {
        goto exit;
    }
    result = 0;
    if (redlane_feed_arm(subscription->feed, seen)) {
        self->inner = Py_NewRef(inner);
        self->future = Py_NewRef(future);
        Py_XSETREF(subscription->future, Py_NewRef(future));
    }
exit:
    Py_XDECREF(inner);
    Py_XDECREF(future);
    Py_XDECREF(loop);
    return result;
}

/* What there is without waiting: the result, or NULL; NULL with an exception is the
 * end. `*state` is what to wait for a change of, unless there is an inner one to be
 * awaited now. */
static PyObject *
look(Wait *self, RedlaneFeedState *state)
{
    RedlaneSubscription *subscription = self->subscription;
    PyObject *message, *told = NULL;
    int ended;

    if (self->kind == WAIT_NEXT) {
        message = redlane_subscription_take(subscription, &told);
        if (message || PyErr_Occurred()) {
            return message;
        }
        if (told) {
            self->inner = redlane_awaitable_iterator(told);
            return NULL;
        }
    }
    ended = redlane_subscription_look(subscription, state);
    if (ended < 0) {
        return NULL;
    }
    if (self->kind == WAIT_NEXT) {
        if (ended) {
            PyErr_SetNone(PyExc_StopAsyncIteration);
        }
        return NULL;
    }
    return ended || *state != REDLANE_FEED_JOINING ? Py_NewRef((PyObject *)subscription)
                                                   : NULL;
}

/* The inner one is over: with an exception set where the waiting is, too. */
static void
end_inner(Wait *self)
{
    if (!self->future && PyErr_Occurred()) {
        (void)redlane_subscription_gap_raised(self->subscription);
    }
    drop_future(self);
}

/* What the inner one has the loop wait for: a new reference. NULL with an exception
 * where the waiting was ended, without one where it is over. */
static PyObject *
turn_inner(Wait *self)
{
    PyObject *inner = Py_NewRef(self->inner), *result = NULL;
    PySendResult sent = PyIter_Send(inner, Py_None, &result);

    if (sent != PYGEN_NEXT) {
        Py_CLEAR(result);
        end_inner(self);
    }
    Py_DECREF(inner);
    return result;
}

static PySendResult
step_idle(Wait *self, PyObject **result)
{
    if (self->kind == WAIT_OVER) {
        PyErr_SetString(PyExc_RuntimeError, "this was awaited already");
        return PYGEN_ERROR;
    }
    if (self->kind == WAIT_DONE) {
        *result = Py_NewRef(Py_None);
    }
    while (!*result) {
        RedlaneFeedState state;

        if (self->inner) {
            *result = turn_inner(self);
            if (*result) {
                return PYGEN_NEXT;
            }
            if (PyErr_Occurred()) {
                break;
            }
        }
        if (self->kind == WAIT_NEXT && self->subscription->turns >= MESSAGES_A_TURN) {
            self->subscription->turns = 0;
            *result = Py_NewRef(Py_None); /* the task is called again soon */
            return PYGEN_NEXT;
        }
        *result = look(self, &state);
        if (!*result &&
            (PyErr_Occurred() || (!self->inner && begin(self, state) < 0))) {
            break;
        }
    }
    if (self->kind == WAIT_NEXT) {
        self->subscription->turns++;
    }
    finish(self);
    return *result ? PYGEN_RETURN : PYGEN_ERROR;
}

static PySendResult
step(Wait *self, PyObject **result)
{
    PySendResult sent;

    *result = NULL;
    if (check_idle(self) < 0) {
        return PYGEN_ERROR;
    }
    self->busy = true;
    sent = step_idle(self, result);
    self->busy = false;
    return sent;
}

static PySendResult
wait_am_send(PyObject *self, PyObject *value, PyObject **result)
{
    (void)value;
    return step((Wait *)self, result);
}

/* What StopIteration(value) would take apart is no result of ours. */
static PyObject *
wait_tp_iternext(PyObject *self)
{
    PyObject *result;

    switch (step((Wait *)self, &result)) {
    case PYGEN_NEXT:
        return result;
    case PYGEN_RETURN:
        PyErr_SetObject(PyExc_StopIteration, result);
        Py_DECREF(result);
        return NULL;
    default:
        return NULL;
    }
}

static PyObject *
wait_send(PyObject *self, PyObject *value)
{
    (void)value;
    return wait_tp_iternext(self);
}

/* What the inner one does with an exception: as turn_inner. */
static PyObject *
throw_inner(Wait *self, PyObject *args)
{
    PyObject *method = PyObject_GetAttrString(self->inner, "throw"), *result = NULL;
    bool told = !self->future;

    if (method) {
        self->busy = true;
        result = PyObject_CallObject(method, args);
        self->busy = false;
        Py_DECREF(method);
    }
    if (!result) {
        if (told && PyErr_ExceptionMatches(PyExc_StopIteration)) {
            PyErr_Clear(); /* on_gap has coped with it */
        }
        end_inner(self);
    }
    return result;
}

static PyObject *
wait_throw(PyObject *object, PyObject *args)
{
    Wait *self = (Wait *)object;
    PyObject *type, *value = NULL, *traceback = NULL, *result;

    if (!PyArg_UnpackTuple(args, "throw", 1, 3, &type, &value, &traceback) ||
        check_idle(self) < 0) {
        return NULL;
    }
    if (self->inner) {
        result = throw_inner(self, args);
        if (result) {
            return result;
        }
        if (!PyErr_Occurred()) {
            return wait_tp_iternext(object);
        }
    }
    else if (PyExceptionInstance_Check(type)) {
        PyErr_SetObject((PyObject *)Py_TYPE(type), type);
    }
    else {
        PyErr_SetObject(type, value == Py_None ? NULL : value);
    }
    finish(self);
    return NULL;
}

static PyObject *
wait_close(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (check_idle((Wait *)self) < 0) {
        return NULL;
    }
    finish((Wait *)self);
    Py_RETURN_NONE;
}

static int
wait_tp_traverse(PyObject *object, visitproc visit, void *arg)
{
    Wait *self = (Wait *)object;

    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->subscription);
    Py_VISIT(self->future);
    Py_VISIT(self->inner);
    return 0;
}

static int
wait_tp_clear(PyObject *object)
{
    finish((Wait *)object);
    return 0;
}

static void
wait_tp_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);

    PyObject_GC_UnTrack(object);
    finish((Wait *)object);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMethodDef wait_methods[] = {
    {"send", wait_send, METH_O, NULL},
    {"throw", wait_throw, METH_VARARGS, NULL},
    {"close", wait_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot wait_slots[] = {
    {Py_tp_doc, (void *)"What is awaited of a Subscription."},
    {Py_tp_dealloc, wait_tp_dealloc},
    {Py_tp_traverse, wait_tp_traverse},
    {Py_tp_clear, wait_tp_clear},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, wait_tp_iternext},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, wait_am_send},
    {Py_tp_methods, wait_methods},
    {0, NULL},
};

static PyType_Spec wait_spec = {
    .name = "redlane._core.SubscriptionWait",
    .basicsize = sizeof(Wait),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = wait_slots,
};

int
redlane_subscription_wait_setup(PyObject *module)
{
    RedlaneState *state = redlane_state_of_module(module);

    state->SubscriptionWaitType = PyType_FromModuleAndSpec(module, &wait_spec, NULL);
    return state->SubscriptionWaitType ? 0 : -1;
}
