#include "core/fault.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void
redlane_fault_set(RedlaneFault *fault, RedlaneFaultKind kind, const char *format, ...)
{
    va_list arguments;

    fault->kind = kind;
    fault->retry_after = 0;
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

/* Reads the words before the reason: its place, or NULL. */
static const char *
read_relay(const char *line, size_t size, RedlaneFaultKind *kind, int *seconds)
{
    static const struct {
        const char *words;
        RedlaneFaultKind kind;
    } kinds[] = {{"RELAY away ", REDLANE_FAULT_CONNECT},
                 {"RELAY unsure ", REDLANE_FAULT_LOST},
                 {"RELAY refused ", REDLANE_FAULT_REPLY}};

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        const char *at = line + strlen(kinds[i].words), *end = line + size;
        int number = 0, sign = 1;

        if (!begins_with(line, size, kinds[i].words)) {
            continue;
        }
        if (at < end && *at == '-') {
            sign = -1;
            at++;
        }
        for (; at < end && *at >= '0' && *at <= '9' && number < 1000000; at++) {
            number = 10 * number + (*at - '0');
        }
        *kind = kinds[i].kind;
        *seconds = sign * number;
        return at < end && *at == ' ' ? at + 1 : at;
    }
    return NULL;
}

bool
redlane_fault_of_relay(const char *line, size_t size, RedlaneFault *fault)
{
    RedlaneFaultKind kind = REDLANE_FAULT_NONE;
    int seconds = 0;
    const char *reason = read_relay(line, size, &kind, &seconds);

    if (!reason) {
        return false;
    }
    redlane_fault_set(fault, kind, "%.*s", (int)(line + size - reason), reason);
    fault->retry_after = seconds;
    return true;
}

const char *
redlane_fault_shown(const char *text)
{
    RedlaneFaultKind kind;
    int seconds;
    const char *reason = read_relay(text, strlen(text), &kind, &seconds);

    return reason ? reason : text;
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
        {"RELAY away ", REDLANE_FAULT_REPLY},  {"RELAY unsure ", REDLANE_FAULT_REPLY},
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
