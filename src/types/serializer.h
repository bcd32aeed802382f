/* Serialisers: a value to the bytes that are stored, and back. Under the GIL; runs
 * Python code. */
#ifndef REDLANE_TYPES_SERIALIZER_H
#define REDLANE_TYPES_SERIALIZER_H

#include <stdbool.h>

#include "py/python.h"

typedef enum {
    REDLANE_SERIALIZER_JSON,
    REDLANE_SERIALIZER_RAW,     /* bytes as they are */
    REDLANE_SERIALIZER_MSGPACK, /* msgspec.msgpack */
    REDLANE_SERIALIZER_CUSTOM,  /* an object with dumps and loads */
} RedlaneSerializerKind;

typedef struct {
    RedlaneState *state; /* BORROWED */
    RedlaneSerializerKind kind;
    PyObject *shown;         /* its name, or the object given: for repr */
    PyObject *dumps, *loads; /* of MSGPACK and CUSTOM */
} RedlaneSerializer;

/* `which` is "json", "raw", "msgpack" or an object with dumps and loads. RAISES_NEG */
int redlane_serializer_init(RedlaneSerializer *serializer, RedlaneState *state,
                            PyObject *which);

/* Imports what its dumps and loads need. A module that another thread imports while
 * this one forks stays locked in the child for ever, so it is best done early.
 * RAISES_NEG */
int redlane_serializer_prepare(RedlaneSerializer *serializer);
int redlane_serializer_traverse(RedlaneSerializer *serializer, visitproc visit,
                                void *arg);
void redlane_serializer_clear(RedlaneSerializer *serializer);

/* New bytes to store, or NULL: SerializationError (the type is named, never the value),
 * MemoryError, or what is no Exception (KeyboardInterrupt). */
PyObject *redlane_serializer_dumps(RedlaneSerializer *serializer, PyObject *value);

/* The value in stored bytes, or NULL with SerializationError when they are unreadable;
 * other errors as above. */
PyObject *redlane_serializer_loads(RedlaneSerializer *serializer, PyObject *stored);

/* serializer_json.c: JSON as the standard library defines it, by msgspec where that
 * gives the same. Any exception. */
PyObject *redlane_json_dumps(RedlaneState *state, PyObject *value);
PyObject *redlane_json_loads(RedlaneState *state, PyObject *stored);

int redlane_json_prepare(RedlaneState *state);

/* A stored string that begins with a lease's mark. */
bool redlane_serializer_is_lease(const char *data, size_t size);

/* One that holds what a function raised. */
bool redlane_serializer_is_raised(const char *data, size_t size);

#endif
