/* Cache: the calls that touch one key. Lock: the GIL. */
#include <math.h>

#include "core/number.h"
#include "py/args.h"
#include "py/errors.h"
#include "py/state.h"
#include "types/cache.h"
#include "types/call.h"
#include "types/counter.h"
#include "types/flight.h"
#include "types/results.h"

static PyObject *
as_bool(PyObject *reply)
{
    PyObject *result;

    if (!reply) {
        return NULL;
    }
    result = PyBool_FromLong(PyObject_IsTrue(reply) == 1);
    Py_DECREF(reply);
    return result;
}

PyDoc_STRVAR(get_doc,
             "get($self, /, key, default=None)\n--\n\n"
             "The value of a key.\n\n"
             "Args:\n"
             "    key: str or bytes, without the prefix.\n"
             "    default: what to return where nothing is stored.\n\n"
             "Returns:\n"
             "    The decoded value. ``default`` where the key is missing, holds a\n"
             "    lease (it is being computed) or another type, or cannot be read; an\n"
             "    unreadable value is dropped and counted as ``corrupted``. A cached\n"
             "    None is told from a miss by ``default``.\n\n"
             "Raises:\n"
             "    ReplyError: the server refused the command.\n"
             "    ConnectionError, TimeoutError: only with ``fallback=\"raise\"``.");

/* A declared counter is always asked for: its value is to be exact. */
static void
prepare_read(RedlaneCache *cache, RedlaneArg key, RedlaneFill *fill)
{
    fill->serializer = redlane_cache_serializer(cache, key);
    if (fill->serializer != &cache->numbers) {
        redlane_cache_use_near(cache, fill);
    }
}

/* 1, 0 or -1, as redlane_fill_read; hits are counted. */
static int
read_key(const RedlaneFill *fill, RedlaneArg key, PyObject **value)
{
    int found = redlane_fill_near_get(fill, key, value);

    if (found == 0) {
        found = redlane_fill_read(fill, key, value);
        if (found == 1) {
            fill->counts->hits++;
        }
    }
    return found;
}

static const char *const get_names[] = {"key", "default", NULL};
static const RedlaneCall get_call = {"get", get_names, 1, 2};

PyObject *
redlane_cache_get_near(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                       PyObject *kwnames)
{
    RedlaneCache *cache = (RedlaneCache *)self;
    RedlaneFill fill;
    RedlaneCacheKey key;
    PyObject *values[2], *value = NULL;

    if (redlane_call_parse(&get_call, args, nargs, kwnames, values) == 0 &&
        redlane_cache_is_disabled(cache) == 0 &&
        redlane_cache_key_init(&key, cache, values[0]) == 0) {
        fill = redlane_cache_fill(cache);
        prepare_read(cache, key.key, &fill);
        (void)redlane_fill_near_get(&fill, key.key, &value);
        redlane_cache_key_clear(&key);
    }
    if (!value && PyErr_Occurred() && !redlane_errors_is_interruption()) {
        PyErr_Clear(); /* get() says the same */
    }
    return value;
}

