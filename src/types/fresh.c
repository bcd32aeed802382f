/* Freshness: what may be served. Lock: the GIL. */
#include "types/fresh.h"

#include <math.h>

#include "core/clock.h"
#include "core/hash.h"
#include "py/errors.h"
#include "py/log.h"
#include "py/state.h"

/* A server's own limit is far above, even from now on. */
#define PX_MAX (INT64_C(1) << 53)

#define REPORT_EVERY (60 * REDLANE_NS_PER_S)

/* Where the nonce ends: before it stand the head and the times that are there. */
static size_t
head_size(unsigned fields)
{
    size_t size = REDLANE_MARK_SIZE + 3;

    size += fields & REDLANE_ENVELOPE_EXPIRES ? 8 : 0;
    size += fields & REDLANE_ENVELOPE_STORED ? 8 : 0;
    size += fields & REDLANE_ENVELOPE_COMPUTE ? 8 : 0;
    return size + 8;
}

static bool
is_ours(const RedlaneEnvelope *header)
{
    return header->fields & REDLANE_ENVELOPE_EXPIRES &&
           header->fields & REDLANE_ENVELOPE_NONCE;
}

bool
redlane_fresh_look(PyObject *stored, RedlaneFreshOld *old)
{
    RedlaneEnvelope header;

    if (!PyBytes_Check(stored) ||
        redlane_envelope_read(PyBytes_AS_STRING(stored),
                              (size_t)PyBytes_GET_SIZE(stored),
                              &header) != REDLANE_STORED_ENVELOPE ||
        !is_ours(&header)) {
        return false;
    }
    *old = (RedlaneFreshOld){
        .expires_at = header.expires_at,
        .compute_us = header.compute_us,
        .nonce = header.nonce,
        .size = head_size(header.fields),
    };
    memcpy(old->head, PyBytes_AS_STRING(stored), old->size);
    return true;
}

static int64_t
longest_use(const RedlaneFresh *fresh)
{
    return fresh->stale_ms > fresh->error_ms ? fresh->stale_ms : fresh->error_ms;
}

const RedlaneEnvelope *
redlane_fresh_header(const RedlaneFill *fill, RedlaneEnvelope *header)
{
    const RedlaneFresh *fresh = fill->fresh;
    int64_t now = redlane_clock_unix_ms();
    RedlaneSeed seed;

    if (!fresh || fill->ttl_ms == 0) {
        return header->fields ? header : NULL;
    }
    redlane_hash_seed(&seed);
    header->fields |= REDLANE_ENVELOPE_EXPIRES | REDLANE_ENVELOPE_NONCE;
    header->expires_at =
        fill->ttl_ms > INT64_MAX - now ? INT64_MAX : now + fill->ttl_ms;
    header->nonce = seed.words[0];
    if (fresh->early) {
        header->fields |= REDLANE_ENVELOPE_COMPUTE;
        header->compute_us = (redlane_clock_now() - fresh->started) / 1000;
    }
    return header;
}

int64_t
redlane_fresh_px(const RedlaneFill *fill)
{
    int64_t more;

    if (!fill->fresh || fill->ttl_ms == 0 || fill->ttl_ms >= PX_MAX) {
        return fill->ttl_ms;
    }
    more = longest_use(fill->fresh);
    return more > PX_MAX - fill->ttl_ms ? PX_MAX : fill->ttl_ms + more;
}

bool
redlane_fresh_is_useful(const RedlaneFill *fill, const RedlaneEnvelope *header)
{
    return fill->fresh && is_ours(header) &&
           redlane_clock_unix_ms() - header->expires_at < longest_use(fill->fresh);
}

/* When this reader shall have the value refreshed: the rule of "Optimal Probabilistic
 * Cache Stampede Prevention" (Vattani, Chierichetti, Lowenstein, VLDB 2015) with beta
 * 1, drawn once for a value that stays near instead of at each hit. */
static int64_t
draw_moment(const RedlaneFreshOld *old)
{
    RedlaneSeed seed;
    double share, ahead;

    redlane_hash_seed(&seed);
    share = ((double)(seed.words[1] >> 11) + 0.5) * 0x1p-53; /* in (0, 1) */
    ahead = -log(share) * (double)old->compute_us / 1000;
    return ahead < (double)old->expires_at ? old->expires_at - (int64_t)ahead : 0;
}

