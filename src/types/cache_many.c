/* Cache: calls for several keys. Lock: the GIL. */
#include "core/number.h"
#include "py/state.h"
#include "types/cache.h"
#include "types/call.h"

/* Full keys for an iterable of names, and an argv that begins with a command's name. */
typedef struct {
    PyObject *names; /* list */
    RedlaneCacheKey *keys;
    RedlaneArg *argv; /* keys from [1] on */
    size_t count;
} Batch;

static void
batch_clear(Batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        redlane_cache_key_clear(&batch->keys[i]);
    }
    PyMem_Free(batch->keys);
    PyMem_Free(batch->argv);
    Py_CLEAR(batch->names);
}

/* Clear it in any case. RAISES_NEG */
static int
batch_init(Batch *batch, RedlaneCache *cache, PyObject *names)
{
    Py_ssize_t count;

    *batch = (Batch){0};
    if (PyUnicode_Check(names) || PyBytes_Check(names)) {
        PyErr_SetString(PyExc_TypeError, "expected several keys, not one");
        return -1;
    }
    batch->names = PySequence_List(names);
    if (!batch->names) {
        return -1;
    }
    count = PyList_GET_SIZE(batch->names);
    batch->keys = PyMem_New(RedlaneCacheKey, (size_t)count + 1);
    batch->argv = PyMem_New(RedlaneArg, (size_t)count + 1);
    if (!batch->keys || !batch->argv) {
        (void)PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (redlane_cache_key_init(&batch->keys[i], cache,
                                   PyList_GET_ITEM(batch->names, i)) < 0) {
            return -1;
        }
        batch->count++;
        batch->argv[i + 1] = batch->keys[i].key;
    }
    return 0;
}

/* Runs one command over all keys of the batch. */
static PyObject *
batch_execute(Batch *batch, RedlaneCache *cache, RedlaneCommandId id, bool read)
{
    const RedlaneCommand *command = redlane_command_by_id(id);
    RedlaneVector vector = {batch->argv, batch->count + 1, command};
    PyObject *reply;

    batch->argv[0] = (RedlaneArg){command->name, strlen(command->name)};
    if (redlane_tool_run(&cache->tool, &vector, 1,
                         read ? &redlane_tool_reads : &redlane_tool_writes,
                         &reply) < 0) {
        return NULL;
    }
    if (PyExceptionInstance_Check(reply)) {
        PyErr_SetObject((PyObject *)Py_TYPE(reply), reply);
        Py_CLEAR(reply);
    }
    return reply;
}

static void
batch_mark(const Batch *batch, RedlaneCache *cache)
{
    for (size_t i = 0; i < batch->count; i++) {
        redlane_cache_mark(cache, batch->keys[i].key);
    }
}

/* Several keys being read: what was not near is asked for by MGET, and by PTTL for each
 * where near values are to be kept. */
typedef struct {
    RedlaneFill fill;
    size_t *asked; /* indexes in the batch */
    size_t count;
    RedlaneArg *argv;       /* MGET and its keys, then PTTL and a key for each */
    RedlaneVector *vectors; /* MGET, then PTTL for each */
    PyObject **replies;
    RedlaneNearFill *near_fills; /* or NULL: one for each that is asked for */
    size_t begun;                /* so many of these */
    RedlaneNearRead read;
} Reads;

/* Nothing that is read is kept near, or not any more. */
static void
reads_forget_near(Reads *reads)
{
    while (reads->begun) {
        redlane_fill_near_end(&reads->near_fills[--reads->begun]);
    }
    PyMem_Free(reads->near_fills);
    reads->near_fills = NULL;
}

static void
reads_clear(Reads *reads)
{
    redlane_fill_tags_end(&reads->fill);
    PyMem_Free(reads->asked);
    PyMem_Free(reads->argv);
    PyMem_Free(reads->vectors);
    PyMem_Free(reads->replies);
    reads_forget_near(reads);
}

