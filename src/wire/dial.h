/* Opening a socket, or a TLS session, to the server that settings name. */
#ifndef REDLANE_WIRE_DIAL_H
#define REDLANE_WIRE_DIAL_H

#include "wire/settings.h"
#include "wire/transport.h"
#include "wire/wait.h"

/* Connects a transport that is not open: every address in turn, each with its share of
 * the time that is left. 0, or -1 with a fault (CONNECT, TIMEOUT, PYTHON, MEMORY,
 * CLOSED) and the transport not open. */
int redlane_dial_nogil(RedlaneTransport *transport, const RedlaneSettings *settings,
                       const RedlaneWait *wait, RedlaneFault *fault);

#endif
