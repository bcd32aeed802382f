/* Serialisers. Lock: the GIL. */
#include "types/serializer.h"

#include "core/number.h"
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
                     "serializer must be 'json', 'raw', 'msgpack', 'pickle' or an "
                     "object with dumps and loads, not %.100s",
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
        {"pickle", REDLANE_SERIALIZER_PICKLE},
    };

    *serializer = (RedlaneSerializer){
        .state = state, .shown = Py_NewRef(which), .compress_above = -1};
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
                 "serializer must be 'json', 'raw', 'msgpack', 'pickle' or an object "
                 "with dumps and loads, not %R",
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
    redlane_seal_free(serializer->seal);
    serializer->seal = NULL;
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
import_functions(RedlaneSerializer *serializer, const char *module, const char *dumps,
                 const char *loads)
{
    serializer->dumps = import_function(module, dumps);
    serializer->loads = serializer->dumps ? import_function(module, loads) : NULL;
    return serializer->loads ? 0 : -1;
}

int
redlane_serializer_prepare(RedlaneSerializer *serializer)
{
    switch (serializer->kind) {
    case REDLANE_SERIALIZER_JSON:
        return redlane_json_prepare(serializer->state);
    case REDLANE_SERIALIZER_MSGPACK:
        return import_functions(serializer, "msgspec.msgpack", "encode", "decode");
    case REDLANE_SERIALIZER_PICKLE:
        return import_functions(serializer, "pickle", "dumps", "loads");
    case REDLANE_SERIALIZER_RAW:
    case REDLANE_SERIALIZER_CUSTOM:
        break;
    }
    return 0;
}

const char *
redlane_serializer_typed_name(const RedlaneSerializer *serializer)
{
    return serializer->kind == REDLANE_SERIALIZER_JSON      ? "json"
           : serializer->kind == REDLANE_SERIALIZER_MSGPACK ? "msgpack"
                                                            : NULL;
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

bool
redlane_serializer_is_number(PyObject *data)
{
    int64_t number;

    return redlane_number_parse_int64(PyBytes_AS_STRING(data),
                                      (size_t)PyBytes_GET_SIZE(data), &number);
}

/* Any exception, or SerializationError. */
static PyObject *
dump_value(RedlaneSerializer *serializer, PyObject *value)
{
    switch (serializer->kind) {
    case REDLANE_SERIALIZER_JSON:
        return redlane_json_dumps(serializer->state, value);
    case REDLANE_SERIALIZER_RAW:
        return dump_raw(serializer, value);
    case REDLANE_SERIALIZER_MSGPACK:
    case REDLANE_SERIALIZER_PICKLE:
        return PyObject_CallOneArg(serializer->dumps, value);
    case REDLANE_SERIALIZER_CUSTOM:
        break;
    }
    return dump_custom(serializer, value);
}

PyObject *
redlane_serializer_dumps(RedlaneSerializer *serializer, RedlaneResultType *type,
                         PyObject *value)
{
    static const char *const verbs[] = {
        [REDLANE_SERIALIZER_JSON] = "cannot be written as JSON",
        [REDLANE_SERIALIZER_RAW] = "is not bytes",
        [REDLANE_SERIALIZER_MSGPACK] = "cannot be written as MessagePack",
        [REDLANE_SERIALIZER_CUSTOM] = "was refused by the serializer",
        [REDLANE_SERIALIZER_PICKLE] = "cannot be pickled",
    };
    PyObject *data;

    if (type && redlane_result_type_resolve(type, serializer->state) < 0) {
        return NULL;
    }
    data = type && type->dumps ? PyObject_CallOneArg(type->dumps, value)
                               : dump_value(serializer, value);
    if (!data && !PyErr_ExceptionMatches(serializer->state->SerializationError)) {
        return raise_serialization(serializer, value, verbs[serializer->kind]);
    }
    return data;
}

static PyObject *
read_number(PyObject *data)
{
    return PyLong_FromString(PyBytes_AS_STRING(data), NULL, 10);
}

/* Any exception. */
static PyObject *
load_value(RedlaneSerializer *serializer, PyObject *data, bool bare)
{
    PyObject *value;

    switch (serializer->kind) {
    case REDLANE_SERIALIZER_JSON:
        return redlane_json_loads(serializer->state, data);
    case REDLANE_SERIALIZER_RAW:
        return Py_NewRef(data);
    case REDLANE_SERIALIZER_MSGPACK:
        if (bare && redlane_serializer_is_number(data)) { /* its own are marked */
            return read_number(data);
        }
        return PyObject_CallOneArg(serializer->loads, data);
    case REDLANE_SERIALIZER_PICKLE: /* what is here was sealed */
        return PyObject_CallOneArg(serializer->loads, data);
    case REDLANE_SERIALIZER_CUSTOM:
        break;
    }
    value = PyObject_CallOneArg(serializer->loads, data);
    if (!value && bare && redlane_serializer_is_number(data) &&
        PyErr_ExceptionMatches(PyExc_Exception) &&
        !PyErr_ExceptionMatches(PyExc_MemoryError)) {
        PyErr_Clear(); /* not its own: increment() wrote it */
        value = read_number(data);
    }
    return value;
}

PyObject *
redlane_serializer_loads(RedlaneSerializer *serializer, RedlaneResultType *type,
                         PyObject *data, bool bare)
{
    PyObject *value;

    if (type && redlane_result_type_resolve(type, serializer->state) < 0) {
        return NULL;
    }
    value = type && type->loads ? PyObject_CallOneArg(type->loads, data)
                                : load_value(serializer, data, bare);
    return value ? value : raise_serialization(serializer, NULL, NULL);
}
