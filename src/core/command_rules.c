#include "core/command_rules.h"

#include <string.h>

#include "core/clock.h"
#include "core/number.h"

typedef struct {
    const char *command;
    const char *argument; /* its first one, upper case */
    const char *instead;
} SubcommandRule;

/* Sub-commands that change the connection they are sent on. After CLIENT REPLY SKIP
 * every later caller would get another's reply; after SCRIPT DEBUG each EVAL would wait
 * for a debugger. */
static const SubcommandRule subcommand_rules[] = {
    {"CLIENT", "CACHING", "a Cache, whose keys need no tracking"},
    {"CLIENT", "CAPA", "the defaults, which redlane relies on"},
    {"CLIENT", "IMPORT-SOURCE", "redis-cli"},
    {"CLIENT", "NO-EVICT", "redis-cli"},
    {"CLIENT", "NO-TOUCH", "redis-cli"},
    {"CLIENT", "REPLY", "pipeline(), whose replies may be ignored"},
    {"CLIENT", "SETINFO", "the client's name= option"},
    {"CLIENT", "SETNAME", "the client's name= option"},
    {"CLIENT", "TRACKING", "a Cache, whose keys need no tracking"},
    {"SCRIPT", "DEBUG", "redis-cli --ldb"},
};

/* Case-insensitively against an upper-case word. */
static bool
argument_is(const RedlaneArg *argument, const char *word)
{
    size_t size = strlen(word);

    if (argument->size != size) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        char byte = argument->data[i];

        if (byte >= 'a' && byte <= 'z') {
            byte = (char)(byte - 32);
        }
        if (byte != word[i]) {
            return false;
        }
    }
    return true;
}

const char *
redlane_command_refusal(const RedlaneVector *vector)
{
    const RedlaneCommand *command = vector->command;

    if (command->kind == REDLANE_COMMAND_STATEFUL) {
        return command->instead;
    }
    /* only these two have rules, and no engine command is among them */
    if (command->id != REDLANE_CMD_NONE || vector->argc < 2) {
        return NULL;
    }
    for (size_t i = 0; i < sizeof(subcommand_rules) / sizeof(subcommand_rules[0]);
         i++) {
        const SubcommandRule *rule = &subcommand_rules[i];

        if (strcmp(rule->command, command->name) == 0 &&
            argument_is(&vector->argv[1], rule->argument)) {
            return rule->instead;
        }
    }
    return NULL;
}

/* The argument of XREAD's or XREADGROUP's BLOCK, before STREAMS: behind that word all
 * are keys and ids. NULL when there is none. */
static const RedlaneArg *
find_block_argument(const RedlaneVector *vector)
{
    size_t at = 1;

    if (strcmp(vector->command->name, "XREADGROUP") == 0) {
        at = 4; /* GROUP group consumer: names that may read BLOCK */
    }
    while (at + 1 < vector->argc) {
        const RedlaneArg *argument = &vector->argv[at];

        if (argument_is(argument, "STREAMS")) {
            return NULL;
        }
        if (argument_is(argument, "BLOCK")) {
            return argument + 1;
        }
        at += argument_is(argument, "COUNT") ? 2 : 1;
    }
    return NULL;
}

static const RedlaneArg *
find_time_argument(const RedlaneVector *vector)
{
    int at = vector->command->block_at;

    if (at == 0) {
        return find_block_argument(vector);
    }
    if (at > 0) {
        return (size_t)at < vector->argc ? &vector->argv[at] : NULL;
    }
    return (size_t)-at < vector->argc ? &vector->argv[vector->argc - (size_t)-at]
                                      : NULL;
}

bool
redlane_command_block_ns(const RedlaneVector *vector, int64_t *ns)
{
    const RedlaneArg *argument;
    int64_t ms;
    long double seconds;

    if (vector->command->kind != REDLANE_COMMAND_BLOCKING) {
        return false;
    }
    argument = find_time_argument(vector);
    if (!argument) {
        return false;
    }
    if (vector->command->block_ms) {
        if (!redlane_number_parse_int64(argument->data, argument->size, &ms) ||
            ms < 0) {
            return false;
        }
        *ns = ms == 0 || ms >= INT64_MAX / REDLANE_NS_PER_MS ? REDLANE_NEVER
                                                             : ms * REDLANE_NS_PER_MS;
        return true;
    }
    if (!redlane_number_parse_long_double(argument->data, argument->size, &seconds) ||
        seconds < 0) {
        return false;
    }
    *ns = seconds == 0 || seconds >= (long double)(INT64_MAX / REDLANE_NS_PER_S)
              ? REDLANE_NEVER
              : (int64_t)(seconds * (long double)REDLANE_NS_PER_S);
    return true;
}

bool
redlane_command_arity_fits(const RedlaneVector *vector)
{
    int arity = vector->command->arity;

    return arity >= 0 ? vector->argc == (size_t)arity : vector->argc >= (size_t)-arity;
}
