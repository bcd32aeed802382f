/* Commands about the engine as a whole: PING, INFO, DBSIZE, FLUSHDB and the like.
 *
 * Plain C, with the engine's lock held. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/number.h"
#include "store/engine_internal.h"

void
redlane_engine_do_PING(RedlaneEngine *engine, const RedlaneVector *vector,
                       RedlaneReply *reply)
{
    (void)engine;
    if (vector->argc > 2) {
        redlane_engine_error_named(reply, vector, REDLANE_ERROR_ARITY);
    }
    else if (vector->argc == 2) {
        redlane_reply_bulk(reply, vector->argv[1].data, vector->argv[1].size);
    }
    else {
        redlane_reply_status(reply, "PONG");
    }
}

void
redlane_engine_do_ECHO(RedlaneEngine *engine, const RedlaneVector *vector,
                       RedlaneReply *reply)
{
    (void)engine;
    redlane_reply_bulk(reply, vector->argv[1].data, vector->argv[1].size);
}

void
redlane_engine_do_TIME(RedlaneEngine *engine, const RedlaneVector *vector,
                       RedlaneReply *reply)
{
    int64_t now = redlane_clock_read(CLOCK_REALTIME) / 1000;
    char text[REDLANE_INT64_TEXT];

    (void)engine;
    (void)vector;
    redlane_reply_array(reply, 2);
    redlane_reply_bulk(reply, text, redlane_number_format_int64(text, now / 1000000));
    redlane_reply_bulk(reply, text, redlane_number_format_int64(text, now % 1000000));
}

void
redlane_engine_do_DBSIZE(RedlaneEngine *engine, const RedlaneVector *vector,
                         RedlaneReply *reply)
{
    (void)vector;
    redlane_reply_integer(reply, (int64_t)engine->keys.count);
}

void
redlane_engine_do_FLUSHDB(RedlaneEngine *engine, const RedlaneVector *vector,
                          RedlaneReply *reply)
{
    if (vector->argc > 2 ||
        (vector->argc == 2 && !redlane_arg_is(vector->argv[1], "SYNC") &&
         !redlane_arg_is(vector->argv[1], "ASYNC"))) {
        redlane_reply_error(reply, REDLANE_ERROR_SYNTAX);
        return;
    }
    redlane_engine_clear(engine);
    redlane_reply_status(reply, "OK");
}

void
redlane_engine_do_FLUSHALL(RedlaneEngine *engine, const RedlaneVector *vector,
                           RedlaneReply *reply)
{
    redlane_engine_do_FLUSHDB(engine, vector, reply);
}

/* The stores above know who has subscribed. */
void
redlane_engine_do_PUBLISH(RedlaneEngine *engine, const RedlaneVector *vector,
                          RedlaneReply *reply)
{
    (void)engine;
    (void)vector;
    redlane_reply_integer(reply, 0);
}

/* Bytes as INFO writes them for people. */
static void
format_bytes(char *out, size_t out_size, size_t bytes)
{
    static const char units[] = "BKMGT";
    double value = (double)bytes;
    size_t unit = 0;

    while (value >= 1024 && unit < sizeof(units) - 2) {
        value /= 1024;
        unit++;
    }
    if (unit) {
        int64_t cents = (int64_t)(value * 100 + 0.5); /* no locale's comma */

        (void)snprintf(out, out_size, "%" PRId64 ".%02" PRId64 "%c", cents / 100,
                       cents % 100, units[unit]);
    }
    else {
        (void)snprintf(out, out_size, "%zuB", bytes);
    }
}

/* redis_version names the dialect that is spoken, redlane_engine who speaks it. */
static void
write_server(const RedlaneEngine *engine, char *out, size_t size)
{
    (void)snprintf(out, size,
                   "# Server\r\nredis_version:7.0.0\r\nredis_mode:memory\r\n"
                   "redlane_engine:1\r\n"
                   "uptime_in_seconds:%" PRId64 "\r\n",
                   (redlane_clock_now() - engine->born) / REDLANE_NS_PER_S);
}

static void
write_memory(const RedlaneEngine *engine, char *out, size_t size)
{
    char used[32], bound[32];

    format_bytes(used, sizeof(used), engine->used);
    format_bytes(bound, sizeof(bound), engine->max_bytes);
    (void)snprintf(out, size,
                   "# Memory\r\nused_memory:%zu\r\nused_memory_human:%s\r\n"
                   "maxmemory:%zu\r\nmaxmemory_human:%s\r\nmaxmemory_policy:sieve\r\n",
                   engine->used, used, engine->max_bytes, bound);
}

static void
write_stats(const RedlaneEngine *engine, char *out, size_t size)
{
    (void)snprintf(out, size,
                   "# Stats\r\ntotal_commands_processed:%zu\r\nexpired_keys:%zu\r\n"
                   "evicted_keys:%zu\r\nkeyspace_hits:%zu\r\nkeyspace_misses:%zu\r\n",
                   engine->commands, engine->expired, engine->evictions, engine->hits,
                   engine->misses);
}

static void
write_keyspace(const RedlaneEngine *engine, char *out, size_t size)
{
    if (!engine->keys.count) {
        (void)snprintf(out, size, "# Keyspace\r\n");
        return;
    }
    (void)snprintf(out, size, "# Keyspace\r\ndb0:keys=%zu,expires=%zu,avg_ttl=0\r\n",
                   engine->keys.count, engine->with_ttl);
}

static const struct {
    const char *name;
    void (*write)(const RedlaneEngine *engine, char *out, size_t size);
} sections[] = {{"SERVER", write_server},
                {"MEMORY", write_memory},
                {"STATS", write_stats},
                {"KEYSPACE", write_keyspace}};

static bool
section_wanted(const RedlaneVector *vector, const char *name)
{
    if (vector->argc == 1) {
        return true;
    }
    for (size_t i = 1; i < vector->argc; i++) {
        RedlaneArg arg = vector->argv[i];

        if (redlane_arg_is(arg, name) || redlane_arg_is(arg, "DEFAULT") ||
            redlane_arg_is(arg, "ALL") || redlane_arg_is(arg, "EVERYTHING")) {
            return true;
        }
    }
    return false;
}

void
redlane_engine_do_INFO(RedlaneEngine *engine, const RedlaneVector *vector,
                       RedlaneReply *reply)
{
    char text[2048];
    size_t size = 0;

    text[0] = '\0';
    for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
        if (!section_wanted(vector, sections[i].name)) {
            continue;
        }
        if (size) {
            memcpy(text + size, "\r\n", 3);
            size += 2;
        }
        sections[i].write(engine, text + size, sizeof(text) - size - 3);
        size += strlen(text + size);
    }
    redlane_reply_bulk(reply, text, size);
}
