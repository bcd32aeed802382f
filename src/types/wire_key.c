/* Binding a call to its function's signature, and the key made from it.
 * Lock: the GIL. */
#include "types/wire_key.h"

#include <stdlib.h>

#include "py/digest.h"
#include "py/state.h"

/* Calls with up to this many parameters are bound on the C stack. */
#define BOUND_INLINE 16

static PyObject *
import_describe_callable(RedlaneState *state, PyObject **no_default)
{
    PyObject *module = PyImport_ImportModule("redlane._describe");
    PyObject *describe = NULL;

    if (!module) {
        return NULL;
    }
    *no_default = PyObject_GetAttrString(module, "NO_DEFAULT");
    if (*no_default) {
        describe = PyObject_GetAttrString(module, "describe_callable");
    }
    Py_DECREF(module);
    (void)state;
    return describe;
}

static int
find_parameter(const RedlaneSignature *signature, PyObject *name, Py_ssize_t *index)
{
    for (Py_ssize_t i = 0; i < signature->count; i++) {
        if (PyUnicode_Compare(PyTuple_GET_ITEM(signature->names, i), name) == 0) {
            *index = i;
            return 1;
        }
    }
    if (signature->star && PyUnicode_Compare(signature->star, name) == 0) {
        *index = signature->count;
        return 1;
    }
    if (signature->stars && PyUnicode_Compare(signature->stars, name) == 0) {
        *index = signature->count + 1;
        return 1;
    }
    return 0;
}

static int
mark_ignored(RedlaneSignature *signature, PyObject *ignore)
{
    PyObject *iterator, *name;
    Py_ssize_t index;

    if (PyUnicode_Check(ignore)) {
        PyErr_SetString(PyExc_TypeError,
                        "ignore must be a list of parameter names, not one str");
        return -1;
    }
    iterator = PyObject_GetIter(ignore);
    if (!iterator) {
        return -1;
    }
    while ((name = PyIter_Next(iterator))) {
        if (!PyUnicode_Check(name) || !find_parameter(signature, name, &index)) {
            PyErr_Format(PyExc_TypeError, "ignore: %U() has no parameter %R",
                         signature->shown, name);
            Py_DECREF(name);
            break;
        }
        signature->ignored[index] = true;
        Py_DECREF(name);
    }
    Py_DECREF(iterator);
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *
optional_name(PyObject *name)
{
    return name == Py_None ? NULL : Py_NewRef(name);
}

/* Takes the fields out of what describe_callable returned. */
static int
take_description(RedlaneSignature *signature, PyObject *described)
{
    PyObject *star, *stars;

    if (!PyArg_ParseTuple(described, "UUO!nnOOO!", &signature->head, &signature->shown,
                          &PyTuple_Type, &signature->names, &signature->positional_only,
                          &signature->positional, &star, &stars, &PyTuple_Type,
                          &signature->defaults)) {
        signature->head = signature->shown = NULL;
        signature->names = signature->defaults = NULL;
        return -1;
    }
    Py_INCREF(signature->head);
    Py_INCREF(signature->shown);
    Py_INCREF(signature->names);
    Py_INCREF(signature->defaults);
    signature->star = optional_name(star);
    signature->stars = optional_name(stars);
    signature->count = PyTuple_GET_SIZE(signature->names);
    return 0;
}

int
redlane_signature_init(RedlaneSignature *signature, RedlaneState *state,
                       PyObject *function, PyObject *name, PyObject *ignore)
{
    PyObject *describe = NULL, *described = NULL;
    int result = -1;

    *signature = (RedlaneSignature){.state = state};
    describe = import_describe_callable(state, &signature->no_default);
    if (!describe) {
        goto exit;
    }
    described =
        PyObject_CallFunctionObjArgs(describe, function, name ? name : Py_None, NULL);
    if (!described || take_description(signature, described) < 0) {
        goto exit;
    }
    signature->ignored = PyMem_Calloc((size_t)signature->count + 2, sizeof(bool));
    if (!signature->ignored) {
        (void)PyErr_NoMemory();
        goto exit;
    }
    if (ignore && ignore != Py_None && mark_ignored(signature, ignore) < 0) {
        goto exit;
    }
    result = 0;
exit:
    if (result < 0) {
        redlane_signature_clear(signature);
    }
    Py_XDECREF(described);
    Py_XDECREF(describe);
    return result;
}

int
redlane_signature_traverse(RedlaneSignature *signature, visitproc visit, void *arg)
{
    Py_VISIT(signature->head);
    Py_VISIT(signature->shown);
    Py_VISIT(signature->names);
    Py_VISIT(signature->defaults);
    Py_VISIT(signature->no_default);
    Py_VISIT(signature->star);
    Py_VISIT(signature->stars);
    return 0;
}

void
redlane_signature_clear(RedlaneSignature *signature)
{
    signature->count = signature->positional = signature->positional_only = 0;
    Py_CLEAR(signature->head);
    Py_CLEAR(signature->shown);
    Py_CLEAR(signature->names);
    Py_CLEAR(signature->defaults);
    Py_CLEAR(signature->no_default);
    Py_CLEAR(signature->star);
    Py_CLEAR(signature->stars);
    PyMem_Free(signature->ignored);
    signature->ignored = NULL;
}

typedef struct {
    PyObject *name, *value;
} More;

/* A call laid out by parameter; everything BORROWED from the call. */
typedef struct {
    PyObject **slots; /* one for each parameter name */
    More *more;       /* what went to **kwargs, in the order of the call */
    Py_ssize_t more_count;
    PyObject *const *rest; /* what went to *args */
    Py_ssize_t rest_count;
} Bound;

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
    return PyUnicode_Compare(((const More *)left)->name, ((const More *)right)->name);
}

/* 1: bound, 0: the call does not fit. */
static int
bind_call(const RedlaneSignature *signature, PyObject *const *args, Py_ssize_t nargs,
          PyObject *kwnames, Bound *bound)
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
                (More){PyTuple_GET_ITEM(kwnames, i), args[nargs + i]};
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
append_slots(const RedlaneSignature *signature, const Bound *bound, Py_ssize_t from,
             Py_ssize_t to, bool *first, RedlaneBuffer *key)
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
append_rest(const RedlaneSignature *signature, const Bound *bound, bool *first,
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
append_more(const RedlaneSignature *signature, const Bound *bound, bool *first,
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
        const More *more = &bound->more[i];

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

/* Replaces long arguments, which begin at `start`, by their hash. */
static int
shorten_arguments(const RedlaneSignature *signature, size_t start, RedlaneBuffer *key)
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
append_bound(const RedlaneSignature *signature, const Bound *bound, RedlaneBuffer *key)
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
    return shorten_arguments(signature, start, key);
}

int
redlane_wire_key_append(const RedlaneSignature *signature, PyObject *const *args,
                        Py_ssize_t nargs, PyObject *kwnames, RedlaneBuffer *key)
{
    PyObject *slots[BOUND_INLINE];
    More more[BOUND_INLINE];
    Bound bound = {.slots = slots, .more = more};
    Py_ssize_t keywords = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;
    int result = -1;

    if (unlikely(signature->count > BOUND_INLINE)) {
        bound.slots = PyMem_New(PyObject *, (size_t)signature->count);
    }
    if (unlikely(keywords > BOUND_INLINE)) {
        bound.more = PyMem_New(More, (size_t)keywords);
    }
    if (!bound.slots || !bound.more) {
        (void)PyErr_NoMemory();
        goto exit;
    }
    result = bind_call(signature, args, nargs, kwnames, &bound);
    if (result == 1 && append_bound(signature, &bound, key) < 0) {
        result = -1;
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
