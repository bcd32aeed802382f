/* What the engine's files share. Nothing outside src/store/engine_*.c includes it.
 *
 *   keys (RedlaneTable) ──▶ RedlaneEntry: key and string in one block
 *                             │ container (hash, set, sorted set)
 *                             ▼
 *                           RedlaneContainer ──▶ members, one block each
 *
 *   newest ◀─newer─ entry ─older─▶ … oldest     the SIEVE queue; `hand` walks from
 *                                               oldest to newest, round and round
 *
 * Invariants: `used` is the size of every block and slot array reachable from `keys`;
 * no container is empty; `with_ttl` counts the entries whose `expires` is not
 * REDLANE_NEVER. After a write command `used` is at most `max_bytes`.
 *
 * Lock: all functions here are called with engine->lock held. */
#ifndef REDLANE_STORE_ENGINE_INTERNAL_H
#define REDLANE_STORE_ENGINE_INTERNAL_H

#include "core/clock.h"
#include "core/fork.h"
#include "core/lock.h"
#include "core/table.h"
#include "store/engine.h"

/* The longest argument and the longest string: Redis' proto-max-bulk-len. */
#define REDLANE_ENGINE_MAX_STRING ((size_t)512 << 20)

#define REDLANE_ERROR_SYNTAX "ERR syntax error"
#define REDLANE_ERROR_INTEGER "ERR value is not an integer or out of range"
#define REDLANE_ERROR_FLOAT "ERR value is not a valid float"
#define REDLANE_ERROR_OVERFLOW "ERR increment or decrement would overflow"
#define REDLANE_ERROR_TYPE \
    "WRONGTYPE Operation against a key holding the wrong kind of value"
#define REDLANE_ERROR_MEMORY "OOM command not allowed when used memory > 'maxmemory'."

typedef enum {
    REDLANE_VALUE_STRING,
    REDLANE_VALUE_HASH,
    REDLANE_VALUE_SET,
    REDLANE_VALUE_ZSET,
} RedlaneValueType;

/* A hash's field with its value, or a set's member (whose value_size is 0). */
typedef struct {
    RedlaneItem item;
    uint32_t value_size;
    char bytes[]; /* key, then value */
} RedlaneField;

/* A sorted set's member. */
typedef struct {
    RedlaneItem item;
    double score;
    char bytes[];
} RedlaneMember;

/* A hash or a set; a sorted set has its order beside it. The order is an array of
 * pointers by (score, member): a change moves 8 bytes for each member behind it, which
 * for 10,000 members is under a microsecond and saves a skip list's 40 bytes each. */
typedef struct {
    RedlaneTable table;
    size_t bytes;          /* all of it, in the bound's terms */
    RedlaneMember **order; /* sorted sets: table.count pointers */
    size_t capacity;       /* of order */
} RedlaneContainer;

typedef struct RedlaneEntry RedlaneEntry;
struct RedlaneEntry {
    RedlaneItem item;
    uint32_t value_size; /* strings */
    RedlaneEntry *newer, *older;
    int64_t expires; /* CLOCK_MONOTONIC ms, or REDLANE_NEVER */
    RedlaneContainer *container;
    uint8_t type; /* RedlaneValueType */
    bool visited; /* SIEVE: used since the hand was here */
    char bytes[]; /* key, then string */
};

#define REDLANE_ENTRY_HEAD offsetof(RedlaneEntry, bytes)
#define REDLANE_FIELD_HEAD offsetof(RedlaneField, bytes)
#define REDLANE_MEMBER_HEAD offsetof(RedlaneMember, bytes)

struct RedlaneEngine {
    RedlaneLock lock;
    RedlaneSeed seed;
    RedlaneTable keys;
    RedlaneEntry *newest, *oldest, *hand;
    size_t used, max_bytes;
    size_t with_ttl;
    uint64_t sweep; /* hash where the next sweep begins */
    size_t evictions, expired, hits, misses, commands;
    int64_t born;       /* CLOCK_MONOTONIC ns */
    int64_t unix_shift; /* monotonic less Unix ms; 0: not known yet */
    RedlaneForkHook fork;
};

