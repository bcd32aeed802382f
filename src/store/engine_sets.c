/* Commands on sets, and the removal that they share with hashes: a set is a hash whose
 * values are empty.
 *
 * Plain C, with the engine's lock held. */
#include <string.h>

#include "store/engine_internal.h"

int64_t
redlane_engine_remove_fields(RedlaneEngine *engine, RedlaneContainer *container,
                             const RedlaneVector *vector)
{
    int64_t count = 0;

    for (size_t i = 2; i < vector->argc; i++) {
        RedlaneSlot *slot = redlane_engine_member(engine, container, vector->argv[i]);

        if (slot) {
            RedlaneField *field = (RedlaneField *)(void *)slot->item;

            redlane_engine_remove(engine, &container->table, slot);
            redlane_engine_release(engine, field,
                                   REDLANE_FIELD_HEAD + field->item.key_size +
                                       field->value_size);
            count++;
        }
    }
    return count;
}

/* 1: added, 0: was there, -1: out of memory. */
static int
add_member(RedlaneEngine *engine, RedlaneContainer *set, RedlaneArg name)
{
    uint64_t hash = redlane_table_hash(&engine->seed, name.data, name.size);
    RedlaneField *field;

    if (redlane_table_find(&set->table, hash, name.data, name.size)) {
        return 0;
    }
    field = redlane_engine_alloc(engine, REDLANE_FIELD_HEAD + name.size);
    if (!field) {
        return -1;
    }
    field->item.key_size = (uint32_t)name.size;
    field->value_size = 0;
    if (name.size) {
        memcpy(field->bytes, name.data, name.size);
    }
    if (!redlane_engine_insert(engine, &set->table, hash, &field->item)) {
        redlane_engine_release(engine, field, REDLANE_FIELD_HEAD + name.size);
        return -1;
    }
    return 1;
}

void
redlane_engine_do_SADD(RedlaneEngine *engine, const RedlaneVector *vector,
                       RedlaneReply *reply)
{
    size_t need = 0, before;
    int64_t added = 0;
    RedlaneEntry *entry;

    for (size_t i = 2; i < vector->argc; i++) {
        need += redlane_block_size(REDLANE_FIELD_HEAD + vector->argv[i].size) +
                3 * sizeof(RedlaneSlot);
    }
    entry =
        redlane_engine_open(engine, vector->argv[1], REDLANE_VALUE_SET, need, reply);
    if (!entry) {
        return;
    }
    before = engine->used;
    for (size_t i = 2; i < vector->argc; i++) {
        int result = add_member(engine, entry->container, vector->argv[i]);

        if (result < 0) {
            added = -1;
            break;
        }
        added += result;
    }
    redlane_engine_close(engine, entry, before);
    if (added < 0) {
        redlane_reply_error(reply, REDLANE_ERROR_MEMORY);
        return;
    }
    redlane_reply_integer(reply, added);
}

void
redlane_engine_do_SREM(RedlaneEngine *engine, const RedlaneVector *vector,
                       RedlaneReply *reply)
{
    RedlaneEntry *entry = redlane_engine_find(engine, vector->argv[1]);
    size_t before = engine->used;
    int64_t count = 0;

    if (redlane_entry_mismatch(entry, REDLANE_VALUE_SET, reply)) {
        return;
    }
    if (entry) {
        count = redlane_engine_remove_fields(engine, entry->container, vector);
        redlane_engine_close(engine, entry, before);
    }
    redlane_reply_integer(reply, count);
}

/* The set under a key that is read; NULL if there is none, or with WRONGTYPE in `reply`
 * and `*wrong` set. */
static const RedlaneContainer *
look_set(RedlaneEngine *engine, const RedlaneVector *vector, RedlaneReply *reply,
         bool *wrong)
{
    const RedlaneEntry *entry = redlane_engine_look(engine, vector->argv[1]);

    *wrong = redlane_entry_mismatch(entry, REDLANE_VALUE_SET, reply);
    return entry && !*wrong ? entry->container : NULL;
}

void
redlane_engine_do_SISMEMBER(RedlaneEngine *engine, const RedlaneVector *vector,
                            RedlaneReply *reply)
{
    bool wrong;
    const RedlaneContainer *set = look_set(engine, vector, reply, &wrong);

    if (!wrong) {
        redlane_reply_integer(
            reply, set && redlane_engine_member(engine, set, vector->argv[2]));
    }
}

void
redlane_engine_do_SMISMEMBER(RedlaneEngine *engine, const RedlaneVector *vector,
                             RedlaneReply *reply)
{
    bool wrong;
    const RedlaneContainer *set = look_set(engine, vector, reply, &wrong);

    if (wrong) {
        return;
    }
    redlane_reply_array(reply, vector->argc - 2);
    for (size_t i = 2; i < vector->argc; i++) {
        redlane_reply_integer(
            reply, set && redlane_engine_member(engine, set, vector->argv[i]));
    }
}

void
redlane_engine_do_SMEMBERS(RedlaneEngine *engine, const RedlaneVector *vector,
                           RedlaneReply *reply)
{
    bool wrong;
    const RedlaneContainer *set = look_set(engine, vector, reply, &wrong);

    if (wrong) {
        return;
    }
    redlane_reply_array(reply, set ? set->table.count : 0);
    if (!set) {
        return;
    }
    for (RedlaneSlot *slot = redlane_table_from(&set->table, 0); slot;
         slot = redlane_table_next(&set->table, slot)) {
        redlane_reply_bulk(reply, redlane_table_key(&set->table, slot->item),
                           slot->item->key_size);
    }
}

void
redlane_engine_do_SCARD(RedlaneEngine *engine, const RedlaneVector *vector,
                        RedlaneReply *reply)
{
    bool wrong;
    const RedlaneContainer *set = look_set(engine, vector, reply, &wrong);

    if (!wrong) {
        redlane_reply_integer(reply, set ? (int64_t)set->table.count : 0);
    }
}
