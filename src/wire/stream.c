/* The life of a loop's connection and what awaits its replies. GIL held throughout: no
 * call here blocks, so giving it up would cost more than it gains. */
#include "wire/stream.h"

#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "py/errors.h"
#include "py/state.h"
#include "wire/reply_object.h"

#define FIRST_CAPACITY 16

/* --- what the loop watches --- */

static void
unwatch(RedlaneStream *stream, const char *name, bool *watched)
{
    if (*watched) {
        *watched = false;
        if (redlane_loop_watch(stream->channel->loop, name, stream->watched, NULL) <
            0) {
            redlane_errors_put_off(); /* the loop is closed: it watches nothing */
        }
    }
}

static int
watch(RedlaneStream *stream, const char *name, bool *watched)
{
    if (*watched) {
        return 0;
    }
    if (redlane_loop_watch(stream->channel->loop, name, stream->watched,
                           stream->on_event) < 0) {
        return -1;
    }
    *watched = true;
    return 0;
}

static int
change_watch(RedlaneStream *stream, int fd, bool reads, bool writes)
{
    if (stream->watched != fd || !reads) {
        unwatch(stream, "remove_reader", &stream->reads);
    }
    if (stream->watched != fd || !writes) {
        unwatch(stream, "remove_writer", &stream->writes);
    }
    stream->watched = fd;
    if ((reads && watch(stream, "add_reader", &stream->reads) < 0) ||
        (writes && watch(stream, "add_writer", &stream->writes) < 0)) {
        return -1;
    }
    return 0;
}

int
redlane_stream_watch(RedlaneStream *stream, int fd, bool reads, bool writes)
{
    bool busy = stream->busy;
    int result;

    stream->busy = true; /* the loop's methods may run anything */
    result = change_watch(stream, fd, reads, writes);
    stream->busy = busy;
    if (unlikely(stream->end_put_off && !busy)) {
        redlane_stream_end(stream, &stream->end_fault);
    }
    return result;
}

/* --- the FIFO --- */

static int
grow_ring(RedlaneStream *stream)
{
    size_t capacity = stream->capacity ? 2 * stream->capacity : FIRST_CAPACITY;
    RedlaneEntry *ring = PyMem_Calloc(capacity, sizeof(*ring));

    if (!ring) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = stream->head; i != stream->tail; i++) {
        ring[i & (capacity - 1)] = *redlane_stream_entry(stream, i);
    }
    PyMem_Free(stream->ring);
    stream->ring = ring;
    stream->capacity = capacity;
    return 0;
}

/* Whether what is asked for now may go out now: not while a socket is full, nor inside
 * of what sends or receives already. Requests leave in the order in which they stand.
 */
static bool
is_open(const RedlaneStream *stream)
{
    const RedlaneConnection *connection = stream->connection;

    return stream->phase == REDLANE_STREAM_READY && !stream->busy && !stream->working &&
           connection->sent == connection->out.size;
}

/* Over HTTP all requests of a turn share one, whose price is far above a turn's. */
static bool
waits_for_turn(const RedlaneStream *stream)
{
    return stream->channel && stream->channel->settings->scheme == REDLANE_SCHEME_REST;
}

/* Whether the next request seems to be alone in its turn, and leaves at once: the
 * server would wait for the turn's end. Not where the server has said something, which
 * the loop would see first: a connection that it closed, or an answer that nobody asked
 * for. */
static bool
leaves_at_once(const RedlaneStream *stream)
{
    return !waits_for_turn(stream) && !stream->crowded && stream->live == 0 &&
           stream->unsent == stream->tail && is_open(stream) &&
           redlane_connection_usable_nogil(stream->connection);
}

/* Whether so much waits that it does not wait for the turn's end. */
static bool
is_due_early(RedlaneStream *stream)
{
    return stream->tail - stream->unsent >= REDLANE_STREAM_EARLY &&
           !waits_for_turn(stream) && is_open(stream) &&
           !redlane_stream_is_doubtful(stream);
}

