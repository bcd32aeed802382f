/* A request to a store, in a flow: it waits in the event loop. Under the GIL. */
#ifndef REDLANE_TYPES_FLOW_STORE_H
#define REDLANE_TYPES_FLOW_STORE_H

#include "store/store.h"
#include "types/flow.h"

/* As redlane_store_run, which it is where no flow runs. */
int redlane_flow_run(RedlaneState *state, RedlaneStore *store,
                     const RedlaneRequest *request, const RedlaneVector *vectors,
                     size_t count, PyObject **replies);

/* As redlane_store_execute. */
PyObject *redlane_flow_execute(RedlaneState *state, RedlaneStore *store,
                               const RedlaneRequest *request,
                               const RedlaneVector *vector);

/* Starts it in the running loop, and does not wait: nobody hears of its answer. False
 * where it could not be started (no exception). */
bool redlane_flow_send(RedlaneState *state, RedlaneStore *store,
                       const RedlaneRequest *request, const RedlaneVector *vector);

#endif
