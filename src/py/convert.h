/* Replies in plain C as Python objects, made with the GIL and without any C lock.
 *
 * Bulk strings are bytes, or str (UTF-8, strict) with `decode`; so are status replies
 * (b"OK"); integers are int, nil is None, arrays are lists, errors are exception
 * instances. */
#ifndef REDLANE_PY_CONVERT_H
#define REDLANE_PY_CONVERT_H

#include <stdbool.h>

#include "core/reply.h"
#include "py/python.h"

/* The `make_bulk` of a RedlaneReply: makes the object of one top-level bulk string
 * directly, which may be done under the engine's lock. With `decode` it gives a str
 * where that cannot raise anything but MemoryError, else bytes, which
 * redlane_convert_reply decodes. */
void *redlane_convert_bulk(const char *data, size_t size, bool decode);

/* A new reference; takes reply->object over. NULL with MemoryError, or with
 * UnicodeDecodeError where a text is not UTF-8. */
PyObject *redlane_convert_reply(RedlaneState *state, RedlaneReply *reply);

/* The exception that is set, as an instance, and no longer set. NULL: there was none.
 */
PyObject *redlane_convert_raised(void);

#endif
