/* Replies on a connection that gets invalidations: RESP3 with its pushes, or RESP2 that
 * is subscribed to what is redirected to itself.
 *
 *   RESP3   > [invalidate, [key, …]]      RESP2   [message, channel, [key, …]]
 *           > [invalidate, nil]                   [message, channel, nil]       all
 * keys PONG                                  [pong, ""] [subscribe, channel, number]
 *
 * Nothing is built: a key is handed on where it stands in the reader's buffer, and of a
 * reply only its kind is kept. Whatever has another form is refused: the connection is
 * to be closed then. Keys of a message whose rest is refused have been handed on.
 * No Python, no lock. */
#ifndef REDLANE_WIRE_REPLY_PUSH_H
#define REDLANE_WIRE_REPLY_PUSH_H

#include "core/fault.h"
#include "wire/reader.h"

#define REDLANE_PUSH_CHANNEL "__redis__:invalidate"

typedef enum {
    REDLANE_PUSH_STATUS, /* but PONG */
    REDLANE_PUSH_ERROR,  /* `fault` says which */
    REDLANE_PUSH_HELLO,  /* a map, where one is awaited */
    REDLANE_PUSH_PONG,
    REDLANE_PUSH_SUBSCRIBED,
    REDLANE_PUSH_INVALIDATION, /* handed on already */
} RedlanePushKind;

typedef struct {
    RedlaneReaderContext context; /* first: hiredis' privdata is a pointer to it */
    /* A key, or with NULL all of them. */
    void (*invalidate)(void *owner, const char *key, size_t size);
    void *owner;
    bool awaits_hello;
    RedlanePushKind kind; /* of the newest reply */
    RedlaneFault fault;   /* of the newest error line: REPLY */
} RedlanePush;

/* Says that the reader's replies are these from here on. Only between replies; `push`
 * stays where it is. */
void redlane_push_read_with(RedlaneReader *reader, RedlanePush *push);

#endif
