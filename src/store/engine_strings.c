/* Commands on strings.
 *
 * Plain C, with the engine's lock held. */
#include <math.h>
#include <string.h>

#include "core/number.h"
#include "store/engine_internal.h"

/* Options of SET and GETEX */

typedef enum {
    TTL_CLEAR,      /* none given: SET takes the TTL away, GETEX leaves it */
    TTL_KEEP,       /* KEEPTTL */
    TTL_PERSIST,    /* PERSIST */
    TTL_SECONDS,    /* EX */
    TTL_MS,         /* PX */
    TTL_AT_SECONDS, /* EXAT */
    TTL_AT_MS,      /* PXAT */
} TtlOption;

typedef struct {
    bool if_missing, if_there, get;
    TtlOption ttl;
    RedlaneArg amount; /* from TTL_SECONDS on */
} Options;

static const struct {
    const char *word;
    TtlOption ttl;
} timed_words[] = {
    {"EX", TTL_SECONDS}, {"PX", TTL_MS}, {"EXAT", TTL_AT_SECONDS}, {"PXAT", TTL_AT_MS}};

/* The TTL option an argument names; TTL_CLEAR for any other word. */
static TtlOption
ttl_option(RedlaneArg arg, bool is_set)
{
    for (size_t i = 0; i < sizeof(timed_words) / sizeof(timed_words[0]); i++) {
        if (redlane_arg_is(arg, timed_words[i].word)) {
            return timed_words[i].ttl;
        }
    }
    if (is_set && redlane_arg_is(arg, "KEEPTTL")) {
        return TTL_KEEP;
    }
    if (!is_set && redlane_arg_is(arg, "PERSIST")) {
        return TTL_PERSIST;
    }
    return TTL_CLEAR;
}

static bool
read_flag(RedlaneArg arg, Options *options)
{
    if (redlane_arg_is(arg, "NX") && !options->if_there) {
        options->if_missing = true;
    }
    else if (redlane_arg_is(arg, "XX") && !options->if_missing) {
        options->if_there = true;
    }
    else if (redlane_arg_is(arg, "GET")) {
        options->get = true;
    }
    else {
        return false;
    }
    return true;
}

static bool
read_options(const RedlaneVector *vector, size_t from, bool is_set, Options *options)
{
    *options = (Options){.ttl = TTL_CLEAR};
    for (size_t i = from; i < vector->argc; i++) {
        RedlaneArg arg = vector->argv[i];
        TtlOption ttl = ttl_option(arg, is_set);

        if (ttl == TTL_CLEAR) {
            if (!is_set || !read_flag(arg, options)) {
                return false;
            }
            continue;
        }
        /* the same word may stand twice, two different ones may not */
        if (options->ttl != TTL_CLEAR && options->ttl != ttl) {
            return false;
        }
        options->ttl = ttl;
        if (ttl >= TTL_SECONDS) {
            if (++i == vector->argc) {
                return false;
            }
            options->amount = vector->argv[i];
        }
    }
    return true;
}

/* The Unix time in ms that the options name; false with the error in `reply`. */
static bool
read_expiry(const RedlaneVector *vector, const Options *options, int64_t *unix_ms,
            RedlaneReply *reply)
{
    bool seconds = options->ttl == TTL_SECONDS || options->ttl == TTL_AT_SECONDS;
    bool relative = options->ttl == TTL_SECONDS || options->ttl == TTL_MS;
    int64_t base = relative ? redlane_clock_unix_ms() : 0;
    int64_t unit = seconds ? 1000 : 1;

    if (!redlane_arg_int64(options->amount, unix_ms, reply)) {
        return false;
    }
    if (*unix_ms <= 0 || *unix_ms > INT64_MAX / unit ||
        *unix_ms * unit > INT64_MAX - base) {
        redlane_engine_error_named(reply, vector, REDLANE_ERROR_EXPIRE);
        return false;
    }
    *unix_ms = *unix_ms * unit + base;
    return true;
}

/* Reading */

static void
reply_value(RedlaneReply *reply, const RedlaneEntry *entry)
{
    redlane_reply_bulk(reply, redlane_entry_value(entry), entry->value_size);
}

