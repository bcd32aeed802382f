/* Command vectors made from Python objects: a growing argv whose bytes stay where they
 * are (in str and bytes objects, or in its own scratch) until cleared.
 *
 * Executors copy what they need before they give up the GIL; buffers that can change
 * (bytearray, memoryview) are copied here, so a change meanwhile can do no harm. */
#ifndef REDLANE_PY_ARGS_H
#define REDLANE_PY_ARGS_H

#include <stdint.h>

#include "core/vector.h"
#include "py/python.h"

#define REDLANE_ARGS_INLINE 8
#define REDLANE_ARGS_SCRATCH 96

typedef struct {
    RedlaneArg *argv; /* inline_argv, or malloc'd once there are more */
    size_t argc;
    size_t capacity;
    PyObject *held; /* list of objects that own bytes in argv, or NULL */
    size_t scratch_used;
    RedlaneArg inline_argv[REDLANE_ARGS_INLINE];
    char scratch[REDLANE_ARGS_SCRATCH]; /* formatted numbers */
} RedlaneArgs;

/* Starts an argv with a command's name. */
static inline void
redlane_args_start(RedlaneArgs *args, RedlaneArg name)
{
    args->argv = args->inline_argv;
    args->argc = 1;
    args->capacity = REDLANE_ARGS_INLINE;
    args->held = NULL;
    args->scratch_used = 0;
    args->inline_argv[0] = name;
}

void redlane_args_init(RedlaneArgs *args, const RedlaneCommand *command);

/* Frees what an argv outgrew or held; it can be started again. */
void redlane_args_release(RedlaneArgs *args);

static inline void
redlane_args_clear(RedlaneArgs *args)
{
    if (unlikely(args->held || args->argv != args->inline_argv)) {
        redlane_args_release(args);
    }
}

/* Makes room for one more argument than there are. RAISES_NEG */
int redlane_args_grow(RedlaneArgs *args);

/* A borrowed view of a str (UTF-8) or bytes. RAISES_NEG: TypeError for another type,
 * UnicodeEncodeError for a lone surrogate. */
int redlane_arg_from_text_slow(PyObject *object, RedlaneArg *arg);

/* The same; a compact ASCII str, as most keys are, and bytes cost no call. */
static inline int
redlane_arg_from_text(PyObject *object, RedlaneArg *arg)
{
    if (likely(PyUnicode_CheckExact(object) && PyUnicode_IS_COMPACT_ASCII(object))) {
        arg->data = (const char *)PyUnicode_1BYTE_DATA(object);
        arg->size = (size_t)PyUnicode_GET_LENGTH(object);
        return 0;
    }
    if (PyBytes_CheckExact(object)) {
        arg->data = PyBytes_AS_STRING(object);
        arg->size = (size_t)PyBytes_GET_SIZE(object);
        return 0;
    }
    return redlane_arg_from_text_slow(object, arg);
}

/* Each appends one argument. RAISES_NEG
 * An object is str (UTF-8), bytes, int, float or a buffer; anything else, bool and
 * None included, is a TypeError; a lone surrogate is a UnicodeEncodeError; NaN and the
 * infinities are a ValueError. The object must outlive the argv: a caller's argument
 * does, an element of a container is given to redlane_args_hold. */
int redlane_args_add_object_slow(RedlaneArgs *args, PyObject *object);
int redlane_args_add_bytes(RedlaneArgs *args, const char *data, size_t size);
int redlane_args_add_int64(RedlaneArgs *args, int64_t value);

static inline int
redlane_args_add_object(RedlaneArgs *args, PyObject *object)
{
    if (likely((PyUnicode_CheckExact(object) && PyUnicode_IS_COMPACT_ASCII(object)) ||
               PyBytes_CheckExact(object)) &&
        likely(args->argc < args->capacity)) {
        return redlane_arg_from_text(object, &args->argv[args->argc++]);
    }
    return redlane_args_add_object_slow(args, object);
}

#define redlane_args_add_literal(args, text) \
    redlane_args_add_bytes((args), (text), sizeof(text) - 1)

/* A score or a score's bound: as an object, but the infinities are allowed. */
int redlane_args_add_score(RedlaneArgs *args, PyObject *object);

/* An int (or what has __index__) within int64; a TypeError, for bool too, or
 * OverflowError names `name`. */
int redlane_args_add_int(RedlaneArgs *args, PyObject *object, const char *name);

/* All elements of an iterable, or a single str or bytes-like one. */
int redlane_args_add_all(RedlaneArgs *args, PyObject *iterable);

/* Keeps `object` alive until the argv is cleared. RAISES_NEG */
int redlane_args_hold(RedlaneArgs *args, PyObject *object);

/* The (key, value) pairs of a mapping as a list that the argv holds; BORROWED, NULL
 * with an exception set. The list is ours alone, so no user code can change it. */
PyObject *redlane_args_items(RedlaneArgs *args, PyObject *mapping);

/* One element of that list, checked to be a pair. RAISES_NEG */
int redlane_args_item(PyObject *items, Py_ssize_t index, PyObject **key,
                      PyObject **value);

/* The argv as a vector; BORROWED from args. */
static inline RedlaneVector
redlane_args_vector(const RedlaneArgs *args, const RedlaneCommand *command)
{
    return (RedlaneVector){args->argv, args->argc, command};
}

/* TTL arguments in seconds: int, float (fractions count), timedelta, or a text with
 * units (core/duration.h); converted to milliseconds. bool, NaN, infinite, <= 0 or
 * beyond what Redis can add to its clock: TypeError or ValueError that names `name`.
 * RAISES_NEG */
int redlane_args_ttl_ms(PyObject *object, const char *name, int64_t *milliseconds);

/* The same for an argument in milliseconds. RAISES_NEG */
int redlane_args_period_ms(PyObject *object, const char *name, int64_t *milliseconds);

/* A moment: seconds (`scale` 1000) or milliseconds (`scale` 1) since 1970, or a
 * datetime. Errors as above, but a moment in the past is allowed. RAISES_NEG */
int redlane_args_moment_ms(PyObject *object, const char *name, int64_t scale,
                           int64_t *milliseconds);

#endif
