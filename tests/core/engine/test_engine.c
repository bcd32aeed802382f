/* The engine's commands where the differential test cannot look: what differs from a
 * server on purpose, and corners of its own. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/script.h"
#include "engine_tests.h"

static char text[1 << 16];

static void
print_node(const RedlaneReply *reply, size_t *offset, size_t *used)
{
    RedlaneNode node;

    if (!redlane_reply_next(reply, offset, &node) || *used > sizeof(text) - 512) {
        return;
    }
    switch (node.kind) {
    case REDLANE_REPLY_NIL:
        *used += (size_t)snprintf(text + *used, 64, "_");
        break;
    case REDLANE_REPLY_INTEGER:
        *used += (size_t)snprintf(text + *used, 64, ":%" PRId64, node.number);
        break;
    case REDLANE_REPLY_ARRAY:
        *used += (size_t)snprintf(text + *used, 64, "*%" PRId64, node.number);
        for (int64_t i = 0; i < node.number; i++) {
            text[(*used)++] = ' ';
            print_node(reply, offset, used);
        }
        break;
    case REDLANE_REPLY_STATUS:
    case REDLANE_REPLY_ERROR:
    case REDLANE_REPLY_BULK:
        *used += (size_t)snprintf(text + *used, 400, "%c%.*s", node.kind,
                                  (int)node.size, node.data);
        break;
    }
}

const char *
ask_vector(RedlaneEngine *engine, const RedlaneArg *argv, size_t argc)
{
    RedlaneVector vector = {argv, argc,
                            redlane_command_find(argv[0].data, argv[0].size)};
    RedlaneReply reply = {0};
    size_t offset = 0, used = 0;

    redlane_engine_run(engine, &vector, 1, false, &reply);
    text[0] = '\0';
    print_node(&reply, &offset, &used);
    CHECK(!reply.failed && offset == reply.nodes.size);
    redlane_buffer_free(&reply.nodes);
    return text;
}

const char *
ask(RedlaneEngine *engine, const char *line)
{
    RedlaneArg argv[64];
    size_t argc = 0;

    while (*line && argc < 64) {
        size_t size = strcspn(line, " ");

        argv[argc++] = (RedlaneArg){line, size};
        line += size + (line[size] == ' ');
    }
    return ask_vector(engine, argv, argc);
}

const char *
ask_last(void)
{
    return text;
}

void
check_reply(RedlaneEngine *engine, const char *line, const char *wanted,
            const char *file, int where)
{
    const char *got = ask(engine, line);

    check_bytes(got, strlen(got), wanted, strlen(wanted), line, file, where);
}

static void
test_refusals(RedlaneEngine *engine)
{
    CHECK_REPLY(engine, "get", "-ERR wrong number of arguments for 'get' command");
    CHECK_REPLY(engine, "GET a b", "-ERR wrong number of arguments for 'get' command");
    CHECK_REPLY(engine, "LPUSH secret value", "-ERR unknown command 'LPUSH'");
    CHECK_REPLY(engine, "nosuch secret", "-ERR unknown command 'nosuch'");
    CHECK_REPLY(engine, "EVAL return 0",
                "-ERR this script does not run on the memory engine: it executes only "
                "redlane's own scripts");
    CHECK_REPLY(engine, "EVALSHA 0123 0",
                "-NOSCRIPT No matching script. Please use EVAL.");
}

static void
test_transactions(RedlaneEngine *engine)
{
    RedlaneArg set[] = {REDLANE_ARG_LITERAL("SET"), REDLANE_ARG_LITERAL("t"),
                        REDLANE_ARG_LITERAL("1")};
    RedlaneArg bad[] = {REDLANE_ARG_LITERAL("INCR")};
    RedlaneArg incr[] = {REDLANE_ARG_LITERAL("INCR"), REDLANE_ARG_LITERAL("t")};
    const RedlaneCommand *incr_row = redlane_command_find("INCR", 4);
    RedlaneVector vectors[] = {{set, 3, redlane_command_find("SET", 3)},
                               {bad, 1, incr_row},
                               {incr, 2, incr_row}};
    RedlaneReply replies[3] = {0};
    RedlaneNode node;
    size_t offset = 0;

    redlane_engine_run(engine, vectors, 3, true, replies);
    CHECK(redlane_reply_next(&replies[0], &offset, &node));
    CHECK(node.kind == REDLANE_REPLY_ERROR && memcmp(node.data, "EXECABORT", 9) == 0);
    offset = 0;
    CHECK(redlane_reply_next(&replies[1], &offset, &node));
    CHECK(node.kind == REDLANE_REPLY_ERROR && memcmp(node.data, "ERR wrong", 9) == 0);
    CHECK_REPLY(engine, "GET t", "_");
    for (int i = 0; i < 3; i++) {
        redlane_buffer_free(&replies[i].nodes);
    }
}

static void
test_script_arguments(RedlaneEngine *engine)
{
    const char *sha1 = redlane_scripts[REDLANE_SCRIPT_FILL].sha1;
    RedlaneArg argv[] = {REDLANE_ARG_LITERAL("EVALSHA"),
                         {sha1, 40},
                         REDLANE_ARG_LITERAL("1"),
                         REDLANE_ARG_LITERAL("key"),
                         REDLANE_ARG_LITERAL("lease")};

    CHECK(strstr(ask_vector(engine, argv, 5), "wrong number of arguments for the"));
    CHECK(strstr(ask_vector(engine, argv, 3), "greater than number of args"));
    argv[2] = REDLANE_ARG_LITERAL("-1");
    CHECK(strstr(ask_vector(engine, argv, 5), "can't be negative"));
}

static const char *
ask_slot(RedlaneEngine *engine, const char *mode, int token, const char *lease)
{
    char name[8];
    RedlaneArg argv[] = {REDLANE_ARG_LITERAL("EVALSHA"),
                         {redlane_scripts[REDLANE_SCRIPT_SLOT].sha1, 40},
                         REDLANE_ARG_LITERAL("1"),
                         REDLANE_ARG_LITERAL("slots"),
                         {mode, 1},
                         {name, (size_t)snprintf(name, sizeof(name), "t%d", token)},
                         REDLANE_ARG_LITERAL("20"),
                         {lease, strlen(lease)}};

    return ask_vector(engine, argv, 8);
}

/* Many slots come, go and end, the limit being 20. */
static void
test_slots(RedlaneEngine *engine)
{
    static const char modes[][2] = {"a", "a", "x", "r", "p"};
    static const char leases[][8] = {"1", "2", "100000", "200000"};
    struct timespec pause = {0, 3 * 1000 * 1000};
    int done, held;

    srand(7);
    for (int i = 0; i < 20000; i++) {
        const char *mode = modes[rand() % 5];
        const char *reply = ask_slot(engine, mode, rand() % 40, leases[rand() % 4]);

        CHECK(sscanf(reply, "*3 :%d :%d :", &done, &held) == 2);
        CHECK(held >= 0 && held <= 20);
        if (i % 1000 == 0) {
            (void)nanosleep(&pause, NULL);
        }
    }
    for (int i = 0; i < 40; i++) {
        (void)ask_slot(engine, "r", i, "1");
    }
    CHECK(strcmp(ask_slot(engine, "p", 0, "1"), "*3 :1 :0 :0") == 0);
    CHECK_REPLY(engine, "EXISTS slots", ":0");
    CHECK(strcmp(ask_slot(engine, "a", 1, "0"),
                 "-ERR bad arguments for the script 'slot'") == 0);
    CHECK(strcmp(ask_slot(engine, "a", 1, "1000"), "*3 :1 :1 :0") == 0);
    CHECK(strstr(ask(engine, "DEL slots"), ":1"));
    CHECK_REPLY(engine, "SET slots x", "+OK");
    CHECK(strstr(ask_slot(engine, "a", 1, "1000"), "-WRONGTYPE"));
    CHECK_REPLY(engine, "DEL slots", ":1");
}

