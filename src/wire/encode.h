/* Command vectors to RESP, every argument with its explicit length. */
#ifndef REDLANE_WIRE_ENCODE_H
#define REDLANE_WIRE_ENCODE_H

#include <stdbool.h>

#include "core/buffer.h"
#include "core/vector.h"

/* Appends one command; 0, or -1 when memory is exhausted (the buffer is as before). */
int redlane_encode_command(RedlaneBuffer *buffer, const RedlaneArg *argv, size_t argc);

/* Appends the commands of a request, between MULTI and EXEC if it is a transaction. 0
 * or -1, as above. */
int redlane_encode_request(RedlaneBuffer *buffer, const RedlaneVector *vectors,
                           size_t count, bool transaction);

#endif
