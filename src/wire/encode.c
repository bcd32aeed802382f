#include "wire/encode.h"

#include <stdint.h>
#include <string.h>

/* '*' or '$', 20 digits, CR LF; an argument's own CR LF. */
#define HEAD_MOST 23
#define TAIL 2

static char *
put_head(char *out, char kind, size_t number)
{
    char digits[20];
    size_t count = 0;

    *out++ = kind;
    do {
        digits[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    while (count) {
        *out++ = digits[--count];
    }
    *out++ = '\r';
    *out++ = '\n';
    return out;
}

int
redlane_encode_command(RedlaneBuffer *buffer, const RedlaneArg *argv, size_t argc)
{
    size_t most = HEAD_MOST;
    char *out;

    for (size_t i = 0; i < argc; i++) {
        if (argv[i].size > SIZE_MAX / 4 - most) {
            return -1;
        }
        most += HEAD_MOST + argv[i].size + TAIL;
    }
    if (redlane_buffer_reserve(buffer, most) < 0) {
        return -1;
    }
    out = put_head(buffer->data + buffer->size, '*', argc);
    for (size_t i = 0; i < argc; i++) {
        out = put_head(out, '$', argv[i].size);
        if (argv[i].size) {
            memcpy(out, argv[i].data, argv[i].size);
        }
        out += argv[i].size;
        *out++ = '\r';
        *out++ = '\n';
    }
    buffer->size = (size_t)(out - buffer->data);
    return 0;
}

int
redlane_encode_request(RedlaneBuffer *buffer, const RedlaneVector *vectors,
                       size_t count, bool transaction)
{
    static const RedlaneArg multi = {"MULTI", 5}, exec = {"EXEC", 4};
    size_t before = buffer->size;

    if (transaction && redlane_encode_command(buffer, &multi, 1) < 0) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        if (redlane_encode_command(buffer, vectors[i].argv, vectors[i].argc) < 0) {
            buffer->size = before;
            return -1;
        }
    }
    if (transaction && redlane_encode_command(buffer, &exec, 1) < 0) {
        buffer->size = before;
        return -1;
    }
    return 0;
}
