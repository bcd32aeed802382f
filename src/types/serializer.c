/* Serialisers. Lock: the GIL. */
#include "types/serializer.h"

#include "core/number.h"
#include "core/script.h"
#include "py/state.h"

static PyObject *
import_function(const char *module_name, const char *name)
{
    PyObject *module = PyImport_ImportModule(module_name), *function;

    if (!module) {
        return NULL;
    }
    function = PyObject_GetAttrString(module, name);
    Py_DECREF(module);
    return function;
}

static int
take_custom(RedlaneSerializer *serializer, PyObject *which)
{
    serializer->dumps = PyObject_GetAttrString(which, "dumps");
    serializer->loads =
        serializer->dumps ? PyObject_GetAttrString(which, "loads") : NULL;
    if (!serializer->loads && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Format(PyExc_TypeError,
                     "serializer must be 'json', 'raw', 'msgpack' or an object with "
                     "dumps and loads, not %.100s",
                     Py_TYPE(which)->tp_name);
    }
    serializer->kind = REDLANE_SERIALIZER_CUSTOM;
    return serializer->loads ? 0 : -1;
}

int
redlane_serializer_init(RedlaneSerializer *serializer, RedlaneState *state,
                        PyObject *which)
{
    static const struct {
        const char *name;
        RedlaneSerializerKind kind;
    } names[] = {
        {"json", REDLANE_SERIALIZER_JSON},
        {"raw", REDLANE_SERIALIZER_RAW},
        {"msgpack", REDLANE_SERIALIZER_MSGPACK},
    };

    *serializer = (RedlaneSerializer){.state = state, .shown = Py_NewRef(which)};
    if (!PyUnicode_Check(which)) {
        return take_custom(serializer, which);
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (PyUnicode_CompareWithASCIIString(which, names[i].name) == 0) {
            serializer->kind = names[i].kind;
            return 0;
        }
    }
    PyErr_Format(PyExc_ValueError,
                 "serializer must be 'json', 'raw', 'msgpack' or an object with dumps "
                 "and loads, not %R",
                 which);
    return -1;
}

int
redlane_serializer_traverse(RedlaneSerializer *serializer, visitproc visit, void *arg)
{
    Py_VISIT(serializer->shown);
    Py_VISIT(serializer->dumps);
    Py_VISIT(serializer->loads);
    return 0;
}

void
redlane_serializer_clear(RedlaneSerializer *serializer)
{
    Py_CLEAR(serializer->shown);
    Py_CLEAR(serializer->dumps);
    Py_CLEAR(serializer->loads);
}

/* Sentences of the json module that name types only, never a value. */
static bool
is_safe_message(PyObject *error)
{
    static const char *const safe[] = {
        "Object of type ",
        "keys must be str, int, float, bool or None, not ",
        "Circular reference detected",
    };
    PyObject *text;
    const char *words;
    bool found = false;

    if (!Py_IS_TYPE(error, (PyTypeObject *)PyExc_TypeError) &&
        !Py_IS_TYPE(error, (PyTypeObject *)PyExc_ValueError)) {
        return false;
    }
    text = PyObject_Str(error);
    words = text ? PyUnicode_AsUTF8(text) : NULL;
    for (size_t i = 0; words && i < sizeof(safe) / sizeof(safe[0]); i++) {
        found |= strncmp(words, safe[i], strlen(safe[i])) == 0;
    }
    Py_XDECREF(text);
    PyErr_Clear();
    return found;
}

/* Turns the exception that is set into a SerializationError, without a chain: the
 * original's text may hold the value. */
static PyObject *
raise_serialization(RedlaneSerializer *serializer, PyObject *value, const char *verb)
{
    PyObject *type, *error, *traceback;

    if (!PyErr_ExceptionMatches(PyExc_Exception) ||
        PyErr_ExceptionMatches(PyExc_MemoryError)) {
        return NULL;
    }
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (!value) {
        PyErr_Format(serializer->state->SerializationError,
                     "the stored value is not readable as %S (%s)", serializer->shown,
                     ((PyTypeObject *)type)->tp_name);
    }
    else if (error && is_safe_message(error)) {
        PyErr_Format(serializer->state->SerializationError,
                     "a value of type '%.100s' %s: %S", Py_TYPE(value)->tp_name, verb,
                     error);
    }
    else {
        PyErr_Format(serializer->state->SerializationError,
                     "a value of type '%.100s' %s (%.100s)", Py_TYPE(value)->tp_name,
                     verb, ((PyTypeObject *)type)->tp_name);
    }
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return NULL;
}

