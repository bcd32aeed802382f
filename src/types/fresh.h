/* Freshness: values that are of use past their time, and refreshes before it.
 *
 *   stored ───── its TTL ─────▶ expires_at ── stale ──▶ │
 *                     early: a draw     │── max_stale (on_error) ──▶ the key's own end
 *   hit; perhaps refreshed behind       serve, refresh behind; where the function fails
 *
 * Such a value has an envelope that says when its time is over, and a nonce. A refresh
 * leaves it in its place and replaces it by a script that looks for that nonce, so what
 * was computed before the value went is never stored after it. One refresh at a time
 * holds a lock, a lease in a key of its own,
 *
 *   {key} ff 'R' 'L' 'R' {nonce in hex}
 *
 * whose name no text can have, and which a refresh that failed leaves in place for a
 * second, so that nobody tries again at once.
 *
 * What is near but unconfirmed is of use while the server is away, within its TTL.
 *
 * Under the GIL; runs Python code. fresh.c: what may be served; fresh_refresh.c: who
 * computes. */
#ifndef REDLANE_TYPES_FRESH_H
#define REDLANE_TYPES_FRESH_H

#include "types/fill.h"
#include "types/flight.h"

#define REDLANE_FRESH_HEAD 38 /* mark, kind, version, fields, three times, nonce */

/* The stored value that a refresh replaces: what its bytes begin with. */
typedef struct {
    int64_t expires_at; /* Unix ms */
    int64_t compute_us;
    uint64_t nonce;
    size_t size; /* of head; 0: none, the refresh has a lease in the key's place */
    char head[REDLANE_FRESH_HEAD];
} RedlaneFreshOld;

/* The options, and what one call has seen. */
struct RedlaneFresh {
    int64_t stale_ms; /* past its time a value is served at once for so long … */
    int64_t error_ms; /* … and for so long where the function fails */
    int64_t soft_ms; /* 0, or how long a caller with an old value waits for a new one */
    bool early;      /* refreshed before its time is over, at random */
    /* Lets a worker run redlane_fresh_run. STEALS flight, which ends if nobody does.
     * RAISES_NEG: only what a signal handler raises. */
    int (*spawn)(void *context, RedlaneFlight *flight, const RedlaneFreshOld *old);
    /* Whether the call's arguments still make this key. RAISES_NEG: only an
     * interruption. */
    int (*is_same)(void *context, RedlaneArg key);
    int64_t *reported; /* when a failure was logged last: CLOCK_MONOTONIC, or 0 */
    /* of this call: */
    bool behind;        /* it is a refresh: nobody waits for it */
    bool rescue;        /* the function failed: anything before its cap is served */
    bool away;          /* the last answer was not the server's */
    bool answered;      /* what the function raised is a result that is cached */
    bool served_stale;  /* what the last read brought is past its time */
    int64_t near_until; /* Unix ms: when to ask the server again; 0: at its end */
    int64_t started;    /* CLOCK_MONOTONIC: when the function began */
    PyObject *kept;     /* a near value for the case that the function fails, or NULL */
};

/* What the header of a new value must say, in `header`, which may say more already;
 * NULL where that is nothing. */
const RedlaneEnvelope *redlane_fresh_header(const RedlaneFill *fill,
                                            RedlaneEnvelope *header);

/* The TTL of its key: its own and how long it is of use after that. */
int64_t redlane_fresh_px(const RedlaneFill *fill);

/* Whether a value past its time may be served in some case. */
bool redlane_fresh_is_useful(const RedlaneFill *fill, const RedlaneEnvelope *header);

/* A value that was read: whether it may be served now. Sees to its refresh. `past`: its
 * time is over. RAISES_NEG */
int redlane_fresh_take(const RedlaneFill *fill, RedlaneArg key, PyObject *stored,
                       bool past);

/* How long the value that was just read may stay near: what is left of its TTL, or less
 * where it is to be refreshed before. */
int64_t redlane_fresh_near_ms(const RedlaneFill *fill, int64_t left);

/* A read that brought a value: a hit or a stale one. */
void redlane_fresh_count(const RedlaneFill *fill);

/* The server is away: a near value that it cannot confirm. `*leased` holds the lease in
 * the key's place, or is NULL, as it becomes where it is taken over. 1: *value is set.
 * 0: none that may be served before the function has failed; -1: an exception is set.
 */
int redlane_fresh_unconfirmed(const RedlaneFill *fill, RedlaneArg key,
                              RedlaneFlight **leased, PyObject **value);

/* After an exception: an old value in its place, or NULL with the exception set. */
PyObject *redlane_fresh_rescue(const RedlaneFill *fill, RedlaneArg key);

/* The end of a call that got `value`, or NULL with an exception set. STEALS value */
PyObject *redlane_fresh_end(const RedlaneFill *fill, RedlaneArg key, PyObject *value);

/* Counts the exception that is set, logs it (once a minute), and clears it. */
void redlane_fresh_report(const RedlaneFill *fill);

/* Whether stored bytes are a value that a refresh can replace. */
bool redlane_fresh_look(PyObject *stored, RedlaneFreshOld *old);

/* fresh_refresh.c: starts a refresh behind, unless this process has one under way.
 * RAISES_NEG: only what a signal handler raises. */
int redlane_fresh_start(const RedlaneFill *fill, RedlaneArg key,
                        const RedlaneFreshOld *old);

/* On the worker: computes and stores, if it is still wanted. Ends the flight; no
 * exception. STEALS flight */
void redlane_fresh_run(RedlaneFill *fill, RedlaneFlight *flight,
                       const RedlaneFreshOld *old);

/* A value past its time that must not be served at once: *value is the old one, and
 * becomes what the caller gets. 1: it is set, 2: ask again, -1: an exception is set. */
int redlane_fresh_compute(const RedlaneFill *fill, RedlaneArg key, PyObject *stored,
                          PyObject **value);

#endif
