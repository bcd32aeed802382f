/* What this process keeps for one event loop (asyncio, uvloop): its methods, one timer,
 * and the connections that it drives.
 *
 * An object that hangs on the loop itself, as an attribute, and goes with it: they are a
 * cycle, which is the collector's. A loop that was closed loses its connections when the
 * next loop is met, or with the object. GIL held; on the loop's own thread. */
#ifndef REDLANE_WIRE_LOOP_H
#define REDLANE_WIRE_LOOP_H

#include "py/python.h"

typedef struct RedlaneLoop RedlaneLoop;

/* That of the loop that runs in this thread, made on first use. BORROWED: it lives while
 * that loop runs. RuntimeError and NULL where none runs. */
RedlaneLoop *redlane_loop_running(RedlaneState *state);

/* The event loop itself; BORROWED. */
PyObject *redlane_loop_object(const RedlaneLoop *loop);

/* A new future of the loop, by its create_future(). NULL with an exception set. */
PyObject *redlane_loop_future(RedlaneLoop *loop);

#endif
