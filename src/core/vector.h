/* The seam's first half: a command vector, as every executor takes it.
 *
 * Plain data, borrowed from whoever built it for the time of one call. */
#ifndef REDLANE_CORE_VECTOR_H
#define REDLANE_CORE_VECTOR_H

#include <stddef.h>

#include "core/command.h"

typedef struct {
    const char *data; /* not terminated; may hold any byte */
    size_t size;
} RedlaneArg;

typedef struct {
    const RedlaneArg *argv; /* argv[0] is the command's name */
    size_t argc;
    const RedlaneCommand *command; /* its row in the command table, never NULL */
} RedlaneVector;

/* An argument from a string literal. */
#define REDLANE_ARG_LITERAL(text) ((RedlaneArg){(text), sizeof(text) - 1})

#endif
