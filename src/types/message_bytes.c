/* BytesMessage: bytes.
 *
 * The bytes of a bytes object stand in the object itself, so a subclass can have no
 * fields of its own. Channel and pattern stand behind them:
 *
 *   head | b y t e s … \0 | … aligned | channel | pattern
 */
#include <stddef.h>
#include <string.h>

#include "py/state.h"
#include "types/message.h"

typedef struct {
    PyObject *channel;
    PyObject *pattern;
} Tail;

#define TAIL_ROOM (sizeof(Tail) + _Alignof(Tail) - 1)

static size_t
tail_offset(Py_ssize_t size)
{
    size_t end = offsetof(PyBytesObject, ob_sval) + (size_t)size + 1;

    return (end + _Alignof(Tail) - 1) / _Alignof(Tail) * _Alignof(Tail);
}

static Tail *
tail_of(PyObject *self)
{
    return (Tail *)(void *)((char *)self + tail_offset(PyBytes_GET_SIZE(self)));
}

/* The field is for nobody's eyes from 3.11 on; whoever makes the object must set it. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static void
forget_hash(PyBytesObject *self)
{
    self->ob_shash = -1;
}
#pragma GCC diagnostic pop

static PyObject *
make_message(PyTypeObject *type, RedlaneArg data, PyObject *channel, PyObject *pattern)
{
    PyObject *self;

    if (data.size > (size_t)PY_SSIZE_T_MAX - 2 * TAIL_ROOM - sizeof(PyBytesObject)) {
        return PyErr_NoMemory();
    }
    self = type->tp_alloc(type, (Py_ssize_t)(data.size + TAIL_ROOM)); /* zeroed */
    if (self) {
        Py_SET_SIZE((PyVarObject *)self, (Py_ssize_t)data.size);
        forget_hash((PyBytesObject *)self);
        memcpy(PyBytes_AS_STRING(self), data.data, data.size);
        tail_of(self)->channel = Py_NewRef(channel);
        tail_of(self)->pattern = Py_NewRef(pattern);
    }
    return self;
}

PyObject *
redlane_message_bytes_new(RedlaneState *state, RedlaneArg payload, PyObject *channel,
                          PyObject *pattern)
{
    return make_message((PyTypeObject *)state->BytesMessageType, payload, channel,
                        pattern);
}

static RedlaneArg
arg_of(PyObject *bytes)
{
    return (RedlaneArg){PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes)};
}

static PyObject *
message_bytes_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *data, *channel, *pattern;

    if (redlane_message_arguments(args, kwargs, &PyBytes_Type, &data, &channel,
                                  &pattern) < 0) {
        return NULL;
    }
    return make_message(type, arg_of(data), channel, pattern);
}

static void
message_bytes_tp_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Tail *tail = tail_of(self);

    Py_CLEAR(tail->channel);
    Py_CLEAR(tail->pattern);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
message_bytes_get_channel(PyObject *self, void *closure)
{
    (void)closure;
    return Py_NewRef(tail_of(self)->channel);
}

static PyObject *
message_bytes_get_pattern(PyObject *self, void *closure)
{
    (void)closure;
    return Py_NewRef(tail_of(self)->pattern);
}

static PyObject *
message_bytes_get_data(PyObject *self, void *closure)
{
    (void)closure;
    return PyBytes_FromStringAndSize(PyBytes_AS_STRING(self), PyBytes_GET_SIZE(self));
}

static PyObject *
message_bytes_reduce(PyObject *self, PyObject *unused)
{
    PyObject *data = message_bytes_get_data(self, NULL);

    (void)unused;
    return data ? Py_BuildValue("O(NOO)", Py_TYPE(self), data, tail_of(self)->channel,
                                tail_of(self)->pattern)
                : NULL;
}

static PyObject *
message_bytes_sizeof(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyLong_FromSize_t(tail_offset(PyBytes_GET_SIZE(self)) + sizeof(Tail));
}

static PyMethodDef message_bytes_methods[] = {
    {"__reduce__", message_bytes_reduce, METH_NOARGS, NULL},
    {"__sizeof__", message_bytes_sizeof, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef message_bytes_getset[] = {
    {"channel", message_bytes_get_channel, NULL,
     "The channel that it was published on.", NULL},
    {"pattern", message_bytes_get_pattern, NULL,
     "The pattern that brought it, or None.", NULL},
    {"data", message_bytes_get_data, NULL, "The payload as plain bytes.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(message_bytes_doc,
             "BytesMessage(data, channel, pattern=None)\n--\n\n"
             "A message of a subscription: its payload, with .channel, .pattern and\n"
             ".data.");

static PyType_Slot message_bytes_slots[] = {
    {Py_tp_doc, (void *)message_bytes_doc},    {Py_tp_new, message_bytes_tp_new},
    {Py_tp_dealloc, message_bytes_tp_dealloc}, {Py_tp_methods, message_bytes_methods},
    {Py_tp_getset, message_bytes_getset},      {0, NULL},
};

static PyType_Spec message_bytes_spec = {
    .name = "redlane.BytesMessage",
    .basicsize = 0, /* as of bytes, and the item's size too */
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = message_bytes_slots,
};

int
redlane_message_bytes_setup(PyObject *module)
{
    RedlaneState *state = redlane_state_of_module(module);
    PyObject *bases = PyTuple_Pack(1, &PyBytes_Type), *type;

    if (!bases) {
        return -1;
    }
    type = PyType_FromModuleAndSpec(module, &message_bytes_spec, bases);
    Py_DECREF(bases);
    return redlane_state_add(module, &state->BytesMessageType, "BytesMessage", type);
}
