/* AsyncPipeline: commands kept until execute() is awaited.
 *
 * GIL held. One is not meant to be shared between tasks: their commands would mingle.
 * It stays sound when it is: execute() takes the whole queue out first. */
#include "py/state.h"
#include "types/async_reply.h"
#include "types/client.h"
#include "types/commands.h"
#include "types/pipeline_queue.h"

typedef struct {
    PyObject_HEAD
    RedlaneClient *client;
    RedlaneQueue queue;
    bool transaction;
} AsyncPipeline;

static PyObject *
async_pipeline_run(PyObject *object, RedlaneCall *call)
{
    if (redlane_queue_add(&((AsyncPipeline *)object)->queue, call) < 0) {
        return NULL;
    }
    return Py_NewRef(object);
}

PyDoc_STRVAR(
    async_pipeline_execute_doc,
    "execute($self, raise_on_error=True)\n--\n\n"
    "Send what was queued in one write; the results as a list, in order.\n\n"
    "raise_on_error: raise the first error reply (all commands were run); else "
    "it\nstands in the list as an exception instance. The queue is empty "
    "afterwards.");

static PyObject *
async_pipeline_execute(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"raise_on_error", NULL};
    AsyncPipeline *self = (AsyncPipeline *)object;
    RedlaneBatch batch = {0};
    int raise_on_error = 1;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|p:execute", keywords,
                                     &raise_on_error)) {
        return NULL;
    }
    batch.queue = self->queue;
    self->queue = (RedlaneQueue){0};
    if (redlane_batch_prepare(&batch) < 0) {
        redlane_batch_clear(&batch);
        return NULL;
    }
    return redlane_async_reply_new_batch(self->client, &batch, self->transaction,
                                         raise_on_error);
}

PyDoc_STRVAR(async_pipeline_reset_doc, "reset($self)\n--\n\nForget what was queued.");

static PyObject *
async_pipeline_reset(PyObject *self, PyObject *unused)
{
    (void)unused;
    redlane_queue_clear(&((AsyncPipeline *)self)->queue);
    Py_RETURN_NONE;
}

/* The two of `async with`, by redlane._aio. */
static PyObject *
call_aio(const char *name, PyObject *self)
{
    PyObject *module = PyImport_ImportModule("redlane._aio"), *result;

    if (!module) {
        return NULL;
    }
    result = PyObject_CallMethod(module, name, "O", self);
    Py_DECREF(module);
    return result;
}

static PyObject *
async_pipeline_aenter(PyObject *self, PyObject *unused)
{
    (void)unused;
    return call_aio("enter", self);
}

static PyObject *
async_pipeline_aexit(PyObject *self, PyObject *unused)
{
    (void)unused;
    return call_aio("reset", self);
}

/* --- the type --- */

PyObject *
redlane_async_pipeline_new(RedlaneClient *client, bool transaction)
{
    PyTypeObject *type = (PyTypeObject *)client->state->AsyncPipelineType;
    AsyncPipeline *self = (AsyncPipeline *)type->tp_alloc(type, 0);

    if (self) {
        self->client = (RedlaneClient *)Py_NewRef((PyObject *)client);
        self->transaction = transaction;
    }
    return (PyObject *)self;
}

static int
async_pipeline_tp_traverse(PyObject *object, visitproc visit, void *arg)
{
    AsyncPipeline *self = (AsyncPipeline *)object;

    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->client);
    return redlane_queue_traverse(&self->queue, visit, arg);
}

/* The client stays: methods of a pipeline need it, and it refers to nothing. */
static int
async_pipeline_tp_clear(PyObject *self)
{
    redlane_queue_clear(&((AsyncPipeline *)self)->queue);
    return 0;
}

static void
async_pipeline_tp_dealloc(PyObject *object)
{
    AsyncPipeline *self = (AsyncPipeline *)object;
    PyTypeObject *type = Py_TYPE(object);

    PyObject_GC_UnTrack(object);
    redlane_queue_clear(&self->queue);
    Py_CLEAR(self->client);
    type->tp_free(object);
    Py_DECREF(type);
}

static Py_ssize_t
async_pipeline_sq_length(PyObject *self)
{
    return (Py_ssize_t)redlane_queue_length(&((AsyncPipeline *)self)->queue);
}

static int
async_pipeline_nb_bool(PyObject *self)
{
    (void)self;
    return 1; /* an empty one is no false one */
}

static PyObject *
async_pipeline_tp_repr(PyObject *object)
{
    AsyncPipeline *self = (AsyncPipeline *)object;

    return PyUnicode_FromFormat("<redlane.AsyncPipeline of %zu commands%s>",
                                redlane_queue_length(&self->queue),
                                self->transaction ? ", a transaction" : "");
}

static PyMethodDef async_pipeline_methods[] = {
    {"execute", (PyCFunction)(void (*)(void))async_pipeline_execute,
     METH_VARARGS | METH_KEYWORDS, async_pipeline_execute_doc},
    {"reset", async_pipeline_reset, METH_NOARGS, async_pipeline_reset_doc},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {"__aenter__", async_pipeline_aenter, METH_NOARGS, NULL},
    {"__aexit__", async_pipeline_aexit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(
    async_pipeline_doc,
    "Commands queued by the methods of AsyncClient, sent by `await execute()` in one\n"
    "write.\n\n"
    "Made by AsyncClient.pipeline(). Every method returns the pipeline. It can be "
    "used again\nafter execute() or reset(). Not for several tasks at once.");

static PyType_Slot async_pipeline_slots[] = {
    {Py_tp_doc, (void *)async_pipeline_doc},
    {Py_tp_dealloc, async_pipeline_tp_dealloc},
    {Py_tp_traverse, async_pipeline_tp_traverse},
    {Py_tp_clear, async_pipeline_tp_clear},
    {Py_tp_repr, async_pipeline_tp_repr},
    {Py_tp_methods, async_pipeline_methods},
    {Py_sq_length, async_pipeline_sq_length},
    {Py_nb_bool, async_pipeline_nb_bool},
    {0, NULL},
};

static PyType_Spec async_pipeline_spec = {
    .name = "redlane.AsyncPipeline",
    .basicsize = sizeof(AsyncPipeline),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = async_pipeline_slots,
};

int
redlane_async_pipeline_setup(PyObject *module)
{
    RedlaneState *state = redlane_state_of_module(module);

    if (redlane_state_add(
            module, &state->AsyncPipelineType, "AsyncPipeline",
            PyType_FromModuleAndSpec(module, &async_pipeline_spec, NULL)) < 0) {
        return -1;
    }
    return redlane_command_methods_add(module, (PyTypeObject *)state->AsyncPipelineType,
                                       NULL, async_pipeline_run);
}