/* Replies with a string, nil or WRONGTYPE; returns its entry where there is one. */
static inline RedlaneEntry *
get_generic(RedlaneEngine *engine, RedlaneArg key, RedlaneReply *reply)
{
    RedlaneEntry *entry = redlane_engine_look(engine, key);

    if (!entry) {
        redlane_reply_nil(reply);
        return NULL;
    }
    if (redlane_entry_mismatch(entry, REDLANE_VALUE_STRING, reply)) {
        return NULL;
    }
    reply_value(reply, entry);
    return entry;
}

void
redlane_engine_do_GET(RedlaneEngine *engine, const RedlaneVector *vector,
                      RedlaneReply *reply)
{
    (void)get_generic(engine, vector->argv[1], reply);
}

void
redlane_engine_do_GETDEL(RedlaneEngine *engine, const RedlaneVector *vector,
                         RedlaneReply *reply)
{
    RedlaneEntry *entry = get_generic(engine, vector->argv[1], reply);

    if (entry) {
        redlane_engine_delete(engine, entry);
    }
}

void
redlane_engine_do_GETEX(RedlaneEngine *engine, const RedlaneVector *vector,
                        RedlaneReply *reply)
{
    Options options;
    int64_t when = 0;
    RedlaneEntry *entry;

    if (!read_options(vector, 2, false, &options)) {
        redlane_reply_error(reply, REDLANE_ERROR_SYNTAX);
        return;
    }
    entry = redlane_engine_look(engine, vector->argv[1]);
    if (!entry) {
        redlane_reply_nil(reply);
        return;
    }
    if (redlane_entry_mismatch(entry, REDLANE_VALUE_STRING, reply) ||
        (options.ttl >= TTL_SECONDS && !read_expiry(vector, &options, &when, reply))) {
        return;
    }
    reply_value(reply, entry);
    if (options.ttl >= TTL_AT_SECONDS && when <= redlane_clock_unix_ms()) {
        redlane_engine_delete(engine, entry);
    }
    else if (options.ttl >= TTL_SECONDS) {
        redlane_engine_set_expires(engine, entry,
                                   redlane_engine_expires_at(engine, when));
    }
    else if (options.ttl == TTL_PERSIST) {
        redlane_engine_set_expires(engine, entry, REDLANE_NEVER);
    }
}

void
redlane_engine_do_MGET(RedlaneEngine *engine, const RedlaneVector *vector,
                       RedlaneReply *reply)
{
    redlane_reply_array(reply, vector->argc - 1);
    for (size_t i = 1; i < vector->argc; i++) {
        const RedlaneEntry *entry = redlane_engine_look(engine, vector->argv[i]);

        if (entry && entry->type == REDLANE_VALUE_STRING) {
            reply_value(reply, entry);
        }
        else {
            redlane_reply_nil(reply);
        }
    }
}

void
redlane_engine_do_STRLEN(RedlaneEngine *engine, const RedlaneVector *vector,
                         RedlaneReply *reply)
{
    const RedlaneEntry *entry = redlane_engine_look(engine, vector->argv[1]);

    if (!redlane_entry_mismatch(entry, REDLANE_VALUE_STRING, reply)) {
        redlane_reply_integer(reply, entry ? entry->value_size : 0);
    }
}

void
redlane_engine_do_GETRANGE(RedlaneEngine *engine, const RedlaneVector *vector,
                           RedlaneReply *reply)
{
    int64_t start, end, size;
    const RedlaneEntry *entry;

    if (!redlane_arg_int64(vector->argv[2], &start, reply) ||
        !redlane_arg_int64(vector->argv[3], &end, reply)) {
        return;
    }
    entry = redlane_engine_look(engine, vector->argv[1]);
    if (redlane_entry_mismatch(entry, REDLANE_VALUE_STRING, reply)) {
        return;
    }
    size = entry ? entry->value_size : 0;
    if (size == 0 || (start < 0 && end < 0 && start > end)) {
        redlane_reply_bulk(reply, "", 0);
        return;
    }
    start = start < 0 ? start + size : start;
    end = end < 0 ? end + size : end;
    start = start < 0 ? 0 : start;
    end = end < 0 ? 0 : end;
    end = end >= size ? size - 1 : end;
    if (start > end) {
        redlane_reply_bulk(reply, "", 0);
        return;
    }
    redlane_reply_bulk(reply, redlane_entry_value(entry) + start,
                       (size_t)(end - start + 1));
}

