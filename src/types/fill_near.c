/* Near values of a fill: reading and keeping them. Lock: the GIL. Decoding runs other
 * code, which may give the tool another client; the near cache lives as long as the
 * link that it belongs to, so that is held meanwhile.
 *
 * Kept is the object itself where nobody can change it (or nobody minds), else the
 * stored bytes, which are decoded afresh at each hit. */
#include "core/clock.h"
#include "py/errors.h"
#include "py/state.h"
#include "types/fresh.h"

/* What a Python object takes besides its data, about. */
#define OBJECT_COST 64
/* Released after each store: more than one store ends. */
#define DEAD_A_STORE 4

/* Deeper values are decoded afresh: no recursion without an end. */
#define DEPTH_MAX 4

static int is_immutable(PyObject *value, int depth);

/* An attribute that may not be there, or NULL; only an interruption stays set. */
static PyObject *
find_attribute(PyObject *object, const char *name)
{
    PyObject *found = PyObject_GetAttrString(object, name);

    if (!found && !redlane_errors_is_interruption()) {
        PyErr_Clear();
    }
    return found;
}

/* Whether none of the fields can be changed. RAISES_NEG */
static int
has_immutable_fields(PyObject *value, PyObject *names, int depth)
{
    int result = 1;

    for (Py_ssize_t i = 0; result == 1 && i < PyTuple_GET_SIZE(names); i++) {
        const char *name = PyUnicode_Check(PyTuple_GET_ITEM(names, i))
                               ? PyUnicode_AsUTF8(PyTuple_GET_ITEM(names, i))
                               : NULL;
        PyObject *field = name ? find_attribute(value, name) : NULL;

        result = field ? is_immutable(field, depth + 1) : 0;
        Py_XDECREF(field);
    }
    return PyErr_Occurred() ? -1 : result;
}

/* A msgspec.Struct of a frozen class whose fields cannot be changed either, nor, in
 * one with dict=True, be added to. RAISES_NEG */
static int
is_frozen_struct(PyObject *value, int depth)
{
    PyObject *type = (PyObject *)Py_TYPE(value);
    PyObject *config = find_attribute(type, "__struct_config__");
    PyObject *frozen = config ? find_attribute(config, "frozen") : NULL;
    PyObject *names = NULL;
    int result = 0;

    if (frozen == Py_True && Py_TYPE(value)->tp_dictoffset == 0) {
        names = find_attribute(type, "__struct_fields__");
        result = names && PyTuple_CheckExact(names);
    }
    if (result) {
        result = has_immutable_fields(value, names, depth);
    }
    Py_XDECREF(names);
    Py_XDECREF(frozen);
    Py_XDECREF(config);
    return PyErr_Occurred() ? -1 : result;
}

/* RAISES_NEG: only an interruption. */
static int
is_immutable(PyObject *value, int depth)
{
    PyTypeObject *type = Py_TYPE(value);
    int result = 1;

    if (type == &PyUnicode_Type || type == &PyBytes_Type || type == &PyLong_Type ||
        type == &PyFloat_Type || type == &PyBool_Type || value == Py_None) {
        return 1;
    }
    if (type == &PyDict_Type || type == &PyList_Type || depth == DEPTH_MAX) {
        return 0;
    }
    if (type != &PyTuple_Type) {
        return is_frozen_struct(value, depth);
    }
    for (Py_ssize_t i = 0; result == 1 && i < PyTuple_GET_SIZE(value); i++) {
        result = is_immutable(PyTuple_GET_ITEM(value, i), depth + 1);
    }
    return result;
}

/* Puts an entry into the function's own table too, or gives it back. STEALS entry */
static void
hand_on(const RedlaneFill *fill, RedlaneNearEntry *STEALS entry)
{
    if (fill->level0 && fill->arguments) {
        redlane_level0_put(fill->level0, fill->arguments, fill->near, entry);
    }
    else {
        redlane_near_value_free(redlane_near_entry_release(entry));
    }
}

/* Whether it carries all of them: one that was set by another cache may not. */
static bool
is_in_namespaces(const RedlaneFill *fill, const RedlaneEnvelope *header)
{
    Py_ssize_t count = fill->namespaces ? PyTuple_GET_SIZE(fill->namespaces) : 0;

    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *key = PyTuple_GET_ITEM(fill->namespaces, i);
        RedlaneEnvelopeTag tag;
        size_t at = 0;
        bool found = false;

        while (!found && redlane_envelope_next_tag(header, &at, &tag)) {
            found = tag.id_size == (size_t)PyBytes_GET_SIZE(key) &&
                    memcmp(tag.id, PyBytes_AS_STRING(key), tag.id_size) == 0;
        }
        if (!found) {
            return false;
        }
    }
    return true;
}

