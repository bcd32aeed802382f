/* Binding a call to its function's signature, and the key made from it.
 * Lock: the GIL. */
#include "types/wire_key_internal.h"

#include <stdlib.h>

#include "py/digest.h"
#include "py/state.h"

/* Calls with up to this many parameters are bound on the C stack. */
#define BOUND_INLINE 16

/* Where a keyword belongs; -1 when it is none of the names. */
static Py_ssize_t
find_keyword(const RedlaneSignature *signature, PyObject *keyword)
{
    for (Py_ssize_t i = signature->positional_only; i < signature->count; i++) {
        if (PyTuple_GET_ITEM(signature->names, i) == keyword) { /* both interned */
            return i;
        }
    }
    for (Py_ssize_t i = signature->positional_only; i < signature->count; i++) {
        if (PyUnicode_Compare(PyTuple_GET_ITEM(signature->names, i), keyword) == 0) {
            return i;
        }
    }
    return -1;
}

static int
compare_more(const void *left, const void *right)
{
    return PyUnicode_Compare(((const RedlaneMore *)left)->name,
                             ((const RedlaneMore *)right)->name);
}

/* 1: bound, 0: the call does not fit. */
static int
bind_call(const RedlaneSignature *signature, PyObject *const *args, Py_ssize_t nargs,
          PyObject *kwnames, RedlaneBound *bound)
{
    Py_ssize_t count = signature->count, keywords = 0;
    Py_ssize_t given = nargs < signature->positional ? nargs : signature->positional;

    if (nargs > given) {
        if (!signature->star) {
            return 0;
        }
        bound->rest = args + given;
        bound->rest_count = nargs - given;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        bound->slots[i] = i < given ? args[i] : NULL;
    }
    if (kwnames) {
        keywords = PyTuple_GET_SIZE(kwnames);
    }
    for (Py_ssize_t i = 0; i < keywords; i++) {
        Py_ssize_t at = find_keyword(signature, PyTuple_GET_ITEM(kwnames, i));

        if (at >= 0 && !bound->slots[at]) {
            bound->slots[at] = args[nargs + i];
        }
        else if (at < 0 && signature->stars) {
            bound->more[bound->more_count++] =
                (RedlaneMore){PyTuple_GET_ITEM(kwnames, i), args[nargs + i]};
        }
        else {
            return 0;
        }
    }
    for (Py_ssize_t i = given; i < count; i++) {
        if (!bound->slots[i]) {
            bound->slots[i] = PyTuple_GET_ITEM(signature->defaults, i);
            if (bound->slots[i] == signature->no_default) {
                return 0;
            }
        }
    }
    return 1;
}

static int
append_text(RedlaneBuffer *key, const char *text, size_t size)
{
    if (unlikely(redlane_buffer_append(key, text, size) < 0)) {
        (void)PyErr_NoMemory();
        return -1;
    }
    return 0;
}

/* A comma before all but the first argument. */
static int
append_comma(RedlaneBuffer *key, bool *first)
{
    if (*first) {
        *first = false;
        return 0;
    }
    return append_text(key, ",", 1);
}

