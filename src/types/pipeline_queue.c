/* A pipeline's queue. GIL held. */
#include "types/pipeline_queue.h"

#include <stdlib.h>

#include "py/convert.h"
#include "py/state.h"

void
redlane_queue_clear(RedlaneQueue *queue)
{
    RedlaneQueue taken = *queue;

    *queue = (RedlaneQueue){0}; /* first: a cast function's end may run user code */
    for (size_t i = 0; i < redlane_queue_length(&taken); i++) {
        Py_XDECREF(redlane_queue_commands(&taken)[i].cast);
    }
    redlane_buffer_free(&taken.bytes);
    redlane_buffer_free(&taken.sizes);
    redlane_buffer_free(&taken.commands);
}

/* Makes room first, so that a failure leaves the queue as it was. */
static int
reserve_call(RedlaneQueue *queue, const RedlaneCall *call)
{
    size_t total = 0;

    for (size_t i = 0; i < call->args.argc; i++) {
        total += call->args.argv[i].size;
    }
    if (redlane_buffer_reserve(&queue->bytes, total) < 0 ||
        redlane_buffer_reserve(&queue->sizes, call->args.argc * sizeof(size_t)) < 0 ||
        redlane_buffer_reserve(&queue->commands, sizeof(RedlaneQueued)) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

int
redlane_queue_add(RedlaneQueue *queue, const RedlaneCall *call)
{
    RedlaneQueued command = {call->command, call->empty ? 0 : call->args.argc,
                             call->shape, call->cast};

    if (reserve_call(queue, call) < 0) {
        return -1;
    }
    for (size_t i = 0; i < command.argc; i++) {
        const RedlaneArg *arg = &call->args.argv[i];

        (void)redlane_buffer_append(&queue->bytes, arg->data, arg->size);
        (void)redlane_buffer_append(&queue->sizes, &arg->size, sizeof(arg->size));
    }
    Py_XINCREF(command.cast);
    (void)redlane_buffer_append(&queue->commands, &command, sizeof(command));
    return 0;
}

int
redlane_queue_traverse(const RedlaneQueue *queue, visitproc visit, void *arg)
{
    for (size_t i = 0; i < redlane_queue_length(queue); i++) {
        Py_VISIT(redlane_queue_commands(queue)[i].cast);
    }
    return 0;
}

int
redlane_batch_prepare(RedlaneBatch *batch)
{
    size_t argc = batch->queue.sizes.size / sizeof(size_t);
    size_t length = redlane_queue_length(&batch->queue), offset = 0, used = 0;
    const size_t *sizes = (const size_t *)(const void *)batch->queue.sizes.data;

    batch->argv = calloc(argc + 1, sizeof(*batch->argv));
    batch->vectors = calloc(length + 1, sizeof(*batch->vectors));
    batch->replies = calloc(length + 1, sizeof(*batch->replies));
    if (!batch->argv || !batch->vectors || !batch->replies) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < argc; i++) {
        batch->argv[i] = (RedlaneArg){batch->queue.bytes.data + offset, sizes[i]};
        offset += sizes[i];
    }
    for (size_t i = 0; i < length; i++) {
        const RedlaneQueued *command = &redlane_queue_commands(&batch->queue)[i];

        if (command->argc) {
            batch->vectors[batch->count++] =
                (RedlaneVector){batch->argv + used, command->argc, command->command};
            used += command->argc;
        }
    }
    return 0;
}

void
redlane_batch_clear(RedlaneBatch *batch)
{
    for (size_t i = 0; batch->replies && i < batch->count; i++) {
        Py_XDECREF(batch->replies[i]);
    }
    free(batch->replies);
    free(batch->vectors);
    free(batch->argv);
    redlane_queue_clear(&batch->queue);
}

/* Raises an error reply, saying which command of the pipeline it answers. */
static void
raise_reply(PyObject *error, size_t number, const RedlaneCommand *command)
{
    PyObject *message, *arguments;

    message = PyUnicode_FromFormat("%S (command %zu of the pipeline, %s)", error,
                                   number + 1, command->name);
    arguments = message ? PyTuple_Pack(1, message) : NULL;
    Py_XDECREF(message);
    if (!arguments) {
        return;
    }
    if (PyObject_SetAttrString(error, "args", arguments) == 0) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    }
    Py_DECREF(arguments);
}

PyObject *
redlane_batch_results(RedlaneBatch *batch, RedlaneState *state, int raise_on_error)
{
    size_t length = redlane_queue_length(&batch->queue), next = 0;
    PyObject *results = PyList_New((Py_ssize_t)length);

    for (size_t i = 0; results && i < length; i++) {
        const RedlaneQueued *command = &redlane_queue_commands(&batch->queue)[i];
        PyObject *reply, *result;

        if (command->argc) {
            reply = batch->replies[next];
            batch->replies[next++] = NULL;
        }
        else {
            reply = PyList_New(0);
        }
        if (!reply) {
            Py_CLEAR(results);
            break;
        }
        if (!PyExceptionInstance_Check(reply)) {
            result = redlane_result(state, command->shape, command->cast, reply);
            if (!result && !raise_on_error &&
                PyErr_ExceptionMatches(state->RedlaneError)) {
                result = redlane_convert_raised();
            }
        }
        else if (raise_on_error) {
            raise_reply(reply, i, command->command);
            Py_DECREF(reply);
            result = NULL;
        }
        else {
            result = reply;
        }
        if (!result) {
            Py_CLEAR(results);
            break;
        }
        PyList_SET_ITEM(results, (Py_ssize_t)i, result);
    }
    return results;
}
