/* The reply reader: hiredis' parser over a buffer that the socket fills directly, with
 * the limits that hiredis does not have.
 *
 *   redis->buf ──▶ [ parsed | unread: from redis->pos | room to receive into )
 *                  0        pos                       len
 *
 * The payload of a large bulk string does not go through the buffer: it is received
 * straight into where it will stay (reader_bulk.c).
 *
 * Bytes are received without the GIL. Parsing calls the reader's callbacks, which need
 * what they need (reply_object.c: the GIL; reply_plain.c: nothing). Only wire/ sees
 * hiredis, and in wire/ only reader.c and the callbacks. */
#ifndef REDLANE_WIRE_READER_H
#define REDLANE_WIRE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/fault.h"

#define REDLANE_MAX_ELEMENTS 1000000 /* of one array, unless more were asked for */
#define REDLANE_MAX_NESTING 8        /* arrays inside arrays */
#ifndef REDLANE_MAX_LINE             /* fuzzing reaches a smaller one */
#define REDLANE_MAX_LINE (64 * 1024) /* a status, an error, a number, a head */
#endif

struct redisReader;
struct redisReplyObjectFunctions;

/* Where the payload of a large bulk string is received, outside the buffer. */
typedef struct {
    char *data;    /* NULL: none is under way */
    size_t size;   /* of the payload */
    size_t room;   /* of data, at most size: grows as bytes come */
    size_t filled; /* bytes that have come, at most room */
} RedlaneSink;

typedef struct {
    struct redisReader *redis; /* NULL while there is no connection */
    size_t max_reply;          /* bytes of one reply */
    uint64_t received;         /* bytes since the connection was opened */
    uint64_t completed;        /* of them, those up to the last complete reply's end */
    RedlaneSink sink;
    bool takes_bulks; /* whoever turns the connection gives large bulks a sink */
} RedlaneReader;

/* What the callbacks share with the reader through hiredis' privdata. */
typedef struct {
    const char *refused;  /* set when a callback refused a reply: why */
    const char *password; /* reply_object.c: not to be shown, or NULL */
    size_t password_size;
    bool transaction; /* reply_object.c: QUEUED is what is awaited */
    bool decode;      /* reply_object.c: bulk strings become str */
    size_t elements;  /* asked for in one array: accepted if above the limit */
    void *state;      /* reply_object.c: RedlaneState */
    void *bulk;       /* reply_object.c: the bytes that a sink fills, or NULL */
    void *failure;    /* reply_object.c: the first exception inside an array that is
                         not the server's own, or NULL; STEALS by whoever takes it */
} RedlaneReaderContext;

/* A fresh parser; 0, or -1 when memory is exhausted. */
int redlane_reader_open(RedlaneReader *reader, size_t max_reply);

/* Another limit, from the next reply on. Only between replies. */
void redlane_reader_limit(RedlaneReader *reader, size_t max_reply);

/* Frees it, and by its callbacks a reply that was not complete. */
void redlane_reader_close(RedlaneReader *reader);

/* Says who builds the replies from here on. Only between replies. */
void redlane_reader_build_with(RedlaneReader *reader,
                               struct redisReplyObjectFunctions *functions,
                               RedlaneReaderContext *context);

/* Room for `wanted` more bytes at least (a buffer's worth for 0); NULL when memory is
 * exhausted. */
char *redlane_reader_room_nogil(RedlaneReader *reader, size_t wanted, size_t *size);

/* Says that `size` bytes were put there. */
void redlane_reader_filled_nogil(RedlaneReader *reader, size_t size);

/* How many more bytes must come before parsing can get anywhere: 0 when parsing is
 * worth while (what is malformed included), -1 with a fault when the reply announces
 * more than we accept. */
int64_t redlane_reader_wanted_nogil(const RedlaneReader *reader, RedlaneFault *fault);

/* Bytes that were received but not parsed. */
size_t redlane_reader_unread(const RedlaneReader *reader);

/* Parses one reply. 1 with `*reply`; 0 when bytes are missing; -1 with a fault
 * (PROTOCOL or MEMORY), after which only close is allowed. What it gives for a stream
 * does not depend on the pieces in which the stream came. */
int redlane_reader_next(RedlaneReader *reader, void **reply, RedlaneFault *fault);

/* Gives memory back when the buffer is much larger than what comes through it. Only
 * between replies, with nothing unread; `last` is the size of what came last. */
void redlane_reader_trim_nogil(RedlaneReader *reader, uint64_t last);

#endif
