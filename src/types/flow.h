/* A flow: an awaitable whose C code may wait for other awaitables where it stands.
 *
 *   event loop ──send──▶ flow ──enter──▶ fiber: fill a key, walk a pattern, …
 *              ◀─future─      ◀─leave──         redlane_flow_await(future)
 *
 * What blocks a thread in one program leaves to the event loop in another, so that the
 * code between the waits exists once: filling, freshness, tags, counters. It runs on a
 * fiber (core/fiber.h), which is left where it waits; whatever is awaited, a caller's
 * coroutine above all, runs on the loop's own stack, in its task and context.
 *
 * Only C code is ever left standing on a fiber: in Python code that a flow calls (a
 * condition, a serializer) there is no current flow, and waiting blocks the thread. So
 * the interpreter's frames, exception and context are the loop's whenever fibers change
 * over; its count of nested C calls is what is carried over.
 *
 * To cancel is to raise where the flow waits, as Ctrl-C raises in blocking code. A
 * flow is awaited once, from one event loop. GIL held. */
#ifndef REDLANE_TYPES_FLOW_H
#define REDLANE_TYPES_FLOW_H

#include <stdbool.h>

#include "core/fiber.h"
#include "core/fork.h"
#include "py/state.h"

typedef struct RedlaneFlow RedlaneFlow;

/* A vectorcallfunc, which is run in the flow. */
typedef PyObject *(*RedlaneFlowCall)(PyObject *target, PyObject *const *args,
                                     size_t nargsf, PyObject *kwnames);

int redlane_flow_setup(PyObject *module);
void redlane_flow_free_kept(RedlaneState *state);

/* An awaitable that makes this call when it is awaited; or NULL. */
PyObject *redlane_flow_new(RedlaneState *state, RedlaneFlowCall call, PyObject *target,
                           PyObject *const *args, size_t nargsf, PyObject *kwnames);

/* The flow whose own C code runs now; NULL: there is none, waiting blocks. BORROWED */
RedlaneFlow *redlane_flow_find(RedlaneState *state);

/* What flows there are, and fibers to be used again. */
struct RedlaneFlows {
    RedlaneFlow *running; /* the one entered last; each knows the one before */
    RedlaneFiberPool fibers;
    RedlaneForkHook hook;
};

static inline RedlaneFlow *
redlane_flow_current(RedlaneState *state)
{
    return likely(!state->flows->running) ? NULL : redlane_flow_find(state);
}

/* Leaves until it is over: its result, or NULL with an exception set. STEALS */
PyObject *redlane_flow_await(RedlaneFlow *flow, PyObject *STEALS awaitable);

/* What its code holds while it waits and the collector must know of, for it leads back
 * to the flow: so many objects, which stay where they are. NULL, 0: no more. */
void redlane_flow_show(RedlaneFlow *flow, PyObject *const *held, size_t count);

/* What a caller's function gave, or what that gives when it is awaited, where it can be
 * and a flow runs. STEALS value, which may be NULL with an exception set */
PyObject *redlane_flow_result(RedlaneState *state, PyObject *STEALS value);

/* As of a coroutine that nobody awaited: what was asked for was not done. Keeps the
 * exception that may be set. */
void redlane_flow_warn_unawaited(PyObject *flow, PyObject *target);

/* Of a flow that is being closed: it cannot wait any more. */
bool redlane_flow_is_closing(const RedlaneFlow *flow);

/* The task that it runs in, only to be compared; NULL where there is none. */
const void *redlane_flow_task(RedlaneFlow *flow);

#endif
