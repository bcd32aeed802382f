/* What Client and AsyncClient have in common: how they are made, told apart and freed.
 *
 * GIL held throughout. */
#include <string.h>

#include "py/item.h"
#include "py/log.h"
#include "py/state.h"
#include "types/client.h"
#include "types/client_options.h"

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

PyObject *
redlane_client_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
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

/* Without what speaks HTTP there is no client. RAISES_NEG */
static int
begin_rest(RedlaneState *state)
{
    PyObject *module = PyImport_ImportModule("redlane._rest");

    if (!module) {
        return -1;
    }
    Py_DECREF(module);
    redlane_log_event(state, REDLANE_LOG_DEBUG, "redlane.rest.begin",
                      "Initializing Upstash Redis client");
    return 0;
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
    if (settings->scheme == REDLANE_SCHEME_REST && begin_rest(self->state) < 0) {
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
    if (settings->scheme == REDLANE_SCHEME_REST) {
        redlane_log_event(self->state, REDLANE_LOG_DEBUG, "redlane.rest.ready",
                          "Redis client initialized with URL: %s", settings->redacted);
    }
    self->policy = policy;
    self->decode = decode;
    self->local = redlane_link_settings(link)->scheme == REDLANE_SCHEME_MEMORY;
    self->link = link;
    self->store = store;
    return 0;
}

int
redlane_client_tp_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"url",
                               "token",
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
            args, kwargs,
            PyObject_TypeCheck(object, (PyTypeObject *)self->state->AsyncClientType)
                ? "|O$OOOOOOOOOOOOOO:AsyncClient"
                : "|O$OOOOOOOOOOOOOO:Client",
            keywords, &arguments.url, &arguments.token, &arguments.fallback,
            &arguments.timeout, &arguments.connect_timeout, &arguments.pool_size,
            &arguments.decode_responses, &arguments.name, &arguments.max_reply,
            &arguments.max_memory, &arguments.tls_ca, &arguments.tls_cert,
            &arguments.tls_key, &arguments.tls_key_password,
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

int
redlane_client_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((RedlaneClient *)self)->twin);
    return 0;
}

void
redlane_client_tp_dealloc(PyObject *object)
{
    RedlaneClient *self = (RedlaneClient *)object;
    PyTypeObject *type = Py_TYPE(object);

    PyObject_GC_UnTrack(object);
    if (self->weakrefs) {
        PyObject_ClearWeakRefs(object);
    }
    if (self->twin) {
        ((RedlaneClient *)self->twin)->origin = NULL;
        Py_CLEAR(self->twin);
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

PyObject *
redlane_client_tp_repr(PyObject *self)
{
    return PyUnicode_FromFormat("<%s %s>", Py_TYPE(self)->tp_name,
                                shown_url((RedlaneClient *)self));
}

RedlaneLink *
redlane_client_link(RedlaneState *state, PyObject *client)
{
    if (!PyObject_TypeCheck(client, (PyTypeObject *)state->ClientType) &&
        !PyObject_TypeCheck(client, (PyTypeObject *)state->AsyncClientType)) {
        PyErr_Format(PyExc_TypeError, "expected a Client, got %.100s",
                     Py_TYPE(client)->tp_name);
        return NULL;
    }
    if (!((RedlaneClient *)client)->link) {
        (void)redlane_client_check((RedlaneClient *)client);
        return NULL;
    }
    return ((RedlaneClient *)client)->link;
}

PyObject *
redlane_client_get_twin(PyObject *object, void *closure)
{
    RedlaneClient *self = (RedlaneClient *)object, *twin;
    bool is_async =
        PyObject_TypeCheck(object, (PyTypeObject *)self->state->AsyncClientType);
    PyTypeObject *type = (PyTypeObject *)(is_async ? self->state->ClientType
                                                   : self->state->AsyncClientType);

    (void)closure;
    if (!self->store) {
        (void)redlane_client_check(self);
        return NULL;
    }
    if (self->origin) {
        return Py_NewRef((PyObject *)self->origin);
    }
    if (self->twin) {
        return Py_NewRef(self->twin);
    }
    twin = (RedlaneClient *)type->tp_alloc(type, 0);
    if (!twin) {
        return NULL;
    }
    twin->state = self->state;
    twin->link = redlane_link_hold(self->link);
    twin->store = redlane_store_hold(self->store);
    twin->policy = self->policy;
    twin->decode = self->decode;
    twin->local = self->local;
    twin->origin = self;
    self->twin = (PyObject *)twin;
    return Py_NewRef(self->twin);
}

const char redlane_client_from_env_doc[] = PyDoc_STR(
    "from_env($type, default=None, **options)\n--\n\n"
    "A client for the server that the environment names.\n\n"
    "REDIS_URL (with REDIS_DB and REDIS_TLS_CA, _CERT, _KEY, _KEY_PASSWORD,\n"
    "_SERVER_NAME), else REDIS_ADDR, REDIS_PASSWORD, REDIS_DB, "
    "else\nUPSTASH_REDIS_REST_URL, else default, else redis://localhost:6379. "
    "An empty\nvariable is unset. options are those of Client. "
    "ConfigurationError, which names\nthe variable, for a bad value.");

PyObject *
redlane_client_from_env(PyObject *type, PyObject *args, PyObject *kwargs)
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
    if (redlane_item_find(options, "default", &function) < 0) {
        goto exit;
    }
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

PyObject *
redlane_client_get_url(PyObject *self, void *closure)
{
    (void)closure;
    return PyUnicode_DecodeUTF8(shown_url((RedlaneClient *)self),
                                (Py_ssize_t)strlen(shown_url((RedlaneClient *)self)),
                                "replace");
}

PyObject *
redlane_client_get_link_id(PyObject *self, void *closure)
{
    (void)closure;
    return PyLong_FromVoidPtr(((RedlaneClient *)self)->link);
}

PyObject *
redlane_client_get_closed(PyObject *object, void *closure)
{
    RedlaneClient *self = (RedlaneClient *)object;

    (void)closure;
    return PyBool_FromLong(self->link && redlane_link_closed(self->link));
}
