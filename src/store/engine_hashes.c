/* Commands on hashes.
 *
 * Plain C, with the engine's lock held. */
#include <string.h>

#include "core/number.h"
#include "store/engine_internal.h"

static RedlaneField *
field_of_slot(const RedlaneSlot *slot)
{
    return (RedlaneField *)(void *)slot->item;
}

static size_t
field_size(size_t key_size, size_t value_size)
{
    return REDLANE_FIELD_HEAD + key_size + value_size;
}

static size_t
field_need(RedlaneArg name, size_t value_size)
{
    return redlane_block_size(field_size(name.size, value_size)) +
           3 * sizeof(RedlaneSlot);
}

static const char *
field_value(const RedlaneField *field)
{
    return field->bytes + field->item.key_size;
}

/* The hash under a key that is read; NULL if there is none, or with WRONGTYPE in
 * `reply` and `*wrong` set. */
static RedlaneContainer *
look_hash(RedlaneEngine *engine, RedlaneArg key, RedlaneReply *reply, bool *wrong)
{
    RedlaneEntry *entry = redlane_engine_look(engine, key);

    *wrong = redlane_entry_mismatch(entry, REDLANE_VALUE_HASH, reply);
    return entry && !*wrong ? entry->container : NULL;
}

/* Stores one field; 1: new, 0: replaced, -1: out of memory. */
static int
put_field(RedlaneEngine *engine, RedlaneContainer *hash, RedlaneArg name,
          RedlaneArg value)
{
    RedlaneSlot *slot = redlane_engine_member(engine, hash, name);
    RedlaneField *field;

    if (slot) {
        field = field_of_slot(slot);
        field = redlane_engine_realloc(engine, field,
                                       field_size(name.size, field->value_size),
                                       field_size(name.size, value.size));
        if (!field) {
            return -1;
        }
        slot->item = &field->item;
    }
    else {
        field = redlane_engine_alloc(engine, field_size(name.size, value.size));
        if (!field) {
            return -1;
        }
        field->item.key_size = (uint32_t)name.size;
        if (name.size) {
            memcpy(field->bytes, name.data, name.size);
        }
        if (!redlane_engine_insert(
                engine, &hash->table,
                redlane_table_hash(&engine->seed, name.data, name.size),
                &field->item)) {
            redlane_engine_release(engine, field, field_size(name.size, value.size));
            return -1;
        }
    }
    field->value_size = (uint32_t)value.size;
    if (value.size) {
        memcpy(field->bytes + name.size, value.data, value.size);
    }
    return slot ? 0 : 1;
}

void
redlane_engine_do_HSET(RedlaneEngine *engine, const RedlaneVector *vector,
                       RedlaneReply *reply)
{
    const RedlaneArg *argv = vector->argv;
    size_t need = 0, before;
    int64_t created = 0;
    RedlaneEntry *entry;

    if (vector->argc % 2) {
        redlane_engine_error_named(reply, vector, REDLANE_ERROR_ARITY);
        return;
    }
    for (size_t i = 2; i < vector->argc; i += 2) {
        need += field_need(argv[i], argv[i + 1].size);
    }
    entry = redlane_engine_open(engine, argv[1], REDLANE_VALUE_HASH, need, reply);
    if (!entry) {
        return;
    }
    before = engine->used;
    for (size_t i = 2; i < vector->argc; i += 2) {
        int result = put_field(engine, entry->container, argv[i], argv[i + 1]);

        if (result < 0) {
            created = -1;
            break;
        }
        created += result;
    }
    redlane_engine_close(engine, entry, before);
    if (created < 0) {
        redlane_reply_error(reply, REDLANE_ERROR_MEMORY);
        return;
    }
    redlane_reply_integer(reply, created);
}

static void
reply_field(const RedlaneEngine *engine, const RedlaneContainer *hash, RedlaneArg name,
            RedlaneReply *reply)
{
    const RedlaneSlot *slot = hash ? redlane_engine_member(engine, hash, name) : NULL;
    const RedlaneField *field;

    if (!slot) {
        redlane_reply_nil(reply);
        return;
    }
    field = field_of_slot(slot);
    redlane_reply_bulk(reply, field_value(field), field->value_size);
}

void
redlane_engine_do_HGET(RedlaneEngine *engine, const RedlaneVector *vector,
                       RedlaneReply *reply)
{
    bool wrong;
    const RedlaneContainer *hash = look_hash(engine, vector->argv[1], reply, &wrong);

    if (!wrong) {
        reply_field(engine, hash, vector->argv[2], reply);
    }
}

