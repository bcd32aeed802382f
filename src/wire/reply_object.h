/* Replies as Python objects, built by hiredis' callbacks. Parsing with them needs the
 * GIL, as does closing a reader whose reply is not complete. */
#ifndef REDLANE_WIRE_REPLY_OBJECT_H
#define REDLANE_WIRE_REPLY_OBJECT_H

#include "py/python.h"
#include "wire/reader.h"

/* bulk and status: bytes, or str with `decode`; integer: int; nil: None; array: list;
 * error: an exception instance. */
extern struct redisReplyObjectFunctions redlane_reply_object_functions;

/* When bytes are missing: if they are those of a large bulk string, gives it a bytes
 * object to be received into, or more room in the one it has; context->bulk is that
 * object. RAISES_NEG (MemoryError) */
int redlane_reply_object_receive(RedlaneReader *reader, RedlaneReaderContext *context);

/* What the caller gets for a reply that is complete: an exception that stands inside
 * its array, if there is one, unless it is a transaction's. STEALS reply. */
PyObject *redlane_reply_object_settle(RedlaneReaderContext *context,
                                      PyObject *STEALS reply);

#endif