/* RAISES_NEG */
static int
reads_init(Reads *reads, RedlaneCache *cache, const Batch *batch)
{
    size_t size = batch->count + 1;

    reads->fill = redlane_cache_fill(cache);
    redlane_cache_use_near(cache, &reads->fill);
    if (redlane_fill_tags_begin(&reads->fill) < 0) {
        return -1;
    }
    reads->asked = PyMem_New(size_t, size);
    reads->argv = PyMem_New(RedlaneArg, 3 * size);
    reads->vectors = PyMem_New(RedlaneVector, size + 1);
    reads->replies = PyMem_Calloc(size + 1, sizeof(PyObject *));
    reads->near_fills = reads->fill.near ? PyMem_New(RedlaneNearFill, size) : NULL;
    if (!reads->asked || !reads->argv || !reads->vectors || !reads->replies ||
        (reads->fill.near && !reads->near_fills)) {
        (void)PyErr_NoMemory();
        return -1;
    }
    return 0;
}

/* The fill for one key. */
static RedlaneFill
fill_of(const Reads *reads, RedlaneCache *cache, RedlaneArg key)
{
    RedlaneFill fill = reads->fill;

    fill.serializer = redlane_cache_serializer(cache, key);
    if (fill.serializer == &cache->numbers) {
        fill.near = NULL;
    }
    return fill;
}

/* found[name] = value; STEALS value. RAISES_NEG */
static int
put_found(const Batch *batch, size_t index, PyObject *STEALS value, PyObject *found)
{
    int result =
        PyDict_SetItem(found, PyList_GET_ITEM(batch->names, (Py_ssize_t)index), value);

    Py_DECREF(value);
    return result;
}

/* Puts what is near into `found`, and the rest into the request. RAISES_NEG */
static int
reads_prepare(Reads *reads, RedlaneCache *cache, const Batch *batch, PyObject *found)
{
    const RedlaneCommand *pttl = redlane_command_by_id(REDLANE_CMD_PTTL);

    reads->argv[0] = REDLANE_ARG_LITERAL("MGET");
    for (size_t i = 0; i < batch->count; i++) {
        RedlaneArg key = batch->keys[i].key;
        RedlaneFill fill = fill_of(reads, cache, key);
        PyObject *value;
        int result = redlane_fill_near_get(&fill, key, &value);

        if (result < 0 || (result == 1 && put_found(batch, i, value, found) < 0)) {
            return -1;
        }
        if (result == 0) {
            reads->asked[reads->count++] = i;
            reads->argv[reads->count] = key;
        }
    }
    reads->vectors[0] = (RedlaneVector){reads->argv, reads->count + 1,
                                        redlane_command_by_id(REDLANE_CMD_MGET)};
    for (size_t i = 0; reads->near_fills && i < reads->count; i++) {
        RedlaneArg *argv = reads->argv + reads->count + 1 + 2 * i;

        argv[0] = REDLANE_ARG_LITERAL("PTTL");
        argv[1] = reads->argv[i + 1];
        reads->vectors[i + 1] = (RedlaneVector){argv, 2, pttl};
        if (redlane_fill_near_begin(&reads->fill, argv[1], &reads->near_fills[i])) {
            reads->begun++;
        }
        else {
            reads_forget_near(reads); /* not confirmed, so none is */
        }
    }
    return 0;
}

/* Asks for all that is not near; `*count` replies came. RAISES_NEG */
static int
reads_ask(Reads *reads, RedlaneCache *cache, size_t *count)
{
    RedlaneToolManner manner = {.read = true};
    RedlaneTagsCommand command;
    PyObject *values;

    *count = 1;
    if (reads->near_fills) {
        reads->read = (RedlaneNearRead){.near = reads->fill.near};
        manner.near_read = &reads->read;
        *count += reads->count;
    }
    if (reads->fill.tags) {
        redlane_tags_ticket(reads->fill.tags,
                            reads->near_fills ? reads->fill.near : NULL);
        redlane_tags_command(reads->fill.tags, false, 0, &command);
        reads->vectors[(*count)++] = command.vector;
    }
    if (redlane_tool_run(&cache->tool, reads->vectors, *count, &manner,
                         reads->replies) < 0) {
        *count = 0;
        return -1;
    }
    values = reads->replies[0];
    if (reads->fill.tags) {
        redlane_tags_take(reads->fill.tags, reads->replies[*count - 1]);
    }
    if (PyExceptionInstance_Check(values)) {
        PyErr_SetObject((PyObject *)Py_TYPE(values), values);
        return -1;
    }
    return 0;
}

