/* What the files of wire keys share. Under the GIL. */
#ifndef REDLANE_TYPES_WIRE_KEY_INTERNAL_H
#define REDLANE_TYPES_WIRE_KEY_INTERNAL_H

#include "types/wire_key.h"

typedef struct {
    PyObject *name, *value;
} RedlaneMore;

/* A call laid out by parameter; everything BORROWED from the call. */
typedef struct {
    PyObject **slots;  /* one for each parameter name */
    RedlaneMore *more; /* what went to **kwargs, in the order of the call */
    Py_ssize_t more_count;
    PyObject *const *rest; /* what went to *args */
    Py_ssize_t rest_count;
} RedlaneBound;

/* Replaces what stands from `start` on, where it is long, by its hash. RAISES_NEG */
int redlane_wire_key_shorten(const RedlaneSignature *signature, size_t start,
                             RedlaneBuffer *key);

/* wire_key_template.c: each appends a key. RAISES_NEG */
int redlane_wire_key_fill_template(const RedlaneSignature *signature,
                                   const RedlaneBound *bound, RedlaneBuffer *key);
int redlane_wire_key_ask(const RedlaneSignature *signature, PyObject *const *args,
                         Py_ssize_t nargs, PyObject *kwnames, RedlaneBuffer *key);

#endif
