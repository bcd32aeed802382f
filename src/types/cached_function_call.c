/* A cached function: being called, and the methods that take the same arguments.
 * Lock: the GIL.
 *
 * A coroutine function that is called makes an awaitable: with the result where that is
 * near, else a flow that does what a call of another function does. */
#include "py/hold.h"
#include "py/state.h"
#include "types/cached_function.h"
#include "types/flight.h"
#include "types/flow.h"
#include "types/ready_awaitable.h"

typedef RedlaneFunctionCall Call;

/* The fill is left as it is: a call that is answered without one does not pay for it.
 */
static inline void
start_call(Call *call, PyObject *self, PyObject *const *args, size_t nargsf,
           PyObject *kwnames)
{
    call->self = (RedlaneCachedFunction *)self;
    call->args = args;
    call->nargsf = nargsf;
    call->kwnames = kwnames;
}

static PyObject *
call_function(void *context)
{
    Call *call = context;
    PyObject *value = PyObject_Vectorcall(call->self->function, call->args,
                                          call->nargsf, call->kwnames);

    return likely(!call->self->awaits) ? value
                                       : redlane_flow_result(call->self->state, value);
}

static int
add_tags(void *context, RedlaneTags *tags)
{
    Call *call = context;
    RedlaneCachedFunction *self = call->self;
    const RedlaneTagCall arguments = {&self->signature, call->args,
                                      PyVectorcall_NARGS(call->nargsf), call->kwnames};

    return redlane_tag_templates_add(self->tags, &arguments, self->cache->head, tags);
}

/* Whether this call goes past the cache. RAISES_NEG */
static int
is_bypassed(Call *call)
{
    RedlaneCachedFunction *self = call->self;
    PyObject *answer;
    int result = redlane_cache_is_disabled(self->cache);

    if (result || !self->unless) {
        return result;
    }
    answer = PyObject_Vectorcall(self->unless, call->args, call->nargsf, call->kwnames);
    result = answer ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    return result;
}

void
redlane_function_prepare(RedlaneFunctionCall *call)
{
    RedlaneCachedFunction *self = call->self;
    RedlaneFill *fill = &call->fill;

    *fill = redlane_cache_fill(self->cache);
    fill->own = &self->counts;
    fill->type = &self->type;
    fill->ttl_ms = self->ttl_ms;
    fill->single_flight = self->lock;
    fill->logged = &self->logged;
    fill->shown = self->signature.shown;
    fill->load = call_function;
    fill->add_tags = self->tags ? add_tags : NULL;
    fill->context = call;
    redlane_cache_use_near(self->cache, fill);
    if (self->share || self->type.function || self->type.loads || self->tags) {
        fill->form = self->form; /* nobody else would get such objects */
    }
    fill->share = self->share;
    if (unlikely(self->hooked)) {
        redlane_function_options_hook(call);
    }
    if (unlikely(self->freshens)) {
        call->fresh = self->fresh;
        fill->fresh = &call->fresh;
    }
}

int
redlane_function_key(RedlaneFunctionCall *call, RedlaneBuffer *key)
{
    Py_ssize_t size;
    const char *head = PyUnicode_AsUTF8AndSize(call->self->cache->head, &size);

    if (!head) {
        return -1;
    }
    if (redlane_buffer_append(key, head, (size_t)size) < 0) {
        (void)PyErr_NoMemory();
        return -1;
    }
    return redlane_wire_key_append(&call->self->signature, call->args,
                                   PyVectorcall_NARGS(call->nargsf), call->kwnames,
                                   key);
}

static void
count_near_hit(RedlaneCachedFunction *self)
{
    self->counts.near_hits++;
    self->cache->counts.near_hits++;
}

/* A value that is decoded afresh for each caller; NULL with no exception where that is
 * not all, or fails: the way by the key tells why. */
