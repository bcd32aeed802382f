/* Stored values. Lock: the GIL, which zlib and large seals give up. */
#include "types/envelope.h"

#include "core/clock.h"
#include "py/state.h"

/* Below about this size the header and the time cost more than is saved. */
#define COMPRESS_ABOVE 1024

/* JSON becomes a sixth larger than at zlib's own level 6, in a third of the time. */
#define COMPRESS_LEVEL 1

/* In the header of what is sealed, beside the serializer: it is what a function raised.
 */
#define FORMAT_RAISED 0x80

/* --- options ------------------------------------------------------------------- */

static int
import_zlib(RedlaneState *state)
{
    PyObject *module;

    if (state->zlib_decompressobj) {
        return 0;
    }
    module = PyImport_ImportModule("zlib");
    if (!module) {
        return -1;
    }
    Py_XSETREF(state->zlib_compress, PyObject_GetAttrString(module, "compress"));
    if (state->zlib_compress) {
        Py_XSETREF(state->zlib_decompressobj,
                   PyObject_GetAttrString(module, "decompressobj"));
    }
    Py_DECREF(module);
    return state->zlib_decompressobj ? 0 : -1;
}

static int
take_compression(RedlaneSerializer *serializer, PyObject *compress, PyObject *above)
{
    Py_ssize_t size = COMPRESS_ABOVE;

    if (above && above != Py_None) {
        if (!PyLong_Check(above) || PyBool_Check(above)) {
            PyErr_Format(PyExc_TypeError,
                         "compress_above must be an int (bytes), not %.100s",
                         Py_TYPE(above)->tp_name);
            return -1;
        }
        size = PyLong_AsSsize_t(above);
        if (size < 0) {
            if (!PyErr_Occurred()) {
                PyErr_SetString(PyExc_ValueError,
                                "compress_above must not be negative");
            }
            return -1;
        }
    }
    if (!compress || compress == Py_None) {
        return 0;
    }
    if (!PyUnicode_Check(compress) ||
        PyUnicode_CompareWithASCIIString(compress, "zlib") != 0) {
        PyErr_Format(PyExc_ValueError, "compress must be 'zlib' or None, not %R",
                     compress);
        return -1;
    }
    serializer->compress_above = size;
    return import_zlib(serializer->state);
}

int
redlane_envelope_init(RedlaneSerializer *serializer, PyObject *compress,
                      PyObject *compress_above, PyObject *seal)
{
    if (seal && seal != Py_None) {
        serializer->seal = redlane_seal_new(serializer->state, seal);
        if (!serializer->seal) {
            return -1;
        }
    }
    else if (serializer->kind == REDLANE_SERIALIZER_PICKLE) {
        PyErr_SetString(serializer->state->ConfigurationError,
                        "serializer='pickle' needs seal=[key]: unpickling runs "
                        "whatever the stored bytes say, so they must be the "
                        "application's own");
        return -1;
    }
    return take_compression(serializer, compress, compress_above);
}

/* --- writing ------------------------------------------------------------------- */

/* Bytes that would read as something else than a bare value: a mark, or (MessagePack's
 * b"5" is 53) a number of INCRBY. */
static bool
needs_mark(const RedlaneSerializer *serializer, PyObject *data)
{
    return unlikely(PyBytes_GET_SIZE(data) >= REDLANE_MARK_SIZE &&
                    memcmp(PyBytes_AS_STRING(data), REDLANE_MARK, REDLANE_MARK_SIZE) ==
                        0) ||
           (serializer->kind == REDLANE_SERIALIZER_MSGPACK &&
            redlane_serializer_is_number(data));
}

/* STEALS data */
static PyObject *
mark_plain(PyObject *data)
{
    size_t size = (size_t)PyBytes_GET_SIZE(data);
    PyObject *marked =
        PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(size + REDLANE_MARK_SIZE + 1));

    if (marked) {
        char *to = PyBytes_AS_STRING(marked);

        memcpy(to, REDLANE_MARK, REDLANE_MARK_SIZE);
        to[REDLANE_MARK_SIZE] = REDLANE_MARK_PLAIN;
        memcpy(to + REDLANE_MARK_SIZE + 1, PyBytes_AS_STRING(data), size);
    }
    Py_DECREF(data);
    return marked;
}

