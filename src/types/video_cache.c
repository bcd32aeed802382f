/* VideoCache: videos by the cards they were made from.
 *
 *   video:<SHA-256 of [black,[white…]]>
 *     {"video_url":"…","created_at":"2025-10-18T13:15:00","permanent":true}
 *
 * The value is plain JSON, never enveloped, so that any language reads it. Lock: the
 * GIL. */
#include "types/video_cache.h"

#include <time.h>

#include "core/number.h"
#include "py/item.h"
#include "py/log.h"
#include "py/state.h"
#include "types/async_method.h"
#include "types/async_video_cache.h"
#include "types/call.h"
#include "types/content_key.h"
#include "types/json_text.h"
#include "types/serializer.h"
#include "types/tool.h"

#define PREFIX "video:"
#define KEY_SIZE (sizeof(PREFIX) - 1 + REDLANE_CONTENT_KEY_HEX)
#define TEMPORARY_MS ((int64_t)86400 * 1000)

typedef struct {
    PyObject_HEAD
    RedlaneState *state; /* BORROWED */
    RedlaneTool tool;
    bool started; /* its log lines are written */
    uint64_t hits, misses, corrupted, errors;
} VideoCache;

/* Looks for the server once and says what it found. RAISES_NEG */
static int
start_cache(VideoCache *cache)
{
    RedlaneFault fault = {.kind = REDLANE_FAULT_NONE};
    RedlaneFlow *flow;
    RedlaneLink *link;
    int answered;

    if (likely(cache->started)) {
        return 0;
    }
    flow = redlane_flow_current(cache->state);
    if (flow) {
        PyObject *done = redlane_async_on_thread(
            flow, PyObject_GetAttrString((PyObject *)cache, "startup"));

        Py_XDECREF(done);
        return done ? 0 : -1;
    }
    if (redlane_tool_resolve(&cache->tool) < 0) {
        return -1;
    }
    cache->started = true;
    link =
        redlane_link_hold(cache->tool.link); /* configure() may replace it meanwhile */
    answered = redlane_link_check(link, &fault);
    redlane_link_release(link);
    if (answered < 0) {
        cache->started = false;
        return -1;
    }
    if (answered) {
        redlane_log_event(cache->state, REDLANE_LOG_INFO, "redlane.video.connected",
                          "%s", "✅ Connected to Redis for video caching");
    }
    else if (fault.kind != REDLANE_FAULT_NONE) { /* memory:// was meant */
        redlane_log_event(cache->state, REDLANE_LOG_WARNING,
                          "redlane.video.unconnected",
                          "%s  Redis connection failed: %s", "⚠️", fault.text);
        redlane_log_event(cache->state, REDLANE_LOG_WARNING, "redlane.video.memory",
                          "%s", "⚠️  Falling back to in-memory cache");
    }
    return 0;
}

static PyObject *
video_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"client", "lazy", NULL};
    PyObject *client = Py_None;
    VideoCache *cache;
    int lazy = 0;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O$p:VideoCache", names, &client,
                                     &lazy)) {
        return NULL;
    }
    cache = (VideoCache *)type->tp_alloc(type, 0);
    if (!cache) {
        return NULL;
    }
    cache->state = redlane_state_of_type(type);
    if (!cache->state ||
        redlane_tool_init(&cache->tool, cache->state, client, REDLANE_POLICY_MEMORY) <
            0 ||
        (!lazy && start_cache(cache) < 0)) {
        Py_DECREF(cache);
        return NULL;
    }
    return (PyObject *)cache;
}

static int
video_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    return redlane_tool_traverse(&((VideoCache *)self)->tool, visit, arg);
}

static void
video_tp_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    redlane_tool_clear(&((VideoCache *)self)->tool);
    type->tp_free(self);
    Py_DECREF(type);
}

/* RAISES_NEG */
static int
make_key(VideoCache *cache, PyObject *black_card, PyObject *white_cards,
         char key[KEY_SIZE])
{
    memcpy(key, PREFIX, sizeof(PREFIX) - 1);
    return redlane_content_key_hex(cache->state, black_card, white_cards,
                                   key + sizeof(PREFIX) - 1);
}

/* What the server refuses must not break the application: counted. RAISES_NEG */
static int
forgive(VideoCache *cache)
{
    if (!PyErr_ExceptionMatches(cache->state->RedlaneError)) {
        return -1;
    }
    PyErr_Clear();
    cache->errors++;
    return 0;
}

