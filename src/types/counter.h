/* Counter: integers that can be counted anew from their source. Under the GIL. */
#ifndef REDLANE_TYPES_COUNTER_H
#define REDLANE_TYPES_COUNTER_H

#include "types/cache.h"

int redlane_counter_setup(PyObject *module);

/* An int whose absolute value is of 63 bits; bool is a TypeError. RAISES_NEG */
int redlane_counter_amount(PyObject *object, long long *amount);

/* A counter on a cache's own keys: Cache.counter. NULL with an exception set. */
PyObject *redlane_counter_new(RedlaneCache *cache, PyObject *template, PyObject *ttl,
                              PyObject *source);

/* Whether a full key is one of the counter's. */
bool redlane_counter_has_key(PyObject *counter, RedlaneArg key);

/* Whether two counters have one template. */
bool redlane_counter_same(PyObject *left, PyObject *right);

/* How its increments and transfers are to be treated. */
const RedlaneToolManner *redlane_counter_manner(PyObject *counter);

#endif
