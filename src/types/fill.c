/* Filling a key under a lease; the drawing stands in fill.h. Lock: the GIL. */
#include "types/fill.h"

#include "core/clock.h"
#include "core/number.h"
#include "py/errors.h"
#include "py/state.h"
#include "types/fresh.h"
#include "types/lease_wait.h"

/* A value that is dropped, or a leader that was interrupted, is asked for again so
 * often; then the value is computed here. */
#define ATTEMPTS 3

typedef enum {
    FOUND_ERROR = -1,
    FOUND_NOTHING,     /* our lease is in its place */
    FOUND_VALUE,       /* *value is set */
    FOUND_OLD,         /* it is, past its time: *reply holds what is stored */
    FOUND_LEASE,       /* someone else's: *reply holds it */
    FOUND_LOCAL_LEASE, /* the same, where only this process places any */
    FOUND_DROPPED,     /* something of no use, which is gone now: ask again */
    FOUND_REFUSED,     /* the server takes no lease, and nothing usable is there */
} Found;

/* The lease command itself, by the server's age. With `near_fill`, *pttl may be set to
 * what PTTL said. NULL with an exception set. */
PyObject *
redlane_fill_send_lease(const RedlaneFill *fill, RedlaneArg key, const char *lease,
                        RedlaneAnswer *answer, RedlaneNearFill *near_fill,
                        PyObject **pttl)
{
    RedlaneToolManner manner = {.read = true, .answer = answer};
    char digits[REDLANE_INT64_TEXT];
    size_t size = redlane_number_format_int64(digits, REDLANE_LEASE_MS);
    RedlaneArg set[] = {key,
                        {lease, REDLANE_LEASE_SIZE},
                        REDLANE_ARG_LITERAL("NX"),
                        REDLANE_ARG_LITERAL("GET"),
                        REDLANE_ARG_LITERAL("PX"),
                        {digits, size}};
    RedlaneArg acquire[] = {key, {lease, REDLANE_LEASE_SIZE}, {digits, size}};
    PyObject *reply, *type, *error, *traceback, *text;
    bool unknown;

    if (likely(!fill->tool->old_server)) {
        reply = redlane_fill_ask(fill, REDLANE_CMD_SET, set, 6, manner, near_fill, pttl,
                                 true);
        if (likely(reply != NULL) ||
            !PyErr_ExceptionMatches(fill->tool->state->ReplyError)) {
            return reply;
        }
        PyErr_Fetch(&type, &error, &traceback);
        text = error ? PyObject_Str(error) : NULL;
        unknown = text && PyUnicode_Find(text, fill->tool->state->syntax_error, 0,
                                         PyUnicode_GET_LENGTH(text), 1) >= 0;
        Py_XDECREF(text);
        PyErr_Clear();
        PyErr_Restore(type, error, traceback);
        if (!unknown) {
            return NULL;
        }
        PyErr_Clear();
        fill->tool->old_server = true;
    }
    reply =
        redlane_tool_script(fill->tool, REDLANE_SCRIPT_ACQUIRE, acquire, 3, 1, &manner);
    if (reply && fill->tags) {
        fill->tags->asked_ms = redlane_fresh_px(fill);
        if (redlane_tags_ask(fill->tags, fill->tool, true, fill->tags->asked_ms,
                             &redlane_tool_reads) < 0 &&
            redlane_fill_forgive(fill) < 0) { /* else nothing is stored */
            Py_CLEAR(reply);
        }
    }
    return reply;
}