/* Appends the value of an entry made now. RAISES_NEG */
static int
append_entry(RedlaneBuffer *entry, PyObject *video_url, bool permanent)
{
    char created[32];
    time_t now = time(NULL);
    struct tm utc;

    if (!gmtime_r(&now, &utc) ||
        !strftime(created, sizeof(created), "%Y-%m-%dT%H:%M:%S", &utc)) {
        PyErr_SetString(PyExc_OverflowError, "the system's clock is out of range");
        return -1;
    }
    if (redlane_buffer_append_literal(entry, "{\"video_url\":") < 0) {
        goto memory;
    }
    if (redlane_json_text_append(entry, video_url) < 0) {
        return -1;
    }
    if (redlane_buffer_append_literal(entry, ",\"created_at\":\"") < 0 ||
        redlane_buffer_append(entry, created, strlen(created)) < 0 ||
        redlane_buffer_append_literal(entry, "\",\"permanent\":") < 0 ||
        redlane_buffer_append(entry, permanent ? "true}" : "false}",
                              permanent ? 5 : 6) < 0) {
        goto memory;
    }
    return 0;
memory:
    (void)PyErr_NoMemory();
    return -1;
}

PyDoc_STRVAR(
    set_doc,
    "set($self, /, black_card, white_cards, video_url, permanent=False)\n--\n\n"
    "Stores the video of a combination of cards.\n\n"
    "Args:\n"
    "    black_card: str.\n"
    "    white_cards: sequence of str; their order matters.\n"
    "    video_url: str.\n"
    "    permanent: True: it never expires. False: it lives for 86,400 s, and\n"
    "        takes no permanent entry's place.\n\n"
    "Returns:\n"
    "    bool: whether it was stored.");

static PyObject *
video_set(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"black_card", "white_cards", "video_url",
                                        "permanent", NULL};
    static const RedlaneCall call = {"set", names, 3, 4};
    VideoCache *cache = (VideoCache *)self;
    char key[KEY_SIZE], digits[REDLANE_INT64_TEXT];
    RedlaneBuffer entry = {0};
    PyObject *values[4], *reply = NULL;
    int permanent = 0, stored = -1;

    if (redlane_call_parse(&call, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    if (!PyUnicode_Check(values[2])) {
        PyErr_Format(PyExc_TypeError, "video_url must be a str, not %.100s",
                     Py_TYPE(values[2])->tp_name);
        return NULL;
    }
    if (values[3] && (permanent = PyObject_IsTrue(values[3])) < 0) {
        return NULL;
    }
    if (make_key(cache, values[0], values[1], key) == 0 && start_cache(cache) == 0 &&
        append_entry(&entry, values[2], permanent) == 0) {
        size_t size = redlane_number_format_int64(digits, permanent ? 0 : TEMPORARY_MS);
        RedlaneArg argv[] = {
            {key, sizeof(key)}, {entry.data, entry.size}, {digits, size}};

        reply = redlane_tool_script(&cache->tool, REDLANE_SCRIPT_VIDEO_SET, argv, 3, 1,
                                    &redlane_tool_writes);
        stored = reply ? PyObject_IsTrue(reply) : forgive(cache);
        Py_XDECREF(reply);
    }
    redlane_buffer_free(&entry);
    return stored < 0 ? NULL : PyBool_FromLong(stored);
}

/* The URL in a stored entry: a new str, or NULL; an exception only when it is no
 * Exception of reading. */
static PyObject *
read_entry(VideoCache *cache, PyObject *stored)
{
    PyObject *entry = redlane_json_loads(cache->state, stored), *url = NULL;

    if (entry && PyDict_CheckExact(entry) &&
        redlane_item_find(entry, "video_url", &url) == 0) {
        url = url && PyUnicode_Check(url) ? Py_NewRef(url) : NULL;
    }
    Py_XDECREF(entry);
    if (!url && PyErr_ExceptionMatches(PyExc_Exception) &&
        !PyErr_ExceptionMatches(PyExc_MemoryError)) {
        PyErr_Clear();
    }
    return url;
}

/* Drops an unreadable entry: by value, so that a new one stays. RAISES_NEG */
static int
drop_entry(VideoCache *cache, RedlaneArg key, PyObject *stored)
{
    PyObject *reply;

    cache->corrupted++;
    if (stored) {
        RedlaneArg argv[] = {
            key, {PyBytes_AS_STRING(stored), (size_t)PyBytes_GET_SIZE(stored)}};

        reply = redlane_tool_script(&cache->tool, REDLANE_SCRIPT_RELEASE, argv, 2, 1,
                                    &redlane_tool_writes);
    }
    else {
        reply = redlane_tool_execute(&cache->tool, REDLANE_CMD_DEL, &key, 1, false);
    }
    if (!reply) {
        return forgive(cache);
    }
    Py_DECREF(reply);
    return 0;
}

/* The URL of a key, or NULL: an exception may be set. */
static PyObject *
look_up(VideoCache *cache, RedlaneArg key)
{
    PyObject *reply, *url = NULL;

    reply = redlane_tool_execute(&cache->tool, REDLANE_CMD_GET, &key, 1, true);
    if (!reply) {
        bool other = PyErr_ExceptionMatches(cache->state->WrongTypeError);

        if (forgive(cache) == 0 && other) {
            (void)drop_entry(cache, key, NULL);
        }
        return NULL;
    }
    if (PyBytes_Check(reply)) {
        url = read_entry(cache, reply);
        if (!url && !PyErr_Occurred()) {
            (void)drop_entry(cache, key, reply);
        }
    }
    Py_DECREF(reply);
    return url;
}

PyDoc_STRVAR(
    get_doc,
    "get($self, /, black_card, white_cards)\n--\n\n"
    "The video of a combination of cards.\n\n"
    "Returns:\n"
    "    str: its URL. None: there is none; an unreadable entry is dropped and\n"
    "    counted.");

static PyObject *
video_get(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"black_card", "white_cards", NULL};
    static const RedlaneCall call = {"get", names, 2, 2};
    VideoCache *cache = (VideoCache *)self;
    char key[KEY_SIZE];
    PyObject *values[2], *url;

    if (redlane_call_parse(&call, args, nargs, kwnames, values) < 0 ||
        make_key(cache, values[0], values[1], key) < 0 || start_cache(cache) < 0) {
        return NULL;
    }
    url = look_up(cache, (RedlaneArg){key, sizeof(key)});
    if (url) {
        cache->hits++;
        return url;
    }
    if (PyErr_Occurred()) {
        return NULL;
    }
    cache->misses++;
    Py_RETURN_NONE;
}

