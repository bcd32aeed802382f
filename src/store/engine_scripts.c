/* EVAL and EVALSHA: the library's own scripts, each as native code with the replies of
 * its Lua text in core/script.c. Any other script is refused.
 *
 * Plain C, with the engine's lock held. */
#include "core/script.h"

#include <string.h>

#include "core/number.h"
#include "store/engine_limits.h"
#include "store/engine_scripts.h"

/* From here on the scripts reply with digits: Lua's numbers are doubles. */
#define EXACT_IN_LUA INT64_C(9007199254740992)

/* A generation lives for twice its values' TTL and this. */
#define TAG_SPARE_MS 3600000
#define ANY_NUMBER SIZE_MAX /* of keys, of arguments */
/* Of arguments: so many, and pairs behind them. */
#define AT_LEAST(count) (SIZE_MAX - 1 - (count))

typedef RedlaneScriptCall Call;
typedef void (*ScriptHandler)(RedlaneEngine *engine, const Call *call,
                              RedlaneReply *reply);

static bool
is_string(const RedlaneEntry *entry)
{
    return entry && entry->type == REDLANE_VALUE_STRING;
}

static bool
is_lease(const RedlaneEntry *entry)
{
    static const char mark[] = REDLANE_MARK "L";

    return is_string(entry) && entry->value_size >= sizeof(mark) - 1 &&
           memcmp(redlane_entry_value(entry), mark, sizeof(mark) - 1) == 0;
}

static bool
holds(const RedlaneEntry *entry, RedlaneArg value)
{
    return is_string(entry) && entry->value_size == value.size &&
           memcmp(redlane_entry_value(entry), value.data, value.size) == 0;
}

/* Reads a TTL in ms; "0" is REDLANE_NEVER where the script allows it. */
static bool
read_px(RedlaneEngine *engine, RedlaneArg arg, bool may_be_none, const char *command,
        int64_t *expires, RedlaneReply *reply)
{
    int64_t milliseconds, now = redlane_clock_unix_ms();

    if (may_be_none && arg.size == 1 && arg.data[0] == '0') {
        *expires = REDLANE_NEVER;
        return true;
    }
    if (!redlane_arg_int64(arg, &milliseconds, reply)) {
        return false;
    }
    if (milliseconds <= 0 || milliseconds > INT64_MAX - now) {
        redlane_engine_error(reply, REDLANE_ERROR_EXPIRE, command);
        return false;
    }
    *expires = redlane_engine_expires_at(engine, now + milliseconds);
    return true;
}

/* SET key value PX px, or none. */
static bool
set_value(RedlaneEngine *engine, RedlaneArg key, RedlaneEntry *old, RedlaneArg value,
          int64_t expires, RedlaneReply *reply)
{
    RedlaneEntry *entry =
        redlane_engine_store(engine, key, old, value.data, value.size, reply);

    if (!entry) {
        return false;
    }
    redlane_engine_set_expires(engine, entry, expires);
    return true;
}

static void
run_acquire(RedlaneEngine *engine, const Call *call, RedlaneReply *reply)
{
    RedlaneEntry *entry = redlane_engine_look(engine, call->keys[0]);
    int64_t expires;

    if (redlane_entry_mismatch(entry, REDLANE_VALUE_STRING, reply)) {
        return;
    }
    if (entry) {
        redlane_reply_bulk(reply, redlane_entry_value(entry), entry->value_size);
        return;
    }
    if (read_px(engine, call->argv[1], false, "set", &expires, reply) &&
        set_value(engine, call->keys[0], NULL, call->argv[0], expires, reply)) {
        redlane_reply_nil(reply);
    }
}

static void
run_fill(RedlaneEngine *engine, const Call *call, RedlaneReply *reply)
{
    RedlaneEntry *entry = redlane_engine_find(engine, call->keys[0]);
    int64_t expires;

    if (!holds(entry, call->argv[0])) {
        redlane_reply_integer(reply, 0);
        return;
    }
    if (read_px(engine, call->argv[2], true, "set", &expires, reply) &&
        set_value(engine, call->keys[0], entry, call->argv[1], expires, reply)) {
        redlane_reply_integer(reply, 1);
    }
}

