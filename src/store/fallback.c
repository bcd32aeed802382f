/* Where a request goes: to the server, or by policy elsewhere; and what the guard is
 * told of it. GIL held throughout, but for the wait while the link is suspect. */
#include "store/fallback.h"

#include <string.h>

#include "core/clock.h"
#include "py/errors.h"
#include "py/log.h"
#include "py/state.h"
#include "store/engine_store.h"
#include "store/remote.h"

typedef struct {
    RedlaneStore base;
    RedlaneLink *link; /* held */
    RedlaneMembers *members;
    RedlanePolicy policy;
} Fallback;

/* While a call waits for a suspect link it looks for signals this often. */
#define WAIT_SLICE (50 * REDLANE_NS_PER_MS)

void
redlane_fallback_tell(RedlaneState *state, RedlaneMembers *members)
{
    const char *url = members->settings->redacted;
    RedlaneNews news;

    while (redlane_guard_take_news(members->guard, &news)) {
        switch (news.state) {
        case REDLANE_BREAKER_CLOSED:
            redlane_log(state, REDLANE_LOG_INFO, "Redis is back: %s", url);
            break;
        case REDLANE_BREAKER_SUSPECT:
            redlane_log(state, REDLANE_LOG_INFO, "Redis is being checked: %s (%s)", url,
                        news.reason);
            break;
        case REDLANE_BREAKER_OPEN:
            redlane_log(state, news.refused ? REDLANE_LOG_ERROR : REDLANE_LOG_WARNING,
                        "Redis is away: %s (%s)", url, news.reason);
            break;
        }
    }
}

static int
raise_closed(Fallback *self)
{
    RedlaneFault fault;

    redlane_fault_set(&fault, REDLANE_FAULT_CLOSED, "the client is closed");
    redlane_errors_raise_fault(self->base.state, &fault, NULL,
                               self->members->settings->redacted);
    return -1;
}

/* Sees to it that somebody probes a link that is not well: the thread, which a forked
 * child does not have yet; or, where none can run (at exit, or without the means to
 * start it), this call, if the probe is due. So too when this call has `waited` and the
 * thread still hangs on another server. */
static void
see_to_probe(Fallback *self, bool waited)
{
    RedlaneGuard *guard = self->members->guard;

    if (redlane_background_watch(self->base.state->background, guard, false) < 0 ||
        (waited && redlane_guard_probe_due(guard) <= redlane_clock_now())) {
        Py_BEGIN_ALLOW_THREADS
        redlane_guard_probe_nogil(guard);
        Py_END_ALLOW_THREADS
    }
}

/* The route, after waiting for a suspect link if the request can wait. RAISES_NEG, also
 * when the client is closed meanwhile. */
static int
find_route(Fallback *self, const RedlaneRequest *request, RedlaneRoute *route)
{
    RedlaneGuard *guard = self->members->guard;

    *route = redlane_guard_route(guard);
    if (unlikely(route->state != REDLANE_BREAKER_CLOSED) && !self->members->closed) {
        see_to_probe(self, false);
        *route = redlane_guard_route(guard);
    }
    while (route->state == REDLANE_BREAKER_SUSPECT && !request->cache_read &&
           !self->members->closed) {
        int64_t now = redlane_clock_now();
        int64_t until = now + WAIT_SLICE;

        if (now >= request->deadline) {
            break;
        }
        if (until > request->deadline) {
            until = request->deadline;
        }
        Py_BEGIN_ALLOW_THREADS
        *route = redlane_guard_wait_nogil(guard, until);
        Py_END_ALLOW_THREADS
        if (PyErr_CheckSignals() < 0) {
            return -1;
        }
        if (route->state == REDLANE_BREAKER_SUSPECT) {
            see_to_probe(self, true);
        }
    }
    return self->members->closed ? raise_closed(self) : 0;
}

/* The engine that answers during this outage, without what an earlier one left. */
static RedlaneStore *
find_engine(Fallback *self, uint64_t outage)
{
    RedlaneMembers *members = self->members;

    if (!members->engine) {
        members->engine =
            redlane_engine_store_new(self->base.state, members->settings->max_memory);
    }
    else if (members->engine_outage != outage) {
        redlane_engine_flush(redlane_engine_store_engine(members->engine));
    }
    members->engine_outage = outage;
    return members->engine;
}

static RedlaneStore *
find_scratch(Fallback *self)
{
    RedlaneMembers *members = self->members;

    if (!members->scratch) {
        members->scratch =
            redlane_engine_store_new(self->base.state, members->settings->max_memory);
    }
    return members->scratch;
}