/* Has the loop flush in this turn. It may run anything. RAISES_NEG */
static int
book_flush(RedlaneStream *stream)
{
    if (stream->phase == REDLANE_STREAM_READY && !stream->flushing) {
        if (redlane_loop_call_soon(stream->channel->loop, stream->on_flush) < 0) {
            return -1;
        }
        stream->flushing = true;
    }
    return 0;
}

/* RAISES_NEG */
static int
append(RedlaneStream *stream, RedlaneErrand *errand, bool at_once)
{
    if (stream->tail - stream->head == stream->capacity && grow_ring(stream) < 0) {
        return -1;
    }
    errand->got = 0;
    errand->started = redlane_clock_coarse();
    *redlane_stream_entry(stream, stream->tail) = (RedlaneEntry){
        .errand = errand,
        .elements = errand->elements,
        .transaction = errand->transaction,
        .decode = errand->decode,
        .ready = stream->phase == REDLANE_STREAM_READY,
    };
    stream->tail++;
    stream->live++;
    if (at_once || unlikely(is_due_early(stream))) {
        redlane_stream_flush(stream);
    }
    return 0;
}

int
redlane_stream_push(RedlaneStream *stream, RedlaneErrand *errand)
{
    RedlaneChannel *channel = stream->channel;
    bool at_once;
    int result;

    Py_INCREF(stream);
    result = redlane_loop_wake_at(channel->loop, errand->deadline); /* runs anything */
    at_once = result == 0 && leaves_at_once(stream);
    if (result == 0 && !at_once) {
        result = book_flush(stream);
    }
    if (likely(result == 0)) {
        result = likely(stream->phase != REDLANE_STREAM_ENDED)
                     ? append(stream, errand, at_once)
                     : redlane_channel_send(channel, errand); /* it ended meanwhile */
    }
    Py_DECREF(stream);
    return result;
}

void
redlane_stream_fail_errand(RedlaneStream *stream, RedlaneErrand *errand, bool sent,
                           const RedlaneFault *fault)
{
    stream->live--;
    for (size_t i = 0; i < errand->got; i++) {
        Py_CLEAR(errand->replies[i]);
    }
    errand->got = 0;
    errand->unsure = errand->unsure || sent;
    errand->over(errand, -1, fault);
}

/* --- the end --- */

/* A connection at rest may have been closed by the server just before it was used
 * again, or be unusable for what came on it. Sending once more is safe when nothing was
 * sent, or when nothing was answered and the request changes nothing. */
static bool
may_repeat(const RedlaneEntry *entry, bool sent, uint64_t received,
           const RedlaneFault *fault)
{
    if (!entry->ready || entry->errand->repeated) {
        return false;
    }
    if (!sent) {
        return fault->kind == REDLANE_FAULT_LOST ||
               fault->kind == REDLANE_FAULT_PROTOCOL;
    }
    return fault->kind == REDLANE_FAULT_LOST && entry->errand->repeatable &&
           entry->received == received;
}

/* What was awaited, once the connection is closed. */
static void
settle(RedlaneStream *stream, RedlaneChannel *channel, uint64_t received,
       const RedlaneFault *fault)
{
    RedlaneEntry *ring = stream->ring;
    size_t mask = stream->capacity - 1;
    size_t head = stream->head, unsent = stream->unsent, tail = stream->tail;

    stream->ring = NULL;
    stream->capacity = stream->head = stream->unsent = stream->tail = 0;
    for (size_t i = head; i != tail; i++) {
        const RedlaneEntry *entry = &ring[i & mask];
        RedlaneErrand *errand = entry->errand;
        bool sent = i - head < unsent - head;

        if (!errand) {
            continue;
        }
        if (may_repeat(entry, sent, received, fault) && !channel->closing) {
            errand->repeated = true;
            errand->unsure = errand->unsure || sent;
            stream->live--;
            if (redlane_channel_send(channel, errand) == 0) {
                continue;
            }
            stream->live++;
        }
        errand->progress = false;
        redlane_stream_fail_errand(stream, errand, sent && entry->left > 0, fault);
    }
    PyMem_Free(ring);
}

