/* Commands on keys of any type: DEL, EXISTS, TYPE, the EXPIRE family, KEYS, SCAN.
 *
 * Plain C, with the engine's lock held. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/glob.h"
#include "core/number.h"
#include "store/engine_internal.h"

static const char *const type_names[] = {"string", "hash", "set", "zset"};

void
redlane_engine_do_DEL(RedlaneEngine *engine, const RedlaneVector *vector,
                      RedlaneReply *reply)
{
    int64_t count = 0;

    for (size_t i = 1; i < vector->argc; i++) {
        RedlaneEntry *entry = redlane_engine_find(engine, vector->argv[i]);

        if (entry) {
            redlane_engine_delete(engine, entry);
            count++;
        }
    }
    redlane_reply_integer(reply, count);
}

void
redlane_engine_do_UNLINK(RedlaneEngine *engine, const RedlaneVector *vector,
                         RedlaneReply *reply)
{
    redlane_engine_do_DEL(engine, vector, reply);
}

void
redlane_engine_do_EXISTS(RedlaneEngine *engine, const RedlaneVector *vector,
                         RedlaneReply *reply)
{
    int64_t count = 0;

    for (size_t i = 1; i < vector->argc; i++) {
        count += redlane_engine_look(engine, vector->argv[i]) != NULL;
    }
    redlane_reply_integer(reply, count);
}

void
redlane_engine_do_TYPE(RedlaneEngine *engine, const RedlaneVector *vector,
                       RedlaneReply *reply)
{
    const RedlaneEntry *entry = redlane_engine_find(engine, vector->argv[1]);

    redlane_reply_status(reply, entry ? type_names[entry->type] : "none");
}

/* Expiry */

enum { IF_NONE = 1, IF_ANY = 2, IF_GREATER = 4, IF_LESS = 8 };

static bool
read_conditions(const RedlaneVector *vector, unsigned *conditions, RedlaneReply *reply)
{
    *conditions = 0;
    for (size_t i = 3; i < vector->argc; i++) {
        RedlaneArg arg = vector->argv[i];

        if (redlane_arg_is(arg, "NX")) {
            *conditions |= IF_NONE;
        }
        else if (redlane_arg_is(arg, "XX")) {
            *conditions |= IF_ANY;
        }
        else if (redlane_arg_is(arg, "GT")) {
            *conditions |= IF_GREATER;
        }
        else if (redlane_arg_is(arg, "LT")) {
            *conditions |= IF_LESS;
        }
        else {
            redlane_engine_error(reply, "ERR Unsupported option %.*s",
                                 (int)(arg.size < 128 ? arg.size : 128), arg.data);
            return false;
        }
    }
    if (*conditions & IF_NONE && *conditions != IF_NONE) {
        redlane_reply_error(reply, "ERR NX and XX, GT or LT options at the same time "
                                   "are not compatible");
        return false;
    }
    if (*conditions & IF_GREATER && *conditions & IF_LESS) {
        redlane_reply_error(
            reply, "ERR GT and LT options at the same time are not compatible");
        return false;
    }
    return true;
}

static bool
conditions_hold(RedlaneEngine *engine, unsigned conditions, const RedlaneEntry *entry,
                int64_t unix_ms)
{
    bool has = entry->expires != REDLANE_NEVER;
    int64_t current = has ? redlane_engine_unix_of(engine, entry->expires) : 0;

    return !(conditions & IF_NONE && has) && !(conditions & IF_ANY && !has) &&
           !(conditions & IF_GREATER && (!has || unix_ms <= current)) &&
           !(conditions & IF_LESS && has && unix_ms >= current);
}

/* EXPIRE and its kin: the argument is in units of `unit` ms from the Unix time `base`.
 */