static PyObject *
cache_get(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    RedlaneCache *cache = (RedlaneCache *)self;
    RedlaneFill fill;
    RedlaneCacheKey key;
    PyObject *values[2], *value = NULL;
    int found;

    if (redlane_call_parse(&get_call, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    found = redlane_cache_is_disabled(cache);
    if (found < 0 || redlane_cache_key_init(&key, cache, values[0]) < 0) {
        return NULL;
    }
    fill = redlane_cache_fill(cache);
    prepare_read(cache, key.key, &fill);
    found = found ? 0 : read_key(&fill, key.key, &value);
    redlane_cache_key_clear(&key);
    if (found) {
        return value;
    }
    cache->counts.misses++;
    return Py_NewRef(values[1] ? values[1] : Py_None);
}

/* SET, with the marks before and after. 1: stored, 0: there is no room for it, not even
 * in the engine. RAISES_NEG */
static int
set_key(RedlaneCache *cache, RedlaneArg key, PyObject *data, int64_t ttl_ms,
        bool durable)
{
    const RedlaneToolManner manner = {.durable = durable};
    char digits[REDLANE_INT64_TEXT];
    RedlaneArg argv[4] = {key,
                          {PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data)}};
    size_t argc = 2;
    PyObject *reply;

    if (ttl_ms) {
        argv[2] = REDLANE_ARG_LITERAL("PX");
        argv[3] = (RedlaneArg){digits, redlane_number_format_int64(digits, ttl_ms)};
        argc = 4;
    }
    redlane_cache_mark(cache, key);
    reply = redlane_tool_execute_as(&cache->tool, REDLANE_CMD_SET, argv, argc, &manner);
    redlane_cache_mark(cache, key);
    if (!reply) {
        if (cache->tool.policy == REDLANE_POLICY_RAISE ||
            !redlane_fill_is_refusal(cache->state)) {
            return -1;
        }
        PyErr_Clear();
        cache->counts.errors++;
        return 0;
    }
    Py_DECREF(reply);
    cache->counts.sets++;
    cache->counts.bytes_written += (uint64_t)PyBytes_GET_SIZE(data);
    return 1;
}

PyDoc_STRVAR(
    set_doc,
    "set($self, /, key, value, ttl=None, durable=False, tags=None)\n--\n\n"
    "Stores a value, whatever the key held before.\n\n"
    "Args:\n"
    "    key: str or bytes, without the prefix.\n"
    "    value: what the cache's serializer takes.\n"
    "    ttl: seconds, a timedelta or a text such as ``\"10m\"``; None: the\n"
    "        cache's own.\n"
    "    durable: a value set while the server is away is stored there on its\n"
    "        return, with what is left of its TTL, where nothing is by then.\n"
    "        A value without TTL always is; any other only has its key deleted.\n"
    "    tags: a str or several: :meth:`invalidate_tags` of any of them ends the\n"
    "        value. Their generations are asked for first, in one more round\n"
    "        trip.\n\n"
    "Returns:\n"
    "    True; False inside ``with cache.disabled()``, and where there is no room\n"
    "    for the value in the memory engine; the old value then stays.\n\n"
    "Raises:\n"
    "    SerializationError: the value cannot be serialised.\n"
    "    TypeError, ValueError: an unusable key or TTL; nothing was sent.");

static PyObject *
cache_set(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"key", "value", "ttl", "durable", "tags", NULL};
    static const RedlaneCall call = {"set", names, 2, 5};
    RedlaneCache *cache = (RedlaneCache *)self;
    RedlaneCacheKey key;
    RedlaneTags *tags = NULL;
    PyObject *values[5], *data = NULL;
    int64_t ttl_ms;
    int disabled, durable = 0, result = -1;

    if (redlane_call_parse(&call, args, nargs, kwnames, values) < 0 ||
        redlane_cache_ttl(cache, values[2], &ttl_ms) < 0 ||
        (values[3] && (durable = PyObject_IsTrue(values[3])) < 0) ||
        redlane_cache_key_init(&key, cache, values[0]) < 0) {
        return NULL;
    }
    disabled = redlane_cache_is_disabled(cache);
    if (disabled == 0) {
        result = redlane_cache_tags_begin(cache, values[4], ttl_ms, &tags);
    }
    if (disabled > 0 || result > 0) {
        data = redlane_cache_dumps(cache, key.key, ttl_ms, tags, values[1]);
        result = data ? 0 : -1;
    }
    if (data && !disabled) {
        result = set_key(cache, key.key, data, ttl_ms, durable > 0);
    }
    Py_XDECREF(data);
    redlane_tags_free(tags);
    redlane_cache_key_clear(&key);
    return result < 0 ? NULL : PyBool_FromLong(result);
}

#define HEAD_END "5" /* of mark, version and fields */

/* 1 when how a value begins says that it is a lease, or, to a reader, what a function
 * raised: neither is a value. (WRONGTYPE is none of them.) */
