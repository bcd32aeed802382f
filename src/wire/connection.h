/* One connection: a transport, what is still to be sent, the reply reader, and what the
 * handshake learned. One thread at a time; whoever has it taken from the pool (or made
 * it) owns it.
 *
 *   encode ──▶ out [ sent | to send )  ──▶ transport ──▶ reader ──▶ replies
 *
 * All but redlane_connection_close is free of the GIL; close needs it when a reply in
 * Python objects may be half built. */
#ifndef REDLANE_WIRE_CONNECTION_H
#define REDLANE_WIRE_CONNECTION_H

#include <stdbool.h>
#include <stdint.h>

#include "core/buffer.h"
#include "wire/reader.h"
#include "wire/settings.h"
#include "wire/transport.h"
#include "wire/wait.h"

#define REDLANE_SERVER_VERSION_SIZE 32
#define REDLANE_RUN_ID_SIZE 48 /* 40 hex digits */

/* A reply of the handshake at most, whatever the limit for others is. */
#define REDLANE_HANDSHAKE_MOST (64 * 1024)

typedef struct RedlaneConnection RedlaneConnection;

struct RedlaneConnection {
    RedlaneTransport transport;
    RedlaneReader reader;
    RedlaneBuffer out;   /* the request, kept until it is answered */
    size_t sent;         /* bytes of out that are written */
    int64_t looked_at;   /* when signal handlers last had their turn; coarse clock */
    int64_t server_id;   /* CLIENT ID, or 0 */
    unsigned generation; /* of the pool it belongs to */
    bool ready;          /* open, and the handshake is done */
    bool asked_run_id;   /* by the handshake, as the settings wanted it */
    char run_id[REDLANE_RUN_ID_SIZE]; /* "" where the server did not say it */
    char server_version[REDLANE_SERVER_VERSION_SIZE]; /* "7.0.15", or "" */
    RedlaneConnection *next; /* in the pool's stack of idle ones */
};

/* One that is not open; NULL when memory is exhausted. */
RedlaneConnection *redlane_connection_new(void);

/* Closes and frees it; NULL is allowed. */
void redlane_connection_free(RedlaneConnection *connection);

/* Connects and shakes hands within the wait's deadline and the settings' time-out for
 * connecting. 0, or -1 with a fault and the connection closed. `out` stays untouched:
 * a request that waits there can be sent next. */
int redlane_connection_open_nogil(RedlaneConnection *connection,
                                  const RedlaneSettings *settings,
                                  const RedlaneWait *wait, RedlaneFault *fault);

/* Asks for a PONG. 0, or -1 with a fault (an error line is REDLANE_FAULT_REPLY) and the
 * connection closed. */
int redlane_connection_ping_nogil(RedlaneConnection *connection,
                                  const RedlaneWait *wait, RedlaneFault *fault);

/* Closes it, with a reset unless it is at rest. */
void redlane_connection_close(RedlaneConnection *connection, bool reset);

/* True when it is open and nothing has come that nobody asked for. */
bool redlane_connection_usable_nogil(RedlaneConnection *connection);

/* Turns it until parsing is worth while: writes what is to be sent, receives. 0, or -1
 * with a fault (LOST, TIMEOUT, PROTOCOL, PYTHON, CLOSED, MEMORY). */
int redlane_connection_turn_nogil(RedlaneConnection *connection,
                                  const RedlaneWait *wait, RedlaneFault *fault);

/* For one that waits by itself: writes some of what is to be sent (there is some), or
 * receives some of what has come. 1 when bytes moved, 0 when the transport blocks, -1
 * with a fault. */
int redlane_connection_send_nogil(RedlaneConnection *connection, RedlaneFault *fault);
int redlane_connection_receive_nogil(RedlaneConnection *connection,
                                     RedlaneFault *fault);

/* The same with room for what redlane_reader_wanted_nogil says. */
int redlane_connection_receive_wanted_nogil(RedlaneConnection *connection,
                                            size_t wanted, RedlaneFault *fault);

#endif
