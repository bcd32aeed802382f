/* The type Subscription. GIL held; given up while a thread waits: then `busy` keeps
 * others off, for a feed has one reader. */
#include "types/subscription.h"

#include <poll.h>
#include <stddef.h>
#include <structmember.h>

#include "core/platform.h"
#include "types/subscription_options.h"

/* A thread that may have to run signal handlers looks this often. */
#define WAIT_SLICE (50 * REDLANE_NS_PER_MS)
/* Any other looks this often whether its deadline has come: poll counts ms in an int.
 */
#define WAIT_MOST (3600 * REDLANE_NS_PER_S)

int
redlane_subscription_wake(void *subscription)
{
    RedlaneSubscription *self = subscription;
    PyObject *future = self->future, *done, *result = NULL;
    int is_done;

    if (!future) {
        return 0;
    }
    Py_INCREF(future);
    done = PyObject_CallMethod(future, "done", NULL);
    is_done = done ? PyObject_IsTrue(done) : -1;
    if (is_done == 0) {
        result = PyObject_CallMethod(future, "set_result", "O", Py_None);
        is_done = result ? 0 : -1;
    }
    Py_XDECREF(result);
    Py_XDECREF(done);
    Py_DECREF(future);
    return is_done < 0 ? -1 : 0;
}

/* --- a thread that waits --- */

/* The bell of a thread: one to a subscription, in the place of a loop's. RAISES_NEG */
static int
attach_thread(RedlaneSubscription *self)
{
    RedlaneBell *bell;

    if (self->feed->bell && !self->loop_bell && redlane_bell_is_own(self->feed->bell)) {
        return 0;
    }
    bell = redlane_bell_new();
    if (!bell) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    redlane_feed_attach(self->feed, bell);
    redlane_bell_release(bell);
    Py_CLEAR(self->loop_bell);
    Py_CLEAR(self->loop);
    return 0;
}

/* Sleeps until something may have come, or the deadline. RAISES_NEG */
static int
sleep_nogil_outside(RedlaneSubscription *self, int64_t deadline)
{
    RedlaneBell *bell = redlane_bell_hold(self->feed->bell);
    struct pollfd entry = {.fd = bell->wake[0], .events = POLLIN};
    int64_t left = deadline == REDLANE_NEVER ? -1 : deadline - redlane_clock_now();
    int timeout;

    if (redlane_platform_is_main_thread() && (left < 0 || left > WAIT_SLICE)) {
        left = WAIT_SLICE;
    }
    if (left > WAIT_MOST) {
        left = WAIT_MOST;
    }
    timeout = deadline != REDLANE_NEVER && left <= 0 ? 0
              : left < 0                             ? -1
                         : (int)(left / REDLANE_NS_PER_MS) + 1;
    Py_BEGIN_ALLOW_THREADS
    if (poll(&entry, 1, timeout) > 0) {
        redlane_platform_wake_drain(bell->wake);
    }
    Py_END_ALLOW_THREADS(void)
    redlane_bell_take(bell);
    redlane_bell_release(bell);
    return PyErr_CheckSignals();
}

/* Until there is something to read or another state than `seen`. RAISES_NEG */
static int
wait_thread(RedlaneSubscription *self, RedlaneFeedState seen, int64_t deadline)
{
    int result = 0;

    if (attach_thread(self) < 0) {
        return -1;
    }
    if (redlane_feed_arm(self->feed, seen)) {
        self->busy = true;
        result = sleep_nogil_outside(self, deadline);
        self->busy = false;
    }
    return result;
}

/* A task of a loop that is closed waits no more. RAISES_NEG */
static int
forget_dead_future(RedlaneSubscription *self)
{
    PyObject *closed;
    int is_closed;

    if (!self->future || !self->loop) {
        return 0;
    }
    closed = PyObject_CallMethod(self->loop, "is_closed", NULL);
    is_closed = closed ? PyObject_IsTrue(closed) : -1;
    Py_XDECREF(closed);
    if (is_closed > 0) {
        Py_CLEAR(self->future);
    }
    return is_closed < 0 ? -1 : 0;
}

