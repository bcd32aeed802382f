/* Where a request goes: to the server, or by policy elsewhere; and what the guard is
 * told of it. GIL held throughout, but for the wait while the link is suspect. */
#include "store/fallback.h"

#include <string.h>

#include "core/clock.h"
#include "core/command_keys.h"
#include "core/envelope.h"
#include "py/errors.h"
#include "py/state.h"
#include "store/changes.h"
#include "store/engine_store.h"
#include "store/near_values.h"
#include "store/remote.h"

typedef struct {
    RedlaneStore base;
    RedlaneLink *link; /* held */
    RedlaneMembers *members;
    RedlanePolicy policy;
} Fallback;

#define LEASE_VECTORS 3 /* the lease, PTTL, generations */

/* While a call waits for a suspect link it looks for signals this often. */
#define WAIT_SLICE (50 * REDLANE_NS_PER_MS)

/* Near values that died are released in so many a call: more than a write ends. */
#define DEAD_A_CALL 8

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
 * start it), this call, if the probe is due. */
static void
see_to_probe(Fallback *self)
{
    RedlaneBackground *background = self->base.state->background;
    RedlaneGuard *guard = self->members->guard;

    if (redlane_background_watch(background, guard, false) < 0) {
        Py_BEGIN_ALLOW_THREADS
        redlane_guard_probe_nogil(guard);
        Py_END_ALLOW_THREADS
        /* The thread may have found this probe under way, and nothing to do. */
        if (!self->members->closed) {
            (void)redlane_background_watch(background, guard, true);
        }
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
        see_to_probe(self);
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
            see_to_probe(self);
        }
    }
    return self->members->closed ? raise_closed(self) : 0;
}