void
redlane_engine_do_HMGET(RedlaneEngine *engine, const RedlaneVector *vector,
                        RedlaneReply *reply)
{
    bool wrong;
    const RedlaneContainer *hash = look_hash(engine, vector->argv[1], reply, &wrong);

    if (wrong) {
        return;
    }
    redlane_reply_array(reply, vector->argc - 2);
    for (size_t i = 2; i < vector->argc; i++) {
        reply_field(engine, hash, vector->argv[i], reply);
    }
}

void
redlane_engine_do_HGETALL(RedlaneEngine *engine, const RedlaneVector *vector,
                          RedlaneReply *reply)
{
    bool wrong;
    const RedlaneContainer *hash = look_hash(engine, vector->argv[1], reply, &wrong);

    if (wrong) {
        return;
    }
    redlane_reply_array(reply, hash ? 2 * hash->table.count : 0);
    if (!hash) {
        return;
    }
    for (RedlaneSlot *slot = redlane_table_from(&hash->table, 0); slot;
         slot = redlane_table_next(&hash->table, slot)) {
        const RedlaneField *field = field_of_slot(slot);

        redlane_reply_bulk(reply, field->bytes, field->item.key_size);
        redlane_reply_bulk(reply, field_value(field), field->value_size);
    }
}

void
redlane_engine_do_HEXISTS(RedlaneEngine *engine, const RedlaneVector *vector,
                          RedlaneReply *reply)
{
    bool wrong;
    const RedlaneContainer *hash = look_hash(engine, vector->argv[1], reply, &wrong);

    if (!wrong) {
        redlane_reply_integer(
            reply, hash && redlane_engine_member(engine, hash, vector->argv[2]));
    }
}

void
redlane_engine_do_HLEN(RedlaneEngine *engine, const RedlaneVector *vector,
                       RedlaneReply *reply)
{
    bool wrong;
    const RedlaneContainer *hash = look_hash(engine, vector->argv[1], reply, &wrong);

    if (!wrong) {
        redlane_reply_integer(reply, hash ? (int64_t)hash->table.count : 0);
    }
}

void
redlane_engine_do_HDEL(RedlaneEngine *engine, const RedlaneVector *vector,
                       RedlaneReply *reply)
{
    RedlaneEntry *entry = redlane_engine_find(engine, vector->argv[1]);
    size_t before = engine->used;
    int64_t count = 0;

    if (redlane_entry_mismatch(entry, REDLANE_VALUE_HASH, reply)) {
        return;
    }
    if (entry) {
        count = redlane_engine_remove_fields(engine, entry->container, vector);
        redlane_engine_close(engine, entry, before);
    }
    redlane_reply_integer(reply, count);
}

void
redlane_engine_do_HINCRBY(RedlaneEngine *engine, const RedlaneVector *vector,
                          RedlaneReply *reply)
{
    RedlaneArg name = vector->argv[2];
    char text[REDLANE_INT64_TEXT];
    int64_t amount, value = 0;
    const RedlaneSlot *slot;
    RedlaneEntry *entry;
    RedlaneArg number;
    size_t before;
    int result;

    if (!redlane_arg_int64(vector->argv[3], &amount, reply)) {
        return;
    }
    entry = redlane_engine_open(engine, vector->argv[1], REDLANE_VALUE_HASH,
                                field_need(name, REDLANE_INT64_TEXT), reply);
    if (!entry) {
        return;
    }
    slot = redlane_engine_member(engine, entry->container, name);
    if (slot && !redlane_number_parse_int64(field_value(field_of_slot(slot)),
                                            field_of_slot(slot)->value_size, &value)) {
        redlane_reply_error(reply, "ERR hash value is not an integer");
        return;
    }
    if (__builtin_add_overflow(value, amount, &value)) {
        redlane_reply_error(reply, REDLANE_ERROR_OVERFLOW);
        return;
    }
    number = (RedlaneArg){text, redlane_number_format_int64(text, value)};
    before = engine->used;
    result = put_field(engine, entry->container, name, number);
    redlane_engine_close(engine, entry, before);
    if (result < 0) {
        redlane_reply_error(reply, REDLANE_ERROR_MEMORY);
        return;
    }
    redlane_reply_integer(reply, value);
}