static void
run_release(RedlaneEngine *engine, const Call *call, RedlaneReply *reply)
{
    RedlaneEntry *entry = redlane_engine_find(engine, call->keys[0]);
    bool mine = holds(entry, call->argv[0]);

    if (mine) {
        redlane_engine_delete(engine, entry);
    }
    redlane_reply_integer(reply, mine);
}

static void
run_renew(RedlaneEngine *engine, const Call *call, RedlaneReply *reply)
{
    RedlaneEntry *entry = redlane_engine_find(engine, call->keys[0]);
    RedlaneArg head = call->argv[0], px = call->argv[2];
    int64_t expires;

    if (!is_string(entry) || entry->value_size < head.size ||
        memcmp(redlane_entry_value(entry), head.data, head.size) != 0) {
        redlane_reply_integer(reply, 0);
        return;
    }
    if (px.size == 2 && memcmp(px.data, "-1", 2) == 0) {
        redlane_engine_delete(engine, entry);
        redlane_reply_integer(reply, 1);
        return;
    }
    if (read_px(engine, px, true, "set", &expires, reply) &&
        set_value(engine, call->keys[0], entry, call->argv[1], expires, reply)) {
        redlane_reply_integer(reply, 1);
    }
}

static void
run_add(RedlaneEngine *engine, const Call *call, RedlaneReply *reply)
{
    RedlaneEntry *entry = redlane_engine_find(engine, call->keys[0]);
    int64_t expires;

    if (entry && !is_lease(entry)) {
        redlane_reply_integer(reply, 0);
        return;
    }
    if (read_px(engine, call->argv[1], true, "set", &expires, reply) &&
        set_value(engine, call->keys[0], entry, call->argv[0], expires, reply)) {
        redlane_reply_integer(reply, 1);
    }
}

static void
run_touch(RedlaneEngine *engine, const Call *call, RedlaneReply *reply)
{
    RedlaneEntry *entry = redlane_engine_find(engine, call->keys[0]);
    int64_t expires;

    if (!entry || is_lease(entry)) {
        redlane_reply_integer(reply, 0);
        return;
    }
    if (read_px(engine, call->argv[0], true, "pexpire", &expires, reply)) {
        redlane_engine_set_expires(engine, entry, expires);
        redlane_reply_integer(reply, 1);
    }
}

static void
reply_count(RedlaneReply *reply, int64_t value)
{
    char text[REDLANE_INT64_TEXT];

    if (value >= EXACT_IN_LUA || value <= -EXACT_IN_LUA) {
        redlane_reply_bulk(reply, text, redlane_number_format_int64(text, value));
    }
    else {
        redlane_reply_integer(reply, value);
    }
}

static void
run_increment(RedlaneEngine *engine, const Call *call, RedlaneReply *reply)
{
    RedlaneArg key = call->keys[0];
    RedlaneEntry *entry = redlane_engine_find(engine, key);
    int64_t amount, value, expires;

    if (is_lease(entry)) {
        redlane_engine_delete(engine, entry);
        entry = NULL;
    }
    if (entry) {
        if (redlane_arg_int64(call->argv[0], &amount, reply) &&
            redlane_engine_add_int64(engine, key, entry, amount, &value, reply)) {
            reply_count(reply, value);
        }
        return;
    }
    if (redlane_arg_int64(call->argv[0], &amount, reply) &&
        read_px(engine, call->argv[1], true, "pexpire", &expires, reply) &&
        set_value(engine, key, NULL, call->argv[0], expires, reply)) {
        reply_count(reply, amount);
    }
}

