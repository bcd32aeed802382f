/* Requests to a store, in a flow. Lock: the GIL.
 *
 * The request is on the flow's own stack, which stays where it is while the flow waits.
 */
#include "types/flow_store.h"

#include "core/clock.h"
#include "py/errors.h"
#include "py/log.h"
#include "store/async_store.h"

typedef struct {
    RedlaneCompletion completion;
    PyObject **replies; /* of who waits */
    PyObject *future;   /* NULL while nobody waits */
    PyObject *error;    /* why it failed, or NULL */
    bool done;
} Waiting;

static PyObject *
take_error(void)
{
    PyObject *type, *error, *traceback;

    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback) {
        (void)PyException_SetTraceback(error, traceback);
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return error;
}

/* RedlaneCompletion.done. The flow goes on in the loop's next turn. */
static void
finish(RedlaneCompletion *completion, PyObject **replies, size_t count)
{
    Waiting *waiting = (Waiting *)completion;
    PyObject *future = waiting->future, *answer;

    if (replies) {
        memcpy(waiting->replies, replies, count * sizeof(*replies));
    }
    else {
        waiting->error = take_error();
    }
    waiting->done = true;
    if (future) {
        Py_INCREF(future);
        answer = PyObject_CallMethod(future, "set_result", "O", Py_None);
        if (!answer) {
            /* Cancelled at this moment: the flow is to hear of that. */
            redlane_errors_put_off();
        }
        Py_XDECREF(answer);
        Py_DECREF(future);
    }
}

/* RedlaneCompletion.drop: the loop is gone, and with it who waited. */
static void
forget(RedlaneCompletion *completion)
{
    (void)completion;
}

/* Making a future may run anything, also what ends the request: then nobody would set
 * it. RAISES_NEG */
static int
wait_for(RedlaneFlow *flow, RedlaneLoop *loop, Waiting *waiting, size_t count)
{
    PyObject *answer = NULL, *future = redlane_loop_future(loop);

    if (unlikely(waiting->done)) {
        if (!future) {
            redlane_errors_put_off();
        }
        Py_XDECREF(future);
        return 0;
    }
    waiting->future = future;
    if (waiting->future) {
        redlane_flow_show(flow, &waiting->future, 1);
        answer = redlane_flow_await(flow, Py_NewRef(waiting->future));
        redlane_flow_show(flow, NULL, 0);
    }
    Py_CLEAR(waiting->future);
    if (answer) {
        Py_DECREF(answer);
        return 0;
    }
    if (!waiting->done) {
        redlane_async_store_abandon(&waiting->completion);
    }
    else if (waiting->error) {
        Py_CLEAR(waiting->error);
    }
    else {
        redlane_store_drop_replies(waiting->replies, count);
    }
    return -1;
}

static int
run_in_flow(RedlaneFlow *flow, RedlaneState *state, RedlaneStore *store,
            const RedlaneRequest *request, const RedlaneVector *vectors, size_t count,
            PyObject **replies)
{
    RedlaneLoop *loop = redlane_loop_running(state);
    Waiting waiting = {
        .completion = {.done = finish, .drop = forget},
        .replies = replies,
    };

    if (!loop) {
        return -1;
    }
    redlane_async_store_run(store, loop, request, vectors, count, &waiting.completion);
    if (!waiting.done && wait_for(flow, loop, &waiting, count) < 0) {
        return -1;
    }
    if (waiting.error) {
        PyErr_SetObject((PyObject *)Py_TYPE(waiting.error), waiting.error);
        Py_DECREF(waiting.error);
        return -1;
    }
    return 0;
}

static int
run(RedlaneState *state, RedlaneStore *store, const RedlaneRequest *request,
    const RedlaneVector *vectors, size_t count, PyObject **replies)
{
    RedlaneFlow *flow = redlane_flow_current(state);

    return likely(!flow)
               ? redlane_store_run(store, request, vectors, count, replies)
               : run_in_flow(flow, state, store, request, vectors, count, replies);
}

int
redlane_flow_run(RedlaneState *state, RedlaneStore *store,
                 const RedlaneRequest *request, const RedlaneVector *vectors,
                 size_t count, PyObject **replies)
{
    int64_t start;
    int result;

    if (likely(!redlane_log_debugging(state))) {
        return run(state, store, request, vectors, count, replies);
    }
    start = redlane_clock_now();
    result = run(state, store, request, vectors, count, replies);
    redlane_log_command(state, vectors, count, redlane_clock_now() - start);
    return result;
}

static PyObject *
execute(RedlaneState *state, RedlaneStore *store, const RedlaneRequest *request,
        const RedlaneVector *vector)
{
    RedlaneFlow *flow = redlane_flow_current(state);
    PyObject *reply;

    if (likely(!flow)) {
        return redlane_store_execute(store, request, vector);
    }
    if (run_in_flow(flow, state, store, request, vector, 1, &reply) < 0) {
        return NULL;
    }
    if (PyExceptionInstance_Check(reply)) {
        PyErr_SetObject((PyObject *)Py_TYPE(reply), reply);
        Py_CLEAR(reply);
    }
    return reply;
}

PyObject *
redlane_flow_execute(RedlaneState *state, RedlaneStore *store,
                     const RedlaneRequest *request, const RedlaneVector *vector)
{
    PyObject *reply;
    int64_t start;

    if (likely(!redlane_log_debugging(state))) {
        return execute(state, store, request, vector);
    }
    start = redlane_clock_now();
    reply = execute(state, store, request, vector);
    redlane_log_command(state, vector, 1, redlane_clock_now() - start);
    return reply;
}

/* RedlaneCompletion.done, of what nobody waits for. */
static void
ignore_answer(RedlaneCompletion *completion, PyObject **replies, size_t count)
{
    if (replies) {
        redlane_store_drop_replies(replies, count);
    }
    else {
        redlane_errors_put_off();
    }
    PyMem_Free(completion);
}

/* RedlaneCompletion.drop */
static void
ignore_end(RedlaneCompletion *completion)
{
    PyMem_Free(completion);
}

bool
redlane_flow_send(RedlaneState *state, RedlaneStore *store,
                  const RedlaneRequest *request, const RedlaneVector *vector)
{
    RedlaneLoop *loop = redlane_loop_running(state);
    RedlaneCompletion *completion = loop ? PyMem_Calloc(1, sizeof(*completion)) : NULL;

    if (!completion) {
        PyErr_Clear();
        return false;
    }
    completion->done = ignore_answer;
    completion->drop = ignore_end;
    redlane_async_store_run(store, loop, request, vector, 1, completion);
    return true;
}
