/* Cache: calls for all keys that match a pattern. Lock: the GIL. */
#include "py/state.h"
#include "types/cache.h"
#include "types/flight.h"

#include <string.h>

#define SCAN_COUNT "512"
#define UNLINK_BATCH 512

/* UNLINKs a list of keys; how many went. RAISES_NEG */
static long long
unlink_keys(RedlaneCache *cache, PyObject *keys, const RedlaneToolManner *manner)
{
    const RedlaneCommand *command = redlane_command_by_id(REDLANE_CMD_UNLINK);
    RedlaneArg argv[UNLINK_BATCH + 1];
    Py_ssize_t count = PyList_GET_SIZE(keys);
    long long gone = 0;

    argv[0] = REDLANE_ARG_LITERAL("UNLINK");
    for (Py_ssize_t start = 0; start < count; start += UNLINK_BATCH) {
        Py_ssize_t end = start + UNLINK_BATCH < count ? start + UNLINK_BATCH : count;
        RedlaneVector vector = {argv, (size_t)(end - start) + 1, command};
        PyObject *reply;

        for (Py_ssize_t i = start; i < end; i++) {
            PyObject *key = PyList_GET_ITEM(keys, i);

            argv[i - start + 1] =
                (RedlaneArg){PyBytes_AS_STRING(key), (size_t)PyBytes_GET_SIZE(key)};
        }
        if (redlane_tool_run(&cache->tool, &vector, 1, manner, &reply) < 0) {
            return -1;
        }
        if (PyExceptionInstance_Check(reply)) {
            PyErr_SetObject((PyObject *)Py_TYPE(reply), reply);
        }
        else {
            gone += PyLong_Check(reply) ? PyLong_AsLongLong(reply) : 0;
        }
        Py_DECREF(reply);
        if (PyErr_Occurred()) {
            return -1;
        }
    }
    return gone;
}

/* One SCAN step: the keys as a list of bytes, or NULL; *cursor is the next one, NULL
 * at the end. STEALS *cursor */
static PyObject *
scan_step(RedlaneCache *cache, RedlaneArg pattern, PyObject **cursor,
          const RedlaneToolManner *manner)
{
    RedlaneArg argv[] = {REDLANE_ARG_LITERAL("0"), REDLANE_ARG_LITERAL("MATCH"),
                         pattern, REDLANE_ARG_LITERAL("COUNT"),
                         REDLANE_ARG_LITERAL(SCAN_COUNT)};
    PyObject *reply, *keys = NULL, *before = *cursor;

    *cursor = NULL;
    if (before) {
        argv[0] =
            (RedlaneArg){PyBytes_AS_STRING(before), (size_t)PyBytes_GET_SIZE(before)};
    }
    reply = redlane_tool_execute_as(&cache->tool, REDLANE_CMD_SCAN, argv, 5, manner);
    if (!reply || reply == Py_None) { /* a policy's miss */
        Py_XDECREF(before);
        Py_XDECREF(reply);
        return reply ? PyList_New(0) : NULL;
    }
    if (PyList_Check(reply) && PyList_GET_SIZE(reply) == 2 &&
        PyBytes_Check(PyList_GET_ITEM(reply, 0)) &&
        PyList_Check(PyList_GET_ITEM(reply, 1))) {
        PyObject *next = PyList_GET_ITEM(reply, 0);

        if (before && PyObject_RichCompareBool(before, next, Py_EQ)) {
            PyErr_SetString(cache->state->ReplyError, "SCAN: the cursor stands still");
        }
        else {
            keys = Py_NewRef(PyList_GET_ITEM(reply, 1));
            if (strcmp(PyBytes_AS_STRING(next), "0") != 0) {
                *cursor = Py_NewRef(next);
            }
        }
    }
    else {
        PyErr_SetString(cache->state->ReplyError, "SCAN: not the reply of a SCAN");
    }
    Py_XDECREF(before);
    Py_DECREF(reply);
    return keys;
}

static bool
all_bytes(PyObject *keys)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(keys); i++) {
        if (!PyBytes_Check(PyList_GET_ITEM(keys, i))) {
            return false;
        }
    }
    return true;
}

/* Whether a SCAN came to where it was before, and so would never end: each cursor is
 * compared with one that is kept, which is replaced after 1, 2, 4, … steps, so that a
 * circle of any length is found in a few turns. */
typedef struct {
    PyObject *kept;
    size_t steps, next;
} Circle;

/* RAISES_NEG */
static int
check_circle(Circle *circle, RedlaneCache *cache, PyObject *cursor)
{
    int same = circle->kept ? PyObject_RichCompareBool(circle->kept, cursor, Py_EQ) : 0;

    if (same > 0) {
        PyErr_SetString(cache->state->ReplyError, "SCAN: the cursor goes in circles");
    }
    if (same) {
        return -1;
    }
    if (++circle->steps > circle->next) {
        circle->next = 2 * circle->steps;
        Py_XSETREF(circle->kept, Py_NewRef(cursor));
    }
    return 0;
}

static void
forget_near(RedlaneCache *cache, RedlaneArg pattern)
{
    redlane_near_note_pattern(redlane_link_settings(cache->tool.link), pattern);
}

