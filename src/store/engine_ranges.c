/* Ranges of sorted sets: ZRANGE by rank, score and bytes, and ZREMRANGEBYSCORE.
 *
 * Each range is reduced to indices [from, to) of the order, so that taking, reversing,
 * limiting and cutting are the same for all three.
 *
 * Plain C, with the engine's lock held. */
#include <string.h>

#include "core/number.h"
#include "store/engine_internal.h"

typedef enum { BY_RANK, BY_SCORE, BY_BYTES } RangeKind;

typedef struct {
    RangeKind kind;
    bool reverse, with_scores;
    int64_t offset, limit; /* limit below zero: no limit */
} RangeOptions;

typedef struct {
    double score;
    bool exclusive;
} ScoreBound;

typedef struct {
    RedlaneArg text;
    int infinite; /* -1: before everything, 1: behind everything, 0: text */
    bool exclusive;
} BytesBound;

/* Reading bounds */

static bool
parse_score_bound(RedlaneArg arg, ScoreBound *bound)
{
    bound->exclusive = arg.size && arg.data[0] == '(';
    if (bound->exclusive) {
        arg.data++;
        arg.size--;
    }
    return redlane_number_parse_bound(arg.data, arg.size, &bound->score);
}

static bool
parse_bytes_bound(RedlaneArg arg, BytesBound *bound)
{
    *bound = (BytesBound){.text = {NULL, 0}};
    if (!arg.size) {
        return false;
    }
    switch (arg.data[0]) {
    case '-':
        bound->infinite = -1;
        return arg.size == 1;
    case '+':
        bound->infinite = 1;
        return arg.size == 1;
    case '(':
        bound->exclusive = true;
        break;
    case '[':
        break;
    default:
        return false;
    }
    bound->text = (RedlaneArg){arg.data + 1, arg.size - 1};
    return true;
}

/* Indices. Each "before" is true of a first part of the order and false behind it. */

static bool
before_score(const RedlaneMember *member, const void *bound)
{
    const ScoreBound *at = bound;

    return at->exclusive ? member->score <= at->score : member->score < at->score;
}

static bool
before_bytes(const RedlaneMember *member, const void *bound)
{
    const BytesBound *at = bound;
    size_t size = member->item.key_size;
    size_t common = size < at->text.size ? size : at->text.size;
    int order;

    if (at->infinite) {
        return at->infinite > 0;
    }
    order = common ? memcmp(member->bytes, at->text.data, common) : 0;
    if (!order) {
        order = size < at->text.size ? -1 : size > at->text.size;
    }
    return at->exclusive ? order <= 0 : order < 0;
}

static size_t
partition(const RedlaneContainer *zset,
          bool (*before)(const RedlaneMember *member, const void *bound),
          const void *bound)
{
    size_t low = 0, high = zset->table.count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (before(zset->order[middle], bound)) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    return low;
}

static void
find_scores(const RedlaneContainer *zset, const ScoreBound *min, const ScoreBound *max,
            size_t *from, size_t *to)
{
    ScoreBound end = {max->score, !max->exclusive};

    *from = partition(zset, before_score, min);
    *to = partition(zset, before_score, &end);
}

static void
find_bytes(const RedlaneContainer *zset, const BytesBound *min, const BytesBound *max,
           size_t *from, size_t *to)
{
    BytesBound end = *max;

    end.exclusive = !max->exclusive;
    *from = partition(zset, before_bytes, min);
    *to = partition(zset, before_bytes, &end);
}

static void
find_ranks(size_t members, bool reverse, int64_t start, int64_t stop, size_t *from,
           size_t *to)
{
    int64_t count = (int64_t)members;

    start = start < 0 ? start + count : start;
    stop = stop < 0 ? stop + count : stop;
    start = start < 0 ? 0 : start;
    stop = stop >= count ? count - 1 : stop;
    if (start > stop || start >= count) {
        *from = *to = 0;
        return;
    }
    *from = (size_t)(reverse ? count - 1 - stop : start);
    *to = (size_t)(reverse ? count - start : stop + 1);
}

/* LIMIT counts from the end that is given first. */
static void
apply_limit(const RangeOptions *options, size_t *from, size_t *to)
{
    size_t count = *to > *from ? *to - *from : 0, skip, take;

    skip = options->offset < 0 || (uint64_t)options->offset > count
               ? count
               : (size_t)options->offset;
    take = count - skip;
    if (options->limit >= 0 && (uint64_t)options->limit < take) {
        take = (size_t)options->limit;
    }
    if (options->reverse) {
        *to = *from + count - skip;
        *from = *to - take;
    }
    else {
        *from += skip;
        *to = *from + take;
    }
}

/* ZRANGE */

static bool
read_limit(const RedlaneVector *vector, size_t at, RangeOptions *options,
           RedlaneReply *reply)
{
    return redlane_arg_int64(vector->argv[at + 1], &options->offset, reply) &&
           redlane_arg_int64(vector->argv[at + 2], &options->limit, reply);
}

