/* An awaitable whose result is there already: what a cached coroutine function returns
 * for a hit, and async methods where nothing has to be waited for.
 *
 * It is a coroutine for whoever looks: `await`, create_task, gather, TaskGroup,
 * wait_for and asyncio.run take it. It can be awaited once. One that is not awaited is
 * dropped without a warning: no work is lost with it.
 *
 * Under the GIL. */
#ifndef REDLANE_TYPES_READY_AWAITABLE_H
#define REDLANE_TYPES_READY_AWAITABLE_H

#include "py/python.h"

int redlane_ready_awaitable_setup(PyObject *module);

/* An awaitable with this result, or NULL. STEALS value */
PyObject *redlane_ready_awaitable_new(RedlaneState *state, PyObject *STEALS value);

/* What is kept for the next ones: for the module's traverse; forgotten, and nothing is
 * kept any more; freed. */
int redlane_ready_awaitable_visit_kept(RedlaneState *state, visitproc visit, void *arg);
void redlane_ready_awaitable_drop_kept(RedlaneState *state);
void redlane_ready_awaitable_free_kept(RedlaneState *state);

#endif
