/* Lines for the logger `redlane`. */
#ifndef REDLANE_PY_LOG_H
#define REDLANE_PY_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "core/vector.h"
#include "py/state.h"

/* The levels of the logging module. */
enum {
    REDLANE_LOG_DEBUG = 10,
    REDLANE_LOG_INFO = 20,
    REDLANE_LOG_WARNING = 30,
    REDLANE_LOG_ERROR = 40,
};

/* Logs one line; `event` is its stable name, one of redlane._logging.EVENTS, and
 * `format` is PyUnicode_FromFormat's. Imports logging on first use. An exception that
 * is already set is kept; one that logging raises is written to stderr as unraisable: a
 * broken handler must not break a cache. GIL held, no C lock held: a handler is user
 * code. */
void redlane_log_event(RedlaneState *state, int level, const char *event,
                       const char *format, ...);

/* Makes the logger ready: the environment's DEBUG acts from here on. RAISES_NEG */
int redlane_log_prepare(RedlaneState *state);

bool redlane_log_debugging_slow(RedlaneState *state);

/* Whether a DEBUG line would be logged now. The answer of a logger that is off costs
 * one look-up, 5 ns: in the cache that the logger keeps of its own isEnabledFor(), and
 * which logging empties whenever a level changes. */
static inline bool
redlane_log_debugging(RedlaneState *state)
{
    if (likely(state->logger_cache &&
               PyDict_GetItemWithError(state->logger_cache, state->debug_level) ==
                   Py_False)) {
        return false;
    }
    return redlane_log_debugging_slow(state);
}

/* A DEBUG line for each command: its name, its key, the time it took; never a value. */
void redlane_log_command(RedlaneState *state, const RedlaneVector *vectors,
                         size_t count, int64_t nanoseconds);

/* The key or channel of a command as it may be shown: a new str, cut where it is long;
 * None where it has none, or what may be a value stands there. NULL with MemoryError.
 */
PyObject *redlane_log_key(const RedlaneVector *vector);

#endif