typedef void (*RedlaneEngineHandler)(RedlaneEngine *engine, const RedlaneVector *vector,
                                     RedlaneReply *reply);

/* One handler to a command: redlane_engine_do_GET and so on. Its arity is checked
 * before; argv has no argument longer than REDLANE_ENGINE_MAX_STRING. */
#define REDLANE_ENGINE_COMMAND(id)                                                  \
    void redlane_engine_do_##id(RedlaneEngine *engine, const RedlaneVector *vector, \
                                RedlaneReply *reply);
#include "core/engine_commands.def"
#undef REDLANE_ENGINE_COMMAND

/* Memory */

/* What malloc takes for `size` bytes: 16-byte steps and a head of 8, as glibc. */
static inline size_t
redlane_block_size(size_t size)
{
    size_t block = (size + 8 + 15) & ~(size_t)15;

    return block < 32 ? 32 : block;
}

/* Blocks counted into `used`; the size given to free is that given to alloc. */
void *redlane_engine_alloc(RedlaneEngine *engine, size_t size);
void *redlane_engine_realloc(RedlaneEngine *engine, void *block, size_t old_size,
                             size_t size);
void redlane_engine_release(RedlaneEngine *engine, void *block, size_t size);

/* As redlane_table_insert and remove, the slots counted into `used`. */
bool redlane_engine_insert(RedlaneEngine *engine, RedlaneTable *table, uint64_t hash,
                           RedlaneItem *item);
void redlane_engine_remove(RedlaneEngine *engine, RedlaneTable *table,
                           RedlaneSlot *slot);

/* Evicts until `need` more bytes fit, sparing `keep` (or NULL). False, with the OOM
 * error in `reply`, when they cannot. */
bool redlane_engine_reserve(RedlaneEngine *engine, size_t need, RedlaneEntry *keep,
                            RedlaneReply *reply);

/* Evicts one entry, an expired one as well as one that SIEVE chooses; false when there
 * is none but `keep`. */
bool redlane_engine_evict(RedlaneEngine *engine, const RedlaneEntry *keep);

/* Drops every key. */
void redlane_engine_clear(RedlaneEngine *engine);

/* Entries */

static inline const char *
redlane_entry_value(const RedlaneEntry *entry)
{
    return entry->bytes + entry->item.key_size;
}

static inline bool
redlane_entry_expired(const RedlaneEntry *entry)
{
    return entry->expires <= REDLANE_NEVER / REDLANE_NS_PER_MS &&
           redlane_clock_passed(entry->expires * REDLANE_NS_PER_MS);
}

void redlane_engine_delete(RedlaneEngine *engine, RedlaneEntry *entry);
void redlane_engine_delete_expired(RedlaneEngine *engine, RedlaneEntry *entry);

static inline uint64_t
redlane_engine_hash(const RedlaneEngine *engine, RedlaneArg key)
{
    return redlane_table_hash(&engine->seed, key.data, key.size);
}

/* The live entry of a key, or NULL; marks it as used. */
static inline RedlaneEntry *
redlane_engine_find(RedlaneEngine *engine, RedlaneArg key)
{
    RedlaneSlot *slot = redlane_table_find(
        &engine->keys, redlane_engine_hash(engine, key), key.data, key.size);
    RedlaneEntry *entry;

    if (!slot) {
        return NULL;
    }
    entry = (RedlaneEntry *)(void *)slot->item;
    if (__builtin_expect(redlane_entry_expired(entry), 0)) {
        redlane_engine_delete_expired(engine, entry);
        return NULL;
    }
    entry->visited = true;
    return entry;
}

/* The same for a command that reads: counts a hit or a miss. */
static inline RedlaneEntry *
redlane_engine_look(RedlaneEngine *engine, RedlaneArg key)
{
    RedlaneEntry *entry = redlane_engine_find(engine, key);

    if (entry) {
        engine->hits++;
    }
    else {
        engine->misses++;
    }
    return entry;
}

/* True when `entry` is not NULL and of another type; the error is then in `reply`. */
static inline bool
redlane_entry_mismatch(const RedlaneEntry *entry, RedlaneValueType type,
                       RedlaneReply *reply)
{
    if (!entry || entry->type == type) {
        return false;
    }
    redlane_reply_error(reply, REDLANE_ERROR_TYPE);
    return true;
}

