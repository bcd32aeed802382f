/* Keys that the options of a cached function make: from a template or by a callable;
 * and the pattern that all keys of a function match. Lock: the GIL.
 *
 * A template is text, field, text, …, field, text. A field's text is one of
 *
 *   abc             a str of letters, digits, '_', '-', '.', '@', '+' that begins with
 *                   a letter or '_' and is no word that stands for another value
 *   42 "4 2" (1,2)  what wire_key.h says
 *   ~"…"            that, quoted, where it holds the byte that follows the field and is
 *                   not quoted already
 *   #…              SHA-256 of what is longer than 200 bytes
 *
 * So no two lists of arguments share a key. Read from the left, each field's end is
 * known: after the closing quote of what begins with '"' or '~"', after 64 digits of
 * what begins with '#' and has no '/' in it, as each other such text has, else at the
 * first byte that is its text's follower. And no text of one kind is one of another. */
#include "core/glob.h"
#include "py/state.h"
#include "types/wire_key_internal.h"

#define NO_FOLLOWER (-1) /* of the last field: all that is left is its */

static int
append_text(RedlaneBuffer *key, const char *data, size_t size)
{
    if (redlane_buffer_append(key, data, size) < 0) {
        (void)PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static int
append_str(RedlaneBuffer *key, PyObject *text)
{
    Py_ssize_t size;
    const char *data = PyUnicode_AsUTF8AndSize(text, &size);

    return data ? append_text(key, data, (size_t)size) : -1;
}

static bool
is_letter(unsigned char byte)
{
    return (byte | 0x20) >= 'a' && (byte | 0x20) <= 'z';
}

/* Whether a str can stand as it is: no other value has such a text. */
static bool
is_plain(const char *data, size_t size, int follower)
{
    static const char *const words[] = {"null", "true", "false", "nan", "inf"};
    static const char marks[] = {'_', '-', '.', '@', '+'};
    unsigned char first = size ? (unsigned char)data[0] : 0;

    if (!is_letter(first) && first != '_' && first < 0x80) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)data[i];
        bool usual = is_letter(byte) || (byte >= '0' && byte <= '9') || byte >= 0x80 ||
                     memchr(marks, byte, sizeof(marks)) != NULL;

        if (!usual || byte == follower) {
            return false;
        }
    }
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strlen(words[i]) == size && memcmp(words[i], data, size) == 0) {
            return false;
        }
    }
    return true;
}

/* Puts ~"…" in the place of the text from `start` on. RAISES_NEG */
static int
quote_text(const RedlaneSignature *signature, size_t start, RedlaneBuffer *key)
{
    PyObject *text = PyUnicode_DecodeUTF8(key->data + start,
                                          (Py_ssize_t)(key->size - start), "strict");
    int result = -1;

    key->size = start;
    if (text && append_text(key, "~", 1) == 0) {
        result = redlane_wire_key_value(signature->state, text, signature->shown,
                                        signature->shown, key);
    }
    Py_XDECREF(text);
    return result;
}

static int
append_field(const RedlaneSignature *signature, PyObject *value, PyObject *parameter,
             int follower, RedlaneBuffer *key)
{
    size_t start = key->size;
    Py_ssize_t size;
    const char *data = NULL;

    if (PyUnicode_CheckExact(value)) {
        data = PyUnicode_AsUTF8AndSize(value, &size);
        if (!data) {
            PyErr_Clear(); /* a lone surrogate: quoted below */
        }
    }
    if (data && is_plain(data, (size_t)size, follower)) {
        if (append_text(key, data, (size_t)size) < 0) {
            return -1;
        }
    }
    else if (redlane_wire_key_value(signature->state, value, signature->shown,
                                    parameter, key) < 0) {
        return -1;
    }
    if (follower != NO_FOLLOWER && key->data[start] != '"' &&
        memchr(key->data + start, follower, key->size - start) &&
        quote_text(signature, start, key) < 0) {
        return -1;
    }
    return redlane_wire_key_shorten(signature, start, key);
}

