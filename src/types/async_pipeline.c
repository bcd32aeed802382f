/* AsyncPipeline: commands kept until execute() is awaited.
 *
 * GIL held. One is not meant to be shared between tasks: their commands would mingle.
 * It stays sound when it is: execute() takes the whole queue out first. */
#include "py/state.h"
#include "types/async_reply.h"
#include "types/commands.h"
#include "types/pipeline_life.h"

static PyObject *
async_pipeline_execute(PyObject *object, PyObject *args, PyObject *kwargs)
{
    RedlanePipeline *self = (RedlanePipeline *)object;
    RedlaneBatch batch;
    int raise_on_error;

    if (redlane_pipeline_take(object, args, kwargs, &batch, &raise_on_error) < 0) {
        return NULL;
    }
    return redlane_async_reply_new_batch(self->client, &batch, self->transaction,
                                         raise_on_error);
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
    return redlane_pipeline_make(client->state->AsyncPipelineType, client, transaction);
}

static PyMethodDef async_pipeline_methods[] = {
    {"execute", (PyCFunction)(void (*)(void))async_pipeline_execute,
     METH_VARARGS | METH_KEYWORDS, redlane_pipeline_execute_doc},
    {"reset", redlane_pipeline_reset, METH_NOARGS, redlane_pipeline_reset_doc},
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
    {Py_tp_dealloc, redlane_pipeline_tp_dealloc},
    {Py_tp_traverse, redlane_pipeline_tp_traverse},
    {Py_tp_clear, redlane_pipeline_tp_clear},
    {Py_tp_repr, redlane_pipeline_tp_repr},
    {Py_tp_methods, async_pipeline_methods},
    {Py_sq_length, redlane_pipeline_sq_length},
    {Py_nb_bool, redlane_pipeline_nb_bool},
    {0, NULL},
};

static PyType_Spec async_pipeline_spec = {
    .name = "redlane.AsyncPipeline",
    .basicsize = sizeof(RedlanePipeline),
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
                                       NULL, redlane_pipeline_run);
}