/* Adds the keys of one SCAN reply to a set, and takes the next cursor; 1 at the end, 0
 * when there is more. RAISES_NEG */
static int
collect_keys(VideoCache *cache, PyObject *reply, PyObject *keys, char cursor[24])
{
    PyObject *next, *names;

    if (reply == Py_None) {
        return 1;
    }
    next = PyList_Check(reply) && PyList_GET_SIZE(reply) == 2
               ? PyList_GET_ITEM(reply, 0)
               : NULL;
    if (!next || !PyBytes_Check(next) || PyBytes_GET_SIZE(next) >= 24) {
        PyErr_SetString(cache->state->ReplyError, "SCAN: not the reply of a SCAN");
        return -1;
    }
    names = PyList_GET_ITEM(reply, 1);
    for (Py_ssize_t i = 0; PyList_Check(names) && i < PyList_GET_SIZE(names); i++) {
        PyObject *name = PyList_GET_ITEM(names, i);

        if (!PyBytes_Check(name)) {
            PyErr_SetString(cache->state->ReplyError, "SCAN: a key is no string");
            return -1;
        }
        if (PySet_Add(keys, name) < 0) {
            return -1;
        }
    }
    if (strcmp(cursor, "0") != 0 && strcmp(cursor, PyBytes_AS_STRING(next)) == 0) {
        PyErr_SetString(cache->state->ReplyError, "SCAN: the cursor stands still");
        return -1;
    }
    memcpy(cursor, PyBytes_AS_STRING(next), (size_t)PyBytes_GET_SIZE(next) + 1);
    return strcmp(cursor, "0") == 0;
}

/* How many entries there are, each counted once; RAISES_NEG */
static Py_ssize_t
count_entries(VideoCache *cache)
{
    char cursor[24] = "0";
    PyObject *keys = PySet_New(NULL);
    Py_ssize_t count = -1;
    int end = keys ? 0 : -1;

    while (end == 0) {
        RedlaneArg argv[] = {{cursor, strlen(cursor)},
                             REDLANE_ARG_LITERAL("MATCH"),
                             REDLANE_ARG_LITERAL(PREFIX "*"),
                             REDLANE_ARG_LITERAL("COUNT"),
                             REDLANE_ARG_LITERAL("1000")};
        PyObject *reply =
            redlane_tool_execute(&cache->tool, REDLANE_CMD_SCAN, argv, 5, false);

        end = reply ? collect_keys(cache, reply, keys, cursor) : -1;
        Py_XDECREF(reply);
    }
    if (end > 0) {
        count = PySet_GET_SIZE(keys);
    }
    Py_XDECREF(keys);
    if (count < 0 && forgive(cache) == 0) {
        return 0;
    }
    return count;
}

