/* Requests to a server: what they become on the wire, and what their replies mean. The
 * pool and the exchange do the rest. With the GIL; wire/exchange.c gives it up. */
#include "store/remote.h"

#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/command_rules.h"
#include "core/script.h"
#include "py/errors.h"
#include "py/state.h"
#include "wire/encode.h"
#include "wire/exchange.h"
#include "wire/pool.h"

typedef struct {
    RedlaneStore base;
    RedlaneSettings *settings;
    RedlanePool *pool;
} RemoteStore;

/* More replies than this are kept on the heap while a transaction is taken apart. */
#define INLINE_REPLIES 16

static int
raise_fault(RemoteStore *store, const RedlaneFault *fault, const RedlaneVector *vectors,
            size_t count)
{
    const char *operation = NULL;

    if (count > 1) {
        operation = "pipeline";
    }
    else if (count == 1 && vectors[0].command->name[0]) {
        operation = vectors[0].command->name;
    }
    (void)redlane_errors_raise_fault(store->base.state, fault, operation,
                                     store->settings->redacted);
    return -1;
}

static int
encode_request(RedlaneExchange *x, const RedlaneRequest *request,
               const RedlaneVector *vectors, size_t count)
{
    static const RedlaneArg multi = {"MULTI", 5}, exec = {"EXEC", 4};

    if (request->transaction && redlane_encode_command(&x->request, &multi, 1) < 0) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        if (redlane_encode_command(&x->request, vectors[i].argv, vectors[i].argc) < 0) {
            return -1;
        }
    }
    if (request->transaction && redlane_encode_command(&x->request, &exec, 1) < 0) {
        return -1;
    }
    return 0;
}

/* True when each vector only reads: it may be sent twice. Blocking ones are looked at
 * on the way: those of one request wait one after the other, each for its own time. So
 * is how many elements may be asked for, by MGET or by a transaction. */
static bool
survey(const RedlaneRequest *request, const RedlaneVector *vectors, size_t count,
       bool *blocking, int64_t *deadline, size_t *elements)
{
    bool repeatable = true;

    *elements = count;
    for (size_t i = 0; i < count; i++) {
        const RedlaneCommand *command = vectors[i].command;
        int64_t time;

        repeatable = repeatable && command->flags & REDLANE_COMMAND_READ;
        *elements = vectors[i].argc > *elements ? vectors[i].argc : *elements;
        if (command->kind != REDLANE_COMMAND_BLOCKING || request->transaction ||
            !redlane_command_block_ns(&vectors[i], &time)) {
            continue; /* inside MULTI nothing blocks */
        }
        *blocking = true;
        *deadline = time < REDLANE_NEVER - *deadline ? *deadline + time : REDLANE_NEVER;
    }
    return repeatable;
}

static int
run_once(RemoteStore *store, const RedlaneRequest *request,
         const RedlaneVector *vectors, size_t count, PyObject **replies,
         size_t reply_count, RedlaneRemoteReport *report)
{
    bool blocking = false;
    RedlaneExchange x;
    int result;

    x.state = store->base.state;
    x.settings = store->settings;
    x.deadline = request->deadline;
    x.decode = request->decode;
    x.keep_nested = request->transaction;
    x.names_server = request->near_read != NULL;
    x.repeatable = survey(request, vectors, count, &blocking, &x.deadline, &x.elements);
    x.pool = blocking ? NULL : store->pool;
    *report = (RedlaneRemoteReport){.fault.kind = REDLANE_FAULT_NONE};
    if (blocking && redlane_pool_is_closed(store->pool)) {
        redlane_fault_set(&report->fault, REDLANE_FAULT_CLOSED, "closed");
        return raise_fault(store, &report->fault, vectors, count);
    }
    redlane_exchange_begin(&x);
    if (encode_request(&x, request, vectors, count) < 0) {
        redlane_exchange_cancel(&x);
        redlane_fault_set(&report->fault, REDLANE_FAULT_MEMORY, "out of memory");
        return raise_fault(store, &report->fault, vectors, count);
    }
    result = redlane_exchange_run(&x, replies, reply_count);
    if (result < 0) {
        *report = (RedlaneRemoteReport){x.fault, x.progress, x.unsure};
        return raise_fault(store, &report->fault, vectors, count);
    }
    if (request->near_read) {
        request->near_read->known =
            redlane_near_is_same_server(request->near_read->near, x.run_id);
    }
    return 0;
}

/* Tells what an error reply says of the server itself; "away" outweighs "no writes".
 * RAISES_NEG */
