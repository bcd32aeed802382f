#include "wire/reply_check.h"

#include "wire/reader.h"

void
redlane_reply_refuse(const redisReadTask *task, const char *reason)
{
    RedlaneReaderContext *context = task->privdata;

    context->refused = reason;
}

bool
redlane_reply_is_resp2(const redisReadTask *task)
{
    switch (task->type) {
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_ARRAY:
    case REDIS_REPLY_INTEGER:
    case REDIS_REPLY_STATUS:
    case REDIS_REPLY_ERROR:
        return true;
    default:
        redlane_reply_refuse(task,
                             "the server sent a RESP3 type on a RESP2 connection");
        return false;
    }
}

bool
redlane_reply_is_whole(const redisReadTask *task, const char *text, size_t size)
{
    if (task->type != REDIS_REPLY_STRING && task->type != REDIS_REPLY_VERB) {
        if (size > REDLANE_MAX_LINE) {
            redlane_reply_refuse(task, "the server sent a line without end");
            return false;
        }
    }
    else if (text[size] != '\r' || text[size + 1] != '\n') {
        redlane_reply_refuse(task, "a bulk string does not end where it should");
        return false;
    }
    return true;
}

bool
redlane_reply_is_text(const redisReadTask *task, const char *text, size_t size)
{
    return redlane_reply_is_resp2(task) && redlane_reply_is_whole(task, text, size);
}

void *
redlane_reply_refuse_double(const redisReadTask *task, double value, char *text,
                            size_t size)
{
    (void)value;
    (void)text;
    (void)size;
    (void)redlane_reply_is_resp2(task);
    return NULL;
}

void *
redlane_reply_refuse_bool(const redisReadTask *task, int value)
{
    (void)value;
    (void)redlane_reply_is_resp2(task);
    return NULL;
}