static bool
is_large(const RedlaneSerializer *serializer, Py_ssize_t size)
{
    return serializer->compress_above >= 0 && size > serializer->compress_above;
}

/* Compresses what is large enough and becomes smaller by it; the header then says so.
 * STEALS data */
static PyObject *
compress_data(const RedlaneSerializer *serializer, RedlaneEnvelope *header,
              PyObject *data)
{
    Py_ssize_t size = PyBytes_GET_SIZE(data);
    PyObject *smaller;

    if (!is_large(serializer, size) || (uint64_t)size > REDLANE_ENVELOPE_RAW_MAX) {
        return data;
    }
    smaller = PyObject_CallFunction(serializer->state->zlib_compress, "Oi", data,
                                    COMPRESS_LEVEL);
    if (!smaller || PyBytes_GET_SIZE(smaller) >= size) {
        Py_XDECREF(smaller);
        if (!smaller) {
            Py_CLEAR(data);
        }
        return data;
    }
    Py_DECREF(data);
    header->fields |= REDLANE_ENVELOPE_COMPRESSED;
    header->compression = REDLANE_COMPRESSION_ZLIB;
    header->raw_size = (uint64_t)size;
    return smaller;
}

static int64_t
moment_after(int64_t ttl_ms)
{
    int64_t now = redlane_clock_unix_ms();

    return ttl_ms > INT64_MAX - now ? INT64_MAX : now + ttl_ms;
}

/* What a seal adds to a header. */
static void
add_seal(const RedlaneSerializer *serializer, RedlaneEnvelope *header, int64_t ttl_ms)
{
    header->fields |= REDLANE_ENVELOPE_SEALED;
    header->format = (uint8_t)serializer->kind;
    header->key_id = redlane_seal_key_id(serializer->seal);
    if (ttl_ms && !(header->fields & REDLANE_ENVELOPE_EXPIRES)) {
        header->fields |= REDLANE_ENVELOPE_EXPIRES;
        header->expires_at = moment_after(ttl_ms);
    }
}

/* Header, content and, where the header says so, seal in new bytes. */
static PyObject *
write_envelope(const RedlaneSerializer *serializer, RedlaneArg key,
               const RedlaneEnvelope *header)
{
    size_t size = redlane_envelope_size(header);
    PyObject *stored;
    char *data, *seal;

    if (size == 0 || size > PY_SSIZE_T_MAX) {
        PyErr_SetString(serializer->state->SerializationError,
                        "the value's header is out of its bounds");
        return NULL;
    }
    stored = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (!stored) {
        return NULL;
    }
    data = PyBytes_AS_STRING(stored);
    seal = redlane_envelope_write(header, data);
    if (serializer->seal && redlane_seal_sign(serializer->seal, key, data,
                                              (size_t)(seal - data), seal) < 0) {
        Py_CLEAR(stored);
    }
    return stored;
}

/* STEALS data */
static PyObject *
wrap_in_header(const RedlaneSerializer *serializer, const RedlaneWrapping *wrapping,
               PyObject *data)
{
    RedlaneEnvelope header = {0};
    PyObject *stored;

    if (wrapping->header) {
        header = *wrapping->header;
    }
    data = compress_data(serializer, &header, data);
    if (!data) {
        return NULL;
    }
    if (serializer->seal) {
        add_seal(serializer, &header, wrapping->ttl_ms);
    }
    if (!header.fields) { /* it became no smaller */
        return needs_mark(serializer, data) ? mark_plain(data) : data;
    }
    header.content = PyBytes_AS_STRING(data);
    header.content_size = (size_t)PyBytes_GET_SIZE(data);
    stored = write_envelope(serializer, wrapping->key, &header);
    Py_DECREF(data);
    return stored;
}

/* STEALS data */
static PyObject *
wrap_data(const RedlaneSerializer *serializer, const RedlaneWrapping *wrapping,
          PyObject *data)
{
    if (unlikely(serializer->seal || wrapping->header ||
                 is_large(serializer, PyBytes_GET_SIZE(data)))) {
        return wrap_in_header(serializer, wrapping, data);
    }
    return needs_mark(serializer, data) ? mark_plain(data) : data;
}

