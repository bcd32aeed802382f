#include "core/fault.h"

#include <string.h>

#include "harness.h"

#define FULL "OOM command not allowed when used memory > 'maxmemory'."

static RedlaneFaultKind
kind_of(const char *line)
{
    return redlane_fault_of_reply(line, strlen(line));
}

static bool
allows_deletes(const char *line)
{
    return redlane_fault_allows_deletes(line, strlen(line));
}

static void
test_lines(void)
{
    static const struct {
        const char *line;
        RedlaneFaultKind kind;
    } lines[] = {
        {"LOADING Redis is loading the dataset in memory", REDLANE_FAULT_REPLY},
        {"LOADING Valkey is loading the dataset in memory", REDLANE_FAULT_REPLY},
        {"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to "
         "'no'.",
         REDLANE_FAULT_REPLY},
        {"CLUSTERDOWN The cluster is down", REDLANE_FAULT_REPLY},
        {"BUSY Redis is busy running a script. You can only call SCRIPT KILL or "
         "SHUTDOWN NOSAVE.",
         REDLANE_FAULT_REPLY},
        {FULL, REDLANE_FAULT_WRITES},
        {"READONLY You can't write against a read only replica.", REDLANE_FAULT_WRITES},
        {"MISCONF Redis is configured to save RDB snapshots, but it's currently unable "
         "to persist to disk.",
         REDLANE_FAULT_WRITES},
        {"NOREPLICAS Not enough good replicas to write.", REDLANE_FAULT_WRITES},
        {"", REDLANE_FAULT_NONE},
        {"OOM", REDLANE_FAULT_NONE},
        {"ERR syntax error", REDLANE_FAULT_NONE},
        {"WRONGTYPE Operation against a key holding the wrong kind of value",
         REDLANE_FAULT_NONE},
        {"BUSYGROUP Consumer Group name already exists", REDLANE_FAULT_NONE},
        {"BUSYKEY Target key name already exists.", REDLANE_FAULT_NONE},
        {"READONLYISH thing", REDLANE_FAULT_NONE},
        {"oom command", REDLANE_FAULT_NONE},
        {"ERR the value was: -OOM command", REDLANE_FAULT_NONE},
    };

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        CHECK_INTEGER(kind_of(lines[i].line), lines[i].kind);
    }
    CHECK(allows_deletes(FULL));
    CHECK(!allows_deletes("READONLY You can't write against a read only replica."));
    CHECK(!allows_deletes("MISCONF Redis is configured to save RDB snapshots"));
    CHECK(!allows_deletes("NOREPLICAS Not enough good replicas to write."));
    CHECK(!allows_deletes("ERR syntax error"));
    /* only the bytes that are given count */
    CHECK_INTEGER(redlane_fault_of_reply(FULL, 4), REDLANE_FAULT_WRITES);
    CHECK_INTEGER(redlane_fault_of_reply(FULL, 3), REDLANE_FAULT_NONE);
}

/* Servers from 7 on begin a script's error with its own code, those before do not. */
static void
test_lines_of_scripts(void)
{
#define CALLED "ERR Error running script (call to f_7b91ed9f): @user_script:7: "
#define RETURNED "@user_script: 7: "

    CHECK_INTEGER(kind_of(FULL " script: 7b91ed9f, on @user_script:7."),
                  REDLANE_FAULT_WRITES);
    CHECK(allows_deletes(FULL " script: 7b91ed9f, on @user_script:7."));
    CHECK_INTEGER(kind_of(CALLED RETURNED "-" FULL "  "), REDLANE_FAULT_WRITES);
    CHECK(allows_deletes(CALLED RETURNED "-" FULL "  "));
    CHECK_INTEGER(kind_of(RETURNED "-" FULL "  "), REDLANE_FAULT_WRITES);
    CHECK(allows_deletes(RETURNED "-" FULL "  "));
    CHECK_INTEGER(kind_of(CALLED RETURNED "-READONLY You can't write"),
                  REDLANE_FAULT_WRITES);
    CHECK(!allows_deletes(CALLED RETURNED "-READONLY You can't write"));
    CHECK_INTEGER(kind_of(RETURNED "-MISCONF Errors writing to the AOF file: x"),
                  REDLANE_FAULT_WRITES);
    CHECK_INTEGER(kind_of(CALLED "WRONGTYPE Operation against a key"),
                  REDLANE_FAULT_NONE);
    CHECK_INTEGER(kind_of(CALLED RETURNED "Wrong number of args calling Redis command"),
                  REDLANE_FAULT_NONE);
    CHECK_INTEGER(kind_of(RETURNED "-"), REDLANE_FAULT_NONE);
    CHECK_INTEGER(kind_of(CALLED ": -"), REDLANE_FAULT_NONE);
    CHECK_INTEGER(kind_of("ERR Error running script"), REDLANE_FAULT_NONE);
    for (size_t size = 0; size < sizeof(RETURNED "-OOM ") - 1; size++) {
        CHECK_INTEGER(redlane_fault_of_reply(RETURNED "-OOM ", size),
                      REDLANE_FAULT_NONE);
    }
#undef CALLED
#undef RETURNED
}

static void
test_text(void)
{
    RedlaneFault fault;

    redlane_fault_set(&fault, REDLANE_FAULT_TIMEOUT, "after %d ms", 20);
    CHECK_INTEGER(fault.kind, REDLANE_FAULT_TIMEOUT);
    CHECK_BYTES(fault.text, strlen(fault.text), "after 20 ms");
    redlane_fault_set(&fault, REDLANE_FAULT_LOST, "%0500d", 1);
    CHECK_INTEGER(strlen(fault.text), sizeof(fault.text) - 1);
}

void
test_fault(void)
{
    test_lines();
    test_lines_of_scripts();
    test_text();
}
