/* Pipeline: commands kept until execute() sends them in one write.
 *
 *   bytes    ──▶ [GET][user:1][SET][user:2][…value…]      every argument, copied
 *   sizes    ──▶ [3, 6, 3, 6, 9]                          of each argument
 *   commands ──▶ [{GET, 2 arguments, raw}, {SET, 3, set}] one for each queued call
 *
 * Invariant: the argument counts of `commands` add up to the number of sizes, and those
 * to the size of `bytes`. Arguments are copied, so nothing that the caller changes or
 * frees later matters, and a queue holds no Python objects but score_cast_funcs.
 *
 * GIL held. A pipeline is not meant to be shared between threads: their commands would
 * mingle. It stays sound when it is: execute() takes the whole queue out first. */
#include <stdlib.h>
#include <string.h>

#include "core/buffer.h"
#include "py/convert.h"
#include "py/log.h"
#include "py/state.h"
#include "types/client.h"
#include "types/commands.h"

typedef struct {
    const RedlaneCommand *command;
    size_t argc; /* 0: nothing is sent, the result is an empty list */
    RedlaneShape shape;
    PyObject *cast; /* score_cast_func, or NULL */
} QueuedCommand;

typedef struct {
    RedlaneBuffer bytes;
    RedlaneBuffer sizes;    /* of size_t */
    RedlaneBuffer commands; /* of QueuedCommand */
} Queue;

typedef struct {
    PyObject_HEAD
    RedlaneClient *client;
    Queue queue;
    bool transaction;
} Pipeline;

/* --- the queue --- */

static size_t
queue_length(const Queue *queue)
{
    return queue->commands.size / sizeof(QueuedCommand);
}

static QueuedCommand *
queue_commands(const Queue *queue)
{
    return (QueuedCommand *)(void *)queue->commands.data;
}

static void
clear_queue(Queue *queue)
{
    Queue taken = *queue;

    *queue = (Queue){0}; /* first: a cast function's end may run user code */
    for (size_t i = 0; i < queue_length(&taken); i++) {
        Py_XDECREF(queue_commands(&taken)[i].cast);
    }
    redlane_buffer_free(&taken.bytes);
    redlane_buffer_free(&taken.sizes);
    redlane_buffer_free(&taken.commands);
}

/* Makes room first, so that a failure leaves the queue as it was. */
static int
reserve_call(Queue *queue, const RedlaneCall *call)
{
    size_t total = 0;

    for (size_t i = 0; i < call->args.argc; i++) {
        total += call->args.argv[i].size;
    }
    if (redlane_buffer_reserve(&queue->bytes, total) < 0 ||
        redlane_buffer_reserve(&queue->sizes, call->args.argc * sizeof(size_t)) < 0 ||
        redlane_buffer_reserve(&queue->commands, sizeof(QueuedCommand)) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static PyObject *
pipeline_run(PyObject *object, RedlaneCall *call)
{
    Queue *queue = &((Pipeline *)object)->queue;
    QueuedCommand command = {call->command, call->empty ? 0 : call->args.argc,
                             call->shape, call->cast};

    if (reserve_call(queue, call) < 0) {
        return NULL;
    }
    for (size_t i = 0; i < command.argc; i++) {
        const RedlaneArg *arg = &call->args.argv[i];

        (void)redlane_buffer_append(&queue->bytes, arg->data, arg->size);
        (void)redlane_buffer_append(&queue->sizes, &arg->size, sizeof(arg->size));
    }
    Py_XINCREF(command.cast);
    (void)redlane_buffer_append(&queue->commands, &command, sizeof(command));
    return Py_NewRef(object);
}

/* --- execution --- */

/* A queue that execute() took out, on its way. */
typedef struct {
    Queue queue;
    RedlaneArg *argv;       /* of all commands, one after another */
    RedlaneVector *vectors; /* of those that are sent */
    PyObject **replies;     /* one for each vector; NULL once used */
    size_t count;           /* vectors */
} Batch;

static int
make_vectors(Batch *batch)
{
    size_t argc = batch->queue.sizes.size / sizeof(size_t);
    size_t length = queue_length(&batch->queue), offset = 0, used = 0;
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
        const QueuedCommand *command = &queue_commands(&batch->queue)[i];

        if (command->argc) {
            batch->vectors[batch->count++] =
                (RedlaneVector){batch->argv + used, command->argc, command->command};
            used += command->argc;
        }
    }
    return 0;
}

static void
clear_batch(Batch *batch)
{
    for (size_t i = 0; batch->replies && i < batch->count; i++) {
        Py_XDECREF(batch->replies[i]);
    }
    free(batch->replies);
    free(batch->vectors);
    free(batch->argv);
    clear_queue(&batch->queue);
}

static int
send_batch(const Pipeline *self, Batch *batch)
{
    RedlaneRequest request = redlane_client_request(self->client);
    RedlaneState *state = self->client->state;
    bool debugging = redlane_log_debugging(state);
    int64_t start = debugging ? redlane_clock_now() : 0;
    int status;

    if (batch->count == 0) {
        return 0;
    }
    request.transaction = self->transaction;
    status = redlane_store_run(self->client->store, &request, batch->vectors,
                               batch->count, batch->replies);
    if (status < 0) { /* the replies hold nothing */
        memset(batch->replies, 0, batch->count * sizeof(*batch->replies));
    }
    if (debugging) {
        redlane_log_command(state, batch->vectors, batch->count,
                            redlane_clock_now() - start);
    }
    return status;
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

static PyObject *
make_results(Batch *batch, RedlaneState *state, int raise_on_error)
{
    size_t length = queue_length(&batch->queue), next = 0;
    PyObject *results = PyList_New((Py_ssize_t)length);

    for (size_t i = 0; results && i < length; i++) {
        const QueuedCommand *command = &queue_commands(&batch->queue)[i];
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

PyDoc_STRVAR(
    pipeline_execute_doc,
    "execute($self, raise_on_error=True)\n--\n\n"
    "Send what was queued in one write; the results as a list, in order.\n\n"
    "raise_on_error: raise the first error reply (all commands were run); else "
    "it\nstands in the list as an exception instance. The queue is empty "
    "afterwards.");

static PyObject *
pipeline_execute(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"raise_on_error", NULL};
    Pipeline *self = (Pipeline *)object;
    Batch batch = {0};
    PyObject *results = NULL;
    int raise_on_error = 1;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|p:execute", keywords,
                                     &raise_on_error)) {
        return NULL;
    }
    batch.queue = self->queue;
    self->queue = (Queue){0};
    if (redlane_client_check(self->client) == 0 && make_vectors(&batch) == 0 &&
        send_batch(self, &batch) == 0) {
        results = make_results(&batch, self->client->state, raise_on_error);
    }
    clear_batch(&batch);
    return results;
}

PyDoc_STRVAR(pipeline_reset_doc, "reset($self)\n--\n\nForget what was queued.");

static PyObject *
pipeline_reset(PyObject *self, PyObject *unused)
{
    (void)unused;
    clear_queue(&((Pipeline *)self)->queue);
    Py_RETURN_NONE;
}

static PyObject *
pipeline_enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    return Py_NewRef(self);
}

