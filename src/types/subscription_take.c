/* What a reader of a Subscription gets: messages, gaps that are told on the way, and
 * what to do where there is nothing. GIL held. */
#include "py/errors.h"
#include "py/log.h"
#include "types/message.h"
#include "types/subscription.h"

/* A channel's name as the client's answers are. A new reference, or NULL. */
static PyObject *
name_object(const RedlaneSubscription *self, RedlaneNameKept *kept, RedlaneArg name)
{
    PyObject *object;

    if (kept->object && kept->size == name.size &&
        memcmp(kept->name, name.data, name.size) == 0) {
        return Py_NewRef(kept->object);
    }
    object = self->decode ? redlane_message_text(name)
                          : PyBytes_FromStringAndSize(name.data, (Py_ssize_t)name.size);
    if (object && name.size <= REDLANE_NAME_KEPT) {
        Py_XSETREF(kept->object, Py_NewRef(object));
        kept->size = name.size;
        memcpy(kept->name, name.data, name.size);
    }
    return object;
}

static PyObject *
make_message(RedlaneSubscription *self, const RedlaneLetter *letter)
{
    PyObject *channel, *pattern = NULL, *message = NULL;

    channel = name_object(self, &self->channel, redlane_letter_channel(letter));
    pattern = letter->by_pattern
                  ? name_object(self, &self->pattern, redlane_letter_pattern(letter))
                  : Py_NewRef(Py_None);
    if (channel && pattern) {
        RedlaneArg payload = redlane_letter_payload(letter);

        message =
            self->decode
                ? redlane_message_new(self->state, payload, channel, pattern)
                : redlane_message_bytes_new(self->state, payload, channel, pattern);
    }
    Py_XDECREF(channel);
    Py_XDECREF(pattern);
    return message;
}

static void
log_gap(const RedlaneSubscription *self, PyObject *gap)
{
    redlane_log(self->state, REDLANE_LOG_WARNING,
                "subscription to %R %R: messages may be missing: %S (%s)",
                self->channels, self->patterns, PyStructSequence_GetItem(gap, 0),
                redlane_link_settings(self->link)->redacted);
}

int
redlane_subscription_gap_raised(const RedlaneSubscription *self)
{
    PyObject *type, *error, *traceback;

    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    redlane_log(self->state, REDLANE_LOG_ERROR, "subscription: on_gap raised %R",
                error);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return 0;
}

/* What on_gap gave: a coroutine is for the task that reads. RAISES_NEG */
static int
take_result(PyObject *result, PyObject **told)
{
    const PyAsyncMethods *methods = Py_TYPE(result)->tp_as_async;

    if (likely(!methods || !methods->am_await)) {
        return 0;
    }
    if (told) {
        *told = Py_NewRef(result);
        return 0;
    }
    if (PyCoro_CheckExact(result)) { /* it would warn that nobody awaits it */
        PyObject *closed = PyObject_CallMethod(result, "close", NULL);

        Py_XDECREF(closed);
        PyErr_Clear();
    }
    PyErr_SetString(PyExc_TypeError,
                    "on_gap is a coroutine function, which only a task can await that "
                    "reads the subscription: not a thread");
    return -1;
}

/* RAISES_NEG: where memory is exhausted, or on_gap raised what is no Exception, or
 * cannot be called by who reads. */
static int
tell_gap(RedlaneSubscription *self, const RedlaneLetter *letter, PyObject **told)
{
    PyObject *gap = redlane_gap_new(self->state, letter), *on_gap = self->on_gap;
    PyObject *result;
    int taken;

    if (!gap) {
        return -1;
    }
    if (!on_gap) {
        log_gap(self, gap);
        Py_DECREF(gap);
        return 0;
    }
    Py_INCREF(on_gap);
    result = PyObject_CallOneArg(on_gap, gap);
    Py_DECREF(gap);
    Py_DECREF(on_gap);
    if (!result) {
        return redlane_subscription_gap_raised(self);
    }
    taken = take_result(result, told);
    Py_DECREF(result);
    return taken;
}

PyObject *
redlane_subscription_take(RedlaneSubscription *self, PyObject **told)
{
    RedlaneLetter *letter;

    while ((letter = redlane_feed_take(self->feed))) {
        PyObject *message = letter->is_gap ? NULL : make_message(self, letter);
        int failed = letter->is_gap ? tell_gap(self, letter, told) : 0;
        bool is_gap = letter->is_gap;

        redlane_letter_release(letter);
        if (message || failed < 0 || !is_gap || (told && *told)) {
            return message;
        }
    }
    return NULL;
}

static void
log_news(RedlaneSubscription *self)
{
    char text[232];

    if (!redlane_hub_take_notice(self->feed->hub, text, sizeof(text))) {
        return;
    }
    if (text[0]) {
        redlane_log(self->state, REDLANE_LOG_WARNING,
                    "subscriptions: no connection: %s (%s)", text,
                    redlane_link_settings(self->link)->redacted);
    }
    else {
        redlane_log(self->state, REDLANE_LOG_INFO, "subscriptions: connected again: %s",
                    redlane_link_settings(self->link)->redacted);
    }
}

int
redlane_subscription_look(RedlaneSubscription *self, RedlaneFeedState *state)
{
    RedlaneFault fault;

    log_news(self);
    *state = redlane_feed_state(self->feed, &fault);
    switch (*state) {
    case REDLANE_FEED_REFUSED:
        (void)redlane_errors_raise_fault(self->state, &fault, "SUBSCRIBE",
                                         redlane_link_settings(self->link)->redacted);
        return -1;
    case REDLANE_FEED_FORKED:
        PyErr_SetString(self->state->ConnectionError,
                        "the subscription was made before this process was forked: "
                        "make it in the child");
        return -1;
    case REDLANE_FEED_CLOSED:
        return 1;
    default:
        return 0;
    }
}
