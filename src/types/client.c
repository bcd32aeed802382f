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
#include "types/subscription.h"

/* --- running commands --- */

static int
refuse_use(const RedlaneClient *client)
{
    PyErr_SetString(client->state->ConnectionError,
                    client->store ? "the client is closed"
                                  : "the client is not initialised: call __init__");
    return -1;
}

int
redlane_client_check(const RedlaneClient *client)
{
    if (unlikely(!client->store || redlane_link_closed(client->link))) {
        return refuse_use(client);
    }
    return 0;
}

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

/* --- life --- */

static PyObject *
client_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    RedlaneState *state = redlane_state_of_type(type);
    RedlaneClient *self;

    (void)args;
    (void)kwargs;
    if (!state) {
        return NULL;
    }
    self = (RedlaneClient *)type->tp_alloc(type, 0);
    if (self) {
        self->state = state;
    }
    return (PyObject *)self;
}

/* The URL of Client(): from the environment. */
static PyObject *
find_url(void)
{
    PyObject *module = PyImport_ImportModule("redlane._config"), *url;

    if (!module) {
        return NULL;
    }
    url = PyObject_CallMethod(module, "find_url", NULL);
    Py_DECREF(module);
    return url;
}

static int
open_link(RedlaneClient *self, const RedlaneClientArguments *arguments)
{
    RedlaneSettings *settings;
    RedlaneLink *link;
    RedlaneStore *store;
    RedlanePolicy policy;
    bool decode;

    settings = redlane_client_options_read(self->state, arguments, &policy, &decode);
    if (!settings || redlane_log_prepare(self->state) < 0) {
        redlane_settings_release(settings);
        return -1;
    }
    link = redlane_link_new(self->state, settings);
    if (!link) {
        return -1;
    }
    store = redlane_link_store(link, policy);
    if (!store) {
        redlane_link_release(link);
        return -1;
    }
    self->policy = policy;
    self->decode = decode;
    self->local = redlane_link_settings(link)->scheme == REDLANE_SCHEME_MEMORY;
    self->link = link;
    self->store = store;
    return 0;
}

static int
client_tp_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"url",
                               "fallback",
                               "timeout",
                               "connect_timeout",
                               "pool_size",
                               "decode_responses",
                               "name",
                               "max_reply",
                               "max_memory",
                               "tls_ca",
                               "tls_cert",
                               "tls_key",
                               "tls_key_password",
                               "tls_server_name",
                               NULL};
    RedlaneClient *self = (RedlaneClient *)object;
    RedlaneClientArguments arguments = {.source = "url"};
    PyObject *found = NULL;
    int status;

    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "|O$OOOOOOOOOOOOO:Client", keywords, &arguments.url,
            &arguments.fallback, &arguments.timeout, &arguments.connect_timeout,
            &arguments.pool_size, &arguments.decode_responses, &arguments.name,
            &arguments.max_reply, &arguments.max_memory, &arguments.tls_ca,
            &arguments.tls_cert, &arguments.tls_key, &arguments.tls_key_password,
            &arguments.tls_server_name)) {
        return -1;
    }
    if (!arguments.url || arguments.url == Py_None) {
        found = find_url();
        if (!found) {
            return -1;
        }
        arguments.url = found;
    }
    if (self->store) {
        PyErr_SetString(PyExc_TypeError, "a client is initialised once");
        status = -1;
    }
    else {
        status = open_link(self, &arguments);
    }
    Py_XDECREF(found);
    return status;
}

static int
client_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    (void)arg;
    return 0;
}

static void
client_tp_dealloc(PyObject *object)
{
    RedlaneClient *self = (RedlaneClient *)object;
    PyTypeObject *type = Py_TYPE(object);

    PyObject_GC_UnTrack(object);
    if (self->weakrefs) {
        PyObject_ClearWeakRefs(object);
    }
    redlane_store_release(self->store);
    if (self->link) {
        redlane_link_release(self->link);
    }
    type->tp_free(object);
    Py_DECREF(type);
}