/* --- the type --- */

PyObject *
redlane_pipeline_new(RedlaneClient *client, bool transaction)
{
    PyTypeObject *type = (PyTypeObject *)client->state->PipelineType;
    Pipeline *self = (Pipeline *)type->tp_alloc(type, 0);

    if (self) {
        self->client = (RedlaneClient *)Py_NewRef((PyObject *)client);
        self->transaction = transaction;
    }
    return (PyObject *)self;
}

static int
pipeline_tp_traverse(PyObject *object, visitproc visit, void *arg)
{
    Pipeline *self = (Pipeline *)object;

    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->client);
    for (size_t i = 0; i < queue_length(&self->queue); i++) {
        Py_VISIT(queue_commands(&self->queue)[i].cast);
    }
    return 0;
}

/* The client stays: methods of a pipeline need it, and it refers to nothing. */
static int
pipeline_tp_clear(PyObject *self)
{
    clear_queue(&((Pipeline *)self)->queue);
    return 0;
}

static void
pipeline_tp_dealloc(PyObject *object)
{
    Pipeline *self = (Pipeline *)object;
    PyTypeObject *type = Py_TYPE(object);

    PyObject_GC_UnTrack(object);
    clear_queue(&self->queue);
    Py_CLEAR(self->client);
    type->tp_free(object);
    Py_DECREF(type);
}

static Py_ssize_t
pipeline_sq_length(PyObject *self)
{
    return (Py_ssize_t)queue_length(&((Pipeline *)self)->queue);
}

static int
pipeline_nb_bool(PyObject *self)
{
    (void)self;
    return 1; /* an empty one is no false one */
}

static PyObject *
pipeline_tp_repr(PyObject *object)
{
    Pipeline *self = (Pipeline *)object;

    return PyUnicode_FromFormat("<redlane.Pipeline of %zu commands%s>",
                                queue_length(&self->queue),
                                self->transaction ? ", a transaction" : "");
}

static PyMethodDef pipeline_methods[] = {
    {"execute", (PyCFunction)(void (*)(void))pipeline_execute,
     METH_VARARGS | METH_KEYWORDS, pipeline_execute_doc},
    {"reset", pipeline_reset, METH_NOARGS, pipeline_reset_doc},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {"__enter__", pipeline_enter, METH_NOARGS, NULL},
    {"__exit__", pipeline_reset, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(
    pipeline_doc,
    "Commands queued by the methods of Client, sent by execute() in one "
    "write.\n\n"
    "Made by Client.pipeline(). Every method returns the pipeline. It can be "
    "used again\nafter execute() or reset(). Not for several threads at once.");

static PyType_Slot pipeline_slots[] = {
    {Py_tp_doc, (void *)pipeline_doc},
    {Py_tp_dealloc, pipeline_tp_dealloc},
    {Py_tp_traverse, pipeline_tp_traverse},
    {Py_tp_clear, pipeline_tp_clear},
    {Py_tp_repr, pipeline_tp_repr},
    {Py_tp_methods, pipeline_methods},
    {Py_sq_length, pipeline_sq_length},
    {Py_nb_bool, pipeline_nb_bool},
    {0, NULL},
};

static PyType_Spec pipeline_spec = {
    .name = "redlane.Pipeline",
    .basicsize = sizeof(Pipeline),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = pipeline_slots,
};

int
redlane_pipeline_setup(PyObject *module)
{
    RedlaneState *state = redlane_state_of_module(module);

    if (redlane_state_add(module, &state->PipelineType, "Pipeline",
                          PyType_FromModuleAndSpec(module, &pipeline_spec, NULL)) < 0) {
        return -1;
    }
    return redlane_command_methods_add(module, (PyTypeObject *)state->PipelineType,
                                       NULL, pipeline_run);
}
