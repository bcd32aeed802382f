#include "wire/connection.h"

#include <stdlib.h>
#include <string.h>

#include "wire/dial.h"
#include "wire/handshake.h"
#include "wire/reader_bulk.h"

/* While a request is still being written, this much of the replies is received before
 * it is parsed; after that the server waits, and TCP holds it. */
#define UNPARSED_MOST (256 * 1024)

RedlaneConnection *
redlane_connection_new(void)
{
    RedlaneConnection *connection = calloc(1, sizeof(*connection));

    if (connection) {
        redlane_transport_init_plain(&connection->transport);
    }
    return connection;
}

void
redlane_connection_close(RedlaneConnection *connection, bool reset)
{
    connection->ready = false;
    redlane_transport_close_nogil(&connection->transport, reset);
    redlane_reader_close(&connection->reader);
}

void
redlane_connection_free(RedlaneConnection *connection)
{
    if (connection) {
        redlane_connection_close(connection, false);
        redlane_buffer_free(&connection->out);
        free(connection);
    }
}

int
redlane_connection_open_nogil(RedlaneConnection *connection,
                              const RedlaneSettings *settings, const RedlaneWait *wait,
                              RedlaneFault *fault)
{
    RedlaneWait within = redlane_wait_within(wait, settings->connect_timeout);
    RedlaneBuffer request = connection->out;
    int result;

    connection->out = (RedlaneBuffer){0};
    connection->sent = 0;
    result = redlane_dial_nogil(&connection->transport, settings, &within, fault);
    if (result == 0 &&
        redlane_reader_open(&connection->reader, REDLANE_HANDSHAKE_MOST) < 0) {
        redlane_fault_set(fault, REDLANE_FAULT_MEMORY, "out of memory");
        result = -1;
    }
    if (result == 0 && settings->scheme != REDLANE_SCHEME_REST) {
        result = redlane_handshake_nogil(connection, settings, &within, fault);
    }
    if (result == 0) {
        redlane_reader_limit(&connection->reader, settings->max_reply);
    }
    redlane_buffer_free(&connection->out);
    connection->out = request;
    connection->sent = 0;
    connection->ready = result == 0;
    connection->asked_run_id |= settings->scheme == REDLANE_SCHEME_REST; /* no other */
    if (result < 0) {
        redlane_connection_close(connection, true);
    }
    return result;
}

bool
redlane_connection_usable_nogil(RedlaneConnection *connection)
{
    return connection->ready && connection->transport.fd >= 0 &&
           connection->transport.ops->quiet(&connection->transport);
}

static int
fail_lost(RedlaneConnection *connection, ssize_t outcome, RedlaneFault *fault)
{
    redlane_fault_set(fault, REDLANE_FAULT_LOST, "%s",
                      outcome == REDLANE_IO_CLOSED
                          ? "the server closed the connection"
                          : redlane_transport_problem(&connection->transport));
    return -1;
}

int
redlane_connection_send_nogil(RedlaneConnection *connection, RedlaneFault *fault)
{
    RedlaneTransport *transport = &connection->transport;
    ssize_t moved =
        transport->ops->write(transport, connection->out.data + connection->sent,
                              connection->out.size - connection->sent);

    if (moved == REDLANE_IO_BLOCKED) {
        return 0;
    }
    if (moved < 0) {
        return fail_lost(connection, moved, fault);
    }
    connection->sent += (size_t)moved;
    return 1;
}

/* Receives what has come, or with `within` what comes in the next slice: 1, 0 when
 * nothing has, -1 with a fault. */
static int
pull(RedlaneConnection *connection, size_t wanted, bool within, RedlaneFault *fault)
{
    RedlaneTransport *transport = &connection->transport;
    size_t size;
    char *room = redlane_reader_room_nogil(&connection->reader, wanted, &size);
    ssize_t moved;

    if (!room) {
        redlane_fault_set(fault, REDLANE_FAULT_MEMORY, "out of memory");
        return -1;
    }
    moved = within ? transport->ops->read_within(transport, room, size)
                   : transport->ops->read(transport, room, size);
    if (moved == REDLANE_IO_BLOCKED) {
        return 0;
    }
    if (moved <= 0) {
        return fail_lost(connection, moved, fault);
    }
    redlane_reader_filled_nogil(&connection->reader, (size_t)moved);
    return 1;
}

