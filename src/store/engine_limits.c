/* Rate limits on the engine. A state is a string: FIXED its number in digits, as on a
 * server; else binary, a RedlaneLimitState, or of a log
 *
 *   | first | end | time | time | …        uint32, uint32, int64 each
 *
 * whose times from `first` to before `end` count; what they leave behind is used again.
 *
 * Plain C, with the engine's lock held. */
#include "store/engine_limits.h"

#include <string.h>

#include "core/number.h"
#include "store/engine_internal.h"

typedef struct {
    uint32_t first, end;
} LogHead;

#define TIME_SIZE sizeof(int64_t)
#define LOG_GROWTH 8 /* times, at least */

static bool
is_string(const RedlaneEntry *entry)
{
    return entry && entry->type == REDLANE_VALUE_STRING;
}

static char *
value_of(RedlaneEntry *entry)
{
    return entry->bytes + entry->item.key_size;
}

/* Of what is no log: an empty one. */
static LogHead
read_head(const RedlaneEntry *entry)
{
    LogHead head = {0, 0};

    if (is_string(entry) && entry->value_size >= sizeof(head)) {
        memcpy(&head, redlane_entry_value(entry), sizeof(head));
        if (head.first > head.end ||
            head.end > (entry->value_size - sizeof(head)) / TIME_SIZE) {
            head = (LogHead){0, 0};
        }
    }
    return head;
}

static void
open_log(RedlaneLimitMeter *meter, const RedlaneLimit *limit, RedlaneEntry *entry,
         int64_t now)
{
    LogHead head = read_head(entry);
    char *times = head.end ? value_of(entry) + sizeof(head) : NULL;

    redlane_limit_open_log(meter, limit, times ? times + head.first * TIME_SIZE : NULL,
                           head.end - head.first, now);
    meter->gone += head.first;
    meter->times = times;
}

static void
open_meter(RedlaneLimitMeter *meter, const RedlaneLimit *limit, int64_t index,
           RedlaneEntry *entry, int64_t now)
{
    RedlaneLimitState state = {0};

    if (limit->kind == REDLANE_LIMIT_LOG) {
        open_log(meter, limit, entry, now);
        return;
    }
    if (limit->kind == REDLANE_LIMIT_FIXED) {
        state.index = index;
        if (is_string(entry) &&
            (!redlane_number_parse_int64(redlane_entry_value(entry), entry->value_size,
                                         &state.current) ||
             state.current < 0)) {
            state.current = 0;
        }
    }
    else if (is_string(entry) && entry->value_size == sizeof(state)) {
        memcpy(&state, redlane_entry_value(entry), sizeof(state));
    }
    redlane_limit_open(meter, limit, &state, now);
}

/* True, and all meters are open, when every key names the present window. */
static bool
open_all(RedlaneEngine *engine, const RedlaneLimitCall *call, int64_t now,
         RedlaneLimitMeter *meters, RedlaneEntry **entries)
{
    for (size_t i = 0; i < call->count; i++) {
        const RedlaneLimit *limit = call->on[i].limit;

        if (limit->kind == REDLANE_LIMIT_FIXED) {
            int64_t off = call->on[i].index - now / limit->window;

            if (off && (!call->on[i].lenient || off > 1 || off < -1)) {
                return false;
            }
        }
        entries[i] = redlane_engine_find(engine, call->on[i].key);
        open_meter(&meters[i], limit, call->on[i].index, entries[i], now);
    }
    return true;
}

/* Stores a state of that size for so long; NULL: there is no room. */
static RedlaneEntry *
store_state(RedlaneEngine *engine, RedlaneArg key, RedlaneEntry *entry,
            const void *state, size_t size, int64_t ttl)
{
    RedlaneReply ignored = {.make_bulk = NULL};

    if (is_string(entry) && entry->value_size == size) {
        memcpy(value_of(entry), state, size);
    }
    else {
        entry = redlane_engine_store(engine, key, entry, state, size, &ignored);
        redlane_buffer_free(&ignored.nodes);
    }
    if (entry) {
        redlane_engine_set_expires(
            engine, entry,
            (redlane_clock_coarse() + REDLANE_COARSE_TICK) / REDLANE_NS_PER_MS + ttl);
    }
    return entry;
}

/* Keeps what a meter holds now. False: there is no room. */
static bool
close_meter(RedlaneEngine *engine, RedlaneArg key, const RedlaneLimitMeter *meter,
            RedlaneEntry *entry)
{
    RedlaneLimitState state;
    char digits[REDLANE_INT64_TEXT];
    int64_t ttl = redlane_limit_close(meter, &state);

    if (ttl == 0) {
        if (entry) {
            redlane_engine_delete(engine, entry);
        }
        return true;
    }
    if (meter->limit->kind == REDLANE_LIMIT_FIXED) {
        return store_state(engine, key, entry, digits,
                           redlane_number_format_int64(digits, state.current), ttl);
    }
    return store_state(engine, key, entry, &state, sizeof(state), ttl);
}

