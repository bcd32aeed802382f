/* The text of one argument in a wire key; the grammar stands in wire_key.h.
 * Lock: the GIL. Classes other than the built-in ones and their subclasses may run code
 * of their own (__cache_key__, properties), so containers are read defensively: every
 * item is held while it is written. */
#include <stdio.h>
#include <stdlib.h>

#include "py/state.h"
#include "types/wire_key.h"

typedef struct {
    RedlaneState *state;
    RedlaneBuffer *text;
    PyObject *shown;     /* BORROWED */
    PyObject *parameter; /* BORROWED */
} Writer;

static int write_value(Writer *writer, PyObject *value);

static int
write_bytes(Writer *writer, const char *data, size_t size)
{
    if (unlikely(size > REDLANE_WIRE_KEY_LIMIT ||
                 writer->text->size > REDLANE_WIRE_KEY_LIMIT)) {
        PyErr_Format(PyExc_ValueError, "%U(): the arguments are too long for a key",
                     writer->shown);
        return -1;
    }
    if (unlikely(redlane_buffer_append(writer->text, data, size) < 0)) {
        (void)PyErr_NoMemory();
        return -1;
    }
    return 0;
}

#define write_literal(writer, literal) \
    write_bytes((writer), (literal), sizeof(literal) - 1)

static int
write_str_object(Writer *writer, PyObject *object)
{
    Py_ssize_t size;
    const char *data = PyUnicode_AsUTF8AndSize(object, &size);

    return data ? write_bytes(writer, data, (size_t)size) : -1;
}

static int
write_long(Writer *writer, PyObject *value)
{
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    char digits[24];
    PyObject *hex;
    int size, result;

    if (number == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (likely(!overflow)) {
        size = snprintf(digits, sizeof(digits), "%lld", number);
        return write_bytes(writer, digits, (size_t)size);
    }
    /* Decimal text is quadratic, and refused past 4,300 digits: hexadecimal is not. */
    hex = PyNumber_ToBase(value, 16);
    if (!hex) {
        return -1;
    }
    result = write_str_object(writer, hex);
    Py_DECREF(hex);
    return result;
}

static int
write_double(Writer *writer, double value)
{
    static const double canonical_nan = __builtin_nan("");
    char bits[32];
    uint64_t number;
    char *text;
    int result, size;

    if (value != value && memcmp(&value, &canonical_nan, sizeof(value)) != 0) {
        memcpy(&number, &value, sizeof(number));
        size = snprintf(bits, sizeof(bits), "nan(%016llx)", (unsigned long long)number);
        return write_bytes(writer, bits, (size_t)size);
    }
    text = PyOS_double_to_string(value, 'r', 0, Py_DTSF_ADD_DOT_0, NULL);
    if (!text) {
        return -1;
    }
    result = write_bytes(writer, text, strlen(text));
    PyMem_Free(text);
    return result;
}

/* Where a byte of a quoted text is written: at most six bytes. */
static size_t
escape_byte(unsigned char byte, char *to)
{
    static const char digits[] = "0123456789abcdef";

    if (byte == '"' || byte == '\\') {
        to[0] = '\\';
        to[1] = (char)byte;
        return 2;
    }
    if (byte >= 0x20 && byte != 0x7f) {
        to[0] = (char)byte;
        return 1;
    }
    memcpy(to, "\\u00", 4);
    to[4] = digits[byte >> 4];
    to[5] = digits[byte & 15];
    return 6;
}

/* Quotes UTF-8. With `surrogates`, ED A0..BF xx is a lone surrogate: written \udxxx,
 * which nothing else is, as every backslash of the text is doubled. */
static int
write_quoted(Writer *writer, const unsigned char *data, size_t size, bool surrogates)
{
    size_t start = 0;
    char escaped[8];

    if (write_literal(writer, "\"") < 0) {
        return -1;
    }
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = data[i];
        size_t length;

        if (surrogates && byte == 0xed && data[i + 1] >= 0xa0) {
            unsigned code =
                0xd000u | (unsigned)(data[i + 1] & 0x3f) << 6 | (data[i + 2] & 0x3f);

            length = (size_t)snprintf(escaped, sizeof(escaped), "\\u%04x", code);
        }
        else if (likely(byte >= 0x20 && byte != '"' && byte != '\\' && byte != 0x7f)) {
            continue;
        }
        else {
            length = escape_byte(byte, escaped);
        }
        if (write_bytes(writer, (const char *)data + start, i - start) < 0 ||
            write_bytes(writer, escaped, length) < 0) {
            return -1;
        }
        i += length == 6 && escaped[2] == 'd' ? 2 : 0; /* a surrogate is three bytes */
        start = i + 1;
    }
    if (write_bytes(writer, (const char *)data + start, size - start) < 0) {
        return -1;
    }
    return write_literal(writer, "\"");
}

