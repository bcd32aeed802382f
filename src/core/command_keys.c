#include "core/command_keys.h"

#include "core/number.h"

static RedlaneKeySpan
span(const RedlaneVector *vector, size_t first, size_t end, size_t step)
{
    if (end > vector->argc) {
        end = vector->argc;
    }
    return (RedlaneKeySpan){first, end > first ? end : first, step};
}

RedlaneKeySpan
redlane_command_keys(const RedlaneVector *vector)
{
    int64_t count;

    switch (vector->command->id) {
    case REDLANE_CMD_NONE:
    case REDLANE_CMD_COUNT:
    case REDLANE_CMD_KEYS:
    case REDLANE_CMD_SCAN:
    case REDLANE_CMD_PUBLISH:
    case REDLANE_CMD_PING:
    case REDLANE_CMD_ECHO:
    case REDLANE_CMD_TIME:
    case REDLANE_CMD_INFO:
    case REDLANE_CMD_DBSIZE:
    case REDLANE_CMD_FLUSHDB:
    case REDLANE_CMD_FLUSHALL:
        return span(vector, 1, 1, 1);
    case REDLANE_CMD_MGET:
    case REDLANE_CMD_DEL:
    case REDLANE_CMD_UNLINK:
    case REDLANE_CMD_EXISTS:
        return span(vector, 1, vector->argc, 1);
    case REDLANE_CMD_MSET:
        return span(vector, 1, vector->argc, 2);
    case REDLANE_CMD_EVAL:
    case REDLANE_CMD_EVALSHA:
        if (vector->argc < 3 ||
            !redlane_number_parse_int64(vector->argv[2].data, vector->argv[2].size,
                                        &count) ||
            count < 0 || (uint64_t)count > vector->argc - 3) {
            return span(vector, 1, 1, 1);
        }
        return span(vector, 3, 3 + (size_t)count, 1);
    default:
        return span(vector, 1, 2, 1);
    }
}
