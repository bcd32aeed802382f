/* Sorted sets: their order, and the commands that change them or read one member. The
 * ranges are in engine_ranges.c.
 *
 * Plain C, with the engine's lock held. */
#include <math.h>
#include <string.h>

#include "core/number.h"
#include "store/engine_internal.h"

#define ORDER_MIN 4

static size_t
member_size(const RedlaneMember *member)
{
    return REDLANE_MEMBER_HEAD + member->item.key_size;
}

/* Below zero, zero or above: as members stand by score, then bytes. */
static int
compare(const RedlaneMember *member, double score, RedlaneArg name)
{
    size_t common;
    int order;

    if (member->score != score) {
        return member->score < score ? -1 : 1;
    }
    common = member->item.key_size < name.size ? member->item.key_size : name.size;
    order = common ? memcmp(member->bytes, name.data, common) : 0;
    if (order) {
        return order;
    }
    return member->item.key_size < name.size ? -1 : member->item.key_size > name.size;
}

/* The index of the first member that is not below (score, name). */
static size_t
find_index(const RedlaneContainer *zset, double score, RedlaneArg name)
{
    size_t low = 0, high = zset->table.count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (compare(zset->order[middle], score, name) < 0) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    return low;
}

static bool
set_capacity(RedlaneEngine *engine, RedlaneContainer *zset, size_t capacity)
{
    size_t size = capacity * sizeof(*zset->order);
    RedlaneMember **order =
        zset->order
            ? redlane_engine_realloc(engine, zset->order,
                                     zset->capacity * sizeof(*zset->order), size)
            : redlane_engine_alloc(engine, size);

    if (!order) {
        return false;
    }
    zset->order = order;
    zset->capacity = capacity;
    return true;
}

static bool
insert_member(RedlaneEngine *engine, RedlaneContainer *zset, RedlaneArg name,
              double score)
{
    size_t count = zset->table.count, index = find_index(zset, score, name);
    RedlaneMember *member;

    if (count == zset->capacity &&
        !set_capacity(engine, zset, count ? count * 2 : ORDER_MIN)) {
        return false;
    }
    member = redlane_engine_alloc(engine, REDLANE_MEMBER_HEAD + name.size);
    if (!member) {
        return false;
    }
    member->item.key_size = (uint32_t)name.size;
    member->score = score;
    if (name.size) {
        memcpy(member->bytes, name.data, name.size);
    }
    if (!redlane_engine_insert(engine, &zset->table,
                               redlane_table_hash(&engine->seed, name.data, name.size),
                               &member->item)) {
        redlane_engine_release(engine, member, REDLANE_MEMBER_HEAD + name.size);
        return false;
    }
    memmove(zset->order + index + 1, zset->order + index,
            (count - index) * sizeof(*zset->order));
    zset->order[index] = member;
    return true;
}

static void
move_member(RedlaneContainer *zset, RedlaneMember *member, double score)
{
    RedlaneArg name = {member->bytes, member->item.key_size};
    size_t from = find_index(zset, member->score, name);
    size_t to = find_index(zset, score, name);

    if (to > from) {
        to--; /* its own place goes */
        memmove(zset->order + from, zset->order + from + 1,
                (to - from) * sizeof(*zset->order));
    }
    else {
        memmove(zset->order + to + 1, zset->order + to,
                (from - to) * sizeof(*zset->order));
    }
    zset->order[to] = member;
    member->score = score;
}

void
redlane_engine_cut_members(RedlaneEngine *engine, RedlaneContainer *zset, size_t from,
                           size_t to)
{
    size_t count = zset->table.count, kept = count - (to - from);

    for (size_t i = from; i < to; i++) {
        RedlaneMember *member = zset->order[i];
        RedlaneArg name = {member->bytes, member->item.key_size};

        redlane_engine_remove(engine, &zset->table,
                              redlane_engine_member(engine, zset, name));
        redlane_engine_release(engine, member, member_size(member));
    }
    memmove(zset->order + from, zset->order + to, (count - to) * sizeof(*zset->order));
    if (zset->capacity > ORDER_MIN && kept < zset->capacity / 4) {
        (void)set_capacity(engine, zset, zset->capacity / 2);
    }
}

