/* Pipelines, whoever waits for them. GIL held. */
#include "types/pipeline_life.h"

PyObject *
redlane_pipeline_make(PyObject *type, RedlaneClient *client, bool transaction)
{
    RedlanePipeline *self =
        (RedlanePipeline *)((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, 0);

    if (self) {
        self->client = (RedlaneClient *)Py_NewRef((PyObject *)client);
        self->transaction = transaction;
    }
    return (PyObject *)self;
}

PyObject *
redlane_pipeline_run(PyObject *self, RedlaneCall *call)
{
    if (redlane_queue_add(&((RedlanePipeline *)self)->queue, call) < 0) {
        return NULL;
    }
    return Py_NewRef(self);
}

const char redlane_pipeline_execute_doc[] = PyDoc_STR(
    "execute($self, raise_on_error=True)\n--\n\n"
    "Send what was queued in one write; the results as a list, in order.\n\n"
    "raise_on_error: raise the first error reply (all commands were run); else "
    "it\nstands in the list as an exception instance. The queue is empty "
    "afterwards.");

int
redlane_pipeline_take(PyObject *object, PyObject *args, PyObject *kwargs,
                      RedlaneBatch *batch, int *raise_on_error)
{
    static char *keywords[] = {"raise_on_error", NULL};
    RedlanePipeline *self = (RedlanePipeline *)object;

    *raise_on_error = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|p:execute", keywords,
                                     raise_on_error)) {
        return -1;
    }
    *batch = (RedlaneBatch){.queue = self->queue};
    self->queue = (RedlaneQueue){0};
    if (redlane_batch_prepare(batch) < 0) {
        redlane_batch_clear(batch);
        return -1;
    }
    return 0;
}

const char redlane_pipeline_reset_doc[] =
    PyDoc_STR("reset($self)\n--\n\nForget what was queued.");

PyObject *
redlane_pipeline_reset(PyObject *self, PyObject *unused)
{
    (void)unused;
    redlane_queue_clear(&((RedlanePipeline *)self)->queue);
    Py_RETURN_NONE;
}

int
redlane_pipeline_tp_traverse(PyObject *object, visitproc visit, void *arg)
{
    RedlanePipeline *self = (RedlanePipeline *)object;

    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->client);
    return redlane_queue_traverse(&self->queue, visit, arg);
}

/* The client stays: methods of a pipeline need it, and it refers to nothing. */
int
redlane_pipeline_tp_clear(PyObject *self)
{
    redlane_queue_clear(&((RedlanePipeline *)self)->queue);
    return 0;
}

void
redlane_pipeline_tp_dealloc(PyObject *object)
{
    RedlanePipeline *self = (RedlanePipeline *)object;
    PyTypeObject *type = Py_TYPE(object);

    PyObject_GC_UnTrack(object);
    redlane_queue_clear(&self->queue);
    Py_CLEAR(self->client);
    type->tp_free(object);
    Py_DECREF(type);
}

PyObject *
redlane_pipeline_tp_repr(PyObject *object)
{
    RedlanePipeline *self = (RedlanePipeline *)object;

    return PyUnicode_FromFormat("<%s of %zu commands%s>", Py_TYPE(object)->tp_name,
                                redlane_queue_length(&self->queue),
                                self->transaction ? ", a transaction" : "");
}

Py_ssize_t
redlane_pipeline_sq_length(PyObject *self)
{
    return (Py_ssize_t)redlane_queue_length(&((RedlanePipeline *)self)->queue);
}

int
redlane_pipeline_nb_bool(PyObject *self)
{
    (void)self;
    return 1; /* an empty one is no false one */
}
