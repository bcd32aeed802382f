/* Where the keys of a vector stand. */
#ifndef REDLANE_CORE_COMMAND_KEYS_H
#define REDLANE_CORE_COMMAND_KEYS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/vector.h"

/* argv[first], argv[first + step], … before `end`. */
typedef struct {
    size_t first, end, step;
} RedlaneKeySpan;

/* The keys of a command that the memory engine knows; an empty span where it has none
 * (SCAN, PING, …), is none that the engine knows, or is so malformed that they cannot
 * be told. Never beyond argv. */
RedlaneKeySpan redlane_command_keys(const RedlaneVector *vector);

#endif