/* What went to *args or **kwargs as one object; a new reference. */
static PyObject *
gather(const RedlaneSignature *signature, const RedlaneBound *bound, Py_ssize_t index)
{
    PyObject *gathered;

    if (index == signature->count) {
        gathered = PyTuple_New(bound->rest_count);
        for (Py_ssize_t i = 0; gathered && i < bound->rest_count; i++) {
            PyTuple_SET_ITEM(gathered, i, Py_NewRef(bound->rest[i]));
        }
        return gathered;
    }
    gathered = PyDict_New();
    for (Py_ssize_t i = 0; gathered && i < bound->more_count; i++) {
        if (PyDict_SetItem(gathered, bound->more[i].name, bound->more[i].value) < 0) {
            Py_CLEAR(gathered);
        }
    }
    return gathered;
}

int
redlane_wire_key_fill_template(const RedlaneSignature *signature,
                               const RedlaneBound *bound, RedlaneBuffer *key)
{
    Py_ssize_t count = PyTuple_GET_SIZE(signature->fields);

    if (append_str(key, signature->head) < 0 ||
        append_str(key, PyTuple_GET_ITEM(signature->texts, 0)) < 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_ssize_t index = PyLong_AsSsize_t(PyTuple_GET_ITEM(signature->fields, i));
        PyObject *next = PyTuple_GET_ITEM(signature->texts, i + 1), *value, *name;
        const char *behind = PyUnicode_AsUTF8(next);
        int follower = NO_FOLLOWER, result;

        if (!behind) {
            return -1;
        }
        if (i + 1 < count) {
            follower = (unsigned char)behind[0];
        }
        if (index < signature->count) {
            name = PyTuple_GET_ITEM(signature->names, index);
            value = Py_NewRef(bound->slots[index]);
        }
        else {
            name = index == signature->count ? signature->star : signature->stars;
            value = gather(signature, bound, index);
        }
        result = value ? append_field(signature, value, name, follower, key) : -1;
        Py_XDECREF(value);
        if (result < 0 || append_str(key, next) < 0) {
            return -1;
        }
    }
    return 0;
}

int
redlane_wire_key_ask(const RedlaneSignature *signature, PyObject *const *args,
                     Py_ssize_t nargs, PyObject *kwnames, RedlaneBuffer *key)
{
    PyObject *made = PyObject_Vectorcall(signature->make, args, (size_t)nargs, kwnames);
    int result = -1;

    if (!made || append_str(key, signature->head) < 0) {
        goto exit;
    }
    if (!PyUnicode_Check(made) && !PyBytes_Check(made)) {
        PyErr_Format(PyExc_TypeError,
                     "%U(): the callable of key= must return str or bytes, not %.100s",
                     signature->shown, Py_TYPE(made)->tp_name);
    }
    else if (PyObject_Size(made) <= 0) {
        PyErr_Format(PyExc_ValueError, "%U(): the callable of key= returned no text",
                     signature->shown);
    }
    else if (PyUnicode_Check(made)) {
        result = append_str(key, made);
    }
    else {
        result =
            append_text(key, PyBytes_AS_STRING(made), (size_t)PyBytes_GET_SIZE(made));
    }
exit:
    Py_XDECREF(made);
    return result;
}

int
redlane_wire_key_escape(PyObject *text, RedlaneBuffer *pattern)
{
    Py_ssize_t size;
    const char *data = PyUnicode_AsUTF8AndSize(text, &size);

    if (!data) {
        return -1;
    }
    if (redlane_buffer_reserve(pattern, (size_t)size * 2 + 1) < 0) {
        (void)PyErr_NoMemory();
        return -1;
    }
    pattern->size +=
        redlane_glob_escape(pattern->data + pattern->size, data, (size_t)size);
    return 0;
}

int
redlane_wire_key_pattern(const RedlaneSignature *signature, RedlaneBuffer *pattern)
{
    PyObject *texts = signature->texts;

    if (signature->make) {
        PyErr_Format(PyExc_TypeError,
                     "%U(): the keys that the callable of key= makes cannot be listed; "
                     "use Cache.invalidate() with a pattern",
                     signature->shown);
        return -1;
    }
    if (redlane_wire_key_escape(signature->head, pattern) < 0) {
        return -1;
    }
    if (!texts) {
        return append_text(pattern, "*", 1);
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(texts); i++) {
        if ((i && append_text(pattern, "*", 1) < 0) ||
            redlane_wire_key_escape(PyTuple_GET_ITEM(texts, i), pattern) < 0) {
            return -1;
        }
    }
    return 0;
}