/* Whether it carries the tags that this fill asks for: another function of the same key
 * may have put it there. What this one has had for these arguments was looked at then.
 * RAISES_NEG */
static int
has_own_tags(const RedlaneFill *fill, const RedlaneNearEntry *kept,
             const RedlaneEnvelope *header)
{
    const RedlaneLevel0Item *item =
        fill->level0 && fill->arguments
            ? redlane_level0_slot(fill->level0, fill->arguments)->item
            : NULL;
    RedlaneTags *tags;
    int result;

    if (!fill->add_tags || (item && item->entry == kept)) {
        return 1;
    }
    tags = redlane_tags_new();
    result = tags ? fill->add_tags(fill->context, tags) : -1;
    if (result == 0) {
        result = redlane_tags_are_named_in(tags, header);
    }
    redlane_tags_free(tags);
    return result;
}

/* The object of an entry that is held, if this fill can use it. */
static int
take_value(const RedlaneFill *fill, RedlaneArg key, const RedlaneNearEntry *kept,
           PyObject **value)
{
    RedlaneFillSeen seen;
    int result;

    if (kept->form != REDLANE_NEAR_FORM_STORED) {
        *value = kept->form == fill->form ? Py_NewRef((PyObject *)kept->value) : NULL;
        return *value != NULL;
    }
    result = redlane_fill_open(fill, key, kept->value, value, &seen);
    if (result == 1 && !is_in_namespaces(fill, &seen.header)) {
        Py_CLEAR(*value);
        return 0;
    }
    if (result == 1) {
        result = has_own_tags(fill, kept, &seen.header);
    }
    if (result < 0 && PyErr_ExceptionMatches(fill->tool->state->SerializationError)) {
        PyErr_Clear();
        result = 0;
    }
    if (result == REDLANE_FILL_OLD) {
        return 0;
    }
    /* what is of no use here the way by the server drops, and counts */
    return result == 1 && (seen.raised || (fill->accept && !fill->accept(*value)))
               ? 0
               : result;
}

int
redlane_fill_near_get(const RedlaneFill *fill, RedlaneArg key, PyObject **value)
{
    RedlaneNearEntry *entry;
    RedlaneLink *link;
    int result;

    *value = NULL;
    entry = redlane_fill_has_near(fill)
                ? redlane_near_find(fill->near, key.data, key.size)
                : NULL;
    if (!entry) {
        return 0;
    }
    link = redlane_link_hold(fill->tool->link);
    result = take_value(fill, key, entry, value);
    if (result == 1) {
        REDLANE_FILL_COUNT(fill, near_hits, 1);
        hand_on(fill, entry);
    }
    else {
        PyObject *type, *error, *traceback;

        PyErr_Fetch(&type, &error, &traceback);
        Py_CLEAR(*value);
        redlane_near_value_free(redlane_near_entry_release(entry));
        PyErr_Restore(type, error, traceback);
    }
    redlane_link_release(link);
    return result;
}

int
redlane_fill_near_get_stale(const RedlaneFill *fill, RedlaneArg key, PyObject **value)
{
    RedlaneNearEntry *entry =
        redlane_fill_has_near(fill)
            ? redlane_near_find_stale(fill->near, key.data, key.size)
            : NULL;
    PyObject *type, *error, *traceback;
    int result;

    *value = NULL;
    if (!entry) {
        return 0;
    }
    result = take_value(fill, key, entry, value);
    PyErr_Fetch(&type, &error, &traceback);
    if (result != 1) {
        Py_CLEAR(*value);
        result = result < 0 ? -1 : 0;
    }
    redlane_near_value_free(redlane_near_entry_release(entry));
    PyErr_Restore(type, error, traceback);
    return result;
}

bool
redlane_fill_near_begin(const RedlaneFill *fill, RedlaneArg key,
                        RedlaneNearFill *near_fill)
{
    if (!redlane_fill_has_near(fill)) {
        return false;
    }
    near_fill->read = (RedlaneNearRead){.near = fill->near};
    near_fill->ticket = redlane_near_ticket(fill->near, key.data, key.size);
    if (!near_fill->ticket.generation) {
        return false;
    }
    near_fill->link = redlane_link_hold(fill->tool->link);
    return true;
}

