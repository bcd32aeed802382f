#include "wire/reader_bulk.h"

#include <string.h>

#include "hiredis/read.h"
#include "hiredis/sds.h"

/* A head: 19 digits, CR LF. */
#define MAX_HEAD 21

/* The digits and CR LF of a bulk string's head that hiredis would take, its '$' being
 * parsed. Returns their length, or 0. */
static size_t
parse_head(const char *head, size_t available, size_t most, size_t *size)
{
    size_t limit = available < MAX_HEAD ? available : MAX_HEAD;
    size_t i;

    *size = 0;
    for (i = 0; i < limit && head[i] >= '0' && head[i] <= '9'; i++) {
        *size = *size * 10 + (size_t)(head[i] - '0');
        if (*size > most) {
            return 0;
        }
    }
    if (i == 0 || i + 2 > limit || head[0] == '0' || head[i] != '\r' ||
        head[i + 1] != '\n') {
        return 0;
    }
    return i + 2;
}

bool
redlane_reader_find_bulk(const RedlaneReader *reader, RedlaneSink *announced)
{
    const redisReader *redis = reader->redis;
    size_t available = redlane_reader_unread(reader);
    size_t head, size;

    if (!reader->takes_bulks || reader->sink.data || redis->ridx < 0 ||
        redis->task[redis->ridx]->type != REDIS_REPLY_STRING) {
        return false;
    }
    head = parse_head(redis->buf + redis->pos, available, reader->max_reply, &size);
    if (head == 0 || size + head < available + REDLANE_BULK_LARGE) {
        return false;
    }
    *announced = (RedlaneSink){.size = size, .filled = available - head};
    return true;
}

void
redlane_reader_sink_open(RedlaneReader *reader, const RedlaneSink *announced)
{
    static const char empty[] = "0\r\n";
    redisReader *redis = reader->redis;

    memcpy(announced->data, redis->buf + redis->len - announced->filled,
           announced->filled);
    memcpy(redis->buf + redis->pos, empty, sizeof(empty) - 1);
    redis->len = redis->pos + sizeof(empty) - 1;
    redis->buf[redis->len] = '\0';
    sdssetlen(redis->buf, redis->len);
    reader->sink = *announced;
}

char *
redlane_reader_sink_room_nogil(RedlaneReader *reader, size_t *size)
{
    *size = reader->sink.room - reader->sink.filled;
    return reader->sink.data + reader->sink.filled;
}

void
redlane_reader_sink_filled_nogil(RedlaneReader *reader, size_t size)
{
    reader->sink.filled += size;
    if (reader->sink.filled == reader->sink.size) {
        reader->sink = (RedlaneSink){0};
    }
}
