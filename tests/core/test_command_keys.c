#include "core/command_keys.h"

#include <string.h>

#include "harness.h"

/* Checks the span of a command: `wanted` is "first end step". */
static void
check_span(const char *const *words, size_t first, size_t end, size_t step)
{
    RedlaneArg argv[12];
    RedlaneVector vector = {.argv = argv};
    RedlaneKeySpan span;

    while (words[vector.argc]) {
        argv[vector.argc] =
            (RedlaneArg){words[vector.argc], strlen(words[vector.argc])};
        vector.argc++;
    }
    vector.command = redlane_command_find(argv[0].data, argv[0].size);
    span = redlane_command_keys(&vector);
    check_integer((int64_t)span.first, (int64_t)first, words[0], __FILE__, __LINE__);
    check_integer((int64_t)span.end, (int64_t)end, words[0], __FILE__, __LINE__);
    check_integer((int64_t)span.step, (int64_t)step, words[0], __FILE__, __LINE__);
}

#define CHECK_SPAN(first, end, step, ...) \
    check_span((const char *const[]){__VA_ARGS__, NULL}, first, end, step)

static void
test_kinds(void)
{
    CHECK_SPAN(1, 2, 1, "GET", "k");
    CHECK_SPAN(1, 2, 1, "set", "k", "v", "EX", "5");
    CHECK_SPAN(1, 2, 1, "ZRANGE", "k", "0", "-1");
    CHECK_SPAN(1, 2, 1, "HDEL", "k", "f", "g");
    CHECK_SPAN(1, 4, 1, "MGET", "a", "b", "c");
    CHECK_SPAN(1, 3, 1, "DEL", "a", "b");
    CHECK_SPAN(1, 2, 1, "UNLINK", "a");
    CHECK_SPAN(1, 3, 1, "EXISTS", "a", "a");
    CHECK_SPAN(1, 5, 2, "MSET", "a", "1", "b", "2");
    CHECK_SPAN(3, 5, 1, "EVAL", "return 1", "2", "a", "b", "x");
    CHECK_SPAN(3, 4, 1, "EVALSHA", "0123", "1", "a");
    CHECK_SPAN(3, 3, 1, "EVAL", "return 1", "0", "x");
}

static void
test_none(void)
{
    CHECK_SPAN(1, 1, 1, "KEYS", "a*");
    CHECK_SPAN(1, 1, 1, "SCAN", "0", "MATCH", "a*");
    CHECK_SPAN(1, 1, 1, "PUBLISH", "channel", "x");
    CHECK_SPAN(1, 1, 1, "PING", "x");
    CHECK_SPAN(1, 1, 1, "ECHO", "x");
    CHECK_SPAN(1, 1, 1, "TIME");
    CHECK_SPAN(1, 1, 1, "INFO", "server");
    CHECK_SPAN(1, 1, 1, "DBSIZE");
    CHECK_SPAN(1, 1, 1, "FLUSHDB", "ASYNC");
    CHECK_SPAN(1, 1, 1, "FLUSHALL");
    CHECK_SPAN(1, 1, 1, "LPUSH", "k", "x"); /* not the engine's */
    CHECK_SPAN(1, 1, 1, "NOSUCHCOMMAND", "k");
}

static void
test_malformed(void)
{
    CHECK_SPAN(1, 1, 1, "GET");
    CHECK_SPAN(1, 1, 1, "MGET");
    CHECK_SPAN(1, 1, 2, "MSET");
    CHECK_SPAN(1, 4, 2, "MSET", "a", "1", "b");
    CHECK_SPAN(1, 1, 1, "EVAL");
    CHECK_SPAN(1, 1, 1, "EVAL", "return 1");
    CHECK_SPAN(1, 1, 1, "EVAL", "return 1", "1");
    CHECK_SPAN(1, 1, 1, "EVAL", "return 1", "3", "a", "b");
    CHECK_SPAN(1, 1, 1, "EVAL", "return 1", "-1", "a");
    CHECK_SPAN(1, 1, 1, "EVAL", "return 1", "one", "a");
    CHECK_SPAN(1, 1, 1, "EVAL", "return 1", "9223372036854775807", "a");
    CHECK_SPAN(1, 1, 1, "EVAL", "return 1", "18446744073709551616", "a");
}

/* Whatever the command and however many its words, the span lies within argv. */
static void
test_within_argv(void)
{
    static const RedlaneArg argv[5] = {
        {"x", 1}, {"1", 1}, {"2", 1}, {"3", 1}, {"4", 1}};

    for (int id = REDLANE_CMD_NONE + 1; id < REDLANE_CMD_COUNT; id++) {
        for (size_t argc = 1; argc <= 5; argc++) {
            RedlaneVector vector = {argv, argc,
                                    redlane_command_by_id((RedlaneCommandId)id)};
            RedlaneKeySpan span = redlane_command_keys(&vector);

            CHECK(span.first >= 1 && span.first <= span.end && span.step >= 1);
            CHECK(span.first == span.end || span.end <= argc);
        }
    }
}

void
test_command_keys(void)
{
    test_kinds();
    test_none();
    test_malformed();
    test_within_argv();
}