/* The parameters from..to that are not ignored. */
static int
append_slots(const RedlaneSignature *signature, const RedlaneBound *bound,
             Py_ssize_t from, Py_ssize_t to, bool *first, RedlaneBuffer *key)
{
    for (Py_ssize_t i = from; i < to; i++) {
        if (signature->ignored[i]) {
            continue;
        }
        if (append_comma(key, first) < 0 ||
            redlane_wire_key_value(signature->state, bound->slots[i], signature->shown,
                                   PyTuple_GET_ITEM(signature->names, i), key) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
append_rest(const RedlaneSignature *signature, const RedlaneBound *bound, bool *first,
            RedlaneBuffer *key)
{
    if (!bound->rest_count || signature->ignored[signature->count]) {
        return 0;
    }
    if (append_comma(key, first) < 0 || append_text(key, "*(", 2) < 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < bound->rest_count; i++) {
        if ((i && append_text(key, ",", 1) < 0) ||
            redlane_wire_key_value(signature->state, bound->rest[i], signature->shown,
                                   signature->star, key) < 0) {
            return -1;
        }
    }
    return append_text(key, ")", 1);
}

static int
append_more(const RedlaneSignature *signature, const RedlaneBound *bound, bool *first,
            RedlaneBuffer *key)
{
    if (!bound->more_count || signature->ignored[signature->count + 1]) {
        return 0;
    }
    if (append_comma(key, first) < 0 || append_text(key, "**{", 3) < 0) {
        return -1;
    }
    qsort(bound->more, (size_t)bound->more_count, sizeof(*bound->more), compare_more);
    for (Py_ssize_t i = 0; i < bound->more_count; i++) {
        const RedlaneMore *more = &bound->more[i];

        if ((i && append_text(key, ",", 1) < 0) ||
            redlane_wire_key_value(signature->state, more->name, signature->shown,
                                   signature->stars, key) < 0 ||
            append_text(key, ":", 1) < 0 ||
            redlane_wire_key_value(signature->state, more->value, signature->shown,
                                   signature->stars, key) < 0) {
            return -1;
        }
    }
    return append_text(key, "}", 1);
}

int
redlane_wire_key_shorten(const RedlaneSignature *signature, size_t start,
                         RedlaneBuffer *key)
{
    char hex[REDLANE_DIGEST_HEX];

    if (likely(key->size - start <= REDLANE_WIRE_KEY_PLAIN)) {
        return 0;
    }
    if (redlane_digest_hex(signature->state, key->data + start, key->size - start,
                           hex) < 0) {
        return -1;
    }
    key->size = start; /* there is room: what was there was longer */
    (void)redlane_buffer_append_byte(key, '#');
    (void)redlane_buffer_append(key, hex, sizeof(hex));
    return 0;
}

static int
append_bound(const RedlaneSignature *signature, const RedlaneBound *bound,
             RedlaneBuffer *key)
{
    Py_ssize_t size;
    const char *head = PyUnicode_AsUTF8AndSize(signature->head, &size);
    bool first = true;
    size_t start;

    if (!head || append_text(key, head, (size_t)size) < 0) {
        return -1;
    }
    start = key->size;
    if (append_slots(signature, bound, 0, signature->positional, &first, key) < 0 ||
        append_rest(signature, bound, &first, key) < 0 ||
        append_slots(signature, bound, signature->positional, signature->count, &first,
                     key) < 0 ||
        append_more(signature, bound, &first, key) < 0) {
        return -1;
    }
    return redlane_wire_key_shorten(signature, start, key);
}

/* The key of one call; what is carried is among the arguments. */
static int
append_call(const RedlaneSignature *signature, PyObject *const *args, Py_ssize_t nargs,
            PyObject *kwnames, RedlaneBuffer *key)
{
    PyObject *slots[BOUND_INLINE];
    RedlaneMore more[BOUND_INLINE];
    RedlaneBound bound = {.slots = slots, .more = more};
    Py_ssize_t keywords = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;
    int result = -1, appended;

    if (unlikely(signature->count > BOUND_INLINE)) {
        bound.slots = PyMem_New(PyObject *, (size_t)signature->count);
    }
    if (unlikely(keywords > BOUND_INLINE)) {
        bound.more = PyMem_New(RedlaneMore, (size_t)keywords);
    }
    if (!bound.slots || !bound.more) {
        (void)PyErr_NoMemory();
        goto exit;
    }
    result = bind_call(signature, args, nargs, kwnames, &bound);
    if (result == 1) {
        if (likely(!signature->texts && !signature->make)) {
            appended = append_bound(signature, &bound, key);
        }
        else if (signature->texts) {
            appended = redlane_wire_key_fill_template(signature, &bound, key);
        }
        else {
            appended = redlane_wire_key_ask(signature, args, nargs, kwnames, key);
        }
        result = appended < 0 ? -1 : 1;
    }
exit:
    if (bound.slots != slots) {
        PyMem_Free(bound.slots);
    }
    if (bound.more != more) {
        PyMem_Free(bound.more);
    }
    return result;
}

/* The keywords of the call and those that are carried and not among them; NULL with an
 * exception set. Their values are put where `values` is. */
static PyObject *
join_keywords(const RedlaneSignature *signature, PyObject *kwnames, PyObject **values)
{
    Py_ssize_t carried = PyTuple_GET_SIZE(signature->carried_names);
    Py_ssize_t lead = PyTuple_GET_SIZE(signature->carried) - carried;
    PyObject *names = kwnames ? PySequence_List(kwnames) : PyList_New(0), *joined;

    for (Py_ssize_t i = 0; names && i < carried; i++) {
        PyObject *name = PyTuple_GET_ITEM(signature->carried_names, i);
        int given = kwnames ? PySequence_Contains(kwnames, name) : 0;

        if (given == 0) {
            *values++ = PyTuple_GET_ITEM(signature->carried, lead + i);
            given = PyList_Append(names, name);
        }
        if (given < 0) {
            Py_CLEAR(names);
        }
    }
    joined = names ? PyList_AsTuple(names) : NULL;
    Py_XDECREF(names);
    return joined;
}

/* A call of what brings arguments along. */
static int
append_carrying(const RedlaneSignature *signature, PyObject *const *args,
                Py_ssize_t nargs, PyObject *kwnames, RedlaneBuffer *key)
{
    Py_ssize_t carried = PyTuple_GET_SIZE(signature->carried);
    Py_ssize_t lead = carried - PyTuple_GET_SIZE(signature->carried_names);
    Py_ssize_t given = nargs + (kwnames ? PyTuple_GET_SIZE(kwnames) : 0);
    PyObject **all = PyMem_New(PyObject *, (size_t)(carried + given)), *names;
    int result = -1;

    if (!all) {
        (void)PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < lead; i++) {
        all[i] = PyTuple_GET_ITEM(signature->carried, i);
    }
    if (given) {
        memcpy(all + lead, args, (size_t)given * sizeof(*all));
    }
    names = join_keywords(signature, kwnames, all + lead + given);
    if (names) {
        result = append_call(signature, all, lead + nargs, names, key);
        Py_DECREF(names);
    }
    PyMem_Free(all);
    return result;
}

int
redlane_wire_key_append(const RedlaneSignature *signature, PyObject *const *args,
                        Py_ssize_t nargs, PyObject *kwnames, RedlaneBuffer *key)
{
    if (unlikely(signature->carried != NULL)) {
        return append_carrying(signature, args, nargs, kwnames, key);
    }
    return append_call(signature, args, nargs, kwnames, key);
}