static Found
found_refusal(const RedlaneFill *fill, RedlaneArg key, PyObject **value)
{
    RedlaneState *state = fill->tool->state;
    PyObject *reply;
    int result;

    if (PyErr_ExceptionMatches(state->WrongTypeError)) {
        /* A key of another type would be a miss for ever: it goes. */
        PyErr_Clear();
        REDLANE_FILL_COUNT(fill, corrupted, 1);
        reply = redlane_tool_execute(fill->tool, REDLANE_CMD_DEL, &key, 1, false);
        Py_XDECREF(reply);
        return reply || redlane_fill_forgive(fill) == 0 ? FOUND_DROPPED : FOUND_ERROR;
    }
    if (!PyErr_ExceptionMatches(state->ReplyError)) {
        if (fill->tool->policy == REDLANE_POLICY_RAISE) {
            return FOUND_ERROR;
        }
        return redlane_fill_forgive(fill) == 0 ? FOUND_REFUSED : FOUND_ERROR;
    }
    (void)redlane_fill_forgive(fill);
    result = redlane_fill_read(fill, key, value);
    if (result < 0 && redlane_fill_forgive(fill) < 0) {
        return FOUND_ERROR;
    }
    return result == 1 ? FOUND_VALUE : FOUND_REFUSED;
}

/* Whether other processes place leases where this answer came from. What a forked child
 * finds in its copy of an engine is nobody's. */
static bool
is_shared(const RedlaneFill *fill, RedlaneAnswer answer)
{
    return answer == REDLANE_ANSWER_SERVER &&
           redlane_link_settings(fill->tool->link)->scheme != REDLANE_SCHEME_MEMORY;
}

/* What the lease command brought. */
static Found
judge_answer(const RedlaneFill *fill, RedlaneArg key, RedlaneAnswer answer,
             PyObject *reply, PyObject **value)
{
    int result;

    if (reply == Py_None) {
        return answer == REDLANE_ANSWER_NOTHING ? FOUND_REFUSED : FOUND_NOTHING;
    }
    if (PyBytes_Check(reply) &&
        redlane_envelope_is_lease(PyBytes_AS_STRING(reply),
                                  (size_t)PyBytes_GET_SIZE(reply))) {
        return is_shared(fill, answer) ? FOUND_LEASE : FOUND_LOCAL_LEASE;
    }
    result = redlane_fill_decode(fill, key, reply, value);
    if (unlikely(fill->fresh) && (result == 1 || result == REDLANE_FILL_OLD)) {
        result = redlane_fresh_take(fill, key, reply, result == REDLANE_FILL_OLD);
        if (result < 0) {
            Py_CLEAR(*value);
            return FOUND_ERROR;
        }
        return result ? FOUND_VALUE : FOUND_OLD;
    }
    return result < 0    ? FOUND_ERROR
           : result == 1 ? FOUND_VALUE
           : result == 2 ? FOUND_DROPPED
                         : FOUND_REFUSED;
}

/* Asks for the value, leaving the flight's lease where nothing is. */
static Found
ask(const RedlaneFill *fill, RedlaneArg key, const RedlaneFlight *flight,
    PyObject **reply, PyObject **value)
{
    RedlaneAnswer answer = REDLANE_ANSWER_SERVER;
    RedlaneNearFill near_fill;
    bool near = redlane_fill_near_begin(fill, key, &near_fill);
    PyObject *pttl = NULL;
    Found found;

    *value = NULL;
    *reply = redlane_fill_send_lease(fill, key, flight->lease, &answer,
                                     near ? &near_fill : NULL, &pttl);
    if (unlikely(fill->fresh)) {
        fill->fresh->away = *reply && answer != REDLANE_ANSWER_SERVER;
    }
    found = likely(*reply != NULL) ? judge_answer(fill, key, answer, *reply, value)
                                   : found_refusal(fill, key, value);
    if (found == FOUND_VALUE && pttl &&
        redlane_fill_near_keep(fill, key, &near_fill, pttl, *reply, *value) < 0) {
        Py_CLEAR(*value);
        found = FOUND_ERROR;
    }
    Py_XDECREF(pttl);
    if (near) {
        redlane_fill_near_end(&near_fill);
    }
    return found;
}

/* As redlane_fill_release, where the flight has a lease in the key's place. */
static void
release_lease(const RedlaneFill *fill, const RedlaneFlight *flight)
{
    if (flight->leased) {
        redlane_fill_release(fill, flight, (RedlaneArg){flight->key, flight->key_size});
    }
}

/* Stores encoded bytes in the place of our lease, for ttl_ms (0: for ever). RAISES_NEG
 */
