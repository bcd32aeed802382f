#include "store/trip.h"

#include <string.h>

#include "core/command_keys.h"
#include "py/errors.h"
#include "py/state.h"
#include "store/changes.h"
#include "store/engine_store.h"
#include "store/near_values.h"
#include "store/rest.h"

/* Near values that died are released in so many a call: more than a write ends. */
#define DEAD_A_CALL 8

int
redlane_trip_raise_closed(RedlaneFallback *self)
{
    RedlaneFault fault;

    redlane_fault_set(&fault, REDLANE_FAULT_CLOSED, "the client is closed");
    redlane_errors_raise_fault(self->base.state, &fault, NULL,
                               self->members->settings->redacted);
    return -1;
}

void
redlane_trip_see_to_probe(RedlaneFallback *self)
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

/* The engine that answers in this period, without what an earlier one left. */
static RedlaneStore *
find_engine(RedlaneFallback *self, const RedlaneRoute *route)
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
find_scratch(RedlaneFallback *self)
{
    RedlaneMembers *members = self->members;

    if (!members->scratch) {
        members->scratch =
            redlane_engine_store_new(self->base.state, members->settings->max_memory);
    }
    return members->scratch;
}

int
redlane_trip_raise_away(RedlaneFallback *self, const RedlaneVector *vector)
{
    RedlaneFault fault = {0};
    char name[32];
    size_t size = vector->argv[0].size;

    redlane_guard_reason(self->members->guard, &fault);
    if (fault.kind == REDLANE_FAULT_NONE) {
        redlane_fault_set(&fault, REDLANE_FAULT_TIMEOUT, "timed out");
    }
    redlane_guard_operation_failed(self->members->guard, &fault);
    size = size < sizeof(name) ? size : sizeof(name) - 1;
    memcpy(name, vector->argv[0].data, size);
    name[size] = '\0';
    redlane_errors_raise_fault(self->base.state, &fault, name,
                               self->members->settings->redacted);
    return -1;
}

static void
note_answer(const RedlaneTrip *trip, RedlaneAnswer answer)
{
    RedlaneAnswer *place = trip->request->answer;

    if (place && answer > *place) {
        *place = answer;
    }
}

/* Keeps for the server what was answered in its place. 1: kept, 0: it is well again,
 * ask it, -1: an exception is set. */