int
redlane_subscription_check_idle(RedlaneSubscription *self)
{
    if (forget_dead_future(self) < 0) {
        return -1;
    }
    if (self->busy || self->future) {
        PyErr_SetString(PyExc_RuntimeError,
                        "the subscription is being read by another thread or task");
        return -1;
    }
    return 0;
}

/* The next message by the deadline: a new reference. NULL without an exception where
 * none has come, with `*ended` where none will. */
static PyObject *
next_message(RedlaneSubscription *self, int64_t deadline, bool *ended)
{
    *ended = false;
    if (redlane_subscription_check_idle(self) < 0) {
        return NULL;
    }
    for (;;) {
        PyObject *message = redlane_subscription_take(self, NULL);
        RedlaneFeedState state;
        int look;

        if (message || PyErr_Occurred()) {
            return message;
        }
        look = redlane_subscription_look(self, &state);
        *ended = look > 0;
        if (look != 0 || redlane_clock_now() >= deadline ||
            wait_thread(self, state, deadline) < 0) {
            return NULL;
        }
    }
}

/* Until it stands, the server is known to be away, or the deadline. RAISES_NEG */
static int
wait_until_settled(RedlaneSubscription *self, int64_t deadline)
{
    if (redlane_subscription_check_idle(self) < 0) {
        return -1;
    }
    for (;;) {
        RedlaneFeedState state;
        int look = redlane_subscription_look(self, &state);
        RedlaneFeedStats stats;

        redlane_feed_stats(self->feed, &stats);
        if (look < 0) {
            return -1;
        }
        if (look > 0 || state != REDLANE_FEED_JOINING || stats.count ||
            redlane_clock_now() >= deadline) {
            redlane_hub_owe_gap(self->feed);
            return 0;
        }
        if (wait_thread(self, state, deadline) < 0) {
            return -1;
        }
    }
}

/* --- methods --- */

static int64_t
own_deadline(const RedlaneSubscription *self)
{
    return redlane_clock_now() + redlane_link_settings(self->link)->timeout;
}

PyDoc_STRVAR(
    get_doc,
    "get($self, timeout=None)\n--\n\n"
    "The next message; waits for it.\n\n"
    "timeout: seconds at most; None: until one comes. None where none has come,\n"
    "also when the subscription is closed.");

static PyObject *
subscription_get(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"timeout", NULL};
    PyObject *timeout = Py_None, *message;
    int64_t deadline = REDLANE_NEVER;
    bool ended;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:get", keywords, &timeout) ||
        redlane_subscription_deadline(timeout, &deadline) < 0) {
        return NULL;
    }
    message = next_message((RedlaneSubscription *)object, deadline, &ended);
    return message || PyErr_Occurred() ? message : Py_NewRef(Py_None);
}

static PyObject *
subscription_tp_iternext(PyObject *object)
{
    bool ended;

    return next_message((RedlaneSubscription *)object, REDLANE_NEVER, &ended);
}

PyDoc_STRVAR(
    wait_doc,
    "wait($self, timeout=None)\n--\n\n"
    "Wait until the server has confirmed the subscription, or is known to be\n"
    "away; whether it is live.\n\n"
    "timeout: seconds at most; None: the client's. A subscription that is not\n"
    "live when this is over begins with a gap.");

static PyObject *
subscription_wait(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"timeout", NULL};
    RedlaneSubscription *self = (RedlaneSubscription *)object;
    PyObject *timeout = Py_None;
    int64_t deadline = own_deadline(self);

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:wait", keywords, &timeout) ||
        redlane_subscription_deadline(timeout, &deadline) < 0 ||
        wait_until_settled(self, deadline) < 0) {
        return NULL;
    }
    return PyBool_FromLong(redlane_feed_state(self->feed, NULL) == REDLANE_FEED_LIVE);
}

PyDoc_STRVAR(close_doc,
             "close($self)\n--\n\n"
             "Unsubscribe. Who waits for a message is told that none comes;\n"
             "those that have come can still be read.");

static PyObject *
subscription_close(PyObject *object, PyObject *unused)
{
    (void)unused;
    redlane_hub_leave(((RedlaneSubscription *)object)->feed);
    Py_RETURN_NONE;
}

