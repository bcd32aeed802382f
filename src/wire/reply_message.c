#include "wire/reply_message.h"

#include <string.h>

#include "core/error_line.h"
#include "hiredis/read.h"
#include "wire/reply_check.h"

static RedlaneMessages *
messages_of(const redisReadTask *task)
{
    return task->privdata;
}

static void *
refuse_form(const redisReadTask *task)
{
    redlane_reply_refuse(task, "the server sent what is no message");
    return NULL;
}

/* Every object is this one: hiredis asks for something that is not NULL. */
static void *
accept(const redisReadTask *task)
{
    return messages_of(task);
}

static bool
is_word(const char *text, size_t size, const char *word)
{
    return size == strlen(word) && memcmp(text, word, size) == 0;
}

/* What the first element makes of those after it. */
static const struct {
    const char *word;
    RedlaneMessageKind kind;
    bool by_pattern;
    long long elements;
} forms[] = {
    {"message", REDLANE_MESSAGE_PAYLOAD, false, 3},
    {"pmessage", REDLANE_MESSAGE_PAYLOAD, true, 4},
    {"pong", REDLANE_MESSAGE_PONG, false, 2},
    {"subscribe", REDLANE_MESSAGE_SUBSCRIBED, false, 3},
    {"psubscribe", REDLANE_MESSAGE_SUBSCRIBED, true, 3},
    {"unsubscribe", REDLANE_MESSAGE_UNSUBSCRIBED, false, 3},
    {"punsubscribe", REDLANE_MESSAGE_UNSUBSCRIBED, true, 3},
};

static void *
take_word(const redisReadTask *task, const char *text, size_t size)
{
    RedlaneMessages *messages = messages_of(task);

    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        if (forms[i].elements == task->parent->elements &&
            is_word(text, size, forms[i].word)) {
            messages->kind = forms[i].kind;
            messages->by_pattern = forms[i].by_pattern;
            return accept(task);
        }
    }
    return refuse_form(task);
}

/* NULL, without a reason, is memory that is exhausted. */
static void *
copy_name(const redisReadTask *task, RedlaneBuffer *name, const char *text, size_t size)
{
    name->size = 0;
    return redlane_buffer_append(name, text, size) < 0 ? NULL : accept(task);
}

static RedlaneArg
arg_of(const RedlaneBuffer *buffer)
{
    return (RedlaneArg){buffer->size ? buffer->data : "", buffer->size};
}

static void *
take_payload(const redisReadTask *task, const char *text, size_t size)
{
    RedlaneMessages *messages = messages_of(task);
    RedlaneArg topic = arg_of(&messages->topic);
    RedlaneArg payload = {text, size};
    bool taken = messages->by_pattern
                     ? messages->deliver(messages->owner, arg_of(&messages->channel),
                                         &topic, payload)
                     : messages->deliver(messages->owner, topic, NULL, payload);

    return taken ? accept(task) : NULL;
}

static void *
take_bulk(const redisReadTask *task, const char *text, size_t size)
{
    RedlaneMessages *messages = messages_of(task);

    if (!task->parent) {
        return refuse_form(task);
    }
    if (task->idx == 0) {
        return take_word(task, text, size);
    }
    if (messages->kind == REDLANE_MESSAGE_PONG) {
        return accept(task);
    }
    if (task->idx == 1) {
        return copy_name(task, &messages->topic, text, size);
    }
    if (messages->kind != REDLANE_MESSAGE_PAYLOAD) {
        return refuse_form(task);
    }
    return task->idx == task->parent->elements - 1
               ? take_payload(task, text, size)
               : copy_name(task, &messages->channel, text, size);
}

static void *
take_line(const redisReadTask *task, const char *text, size_t size)
{
    RedlaneMessages *messages = messages_of(task);

    if (task->parent) {
        return refuse_form(task);
    }
    if (task->type == REDIS_REPLY_ERROR) {
        messages->kind = REDLANE_MESSAGE_ERROR;
        redlane_fault_set(&messages->fault, REDLANE_FAULT_REPLY, "%.*s",
                          (int)redlane_error_line_shown(text, size, NULL, 0), text);
        return accept(task);
    }
    if (!is_word(text, size, "PONG")) {
        return refuse_form(task);
    }
    messages->kind = REDLANE_MESSAGE_PONG;
    return accept(task);
}

static void *
create_string(const redisReadTask *task, char *text, size_t size)
{
    if (!redlane_reply_is_text(task, text, size)) {
        return NULL;
    }
    return task->type == REDIS_REPLY_STRING ? take_bulk(task, text, size)
                                            : take_line(task, text, size);
}

static void *
create_array(const redisReadTask *task, size_t count)
{
    if (!redlane_reply_is_resp2(task)) {
        return NULL;
    }
    messages_of(task)->kind = REDLANE_MESSAGE_NONE;
    return task->parent || count < 2 || count > 4 ? refuse_form(task) : accept(task);
}

static void *
create_integer(const redisReadTask *task, long long value)
{
    RedlaneMessageKind kind = messages_of(task)->kind;

    (void)value;
    return task->parent && task->idx == 2 &&
                   (kind == REDLANE_MESSAGE_SUBSCRIBED ||
                    kind == REDLANE_MESSAGE_UNSUBSCRIBED)
               ? accept(task)
               : refuse_form(task);
}

static void *
create_nil(const redisReadTask *task)
{
    return refuse_form(task);
}

static void
free_object(void *object)
{
    (void)object;
}

static redisReplyObjectFunctions functions = {
    .createString = create_string,
    .createArray = create_array,
    .createInteger = create_integer,
    .createDouble = redlane_reply_refuse_double,
    .createNil = create_nil,
    .createBool = redlane_reply_refuse_bool,
    .freeObject = free_object,
};

void
redlane_messages_read_with(RedlaneReader *reader, RedlaneMessages *messages)
{
    redlane_reader_build_with(reader, &functions, &messages->context);
}

void
redlane_messages_clear(RedlaneMessages *messages)
{
    redlane_buffer_free(&messages->topic);
    redlane_buffer_free(&messages->channel);
}
