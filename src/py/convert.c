/* RedlaneReply to Python objects.
 *
 * With the GIL; only redlane_convert_bulk may be called under a C lock. */
#include "py/convert.h"

#include <string.h>

#include "py/errors.h"

/* The engine's replies nest twice (SCAN in EXEC); hostile depth comes only from wires,
 * which have a limit of their own. */
#define DEPTH_MAX 8

static bool
is_ascii(const char *data, size_t size)
{
    uint64_t word, high = 0;

    for (; size >= sizeof(word); data += sizeof(word), size -= sizeof(word)) {
        memcpy(&word, data, sizeof(word));
        high |= word;
    }
    for (; size; data++, size--) {
        high |= (unsigned char)*data;
    }
    return !(high & UINT64_C(0x8080808080808080));
}

void *
redlane_convert_bulk(const char *data, size_t size, bool decode)
{
    PyObject *text;

    if (!decode || !is_ascii(data, size)) {
        return PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
    }
    text = PyUnicode_New((Py_ssize_t)size, 127);
    if (text && size) {
        memcpy(PyUnicode_1BYTE_DATA(text), data, size);
    }
    return text;
}

static PyObject *
convert_text(const RedlaneNode *node, bool decode)
{
    if (decode) {
        return PyUnicode_DecodeUTF8(node->data, (Py_ssize_t)node->size, "strict");
    }
    return PyBytes_FromStringAndSize(node->data, (Py_ssize_t)node->size);
}

static PyObject *convert_node(RedlaneState *state, const RedlaneReply *reply,
                              size_t *offset, int depth);

static PyObject *
convert_array(RedlaneState *state, const RedlaneReply *reply, size_t *offset,
              Py_ssize_t count, int depth)
{
    PyObject *list = PyList_New(count);

    for (Py_ssize_t i = 0; list && i < count; i++) {
        PyObject *item = convert_node(state, reply, offset, depth + 1);

        if (!item) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, i, item);
    }
    return list;
}

static PyObject *
convert_node(RedlaneState *state, const RedlaneReply *reply, size_t *offset, int depth)
{
    RedlaneNode node;

    if (depth > DEPTH_MAX || !redlane_reply_next(reply, offset, &node)) {
        PyErr_SetString(PyExc_SystemError, "redlane: a reply is cut short");
        return NULL;
    }
    switch (node.kind) {
    case REDLANE_REPLY_NIL:
        Py_RETURN_NONE;
    case REDLANE_REPLY_INTEGER:
        return PyLong_FromLongLong(node.number);
    case REDLANE_REPLY_ERROR:
        return redlane_errors_from_reply(state, node.data, node.size);
    case REDLANE_REPLY_ARRAY:
        return convert_array(state, reply, offset, (Py_ssize_t)node.number, depth);
    case REDLANE_REPLY_STATUS:
    case REDLANE_REPLY_BULK:
        break;
    }
    return convert_text(&node, reply->decode);
}

PyObject *
redlane_convert_reply(RedlaneState *state, RedlaneReply *reply)
{
    PyObject *object = reply->object, *text;
    size_t offset = 0;

    reply->object = NULL;
    if (reply->failed) {
        Py_XDECREF(object);
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    }
    if (!object) {
        return convert_node(state, reply, &offset, 0);
    }
    if (!reply->decode || !PyBytes_Check(object)) {
        return object;
    }
    text = PyUnicode_DecodeUTF8(PyBytes_AS_STRING(object), PyBytes_GET_SIZE(object),
                                "strict");
    Py_DECREF(object);
    return text;
}

PyObject *
redlane_convert_raised(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type = NULL, *value = NULL, *traceback = NULL;

    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (value && traceback) {
        (void)PyException_SetTraceback(value, traceback);
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
#endif
}