/* A new entry for a key that is not there, with an uninitialised string of
 * `value_size` bytes, or an empty container (value_size 0). NULL: out of memory. */
RedlaneEntry *redlane_engine_create(RedlaneEngine *engine, RedlaneArg key,
                                    RedlaneValueType type, size_t value_size);

/* Gives a string another size, keeping what fits; the entry may move. NULL: out of
 * memory, the entry is as it was. */
RedlaneEntry *redlane_engine_resize(RedlaneEngine *engine, RedlaneEntry *entry,
                                    size_t value_size);

/* Stores a string under `key`, whose entry is `old` or NULL; a TTL stays. Returns the
 * entry, or NULL with the OOM error in `reply`. `data` must not lie in `old`. */
RedlaneEntry *redlane_engine_store(RedlaneEngine *engine, RedlaneArg key,
                                   RedlaneEntry *old, const char *data, size_t size,
                                   RedlaneReply *reply);

/* Adds to the integer that is, or is not yet, under `key`; its TTL stays. False with
 * the error in `reply`. */
bool redlane_engine_add_int64(RedlaneEngine *engine, RedlaneArg key,
                              RedlaneEntry *entry, int64_t amount, int64_t *sum,
                              RedlaneReply *reply);

/* Bytes that storing a value of `size` under `key` takes from the bound at most. */
size_t redlane_engine_need(RedlaneArg key, size_t size);

void redlane_engine_set_expires(RedlaneEngine *engine, RedlaneEntry *entry,
                                int64_t expires);

/* Times: a Unix time in milliseconds as an `expires`, and back. */
int64_t redlane_engine_expires_at(RedlaneEngine *engine, int64_t unix_ms);
int64_t redlane_engine_unix_of(RedlaneEngine *engine, int64_t expires);

/* Containers */

/* The container of `key`, made if there is none; NULL with the error in `reply`.
 * `need` bytes are reserved for what is to be added. */
RedlaneEntry *redlane_engine_open(RedlaneEngine *engine, RedlaneArg key,
                                  RedlaneValueType type, size_t need,
                                  RedlaneReply *reply);

/* Ends a change that began when `used` was `before`: books the difference, and deletes
 * the entry if nothing is left in it. */
void redlane_engine_close(RedlaneEngine *engine, RedlaneEntry *entry, size_t before);

/* A field or member by name, or NULL. */
static inline RedlaneSlot *
redlane_engine_member(const RedlaneEngine *engine, const RedlaneContainer *container,
                      RedlaneArg name)
{
    return redlane_table_find(&container->table,
                              redlane_table_hash(&engine->seed, name.data, name.size),
                              name.data, name.size);
}

/* Takes the fields or members argv[2] and on out of a hash or set; how many were there.
 */
int64_t redlane_engine_remove_fields(RedlaneEngine *engine, RedlaneContainer *container,
                                     const RedlaneVector *vector);

/* Takes the members [from, to) of a sorted set's order out. */
void redlane_engine_cut_members(RedlaneEngine *engine, RedlaneContainer *zset,
                                size_t from, size_t to);

void redlane_engine_reply_score(RedlaneReply *reply, double score);

/* Arguments and replies */

/* True when the argument is this word, in any case. */
bool redlane_arg_is(RedlaneArg arg, const char *word);

/* Reads an integer; false with the error in `reply`. */
bool redlane_arg_int64(RedlaneArg arg, int64_t *value, RedlaneReply *reply);

__attribute__((format(printf, 2, 3))) void
redlane_engine_error(RedlaneReply *reply, const char *format, ...);

/* "ERR wrong number of arguments for 'get' command", and so on: `format` has one %s for
 * the command's name in lower case. */
void redlane_engine_error_named(RedlaneReply *reply, const RedlaneVector *vector,
                                const char *format);

#define REDLANE_ERROR_ARITY "ERR wrong number of arguments for '%s' command"
#define REDLANE_ERROR_EXPIRE "ERR invalid expire time in '%s' command"

#endif