void
redlane_fill_near_end(RedlaneNearFill *near_fill)
{
    redlane_link_release(near_fill->link);
}

/* Bytes of what the serializer wrote, not of what they were compressed to. */
static size_t
content_size(PyObject *stored)
{
    RedlaneEnvelope header;

    if (redlane_envelope_is_marked(stored) &&
        redlane_envelope_read(PyBytes_AS_STRING(stored),
                              (size_t)PyBytes_GET_SIZE(stored),
                              &header) == REDLANE_STORED_ENVELOPE &&
        header.fields & REDLANE_ENVELOPE_COMPRESSED) {
        return (size_t)header.raw_size;
    }
    return (size_t)PyBytes_GET_SIZE(stored);
}

static size_t
cost_of(const RedlaneFill *fill, PyObject *object)
{
    size_t size = OBJECT_COST;

    if (PyBytes_CheckExact(object)) {
        size += (size_t)PyBytes_GET_SIZE(object);
    }
    else if (PyUnicode_CheckExact(object)) {
        size += (size_t)PyUnicode_GET_LENGTH(object) * PyUnicode_KIND(object);
    }
    return size + (fill->arguments ? redlane_level0_cost(fill->arguments) : 0);
}

/* As redlane_near_store: with its tags, where it has any. */
static RedlaneNearEntry *
store_entry(const RedlaneFill *fill, RedlaneArg key, const RedlaneNearTicket *ticket,
            PyObject *stored, const RedlaneNearOffer *offer)
{
    RedlaneNearTicket tickets[REDLANE_ENVELOPE_TAGS_MAX];
    int count = redlane_fill_tags_tickets(fill, stored, tickets);

    if (count < 0) {
        return NULL;
    }
    if (likely(count == 0)) {
        return redlane_near_store(fill->near, key.data, key.size, ticket, offer);
    }
    return redlane_near_store_dependent(fill->near, key.data, key.size, ticket, offer,
                                        tickets, (size_t)count);
}

/* Milliseconds that a value may stay near: 0 or less if it may not. */
static int64_t
time_left(const RedlaneFill *fill, PyObject *pttl, PyObject *stored)
{
    int64_t left = PyLong_AsLongLong(pttl), own; /* a reply: it fits */
    RedlaneEnvelope header;

    if (left == -1 || /* it has no end there, or nobody says when it ends sooner */
        (!redlane_near_is_told(fill->near) && fill->near_ttl_ms < left)) {
        left = fill->near_ttl_ms;
    }

    if (likely(!redlane_envelope_is_marked(stored)) ||
        redlane_envelope_read(PyBytes_AS_STRING(stored),
                              (size_t)PyBytes_GET_SIZE(stored),
                              &header) != REDLANE_STORED_ENVELOPE ||
        !(header.fields & REDLANE_ENVELOPE_EXPIRES)) {
        return left;
    }
    own = header.expires_at - redlane_clock_unix_ms();
    own = own < 0 ? 0 : own;
    return own < left ? own : left;
}

int
redlane_fill_near_keep(const RedlaneFill *fill, RedlaneArg key,
                       const RedlaneNearFill *near_fill, PyObject *pttl,
                       PyObject *stored, PyObject *value)
{
    RedlaneNearOffer offer = {.form = REDLANE_NEAR_FORM_STORED,
                              .near_ttl_ms = fill->near_ttl_ms};
    RedlaneNearEntry *entry;
    PyObject *object = stored;
    int as_it_is = 0;

    if (!near_fill->read.known || !PyLong_CheckExact(pttl)) {
        return 0;
    }
    if (fill->form != REDLANE_NEAR_FORM_STORED) {
        as_it_is = fill->share ? 1 : is_immutable(value, 0);
    }
    if (as_it_is < 0) {
        return -1;
    }
    if (as_it_is) {
        object = value;
        offer.form = fill->form;
    }
    offer.value = object;
    offer.cost = cost_of(fill, object);
    if (object != stored && !PyUnicode_CheckExact(object)) {
        offer.cost += content_size(stored); /* about: a struct, a tuple */
    }
    offer.pttl_ms = redlane_fresh_near_ms(fill, time_left(fill, pttl, stored));
    Py_INCREF(object); /* the entry's */
    entry = store_entry(fill, key, &near_fill->ticket, stored, &offer);
    if (entry) {
        hand_on(fill, entry);
    }
    else {
        Py_DECREF(object);
    }
    redlane_near_free_dead(fill->near, DEAD_A_STORE);
    return 0;
}
