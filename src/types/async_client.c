/* AsyncClient: the command methods of Client, awaited. What makes it and what it holds
 * is Client's (client_life.c); how a request waits is async_reply.c's. GIL held. */
#include "types/client.h"

#include <stddef.h>
#include <structmember.h>

#include "py/state.h"
#include "types/async_reply.h"
#include "types/commands.h"

static PyObject *
async_client_run(PyObject *self, RedlaneCall *call)
{
    return redlane_async_reply_new((RedlaneClient *)self, call);
}

static PyObject *
call_module(const char *module_name, const char *name, PyObject *self, PyObject *args,
            PyObject *kwargs)
{
    PyObject *module = PyImport_ImportModule(module_name);
    PyObject *function = NULL, *all = NULL, *first = NULL, *result = NULL;

    if (module) {
        function = PyObject_GetAttrString(module, name);
        first = PyTuple_Pack(1, self);
    }
    if (function && first) {
        all = args ? PySequence_Concat(first, args) : Py_NewRef(first);
    }
    if (all) {
        result = PyObject_Call(function, all, kwargs);
    }
    Py_XDECREF(all);
    Py_XDECREF(first);
    Py_XDECREF(function);
    Py_XDECREF(module);
    return result;
}

/* Calls redlane._aio.<name>(self, …): what is made of other commands, or has to run in
 * a thread, is written there. */
static PyObject *
call_aio(const char *name, PyObject *self, PyObject *args, PyObject *kwargs)
{
    return call_module("redlane._aio", name, self, args, kwargs);
}

PyDoc_STRVAR(
    async_client_listen_doc,
    "listen($self, channels, handler, *, patterns=(), on_gap=None, policy='drop',\n"
    "       max_messages=65536, max_bytes=67108864)\n--\n\n"
    "Call handler(message) in a task of its own; an AsyncListener, with stop().\n\n"
    "channels: one, or several; the other options are those of subscribe(). handler "
    "may\nbe a coroutine function: the next message waits for it. What it raises is "
    "logged.\nReturns once the server has confirmed, or is away.");

static PyObject *
async_client_listen(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return call_module("redlane._async_pubsub", "listen", self, args, kwargs);
}

PyDoc_STRVAR(
    async_client_close_doc,
    "close($self)\n--\n\n"
    "Close every connection, and this client for good; harmless if repeated.\n\n"
    "What is under way ends first. Later calls, also of its sync twin and of "
    "the\ntools made from either, raise ConnectionError.");

PyDoc_STRVAR(async_client_aclose_doc, "aclose($self)\n--\n\nThe same as close().");

static PyObject *
async_client_close(PyObject *self, PyObject *unused)
{
    (void)unused;
    return call_aio("close", self, NULL, NULL);
}

PyDoc_STRVAR(async_client_close_link_doc,
             "_close_link($self)\n--\n\nThe part of close() that awaits nothing.");

static PyObject *
async_client_close_link(PyObject *object, PyObject *unused)
{
    RedlaneClient *self = (RedlaneClient *)object;

    (void)unused;
    if (self->link) {
        redlane_link_close(self->link);
    }
    Py_RETURN_NONE;
}

static PyObject *
async_client_aenter(PyObject *self, PyObject *unused)
{
    (void)unused;
    return call_aio("enter", self, NULL, NULL);
}

static PyObject *
async_client_aexit(PyObject *self, PyObject *unused)
{
    (void)unused;
    return call_aio("close", self, NULL, NULL);
}

PyDoc_STRVAR(
    async_client_health_doc,
    "health($self)\n--\n\n"
    "How the link is, as a dict: Client.health(), in a thread, for it asks the "
    "server.");

static PyObject *
async_client_health(PyObject *self, PyObject *unused)
{
    (void)unused;
    return call_aio("health", self, NULL, NULL);
}

PyDoc_STRVAR(
    async_client_pipeline_doc,
    "pipeline($self, transaction=False)\n--\n\n"
    "An AsyncPipeline: commands that leave in one write.\n\n"
    "transaction: between MULTI and EXEC, so that nothing comes between them.");

static PyObject *
async_client_pipeline(PyObject *self, PyObject *args, PyObject *kwargs)
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
    return redlane_async_pipeline_new((RedlaneClient *)self, transaction);
}