/* One counter of COUNTER_ADD and COUNTER_TRANSFER. */
static void
add_to_counter(RedlaneEngine *engine, RedlaneArg key, int64_t amount,
               RedlaneReply *reply)
{
    RedlaneEntry *entry = redlane_engine_find(engine, key);
    int64_t value;

    if (!entry) {
        redlane_reply_nil(reply);
        return;
    }
    if (!is_string(entry) || !redlane_number_parse_int64(redlane_entry_value(entry),
                                                         entry->value_size, &value)) {
        redlane_engine_delete(engine, entry);
        redlane_reply_nil(reply);
        return;
    }
    if (redlane_engine_add_int64(engine, key, entry, amount, &value, reply)) {
        reply_count(reply, value);
    }
}

static void
run_counter_add(RedlaneEngine *engine, const Call *call, RedlaneReply *reply)
{
    int64_t amount;

    if (redlane_arg_int64(call->argv[0], &amount, reply)) {
        add_to_counter(engine, call->keys[0], amount, reply);
    }
}

static void
run_counter_transfer(RedlaneEngine *engine, const Call *call, RedlaneReply *reply)
{
    RedlaneArg from = call->keys[0], to = call->keys[1];
    const RedlaneEntry *entry;
    int64_t value;

    redlane_reply_array(reply, 2);
    if (from.size != to.size || memcmp(from.data, to.data, from.size) != 0) {
        add_to_counter(engine, from, -1, reply);
        add_to_counter(engine, to, 1, reply);
        return;
    }
    entry = redlane_engine_look(engine, from);
    if (!is_string(entry) || !redlane_number_parse_int64(redlane_entry_value(entry),
                                                         entry->value_size, &value)) {
        redlane_reply_nil(reply);
        redlane_reply_nil(reply);
        return;
    }
    for (int i = 0; i < 2; i++) {
        if (entry->value_size - (value < 0) <= 15) {
            redlane_reply_integer(reply, value);
        }
        else {
            redlane_reply_bulk(reply, redlane_entry_value(entry), entry->value_size);
        }
    }
}

static void
run_video_set(RedlaneEngine *engine, const Call *call, RedlaneReply *reply)
{
    RedlaneEntry *entry = redlane_engine_find(engine, call->keys[0]);
    int64_t expires;

    if (!read_px(engine, call->argv[1], true, "set", &expires, reply)) {
        return;
    }
    if (expires != REDLANE_NEVER && is_string(entry) && !is_lease(entry) &&
        entry->expires == REDLANE_NEVER) {
        redlane_reply_integer(reply, 0);
        return;
    }
    if (set_value(engine, call->keys[0], entry, call->argv[0], expires, reply)) {
        redlane_reply_integer(reply, 1);
    }
}

static void
run_restore(RedlaneEngine *engine, const Call *call, RedlaneReply *reply)
{
    RedlaneEntry *entry = redlane_engine_find(engine, call->keys[0]);
    bool wins = !(call->argv[2].size == 1 && call->argv[2].data[0] == '0');
    int64_t expires;

    if (!read_px(engine, call->argv[1], true, "set", &expires, reply)) {
        return;
    }
    if (expires != REDLANE_NEVER && holds(entry, call->argv[0]) && !is_lease(entry) &&
        entry->expires != REDLANE_NEVER) {
        if (entry->expires < expires) {
            redlane_engine_set_expires(engine, entry, expires);
        }
        redlane_reply_integer(reply, 1);
        return;
    }
    if (entry && !is_lease(entry) &&
        (!wins || expires != REDLANE_NEVER || entry->expires == REDLANE_NEVER)) {
        redlane_reply_integer(reply, 0);
        return;
    }
    if (set_value(engine, call->keys[0], entry, call->argv[0], expires, reply)) {
        redlane_reply_integer(reply, 1);
    }
}