/* Writing */

static void
set_entry(RedlaneEngine *engine, const RedlaneVector *vector, const Options *options,
          RedlaneEntry *old, int64_t when, RedlaneReply *reply)
{
    RedlaneArg key = vector->argv[1], value = vector->argv[2];
    RedlaneEntry *entry;

    entry = redlane_engine_store(engine, key, old, value.data, value.size, reply);
    if (!entry) {
        return;
    }
    if (options->ttl >= TTL_SECONDS) {
        redlane_engine_set_expires(engine, entry,
                                   redlane_engine_expires_at(engine, when));
    }
    else if (options->ttl != TTL_KEEP && entry->expires != REDLANE_NEVER) {
        redlane_engine_set_expires(engine, entry, REDLANE_NEVER);
    }
    if (!options->get) {
        redlane_reply_status(reply, "OK");
    }
}

void
redlane_engine_do_SET(RedlaneEngine *engine, const RedlaneVector *vector,
                      RedlaneReply *reply)
{
    Options options;
    int64_t when = 0;
    RedlaneEntry *old;

    if (!read_options(vector, 3, true, &options)) {
        redlane_reply_error(reply, REDLANE_ERROR_SYNTAX);
        return;
    }
    if (options.ttl >= TTL_SECONDS && !read_expiry(vector, &options, &when, reply)) {
        return;
    }
    old = redlane_engine_find(engine, vector->argv[1]);
    if (options.get) {
        /* nothing may fail once the old value stands in the reply */
        if (redlane_entry_mismatch(old, REDLANE_VALUE_STRING, reply) ||
            !redlane_engine_reserve(
                engine, redlane_engine_need(vector->argv[1], vector->argv[2].size), old,
                reply)) {
            return;
        }
        if (old) {
            reply_value(reply, old);
        }
        else {
            redlane_reply_nil(reply);
        }
    }
    if ((options.if_missing && old) || (options.if_there && !old)) {
        if (!options.get) {
            redlane_reply_nil(reply);
        }
        return;
    }
    set_entry(engine, vector, &options, old, when, reply);
}

void
redlane_engine_do_MSET(RedlaneEngine *engine, const RedlaneVector *vector,
                       RedlaneReply *reply)
{
    size_t need = 0;

    if (vector->argc % 2 == 0) {
        redlane_engine_error_named(reply, vector, REDLANE_ERROR_ARITY);
        return;
    }
    for (size_t i = 1; i < vector->argc; i += 2) {
        need += redlane_engine_need(vector->argv[i], vector->argv[i + 1].size);
    }
    if (!redlane_engine_reserve(engine, need, NULL, reply)) {
        return;
    }
    for (size_t i = 1; i < vector->argc; i += 2) {
        RedlaneArg key = vector->argv[i], value = vector->argv[i + 1];
        RedlaneEntry *entry =
            redlane_engine_store(engine, key, redlane_engine_find(engine, key),
                                 value.data, value.size, reply);

        if (!entry) {
            return;
        }
        redlane_engine_set_expires(engine, entry, REDLANE_NEVER);
    }
    redlane_reply_status(reply, "OK");
}

void
redlane_engine_do_APPEND(RedlaneEngine *engine, const RedlaneVector *vector,
                         RedlaneReply *reply)
{
    RedlaneArg key = vector->argv[1], tail = vector->argv[2];
    RedlaneEntry *entry = redlane_engine_find(engine, key);
    size_t size;

    if (redlane_entry_mismatch(entry, REDLANE_VALUE_STRING, reply)) {
        return;
    }
    if (!entry) {
        if (redlane_engine_store(engine, key, NULL, tail.data, tail.size, reply)) {
            redlane_reply_integer(reply, (int64_t)tail.size);
        }
        return;
    }
    size = entry->value_size;
    if (size + tail.size > REDLANE_ENGINE_MAX_STRING) {
        redlane_reply_error(reply, "ERR string exceeds maximum allowed size "
                                   "(proto-max-bulk-len)");
        return;
    }
    if (tail.size) {
        if (!redlane_engine_reserve(engine, tail.size + 16, entry, reply)) {
            return;
        }
        entry = redlane_engine_resize(engine, entry, size + tail.size);
        if (!entry) {
            redlane_reply_error(reply, REDLANE_ERROR_MEMORY);
            return;
        }
        memcpy(entry->bytes + key.size + size, tail.data, tail.size);
    }
    redlane_reply_integer(reply, (int64_t)(size + tail.size));
}

