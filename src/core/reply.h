/* A reply as plain C data: what the memory engine writes under its lock and Python
 * reads after it.
 *
 * Nodes stand one after another in `nodes`, an array before its elements:
 *
 *   [kind:1][number:8][payload: `number` bytes for text kinds]
 *
 * One top-level bulk string does not go through the buffer: if `make_bulk` is set it
 * is called under the engine's lock and its result kept in `object` (bytes and str are
 * the only Python objects that may be made under a C lock). */
#ifndef REDLANE_CORE_REPLY_H
#define REDLANE_CORE_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buffer.h"

typedef enum {
    REDLANE_REPLY_NIL = '_',
    REDLANE_REPLY_STATUS = '+',
    REDLANE_REPLY_ERROR = '-',
    REDLANE_REPLY_INTEGER = ':',
    REDLANE_REPLY_BULK = '$',
    REDLANE_REPLY_ARRAY = '*',
} RedlaneReplyKind;

typedef struct {
    RedlaneBuffer nodes;
    void *object; /* what make_bulk gave, instead of nodes; NULL with `failed` */
    void *(*make_bulk)(const char *data, size_t size, bool decode);
    bool decode; /* passed to make_bulk */
    bool failed; /* memory exhausted, or make_bulk failed */
} RedlaneReply;

/* Each appends one node; failure is kept in `failed`, to be checked once at the end. */
void redlane_reply_nil(RedlaneReply *reply);
void redlane_reply_status(RedlaneReply *reply, const char *text);
void redlane_reply_error(RedlaneReply *reply, const char *text);
void redlane_reply_integer(RedlaneReply *reply, int64_t value);
void redlane_reply_bulk(RedlaneReply *reply, const char *data, size_t size);
void redlane_reply_array(RedlaneReply *reply, size_t count);

/* An array whose count is known only at its end: open gives a mark for close. */
size_t redlane_reply_array_open(RedlaneReply *reply);
void redlane_reply_array_close(RedlaneReply *reply, size_t mark, size_t count);

/* Reading: one node at `*offset`, which moves past it (arrays: past the head). */
typedef struct {
    RedlaneReplyKind kind;
    int64_t number;   /* integer value, or element count */
    const char *data; /* text kinds */
    size_t size;
} RedlaneNode;

bool redlane_reply_next(const RedlaneReply *reply, size_t *offset, RedlaneNode *node);

#endif
