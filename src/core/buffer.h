/* A growing byte buffer on malloc, without the GIL.
 *
 *   data ──▶ [ used bytes … size | free … capacity )
 *
 * Invariant: size <= capacity; data is NULL only when capacity is 0. Functions that
 * may grow return -1 on memory exhaustion and leave the content as it was. */
#ifndef REDLANE_CORE_BUFFER_H
#define REDLANE_CORE_BUFFER_H

#include <stddef.h>
#include <string.h>

typedef struct {
    char *data;
    size_t size;
    size_t capacity;
} RedlaneBuffer;

/* Makes room for `extra` more bytes. */
int redlane_buffer_reserve(RedlaneBuffer *buffer, size_t extra);

void redlane_buffer_free(RedlaneBuffer *buffer);

static inline int
redlane_buffer_append(RedlaneBuffer *buffer, const void *data, size_t size)
{
    if (size > buffer->capacity - buffer->size &&
        redlane_buffer_reserve(buffer, size) < 0) {
        return -1;
    }
    if (size) {
        memcpy(buffer->data + buffer->size, data, size);
        buffer->size += size;
    }
    return 0;
}

static inline int
redlane_buffer_append_byte(RedlaneBuffer *buffer, char byte)
{
    return redlane_buffer_append(buffer, &byte, 1);
}

/* Appends text that needs no length of its own. */
#define redlane_buffer_append_literal(buffer, text) \
    redlane_buffer_append((buffer), (text), sizeof(text) - 1)

#endif
