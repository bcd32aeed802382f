/* _read_stored(): what a stored string says of itself, for the command line. Nothing is
 * inflated, verified or decoded here. Lock: the GIL. */
#include "types/stored.h"

#include <string.h>

#include "core/envelope.h"

/* Sets dict[name] = value. STEALS value. RAISES_NEG */
static int
set_item(PyObject *dict, const char *name, PyObject *STEALS value)
{
    int result = value ? PyDict_SetItemString(dict, name, value) : -1;

    Py_XDECREF(value);
    return result;
}

/* [(the generation's key, the generation), …] */
static PyObject *
make_tags(const RedlaneEnvelope *envelope)
{
    PyObject *tags = PyList_New(0), *pair;
    RedlaneEnvelopeTag tag;
    size_t at = 0;

    while (tags && redlane_envelope_next_tag(envelope, &at, &tag)) {
        pair = Py_BuildValue("y#K", tag.id, (Py_ssize_t)tag.id_size,
                             (unsigned long long)tag.generation);
        if (!pair || PyList_Append(tags, pair) < 0) {
            Py_CLEAR(tags);
        }
        Py_XDECREF(pair);
    }
    return tags;
}

/* RAISES_NEG */
static int
set_numbers(PyObject *fields, const RedlaneEnvelope *envelope)
{
    const struct {
        unsigned field;
        const char *name;
        uint64_t value;
    } numbers[] = {
        {REDLANE_ENVELOPE_EXPIRES, "expires_at", (uint64_t)envelope->expires_at},
        {REDLANE_ENVELOPE_STORED, "stored_at", (uint64_t)envelope->stored_at},
        {REDLANE_ENVELOPE_COMPUTE, "compute_us", (uint64_t)envelope->compute_us},
        {REDLANE_ENVELOPE_NONCE, "nonce", envelope->nonce},
        {REDLANE_ENVELOPE_COMPRESSED, "raw_size", envelope->raw_size},
        {REDLANE_ENVELOPE_SEALED, "format", envelope->format},
        {REDLANE_ENVELOPE_SEALED, "key_id", envelope->key_id},
    };

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (envelope->fields & numbers[i].field &&
            set_item(fields, numbers[i].name,
                     PyLong_FromUnsignedLongLong(numbers[i].value)) < 0) {
            return -1;
        }
    }
    return 0;
}

static PyObject *
make_fields(const RedlaneEnvelope *envelope)
{
    PyObject *fields = PyDict_New();

    if (fields && (set_numbers(fields, envelope) < 0 ||
                   (envelope->fields & REDLANE_ENVELOPE_TAGS &&
                    set_item(fields, "tags", make_tags(envelope)) < 0))) {
        Py_CLEAR(fields);
    }
    return fields;
}

static bool
has_kind(const char *data, size_t size, char kind)
{
    return size > REDLANE_MARK_SIZE &&
           memcmp(data, REDLANE_MARK, REDLANE_MARK_SIZE) == 0 &&
           data[REDLANE_MARK_SIZE] == kind;
}

static const char *
name_kind(RedlaneStored stored, const char *data, size_t size)
{
    switch (stored) {
    case REDLANE_STORED_BARE:
    case REDLANE_STORED_PLAIN:
        return "value";
    case REDLANE_STORED_LEASE:
        return "lease";
    case REDLANE_STORED_ENVELOPE:
        return "envelope";
    case REDLANE_STORED_BAD:
        break;
    }
    if (has_kind(data, size, REDLANE_MARK_RAISED)) {
        return "raised";
    }
    return size == REDLANE_GENERATION_SIZE &&
                   has_kind(data, size, REDLANE_MARK_GENERATION)
               ? "generation"
               : "unreadable";
}

PyDoc_STRVAR(
    read_stored_doc,
    "_read_stored($module, stored, /)\n--\n\n"
    "(kind, fields of its header, content) of a stored string (bytes).\n\n"
    "kind: 'value', 'envelope', 'raised', 'lease', 'generation' or "
    "'unreadable'. fields:\nthose that are there of expires_at, stored_at (Unix "
    "ms), compute_us, nonce, tags,\nraw_size (the content is zlib), format, "
    "key_id (it is sealed).");

static PyObject *
read_stored(PyObject *module, PyObject *stored)
{
    RedlaneEnvelope envelope;
    RedlaneStored kind;
    PyObject *fields;
    const char *name;
    char *data;
    Py_ssize_t size;

    (void)module;
    if (PyBytes_AsStringAndSize(stored, &data, &size) < 0) {
        return NULL;
    }
    kind = redlane_envelope_read(data, (size_t)size, &envelope);
    name = name_kind(kind, data, (size_t)size);
    if (kind == REDLANE_STORED_BAD || kind == REDLANE_STORED_LEASE) {
        size_t marked = name[0] == 'r' ? REDLANE_MARK_SIZE + 1 : 0;

        envelope = (RedlaneEnvelope){.content = data + marked,
                                     .content_size = (size_t)size - marked};
    }
    fields = make_fields(&envelope);
    return fields ? Py_BuildValue("sNy#", name, fields, envelope.content,
                                  (Py_ssize_t)envelope.content_size)
                  : NULL;
}

int
redlane_stored_setup(PyObject *module)
{
    static PyMethodDef methods[] = {
        {"_read_stored", read_stored, METH_O, read_stored_doc},
        {NULL, NULL, 0, NULL},
    };

    return PyModule_AddFunctions(module, methods);
}