static PyObject *
subscription_enter(PyObject *object, PyObject *unused)
{
    RedlaneSubscription *self = (RedlaneSubscription *)object;

    (void)unused;
    return wait_until_settled(self, own_deadline(self)) < 0 ? NULL : Py_NewRef(object);
}

static PyObject *
subscription_exit(PyObject *object, PyObject *args)
{
    (void)args;
    return subscription_close(object, NULL);
}

static PyObject *
subscription_aenter(PyObject *object, PyObject *unused)
{
    (void)unused;
    return redlane_subscription_wait_new((RedlaneSubscription *)object, true);
}

PyDoc_STRVAR(aclose_doc, "aclose($self)\n--\n\nThe same as close(), to be awaited.");

static PyObject *
subscription_aclose(PyObject *object, PyObject *unused)
{
    (void)unused;
    redlane_hub_leave(((RedlaneSubscription *)object)->feed);
    return redlane_subscription_wait_done((RedlaneSubscription *)object);
}

static PyObject *
subscription_aexit(PyObject *object, PyObject *args)
{
    (void)args;
    return subscription_aclose(object, NULL);
}

static PyObject *
subscription_anext(PyObject *object)
{
    return redlane_subscription_wait_new((RedlaneSubscription *)object, false);
}

/* --- life --- */

PyObject *
redlane_subscription_new(RedlaneState *state, RedlaneLink *link, bool decode,
                         PyObject *args, PyObject *kwargs)
{
    PyTypeObject *type = (PyTypeObject *)state->SubscriptionType;
    RedlaneSubscription *self = (RedlaneSubscription *)type->tp_alloc(type, 0);

    if (!self) {
        return NULL;
    }
    self->state = state;
    self->link = redlane_link_hold(link);
    self->decode = decode;
    if (redlane_subscription_open(self, args, kwargs) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    self->feed->owner = self;
    return (PyObject *)self;
}

static int
subscription_tp_traverse(PyObject *object, visitproc visit, void *arg)
{
    RedlaneSubscription *self = (RedlaneSubscription *)object;

    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->channels);
    Py_VISIT(self->patterns);
    Py_VISIT(self->on_gap);
    Py_VISIT(self->loop);
    Py_VISIT(self->loop_bell);
    Py_VISIT(self->future);
    Py_VISIT(self->spare_wait);
    return 0;
}

static int
subscription_tp_clear(PyObject *object)
{
    RedlaneSubscription *self = (RedlaneSubscription *)object;

    Py_CLEAR(self->channels);
    Py_CLEAR(self->patterns);
    Py_CLEAR(self->on_gap);
    Py_CLEAR(self->loop);
    Py_CLEAR(self->loop_bell);
    Py_CLEAR(self->future);
    Py_CLEAR(self->spare_wait);
    return 0;
}

