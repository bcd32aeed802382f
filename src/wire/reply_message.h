/* Replies on a connection that is subscribed, in RESP2:
 *
 *   [message, channel, payload]   [pmessage, pattern, channel, payload]
 *   [subscribe, channel, number]  [psubscribe, pattern, number]   and un… of both
 *   [pong, ""], PONG while nothing is subscribed, an error line
 *
 * Nothing is built: a payload is handed on where it stands in the reader's buffer, the
 * names before it from a copy, for the buffer may have moved since they came. Whatever
 * has another form is refused: the connection is to be closed then. No Python, no lock.
 */
#ifndef REDLANE_WIRE_REPLY_MESSAGE_H
#define REDLANE_WIRE_REPLY_MESSAGE_H

#include "core/buffer.h"
#include "core/fault.h"
#include "core/vector.h"
#include "wire/reader.h"

typedef enum {
    REDLANE_MESSAGE_NONE, /* not known yet */
    REDLANE_MESSAGE_PONG,
    REDLANE_MESSAGE_ERROR, /* `fault` says which */
    REDLANE_MESSAGE_SUBSCRIBED,
    REDLANE_MESSAGE_UNSUBSCRIBED,
    REDLANE_MESSAGE_PAYLOAD, /* handed on already */
} RedlaneMessageKind;

typedef struct {
    RedlaneReaderContext context; /* first: hiredis' privdata is a pointer to it */
    /* A message: `pattern` is NULL where a channel brought it. False when memory is
     * exhausted. */
    bool (*deliver)(void *owner, RedlaneArg channel, const RedlaneArg *pattern,
                    RedlaneArg payload);
    void *owner;
    RedlaneMessageKind kind; /* of the newest reply */
    bool by_pattern;         /* of the newest reply but PONG and ERROR */
    RedlaneBuffer topic;     /* the channel, or the pattern */
    RedlaneBuffer channel;   /* of what a pattern brought */
    RedlaneFault fault;      /* of the newest error line: REPLY */
} RedlaneMessages;

/* Says that the reader's replies are these from here on. Only between replies;
 * `messages` stays where it is. */
void redlane_messages_read_with(RedlaneReader *reader, RedlaneMessages *messages);

/* Frees the copies. */
void redlane_messages_clear(RedlaneMessages *messages);

#endif
