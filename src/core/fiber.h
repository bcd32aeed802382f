/* A fiber: a C function on a stack of its own, which can be left in the middle and
 * entered again.
 *
 *   enter ──▶ run(context) ─ … ─ leave ──▶ back behind enter
 *   enter ──▶ behind leave ─ … ─ return ─▶ back behind enter, and `done`
 *
 * Plain C: what a language runtime keeps for each thread is the business of who enters.
 * One thread at a time. A fiber that is not done must not be freed: what stands on its
 * stack would be lost. */
#ifndef REDLANE_CORE_FIBER_H
#define REDLANE_CORE_FIBER_H

#include <stdbool.h>
#include <stddef.h>

/* As much as a thread's own: only what is touched takes memory. */
#define REDLANE_FIBER_STACK ((size_t)8 << 20)

typedef struct RedlaneFiber RedlaneFiber;

/* NULL: no memory. */
RedlaneFiber *redlane_fiber_new(void);

/* One that has no function yet, or is done. */
void redlane_fiber_free(RedlaneFiber *fiber);

/* Gives it a function, of which nothing runs yet. It may be done with another one. */
void redlane_fiber_start(RedlaneFiber *fiber, void (*run)(void *context),
                         void *context);

/* Runs it until it leaves or is done: true when it is done. */
bool redlane_fiber_enter(RedlaneFiber *fiber);

/* From its own stack. */
void redlane_fiber_leave(RedlaneFiber *fiber);

/* Fibers to be used again: those given back, none of which runs. Zeroed it is empty. */
typedef struct {
    RedlaneFiber *fibers[32];
    unsigned count, given;
} RedlaneFiberPool;

/* NULL: no memory. */
RedlaneFiber *redlane_fiber_take(RedlaneFiberPool *pool);

/* Now and then gives the system what deep calls have touched of one that is kept. */
void redlane_fiber_give(RedlaneFiberPool *pool, RedlaneFiber *fiber);

void redlane_fiber_pool_clear(RedlaneFiberPool *pool);

#endif