static int
write_str(Writer *writer, PyObject *value)
{
    Py_ssize_t size;
    const char *data = PyUnicode_AsUTF8AndSize(value, &size);
    PyObject *bytes;
    int result;

    if (likely(data != NULL)) {
        return write_quoted(writer, (const unsigned char *)data, (size_t)size, false);
    }
    if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
        return -1;
    }
    PyErr_Clear();
    bytes = PyUnicode_AsEncodedString(value, "utf-8", "surrogatepass");
    if (!bytes) {
        return -1;
    }
    result = write_quoted(writer, (const unsigned char *)PyBytes_AS_STRING(bytes),
                          (size_t)PyBytes_GET_SIZE(bytes), true);
    Py_DECREF(bytes);
    return result;
}

/* b"…": ASCII as it is, every other byte as \xHH. */
static int
write_binary(Writer *writer, const char *data, size_t size)
{
    static const char digits[] = "0123456789abcdef";

    if (write_literal(writer, "b\"") < 0) {
        return -1;
    }
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)data[i];
        char escaped[4] = {'\\', 'x', digits[byte >> 4], digits[byte & 15]};

        if (byte == '"' || byte == '\\') {
            escaped[1] = (char)byte;
        }
        if (byte >= 0x20 && byte < 0x7f && byte != '"' && byte != '\\') {
            if (write_bytes(writer, data + i, 1) < 0) {
                return -1;
            }
        }
        else if (write_bytes(writer, escaped, escaped[1] == 'x' ? 4 : 2) < 0) {
            return -1;
        }
    }
    return write_literal(writer, "\"");
}

static int
write_held(Writer *writer, PyObject *value)
{
    int result;

    Py_INCREF(value);
    result = write_value(writer, value);
    Py_DECREF(value);
    return result;
}

