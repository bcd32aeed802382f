/* The memory engine: Redis' commands on a bounded table in this process.
 *
 * Replies and errors are those of Redis 7.0, but for these:
 *
 *   an unknown command's error does not repeat its arguments (they may be secrets),
 *     and names of commands and options in errors are cut at 64 and 128 bytes;
 *   EVAL and EVALSHA run the library's own scripts only, as native code, and their
 *     errors do not name the script's line;
 *   replies without an order (KEYS, SMEMBERS, HGETALL, SCAN) come in the order of a
 *     seeded hash; a cursor of SCAN is a part of such a hash;
 *   a score of -0 is written "0" in sorted sets of any size;
 *   at the bound the least used keys go (SIEVE), whatever their TTL; only a write that
 *     cannot fit beside nothing else is an OOM error;
 *   PUBLISH reaches nobody: the stores above hand it on; INFO has the sections Server,
 * Memory, Stats, Keyspace.
 *
 * Pure C, no Python.h in its files (engine_store.c, which makes it a member of the
 * executor table, excepted). Lock: its own spin lock, taken by redlane_engine_run; the
 * GIL is never given up for it. */
#ifndef REDLANE_STORE_ENGINE_H
#define REDLANE_STORE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/reply.h"
#include "core/vector.h"

typedef struct RedlaneEngine RedlaneEngine;

#define REDLANE_ENGINE_MAX_BYTES ((size_t)64 << 20)

/* An empty engine bounded to `max_bytes`; NULL when memory is exhausted. It is in the
 * fork registry until it is freed: a forked child has it whole and unlocked. */
RedlaneEngine *redlane_engine_new(size_t max_bytes);
void redlane_engine_free(RedlaneEngine *engine);

/* Executes `count` vectors; replies[i] must be zeroed or reused. With `atomic` nothing
 * comes between them (MULTI/EXEC), else the lock is given up after each. */
void redlane_engine_run(RedlaneEngine *engine, const RedlaneVector *vectors,
                        size_t count, bool atomic, RedlaneReply *replies);

/* Drops every key. */
void redlane_engine_flush(RedlaneEngine *engine);

typedef struct {
    size_t keys;      /* entries, expired ones not yet swept included */
    size_t bytes;     /* what the bound counts */
    size_t max_bytes; /* the bound */
    size_t evictions; /* since it was made */
    size_t expired;   /* since it was made */
} RedlaneEngineStats;

void redlane_engine_stats(RedlaneEngine *engine, RedlaneEngineStats *stats);

#endif