int
redlane_connection_receive_nogil(RedlaneConnection *connection, RedlaneFault *fault)
{
    return pull(connection, 0, false, fault);
}

int
redlane_connection_receive_wanted_nogil(RedlaneConnection *connection, size_t wanted,
                                        RedlaneFault *fault)
{
    return pull(connection, wanted, false, fault);
}

/* A server that refuses a connection may say why before it closes: what it said can be
 * read though nothing can be written. */
static int
pull_last_words(RedlaneConnection *connection, RedlaneFault *fault)
{
    RedlaneFault last;
    int pulled = pull(connection, 0, false, &last);

    if (pulled < 0 && connection->transport.reason) {
        *fault = last; /* an alert says more than a broken pipe */
    }
    return pulled > 0 && redlane_reader_wanted_nogil(&connection->reader, fault) == 0
               ? 0
               : -1;
}

/* Whether a receive that waits for a slice would keep the deadline. */
static bool
has_a_slice(const RedlaneConnection *connection, const RedlaneWait *wait)
{
    return connection->transport.waits && wait->deadline - redlane_clock_coarse() >
                                              REDLANE_WAIT_SLICE + REDLANE_COARSE_TICK;
}

/* After a wait: signal handlers have run, and may have forked. */
static int
check_fork(RedlaneConnection *connection, RedlaneFault *fault)
{
    if (connection->transport.fd < 0) {
        redlane_fault_set(fault, REDLANE_FAULT_CLOSED, "the process forked");
        return -1;
    }
    return 0;
}

/* While bytes keep moving nothing waits: the deadline and the signal handlers get their
 * look here. */
static int
look_after(RedlaneConnection *connection, const RedlaneWait *wait, RedlaneFault *fault)
{
    int64_t now = redlane_clock_coarse();

    if (now - connection->looked_at < REDLANE_WAIT_SLICE) {
        return 0;
    }
    connection->looked_at = now;
    if (redlane_clock_passed(wait->deadline)) {
        redlane_fault_set(fault, REDLANE_FAULT_TIMEOUT, "timed out");
        return -1;
    }
    return redlane_wait_interrupted_nogil(wait, fault) < 0
               ? -1
               : check_fork(connection, fault);
}

/* Nothing could be done: waits, unless that was done already. */
static int
wait_for_transport(RedlaneConnection *connection, bool writing, bool waited,
                   const RedlaneWait *wait, RedlaneFault *fault)
{
    RedlaneTransport *transport = &connection->transport;
    short events = transport->wants_read;
    int result;

    if (waited) {
        result = redlane_wait_interrupted_nogil(wait, fault);
    }
    else {
        if (writing) {
            events = (short)(events | transport->wants_write);
        }
        result = redlane_wait_fd_nogil(wait, transport->fd, events, fault);
    }
    return result < 0 ? -1 : check_fork(connection, fault);
}

int
redlane_connection_turn_nogil(RedlaneConnection *connection, const RedlaneWait *wait,
                              RedlaneFault *fault)
{
    int64_t wanted = 1;

    for (;;) {
        bool writing = connection->sent < connection->out.size;
        int wrote = 0, read;
        bool within;

        if (look_after(connection, wait, fault) < 0) {
            return -1;
        }
        if (writing) {
            wrote = redlane_connection_send_nogil(connection, fault);
            if (wrote < 0) {
                return pull_last_words(connection, fault);
            }
            writing = connection->sent < connection->out.size;
        }
        within = !writing && has_a_slice(connection, wait);
        read = pull(connection, (size_t)wanted, within, fault);
        if (read < 0) {
            return -1;
        }
        if (read) {
            wanted = redlane_reader_wanted_nogil(&connection->reader, fault);
            if (wanted < 0) {
                return -1;
            }
            if (redlane_reader_announces_bulk(&connection->reader, wanted) ||
                redlane_reader_sink_is_full(&connection->reader)) {
                return 0;
            }
            if (wanted == 0 && (!writing || redlane_reader_unread(&connection->reader) >
                                                UNPARSED_MOST)) {
                return 0;
            }
            if (redlane_clock_passed(wait->deadline)) {
                redlane_fault_set(fault, REDLANE_FAULT_TIMEOUT, "timed out");
                return -1;
            }
        }
        else if (wrote == 0 || !writing) {
            if (wait_for_transport(connection, writing, within, wait, fault) < 0) {
                return -1;
            }
        }
    }
}
