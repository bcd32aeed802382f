#include "wire/reader.h"

#include <inttypes.h>
#include <string.h>

#include "hiredis/read.h"
#include "hiredis/sds.h"
#include "wire/reader_bulk.h"

/* Room for a receive: hiredis' own size, larger than nearly every reply. */
#define ROOM (16 * 1024)
#define ROOM_MOST (1 << 30) /* sdsIncrLen counts in int */
/* What a connection may keep at rest when replies are small, and at most. */
#define KEEP_SMALL (64 * 1024)
#define KEEP_MOST (16 * 1024 * 1024)
/* Growth towards an announced size is bounded by what has come, so that an announced
 * half gigabyte costs nothing before its bytes are there. */
#define GROW_FIRST (1024 * 1024)
/* A server that announces more than any memory holds overflows nothing. */
#define MAX_REPLY_MOST ((size_t)(INT64_MAX / 16))
/* The head of a bulk string behind its '$': a number, CR LF, and some. */
#define MAX_HEAD 32

int
redlane_reader_open(RedlaneReader *reader, size_t max_reply)
{
    redisReader *redis = redisReaderCreateWithFunctions(NULL);

    if (!redis) {
        return -1;
    }
    redis->maxbuf = 0; /* shrinking between replies made 12 MB three times slower */
    redis->maxdepth = REDLANE_MAX_NESTING;
    *reader = (RedlaneReader){.redis = redis};
    redlane_reader_limit(reader, max_reply);
    return 0;
}

void
redlane_reader_limit(RedlaneReader *reader, size_t max_reply)
{
    reader->max_reply = max_reply < MAX_REPLY_MOST ? max_reply : MAX_REPLY_MOST;
}

void
redlane_reader_close(RedlaneReader *reader)
{
    if (reader->redis) {
        redisReaderFree(reader->redis);
        reader->redis = NULL;
        reader->sink = (RedlaneSink){0};
        reader->takes_bulks = false;
    }
}

void
redlane_reader_build_with(RedlaneReader *reader,
                          struct redisReplyObjectFunctions *functions,
                          RedlaneReaderContext *context)
{
    size_t elements = context ? context->elements : 0;

    reader->redis->maxelements =
        elements > REDLANE_MAX_ELEMENTS ? (long long)elements : REDLANE_MAX_ELEMENTS;
    reader->redis->fn = functions;
    reader->redis->privdata = context;
}

size_t
redlane_reader_unread(const RedlaneReader *reader)
{
    return reader->redis->len - reader->redis->pos;
}

char *
redlane_reader_room_nogil(RedlaneReader *reader, size_t wanted, size_t *size)
{
    redisReader *redis = reader->redis;
    size_t most = redis->len > GROW_FIRST ? redis->len : GROW_FIRST;
    sds grown;

    if (reader->sink.data) {
        return redlane_reader_sink_room_nogil(reader, size);
    }
    if (wanted > most) {
        wanted = most;
    }
    if (wanted < ROOM) {
        wanted = ROOM;
    }
    if (redis->pos == redis->len && redis->len) {
        sdsclear(redis->buf);
        redis->pos = redis->len = 0;
    }
    if (sdsavail(redis->buf) < wanted) {
        grown = sdsMakeRoomFor(redis->buf, wanted);
        if (!grown) {
            return NULL;
        }
        redis->buf = grown;
    }
    *size = sdsavail(redis->buf);
    if (*size > ROOM_MOST) {
        *size = ROOM_MOST;
    }
    return redis->buf + redis->len;
}

void
redlane_reader_filled_nogil(RedlaneReader *reader, size_t size)
{
    redisReader *redis = reader->redis;

    reader->received += size;
    if (reader->sink.data) {
        redlane_reader_sink_filled_nogil(reader, size);
        return;
    }
    sdsIncrLen(redis->buf, (int)size);
    redis->len = sdslen(redis->buf);
}

static int64_t
refuse(RedlaneFault *fault, const char *reason)
{
    redlane_fault_set(fault, REDLANE_FAULT_PROTOCOL, "%s", reason);
    return -1;
}

/* For a line that begins at `line`: 0 when it has an end within `most` bytes or may
 * still get one, else -1 with a fault. */
static int64_t
check_line(const char *line, size_t available, size_t most, RedlaneFault *fault)
{
    size_t at = 0;

    if (available < most + 2) {
        return 0;
    }
    while (at <= most) {
        const char *end = memchr(line + at, '\r', most + 1 - at);

        if (!end) {
            break;
        }
        if (end[1] == '\n') {
            return 0;
        }
        at = (size_t)(end - line) + 1;
    }
    return refuse(fault, "the server sent a line without end");
}

