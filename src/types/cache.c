/* Cache: the type, its options, and `cache(...)` as a decorator. Lock: the GIL. */
#include "types/cache.h"

#include "core/glob.h"

#include <stddef.h>
#include <stdlib.h>
#include <structmember.h>

#include "py/args.h"
#include "py/state.h"
#include "types/async_cache.h"
#include "types/call.h"
#include "types/counter.h"
#include "types/flight.h"

/* Values without a TTL stay near for so long, unless near_ttl says otherwise. */
#define NEAR_TTL_MS 60000

int
redlane_cache_key_init(RedlaneCacheKey *key, RedlaneCache *cache, PyObject *name)
{
    Py_ssize_t head_size, size;
    const char *head = PyUnicode_AsUTF8AndSize(cache->head, &head_size), *data;
    char *to = key->text;

    key->large = NULL;
    if (!head) {
        return -1;
    }
    if (likely(PyUnicode_Check(name))) {
        data = PyUnicode_AsUTF8AndSize(name, &size);
        if (!data) {
            return -1;
        }
    }
    else if (PyBytes_Check(name)) {
        data = PyBytes_AS_STRING(name);
        size = PyBytes_GET_SIZE(name);
    }
    else {
        PyErr_Format(PyExc_TypeError, "a key must be str or bytes, not %.100s",
                     Py_TYPE(name)->tp_name);
        return -1;
    }
    if (head_size + size > REDLANE_CACHE_KEY_INLINE) {
        to = key->large = PyMem_Malloc((size_t)(head_size + size));
        if (!to) {
            (void)PyErr_NoMemory();
            return -1;
        }
    }
    memcpy(to, head, (size_t)head_size);
    memcpy(to + head_size, data, (size_t)size);
    key->key = (RedlaneArg){to, (size_t)(head_size + size)};
    return 0;
}

void
redlane_cache_key_clear(RedlaneCacheKey *key)
{
    PyMem_Free(key->large);
    key->large = NULL;
}

int
redlane_cache_ttl(RedlaneCache *cache, PyObject *ttl, int64_t *milliseconds)
{
    if (!ttl || ttl == Py_None) {
        *milliseconds = cache->ttl_ms;
        return 0;
    }
    return redlane_args_ttl_ms(ttl, "ttl", milliseconds);
}

RedlaneFill
redlane_cache_fill(RedlaneCache *cache)
{
    static RedlaneCounts spare; /* nobody reads it */

    return (RedlaneFill){
        .tool = &cache->tool,
        .serializer = &cache->serializer,
        .counts = &cache->counts,
        .own = &spare,
        .ttl_ms = cache->ttl_ms,
        .single_flight = true,
        .strict = cache->strict,
        .logged = &cache->logged,
        .shown = cache->shown,
        .namespaces = cache->namespaces,
    };
}

void
redlane_cache_use_near(RedlaneCache *cache, RedlaneFill *fill)
{
    const RedlaneCache *prefixed = cache;
    Py_ssize_t size;
    const char *head;

    if (!cache->near) {
        return;
    }
    while (prefixed->parent) { /* one prefix is watched for all namespaces */
        prefixed = prefixed->parent;
    }
    /* made when it was: no error */
    head = PyUnicode_AsUTF8AndSize(prefixed->head, &size);
    fill->near = redlane_tool_near(&cache->tool, (RedlaneArg){head, (size_t)size},
                                   cache->near_blind);
    fill->near_ttl_ms = cache->near_ttl_ms;
    fill->form = cache->form;
}

RedlaneSerializer *
redlane_cache_serializer(RedlaneCache *cache, RedlaneArg key)
{
    if (likely(PyList_GET_SIZE(cache->counters) == 0) ||
        !redlane_cache_find_counter(cache, key)) {
        return &cache->serializer;
    }
    return &cache->numbers;
}

PyObject *
redlane_cache_dumps(RedlaneCache *cache, RedlaneArg key, int64_t ttl_ms,
                    const RedlaneTags *tags, PyObject *value)
{
    RedlaneEnvelope header = {0};
    const RedlaneWrapping wrapping = {
        .key = key, .ttl_ms = ttl_ms, .header = tags ? &header : NULL};

    if (tags) {
        header.fields = REDLANE_ENVELOPE_TAGS;
        header.tags = tags->items;
        header.tag_count = tags->count;
    }

    return redlane_envelope_dumps(redlane_cache_serializer(cache, key), &wrapping,
                                  value);
}

