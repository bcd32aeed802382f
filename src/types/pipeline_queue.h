/* What a pipeline keeps until it is executed, and what that comes to; Pipeline and
 * AsyncPipeline differ in who waits.
 *
 *   bytes    ──▶ [GET][user:1][SET][user:2][…value…]      every argument, copied
 *   sizes    ──▶ [3, 6, 3, 6, 9]                          of each argument
 *   commands ──▶ [{GET, 2 arguments, raw}, {SET, 3, set}] one for each queued call
 *
 * Invariant: the argument counts of `commands` add up to the number of sizes, and those
 * to the size of `bytes`. Arguments are copied, so nothing that the caller changes or
 * frees later matters, and a queue holds no Python objects but score_cast_funcs. GIL
 * held. */
#ifndef REDLANE_TYPES_PIPELINE_QUEUE_H
#define REDLANE_TYPES_PIPELINE_QUEUE_H

#include "core/buffer.h"
#include "types/command_method.h"

typedef struct {
    const RedlaneCommand *command;
    size_t argc; /* 0: nothing is sent, the result is an empty list */
    RedlaneShape shape;
    PyObject *cast; /* score_cast_func, or NULL */
} RedlaneQueued;

typedef struct {
    RedlaneBuffer bytes;
    RedlaneBuffer sizes;    /* of size_t */
    RedlaneBuffer commands; /* of RedlaneQueued */
} RedlaneQueue;

static inline size_t
redlane_queue_length(const RedlaneQueue *queue)
{
    return queue->commands.size / sizeof(RedlaneQueued);
}

static inline RedlaneQueued *
redlane_queue_commands(const RedlaneQueue *queue)
{
    return (RedlaneQueued *)(void *)queue->commands.data;
}

void redlane_queue_clear(RedlaneQueue *queue);
int redlane_queue_traverse(const RedlaneQueue *queue, visitproc visit, void *arg);

/* Copies a call's arguments to the end. RAISES_NEG */
int redlane_queue_add(RedlaneQueue *queue, const RedlaneCall *call);

/* A queue that execute() took out, on its way. */
typedef struct {
    RedlaneQueue queue;
    RedlaneArg *argv;       /* of all commands, one after another */
    RedlaneVector *vectors; /* of those that are sent */
    PyObject **replies;     /* one for each vector; NULL once used */
    size_t count;           /* vectors */
} RedlaneBatch;

/* Fills argv, vectors and replies of a batch that has its queue. RAISES_NEG */
int redlane_batch_prepare(RedlaneBatch *batch);

void redlane_batch_clear(RedlaneBatch *batch);

/* The replies as a new list of results; the first error reply is raised, or stands in
 * it. Takes the replies. */
PyObject *redlane_batch_results(RedlaneBatch *batch, RedlaneState *state,
                                int raise_on_error);

#endif