PyObject *
redlane_cache_invalidate_pattern(RedlaneCache *cache, RedlaneArg pattern)
{
    RedlaneAnswer answer = REDLANE_ANSWER_SERVER;
    const RedlaneToolManner manner = {.answer = &answer};
    PyObject *cursor = NULL;
    Circle circle = {NULL, 0, 0};
    long long gone = 0;

    if (redlane_tool_resolve(&cache->tool) < 0) {
        return NULL;
    }
    if (pattern.size > 1 && memcmp(pattern.data, "\\/", 2) == 0) {
        pattern.data++; /* so written it would be of tenants' keys: core/glob.h */
        pattern.size--;
    }
    redlane_flight_mark_pattern(cache->state, cache->tool.link, pattern);
    forget_near(cache, pattern);
    do {
        PyObject *keys = scan_step(cache, pattern, &cursor, &manner);
        long long now = -1;

        if (keys && all_bytes(keys)) {
            now = unlink_keys(cache, keys, &manner);
        }
        Py_XDECREF(keys);
        /* the engine's cursors may be like the server's */
        if (now >= 0 && cursor && answer == REDLANE_ANSWER_SERVER &&
            check_circle(&circle, cache, cursor) < 0) {
            now = -1;
        }
        if (now < 0) {
            forget_near(cache, pattern);
            Py_CLEAR(cursor);
            Py_CLEAR(circle.kept);
            if (!PyErr_Occurred()) {
                PyErr_SetString(cache->state->ReplyError, "SCAN: a key is no string");
            }
            return NULL;
        }
        gone += now;
    } while (cursor);
    Py_CLEAR(circle.kept);
    if (redlane_tool_forget(&cache->tool, pattern, answer) < 0) {
        return NULL;
    }
    forget_near(cache, pattern);
    redlane_flight_mark_pattern(cache->state, cache->tool.link, pattern);
    cache->counts.deletes += (uint64_t)gone;
    return PyLong_FromLongLong(gone);
}

PyDoc_STRVAR(
    invalidate_doc,
    "invalidate($self, pattern, /)\n--\n\n"
    "Deletes every key that matches a glob pattern.\n\n"
    "What is being computed for such a key now is not stored. The keys are\n"
    "found with SCAN and deleted with UNLINK, in batches.\n\n"
    "Args:\n"
    "    pattern: the full pattern as ``redis-cli`` would show it, prefix and\n"
    "        all, for example ``\"cache:expensive_function:*\"``: ``*``, ``?``,\n"
    "        ``[abc]``, and a backslash before a byte that means itself.\n\n"
    "Returns:\n"
    "    int: how many keys went.");

static PyObject *
cache_invalidate(PyObject *self, PyObject *pattern)
{
    Py_ssize_t size;
    const char *data;

    if (PyBytes_Check(pattern)) {
        return redlane_cache_invalidate_pattern(
            (RedlaneCache *)self, (RedlaneArg){PyBytes_AS_STRING(pattern),
                                               (size_t)PyBytes_GET_SIZE(pattern)});
    }
    if (!PyUnicode_Check(pattern)) {
        PyErr_Format(PyExc_TypeError, "pattern must be str or bytes, not %.100s",
                     Py_TYPE(pattern)->tp_name);
        return NULL;
    }
    data = PyUnicode_AsUTF8AndSize(pattern, &size);
    return data ? redlane_cache_invalidate_pattern((RedlaneCache *)self,
                                                   (RedlaneArg){data, (size_t)size})
                : NULL;
}

PyDoc_STRVAR(clear_doc,
             "clear($self, /)\n--\n\n"
             "Deletes every key under the cache's prefix.\n\n"
             "That of a namespace is one command, however many values there are:\n"
             "they are misses from then on, and go with their TTL.\n\n"
             "Returns:\n"
             "    int: how many keys went. Of a namespace: 1 where it had any\n"
             "    values, else 0.\n\n"
             "Raises:\n"
             "    ValueError: the prefix is empty: that would be the whole database.");

static PyObject *
cache_clear(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    RedlaneCache *cache = (RedlaneCache *)self;
    PyObject *space = cache->tool.space, *result;
    int ended;

    if (cache->namespaces) {
        ended = redlane_cache_clear_namespace(cache);
        return ended < 0 ? NULL : PyLong_FromLong(ended);
    }
    if (!space) {
        PyErr_SetString(PyExc_ValueError,
                        "clear() of a cache without a prefix would delete the whole "
                        "database; use invalidate(\"*\") or client.flushdb()");
        return NULL;
    }
    Py_INCREF(space);
    result = redlane_cache_invalidate_pattern(
        cache, (RedlaneArg){PyBytes_AS_STRING(space), (size_t)PyBytes_GET_SIZE(space)});
    Py_DECREF(space);
    return result;
}

#define METHOD(name, flags) \
    {#name, (PyCFunction)(void (*)(void))cache_##name, flags, name##_doc}

PyMethodDef redlane_cache_pattern_methods[] = {
    METHOD(invalidate, METH_O),
    METHOD(clear, METH_NOARGS),
    {NULL, NULL, 0, NULL},
};
