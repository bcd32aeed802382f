/* How a loop's connection comes to stand: name, address, TLS, handshake, each step when
 * the descriptor is ready for it. The steps are those of dial.c, tls.c and handshake.c;
 * only who waits is another. GIL held; nothing here blocks. */
#include <poll.h>
#include <stdlib.h>

#include "core/clock.h"
#include "py/errors.h"
#include "wire/dial.h"
#include "wire/stream.h"
#include "wire/tls.h"

void
redlane_stream_opening_free(RedlaneStream *stream)
{
    RedlaneOpening *opening = stream->opening;

    stream->opening = NULL;
    if (opening) {
        redlane_lookup_release(opening->lookup);
        free(opening);
    }
}

/* Watches the connection for what its transport waits for. */
static int
watch_transport(RedlaneStream *stream, short events, RedlaneFault *fault)
{
    if (redlane_stream_watch(stream, stream->connection->transport.fd,
                             (events & POLLIN) != 0, (events & POLLOUT) != 0) < 0) {
        redlane_fault_set(fault, REDLANE_FAULT_CONNECT,
                          "the event loop cannot watch the connection");
        redlane_errors_put_off();
        return -1;
    }
    return 0;
}

/* --- the handshake --- */

/* 0 when the transport blocks, -1 with a fault; 1 when bytes came. */
static int
turn(RedlaneConnection *connection, RedlaneFault *fault)
{
    RedlaneFault sending;
    int received;

    while (connection->sent < connection->out.size) {
        int sent = redlane_connection_send_nogil(connection, &sending);

        if (sent < 0) {
            /* It may have said why. */
            received = redlane_connection_receive_nogil(connection, fault);
            if (received == 0) {
                *fault = sending;
                return -1;
            }
            return received;
        }
        if (sent == 0) {
            break;
        }
    }
    return redlane_connection_receive_nogil(connection, fault);
}

static int
greet_further(RedlaneStream *stream, RedlaneFault *fault)
{
    RedlaneConnection *connection = stream->connection;
    RedlaneHandshake *handshake = &stream->opening->handshake;

    for (;;) {
        int moved = turn(connection, fault), done;

        if (moved < 0) {
            return -1;
        }
        if (moved == 0) {
            bool writing = connection->sent < connection->out.size;

            return watch_transport(
                stream,
                (short)(connection->transport.wants_read |
                        (writing ? connection->transport.wants_write : 0)),
                fault);
        }
        done = redlane_handshake_step_nogil(connection, handshake, fault);
        if (done < 0) {
            return -1;
        }
        if (done) {
            redlane_handshake_end(connection, handshake, NULL);
            if (watch_transport(stream, POLLIN, fault) < 0) {
                return -1;
            }
            redlane_stream_stands(stream);
            return 0;
        }
    }
}

/* A relay needs no greeting: HTTP says who asks with each request. */
static int
reach_relay(RedlaneStream *stream, RedlaneFault *fault)
{
    RedlaneConnection *connection = stream->connection;

    if (redlane_relay_dial_nogil(stream->channel->settings->relay,
                                 &connection->transport, fault) < 0) {
        return -1;
    }
    if (redlane_reader_open(&connection->reader, REDLANE_HANDSHAKE_MOST) < 0) {
        redlane_fault_set(fault, REDLANE_FAULT_MEMORY, "out of memory");
        return -1;
    }
    if (watch_transport(stream, POLLIN, fault) < 0) {
        return -1;
    }
    connection->asked_run_id = true; /* there is no other server */
    redlane_stream_stands(stream);
    return 0;
}

static int
greet(RedlaneStream *stream, RedlaneFault *fault)
{
    RedlaneConnection *connection = stream->connection;

    if (redlane_reader_open(&connection->reader, REDLANE_HANDSHAKE_MOST) < 0) {
        redlane_fault_set(fault, REDLANE_FAULT_MEMORY, "out of memory");
        return -1;
    }
    stream->phase = REDLANE_STREAM_GREETS;
    if (redlane_handshake_begin_nogil(connection, stream->channel->settings,
                                      &stream->opening->handshake, fault) < 0) {
        return -1;
    }
    return greet_further(stream, fault);
}

/* --- below it --- */

static int
secure_further(RedlaneStream *stream, RedlaneFault *fault)
{
    RedlaneTransport *transport = &stream->connection->transport;
    int done = redlane_tls_step_nogil(transport, stream->channel->settings->tls, fault);

    if (done < 0) {
        return -1;
    }
    return done ? greet(stream, fault)
                : watch_transport(stream, transport->wants_read, fault);
}

static int
secure(RedlaneStream *stream, RedlaneFault *fault)
{
    const RedlaneSettings *settings = stream->channel->settings;

    if (!settings->tls) {
        return greet(stream, fault);
    }
    stream->phase = REDLANE_STREAM_SECURES;
    if (redlane_tls_begin_nogil(&stream->connection->transport, settings->tls,
                                settings->host, fault) < 0) {
        return -1;
    }
    return secure_further(stream, fault);
}

/* The address has its share of the time, which ends before that of all. */
static void
wait_for_address(RedlaneStream *stream, RedlaneStreamPhase phase)
{
    stream->phase = phase;
    if (redlane_loop_wake_at(stream->channel->loop, redlane_stream_open_due(stream)) <
        0) {
        redlane_errors_put_off(); /* the deadlines of its errands are armed */
    }
}

