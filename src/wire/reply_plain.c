/* No Python, no lock. NULL from a callback: memory exhausted, or context->refused. */
#include "wire/reply_plain.h"

#include <stdlib.h>
#include <string.h>

#include "wire/reply_check.h"

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
    if (!redlane_reply_is_text(task, text, size)) {
        return NULL;
    }
    return make_node(task,
                     task->type == REDIS_REPLY_STRING   ? REDLANE_REPLY_BULK
                     : task->type == REDIS_REPLY_STATUS ? REDLANE_REPLY_STATUS
                                                        : REDLANE_REPLY_ERROR,
                     text, size);
}

static void *
create_array(const redisReadTask *task, size_t count)
{
    RedlanePlainReply **elements = NULL, *node;

    if (!redlane_reply_is_resp2(task)) {
        return NULL;
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
create_nil(const redisReadTask *task)
{
    return redlane_reply_is_resp2(task) ? make_node(task, REDLANE_REPLY_NIL, NULL, 0)
                                        : NULL;
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
    .createDouble = redlane_reply_refuse_double,
    .createNil = create_nil,
    .createBool = redlane_reply_refuse_bool,
    .freeObject = free_object,
};

bool
redlane_reply_plain_begins(const RedlanePlainReply *reply, const char *word)
{
    return strncmp(reply->text, word, strlen(word)) == 0;
}