static PyObject *
dump_raw(RedlaneSerializer *serializer, PyObject *value)
{
    if (PyBytes_CheckExact(value)) {
        return Py_NewRef(value);
    }
    if (PyBytes_Check(value) || PyByteArray_Check(value) || PyMemoryView_Check(value)) {
        return PyBytes_FromObject(value);
    }
    PyErr_Format(serializer->state->SerializationError,
                 "serializer='raw' stores bytes, not a value of type '%.100s'",
                 Py_TYPE(value)->tp_name);
    return NULL;
}

static int
import_msgpack(RedlaneSerializer *serializer)
{
    if (!serializer->dumps) {
        serializer->dumps = import_function("msgspec.msgpack", "encode");
    }
    if (serializer->dumps && !serializer->loads) {
        serializer->loads = import_function("msgspec.msgpack", "decode");
    }
    return serializer->loads ? 0 : -1;
}

int
redlane_serializer_prepare(RedlaneSerializer *serializer)
{
    switch (serializer->kind) {
    case REDLANE_SERIALIZER_JSON:
        return redlane_json_prepare(serializer->state);
    case REDLANE_SERIALIZER_MSGPACK:
        return import_msgpack(serializer);
    case REDLANE_SERIALIZER_RAW:
    case REDLANE_SERIALIZER_CUSTOM:
        break;
    }
    return 0;
}

static PyObject *
dump_custom(RedlaneSerializer *serializer, PyObject *value)
{
    PyObject *data = PyObject_CallOneArg(serializer->dumps, value);

    if (!data || PyBytes_CheckExact(data)) {
        return data;
    }
    if (PyUnicode_Check(data)) {
        Py_SETREF(data, PyUnicode_AsUTF8String(data));
        return data;
    }
    if (PyBytes_Check(data) || PyByteArray_Check(data) || PyMemoryView_Check(data)) {
        Py_SETREF(data, PyBytes_FromObject(data));
        return data;
    }
    PyErr_Format(PyExc_TypeError, "dumps returned %.100s", Py_TYPE(data)->tp_name);
    Py_DECREF(data);
    return NULL;
}

/* Whether these bytes are what INCRBY leaves: 64 bits as decimal digits. */
static bool
is_number(PyObject *data)
{
    int64_t number;

    return redlane_number_parse_int64(PyBytes_AS_STRING(data),
                                      (size_t)PyBytes_GET_SIZE(data), &number);
}

/* A value that would read as a lease, an envelope or (MessagePack's b"5" is 53) a
 * number of INCRBY gets the mark for plain values. */
static PyObject *
mark_plain(const RedlaneSerializer *serializer, PyObject *data)
{
    PyObject *marked;
    char *to;
    size_t size = (size_t)PyBytes_GET_SIZE(data);

    if (likely(size < REDLANE_MARK_SIZE ||
               memcmp(PyBytes_AS_STRING(data), REDLANE_MARK, REDLANE_MARK_SIZE) != 0) &&
        !(serializer->kind == REDLANE_SERIALIZER_MSGPACK && is_number(data))) {
        return data;
    }
    marked =
        PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(size + REDLANE_MARK_SIZE + 1));
    if (marked) {
        to = PyBytes_AS_STRING(marked);
        memcpy(to, REDLANE_MARK, REDLANE_MARK_SIZE);
        to[REDLANE_MARK_SIZE] = REDLANE_MARK_PLAIN;
        memcpy(to + REDLANE_MARK_SIZE + 1, PyBytes_AS_STRING(data), size);
    }
    Py_DECREF(data);
    return marked;
}

