/* Filling a key: read it, or compute its value under a lease and store that only while
 * the lease is still there. Under the GIL; runs Python code and gives the GIL up.
 *
 *   SET key lease NX GET PX ──▶ a value ─────▶ hit (unreadable: dropped, asked again)
 *            │                  our lease ───▶ compute; FILL stores it if the lease is
 *            │                                 still there
 *            │                  a lease of this process ──▶ wait for that flight
 *            │                  another's lease ──▶ wait for its value, ask again when
 *            │                                     it lapsed; else compute
 *            └─ refused (OOM, READONLY, …) ──▶ GET; compute, store nothing
 *
 * Whatever deletes or overwrites the key removes the lease too, so what was computed
 * before an invalidation is never stored after it. */
#ifndef REDLANE_TYPES_FILL_H
#define REDLANE_TYPES_FILL_H

#include "store/near_values.h"
#include "types/envelope.h"
#include "types/level0.h"
#include "types/tags.h"

/* hits and near_hits are told apart: a near hit counts one thing. */
typedef struct {
    uint64_t hits, near_hits, misses, sets, deletes, errors, waits, uncached;
    uint64_t stale, refreshes, refresh_errors;
    uint64_t corrupted, bad_seals; /* the second are among the first */
    uint64_t bytes_read, bytes_written;
} RedlaneCounts;

typedef struct RedlaneFresh RedlaneFresh;   /* types/fresh.h */
typedef struct RedlaneFlight RedlaneFlight; /* types/flight.h */

typedef struct {
    RedlaneTool *tool;
    RedlaneSerializer *serializer;
    RedlaneResultType *type; /* of a function's results, or NULL */
    RedlaneCounts *counts;   /* of the cache */
    RedlaneCounts *own;      /* of the function; may be the same as a spare one */
    int64_t ttl_ms;          /* 0: none */
    bool single_flight;      /* callers in this process wait for each other */
    bool strict;             /* a value that cannot be serialised raises */
    bool *logged;            /* such a value was logged before */
    PyObject *shown;         /* whose value it is, for that line */
    /* Computes the value: a new reference, or NULL with an exception set. */
    PyObject *(*load)(void *context);
    /* 1: store it, 0: do not, -1: an exception is set. May be NULL: always. */
    int (*keep)(void *context, PyObject *value);
    /* What to store for the exception that is set, and for how long: new bytes, or NULL
     * for nothing. Keeps the exception. May be NULL: always nothing. */
    PyObject *(*fail)(void *context, int64_t *ttl_ms);
    /* -1: the exception in such bytes is set; 0: they are unreadable. May be NULL: they
     * are a miss. */
    int (*raise)(void *context, PyObject *stored);
    /* A stored value that may be used. May be NULL: all. */
    bool (*accept)(PyObject *value);
    void *context; /* of load, keep, fail and raise */
    /* Near values: */
    RedlaneNear *near; /* BORROWED from the tool's link; NULL: none are read or kept */
    int64_t near_ttl_ms;
    RedlaneNearForm form;  /* of objects that may be handed out more than once */
    bool share;            /* all may be */
    RedlaneLevel0 *level0; /* of the function; or NULL */
    const RedlaneLevel0Key *arguments;
    RedlaneFresh *fresh; /* of this call, where its options ask for it; or NULL */
    /* Tags: */
    PyObject *namespaces; /* BORROWED tuple of generation keys, or NULL */
    /* Adds the tags of this value. RAISES_NEG. May be NULL: none. */
    int (*add_tags)(void *context, RedlaneTags *tags);
    RedlaneTags *tags;    /* what the value must carry; NULL: nothing */
    RedlaneTags **extras; /* what it carries besides is put there; NULL: is not kept */
    const RedlaneTags *shared; /* that of several values, asked for at once; or NULL */
} RedlaneFill;

/* A read of one key that may bring a near value. */
typedef struct {
    RedlaneLink *link; /* held: the tool may get another while this one is asked */
    RedlaneNearRead read;
    RedlaneNearTicket ticket;
} RedlaneNearFill;

#define REDLANE_FILL_COUNT(fill, field, n) \
    ((fill)->counts->field += (uint64_t)(n), (fill)->own->field += (uint64_t)(n))

/* The value of a key, from the store or computed. A new reference, or NULL. */
PyObject *redlane_fill_get(RedlaneFill *fill, RedlaneArg key);

/* Computes the value anew, whatever is there, and stores it. */
PyObject *redlane_fill_refresh(RedlaneFill *fill, RedlaneArg key);

/* What the two above are made of, for those that compute without a lease in the key's
 * place. The reply to a lease command, or NULL; see fill.c. */
PyObject *redlane_fill_send_lease(const RedlaneFill *fill, RedlaneArg key,
                                  const char *lease, RedlaneAnswer *answer,
                                  RedlaneNearFill *near_fill, PyObject **pttl);

/* fill_wrap.c: calls the loader, inside the flight. */
PyObject *redlane_fill_load(const RedlaneFill *fill, const RedlaneFlight *flight);

/* Takes a lease that `flight` placed as `name` away again, so that nobody waits for it;
 * keeps the exception that is set, but an interruption in here takes its place. One
 * that is cancelled does not wait for the answer. */
void redlane_fill_release(const RedlaneFill *fill, const RedlaneFlight *flight,
                          RedlaneArg name);

/* New bytes to store for a result; the decoded form takes its place. NULL: nothing is
 * to be stored, or an exception is set. */
PyObject *redlane_fill_wrap(const RedlaneFill *fill, RedlaneArg key, PyObject **value);

