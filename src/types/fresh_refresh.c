/* Freshness: who computes a value whose place is taken by an older one. Lock: the GIL.
 */
#include "types/fresh.h"
#include "core/buffer.h"
#include "core/clock.h"
#include "core/number.h"
#include "py/errors.h"
#include "py/state.h"
#include "types/lease_wait.h"

#define LOCK_MARK REDLANE_MARK "R"
#define LOCK_MAX (sizeof(LOCK_MARK) - 1 + 16)

/* What a refresh that failed leaves in its lock for a moment: like a lease, and none.
 */
#define FAILED REDLANE_MARK "Lfailed"
#define FAILED_PX "1000"

/* A century. */
#define SOFT_MOST_MS (INT64_C(3155760000) * 1000)

typedef enum {
    LOCK_ERROR = -1, /* an exception is set */
    LOCK_TAKEN,
    LOCK_NONE,   /* not to be had: go on without */
    LOCK_MET,    /* someone else's: *lease holds it */
    LOCK_FAILED, /* a refresh has failed just now */
} Lock;

/* RAISES_NEG */
static int
name_lock(RedlaneArg key, uint64_t nonce, RedlaneBuffer *name)
{
    char tail[LOCK_MAX + 1];

    (void)PyOS_snprintf(tail, sizeof(tail), LOCK_MARK "%016llx",
                        (unsigned long long)nonce);
    if (redlane_buffer_append(name, key.data, key.size) < 0 ||
        redlane_buffer_append(name, tail, LOCK_MAX) < 0) {
        (void)PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static Lock
take_lock(const RedlaneFill *fill, const RedlaneFlight *flight, RedlaneArg name,
          PyObject **lease)
{
    RedlaneAnswer answer = REDLANE_ANSWER_SERVER;
    PyObject *pttl; /* is not asked for */
    PyObject *reply =
        redlane_fill_send_lease(fill, name, flight->lease, &answer, NULL, &pttl);

    *lease = NULL;
    if (!reply) {
        return redlane_fill_forgive(fill) < 0 ? LOCK_ERROR : LOCK_NONE;
    }
    if (reply == Py_None) {
        Py_DECREF(reply);
        return LOCK_TAKEN;
    }
    if (!PyBytes_Check(reply) || PyBytes_GET_SIZE(reply) != REDLANE_LEASE_SIZE) {
        Py_DECREF(reply);
        return LOCK_FAILED;
    }
    *lease = reply;
    return LOCK_MET;
}

/* Gives the lock back, or leaves word in it that the refresh failed. Keeps the
 * exception that is set; but an interruption in here takes its place. */
static void
end_lock(const RedlaneFill *fill, const RedlaneFlight *flight, RedlaneArg name,
         bool failed)
{
    RedlaneArg leave[] = {name, REDLANE_ARG_LITERAL(FAILED), REDLANE_ARG_LITERAL("PX"),
                          REDLANE_ARG_LITERAL(FAILED_PX)};
    PyObject *type, *error, *traceback, *reply;

    if (!name.size) {
        return;
    }
    if (!failed || !PyErr_ExceptionMatches(PyExc_Exception)) {
        redlane_fill_release(fill, flight, name);
        return;
    }
    PyErr_Fetch(&type, &error, &traceback);
    reply = redlane_tool_execute(fill->tool, REDLANE_CMD_SET, leave, 4, false);
    Py_XDECREF(reply);
    redlane_errors_restore(type, error, traceback);
}

/* Whether the old value is still in its place: whoever read it before another's refresh
 * may have got the lock after it. Where nobody can say, the store will. RAISES_NEG */
static int
is_in_place(const RedlaneFill *fill, RedlaneArg key, const RedlaneFreshOld *old)
{
    char digits[REDLANE_INT64_TEXT];
    RedlaneArg argv[] = {
        key,
        REDLANE_ARG_LITERAL("0"),
        {digits, redlane_number_format_int64(digits, (int64_t)old->size - 1)}};
    PyObject *reply =
        redlane_tool_execute(fill->tool, REDLANE_CMD_GETRANGE, argv, 3, true);
    int same;

    if (!reply) {
        return redlane_fill_forgive(fill) < 0 ? -1 : 1;
    }
    same = PyBytes_Check(reply) && (size_t)PyBytes_GET_SIZE(reply) == old->size &&
           memcmp(PyBytes_AS_STRING(reply), old->head, old->size) == 0;
    Py_DECREF(reply);
    return same;
}

/* Puts `data` in the old value's place; NULL: nothing, for the old one is of no use any
 * more. RAISES_NEG */
static int
replace(const RedlaneFill *fill, const RedlaneFlight *flight,
        const RedlaneFreshOld *old, PyObject *data, int64_t px)
{
    char digits[REDLANE_INT64_TEXT];
    RedlaneArg key = {flight->key, flight->key_size};
    RedlaneArg argv[] = {
        key, {old->head, old->size}, REDLANE_ARG_LITERAL(""), {digits, 0}};
    PyObject *reply;
    int same;

    if (flight->marked || (fill->tags && !fill->tags->known)) {
        return 0;
    }
    same = fill->fresh->is_same(fill->context, key);
    if (same <= 0) {
        return same;
    }
    if (data) {
        argv[2] = (RedlaneArg){PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data)};
    }
    argv[3].size = redlane_number_format_int64(digits, data ? px : -1);
    reply = redlane_tool_script(fill->tool, REDLANE_SCRIPT_RENEW, argv, 4, 1,
                                &redlane_tool_writes);
    if (!reply) {
        return redlane_fill_forgive(fill);
    }
    if (data && PyLong_Check(reply) && PyLong_AsLong(reply) == 1) {
        REDLANE_FILL_COUNT(fill, sets, 1);
        REDLANE_FILL_COUNT(fill, bytes_written, PyBytes_GET_SIZE(data));
    }
    Py_DECREF(reply);
    return PyErr_Occurred() ? -1 : 0;
}

/* The function has raised: that may be what is stored. Keeps the exception. */
static void
end_failed(const RedlaneFill *fill, RedlaneFlight *flight, const RedlaneFreshOld *old,
           RedlaneArg lock)
{
    PyObject *type, *error, *traceback, *data;
    int64_t ttl_ms = 0;

    data = fill->fail && !fill->tags ? fill->fail(fill->context, &ttl_ms) : NULL;
    fill->fresh->answered = data != NULL;
    if (data) {
        const RedlaneWrapping wrapping = {.key = {flight->key, flight->key_size},
                                          .ttl_ms = ttl_ms};

        PyErr_Fetch(&type, &error, &traceback);
        data = redlane_envelope_wrap_raised(fill->serializer, &wrapping, data);
        if (data) {
            (void)replace(fill, flight, old, data, ttl_ms);
        }
        Py_XDECREF(data);
        redlane_errors_restore(type, error, traceback);
    }
    end_lock(fill, flight, lock, !fill->fresh->answered);
    redlane_flight_fail(flight);
}

/* Computes as the leader of `flight`, which ends here. An empty `lock`: none is held.
 */
static PyObject *
lead(const RedlaneFill *fill, RedlaneFlight *flight, const RedlaneFreshOld *old,
     RedlaneArg lock)
{
    PyObject *value, *data;

    flight->tags = fill->tags;
    value = redlane_fill_load(fill, flight);
    if (!value) {
        end_failed(fill, flight, old, lock);
        return NULL;
    }
    data = redlane_fill_wrap(fill, (RedlaneArg){flight->key, flight->key_size}, &value);
    if ((!data && PyErr_Occurred()) ||
        replace(fill, flight, old, data, redlane_fresh_px(fill)) < 0) {
        Py_XDECREF(data);
        Py_DECREF(value);
        end_lock(fill, flight, lock, false);
        redlane_flight_fail(flight);
        return NULL;
    }
    end_lock(fill, flight, lock, false);
    redlane_flight_finish(flight, data, NULL);
    Py_XDECREF(data);
    return value;
}

static RedlaneFlight *
begin_flight(const RedlaneFill *fill, RedlaneArg key, const RedlaneFreshOld *old)
{
    RedlaneFlight *flight =
        redlane_flight_begin(fill->tool->state, fill->tool->link, key);

    if (flight) {
        flight->refresh = true;
        flight->replaces = old->nonce;
    }
    return flight;
}

int
redlane_fresh_start(const RedlaneFill *fill, RedlaneArg key, const RedlaneFreshOld *old)
{
    RedlaneFlight *flight = redlane_flight_find_refresh(
        fill->tool->state, fill->tool->link, key, old->nonce);

    if (flight) {
        redlane_flight_release(flight);
        return 0;
    }
    flight = begin_flight(fill, key, old);
    if (!flight) {
        PyErr_Clear(); /* no memory: the next call will try */
        return 0;
    }
    return fill->fresh->spawn(fill->context, flight, old);
}

/* Computes under the lock, if it is to be had. 1: *value is set, 0: there is nothing to
 * do, for another does or did or failed to, -1: an exception is set. STEALS flight */
static int
run_locked(const RedlaneFill *fill, RedlaneFlight *flight, const RedlaneFreshOld *old,
           RedlaneArg name, PyObject **value)
{
    PyObject *lease;
    Lock lock = take_lock(fill, flight, name, &lease);
    int result = lock == LOCK_ERROR ? -1 : 0;

    Py_XDECREF(lease);
    if (lock == LOCK_NONE) {
        name.size = 0;
    }
    if (lock == LOCK_TAKEN || lock == LOCK_NONE) {
        result = is_in_place(fill, (RedlaneArg){flight->key, flight->key_size}, old);
        if (result == 1) {
            REDLANE_FILL_COUNT(fill, refreshes, 1);
            *value = lead(fill, flight, old, name);
            return *value ? 1 : -1;
        }
        end_lock(fill, flight, name, false);
    }
    redlane_flight_finish(flight, NULL, NULL);
    return result;
}

/* Before the function runs, what generations its result will be of. RAISES_NEG */
static int
learn_generations(RedlaneFill *fill)
{
    const RedlaneToolManner manner = {.read = true};

    if (redlane_fill_tags_begin(fill) < 0) {
        return -1;
    }
    if (!fill->tags) {
        return 0;
    }
    fill->tags->asked_ms = redlane_fresh_px(fill);
    if (redlane_tags_ask(fill->tags, fill->tool, true, fill->tags->asked_ms, &manner) ==
        0) {
        return 0;
    }
    return redlane_fill_forgive(fill); /* they are not known: nothing is stored */
}

void
redlane_fresh_run(RedlaneFill *fill, RedlaneFlight *flight, const RedlaneFreshOld *old)
{
    RedlaneArg key = {flight->key, flight->key_size};
    RedlaneBuffer name = {0};
    PyObject *value = NULL;
    int result;

    redlane_flight_own(fill->tool->state, flight); /* who started it may wait for it */
    if (learn_generations(fill) < 0) {
        redlane_flight_finish(flight, NULL, NULL);
        result = -1;
    }
    else if (!old->size) {
        REDLANE_FILL_COUNT(fill, refreshes, 1);
        value = redlane_fill_lead(fill, flight);
        result = value ? 1 : -1;
    }
    else if (name_lock(key, old->nonce, &name) < 0) {
        redlane_flight_finish(flight, NULL, NULL);
        result = -1;
    }
    else {
        result =
            run_locked(fill, flight, old, (RedlaneArg){name.data, name.size}, &value);
    }
    redlane_buffer_free(&name);
    redlane_fill_tags_end(fill);
    Py_XDECREF(value);
    if (result < 0 && !fill->fresh->answered) {
        redlane_fresh_report(fill);
    }
    PyErr_Clear();
}

/* In ns; no longer than anybody would wait anyway. */
static int64_t
soft_limit(const RedlaneFresh *fresh)
{
    return (fresh->soft_ms < SOFT_MOST_MS ? fresh->soft_ms : SOFT_MOST_MS) *
           REDLANE_NS_PER_MS;
}

/* Waits for a refresh behind, but not for long. As redlane_fresh_compute. */
static int
wait_softly(const RedlaneFill *fill, RedlaneArg key, const RedlaneFreshOld *old,
            PyObject **value)
{
    RedlaneState *state = fill->tool->state;
    int64_t deadline = redlane_clock_now() + soft_limit(fill->fresh);
    RedlaneFlight *flight = NULL;
    int result = redlane_fresh_start(fill, key, old);

    if (result == 0) {
        flight = redlane_flight_find_refresh(state, fill->tool->link, key, old->nonce);
    }
    if (flight) {
        result = redlane_flight_wait_until(flight, deadline);
        if (result == 1 && flight->value && !flight->marked) {
            PyObject *fresh = NULL;

            result = redlane_fill_open_flight(fill, flight, &fresh);
            if (result == 1) {
                Py_SETREF(*value, fresh);
            }
        }
        else if (result == 1) {
            result = 0;
        }
        redlane_flight_release(flight);
    }
    if (result < 0 || result == 2) {
        Py_CLEAR(*value);
        return result;
    }
    REDLANE_FILL_COUNT(fill, stale, result == 0);
    return 1;
}

/* The lock is another process's: until it is gone. 2: ask again, -1 */
static int
wait_for_lock(const RedlaneFill *fill, RedlaneArg name, const char *lease)
{
    RedlaneState *state = fill->tool->state;
    RedlaneFlight *flight = redlane_flight_find(state, fill->tool->link, name, lease);
    PyObject *stored = NULL;
    RedlaneLeaseEnd end;
    int result;

    if (flight) { /* another thread waits for it */
        result = redlane_flight_wait(flight);
        redlane_flight_release(flight);
        return result < 0 ? -1 : 2;
    }
    flight = redlane_flight_begin_alone(state, fill->tool->link, name, lease);
    if (!flight) {
        return -1;
    }
    end = redlane_lease_wait(fill, flight, &stored);
    Py_XDECREF(stored);
    if (end == REDLANE_LEASE_ERROR) {
        redlane_flight_fail(flight);
        return -1;
    }
    flight->abandoned = true;
    redlane_flight_finish(flight, NULL, NULL);
    return 2;
}

/* Someone has the lock. As redlane_fresh_compute. */
static int
wait_for_holder(const RedlaneFill *fill, RedlaneArg key, RedlaneArg name,
                PyObject *lease, PyObject **value)
{
    RedlaneState *state = fill->tool->state;
    const char *met = PyBytes_AS_STRING(lease);
    RedlaneFlight *other = redlane_flight_find(state, fill->tool->link, key, met);

    if (other) {
        int result = redlane_fill_join(fill, other, value);

        return result ? result : 2;
    }
    if (redlane_flight_is_over(state, fill->tool->link, key, met)) {
        return 2;
    }
    if (redlane_flight_is_ours(state, met)) { /* this thread's: it calls itself */
        *value = redlane_fill_compute_alone(fill, key);
        return *value ? 1 : -1;
    }
    return wait_for_lock(fill, name, met);
}

/* In the caller's own thread and time. As redlane_fresh_compute; *value is NULL. STEALS
 * flight */
static int
compute_here(const RedlaneFill *fill, RedlaneArg key, RedlaneFlight *flight,
             const RedlaneFreshOld *old, RedlaneArg name, PyObject **value)
{
    PyObject *lease = NULL;
    Lock lock = fill->single_flight ? take_lock(fill, flight, name, &lease) : LOCK_NONE;
    int result = lock == LOCK_ERROR ? -1 : 2;

    if (lock == LOCK_NONE) {
        name.size = 0;
    }
    if (lock == LOCK_TAKEN || lock == LOCK_NONE) {
        result = lock == LOCK_NONE ? 1 : is_in_place(fill, key, old);
        if (result == 1) {
            REDLANE_FILL_COUNT(fill, misses, 1);
            *value = lead(fill, flight, old, name);
            return *value ? 1 : -1;
        }
        end_lock(fill, flight, name, false);
        result = result < 0 ? -1 : 2;
    }
    redlane_flight_finish(flight, NULL, NULL);
    if (lock == LOCK_FAILED) {
        result = 0;
    }
    else if (lock == LOCK_MET) {
        result = wait_for_holder(fill, key, name, lease, value);
    }
    Py_XDECREF(lease);
    return result;
}

int
redlane_fresh_compute(const RedlaneFill *fill, RedlaneArg key, PyObject *stored,
                      PyObject **value)
{
    RedlaneFlight *flight;
    RedlaneBuffer name = {0};
    PyObject *fresh = NULL;
    RedlaneFreshOld old;
    int result = -1;

    if (!redlane_fresh_look(stored, &old)) {
        Py_CLEAR(*value);
        return 2;
    }
    if (fill->fresh->soft_ms) {
        return wait_softly(fill, key, &old, value);
    }
    flight = begin_flight(fill, key, &old);
    if (flight && name_lock(key, old.nonce, &name) < 0) {
        redlane_flight_finish(flight, NULL, NULL);
        flight = NULL;
    }
    if (flight) {
        result = compute_here(fill, key, flight, &old,
                              (RedlaneArg){name.data, name.size}, &fresh);
    }
    redlane_buffer_free(&name);
    if (result == 0) { /* it has failed for somebody just now: no need to try */
        REDLANE_FILL_COUNT(fill, stale, 1);
        return 1;
    }
    Py_SETREF(*value, fresh);
    return result;
}
