/* The engine itself: making and freeing one, running vectors, its bound and its
 * statistics. The commands are in engine_keys.c and its siblings, entries and memory in
 * engine_memory.c.
 *
 * Plain C. The engine's lock is taken here and nowhere else; a handler runs with it. */
#include "store/engine.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/number.h"
#include "store/engine_internal.h"
#include "store/engine_limits.h"

#define SWEEP_SLOTS 4 /* looked at by each write while anything has a TTL */
#define NAME_SHOWN 64 /* bytes of an unknown command's name in its error */

static const RedlaneEngineHandler handlers[REDLANE_CMD_COUNT] = {
#define REDLANE_ENGINE_COMMAND(id) [REDLANE_CMD_##id] = redlane_engine_do_##id,
#include "core/engine_commands.def"
#undef REDLANE_ENGINE_COMMAND
};

static void
lock_for_fork(void *engine)
{
    redlane_lock(&((RedlaneEngine *)engine)->lock);
}

static void
unlock_after_fork(void *engine)
{
    redlane_unlock(&((RedlaneEngine *)engine)->lock);
}

static void
renew_lock_in_child(void *engine)
{
    redlane_lock_init(&((RedlaneEngine *)engine)->lock);
}

RedlaneEngine *
redlane_engine_new(size_t max_bytes)
{
    RedlaneEngine *engine = calloc(1, sizeof(*engine));

    if (!engine) {
        return NULL;
    }
    redlane_lock_init(&engine->lock);
    redlane_hash_seed(&engine->seed);
    redlane_table_init(&engine->keys, REDLANE_ENTRY_HEAD);
    engine->max_bytes = max_bytes;
    engine->born = redlane_clock_now();
    engine->fork = (RedlaneForkHook){
        .rank = REDLANE_FORK_ENGINE,
        .prepare = lock_for_fork,
        .parent = unlock_after_fork,
        .child = renew_lock_in_child,
        .context = engine,
    };
    if (redlane_fork_register(&engine->fork) < 0) {
        free(engine);
        return NULL;
    }
    return engine;
}

void
redlane_engine_free(RedlaneEngine *engine)
{
    if (!engine) {
        return;
    }
    redlane_fork_unregister(&engine->fork);
    redlane_engine_flush(engine);
    free(engine);
}

void
redlane_engine_flush(RedlaneEngine *engine)
{
    redlane_lock(&engine->lock);
    redlane_engine_clear(engine);
    redlane_unlock(&engine->lock);
}

void
redlane_engine_stats(RedlaneEngine *engine, RedlaneEngineStats *stats)
{
    redlane_lock(&engine->lock);
    *stats = (RedlaneEngineStats){
        .keys = engine->keys.count,
        .bytes = engine->used,
        .max_bytes = engine->max_bytes,
        .evictions = engine->evictions,
        .expired = engine->expired,
    };
    redlane_unlock(&engine->lock);
}

/* Deletes what expired among the next few slots, round and round: the cost of a TTL
 * that nobody reads again. */
static void
sweep_expired(RedlaneEngine *engine)
{
    RedlaneSlot *slot = redlane_table_from(&engine->keys, engine->sweep);

    for (int i = 0; i < SWEEP_SLOTS; i++) {
        RedlaneEntry *entry;

        if (!slot) {
            engine->sweep = 0;
            return;
        }
        entry = (RedlaneEntry *)(void *)slot->item;
        if (redlane_entry_expired(entry)) {
            engine->sweep = slot->hash;
            redlane_engine_delete_expired(engine, entry);
            slot = redlane_table_from(&engine->keys, engine->sweep);
            continue;
        }
        slot = redlane_table_next(&engine->keys, slot);
    }
    engine->sweep = slot ? slot->hash : 0;
}

static void
after_write(RedlaneEngine *engine)
{
    if (engine->with_ttl) {
        sweep_expired(engine);
    }
    while (engine->used > engine->max_bytes && redlane_engine_evict(engine, NULL)) {
    }
}

/* True, with the error in `reply`, for what a server refuses before it looks at any
 * key; inside MULTI this drops the whole transaction. */
