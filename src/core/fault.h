/* A failure as plain data: what code without the GIL hands to code that raises. */
#ifndef REDLANE_CORE_FAULT_H
#define REDLANE_CORE_FAULT_H

#include <stdbool.h>
#include <stddef.h>

typedef enum {
    REDLANE_FAULT_NONE = 0,
    REDLANE_FAULT_CONNECT,  /* no connection was made (refused, unreachable, no address)
                             */
    REDLANE_FAULT_LOST,     /* an open connection broke or was closed by the server */
    REDLANE_FAULT_TIMEOUT,  /* the total deadline passed */
    REDLANE_FAULT_PROTOCOL, /* what came is not RESP2, or more than we accept */
    REDLANE_FAULT_REPLY,  /* the server refused the handshake: `text` is its error line
                           */
    REDLANE_FAULT_POOL,   /* every connection of the pool was busy until the deadline */
    REDLANE_FAULT_MEMORY, /* out of memory */
    REDLANE_FAULT_CLOSED, /* the client was closed, or the process forked, meanwhile */
    REDLANE_FAULT_PYTHON, /* a Python exception is set (a signal handler raised) */
} RedlaneFaultKind;

typedef struct {
    RedlaneFaultKind kind;
    char text[232]; /* for people: the reason alone, no password, no value */
} RedlaneFault;

/* Fills `fault`, printf-like; always terminated. */
__attribute__((format(printf, 3, 4))) void
redlane_fault_set(RedlaneFault *fault, RedlaneFaultKind kind, const char *format, ...);

/* True for an error line that means "not now, for anybody" (LOADING, MASTERDOWN,
 * CLUSTERDOWN): an outage, as against an error of the command itself. */
bool redlane_fault_reply_is_outage(const char *line, size_t size);

#endif
