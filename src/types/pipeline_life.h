/* What Pipeline and AsyncPipeline have in common: all but how a batch is sent. GIL
 * held. */
#ifndef REDLANE_TYPES_PIPELINE_LIFE_H
#define REDLANE_TYPES_PIPELINE_LIFE_H

#include "types/client.h"
#include "types/pipeline_queue.h"

typedef struct {
    PyObject_HEAD
    RedlaneClient *client;
    RedlaneQueue queue;
    bool transaction;
} RedlanePipeline;

/* A new one of that type; or NULL. */
PyObject *redlane_pipeline_make(PyObject *type, RedlaneClient *client,
                                bool transaction);

/* A command's method: queues the call and gives the pipeline. */
PyObject *redlane_pipeline_run(PyObject *self, RedlaneCall *call);

/* Takes the arguments of execute(), and the queue out of the pipeline: a batch that is
 * prepared, which the caller has to clear. RAISES_NEG, with nothing to clear */
int redlane_pipeline_take(PyObject *self, PyObject *args, PyObject *kwargs,
                          RedlaneBatch *batch, int *raise_on_error);

extern const char redlane_pipeline_execute_doc[];
extern const char redlane_pipeline_reset_doc[];
PyObject *redlane_pipeline_reset(PyObject *self, PyObject *unused);

int redlane_pipeline_tp_traverse(PyObject *self, visitproc visit, void *arg);
int redlane_pipeline_tp_clear(PyObject *self);
void redlane_pipeline_tp_dealloc(PyObject *self);
PyObject *redlane_pipeline_tp_repr(PyObject *self);
Py_ssize_t redlane_pipeline_sq_length(PyObject *self);
int redlane_pipeline_nb_bool(PyObject *self);

#endif
