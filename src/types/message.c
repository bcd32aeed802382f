/* Message: a str. */
#include "types/message.h"

#include <stddef.h>
#include <structmember.h>

#include "py/state.h"

typedef struct {
    PyUnicodeObject text;
    PyObject *channel;
    PyObject *pattern;
} Message;

PyObject *
redlane_message_text(RedlaneArg text)
{
    return PyUnicode_DecodeUTF8(text.data, (Py_ssize_t)text.size, "surrogateescape");
}

static bool
is_name(PyObject *object)
{
    return PyUnicode_Check(object) || PyBytes_Check(object);
}

int
redlane_message_arguments(PyObject *args, PyObject *kwargs, PyTypeObject *base,
                          PyObject **data, PyObject **channel, PyObject **pattern)
{
    static char *keywords[] = {"data", "channel", "pattern", NULL};

    *pattern = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O|O:Message", keywords, base,
                                     data, channel, pattern)) {
        return -1;
    }
    if (!is_name(*channel) || (*pattern != Py_None && !is_name(*pattern))) {
        PyErr_SetString(PyExc_TypeError, "channel and pattern are str or bytes");
        return -1;
    }
    return 0;
}

/* The str of a subclass is made by str itself, which copies. */
static PyObject *
make_message(PyTypeObject *type, PyObject *data, PyObject *channel, PyObject *pattern)
{
    PyObject *args = PyTuple_Pack(1, data);
    Message *self = args ? (Message *)PyUnicode_Type.tp_new(type, args, NULL) : NULL;

    Py_XDECREF(args);
    if (self) {
        self->channel = Py_NewRef(channel);
        self->pattern = Py_NewRef(pattern);
    }
    return (PyObject *)self;
}

PyObject *
redlane_message_new(RedlaneState *state, RedlaneArg payload, PyObject *channel,
                    PyObject *pattern)
{
    PyObject *data = redlane_message_text(payload), *message;

    if (!data) {
        return NULL;
    }
    message = make_message((PyTypeObject *)state->MessageType, data, channel, pattern);
    Py_DECREF(data);
    return message;
}

static PyObject *
message_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *data, *channel, *pattern;

    if (redlane_message_arguments(args, kwargs, &PyUnicode_Type, &data, &channel,
                                  &pattern) < 0) {
        return NULL;
    }
    return make_message(type, data, channel, pattern);
}

static void
message_tp_dealloc(PyObject *object)
{
    Message *self = (Message *)object;
    PyTypeObject *type = Py_TYPE(object);

    Py_CLEAR(self->channel);
    Py_CLEAR(self->pattern);
    PyUnicode_Type.tp_dealloc(object);
    Py_DECREF(type);
}

static PyObject *
message_get_data(PyObject *self, void *closure)
{
    (void)closure;
    return PyUnicode_FromObject(self);
}

static PyObject *
message_reduce(PyObject *object, PyObject *unused)
{
    Message *self = (Message *)object;
    PyObject *data = PyUnicode_FromObject(object);

    (void)unused;
    return data ? Py_BuildValue("O(NOO)", Py_TYPE(object), data, self->channel,
                                self->pattern)
                : NULL;
}

static PyMethodDef message_methods[] = {
    {"__reduce__", message_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef message_members[] = {
    {"channel", T_OBJECT, offsetof(Message, channel), READONLY,
     "The channel that it was published on."},
    {"pattern", T_OBJECT, offsetof(Message, pattern), READONLY,
     "The pattern that brought it, or None."},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef message_getset[] = {
    {"data", message_get_data, NULL, "The payload as a plain str.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(message_doc,
             "Message(data, channel, pattern=None)\n--\n\n"
             "A message of a subscription that decodes: its payload, with .channel,\n"
             ".pattern and .data. A byte that is no UTF-8 is a lone surrogate.");

static PyType_Slot message_slots[] = {
    {Py_tp_doc, (void *)message_doc},
    {Py_tp_new, message_tp_new},
    {Py_tp_dealloc, message_tp_dealloc},
    {Py_tp_methods, message_methods},
    {Py_tp_members, message_members},
    {Py_tp_getset, message_getset},
    {0, NULL},
};

static PyType_Spec message_spec = {
    .name = "redlane.Message",
    .basicsize = sizeof(Message),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = message_slots,
};

int
redlane_message_setup(PyObject *module)
{
    RedlaneState *state = redlane_state_of_module(module);
    PyObject *bases = PyTuple_Pack(1, &PyUnicode_Type), *type;

    if (!bases) {
        return -1;
    }
    type = PyType_FromModuleAndSpec(module, &message_spec, bases);
    Py_DECREF(bases);
    return redlane_state_add(module, &state->MessageType, "Message", type);
}