static int
store_value(const RedlaneFill *fill, const RedlaneFlight *flight, PyObject *data,
            int64_t ttl_ms)
{
    char digits[REDLANE_INT64_TEXT];
    RedlaneArg argv[] = {{flight->key, flight->key_size},
                         {flight->lease, sizeof(flight->lease)},
                         {PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data)},
                         {digits, redlane_number_format_int64(digits, ttl_ms)}};
    PyObject *reply;

    if (!flight->leased || flight->marked || (fill->tags && !fill->tags->known)) {
        release_lease(fill, flight);
        return PyErr_Occurred() ? -1 : 0;
    }
    reply = redlane_tool_script(fill->tool, REDLANE_SCRIPT_FILL, argv, 4, 1,
                                &redlane_tool_writes);
    if (!reply) {
        return redlane_fill_forgive(fill);
    }
    if (PyLong_Check(reply) && PyLong_AsLong(reply) == 1) {
        REDLANE_FILL_COUNT(fill, sets, 1);
        REDLANE_FILL_COUNT(fill, bytes_written, PyBytes_GET_SIZE(data));
    }
    Py_DECREF(reply);
    return PyErr_Occurred() ? -1 : 0;
}

/* Serialises and stores `value`; the decoded form takes its place, so that a first call
 * returns what later ones will. The stored bytes, NULL when there are none (then an
 * exception may be set). */
static PyObject *
keep_value(const RedlaneFill *fill, const RedlaneFlight *flight, PyObject **value)
{
    PyObject *data =
        redlane_fill_wrap(fill, (RedlaneArg){flight->key, flight->key_size}, value);

    if (!data) {
        release_lease(fill, flight);
        return NULL;
    }
    if (store_value(fill, flight, data, redlane_fresh_px(fill)) < 0) {
        Py_CLEAR(data);
    }
    return data;
}

/* Ends a flight whose loader raised: the exception may be what is stored. It stays set,
 * whatever happens in here. */
static void
end_raised(const RedlaneFill *fill, RedlaneFlight *flight)
{
    PyObject *type, *error, *traceback, *data;
    int64_t ttl_ms = 0;

    data = fill->fail && !fill->tags ? fill->fail(fill->context, &ttl_ms) : NULL;
    if (fill->fresh) {
        fill->fresh->answered = data != NULL;
    }
    if (data) {
        const RedlaneWrapping wrapping = {.key = {flight->key, flight->key_size},
                                          .ttl_ms = ttl_ms};

        PyErr_Fetch(&type, &error, &traceback);
        data = redlane_envelope_wrap_raised(fill->serializer, &wrapping, data);
        if (data) {
            (void)store_value(fill, flight, data, ttl_ms);
        }
        else {
            release_lease(fill, flight);
        }
        Py_XDECREF(data);
        redlane_errors_restore(type, error, traceback);
    }
    else {
        release_lease(fill, flight);
    }
    redlane_flight_fail(flight);
}

PyObject *
redlane_fill_lead(const RedlaneFill *fill, RedlaneFlight *flight)
{
    PyObject *value, *data;

    REDLANE_FILL_COUNT(fill, misses, !fill->fresh || !fill->fresh->behind);
    flight->tags = fill->tags;
    value = redlane_fill_load(fill, flight);
    if (!value) {
        end_raised(fill, flight);
        return NULL;
    }
    data = keep_value(fill, flight, &value);
    if (!data && PyErr_Occurred()) {
        redlane_flight_fail(flight);
        Py_DECREF(value);
        return NULL;
    }
    redlane_flight_finish(flight, data, NULL);
    Py_XDECREF(data);
    return value;
}

/* Computes for this caller alone. */
static PyObject *
compute_alone(const RedlaneFill *fill, RedlaneArg key, const char *met)
{
    RedlaneFlight *flight =
        redlane_flight_begin_alone(fill->tool->state, fill->tool->link, key, met);

    return flight ? redlane_fill_lead(fill, flight) : NULL;
}

PyObject *
redlane_fill_compute_alone(const RedlaneFill *fill, RedlaneArg key)
{
    return compute_alone(fill, key, NULL);
}