static PyObject *
decode_item(RedlaneCachedFunction *self, const RedlaneLevel0Item *item)
{
    RedlaneSerializer *serializer = &self->cache->serializer;
    PyObject *stored = item->object, *value;

    if (redlane_envelope_is_marked(stored) || serializer->seal) {
        return NULL;
    }
    Py_INCREF(stored);
    Py_INCREF(self); /* decoding may run other code */
    value = redlane_serializer_loads(serializer, &self->type, stored, true);
    if (value) {
        count_near_hit(self);
    }
    else if (PyErr_ExceptionMatches(self->state->SerializationError)) {
        PyErr_Clear();
    }
    Py_DECREF(stored);
    Py_DECREF(self);
    return value;
}

/* A call that level 0 does not answer. */
static PyObject *
call_by_key(Call *call, const RedlaneLevel0Key *arguments)
{
    RedlaneCachedFunction *self = call->self;
    RedlaneBuffer key = {0};
    PyObject *value = NULL;
    int bound;

    /* A caller may drop the last other reference while it waits. */
    Py_INCREF(self);
    bound = redlane_function_key(call, &key);
    if (likely(bound == 1)) {
        RedlaneArg full = {key.data, key.size};

        redlane_function_prepare(call);
        call->fill.level0 = &self->level0;
        call->fill.arguments = arguments;
        value = unlikely(self->hard_ms) ? redlane_function_limited(call, full)
                                        : redlane_fill_get(&call->fill, full);
    }
    else if (bound == 0) { /* it raises the TypeError that calling it raises */
        value = call_function(call);
    }
    redlane_buffer_free(&key);
    Py_DECREF(self);
    return value;
}

/* Lays a call's arguments out for level 0; false: it goes by its key. */
static inline bool
take_arguments(RedlaneCachedFunction *self, PyObject *const *args, size_t nargsf,
               PyObject *kwnames, RedlaneLevel0Key *arguments)
{
    return likely(self->cache->near) &&
           likely(redlane_level0_key(&self->level0, args, PyVectorcall_NARGS(nargsf),
                                     kwnames, arguments));
}

/* What level 0 holds for a call, counted; or NULL, then an exception may be set. */
static inline PyObject *
find_hit(RedlaneCachedFunction *self, const RedlaneLevel0Key *arguments)
{
    RedlaneLevel0Item *item = redlane_level0_find(&self->level0, arguments);

    if (unlikely(!item || !redlane_tool_is_current(&self->cache->tool))) {
        return NULL;
    }
    if (unlikely(item->encoded)) {
        return decode_item(self, item);
    }
    count_near_hit(self);
    return redlane_hold(item->object);
}

/* The same for the very objects of the last hit, before anything is laid out; NULL
 * with no exception where that is not all. */
static inline PyObject *
find_again(RedlaneCachedFunction *self, PyObject *const *args, size_t nargsf,
           PyObject *kwnames)
{
    RedlaneLevel0Item *item;

    if (unlikely(!self->cache->near)) {
        return NULL;
    }
    item =
        redlane_level0_again(&self->level0, args, PyVectorcall_NARGS(nargsf), kwnames);
    if (likely(item && !item->encoded && redlane_tool_is_current(&self->cache->tool))) {
        count_near_hit(self);
        return redlane_hold(item->object);
    }
    return NULL;
}

PyObject *
redlane_cached_function_vectorcall(PyObject *function, PyObject *const *args,
                                   size_t nargsf, PyObject *kwnames)
{
    RedlaneCachedFunction *self = (RedlaneCachedFunction *)function;
    RedlaneLevel0Key arguments;
    PyObject *value;
    Call call;

    start_call(&call, function, args, nargsf, kwnames);
    if (unlikely(self->unless || self->cache->disabled || self->cache->parent)) {
        int bypassed = is_bypassed(&call);

        if (bypassed) {
            return bypassed < 0 ? NULL : call_function(&call);
        }
    }
    if (unlikely(!take_arguments(self, args, nargsf, kwnames, &arguments))) {
        return call_by_key(&call, NULL);
    }
    value = find_hit(self, &arguments);
    if (likely(value != NULL) || PyErr_Occurred()) {
        return value;
    }
    return call_by_key(&call, &arguments);
}