void
redlane_cache_mark(RedlaneCache *cache, RedlaneArg key)
{
    if (cache->tool.link || redlane_tool_resolve(&cache->tool) == 0) {
        redlane_flight_mark_key(cache->state, cache->tool.link, key);
    }
    else {
        PyErr_Clear(); /* the command that follows says the same */
    }
}

PyObject *
redlane_cache_find_counter(RedlaneCache *cache, RedlaneArg key)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(cache->counters); i++) {
        PyObject *counter = PyList_GET_ITEM(cache->counters, i);

        if (redlane_counter_has_key(counter, key)) {
            return counter;
        }
    }
    return NULL;
}

static PyObject *
make_head(PyObject *prefix)
{
    if (!PyUnicode_Check(prefix)) {
        PyErr_Format(PyExc_TypeError, "prefix must be a str, not %.100s",
                     Py_TYPE(prefix)->tp_name);
        return NULL;
    }
    if (!PyUnicode_AsUTF8(prefix)) {
        return NULL;
    }
    if (PyUnicode_GET_LENGTH(prefix) == 0) {
        return PyUnicode_FromString("");
    }
    return PyUnicode_FromFormat("%U:", prefix);
}

int
redlane_cache_find_space(RedlaneCache *cache)
{
    Py_ssize_t size;
    const char *head = PyUnicode_AsUTF8AndSize(cache->head, &size);
    char *text;

    if (!head || size == 0) {
        return head ? 0 : -1;
    }
    cache->tool.space = PyBytes_FromStringAndSize(NULL, size * 2 + 1);
    if (!cache->tool.space) {
        return -1;
    }
    text = PyBytes_AS_STRING(cache->tool.space);
    size = (Py_ssize_t)redlane_glob_escape(text, head, (size_t)size);
    text[size] = '*';
    return _PyBytes_Resize(&cache->tool.space, size + 1);
}

/* What two caches decode alike they can share; what one may not read without a seal it
 * may not get from one that has none either. */
static RedlaneNearForm
form_of(const RedlaneSerializer *serializer)
{
    if (serializer->seal) {
        return redlane_near_form_new();
    }
    switch (serializer->kind) {
    case REDLANE_SERIALIZER_JSON:
        return REDLANE_NEAR_FORM_JSON;
    case REDLANE_SERIALIZER_RAW:
        return REDLANE_NEAR_FORM_RAW;
    case REDLANE_SERIALIZER_MSGPACK:
        return REDLANE_NEAR_FORM_MSGPACK;
    case REDLANE_SERIALIZER_CUSTOM:
    case REDLANE_SERIALIZER_PICKLE:
        break;
    }
    return redlane_near_form_new();
}

/* Arguments of Cache(...); NULL where none was given. BORROWED */
typedef struct {
    PyObject *client, *prefix, *ttl, *serializer, *fallback;
    PyObject *compress, *compress_above, *seal, *near_ttl;
} Options;

/* The two serializers: of values, and of numbers. RAISES_NEG */
static int
init_serializers(RedlaneCache *cache, const Options *options)
{
    PyObject *json = PyUnicode_FromString("json");
    int result = -1;

    if (json &&
        redlane_serializer_init(&cache->serializer, cache->state,
                                options->serializer ? options->serializer : json) ==
            0 &&
        redlane_envelope_init(&cache->serializer, options->compress,
                              options->compress_above, options->seal) == 0 &&
        redlane_serializer_prepare(&cache->serializer) == 0) {
        result = redlane_serializer_init(&cache->numbers, cache->state, json);
    }
    Py_XDECREF(json);
    return result;
}