/* Puts one value into `found`, if it is there and of use. RAISES_NEG */
static int
reads_take(Reads *reads, RedlaneCache *cache, const Batch *batch, size_t index,
           const RedlaneTags *shared, PyObject *found)
{
    RedlaneArg key = reads->argv[index + 1];
    RedlaneFill fill = fill_of(reads, cache, key);
    PyObject *reply = Py_NewRef(PyList_GET_ITEM(reads->replies[0], (Py_ssize_t)index));
    PyObject *value = NULL;
    RedlaneTags *extras = NULL;
    int result;

    fill.extras = &extras;
    fill.shared = shared;
    result = redlane_fill_decode(&fill, key, reply, &value);
    if (result == 1) {
        cache->counts.hits++;
        if (reads->near_fills && fill.near) {
            reads->near_fills[index].read = reads->read;
            result = redlane_fill_near_keep(&fill, key, &reads->near_fills[index],
                                            reads->replies[index + 1], reply, value);
        }
        if (result < 0) {
            Py_DECREF(value);
        }
        else {
            result = put_found(batch, reads->asked[index], value, found);
        }
    }
    else {
        cache->counts.misses++;
        result = result < 0 ? -1 : 0; /* of no use: the others may be */
    }
    redlane_tags_free(extras);
    Py_DECREF(reply);
    return result < 0 ? -1 : 0;
}

/* Asks, and puts what came into `found`. RAISES_NEG */
static int
reads_run(Reads *reads, RedlaneCache *cache, const Batch *batch, PyObject *found)
{
    size_t count;
    Py_ssize_t taken = 0, next = 0, came;
    int result = reads_ask(reads, cache, &count);

    came = result == 0 && PyList_Check(reads->replies[0])
               ? PyList_GET_SIZE(reads->replies[0])
               : 0;
    came = came < (Py_ssize_t)reads->count ? came : (Py_ssize_t)reads->count;
    if (result == 0) {
        cache->counts.misses += reads->count - (size_t)came;
    }
    while (result == 0 && taken < came) {
        RedlaneTags *shared =
            redlane_fill_tags_share(&reads->fill, reads->replies[0], &next);

        result = !shared && PyErr_Occurred() ? -1 : 0;
        for (; result == 0 && taken < next && taken < came; taken++) {
            result = reads_take(reads, cache, batch, (size_t)taken, shared, found);
        }
        redlane_tags_free(shared);
    }
    redlane_store_drop_replies(reads->replies, count);
    return result;
}

PyDoc_STRVAR(get_many_doc,
             "get_many($self, keys, /)\n--\n\n"
             "The values of several keys, in one round trip.\n\n"
             "Args:\n"
             "    keys: an iterable of str or bytes, without the prefix.\n\n"
             "Returns:\n"
             "    dict: each key that holds a value, as it was given, and that value.");

static PyObject *
cache_get_many(PyObject *self, PyObject *names)
{
    RedlaneCache *cache = (RedlaneCache *)self;
    Batch batch;
    Reads reads = {.count = 0};
    PyObject *found = PyDict_New();
    int disabled = redlane_cache_is_disabled(cache), result = -1;

    if (batch_init(&batch, cache, names) < 0 || !found || disabled < 0) {
        goto exit;
    }
    if (disabled || batch.count == 0) {
        result = 0;
        goto exit;
    }
    if (reads_init(&reads, cache, &batch) < 0 ||
        reads_prepare(&reads, cache, &batch, found) < 0) {
        goto exit;
    }
    result = reads.count ? reads_run(&reads, cache, &batch, found) : 0;
exit:
    reads_clear(&reads);
    batch_clear(&batch);
    if (result < 0) {
        Py_CLEAR(found);
    }
    return found;
}