static int
is_no_value(PyObject *reply, bool read)
{
    const char *data;
    size_t size;

    if (!PyBytes_Check(reply)) {
        return 0;
    }
    data = PyBytes_AS_STRING(reply);
    size = (size_t)PyBytes_GET_SIZE(reply);
    return redlane_envelope_is_lease(data, size) ||
           (read && redlane_envelope_is_raised(data, size));
}

/* 1 when it is a value with tags. */
static int
has_tags(PyObject *reply)
{
    const char *data;

    if (!PyBytes_Check(reply) || PyBytes_GET_SIZE(reply) < 6) {
        return 0;
    }
    data = PyBytes_AS_STRING(reply);
    return redlane_envelope_is_marked(reply) &&
           data[REDLANE_MARK_SIZE] == REDLANE_MARK_ENVELOPE &&
           data[REDLANE_MARK_SIZE + 2] & REDLANE_ENVELOPE_TAGS;
}

/* What how a value begins tells. */
typedef enum {
    HEAD_OTHER,
    HEAD_LEASE,
    HEAD_TAGS,
} Head;

/* Runs GETRANGE key 0 5 and one more command in one round trip. The second one's reply,
 * or NULL with an exception set; *head tells of the first. */
static PyObject *
peek_and(RedlaneCache *cache, RedlaneArg key, RedlaneCommandId id, bool read,
         Head *head)
{
    const RedlaneCommand *range = redlane_command_by_id(REDLANE_CMD_GETRANGE);
    const RedlaneCommand *command = redlane_command_by_id(id);
    RedlaneArg first[] = {REDLANE_ARG_LITERAL("GETRANGE"), key,
                          REDLANE_ARG_LITERAL("0"), REDLANE_ARG_LITERAL(HEAD_END)};
    RedlaneArg second[] = {{command->name, strlen(command->name)}, key};
    RedlaneVector vectors[] = {{first, 4, range}, {second, 2, command}};
    PyObject *replies[2];

    *head = HEAD_OTHER;
    if (redlane_tool_run(&cache->tool, vectors, 2,
                         read ? &redlane_tool_reads : &redlane_tool_writes,
                         replies) < 0) {
        return NULL;
    }
    *head = is_no_value(replies[0], read) ? HEAD_LEASE
            : has_tags(replies[0])        ? HEAD_TAGS
                                          : HEAD_OTHER;
    Py_DECREF(replies[0]);
    if (PyExceptionInstance_Check(replies[1])) {
        PyErr_SetObject((PyObject *)Py_TYPE(replies[1]), replies[1]);
        Py_CLEAR(replies[1]);
    }
    return replies[1];
}

PyDoc_STRVAR(add_doc, "add($self, /, key, value, ttl=None, tags=None)\n--\n\n"
                      "Stores a value only where the key holds none.\n\n"
                      "Args:\n"
                      "    key, value, ttl, tags: as for :meth:`set`.\n\n"
                      "Returns:\n"
                      "    bool: True when it was stored.");

/* ADD, and how what is there begins: a value whose tag was invalidated is none. 1:
 * stored, 0: a value is there, 2: one is there that has tags. RAISES_NEG */
static int
add_key(RedlaneCache *cache, RedlaneArg key, PyObject *data, int64_t ttl_ms)
{
    const RedlaneScript *script = &redlane_scripts[REDLANE_SCRIPT_ADD];
    char digits[REDLANE_INT64_TEXT];
    RedlaneArg add[] = {REDLANE_ARG_LITERAL("EVALSHA"),
                        {script->sha1, sizeof(script->sha1) - 1},
                        REDLANE_ARG_LITERAL("1"),
                        key,
                        {PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data)},
                        {digits, redlane_number_format_int64(digits, ttl_ms)}};
    RedlaneArg peek[] = {REDLANE_ARG_LITERAL("GETRANGE"), key, REDLANE_ARG_LITERAL("0"),
                         REDLANE_ARG_LITERAL(HEAD_END)};
    RedlaneVector vectors[] = {{add, 6, redlane_command_by_id(REDLANE_CMD_EVALSHA)},
                               {peek, 4, redlane_command_by_id(REDLANE_CMD_GETRANGE)}};
    PyObject *replies[2];
    int result;

    if (redlane_tool_run(&cache->tool, vectors, 2, &redlane_tool_writes, replies) < 0) {
        return -1;
    }
    if (PyExceptionInstance_Check(replies[0])) {
        PyErr_SetObject((PyObject *)Py_TYPE(replies[0]), replies[0]);
        result = -1;
    }
    else {
        result = PyObject_IsTrue(replies[0]) == 1 ? 1 : has_tags(replies[1]) ? 2 : 0;
    }
    redlane_store_drop_replies(replies, 2);
    if (result == 1) {
        redlane_cache_mark(cache, key);
        cache->counts.sets++;
        cache->counts.bytes_written += (uint64_t)PyBytes_GET_SIZE(data);
    }
    return result;
}

