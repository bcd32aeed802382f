/* Counter: an integer under a key that can be counted anew from its source.
 *
 * Increments, transfers and journal replay touch only a counter that exists and never
 * extend its TTL; a read makes a missing one from its source, under a lease, which any
 * increment removes: a rebuild that overlapped one is not stored. Lock: the GIL. */
#include "types/counter_key.h"

#include <stddef.h>

#include "core/glob.h"
#include "core/number.h"
#include "py/args.h"
#include "py/state.h"
#include "types/async_counter.h"
#include "types/call.h"
#include "types/flow.h"
#include "types/results.h"

#include <structmember.h>

int
redlane_counter_amount(PyObject *object, long long *amount)
{
    if (!PyLong_Check(object) || PyBool_Check(object)) {
        PyErr_Format(PyExc_TypeError, "amount must be an int, not %.100s",
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    *amount = PyLong_AsLongLong(object);
    if (*amount == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (*amount == LLONG_MIN) {
        PyErr_SetString(PyExc_OverflowError, "amount is too large");
        return -1;
    }
    return 0;
}

bool
redlane_counter_has_key(PyObject *counter, RedlaneArg key)
{
    PyObject *pattern = ((RedlaneCounter *)counter)->pattern;

    return redlane_glob_match(PyBytes_AS_STRING(pattern),
                              (size_t)PyBytes_GET_SIZE(pattern), key.data, key.size);
}

bool
redlane_counter_same(PyObject *left, PyObject *right)
{
    return PyUnicode_Compare(((RedlaneCounter *)left)->template,
                             ((RedlaneCounter *)right)->template) == 0;
}

/* Takes the template apart. RAISES_NEG */
static int
parse_template(RedlaneCounter *counter)
{
    PyObject *describe = PyImport_ImportModule("redlane._describe"), *parsed = NULL;

    if (!describe) {
        return -1;
    }
    parsed = PyObject_CallMethod(describe, "describe_template", "OO",
                                 counter->cache->head, counter->template);
    Py_DECREF(describe);
    if (!parsed) {
        return -1;
    }
    counter->pattern = PyUnicode_AsUTF8String(PyTuple_GET_ITEM(parsed, 0));
    counter->fields = Py_NewRef(PyTuple_GET_ITEM(parsed, 1));
    counter->parts = Py_NewRef(PyTuple_GET_ITEM(parsed, 2));
    Py_DECREF(parsed);
    return counter->pattern ? 0 : -1;
}

static int
init_counter(RedlaneCounter *counter, RedlaneCache *cache, PyObject *template,
             PyObject *ttl, PyObject *source)
{
    counter->cache = (RedlaneCache *)Py_NewRef((PyObject *)cache);
    if (!PyUnicode_Check(template)) {
        PyErr_Format(PyExc_TypeError, "template must be a str, not %.100s",
                     Py_TYPE(template)->tp_name);
        return -1;
    }
    counter->template = Py_NewRef(template);
    if (redlane_cache_ttl(cache, ttl, &counter->ttl_ms) < 0) {
        return -1;
    }
    if (source && source != Py_None) {
        if (!PyCallable_Check(source)) {
            PyErr_SetString(PyExc_TypeError, "source must be callable");
            return -1;
        }
        counter->source = Py_NewRef(source);
    }
    return parse_template(counter);
}

PyObject *
redlane_counter_new(RedlaneCache *cache, PyObject *template, PyObject *ttl,
                    PyObject *source)
{
    PyTypeObject *type = (PyTypeObject *)cache->state->CounterType;
    RedlaneCounter *counter = (RedlaneCounter *)type->tp_alloc(type, 0);

    if (counter) {
        counter->state = cache->state;
        if (init_counter(counter, cache, template, ttl, source) < 0) {
            Py_CLEAR(counter);
        }
    }
    return (PyObject *)counter;
}

/* Counter(client_or_cache, template, ttl=None, source=None) */
static PyObject *
counter_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"client", "template", "ttl", "source", "fallback", NULL};
    PyObject *client, *template, *ttl = Py_None, *source = Py_None, *fallback = NULL;
    RedlaneState *state = redlane_state_of_type(type);
    PyObject *cache, *options, *empty;
    RedlaneCounter *counter;

    if (!state ||
        !PyArg_ParseTupleAndKeywords(args, kwargs, "OO|OO$O:Counter", names, &client,
                                     &template, &ttl, &source, &fallback)) {
        return NULL;
    }
    if (PyObject_TypeCheck(client, (PyTypeObject *)state->CacheType)) {
        cache = Py_NewRef(client);
    }
    else {
        options = fallback ? Py_BuildValue("{sssO}", "prefix", "", "fallback", fallback)
                           : Py_BuildValue("{ss}", "prefix", "");
        empty = PyTuple_Pack(1, client);
        cache =
            options && empty ? PyObject_Call(state->CacheType, empty, options) : NULL;
        Py_XDECREF(empty);
        Py_XDECREF(options);
        if (!cache) {
            return NULL;
        }
    }
    counter = (RedlaneCounter *)type->tp_alloc(type, 0);
    if (counter) {
        counter->state = state;
        if (init_counter(counter, (RedlaneCache *)cache, template, ttl, source) < 0) {
            Py_CLEAR(counter);
        }
        else if (cache != client) { /* its own: all keys are the counter's */
            ((RedlaneCache *)cache)->tool.space = Py_NewRef(counter->pattern);
        }
    }
    Py_DECREF(cache);
    return (PyObject *)counter;
}

static int
counter_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    RedlaneCounter *counter = (RedlaneCounter *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(counter->cache);
    Py_VISIT(counter->template);
    Py_VISIT(counter->fields);
    Py_VISIT(counter->parts);
    Py_VISIT(counter->pattern);
    Py_VISIT(counter->source);
    return 0;
}

static int
counter_tp_clear(PyObject *self)
{
    Py_CLEAR(((RedlaneCounter *)self)->source);
    return 0;
}

static void
counter_tp_dealloc(PyObject *self)
{
    RedlaneCounter *counter = (RedlaneCounter *)self;
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    (void)counter_tp_clear(self);
    Py_CLEAR(counter->cache);
    Py_CLEAR(counter->template);
    Py_CLEAR(counter->fields);
    Py_CLEAR(counter->parts);
    Py_CLEAR(counter->pattern);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
call_source(void *context)
{
    RedlaneCounterKey *target = context;
    RedlaneCounter *counter = target->counter;
    PyObject *source = Py_NewRef(counter->source), *value;
    int overflow;

    value = PyObject_Vectorcall(source, target->ids,
                                (size_t)PyTuple_GET_SIZE(counter->fields), NULL);
    Py_DECREF(source);
    value = redlane_flow_result(counter->state, value);
    if (!value) {
        return NULL;
    }
    if (!PyLong_Check(value) || PyBool_Check(value)) {
        PyErr_Format(PyExc_TypeError,
                     "the source of the counter %R returned %.100s, not an int",
                     counter->template, Py_TYPE(value)->tp_name);
        Py_CLEAR(value);
        return NULL;
    }
    (void)PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow) {
        PyErr_Format(PyExc_OverflowError,
                     "the source of the counter %R returned more than 64 bits",
                     counter->template);
        Py_CLEAR(value);
    }
    return value;
}

static bool
is_count(PyObject *value)
{
    int overflow = 1;

    if (PyLong_CheckExact(value)) {
        (void)PyLong_AsLongLongAndOverflow(value, &overflow);
    }
    return overflow == 0; /* INCRBY goes on with 64 bits only */
}

PyDoc_STRVAR(get_doc,
             "get($self, /, *ids)\n--\n\n"
             "The counter of these ids, one for each field of the template.\n\n"
             "A missing or unreadable one is made from the source; a rebuild that\n"
             "overlapped an increment is returned but not stored.\n\n"
             "Returns:\n"
             "    int. None: it is missing and there is no source.");

static PyObject *
counter_get(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    RedlaneCounterKey target;
    RedlaneCache *cache;
    RedlaneFill fill;
    PyObject *value = NULL;
    int found;

    if (redlane_counter_key_init(&target, self, args, nargs, kwnames, false) < 0) {
        return NULL;
    }
    cache = target.counter->cache;
    fill = redlane_cache_fill(cache);
    fill.serializer = &cache->numbers;
    fill.ttl_ms = target.counter->ttl_ms;
    fill.load = call_source;
    fill.accept = is_count;
    fill.context = &target;
    if (target.counter->source) {
        value = redlane_fill_get(&fill, target.key.key);
    }
    else {
        found = redlane_fill_read(&fill, target.key.key, &value);
        if (found == 0) {
            value = Py_NewRef(Py_None);
        }
        if (found >= 0) {
            *(found ? &cache->counts.hits : &cache->counts.misses) += 1;
        }
    }
    redlane_cache_key_clear(&target.key);
    return value;
}

const RedlaneToolManner *
redlane_counter_manner(PyObject *counter)
{
    static const RedlaneToolManner unsourced = {.unsourced = true};

    return ((RedlaneCounter *)counter)->source ? &redlane_tool_writes : &unsourced;
}

static PyObject *
add_amount(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
           int sign)
{
    char digits[REDLANE_INT64_TEXT];
    RedlaneCounterKey target;
    long long amount = 1;
    PyObject *reply = NULL;

    if (redlane_counter_key_init(&target, self, args, nargs, kwnames, true) < 0) {
        return NULL;
    }
    if (!target.amount || redlane_counter_amount(target.amount, &amount) == 0) {
        RedlaneCache *cache = target.counter->cache;
        RedlaneArg argv[] = {
            target.key.key,
            {digits, redlane_number_format_int64(digits, sign * amount)}};

        redlane_cache_mark(cache, target.key.key);
        reply = redlane_tool_script(&cache->tool, REDLANE_SCRIPT_COUNTER_ADD, argv, 2,
                                    1, redlane_counter_manner(self));
        redlane_cache_mark(cache, target.key.key);
    }
    redlane_cache_key_clear(&target.key);
    return redlane_result_integer(((RedlaneCounter *)self)->cache->state, reply);
}

PyDoc_STRVAR(
    increment_doc,
    "increment($self, /, *ids, amount=1)\n--\n\n"
    "Adds to a counter that exists; its TTL stays.\n\n"
    "Args:\n"
    "    ids: one for each field of the template.\n"
    "    amount: int of 64 bits; also by position, after the ids.\n\n"
    "Returns:\n"
    "    int: the new value. None: it is not there, so that the next get makes\n"
    "    it from its source.");

static PyObject *
counter_increment(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames)
{
    return add_amount(self, args, nargs, kwnames, 1);
}

PyDoc_STRVAR(decrement_doc, "decrement($self, /, *ids, amount=1)\n--\n\n"
                            "Subtracts from a counter; see :meth:`increment`.");

static PyObject *
counter_decrement(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames)
{
    return add_amount(self, args, nargs, kwnames, -1);
}

PyDoc_STRVAR(
    transfer_doc,
    "transfer($self, /, old, new)\n--\n\n"
    "Takes one from ``old`` and gives it to ``new``, in one atomic step, each\n"
    "only where it exists; TTLs stay.\n\n"
    "Args:\n"
    "    old, new: an id, or a tuple of them where the template has several\n"
    "        fields. The same one twice changes nothing.\n\n"
    "Returns:\n"
    "    tuple: the new value of each, None for one that is not there.");

static PyObject *
count_at(RedlaneState *state, PyObject *list, Py_ssize_t index)
{
    return redlane_result_integer(state, Py_NewRef(PyList_GET_ITEM(list, index)));
}

static PyObject *
transfer_keys(RedlaneCache *cache, RedlaneArg old, RedlaneArg new,
              const RedlaneToolManner *manner)
{
    RedlaneArg argv[] = {old, new};
    PyObject *reply, *result = NULL;

    for (int i = 0; i < 2; i++) {
        redlane_cache_mark(cache, argv[i]);
    }
    reply = redlane_tool_script(&cache->tool, REDLANE_SCRIPT_COUNTER_TRANSFER, argv, 2,
                                2, manner);
    for (int i = 0; i < 2; i++) {
        redlane_cache_mark(cache, argv[i]);
    }
    if (reply == Py_None) { /* a policy's miss */
        result = PyTuple_Pack(2, Py_None, Py_None);
    }
    else if (reply && PyList_Check(reply) && PyList_GET_SIZE(reply) == 2) {
        PyObject *first = count_at(cache->state, reply, 0);
        PyObject *second = first ? count_at(cache->state, reply, 1) : NULL;

        result = first && second ? PyTuple_Pack(2, first, second) : NULL;
        Py_XDECREF(first);
        Py_XDECREF(second);
    }
    else if (reply) {
        PyErr_SetString(cache->state->ReplyError, "transfer: not the script's reply");
    }
    Py_XDECREF(reply);
    return result;
}

static PyObject *
counter_transfer(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    static const char *const names[] = {"old", "new", NULL};
    static const RedlaneCall call = {"transfer", names, 2, 2};
    PyObject *values[2], *result = NULL;
    RedlaneCounterKey old, new;

    if (redlane_call_parse(&call, args, nargs, kwnames, values) < 0 ||
        redlane_counter_key_from(&old, self, values[0]) < 0) {
        return NULL;
    }
    if (redlane_counter_key_from(&new, self, values[1]) == 0) {
        result = transfer_keys(((RedlaneCounter *)self)->cache, old.key.key,
                               new.key.key, redlane_counter_manner(self));
        redlane_cache_key_clear(&new.key);
    }
    redlane_cache_key_clear(&old.key);
    return result;
}

PyDoc_STRVAR(delete_doc, "delete($self, /, *ids)\n--\n\n"
                         "Deletes a counter: the next get makes it from its source.\n\n"
                         "Returns:\n"
                         "    bool: whether it was there.");

PyDoc_STRVAR(reset_doc, "reset($self, /, *ids)\n--\n\nThe same as ``delete``.");

static PyObject *
counter_delete(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    RedlaneCounterKey target;
    int deleted;

    if (redlane_counter_key_init(&target, self, args, nargs, kwnames, false) < 0) {
        return NULL;
    }
    deleted = redlane_cache_delete_key(target.counter->cache, target.key.key);
    redlane_cache_key_clear(&target.key);
    return deleted < 0 ? NULL : PyBool_FromLong(deleted);
}

PyDoc_STRVAR(key_doc, "key($self, /, *ids)\n--\n\n"
                      "The full key of these ids, as ``redis-cli`` shows it (str).");

static PyObject *
counter_key(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    RedlaneCounterKey target;
    PyObject *text;

    if (redlane_counter_key_init(&target, self, args, nargs, kwnames, false) < 0) {
        return NULL;
    }
    text = PyUnicode_DecodeUTF8(target.key.key.data, (Py_ssize_t)target.key.key.size,
                                "strict");
    redlane_cache_key_clear(&target.key);
    return text;
}

static PyObject *
counter_tp_repr(PyObject *self)
{
    return PyUnicode_FromFormat("<%s %R>", Py_TYPE(self)->tp_name,
                                ((RedlaneCounter *)self)->template);
}

PyDoc_STRVAR(
    counter_type_doc,
    "Counter(client, template, ttl=None, source=None, *, fallback=\"memory\")\n--\n\n"
    "Integers that can be counted anew from their source.\n\n"
    "The value is the plain integer as ``redis-cli`` shows it. An increment touches "
    "only\n"
    "a counter that exists and never extends its TTL, so that a counter equals its\n"
    "source again once its TTL has passed, whatever was lost.\n\n"
    "Args:\n"
    "    client: a Client, a URL, None for the default client, or a Cache, whose "
    "prefix\n"
    "        the keys then bear.\n"
    "    template: the key, such as ``\"user_pixels:{id}\"``, with up to eight named\n"
    "        fields, or none.\n"
    "    ttl: seconds, a timedelta or a text such as ``\"10m\"``; None: no expiry.\n"
    "    source: called with the ids of a missing counter; returns its int.\n"
    "    fallback: as for Cache.");

#define METHOD(name, doc)                                \
    {#name, (PyCFunction)(void (*)(void))counter_##name, \
     METH_FASTCALL | METH_KEYWORDS, doc}

PyDoc_STRVAR(aio_doc, "The AsyncCounter of the same counters.");

static PyObject *
counter_get_aio(PyObject *self, void *Py_UNUSED(closure))
{
    return redlane_async_counter_of(((RedlaneCounter *)self)->state, self);
}

int
redlane_counter_setup(PyObject *module)
{
    static PyMethodDef methods[] = {
        METHOD(get, get_doc),
        METHOD(increment, increment_doc),
        METHOD(decrement, decrement_doc),
        METHOD(transfer, transfer_doc),
        METHOD(delete, delete_doc),
        {"reset", (PyCFunction)(void (*)(void))counter_delete,
         METH_FASTCALL | METH_KEYWORDS, reset_doc},
        METHOD(key, key_doc),
        {NULL, NULL, 0, NULL},
    };
    static PyMemberDef members[] = {
        {"template", T_OBJECT_EX, offsetof(RedlaneCounter, template), READONLY,
         "The key, with its fields."},
        {NULL, 0, 0, 0, NULL},
    };
    static PyGetSetDef getset[] = {
        {"aio", counter_get_aio, NULL, aio_doc, NULL},
        {NULL, NULL, NULL, NULL, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_doc, (void *)counter_type_doc},
        {Py_tp_new, counter_tp_new},
        {Py_tp_traverse, counter_tp_traverse},
        {Py_tp_clear, counter_tp_clear},
        {Py_tp_dealloc, counter_tp_dealloc},
        {Py_tp_repr, counter_tp_repr},
        {Py_tp_methods, methods},
        {Py_tp_members, members},
        {Py_tp_getset, getset},
        {0, NULL},
    };
    static PyType_Spec spec = {
        .name = "redlane.Counter",
        .basicsize = sizeof(RedlaneCounter),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };
    RedlaneState *state = redlane_state_of_module(module);

    return redlane_state_add(module, &state->CounterType, "Counter",
                             PyType_FromModuleAndSpec(module, &spec, NULL));
}