/* The engine that answers in this period, without what an earlier one left. */
static RedlaneStore *
find_engine(Fallback *self, const RedlaneRoute *route)
{
    RedlaneMembers *members = self->members;

    if (!members->engine) {
        members->engine =
            redlane_engine_store_new(self->base.state, members->settings->max_memory);
    }
    else if (members->engine_period != route->period || route->well) {
        redlane_engine_flush(redlane_engine_store_engine(members->engine));
    }
    members->engine_period = route->period;
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

/* One request on its way: to the server, to what stands in for it, and back. */
typedef struct {
    Fallback *self;
    const RedlaneRequest *request;
    const RedlaneVector *vectors;
    size_t count;
    PyObject **replies;
    RedlaneRoute route;
    bool unsure; /* the server may have executed it */
} Trip;

static void
note_answer(const Trip *trip, RedlaneAnswer answer)
{
    RedlaneAnswer *place = trip->request->answer;

    if (place && answer > *place) {
        *place = answer;
    }
}

/* Keeps for the server what was answered in its place. 1: kept, 0: it is well again,
 * ask it, -1: an exception is set. */
static int
keep_changes(Trip *trip, bool force)
{
    Fallback *self = trip->self;
    bool was_well = trip->route.well;
    RedlaneChanges changes;
    int result = 0;

    redlane_changes_init(&changes);
    for (size_t i = 0; result == 0 && i < trip->count; i++) {
        result = redlane_changes_add(&changes, trip->request, self->policy,
                                     &trip->vectors[i], trip->replies[i], trip->unsure);
    }
    if (result == 0 && changes.count) {
        result = redlane_guard_keep(self->members->guard, &trip->route, changes.list,
                                    changes.count, trip->request->space, force);
        (void)redlane_background_watch(self->base.state->background,
                                       self->members->guard, was_well);
    }
    else if (result == 0) {
        result = 1;
    }
    redlane_changes_clear(&changes);
    return result;
}

/* What was published in the server's place reaches the subscriptions of this process:
 * once it is settled that the server will not be asked, and unless it may have heard
 * it, so that no message comes twice. RAISES_NEG */
static int
publish_here(const Trip *trip)
{
    for (size_t i = 0; i < trip->count; i++) {
        if (trip->vectors[i].command->id == REDLANE_CMD_PUBLISH) {
            trip->replies[i] = redlane_engine_store_published(
                trip->self->members->settings, &trip->vectors[i], trip->replies[i]);
            if (!trip->replies[i]) {
                return -1;
            }
        }
    }
    return 0;
}

/* Answers by policy what the server does not. 1: done, 0: the server is well again and
 * is to be asked (never with `force`), -1: an exception is set. */
static int
run_away(Trip *trip, bool force)
{
    Fallback *self = trip->self;
    bool engine = self->policy == REDLANE_POLICY_MEMORY &&
                  !(trip->request->cache_read &&
                    (trip->route.well || trip->route.state == REDLANE_BREAKER_SUSPECT));
    RedlaneStore *store;
    bool was_well;
    int result;

    store = engine ? find_engine(self, &trip->route) : find_scratch(self);
    if (!store) {
        return -1;
    }
    result = redlane_store_run(store, trip->request, trip->vectors, trip->count,
                               trip->replies);
    if (!engine) {
        redlane_engine_flush(redlane_engine_store_engine(store));
    }
    if (result < 0) {
        return -1;
    }
    note_answer(trip, engine ? REDLANE_ANSWER_ENGINE : REDLANE_ANSWER_NOTHING);
    if (trip->request->near_read) {
        trip->request->near_read->known = false;
    }
    was_well = trip->route.well;
    result = keep_changes(trip, force);
    if (engine && was_well) {
        /* It was emptied above, so all that it holds is of the time that may have begun
         * here. What it holds of an older one must not pass for that. */
        self->members->engine_period = trip->route.period;
    }
    if (engine && result > 0 && !trip->unsure && publish_here(trip) < 0) {
        result = -1;
    }
    if (result <= 0) {
        redlane_store_drop_replies(trip->replies, trip->count);
    }
    return result;
}

/* A key that the request writes to, for the probe of writes. */
static RedlaneArg
written_key(const Trip *trip)
{
    for (size_t i = 0; i < trip->count; i++) {
        const RedlaneVector *vector = &trip->vectors[i];
        RedlaneKeySpan keys = redlane_command_keys(vector);

        if (vector->command->flags & REDLANE_COMMAND_WRITE && keys.first < keys.end) {
            return vector->argv[keys.first];
        }
    }
    return trip->vectors[0].argc > 1 ? trip->vectors[0].argv[1] : (RedlaneArg){"", 0};
}

/* Tells the guard what became of a request; true when it was met by an outage. */
static bool
report_outcome(const Trip *trip, const RedlaneRemoteReport *report)
{
    Fallback *self = trip->self;
    RedlaneGuard *guard = self->members->guard;
    const RedlaneFault *fault = &report->fault;
    bool outage = redlane_guard_is_outage(fault);

    if (!outage && fault->kind != REDLANE_FAULT_WRITES) {
        return false; /* a success tells nothing new: it was sent on a closed breaker */
    }
    if (outage && report->progress) {
        return true;
    }
    if (outage) {
        redlane_guard_failure(guard, trip->route.era, fault);
    }
    else {
        redlane_guard_refused(guard, trip->route.write_era, fault, written_key(trip));
    }
    if (!self->members->closed) { /* or it would be probed until it is freed */
        (void)redlane_background_watch(self->base.state->background, guard, true);
    }
    return outage;
}

static bool
places_lease(const RedlaneRequest *request, const RedlaneVector *vector)
{
    return request->cache_read && vector->command->flags & REDLANE_COMMAND_WRITE;
}

/* TAGS with its keys, as a read: the generations that are there. `argv` has room. */
static RedlaneVector
read_generations(const RedlaneVector *vector, RedlaneArg *argv)
{
    RedlaneKeySpan keys = redlane_command_keys(vector);
    size_t count = keys.end - keys.first;

    argv[0] = REDLANE_ARG_LITERAL("MGET");
    memcpy(argv + 1, vector->argv + keys.first, count * sizeof(*argv));
    return (RedlaneVector){argv, count + 1, redlane_command_by_id(REDLANE_CMD_MGET)};
}

/* A lease where none can be placed: what is there is read, and what was to be asked
 * besides (LEASE_VECTORS in all at most). As redlane_store_run. */
static int
run_leaseless(Trip *trip, RedlaneRemoteReport *report)
{
    RedlaneKeySpan keys = redlane_command_keys(trip->vectors);
    RedlaneArg argv[] = {REDLANE_ARG_LITERAL("GET"), trip->vectors->argv[keys.first]};
    RedlaneArg tags[1 + REDLANE_ENVELOPE_TAGS_MAX];
    RedlaneVector vectors[LEASE_VECTORS] = {
        {argv, 2, redlane_command_by_id(REDLANE_CMD_GET)}};

    for (size_t i = 1; i < trip->count; i++) {
        const RedlaneVector *vector = &trip->vectors[i];

        vectors[i] = vector->command->flags & REDLANE_COMMAND_WRITE
                         ? read_generations(vector, tags)
                         : *vector;
    }
    note_answer(trip, REDLANE_ANSWER_NOTHING);
    return redlane_remote_store_run(trip->self->members->remote, trip->request, vectors,
                                    trip->count, trip->replies, report);
}

/* True when a request must not meet the server though the link is up: it would be
 * refused, or read what the server has not heard to be gone. */
static bool
must_stay(const Trip *trip)
{
    bool writes = false, only_deletes = true;

    if (trip->route.well) {
        return false;
    }
    for (size_t i = 0; trip->route.refused && i < trip->count; i++) {
        const RedlaneCommand *command = trip->vectors[i].command;

        if (command->flags & REDLANE_COMMAND_WRITE) {
            writes = true;
            only_deletes &=
                command->id == REDLANE_CMD_DEL || command->id == REDLANE_CMD_UNLINK;
        }
    }
    if (writes && !places_lease(trip->request, trip->vectors) &&
        !(only_deletes && trip->route.deletes)) {
        return true;
    }
    return redlane_guard_holds(trip->self->members->guard, trip->vectors, trip->count);
}

/* Whether the server answered some of a request, as against none. RAISES_NEG */
static int
is_partly_answered(const Trip *trip)
{
    for (size_t i = 0; i < trip->count; i++) {
        RedlaneFaultKind kind;

        if (redlane_errors_fault_of(trip->self->base.state, trip->replies[i], &kind) <
            0) {
            return -1;
        }
        if (kind == REDLANE_FAULT_NONE) {
            return 1;
        }
    }
    return 0;
}

/* The replies of a request that the server answered in part: the rest, which it
 * refused, is answered by policy, one by one. 1, or -1 with an exception set and the
 * replies dropped. */
static int
replace_refused(Trip *trip)
{
    for (size_t i = 0; i < trip->count; i++) {
        Trip one = *trip;
        PyObject *reply = NULL;
        RedlaneFaultKind kind;
        int result =
            redlane_errors_fault_of(trip->self->base.state, trip->replies[i], &kind);

        one.vectors = &trip->vectors[i];
        one.count = 1;
        one.replies = &reply;
        one.unsure = false;
        one.route = redlane_guard_route(trip->self->members->guard);
        if (result == 0 && kind == REDLANE_FAULT_NONE) {
            continue;
        }
        if (result == 0 && kind == REDLANE_FAULT_WRITES &&
            places_lease(trip->request, one.vectors)) {
            RedlaneRemoteReport report;

            result = run_leaseless(&one, &report) < 0 ? -1 : 1;
            if (result < 0 && redlane_guard_is_outage(&report.fault)) {
                PyErr_Clear();
                result = run_away(&one, true);
            }
        }
        else if (result == 0) {
            result = run_away(&one, true);
        }
        if (result < 0) {
            redlane_store_drop_replies(trip->replies, trip->count);
            return -1;
        }
        Py_SETREF(trip->replies[i], reply);
    }
    return 1;
}

/* The engine must not go on answering for what was written to the server while it
 * stands in for other keys: a read of both kinds goes to it. RAISES_NEG */
static int
forget_written(const Trip *trip)
{
    RedlaneStore *engine = trip->self->members->engine;

    for (size_t i = 0; engine && i < trip->count; i++) {
        const RedlaneVector *vector = &trip->vectors[i];
        RedlaneKeySpan keys = redlane_command_keys(vector);

        if (!(vector->command->flags & REDLANE_COMMAND_WRITE) ||
            PyExceptionInstance_Check(trip->replies[i])) {
            continue;
        }
        for (size_t at = keys.first; at < keys.end; at += keys.step) {
            RedlaneArg argv[] = {REDLANE_ARG_LITERAL("DEL"), vector->argv[at]};
            RedlaneVector gone = {argv, 2, redlane_command_by_id(REDLANE_CMD_DEL)};
            PyObject *reply = NULL;

            if (redlane_store_run(engine, trip->request, &gone, 1, &reply) < 0) {
                return -1;
            }
            Py_XDECREF(reply);
        }
    }
    return 0;
}

/* Asks the server. 1: answered, 0: to be answered by policy, -1: an exception. */
static int
run_server(Trip *trip)
{
    Fallback *self = trip->self;
    RedlaneRemoteReport report;
    bool away;
    int result;

    if (trip->route.refused && places_lease(trip->request, trip->vectors)) {
        result = run_leaseless(trip, &report);
    }
    else {
        result = redlane_remote_store_run(self->members->remote, trip->request,
                                          trip->vectors, trip->count, trip->replies,
                                          &report);
    }
    away = report_outcome(trip, &report);
    if (result == 0 && !trip->route.well && forget_written(trip) < 0) {
        redlane_store_drop_replies(trip->replies, trip->count);
        return -1;
    }
    if (self->policy == REDLANE_POLICY_RAISE) {
        return result < 0 ? -1 : 1;
    }
    if (away || report.fault.kind == REDLANE_FAULT_POOL) {
        int answered = result == 0 ? is_partly_answered(trip) : 0;

        if (answered > 0) { /* what was executed must not be so once more */
            return replace_refused(trip);
        }
        if (result == 0) {
            redlane_store_drop_replies(trip->replies, trip->count);
        }
        if (answered < 0) {
            return -1;
        }
        PyErr_Clear();
        trip->unsure = trip->unsure || report.unsure;
        return 0;
    }
    if (report.fault.kind == REDLANE_FAULT_WRITES) {
        if (result == 0) {
            return replace_refused(trip);
        }
        PyErr_Clear(); /* a transaction: nothing of it was done */
        return 0;
    }
    return result < 0 ? -1 : 1;
}

/* Each round asks the server or what stands in for it; the last one takes what it gets.
 */
#define ROUNDS 3

static int
run_rounds(Trip *trip)
{
    Fallback *self = trip->self;

    for (int round = 0;; round++) {
        bool last = round == ROUNDS - 1;
        int result = 0;

        /* A patient request learns the probe's verdict first: a server that is really
         * away is answered for by the engine, not by an empty one. */
        if (find_route(self, trip->request, &trip->route) < 0) {
            return -1;
        }
        if (trip->route.state != REDLANE_BREAKER_CLOSED &&
            self->policy == REDLANE_POLICY_RAISE) {
            return raise_away(self, trip->vectors);
        }
        if (trip->route.state == REDLANE_BREAKER_CLOSED && !trip->unsure && !last &&
            (self->policy == REDLANE_POLICY_RAISE || !must_stay(trip))) {
            result = run_server(trip);
            if (result != 0) {
                return result;
            }
            continue;
        }
        result = run_away(trip, last || trip->unsure);
        if (result != 0) {
            return result;
        }
    }
}

/* What was read is not for others, who share the near cache: the server has yet to hear
 * of a change of it, for which only this tool does not wait. Nor is it for the near
 * cache of another link, where the tool has got a new client meanwhile. */
static void
judge_near_read(const Trip *trip)
{
    const RedlaneMembers *members = trip->self->members;
    RedlaneNearRead *near_read = trip->request->near_read;

    if (near_read->near != members->near ||
        (!trip->route.well &&
         redlane_guard_holds(members->guard, trip->vectors, trip->count))) {
        near_read->known = false;
    }
}

static int
fallback_run(RedlaneStore *store, const RedlaneRequest *request,
             const RedlaneVector *vectors, size_t count, PyObject **replies)
{
    Fallback *self = (Fallback *)store;
    Trip trip = {.self = self,
                 .request = request,
                 .vectors = vectors,
                 .count = count,
                 .replies = replies};
    bool writes;
    int result;

    if (count == 0) {
        return 0;
    }
    /* What this process writes it does not read from near, whatever comes of it. */
    writes = redlane_near_is_write(request, vectors, count);
    if (writes) {
        redlane_near_note_write(self->members->settings, vectors, count);
    }
    result = run_rounds(&trip);
    if (writes) {
        redlane_near_note_write(self->members->settings, vectors, count);
    }
    if (request->near_read) {
        judge_near_read(&trip);
    }
    if (writes && self->members->near) {
        redlane_near_free_dead(self->members->near, DEAD_A_CALL);
    }
    redlane_fallback_tell(store->state, self->members);
    return result < 0 ? -1 : 0;
}

static int
fallback_forget(RedlaneStore *store, RedlaneArg pattern, RedlaneArg space,
                RedlaneAnswer answer)
{
    Fallback *self = (Fallback *)store;
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
    Fallback *self = (Fallback *)store;

    redlane_link_release(self->link);
    PyMem_Free(self);
}

static const RedlaneStoreOps fallback_ops = {
    .run = fallback_run,
    .forget = fallback_forget,
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
