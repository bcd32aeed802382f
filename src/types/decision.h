/* Decision: what a rate limiter says. Objects come from a short list of kept ones.
 * Under the GIL. */
#ifndef REDLANE_TYPES_DECISION_H
#define REDLANE_TYPES_DECISION_H

#include <stdbool.h>

#include "core/limit.h"
#include "py/state.h"

int redlane_decision_setup(PyObject *module);
void redlane_decision_free_kept(RedlaneState *state);

/* A new one, or NULL. `answers` are of the same order; all without a `retry` is
 * allowed. `passed`: microseconds ago that they were true. */
PyObject *redlane_decision_new(RedlaneState *state, const RedlaneLimit *limits,
                               const RedlaneLimitAnswer *answers, size_t count,
                               int64_t passed);

#endif
