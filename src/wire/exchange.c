#include "wire/exchange.h"

#include <string.h>

#include "wire/reply_object.h"

/* A request buffer larger than this is not kept for the next request. */
#define KEEP_REQUEST (64 * 1024)

static void
leave_python(RedlaneExchange *x)
{
    x->thread = PyEval_SaveThread();
}

static void
enter_python(RedlaneExchange *x)
{
    PyEval_RestoreThread(x->thread);
}

/* RedlaneWait.interrupted: lets Python's signal handlers run. */
static bool
run_signal_handlers(void *context)
{
    RedlaneExchange *x = context;
    bool raised;

    enter_python(x);
    raised = PyErr_CheckSignals() < 0;
    leave_python(x);
    return raised;
}

void
redlane_exchange_begin(RedlaneExchange *x)
{
    x->fault.kind = REDLANE_FAULT_NONE;
    x->progress = x->unsure = false;
    x->started = redlane_clock_coarse();
    x->wait = (RedlaneWait){
        .deadline = x->deadline, .interrupted = run_signal_handlers, .context = x};
    x->connection = x->pool ? redlane_pool_take_idle(x->pool) : NULL;
    x->request = (RedlaneBuffer){0};
    if (x->connection) {
        x->request = x->connection->out;
        x->connection->out = (RedlaneBuffer){0};
        x->request.size = 0;
    }
}

static RedlaneConnection *
new_connection(RedlaneFault *fault)
{
    RedlaneConnection *connection = redlane_connection_new();

    if (!connection) {
        redlane_fault_set(fault, REDLANE_FAULT_MEMORY, "out of memory");
    }
    return connection;
}

/* Makes x->connection an open one that nothing has come on. */
static int
obtain_nogil(RedlaneExchange *x)
{
    for (;;) {
        if (!x->connection) {
            x->connection = x->pool
                                ? redlane_pool_take_nogil(x->pool, &x->wait, &x->fault)
                                : new_connection(&x->fault);
            if (!x->connection) {
                return -1;
            }
        }
        x->reused = redlane_connection_usable_nogil(x->connection) &&
                    (!x->names_server || x->connection->asked_run_id);
        if (x->reused) {
            return 0;
        }
        redlane_connection_close(x->connection, false);
        if (redlane_connection_open_nogil(x->connection, x->settings, &x->wait,
                                          &x->fault) == 0) {
            return 0;
        }
        if (!x->pool || !redlane_fault_is_crowded(&x->fault)) {
            return -1;
        }
        /* The server is full: wait for one of those that we have, if there are. */
        if (!redlane_pool_give_crowded(x->pool, x->connection)) {
            x->connection = NULL;
            return -1;
        }
        x->connection = NULL;
    }
}

static void
give_back(RedlaneExchange *x)
{
    if (!x->connection) {
        return;
    }
    if (x->pool) {
        redlane_pool_give(x->pool, x->connection);
    }
    else {
        redlane_connection_free(x->connection);
    }
    x->connection = NULL;
}

static int
start_nogil(RedlaneExchange *x)
{
    RedlaneConnection *connection;

    if (obtain_nogil(x) < 0) {
        return -1;
    }
    if (redlane_clock_passed(x->deadline)) {
        /* Waiting took all the time: nothing is sent that nobody would wait for. */
        redlane_fault_set(&x->fault, REDLANE_FAULT_TIMEOUT, "timed out");
        give_back(x);
        return -1;
    }
    connection = x->connection;
    redlane_buffer_free(&connection->out);
    connection->out = x->request;
    x->request = (RedlaneBuffer){0};
    connection->sent = 0;
    connection->transport.moved_at = 0;
    connection->looked_at = redlane_clock_coarse();
    x->received = connection->reader.received;
    connection->reader.takes_bulks = !x->decode; /* str is decoded from the buffer */
    return redlane_connection_turn_nogil(connection, &x->wait, &x->fault);
}