/* Much longer than the values live: see the Lua text. */
static bool
read_tag_px(RedlaneEngine *engine, RedlaneArg arg, int64_t *expires, int64_t *renewed,
            RedlaneReply *reply)
{
    int64_t milliseconds, now = redlane_clock_unix_ms();

    if (!redlane_arg_int64(arg, &milliseconds, reply)) {
        return false;
    }
    *expires = *renewed = REDLANE_NEVER;
    if (milliseconds == 0) {
        return true;
    }
    if (milliseconds < 0 || milliseconds > (INT64_MAX - now - TAG_SPARE_MS) / 2) {
        redlane_engine_error(reply, REDLANE_ERROR_EXPIRE, "set");
        return false;
    }
    *expires = redlane_engine_expires_at(engine, now + milliseconds);
    *renewed = redlane_engine_expires_at(engine, now + milliseconds * 2 + TAG_SPARE_MS);
    return true;
}

static bool
is_generation(const RedlaneEntry *entry)
{
    static const char mark[] = REDLANE_MARK "G";

    return is_string(entry) && entry->value_size == REDLANE_GENERATION_SIZE &&
           memcmp(redlane_entry_value(entry), mark, sizeof(mark) - 1) == 0;
}

static void
run_tags(RedlaneEngine *engine, const Call *call, RedlaneReply *reply)
{
    int64_t expires, renewed;

    if (!read_tag_px(engine, call->argv[1], &expires, &renewed, reply)) {
        return;
    }
    redlane_reply_array(reply, call->count);
    for (size_t i = 0; i < call->count; i++) {
        RedlaneEntry *entry = redlane_engine_find(engine, call->keys[i]);

        if (!is_generation(entry)) {
            if (set_value(engine, call->keys[i], entry, call->argv[0], renewed,
                          reply)) {
                redlane_reply_bulk(reply, call->argv[0].data, call->argv[0].size);
            } /* else its place in the reply holds the error */
            continue;
        }
        if (entry->expires < expires) {
            redlane_engine_set_expires(engine, entry, renewed);
        }
        redlane_reply_bulk(reply, redlane_entry_value(entry), entry->value_size);
    }
}

static void
run_cooldown(RedlaneEngine *engine, const Call *call, RedlaneReply *reply)
{
    RedlaneEntry *entry = redlane_engine_find(engine, call->keys[0]);
    int64_t now = redlane_clock_unix_ms(), expires, left = 0;

    if (entry && entry->expires != REDLANE_NEVER) {
        left = redlane_engine_unix_of(engine, entry->expires) - now;
    }
    if (left > 0) {
        redlane_reply_integer(reply, left);
        return;
    }
    if (!read_px(engine, call->argv[0], false, "set", &expires, reply)) {
        return;
    }
    if (entry && entry->expires == REDLANE_NEVER) {
        redlane_engine_set_expires(engine, entry, expires);
        (void)redlane_arg_int64(call->argv[0], &left, reply);
        redlane_reply_integer(reply, left);
        return;
    }
    if (set_value(engine, call->keys[0], entry, REDLANE_ARG_LITERAL("1"), expires,
                  reply)) {
        redlane_reply_integer(reply, 0);
    }
}

static void
run_limit(RedlaneEngine *engine, const Call *call, RedlaneReply *reply)
{
    redlane_engine_run_limit(engine, call->keys, call->count, call->argv, call->args,
                             reply);
}

/* What the engine admits is charged to a server, never the other way round. */
static void
run_limit_charge(RedlaneEngine *engine, const Call *call, RedlaneReply *reply)
{
    (void)engine;
    (void)call;
    redlane_reply_error(reply, "ERR the memory engine does not run this script");
}