static int
init_fields(RedlaneCache *cache, const Options *options)
{
    RedlanePolicy policy = REDLANE_POLICY_MEMORY;

    if ((options->fallback && redlane_tool_policy(options->fallback, &policy) < 0) ||
        (options->ttl != Py_None &&
         redlane_args_ttl_ms(options->ttl, "ttl", &cache->ttl_ms) < 0) ||
        (options->near_ttl &&
         redlane_args_ttl_ms(options->near_ttl, "near_ttl", &cache->near_ttl_ms) < 0)) {
        return -1;
    }
    cache->prefix =
        options->prefix ? Py_NewRef(options->prefix) : PyUnicode_FromString("cache");
    cache->head = cache->prefix ? make_head(cache->prefix) : NULL;
    cache->counters = PyList_New(0);
    cache->shown = PyUnicode_FromString("get_or_set");
    if (!cache->head || !cache->counters || !cache->shown ||
        init_serializers(cache, options) < 0 ||
        redlane_tool_init(&cache->tool, cache->state, options->client, policy) < 0) {
        return -1;
    }
    cache->form = form_of(&cache->serializer);
    cache->near = cache->near && PyUnicode_GET_LENGTH(cache->head) > 0;
    return redlane_cache_find_space(cache);
}

static PyObject *
cache_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"client_or_url", "prefix", "ttl",      "serializer",
                            "fallback",      "strict", "compress", "compress_above",
                            "seal",          "near",   "near_ttl", NULL};
    Options options = {.client = Py_None, .ttl = Py_None};
    RedlaneCache *cache;
    int strict = 0, near = 1;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OOOO$OpOOOpO:Cache", names,
                                     &options.client, &options.prefix, &options.ttl,
                                     &options.serializer, &options.fallback, &strict,
                                     &options.compress, &options.compress_above,
                                     &options.seal, &near, &options.near_ttl)) {
        return NULL;
    }
    cache = (RedlaneCache *)type->tp_alloc(type, 0);
    if (!cache) {
        return NULL;
    }
    cache->state = redlane_state_of_type(type);
    cache->strict = strict != 0;
    cache->near = near != 0;
    cache->near_ttl_ms = NEAR_TTL_MS;
    cache->near_blind = options.near_ttl != NULL;
    if (!cache->state || init_fields(cache, &options) < 0) {
        Py_DECREF(cache);
        return NULL;
    }
    return (PyObject *)cache;
}

static int
cache_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    RedlaneCache *cache = (RedlaneCache *)self;
    int result;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(cache->prefix);
    Py_VISIT(cache->head);
    Py_VISIT(cache->counters);
    Py_VISIT(cache->disabled);
    Py_VISIT(cache->shown);
    Py_VISIT(cache->parent);
    result = redlane_serializer_traverse(&cache->serializer, visit, arg);
    if (result) {
        return result;
    }
    return redlane_tool_traverse(&cache->tool, visit, arg);
}

static int
cache_tp_clear(PyObject *self)
{
    RedlaneCache *cache = (RedlaneCache *)self;

    /* Only what can be part of a cycle: the rest may still be used by a finaliser. */
    if (cache->counters) {
        (void)PyList_SetSlice(cache->counters, 0, PY_SSIZE_T_MAX, NULL);
    }
    return 0;
}