static int
collect(RedlaneExchange *x, PyObject **replies, size_t count, size_t *got)
{
    RedlaneConnection *connection = x->connection;
    RedlaneReaderContext context = {
        .transaction = x->keep_nested,
        .decode = x->decode,
        .elements = x->elements,
        .state = x->state,
        .password = x->settings->password,
        .password_size = x->settings->password_size,
    };
    int result = 0;

    redlane_reader_build_with(&connection->reader, &redlane_reply_object_functions,
                              &context);
    while (*got < count) {
        void *reply;
        int parsed = redlane_reader_next(&connection->reader, &reply, &x->fault);

        if (parsed > 0) {
            replies[(*got)++] = redlane_reply_object_settle(&context, reply);
            continue;
        }
        if (parsed == 0 &&
            redlane_reply_object_receive(&connection->reader, &context) < 0) {
            redlane_fault_set(&x->fault, REDLANE_FAULT_MEMORY, "out of memory");
            parsed = -1;
        }
        if (parsed == 0) {
            leave_python(x);
            result = redlane_connection_turn_nogil(connection, &x->wait, &x->fault);
            enter_python(x);
        }
        if (parsed < 0 || result < 0) {
            result = -1;
            break;
        }
    }
    if (connection->reader.redis) {
        redlane_reader_build_with(&connection->reader, &redlane_reply_object_functions,
                                  NULL);
    }
    Py_XDECREF((PyObject *)context.failure);
    Py_XDECREF((PyObject *)context.bulk);
    return result;
}

/* A pooled connection may have died since it was last used, and the peer's FIN still be
 * under way. Sending again is safe when nothing was sent, or when nothing was answered
 * and the request changes nothing. */
static bool
may_repeat(const RedlaneExchange *x)
{
    const RedlaneConnection *connection = x->connection;

    return connection && x->reused && x->fault.kind == REDLANE_FAULT_LOST &&
           connection->ready && connection->reader.received == x->received &&
           (x->repeatable || connection->sent == 0);
}

static void
note_progress(RedlaneExchange *x)
{
    int64_t quarter = (x->deadline - x->started) / 4;

    x->progress = x->fault.kind == REDLANE_FAULT_TIMEOUT && x->connection &&
                  x->connection->ready && x->connection->transport.moved_at != 0 &&
                  x->deadline - x->connection->transport.moved_at < quarter;
}

/* After a failure: what comes late must meet nobody. */
static void
end_failed(RedlaneExchange *x, PyObject **replies, size_t got)
{
    note_progress(x);
    if (x->connection) {
        x->unsure = x->unsure || (x->connection->ready && x->connection->sent > 0);
        redlane_connection_close(x->connection, true);
    }
    give_back(x);
    redlane_buffer_free(&x->request);
    for (size_t i = 0; i < got; i++) {
        Py_CLEAR(replies[i]);
    }
}

/* All replies are there. Bytes beyond them, or a request that the server did not want
 * to the end, leave the connection unusable. */
static void
end_answered(RedlaneExchange *x)
{
    RedlaneConnection *connection = x->connection;

    if (redlane_reader_unread(&connection->reader) > 0 ||
        connection->sent < connection->out.size) {
        redlane_connection_close(connection, true);
    }
    else {
        redlane_reader_trim_nogil(&connection->reader,
                                  connection->reader.received - x->received);
    }
    if (x->names_server) {
        memcpy(x->run_id, connection->run_id, sizeof(x->run_id));
    }
    connection->reader.takes_bulks = false;
    connection->out.size = connection->sent = 0;
    if (connection->out.capacity > KEEP_REQUEST) {
        redlane_buffer_free(&connection->out);
    }
    give_back(x);
}

int
redlane_exchange_run(RedlaneExchange *x, PyObject **replies, size_t count)
{
    size_t got = 0;
    bool repeated = false;

    for (;;) {
        int result;

        leave_python(x);
        result = start_nogil(x);
        enter_python(x);
        if (result == 0 && collect(x, replies, count, &got) == 0) {
            end_answered(x);
            return 0;
        }
        if (repeated || !may_repeat(x)) {
            end_failed(x, replies, got);
            return -1;
        }
        repeated = true;
        x->unsure = x->unsure || x->connection->sent > 0;
        x->request = x->connection->out;
        x->connection->out = (RedlaneBuffer){0};
        redlane_connection_close(x->connection, true);
    }
}

void
redlane_exchange_cancel(RedlaneExchange *x)
{
    if (x->connection) {
        x->request.size = 0;
        x->connection->out = x->request;
        x->request = (RedlaneBuffer){0};
        give_back(x);
    }
    redlane_buffer_free(&x->request);
}
