/* Cache: tags and namespaces. Lock: the GIL. */
#include "py/state.h"
#include "types/cache.h"
#include "types/flight.h"

#define NAMESPACE_KEY "@namespace"

int
redlane_cache_tags_begin(RedlaneCache *cache, PyObject *given, int64_t ttl_ms,
                         RedlaneTags **tags)
{
    *tags = NULL;
    if (!cache->namespaces && (!given || given == Py_None)) {
        return 1;
    }
    *tags = redlane_tags_new();
    if (!*tags ||
        (cache->namespaces && redlane_tags_add_keys(*tags, cache->namespaces) < 0) ||
        (given && given != Py_None &&
         redlane_tags_add_all(*tags, cache->state, cache->head, given) < 0)) {
        goto error;
    }
    if ((*tags)->count == 0) { /* an empty list */
        redlane_tags_free(*tags);
        *tags = NULL;
        return 1;
    }
    if (redlane_tags_ask(*tags, &cache->tool, true, ttl_ms, &redlane_tool_writes) < 0) {
        if (cache->tool.policy == REDLANE_POLICY_RAISE ||
            !redlane_fill_is_refusal(cache->state)) {
            goto error;
        }
        PyErr_Clear();
    }
    if ((*tags)->known) {
        return 1;
    }
    cache->counts.errors++;
    redlane_tags_free(*tags);
    *tags = NULL;
    return 0;
error:
    redlane_tags_free(*tags);
    *tags = NULL;
    return -1;
}

int
redlane_cache_is_current(RedlaneCache *cache, RedlaneArg key)
{
    RedlaneFill fill = redlane_cache_fill(cache);
    PyObject *value;
    int found;

    fill.serializer = redlane_cache_serializer(cache, key);
    found = redlane_fill_read(&fill, key, &value);
    if (found == 1) {
        Py_DECREF(value);
    }
    return found;
}

int
redlane_cache_check_counting(const RedlaneCache *cache)
{
    if (!cache->namespaces) {
        return 0;
    }
    PyErr_SetString(
        cache->state->ConfigurationError,
        "a namespace has no counters: the server, which adds, does not know "
        "when it was cleared; use the cache itself, or another Cache");
    return -1;
}

/* Deletes generations: how many there were. RAISES_NEG */
static long long
end_generations(RedlaneCache *cache, const RedlaneTags *tags)
{
    RedlaneArg argv[1 + REDLANE_ENVELOPE_TAGS_MAX] = {REDLANE_ARG_LITERAL("DEL")};
    RedlaneVector vector = {argv, tags->count + 1,
                            redlane_command_by_id(REDLANE_CMD_DEL)};
    PyObject *reply;
    long long count = 0;

    if (redlane_tool_resolve(&cache->tool) < 0) {
        return -1;
    }
    for (size_t i = 0; i < tags->count; i++) {
        argv[i + 1] = (RedlaneArg){tags->items[i].id, tags->items[i].id_size};
    }
    redlane_flight_mark_tags(cache->state, cache->tool.link, tags);
    if (redlane_tool_run(&cache->tool, &vector, 1, &redlane_tool_writes, &reply) < 0) {
        return -1;
    }
    redlane_flight_mark_tags(cache->state, cache->tool.link, tags);
    if (PyExceptionInstance_Check(reply)) {
        PyErr_SetObject((PyObject *)Py_TYPE(reply), reply);
    }
    else if (PyLong_Check(reply)) { /* else a policy's miss */
        count = PyLong_AsLongLong(reply);
        count = count > 0 ? count : 0; /* less than none is no answer of a server */
    }
    Py_DECREF(reply);
    return PyErr_Occurred() ? -1 : count;
}

int
redlane_cache_clear_namespace(RedlaneCache *cache)
{
    Py_ssize_t last = PyTuple_GET_SIZE(cache->namespaces) - 1;
    PyObject *key = PyTuple_GET_ITEM(cache->namespaces, last);
    RedlaneTags *tags = redlane_tags_new();
    long long count = -1;

    if (tags && redlane_tags_add_key(tags, PyBytes_AS_STRING(key),
                                     (size_t)PyBytes_GET_SIZE(key)) == 0) {
        count = end_generations(cache, tags);
    }
    redlane_tags_free(tags);
    return (int)count;
}

PyDoc_STRVAR(
    invalidate_tags_doc,
    "invalidate_tags($self, /, *tags)\n--\n\n"
    "Ends every value that carries one of the tags.\n\n"
    "One command, however many values there are: they are misses from then on,\n"
    "in all processes, and go with their TTL. What is being computed with such\n"
    "a tag now is neither stored nor given to a later caller.\n\n"
    "Args:\n"
    "    tags: str or bytes, as values carry them, at most 64. Those of a\n"
    "        namespace are its own.\n\n"
    "Returns:\n"
    "    int: how many of the tags were in use. 0 where no value carried one.\n\n"
    "Raises:\n"
    "    TypeError, ValueError: an unusable tag; nothing was sent.");

static PyObject *
cache_invalidate_tags(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    RedlaneCache *cache = (RedlaneCache *)self;
    RedlaneTags *tags = redlane_tags_new();
    long long count = tags ? 0 : -1;

    for (Py_ssize_t i = 0; count == 0 && i < nargs; i++) {
        count = redlane_tags_add(tags, cache->state, cache->head, args[i]);
    }
    if (count == 0 && nargs > 0) {
        count = end_generations(cache, tags);
    }
    redlane_tags_free(tags);
    return count < 0 ? NULL : PyLong_FromLongLong(count);
}

