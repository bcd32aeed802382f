/* What redlane._pubsub needs of C: publishing by a tool's policy, and messages as
 * JSON. Lock: the GIL; runs Python code. */
#include "types/pubsub.h"

#include "core/clock.h"
#include "py/args.h"
#include "py/state.h"
#include "types/client.h"
#include "types/flow_store.h"
#include "types/message.h"
#include "types/serializer.h"

/* bytes as they are, anything else as JSON. A new reference, or NULL. */
static PyObject *
encode(RedlaneState *state, PyObject *value)
{
    PyObject *bytes;

    if (PyObject_CheckBuffer(value)) {
        return PyBytes_FromObject(value);
    }
    bytes = redlane_json_dumps(state, value);
    if (!bytes && PyErr_ExceptionMatches(PyExc_Exception) &&
        !PyErr_ExceptionMatches(PyExc_MemoryError)) {
        PyErr_Format(state->SerializationError, "a message of type %.100s is no JSON",
                     Py_TYPE(value)->tp_name);
    }
    return bytes;
}

PyDoc_STRVAR(publish_doc,
             "_publish(client, channel, value, /)\n--\n\n"
             "Publishes JSON, or bytes as they are; while the server is away, to this\n"
             "process.");

static PyObject *
publish(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    RedlaneState *state = redlane_state_of_module(module);
    RedlaneLink *link = nargs == 3 ? redlane_client_link(state, args[0]) : NULL;
    RedlaneArg argv[3] = {REDLANE_ARG_LITERAL("PUBLISH")};
    RedlaneVector vector = {argv, 3, redlane_command_by_id(REDLANE_CMD_PUBLISH)};
    PyObject *payload, *reply = NULL;
    RedlaneStore *store = NULL;

    if (!link || redlane_client_check((RedlaneClient *)args[0]) < 0 ||
        redlane_arg_from_text(args[1], &argv[1]) < 0) {
        return NULL;
    }
    payload = encode(state, args[2]);
    if (payload) {
        argv[2] =
            (RedlaneArg){PyBytes_AS_STRING(payload), (size_t)PyBytes_GET_SIZE(payload)};
        store = redlane_link_store(link, REDLANE_POLICY_MEMORY);
    }
    if (store) {
        RedlaneRequest request = redlane_client_request((RedlaneClient *)args[0]);

        reply = redlane_flow_execute(state, store, &request, &vector);
        redlane_store_release(store);
    }
    Py_XDECREF(payload);
    return reply;
}

/* In a flow. */
static PyObject *
publish_in_flow(PyObject *module, PyObject *const *args, size_t nargs,
                PyObject *Py_UNUSED(kwnames))
{
    return publish(module, args, (Py_ssize_t)nargs);
}

PyDoc_STRVAR(publish_async_doc, "_publish_async(client, channel, value, /)\n--\n\n"
                                "The same, awaited.");

static PyObject *
publish_async(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    return redlane_flow_new(redlane_state_of_module(module), publish_in_flow, module,
                            args, (size_t)nargs, NULL);
}

static PyObject *
name_text(PyObject *name)
{
    return PyBytes_Check(name)
               ? redlane_message_text((RedlaneArg){PyBytes_AS_STRING(name),
                                                   (size_t)PyBytes_GET_SIZE(name)})
               : Py_NewRef(name);
}

/* A payload that is no JSON is a text. */
static PyObject *
decode(RedlaneState *state, PyObject *message)
{
    PyObject *value = redlane_json_loads(state, message);

    if (value || !PyErr_ExceptionMatches(PyExc_Exception) ||
        PyErr_ExceptionMatches(PyExc_MemoryError)) {
        return value;
    }
    PyErr_Clear();
    return PyBytes_Check(message) ? name_text(message) : PyUnicode_FromObject(message);
}

PyDoc_STRVAR(read_message_doc,
             "_read_message(message, /)\n--\n\n"
             "(channel, value) of a message: the channel as a str, the\n"
             "value from JSON, or else a str.");

static PyObject *
read_message(PyObject *module, PyObject *message)
{
    RedlaneState *state = redlane_state_of_module(module);
    PyObject *channel = PyObject_GetAttrString(message, "channel"), *name, *value;

    if (!channel) {
        return NULL;
    }
    name = name_text(channel);
    Py_DECREF(channel);
    value = name ? decode(state, message) : NULL;
    return value ? Py_BuildValue("(NN)", name, value) : (Py_XDECREF(name), NULL);
}

static PyMethodDef functions[] = {
    {"_publish", (PyCFunction)(void (*)(void))publish, METH_FASTCALL, publish_doc},
    {"_publish_async", (PyCFunction)(void (*)(void))publish_async, METH_FASTCALL,
     publish_async_doc},
    {"_read_message", read_message, METH_O, read_message_doc},
    {NULL, NULL, 0, NULL},
};

int
redlane_pubsub_setup(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