/* The same, once more where what was in the way has ended by now. */
static int
add_current(RedlaneCache *cache, RedlaneArg key, PyObject *data, int64_t ttl_ms)
{
    int result = add_key(cache, key, data, ttl_ms), current;

    if (result != 2 && !(result == 0 && cache->namespaces)) {
        return result;
    }
    current = redlane_cache_is_current(cache, key);
    if (current) {
        return current < 0 ? -1 : 0;
    }
    result = add_key(cache, key, data, ttl_ms);
    return result == 2 ? 0 : result;
}

static PyObject *
cache_add(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"key", "value", "ttl", "tags", NULL};
    static const RedlaneCall call = {"add", names, 2, 4};
    RedlaneCache *cache = (RedlaneCache *)self;
    RedlaneCacheKey key;
    RedlaneTags *tags = NULL;
    PyObject *values[4], *data = NULL;
    int64_t ttl_ms;
    int disabled, result = -1;

    if (redlane_call_parse(&call, args, nargs, kwnames, values) < 0 ||
        redlane_cache_ttl(cache, values[2], &ttl_ms) < 0 ||
        redlane_cache_key_init(&key, cache, values[0]) < 0) {
        return NULL;
    }
    disabled = redlane_cache_is_disabled(cache);
    if (disabled == 0) {
        result = redlane_cache_tags_begin(cache, values[3], ttl_ms, &tags);
    }
    if (disabled > 0 || result > 0) {
        data = redlane_cache_dumps(cache, key.key, ttl_ms, tags, values[1]);
        result = data ? 0 : -1;
    }
    if (data && !disabled) {
        result = add_current(cache, key.key, data, ttl_ms);
    }
    Py_XDECREF(data);
    redlane_tags_free(tags);
    redlane_cache_key_clear(&key);
    return result < 0 ? NULL : PyBool_FromLong(result);
}

int
redlane_cache_delete_key(RedlaneCache *cache, RedlaneArg key)
{
    PyObject *reply;
    Head head;
    int deleted;

    redlane_cache_mark(cache, key);
    reply = peek_and(cache, key, REDLANE_CMD_DEL, false, &head);
    redlane_cache_mark(cache, key);
    if (!reply) {
        return -1;
    }
    deleted = head != HEAD_LEASE && PyObject_IsTrue(reply) == 1;
    Py_DECREF(reply);
    cache->counts.deletes += (uint64_t)deleted;
    return deleted;
}

PyDoc_STRVAR(delete_doc,
             "delete($self, key, /)\n--\n\n"
             "Deletes a key. What is being computed for it now is not stored.\n\n"
             "Returns:\n"
             "    bool: whether there was a value.");

static PyObject *
cache_delete(PyObject *self, PyObject *name)
{
    RedlaneCache *cache = (RedlaneCache *)self;
    RedlaneCacheKey key;
    int deleted;

    if (redlane_cache_key_init(&key, cache, name) < 0) {
        return NULL;
    }
    deleted = redlane_cache_delete_key(cache, key.key);
    redlane_cache_key_clear(&key);
    return deleted < 0 ? NULL : PyBool_FromLong(deleted);
}

PyDoc_STRVAR(has_doc, "has($self, key, /)\n--\n\n"
                      "Whether a key holds a value. A key that is being computed does\n"
                      "not.\n\n"
                      "Returns:\n"
                      "    bool");

