/* A request's way through a fallback store, for an event loop: what fallback.c and
 * remote.c do in a thread that waits, cut where they wait.
 *
 *   rounds ──▶ ask ══ wire ══▶ errand_over ──▶ judge ──▶ server_asked ──▶ finish
 *     ▲ │                        ▲   │ (a script's text)    │ │
 *     │ └─ park ══ timer ══▶     └═══┘                      │ └▶ parts ──▶ ask …
 *     └─────────────────────── away ◀───────────────────────┘
 *
 * Each function ends by starting the next step or by finishing the trip, which may be
 * freed when it returns. GIL held, on the loop's thread. */
#include "store/async_trip.h"

#include <stddef.h>

#include "core/clock.h"
#include "store/remote_request.h"
#include "store/rest.h"

/* While the link is suspect a trip looks this often; a probe takes a fraction of a
 * millisecond, or its time-out. */
#define PAUSE_FIRST REDLANE_NS_PER_MS
#define PAUSE_MOST (16 * REDLANE_NS_PER_MS)

static void run_rounds(RedlaneAsyncTrip *trip);
static void replace_parts(RedlaneAsyncTrip *trip);

static void
finish(RedlaneAsyncTrip *trip, int result)
{
    redlane_trip_end(&trip->trip);
    redlane_async_trip_finish(trip, result);
}

/* --- asking the server --- */

static int
send_vectors(RedlaneAsyncTrip *trip, const RedlaneVector *vectors, size_t count,
             PyObject **replies)
{
    const RedlaneRequest *request = &trip->request;
    RedlaneMembers *members = trip->trip.self->members;
    RedlaneSurvey survey = redlane_remote_survey(request, vectors, count);
    RedlaneErrand *errand = &trip->errand;
    RedlaneChannel *channel;

    errand->vectors = vectors;
    errand->count = count;
    errand->replies = replies;
    errand->deadline = survey.deadline;
    errand->elements = survey.elements;
    errand->transaction = request->transaction;
    errand->decode = request->decode;
    errand->repeatable = survey.repeatable;
    errand->alone = survey.blocking;
    errand->names_server = request->near_read != NULL;
    errand->repeated = errand->unsure = errand->progress = false;
    errand->run_id = "";
    trip->report.fault.kind = REDLANE_FAULT_NONE;
    trip->report.progress = trip->report.unsure = false;
    channel = redlane_channels_find(redlane_remote_store_channels(members->remote),
                                    trip->loop);
    return channel ? redlane_channel_send(channel, errand) : -1;
}

/* Where somebody observes: notes when it began, and in which context. Without one it
 * goes unobserved. */
static void
observe(RedlaneAsyncTrip *trip)
{
    redlane_observer_begin(&trip->trip.self->members->observer, &trip->observed);
    if (unlikely(trip->observed.wall)) {
        Py_XSETREF(trip->context, PyContext_CopyCurrent());
        if (!trip->context) {
            PyErr_Clear();
        }
    }
}

/* The server was asked; with `result` -1 an exception is set, which stays. */
static void
tell_observer(RedlaneAsyncTrip *trip, int result)
{
    PyObject *context = trip->context;

    trip->context = NULL;
    redlane_observer_tell(&trip->trip.self->members->observer, &trip->observed,
                          trip->vectors, trip->count, trip->request.transaction,
                          result < 0 ? NULL : trip->replies, context);
    Py_DECREF(context);
}

/* Asks for `vectors`, and then calls `asked` with what redlane_remote_store_run would
 * have returned, trip->report filled. */
static void
ask(RedlaneAsyncTrip *trip, const RedlaneVector *vectors, size_t count,
    PyObject **replies, void (*asked)(RedlaneAsyncTrip *trip, int result))
{
    PyObject **taken = replies;

    observe(trip);
    trip->vectors = vectors;
    trip->count = count;
    trip->replies = replies;
    trip->asked = asked;
    trip->judged = 0;
    if (trip->request.transaction) {
        trip->all = PyMem_Calloc(count + 2, sizeof(PyObject *));
        if (!trip->all) {
            PyErr_NoMemory();
            asked(trip, -1);
            return;
        }
        taken = trip->all;
    }
    if (send_vectors(trip, vectors, count, taken) < 0) {
        asked(trip, -1);
    }
}

