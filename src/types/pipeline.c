/* Pipeline: commands kept until execute() sends them in one write.
 *
 * GIL held. A pipeline is not meant to be shared between threads: their commands would
 * mingle. It stays sound when it is: execute() takes the whole queue out first. */
#include <string.h>

#include "py/log.h"
#include "py/state.h"
#include "types/commands.h"
#include "types/pipeline_life.h"

static int
send_batch(const RedlanePipeline *self, RedlaneBatch *batch)
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

static PyObject *
pipeline_execute(PyObject *object, PyObject *args, PyObject *kwargs)
{
    RedlanePipeline *self = (RedlanePipeline *)object;
    RedlaneBatch batch;
    PyObject *results = NULL;
    int raise_on_error;

    if (redlane_pipeline_take(object, args, kwargs, &batch, &raise_on_error) < 0) {
        return NULL;
    }
    if (redlane_client_check(self->client) == 0 && send_batch(self, &batch) == 0) {
        results = redlane_batch_results(&batch, self->client->state, raise_on_error);
    }
    redlane_batch_clear(&batch);
    return results;
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
    return redlane_pipeline_make(client->state->PipelineType, client, transaction);
}

static PyMethodDef pipeline_methods[] = {
    {"execute", (PyCFunction)(void (*)(void))pipeline_execute,
     METH_VARARGS | METH_KEYWORDS, redlane_pipeline_execute_doc},
    {"reset", redlane_pipeline_reset, METH_NOARGS, redlane_pipeline_reset_doc},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {"__enter__", pipeline_enter, METH_NOARGS, NULL},
    {"__exit__", redlane_pipeline_reset, METH_VARARGS, NULL},
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
    {Py_tp_dealloc, redlane_pipeline_tp_dealloc},
    {Py_tp_traverse, redlane_pipeline_tp_traverse},
    {Py_tp_clear, redlane_pipeline_tp_clear},
    {Py_tp_repr, redlane_pipeline_tp_repr},
    {Py_tp_methods, pipeline_methods},
    {Py_sq_length, redlane_pipeline_sq_length},
    {Py_nb_bool, redlane_pipeline_nb_bool},
    {0, NULL},
};

static PyType_Spec pipeline_spec = {
    .name = "redlane.Pipeline",
    .basicsize = sizeof(RedlanePipeline),
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
                                       NULL, redlane_pipeline_run);
}