/* Without what divides the parts of a key, and what its generations' keys begin with;
 * with '%', so that no two names become one. */
static PyObject *
escape_name(PyObject *name)
{
    PyObject *step, *text;

    if (!PyUnicode_Check(name) || PyUnicode_GET_LENGTH(name) == 0) {
        PyErr_Format(PyUnicode_Check(name) ? PyExc_ValueError : PyExc_TypeError,
                     "the name of a namespace must be a str that is not empty");
        return NULL;
    }
    text = PyObject_CallMethod(name, "replace", "ss", "%", "%25");
    step = text ? PyObject_CallMethod(text, "replace", "ss", ":", "%3A") : NULL;
    Py_XDECREF(text);
    text = step ? PyObject_CallMethod(step, "replace", "ss", "@", "%40") : NULL;
    Py_XDECREF(step);
    return text;
}

/* The parent's generations and its own. */
static PyObject *
list_generations(const RedlaneCache *parent, PyObject *head)
{
    PyObject *key = PyUnicode_FromFormat("%U" NAMESPACE_KEY, head), *own = NULL, *all;

    if (key) {
        Py_SETREF(key, PyUnicode_AsUTF8String(key));
    }
    if (key && PyBytes_GET_SIZE(key) > REDLANE_ENVELOPE_TAG_ID_MAX) {
        PyErr_SetString(PyExc_ValueError,
                        "prefix and name of a namespace have 240 bytes at most");
        Py_CLEAR(key);
    }
    own = key ? PyTuple_Pack(1, key) : NULL;
    Py_XDECREF(key);
    if (!own || !parent->namespaces) {
        return own;
    }
    if (PyTuple_GET_SIZE(parent->namespaces) == 8) {
        PyErr_SetString(PyExc_ValueError, "namespaces are nested too deep");
        Py_DECREF(own);
        return NULL;
    }
    all = PySequence_Concat(parent->namespaces, own);
    Py_DECREF(own);
    return all;
}

/* What it has of its parent. RAISES_NEG */
static int
inherit(RedlaneCache *cache, RedlaneCache *parent)
{
    cache->serializer = parent->serializer;
    Py_XINCREF(cache->serializer.shown);
    Py_XINCREF(cache->serializer.dumps);
    Py_XINCREF(cache->serializer.loads);
    cache->numbers = parent->numbers;
    Py_XINCREF(cache->numbers.shown);
    Py_XINCREF(cache->numbers.dumps);
    Py_XINCREF(cache->numbers.loads);
    cache->shown = Py_NewRef(parent->shown);
    cache->ttl_ms = parent->ttl_ms;
    cache->near_ttl_ms = parent->near_ttl_ms;
    cache->near_blind = parent->near_blind;
    cache->near = parent->near;
    cache->strict = parent->strict;
    /* An object that the parent read is none of the namespace's. */
    cache->form = redlane_near_form_within(parent->form);
    cache->counters = PyList_New(0);
    return cache->counters ? 0 : -1;
}

/* Head, prefix, generations and tool. RAISES_NEG */
static int
name_space(RedlaneCache *cache, const RedlaneCache *parent, PyObject *name)
{
    cache->prefix = PyUnicode_FromFormat("%U%U", parent->head, name);
    cache->head = cache->prefix ? PyUnicode_FromFormat("%U:", cache->prefix) : NULL;
    cache->namespaces = cache->head ? list_generations(parent, cache->head) : NULL;
    if (!cache->namespaces) {
        return -1;
    }
    return redlane_tool_init(&cache->tool, cache->state, parent->tool.target,
                             parent->tool.policy) < 0
               ? -1
               : redlane_cache_find_space(cache);
}

PyDoc_STRVAR(
    namespace_doc,
    "namespace($self, name, /)\n--\n\n"
    "A cache of its own under ``{prefix}:{name}`` that can be cleared at once.\n\n"
    "It has the settings of this one. Its values carry a generation, so that\n"
    "its ``clear()`` is one command, however many they are; its functions and\n"
    "tags are its own. Namespaces can be nested: clearing one clears those in\n"
    "it. It has no ``increment`` and no counters, and counts its own statistics.\n\n"
    "Args:\n"
    "    name: str; ``:``, ``%`` and ``@`` in it are percent-encoded.\n\n"
    "Returns:\n"
    "    Cache: each call makes a new one; all of one name are alike.");

static PyObject *
cache_namespace(PyObject *self, PyObject *name)
{
    RedlaneCache *parent = (RedlaneCache *)self, *cache;
    PyTypeObject *type = (PyTypeObject *)parent->state->CacheType;
    PyObject *escaped;

    if (!parent->tool.target) { /* cleared by the collector */
        PyErr_SetString(parent->state->ConnectionError, "the cache is gone");
        return NULL;
    }
    escaped = escape_name(name);
    if (!escaped) {
        return NULL;
    }
    cache = (RedlaneCache *)type->tp_alloc(type, 0);
    if (cache) {
        cache->state = parent->state;
        cache->parent = (RedlaneCache *)Py_NewRef(parent);
        if (inherit(cache, parent) < 0 || name_space(cache, parent, escaped) < 0) {
            Py_CLEAR(cache);
        }
    }
    Py_DECREF(escaped);
    return (PyObject *)cache;
}

PyMethodDef redlane_cache_tag_methods[] = {
    {"invalidate_tags", (PyCFunction)(void (*)(void))cache_invalidate_tags,
     METH_FASTCALL, invalidate_tags_doc},
    {"namespace", cache_namespace, METH_O, namespace_doc},
    {NULL, NULL, 0, NULL},
};
