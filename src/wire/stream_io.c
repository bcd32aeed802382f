/* Requests out and replies in, on a connection that stands. GIL held throughout.
 *
 * Whatever takes a reply may run anything, this stream's own end included: so nothing
 * of it is remembered across the call, and the reader is not touched once it has ended.
 */
#include <poll.h>
#include <string.h>

#include "core/clock.h"
#include "py/errors.h"
#include "py/state.h"
#include "wire/encode.h"
#include "wire/reply_object.h"
#include "wire/stream.h"

/* So much is encoded ahead of the socket; what more is asked for waits as it is. */
#define UNSENT_MOST (256 * 1024)
/* A request buffer larger than this is not kept. */
#define KEEP_REQUEST (64 * 1024)
/* A receive of less has brought all the bytes that there were. */
#define RECEIVE_FULL (16 * 1024)
/* Receives in a row before the loop's others get their turn. */
#define RECEIVES_MOST 64
/* A server that was silent for longer, while its reply is awaited, is looked at before
 * it is told more: a look costs half a microsecond. */
#define SILENCE (10 * REDLANE_NS_PER_MS)

/* --- replies --- */

void
redlane_stream_pop(RedlaneStream *stream)
{
    while (stream->head != stream->unsent &&
           redlane_stream_entry(stream, stream->head)->left == 0) {
        stream->head++;
    }
}

/* How the reader is to take the replies of the oldest entry. */
static void
prepare_reader(RedlaneStream *stream, const RedlaneEntry *entry)
{
    RedlaneReaderContext *context = &stream->context;

    context->transaction = entry->transaction;
    context->decode = entry->decode;
    stream->connection->reader.takes_bulks = !entry->decode;
    if (unlikely(context->elements != entry->elements)) {
        context->elements = entry->elements;
        redlane_reader_build_with(&stream->connection->reader,
                                  &redlane_reply_object_functions, context);
    }
}

/* Hands a reply to whoever awaits it. */
static void
hand_out(RedlaneStream *stream, PyObject *STEALS reply)
{
    RedlaneEntry *entry = redlane_stream_entry(stream, stream->head);
    RedlaneErrand *errand = entry->errand;

    entry->left--;
    if (unlikely(!errand)) {
        redlane_stream_pop(stream);
        Py_DECREF(reply);
        return;
    }
    errand->replies[errand->got++] = reply;
    if (entry->left == 0) {
        entry->errand = NULL;
        redlane_stream_pop(stream);
        stream->live--;
        errand->run_id = stream->connection->run_id;
        errand->over(errand, 0, NULL);
    }
}

/* One step of the reader: 1 with a reply, 0 when bytes are missing, -1 with a fault. */
static int
parse(RedlaneStream *stream, PyObject **reply, RedlaneFault *fault)
{
    RedlaneReader *reader = &stream->connection->reader;
    void *parsed = NULL;
    int result;

    prepare_reader(stream, redlane_stream_entry(stream, stream->head));
    stream->busy = true;
    result = redlane_reader_next(reader, &parsed, fault);
    if (result > 0) {
        *reply = redlane_reply_object_settle(&stream->context, parsed);
    }
    else if (result == 0 &&
             redlane_reply_object_receive(reader, &stream->context) < 0) {
        redlane_fault_set(fault, REDLANE_FAULT_MEMORY, "out of memory");
        result = -1;
    }
    stream->busy = false;
    if (result < 0) {
        PyErr_Clear(); /* MemoryError: the fault says it */
    }
    return result;
}

/* Takes all replies that are complete. -1 with a fault. */
static int
take_replies(RedlaneStream *stream, RedlaneFault *fault)
{
    RedlaneReader *reader = &stream->connection->reader;

    while (stream->phase == REDLANE_STREAM_READY) {
        PyObject *reply = NULL;
        int parsed;

        redlane_stream_pop(stream);
        if (stream->head == stream->unsent) {
            if (redlane_reader_unread(reader) > 0) {
                redlane_fault_set(fault, REDLANE_FAULT_PROTOCOL,
                                  "the server sent what nobody asked for");
                return -1;
            }
            return 0;
        }
        parsed = parse(stream, &reply, fault);
        if (parsed > 0) {
            hand_out(stream, reply);
        }
        if (unlikely(stream->end_put_off)) {
            *fault = stream->end_fault;
            return -1;
        }
        if (parsed <= 0) {
            return parsed;
        }
    }
    return 0;
}