static int
note_outage(PyObject *reply, RedlaneRemoteReport *report)
{
    PyObject *text;
    const char *line;
    Py_ssize_t size;

    text = PyObject_Str(reply);
    if (!text) {
        return -1;
    }
    line = PyUnicode_AsUTF8AndSize(text, &size);
    if (line) {
        RedlaneFaultKind kind = redlane_fault_of_reply(line, (size_t)size);

        if (kind != REDLANE_FAULT_NONE && report->fault.kind != REDLANE_FAULT_REPLY) {
            redlane_fault_set(&report->fault, kind, "%.*s", (int)size, line);
        }
    }
    Py_DECREF(text);
    return line ? 0 : -1;
}

/* A server that was restarted, or told to forget its scripts, does not know ours: the
 * text goes once, in place of the hash. RAISES_NEG */
static int
run_with_text(RemoteStore *store, const RedlaneRequest *request,
              const RedlaneVector *vector, PyObject **reply,
              RedlaneRemoteReport *report)
{
    const RedlaneScript *script =
        vector->argc > 1
            ? redlane_script_by_sha1(vector->argv[1].data, vector->argv[1].size)
            : NULL;
    PyObject *answer = NULL;
    RedlaneVector whole;
    RedlaneArg *argv;
    int result;

    if (!script) {
        return 0;
    }
    argv = PyMem_Malloc(vector->argc * sizeof(RedlaneArg));
    if (!argv) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(argv, vector->argv, vector->argc * sizeof(RedlaneArg));
    argv[0] = REDLANE_ARG_LITERAL("EVAL");
    argv[1] = (RedlaneArg){script->text, strlen(script->text)};
    whole =
        (RedlaneVector){argv, vector->argc, redlane_command_by_id(REDLANE_CMD_EVAL)};
    result = run_once(store, request, &whole, 1, &answer, 1, report);
    PyMem_Free(argv);
    if (result == 0) {
        Py_SETREF(*reply, answer);
    }
    return result;
}

/* Looks through the replies for what is more than an answer. RAISES_NEG, with the
 * replies dropped. */
static int
judge_replies(RemoteStore *store, const RedlaneRequest *request,
              const RedlaneVector *vectors, size_t count, PyObject **replies,
              RedlaneRemoteReport *report)
{
    RedlaneState *state = store->base.state;

    for (size_t i = 0; i < count; i++) {
        PyObject *reply = replies[i];

        if (likely(!PyExceptionInstance_Check(reply))) {
            continue;
        }
        if ((PyObject *)Py_TYPE(reply) == state->NoScriptError &&
            vectors[i].command->id == REDLANE_CMD_EVALSHA && !request->transaction &&
            run_with_text(store, request, &vectors[i], &replies[i], report) < 0) {
            report->unsure |= count > 1; /* the others were answered */
            goto failed;
        }
        if (PyObject_TypeCheck(replies[i], (PyTypeObject *)state->ReplyError) &&
            note_outage(replies[i], report) < 0) {
            goto failed;
        }
    }
    return 0;

failed:
    redlane_store_drop_replies(replies, count);
    return -1;
}

/* Raises an error reply, with another as its context. STEALS both (context may be
 * NULL). Always -1. */
static int
raise_reply(PyObject *STEALS error, PyObject *STEALS context)
{
    if (context) {
        PyException_SetContext(error, context);
    }
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_DECREF(error);
    return -1;
}

/* The reason why a transaction has no result: the first command that was refused. New
 * reference or NULL. */
static PyObject *
first_refusal(PyObject **replies, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (PyExceptionInstance_Check(replies[i])) {
            return Py_NewRef(replies[i]);
        }
    }
    return NULL;
}

/* Takes MULTI's, the QUEUED and EXEC's replies apart; owns none afterwards. */
static int
unpack_transaction(RemoteStore *store, PyObject **all, size_t count, PyObject **replies,
                   RedlaneRemoteReport *report)
{
    PyObject *result = all[count + 1], *refusal;

    if (PyList_CheckExact(result) && (size_t)PyList_GET_SIZE(result) == count &&
        !PyExceptionInstance_Check(all[0])) {
        for (size_t i = 0; i < count; i++) {
            replies[i] = Py_NewRef(PyList_GET_ITEM(result, (Py_ssize_t)i));
        }
        return 0;
    }
    refusal = first_refusal(all, count + 1);
    if (refusal && note_outage(refusal, report) < 0) {
        Py_DECREF(refusal);
        return -1;
    }
    if (PyExceptionInstance_Check(all[0])) {
        return raise_reply(refusal, NULL); /* MULTI itself */
    }
    if (PyExceptionInstance_Check(result)) {
        return raise_reply(Py_NewRef(result), refusal);
    }
    Py_XDECREF(refusal);
    PyErr_SetString(store->base.state->ReplyError,
                    "EXEC gave no result for the transaction");
    return -1;
}

