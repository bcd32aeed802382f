/* What this process keeps for one event loop (asyncio, uvloop): its methods, one timer,
 * and what has to be looked after on it.
 *
 *   event loop ──attribute──▶ RedlaneLoop ──▶ members: connections, parked requests
 *        ▲──────── methods ──────┘
 *
 * The two are a cycle, which is the collector's; that of a loop which was closed is
 * broken when the next loop is met, and its members leave it. GIL held; but for
 * redlane_loop_call_threadsafe on the loop's own thread. */
#ifndef REDLANE_WIRE_LOOP_H
#define REDLANE_WIRE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "py/python.h"

typedef struct RedlaneLoop RedlaneLoop;

/* That of the loop that runs in this thread, made on first use. BORROWED: it lives
 * while that loop runs. RuntimeError and NULL where none runs. */
RedlaneLoop *redlane_loop_running(RedlaneState *state);

/* True when the running loop is this one; no exception. */
bool redlane_loop_is_running(const RedlaneLoop *loop);

/* The event loop itself; BORROWED. */
PyObject *redlane_loop_object(const RedlaneLoop *loop);

/* A new future of the loop, by its create_future(). NULL with an exception set. */
PyObject *redlane_loop_future(RedlaneLoop *loop);

/* Has `callback` called in the loop's next turn. RAISES_NEG */
int redlane_loop_call_soon(RedlaneLoop *loop, PyObject *callback);

/* Whatever stands on a loop and has deadlines. All by whoever owns it, on the loop's
 * thread. */
typedef struct RedlaneLoopMember RedlaneLoopMember;

struct RedlaneLoopMember {
    /* Does what is due at `now` (CLOCK_MONOTONIC ns), and says when it wants to be
     * called next, or REDLANE_NEVER. May leave the loop, and free itself. */
    int64_t (*tick)(RedlaneLoopMember *self, int64_t now);
    /* The loop was closed or is being collected: the member has left it. Nothing of
     * the loop may be called. */
    void (*drop)(RedlaneLoopMember *self);
    int (*traverse)(RedlaneLoopMember *self, visitproc visit, void *arg);
    RedlaneLoopMember *next, **place;
};

void redlane_loop_join(RedlaneLoop *loop, RedlaneLoopMember *member);
void redlane_loop_leave(RedlaneLoop *loop, RedlaneLoopMember *member);

/* Whether it is (still) one; it may be freed. */
bool redlane_loop_has(const RedlaneLoop *loop, const RedlaneLoopMember *member);

/* All members are ticked at `when` at the latest: one timer a loop, armed anew only
 * where it would come too late. RAISES_NEG */
int redlane_loop_wake_at(RedlaneLoop *loop, int64_t when);

/* From any thread: all members are ticked soon. False when the loop is closed. */
bool redlane_loop_call_threadsafe(RedlaneLoop *loop);

/* What add_reader and its like are called with: `name` of a method of the loop, and a
 * descriptor. RAISES_NEG */
int redlane_loop_watch(RedlaneLoop *loop, const char *name, int fd, PyObject *callback);

int redlane_loop_setup(PyObject *module);

/* Inside the module: which loops there are. Apart from the module's state, which the
 * collector may free before them. */
typedef struct RedlaneLoops RedlaneLoops;
void redlane_loops_release(RedlaneLoops *loops); /* NULL is allowed */

#endif