/* Room in a log for `cost` times behind those that count; the entry, or NULL. */
static RedlaneEntry *
grow_log(RedlaneEngine *engine, RedlaneArg key, RedlaneEntry *entry, size_t capacity)
{
    LogHead head = {0, 0};
    size_t size = sizeof(head) + capacity * TIME_SIZE;
    RedlaneReply ignored = {.make_bulk = NULL};
    RedlaneEntry *grown = NULL;

    if (is_string(entry)) {
        if (redlane_engine_reserve(engine, size - entry->value_size, entry, &ignored)) {
            grown = redlane_engine_resize(engine, entry, size);
        }
        redlane_buffer_free(&ignored.nodes);
        return grown;
    }
    if (entry) {
        redlane_engine_delete(engine, entry);
    }
    if (redlane_engine_reserve(engine, redlane_engine_need(key, size), NULL,
                               &ignored)) {
        grown = redlane_engine_create(engine, key, REDLANE_VALUE_STRING, size);
    }
    if (grown) {
        memcpy(value_of(grown), &head, sizeof(head));
    }
    redlane_buffer_free(&ignored.nodes);
    return grown;
}

/* A log that is charged, or given back to: written in place. */
static bool
change_log(RedlaneEngine *engine, const RedlaneLimitCall *call, size_t index,
           RedlaneLimitMeter *meter, RedlaneEntry *entry)
{
    size_t most = (size_t)meter->limit->count, used = (size_t)meter->used;
    size_t need = used + (size_t)call->cost, capacity;
    RedlaneLimitState unused;
    LogHead head;
    int64_t ttl;

    if (call->mode == 'h') {
        capacity = is_string(entry) && entry->value_size > sizeof(head)
                       ? (entry->value_size - sizeof(head)) / TIME_SIZE
                       : 0;
        if (need > capacity) { /* before anything moves: it may fail */
            capacity = need * 2 < LOG_GROWTH ? LOG_GROWTH : need * 2;
            capacity = capacity < most ? capacity : most;
            entry = grow_log(engine, call->on[index].key, entry, capacity);
            if (!entry) {
                return false;
            }
        }
        meter->times = value_of(entry) + sizeof(head);
        if (meter->gone + need > capacity) {
            memmove(meter->times, meter->times + meter->gone * TIME_SIZE,
                    used * TIME_SIZE);
            meter->gone = 0;
        }
        redlane_limit_add(meter, call->cost);
    }
    else {
        redlane_limit_refund(meter, call->cost);
    }
    ttl = redlane_limit_close(meter, &unused);
    if (ttl == 0) {
        redlane_engine_delete(engine, entry);
        return true;
    }
    head =
        (LogHead){(uint32_t)meter->gone, (uint32_t)(meter->gone + (size_t)meter->used)};
    memcpy(value_of(entry), &head, sizeof(head));
    redlane_engine_set_expires(
        engine, entry,
        (redlane_clock_coarse() + REDLANE_COARSE_TICK) / REDLANE_NS_PER_MS + ttl);
    return true;
}

static bool
change_one(RedlaneEngine *engine, const RedlaneLimitCall *call, size_t index,
           RedlaneLimitMeter *meter, RedlaneEntry *entry)
{
    RedlaneArg key = call->on[index].key;

    if (index) { /* what was stored before this one may have moved it, or evicted it */
        entry = redlane_engine_find(engine, key);
        open_meter(meter, call->on[index].limit, call->on[index].index, entry,
                   meter->now);
    }
    if (meter->limit->kind == REDLANE_LIMIT_LOG) {
        return change_log(engine, call, index, meter, entry);
    }
    if (call->mode == 'h') {
        redlane_limit_add(meter, call->cost);
    }
    else {
        redlane_limit_refund(meter, call->cost);
    }
    return close_meter(engine, key, meter, entry);
}

/* Keeps what a clock that was set back has made of a state. */
static bool
keep_moved(RedlaneEngine *engine, RedlaneArg key, const RedlaneLimitMeter *meter)
{
    return close_meter(engine, key, meter, redlane_engine_find(engine, key));
}

static int64_t
clock_now(void)
{
    return redlane_clock_read(CLOCK_REALTIME) / 1000;
}

RedlaneLimitsVerdict
redlane_engine_limit_locked(RedlaneEngine *engine, const RedlaneLimitCall *call,
                            int64_t *now, RedlaneLimitAnswer *answers, bool *grown)
{
    RedlaneLimitMeter meters[REDLANE_LIMITS_MAX];
    RedlaneEntry *entries[REDLANE_LIMITS_MAX];
    size_t keys = engine->keys.count;
    bool free = true, change;

    *now = call->now ? call->now : clock_now();
    if (!open_all(engine, call, *now, meters, entries)) {
        return REDLANE_LIMITS_STALE;
    }
    for (size_t i = 0; i < call->count; i++) {
        answers[i].retry = redlane_limit_retry(&meters[i], call->cost);
        free = free && answers[i].retry == 0;
    }
    for (size_t i = 0; i < call->count; i++) {
        change = call->mode == 'h'
                     ? free && call->cost > 0
                     : call->mode == 'r' && (meters[i].used || meters[i].previous);
        if (change && !change_one(engine, call, i, &meters[i], entries[i])) {
            return REDLANE_LIMITS_FAILED;
        }
        if (!change && meters[i].moved &&
            !keep_moved(engine, call->on[i].key, &meters[i])) {
            return REDLANE_LIMITS_FAILED;
        }
        if (call->mode == 'r') {
            answers[i].retry = redlane_limit_retry(&meters[i], call->cost);
        }
        redlane_limit_answer(&meters[i], &answers[i]);
    }
    *grown = engine->keys.count > keys;
    return REDLANE_LIMITS_DECIDED;
}