/* What belongs to a reply that will not be complete. */
static void
clear_context(RedlaneStream *stream)
{
    PyObject *failure = stream->context.failure, *bulk = stream->context.bulk;

    stream->context.failure = stream->context.bulk = NULL;
    Py_XDECREF(failure);
    Py_XDECREF(bulk);
}

/* Takes it out of the channel's list, whose reference is the caller's then. */
static void
leave_channel(RedlaneStream *stream)
{
    RedlaneChannel *channel = stream->channel;

    if (channel->current == stream) {
        channel->current = NULL;
    }
    if (channel->ticked == stream) {
        channel->ticked = stream->next;
    }
    if (channel->retiring == stream) {
        channel->retiring = stream->next;
    }
    *stream->place = stream->next;
    if (stream->next) {
        stream->next->place = stream->place;
    }
    stream->place = NULL;
}

void
redlane_stream_end(RedlaneStream *stream, const RedlaneFault *why)
{
    RedlaneChannel *channel = stream->channel;
    RedlaneFault fault = *why;
    uint64_t received = stream->connection->reader.received;
    bool rests;

    if (stream->phase == REDLANE_STREAM_ENDED) {
        return;
    }
    if (stream->busy) {
        stream->end_put_off = true;
        stream->end_fault = fault;
        return;
    }
    rests = stream->phase == REDLANE_STREAM_READY && stream->head == stream->tail &&
            fault.kind == REDLANE_FAULT_CLOSED;
    if (stream->phase == REDLANE_STREAM_GREETS) {
        redlane_handshake_end(stream->connection, &stream->opening->handshake, &fault);
    }
    stream->phase = REDLANE_STREAM_ENDED; /* once: what follows may run anything */
    leave_channel(stream);
    (void)redlane_stream_watch(stream, -1, false, false);
    redlane_stream_opening_free(stream);
    redlane_connection_close(stream->connection, !rests);
    clear_context(stream);
    settle(stream, channel, received, &fault);
    stream->channel = NULL;
    Py_CLEAR(stream->on_event);
    Py_CLEAR(stream->on_flush);
    if (channel->closing && !channel->streams) {
        (void)redlane_loop_wake_at(channel->loop, 0);
        redlane_errors_put_off();
    }
    Py_DECREF(stream);
}

/* Whether somebody still awaits what it has: what blocks would else take a value that
 * nobody gets. */
static bool
is_wanted(const RedlaneStream *stream)
{
    for (size_t i = stream->head;
         stream->phase != REDLANE_STREAM_ENDED && i != stream->tail; i++) {
        RedlaneErrand *errand = redlane_stream_entry(stream, i)->errand;

        if (errand && errand->wanted(errand)) {
            return true;
        }
    }
    return false;
}

void
redlane_stream_retire(RedlaneStream *stream)
{
    RedlaneFault fault;

    Py_INCREF(stream);
    if (stream->channel->current == stream) {
        stream->channel->current = NULL;
    }
    stream->retired = true;
    /* A connection that is still being made for nobody would send nothing. */
    if (stream->live == 0 ||
        (stream->phase < REDLANE_STREAM_READY && !is_wanted(stream))) {
        redlane_fault_set(&fault, REDLANE_FAULT_CLOSED, "closed");
        redlane_stream_end(stream, &fault);
    }
    Py_DECREF(stream);
}

void
redlane_stream_drop(RedlaneStream *stream)
{
    if (stream->phase == REDLANE_STREAM_GREETS) {
        redlane_handshake_end(stream->connection, &stream->opening->handshake, NULL);
    }
    stream->phase = REDLANE_STREAM_ENDED;
    leave_channel(stream);
    stream->channel = NULL;
    redlane_stream_opening_free(stream);
    redlane_connection_close(stream->connection, true);
    clear_context(stream);
    for (size_t i = stream->head; i != stream->tail; i++) {
        RedlaneErrand *errand = redlane_stream_entry(stream, i)->errand;

        if (errand) {
            for (size_t k = 0; k < errand->got; k++) {
                Py_CLEAR(errand->replies[k]);
            }
            errand->drop(errand);
        }
    }
    stream->head = stream->tail = stream->live = 0;
    Py_CLEAR(stream->on_event);
    Py_CLEAR(stream->on_flush);
    Py_DECREF(stream);
}