PyDoc_STRVAR(delete_many_doc, "delete_many($self, keys, /)\n--\n\n"
                              "Deletes several keys, in one round trip.\n\n"
                              "Returns:\n"
                              "    int: how many held something.");

static PyObject *
cache_delete_many(PyObject *self, PyObject *names)
{
    RedlaneCache *cache = (RedlaneCache *)self;
    Batch batch;
    PyObject *reply = NULL;

    if (batch_init(&batch, cache, names) < 0) {
        goto exit;
    }
    if (batch.count == 0) {
        reply = PyLong_FromLong(0);
        goto exit;
    }
    batch_mark(&batch, cache);
    reply = batch_execute(&batch, cache, REDLANE_CMD_DEL, false);
    batch_mark(&batch, cache);
    if (reply == Py_None) { /* a policy's miss */
        Py_SETREF(reply, PyLong_FromLong(0));
    }
    else if (reply && !PyLong_Check(reply)) {
        PyErr_SetString(cache->state->ReplyError, "DEL: not the reply of a DEL");
        Py_CLEAR(reply);
    }
    else if (reply) {
        cache->counts.deletes += (uint64_t)PyLong_AsLongLong(reply);
    }
exit:
    batch_clear(&batch);
    return reply;
}

/* One SET for each key, all in one write. */
typedef struct {
    PyObject *data; /* list of bytes */
    RedlaneTags *tags;
    RedlaneArg *argv;
    RedlaneVector *vectors;
    PyObject **replies;
    char digits[REDLANE_INT64_TEXT];
} Writes;

static void
writes_clear(Writes *writes)
{
    Py_CLEAR(writes->data);
    redlane_tags_free(writes->tags);
    PyMem_Free(writes->argv);
    PyMem_Free(writes->vectors);
    PyMem_Free(writes->replies);
}

/* Serialises every value before anything is sent. RAISES_NEG */
static int
writes_init(Writes *writes, RedlaneCache *cache, const Batch *batch, PyObject *mapping,
            int64_t ttl_ms)
{
    const RedlaneCommand *command = redlane_command_by_id(REDLANE_CMD_SET);
    size_t argc = ttl_ms ? 5 : 3;
    size_t digits = redlane_number_format_int64(writes->digits, ttl_ms);

    writes->data = PyList_New(0);
    writes->argv = PyMem_New(RedlaneArg, batch->count * 5 + 1);
    writes->vectors = PyMem_New(RedlaneVector, batch->count + 1);
    writes->replies = PyMem_New(PyObject *, batch->count + 1);
    if (!writes->data || !writes->argv || !writes->vectors || !writes->replies) {
        (void)PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < batch->count; i++) {
        PyObject *name = PyList_GET_ITEM(batch->names, (Py_ssize_t)i), *value, *data;
        RedlaneArg *argv = writes->argv + i * 5;
        int result;

        value = PyObject_GetItem(mapping, name);
        data = value ? redlane_cache_dumps(cache, batch->keys[i].key, ttl_ms,
                                           writes->tags, value)
                     : NULL;
        Py_XDECREF(value);
        result = data ? PyList_Append(writes->data, data) : -1;
        Py_XDECREF(data); /* the list has it */
        if (result < 0) {
            return -1;
        }
        argv[0] = REDLANE_ARG_LITERAL("SET");
        argv[1] = batch->keys[i].key;
        argv[2] = (RedlaneArg){PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data)};
        argv[3] = REDLANE_ARG_LITERAL("PX");
        argv[4] = (RedlaneArg){writes->digits, digits};
        writes->vectors[i] = (RedlaneVector){argv, argc, command};
    }
    return 0;
}

