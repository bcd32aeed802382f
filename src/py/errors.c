/* One place turns what went wrong into an exception: a fault of the link or an error
 * line of the server. */
#include "py/errors.h"

#include <stddef.h>
#include <string.h>

#include "py/state.h"

/* A class under `base` (and `mixin`, a built-in that callers may already catch). */
static PyObject *
make_exception(const char *name, const char *doc, PyObject *base, PyObject *mixin)
{
    PyObject *bases, *type;

    bases = mixin ? PyTuple_Pack(2, base, mixin) : PyTuple_Pack(1, base);
    if (!bases) {
        return NULL;
    }
    type = PyErr_NewExceptionWithDoc(name, doc, bases, NULL);
    Py_DECREF(bases);
    return type;
}

typedef struct {
    const char *word; /* first word of the error line; NULL: not chosen by a word */
    const char *name; /* qualified */
    const char *doc;
    size_t slot; /* offset in the state */
} ReplyClass;

#define SLOT(field) offsetof(RedlaneState, field)

static const ReplyClass reply_classes[] = {
    {"WRONGTYPE", "redlane.WrongTypeError", "The key holds another type of value.",
     SLOT(WrongTypeError)},
    {"NOAUTH", "redlane.AuthenticationError",
     "The server wants a password, or refused the one it got.",
     SLOT(AuthenticationError)},
    {"NOPERM", "redlane.PermissionDeniedError",
     "The ACL user may not run this command or touch this key.",
     SLOT(PermissionDeniedError)},
    {"READONLY", "redlane.ReadOnlyError", "The server is a read-only replica.",
     SLOT(ReadOnlyError)},
    {"OOM", "redlane.OutOfMemoryError", "The server is over its maxmemory.",
     SLOT(OutOfMemoryError)},
    {"LOADING", "redlane.LoadingError", "The server is loading its data set.",
     SLOT(LoadingError)},
    {"BUSY", "redlane.BusyError", "A script is running on the server.",
     SLOT(BusyError)},
    {"NOSCRIPT", "redlane.NoScriptError", "The server does not know this script.",
     SLOT(NoScriptError)},
    {"EXECABORT", "redlane.ExecAbortError",
     "The transaction was dropped: one of its commands was refused when queued.",
     SLOT(ExecAbortError)},
};

