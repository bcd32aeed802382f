/* A bounded pool of connections to one server, last in first out.
 *
 *   idle ──▶ newest ──▶ … ──▶ oldest          taken: with their owners
 *   places: size = idle + taken + free
 *
 * Invariant: idle + taken <= size (but while the bound has just shrunk), and promised
 * <= waiting, promised <= idle + free: each place that comes free while somebody waits
 * is kept for one who waits, so that newcomers cannot overtake for ever.
 *
 * Lock: its own, around a few lines each time; nothing is opened, closed or waited for
 * under it. No function here needs the GIL, nor may an idle connection need it. */
#ifndef REDLANE_WIRE_POOL_H
#define REDLANE_WIRE_POOL_H

#include <stddef.h>

#include "wire/connection.h"

typedef struct RedlanePool RedlanePool;

RedlanePool *redlane_pool_new(size_t size);

/* Closes what is idle. Nobody may still have a connection of it. */
void redlane_pool_free(RedlanePool *pool);

/* An idle connection, or NULL when there is none: no wait. */
RedlaneConnection *redlane_pool_take_idle(RedlanePool *pool);

/* An idle connection, or a place as a connection that is not open; waits for one until
 * the deadline. NULL with a fault: POOL, PYTHON, CLOSED, MEMORY. */
RedlaneConnection *redlane_pool_take_nogil(RedlanePool *pool, const RedlaneWait *wait,
                                           RedlaneFault *fault);

/* Gives it back: to the idle ones if it is ready, else its place becomes free. */
void redlane_pool_give(RedlanePool *pool, RedlaneConnection *connection);

/* The same for a place that the server had no room for: the pool holds fewer for a
 * while. False when none is left that could come back. */
bool redlane_pool_give_crowded(RedlanePool *pool, RedlaneConnection *connection);

/* Closes idle ones now, the others when they come back; takes fail from now on. */
void redlane_pool_close(RedlanePool *pool);
bool redlane_pool_is_closed(RedlanePool *pool);

typedef struct {
    size_t idle, taken, size;
    char server_version[REDLANE_SERVER_VERSION_SIZE];
} RedlanePoolStats;

void redlane_pool_stats(RedlanePool *pool, RedlanePoolStats *stats);

#endif
