#include "core/buffer.h"

#include <stdint.h>
#include <stdlib.h>

int
redlane_buffer_reserve(RedlaneBuffer *buffer, size_t extra)
{
    size_t needed, capacity;
    char *data;

    if (extra > SIZE_MAX / 2 - buffer->size) {
        return -1;
    }
    needed = buffer->size + extra;
    if (needed <= buffer->capacity) {
        return 0;
    }
    capacity = buffer->capacity ? buffer->capacity * 2 : 256;
    if (capacity < needed) {
        capacity = needed;
    }
    data = realloc(buffer->data, capacity);
    if (!data) {
        return -1;
    }
    buffer->data = data;
    buffer->capacity = capacity;
    return 0;
}

void
redlane_buffer_free(RedlaneBuffer *buffer)
{
    free(buffer->data);
    *buffer = (RedlaneBuffer){0};
}
