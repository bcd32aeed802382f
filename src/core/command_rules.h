/* What the command table says of a whole vector, arguments included. */
#ifndef REDLANE_CORE_COMMAND_RULES_H
#define REDLANE_CORE_COMMAND_RULES_H

#include <stdbool.h>
#include <stdint.h>

#include "core/vector.h"

/* NULL when the vector may be sent on a shared connection. Else it would change that
 * connection for every later caller, and this is the name of what to use in its place,
 * for the message "SELECT changes its connection: use …". Looks into CLIENT and SCRIPT
 * as well, which are harmless or not by their first argument. */
const char *redlane_command_refusal(const RedlaneVector *vector);

/* True when the server may hold the reply back; *ns is then for how long at most:
 * REDLANE_NEVER for ever. False for XREAD without BLOCK, and when the time-out cannot
 * be read: the server answers that with an error at once. */
bool redlane_command_block_ns(const RedlaneVector *vector, int64_t *ns);

/* False when the table knows that the server would refuse this number of arguments. */
bool redlane_command_arity_fits(const RedlaneVector *vector);

#endif