void
redlane_engine_reply_score(RedlaneReply *reply, double score)
{
    char text[REDLANE_DOUBLE_TEXT];

    redlane_reply_bulk(reply, text, redlane_number_format_double(text, score));
}

/* ZADD */

enum { IF_NEW = 1, IF_OLD = 2, IF_GREATER = 4, IF_LESS = 8, CHANGED = 16, ADD_TO = 32 };

static const struct {
    const char *word;
    unsigned flag;
} add_words[] = {{"NX", IF_NEW},  {"XX", IF_OLD},  {"GT", IF_GREATER},
                 {"LT", IF_LESS}, {"CH", CHANGED}, {"INCR", ADD_TO}};

/* Reads the options; the index of the first score, or 0 with the error in `reply`. */
static size_t
read_add_options(const RedlaneVector *vector, unsigned *flags, RedlaneReply *reply)
{
    const char *error = NULL;
    size_t at = 2, pairs;

    *flags = 0;
    for (; at < vector->argc; at++) {
        unsigned flag = 0;

        for (size_t i = 0; i < sizeof(add_words) / sizeof(add_words[0]); i++) {
            if (redlane_arg_is(vector->argv[at], add_words[i].word)) {
                flag = add_words[i].flag;
            }
        }
        if (!flag) {
            break;
        }
        *flags |= flag;
    }
    pairs = (vector->argc - at) / 2;
    if ((vector->argc - at) % 2 || !pairs) {
        error = REDLANE_ERROR_SYNTAX;
    }
    else if (*flags & IF_NEW && *flags & IF_OLD) {
        error = "ERR XX and NX options at the same time are not compatible";
    }
    else if ((*flags & IF_NEW && *flags & (IF_GREATER | IF_LESS)) ||
             (*flags & IF_GREATER && *flags & IF_LESS)) {
        error = "ERR GT, LT, and/or NX options at the same time are not compatible";
    }
    else if (*flags & ADD_TO && pairs > 1) {
        error = "ERR INCR option supports a single increment-element pair";
    }
    if (error) {
        redlane_reply_error(reply, error);
        return 0;
    }
    return at;
}

typedef struct {
    int64_t added, changed;
    bool processed; /* the last pair was not held back by an option */
    double score;   /* of the last pair */
} AddResult;

/* Applies one pair; the error text, or NULL. */
static const char *
add_pair(RedlaneEngine *engine, RedlaneContainer *zset, RedlaneArg name, double score,
         unsigned flags, AddResult *result)
{
    RedlaneSlot *slot = redlane_engine_member(engine, zset, name);
    RedlaneMember *member;

    result->processed = false;
    if (!slot) {
        if (flags & IF_OLD) {
            return NULL;
        }
        if (!insert_member(engine, zset, name, score)) {
            return REDLANE_ERROR_MEMORY;
        }
        result->added++;
        result->processed = true;
        result->score = score;
        return NULL;
    }
    if (flags & IF_NEW) {
        return NULL;
    }
    member = (RedlaneMember *)(void *)slot->item;
    if (flags & ADD_TO) {
        score += member->score;
        if (isnan(score)) {
            return "ERR resulting score is not a number (NaN)";
        }
    }
    if ((flags & IF_LESS && score >= member->score) ||
        (flags & IF_GREATER && score <= member->score)) {
        return NULL;
    }
    result->processed = true;
    result->score = score;
    if (score != member->score) {
        move_member(zset, member, score);
        result->changed++;
    }
    return NULL;
}

static void
reply_add(RedlaneReply *reply, unsigned flags, const AddResult *result)
{
    if (!(flags & ADD_TO)) {
        redlane_reply_integer(reply, flags & CHANGED ? result->added + result->changed
                                                     : result->added);
    }
    else if (result->processed) {
        redlane_engine_reply_score(reply, result->score);
    }
    else {
        redlane_reply_nil(reply);
    }
}

