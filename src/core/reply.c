/* Writing and reading replies as plain C data: see reply.h for the layout.
 *
 * Plain C; make_bulk may be Python's and is called under the engine's lock. */
#include "core/reply.h"

#include <string.h>

#define HEAD_SIZE (1 + sizeof(int64_t))

static void
append_node(RedlaneReply *reply, RedlaneReplyKind kind, int64_t number,
            const char *data, size_t size)
{
    RedlaneBuffer *nodes = &reply->nodes;
    char *at;

    if (size > SIZE_MAX - HEAD_SIZE ||
        (HEAD_SIZE + size > nodes->capacity - nodes->size &&
         redlane_buffer_reserve(nodes, HEAD_SIZE + size) < 0)) {
        reply->failed = true;
        return;
    }
    at = nodes->data + nodes->size;
    *at = (char)kind;
    memcpy(at + 1, &number, sizeof(number));
    if (size) {
        memcpy(at + HEAD_SIZE, data, size);
    }
    nodes->size += HEAD_SIZE + size;
}

void
redlane_reply_nil(RedlaneReply *reply)
{
    append_node(reply, REDLANE_REPLY_NIL, 0, NULL, 0);
}

void
redlane_reply_status(RedlaneReply *reply, const char *text)
{
    size_t size = strlen(text);

    append_node(reply, REDLANE_REPLY_STATUS, (int64_t)size, text, size);
}

void
redlane_reply_error(RedlaneReply *reply, const char *text)
{
    size_t size = strlen(text);

    append_node(reply, REDLANE_REPLY_ERROR, (int64_t)size, text, size);
}

void
redlane_reply_integer(RedlaneReply *reply, int64_t value)
{
    append_node(reply, REDLANE_REPLY_INTEGER, value, NULL, 0);
}

void
redlane_reply_bulk(RedlaneReply *reply, const char *data, size_t size)
{
    if (reply->failed) {
        return; /* an element of an array whose head found no room */
    }
    if (reply->make_bulk && !reply->nodes.size) {
        reply->object = reply->make_bulk(data, size, reply->decode);
        reply->failed = !reply->object;
        return;
    }
    append_node(reply, REDLANE_REPLY_BULK, (int64_t)size, data, size);
}

void
redlane_reply_array(RedlaneReply *reply, size_t count)
{
    append_node(reply, REDLANE_REPLY_ARRAY, (int64_t)count, NULL, 0);
}

size_t
redlane_reply_array_open(RedlaneReply *reply)
{
    size_t mark = reply->nodes.size;

    redlane_reply_array(reply, 0);
    return mark;
}

void
redlane_reply_array_close(RedlaneReply *reply, size_t mark, size_t count)
{
    int64_t number = (int64_t)count;

    if (!reply->failed) {
        memcpy(reply->nodes.data + mark + 1, &number, sizeof(number));
    }
}

bool
redlane_reply_next(const RedlaneReply *reply, size_t *offset, RedlaneNode *node)
{
    const char *at;

    if (reply->nodes.size - *offset < HEAD_SIZE) {
        return false;
    }
    at = reply->nodes.data + *offset;
    *offset += HEAD_SIZE;
    node->kind = (RedlaneReplyKind)*at;
    memcpy(&node->number, at + 1, sizeof(node->number));
    node->data = NULL;
    node->size = 0;
    if (node->kind == REDLANE_REPLY_STATUS || node->kind == REDLANE_REPLY_ERROR ||
        node->kind == REDLANE_REPLY_BULK) {
        node->data = at + HEAD_SIZE;
        node->size = (size_t)node->number;
        *offset += node->size;
    }
    return true;
}
