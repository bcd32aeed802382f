/* Opening a socket, or a TLS session, to the server that settings name. */
#ifndef REDLANE_WIRE_DIAL_H
#define REDLANE_WIRE_DIAL_H

#include "wire/resolve.h"
#include "wire/settings.h"
#include "wire/transport.h"
#include "wire/wait.h"

/* Connects a transport that is not open: every address in turn, each with its share of
 * the time that is left. 0, or -1 with a fault (CONNECT, TIMEOUT, PYTHON, MEMORY,
 * CLOSED) and the transport not open. */
int redlane_dial_nogil(RedlaneTransport *transport, const RedlaneSettings *settings,
                       const RedlaneWait *wait, RedlaneFault *fault);

/* The same in steps, for one that waits by itself. */
typedef enum {
    REDLANE_DIAL_FAILED, /* with a fault; the transport is not open */
    REDLANE_DIAL_DONE,
    REDLANE_DIAL_WAITS, /* until it can be written to: then check */
    REDLANE_DIAL_AGAIN, /* a unix socket whose backlog is full refuses at once: begin
                           again after a pause */
} RedlaneDial;

#define REDLANE_DIAL_PAUSE (2 * REDLANE_NS_PER_MS)

/* Starts to connect, with a new socket or, after AGAIN, the one that is there. */
RedlaneDial redlane_dial_begin_nogil(RedlaneTransport *transport,
                                     const RedlaneAddress *address,
                                     RedlaneFault *fault);
RedlaneDial redlane_dial_check_nogil(RedlaneTransport *transport, RedlaneFault *fault);

/* The address of a unix socket; -1 with a fault. */
int redlane_dial_unix_address(const char *path, RedlaneAddress *address,
                              RedlaneFault *fault);

#endif
