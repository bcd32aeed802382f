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
    REDLANE_FAULT_WRITES, /* the server takes no writes now: `text` is its error line */
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

/* What an error line says beside the command's own failure: REPLY for "not now, for
 * anybody" (LOADING, MASTERDOWN, CLUSTERDOWN, BUSY), WRITES for "no writes now" (OOM,
 * READONLY, MISCONF, NOREPLICAS), else NONE. A script's error may have one of those
 * inside: servers before 7 tell it so. */
RedlaneFaultKind redlane_fault_of_reply(const char *line, size_t size);

/* True where the server has no room for one more connection. It answers, then, and
 * those that we have are well. */
bool redlane_fault_is_crowded(const RedlaneFault *fault);

/* True where a server that says so still takes deletes: OOM. */
bool redlane_fault_allows_deletes(const char *line, size_t size);

#endif
