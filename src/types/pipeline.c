/* Pipeline: commands kept until execute() sends them in one write.
 *
 * GIL held. A pipeline is not meant to be shared between threads: their commands would
 * mingle. It stays sound when it is: execute() takes the whole queue out first. */
#include <string.h>

#include "py/log.h"
#include "py/state.h"
#include "types/client.h"
#include "types/commands.h"
#include "types/pipeline_queue.h"

typedef struct {
    PyObject_HEAD
    RedlaneClient *client;
    RedlaneQueue queue;
    bool transaction;
} Pipeline;

static PyObject *
pipeline_run(PyObject *object, RedlaneCall *call)
{
    if (redlane_queue_add(&((Pipeline *)object)->queue, call) < 0) {
        return NULL;
    }
    return Py_NewRef(object);
}

static int
send_batch(const Pipeline *self, RedlaneBatch *batch)
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
    RedlaneBatch batch = {0};
    PyObject *results = NULL;
    int raise_on_error = 1;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|p:execute", keywords,
                                     &raise_on_error)) {
        return NULL;
    }
    batch.queue = self->queue;
    self->queue = (RedlaneQueue){0};
    if (redlane_client_check(self->client) == 0 && redlane_batch_prepare(&batch) == 0 &&
        send_batch(self, &batch) == 0) {
        results = redlane_batch_results(&batch, self->client->state, raise_on_error);
    }
    redlane_batch_clear(&batch);
    return results;
}

PyDoc_STRVAR(pipeline_reset_doc, "reset($self)\n--\n\nForget what was queued.");

static PyObject *
pipeline_reset(PyObject *self, PyObject *unused)
{
    (void)unused;
    redlane_queue_clear(&((Pipeline *)self)->queue);
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
    return redlane_queue_traverse(&self->queue, visit, arg);
}

/* The client stays: methods of a pipeline need it, and it refers to nothing. */
static int
pipeline_tp_clear(PyObject *self)
{
    redlane_queue_clear(&((Pipeline *)self)->queue);
    return 0;
}

static void
pipeline_tp_dealloc(PyObject *object)
{
    Pipeline *self = (Pipeline *)object;
    PyTypeObject *type = Py_TYPE(object);

    PyObject_GC_UnTrack(object);
    redlane_queue_clear(&self->queue);
    Py_CLEAR(self->client);
    type->tp_free(object);
    Py_DECREF(type);
}

static Py_ssize_t
pipeline_sq_length(PyObject *self)
{
    return (Py_ssize_t)redlane_queue_length(&((Pipeline *)self)->queue);
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
                                redlane_queue_length(&self->queue),
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