PyObject *
redlane_serializer_dumps(RedlaneSerializer *serializer, PyObject *value)
{
    static const char *const verbs[] = {
        [REDLANE_SERIALIZER_JSON] = "cannot be written as JSON",
        [REDLANE_SERIALIZER_RAW] = "is not bytes",
        [REDLANE_SERIALIZER_MSGPACK] = "cannot be written as MessagePack",
        [REDLANE_SERIALIZER_CUSTOM] = "was refused by the serializer",
    };
    PyObject *data = NULL;

    switch (serializer->kind) {
    case REDLANE_SERIALIZER_JSON:
        data = redlane_json_dumps(serializer->state, value);
        break;
    case REDLANE_SERIALIZER_RAW:
        data = dump_raw(serializer, value);
        break;
    case REDLANE_SERIALIZER_MSGPACK:
        if (import_msgpack(serializer) == 0) {
            data = PyObject_CallOneArg(serializer->dumps, value);
        }
        break;
    case REDLANE_SERIALIZER_CUSTOM:
        data = dump_custom(serializer, value);
        break;
    }
    if (!data) {
        if (PyErr_ExceptionMatches(serializer->state->SerializationError)) {
            return NULL;
        }
        return raise_serialization(serializer, value, verbs[serializer->kind]);
    }
    return mark_plain(serializer, data);
}

/* Takes the mark for plain values off. A new reference, or NULL. */
static PyObject *
unmark(RedlaneSerializer *serializer, PyObject *stored)
{
    const char *data = PyBytes_AS_STRING(stored);
    Py_ssize_t size = PyBytes_GET_SIZE(stored);

    if (likely(size < REDLANE_MARK_SIZE ||
               memcmp(data, REDLANE_MARK, REDLANE_MARK_SIZE) != 0)) {
        return Py_NewRef(stored);
    }
    if (size > REDLANE_MARK_SIZE && data[REDLANE_MARK_SIZE] == REDLANE_MARK_PLAIN) {
        return PyBytes_FromStringAndSize(data + REDLANE_MARK_SIZE + 1,
                                         size - REDLANE_MARK_SIZE - 1);
    }
    PyErr_SetString(serializer->state->SerializationError,
                    "the stored value has an unknown envelope");
    return NULL;
}

static PyObject *
read_number(PyObject *data)
{
    return PyLong_FromString(PyBytes_AS_STRING(data), NULL, 10);
}

PyObject *
redlane_serializer_loads(RedlaneSerializer *serializer, PyObject *stored)
{
    PyObject *data = unmark(serializer, stored), *value = NULL;

    if (!data) {
        return NULL;
    }
    switch (serializer->kind) {
    case REDLANE_SERIALIZER_RAW:
        return data;
    case REDLANE_SERIALIZER_JSON:
        value = redlane_json_loads(serializer->state, data);
        break;
    case REDLANE_SERIALIZER_MSGPACK:
        if (data == stored && is_number(data)) { /* of increment(): values are marked */
            value = read_number(data);
        }
        else if (import_msgpack(serializer) == 0) {
            value = PyObject_CallOneArg(serializer->loads, data);
        }
        break;
    case REDLANE_SERIALIZER_CUSTOM:
        value = PyObject_CallOneArg(serializer->loads, data);
        if (!value && is_number(data) && PyErr_ExceptionMatches(PyExc_Exception) &&
            !PyErr_ExceptionMatches(PyExc_MemoryError)) {
            PyErr_Clear(); /* not its own: increment() wrote it */
            value = read_number(data);
        }
        break;
    }
    Py_DECREF(data);
    return value ? value : raise_serialization(serializer, NULL, NULL);
}

static bool
has_mark(const char *data, size_t size, char kind)
{
    return size > REDLANE_MARK_SIZE &&
           memcmp(data, REDLANE_MARK, REDLANE_MARK_SIZE) == 0 &&
           data[REDLANE_MARK_SIZE] == kind;
}

bool
redlane_serializer_is_lease(const char *data, size_t size)
{
    return has_mark(data, size, REDLANE_MARK_LEASE);
}

bool
redlane_serializer_is_raised(const char *data, size_t size)
{
    return has_mark(data, size, REDLANE_MARK_RAISED);
}