static void
fail_asked(RedlaneAsyncTrip *trip)
{
    redlane_store_drop_replies(trip->replies, trip->count);
    trip->asked(trip, -1);
}

static void
forget_whole(RedlaneAsyncTrip *trip)
{
    PyMem_Free((void *)trip->whole.argv);
    trip->whole.argv = NULL;
}

/* Looks through the replies for what is more than an answer, from where it stopped. */
static void
judge_replies(RedlaneAsyncTrip *trip)
{
    RedlaneState *state = trip->store->state;

    for (; trip->judged < trip->count; trip->judged++) {
        const RedlaneVector *vector = &trip->vectors[trip->judged];
        PyObject *reply = trip->replies[trip->judged];

        if (likely(!PyExceptionInstance_Check(reply))) {
            continue;
        }
        if (redlane_remote_wants_text(state, &trip->request, vector, reply)) {
            int found = redlane_remote_script_text(vector, &trip->whole);

            if (found > 0) {
                found = send_vectors(trip, &trip->whole, 1, &trip->text_reply);
                if (found == 0) {
                    return;
                }
            }
            if (found < 0) {
                forget_whole(trip);
                fail_asked(trip);
                return;
            }
        }
        if (redlane_remote_note_outage(state, reply, &trip->report) < 0) {
            fail_asked(trip);
            return;
        }
    }
    trip->asked(trip, 0);
}

static void
take_text_reply(RedlaneAsyncTrip *trip)
{
    forget_whole(trip);
    Py_SETREF(trip->replies[trip->judged], trip->text_reply);
    trip->text_reply = NULL;
    if (PyExceptionInstance_Check(trip->replies[trip->judged]) &&
        redlane_remote_note_outage(trip->store->state, trip->replies[trip->judged],
                                   &trip->report) < 0) {
        fail_asked(trip);
        return;
    }
    trip->judged++;
    judge_replies(trip);
}

static void
unpack_transaction(RedlaneAsyncTrip *trip)
{
    PyObject **all = trip->all;
    int result;

    trip->all = NULL;
    result = redlane_remote_unpack(trip->store->state, all, trip->count, trip->replies,
                                   &trip->report);
    redlane_store_drop_replies(all, trip->count + 2);
    PyMem_Free(all);
    if (result < 0) {
        trip->asked(trip, -1);
        return;
    }
    judge_replies(trip);
}

/* The wire failed: raises what it says. */
static void
wire_failed(RedlaneAsyncTrip *trip, const RedlaneFault *fault)
{
    bool text = trip->whole.argv != NULL;

    trip->report.fault = *fault;
    trip->report.progress = trip->errand.progress;
    trip->report.unsure = trip->errand.unsure;
    redlane_remote_raise(trip->store->state, trip->trip.self->members->settings, fault,
                         trip->errand.vectors, trip->errand.count);
    if (text) {
        forget_whole(trip);
        trip->report.unsure |= trip->count > 1; /* the others were answered */
        fail_asked(trip);
        return;
    }
    PyMem_Free(trip->all);
    trip->all = NULL;
    trip->asked(trip, -1);
}

/* RedlaneErrand.over */
static void
errand_over(RedlaneErrand *errand, int result, const RedlaneFault *fault)
{
    RedlaneAsyncTrip *trip = (RedlaneAsyncTrip *)errand;
    RedlaneNearRead *near_read = trip->request.near_read;
    const RedlaneSettings *settings = trip->trip.self->members->settings;
    size_t replies = errand->count + (errand->transaction ? 2 : 0);
    RedlaneFault relayed;

    if (result == 0 && unlikely(settings->scheme == REDLANE_SCHEME_REST) &&
        redlane_rest_failed(trip->store->state, errand->replies, replies, &relayed,
                            &errand->unsure)) {
        redlane_store_drop_replies(errand->replies, replies);
        fault = &relayed;
        result = -1;
    }
    if (result < 0) {
        wire_failed(trip, fault);
        return;
    }
    if (near_read) {
        near_read->known = redlane_near_is_same_server(near_read->near, errand->run_id);
    }
    if (trip->whole.argv) {
        take_text_reply(trip);
        return;
    }
    if (trip->all) {
        unpack_transaction(trip);
        return;
    }
    judge_replies(trip);
}

static void
errand_drop(RedlaneErrand *errand)
{
    redlane_async_trip_drop((RedlaneAsyncTrip *)errand);
}

