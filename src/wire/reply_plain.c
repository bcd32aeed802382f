/* No Python, no lock. NULL from a callback: memory exhausted, or context->refused. */
#include "wire/reply_plain.h"

#include <stdlib.h>
#include <string.h>

#include "hiredis/read.h"

static void *
refuse(const redisReadTask *task, const char *reason)
{
    RedlaneReaderContext *context = task->privdata;

    context->refused = reason;
    return NULL;
}

static const char resp3_refused[] =
    "the server sent a RESP3 type on a RESP2 connection";
static const char line_refused[] = "the server sent a line without end";

static RedlanePlainReply *
make_node(const redisReadTask *task, RedlaneReplyKind kind, const char *text,
          size_t size)
{
    RedlanePlainReply *node = malloc(sizeof(*node) + size + 1);

    if (!node) {
        return NULL;
    }
    *node = (RedlanePlainReply){.kind = kind, .size = size};
    if (size) {
        memcpy(node->text, text, size);
    }
    node->text[size] = '\0';
    if (task->parent) {
        ((RedlanePlainReply *)task->parent->obj)->elements[task->idx] = node;
    }
    return node;
}

static void *
create_string(const redisReadTask *task, char *text, size_t size)
{
    if (task->type != REDIS_REPLY_STRING && size > REDLANE_MAX_LINE) {
        return refuse(task, line_refused);
    }
    switch (task->type) {
    case REDIS_REPLY_STRING:
        if (text[size] != '\r' || text[size + 1] != '\n') {
            return refuse(task, "a bulk string does not end where it should");
        }
        return make_node(task, REDLANE_REPLY_BULK, text, size);
    case REDIS_REPLY_STATUS:
        return make_node(task, REDLANE_REPLY_STATUS, text, size);
    case REDIS_REPLY_ERROR:
        return make_node(task, REDLANE_REPLY_ERROR, text, size);
    default:
        return refuse(task, resp3_refused);
    }
}

static void *
create_array(const redisReadTask *task, size_t count)
{
    RedlanePlainReply **elements = NULL, *node;

    if (task->type != REDIS_REPLY_ARRAY) {
        return refuse(task, resp3_refused);
    }
    if (count) {
        elements = calloc(count, sizeof(RedlanePlainReply *));
        if (!elements) {
            return NULL;
        }
    }
    node = make_node(task, REDLANE_REPLY_ARRAY, NULL, 0);
    if (!node) {
        free(elements);
        return NULL;
    }
    node->elements = elements;
    node->count = count;
    return node;
}

static void *
create_integer(const redisReadTask *task, long long value)
{
    RedlanePlainReply *node = make_node(task, REDLANE_REPLY_INTEGER, NULL, 0);

    if (node) {
        node->number = value;
    }
    return node;
}

static void *
create_double(const redisReadTask *task, double value, char *text, size_t size)
{
    (void)value;
    (void)text;
    (void)size;
    return refuse(task, resp3_refused);
}

static void *
create_nil(const redisReadTask *task)
{
    if (task->type == REDIS_REPLY_NIL) {
        return refuse(task, resp3_refused);
    }
    return make_node(task, REDLANE_REPLY_NIL, NULL, 0);
}

static void *
create_bool(const redisReadTask *task, int value)
{
    (void)value;
    return refuse(task, resp3_refused);
}

/* As deep as REDLANE_MAX_NESTING. */
void
redlane_reply_plain_free(RedlanePlainReply *reply)
{
    if (!reply) {
        return;
    }
    for (size_t i = 0; i < reply->count; i++) {
        redlane_reply_plain_free(reply->elements[i]);
    }
    free(reply->elements);
    free(reply);
}

static void
free_object(void *object)
{
    redlane_reply_plain_free(object);
}

redisReplyObjectFunctions redlane_reply_plain_functions = {
    .createString = create_string,
    .createArray = create_array,
    .createInteger = create_integer,
    .createDouble = create_double,
    .createNil = create_nil,
    .createBool = create_bool,
    .freeObject = free_object,
};

bool
redlane_reply_plain_begins(const RedlanePlainReply *reply, const char *word)
{
    return strncmp(reply->text, word, strlen(word)) == 0;
}