/* Counting */

bool
redlane_engine_add_int64(RedlaneEngine *engine, RedlaneArg key, RedlaneEntry *entry,
                         int64_t amount, int64_t *sum, RedlaneReply *reply)
{
    char text[REDLANE_INT64_TEXT];
    int64_t value = 0;

    if (redlane_entry_mismatch(entry, REDLANE_VALUE_STRING, reply)) {
        return false;
    }
    if (entry && !redlane_number_parse_int64(redlane_entry_value(entry),
                                             entry->value_size, &value)) {
        redlane_reply_error(reply, REDLANE_ERROR_INTEGER);
        return false;
    }
    if (__builtin_add_overflow(value, amount, &value)) {
        redlane_reply_error(reply, REDLANE_ERROR_OVERFLOW);
        return false;
    }
    if (!redlane_engine_store(engine, key, entry, text,
                              redlane_number_format_int64(text, value), reply)) {
        return false;
    }
    *sum = value;
    return true;
}

static void
incr_generic(RedlaneEngine *engine, const RedlaneVector *vector, int64_t amount,
             RedlaneReply *reply)
{
    RedlaneArg key = vector->argv[1];
    int64_t sum;

    if (redlane_engine_add_int64(engine, key, redlane_engine_find(engine, key), amount,
                                 &sum, reply)) {
        redlane_reply_integer(reply, sum);
    }
}

void
redlane_engine_do_INCR(RedlaneEngine *engine, const RedlaneVector *vector,
                       RedlaneReply *reply)
{
    incr_generic(engine, vector, 1, reply);
}

void
redlane_engine_do_DECR(RedlaneEngine *engine, const RedlaneVector *vector,
                       RedlaneReply *reply)
{
    incr_generic(engine, vector, -1, reply);
}

void
redlane_engine_do_INCRBY(RedlaneEngine *engine, const RedlaneVector *vector,
                         RedlaneReply *reply)
{
    int64_t amount;

    if (redlane_arg_int64(vector->argv[2], &amount, reply)) {
        incr_generic(engine, vector, amount, reply);
    }
}

void
redlane_engine_do_DECRBY(RedlaneEngine *engine, const RedlaneVector *vector,
                         RedlaneReply *reply)
{
    int64_t amount;

    if (!redlane_arg_int64(vector->argv[2], &amount, reply)) {
        return;
    }
    if (amount == INT64_MIN) {
        redlane_reply_error(reply, "ERR decrement would overflow");
        return;
    }
    incr_generic(engine, vector, -amount, reply);
}

void
redlane_engine_do_INCRBYFLOAT(RedlaneEngine *engine, const RedlaneVector *vector,
                              RedlaneReply *reply)
{
    RedlaneArg key = vector->argv[1], by = vector->argv[2];
    RedlaneEntry *entry = redlane_engine_find(engine, key);
    char text[REDLANE_LONG_DOUBLE_TEXT];
    long double value = 0, amount;
    size_t size;

    if (redlane_entry_mismatch(entry, REDLANE_VALUE_STRING, reply)) {
        return;
    }
    if ((entry && !redlane_number_parse_long_double(redlane_entry_value(entry),
                                                    entry->value_size, &value)) ||
        !redlane_number_parse_long_double(by.data, by.size, &amount)) {
        redlane_reply_error(reply, REDLANE_ERROR_FLOAT);
        return;
    }
    value += amount;
    if (isnan(value) || isinf(value)) {
        redlane_reply_error(reply, "ERR increment would produce NaN or Infinity");
        return;
    }
    size = redlane_number_format_long_double(text, value);
    if (redlane_engine_store(engine, key, entry, text, size, reply)) {
        redlane_reply_bulk(reply, text, size);
    }
}