/* Where all that came was complete: gives back the room that a large reply took. */
static void
trim(RedlaneStream *stream)
{
    RedlaneReader *reader = &stream->connection->reader;

    if (reader->received == reader->completed) {
        redlane_reader_trim_nogil(reader, reader->received - stream->taken);
        stream->taken = reader->received;
    }
}

/* Receives what has come, and hands it out. -1 with a fault. */
static int
receive(RedlaneStream *stream, RedlaneFault *fault)
{
    RedlaneConnection *connection = stream->connection;
    RedlaneReader *reader = &connection->reader;

    for (int i = 0; i < RECEIVES_MOST; i++) {
        uint64_t before = reader->received;
        int64_t wanted = redlane_reader_unread(reader) || reader->sink.data
                             ? redlane_reader_wanted_nogil(reader, fault)
                             : 0;
        int got = wanted < 0 ? -1
                             : redlane_connection_receive_wanted_nogil(
                                   connection, (size_t)wanted, fault);

        if (got <= 0) {
            return got;
        }
        stream->received_at = redlane_clock_coarse();
        if (take_replies(stream, fault) < 0) {
            return -1;
        }
        if (stream->phase != REDLANE_STREAM_READY) {
            return 0;
        }
        trim(stream);
        /* Behind the bytes may stand a reset, of which libuv, and so uvloop, tells but
         * once: who awaits more would hear nothing until the deadline. */
        if (!connection->transport.session && stream->head == stream->unsent &&
            reader->received - before < RECEIVE_FULL) {
            return 0;
        }
    }
    /* A session may hold more, of which the descriptor says nothing; so may what came
     * before a reset. */
    if (redlane_loop_call_soon(stream->channel->loop, stream->on_event) < 0) {
        redlane_errors_put_off();
        redlane_fault_set(fault, REDLANE_FAULT_MEMORY, "out of memory");
        return -1;
    }
    return 0;
}

/* --- requests --- */

static size_t
replies_of(const RedlaneErrand *errand)
{
    return errand->count + (errand->transaction ? 2 : 0);
}

/* Encodes what waits, up to the bound. */
static void
encode(RedlaneStream *stream)
{
    RedlaneConnection *connection = stream->connection;
    RedlaneBuffer *out = &connection->out;

    if (connection->sent > UNSENT_MOST && connection->sent > out->size / 2) {
        out->size -= connection->sent;
        memmove(out->data, out->data + connection->sent, out->size);
        connection->sent = 0;
    }
    while (stream->unsent != stream->tail &&
           out->size - connection->sent < UNSENT_MOST) {
        size_t index = stream->unsent;
        RedlaneEntry *entry = redlane_stream_entry(stream, index);
        RedlaneErrand *errand = entry->errand;
        RedlaneFault fault;

        stream->unsent++;
        if (!errand) { /* its deadline has passed: it leaves no trace */
            continue;
        }
        if (unlikely(!entry->ready && !errand->wanted(errand))) {
            redlane_stream_entry(stream, index)->errand = NULL;
            redlane_fault_set(&fault, REDLANE_FAULT_CLOSED, "cancelled");
            redlane_stream_fail_errand(stream, errand, false, &fault);
            if (stream->phase != REDLANE_STREAM_READY) {
                return;
            }
            continue;
        }
        entry = redlane_stream_entry(stream, index);
        if (likely(redlane_encode_request(out, errand->vectors, errand->count,
                                          errand->transaction) == 0)) {
            entry->left = replies_of(errand);
            entry->received = connection->reader.received;
            continue;
        }
        entry->errand = NULL;
        redlane_fault_set(&fault, REDLANE_FAULT_MEMORY, "out of memory");
        redlane_stream_fail_errand(stream, errand, false, &fault);
        if (stream->phase != REDLANE_STREAM_READY) {
            return;
        }
    }
}

static void
forget_sent(RedlaneConnection *connection)
{
    connection->out.size = connection->sent = 0;
    if (connection->out.capacity > KEEP_REQUEST) {
        redlane_buffer_free(&connection->out);
    }
}

/* Sends what waits, until the socket is full. -1 with a fault. */
static int
transmit(RedlaneStream *stream, RedlaneFault *fault)
{
    RedlaneConnection *connection = stream->connection;

    for (;;) {
        int sent;

        encode(stream);
        if (stream->phase != REDLANE_STREAM_READY) {
            return 0;
        }
        if (connection->sent == connection->out.size) {
            forget_sent(connection);
            return 0;
        }
        sent = redlane_connection_send_nogil(connection, fault);
        if (sent < 0) {
            RedlaneFault last;

            /* A server that closes may have said why. */
            if (receive(stream, &last) < 0 &&
                (last.kind == REDLANE_FAULT_PROTOCOL || connection->transport.reason)) {
                *fault = last;
            }
            return stream->phase == REDLANE_STREAM_READY ? -1 : 0;
        }
        if (sent == 0) {
            return 0;
        }
    }
}