static int
run_transaction(RemoteStore *store, const RedlaneRequest *request,
                const RedlaneVector *vectors, size_t count, PyObject **replies,
                RedlaneRemoteReport *report)
{
    PyObject *inline_all[INLINE_REPLIES], **all = inline_all;
    size_t total = count + 2;
    int result;

    if (total > INLINE_REPLIES) {
        all = PyMem_Calloc(total, sizeof(PyObject *));
        if (!all) {
            PyErr_NoMemory();
            return -1;
        }
    }
    result = run_once(store, request, vectors, count, all, total, report);
    if (result == 0) {
        result = unpack_transaction(store, all, count, replies, report);
        redlane_store_drop_replies(all, total);
    }
    if (all != inline_all) {
        PyMem_Free(all);
    }
    return result;
}

static int
run_and_judge(RemoteStore *store, const RedlaneRequest *request,
              const RedlaneVector *vectors, size_t count, PyObject **replies,
              RedlaneRemoteReport *report)
{
    int result = request->transaction
                     ? run_transaction(store, request, vectors, count, replies, report)
                     : run_once(store, request, vectors, count, replies, count, report);

    if (result < 0) {
        return -1;
    }
    return judge_replies(store, request, vectors, count, replies, report);
}

int
redlane_remote_store_run(RedlaneStore *base, const RedlaneRequest *request,
                         const RedlaneVector *vectors, size_t count, PyObject **replies,
                         RedlaneRemoteReport *report)
{
    int result;

    *report = (RedlaneRemoteReport){.fault.kind = REDLANE_FAULT_NONE};
    if (count == 0) {
        return 0;
    }
    (void)redlane_store_hold(base); /* a signal handler may drop the last reference */
    result =
        run_and_judge((RemoteStore *)base, request, vectors, count, replies, report);
    redlane_store_release(base);
    return result;
}

static int
remote_run(RedlaneStore *store, const RedlaneRequest *request,
           const RedlaneVector *vectors, size_t count, PyObject **replies)
{
    RedlaneRemoteReport report;

    return redlane_remote_store_run(store, request, vectors, count, replies, &report);
}

static PyObject *
remote_execute(RedlaneStore *store, const RedlaneRequest *request,
               const RedlaneVector *vector)
{
    PyObject *reply = NULL;
    RedlaneRemoteReport report;

    if (redlane_remote_store_run(store, request, vector, 1, &reply, &report) < 0) {
        return NULL;
    }
    if (unlikely(PyExceptionInstance_Check(reply))) {
        (void)raise_reply(reply, NULL);
        return NULL;
    }
    return reply;
}

static void
remote_free(RedlaneStore *base)
{
    RemoteStore *store = (RemoteStore *)base;

    redlane_pool_free(store->pool);
    redlane_settings_release(store->settings);
    free(store);
}

RedlaneStore *
redlane_remote_store_new(RedlaneState *state, RedlaneSettings *settings)
{
    static const RedlaneStoreOps ops = {
        .run = remote_run,
        .execute = remote_execute,
        .free = remote_free,
    };
    RemoteStore *store = calloc(1, sizeof(*store));

    if (!store) {
        PyErr_NoMemory();
        return NULL;
    }
    store->pool = redlane_pool_new(settings->pool_size);
    if (!store->pool) {
        free(store);
        PyErr_NoMemory();
        return NULL;
    }
    store->base = (RedlaneStore){.ops = &ops, .state = state, .references = 1};
    store->settings = redlane_settings_hold(settings);
    return &store->base;
}

void
redlane_remote_store_close(RedlaneStore *base)
{
    redlane_pool_close(((RemoteStore *)base)->pool);
}

void
redlane_remote_store_stats(RedlaneStore *base, RedlaneRemoteStats *stats)
{
    RedlanePoolStats pool;

    redlane_pool_stats(((RemoteStore *)base)->pool, &pool);
    stats->idle = pool.idle;
    stats->busy = pool.taken;
    stats->size = pool.size;
    memcpy(stats->server_version, pool.server_version, sizeof(stats->server_version));
}