static bool
errand_wanted(RedlaneErrand *errand)
{
    RedlaneCompletion *completion = ((RedlaneAsyncTrip *)errand)->completion;

    return completion && (!completion->wanted || completion->wanted(completion));
}

static int
errand_traverse(RedlaneErrand *errand, visitproc visit, void *arg)
{
    return redlane_async_trip_traverse((RedlaneAsyncTrip *)errand, visit, arg);
}

/* --- what the answer comes to --- */

static void
server_asked(RedlaneAsyncTrip *trip, int result)
{
    if (unlikely(trip->context)) {
        tell_observer(trip, result);
    }
    switch (redlane_trip_judge(&trip->trip, result, &trip->report)) {
    case REDLANE_VERDICT_ANSWERED:
        finish(trip, 0);
        return;
    case REDLANE_VERDICT_AWAY:
        trip->round++;
        run_rounds(trip);
        return;
    case REDLANE_VERDICT_REFUSED:
        trip->part_index = 0;
        replace_parts(trip);
        return;
    case REDLANE_VERDICT_FAILED:
        break;
    }
    finish(trip, -1);
}

static int
make_leaseless(RedlaneAsyncTrip *trip, const RedlaneTrip *of)
{
    if (!trip->instead) {
        trip->instead = PyMem_Malloc(sizeof(*trip->instead));
    }
    if (!trip->instead) {
        PyErr_NoMemory();
        return -1;
    }
    redlane_trip_leaseless(of, trip->instead);
    return 0;
}

static void
ask_server(RedlaneAsyncTrip *trip)
{
    const RedlaneVector *vectors = trip->trip.vectors;

    if (redlane_trip_is_leaseless(&trip->trip)) {
        if (make_leaseless(trip, &trip->trip) < 0) {
            finish(trip, -1);
            return;
        }
        vectors = trip->instead->vectors;
    }
    ask(trip, vectors, trip->trip.count, trip->trip.replies, server_asked);
}

/* --- a request that was answered in part --- */

static void
fail_parts(RedlaneAsyncTrip *trip)
{
    redlane_store_drop_replies(trip->trip.replies, trip->trip.count);
    finish(trip, -1);
}

static void
take_part(RedlaneAsyncTrip *trip)
{
    Py_SETREF(trip->trip.replies[trip->part_index], trip->part_reply);
    trip->part_reply = NULL;
    trip->part_index++;
}

static void
part_asked(RedlaneAsyncTrip *trip, int result)
{
    if (unlikely(trip->context)) {
        tell_observer(trip, result);
    }
    if (result < 0 && redlane_guard_is_outage(&trip->report.fault)) {
        PyErr_Clear();
        result = redlane_trip_run_away(&trip->part, true);
    }
    if (result < 0) {
        fail_parts(trip);
        return;
    }
    take_part(trip);
    replace_parts(trip);
}

static void
replace_parts(RedlaneAsyncTrip *trip)
{
    while (trip->part_index < trip->trip.count) {
        RedlanePart part =
            redlane_trip_part(&trip->trip, trip->part_index, &trip->part);

        if (part == REDLANE_PART_STAYS) {
            trip->part_index++;
            continue;
        }
        if (part == REDLANE_PART_FAILED) {
            fail_parts(trip);
            return;
        }
        trip->part.replies = &trip->part_reply;
        if (part == REDLANE_PART_LEASELESS) {
            if (make_leaseless(trip, &trip->part) < 0) {
                fail_parts(trip);
                return;
            }
            ask(trip, trip->instead->vectors, 1, &trip->part_reply, part_asked);
            return;
        }
        if (redlane_trip_run_away(&trip->part, true) < 0) {
            fail_parts(trip);
            return;
        }
        take_part(trip);
    }
    finish(trip, 0);
}

/* --- where it goes --- */

/* Nobody waits for what was not sent: it is not. */
static void
cancel_parked(RedlaneAsyncTrip *trip)
{
    RedlaneFault fault;

    redlane_fault_set(&fault, REDLANE_FAULT_CLOSED, "cancelled");
    redlane_remote_raise(trip->store->state, trip->trip.self->members->settings, &fault,
                         trip->trip.vectors, trip->trip.count);
    finish(trip, -1);
}

