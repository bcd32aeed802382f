/* Wire keys: `{prefix}:{name}:{module}:{arguments}` for the call of a cached function.
 * Under the GIL; may run Python code of the arguments' classes (never of subclasses of
 * built-in types).
 *
 * The arguments are bound to the signature, defaults filled in, and written as
 * type-tagged text that no two different lists of arguments share:
 *
 *   null true false 1 1.0 -0.0 nan "text" b"\x00" (1,) → (1)   [1,2] {"a":1} set(1,2)
 *   module/Class("text")  module/Enum.NAME  module/Dataclass(x=1)  UUID("…")
 *   *(3,4) for *args and **{"a":1} for **kwargs, where there are any
 *
 * Arguments of more than 200 bytes are replaced by '#' and the SHA-256 of that text; no
 * plain text is '#' and 64 hex digits. ':' and '%' in name and module are
 * percent-encoded. With a key of the function's own (wire_key_template.c) it is
 * `{prefix}:{key}`; `{namespace}:` stands behind the prefix where there is one. */
#ifndef REDLANE_TYPES_WIRE_KEY_H
#define REDLANE_TYPES_WIRE_KEY_H

#include <stdbool.h>

#include "core/buffer.h"
#include "py/python.h"

#define REDLANE_WIRE_KEY_PLAIN ((size_t)200)       /* longer arguments are hashed */
#define REDLANE_WIRE_KEY_LIMIT ((size_t)128 << 20) /* longer ones are an error */

/* What a key needs to know of a callable; made once. */
typedef struct {
    RedlaneState *state;        /* BORROWED */
    PyObject *head;             /* "{name}:{module}:", a str */
    PyObject *shown;            /* the qualified name, for messages */
    PyObject *names;            /* tuple of str: parameters but *args and **kwargs */
    PyObject *defaults;         /* tuple: one for each name, or no_default */
    PyObject *no_default;       /* the object that means none */
    PyObject *star, *stars;     /* names of *args and **kwargs, or NULL */
    Py_ssize_t positional_only; /* how many names are … */
    Py_ssize_t positional;      /* … these included */
    Py_ssize_t count;           /* length of names and defaults */
    bool *ignored;              /* one for each name, then *args and **kwargs */
    /* What a partial, a bound method or a callable object brings along; else NULL. */
    PyObject *carried;        /* tuple: positional arguments, then the values … */
    PyObject *carried_names;  /* tuple of str: … of these keywords */
    PyObject *make;           /* a callable that gives the key, or NULL */
    PyObject *texts, *fields; /* of a template: tuples of str and of indices; or NULL */
} RedlaneSignature;

/* How a function's keys shall look; each NULL where it is not given. */
typedef struct {
    PyObject *name;      /* takes the place of the qualified name */
    PyObject *namespace; /* stands before it */
    PyObject *key;       /* a template or a callable, in the place of all that */
    PyObject *ignore;    /* an iterable of parameter names */
} RedlaneKeyOptions;

/* Describes `function`; `*code` is a new reference to that of a coroutine function, or
 * NULL. RAISES_NEG */
int redlane_signature_init(RedlaneSignature *signature, RedlaneState *state,
                           PyObject *function, const RedlaneKeyOptions *options,
                           PyObject **code);
int redlane_signature_traverse(RedlaneSignature *signature, visitproc visit, void *arg);
void redlane_signature_clear(RedlaneSignature *signature);

/* Appends "{name}:{module}:{arguments}" of a call, or the key that the options made of
 * it. 1: done, 0: the arguments do not fit the signature (calling the function raises
 * the right TypeError), -1: an exception is set. The buffer's content is then
 * unspecified. */
int redlane_wire_key_append(const RedlaneSignature *signature, PyObject *const *args,
                            Py_ssize_t nargs, PyObject *kwnames, RedlaneBuffer *key);

/* Appends a glob that every key of the function matches, and few others. RAISES_NEG:
 * TypeError where only a callable knows the keys. */
int redlane_wire_key_pattern(const RedlaneSignature *signature, RedlaneBuffer *pattern);

/* Appends a text, its glob characters escaped. RAISES_NEG */
int redlane_wire_key_escape(PyObject *text, RedlaneBuffer *pattern);

/* Appends one value's text; `shown` and `parameter` (str) stand in error messages.
 * RAISES_NEG */
int redlane_wire_key_value(RedlaneState *state, PyObject *value, PyObject *shown,
                           PyObject *parameter, RedlaneBuffer *text);

#endif