static bool
read_range_options(const RedlaneVector *vector, RangeOptions *options,
                   RedlaneReply *reply)
{
    *options = (RangeOptions){.kind = BY_RANK, .limit = -1};
    for (size_t i = 4; i < vector->argc; i++) {
        RedlaneArg arg = vector->argv[i];

        if (redlane_arg_is(arg, "WITHSCORES")) {
            options->with_scores = true;
        }
        else if (redlane_arg_is(arg, "LIMIT") && vector->argc - i > 2) {
            if (!read_limit(vector, i, options, reply)) {
                return false;
            }
            i += 2;
        }
        else if (redlane_arg_is(arg, "REV") && !options->reverse) {
            options->reverse = true;
        }
        else if (redlane_arg_is(arg, "BYLEX") && options->kind == BY_RANK) {
            options->kind = BY_BYTES;
        }
        else if (redlane_arg_is(arg, "BYSCORE") && options->kind == BY_RANK) {
            options->kind = BY_SCORE;
        }
        else {
            redlane_reply_error(reply, REDLANE_ERROR_SYNTAX);
            return false;
        }
    }
    if (options->limit != -1 && options->kind == BY_RANK) {
        redlane_reply_error(reply, "ERR syntax error, LIMIT is only supported in "
                                   "combination with either BYSCORE or BYLEX");
        return false;
    }
    if (options->with_scores && options->kind == BY_BYTES) {
        redlane_reply_error(reply, "ERR syntax error, WITHSCORES not supported in "
                                   "combination with BYLEX");
        return false;
    }
    return true;
}

typedef struct {
    int64_t start, stop;
    ScoreBound min_score, max_score;
    BytesBound min_bytes, max_bytes;
} Bounds;

static bool
read_bounds(const RedlaneVector *vector, const RangeOptions *options, Bounds *bounds,
            RedlaneReply *reply)
{
    bool swap = options->reverse && options->kind != BY_RANK;
    RedlaneArg min = vector->argv[swap ? 3 : 2], max = vector->argv[swap ? 2 : 3];

    switch (options->kind) {
    case BY_RANK:
        return redlane_arg_int64(min, &bounds->start, reply) &&
               redlane_arg_int64(max, &bounds->stop, reply);
    case BY_SCORE:
        if (parse_score_bound(min, &bounds->min_score) &&
            parse_score_bound(max, &bounds->max_score)) {
            return true;
        }
        redlane_reply_error(reply, "ERR min or max is not a float");
        return false;
    case BY_BYTES:
        break;
    }
    if (parse_bytes_bound(min, &bounds->min_bytes) &&
        parse_bytes_bound(max, &bounds->max_bytes)) {
        return true;
    }
    redlane_reply_error(reply, "ERR min or max not valid string range item");
    return false;
}

static void
find_range(const RedlaneContainer *zset, const RangeOptions *options,
           const Bounds *bounds, size_t *from, size_t *to)
{
    switch (options->kind) {
    case BY_RANK:
        find_ranks(zset->table.count, options->reverse, bounds->start, bounds->stop,
                   from, to);
        return;
    case BY_SCORE:
        find_scores(zset, &bounds->min_score, &bounds->max_score, from, to);
        break;
    case BY_BYTES:
        find_bytes(zset, &bounds->min_bytes, &bounds->max_bytes, from, to);
        break;
    }
    apply_limit(options, from, to);
}

void
redlane_engine_do_ZRANGE(RedlaneEngine *engine, const RedlaneVector *vector,
                         RedlaneReply *reply)
{
    RangeOptions options;
    Bounds bounds;
    const RedlaneEntry *entry;
    size_t from = 0, to = 0;

    if (!read_range_options(vector, &options, reply) ||
        !read_bounds(vector, &options, &bounds, reply)) {
        return;
    }
    entry = redlane_engine_look(engine, vector->argv[1]);
    if (redlane_entry_mismatch(entry, REDLANE_VALUE_ZSET, reply)) {
        return;
    }
    if (!entry) {
        redlane_reply_array(reply, 0);
        return;
    }
    find_range(entry->container, &options, &bounds, &from, &to);
    redlane_reply_array(reply, (to - from) * (options.with_scores ? 2 : 1));
    for (size_t i = from; i < to; i++) {
        const RedlaneMember *member =
            entry->container->order[options.reverse ? to - 1 - (i - from) : i];

        redlane_reply_bulk(reply, member->bytes, member->item.key_size);
        if (options.with_scores) {
            redlane_engine_reply_score(reply, member->score);
        }
    }
}

void
redlane_engine_do_ZREMRANGEBYSCORE(RedlaneEngine *engine, const RedlaneVector *vector,
                                   RedlaneReply *reply)
{
    ScoreBound min, max;
    RedlaneEntry *entry;
    size_t from, to, before;

    if (!parse_score_bound(vector->argv[2], &min) ||
        !parse_score_bound(vector->argv[3], &max)) {
        redlane_reply_error(reply, "ERR min or max is not a float");
        return;
    }
    entry = redlane_engine_find(engine, vector->argv[1]);
    if (redlane_entry_mismatch(entry, REDLANE_VALUE_ZSET, reply)) {
        return;
    }
    if (!entry) {
        redlane_reply_integer(reply, 0);
        return;
    }
    find_scores(entry->container, &min, &max, &from, &to);
    if (to <= from) {
        redlane_reply_integer(reply, 0);
        return;
    }
    before = engine->used;
    redlane_engine_cut_members(engine, entry->container, from, to);
    redlane_engine_close(engine, entry, before);
    redlane_reply_integer(reply, (int64_t)(to - from));
}
