/* Flights: computations under way, one to a key, so that a second caller waits for the
 * first instead of computing too.
 *
 *   table ──▶ bucket ──▶ flight ⇄ flight      found by (server, key, lease or none)
 *                          │
 *                          turnstile: a lock that the leader holds until it is done;
 *                          each waiter takes it and gives it on to the next
 *
 * A flight is joined by who met its lease on the server: its own, or another process's
 * that its leader met too. One that met none (the server takes no leases) is joined by
 * its key. So nobody joins what began before an invalidation in another process: that
 * took the lease away. An invalidation in this process marks the flight: it stores
 * nothing and nobody joins it any more. Invariant: a flight is in the table from begin
 * to finish, and no longer.
 *
 * Under the GIL. Flights of other threads do not survive a fork: the child drops them.
 */
#ifndef REDLANE_TYPES_FLIGHT_H
#define REDLANE_TYPES_FLIGHT_H

#include "core/script.h"
#include "core/vector.h"
#include "store/link.h"
#include "types/flow_wait.h"
#include "types/tags.h"

#define REDLANE_LEASE_SIZE (REDLANE_MARK_SIZE + 1 + 16)

/* A lease is kept for this long; so long do others wait. A computation that takes
 * longer is not stored. */
#define REDLANE_LEASE_MS 30000

typedef struct RedlaneFlight RedlaneFlight;

struct RedlaneFlight {
    RedlaneFlight *next;            /* in its bucket */
    RedlaneFlight **where;          /* what points to it; NULL outside the table */
    size_t references;              /* leader and waiters */
    RedlaneLink *link;              /* held */
    uint64_t hash;                  /* of the key */
    uint64_t id;                    /* no other one has had it */
    unsigned long owner;            /* the leader's thread … */
    const void *task;               /* … and its task, if it is a flow's */
    unsigned generation;            /* of forks */
    bool leased;                    /* `lease` is its own: it may store */
    bool marked;                    /* invalidated meanwhile */
    bool done;                      /* value or error is set, or neither */
    bool abandoned;                 /* the leader was interrupted: try again */
    bool refresh;                   /* of a value that stays in its place meanwhile … */
    uint64_t replaces;              /* … and has this nonce */
    PyThread_type_lock turnstile;   /* made by the first waiter */
    RedlaneWaker *wakers;           /* of flows that wait */
    PyObject *value;                /* bytes as stored, or NULL */
    PyObject *error;                /* what the loader raised, or NULL */
    const RedlaneTags *tags;        /* of the value, while it is computed; or NULL */
    char lease[REDLANE_LEASE_SIZE]; /* its own, the one it met, or zeros */
    size_t key_size;
    char key[];
};

int redlane_flight_setup(PyObject *module);
void redlane_flight_table_free(RedlaneState *state);

/* A flight of this thread with a lease of its own, in the table; NULL with an exception
 * set. */
RedlaneFlight *redlane_flight_begin(RedlaneState *state, RedlaneLink *link,
                                    RedlaneArg key);

/* One that stores nothing; `met` is the lease that is there, or NULL. */
RedlaneFlight *redlane_flight_begin_alone(RedlaneState *state, RedlaneLink *link,
                                          RedlaneArg key, const char *met);

/* Ends it: out of the table, waiters woken, the leader's reference released. `value`
 * and `error` are BORROWED, either may be NULL. */
void redlane_flight_finish(RedlaneFlight *flight, PyObject *value, PyObject *error);

/* The same after a failure: waiters get an Exception too, but nobody else's
 * interruption. Keeps the exception that is set. */
void redlane_flight_fail(RedlaneFlight *flight);

/* This thread, or the task that runs in it, leads it from now on. */
void redlane_flight_own(RedlaneState *state, RedlaneFlight *flight);

/* Around the loader of a flow's flight: what that starts is known to be inside the
 * flight. The first gives what the second takes; or NULL, which is all right. No
 * exception; the one that is set stays. */
PyObject *redlane_flight_enter(RedlaneState *state, const RedlaneFlight *flight);
void redlane_flight_leave(RedlaneState *state, PyObject *STEALS token);

/* Whether the running code is: its end would be waited for by what it waits for. */
bool redlane_flight_is_inside(RedlaneState *state, const RedlaneFlight *flight);

/* Any thread's unmarked refresh of the value with this nonce, with a new reference; or
 * NULL. */
RedlaneFlight *redlane_flight_find_refresh(RedlaneState *state, RedlaneLink *link,
                                           RedlaneArg key, uint64_t replaces);

/* An unmarked flight, with a new reference, or NULL: one that placed or met `lease`,
 * or, where that is NULL, one that met none. It is another thread's, or, in a flow,
 * another task's, and the caller is not inside it: nobody can wait for what cannot go
 * on before. */
RedlaneFlight *redlane_flight_find(RedlaneState *state, RedlaneLink *link,
                                   RedlaneArg key, const char *lease);
void redlane_flight_release(RedlaneFlight *flight);

/* Whether this process placed `lease`. */
bool redlane_flight_is_ours(RedlaneState *state, const char *lease);

/* Whether this process placed `lease` and its flight has ended since it was met. */
bool redlane_flight_is_over(RedlaneState *state, RedlaneLink *link, RedlaneArg key,
                            const char *lease);

/* Waits until it is done: 1, or until the time of a lease is over: 0. Ctrl-C, a signal
 * handler's exception, in a flow its cancellation: -1. Gives up the GIL. */
int redlane_flight_wait(RedlaneFlight *flight);

/* The same, until a deadline (CLOCK_MONOTONIC ns). */
int redlane_flight_wait_until(RedlaneFlight *flight, int64_t deadline);

/* An invalidation of one key, of every key that matches a pattern, or of all that carry
 * one of some tags. */
void redlane_flight_mark_key(RedlaneState *state, RedlaneLink *link, RedlaneArg key);
void redlane_flight_mark_pattern(RedlaneState *state, RedlaneLink *link,
                                 RedlaneArg pattern);
void redlane_flight_mark_tags(RedlaneState *state, RedlaneLink *link,
                              const RedlaneTags *tags);

#endif