/* RAISES_NEG */
static int
writes_run(Writes *writes, RedlaneCache *cache, const Batch *batch, bool durable)
{
    const RedlaneToolManner manner = {.durable = durable};
    int result = 0;

    batch_mark(batch, cache);
    if (redlane_tool_run(&cache->tool, writes->vectors, batch->count, &manner,
                         writes->replies) < 0) {
        batch_mark(batch, cache);
        return -1;
    }
    batch_mark(batch, cache);
    for (size_t i = 0; i < batch->count; i++) {
        PyObject *reply = writes->replies[i];

        if (!PyExceptionInstance_Check(reply)) {
            PyObject *data = PyList_GET_ITEM(writes->data, (Py_ssize_t)i);

            cache->counts.sets++;
            cache->counts.bytes_written += (uint64_t)PyBytes_GET_SIZE(data);
        }
        else if (result == 0) {
            PyErr_SetObject((PyObject *)Py_TYPE(reply), reply);
            result = -1;
            if (cache->tool.policy != REDLANE_POLICY_RAISE &&
                redlane_fill_is_refusal(cache->state)) {
                PyErr_Clear(); /* as set() does: it is not stored */
                cache->counts.errors++;
                result = 0;
            }
        }
        Py_DECREF(reply);
    }
    return result;
}

PyDoc_STRVAR(set_many_doc,
             "set_many($self, /, mapping, ttl=None, durable=False, tags=None)\n--\n\n"
             "Stores several values, in one round trip; not as one transaction.\n\n"
             "Args:\n"
             "    mapping: keys (str or bytes, without the prefix) and values.\n"
             "    ttl, durable, tags: as for :meth:`set`.\n\n"
             "Raises:\n"
             "    SerializationError: a value cannot be serialised; nothing was sent.");

static PyObject *
cache_set_many(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    static const char *const names[] = {"mapping", "ttl", "durable", "tags", NULL};
    static const RedlaneCall call = {"set_many", names, 1, 4};
    RedlaneCache *cache = (RedlaneCache *)self;
    PyObject *values[4], *keys;
    Batch batch = {0};
    Writes writes = {0};
    int64_t ttl_ms;
    int disabled, durable = 0, result = -1;

    if (redlane_call_parse(&call, args, nargs, kwnames, values) < 0 ||
        redlane_cache_ttl(cache, values[1], &ttl_ms) < 0 ||
        (values[2] && (durable = PyObject_IsTrue(values[2])) < 0)) {
        return NULL;
    }
    disabled = redlane_cache_is_disabled(cache);
    keys = disabled < 0 ? NULL : PyMapping_Keys(values[0]);
    if (!keys || batch_init(&batch, cache, keys) < 0) {
        goto exit;
    }
    if (batch.count && !disabled) {
        result = redlane_cache_tags_begin(cache, values[3], ttl_ms, &writes.tags);
        if (result <= 0) {
            goto exit;
        }
        result = -1;
    }
    if (writes_init(&writes, cache, &batch, values[0], ttl_ms) < 0) {
        goto exit;
    }
    result =
        disabled || !batch.count ? 0 : writes_run(&writes, cache, &batch, durable > 0);
exit:
    writes_clear(&writes);
    batch_clear(&batch);
    Py_XDECREF(keys);
    if (result < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    disabled_doc,
    "disabled($self, /)\n--\n\n"
    "A context manager inside which reads are misses and nothing is stored.\n\n"
    "It acts in the current thread or task only. Deletes, invalidations and\n"
    "counters go on. Cached functions are simply called.");

#define METHOD(name, flags) \
    {#name, (PyCFunction)(void (*)(void))cache_##name, flags, name##_doc}

PyMethodDef redlane_cache_many_methods[] = {
    METHOD(get_many, METH_O),
    METHOD(set_many, METH_FASTCALL | METH_KEYWORDS),
    METHOD(delete_many, METH_O),
    {"disabled", redlane_cache_disabled, METH_NOARGS, disabled_doc},
    {NULL, NULL, 0, NULL},
};