static const char *
shown_url(const RedlaneClient *self)
{
    return self->link ? redlane_link_settings(self->link)->redacted : "(not open)";
}

static PyObject *
client_tp_repr(PyObject *self)
{
    return PyUnicode_FromFormat("<%s %s>", Py_TYPE(self)->tp_name,
                                shown_url((RedlaneClient *)self));
}

RedlaneLink *
redlane_client_link(RedlaneState *state, PyObject *client)
{
    if (!PyObject_TypeCheck(client, (PyTypeObject *)state->ClientType)) {
        PyErr_Format(PyExc_TypeError, "expected a Client, got %.100s",
                     Py_TYPE(client)->tp_name);
        return NULL;
    }
    if (!((RedlaneClient *)client)->link) {
        (void)refuse_use((RedlaneClient *)client);
        return NULL;
    }
    return ((RedlaneClient *)client)->link;
}

/* --- methods that are no commands --- */

PyDoc_STRVAR(
    client_close_doc,
    "close($self)\n--\n\n"
    "Close every connection, and this client for good; harmless if repeated.\n\n"
    "Later calls, also of the tools made from it, raise ConnectionError.");

static PyObject *
client_close(PyObject *object, PyObject *unused)
{
    RedlaneClient *self = (RedlaneClient *)object;

    (void)unused;
    if (self->link) {
        redlane_link_close(self->link);
    }
    Py_RETURN_NONE;
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
        (void)refuse_use(self);
        return NULL;
    }
    return redlane_link_health(self->link, self->policy);
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
    client_subscribe_doc,
    "subscribe($self, /, *channels, patterns=(), on_gap=None, policy='drop',\n"
    "          max_messages=65536, max_bytes=67108864)\n--\n\n"
    "A Subscription to channels and patterns: an iterator of messages.\n\n"
    "patterns: globs of channels. on_gap: called with a Gap where messages may be\n"
    "missing; without it that is logged. policy: where the queue is full "
    "(max_messages,\n"
    "max_bytes) \"drop\" the oldest, or, on a connection of its own, let the server\n"
    "\"wait\". ValueError without a name.");

