/* The engine's bound: what it counts, what it evicts, what it refuses. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_tests.h"

static size_t
used(RedlaneEngine *engine)
{
    RedlaneEngineStats stats;

    redlane_engine_stats(engine, &stats);
    return stats.bytes;
}

static const char *
set_big(RedlaneEngine *engine, const char *key, size_t size)
{
    char *value = calloc(1, size);
    RedlaneArg argv[] = {REDLANE_ARG_LITERAL("SET"), {key, strlen(key)}, {value, size}};
    const char *reply = ask_vector(engine, argv, 3);

    free(value);
    return reply;
}

/* Random commands on few keys: what is counted is gone when the keys are. */
static void
test_nothing_is_lost(void)
{
    static const char *const forms[] = {
        "SET k%d v%d",       "APPEND k%d vvvvvvvvvvvvvvvvvvvvvvv%d",
        "SET k%d v%d EX 99", "DEL k%d k%d",
        "HSET h%d f%d v",    "HSET h%d f%d vvvvvvvvvvvvvvvvvvvvvvvvvvvvv",
        "HDEL h%d f%d",      "HINCRBY h%d n%d 1",
        "SADD s%d m%d",      "SREM s%d m%d",
        "ZADD z%d 1 m%d",    "ZADD z%d 2 m%d",
        "ZREM z%d m%d",      "ZREMRANGEBYSCORE z%d -inf %d",
        "INCR i%d",          "SET h%d v%d",
        "GETDEL k%d",        "SET z%d v%d",
        "DEL h%d",           "EXPIRE s%d %d",
    };
    RedlaneEngine *engine = redlane_engine_new((size_t)1 << 15);

    srand(7);
    for (int i = 0; i < 60000; i++) {
        char line[160];

        (void)snprintf(line, sizeof(line),
                       forms[(size_t)rand() % (sizeof(forms) / sizeof(forms[0]))],
                       rand() % 5, rand() % 60);
        (void)ask(engine, line);
        CHECK(used(engine) <= (size_t)1 << 15);
    }
    for (int i = 0; i < 5; i++) {
        char line[160];

        (void)snprintf(line, sizeof(line), "DEL k%d h%d s%d z%d i%d", i, i, i, i, i);
        (void)ask(engine, line);
    }
    CHECK_REPLY(engine, "DBSIZE", ":0");
    CHECK(used(engine) <= 256); /* the least table */
    (void)ask(engine, "FLUSHALL");
    CHECK_INTEGER(used(engine), 0);
    redlane_engine_free(engine);
}

static void
test_refuses_what_cannot_fit(void)
{
    static const char oom[] = "-OOM command not allowed when used memory > "
                              "'maxmemory'.";
    RedlaneEngine *engine = redlane_engine_new(10000);

    CHECK_REPLY(engine, "SET small v", "+OK");
    CHECK(strcmp(set_big(engine, "big", 20000), oom) == 0);
    CHECK_REPLY(engine, "GET small", "$v"); /* nothing was evicted for it */
    CHECK(strcmp(set_big(engine, "big", 9000), "+OK") == 0);
    CHECK(strcmp(set_big(engine, "big", 9001), "+OK") == 0);
    CHECK(strcmp(set_big(engine, "other", 9000), "+OK") == 0);
    CHECK_REPLY(engine, "EXISTS big small other", ":1");
    CHECK(used(engine) <= 10000);
    /* a hash that outgrows the bound is refused, not evicted under its own write */
    (void)ask(engine, "FLUSHDB");
    for (int i = 0; i < 500; i++) {
        char line[160];

        (void)snprintf(line, sizeof(line), "HSET hash field:%d %0100d", i, i);
        if (ask(engine, line)[0] == '-') {
            break;
        }
    }
    CHECK(strcmp(ask_last(), oom) == 0);
    CHECK(used(engine) <= 10000);
    CHECK(atoi(ask(engine, "HLEN hash") + 1) > 20);
    redlane_engine_free(engine);
}

/* SIEVE keeps what is used again and again, through a flood of keys used once. */
static void
test_evicts_by_sieve(void)
{
    RedlaneEngine *engine = redlane_engine_new(20000);
    RedlaneEngineStats stats;
    char line[160];

    for (int i = 0; i < 20; i++) {
        (void)snprintf(line, sizeof(line), "SET hot:%d v", i);
        (void)ask(engine, line);
    }
    for (int i = 0; i < 5000; i++) {
        (void)snprintf(line, sizeof(line), "GET hot:%d", i % 20);
        CHECK(strcmp(ask(engine, line), "$v") == 0);
        (void)snprintf(line, sizeof(line), "SET cold:%d v", i);
        (void)ask(engine, line);
    }
    redlane_engine_stats(engine, &stats);
    CHECK(stats.evictions > 4000 && stats.bytes <= 20000 && stats.keys > 100);
    redlane_engine_free(engine);
}

/* Row 19 of the promises: at most 160 bytes an entry beside key and value. */
static void
test_overhead(void)
{
    RedlaneEngine *engine = redlane_engine_new((size_t)256 << 20);
    size_t payload = 0, worst = 0, count = 0;

    for (int i = 0; i < 100000; i++) {
        char line[160];
        int size = snprintf(line, sizeof(line), "SET user:%d value", i);

        (void)ask(engine, line);
        payload += (size_t)size - strlen("SET  ");
        count++;
        if (i > 1000 && (used(engine) - payload) / count > worst) {
            worst = (used(engine) - payload) / count;
        }
    }
    CHECK(worst <= 160);
    redlane_engine_free(engine);
}

void
test_engine_memory(void)
{
    test_nothing_is_lost();
    test_refuses_what_cannot_fit();
    test_evicts_by_sieve();
    test_overhead();
}