/* Whether a value is near, in any form. */
static bool
is_near(RedlaneCache *cache, RedlaneArg key)
{
    RedlaneFill fill = redlane_cache_fill(cache);
    RedlaneNearEntry *entry;

    prepare_read(cache, key, &fill);
    entry = fill.near ? redlane_near_find(fill.near, key.data, key.size) : NULL;
    if (!entry) {
        return false;
    }
    redlane_near_value_free(redlane_near_entry_release(entry));
    return true;
}

/* Whether a value that was found is one still, going by how it begins. */
static bool
is_in_doubt(const RedlaneCache *cache, Head head)
{
    return head == HEAD_TAGS || (cache->namespaces && head != HEAD_LEASE);
}

/* RAISES_NEG */
static int
has_key(RedlaneCache *cache, PyObject *name)
{
    RedlaneCacheKey key;
    PyObject *reply;
    Head head;
    int found = redlane_cache_is_disabled(cache);

    if (found) {
        return found < 0 ? -1 : 0;
    }
    if (redlane_cache_key_init(&key, cache, name) < 0) {
        return -1;
    }
    if (is_near(cache, key.key)) {
        redlane_cache_key_clear(&key);
        return 1;
    }
    reply = peek_and(cache, key.key, REDLANE_CMD_EXISTS, true, &head);
    found = !reply
                ? -1
                : head != HEAD_LEASE && reply != Py_None && PyObject_IsTrue(reply) == 1;
    Py_XDECREF(reply);
    if (found == 1 && is_in_doubt(cache, head)) {
        found = redlane_cache_is_current(cache, key.key);
    }
    redlane_cache_key_clear(&key);
    return found;
}

static PyObject *
cache_has(PyObject *self, PyObject *name)
{
    int found = has_key((RedlaneCache *)self, name);

    return found < 0 ? NULL : PyBool_FromLong(found);
}

PyDoc_STRVAR(ttl_doc, "ttl($self, key, /)\n--\n\n"
                      "How long a key will still live.\n\n"
                      "Returns:\n"
                      "    float: seconds; ``math.inf`` for a value without expiry.\n"
                      "    None: nothing is there, or it is being computed.");

/* PTTL's milliseconds, -2 where there is no value. RAISES_NEG: -3 */
static long long
find_pttl(RedlaneCache *cache, RedlaneArg key)
{
    Head head;
    PyObject *reply = peek_and(cache, key, REDLANE_CMD_PTTL, true, &head);
    long long milliseconds = -2;
    int current;

    if (!reply) {
        return -3;
    }
    if (PyLong_Check(reply) && head != HEAD_LEASE) {
        milliseconds = PyLong_AsLongLong(reply);
    }
    Py_DECREF(reply);
    if (PyErr_Occurred()) {
        return -3;
    }
    if (milliseconds != -2 && is_in_doubt(cache, head)) {
        current = redlane_cache_is_current(cache, key);
        milliseconds = current < 0 ? -3 : current ? milliseconds : -2;
    }
    return milliseconds;
}

static PyObject *
cache_ttl(PyObject *self, PyObject *name)
{
    RedlaneCache *cache = (RedlaneCache *)self;
    RedlaneCacheKey key;
    long long milliseconds;

    if (redlane_cache_key_init(&key, cache, name) < 0) {
        return NULL;
    }
    milliseconds = find_pttl(cache, key.key);
    redlane_cache_key_clear(&key);
    if (milliseconds == -3) {
        return NULL;
    }
    if (milliseconds == -1) {
        return PyFloat_FromDouble(Py_HUGE_VAL);
    }
    if (milliseconds < 0) {
        Py_RETURN_NONE;
    }
    return PyFloat_FromDouble((double)milliseconds / 1000);
}

PyDoc_STRVAR(touch_doc,
             "touch($self, /, key, ttl=None)\n--\n\n"
             "Gives a value a new TTL.\n\n"
             "Args:\n"
             "    key: str or bytes, without the prefix.\n"
             "    ttl: seconds, a timedelta or a text such as ``\"10m\"``; None: the\n"
             "        cache's own, or no expiry where it has none. Tags do not live\n"
             "        longer for it: the value may end with them.\n\n"
             "Returns:\n"
             "    bool: whether there was a value.");

