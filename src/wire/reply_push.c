#include "wire/reply_push.h"

#include <string.h>

#include "core/error_line.h"
#include "hiredis/read.h"
#include "wire/reply_check.h"

static RedlanePush *
push_of(const redisReadTask *task)
{
    return task->privdata;
}

static void *
refuse_form(const redisReadTask *task)
{
    redlane_reply_refuse(task, "the server sent what is no invalidation");
    return NULL;
}

/* Every object is this one: hiredis asks for something that is not NULL. */
static void *
accept(const redisReadTask *task)
{
    return push_of(task);
}

static const redisReadTask *
top_of(const redisReadTask *task)
{
    while (task->parent) {
        task = task->parent;
    }
    return task;
}

static bool
is_in_hello(const redisReadTask *task)
{
    return task->parent && top_of(task)->type == REDIS_REPLY_MAP;
}

/* Where the keys of an invalidation stand among the elements at the top. */
static bool
is_place_of_keys(const redisReadTask *task)
{
    return task->parent && !task->parent->parent &&
           push_of(task)->kind == REDLANE_PUSH_INVALIDATION &&
           task->idx == task->parent->elements - 1;
}

static bool
is_word(const char *text, size_t size, const char *word)
{
    return size == strlen(word) && memcmp(text, word, size) == 0;
}

/* The first element: it names the rest. */
static bool
note_word(const redisReadTask *task, const char *text, size_t size)
{
    RedlanePush *push = push_of(task);
    bool pushed = task->parent->type == REDIS_REPLY_PUSH;
    long long elements = task->parent->elements;

    if (pushed ? elements == 2 && is_word(text, size, "invalidate")
               : elements == 3 && is_word(text, size, "message")) {
        push->kind = REDLANE_PUSH_INVALIDATION;
        return true;
    }
    if (!pushed && elements == 3 && is_word(text, size, "subscribe")) {
        push->kind = REDLANE_PUSH_SUBSCRIBED;
        return true;
    }
    if (!pushed && elements == 2 && is_word(text, size, "pong")) {
        push->kind = REDLANE_PUSH_PONG;
        return true;
    }
    return false;
}

static void *
take_bulk(const redisReadTask *task, const char *text, size_t size)
{
    RedlanePush *push = push_of(task);

    if (!task->parent) {
        return refuse_form(task);
    }
    if (is_in_hello(task)) {
        return accept(task);
    }
    if (!task->parent->parent) {
        bool fits = task->idx == 0 ? note_word(task, text, size)
                    : task->idx == 1 && push->kind == REDLANE_PUSH_PONG
                        ? true
                        : task->idx == 1 && task->parent->elements == 3 &&
                              is_word(text, size, REDLANE_PUSH_CHANNEL);

        return fits ? accept(task) : refuse_form(task);
    }
    push->invalidate(push->owner, text, size);
    return accept(task);
}

static void *
take_line(const redisReadTask *task, const char *text, size_t size)
{
    RedlanePush *push = push_of(task);

    if (task->parent) {
        return is_in_hello(task) ? accept(task) : refuse_form(task);
    }
    if (task->type == REDIS_REPLY_ERROR) {
        push->kind = REDLANE_PUSH_ERROR;
        redlane_fault_set(&push->fault, REDLANE_FAULT_REPLY, "%.*s",
                          (int)redlane_error_line_shown(text, size, NULL, 0), text);
    }
    else {
        push->kind =
            is_word(text, size, "PONG") ? REDLANE_PUSH_PONG : REDLANE_PUSH_STATUS;
    }
    return accept(task);
}

static void *
create_string(const redisReadTask *task, char *text, size_t size)
{
    if (!redlane_reply_is_whole(task, text, size)) {
        return NULL;
    }
    switch (task->type) {
    case REDIS_REPLY_STRING:
        return take_bulk(task, text, size);
    case REDIS_REPLY_STATUS:
    case REDIS_REPLY_ERROR:
        return take_line(task, text, size);
    default:
        return is_in_hello(task) ? accept(task) : refuse_form(task);
    }
}

static void *
create_array(const redisReadTask *task, size_t count)
{
    RedlanePush *push = push_of(task);

    if (!task->parent) {
        bool fits = task->type == REDIS_REPLY_PUSH    ? count == 2
                    : task->type == REDIS_REPLY_ARRAY ? count == 2 || count == 3
                    : task->type == REDIS_REPLY_MAP   ? push->awaits_hello
                                                      : false;

        /* The first element says what it is; until then it is not what has keys. */
        push->kind = REDLANE_PUSH_HELLO;
        return fits ? accept(task) : refuse_form(task);
    }
    if (is_in_hello(task) ||
        (is_place_of_keys(task) && task->type == REDIS_REPLY_ARRAY)) {
        return accept(task);
    }
    return refuse_form(task);
}

static void *
create_integer(const redisReadTask *task, long long value)
{
    (void)value;
    if (is_in_hello(task) || (task->parent && !task->parent->parent && task->idx == 2 &&
                              push_of(task)->kind == REDLANE_PUSH_SUBSCRIBED)) {
        return accept(task);
    }
    return refuse_form(task);
}

static void *
create_nil(const redisReadTask *task)
{
    RedlanePush *push = push_of(task);

    if (is_in_hello(task)) {
        return accept(task);
    }
    if (!is_place_of_keys(task)) {
        return refuse_form(task);
    }
    push->invalidate(push->owner, NULL, 0);
    return accept(task);
}

static void *
create_double(const redisReadTask *task, double value, char *text, size_t size)
{
    (void)value;
    (void)text;
    (void)size;
    return is_in_hello(task) ? accept(task) : refuse_form(task);
}

static void *
create_bool(const redisReadTask *task, int value)
{
    (void)value;
    return is_in_hello(task) ? accept(task) : refuse_form(task);
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
    .createDouble = create_double,
    .createNil = create_nil,
    .createBool = create_bool,
    .freeObject = free_object,
};

void
redlane_push_read_with(RedlaneReader *reader, RedlanePush *push)
{
    redlane_reader_build_with(reader, &functions, &push->context);
}
