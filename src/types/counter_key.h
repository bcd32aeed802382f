/* Whose counter a call means: its ids, and the full key they make. Under the GIL. */
#ifndef REDLANE_TYPES_COUNTER_KEY_H
#define REDLANE_TYPES_COUNTER_KEY_H

#include "types/counter.h"

#define REDLANE_COUNTER_FIELDS 8 /* describe_template refuses more */

typedef struct {
    PyObject_HEAD
    RedlaneState *state; /* BORROWED */
    RedlaneCache *cache; /* whose keys they are; without a prefix for Counter(...) */
    PyObject *template;  /* str */
    PyObject *fields;    /* tuple of str: the template's fields, in order */
    PyObject *parts;     /* tuple: text, index of a field, text, …, text */
    PyObject *pattern;   /* bytes: a glob that matches the full keys */
    PyObject *source;    /* NULL: a missing counter reads as None */
    int64_t ttl_ms;      /* 0: none */
} RedlaneCounter;

/* One call: its ids by field, and the full key they make. */
typedef struct {
    RedlaneCounter *counter;
    PyObject *ids[REDLANE_COUNTER_FIELDS]; /* BORROWED */
    PyObject *amount;                      /* BORROWED, or NULL */
    RedlaneCacheKey key;
} RedlaneCounterKey;

/* The ids, by position or by field name, then (for `with_amount`) the amount; makes the
 * key, to be cleared. RAISES_NEG */
int redlane_counter_key_init(RedlaneCounterKey *target, PyObject *self,
                             PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                             bool with_amount);

/* One id, or a tuple of them where the template has several fields. RAISES_NEG */
int redlane_counter_key_from(RedlaneCounterKey *target, PyObject *self, PyObject *ids);

#endif
