/* Threads on one engine, for ThreadSanitizer: commands of all kinds, transactions that
 * must stay whole, statistics and flushes between. Prints "ok". */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/engine.h"

#define THREADS 4
#define ROUNDS 3000

static RedlaneEngine *engine;

static int64_t
run(const char *const *words, size_t argc)
{
    RedlaneArg argv[8];
    RedlaneVector vector = {argv, argc, NULL};
    RedlaneReply reply = {0};
    RedlaneNode node = {.kind = REDLANE_REPLY_NIL};
    size_t offset = 0;

    for (size_t i = 0; i < argc; i++) {
        argv[i] = (RedlaneArg){words[i], strlen(words[i])};
    }
    vector.command = redlane_command_find(argv[0].data, argv[0].size);
    redlane_engine_run(engine, &vector, 1, false, &reply);
    if (!redlane_reply_next(&reply, &offset, &node) ||
        node.kind == REDLANE_REPLY_ERROR) {
        abort();
    }
    redlane_buffer_free(&reply.nodes);
    return node.number;
}

#define RUN(...)                            \
    run((const char *const[]){__VA_ARGS__}, \
        sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

/* Two counters that only change together. */
static void
run_transaction(void)
{
    RedlaneArg left[] = {REDLANE_ARG_LITERAL("INCR"), REDLANE_ARG_LITERAL("left")};
    RedlaneArg right[] = {REDLANE_ARG_LITERAL("INCR"), REDLANE_ARG_LITERAL("right")};
    const RedlaneCommand *incr = redlane_command_find("INCR", 4);
    RedlaneVector vectors[] = {{left, 2, incr}, {right, 2, incr}};
    RedlaneReply replies[2] = {0};
    RedlaneNode nodes[2];

    redlane_engine_run(engine, vectors, 2, true, replies);
    for (int i = 0; i < 2; i++) {
        size_t offset = 0;

        if (!redlane_reply_next(&replies[i], &offset, &nodes[i])) {
            abort();
        }
        redlane_buffer_free(&replies[i].nodes);
    }
    if (nodes[0].number != nodes[1].number) {
        abort();
    }
}

static void *
work(void *argument)
{
    unsigned state = (unsigned)(uintptr_t)argument;
    RedlaneEngineStats stats;

    for (int i = 0; i < ROUNDS; i++) {
        char key[16], value[16];

        (void)snprintf(key, sizeof(key), "k%d", rand_r(&state) % 300);
        (void)snprintf(value, sizeof(value), "%d", rand_r(&state) % 1000);
        RUN("SET", key, value, "PX", "3");
        RUN("GET", key);
        RUN("HSET", "hash", key, value);
        RUN("HDEL", "hash", key);
        RUN("ZADD", "zset", value, key);
        RUN("ZREMRANGEBYSCORE", "zset", "-inf", value);
        RUN("INCR", "count");
        run_transaction();
        if (i % 64 == 0) {
            RUN("SCAN", "0", "COUNT", "50");
            redlane_engine_stats(engine, &stats);
        }
    }
    return NULL;
}

int
main(void)
{
    pthread_t threads[THREADS];

    engine = redlane_engine_new((size_t)1 << 20);
    for (uintptr_t i = 0; i < THREADS; i++) {
        if (pthread_create(&threads[i], NULL, work, (void *)(i + 1)) != 0) {
            abort();
        }
    }
    for (int i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    if (RUN("INCR", "count") != THREADS * ROUNDS + 1) {
        abort();
    }
    redlane_engine_free(engine);
    printf("ok\n");
    return 0;
}
