/* SLOT as native code: a sorted set of tokens by the end of their leases, as on a
 * server.
 *
 * Plain C, with the engine's lock held. */
#include <string.h>

#include "core/command.h"
#include "core/number.h"
#include "store/engine_scripts.h"

#define SPARE_MS 10 /* that the key lives for longer than its longest lease */
#define LEASE_MAX (INT64_C(1) << 50)

/* How many leases have ended: they stand first. */
static size_t
count_ended(const RedlaneContainer *slots, int64_t now)
{
    size_t ended = 0;

    while (ended < slots->table.count && slots->order[ended]->score <= (double)now) {
        ended++;
    }
    return ended;
}

static void
reply_slots(RedlaneReply *reply, bool done, size_t held, int64_t retry)
{
    redlane_reply_array(reply, 3);
    redlane_reply_integer(reply, done);
    redlane_reply_integer(reply, (int64_t)held);
    redlane_reply_integer(reply, retry);
}

/* Where the token stands in the order; table.count: nowhere. */
static size_t
find_token(const RedlaneEngine *engine, const RedlaneContainer *slots, RedlaneArg token)
{
    const RedlaneSlot *slot = redlane_engine_member(engine, slots, token);
    size_t index = 0;

    if (!slot) {
        return slots->table.count;
    }
    while ((const void *)slots->order[index] != (const void *)slot->item) {
        index++;
    }
    return index;
}

/* Drops what has ended, and the token too where that is asked for. The entry may be
 * gone after it. Whether the token had a slot. */
static bool
drop(RedlaneEngine *engine, RedlaneEntry *entry, RedlaneArg token, bool release,
     int64_t now, size_t *held)
{
    RedlaneContainer *slots = entry->container;
    size_t before = engine->used, index;
    bool mine;

    redlane_engine_cut_members(engine, slots, 0, count_ended(slots, now));
    index = find_token(engine, slots, token);
    mine = index < slots->table.count;
    if (release && mine) {
        redlane_engine_cut_members(engine, slots, index, index + 1);
    }
    *held = slots->table.count;
    redlane_engine_close(engine, entry, before);
    return mine;
}

/* ZADD, and the key's TTL. False with the error in `reply`. */
static bool
take(RedlaneEngine *engine, RedlaneArg key, RedlaneArg token, int64_t end,
     RedlaneReply *reply)
{
    const RedlaneCommand *command = redlane_command_by_id(REDLANE_CMD_ZADD);
    char text[REDLANE_INT64_TEXT];
    const RedlaneArg argv[] = {{command->name, strlen(command->name)},
                               key,
                               {text, redlane_number_format_int64(text, end)},
                               token};
    const RedlaneVector vector = {argv, 4, command};
    const RedlaneContainer *slots;
    RedlaneEntry *entry;

    redlane_engine_do_ZADD(engine, &vector, reply);
    if (reply->failed || reply->nodes.data[0] == REDLANE_REPLY_ERROR) {
        return false; /* there is no room */
    }
    reply->nodes.size = 0;
    entry = redlane_engine_find(engine, key);
    slots = entry->container;
    end = (int64_t)slots->order[slots->table.count - 1]->score;
    redlane_engine_set_expires(engine, entry,
                               redlane_engine_expires_at(engine, end + SPARE_MS));
    return true;
}

void
redlane_script_slot(RedlaneEngine *engine, const RedlaneScriptCall *call,
                    RedlaneReply *reply)
{
    RedlaneArg key = call->keys[0], token = call->argv[1];
    char mode = call->argv[0].size ? call->argv[0].data[0] : '\0';
    RedlaneEntry *entry = redlane_engine_find(engine, key);
    int64_t limit, lease, now = redlane_clock_unix_ms();
    size_t held = 0, over;
    bool mine = false;

    if (!redlane_arg_int64(call->argv[2], &limit, reply) ||
        !redlane_arg_int64(call->argv[3], &lease, reply) ||
        redlane_entry_mismatch(entry, REDLANE_VALUE_ZSET, reply)) {
        return;
    }
    if (limit < 1 || lease < 1 || lease > LEASE_MAX) {
        redlane_reply_error(reply, "ERR bad arguments for the script 'slot'");
        return;
    }
    if (mode == 'p') {
        held = entry
                   ? entry->container->table.count - count_ended(entry->container, now)
                   : 0;
        reply_slots(reply, true, held, 0);
        return;
    }
    if (entry) {
        mine = drop(engine, entry, token, mode == 'r', now, &held);
    }
    if (mode == 'r' || (mode == 'x' && !mine)) {
        reply_slots(reply, mine, held, 0);
        return;
    }
    if (!mine && held >= (size_t)limit) {
        over = held - (size_t)limit;
        reply_slots(reply, false, held,
                    (int64_t)entry->container->order[over]->score - now);
        return;
    }
    if (take(engine, key, token, now + lease, reply)) {
        reply_slots(reply, true, held + !mine, 0);
    }
}
