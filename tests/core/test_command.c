#include "core/command.h"

#include <string.h>

#include "core/clock.h"
#include "core/command_rules.h"
#include "core/vector.h"
#include "harness.h"

static const char *const engine_names[] = {
    [0] = "",
#define REDLANE_ENGINE_COMMAND(id) #id,
#include "core/engine_commands.def"
#undef REDLANE_ENGINE_COMMAND
};

/* The vector of a command line whose words are parted by single spaces. */
static RedlaneVector
split_line(const char *line, RedlaneArg *argv)
{
    RedlaneVector vector = {argv, 0, NULL};

    for (;;) {
        size_t size = strcspn(line, " ");

        argv[vector.argc++] = (RedlaneArg){line, size};
        if (!line[size]) {
            break;
        }
        line += size + 1;
    }
    vector.command = redlane_command_find(argv[0].data, argv[0].size);
    return vector;
}

static const char *
refusal(const char *line)
{
    RedlaneArg argv[16];
    RedlaneVector vector = split_line(line, argv);

    return redlane_command_refusal(&vector);
}

/* -1: does not block. */
static int64_t
block_ns(const char *line)
{
    RedlaneArg argv[16];
    RedlaneVector vector = split_line(line, argv);
    int64_t ns;

    return redlane_command_block_ns(&vector, &ns) ? ns : -1;
}

static void
test_finding(void)
{
    static const char *const strangers[] = {
        "",
        "GE",
        "GETX",
        "JSON.GET",
        "EVAL\x7fRO",
        "RESTORE\rASKING",
        "GET ",
        "GEORADIUSBYMEMBER_ROX",
        "A-NAME-LONGER-THAN-ANY-COMMAND-OF-A-SERVER"};

    for (int id = 1; id < REDLANE_CMD_COUNT; id++) {
        const RedlaneCommand *row = redlane_command_by_id((RedlaneCommandId)id);

        CHECK(strcmp(row->name, engine_names[id]) == 0);
        CHECK_INTEGER(row->id, id);
        CHECK_INTEGER(row->kind, REDLANE_COMMAND_ORDINARY);
        CHECK(redlane_command_find(row->name, strlen(row->name)) == row);
    }
    CHECK(strcmp(redlane_command_find("zRangeByScore", 13)->name, "ZRANGEBYSCORE") ==
          0);
    CHECK(strcmp(redlane_command_find("eval_ro", 7)->name, "EVAL_RO") == 0);
    for (size_t i = 0; i < sizeof(strangers) / sizeof(strangers[0]); i++) {
        CHECK(redlane_command_find(strangers[i], strlen(strangers[i])) ==
              &REDLANE_COMMAND_UNKNOWN);
    }
    CHECK(redlane_command_find("GET\0", 4) == &REDLANE_COMMAND_UNKNOWN);
    CHECK(redlane_command_by_id(REDLANE_CMD_NONE) == &REDLANE_COMMAND_UNKNOWN);
    CHECK(redlane_command_find("GET", 3)->flags == REDLANE_COMMAND_READ);
    CHECK(redlane_command_find("INCR", 4)->flags == REDLANE_COMMAND_WRITE);
    CHECK(redlane_command_find("PUBLISH", 7)->flags == 0);
    CHECK_INTEGER(redlane_command_find("SET", 3)->arity, -3);
}