/* In a flow. A call that does not fit is told at once, as any. */
static PyObject *
start_flow(Call *call)
{
    RedlaneBuffer key = {0};
    int bound = redlane_function_key(call, &key);

    redlane_buffer_free(&key);
    if (bound == 0) {
        return call_function(call);
    }
    return bound < 0
               ? NULL
               : redlane_flow_new(call->self->state, redlane_cached_function_vectorcall,
                                  (PyObject *)call->self, call->args, call->nargsf,
                                  call->kwnames);
}

/* Apart, so that a hit does not make room for all that this needs. */
static Py_NO_INLINE PyObject *
await_flow(PyObject *function, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    Call call;

    if (PyErr_Occurred()) {
        return NULL;
    }
    start_call(&call, function, args, nargsf, kwnames);
    return start_flow(&call);
}

PyObject *
redlane_cached_function_await(PyObject *function, PyObject *const *args, size_t nargsf,
                              PyObject *kwnames)
{
    RedlaneCachedFunction *self = (RedlaneCachedFunction *)function;
    RedlaneLevel0Key arguments;

    if (likely(!self->unless && !self->cache->disabled)) {
        PyObject *value = find_again(self, args, nargsf, kwnames);

        if (likely(value != NULL)) {
            return redlane_ready_awaitable_new(self->state, value);
        }
        if (take_arguments(self, args, nargsf, kwnames, &arguments)) {
            value = find_hit(self, &arguments);
            if (likely(value != NULL)) {
                return redlane_ready_awaitable_new(self->state, value);
            }
        }
    }
    return await_flow(function, args, nargsf, kwnames);
}

/* What the store of `self` holds for a call, counted; NULL with no exception where that
 * is nothing. */
static PyObject *
read_store(Call *call)
{
    RedlaneBuffer key = {0};
    PyObject *value = NULL;

    if (redlane_function_key(call, &key) == 1) {
        RedlaneArg full = {key.data, key.size};

        redlane_function_prepare(call);
        call->fill.load = NULL;
        if (redlane_fill_read(&call->fill, full, &value) == 1) {
            REDLANE_FILL_COUNT(&call->fill, hits, 1);
        }
    }
    redlane_buffer_free(&key);
    return value;
}

PyObject *
redlane_cached_function_peek(PyObject *function, PyObject *const *args, size_t nargs,
                             bool reads)
{
    RedlaneCachedFunction *self = (RedlaneCachedFunction *)function;
    RedlaneLevel0Key arguments;
    PyObject *value = NULL;
    Call call;

    if (unlikely(self->unless || redlane_cache_is_disabled(self->cache))) {
        return NULL;
    }
    if (reads) {
        if (self->freshens || self->tags) {
            return NULL;
        }
        start_call(&call, function, args, nargs, NULL);
        Py_INCREF(self); /* decoding may run other code */
        value = read_store(&call);
        Py_DECREF(self);
    }
    else if (take_arguments(self, args, nargs, NULL, &arguments)) {
        value = find_hit(self, &arguments);
    }
    return value;
}

/* The key of a method's arguments, which must fit the function. RAISES_NEG */
static int
make_key(Call *call, RedlaneBuffer *key)
{
    int bound = redlane_function_key(call, key);

    if (bound == 0) {
        PyErr_Format(PyExc_TypeError, "the arguments do not fit %U()",
                     call->self->signature.shown);
    }
    return bound == 1 ? 0 : -1;
}

