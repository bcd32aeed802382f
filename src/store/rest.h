/* What a server behind HTTP needs above the wire: the relay's thread, which is
 * Python's, and a look at what it says of the link in place of replies. GIL held. */
#ifndef REDLANE_STORE_REST_H
#define REDLANE_STORE_REST_H

#include "core/fault.h"
#include "py/state.h"
#include "wire/settings.h"

/* Before a request: starts the relay where it does not run, as in a forked child. Where
 * it cannot, the request fails by itself. Nothing for a server that is spoken to
 * otherwise. */
void redlane_rest_prepare(RedlaneSettings *settings);

/* True with a fault when the relay could not do for these replies what was asked;
 * `unsure` as in RedlaneRemoteReport. The replies stay the caller's. */
bool redlane_rest_failed(const RedlaneState *state, PyObject **replies, size_t count,
                         RedlaneFault *fault, bool *unsure);

#endif