static int64_t
parked_tick(RedlaneLoopMember *member, int64_t now)
{
    RedlaneAsyncTrip *trip =
        (RedlaneAsyncTrip *)(void *)((char *)member -
                                     offsetof(RedlaneAsyncTrip, parked));
    RedlaneFallback *self = trip->trip.self;

    if (!errand_wanted(&trip->errand)) {
        redlane_loop_leave(trip->loop, member);
        cancel_parked(trip);
        return REDLANE_NEVER;
    }
    if (!self->members->closed && now < trip->request.deadline &&
        redlane_guard_route(self->members->guard).state == REDLANE_BREAKER_SUSPECT) {
        redlane_trip_see_to_probe(self);
        trip->pause = trip->pause < PAUSE_MOST / 2 ? 2 * trip->pause : PAUSE_MOST;
        return now + trip->pause < trip->request.deadline ? now + trip->pause
                                                          : trip->request.deadline;
    }
    redlane_loop_leave(trip->loop, member);
    run_rounds(trip);
    return REDLANE_NEVER;
}

static void
parked_drop(RedlaneLoopMember *member)
{
    redlane_async_trip_drop(
        (RedlaneAsyncTrip *)(void *)((char *)member -
                                     offsetof(RedlaneAsyncTrip, parked)));
}

static int
parked_traverse(RedlaneLoopMember *member, visitproc visit, void *arg)
{
    return redlane_async_trip_traverse(
        (RedlaneAsyncTrip *)(void *)((char *)member -
                                     offsetof(RedlaneAsyncTrip, parked)),
        visit, arg);
}

/* Until the probe's verdict, or the deadline. RAISES_NEG */
static int
park(RedlaneAsyncTrip *trip, int64_t now)
{
    trip->pause = PAUSE_FIRST;
    trip->parked = (RedlaneLoopMember){
        .tick = parked_tick, .drop = parked_drop, .traverse = parked_traverse};
    if (redlane_loop_wake_at(trip->loop, now + trip->pause) < 0) {
        return -1;
    }
    redlane_loop_join(trip->loop, &trip->parked);
    return 0;
}

/* 1 with the route, 0 when the trip is parked until there is one. RAISES_NEG */
static int
find_route(RedlaneAsyncTrip *trip)
{
    RedlaneFallback *self = trip->trip.self;
    RedlaneRoute *route = &trip->trip.route;
    RedlaneGuard *guard = self->members->guard;

    *route = redlane_guard_route(guard);
    if (unlikely(route->state != REDLANE_BREAKER_CLOSED) && !self->members->closed) {
        redlane_trip_see_to_probe(self);
        *route = redlane_guard_route(guard);
    }
    if (unlikely(self->members->closed)) {
        return redlane_trip_raise_closed(self);
    }
    if (unlikely(route->state == REDLANE_BREAKER_SUSPECT) &&
        !trip->request.cache_read) {
        int64_t now = redlane_clock_now();

        if (now < trip->request.deadline) {
            return park(trip, now);
        }
    }
    return 1;
}

static void
run_rounds(RedlaneAsyncTrip *trip)
{
    RedlaneTrip *way = &trip->trip;
    bool raises = way->self->policy == REDLANE_POLICY_RAISE;

    for (;; trip->round++) {
        bool last = trip->round >= REDLANE_TRIP_ROUNDS - 1;
        int result = find_route(trip);

        if (result <= 0) {
            if (result < 0) {
                finish(trip, -1);
            }
            return;
        }
        if (way->route.state != REDLANE_BREAKER_CLOSED && raises) {
            finish(trip, redlane_trip_raise_away(way->self, way->vectors));
            return;
        }
        if (way->route.state == REDLANE_BREAKER_CLOSED && !way->unsure && !last &&
            (raises || !redlane_trip_stays(way))) {
            ask_server(trip);
            return;
        }
        result = redlane_trip_run_away(way, last || way->unsure);
        if (result != 0) {
            finish(trip, result < 0 ? -1 : 0);
            return;
        }
    }
}

void
redlane_async_trip_start(RedlaneAsyncTrip *trip)
{
    trip->errand.over = errand_over;
    trip->errand.drop = errand_drop;
    trip->errand.traverse = errand_traverse;
    trip->errand.wanted = errand_wanted;
    trip->trip.self = (RedlaneFallback *)trip->store;
    redlane_trip_begin(&trip->trip);
    run_rounds(trip);
}