/* All scores are read before anything changes. */
static bool
check_scores(const RedlaneVector *vector, size_t from, size_t *need,
             RedlaneReply *reply)
{
    double score;

    *need = 0;
    for (size_t i = from; i < vector->argc; i += 2) {
        if (!redlane_number_parse_double(vector->argv[i].data, vector->argv[i].size,
                                         &score)) {
            redlane_reply_error(reply, REDLANE_ERROR_FLOAT);
            return false;
        }
        *need += redlane_block_size(REDLANE_MEMBER_HEAD + vector->argv[i + 1].size) +
                 3 * sizeof(RedlaneSlot) + 2 * sizeof(RedlaneMember *);
    }
    return true;
}

void
redlane_engine_do_ZADD(RedlaneEngine *engine, const RedlaneVector *vector,
                       RedlaneReply *reply)
{
    AddResult result = {0};
    const char *error = NULL;
    RedlaneEntry *entry;
    size_t from, need, before;
    unsigned flags;

    from = read_add_options(vector, &flags, reply);
    if (!from || !check_scores(vector, from, &need, reply)) {
        return;
    }
    if (flags & IF_OLD && !redlane_engine_find(engine, vector->argv[1])) {
        reply_add(reply, flags, &result);
        return;
    }
    entry =
        redlane_engine_open(engine, vector->argv[1], REDLANE_VALUE_ZSET, need, reply);
    if (!entry) {
        return;
    }
    before = engine->used;
    for (size_t i = from; i < vector->argc && !error; i += 2) {
        double score = 0;

        (void)redlane_number_parse_double(vector->argv[i].data, vector->argv[i].size,
                                          &score);
        error = add_pair(engine, entry->container, vector->argv[i + 1], score, flags,
                         &result);
    }
    redlane_engine_close(engine, entry, before);
    if (error) {
        redlane_reply_error(reply, error);
        return;
    }
    reply_add(reply, flags, &result);
}

/* The others */

void
redlane_engine_do_ZREM(RedlaneEngine *engine, const RedlaneVector *vector,
                       RedlaneReply *reply)
{
    RedlaneEntry *entry = redlane_engine_find(engine, vector->argv[1]);
    size_t before = engine->used;
    int64_t count = 0;

    if (redlane_entry_mismatch(entry, REDLANE_VALUE_ZSET, reply)) {
        return;
    }
    for (size_t i = 2; entry && i < vector->argc; i++) {
        RedlaneContainer *zset = entry->container;
        const RedlaneSlot *slot = redlane_engine_member(engine, zset, vector->argv[i]);
        size_t index;

        if (!slot) {
            continue;
        }
        index =
            find_index(zset, ((const RedlaneMember *)(const void *)slot->item)->score,
                       vector->argv[i]);
        redlane_engine_cut_members(engine, zset, index, index + 1);
        count++;
    }
    if (entry) {
        redlane_engine_close(engine, entry, before);
    }
    redlane_reply_integer(reply, count);
}

void
redlane_engine_do_ZSCORE(RedlaneEngine *engine, const RedlaneVector *vector,
                         RedlaneReply *reply)
{
    const RedlaneEntry *entry = redlane_engine_look(engine, vector->argv[1]);
    const RedlaneSlot *slot;

    if (redlane_entry_mismatch(entry, REDLANE_VALUE_ZSET, reply)) {
        return;
    }
    slot =
        entry ? redlane_engine_member(engine, entry->container, vector->argv[2]) : NULL;
    if (!slot) {
        redlane_reply_nil(reply);
        return;
    }
    redlane_engine_reply_score(
        reply, ((const RedlaneMember *)(const void *)slot->item)->score);
}

void
redlane_engine_do_ZCARD(RedlaneEngine *engine, const RedlaneVector *vector,
                        RedlaneReply *reply)
{
    const RedlaneEntry *entry = redlane_engine_look(engine, vector->argv[1]);

    if (!redlane_entry_mismatch(entry, REDLANE_VALUE_ZSET, reply)) {
        redlane_reply_integer(reply,
                              entry ? (int64_t)entry->container->table.count : 0);
    }
}
