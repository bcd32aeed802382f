/* Client: command methods over a link.
 *
 * GIL held throughout; a store gives it up while it waits. Close does not free the
 * store: another thread may be waiting in it. It goes with the object. */
#include "types/client.h"

#include <stddef.h>
#include <structmember.h>

#include "py/log.h"
#include "py/state.h"
#include "types/client_options.h"
#include "types/commands.h"

/* --- running commands --- */

static PyObject *
run_logged(RedlaneClient *self, const RedlaneVector *vector)
{
    RedlaneRequest request = redlane_client_request(self);
    int64_t start = redlane_clock_now();
    PyObject *reply = redlane_store_execute(self->store, &request, vector);

    redlane_log_command(self->state, vector, 1, redlane_clock_now() - start);
    return reply;
}

static PyObject *
client_run(PyObject *object, RedlaneCall *call)
{
    RedlaneClient *self = (RedlaneClient *)object;
    RedlaneVector vector = redlane_args_vector(&call->args, call->command);
    PyObject *reply;

    if (redlane_client_check(self) < 0) {
        return NULL;
    }
    if (unlikely(call->empty)) {
        return PyList_New(0);
    }
    if (unlikely(redlane_log_debugging(self->state))) {
        reply = run_logged(self, &vector);
    }
    else {
        RedlaneRequest request = redlane_client_request(self);

        reply = redlane_store_execute(self->store, &request, &vector);
    }
    if (!reply || (call->shape == REDLANE_SHAPE_RAW && !PyList_CheckExact(reply))) {
        return reply;
    }
    return redlane_result(self->state, call->shape, call->cast, reply);
}

/* --- methods that are no commands --- */

PyDoc_STRVAR(
    client_close_doc,
    "close($self)\n--\n\n"
    "Close every connection, and this client for good; harmless if repeated.\n\n"
    "Later calls, also of the tools made from it, raise ConnectionError.");

/* The tasks of event loops that work for its link behind are to end: refreshes, and
 * coroutine functions past their hard time-out. RAISES_NEG */
static int
end_tasks(RedlaneClient *self)
{
    PyObject *name = PyUnicode_FromString("redlane._tasks"), *module;
    PyObject *function = NULL, *ended = NULL;

    if (!name) {
        return -1;
    }
    module = PyImport_GetModule(name); /* without it there are none */
    Py_DECREF(name);
    if (module) {
        function = PyObject_GetAttrString(module, "end_tasks");
        Py_DECREF(module);
    }
    if (!function) {
        if (!PyErr_Occurred() || PyErr_ExceptionMatches(PyExc_AttributeError)) {
            PyErr_Clear(); /* nor are there while another thread still imports it */
            return 0;
        }
        return -1;
    }
    ended = PyObject_CallFunction(function, "N", PyLong_FromVoidPtr(self->link));
    Py_DECREF(function);
    Py_XDECREF(ended);
    return ended ? 0 : -1;
}

static PyObject *
client_close(PyObject *object, PyObject *unused)
{
    RedlaneClient *self = (RedlaneClient *)object;
    int ended;

    (void)unused;
    if (!self->link || redlane_link_closed(self->link)) {
        Py_RETURN_NONE;
    }
    ended = end_tasks(self);
    redlane_link_close(self->link); /* in any case */
    return ended < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
client_enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    return Py_NewRef(self);
}

static PyObject *
client_exit(PyObject *self, PyObject *unused)
{
    return client_close(self, unused);
}

PyDoc_STRVAR(
    client_health_doc,
    "health($self)\n--\n\n"
    "How the link is, as a dict; never raises for a server that is away.\n\n"
    "mode (\"redis\"; \"memory\", \"none\" or \"away\" during an outage, by "
    "the\nclient's fallback; \"closed\"), connected, breaker, url, "
    "server_version,\nused_memory (bytes), used_memory_human, latency_ms, tls, "
    "error, pool, engine.\nAsks the server twice, each time within the "
    "client's time-out.");