static void
test_refusals(void)
{
    static const char *const refused[] = {"SELECT 1",
                                          "hello 3",
                                          "AUTH x",
                                          "RESET",
                                          "QUIT",
                                          "MULTI",
                                          "EXEC",
                                          "DISCARD",
                                          "WATCH a",
                                          "UNWATCH",
                                          "SUBSCRIBE a",
                                          "PSUBSCRIBE a",
                                          "SSUBSCRIBE a",
                                          "UNSUBSCRIBE",
                                          "MONITOR",
                                          "SYNC",
                                          "PSYNC ? -1",
                                          "REPLCONF a b",
                                          "READONLY",
                                          "ASKING",
                                          "client reply off",
                                          "CLIENT tracking ON",
                                          "CLIENT SETNAME x",
                                          "CLIENT CACHING YES",
                                          "CLIENT NO-EVICT on",
                                          "CLIENT SETINFO a b",
                                          "SCRIPT DEBUG YES"};
    static const char *const sent[] = {"GET a",
                                       "CLIENT",
                                       "CLIENT LIST",
                                       "CLIENT ID",
                                       "CLIENT KILL ADDR x",
                                       "CLIENT REPLYX",
                                       "SCRIPT LOAD x",
                                       "SCRIPT FLUSH",
                                       "NEW.COMMAND a",
                                       "OBJECT HELP",
                                       "PUBLISH a b",
                                       "CONFIG GET x",
                                       "BLPOP a 0",
                                       "DEBUG SLEEP 1"};

    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        CHECK(refusal(refused[i]) != NULL);
    }
    for (size_t i = 0; i < sizeof(sent) / sizeof(sent[0]); i++) {
        CHECK(refusal(sent[i]) == NULL);
    }
}

static void
test_blocking(void)
{
    CHECK_INTEGER(block_ns("BLPOP a b 1.5"), 1500 * REDLANE_NS_PER_MS);
    CHECK_INTEGER(block_ns("blpop a 0"), REDLANE_NEVER);
    CHECK_INTEGER(block_ns("BLMPOP 2 1 a LEFT"), 2 * REDLANE_NS_PER_S);
    CHECK_INTEGER(block_ns("BLMOVE a b LEFT LEFT 0.25"), 250 * REDLANE_NS_PER_MS);
    CHECK_INTEGER(block_ns("WAIT 1 20"), 20 * REDLANE_NS_PER_MS);
    CHECK_INTEGER(block_ns("WAITAOF 1 1 20"), 20 * REDLANE_NS_PER_MS);
    CHECK_INTEGER(block_ns("XREAD COUNT 2 BLOCK 30 STREAMS a $"),
                  30 * REDLANE_NS_PER_MS);
    CHECK_INTEGER(block_ns("XREAD block 0 STREAMS a $"), REDLANE_NEVER);
    CHECK_INTEGER(block_ns("XREAD STREAMS BLOCK 5"), -1);
    CHECK_INTEGER(block_ns("XREADGROUP GROUP BLOCK 7 STREAMS a >"), -1);
    CHECK_INTEGER(block_ns("XREADGROUP GROUP BLOCK 7 BLOCK 9 STREAMS a >"),
                  9 * REDLANE_NS_PER_MS);
    CHECK_INTEGER(block_ns("BLPOP a x"), -1);
    CHECK_INTEGER(block_ns("BLPOP a -1"), -1);
    CHECK_INTEGER(block_ns("BLPOP a 1e300"), REDLANE_NEVER);
    CHECK_INTEGER(block_ns("BLPOP"), -1);
    CHECK_INTEGER(block_ns("WAIT 1 9223372036854775807"), REDLANE_NEVER);
    CHECK_INTEGER(block_ns("GET a"), -1);
}

static void
test_arity(void)
{
    RedlaneArg argv[16];
    RedlaneVector vector = split_line("GET a", argv);

    CHECK(redlane_command_arity_fits(&vector));
    vector = split_line("GET a b", argv);
    CHECK(!redlane_command_arity_fits(&vector));
    vector = split_line("SET a", argv);
    CHECK(!redlane_command_arity_fits(&vector));
    vector = split_line("SET a b EX 5", argv);
    CHECK(redlane_command_arity_fits(&vector));
    vector = split_line("STRANGER", argv);
    CHECK(redlane_command_arity_fits(&vector));
}

void
test_command(void)
{
    test_finding();
    test_refusals();
    test_blocking();
    test_arity();
}