static int
keep_changes(RedlaneTrip *trip, bool force)
{
    RedlaneFallback *self = trip->self;
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
publish_here(const RedlaneTrip *trip)
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

int
redlane_trip_run_away(RedlaneTrip *trip, bool force)
{
    RedlaneFallback *self = trip->self;
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
    if (trip->route.state == REDLANE_BREAKER_OPEN || trip->route.refused) {
        redlane_guard_operation_failed(self->members->guard, NULL);
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
written_key(const RedlaneTrip *trip)
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
report_outcome(const RedlaneTrip *trip, const RedlaneRemoteReport *report)
{
    RedlaneFallback *self = trip->self;
    RedlaneGuard *guard = self->members->guard;
    const RedlaneFault *fault = &report->fault;
    bool outage = redlane_guard_is_outage(fault);

    if (fault->kind == REDLANE_FAULT_POOL || (outage && report->progress)) {
        redlane_guard_operation_failed(guard, fault);
        return outage;
    }
    if (!outage && fault->kind != REDLANE_FAULT_WRITES) {
        return false; /* a success tells nothing new: it was sent on a closed breaker */
    }
    if (outage) {
        redlane_guard_failure(guard, trip->route.era, fault);
    }
    else {
        redlane_guard_refused(guard, trip->route.write_era, fault, written_key(trip));
    }
    redlane_guard_operation_failed(guard, fault);
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

bool
redlane_trip_is_leaseless(const RedlaneTrip *trip)
{
    return trip->route.refused && places_lease(trip->request, trip->vectors);
}

void
redlane_trip_leaseless(const RedlaneTrip *trip, RedlaneLeaseless *instead)
{
    RedlaneKeySpan keys = redlane_command_keys(trip->vectors);

    instead->get[0] = REDLANE_ARG_LITERAL("GET");
    instead->get[1] = trip->vectors->argv[keys.first];
    instead->vectors[0] =
        (RedlaneVector){instead->get, 2, redlane_command_by_id(REDLANE_CMD_GET)};
    for (size_t i = 1; i < trip->count; i++) {
        const RedlaneVector *vector = &trip->vectors[i];

        instead->vectors[i] = vector->command->flags & REDLANE_COMMAND_WRITE
                                  ? read_generations(vector, instead->tags)
                                  : *vector;
    }
    note_answer(trip, REDLANE_ANSWER_NOTHING);
}

bool
redlane_trip_stays(const RedlaneTrip *trip)
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
is_partly_answered(const RedlaneTrip *trip)
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

/* The engine must not go on answering for what was written to the server while it
 * stands in for other keys: a read of both kinds goes to it. RAISES_NEG */
static int
forget_written(const RedlaneTrip *trip)
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

RedlaneVerdict
redlane_trip_judge(RedlaneTrip *trip, int result, const RedlaneRemoteReport *report)
{
    bool away = report_outcome(trip, report);

    if (result == 0 && !trip->route.well && forget_written(trip) < 0) {
        redlane_store_drop_replies(trip->replies, trip->count);
        return REDLANE_VERDICT_FAILED;
    }
    if (trip->self->policy == REDLANE_POLICY_RAISE) {
        return result < 0 ? REDLANE_VERDICT_FAILED : REDLANE_VERDICT_ANSWERED;
    }
    if (away || report->fault.kind == REDLANE_FAULT_POOL) {
        int answered = result == 0 ? is_partly_answered(trip) : 0;

        if (answered > 0) { /* what was executed must not be so once more */
            return REDLANE_VERDICT_REFUSED;
        }
        if (result == 0) {
            redlane_store_drop_replies(trip->replies, trip->count);
        }
        if (answered < 0) {
            return REDLANE_VERDICT_FAILED;
        }
        PyErr_Clear();
        trip->unsure = trip->unsure || report->unsure;
        return REDLANE_VERDICT_AWAY;
    }
    if (report->fault.kind == REDLANE_FAULT_WRITES) {
        if (result == 0) {
            return REDLANE_VERDICT_REFUSED;
        }
        PyErr_Clear(); /* a transaction: nothing of it was done */
        return REDLANE_VERDICT_AWAY;
    }
    return result < 0 ? REDLANE_VERDICT_FAILED : REDLANE_VERDICT_ANSWERED;
}

RedlanePart
redlane_trip_part(const RedlaneTrip *trip, size_t index, RedlaneTrip *one)
{
    RedlaneFaultKind kind;

    if (redlane_errors_fault_of(trip->self->base.state, trip->replies[index], &kind) <
        0) {
        return REDLANE_PART_FAILED;
    }
    if (kind == REDLANE_FAULT_NONE) {
        return REDLANE_PART_STAYS;
    }
    *one = *trip;
    one->vectors = &trip->vectors[index];
    one->count = 1;
    one->unsure = false;
    one->route = redlane_guard_route(trip->self->members->guard);
    return kind == REDLANE_FAULT_WRITES && places_lease(trip->request, one->vectors)
               ? REDLANE_PART_LEASELESS
               : REDLANE_PART_AWAY;
}

/* What was read is not for others, who share the near cache: the server has yet to hear
 * of a change of it, for which only this tool does not wait. Nor is it for the near
 * cache of another link, where the tool has got a new client meanwhile. */
static void
judge_near_read(const RedlaneTrip *trip)
{
    const RedlaneMembers *members = trip->self->members;
    RedlaneNearRead *near_read = trip->request->near_read;

    if (near_read->near != members->near ||
        (!trip->route.well &&
         redlane_guard_holds(members->guard, trip->vectors, trip->count))) {
        near_read->known = false;
    }
}

void
redlane_trip_begin(RedlaneTrip *trip)
{
    if (!trip->self->members->closed) {
        redlane_rest_prepare(trip->self->members->settings);
    }
    /* What this process writes it does not read from near, whatever comes of it. */
    trip->writes = redlane_near_is_write(trip->request, trip->vectors, trip->count);
    if (trip->writes) {
        redlane_near_note_write(trip->self->members->settings, trip->vectors,
                                trip->count);
    }
}

void
redlane_trip_end(RedlaneTrip *trip)
{
    RedlaneMembers *members = trip->self->members;

    if (trip->writes) {
        redlane_near_note_write(members->settings, trip->vectors, trip->count);
    }
    if (trip->request->near_read) {
        judge_near_read(trip);
    }
    if (trip->writes && members->near) {
        redlane_near_free_dead(members->near, DEAD_A_CALL);
    }
    redlane_fallback_tell(trip->self->base.state, members);
}