/* The bytes that a bulk string whose head stands at `head` still lacks. */
static int64_t
wanted_of_bulk(const RedlaneReader *reader, const char *head, size_t available,
               RedlaneFault *fault)
{
    size_t limit = available < MAX_HEAD ? available : MAX_HEAD;
    uint64_t size = 0, whole;
    size_t i;

    for (i = 0; i < limit && head[i] != '\r'; i++) {
        if (head[i] < '0' || head[i] > '9') {
            /* nil, or malformed: the parser's business, once the line is there */
            return check_line(head, available, MAX_HEAD, fault);
        }
        size = size * 10 + (uint64_t)(head[i] - '0');
        if (size > reader->max_reply) {
            return refuse(fault, "the server announced a reply beyond max_reply");
        }
    }
    if (i == limit && available < MAX_HEAD) {
        return 1;
    }
    if (i == limit || i == 0 || (head[0] == '0' && i > 1) ||
        (i + 1 < available && head[i + 1] != '\n')) {
        return check_line(head, available, MAX_HEAD, fault);
    }
    whole = i + 2 + size + 2;
    return whole > available ? (int64_t)(whole - available) : 0;
}

int64_t
redlane_reader_wanted_nogil(const RedlaneReader *reader, RedlaneFault *fault)
{
    const redisReader *redis = reader->redis;
    size_t available = redlane_reader_unread(reader);
    const char *head = redis->buf + redis->pos;
    bool bulk;

    if (reader->sink.data) {
        return (int64_t)(reader->sink.room - reader->sink.filled);
    }
    if (available == 0) {
        return 1;
    }
    if (redis->ridx >= 0 && redis->task[redis->ridx]->type >= 0) {
        bulk = redis->task[redis->ridx]->type == REDIS_REPLY_STRING;
    }
    else {
        bulk = *head == '$';
        head++;
        available--;
    }
    if (bulk) {
        return wanted_of_bulk(reader, head, available, fault);
    }
    return check_line(head, available, REDLANE_MAX_LINE, fault);
}

/* What hiredis says of an array's size, and what it means. */
static const char hiredis_count[] = "Multi-bulk length out of range";
static const char refused_count[] =
    "the server announced an array of more than a million elements, or of less than 0";

static int
fail(RedlaneReader *reader, RedlaneFault *fault)
{
    redisReader *redis = reader->redis;
    const RedlaneReaderContext *context = redis->privdata;

    if (context && context->refused) {
        redlane_fault_set(fault, REDLANE_FAULT_PROTOCOL, "%s", context->refused);
    }
    else if (redis->err == REDIS_ERR_PROTOCOL) {
        redlane_fault_set(fault, REDLANE_FAULT_PROTOCOL, "%s",
                          strcmp(redis->errstr, hiredis_count) ? redis->errstr
                                                               : refused_count);
    }
    else {
        redlane_fault_set(fault, REDLANE_FAULT_MEMORY, "out of memory");
    }
    return -1;
}

int
redlane_reader_next(RedlaneReader *reader, void **reply, RedlaneFault *fault)
{
    redisReader *redis = reader->redis;
    uint64_t size;

    *reply = NULL;
    if (redlane_reader_wanted_nogil(reader, fault) < 0) {
        return -1;
    }
    if (redisReaderGetReply(redis, reply) != REDIS_OK) {
        return fail(reader, fault);
    }
    size = reader->received - reader->completed;
    if (*reply) {
        size -= redlane_reader_unread(reader);
    }
    if (size > reader->max_reply) {
        if (*reply) {
            redis->fn->freeObject(*reply);
            *reply = NULL;
        }
        return (int)refuse(fault, "the server sent a reply beyond max_reply");
    }
    if (*reply) {
        reader->completed += size;
        return 1;
    }
    /* What stands in an array is announced only now. */
    return redlane_reader_wanted_nogil(reader, fault) < 0 ? -1 : 0;
}

void
redlane_reader_trim_nogil(RedlaneReader *reader, uint64_t last)
{
    redisReader *redis = reader->redis;
    size_t capacity = sdsalloc(redis->buf);
    sds small;

    if (capacity <= KEEP_SMALL || (capacity <= KEEP_MOST && last > capacity / 4)) {
        return;
    }
    small = sdsempty();
    if (small) {
        sdsfree(redis->buf);
        redis->buf = small;
        redis->pos = redis->len = 0;
    }
}