/* Waits for what another process computes, for all of this one that meet its lease. As
 * join_or_lead. */
static int
wait_for_other(const RedlaneFill *fill, RedlaneArg key, const char *lease,
               PyObject **value)
{
    RedlaneFlight *flight =
        redlane_flight_begin_alone(fill->tool->state, fill->tool->link, key, lease);
    PyObject *stored = NULL;
    int result;

    if (!flight) {
        return -1;
    }
    switch (redlane_lease_wait(fill, flight, &stored)) {
    case REDLANE_LEASE_VALUE:
        result = redlane_fill_decode(fill, key, stored, value);
        if (result < 0) {
            break;
        }
        if (result != 1) {
            Py_CLEAR(*value);
        }
        REDLANE_FILL_COUNT(fill, waits, result == 1);
        flight->abandoned = result != 1;
        redlane_flight_finish(flight, result == 1 ? stored : NULL, NULL);
        Py_DECREF(stored);
        return result == 1 ? 1 : 2;
    case REDLANE_LEASE_LAPSED:
        flight->abandoned = true;
        redlane_flight_finish(flight, NULL, NULL);
        return 2;
    case REDLANE_LEASE_HELD:
        *value = redlane_fill_lead(fill, flight);
        return *value ? 1 : -1;
    case REDLANE_LEASE_ERROR:
        break;
    }
    Py_XDECREF(stored);
    redlane_flight_fail(flight);
    return -1;
}

/* No lease is to be had: joins who computes this key in this process, or waits for who
 * computes it in another (where the lease is `shared`), or computes. 1: *value is set,
 * 2: ask again, -1: an exception is set. */
static int
join_or_lead(const RedlaneFill *fill, RedlaneArg key, const char *lease, bool shared,
             PyObject **value)
{
    RedlaneState *state = fill->tool->state;
    RedlaneLink *link = fill->tool->link;
    RedlaneFlight *other = NULL;

    if (fill->single_flight) {
        other = redlane_flight_find(state, link, key, lease);
        if (!other && lease && redlane_flight_is_over(state, link, key, lease)) {
            return 2; /* the value is there by now, or a place for a lease */
        }
    }
    if (other) {
        int result = redlane_fill_join(fill, other, value);

        if (result) {
            return result;
        }
    }
    else if (fill->single_flight && shared && !redlane_flight_is_ours(state, lease)) {
        return wait_for_other(fill, key, lease, value);
    }
    *value = compute_alone(fill, key, lease);
    return *value ? 1 : -1;
}

/* One round. 1: *value is set, 2: ask again, -1: an exception is set. */
static int
try_once(const RedlaneFill *fill, RedlaneArg key, PyObject **value)
{
    PyObject *reply = NULL;
    RedlaneFlight *flight;
    const char *lease;
    Found found;
    int result = -1;

    flight = redlane_flight_begin(fill->tool->state, fill->tool->link, key);
    if (!flight) {
        return -1;
    }
    found = ask(fill, key, flight, &reply, value);
    if (unlikely(fill->fresh) && fill->fresh->away && !*value && found != FOUND_ERROR) {
        RedlaneFlight *leased = found == FOUND_NOTHING ? flight : NULL;

        result = redlane_fresh_unconfirmed(fill, key, &leased, value);
        if (result) {
            if (leased || found != FOUND_NOTHING) {
                redlane_flight_finish(flight, NULL, NULL);
            }
            Py_XDECREF(reply);
            return result;
        }
    }
    if (found == FOUND_NOTHING) {
        Py_DECREF(reply);
        *value = redlane_fill_lead(fill, flight);
        return *value ? 1 : -1;
    }
    redlane_flight_finish(flight, NULL, NULL);
    switch (found) {
    case FOUND_VALUE:
        redlane_fresh_count(fill);
        result = 1;
        break;
    case FOUND_OLD:
        result = redlane_fresh_compute(fill, key, reply, value);
        break;
    case FOUND_LEASE:
    case FOUND_LOCAL_LEASE:
        lease = PyBytes_GET_SIZE(reply) == REDLANE_LEASE_SIZE ? PyBytes_AS_STRING(reply)
                                                              : NULL;
        result = join_or_lead(fill, key, lease, lease && found == FOUND_LEASE, value);
        break;
    case FOUND_REFUSED:
        result = join_or_lead(fill, key, NULL, false, value);
        break;
    case FOUND_DROPPED:
        result = 2;
        break;
    case FOUND_NOTHING:
    case FOUND_ERROR:
        break;
    }
    Py_XDECREF(reply);
    return result;
}

