/* The command table: what redlane must know of a command before it is sent.
 *
 * Every name Redis 7 has is listed; a name that is not listed (a module's, a newer
 * server's) is REDLANE_COMMAND_UNKNOWN: ordinary, never retried. */
#ifndef REDLANE_CORE_COMMAND_H
#define REDLANE_CORE_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    REDLANE_COMMAND_ORDINARY = 0, /* may share a connection */
    REDLANE_COMMAND_BLOCKING,     /* gets a connection of its own */
    REDLANE_COMMAND_STATEFUL,     /* would change its connection: refused by execute */
} RedlaneCommandKind;

enum {
    REDLANE_COMMAND_READ = 1 << 0,  /* changes nothing: may be retried once */
    REDLANE_COMMAND_WRITE = 1 << 1, /* may change the data set */
};

/* Ids of the commands that the memory engine executes: the index of its handlers.
 * REDLANE_CMD_NONE for all others. */
typedef enum {
    REDLANE_CMD_NONE = 0,
#define REDLANE_ENGINE_COMMAND(id) REDLANE_CMD_##id,
#include "core/engine_commands.def"
#undef REDLANE_ENGINE_COMMAND
    REDLANE_CMD_COUNT
} RedlaneCommandId;

typedef struct {
    const char *name;    /* upper case */
    const char *instead; /* stateful ones: the API to use, for the message; else NULL */
    RedlaneCommandKind kind;
    RedlaneCommandId id;
    int arity;     /* as COMMAND INFO has it: n exactly, -n at least n; with the name */
    uint8_t flags; /* REDLANE_COMMAND_READ | WRITE */
    int8_t block_at; /* blocking ones: where the time-out argument stands (negative from
                        the end, 0: found by its keyword, as XREAD's BLOCK) */
    bool block_ms;   /* that argument is in milliseconds, else in seconds */
} RedlaneCommand;

extern const RedlaneCommand REDLANE_COMMAND_UNKNOWN;

/* The row of a name of `size` bytes, case-insensitively; never NULL. */
const RedlaneCommand *redlane_command_find(const char *name, size_t size);

/* The row of an engine command by id: no look-up. */
const RedlaneCommand *redlane_command_by_id(RedlaneCommandId id);

#endif