/* --- deadlines --- */

/* Whether the server was still at it when the deadline came. What others send says
 * nothing, unless this is what is being sent. */
static bool
makes_progress(const RedlaneStream *stream, const RedlaneErrand *errand)
{
    const RedlaneConnection *connection = stream->connection;
    int64_t since = errand->deadline - (errand->deadline - errand->started) / 4;

    return stream->received_at > since || (connection->sent < connection->out.size &&
                                           connection->transport.moved_at > since);
}

static void
expire(RedlaneStream *stream, size_t index)
{
    RedlaneEntry *entry = redlane_stream_entry(stream, index);
    RedlaneErrand *errand = entry->errand;
    bool sent = index - stream->head < stream->unsent - stream->head;
    RedlaneFault fault;

    entry->errand = NULL;
    entry->late = sent;
    errand->progress = sent && makes_progress(stream, errand);
    redlane_fault_set(&fault, REDLANE_FAULT_TIMEOUT, "timed out");
    redlane_stream_fail_errand(stream, errand, sent, &fault);
}

/* After its deadlines: one on which the oldest reply is late takes no more. */
static void
judge_late(RedlaneStream *stream)
{
    RedlaneFault fault;

    redlane_fault_set(&fault, REDLANE_FAULT_TIMEOUT, "timed out");
    if (stream->phase < REDLANE_STREAM_READY) {
        if (stream->live == 0) {
            redlane_stream_end(stream, &fault);
        }
        return;
    }
    redlane_stream_pop(stream);
    if (stream->head != stream->unsent &&
        redlane_stream_entry(stream, stream->head)->late) {
        if (stream->channel->current == stream) {
            stream->channel->current = NULL;
        }
        stream->retired = true;
    }
    if (stream->retired && stream->live == 0) {
        redlane_stream_end(stream, &fault);
    }
}

int64_t
redlane_stream_tick(RedlaneStream *stream, int64_t now)
{
    int64_t next = REDLANE_NEVER;
    RedlaneFault fault;

    Py_INCREF(stream);
    if (stream->alone && !is_wanted(stream)) {
        redlane_fault_set(&fault, REDLANE_FAULT_CLOSED, "cancelled");
        redlane_stream_end(stream, &fault);
    }
    if (stream->phase < REDLANE_STREAM_READY && stream->opening &&
        (stream->phase == REDLANE_STREAM_PAUSES ||
         now >= redlane_stream_open_due(stream)) &&
        redlane_stream_advance(stream, &fault) < 0) {
        redlane_stream_end(stream, &fault);
    }
    for (size_t i = stream->head;
         stream->phase != REDLANE_STREAM_ENDED && i != stream->tail; i++) {
        const RedlaneErrand *errand = redlane_stream_entry(stream, i)->errand;

        if (errand && errand->deadline <= now) {
            expire(stream, i);
        }
    }
    if (stream->phase != REDLANE_STREAM_ENDED) {
        judge_late(stream);
    }
    if (stream->phase < REDLANE_STREAM_READY) {
        next = redlane_stream_open_due(stream);
    }
    if (stream->phase != REDLANE_STREAM_ENDED && stream->alone &&
        now + REDLANE_STREAM_LOOK < next) {
        next = now + REDLANE_STREAM_LOOK;
    }
    for (size_t i = stream->head;
         stream->phase != REDLANE_STREAM_ENDED && i != stream->tail; i++) {
        const RedlaneErrand *errand = redlane_stream_entry(stream, i)->errand;

        if (errand && errand->deadline < next) {
            next = errand->deadline;
        }
    }
    Py_DECREF(stream);
    return next;
}

/* --- the object --- */

