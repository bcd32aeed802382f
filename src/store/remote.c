/* Requests to a server: what they become on the wire, and what their replies mean. The
 * pool and the exchange do the rest. With the GIL; wire/exchange.c gives it up. */
#include "store/remote.h"

#include <stdlib.h>
#include <string.h>

#include "py/errors.h"
#include "py/state.h"
#include "store/remote_request.h"
#include "store/rest.h"
#include "wire/encode.h"
#include "wire/exchange.h"
#include "wire/pool.h"

typedef struct {
    RedlaneStore base;
    RedlaneSettings *settings;
    RedlanePool *pool;
    RedlaneChannels channels;
} RemoteStore;

static int
raise_fault(RemoteStore *store, const RedlaneFault *fault, const RedlaneVector *vectors,
            size_t count)
{
    redlane_remote_raise(store->base.state, store->settings, fault, vectors, count);
    return -1;
}

/* More replies than this are kept on the heap while a transaction is taken apart. */
#define INLINE_REPLIES 16

static int
run_once(RemoteStore *store, const RedlaneRequest *request,
         const RedlaneVector *vectors, size_t count, PyObject **replies,
         size_t reply_count, RedlaneRemoteReport *report)
{
    RedlaneSurvey survey = redlane_remote_survey(request, vectors, count);
    RedlaneExchange x;
    int result;

    x.state = store->base.state;
    x.settings = store->settings;
    x.deadline = survey.deadline;
    x.decode = request->decode;
    x.keep_nested = request->transaction;
    x.names_server = request->near_read != NULL;
    x.repeatable = survey.repeatable;
    x.elements = survey.elements;
    x.pool = survey.blocking ? NULL : store->pool;
    *report = (RedlaneRemoteReport){.fault.kind = REDLANE_FAULT_NONE};
    if (survey.blocking && redlane_pool_is_closed(store->pool)) {
        redlane_fault_set(&report->fault, REDLANE_FAULT_CLOSED, "closed");
        return raise_fault(store, &report->fault, vectors, count);
    }
    redlane_exchange_begin(&x);
    if (redlane_encode_request(&x.request, vectors, count, request->transaction) < 0) {
        redlane_exchange_cancel(&x);
        redlane_fault_set(&report->fault, REDLANE_FAULT_MEMORY, "out of memory");
        return raise_fault(store, &report->fault, vectors, count);
    }
    result = redlane_exchange_run(&x, replies, reply_count);
    if (result < 0) {
        *report = (RedlaneRemoteReport){x.fault, x.progress, x.unsure};
        return raise_fault(store, &report->fault, vectors, count);
    }
    if (unlikely(store->settings->scheme == REDLANE_SCHEME_REST) &&
        redlane_rest_failed(x.state, replies, reply_count, &report->fault,
                            &report->unsure)) {
        redlane_store_drop_replies(replies, reply_count);
        return raise_fault(store, &report->fault, vectors, count);
    }
    if (request->near_read) {
        request->near_read->known =
            redlane_near_is_same_server(request->near_read->near, x.run_id);
    }
    return 0;
}

/* RAISES_NEG */
static int
run_with_text(RemoteStore *store, const RedlaneRequest *request,
              const RedlaneVector *vector, PyObject **reply,
              RedlaneRemoteReport *report)
{
    PyObject *answer = NULL;
    RedlaneVector whole;
    int found = redlane_remote_script_text(vector, &whole);

    if (found <= 0) {
        return found;
    }
    found = run_once(store, request, &whole, 1, &answer, 1, report);
    PyMem_Free((void *)whole.argv);
    if (found == 0) {
        Py_SETREF(*reply, answer);
    }
    return found;
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
        if (redlane_remote_wants_text(state, request, &vectors[i], reply) &&
            run_with_text(store, request, &vectors[i], &replies[i], report) < 0) {
            report->unsure |= count > 1; /* the others were answered */
            goto failed;
        }
        if (redlane_remote_note_outage(state, replies[i], report) < 0) {
            goto failed;
        }
    }
    return 0;

failed:
    redlane_store_drop_replies(replies, count);
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
        result = redlane_remote_unpack(store->base.state, all, count, replies, report);
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
        redlane_remote_raise_reply(reply, NULL);
        return NULL;
    }
    return reply;
}

static void
remote_free(RedlaneStore *base)
{
    RemoteStore *store = (RemoteStore *)base;

    redlane_channels_close(&store->channels);
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
    store->channels = (RedlaneChannels){.state = state, .settings = settings};
    return &store->base;
}

RedlaneChannels *
redlane_remote_store_channels(RedlaneStore *base)
{
    return &((RemoteStore *)base)->channels;
}

void
redlane_remote_store_close(RedlaneStore *base)
{
    RemoteStore *store = (RemoteStore *)base;

    redlane_pool_close(store->pool);
    redlane_channels_close(&store->channels);
}

void
redlane_remote_store_stats(RedlaneStore *base, RedlaneRemoteStats *stats)
{
    RemoteStore *store = (RemoteStore *)base;
    RedlanePoolStats pool;

    redlane_pool_stats(store->pool, &pool);
    stats->loops = redlane_channels_count(&store->channels);
    stats->idle = pool.idle;
    stats->busy = pool.taken;
    stats->size = pool.size;
    memcpy(stats->server_version, pool.server_version, sizeof(stats->server_version));
}