/* From the server, or computed. */
static PyObject *
get_far(const RedlaneFill *fill, RedlaneArg key)
{
    PyObject *value = NULL;
    int result;

    for (int i = 0; i < ATTEMPTS; i++) {
        result = try_once(fill, key, &value);
        if (result != 2) {
            return result == 1 ? value : NULL;
        }
    }
    return compute_alone(fill, key, NULL);
}

static PyObject *
get_value(RedlaneFill *fill, RedlaneArg key)
{
    RedlaneTags *extras = NULL;
    PyObject *value = NULL;
    int result;

    if (redlane_tool_resolve(fill->tool) < 0) {
        return NULL;
    }
    result = redlane_fill_near_get(fill, key, &value);
    if (result) {
        return result == 1 ? value : NULL;
    }
    fill->extras = &extras;
    value = redlane_fill_tags_begin(fill) < 0 ? NULL : get_far(fill, key);
    redlane_fill_tags_end(fill);
    fill->extras = NULL;
    redlane_tags_free(extras);
    return value;
}

PyObject *
redlane_fill_get(RedlaneFill *fill, RedlaneArg key)
{
    PyObject *value = get_value(fill, key);

    return likely(!fill->fresh) ? value : redlane_fresh_end(fill, key, value);
}

static PyObject *
refresh_key(const RedlaneFill *fill, RedlaneArg key)
{
    char digits[REDLANE_INT64_TEXT];
    RedlaneAnswer answer = REDLANE_ANSWER_SERVER;
    const RedlaneToolManner manner = {.answer = &answer};
    RedlaneFlight *flight;
    PyObject *reply, *pttl;

    redlane_flight_mark_key(fill->tool->state, fill->tool->link, key);
    flight = redlane_flight_begin(fill->tool->state, fill->tool->link, key);
    if (!flight) {
        return NULL;
    }
    {
        RedlaneArg argv[] = {
            key,
            {flight->lease, REDLANE_LEASE_SIZE},
            REDLANE_ARG_LITERAL("PX"),
            {digits, redlane_number_format_int64(digits, REDLANE_LEASE_MS)}};

        reply =
            redlane_fill_ask(fill, REDLANE_CMD_SET, argv, 4, manner, NULL, &pttl, true);
    }
    if (reply ? answer == REDLANE_ANSWER_NOTHING
              : redlane_fill_is_refusal(fill->tool->state)) {
        /* No lease is there, but the old value must go all the same: where the server
         * is only full it goes at once, else by the journal. */
        Py_CLEAR(reply);
        PyErr_Clear();
        flight->leased = false;
        reply = redlane_tool_execute(fill->tool, REDLANE_CMD_DEL, &key, 1, false);
    }
    if (!reply && (fill->tool->policy == REDLANE_POLICY_RAISE ||
                   redlane_fill_forgive(fill) < 0)) {
        redlane_flight_fail(flight);
        return NULL;
    }
    if (!reply || !flight->leased) { /* joined by key then */
        flight->leased = false;
        memset(flight->lease, 0, sizeof(flight->lease));
    }
    Py_XDECREF(reply);
    return redlane_fill_lead(fill, flight);
}

PyObject *
redlane_fill_refresh(RedlaneFill *fill, RedlaneArg key)
{
    PyObject *value = NULL;

    if (redlane_tool_resolve(fill->tool) == 0 && redlane_fill_tags_begin(fill) == 0) {
        value = refresh_key(fill, key);
    }
    redlane_fill_tags_end(fill);
    return value;
}
