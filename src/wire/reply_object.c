/* Needs the GIL. A callback returns NULL for MemoryError (an exception is set) and for
 * what is no RESP2 (context->refused is set): both end the connection. Any other
 * failure is that reply's own result, as an exception instance: NULL would discard the
 * rest of a pipeline. */
#include "wire/reply_object.h"

#include <string.h>

#include "core/error_line.h"
#include "py/errors.h"
#include "py/state.h"
#include "wire/reply_check.h"

static RedlaneReaderContext *
context_of(const redisReadTask *task)
{
    return task->privdata;
}

/* Hands an object to its parent's list, or to the reader as the whole reply. */
static void *
place(const redisReadTask *task, PyObject *STEALS object)
{
    if (object && task->parent) {
        PyObject *list = task->parent->obj;
        PyObject *before = PyList_GET_ITEM(list, task->idx);

        PyList_SET_ITEM(list, task->idx, object);
        Py_DECREF(before);
    }
    return object;
}

/* The exception that is set, as an object; NULL when it is a MemoryError, which stays
 * set. Inside an array the first one is kept aside too: it is the result of the whole
 * reply, for nobody looks for exceptions in the answer of MGET. */
static PyObject *
take_exception(const redisReadTask *task)
{
    PyObject *type = NULL, *value = NULL, *traceback = NULL;

    if (PyErr_ExceptionMatches(PyExc_MemoryError)) {
        return NULL;
    }
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    if (task->parent && !context_of(task)->failure) {
        Py_XINCREF(value);
        context_of(task)->failure = value;
    }
    return value;
}

static PyObject *
make_text(const redisReadTask *task, const char *text, size_t size)
{
    PyObject *object;

    if (!context_of(task)->decode) {
        return PyBytes_FromStringAndSize(text, (Py_ssize_t)size);
    }
    object = PyUnicode_DecodeUTF8(text, (Py_ssize_t)size, NULL);
    return object ? object : take_exception(task);
}

/* Where a MULTI has been left open, whatever is sent is queued and none of it is done.
 */
static bool
is_queued(const char *text, size_t size)
{
    return size == 6 && memcmp(text, "QUEUED", 6) == 0;
}

static void *
create_string(const redisReadTask *task, char *text, size_t size)
{
    RedlaneReaderContext *context = context_of(task);

    void *bulk = context->bulk;

    if (!redlane_reply_is_text(task, text, size)) {
        return NULL;
    }
    if (task->type == REDIS_REPLY_ERROR) {
        size = redlane_error_line_shown(text, size, context->password,
                                        context->password_size);
        return place(task, redlane_errors_from_reply(context->state, text, size));
    }
    if (task->type == REDIS_REPLY_STRING && bulk) {
        context->bulk = NULL; /* its content has come already: see reader_bulk.h */
        return place(task, bulk);
    }
    if (task->type == REDIS_REPLY_STATUS && !task->parent && is_queued(text, size) &&
        !context->transaction) {
        redlane_reply_refuse(task,
                             "the connection is in a transaction that is not ours");
        return NULL;
    }
    return place(task, make_text(task, text, size));
}

/* The list is visible to the collector and to whoever asks it for all objects: it holds
 * None, never NULL, until its elements come. */
static void *
create_array(const redisReadTask *task, size_t size)
{
    PyObject *list;

    if (!redlane_reply_is_resp2(task)) {
        return NULL;
    }
    list = PyList_New((Py_ssize_t)size);
    for (size_t i = 0; list && i < size; i++) {
        Py_INCREF(Py_None);
        PyList_SET_ITEM(list, (Py_ssize_t)i, Py_None);
    }
    return place(task, list);
}

static void *
create_integer(const redisReadTask *task, long long value)
{
    return place(task, PyLong_FromLongLong(value));
}

static void *
create_nil(const redisReadTask *task)
{
    if (!redlane_reply_is_resp2(task)) {
        return NULL;
    }
    Py_INCREF(Py_None);
    return place(task, Py_None);
}

static void
free_object(void *object)
{
    Py_XDECREF((PyObject *)object);
}

redisReplyObjectFunctions redlane_reply_object_functions = {
    .createString = create_string,
    .createArray = create_array,
    .createInteger = create_integer,
    .createDouble = redlane_reply_refuse_double,
    .createNil = create_nil,
    .createBool = redlane_reply_refuse_bool,
    .freeObject = free_object,
};

PyObject *
redlane_reply_object_settle(RedlaneReaderContext *context, PyObject *STEALS reply)
{
    PyObject *failure = context->failure;

    context->failure = NULL;
    if (likely(!failure)) {
        return reply;
    }
    if (context->transaction) {
        Py_DECREF(failure);
        return reply;
    }
    Py_DECREF(reply);
    return failure;
}