static const struct {
    ScriptHandler run;
    size_t keys, args;
} scripts[REDLANE_SCRIPT_COUNT] = {
    [REDLANE_SCRIPT_ACQUIRE] = {run_acquire, 1, 2},
    [REDLANE_SCRIPT_FILL] = {run_fill, 1, 3},
    [REDLANE_SCRIPT_RELEASE] = {run_release, 1, 1},
    [REDLANE_SCRIPT_RENEW] = {run_renew, 1, 3},
    [REDLANE_SCRIPT_ADD] = {run_add, 1, 2},
    [REDLANE_SCRIPT_TOUCH] = {run_touch, 1, 1},
    [REDLANE_SCRIPT_INCREMENT] = {run_increment, 1, 2},
    [REDLANE_SCRIPT_COUNTER_ADD] = {run_counter_add, 1, 1},
    [REDLANE_SCRIPT_COUNTER_TRANSFER] = {run_counter_transfer, 2, 0},
    [REDLANE_SCRIPT_VIDEO_SET] = {run_video_set, 1, 2},
    [REDLANE_SCRIPT_RESTORE] = {run_restore, 1, 3},
    [REDLANE_SCRIPT_TAGS] = {run_tags, ANY_NUMBER, 2},
    [REDLANE_SCRIPT_COOLDOWN] = {run_cooldown, 1, 1},
    [REDLANE_SCRIPT_PRESENCE_JOIN] = {redlane_script_presence_join, 4, AT_LEAST(2)},
    [REDLANE_SCRIPT_PRESENCE_LEAVE] = {redlane_script_presence_leave, 4, AT_LEAST(3)},
    [REDLANE_SCRIPT_PRESENCE_READ] = {redlane_script_presence_read, 4, 3},
    [REDLANE_SCRIPT_LIMIT] = {run_limit, ANY_NUMBER, ANY_NUMBER},
    [REDLANE_SCRIPT_LIMIT_CHARGE] = {run_limit_charge, 1, ANY_NUMBER},
    [REDLANE_SCRIPT_SLOT] = {redlane_script_slot, 1, 4},
};

static bool
takes(size_t wanted, size_t args)
{
    if (wanted == ANY_NUMBER) {
        return true;
    }
    if (wanted > SIZE_MAX / 2) {
        size_t least = SIZE_MAX - 1 - wanted;

        return args >= least && (args - least) % 2 == 0;
    }
    return args == wanted;
}

static void
run_script(RedlaneEngine *engine, const RedlaneVector *vector,
           const RedlaneScript *script, RedlaneReply *reply)
{
    size_t id = (size_t)(script - redlane_scripts), args = vector->argc - 3;
    int64_t keys;
    Call call;

    if (!redlane_arg_int64(vector->argv[2], &keys, reply)) {
        return;
    }
    if (keys > (int64_t)args) {
        redlane_reply_error(reply,
                            "ERR Number of keys can't be greater than number of args");
        return;
    }
    if (keys < 0) {
        redlane_reply_error(reply, "ERR Number of keys can't be negative");
        return;
    }
    args -= (size_t)keys;
    if ((scripts[id].keys != ANY_NUMBER && (size_t)keys != scripts[id].keys) ||
        !takes(scripts[id].args, args)) {
        redlane_engine_error(reply, "ERR wrong number of arguments for the script '%s'",
                             script->name);
        return;
    }
    call = (Call){vector->argv + 3, vector->argv + 3 + keys, (size_t)keys, args};
    scripts[id].run(engine, &call, reply);
}

void
redlane_engine_do_EVAL(RedlaneEngine *engine, const RedlaneVector *vector,
                       RedlaneReply *reply)
{
    const RedlaneScript *script =
        redlane_script_by_text(vector->argv[1].data, vector->argv[1].size);

    if (!script) {
        redlane_reply_error(reply, "ERR this script does not run on the memory engine: "
                                   "it executes only redlane's own scripts");
        return;
    }
    run_script(engine, vector, script, reply);
}

void
redlane_engine_do_EVALSHA(RedlaneEngine *engine, const RedlaneVector *vector,
                          RedlaneReply *reply)
{
    const RedlaneScript *script =
        redlane_script_by_sha1(vector->argv[1].data, vector->argv[1].size);

    if (!script) {
        redlane_reply_error(reply, "NOSCRIPT No matching script. Please use EVAL.");
        return;
    }
    run_script(engine, vector, script, reply);
}
