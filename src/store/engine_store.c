/* The memory engine as a store: vectors in under its lock, Python objects made after.
 *
 * Called with the GIL, which is never given up here: a GET takes less time than that
 * would. So one spare reply buffer serves all calls; a call that comes from within
 * another's conversion (a finaliser) finds none and makes its own. */
#include "store/engine_store.h"

#include <stdlib.h>

#include "core/glob.h"
#include "pubsub/hub.h"
#include "py/convert.h"

#define SPARE_MAX ((size_t)16 << 10) /* bytes of the reply buffer that is kept */

typedef struct {
    RedlaneStore store;
    RedlaneEngine *engine;
    RedlaneBuffer spare;       /* empty, with its capacity */
    RedlaneSettings *settings; /* held: whose subscriptions it reaches; or NULL */
} EngineStore;

static void
keep_buffer(EngineStore *self, RedlaneBuffer *nodes)
{
    if (self->spare.data || nodes->capacity > SPARE_MAX) {
        redlane_buffer_free(nodes);
        return;
    }
    nodes->size = 0;
    self->spare = *nodes;
}

/* Hands on what the engine took, without its lock. */
static PyObject *
publish(const EngineStore *self, const RedlaneVector *vector, PyObject *STEALS reply)
{
    return self->settings && reply
               ? redlane_engine_store_published(self->settings, vector, reply)
               : reply;
}

static PyObject *
engine_store_execute(RedlaneStore *store, const RedlaneRequest *request,
                     const RedlaneVector *vector)
{
    EngineStore *self = (EngineStore *)store;
    RedlaneReply reply = {
        .nodes = self->spare,
        .make_bulk = redlane_convert_bulk,
        .decode = request->decode,
    };
    PyObject *object;

    self->spare = (RedlaneBuffer){0};
    redlane_engine_run(self->engine, vector, 1, false, &reply);
    object = redlane_convert_reply(store->state, &reply);
    keep_buffer(self, &reply.nodes);
    if (unlikely(vector->command->id == REDLANE_CMD_PUBLISH)) {
        object = publish(self, vector, object);
    }
    if (object && unlikely(PyExceptionInstance_Check(object))) {
        PyErr_SetObject((PyObject *)Py_TYPE(object), object);
        Py_CLEAR(object);
    }
    return object;
}

static int
engine_store_run(RedlaneStore *store, const RedlaneRequest *request,
                 const RedlaneVector *vectors, size_t count, PyObject **replies)
{
    EngineStore *self = (EngineStore *)store;
    RedlaneReply *raw = calloc(count ? count : 1, sizeof(*raw));
    size_t done = 0;
    int result = -1;

    if (!raw) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        raw[i].make_bulk = redlane_convert_bulk;
        raw[i].decode = request->decode;
    }
    redlane_engine_run(self->engine, vectors, count, request->transaction, raw);
    for (; done < count; done++) {
        PyObject *reply = redlane_convert_reply(store->state, &raw[done]);

        /* a text that is not UTF-8 spoils its own reply, not the others */
        if (!reply && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
            reply = redlane_convert_raised();
        }
        if (vectors[done].command->id == REDLANE_CMD_PUBLISH) {
            reply = publish(self, &vectors[done], reply);
        }
        if (!reply) {
            goto exit;
        }
        replies[done] = reply;
    }
    result = 0;
exit:
    for (size_t i = 0; i < count; i++) {
        redlane_buffer_free(&raw[i].nodes);
        Py_XDECREF((PyObject *)raw[i].object);
        if (result < 0 && i < done) {
            Py_CLEAR(replies[i]);
        }
    }
    free(raw);
    return result;
}

static void
engine_store_free(RedlaneStore *store)
{
    EngineStore *self = (EngineStore *)store;

    redlane_engine_free(self->engine);
    redlane_settings_release(self->settings);
    redlane_buffer_free(&self->spare);
    free(self);
}

static const RedlaneStoreOps engine_store_ops = {
    .run = engine_store_run,
    .execute = engine_store_execute,
    .free = engine_store_free,
};

RedlaneStore *
redlane_engine_store_new(RedlaneState *state, size_t max_bytes)
{
    EngineStore *self = calloc(1, sizeof(*self));

    if (self) {
        self->engine = redlane_engine_new(max_bytes);
    }
    if (!self || !self->engine) {
        free(self);
        PyErr_NoMemory();
        return NULL;
    }
    self->store =
        (RedlaneStore){.ops = &engine_store_ops, .state = state, .references = 1};
    return &self->store;
}

PyObject *
redlane_engine_store_published(const RedlaneSettings *settings,
                               const RedlaneVector *vector, PyObject *STEALS reply)
{
    size_t count;

    if (!PyLong_Check(reply)) {
        return reply;
    }
    count = redlane_hub_publish(settings, vector->argv[1], vector->argv[2]);
    Py_DECREF(reply);
    return PyLong_FromSize_t(count);
}

void
redlane_engine_store_publish_for(RedlaneStore *store, RedlaneSettings *settings)
{
    ((EngineStore *)store)->settings = redlane_settings_hold(settings);
}

RedlaneEngine *
redlane_engine_store_engine(RedlaneStore *store)
{
    return ((EngineStore *)store)->engine;
}

RedlaneEngine *
redlane_engine_store_find(RedlaneStore *store)
{
    return store->ops == &engine_store_ops ? redlane_engine_store_engine(store) : NULL;
}

int
redlane_engine_store_forget(RedlaneStore *store, RedlaneArg pattern)
{
    RedlaneEngine *engine = redlane_engine_store_engine(store);
    RedlaneArg argv[] = {REDLANE_ARG_LITERAL("KEYS"), pattern};
    RedlaneVector keys = {argv, 2, redlane_command_by_id(REDLANE_CMD_KEYS)};
    RedlaneReply found = {.make_bulk = NULL};
    RedlaneNode node;
    size_t offset = 0;

    redlane_engine_run(engine, &keys, 1, false, &found);
    if (found.failed) {
        redlane_buffer_free(&found.nodes);
        PyErr_NoMemory();
        return -1;
    }
    while (redlane_reply_next(&found, &offset, &node)) {
        RedlaneArg del[] = {REDLANE_ARG_LITERAL("DEL"), {node.data, node.size}};
        RedlaneVector vector = {del, 2, redlane_command_by_id(REDLANE_CMD_DEL)};
        RedlaneReply gone = {.make_bulk = NULL};

        if (node.kind == REDLANE_REPLY_BULK &&
            redlane_glob_means(pattern.data, pattern.size, node.data, node.size)) {
            redlane_engine_run(engine, &vector, 1, false, &gone);
        }
        redlane_buffer_free(&gone.nodes);
    }
    redlane_buffer_free(&found.nodes);
    return 0;
}
