/* The memory engine behind RESP on standard input and output, for tests: so that the
 * engine, built with the sanitizers and without Python, can be driven beside a server.
 *
 * Usage: driver [max bytes]. Input is well formed: *n, then n times $size and bytes.
 * A name MULTI collects the following vectors until EXEC and runs them atomically. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/engine.h"

#define QUEUE_MAX 64

typedef struct {
    RedlaneVector vector;
    RedlaneArg *argv;
} Request;

static size_t
read_size(int kind)
{
    char line[64];

    if (!fgets(line, sizeof(line), stdin)) {
        exit(0);
    }
    if (line[0] != kind) {
        abort();
    }
    return (size_t)strtoull(line + 1, NULL, 10);
}

static Request
read_request(void)
{
    size_t argc = read_size('*');
    RedlaneArg *argv = calloc(argc ? argc : 1, sizeof(*argv));

    for (size_t i = 0; i < argc; i++) {
        size_t size = read_size('$');
        char *data = malloc(size + 2), *exact = malloc(size ? size : 1);

        if (fread(data, 1, size + 2, stdin) != size + 2) {
            exit(0);
        }
        memcpy(exact, data, size); /* so that one byte too far is seen */
        free(data);
        argv[i] = (RedlaneArg){exact, size};
    }
    return (Request){{argv, argc, redlane_command_find(argv[0].data, argv[0].size)},
                     argv};
}

static void
free_request(Request *request)
{
    for (size_t i = 0; i < request->vector.argc; i++) {
        free((void *)(uintptr_t)request->argv[i].data);
    }
    free(request->argv);
}

static void
write_node(const RedlaneReply *reply, size_t *offset)
{
    RedlaneNode node;

    if (!redlane_reply_next(reply, offset, &node)) {
        abort();
    }
    switch (node.kind) {
    case REDLANE_REPLY_NIL:
        printf("$-1\r\n");
        break;
    case REDLANE_REPLY_STATUS:
    case REDLANE_REPLY_ERROR:
        printf("%c%.*s\r\n", node.kind, (int)node.size, node.data);
        break;
    case REDLANE_REPLY_INTEGER:
        printf(":%" PRId64 "\r\n", node.number);
        break;
    case REDLANE_REPLY_BULK:
        printf("$%zu\r\n", node.size);
        fwrite(node.data, 1, node.size, stdout);
        printf("\r\n");
        break;
    case REDLANE_REPLY_ARRAY:
        printf("*%" PRId64 "\r\n", node.number);
        for (int64_t i = 0; i < node.number; i++) {
            write_node(reply, offset);
        }
        break;
    }
}

static void
run(RedlaneEngine *engine, Request *requests, size_t count, bool atomic)
{
    RedlaneVector vectors[QUEUE_MAX] = {0};
    RedlaneReply replies[QUEUE_MAX] = {0};

    for (size_t i = 0; i < count; i++) {
        vectors[i] = requests[i].vector;
    }
    redlane_engine_run(engine, vectors, count, atomic, replies);
    for (size_t i = 0; i < count; i++) {
        size_t offset = 0;

        write_node(&replies[i], &offset);
        if (offset != replies[i].nodes.size || replies[i].failed) {
            abort(); /* one reply, no more */
        }
        redlane_buffer_free(&replies[i].nodes);
        free_request(&requests[i]);
    }
}

int
main(int argc, char **argv)
{
    RedlaneEngine *engine = redlane_engine_new(
        argc > 1 ? (size_t)strtoull(argv[1], NULL, 10) : REDLANE_ENGINE_MAX_BYTES);
    Request queue[QUEUE_MAX];
    size_t queued = 0;
    bool collecting = false;

    for (int next; (next = getchar()) != EOF;) {
        Request request;

        ungetc(next, stdin);
        request = read_request();
        if (!collecting && request.vector.argv[0].size == 5 &&
            memcmp(request.vector.argv[0].data, "MULTI", 5) == 0) {
            collecting = true;
            free_request(&request);
        }
        else if (collecting && request.vector.argv[0].size == 4 &&
                 memcmp(request.vector.argv[0].data, "EXEC", 4) == 0) {
            collecting = false;
            free_request(&request);
            printf("*%zu\r\n", queued);
            run(engine, queue, queued, true);
            queued = 0;
        }
        else if (collecting && queued < QUEUE_MAX) {
            queue[queued++] = request;
            continue;
        }
        else {
            run(engine, &request, 1, false);
        }
        if (!collecting) {
            fflush(stdout);
        }
    }
    redlane_engine_free(engine);
    return 0;
}