static void
subscription_tp_dealloc(PyObject *object)
{
    RedlaneSubscription *self = (RedlaneSubscription *)object;
    PyTypeObject *type = Py_TYPE(object);

    PyObject_GC_UnTrack(object);
    if (self->feed) {
        redlane_hub_leave(self->feed);
        redlane_feed_attach(self->feed, NULL);
        redlane_feed_release(self->feed);
    }
    (void)subscription_tp_clear(object);
    Py_CLEAR(self->channel.object);
    Py_CLEAR(self->pattern.object);
    if (self->weakrefs) {
        PyObject_ClearWeakRefs(object);
    }
    redlane_link_release(self->link);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyObject *
subscription_tp_repr(PyObject *object)
{
    static const char *const names[] = {"joining", "live",   "lost",
                                        "refused", "closed", "forked"};
    RedlaneSubscription *self = (RedlaneSubscription *)object;

    return PyUnicode_FromFormat("<redlane.Subscription %R %R %s>", self->channels,
                                self->patterns,
                                names[redlane_feed_state(self->feed, NULL)]);
}

/* --- what is to be seen --- */

static PyObject *
subscription_get_live(PyObject *self, void *closure)
{
    RedlaneFeed *feed = ((RedlaneSubscription *)self)->feed;

    (void)closure;
    return PyBool_FromLong(redlane_feed_state(feed, NULL) == REDLANE_FEED_LIVE);
}

static PyObject *
subscription_get_closed(PyObject *self, void *closure)
{
    RedlaneFeed *feed = ((RedlaneSubscription *)self)->feed;

    (void)closure;
    return PyBool_FromLong(redlane_feed_state(feed, NULL) >= REDLANE_FEED_REFUSED);
}

/* A number of RedlaneFeedStats; the closure is its offset. */
static PyObject *
subscription_get_number(PyObject *self, void *closure)
{
    RedlaneFeedStats stats;
    uint64_t number;

    redlane_feed_stats(((RedlaneSubscription *)self)->feed, &stats);
    memcpy(&number, (const char *)&stats + (size_t)closure, sizeof(number));
    return PyLong_FromUnsignedLongLong(number);
}

static PyMemberDef subscription_members[] = {
    {"channels", T_OBJECT, offsetof(RedlaneSubscription, channels), READONLY,
     "The channels, as they were given."},
    {"patterns", T_OBJECT, offsetof(RedlaneSubscription, patterns), READONLY,
     "The patterns, as they were given."},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(RedlaneSubscription, weakrefs),
     READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

#define NUMBER(field) (void *)offsetof(RedlaneFeedStats, field)

static PyGetSetDef subscription_getset[] = {
    {"live", subscription_get_live, NULL,
     "True while everything that is published comes.", NULL},
    {"closed", subscription_get_closed, NULL, "True once nothing comes any more.",
     NULL},
    {"waiting", subscription_get_number, NULL, "Messages in the queue.", NUMBER(count)},
    {"dropped", subscription_get_number, NULL,
     "Messages that had no room in the queue.", NUMBER(dropped)},
    {"gaps", subscription_get_number, NULL, "Gaps that were told.", NUMBER(gaps)},
    {NULL, NULL, NULL, NULL, NULL},
};

#define KEYWORDS(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef subscription_methods[] = {
    {"get", KEYWORDS(subscription_get), METH_VARARGS | METH_KEYWORDS, get_doc},
    {"wait", KEYWORDS(subscription_wait), METH_VARARGS | METH_KEYWORDS, wait_doc},
    {"close", subscription_close, METH_NOARGS, close_doc},
    {"aclose", subscription_aclose, METH_NOARGS, aclose_doc},
    {"__enter__", subscription_enter, METH_NOARGS, NULL},
    {"__exit__", subscription_exit, METH_VARARGS, NULL},
    {"__aenter__", subscription_aenter, METH_NOARGS, NULL},
    {"__aexit__", subscription_aexit, METH_VARARGS, NULL},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(
    subscription_doc,
    "What is published on some channels, from Client.subscribe(): an iterator and an\n"
    "asynchronous one, and a context manager of both kinds. One thread or task reads\n"
    "at a time. When the last reference goes it unsubscribes.");

static PyType_Slot subscription_slots[] = {
    {Py_tp_doc, (void *)subscription_doc},
    {Py_tp_dealloc, subscription_tp_dealloc},
    {Py_tp_traverse, subscription_tp_traverse},
    {Py_tp_clear, subscription_tp_clear},
    {Py_tp_repr, subscription_tp_repr},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, subscription_tp_iternext},
    {Py_am_aiter, PyObject_SelfIter},
    {Py_am_anext, subscription_anext},
    {Py_tp_methods, subscription_methods},
    {Py_tp_members, subscription_members},
    {Py_tp_getset, subscription_getset},
    {0, NULL},
};

static PyType_Spec subscription_spec = {
    .name = "redlane.Subscription",
    .basicsize = sizeof(RedlaneSubscription),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = subscription_slots,
};

int
redlane_subscription_setup(PyObject *module)
{
    RedlaneState *state = redlane_state_of_module(module);

    return redlane_state_add(
        module, &state->SubscriptionType, "Subscription",
        PyType_FromModuleAndSpec(module, &subscription_spec, NULL));
}