PyDoc_STRVAR(get_stats_doc,
             "get_stats($self, /)\n--\n\n"
             "What the cache holds and how it did in this process.\n\n"
             "Returns:\n"
             "    dict: ``cache_type`` (``\"redis\"`` or ``\"memory\"``, what answers\n"
             "    now), ``total_entries`` (keys that begin with ``video:``, by SCAN),\n"
             "    ``hits``, ``misses``, ``hit_rate`` (0.0 before any call),\n"
             "    ``corrupted`` (unreadable entries dropped) and ``errors`` (commands\n"
             "    that the server refused).");

static PyObject *
video_get_stats(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    VideoCache *cache = (VideoCache *)self;
    uint64_t calls = cache->hits + cache->misses;
    PyObject *type;
    Py_ssize_t count;

    if (start_cache(cache) < 0) {
        return NULL;
    }
    type = redlane_tool_cache_type(&cache->tool);
    if (!type) {
        return NULL;
    }
    count = count_entries(cache);
    if (count < 0) {
        Py_DECREF(type);
        return NULL;
    }
    return Py_BuildValue("{sNsnsKsKsdsKsK}", "cache_type", type, "total_entries", count,
                         "hits", (unsigned long long)cache->hits, "misses",
                         (unsigned long long)cache->misses, "hit_rate",
                         calls ? (double)cache->hits / (double)calls : 0.0, "corrupted",
                         (unsigned long long)cache->corrupted, "errors",
                         (unsigned long long)cache->errors);
}

PyDoc_STRVAR(startup_doc,
             "startup($self, /)\n--\n\n"
             "Looks for the server now, once, and logs what it found; otherwise the\n"
             "first call does.");

static PyObject *
video_startup(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (start_cache((VideoCache *)self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    video_cache_doc,
    "VideoCache(client=None, *, lazy=False)\n--\n\n"
    "Videos by the cards they were made from, on Redis or in memory.\n\n"
    "It looks for the server when it is made and logs what it found; without one the\n"
    "memory engine answers, and Redis again when it is there.\n\n"
    "Args:\n"
    "    client: a Client, a URL, or None for ``redlane.default_client()``.\n"
    "    lazy: look for the server at the first call, or at :meth:`startup`.");

PyDoc_STRVAR(aio_doc, "The AsyncVideoCache of the same videos.");

static PyObject *
video_get_aio(PyObject *self, void *Py_UNUSED(closure))
{
    return redlane_async_video_cache_of(((VideoCache *)self)->state, self);
}

int
redlane_video_cache_setup(PyObject *module)
{
    static PyMethodDef methods[] = {
        {"set", (PyCFunction)(void (*)(void))video_set, METH_FASTCALL | METH_KEYWORDS,
         set_doc},
        {"get", (PyCFunction)(void (*)(void))video_get, METH_FASTCALL | METH_KEYWORDS,
         get_doc},
        {"get_stats", video_get_stats, METH_NOARGS, get_stats_doc},
        {"startup", video_startup, METH_NOARGS, startup_doc},
        {NULL, NULL, 0, NULL},
    };
    static PyGetSetDef getset[] = {
        {"aio", video_get_aio, NULL, aio_doc, NULL},
        {NULL, NULL, NULL, NULL, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_doc, (void *)video_cache_doc},
        {Py_tp_new, video_tp_new},
        {Py_tp_traverse, video_tp_traverse},
        {Py_tp_dealloc, video_tp_dealloc},
        {Py_tp_methods, methods},
        {Py_tp_getset, getset},
        {0, NULL},
    };
    static PyType_Spec spec = {
        .name = "redlane.VideoCache",
        .basicsize = sizeof(VideoCache),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE |
                 Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };
    RedlaneState *state = redlane_state_of_module(module);

    return redlane_state_add(module, &state->VideoCacheType, "VideoCache",
                             PyType_FromModuleAndSpec(module, &spec, NULL));
}
