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

#define REDLANE_RETRY_GROWS (-1)

typedef struct {
    RedlaneFaultKind kind;
    int retry_after; /* REST: seconds until asking again is welcome, which may be 0;
                        REDLANE_RETRY_GROWS: ever more, up to minutes */
    char text[232];  /* for people: the reason alone, no password, no value */
} RedlaneFault;

/* Fills `fault`, printf-like; always terminated. */
__attribute__((format(printf, 3, 4))) void
redlane_fault_set(RedlaneFault *fault, RedlaneFaultKind kind, const char *format, ...);

/* What an error line says beside the command's own failure: REPLY for "not now, for
 * anybody" (LOADING, MASTERDOWN, CLUSTERDOWN, BUSY), WRITES for "no writes now" (OOM,
 * READONLY, MISCONF, NOREPLICAS), else NONE. A script's error may have one of those
 * inside: servers before 7 tell it so. */
RedlaneFaultKind redlane_fault_of_reply(const char *line, size_t size);

/* An error line of a relay's own (wire/relay.h), which tells of no command but of the
 * link: "RELAY away|unsure|refused <seconds> <reason>". True with the fault: CONNECT
 * where nothing was executed, LOST where it may have been, REPLY where the server
 * refuses to serve. */
bool redlane_fault_of_relay(const char *line, size_t size, RedlaneFault *fault);

/* The reason alone out of such a line; any other text as it is. */
const char *redlane_fault_shown(const char *text);

/* True where the server has no room for one more connection. It answers, then, and
 * those that we have are well. */
bool redlane_fault_is_crowded(const RedlaneFault *fault);

/* True where a server that says so still takes deletes: OOM. */
bool redlane_fault_allows_deletes(const char *line, size_t size);

#endif