static PyObject *
client_subscribe(PyObject *object, PyObject *args, PyObject *kwargs)
{
    RedlaneClient *self = (RedlaneClient *)object;

    if (redlane_client_check(self) < 0) {
        return NULL;
    }
    return redlane_subscription_new(self->state, self->link, self->decode, args,
                                    kwargs);
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

PyDoc_STRVAR(client_from_env_doc,
             "from_env($type, default=None, **options)\n--\n\n"
             "A client for the server that the environment names.\n\n"
             "REDIS_URL (with REDIS_DB and REDIS_TLS_CA, _CERT, _KEY, _KEY_PASSWORD,\n"
             "_SERVER_NAME), else REDIS_ADDR, REDIS_PASSWORD, REDIS_DB, "
             "else\nUPSTASH_REDIS_REST_URL, else default, else redis://localhost:6379. "
             "An empty\nvariable is unset. options are those of Client. "
             "ConfigurationError, which names\nthe variable, for a bad value.");

static PyObject *
client_from_env(PyObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *module, *function, *url = NULL, *default_url = Py_None, *result = NULL;
    PyObject *options = NULL, *positional = NULL;

    options = kwargs ? PyDict_Copy(kwargs) : PyDict_New();
    module = options ? PyImport_ImportModule("redlane._config") : NULL;
    if (!module) {
        goto exit;
    }
    if (!PyArg_ParseTuple(args, "|O:from_env", &default_url)) {
        goto exit;
    }
    function = PyDict_GetItemString(options, "default");
    if (function) {
        default_url = function;
    }
    url = PyObject_CallMethod(module, "find_url", "O", default_url);
    if (!url || (function && PyDict_DelItemString(options, "default") < 0)) {
        goto exit;
    }
    positional = PyTuple_Pack(1, url);
    result = positional ? PyObject_Call(type, positional, options) : NULL;

exit:
    Py_XDECREF(positional);
    Py_XDECREF(url);
    Py_XDECREF(module);
    Py_XDECREF(options);
    return result;
}

static PyObject *
client_get_url(PyObject *self, void *closure)
{
    (void)closure;
    return PyUnicode_DecodeUTF8(shown_url((RedlaneClient *)self),
                                (Py_ssize_t)strlen(shown_url((RedlaneClient *)self)),
                                "replace");
}

static PyObject *
client_get_closed(PyObject *object, void *closure)
{
    RedlaneClient *self = (RedlaneClient *)object;

    (void)closure;
    return PyBool_FromLong(self->link && redlane_link_closed(self->link));
}

#define KEYWORDS(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef client_methods[] = {
    {"close", client_close, METH_NOARGS, client_close_doc},
    {"from_env", KEYWORDS(client_from_env), METH_VARARGS | METH_KEYWORDS | METH_CLASS,
     client_from_env_doc},
    {"health", client_health, METH_NOARGS, client_health_doc},
    {"pipeline", KEYWORDS(client_pipeline), METH_VARARGS | METH_KEYWORDS,
     client_pipeline_doc},
    {"scan_iter", KEYWORDS(client_scan_iter), METH_VARARGS | METH_KEYWORDS,
     client_scan_iter_doc},
    {"listen", KEYWORDS(client_listen), METH_VARARGS | METH_KEYWORDS,
     client_listen_doc},
    {"subscribe", KEYWORDS(client_subscribe), METH_VARARGS | METH_KEYWORDS,
     client_subscribe_doc},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {"__enter__", client_enter, METH_NOARGS, NULL},
    {"__exit__", client_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef client_getset[] = {
    {"url", client_get_url, NULL, "The URL as it may be shown: no password.", NULL},
    {"closed", client_get_closed, NULL, "True once close() was called.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef client_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(RedlaneClient, weakrefs), READONLY,
     NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(
    client_doc,
    "Client(url=None, *, fallback='raise', timeout=None, connect_timeout=None, "
    "pool_size=None, decode_responses=False, name=None, max_reply=None, "
    "max_memory=None, tls_ca=None, tls_cert=None, tls_key=None, "
    "tls_key_password=None, tls_server_name=None)\n--\n\n"
    "Redis or Valkey, or the memory engine, by redis-py's methods.\n\n"
    "url: redis://[user[:password]@]host[:port][/db], rediss:// for the same by TLS,\n"
    "unix://[user[:password]@]/path or memory://; without one, what Client.from_env() "
    "finds. fallback: while the\n"
    "server is away \"raise\" ConnectionError, let the \"memory\" engine answer, or "
    "give\nmisses (\"none\"). timeout: seconds for a whole call, connect_timeout: for "
    "its\nconnecting (0.25 each, 2 on rediss://). pool_size: connections at most (32). "
    "decode_responses:\nstr results instead of bytes. name: CLIENT SETNAME. max_reply: "
    "bytes of one\nreply at most (512 MB). max_memory: bytes of the memory engine at "
    "most (64 MB).\ntls_ca: file or folder of the trusted certificates, instead of the "
    "system's;\ntls_cert, tls_key, tls_key_password: the client's certificate and its "
    "key, in PEM;\ntls_server_name: to ask for and verify instead of the host.\n\n"
    "Safe between threads and across fork, cheap to make; connects on first use.\n"
    "ConfigurationError for an option that is not usable.");

static PyType_Slot client_slots[] = {
    {Py_tp_doc, (void *)client_doc},      {Py_tp_new, client_tp_new},
    {Py_tp_init, client_tp_init},         {Py_tp_dealloc, client_tp_dealloc},
    {Py_tp_traverse, client_tp_traverse}, {Py_tp_repr, client_tp_repr},
    {Py_tp_methods, client_methods},      {Py_tp_getset, client_getset},
    {Py_tp_members, client_members},      {0, NULL},
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