/* --- as a script -------------------------------------------------------------------
 */

#define ARGS_BEFORE 3 /* mode, cost, now */
#define ARGS_EACH 6

/* A number within what a server's Lua can do with it. */
static bool
read_number(RedlaneArg arg, int64_t least, int64_t *number)
{
    return redlane_number_parse_int64(arg.data, arg.size, number) && *number >= least &&
           *number <= REDLANE_LIMIT_TIME_MAX;
}

static bool
read_limit(const RedlaneArg *argv, RedlaneLimit *limit, int64_t *index, bool *lenient)
{
    int64_t x, y, z;

    if (argv[0].size != 1 || !memchr("fslb", argv[0].data[0], 4) ||
        !read_number(argv[1], 1, &limit->count) ||
        !read_number(argv[2], 1, &limit->window) || !read_number(argv[3], 0, &x) ||
        !read_number(argv[4], 0, &y) || !read_number(argv[5], 0, &z)) {
        return false;
    }
    limit->kind = (RedlaneLimitKind)argv[0].data[0];
    limit->tick = limit->token = x;
    limit->span = limit->drain = y;
    limit->burst = limit->kind == REDLANE_LIMIT_BUCKET ? z : limit->count;
    *index = x;
    *lenient = y != 0;
    switch (limit->kind) {
    case REDLANE_LIMIT_SLIDING:
        return x > 0 && y > 0 && limit->count <= REDLANE_LIMIT_TIME_MAX / y &&
               x <= REDLANE_LIMIT_TIME_MAX / y;
    case REDLANE_LIMIT_BUCKET:
        return x > 0 && y > 0 && z > 0 && x <= REDLANE_LIMIT_TIME_MAX / z;
    case REDLANE_LIMIT_FIXED:
        return x < REDLANE_LIMIT_TIME_MAX / limit->window;
    case REDLANE_LIMIT_LOG:
        break;
    }
    return limit->count <= REDLANE_LIMIT_LOG_MAX;
}

/* Twice in one call, a key's state would be changed under the eyes of the first. */
static bool
is_repeated(const RedlaneArg *keys, size_t index)
{
    for (size_t i = 0; i < index; i++) {
        if (keys[i].size == keys[index].size &&
            memcmp(keys[i].data, keys[index].data, keys[i].size) == 0) {
            return true;
        }
    }
    return false;
}

void
redlane_engine_run_limit(RedlaneEngine *engine, const RedlaneArg *keys, size_t count,
                         const RedlaneArg *argv, size_t argc, RedlaneReply *reply)
{
    RedlaneLimitAnswer answers[REDLANE_LIMITS_MAX];
    RedlaneLimit limits[REDLANE_LIMITS_MAX] = {0};
    RedlaneLimitCall call = {.count = count};
    RedlaneLimitsVerdict verdict;
    int64_t now;
    bool grown = false, good;

    good = count > 0 && count <= REDLANE_LIMITS_MAX &&
           argc == ARGS_BEFORE + count * ARGS_EACH && argv[0].size == 1 &&
           memchr("hpr", argv[0].data[0], 3) && read_number(argv[1], 0, &call.cost) &&
           call.cost <= REDLANE_LIMIT_COUNT_MAX && read_number(argv[2], 0, &call.now);
    for (size_t i = 0; good && i < count; i++) {
        call.on[i].key = keys[i];
        call.on[i].limit = &limits[i];
        good = !is_repeated(keys, i) &&
               read_limit(argv + ARGS_BEFORE + i * ARGS_EACH, &limits[i],
                          &call.on[i].index, &call.on[i].lenient) &&
               call.cost <= redlane_limit_most(&limits[i]);
    }
    if (!good) {
        redlane_reply_error(reply, "ERR bad arguments for the script 'limit'");
        return;
    }
    call.mode = argv[0].data[0];
    verdict = redlane_engine_limit_locked(engine, &call, &now, answers, &grown);
    if (verdict == REDLANE_LIMITS_FAILED) {
        redlane_reply_error(reply, REDLANE_ERROR_MEMORY);
        return;
    }
    redlane_reply_array(reply, verdict == REDLANE_LIMITS_STALE ? 1 : 1 + 3 * count);
    redlane_reply_integer(reply, now);
    for (size_t i = 0; verdict == REDLANE_LIMITS_DECIDED && i < count; i++) {
        redlane_reply_integer(reply, answers[i].remaining);
        redlane_reply_integer(reply, answers[i].reset);
        redlane_reply_integer(reply, answers[i].retry);
    }
}
