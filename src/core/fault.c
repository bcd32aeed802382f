#include "core/fault.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void
redlane_fault_set(RedlaneFault *fault, RedlaneFaultKind kind, const char *format, ...)
{
    va_list arguments;

    fault->kind = kind;
    va_start(arguments, format);
    (void)vsnprintf(fault->text, sizeof(fault->text), format, arguments);
    va_end(arguments);
}

static bool
begins_with(const char *line, size_t size, const char *word)
{
    size_t length = strlen(word);

    return size >= length && memcmp(line, word, length) == 0;
}

/* Servers before 7 put a script's error behind where it arose: "ERR Error running
 * script (call to f_…): @user_script:1: @user_script: 1: -OOM command …", or, where the
 * script itself returned it, "@user_script: 1: -OOM command …". The line from OOM on.
 */
static const char *
find_inner(const char *line, size_t *size)
{
    const char *end = line + *size;

    if (!begins_with(line, *size, "ERR Error running script") &&
        !begins_with(line, *size, "@user_script:")) {
        return line;
    }
    for (const char *at = line; end - at > 3; at++) {
        if (memcmp(at, ": -", 3) == 0) {
            *size = (size_t)(end - at) - 3;
            return at + 3;
        }
    }
    return line;
}

RedlaneFaultKind
redlane_fault_of_reply(const char *line, size_t size)
{
    static const struct {
        const char *word;
        RedlaneFaultKind kind;
    } words[] = {
        {"LOADING ", REDLANE_FAULT_REPLY},     {"MASTERDOWN ", REDLANE_FAULT_REPLY},
        {"CLUSTERDOWN ", REDLANE_FAULT_REPLY}, {"BUSY ", REDLANE_FAULT_REPLY},
        {"OOM ", REDLANE_FAULT_WRITES},        {"READONLY ", REDLANE_FAULT_WRITES},
        {"MISCONF ", REDLANE_FAULT_WRITES},    {"NOREPLICAS ", REDLANE_FAULT_WRITES},
    };

    line = find_inner(line, &size);
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (begins_with(line, size, words[i].word)) {
            return words[i].kind;
        }
    }
    return REDLANE_FAULT_NONE;
}

bool
redlane_fault_is_crowded(const RedlaneFault *fault)
{
    return fault->kind == REDLANE_FAULT_REPLY &&
           begins_with(fault->text, strlen(fault->text), "ERR max number of clients");
}

bool
redlane_fault_allows_deletes(const char *line, size_t size)
{
    line = find_inner(line, &size);
    return begins_with(line, size, "OOM ");
}