/* Tries the addresses from the next one on, each for its share of the time. */
static int
dial(RedlaneStream *stream, RedlaneFault *fault)
{
    RedlaneOpening *opening = stream->opening;
    RedlaneTransport *transport = &stream->connection->transport;

    while (opening->next < opening->addresses.count) {
        int64_t now = redlane_clock_now();

        if (transport->fd < 0) {
            opening->address_until =
                now + (opening->deadline - now) /
                          (int64_t)(opening->addresses.count - opening->next);
        }
        switch (redlane_dial_begin_nogil(
            transport, &opening->addresses.items[opening->next], fault)) {
        case REDLANE_DIAL_DONE:
            return secure(stream, fault);
        case REDLANE_DIAL_WAITS:
            wait_for_address(stream, REDLANE_STREAM_CONNECTS);
            return watch_transport(stream, POLLOUT, fault);
        case REDLANE_DIAL_AGAIN:
            wait_for_address(stream, REDLANE_STREAM_PAUSES);
            return 0;
        case REDLANE_DIAL_FAILED:
            opening->next++;
            break;
        }
    }
    return -1;
}

static int
connect_further(RedlaneStream *stream, int64_t now, RedlaneFault *fault)
{
    RedlaneTransport *transport = &stream->connection->transport;

    /* It may be closed here, and is not to be watched then. */
    (void)redlane_stream_watch(stream, -1, false, false);
    switch (redlane_dial_check_nogil(transport, fault)) {
    case REDLANE_DIAL_DONE:
        return secure(stream, fault);
    case REDLANE_DIAL_FAILED:
        break;
    default:
        if (now < stream->opening->address_until) {
            return watch_transport(stream, POLLOUT, fault);
        }
        redlane_transport_close_nogil(transport, true);
        redlane_fault_set(fault, REDLANE_FAULT_TIMEOUT, "timed out");
    }
    stream->opening->next++;
    return dial(stream, fault);
}

static int
resolve_further(RedlaneStream *stream, RedlaneFault *fault)
{
    RedlaneOpening *opening = stream->opening;
    int result = redlane_lookup_result(opening->lookup, &opening->addresses, fault);

    if (result <= 0) {
        return result;
    }
    (void)redlane_stream_watch(stream, -1, false, false);
    redlane_lookup_release(opening->lookup);
    opening->lookup = NULL;
    return dial(stream, fault);
}

static int
resolve(RedlaneStream *stream, RedlaneFault *fault)
{
    const RedlaneSettings *settings = stream->channel->settings;
    RedlaneOpening *opening = stream->opening;
    int result;

    if (settings->scheme == REDLANE_SCHEME_REST) {
        return reach_relay(stream, fault);
    }
    if (settings->scheme == REDLANE_SCHEME_UNIX) {
        opening->addresses.count = 1;
        if (redlane_dial_unix_address(settings->path, &opening->addresses.items[0],
                                      fault) < 0) {
            return -1;
        }
        return dial(stream, fault);
    }
    result = redlane_resolve_begin_nogil(settings->host, settings->port,
                                         &opening->lookup, &opening->addresses, fault);
    if (result != 0) {
        return result < 0 ? -1 : dial(stream, fault);
    }
    if (redlane_stream_watch(stream, redlane_lookup_descriptor(opening->lookup), true,
                             false) < 0) {
        redlane_fault_set(fault, REDLANE_FAULT_CONNECT,
                          "the event loop cannot watch the look-up of the name");
        redlane_errors_put_off();
        return -1;
    }
    return 0;
}

/* A step asks the loop for this and that, which may run anything: an end is put off
 * until it is done. */
static int
take_step(RedlaneStream *stream, int (*step)(RedlaneStream *, RedlaneFault *),
          RedlaneFault *fault)
{
    int result;

    stream->busy = true;
    result = step(stream, fault);
    stream->busy = false;
    if (result == 0 && stream->end_put_off) {
        *fault = stream->end_fault;
        return -1;
    }
    return result;
}

int
redlane_stream_open(RedlaneStream *stream, RedlaneFault *fault)
{
    stream->opening->deadline =
        redlane_clock_now() + stream->channel->settings->connect_timeout;
    return take_step(stream, resolve, fault);
}

int64_t
redlane_stream_open_due(const RedlaneStream *stream)
{
    const RedlaneOpening *opening = stream->opening;

    switch (stream->phase) {
    case REDLANE_STREAM_PAUSES:
        return redlane_clock_now() + REDLANE_DIAL_PAUSE;
    case REDLANE_STREAM_CONNECTS:
        return opening->address_until < opening->deadline ? opening->address_until
                                                          : opening->deadline;
    default:
        return opening->deadline;
    }
}

static int
advance(RedlaneStream *stream, RedlaneFault *fault)
{
    int64_t now = redlane_clock_now();

    if (now >= stream->opening->deadline) {
        redlane_fault_set(fault, REDLANE_FAULT_TIMEOUT, "%s",
                          stream->phase == REDLANE_STREAM_SECURES
                              ? "timed out in the TLS handshake; does the server speak "
                                "TLS on this port?"
                              : "timed out");
        return -1;
    }
    switch (stream->phase) {
    case REDLANE_STREAM_RESOLVES:
        return resolve_further(stream, fault);
    case REDLANE_STREAM_PAUSES:
        return dial(stream, fault);
    case REDLANE_STREAM_CONNECTS:
        return connect_further(stream, now, fault);
    case REDLANE_STREAM_SECURES:
        return secure_further(stream, fault);
    case REDLANE_STREAM_GREETS:
        return greet_further(stream, fault);
    case REDLANE_STREAM_READY:
    case REDLANE_STREAM_ENDED:
        break;
    }
    return 0;
}

int
redlane_stream_advance(RedlaneStream *stream, RedlaneFault *fault)
{
    return take_step(stream, advance, fault);
}
