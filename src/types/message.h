/* Messages of a subscription: their payload, as a str or as bytes, with the channel
 * that brought it. Two types, Message and BytesMessage, for a subclass of both there
 * cannot be. Immutable, without the collector: they hold str and bytes alone. GIL held.
 */
#ifndef REDLANE_TYPES_MESSAGE_H
#define REDLANE_TYPES_MESSAGE_H

#include <stdbool.h>

#include "core/vector.h"
#include "py/python.h"

/* `channel` is a str or bytes, `pattern` one too, or None. NULL with MemoryError. */
PyObject *redlane_message_new(RedlaneState *state, RedlaneArg payload,
                              PyObject *channel, PyObject *pattern);
PyObject *redlane_message_bytes_new(RedlaneState *state, RedlaneArg payload,
                                    PyObject *channel, PyObject *pattern);

/* What both are told of when they are made by hand: `data` is of `base`, channel and
 * pattern are str or bytes. BORROWED. RAISES_NEG */
int redlane_message_arguments(PyObject *args, PyObject *kwargs, PyTypeObject *base,
                              PyObject **data, PyObject **channel, PyObject **pattern);

/* A text of the server's as a str; a byte that is no UTF-8 becomes a lone surrogate. */
PyObject *redlane_message_text(RedlaneArg text);

int redlane_message_setup(PyObject *module);
int redlane_message_bytes_setup(PyObject *module);

#endif