/* A sealed value says when it ends, so it is written anew, where it is still the same.
 * A new reference to 0 or 1; NULL with an exception set. */
static PyObject *
touch_sealed(RedlaneCache *cache, RedlaneArg key, int64_t ttl_ms)
{
    const RedlaneWrapping wrapping = {.key = key, .ttl_ms = ttl_ms};
    PyObject *old, *new, *reply = NULL;
    char digits[REDLANE_INT64_TEXT];

    old = redlane_tool_execute(&cache->tool, REDLANE_CMD_GET, &key, 1, true);
    if (!old || !PyBytes_Check(old)) { /* nothing there */
        Py_XDECREF(old);
        return old ? PyLong_FromLong(0) : NULL;
    }
    new = redlane_envelope_reseal(&cache->serializer, &wrapping, old);
    if (new) {
        RedlaneArg argv[] = {key,
                             {PyBytes_AS_STRING(old), (size_t)PyBytes_GET_SIZE(old)},
                             {PyBytes_AS_STRING(new), (size_t)PyBytes_GET_SIZE(new)},
                             {digits, redlane_number_format_int64(digits, ttl_ms)}};

        reply = redlane_tool_script(&cache->tool, REDLANE_SCRIPT_FILL, argv, 4, 1,
                                    &redlane_tool_writes);
        Py_DECREF(new);
    }
    else if (PyErr_ExceptionMatches(cache->state->SerializationError)) {
        PyErr_Clear(); /* a lease, or what get() will drop */
        reply = PyLong_FromLong(0);
    }
    Py_DECREF(old);
    return reply;
}

static PyObject *
touch_key(RedlaneCache *cache, RedlaneArg key, int64_t ttl_ms)
{
    char digits[REDLANE_INT64_TEXT];
    RedlaneArg argv[] = {key, {digits, redlane_number_format_int64(digits, ttl_ms)}};

    if (cache->namespaces) { /* whose generations must live as long */
        int current = redlane_cache_is_current(cache, key);
        RedlaneTags *tags = NULL;

        current = current > 0 ? redlane_cache_tags_begin(cache, NULL, ttl_ms, &tags)
                              : current;
        redlane_tags_free(tags);
        if (current <= 0) {
            return current < 0 ? NULL : PyLong_FromLong(0);
        }
    }
    if (redlane_cache_serializer(cache, key)->seal) {
        return touch_sealed(cache, key, ttl_ms);
    }
    return redlane_tool_script(&cache->tool, REDLANE_SCRIPT_TOUCH, argv, 2, 1,
                               &redlane_tool_writes);
}

static PyObject *
cache_touch(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"key", "ttl", NULL};
    static const RedlaneCall call = {"touch", names, 1, 2};
    RedlaneCache *cache = (RedlaneCache *)self;
    RedlaneCacheKey key;
    PyObject *values[2], *reply;
    int64_t ttl_ms;

    if (redlane_call_parse(&call, args, nargs, kwnames, values) < 0 ||
        redlane_cache_ttl(cache, values[1], &ttl_ms) < 0 ||
        redlane_cache_key_init(&key, cache, values[0]) < 0) {
        return NULL;
    }
    reply = touch_key(cache, key.key, ttl_ms);
    redlane_cache_key_clear(&key);
    return as_bool(reply);
}

#define METHOD(name, flags) \
    {#name, (PyCFunction)(void (*)(void))cache_##name, flags, name##_doc}
#define FAST (METH_FASTCALL | METH_KEYWORDS)

PyMethodDef redlane_cache_value_methods[] = {
    METHOD(get, FAST),      METHOD(set, FAST),     METHOD(add, FAST),
    METHOD(delete, METH_O), METHOD(has, METH_O),   METHOD(ttl, METH_O),
    METHOD(touch, FAST),    {NULL, NULL, 0, NULL},
};