static void
expire_generic(RedlaneEngine *engine, const RedlaneVector *vector, RedlaneReply *reply,
               int64_t unit, int64_t base)
{
    unsigned conditions;
    int64_t when;
    RedlaneEntry *entry;

    if (!read_conditions(vector, &conditions, reply) ||
        !redlane_arg_int64(vector->argv[2], &when, reply)) {
        return;
    }
    if (when > INT64_MAX / unit || when < INT64_MIN / unit ||
        when * unit > INT64_MAX - base) {
        redlane_engine_error_named(reply, vector, REDLANE_ERROR_EXPIRE);
        return;
    }
    when = when * unit + base;
    entry = redlane_engine_find(engine, vector->argv[1]);
    if (!entry || !conditions_hold(engine, conditions, entry, when)) {
        redlane_reply_integer(reply, 0);
        return;
    }
    if (when <= redlane_clock_unix_ms()) {
        redlane_engine_delete(engine, entry);
    }
    else {
        redlane_engine_set_expires(engine, entry,
                                   redlane_engine_expires_at(engine, when));
    }
    redlane_reply_integer(reply, 1);
}

void
redlane_engine_do_EXPIRE(RedlaneEngine *engine, const RedlaneVector *vector,
                         RedlaneReply *reply)
{
    expire_generic(engine, vector, reply, 1000, redlane_clock_unix_ms());
}

void
redlane_engine_do_PEXPIRE(RedlaneEngine *engine, const RedlaneVector *vector,
                          RedlaneReply *reply)
{
    expire_generic(engine, vector, reply, 1, redlane_clock_unix_ms());
}

void
redlane_engine_do_EXPIREAT(RedlaneEngine *engine, const RedlaneVector *vector,
                           RedlaneReply *reply)
{
    expire_generic(engine, vector, reply, 1000, 0);
}

void
redlane_engine_do_PEXPIREAT(RedlaneEngine *engine, const RedlaneVector *vector,
                            RedlaneReply *reply)
{
    expire_generic(engine, vector, reply, 1, 0);
}

void
redlane_engine_do_PERSIST(RedlaneEngine *engine, const RedlaneVector *vector,
                          RedlaneReply *reply)
{
    RedlaneEntry *entry = redlane_engine_find(engine, vector->argv[1]);

    if (!entry || entry->expires == REDLANE_NEVER) {
        redlane_reply_integer(reply, 0);
        return;
    }
    redlane_engine_set_expires(engine, entry, REDLANE_NEVER);
    redlane_reply_integer(reply, 1);
}

static void
ttl_generic(RedlaneEngine *engine, const RedlaneVector *vector, RedlaneReply *reply,
            bool seconds)
{
    const RedlaneEntry *entry = redlane_engine_look(engine, vector->argv[1]);
    int64_t left;

    if (!entry) {
        redlane_reply_integer(reply, -2);
        return;
    }
    if (entry->expires == REDLANE_NEVER) {
        redlane_reply_integer(reply, -1);
        return;
    }
    /* In Unix time, as it was set: the two clocks' milliseconds do not tick together,
     * and a TTL must never read longer than it was given. */
    left = redlane_engine_unix_of(engine, entry->expires) - redlane_clock_unix_ms();
    left = left < 0 ? 0 : left;
    redlane_reply_integer(reply, seconds ? left / 1000 + (left % 1000 >= 500) : left);
}

void
redlane_engine_do_TTL(RedlaneEngine *engine, const RedlaneVector *vector,
                      RedlaneReply *reply)
{
    ttl_generic(engine, vector, reply, true);
}

void
redlane_engine_do_PTTL(RedlaneEngine *engine, const RedlaneVector *vector,
                       RedlaneReply *reply)
{
    ttl_generic(engine, vector, reply, false);
}

/* Walks */

typedef struct {
    RedlaneArg pattern; /* data NULL: every key */
    int type;           /* RedlaneValueType; -1: every type; -2: none */
} Filter;

static bool
filter_admits(const Filter *filter, const RedlaneEntry *entry)
{
    if (filter->type != -1 && filter->type != entry->type) {
        return false;
    }
    if (filter->pattern.data &&
        !redlane_glob_match(filter->pattern.data, filter->pattern.size, entry->bytes,
                            entry->item.key_size)) {
        return false;
    }
    return !redlane_entry_expired(entry);
}

void
redlane_engine_do_KEYS(RedlaneEngine *engine, const RedlaneVector *vector,
                       RedlaneReply *reply)
{
    Filter filter = {vector->argv[1], -1};
    size_t mark = redlane_reply_array_open(reply), count = 0;

    for (RedlaneSlot *slot = redlane_table_from(&engine->keys, 0); slot;
         slot = redlane_table_next(&engine->keys, slot)) {
        const RedlaneEntry *entry = (const RedlaneEntry *)(const void *)slot->item;

        if (filter_admits(&filter, entry)) {
            redlane_reply_bulk(reply, entry->bytes, entry->item.key_size);
            count++;
        }
    }
    redlane_reply_array_close(reply, mark, count);
}