PyDoc_STRVAR(
    async_client_scan_iter_doc,
    "scan_iter($self, match=None, count=None, _type=None)\n--\n\n"
    "Iterate over the keys by scan(), with async for; a key may come more than "
    "once.\n\n"
    "match: glob pattern; count: hint of how many keys to look at in one step;\n"
    "_type: only keys of this type.");

static PyObject *
async_client_scan_iter(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return call_aio("scan_iter", self, args, kwargs);
}

#define KEYWORDS(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef async_client_methods[] = {
    {"_close_link", async_client_close_link, METH_NOARGS, async_client_close_link_doc},
    {"aclose", async_client_close, METH_NOARGS, async_client_aclose_doc},
    {"close", async_client_close, METH_NOARGS, async_client_close_doc},
    {"from_env", KEYWORDS(redlane_client_from_env),
     METH_VARARGS | METH_KEYWORDS | METH_CLASS, redlane_client_from_env_doc},
    {"health", async_client_health, METH_NOARGS, async_client_health_doc},
    {"listen", KEYWORDS(async_client_listen), METH_VARARGS | METH_KEYWORDS,
     async_client_listen_doc},
    {"pipeline", KEYWORDS(async_client_pipeline), METH_VARARGS | METH_KEYWORDS,
     async_client_pipeline_doc},
    {"scan_iter", KEYWORDS(async_client_scan_iter), METH_VARARGS | METH_KEYWORDS,
     async_client_scan_iter_doc},
    {"subscribe", KEYWORDS(redlane_client_subscribe), METH_VARARGS | METH_KEYWORDS,
     redlane_client_subscribe_doc},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {"__aenter__", async_client_aenter, METH_NOARGS, NULL},
    {"__aexit__", async_client_aexit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef async_client_getset[] = {
    {"url", redlane_client_get_url, NULL, "The URL as it may be shown: no password.",
     NULL},
    {"sync", redlane_client_get_twin, NULL,
     "The Client of the same server: same settings, breaker, journal and engine.",
     NULL},
    {"closed", redlane_client_get_closed, NULL, "True once close() was called.", NULL},
    {"_link_id", redlane_client_get_link_id, NULL, "By which its tasks are found.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef async_client_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(RedlaneClient, weakrefs), READONLY,
     NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(
    async_client_doc,
    "AsyncClient(url=None, *, token=None, fallback='raise', timeout=None, "
    "connect_timeout=None, pool_size=None, decode_responses=False, name=None, "
    "max_reply=None, max_memory=None, tls_ca=None, tls_cert=None, tls_key=None, "
    "tls_key_password=None, tls_server_name=None)\n--\n\n"
    "Client for asyncio and uvloop: the same arguments, methods and results, "
    "awaited.\n\n"
    "The commands of a loop share one connection, made on first use, and leave in one\n"
    "write a turn; any number of loops, in any threads, may use one client. A command\n"
    "runs when it is awaited. timeout is a command's own: who is cancelled or too "
    "late\n"
    "costs the others nothing. pool_size bounds the connections of threads alone.");

static PyType_Slot async_client_slots[] = {
    {Py_tp_doc, (void *)async_client_doc},
    {Py_tp_new, redlane_client_tp_new},
    {Py_tp_init, redlane_client_tp_init},
    {Py_tp_dealloc, redlane_client_tp_dealloc},
    {Py_tp_traverse, redlane_client_tp_traverse},
    {Py_tp_repr, redlane_client_tp_repr},
    {Py_tp_methods, async_client_methods},
    {Py_tp_getset, async_client_getset},
    {Py_tp_members, async_client_members},
    {0, NULL},
};

static PyType_Spec async_client_spec = {
    .name = "redlane.AsyncClient",
    .basicsize = sizeof(RedlaneClient),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = async_client_slots,
};

int
redlane_async_client_setup(PyObject *module)
{
    RedlaneState *state = redlane_state_of_module(module);

    if (redlane_state_add(module, &state->AsyncClientType, "AsyncClient",
                          PyType_FromModuleAndSpec(module, &async_client_spec, NULL)) <
        0) {
        return -1;
    }
    return redlane_command_methods_add(module, (PyTypeObject *)state->AsyncClientType,
                                       redlane_commands_client, async_client_run);
}