static int
raise_away(Fallback *self, const RedlaneVector *vector)
{
    RedlaneFault fault = {0};
    char name[32];
    size_t size = vector->argv[0].size;

    redlane_guard_reason(self->members->guard, &fault);
    if (fault.kind == REDLANE_FAULT_NONE) {
        redlane_fault_set(&fault, REDLANE_FAULT_TIMEOUT, "timed out");
    }
    size = size < sizeof(name) ? size : sizeof(name) - 1;
    memcpy(name, vector->argv[0].data, size);
    name[size] = '\0';
    redlane_errors_raise_fault(self->base.state, &fault, name,
                               self->members->settings->redacted);
    return -1;
}

/* What the policy says when the server does not answer. */
static int
run_away(Fallback *self, const RedlaneRequest *request, const RedlaneRoute *route,
         const RedlaneVector *vectors, size_t count, PyObject **replies)
{
    RedlaneStore *store;
    int result;

    if (self->policy == REDLANE_POLICY_RAISE) {
        return raise_away(self, vectors);
    }
    if (self->policy == REDLANE_POLICY_MEMORY && route->state == REDLANE_BREAKER_OPEN) {
        store = find_engine(self, route->outage);
        return store ? redlane_store_run(store, request, vectors, count, replies) : -1;
    }
    store = find_scratch(self);
    if (!store) {
        return -1;
    }
    result = redlane_store_run(store, request, vectors, count, replies);
    redlane_engine_flush(redlane_engine_store_engine(store));
    return result;
}

static void
drop_replies(PyObject **replies, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        Py_CLEAR(replies[i]);
    }
}

/* Tells the guard what became of a request; true when it was met by an outage. */
static bool
report(Fallback *self, const RedlaneRoute *route, const RedlaneFault *fault,
       bool progress, int result)
{
    RedlaneGuard *guard = self->members->guard;

    if (!redlane_guard_is_outage(fault)) {
        if (result == 0) {
            redlane_guard_success(guard, route->era);
        }
        return false;
    }
    if (!progress) {
        redlane_guard_failure(guard, route->era, fault);
        if (!self->members->closed) { /* or it would be probed until it is freed */
            (void)redlane_background_watch(self->base.state->background, guard, true);
        }
    }
    return true;
}

static int
fallback_run(RedlaneStore *store, const RedlaneRequest *request,
             const RedlaneVector *vectors, size_t count, PyObject **replies)
{
    Fallback *self = (Fallback *)store;
    RedlaneFault fault = {0};
    RedlaneRoute route;
    bool progress = false, away;
    int result;

    if (find_route(self, request, &route) < 0) {
        return -1;
    }
    if (route.state != REDLANE_BREAKER_CLOSED) {
        result = run_away(self, request, &route, vectors, count, replies);
        redlane_fallback_tell(store->state, self->members);
        return result;
    }
    result = redlane_remote_store_run(self->members->remote, request, vectors, count,
                                      replies, &fault, &progress);
    away = report(self, &route, &fault, progress, result);
    if ((away || fault.kind == REDLANE_FAULT_POOL) &&
        self->policy != REDLANE_POLICY_RAISE) {
        if (result == 0) {
            drop_replies(replies, count);
        }
        PyErr_Clear();
        /* A patient request learns the probe's verdict first: a server that is really
         * away is answered for by the engine, not by an empty one. */
        if (find_route(self, request, &route) < 0) {
            return -1;
        }
        result = run_away(self, request, &route, vectors, count, replies);
    }
    redlane_fallback_tell(store->state, self->members);
    return result;
}

static void
fallback_free(RedlaneStore *store)
{
    Fallback *self = (Fallback *)store;

    redlane_link_release(self->link);
    PyMem_Free(self);
}

static const RedlaneStoreOps fallback_ops = {
    .run = fallback_run,
    .free = fallback_free,
};

RedlaneStore *
redlane_fallback_new(RedlaneState *state, RedlaneLink *link, RedlaneMembers *members,
                     RedlanePolicy policy)
{
    Fallback *self = PyMem_Calloc(1, sizeof(*self));

    if (!self) {
        PyErr_NoMemory();
        return NULL;
    }
    self->base = (RedlaneStore){&fallback_ops, state, 1};
    self->link = redlane_link_hold(link);
    self->members = members;
    self->policy = policy;
    return &self->base;
}