int
redlane_fresh_take(const RedlaneFill *fill, RedlaneArg key, PyObject *stored, bool past)
{
    RedlaneFresh *fresh = fill->fresh;
    int64_t now = redlane_clock_unix_ms();
    RedlaneFreshOld old;

    fresh->served_stale = past;
    fresh->near_until = 0;
    if (!redlane_fresh_look(stored, &old)) {
        return !past;
    }
    if (fresh->rescue) {
        return 1;
    }
    if (!past) {
        int64_t moment = fresh->early ? draw_moment(&old) : old.expires_at;

        if (moment <= now) {
            return redlane_fresh_start(fill, key, &old) < 0 ? -1 : 1;
        }
        fresh->near_until = moment;
        return 1;
    }
    if (fresh->soft_ms || now - old.expires_at >= fresh->stale_ms) {
        return 0;
    }
    return redlane_fresh_start(fill, key, &old) < 0 ? -1 : 1;
}

int64_t
redlane_fresh_near_ms(const RedlaneFill *fill, int64_t left)
{
    int64_t until;

    if (likely(!fill->fresh || !fill->fresh->near_until)) {
        return left;
    }
    until = fill->fresh->near_until - redlane_clock_unix_ms();
    until = until < 0 ? 0 : until;
    return until < left ? until : left;
}

void
redlane_fresh_count(const RedlaneFill *fill)
{
    if (unlikely(fill->fresh && fill->fresh->served_stale)) {
        REDLANE_FILL_COUNT(fill, stale, 1);
    }
    else {
        REDLANE_FILL_COUNT(fill, hits, 1);
    }
}

int
redlane_fresh_unconfirmed(const RedlaneFill *fill, RedlaneArg key,
                          RedlaneFlight **leased, PyObject **value)
{
    static const RedlaneFreshOld none;
    RedlaneFresh *fresh = fill->fresh;
    int result;

    if (fresh->behind || (!fresh->stale_ms && !fresh->error_ms) || fresh->kept) {
        return 0;
    }
    result = redlane_fill_near_get_stale(fill, key, value);
    if (result == 1 && !fresh->stale_ms) {
        fresh->kept = *value; /* giving the lease back ends what is near */
        *value = NULL;
        return 0;
    }
    if (result == 1) {
        RedlaneFlight *flight = *leased;

        *leased = NULL;
        if (flight && fresh->spawn(fill->context, flight, &none) < 0) {
            Py_CLEAR(*value);
            return -1;
        }
        REDLANE_FILL_COUNT(fill, stale, 1);
    }
    return result;
}

void
redlane_fresh_report(const RedlaneFill *fill)
{
    int64_t *reported = fill->fresh->reported, now = redlane_clock_now();
    PyObject *type, *error, *traceback;

    REDLANE_FILL_COUNT(fill, refresh_errors, 1);
    PyErr_Fetch(&type, &error, &traceback);
    if (type && (*reported == 0 || now - *reported >= REPORT_EVERY)) {
        *reported = now;
        redlane_log_event(
            fill->tool->state, REDLANE_LOG_WARNING, "redlane.cache.refresh_failed",
            "%U failed with %s; what is cached is served until it is too old",
            fill->shown, ((PyTypeObject *)type)->tp_name);
    }
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
}

/* As redlane_fill_near_get. */
static int
find_old(const RedlaneFill *fill, RedlaneArg key, PyObject **value)
{
    RedlaneFresh *fresh = fill->fresh;
    int result;

    if (fresh->kept) {
        *value = fresh->kept;
        fresh->kept = NULL;
        fresh->served_stale = true;
        return 1;
    }
    fresh->rescue = true;
    result = redlane_fill_read(fill, key, value);
    fresh->rescue = false;
    return result;
}

PyObject *
redlane_fresh_rescue(const RedlaneFill *fill, RedlaneArg key)
{
    RedlaneFresh *fresh = fill->fresh;
    PyObject *type, *error, *traceback, *value = NULL;

    if (!fresh->error_ms || fresh->answered || fresh->behind ||
        !PyErr_ExceptionMatches(PyExc_Exception)) {
        return NULL;
    }
    PyErr_Fetch(&type, &error, &traceback);
    if (find_old(fill, key, &value) != 1) {
        redlane_errors_restore(type, error, traceback);
        return NULL;
    }
    redlane_fresh_count(fill);
    PyErr_Restore(type, error, traceback);
    redlane_fresh_report(fill);
    return value;
}

PyObject *
redlane_fresh_end(const RedlaneFill *fill, RedlaneArg key, PyObject *value)
{
    if (unlikely(!value)) {
        value = redlane_fresh_rescue(fill, key);
    }
    Py_CLEAR(fill->fresh->kept);
    return value;
}