/* Computes as the leader of `flight`, which ends here; or for this caller alone. */
PyObject *redlane_fill_lead(const RedlaneFill *fill, RedlaneFlight *STEALS flight);
PyObject *redlane_fill_compute_alone(const RedlaneFill *fill, RedlaneArg key);

/* fill_join.c: waits for another thread's flight, which is released here. 1: *value is
 * set, 0: it gave nothing, -1: an exception is set, 2: ask again. */
int redlane_fill_join(const RedlaneFill *fill, RedlaneFlight *STEALS flight,
                      PyObject **value);

/* The value of a flight that has one: 1; 0 where it is another function's, and of no
 * use here; 2 where it is of older generations than we know of: ask again; or -1. */
int redlane_fill_open_flight(const RedlaneFill *fill, const RedlaneFlight *flight,
                             PyObject **value);

/* fill_read.c: reads a key. 1: *value is a new reference; 0: nothing there, a lease,
 * another type, or of no use (then dropped); -1: an exception is set. Counts errors,
 * bytes and what is unreadable, not hits and misses. */
int redlane_fill_read(const RedlaneFill *fill, RedlaneArg key, PyObject **value);

/* The same for a reply that is at hand (bytes, None or an exception instance); but 2
 * for a value that was of no use, unreadable or past its own time, and is dropped now;
 * and REDLANE_FILL_OLD for one past its time that is still of some use: *value is set.
 */
#define REDLANE_FILL_OLD 3

int redlane_fill_decode(const RedlaneFill *fill, RedlaneArg key, PyObject *reply,
                        PyObject **value);

/* Whether the near cache is still that of the tool's link, and so is there: after
 * whatever gave up the GIL the tool may have another. */
static inline bool
redlane_fill_has_near(const RedlaneFill *fill)
{
    return fill->near && fill->near == fill->tool->near;
}

/* fill_near.c: values that are near. 1: *value is a new reference, and counted; 0:
 * there is none; -1: an exception is set. */
int redlane_fill_near_get(const RedlaneFill *fill, RedlaneArg key, PyObject **value);

/* The same for one that nothing confirms now; not counted. */
int redlane_fill_near_get_stale(const RedlaneFill *fill, RedlaneArg key,
                                PyObject **value);

/* Before the read is sent. False: do without, nothing may be kept. */
bool redlane_fill_near_begin(const RedlaneFill *fill, RedlaneArg key,
                             RedlaneNearFill *near_fill);

/* Where that was true, in the end. */
void redlane_fill_near_end(RedlaneNearFill *near_fill);

/* After it: the stored bytes, what they decoded to, and the reply of PTTL. RAISES_NEG:
 * only an interruption. */
int redlane_fill_near_keep(const RedlaneFill *fill, RedlaneArg key,
                           const RedlaneNearFill *near_fill, PyObject *pttl,
                           PyObject *stored, PyObject *value);

/* fill_tags.c: gives a fill the tags that its namespaces and the value ask for; to be
 * ended in any case. RAISES_NEG */
int redlane_fill_tags_begin(RedlaneFill *fill);
void redlane_fill_tags_end(RedlaneFill *fill);

/* Runs a command whose first argument is the key, in one write with PTTL (where there
 * is a `near_fill`) and what reads the generations (where there are tags; with `make`
 * it makes them too). A new reference, or NULL. */
PyObject *redlane_fill_ask(const RedlaneFill *fill, RedlaneCommandId id,
                           const RedlaneArg *argv, size_t argc,
                           RedlaneToolManner manner, RedlaneNearFill *near_fill,
                           PyObject **pttl, bool make);

/* Whether a value with this header is of the generations that are now, of all that it
 * carries: 1, 0. RAISES_NEG */
int redlane_fill_tags_check(const RedlaneFill *fill, const RedlaneEnvelope *header);

/* For several values that were read at once: asks for the generations of what they
 * carry besides, in one round trip for as many as fit. `*next` is the first of `values`
 * (a list of replies) that they are for, and then the first that they are not for. To
 * be freed; NULL where there are none (each value asks for its own, if it has any), or
 * with an exception set. */
RedlaneTags *redlane_fill_tags_share(const RedlaneFill *fill, PyObject *values,
                                     Py_ssize_t *next);

/* Collects the tickets of all tags of stored bytes into `tickets` (which has room for
 * REDLANE_ENVELOPE_TAGS_MAX): how many, or -1 where one is missing (no exception). */
int redlane_fill_tags_tickets(const RedlaneFill *fill, PyObject *stored,
                              RedlaneNearTicket *tickets);

/* Where the TTL has become longer than what the generations were asked for: lets them
 * live as long. RAISES_NEG */
int redlane_fill_tags_prolong(const RedlaneFill *fill);

/* What was learned of stored bytes besides their value. */
typedef struct {
    bool bad_seal;          /* why they are unreadable */
    bool raised;            /* it is none: the bytes of what a function raised */
    bool useful;            /* past its time, but others may use it still */
    RedlaneEnvelope header; /* without fields where there is none */
} RedlaneFillSeen;

/* The value in stored bytes that are no lease: 1; when its time is over 0, or
 * REDLANE_FILL_OLD with a value that is still of some use; -1 with an exception set,
 * SerializationError where they are unreadable. Counts nothing. */
int redlane_fill_open(const RedlaneFill *fill, RedlaneArg key, PyObject *stored,
                      PyObject **value, RedlaneFillSeen *seen);

/* Whether the exception that is set says that the server takes no writes now (OOM,
 * READONLY, MISCONF, NOREPLICAS): a cache goes on without storing. */
bool redlane_fill_is_refusal(RedlaneState *state);

/* Clears an error of the link or the server, and counts it: 0; any other exception
 * stays: -1. */
int redlane_fill_forgive(const RedlaneFill *fill);

#endif