PyObject *
redlane_envelope_dumps(RedlaneSerializer *serializer, const RedlaneWrapping *wrapping,
                       PyObject *value)
{
    PyObject *data = redlane_serializer_dumps(serializer, wrapping->type, value);

    return likely(data != NULL) ? wrap_data(serializer, wrapping, data) : NULL;
}

PyObject *
redlane_envelope_wrap_raised(RedlaneSerializer *serializer,
                             const RedlaneWrapping *wrapping, PyObject *data)
{
    RedlaneEnvelope header = {.content = PyBytes_AS_STRING(data),
                              .content_size = (size_t)PyBytes_GET_SIZE(data)};
    PyObject *stored;

    if (!serializer->seal) {
        return data;
    }
    add_seal(serializer, &header, wrapping->ttl_ms);
    header.format |= FORMAT_RAISED;
    stored = write_envelope(serializer, wrapping->key, &header);
    Py_DECREF(data);
    return stored;
}

PyObject *
redlane_envelope_keep(RedlaneSerializer *serializer, const RedlaneWrapping *wrapping,
                      PyObject **value)
{
    PyObject *data = redlane_serializer_dumps(serializer, wrapping->type, *value);
    PyObject *decoded;

    if (!data) {
        return NULL;
    }
    decoded = redlane_serializer_loads(serializer, wrapping->type, data, false);
    if (!decoded) {
        Py_DECREF(data);
        if (wrapping->type && wrapping->type->loads &&
            PyErr_ExceptionMatches(serializer->state->SerializationError)) {
            PyErr_Clear();
            PyErr_Format(serializer->state->SerializationError,
                         "a value of type '%.100s' does not fit the function's return "
                         "annotation",
                         Py_TYPE(*value)->tp_name);
        }
        return NULL;
    }
    Py_SETREF(*value, decoded);
    return wrap_data(serializer, wrapping, data);
}

/* --- reading ------------------------------------------------------------------- */

static PyObject *
refuse(const RedlaneSerializer *serializer, const char *why)
{
    PyErr_SetString(serializer->state->SerializationError, why);
    return NULL;
}

/* Whether a cache with a seal may look at the content. RAISES_NEG */
static int
check_seal(const RedlaneSerializer *serializer, const RedlaneOpening *opening,
           PyObject *stored)
{
    const RedlaneEnvelope *header = &opening->header;
    const char *data = PyBytes_AS_STRING(stored),
               *end = header->content + header->content_size;

    if (!(header->fields & REDLANE_ENVELOPE_SEALED) ||
        (header->format & ~FORMAT_RAISED) != (int)serializer->kind) {
        return 0;
    }
    return redlane_seal_verify(serializer->seal, header->key_id, opening->key, data,
                               (size_t)(end - data), end);
}

/* The bytes of a compressed content; any exception where they are not what the header
 * says. Never makes more of them than that. */
static PyObject *
inflate(const RedlaneSerializer *serializer, const RedlaneEnvelope *header)
{
    PyObject *inflater = PyObject_CallNoArgs(serializer->state->zlib_decompressobj);
    PyObject *view, *data = NULL, *eof = NULL;
    bool whole;

    view = inflater
               ? PyMemoryView_FromMemory((char *)header->content,
                                         (Py_ssize_t)header->content_size, PyBUF_READ)
               : NULL;
    if (view) {
        /* one more than is said: the end must come before it */
        data = PyObject_CallMethod(inflater, "decompress", "On", view,
                                   (Py_ssize_t)header->raw_size + 1);
        Py_DECREF(view);
    }
    eof = data ? PyObject_GetAttrString(inflater, "eof") : NULL;
    whole = eof == Py_True && PyBytes_Check(data) &&
            (uint64_t)PyBytes_GET_SIZE(data) == header->raw_size;
    if (eof && !whole) {
        (void)refuse(serializer, "the stored value is not what its header says");
    }
    if (!whole) {
        Py_CLEAR(data);
    }
    Py_XDECREF(eof);
    Py_XDECREF(inflater);
    return data;
}

/* Reads the header of a value that has a mark or must have a seal. RAISES_NEG:
 * SerializationError where it is of no use. */