PyObject *
redlane_function_compute(PyObject *self, PyObject *const *args, size_t nargsf,
                         PyObject *kwnames, bool refresh)
{
    Call call;
    RedlaneBuffer key = {0};
    PyObject *value = NULL;

    start_call(&call, self, args, nargsf, kwnames);
    if (make_key(&call, &key) == 0) {
        RedlaneArg full = {key.data, key.size};

        redlane_function_prepare(&call);
        value = refresh ? redlane_fill_refresh(&call.fill, full)
                        : redlane_fill_get(&call.fill, full);
    }
    redlane_buffer_free(&key);
    return value;
}

PyDoc_STRVAR(
    invalidate_doc,
    "invalidate($self, /, *args, **kwargs)\n--\n\n"
    "Deletes the cached result for these arguments.\n\n"
    "A computation of it that is under way is not stored, nor given to a call\n"
    "made after this one has returned. For a method, the object itself is the\n"
    "first argument: ``Class.method.invalidate(obj, ...)``.\n\n"
    "Returns:\n"
    "    bool: whether there was one.");

static PyObject *
invalidate(PyObject *self, PyObject *const *args, size_t nargs, PyObject *kwnames)
{
    Call call;
    RedlaneBuffer key = {0};
    int deleted = -1;

    start_call(&call, self, args, nargs, kwnames);
    if (make_key(&call, &key) == 0) {
        deleted = redlane_cache_delete_key(call.self->cache,
                                           (RedlaneArg){key.data, key.size});
    }
    redlane_buffer_free(&key);
    if (deleted > 0) {
        call.self->counts.deletes++;
    }
    return deleted < 0 ? NULL : PyBool_FromLong(deleted);
}

/* Does it now, or makes an awaitable of it. */
static PyObject *
do_or_await(PyObject *self, RedlaneFlowCall work, PyObject *const *args,
            Py_ssize_t nargs, PyObject *kwnames)
{
    RedlaneCachedFunction *function = (RedlaneCachedFunction *)self;

    return function->awaits ? redlane_flow_new(function->state, work, self, args,
                                               (size_t)nargs, kwnames)
                            : work(self, args, (size_t)nargs, kwnames);
}

static PyObject *
function_invalidate(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *kwnames)
{
    return do_or_await(self, invalidate, args, nargs, kwnames);
}

PyDoc_STRVAR(invalidate_all_doc, "invalidate_all($self, /)\n--\n\n"
                                 "Deletes every cached result of this function.\n\n"
                                 "Returns:\n"
                                 "    int: how many went.");

static PyObject *
invalidate_all(PyObject *self, PyObject *const *Py_UNUSED(args),
               size_t Py_UNUSED(nargs), PyObject *Py_UNUSED(kwnames))
{
    RedlaneCachedFunction *function = (RedlaneCachedFunction *)self;
    RedlaneBuffer pattern = {0};
    PyObject *count = NULL;

    if (redlane_wire_key_escape(function->cache->head, &pattern) == 0 &&
        redlane_wire_key_pattern(&function->signature, &pattern) == 0) {
        count = redlane_cache_invalidate_pattern(
            function->cache, (RedlaneArg){pattern.data, pattern.size});
    }
    redlane_buffer_free(&pattern);
    return count;
}

static PyObject *
function_invalidate_all(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return do_or_await(self, invalidate_all, NULL, 0, NULL);
}

PyDoc_STRVAR(refresh_doc,
             "refresh($self, /, *args, **kwargs)\n--\n\n"
             "Computes the result anew, whatever is cached, and stores it.\n\n"
             "The old one is gone at once; callers meanwhile compute or wait. Nothing\n"
             "is stored inside ``cache.disabled()``, or where ``unless`` says so.\n\n"
             "Returns:\n"
             "    The new result.");

static PyObject *
refresh(PyObject *self, PyObject *const *args, size_t nargs, PyObject *kwnames)
{
    Call call;
    RedlaneBuffer key = {0};
    PyObject *value = NULL;
    int bypassed;

    start_call(&call, self, args, nargs, kwnames);
    if (make_key(&call, &key) == 0) {
        bypassed = is_bypassed(&call);
        if (bypassed == 0 && call.self->hard_ms) {
            value = redlane_function_limited_refresh(&call);
        }
        else if (bypassed == 0) {
            value = redlane_function_compute(self, args, nargs, kwnames, true);
        }
        else if (bypassed > 0 &&
                 redlane_cache_delete_key(call.self->cache,
                                          (RedlaneArg){key.data, key.size}) >= 0) {
            value = call_function(&call);
        }
    }
    redlane_buffer_free(&key);
    return value;
}