/* Other first words that mean a class above. */
static const struct {
    const char *word;
    size_t slot;
} reply_words[] = {
    {"WRONGPASS", SLOT(AuthenticationError)},
    {"ERR invalid password", SLOT(AuthenticationError)},
    {"ERR Client sent AUTH", SLOT(AuthenticationError)},
    {"ERR AUTH", SLOT(AuthenticationError)},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static PyObject **
state_slot(RedlaneState *state, size_t offset)
{
    return (PyObject **)(void *)((char *)state + offset);
}

int
redlane_errors_setup(PyObject *module)
{
    RedlaneState *state = redlane_state_of_module(module);

    if (redlane_state_add(module, &state->RedlaneError, "RedlaneError",
                          make_exception("redlane.RedlaneError",
                                         "Base of all errors of redlane.",
                                         PyExc_Exception, NULL)) < 0 ||
        redlane_state_add(
            module, &state->ConnectionError, "ConnectionError",
            make_exception("redlane.ConnectionError",
                           "The server cannot be reached, or the connection broke.",
                           state->RedlaneError, PyExc_ConnectionError)) < 0 ||
        redlane_state_add(
            module, &state->TimeoutError, "TimeoutError",
            make_exception("redlane.TimeoutError", "The call's total deadline passed.",
                           state->RedlaneError, PyExc_TimeoutError)) < 0 ||
        redlane_state_add(
            module, &state->ConfigurationError, "ConfigurationError",
            make_exception("redlane.ConfigurationError",
                           "A URL, option or environment variable is not usable.",
                           state->RedlaneError, PyExc_ValueError)) < 0 ||
        redlane_state_add(module, &state->SerializationError, "SerializationError",
                          make_exception("redlane.SerializationError",
                                         "A value cannot be serialised.",
                                         state->RedlaneError, NULL)) < 0 ||
        redlane_state_add(module, &state->ReplyError, "ReplyError",
                          make_exception("redlane.ReplyError",
                                         "The server answered with an error.",
                                         state->RedlaneError, NULL)) < 0) {
        return -1;
    }
    for (size_t i = 0; i < COUNT(reply_classes); i++) {
        const ReplyClass *row = &reply_classes[i];

        if (redlane_state_add(
                module, state_slot(state, row->slot), strchr(row->name, '.') + 1,
                make_exception(row->name, row->doc, state->ReplyError, NULL)) < 0) {
            return -1;
        }
    }
    return 0;
}

static PyObject *
class_of_fault(RedlaneState *state, const RedlaneFault *fault)
{
    switch (fault->kind) {
    case REDLANE_FAULT_TIMEOUT:
    case REDLANE_FAULT_POOL:
        return state->TimeoutError;
    case REDLANE_FAULT_REPLY:
    case REDLANE_FAULT_WRITES:
    case REDLANE_FAULT_NONE:
    case REDLANE_FAULT_CONNECT:
    case REDLANE_FAULT_LOST:
    case REDLANE_FAULT_PROTOCOL:
    case REDLANE_FAULT_MEMORY:
    case REDLANE_FAULT_CLOSED:
    case REDLANE_FAULT_PYTHON:
        break;
    }
    return state->ConnectionError;
}

PyObject *
redlane_errors_raise_fault(RedlaneState *state, const RedlaneFault *fault,
                           const char *operation, const char *address)
{
    if (PyErr_Occurred()) {
        return NULL;
    }
    if (fault->kind == REDLANE_FAULT_MEMORY) {
        return PyErr_NoMemory();
    }
    if (fault->kind == REDLANE_FAULT_REPLY || fault->kind == REDLANE_FAULT_WRITES) {
        PyObject *error =
            redlane_errors_from_reply(state, fault->text, strlen(fault->text));

        if (error) {
            PyErr_SetObject((PyObject *)Py_TYPE(error), error);
            Py_DECREF(error);
        }
        return NULL;
    }
    return PyErr_Format(class_of_fault(state, fault), "%s%s%s (%s)",
                        operation ? operation : "", operation ? ": " : "", fault->text,
                        address);
}

static int
begins_with_word(const char *text, size_t size, const char *word)
{
    size_t length = strlen(word);

    return size >= length && memcmp(text, word, length) == 0 &&
           (size == length || text[length] == ' ');
}

PyObject *
redlane_errors_from_reply(RedlaneState *state, const char *text, size_t size)
{
    PyObject *type = state->ReplyError, *message, *error;

    for (size_t i = 0; i < COUNT(reply_classes); i++) {
        if (begins_with_word(text, size, reply_classes[i].word)) {
            type = *state_slot(state, reply_classes[i].slot);
        }
    }
    for (size_t i = 0; i < COUNT(reply_words); i++) {
        if (begins_with_word(text, size, reply_words[i].word)) {
            type = *state_slot(state, reply_words[i].slot);
        }
    }
    message = PyUnicode_DecodeUTF8(text, (Py_ssize_t)size, "backslashreplace");
    if (!message) {
        return NULL;
    }
    error = PyObject_CallOneArg(type, message);
    Py_DECREF(message);
    return error;
}

int
redlane_errors_fault_of(RedlaneState *state, PyObject *reply, RedlaneFaultKind *kind)
{
    PyObject *text;
    const char *line;
    Py_ssize_t size;

    *kind = REDLANE_FAULT_NONE;
    if (!PyObject_TypeCheck(reply, (PyTypeObject *)state->ReplyError)) {
        return 0;
    }
    text = PyObject_Str(reply);
    line = text ? PyUnicode_AsUTF8AndSize(text, &size) : NULL;
    if (line) {
        *kind = redlane_fault_of_reply(line, (size_t)size);
    }
    Py_XDECREF(text);
    return line ? 0 : -1;
}

int
redlane_errors_is_refusal(RedlaneState *state, PyObject *reply)
{
    RedlaneFaultKind kind;

    if (redlane_errors_fault_of(state, reply, &kind) < 0) {
        return -1;
    }
    return kind == REDLANE_FAULT_WRITES;
}

bool
redlane_errors_is_interruption(void)
{
    return PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_Exception);
}

/* Py_AddPendingCall's. STEALS error */
static int
raise_again(void *error)
{
    PyErr_SetObject((PyObject *)Py_TYPE((PyObject *)error), error);
    Py_DECREF((PyObject *)error);
    return -1;
}

void
redlane_errors_put_off(void)
{
    PyObject *type, *error, *traceback;

    if (!redlane_errors_is_interruption()) {
        PyErr_Clear();
        return;
    }
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (Py_AddPendingCall(raise_again, error) < 0) {
        Py_XDECREF(error); /* as many wait already */
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
}

void
redlane_errors_restore(PyObject *type, PyObject *error, PyObject *traceback)
{
    if (!type || redlane_errors_is_interruption()) {
        Py_XDECREF(type);
        Py_XDECREF(error);
        Py_XDECREF(traceback);
        return;
    }
    PyErr_Clear();
    PyErr_Restore(type, error, traceback);
}
