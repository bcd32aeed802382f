/* Replies as small malloc'd trees, built without the GIL: for the handshake, the probe
 * and whatever else the background thread asks. */
#ifndef REDLANE_WIRE_REPLY_PLAIN_H
#define REDLANE_WIRE_REPLY_PLAIN_H

#include <stdbool.h>

#include "core/reply.h"
#include "wire/reader.h"

typedef struct RedlanePlainReply RedlanePlainReply;

struct RedlanePlainReply {
    RedlaneReplyKind kind;
    int64_t number;               /* integer */
    size_t size;                  /* of text */
    size_t count;                 /* of elements */
    RedlanePlainReply **elements; /* array: NULL where none has come */
    char text[];                  /* status, error, bulk; terminated */
};

extern struct redisReplyObjectFunctions redlane_reply_plain_functions;

void redlane_reply_plain_free(RedlanePlainReply *reply);

/* True for a text that begins with (or is) `word`. */
bool redlane_reply_plain_begins(const RedlanePlainReply *reply, const char *word);

#endif