static int
open_header(RedlaneSerializer *serializer, RedlaneOpening *opening, PyObject *stored)
{
    const RedlaneEnvelope *header = &opening->header;
    RedlaneStored kind = redlane_envelope_read(
        PyBytes_AS_STRING(stored), (size_t)PyBytes_GET_SIZE(stored), &opening->header);
    int sealed;

    if (serializer->seal) {
        sealed = kind == REDLANE_STORED_ENVELOPE
                     ? check_seal(serializer, opening, stored)
                     : 0;
        opening->bad_seal = sealed == 0;
        if (sealed == 0) {
            (void)refuse(serializer, "the stored value has no valid seal");
        }
        return sealed > 0 ? 0 : -1;
    }
    if (kind == REDLANE_STORED_BAD || kind == REDLANE_STORED_LEASE) {
        (void)refuse(serializer, "the stored value has an unknown envelope");
        return -1;
    }
    if (header->fields & REDLANE_ENVELOPE_SEALED) {
        (void)refuse(serializer, "the stored value is sealed, and there is no key");
        return -1;
    }
    return 0;
}

/* What the serializer wrote. */
static PyObject *
open_content(RedlaneSerializer *serializer, const RedlaneOpening *opening)
{
    const RedlaneEnvelope *header = &opening->header;
    PyObject *data;

    if (!(header->fields & REDLANE_ENVELOPE_COMPRESSED)) {
        return PyBytes_FromStringAndSize(header->content,
                                         (Py_ssize_t)header->content_size);
    }
    if (header->raw_size > opening->size_max) {
        return refuse(serializer, "the stored value is too large");
    }
    if (import_zlib(serializer->state) < 0) {
        return NULL;
    }
    data = inflate(serializer, header);
    if (!data && PyErr_ExceptionMatches(PyExc_Exception) &&
        !PyErr_ExceptionMatches(PyExc_MemoryError)) {
        PyErr_Clear(); /* zlib.error */
        return refuse(serializer, "the stored value cannot be inflated");
    }
    return data;
}

PyObject *
redlane_envelope_loads(RedlaneSerializer *serializer, RedlaneOpening *opening,
                       PyObject *stored)
{
    PyObject *data, *value;

    opening->header = (RedlaneEnvelope){0};
    opening->bad_seal = opening->raised = false;
    if (!redlane_envelope_is_marked(stored) && !serializer->seal) {
        return redlane_serializer_loads(serializer, opening->type, stored, true);
    }
    data = open_header(serializer, opening, stored) < 0
               ? NULL
               : open_content(serializer, opening);
    opening->raised = data && opening->header.format & FORMAT_RAISED;
    if (!data || opening->raised) {
        return data;
    }
    value = redlane_serializer_loads(serializer, opening->type, data, false);
    Py_DECREF(data);
    return value;
}

PyObject *
redlane_envelope_reseal(RedlaneSerializer *serializer, const RedlaneWrapping *wrapping,
                        PyObject *stored)
{
    RedlaneOpening opening = {.key = wrapping->key};
    RedlaneEnvelopeTag tags[REDLANE_ENVELOPE_TAGS_MAX];
    RedlaneEnvelope *header = &opening.header;
    size_t at = 0;

    if (open_header(serializer, &opening, stored) < 0) {
        return NULL;
    }
    for (size_t i = 0; redlane_envelope_next_tag(header, &at, &tags[i]); i++) {
    }
    header->tags = tags;
    header->fields &= ~(unsigned)REDLANE_ENVELOPE_EXPIRES;
    header->expires_at = 0;
    add_seal(serializer, header, wrapping->ttl_ms);
    return write_envelope(serializer, wrapping->key, header);
}

bool
redlane_envelope_is_expired(const RedlaneEnvelope *header)
{
    return header->fields & REDLANE_ENVELOPE_EXPIRES &&
           redlane_clock_unix_ms() >= header->expires_at;
}

static bool
has_mark(const char *data, size_t size, char kind)
{
    return size > REDLANE_MARK_SIZE &&
           memcmp(data, REDLANE_MARK, REDLANE_MARK_SIZE) == 0 &&
           data[REDLANE_MARK_SIZE] == kind;
}

bool
redlane_envelope_is_lease(const char *data, size_t size)
{
    return has_mark(data, size, REDLANE_MARK_LEASE);
}

bool
redlane_envelope_is_raised(const char *data, size_t size)
{
    return has_mark(data, size, REDLANE_MARK_RAISED);
}