/* As strtoul reads it, which is what a server accepts: a sign, an empty text. */
static bool
parse_cursor(RedlaneArg arg, uint64_t *cursor)
{
    char text[32], *end;
    size_t size = strnlen(arg.data ? arg.data : "", arg.size);

    if (size >= sizeof(text)) {
        return false;
    }
    memcpy(text, arg.data ? arg.data : "", size);
    text[size] = '\0';
    errno = 0;
    *cursor = strtoull(text, &end, 10);
    return !isspace((unsigned char)text[0]) && !*end && errno != ERANGE;
}

static bool
read_scan_options(const RedlaneVector *vector, Filter *filter, int64_t *count,
                  RedlaneReply *reply)
{
    for (size_t i = 2; i < vector->argc; i += 2) {
        RedlaneArg option = vector->argv[i], value;

        if (i + 1 == vector->argc) {
            redlane_reply_error(reply, REDLANE_ERROR_SYNTAX);
            return false;
        }
        value = vector->argv[i + 1];
        if (redlane_arg_is(option, "COUNT")) {
            if (!redlane_arg_int64(value, count, reply)) {
                return false;
            }
            if (*count < 1) {
                redlane_reply_error(reply, REDLANE_ERROR_SYNTAX);
                return false;
            }
        }
        else if (redlane_arg_is(option, "MATCH")) {
            filter->pattern = value;
        }
        else if (redlane_arg_is(option, "TYPE")) {
            filter->type = -2;
            for (int type = REDLANE_VALUE_STRING; type <= REDLANE_VALUE_ZSET; type++) {
                size_t size = strlen(type_names[type]);

                if (value.size == size &&
                    strncasecmp(value.data, type_names[type], size) == 0) {
                    filter->type = type;
                }
            }
        }
        else {
            redlane_reply_error(reply, REDLANE_ERROR_SYNTAX);
            return false;
        }
    }
    return true;
}

/* The cursor is half the hash of the first key not yet given (so that it fits a signed
 * integer); hashes with one half are given together. Growing, shrinking and other keys'
 * coming and going lose and repeat nothing. */
static RedlaneSlot *
find_page_end(const RedlaneTable *table, RedlaneSlot *slot, int64_t count)
{
    uint64_t half = 0;

    for (; slot && (count > 0 || slot->hash / 2 == half); count--) {
        half = slot->hash / 2;
        slot = redlane_table_next(table, slot);
    }
    return slot;
}

void
redlane_engine_do_SCAN(RedlaneEngine *engine, const RedlaneVector *vector,
                       RedlaneReply *reply)
{
    Filter filter = {{NULL, 0}, -1};
    int64_t page = 10;
    uint64_t cursor;
    size_t mark, count = 0;
    char text[REDLANE_INT64_TEXT];
    RedlaneSlot *slot, *end;

    if (!parse_cursor(vector->argv[1], &cursor)) {
        redlane_reply_error(reply, "ERR invalid cursor");
        return;
    }
    if (!read_scan_options(vector, &filter, &page, reply)) {
        return;
    }
    slot =
        cursor <= UINT64_MAX / 2 ? redlane_table_from(&engine->keys, cursor * 2) : NULL;
    end = find_page_end(&engine->keys, slot, page);
    redlane_reply_array(reply, 2);
    redlane_reply_bulk(
        reply, text,
        redlane_number_format_int64(text, end ? (int64_t)(end->hash / 2) : 0));
    mark = redlane_reply_array_open(reply);
    for (; slot != end; slot = redlane_table_next(&engine->keys, slot)) {
        const RedlaneEntry *entry = (const RedlaneEntry *)(const void *)slot->item;

        if (filter_admits(&filter, entry)) {
            redlane_reply_bulk(reply, entry->bytes, entry->item.key_size);
            count++;
        }
    }
    redlane_reply_array_close(reply, mark, count);
}