static PyObject *
client_health(PyObject *object, PyObject *unused)
{
    RedlaneClient *self = (RedlaneClient *)object;

    (void)unused;
    if (!self->link) {
        (void)redlane_client_check(self);
        return NULL;
    }
    return redlane_link_health(self->link, self->policy);
}

PyDoc_STRVAR(client_report_doc, "_report($self)\n--\n\n"
                                "What health() says without asking the server.");

static PyObject *
client_report(PyObject *object, PyObject *unused)
{
    RedlaneClient *self = (RedlaneClient *)object;

    (void)unused;
    if (!self->link) {
        (void)redlane_client_check(self);
        return NULL;
    }
    return redlane_link_report(self->link, self->policy);
}

PyDoc_STRVAR(client_observe_doc,
             "_observe($self, observer, keys)\n--\n\n"
             "From now on observer(operation, count, text, began, ended, error) is "
             "called after\neach trip to the server; None: nothing is. keys: text is "
             "what was sent, without\nvalues, else None.");

static PyObject *
client_observe(PyObject *object, PyObject *args)
{
    RedlaneClient *self = (RedlaneClient *)object;
    PyObject *observer;
    int keys;

    if (!PyArg_ParseTuple(args, "Op:_observe", &observer, &keys) ||
        redlane_client_check(self) < 0) {
        return NULL;
    }
    if (observer != Py_None && !PyCallable_Check(observer)) {
        PyErr_SetString(PyExc_TypeError, "an observer is called");
        return NULL;
    }
    redlane_link_observe(self->link, observer == Py_None ? NULL : observer, keys != 0);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    client_pipeline_doc,
    "pipeline($self, transaction=False)\n--\n\n"
    "A Pipeline: commands that leave in one write.\n\n"
    "transaction: between MULTI and EXEC, so that nothing comes between them.");

static PyObject *
client_pipeline(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"transaction", NULL};
    int transaction = 0;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|p:pipeline", keywords,
                                     &transaction)) {
        return NULL;
    }
    if (redlane_client_check((RedlaneClient *)self) < 0) {
        return NULL;
    }
    return redlane_pipeline_new((RedlaneClient *)self, transaction);
}

PyDoc_STRVAR(
    client_listen_doc,
    "listen($self, channels, handler, *, patterns=(), on_gap=None, policy='drop',\n"
    "       max_messages=65536, max_bytes=67108864)\n--\n\n"
    "Call handler(message) in a thread of its own; a Listener, with stop().\n\n"
    "channels: one, or several; the other options are those of subscribe(). What\n"
    "handler raises is logged. Returns once the server has confirmed, or is away.");

static PyObject *
client_listen(PyObject *object, PyObject *args, PyObject *kwargs)
{
    PyObject *module = PyImport_ImportModule("redlane._pubsub"), *function = NULL;
    PyObject *first = NULL, *all = NULL, *result = NULL;

    function = module ? PyObject_GetAttrString(module, "listen") : NULL;
    first = function ? PyTuple_Pack(1, object) : NULL;
    all = first ? PySequence_Concat(first, args) : NULL;
    if (all) {
        result = PyObject_Call(function, all, kwargs);
    }
    Py_XDECREF(all);
    Py_XDECREF(first);
    Py_XDECREF(function);
    Py_XDECREF(module);
    return result;
}

PyDoc_STRVAR(
    client_scan_iter_doc,
    "scan_iter($self, match=None, count=None, _type=None)\n--\n\n"
    "Iterate over the keys by scan(); a key may come more than once.\n\n"
    "match: glob pattern; count: hint of how many keys to look at in one step;\n"
    "_type: only keys of this type.");

static PyObject *
client_scan_iter(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"match", "count", "_type", NULL};
    PyObject *match = Py_None, *count = Py_None, *type = Py_None;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OOO:scan_iter", keywords, &match,
                                     &count, &type)) {
        return NULL;
    }
    return redlane_scan_iterator_new((RedlaneClient *)self, match, count, type);
}