void
redlane_stream_stands(RedlaneStream *stream)
{
    RedlaneConnection *connection = stream->connection;
    RedlaneChannel *channel = stream->channel;
    const RedlaneSettings *settings = channel->settings;

    stream->context = (RedlaneReaderContext){
        .state = channel->state,
        .password = settings->password,
        .password_size = settings->password_size,
    };
    redlane_reader_limit(&connection->reader, settings->max_reply);
    redlane_reader_build_with(&connection->reader, &redlane_reply_object_functions,
                              &stream->context);
    connection->ready = true;
    stream->phase = REDLANE_STREAM_READY;
    redlane_stream_opening_free(stream);
    if (channel->home && connection->server_version[0]) {
        memcpy(channel->home->server_version, connection->server_version,
               sizeof(connection->server_version));
    }
    if (waits_for_turn(stream)) {
        if (book_flush(stream) == 0) {
            return;
        }
        PyErr_Clear(); /* without memory for the callback it leaves now */
    }
    redlane_stream_flush(stream);
}

RedlaneStream *
redlane_stream_new(RedlaneChannel *channel)
{
    PyTypeObject *type = (PyTypeObject *)channel->state->StreamType;
    RedlaneStream *stream = (RedlaneStream *)type->tp_alloc(type, 0);

    if (!stream) {
        return NULL;
    }
    stream->watched = -1;
    stream->phase = REDLANE_STREAM_ENDED;
    stream->connection = redlane_connection_new();
    stream->opening = calloc(1, sizeof(*stream->opening));
    if (!stream->connection || !stream->opening) {
        PyErr_NoMemory();
        goto error;
    }
    stream->on_event = PyObject_GetAttrString((PyObject *)stream, "_on_event");
    stream->on_flush = PyObject_GetAttrString((PyObject *)stream, "_on_flush");
    if (!stream->on_event || !stream->on_flush) {
        goto error;
    }
    stream->phase = REDLANE_STREAM_RESOLVES;
    stream->channel = channel;
    stream->next = channel->streams;
    stream->place = &channel->streams;
    if (stream->next) {
        stream->next->place = &stream->next;
    }
    channel->streams = stream;
    return stream;

error:
    Py_CLEAR(stream->on_event);
    Py_CLEAR(stream->on_flush);
    Py_DECREF(stream);
    return NULL;
}

static int
stream_tp_traverse(PyObject *object, visitproc visit, void *arg)
{
    RedlaneStream *stream = (RedlaneStream *)object;

    Py_VISIT(Py_TYPE(object));
    Py_VISIT(stream->on_event);
    Py_VISIT(stream->on_flush);
    for (size_t i = stream->head; i != stream->tail; i++) {
        RedlaneErrand *errand = redlane_stream_entry(stream, i)->errand;
        int result = errand ? errand->traverse(errand, visit, arg) : 0;

        if (result) {
            return result;
        }
    }
    return 0;
}

/* There is no tp_clear: its channel drops it, which breaks all cycles. */
static void
stream_tp_dealloc(PyObject *object)
{
    RedlaneStream *stream = (RedlaneStream *)object;
    PyTypeObject *type = Py_TYPE(object);

    PyObject_GC_UnTrack(object);
    redlane_stream_opening_free(stream);
    redlane_connection_free(stream->connection);
    clear_context(stream);
    PyMem_Free(stream->ring);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMethodDef stream_methods[] = {
    {"_on_event", redlane_stream_on_event, METH_NOARGS, NULL},
    {"_on_flush", redlane_stream_on_flush, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(stream_doc, "A connection that an event loop drives.");

static PyType_Slot stream_slots[] = {
    {Py_tp_doc, (void *)stream_doc},
    {Py_tp_dealloc, stream_tp_dealloc},
    {Py_tp_traverse, stream_tp_traverse},
    {Py_tp_methods, stream_methods},
    {0, NULL},
};

static PyType_Spec stream_spec = {
    .name = "redlane._core.Stream",
    .basicsize = sizeof(RedlaneStream),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = stream_slots,
};

int
redlane_stream_setup(PyObject *module)
{
    RedlaneState *state = redlane_state_of_module(module);

    state->StreamType = PyType_FromModuleAndSpec(module, &stream_spec, NULL);
    return state->StreamType ? 0 : -1;
}