static bool
refuse(const RedlaneVector *vector, RedlaneReply *reply)
{
    const RedlaneCommand *command = vector->command;
    const RedlaneArg *argv = vector->argv;
    size_t arity;

    if (command->id == REDLANE_CMD_NONE) {
        redlane_engine_error(
            reply, "ERR unknown command '%.*s'",
            (int)(argv[0].size < NAME_SHOWN ? argv[0].size : NAME_SHOWN), argv[0].data);
        return true;
    }
    arity = (size_t)(command->arity < 0 ? -command->arity : command->arity);
    if (vector->argc < arity || (command->arity > 0 && vector->argc > arity)) {
        redlane_engine_error_named(reply, vector, REDLANE_ERROR_ARITY);
        return true;
    }
    for (size_t i = 1; i < vector->argc; i++) {
        if (argv[i].size > REDLANE_ENGINE_MAX_STRING) {
            redlane_reply_error(reply, "ERR Protocol error: invalid bulk length");
            return true;
        }
    }
    return false;
}

static inline void
run_one(RedlaneEngine *engine, const RedlaneVector *vector, RedlaneReply *reply)
{
    engine->commands++;
    if (__builtin_expect(refuse(vector, reply), 0)) {
        return;
    }
    handlers[vector->command->id](engine, vector, reply);
    if (vector->command->flags & REDLANE_COMMAND_WRITE) {
        after_write(engine);
    }
}

/* A transaction with a command that is refused does nothing at all. */
static bool
refuse_transaction(const RedlaneVector *vectors, size_t count, RedlaneReply *replies)
{
    bool refused = false;

    for (size_t i = 0; i < count; i++) {
        refused |= refuse(&vectors[i], &replies[i]);
    }
    for (size_t i = 0; refused && i < count; i++) {
        if (!replies[i].nodes.size) {
            redlane_reply_error(
                &replies[i],
                "EXECABORT Transaction discarded because of previous errors.");
        }
    }
    return refused;
}

void
redlane_engine_run(RedlaneEngine *engine, const RedlaneVector *vectors, size_t count,
                   bool atomic, RedlaneReply *replies)
{
    if (atomic) {
        if (refuse_transaction(vectors, count, replies)) {
            return;
        }
        redlane_lock(&engine->lock);
        for (size_t i = 0; i < count; i++) {
            run_one(engine, &vectors[i], &replies[i]);
        }
        redlane_unlock(&engine->lock);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        redlane_lock(&engine->lock);
        run_one(engine, &vectors[i], &replies[i]);
        redlane_unlock(&engine->lock);
    }
}

RedlaneLimitsVerdict
redlane_engine_limit(RedlaneEngine *engine, const RedlaneLimitCall *call, int64_t *now,
                     RedlaneLimitAnswer *answers)
{
    RedlaneLimitsVerdict verdict;
    bool grown = false;

    redlane_lock(&engine->lock);
    engine->commands++;
    verdict = redlane_engine_limit_locked(engine, call, now, answers, &grown);
    if (grown) {
        after_write(engine);
    }
    redlane_unlock(&engine->lock);
    return verdict;
}

bool
redlane_arg_is(RedlaneArg arg, const char *word)
{
    size_t size = strlen(word);

    if (arg.size != size) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        char byte = arg.data[i];

        if (byte >= 'a' && byte <= 'z') {
            byte = (char)(byte - 'a' + 'A');
        }
        if (byte != word[i]) {
            return false;
        }
    }
    return true;
}

bool
redlane_arg_int64(RedlaneArg arg, int64_t *value, RedlaneReply *reply)
{
    if (redlane_number_parse_int64(arg.data, arg.size, value)) {
        return true;
    }
    redlane_reply_error(reply, REDLANE_ERROR_INTEGER);
    return false;
}

void
redlane_engine_error(RedlaneReply *reply, const char *format, ...)
{
    char text[256];
    va_list arguments;
    size_t size;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    for (size = strlen(text);
         size && (text[size - 1] == '\r' || text[size - 1] == '\n'); size--) {
        text[size - 1] = '\0'; /* as a server trims its own */
    }
    for (char *at = text; *at; at++) { /* an error is one line */
        if (*at == '\r' || *at == '\n') {
            *at = ' ';
        }
    }
    redlane_reply_error(reply, text);
}

void
redlane_engine_error_named(RedlaneReply *reply, const RedlaneVector *vector,
                           const char *format)
{
    char text[160], name[32];
    const char *mark = strstr(format, "%s"), *from = vector->command->name;
    size_t size = 0;

    for (; from[size] && size < sizeof(name) - 1; size++) {
        name[size] = (char)tolower((unsigned char)from[size]);
    }
    name[size] = '\0';
    (void)snprintf(text, sizeof(text), "%.*s%s%s", (int)(mark - format), format, name,
                   mark + 2);
    redlane_reply_error(reply, text);
}