static PyObject *
function_refresh(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    return do_or_await(self, refresh, args, nargs, kwnames);
}

PyDoc_STRVAR(uncached_doc, "uncached($self, /, *args, **kwargs)\n--\n\n"
                           "Calls the function itself: nothing is read or stored.");

static PyObject *
function_uncached(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames)
{
    return PyObject_Vectorcall(((RedlaneCachedFunction *)self)->function, args,
                               (size_t)nargs, kwnames);
}

PyDoc_STRVAR(cache_key_doc,
             "cache_key($self, /, *args, **kwargs)\n--\n\n"
             "The key of these arguments, prefix and all, as ``redis-cli`` shows it:\n"
             "``{prefix}:{name}:{module}:{arguments}``, or what ``key=`` makes.\n\n"
             "Every way to write one call has one key. Arguments are type-tagged text\n"
             "(``1``, ``1.0``, ``\"1\"`` and ``true`` differ), longer than 200 bytes\n"
             "their SHA-256 after a ``#``.\n\n"
             "Returns:\n"
             "    str\n\n"
             "Raises:\n"
             "    TypeError: the arguments do not fit the function, or one has no\n"
             "        stable text; the message names it.");

static PyObject *
function_cache_key(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames)
{
    Call call;
    RedlaneBuffer key = {0};
    PyObject *text = NULL;

    start_call(&call, self, args, (size_t)nargs, kwnames);
    if (make_key(&call, &key) == 0) {
        text = PyUnicode_DecodeUTF8(key.data, (Py_ssize_t)key.size, "surrogateescape");
    }
    redlane_buffer_free(&key);
    return text;
}

PyDoc_STRVAR(cache_info_doc,
             "cache_info($self, /)\n--\n\n"
             "What this function's cache did in this process, as a named tuple: hits,\n"
             "near_hits, misses, waits, stale, refreshes, sets, errors, corrupted,\n"
             "uncached, bytes_read, bytes_written; see :meth:`Cache.stats`.");

static PyObject *
function_cache_info(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    RedlaneCachedFunction *function = (RedlaneCachedFunction *)self;
    const RedlaneCounts *counts = &function->counts;
    uint64_t values[] = {
        counts->hits + counts->near_hits,
        counts->near_hits,
        counts->misses,
        counts->waits,
        counts->stale,
        counts->refreshes,
        counts->sets,
        counts->errors,
        counts->corrupted,
        counts->uncached,
        counts->bytes_read,
        counts->bytes_written,
    };
    PyObject *info =
        PyStructSequence_New((PyTypeObject *)function->state->CacheInfoType);

    for (size_t i = 0; info && i < sizeof(values) / sizeof(values[0]); i++) {
        PyObject *value = PyLong_FromUnsignedLongLong(values[i]);

        if (!value) {
            Py_CLEAR(info);
            break;
        }
        PyStructSequence_SetItem(info, (Py_ssize_t)i, value);
    }
    return info;
}

#define METHOD(name, flags) \
    {#name, (PyCFunction)(void (*)(void))function_##name, flags, name##_doc}
#define FAST (METH_FASTCALL | METH_KEYWORDS)

PyMethodDef redlane_cached_function_methods[] = {
    METHOD(invalidate, FAST), METHOD(invalidate_all, METH_NOARGS),
    METHOD(refresh, FAST),    METHOD(uncached, FAST),
    METHOD(cache_key, FAST),  METHOD(cache_info, METH_NOARGS),
    {NULL, NULL, 0, NULL},
};
