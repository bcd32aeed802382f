/* The way to a server that is spoken to over HTTP: a thread of Python's, the relay, at
 * the other end of socket pairs.
 *
 *   connection ══ socket pair ══ relay ══ HTTP ══ server
 *        │                         ▲
 *        └── descriptor ── pair ───┘
 *
 * Towards us the relay speaks RESP2, so that whatever has a connection (threads, event
 * loops, probes, the journal's replay, subscriptions) is the same on HTTP. What fails
 * beyond it is told in error lines of its own: redlane_fault_of_relay in core/fault.h.
 *
 * A new connection hands the other end of its pair over through another; the relay
 * ends when that is closed and the last of its connections too. By the same pair it
 * says which TLS it has agreed on with the server. A forked child has
 * none until it is opened again: there is no thread.
 *
 * Lock: its own mutex, for one write of a few bytes. No Python, no GIL. */
#ifndef REDLANE_WIRE_RELAY_H
#define REDLANE_WIRE_RELAY_H

#include <stdbool.h>
#include <stddef.h>

#include "core/fault.h"
#include "wire/transport.h"

/* Of what the relay says about TLS, each time; behind the text there are NULs. */
#define REDLANE_RELAY_TLS_SIZE ((size_t)64)

typedef struct RedlaneRelay RedlaneRelay;

/* One that is not open; NULL when memory is exhausted. */
RedlaneRelay *redlane_relay_new(void);
void redlane_relay_free(RedlaneRelay *relay); /* or NULL; closes it */

bool redlane_relay_is_open(RedlaneRelay *relay);

/* The relay's end, the caller's, from which descriptors come (SCM_RIGHTS, one beside
 * each byte) until end of file; or -1 with errno. */
int redlane_relay_open(RedlaneRelay *relay);
void redlane_relay_close(RedlaneRelay *relay);

/* What the relay last said its newest handshake had agreed on, such as "TLSv1.3
 * TLS_AES_256_GCM_SHA384"; empty before the first. */
void redlane_relay_read_tls(RedlaneRelay *relay, char text[REDLANE_RELAY_TLS_SIZE]);

/* Gives the transport one end of a pair, the relay the other. 0, or -1 with a fault. */
int redlane_relay_dial_nogil(RedlaneRelay *relay, RedlaneTransport *transport,
                             RedlaneFault *fault);

#endif
