/* Stored values: what a serializer made, compressed and sealed where the cache's
 * options say so. A value that needs neither is stored as it is, plain JSON as a rule.
 *
 *   value ── serializer ──▶ bytes ── compress ──▶ content ── header, seal ──▶ stored
 *
 * What is read may have been written by anybody. A value is looked at in the other
 * order, and nothing behind a seal that is missing or wrong: it is unreadable.
 *
 * Under the GIL; runs Python code. */
#ifndef REDLANE_TYPES_ENVELOPE_H
#define REDLANE_TYPES_ENVELOPE_H

#include "core/envelope.h"
#include "types/serializer.h"

/* Options of a cache, as they were given (None or NULL: not at all): `seal`, keys;
 * `compress`, "zlib"; `compress_above`, the smallest number of bytes that are left as
 * they are. Its serializer is there already. RAISES_NEG */
int redlane_envelope_init(RedlaneSerializer *serializer, PyObject *compress,
                          PyObject *compress_above, PyObject *seal);

/* What a value is stored with. */
typedef struct {
    RedlaneArg key;                /* the whole key, which a seal binds the value to */
    int64_t ttl_ms;                /* 0: none; a sealed value says when it ends */
    RedlaneResultType *type;       /* of a function's results, or NULL */
    const RedlaneEnvelope *header; /* what else its header says, or NULL */
} RedlaneWrapping;

/* New bytes to store; NULL: as redlane_serializer_dumps. */
PyObject *redlane_envelope_dumps(RedlaneSerializer *serializer,
                                 const RedlaneWrapping *wrapping, PyObject *value);

/* The same; and what will be read from them takes the place of `*value`. */
PyObject *redlane_envelope_keep(RedlaneSerializer *serializer,
                                const RedlaneWrapping *wrapping, PyObject **value);

/* What a function raised, as bytes of the caller's own that begin with
 * REDLANE_MARK_RAISED, ready to be stored: sealed where values are. STEALS data */
PyObject *redlane_envelope_wrap_raised(RedlaneSerializer *serializer,
                                       const RedlaneWrapping *wrapping, PyObject *data);

/* How a stored value is to be read, and what it said. */
typedef struct {
    RedlaneArg key;
    RedlaneResultType *type;
    uint64_t size_max; /* more bytes than this no value may claim to have */
    /* set by loads; the header points into `stored` */
    RedlaneEnvelope header;
    bool bad_seal;
    bool raised; /* sealed, and no value: the bytes that were given to wrap_raised */
} RedlaneOpening;

/* Whether stored bytes begin as a lease, a marked or a wrapped value does. Any others
 * are what the serializer wrote, as most are: without a seal redlane_serializer_loads
 * reads them. */
static inline bool
redlane_envelope_is_marked(PyObject *stored)
{
    const char *data = PyBytes_AS_STRING(stored); /* ends with a NUL */

    return unlikely(data[0] == REDLANE_MARK[0]) &&
           strncmp(data, REDLANE_MARK, REDLANE_MARK_SIZE) == 0;
}

/* The value in stored bytes, bare or not; NULL: as redlane_serializer_loads. */
PyObject *redlane_envelope_loads(RedlaneSerializer *serializer, RedlaneOpening *opening,
                                 PyObject *stored);

/* The same value with another end (`wrapping->ttl_ms`), sealed anew by the first key;
 * NULL: as redlane_serializer_loads. Only with a seal. */
PyObject *redlane_envelope_reseal(RedlaneSerializer *serializer,
                                  const RedlaneWrapping *wrapping, PyObject *stored);

/* Whether the header says that its time is over by this process's clock. */
bool redlane_envelope_is_expired(const RedlaneEnvelope *header);

/* A stored string that begins with a lease's mark; one that holds what a function
 * raised. */
bool redlane_envelope_is_lease(const char *data, size_t size);
bool redlane_envelope_is_raised(const char *data, size_t size);

#endif