static void
cache_tp_dealloc(PyObject *self)
{
    RedlaneCache *cache = (RedlaneCache *)self;
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    redlane_tool_clear(&cache->tool);
    if (cache->parent) {
        cache->serializer.seal = NULL;
    }
    redlane_serializer_clear(&cache->serializer);
    redlane_serializer_clear(&cache->numbers);
    Py_CLEAR(cache->prefix);
    Py_CLEAR(cache->head);
    Py_CLEAR(cache->counters);
    Py_CLEAR(cache->disabled);
    Py_CLEAR(cache->shown);
    Py_CLEAR(cache->namespaces);
    Py_CLEAR(cache->parent);
    if (cache->weakrefs) {
        PyObject_ClearWeakRefs(self);
    }
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
cache_tp_repr(PyObject *self)
{
    RedlaneCache *cache = (RedlaneCache *)self;

    return PyUnicode_FromFormat("<%s prefix=%R serializer=%R>", Py_TYPE(self)->tp_name,
                                cache->prefix, cache->serializer.shown);
}

/* cache(function), or cache(**options) for use as a decorator. */
static PyObject *
cache_tp_call(PyObject *self, PyObject *args, PyObject *kwargs)
{
    RedlaneCache *cache = (RedlaneCache *)self;
    PyObject *type = cache->state->CachedFunctionType, *options, *functools;
    PyObject *result = NULL, *partial;
    Py_ssize_t count = PyTuple_GET_SIZE(args);

    if (count > 1) {
        PyErr_SetString(PyExc_TypeError, "cache() takes one function, or options only");
        return NULL;
    }
    options = kwargs ? PyDict_Copy(kwargs) : PyDict_New();
    if (!options || PyDict_SetItemString(options, "cache", self) < 0) {
        Py_XDECREF(options);
        return NULL;
    }
    if (count == 1 && PyTuple_GET_ITEM(args, 0) != Py_None) {
        result = PyObject_Call(type, args, options);
        Py_DECREF(options);
        return result;
    }
    functools = PyImport_ImportModule("functools");
    partial = functools ? PyObject_GetAttrString(functools, "partial") : NULL;
    args = partial ? PyTuple_Pack(1, type) : NULL;
    if (args) {
        result = PyObject_Call(partial, args, options);
    }
    Py_XDECREF(args);
    Py_XDECREF(partial);
    Py_XDECREF(functools);
    Py_DECREF(options);
    return result;
}

PyDoc_STRVAR(
    counter_doc,
    "counter($self, /, template, ttl=None, source=None)\n--\n\n"
    "Declares a counter on the cache's own keys.\n\n"
    "``cache.get`` of such a key reads it as an int, and ``cache.increment``\n"
    "follows the counter's rule: only a counter that exists is changed.\n\n"
    "Args:\n"
    "    template: the key without the prefix, such as\n"
    "        ``\"user_pixels:{id}\"``, or one without a field.\n"
    "    ttl: seconds, a timedelta or a text such as ``\"10m\"``; None: the\n"
    "        cache's own.\n"
    "    source: called with the ids of a missing counter; returns its int.\n\n"
    "Returns:\n"
    "    Counter");

/* Adds a counter to the cache's list; one of the same template is replaced. RAISES_NEG
 */
static int
declare_counter(RedlaneCache *cache, PyObject *counter)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(cache->counters); i++) {
        if (redlane_counter_same(PyList_GET_ITEM(cache->counters, i), counter)) {
            return PyList_SetItem(cache->counters, i, Py_NewRef(counter));
        }
    }
    return PyList_Append(cache->counters, counter);
}

static PyObject *
cache_counter(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
              PyObject *kwnames)
{
    static const char *const names[] = {"template", "ttl", "source", NULL};
    static const RedlaneCall call = {"counter", names, 1, 3};
    RedlaneCache *cache = (RedlaneCache *)self;
    PyObject *values[3], *counter;

    if (redlane_call_parse(&call, args, nargs, kwnames, values) < 0 ||
        redlane_cache_check_counting(cache) < 0) {
        return NULL;
    }
    counter = redlane_counter_new(cache, values[0], values[1], values[2]);
    if (counter && declare_counter(cache, counter) < 0) {
        Py_CLEAR(counter);
    }
    return counter;
}

PyDoc_STRVAR(client_doc, "The Client in use; the default client is made now if it is "
                         "that one.");

static PyObject *
cache_get_client(PyObject *self, void *Py_UNUSED(closure))
{
    RedlaneCache *cache = (RedlaneCache *)self;

    if (redlane_tool_resolve(&cache->tool) < 0) {
        return NULL;
    }
    return Py_NewRef(cache->tool.client);
}

PyDoc_STRVAR(aio_doc, "The AsyncCache with the same keys and settings.");

static PyObject *
cache_get_aio(PyObject *self, void *Py_UNUSED(closure))
{
    return redlane_async_cache_of(((RedlaneCache *)self)->state, self);
}

