/* Where a request goes: to the server, or by policy elsewhere, for a thread that waits.
 * GIL held throughout, but for the wait while the link is suspect. */
#include "store/fallback.h"

#include "core/clock.h"
#include "py/state.h"
#include "store/async_trip.h"
#include "store/engine_store.h"
#include "store/trip.h"

/* While a call waits for a suspect link it looks for signals this often. */
#define WAIT_SLICE (50 * REDLANE_NS_PER_MS)

/* The route, after waiting for a suspect link if the request can wait. RAISES_NEG, also
 * when the client is closed meanwhile. */
static int
find_route(RedlaneFallback *self, const RedlaneRequest *request, RedlaneRoute *route)
{
    RedlaneGuard *guard = self->members->guard;

    *route = redlane_guard_route(guard);
    if (unlikely(route->state != REDLANE_BREAKER_CLOSED) && !self->members->closed) {
        redlane_trip_see_to_probe(self);
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
            redlane_trip_see_to_probe(self);
        }
    }
    return self->members->closed ? redlane_trip_raise_closed(self) : 0;
}

/* Asks the server for `vectors` in the place of the request's. As redlane_store_run. */
static int
ask(const RedlaneTrip *trip, const RedlaneVector *vectors, RedlaneRemoteReport *report)
{
    RedlaneMembers *members = trip->self->members;
    const RedlaneRequest *request = trip->request;
    RedlaneObserved observed;
    int result;

    redlane_observer_begin(&members->observer, &observed);
    result = redlane_remote_store_run(members->remote, request, vectors, trip->count,
                                      trip->replies, report);
    if (unlikely(observed.wall)) {
        redlane_observer_tell(&members->observer, &observed, vectors, trip->count,
                              request->transaction, result < 0 ? NULL : trip->replies,
                              NULL);
    }
    return result;
}

/* As redlane_store_run. */
static int
run_leaseless(const RedlaneTrip *trip, RedlaneRemoteReport *report)
{
    RedlaneLeaseless instead;

    redlane_trip_leaseless(trip, &instead);
    return ask(trip, instead.vectors, report);
}

/* The replies of a request that the server answered in part: the rest, which it
 * refused, is answered by policy, one by one. 1, or -1 with an exception set and the
 * replies dropped. */
static int
replace_refused(RedlaneTrip *trip)
{
    for (size_t i = 0; i < trip->count; i++) {
        PyObject *reply = NULL;
        RedlaneTrip one;
        RedlanePart part = redlane_trip_part(trip, i, &one);
        int result = part == REDLANE_PART_FAILED ? -1 : 1;

        if (part == REDLANE_PART_STAYS) {
            continue;
        }
        one.replies = &reply;
        if (part == REDLANE_PART_LEASELESS) {
            RedlaneRemoteReport report;

            result = run_leaseless(&one, &report) < 0 ? -1 : 1;
            if (result < 0 && redlane_guard_is_outage(&report.fault)) {
                PyErr_Clear();
                result = redlane_trip_run_away(&one, true);
            }
        }
        else if (part == REDLANE_PART_AWAY) {
            result = redlane_trip_run_away(&one, true);
        }
        if (result < 0) {
            redlane_store_drop_replies(trip->replies, trip->count);
            return -1;
        }
        Py_SETREF(trip->replies[i], reply);
    }
    return 1;
}

/* Asks the server. 1: answered, 0: to be answered by policy, -1: an exception. */
static int
run_server(RedlaneTrip *trip)
{
    RedlaneRemoteReport report;
    int result;

    if (redlane_trip_is_leaseless(trip)) {
        result = run_leaseless(trip, &report);
    }
    else {
        result = ask(trip, trip->vectors, &report);
    }
    switch (redlane_trip_judge(trip, result, &report)) {
    case REDLANE_VERDICT_ANSWERED:
        return 1;
    case REDLANE_VERDICT_AWAY:
        return 0;
    case REDLANE_VERDICT_REFUSED:
        return replace_refused(trip);
    case REDLANE_VERDICT_FAILED:
        break;
    }
    return -1;
}

static int
run_rounds(RedlaneTrip *trip)
{
    RedlaneFallback *self = trip->self;

    for (int round = 0;; round++) {
        bool last = round == REDLANE_TRIP_ROUNDS - 1;
        int result = 0;

        /* A patient request learns the probe's verdict first: a server that is really
         * away is answered for by the engine, not by an empty one. */
        if (find_route(self, trip->request, &trip->route) < 0) {
            return -1;
        }
        if (trip->route.state != REDLANE_BREAKER_CLOSED &&
            self->policy == REDLANE_POLICY_RAISE) {
            return redlane_trip_raise_away(self, trip->vectors);
        }
        if (trip->route.state == REDLANE_BREAKER_CLOSED && !trip->unsure && !last &&
            (self->policy == REDLANE_POLICY_RAISE || !redlane_trip_stays(trip))) {
            result = run_server(trip);
            if (result != 0) {
                return result;
            }
            continue;
        }
        result = redlane_trip_run_away(trip, last || trip->unsure);
        if (result != 0) {
            return result;
        }
    }
}

static int
fallback_run(RedlaneStore *store, const RedlaneRequest *request,
             const RedlaneVector *vectors, size_t count, PyObject **replies)
{
    RedlaneTrip trip = {.self = (RedlaneFallback *)store,
                        .request = request,
                        .vectors = vectors,
                        .count = count,
                        .replies = replies};
    int result;

    if (count == 0) {
        return 0;
    }
    redlane_trip_begin(&trip);
    result = run_rounds(&trip);
    redlane_trip_end(&trip);
    return result < 0 ? -1 : 0;
}

static int
fallback_forget(RedlaneStore *store, RedlaneArg pattern, RedlaneArg space,
                RedlaneAnswer answer)
{
    RedlaneFallback *self = (RedlaneFallback *)store;
    RedlaneMembers *members = self->members;
    bool away = answer != REDLANE_ANSWER_SERVER;
    RedlaneRoute route = redlane_guard_route(members->guard);

    if (self->policy == REDLANE_POLICY_RAISE || (route.well && !away)) {
        return 0;
    }
    if (members->engine && members->engine_period == route.period &&
        redlane_engine_store_forget(members->engine, pattern) < 0) {
        return -1;
    }
    redlane_guard_keep_pattern(members->guard, pattern, space, away);
    (void)redlane_background_watch(store->state->background, members->guard,
                                   route.well);
    return 0;
}

static void
fallback_free(RedlaneStore *store)
{
    RedlaneFallback *self = (RedlaneFallback *)store;

    redlane_link_release(self->link);
    PyMem_Free(self);
}

static const RedlaneStoreOps fallback_ops = {
    .run = fallback_run,
    .start = redlane_async_trip_start,
    .forget = fallback_forget,
    .free = fallback_free,
};

RedlaneStore *
redlane_fallback_new(RedlaneState *state, RedlaneLink *link, RedlaneMembers *members,
                     RedlanePolicy policy)
{
    RedlaneFallback *self = PyMem_Calloc(1, sizeof(*self));

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
