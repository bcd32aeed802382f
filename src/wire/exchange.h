/* One request and its replies on one connection, driven by the thread that calls: the
 * GIL is given up around each wait, and the deadline is the whole call's.
 *
 *   begin ──▶ encode into x->request ──▶ run ──▶ replies, or a fault
 *
 * Needs the GIL. */
#ifndef REDLANE_WIRE_EXCHANGE_H
#define REDLANE_WIRE_EXCHANGE_H

#include "py/python.h"
#include "wire/connection.h"
#include "wire/pool.h"

typedef struct {
    /* set by the caller */
    RedlaneState *state;
    RedlanePool *pool; /* NULL: a connection of its own, closed afterwards */
    const RedlaneSettings *settings;
    int64_t deadline;  /* CLOCK_MONOTONIC ns, or REDLANE_NEVER */
    bool decode;       /* bulk strings become str */
    bool keep_nested;  /* an exception inside an array stays there */
    bool repeatable;   /* may be sent twice */
    bool names_server; /* only over a connection that asked for the run_id */
    size_t elements;   /* that the request may ask for in one array */
    /* between begin and run */
    RedlaneBuffer request;
    /* results of run */
    RedlaneFault fault;
    bool progress; /* bytes were still moving when the deadline came */
    bool unsure;   /* some of a request that failed was written: it may be executed */
    char run_id[REDLANE_RUN_ID_SIZE]; /* of the server that answered: names_server */
    /* its own */
    RedlaneWait wait;
    PyThreadState *thread; /* while the GIL is given up */
    RedlaneConnection *connection;
    int64_t started;
    uint64_t received; /* by the connection, before this exchange */
    bool reused;       /* the connection has served before */
} RedlaneExchange;

/* Takes an idle connection if there is one, for its buffer. */
void redlane_exchange_begin(RedlaneExchange *x);

/* Sends the request and awaits `count` replies, once more on a fresh connection where
 * that is safe. 0 with new references in `replies` (error replies are exception
 * instances), or -1 with x->fault, and perhaps an exception set; then `replies` hold
 * nothing. In either case the exchange is over. */
int redlane_exchange_run(RedlaneExchange *x, PyObject **replies, size_t count);

/* Ends an exchange that was begun but will not run. */
void redlane_exchange_cancel(RedlaneExchange *x);

#endif
