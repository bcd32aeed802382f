/* Serialisers: a value to bytes, and back. Under the GIL; runs Python code. */
#ifndef REDLANE_TYPES_SERIALIZER_H
#define REDLANE_TYPES_SERIALIZER_H

#include "py/seal.h"
#include "types/result_type.h"

/* Kept in sealed values: what one serializer wrote no other reads. Numbers stay. */
typedef enum {
    REDLANE_SERIALIZER_JSON = 1,
    REDLANE_SERIALIZER_RAW = 2,     /* bytes as they are */
    REDLANE_SERIALIZER_MSGPACK = 3, /* msgspec.msgpack */
    REDLANE_SERIALIZER_CUSTOM = 4,  /* an object with dumps and loads */
    REDLANE_SERIALIZER_PICKLE = 5,  /* reads sealed values only */
} RedlaneSerializerKind;

typedef struct {
    RedlaneState *state; /* BORROWED */
    RedlaneSerializerKind kind;
    PyObject *shown;         /* its name, or the object given: for repr */
    PyObject *dumps, *loads; /* of MSGPACK, CUSTOM and PICKLE */
    /* what types/envelope.c puts round the bytes */
    RedlaneSeal *seal;         /* or NULL */
    Py_ssize_t compress_above; /* bytes; -1: never */
    bool warned;               /* of a bad seal */
} RedlaneSerializer;

/* `which` is "json", "raw", "msgpack", "pickle" or an object with dumps and loads.
 * RAISES_NEG */
int redlane_serializer_init(RedlaneSerializer *serializer, RedlaneState *state,
                            PyObject *which);

/* Imports what its dumps and loads need; called once, before they are. A module that
 * another thread imports while this one forks stays locked in the child for ever, so it
 * is best done early. RAISES_NEG */
int redlane_serializer_prepare(RedlaneSerializer *serializer);
int redlane_serializer_traverse(RedlaneSerializer *serializer, visitproc visit,
                                void *arg);
void redlane_serializer_clear(RedlaneSerializer *serializer);

/* New bytes, or NULL: SerializationError (the type is named, never the value),
 * MemoryError, or what is no Exception (KeyboardInterrupt). `type` is that of a
 * function's results, or NULL. */
PyObject *redlane_serializer_dumps(RedlaneSerializer *serializer,
                                   RedlaneResultType *type, PyObject *value);

/* The value in these bytes, or NULL with SerializationError when they are unreadable;
 * other errors as above. `bare`: they are stored as they are, so that digits may be
 * what INCRBY left there. */
PyObject *redlane_serializer_loads(RedlaneSerializer *serializer,
                                   RedlaneResultType *type, PyObject *data, bool bare);

/* The name by which functions' return types are asked for, or NULL where there are
 * none. */
const char *redlane_serializer_typed_name(const RedlaneSerializer *serializer);

/* Whether these bytes are what INCRBY leaves: 64 bits as decimal digits. */
bool redlane_serializer_is_number(PyObject *data);

/* serializer_json.c: JSON as the standard library defines it, by msgspec where that
 * gives the same. Any exception. */
PyObject *redlane_json_dumps(RedlaneState *state, PyObject *value);
PyObject *redlane_json_loads(RedlaneState *state, PyObject *stored);

int redlane_json_prepare(RedlaneState *state);

#endif
