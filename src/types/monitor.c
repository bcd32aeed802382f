/* Monitor: what MONITOR sends, on a connection of its own. For the command line.
 *
 * Raw bytes are handed out: a line is as long as the command it tells of, and who reads
 * may drop what is too much. One thread at a time, `busy` while it has given up the
 * GIL; the connection and the settings need none. */
#include "types/monitor.h"

#include <math.h>

#include "py/errors.h"
#include "py/state.h"
#include "types/client.h"
#include "wire/connection.h"
#include "wire/encode.h"

#define READ_SIZE (64 * 1024)
#define SECONDS_MOST 3600.0

typedef struct {
    PyObject_HEAD
    RedlaneState *state; /* BORROWED: the type keeps the module */
    RedlaneLink *link;
    const RedlaneSettings *settings; /* BORROWED: the link's */
    RedlaneConnection *connection;   /* NULL once it is closed */
    PyThreadState *thread;           /* while the GIL is given up */
    bool busy;
} Monitor;

/* RedlaneWait.interrupted: lets Python's signal handlers run. */
static bool
run_signal_handlers(void *context)
{
    Monitor *self = context;
    bool raised;

    PyEval_RestoreThread(self->thread);
    raised = PyErr_CheckSignals() < 0;
    self->thread = PyEval_SaveThread();
    return raised;
}

static RedlaneWait
wait_until(Monitor *self, int64_t deadline)
{
    return (RedlaneWait){
        .deadline = deadline, .interrupted = run_signal_handlers, .context = self};
}

static void
drop_connection(Monitor *self)
{
    redlane_connection_free(self->connection);
    self->connection = NULL;
}

static PyObject *
raise_fault(Monitor *self, const RedlaneFault *fault)
{
    return redlane_errors_raise_fault(self->state, fault, "MONITOR",
                                      self->settings->redacted);
}

/* --- without the GIL --- */

static int
start_nogil(RedlaneConnection *connection, const RedlaneSettings *settings,
            const RedlaneWait *wait, RedlaneFault *fault)
{
    static const RedlaneArg monitor = {"MONITOR", 7};
    RedlaneTransport *transport = &connection->transport;

    if (redlane_connection_open_nogil(connection, settings, wait, fault) < 0) {
        return -1;
    }
    if (redlane_encode_command(&connection->out, &monitor, 1) < 0) {
        redlane_fault_set(fault, REDLANE_FAULT_MEMORY, "out of memory");
        return -1;
    }
    while (connection->sent < connection->out.size) {
        int sent = redlane_connection_send_nogil(connection, fault);

        if (sent < 0 ||
            (sent == 0 && redlane_wait_fd_nogil(wait, transport->fd,
                                                transport->wants_write, fault) < 0)) {
            return -1;
        }
    }
    return 0;
}

/* How many bytes came, 0 when none did within the wait, -1 with a fault. */
static ssize_t
receive_nogil(RedlaneTransport *transport, const RedlaneWait *wait, char *data,
              size_t size, RedlaneFault *fault)
{
    for (;;) {
        ssize_t moved;

        if (transport->fd < 0) {
            redlane_fault_set(fault, REDLANE_FAULT_CLOSED, "the process forked");
            return -1;
        }
        moved = transport->ops->read(transport, data, size);
        if (moved > 0) {
            return moved;
        }
        if (moved != REDLANE_IO_BLOCKED) {
            redlane_fault_set(fault, REDLANE_FAULT_LOST, "%s",
                              moved == REDLANE_IO_CLOSED
                                  ? "the server closed the connection"
                                  : redlane_transport_problem(transport));
            return -1;
        }
        if (redlane_wait_fd_nogil(wait, transport->fd, transport->wants_read, fault) <
            0) {
            return fault->kind == REDLANE_FAULT_TIMEOUT ? 0 : -1;
        }
    }
}

/* --- methods --- */

/* 0 when nobody is in it and it is open. RAISES_NEG */
static int
check_use(Monitor *self)
{
    if (self->busy) {
        PyErr_SetString(PyExc_RuntimeError, "the monitor is in use");
        return -1;
    }
    if (!self->connection) {
        PyErr_SetString(self->state->ConnectionError, "the monitor is closed");
        return -1;
    }
    return 0;
}

PyDoc_STRVAR(monitor_read_doc,
             "read($self, seconds, /)\n--\n\n"
             "Some of what the server sends, as bytes; b'' when nothing came.\n\n"
             "seconds: how long to wait for it, 3600 at most. ConnectionError when the "
             "connection\nis lost or closed.");