/* Expired keys go without being read: the sweep of later writes meets them. */
static void
test_sweep(RedlaneEngine *engine)
{
    RedlaneEngineStats stats;
    struct timespec pause = {0, 20 * 1000 * 1000};
    char line[64];

    for (int i = 0; i < 500; i++) {
        (void)snprintf(line, sizeof(line), "SET sweep:%d v PX 5", i);
        (void)ask(engine, line);
    }
    (void)nanosleep(&pause, NULL);
    for (int i = 0; i < 400; i++) {
        (void)ask(engine, "SET other v");
    }
    redlane_engine_stats(engine, &stats);
    CHECK(stats.expired >= 500);
    CHECK_INTEGER(stats.keys, 1);
}

static void
test_info(RedlaneEngine *engine)
{
    (void)ask(engine, "FLUSHDB");
    (void)ask(engine, "SET a 1 EX 100");
    CHECK(strstr(ask(engine, "INFO"), "redlane_engine:1\r\n"));
    CHECK(strstr(ask_last(), "# Memory\r\nused_memory:"));
    CHECK(strstr(ask(engine, "INFO keyspace"),
                 "# Keyspace\r\ndb0:keys=1,expires=1,avg_ttl=0\r\n"));
    CHECK(!strstr(ask_last(), "# Memory"));
}

void
test_engine(void)
{
    RedlaneEngine *engine = redlane_engine_new(REDLANE_ENGINE_MAX_BYTES);

    test_refusals(engine);
    test_transactions(engine);
    test_script_arguments(engine);
    test_slots(engine);
    test_sweep(engine);
    test_info(engine);
    redlane_engine_free(engine);
}
