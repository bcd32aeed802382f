/* Sets. GIL held. */
#include "types/commands.h"

const RedlaneCommandSpec redlane_commands_sets[] = {
    {"sadd", "name, *values", "Add members to a set; the number of new ones.",
     REDLANE_CMD_SADD, REDLANE_SHAPE_RAW, redlane_build_many},
    {"srem", "name, *values", "Remove members; the number of those that were in it.",
     REDLANE_CMD_SREM, REDLANE_SHAPE_RAW, redlane_build_many},
    {"sismember", "name, value", "1 if the value is a member, else 0.",
     REDLANE_CMD_SISMEMBER, REDLANE_SHAPE_RAW, redlane_build_plain},
    {"smismember", "name, values, *args",
     "For each value 1 if it is a member, else 0, as a list.", REDLANE_CMD_SMISMEMBER,
     REDLANE_SHAPE_RAW, redlane_build_listed},
    {"smembers", "name", "All members, as a set; empty for a missing key.",
     REDLANE_CMD_SMEMBERS, REDLANE_SHAPE_MEMBERS, redlane_build_key},
    {"scard", "name", "The number of members; 0 for a missing key.", REDLANE_CMD_SCARD,
     REDLANE_SHAPE_RAW, redlane_build_key},
    {NULL, NULL, NULL, REDLANE_CMD_NONE, REDLANE_SHAPE_RAW, NULL},
};