static PyObject *
monitor_read(PyObject *object, PyObject *argument)
{
    Monitor *self = (Monitor *)object;
    double seconds = PyFloat_AsDouble(argument);
    RedlaneFault fault;
    RedlaneWait wait;
    PyObject *data;
    ssize_t got;

    if (seconds == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    if (!(seconds >= 0 && seconds <= SECONDS_MOST)) {
        PyErr_SetString(PyExc_ValueError, "seconds must be between 0 and 3600");
        return NULL;
    }
    if (check_use(self) < 0) {
        return NULL;
    }
    data = PyBytes_FromStringAndSize(NULL, READ_SIZE);
    if (!data) {
        return NULL;
    }
    wait = wait_until(self, redlane_clock_now() + (int64_t)(seconds * 1e9));
    self->busy = true;
    self->thread = PyEval_SaveThread();
    got = receive_nogil(&self->connection->transport, &wait, PyBytes_AS_STRING(data),
                        READ_SIZE, &fault);
    PyEval_RestoreThread(self->thread);
    self->busy = false;
    if (got < 0) {
        Py_DECREF(data);
        drop_connection(self);
        return raise_fault(self, &fault);
    }
    (void)_PyBytes_Resize(&data, got); /* NULL and MemoryError, or shorter */
    return data;
}

PyDoc_STRVAR(monitor_close_doc, "close($self, /)\n--\n\n"
                                "Closes the connection; harmless if repeated.");

static PyObject *
monitor_close(PyObject *object, PyObject *unused)
{
    Monitor *self = (Monitor *)object;

    (void)unused;
    if (self->connection && check_use(self) < 0) {
        return NULL;
    }
    drop_connection(self);
    Py_RETURN_NONE;
}

static PyObject *
monitor_enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    return Py_NewRef(self);
}

static PyObject *
monitor_exit(PyObject *self, PyObject *unused)
{
    return monitor_close(self, unused);
}

/* --- life --- */

static int
open_connection(Monitor *self)
{
    RedlaneFault fault;
    RedlaneWait wait =
        wait_until(self, redlane_clock_now() + self->settings->connect_timeout +
                             self->settings->timeout);
    int result;

    self->connection = redlane_connection_new();
    if (!self->connection) {
        (void)PyErr_NoMemory();
        return -1;
    }
    self->busy = true;
    self->thread = PyEval_SaveThread();
    result = start_nogil(self->connection, self->settings, &wait, &fault);
    PyEval_RestoreThread(self->thread);
    self->busy = false;
    if (result < 0) {
        drop_connection(self);
        (void)raise_fault(self, &fault);
    }
    return result;
}

static PyObject *
monitor_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"client", NULL};
    RedlaneState *state = redlane_state_of_type(type);
    RedlaneLink *link;
    PyObject *client;
    Monitor *self;

    if (!state ||
        !PyArg_ParseTupleAndKeywords(args, kwargs, "O:Monitor", keywords, &client)) {
        return NULL;
    }
    link = redlane_client_link(state, client);
    if (!link || redlane_client_check((RedlaneClient *)client) < 0) {
        return NULL;
    }
    if (redlane_link_settings(link)->scheme == REDLANE_SCHEME_MEMORY) {
        PyErr_SetString(state->ConfigurationError,
                        "MONITOR: the memory engine has no such command");
        return NULL;
    }
    self = (Monitor *)type->tp_alloc(type, 0);
    if (!self) {
        return NULL;
    }
    self->state = state;
    self->link = redlane_link_hold(link);
    self->settings = redlane_link_settings(link);
    if (open_connection(self) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static int
monitor_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    (void)arg;
    return 0;
}

static void
monitor_tp_dealloc(PyObject *object)
{
    Monitor *self = (Monitor *)object;
    PyTypeObject *type = Py_TYPE(object);

    PyObject_GC_UnTrack(object);
    drop_connection(self);
    redlane_link_release(self->link);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMethodDef monitor_methods[] = {
    {"read", monitor_read, METH_O, monitor_read_doc},
    {"close", monitor_close, METH_NOARGS, monitor_close_doc},
    {"__enter__", monitor_enter, METH_NOARGS, NULL},
    {"__exit__", monitor_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(monitor_doc,
             "Monitor(client)\n--\n\n"
             "The commands that a server executes, by MONITOR, on a connection of its "
             "own.\n\n"
             "Connects at once, within the client's time-outs. The first line says "
             "whether the\nserver agrees: +OK, or an error that begins with '-'.");

static PyType_Slot monitor_slots[] = {
    {Py_tp_doc, (void *)monitor_doc},    {Py_tp_new, monitor_tp_new},
    {Py_tp_dealloc, monitor_tp_dealloc}, {Py_tp_traverse, monitor_tp_traverse},
    {Py_tp_methods, monitor_methods},    {0, NULL},
};

static PyType_Spec monitor_spec = {
    .name = "redlane._core.Monitor",
    .basicsize = sizeof(Monitor),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = monitor_slots,
};

int
redlane_monitor_setup(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &monitor_spec, NULL);
    int result;

    if (!type) {
        return -1;
    }
    result = PyModule_AddObjectRef(module, "Monitor", type);
    Py_DECREF(type);
    return result;
}