static int
write_tuple(Writer *writer, PyObject *value)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(value); i++) {
        if ((i && write_literal(writer, ",") < 0) ||
            write_held(writer, PyTuple_GET_ITEM(value, i)) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
write_list(Writer *writer, PyObject *value)
{
    /* The size is read each time: an item's own code may change the list. */
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(value); i++) {
        if ((i && write_literal(writer, ",") < 0) ||
            write_held(writer, PyList_GET_ITEM(value, i)) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Entries of a dict or set as they stand one after another in the text. */
typedef struct {
    size_t offset;
    size_t size;
    const char *data; /* set when all are written */
} Entry;

static int
compare_entries(const void *left, const void *right)
{
    const Entry *a = left, *b = right;
    int order = memcmp(a->data, b->data, a->size < b->size ? a->size : b->size);

    return order ? order : (a->size > b->size) - (a->size < b->size);
}

/* Puts the entries, which begin at `start`, in the order of their bytes, with commas:
 * the canonical order, as no two differ only in order. */
static int
sort_entries(Writer *writer, size_t start, Entry *entries, size_t count)
{
    RedlaneBuffer sorted = {0};
    int result = -1;

    for (size_t i = 0; i < count; i++) {
        entries[i].data = writer->text->data + entries[i].offset;
    }
    if (count > 1) {
        qsort(entries, count, sizeof(*entries), compare_entries);
    }
    if (redlane_buffer_reserve(&sorted, writer->text->size - start + count) < 0) {
        goto memory;
    }
    for (size_t i = 0; i < count; i++) {
        if (i) {
            (void)redlane_buffer_append_byte(&sorted, ',');
        }
        (void)redlane_buffer_append(&sorted, entries[i].data, entries[i].size);
    }
    writer->text->size = start;
    if (redlane_buffer_append(writer->text, sorted.data, sorted.size) < 0) {
        goto memory;
    }
    result = 0;
    goto exit;
memory:
    (void)PyErr_NoMemory();
exit:
    redlane_buffer_free(&sorted);
    return result;
}

static int
write_dict_entries(Writer *writer, PyObject *value, Entry *entries, Py_ssize_t limit,
                   size_t *count)
{
    PyObject *key, *item;
    Py_ssize_t position = 0;

    while (PyDict_Next(value, &position, &key, &item)) {
        Entry *entry = &entries[*count];
        int result;

        if ((Py_ssize_t)*count == limit) {
            PyErr_SetString(PyExc_RuntimeError, "dictionary changed size");
            return -1;
        }
        entry->offset = writer->text->size;
        Py_INCREF(key);
        Py_INCREF(item);
        result = write_value(writer, key);
        if (result == 0) {
            result = write_literal(writer, ":");
        }
        if (result == 0) {
            result = write_value(writer, item);
        }
        Py_DECREF(key);
        Py_DECREF(item);
        if (result < 0) {
            return -1;
        }
        entry->size = writer->text->size - entry->offset;
        ++*count;
    }
    return 0;
}

static int
write_set_entries(Writer *writer, PyObject *value, Entry *entries, Py_ssize_t limit,
                  size_t *count)
{
    /* The base class' own iterator: a subclass may have an __iter__ of its own. */
    PyObject *iterator = PySet_Type.tp_iter(value), *item;

    if (!iterator) {
        return -1;
    }
    while ((item = PyIter_Next(iterator))) {
        Entry *entry = &entries[*count];

        if ((Py_ssize_t)*count == limit) {
            PyErr_SetString(PyExc_RuntimeError, "set changed size");
            Py_DECREF(item);
            break;
        }
        entry->offset = writer->text->size;
        if (write_value(writer, item) < 0) {
            Py_DECREF(item);
            break;
        }
        Py_DECREF(item);
        entry->size = writer->text->size - entry->offset;
        ++*count;
    }
    Py_DECREF(iterator);
    return PyErr_Occurred() ? -1 : 0;
}

/* A dict or set, sorted; the brackets are the caller's. */
static int
write_unordered(Writer *writer, PyObject *value)
{
    bool dict = PyDict_Check(value);
    Py_ssize_t size = dict ? PyDict_Size(value) : PySet_GET_SIZE(value);
    size_t start = writer->text->size, count = 0;
    Entry *entries;
    int result;

    /* One more than needed, so that an entry too many is seen before it is written. */
    entries = PyMem_Calloc((size_t)size + 1, sizeof(*entries));
    if (!entries) {
        (void)PyErr_NoMemory();
        return -1;
    }
    result = dict ? write_dict_entries(writer, value, entries, size, &count)
                  : write_set_entries(writer, value, entries, size, &count);
    if (result == 0) {
        result = sort_entries(writer, start, entries, count);
    }
    PyMem_Free(entries);
    return result;
}

static int
write_complex(Writer *writer, PyObject *value)
{
    Py_complex number = PyComplex_AsCComplex(value);

    if (write_double(writer, number.real) < 0 || write_literal(writer, ",") < 0) {
        return -1;
    }
    return write_double(writer, number.imag);
}

/* An OrderedDict's own order is part of what it equals. */
static int
write_ordered(Writer *writer, PyObject *value)
{
    PyObject *items =
        PyObject_CallMethod((PyObject *)&PyODict_Type, "items", "O", value);
    PyObject *list = items ? PySequence_List(items) : NULL;
    int result = list ? write_list(writer, list) : -1;

    Py_XDECREF(list);
    Py_XDECREF(items);
    return result;
}

/* The content of a built-in type or of a subclass, without its tag. 1: not one. */
static int
write_content(Writer *writer, PyObject *value)
{
    if (PyUnicode_Check(value)) {
        return write_str(writer, value);
    }
    if (PyLong_Check(value)) {
        return write_long(writer, value);
    }
    if (PyFloat_Check(value)) {
        return write_double(writer, PyFloat_AS_DOUBLE(value));
    }
    if (PyBytes_Check(value)) {
        return write_binary(writer, PyBytes_AS_STRING(value),
                            (size_t)PyBytes_GET_SIZE(value));
    }
    if (PyByteArray_Check(value)) {
        return write_binary(writer, PyByteArray_AS_STRING(value),
                            (size_t)PyByteArray_GET_SIZE(value));
    }
    if (PyTuple_Check(value)) {
        return write_tuple(writer, value);
    }
    if (PyList_Check(value)) {
        return write_list(writer, value);
    }
    if (PyODict_Check(value)) {
        return write_ordered(writer, value);
    }
    if (PyDict_Check(value) || PyAnySet_Check(value)) {
        return write_unordered(writer, value);
    }
    if (PyComplex_Check(value)) {
        return write_complex(writer, value);
    }
    return 1;
}

static int
write_parts(Writer *writer, PyObject *parts)
{
    for (Py_ssize_t i = 0; i + 1 < PyTuple_GET_SIZE(parts); i += 2) {
        PyObject *name = PyTuple_GET_ITEM(parts, i);

        if (i && write_literal(writer, ",") < 0) {
            return -1;
        }
        if (name != Py_None &&
            (write_str_object(writer, name) < 0 || write_literal(writer, "=") < 0)) {
            return -1;
        }
        if (write_value(writer, PyTuple_GET_ITEM(parts, i + 1)) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
raise_unsupported(Writer *writer, PyObject *value)
{
    PyErr_Format(PyExc_TypeError,
                 "%U(): argument %R: a value of type '%.100s' cannot be part of a "
                 "cache key; give its class a __cache_key__() method, or leave the "
                 "argument out with ignore=[%R]",
                 writer->shown, writer->parameter, Py_TYPE(value)->tp_name,
                 writer->parameter);
    return -1;
}

static PyObject *
import_describe_value(RedlaneState *state)
{
    if (!state->describe_value) {
        PyObject *module = PyImport_ImportModule("redlane._describe");

        if (!module) {
            return NULL;
        }
        state->describe_value = PyObject_GetAttrString(module, "describe_value");
        Py_DECREF(module);
    }
    return state->describe_value;
}

/* A value of any other type: tag(…), as describe_value says. */
static int
write_described(Writer *writer, PyObject *value)
{
    PyObject *describe = import_describe_value(writer->state), *described = NULL;
    PyObject *parts;
    int result = -1;

    described = describe ? PyObject_CallOneArg(describe, value) : NULL;
    if (!described) {
        return -1;
    }
    if (described == Py_None) {
        (void)raise_unsupported(writer, value);
        goto exit;
    }
    parts = PyTuple_GET_ITEM(described, 1);
    if (write_str_object(writer, PyTuple_GET_ITEM(described, 0)) < 0) {
        goto exit;
    }
    if (parts != Py_None && PyTuple_GET_SIZE(parts) == 0) { /* an enum's member */
        result = 0;
        goto exit;
    }
    if (write_literal(writer, "(") < 0) {
        goto exit;
    }
    result =
        parts == Py_None ? write_content(writer, value) : write_parts(writer, parts);
    if (result == 0) {
        result = write_literal(writer, ")");
    }
exit:
    Py_DECREF(described);
    return result;
}

/* Exact containers, in brackets of their own. */
static int
write_container(Writer *writer, PyObject *value)
{
    static const struct {
        PyTypeObject *type;
        const char *open, *close;
    } brackets[] = {
        {&PyTuple_Type, "(", ")"},
        {&PyList_Type, "[", "]"},
        {&PyDict_Type, "{", "}"},
        {&PySet_Type, "set(", ")"},
        {&PyFrozenSet_Type, "frozenset(", ")"},
        {&PyByteArray_Type, "bytearray(", ")"},
        {&PyComplex_Type, "complex(", ")"},
    };
    PyTypeObject *type = Py_TYPE(value);
    int result;

    for (size_t i = 0; i < sizeof(brackets) / sizeof(brackets[0]); i++) {
        if (type != brackets[i].type) {
            continue;
        }
        if (write_bytes(writer, brackets[i].open, strlen(brackets[i].open)) < 0) {
            return -1;
        }
        result = write_content(writer, value);
        if (result == 0) {
            result = write_bytes(writer, brackets[i].close, 1);
        }
        return result;
    }
    return write_described(writer, value);
}

static int
write_value(Writer *writer, PyObject *value)
{
    PyTypeObject *type = Py_TYPE(value);
    int result;

    if (type == &PyUnicode_Type || type == &PyLong_Type || type == &PyFloat_Type ||
        type == &PyBytes_Type) {
        return write_content(writer, value);
    }
    if (value == Py_None) {
        return write_literal(writer, "null");
    }
    if (value == Py_True) {
        return write_literal(writer, "true");
    }
    if (value == Py_False) {
        return write_literal(writer, "false");
    }
    if (Py_EnterRecursiveCall(" while a cache key was built")) {
        return -1;
    }
    result = write_container(writer, value);
    Py_LeaveRecursiveCall();
    return result;
}

int
redlane_wire_key_value(RedlaneState *state, PyObject *value, PyObject *shown,
                       PyObject *parameter, RedlaneBuffer *text)
{
    Writer writer = {state, text, shown, parameter};

    return write_value(&writer, value);
}
