/* Is the server there, and does it answer? For the background thread: no Python. */
#ifndef REDLANE_WIRE_PROBE_H
#define REDLANE_WIRE_PROBE_H

#include "core/fault.h"
#include "wire/settings.h"

/* A fresh connection, the handshake, a PONG, closed again; all until `deadline`
 * (CLOCK_MONOTONIC ns). 0, or -1 with a fault: an error line, as that of a server that
 * loads its data set, is REDLANE_FAULT_REPLY with its text. */
int redlane_wire_probe_nogil(const RedlaneSettings *settings, int64_t deadline,
                             RedlaneFault *fault);

#endif
