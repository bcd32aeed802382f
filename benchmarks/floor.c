/* The floor: what a blocking C program does with hiredis alone.
 *
 * Each function returns the seconds that one operation took, or a negative number when
 * the server gave anything but the value expected. Loaded with ctypes, which gives up
 * the GIL for the call. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hiredis/hiredis.h"

static double
now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Checks and frees a reply. */
static int
is_value(redisReply *reply, size_t size)
{
    int good = reply && reply->type == REDIS_REPLY_STRING && reply->len == size;
    freeReplyObject(reply);
    return good;
}

redisContext *
floor_connect(const char *host, int port)
{
    redisContext *context = redisConnect(host, port);
    if (context && context->err) {
        redisFree(context);
        context = NULL;
    }
    if (context) {
        /* Its default shrinks the buffer between replies: large ones take longer. */
        context->reader->maxbuf = 0;
    }
    return context;
}

void
floor_close(redisContext *context)
{
    redisFree(context);
}

double
floor_get(redisContext *context, const char *key, size_t size, int count)
{
    const char *argv[] = {"GET", key};
    const size_t lengths[] = {3, strlen(key)};
    double start = now();
    for (int i = 0; i < count; i++) {
        if (!is_value(redisCommandArgv(context, 2, argv, lengths), size)) {
            return -1;
        }
    }
    return (now() - start) / count;
}

/* One operation: a command whose reply is an array of `elements`. */
double
floor_array(redisContext *context, int argc, const char **argv, size_t elements,
            int count)
{
    double start = now();
    for (int i = 0; i < count; i++) {
        redisReply *reply = redisCommandArgv(context, argc, argv, NULL);
        int good =
            reply && reply->type == REDIS_REPLY_ARRAY && reply->elements == elements;
        freeReplyObject(reply);
        if (!good) {
            return -1;
        }
    }
    return (now() - start) / count;
}

/* One operation: a GET of each key appended, then every reply read. */
double
floor_pipeline(redisContext *context, const char **keys, int depth, size_t size,
               int count)
{
    double start = now();
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < depth; k++) {
            const char *argv[] = {"GET", keys[k]};
            const size_t lengths[] = {3, strlen(keys[k])};
            if (redisAppendCommandArgv(context, 2, argv, lengths) != REDIS_OK) {
                return -1;
            }
        }
        for (int k = 0; k < depth; k++) {
            void *reply = NULL;
            if (redisGetReply(context, &reply) != REDIS_OK || !is_value(reply, size)) {
                return -1;
            }
        }
    }
    return (now() - start) / count;
}
