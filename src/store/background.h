/* The background thread: one to a process, plain C. It probes servers that a guard
 * holds for away or suspect. While it hangs on one server, another that is due gets a
 * thread for itself, within a bound, so that no server waits for another's replay.
 *
 * It blocks all signals, never takes the GIL, touches no Python object, is woken by a
 * descriptor, starts on first need and is joined at exit within a limit. A forked child
 * starts its own on its own first need. */
#ifndef REDLANE_STORE_BACKGROUND_H
#define REDLANE_STORE_BACKGROUND_H

#include "store/guard.h"

typedef struct RedlaneBackground RedlaneBackground;

/* With one reference. The module has one and each link another, counted under the GIL:
 * the collector may free the module's state before it frees a client. */
RedlaneBackground *redlane_background_new(void);
RedlaneBackground *redlane_background_hold(RedlaneBackground *background);

/* With the last reference everything is freed, if the thread has ended; else it is left
 * alone with what it holds. NULL is allowed. */
void redlane_background_release(RedlaneBackground *background);

/* Makes sure that the thread runs and looks after this guard (which it holds until
 * forget); with `look` it looks now, for the guard has something new: that is a system
 * call and a switch of threads, which each call of an outage can do without. -1 when
 * the thread cannot be started: the caller's link then stays as it is. */
int redlane_background_watch(RedlaneBackground *background, RedlaneGuard *guard,
                             bool look);
void redlane_background_forget(RedlaneBackground *background, RedlaneGuard *guard);

/* Ends the thread for good; waits at most `limit` ns. True when it has ended. Call
 * without the GIL: a probe may be on its way. */
bool redlane_background_stop(RedlaneBackground *background, int64_t limit);

#endif