#define KEYWORDS(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef client_methods[] = {
    {"close", client_close, METH_NOARGS, client_close_doc},
    {"from_env", KEYWORDS(redlane_client_from_env),
     METH_VARARGS | METH_KEYWORDS | METH_CLASS, redlane_client_from_env_doc},
    {"health", client_health, METH_NOARGS, client_health_doc},
    {"_report", client_report, METH_NOARGS, client_report_doc},
    {"_observe", client_observe, METH_VARARGS, client_observe_doc},
    {"pipeline", KEYWORDS(client_pipeline), METH_VARARGS | METH_KEYWORDS,
     client_pipeline_doc},
    {"scan_iter", KEYWORDS(client_scan_iter), METH_VARARGS | METH_KEYWORDS,
     client_scan_iter_doc},
    {"listen", KEYWORDS(client_listen), METH_VARARGS | METH_KEYWORDS,
     client_listen_doc},
    {"subscribe", KEYWORDS(redlane_client_subscribe), METH_VARARGS | METH_KEYWORDS,
     redlane_client_subscribe_doc},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {"__enter__", client_enter, METH_NOARGS, NULL},
    {"__exit__", client_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef client_getset[] = {
    {"url", redlane_client_get_url, NULL, "The URL as it may be shown: no password.",
     NULL},
    {"aio", redlane_client_get_twin, NULL,
     "The AsyncClient of the same server: same settings, breaker, journal and engine.",
     NULL},
    {"closed", redlane_client_get_closed, NULL, "True once close() was called.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef client_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(RedlaneClient, weakrefs), READONLY,
     NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(
    client_doc,
    "Client(url=None, *, token=None, fallback='raise', timeout=None, "
    "connect_timeout=None, pool_size=None, decode_responses=False, name=None, "
    "max_reply=None, max_memory=None, tls_ca=None, tls_cert=None, tls_key=None, "
    "tls_key_password=None, tls_server_name=None)\n--\n\n"
    "Redis or Valkey, or the memory engine, by redis-py's methods.\n\n"
    "url: redis://[user[:password]@]host[:port][/db], rediss:// for the same by TLS,\n"
    "unix://[user[:password]@]/path, https://host with its token= for Upstash's REST\n"
    "protocol, or memory://; without one, what Client.from_env() finds. fallback:\n"
    "while the server is away \"raise\" ConnectionError, let the \"memory\" engine\n"
    "answer, or give misses (\"none\"). timeout: seconds for a whole call,\n"
    "connect_timeout: for its connecting (0.25 each, 2 on rediss:// and https://).\n"
    "pool_size: connections at most (32). decode_responses: str results instead of\n"
    "bytes. name: CLIENT SETNAME. max_reply: bytes of one reply at most (512 MB).\n"
    "max_memory: bytes of the memory engine at most (64 MB).\n"
    "tls_ca: file or folder of the trusted certificates, instead of the system's;\n"
    "tls_cert, tls_key, tls_key_password: the client's certificate and its key, in\n"
    "PEM; tls_server_name: to ask for and verify instead of the host.\n\n"
    "Safe between threads and across fork, cheap to make; connects on first use.\n"
    "ConfigurationError for an option that is not usable.");

static PyType_Slot client_slots[] = {
    {Py_tp_doc, (void *)client_doc},
    {Py_tp_new, redlane_client_tp_new},
    {Py_tp_init, redlane_client_tp_init},
    {Py_tp_dealloc, redlane_client_tp_dealloc},
    {Py_tp_traverse, redlane_client_tp_traverse},
    {Py_tp_repr, redlane_client_tp_repr},
    {Py_tp_methods, client_methods},
    {Py_tp_getset, client_getset},
    {Py_tp_members, client_members},
    {0, NULL},
};

static PyType_Spec client_spec = {
    .name = "redlane.Client",
    .basicsize = sizeof(RedlaneClient),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = client_slots,
};

int
redlane_client_setup(PyObject *module)
{
    RedlaneState *state = redlane_state_of_module(module);

    if (redlane_state_add(module, &state->ClientType, "Client",
                          PyType_FromModuleAndSpec(module, &client_spec, NULL)) < 0 ||
        redlane_command_methods_add(module, (PyTypeObject *)state->ClientType,
                                    redlane_commands_client, client_run) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, redlane_client_options_functions);
}