/* Has the loop watch for what the transport waits for. */
static int
watch(RedlaneStream *stream, RedlaneFault *fault)
{
    const RedlaneConnection *connection = stream->connection;
    const RedlaneTransport *transport = &connection->transport;
    short events = transport->wants_read;

    if (connection->sent < connection->out.size) {
        events = (short)(events | transport->wants_write);
    }
    if (likely(!(events & POLLOUT) && stream->reads && !stream->writes)) {
        return 0;
    }
    if (redlane_stream_watch(stream, transport->fd, true, (events & POLLOUT) != 0) <
        0) {
        redlane_errors_put_off();
        redlane_fault_set(fault, REDLANE_FAULT_LOST,
                          "the event loop cannot watch the connection");
        return -1;
    }
    return 0;
}

void
redlane_stream_flush(RedlaneStream *stream)
{
    RedlaneFault fault;
    int result;

    stream->working = true;
    result = transmit(stream, &fault);
    if (result == 0 && stream->phase == REDLANE_STREAM_READY) {
        result = watch(stream, &fault);
    }
    stream->working = false;
    if (result < 0) {
        redlane_stream_end(stream, &fault);
    }
}

/* A loop that stood still, in a call that blocks, has not heard that a connection was
 * closed meanwhile. What is written to that is lost, and nobody knows whether it was
 * executed. */
bool
redlane_stream_is_doubtful(RedlaneStream *stream)
{
    redlane_stream_pop(stream);
    return (stream->head == stream->unsent ||
            redlane_clock_coarse() - stream->received_at > SILENCE) &&
           !redlane_connection_usable_nogil(stream->connection);
}

/* --- the loop's callbacks --- */

/* After each: one that takes no more ends with what it had to take. A child made by
 * fork has no connection. */
static void
end_if_due(RedlaneStream *stream)
{
    RedlaneFault fault;

    if (stream->phase == REDLANE_STREAM_READY && stream->retired && stream->live == 0) {
        redlane_fault_set(&fault, REDLANE_FAULT_CLOSED, "closed");
        redlane_stream_end(stream, &fault);
    }
}

/* Hears the server, then sends what waits. -1 with a fault. */
static int
receive_and_send(RedlaneStream *stream, RedlaneFault *fault)
{
    const RedlaneConnection *connection = stream->connection;
    int result;

    stream->working = true;
    result = receive(stream, fault);
    if (result == 0 && stream->phase == REDLANE_STREAM_READY &&
        (connection->sent < connection->out.size || stream->writes)) {
        result = transmit(stream, fault);
    }
    if (result == 0 && stream->phase == REDLANE_STREAM_READY) {
        result = watch(stream, fault);
    }
    stream->working = false;
    return result;
}

PyObject *
redlane_stream_on_flush(PyObject *object, PyObject *unused)
{
    RedlaneStream *stream = (RedlaneStream *)object;
    RedlaneFault fault;

    (void)unused;
    stream->flushing = false;
    stream->crowded = stream->tail - stream->head > 1;
    if (stream->phase == REDLANE_STREAM_READY) {
        Py_INCREF(stream);
        if (unlikely(redlane_stream_is_doubtful(stream)) &&
            receive_and_send(stream, &fault) < 0) {
            redlane_stream_end(stream, &fault);
        }
        if (stream->phase == REDLANE_STREAM_READY) {
            redlane_stream_flush(stream);
        }
        end_if_due(stream);
        Py_DECREF(stream);
    }
    Py_RETURN_NONE;
}

PyObject *
redlane_stream_on_event(PyObject *object, PyObject *unused)
{
    RedlaneStream *stream = (RedlaneStream *)object;
    RedlaneFault fault;
    int result = 0;

    (void)unused;
    Py_INCREF(stream);
    if (stream->phase < REDLANE_STREAM_READY) {
        result = redlane_stream_advance(stream, &fault);
    }
    else if (stream->phase == REDLANE_STREAM_READY) {
        result = receive_and_send(stream, &fault);
    }
    if (result < 0) {
        redlane_stream_end(stream, &fault);
    }
    end_if_due(stream);
    Py_DECREF(stream);
    Py_RETURN_NONE;
}
