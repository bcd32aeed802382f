/* Waiting for the lease of another process: for its invalidation where there is a near
 * cache, else by asking again and again. Lock: the GIL. */
#include "types/lease_wait.h"

#include "core/backoff.h"
#include "core/clock.h"
#include "py/state.h"
#include "wire/wait.h"

/* Most values are there within milliseconds of their lease. Who has waited for long can
 * wait a little longer still, which spares the server; up to a slice, so that Ctrl-C is
 * heard in time. */
#define FIRST_PAUSE (2 * REDLANE_NS_PER_MS)
/* How often one looks who waits for an invalidation. */
#define LOOK_INTERVAL (500 * REDLANE_NS_PER_MS)

/* In a flow, how often it looks whether an invalidation has come: in memory, but many
 * flows may wait. Who has waited for long may wait that much longer. */
#define FLOW_LOOK_LEAST (2 * REDLANE_NS_PER_MS)
#define FLOW_LOOK_MOST (10 * REDLANE_NS_PER_MS)
#define FLOW_LOOK_SHARE 8 /* of the time that it has waited */

/* -1 with an exception set: a signal handler raised, or a flow was cancelled. */
static int
pause_for(RedlaneState *state, int64_t length)
{
    RedlaneWait wait = {.deadline = REDLANE_NEVER};
    RedlaneFlow *flow = redlane_flow_current(state);
    RedlaneFault fault;

    if (flow) {
        return redlane_flow_pause(flow, state, length);
    }
    Py_BEGIN_ALLOW_THREADS(void)
    redlane_wait_pause_nogil(&wait, length, &fault);
    Py_END_ALLOW_THREADS
    return PyErr_CheckSignals();
}

/* A GET that failed: another type is in the lease's place, or nobody can say. */
static RedlaneLeaseEnd
judge_failure(const RedlaneFill *fill, bool *unknown)
{
    RedlaneState *state = fill->tool->state;

    if (PyErr_ExceptionMatches(state->WrongTypeError)) {
        PyErr_Clear();
        return REDLANE_LEASE_LAPSED;
    }
    if ((fill->tool->policy == REDLANE_POLICY_RAISE &&
         !PyErr_ExceptionMatches(state->ReplyError)) ||
        redlane_fill_forgive(fill) < 0) {
        return REDLANE_LEASE_ERROR;
    }
    *unknown = true;
    return REDLANE_LEASE_HELD;
}

/* What is in the place of the lease now; HELD where that is still the lease. */
static RedlaneLeaseEnd
look(const RedlaneFill *fill, const RedlaneFlight *flight, PyObject **stored,
     bool *unknown)
{
    RedlaneAnswer answer = REDLANE_ANSWER_SERVER;
    const RedlaneToolManner manner = {.read = true, .answer = &answer};
    RedlaneArg key = {flight->key, flight->key_size};
    PyObject *reply =
        redlane_tool_execute_as(fill->tool, REDLANE_CMD_GET, &key, 1, &manner);
    RedlaneLeaseEnd end = REDLANE_LEASE_LAPSED;

    if (!reply) {
        return judge_failure(fill, unknown);
    }
    if (answer != REDLANE_ANSWER_SERVER) {
        *unknown = true;
        end = REDLANE_LEASE_HELD;
    }
    else if (PyBytes_Check(reply)) {
        size_t size = (size_t)PyBytes_GET_SIZE(reply);

        if (size == REDLANE_LEASE_SIZE &&
            memcmp(PyBytes_AS_STRING(reply), flight->lease, size) == 0) {
            end = REDLANE_LEASE_HELD;
        }
        else if (!redlane_envelope_is_lease(PyBytes_AS_STRING(reply), size)) {
            *stored = reply;
            return REDLANE_LEASE_VALUE;
        }
    }
    Py_DECREF(reply);
    return end;
}

/* How long a flow that waits since then may sleep. */
static int64_t
flow_look(int64_t since)
{
    int64_t share = (redlane_clock_now() - since) / FLOW_LOOK_SHARE;

    return share < FLOW_LOOK_LEAST  ? FLOW_LOOK_LEAST
           : share > FLOW_LOOK_MOST ? FLOW_LOOK_MOST
                                    : share;
}

/* Until the invalidation of the key comes, or it is time to look without one: a lease
 * that lapses is announced late. -1 with an exception set. */
static int
wait_for_news(RedlaneState *state, RedlaneNear *near, const RedlaneFlight *flight,
              const RedlaneNearTicket *ticket, int64_t since)
{
    int64_t until = redlane_clock_now() + LOOK_INTERVAL;
    bool changed = false;

    while (!changed && !flight->marked && redlane_clock_now() < until) {
        if (redlane_flow_current(state)) {
            if (pause_for(state, flow_look(since)) < 0) {
                return -1;
            }
            changed = redlane_near_wait_nogil(near, ticket, 0);
            continue;
        }
        Py_BEGIN_ALLOW_THREADS
        changed = redlane_near_wait_nogil(near, ticket,
                                          redlane_clock_now() + REDLANE_WAIT_SLICE);
        Py_END_ALLOW_THREADS
        if (PyErr_CheckSignals() < 0) {
            return -1;
        }
    }
    return 0;
}

/* Somebody took its TTL away, or wrote it without one: nobody will end it, and all who
 * come would wait for it. RAISES_NEG */
static int
drop_overdue(const RedlaneFill *fill, const RedlaneFlight *flight)
{
    RedlaneArg argv[] = {{flight->key, flight->key_size},
                         {flight->lease, sizeof(flight->lease)}};
    PyObject *reply = redlane_tool_script(fill->tool, REDLANE_SCRIPT_RELEASE, argv, 2,
                                          1, &redlane_tool_writes);

    if (!reply) {
        return redlane_fill_forgive(fill);
    }
    Py_DECREF(reply);
    return 0;
}

RedlaneLeaseEnd
redlane_lease_wait(const RedlaneFill *fill, const RedlaneFlight *flight,
                   PyObject **stored)
{
    int64_t since = redlane_clock_now();
    int64_t over = since + REDLANE_LEASE_MS * REDLANE_NS_PER_MS;
    /* The flight has just been begun, and holds the link that this one belongs to. */
    RedlaneNear *near = redlane_fill_has_near(fill) && redlane_near_is_told(fill->near)
                            ? fill->near
                            : NULL;
    RedlaneState *state = fill->tool->state;
    RedlaneBackoff backoff;
    bool unknown = false;

    redlane_backoff_init(&backoff, FIRST_PAUSE, REDLANE_WAIT_SLICE,
                         flight->hash ^ (uint64_t)redlane_clock_now());
    while (!flight->marked && redlane_clock_now() < over) {
        RedlaneNearTicket ticket = {0};
        RedlaneLeaseEnd end;

        if (near) { /* before the look, so that nothing is missed between them */
            ticket = redlane_near_ticket(near, flight->key, flight->key_size);
        }
        if (!ticket.generation &&
            pause_for(state, redlane_backoff_next(&backoff)) < 0) {
            return REDLANE_LEASE_ERROR;
        }
        end = look(fill, flight, stored, &unknown);
        if (end != REDLANE_LEASE_HELD || unknown) {
            return end;
        }
        if (ticket.generation &&
            wait_for_news(state, near, flight, &ticket, since) < 0) {
            return REDLANE_LEASE_ERROR;
        }
    }
    if (!flight->marked && drop_overdue(fill, flight) < 0) {
        return REDLANE_LEASE_ERROR;
    }
    return REDLANE_LEASE_LAPSED;
}
