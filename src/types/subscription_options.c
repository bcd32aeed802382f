#include "types/subscription_options.h"

#include <math.h>

#include "py/args.h"
#include "py/errors.h"
#include "types/client.h"

/* What a queue holds unless it is told. */
#define MESSAGES_MOST 65536
#define BYTES_MOST ((Py_ssize_t)64 << 20)
/* As long as anybody would wait, in seconds: 30 years. */
#define TIMEOUT_MOST 1e9
/* As the link's own. */
#define PING_INTERVAL (2500 * REDLANE_NS_PER_MS)

int
redlane_subscription_deadline(PyObject *timeout, int64_t *deadline)
{
    double seconds;

    if (timeout == Py_None) {
        return 0;
    }
    seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    if (isnan(seconds) || seconds < 0) {
        PyErr_SetString(PyExc_ValueError, "timeout must be 0 or more seconds");
        return -1;
    }
    if (seconds < TIMEOUT_MOST) {
        *deadline = redlane_clock_now() + (int64_t)(seconds * REDLANE_NS_PER_S);
    }
    return 0;
}

/* str, bytes, or an iterable of them, as a tuple. A new reference, or NULL. */
static PyObject *
names_of(PyObject *given)
{
    return PyUnicode_Check(given) || PyBytes_Check(given) ? PyTuple_Pack(1, given)
                                                          : PySequence_Tuple(given);
}

static int
read_policy(PyObject *policy, bool *waits)
{
    if (PyUnicode_Check(policy) &&
        PyUnicode_CompareWithASCIIString(policy, "drop") == 0) {
        *waits = false;
        return 0;
    }
    if (PyUnicode_Check(policy) &&
        PyUnicode_CompareWithASCIIString(policy, "wait") == 0) {
        *waits = true;
        return 0;
    }
    PyErr_Format(PyExc_ValueError, "policy must be 'drop' or 'wait', not %R", policy);
    return -1;
}

/* The names of both tuples, which keep the bytes. NULL with an exception set; to be
 * freed with PyMem_Free. */
static RedlaneArg *
collect_names(const RedlaneSubscription *self)
{
    Py_ssize_t channels = PyTuple_GET_SIZE(self->channels);
    Py_ssize_t count = channels + PyTuple_GET_SIZE(self->patterns);
    RedlaneArg *names;

    if (count == 0) {
        PyErr_SetString(PyExc_ValueError,
                        "subscribe() needs a channel or a pattern at least");
        return NULL;
    }
    names = PyMem_New(RedlaneArg, (size_t)count);
    if (!names) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name = i < channels ? PyTuple_GET_ITEM(self->channels, i)
                                      : PyTuple_GET_ITEM(self->patterns, i - channels);

        if (redlane_arg_from_text(name, &names[i]) < 0) {
            PyMem_Free(names);
            return NULL;
        }
    }
    return names;
}

/* The hub that it joins; one that waits for its reader has one of its own, so that it
 * keeps nobody else waiting. Held, or NULL with an exception set. */
static RedlaneHub *
find_hub(RedlaneSubscription *self, bool waits)
{
    RedlaneHub *hub = redlane_link_hub(self->link);

    if (!hub) {
        if (redlane_link_closed(self->link)) {
            PyErr_SetString(self->state->ConnectionError, "the client is closed");
        }
        else {
            PyErr_NoMemory();
        }
        return NULL;
    }
    if (!waits) {
        return redlane_hub_hold(hub);
    }
    hub = redlane_hub_new(redlane_hub_settings(hub), PING_INTERVAL);
    return hub ? hub : (RedlaneHub *)PyErr_NoMemory();
}

static int
join_hub(RedlaneSubscription *self, RedlaneSubscribe *what)
{
    RedlaneArg *names = collect_names(self);
    RedlaneHub *hub = names ? find_hub(self, what->waits) : NULL;
    RedlaneFault fault;

    if (hub) {
        what->names = names;
        what->channels = (size_t)PyTuple_GET_SIZE(self->channels);
        what->count = what->channels + (size_t)PyTuple_GET_SIZE(self->patterns);
        self->feed = redlane_hub_subscribe(hub, what, &fault);
        redlane_hub_release(hub);
        if (!self->feed) {
            (void)redlane_errors_raise_fault(
                self->state, &fault, "SUBSCRIBE",
                redlane_link_settings(self->link)->redacted);
        }
    }
    PyMem_Free(names);
    return self->feed ? 0 : -1;
}

int
redlane_subscription_open(RedlaneSubscription *self, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"patterns",     "on_gap",    "policy",
                               "max_messages", "max_bytes", NULL};
    PyObject *patterns = NULL, *on_gap = Py_None, *policy = NULL, *nothing;
    Py_ssize_t most_messages = MESSAGES_MOST, most_bytes = BYTES_MOST;
    RedlaneSubscribe what = {.waits = false};
    int parsed;

    nothing = PyTuple_New(0);
    if (!nothing) {
        return -1;
    }
    parsed = PyArg_ParseTupleAndKeywords(nothing, kwargs, "|$OOOnn:subscribe", keywords,
                                         &patterns, &on_gap, &policy, &most_messages,
                                         &most_bytes);
    Py_DECREF(nothing);
    if (!parsed || (policy && read_policy(policy, &what.waits) < 0)) {
        return -1;
    }
    if (most_messages < 1 || most_bytes < 1) {
        PyErr_SetString(PyExc_ValueError,
                        "max_messages and max_bytes must be 1 or more");
        return -1;
    }
    if (on_gap != Py_None && !PyCallable_Check(on_gap)) {
        PyErr_SetString(PyExc_TypeError, "on_gap must be callable");
        return -1;
    }
    self->on_gap = on_gap == Py_None ? NULL : Py_NewRef(on_gap);
    self->channels = Py_NewRef(args);
    self->patterns = patterns ? names_of(patterns) : PyTuple_New(0);
    what.max_count = (size_t)most_messages;
    what.max_bytes = (size_t)most_bytes;
    return self->patterns ? join_hub(self, &what) : -1;
}

/* --- Client.subscribe, AsyncClient.subscribe ---------------------------------- */

const char redlane_client_subscribe_doc[] =
    "subscribe($self, /, *channels, patterns=(), on_gap=None, policy='drop',\n"
    "          max_messages=65536, max_bytes=67108864)\n--\n\n"
    "A Subscription to channels and patterns: an iterator of messages.\n\n"
    "patterns: globs of channels. on_gap: called with a Gap where messages may be\n"
    "missing; without it that is logged. policy: where the queue is full "
    "(max_messages,\n"
    "max_bytes) \"drop\" the oldest, or, on a connection of its own, let the server\n"
    "\"wait\". ValueError without a name.";

PyObject *
redlane_client_subscribe(PyObject *object, PyObject *args, PyObject *kwargs)
{
    RedlaneClient *self = (RedlaneClient *)object;

    if (redlane_client_check(self) < 0) {
        return NULL;
    }
    return redlane_subscription_new(self->state, self->link, self->decode, args,
                                    kwargs);
}