PyDoc_STRVAR(
    cache_doc,
    "Cache(client_or_url=None, prefix=\"cache\", ttl=None, serializer=\"json\", *,"
    " fallback=\"memory\", strict=False, compress=None, compress_above=1024,"
    " seal=None, near=True, near_ttl=60)\n--\n\n"
    "Values under one prefix, on Redis, Valkey or the memory engine.\n\n"
    "Called with a function it caches that function: ``@cache``, or\n"
    "``@cache(ttl=60, ...)`` with the options of :class:`CachedFunction`.\n\n"
    "Args:\n"
    "    client_or_url: a Client, a URL, or None for ``redlane.default_client()``,\n"
    "        which is made on first use.\n"
    "    prefix: what every key begins with, before a ``:``; ``\"\"`` is allowed.\n"
    "    ttl: seconds, a timedelta or a text such as ``\"10m\"``: how long values\n"
    "        live where a call names no other; None: no expiry.\n"
    "    serializer: ``\"json\"``, ``\"raw\"`` (bytes as they are), ``\"msgpack\"``,\n"
    "        ``\"pickle\"`` (unsafe; only with ``seal``), or an object with\n"
    "        ``dumps(value) -> bytes`` and ``loads(bytes)``.\n"
    "    fallback: while the server is away, ``\"memory\"``: the memory engine\n"
    "        answers; ``\"none\"``: every read is a miss; ``\"raise\"``.\n"
    "    strict: a function's result that cannot be serialised raises, instead of\n"
    "        being returned uncached.\n"
    "    compress: ``\"zlib\"``: values of more than ``compress_above`` bytes are\n"
    "        stored compressed, where that makes them smaller.\n"
    "    compress_above: bytes (int).\n"
    "    seal: a key (bytes or str, at least 16 bytes) or a list of them. Values\n"
    "        are stored with an HMAC-SHA256 by the first key; one without the seal\n"
    "        of any key is a miss.\n"
    "    near: values that were read stay in this process until the server says\n"
    "        that they have changed; needs a prefix, and a server with tracking\n"
    "        (Redis 6, Valkey). False: every read asks the server.\n"
    "    near_ttl: seconds (int or float) or a timedelta that a value without\n"
    "        expiry stays near at most. Over HTTP, where no server tells of\n"
    "        changes, nothing is near unless this is given, and all stays so long.\n\n"
    "Raises:\n"
    "    ConfigurationError: an unusable URL or sealing key, or pickle without one.\n"
    "    TypeError, ValueError: an unusable option.");

static PyMethodDef own_methods[] = {
    {"counter", (PyCFunction)(void (*)(void))cache_counter,
     METH_FASTCALL | METH_KEYWORDS, counter_doc},
};

static PyMemberDef members[] = {
    {"prefix", T_OBJECT_EX, offsetof(RedlaneCache, prefix), READONLY,
     "What every key begins with."},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(RedlaneCache, weakrefs), READONLY,
     NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"client", cache_get_client, NULL, client_doc, NULL},
    {"aio", cache_get_aio, NULL, aio_doc, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

/* One list of methods out of those of all files. */
#define METHODS_MAX 32

static PyMethodDef *
join_methods(void)
{
    static PyMethodDef all[METHODS_MAX];
    static PyMethodDef *const lists[] = {
        redlane_cache_value_methods,   redlane_cache_compute_methods,
        redlane_cache_number_methods,  redlane_cache_many_methods,
        redlane_cache_pattern_methods, redlane_cache_tag_methods,
        redlane_cache_stats_methods,
    };
    size_t count = 0;

    for (size_t i = 0; i < sizeof(own_methods) / sizeof(own_methods[0]); i++) {
        all[count++] = own_methods[i];
    }
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        for (PyMethodDef *row = lists[i]; row->ml_name; row++) {
            all[count++] = *row;
        }
    }
    all[count] = (PyMethodDef){NULL, NULL, 0, NULL};
    return all;
}

int
redlane_cache_setup(PyObject *module)
{
    RedlaneState *state = redlane_state_of_module(module);
    PyType_Slot slots[] = {
        {Py_tp_doc, (void *)cache_doc},
        {Py_tp_new, cache_tp_new},
        {Py_tp_traverse, cache_tp_traverse},
        {Py_tp_clear, cache_tp_clear},
        {Py_tp_dealloc, cache_tp_dealloc},
        {Py_tp_repr, cache_tp_repr},
        {Py_tp_call, cache_tp_call},
        {Py_tp_methods, join_methods()},
        {Py_tp_members, members},
        {Py_tp_getset, getset},
        {0, NULL},
    };
    PyType_Spec spec = {
        .name = "redlane.Cache",
        .basicsize = sizeof(RedlaneCache),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE |
                 Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };

    state->syntax_error = PyUnicode_FromString("syntax error");
    if (!state->syntax_error || redlane_cache_disabled_setup(module) < 0) {
        return -1;
    }
    return redlane_state_add(module, &state->CacheType, "Cache",
                             PyType_FromModuleAndSpec(module, &spec, NULL));
}
