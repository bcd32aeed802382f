#include "store/replay.h"

#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/glob.h"
#include "core/number.h"
#include "core/script.h"
#include "wire/encode.h"
#include "wire/handshake.h"

#define BATCH_ENTRIES REDLANE_JOURNAL_BATCH
#define BATCH_BYTES ((size_t)64 << 10)

/* So many keys at a time that others are not held up, ten times as many where there are
 * more than 16 million; a server that has no end after a billion has none. */
#define FEW_STEPS ((size_t)16 << 10)
#define MOST_STEPS ((size_t)128 << 10)

typedef struct {
    RedlaneConnection *connection;
    RedlaneJournal *journal;
    pthread_mutex_t *lock;
    int64_t timeout;
    RedlaneFault *fault;
    /* one batch */
    size_t entries;
    uint8_t replies[BATCH_ENTRIES]; /* each entry's commands */
    bool adds[BATCH_ENTRIES];       /* the last of them adds an amount, or a charge */
    bool refused[BATCH_ENTRIES];    /* one of them was */
    bool refused_amount[BATCH_ENTRIES];
    bool any_refused;
    uint64_t rejected; /* commands that the server will never take */
} Replay;

typedef struct {
    char text[REDLANE_INT64_TEXT];
} Digits;

static RedlaneArg
arg_number(Digits *digits, int64_t number)
{
    return (RedlaneArg){digits->text,
                        redlane_number_format_int64(digits->text, number)};
}

static int
encode(Replay *replay, const RedlaneArg *argv, size_t argc)
{
    if (redlane_encode_command(&replay->connection->out, argv, argc) < 0) {
        return -1;
    }
    replay->replies[replay->entries]++;
    return 0;
}

/* The text, not the hash: a server that was restarted knows no script. */
static int
encode_script(Replay *replay, RedlaneScriptId id, const RedlaneArg *rest, size_t count)
{
    const char *text = redlane_scripts[id].text;
    RedlaneArg argv[8] = {
        REDLANE_ARG_LITERAL("EVAL"), {text, strlen(text)}, REDLANE_ARG_LITERAL("1")};

    memcpy(argv + 3, rest, count * sizeof(*rest));
    return encode(replay, argv, 3 + count);
}

/* The script's numbers for a limit, as REDLANE_SCRIPT_LIMIT has them, and a state. */
static size_t
list_charge(const RedlaneCharge *charge, int64_t *numbers)
{
    const RedlaneLimit *limit = &charge->limit;
    size_t count = 0;

    numbers[count++] = limit->count;
    numbers[count++] = limit->window;
    switch (limit->kind) {
    case REDLANE_LIMIT_SLIDING:
        numbers[count++] = limit->tick;
        numbers[count++] = limit->span;
        numbers[count++] = 0;
        break;
    case REDLANE_LIMIT_BUCKET:
        numbers[count++] = limit->token;
        numbers[count++] = limit->drain;
        numbers[count++] = limit->burst;
        break;
    case REDLANE_LIMIT_FIXED:
        numbers[count++] = charge->state.index;
        numbers[count++] = 0;
        numbers[count++] = 0;
        break;
    case REDLANE_LIMIT_LOG:
        memset(numbers + count, 0, 3 * sizeof(*numbers));
        count += 3;
        memcpy(numbers + count, charge->times + charge->first * sizeof(*numbers),
               (charge->end - charge->first) * sizeof(*numbers));
        return count + charge->end - charge->first;
    }
    numbers[count++] = charge->state.index;
    numbers[count++] = charge->state.current;
    numbers[count++] = charge->state.previous;
    return count;
}

#define CHARGE_NUMBERS 8 /* beside a log's times */
#define CHARGE_ARGS 5    /* before them: EVAL, text, 1, key, kind */

static int
encode_charge(Replay *replay, const RedlaneOrder *order)
{
    const char *text = redlane_scripts[REDLANE_SCRIPT_LIMIT_CHARGE].text;
    size_t most = CHARGE_NUMBERS + order->charge->end - order->charge->first, count;
    char kind = (char)order->charge->limit.kind;
    int64_t *numbers = malloc(most * sizeof(*numbers));
    Digits *digits = malloc(most * sizeof(*digits));
    RedlaneArg *argv = malloc((CHARGE_ARGS + most) * sizeof(*argv));
    int result = -1;

    if (numbers && digits && argv) {
        argv[0] = REDLANE_ARG_LITERAL("EVAL");
        argv[1] = (RedlaneArg){text, strlen(text)};
        argv[2] = REDLANE_ARG_LITERAL("1");
        argv[3] = order->key;
        argv[4] = (RedlaneArg){&kind, 1};
        count = list_charge(order->charge, numbers);
        for (size_t i = 0; i < count; i++) {
            argv[CHARGE_ARGS + i] = arg_number(&digits[i], numbers[i]);
        }
        result = encode(replay, argv, CHARGE_ARGS + count);
    }
    free(numbers);
    free(digits);
    free(argv);
    return result;
}

static int
encode_value(Replay *replay, const RedlaneOrder *order)
{
    Digits px;
    RedlaneArg set[] = {REDLANE_ARG_LITERAL("SET"), order->key, order->value,
                        REDLANE_ARG_LITERAL("PX"), arg_number(&px, order->px)};
    RedlaneArg restore[] = {order->key, order->value, set[4],
                            order->permanent_wins ? REDLANE_ARG_LITERAL("1")
                                                  : REDLANE_ARG_LITERAL("0")};

    if (order->remove) {
        return encode(replay, set, order->px ? 5 : 3);
    }
    return encode_script(replay, REDLANE_SCRIPT_RESTORE, restore, 4);
}

static int
encode_order(Replay *replay, const RedlaneOrder *order)
{
    RedlaneArg unlink[] = {REDLANE_ARG_LITERAL("UNLINK"), order->key};
    Digits amount, px;

    replay->replies[replay->entries] = 0;
    if (order->remove && !order->store && encode(replay, unlink, 2) < 0) {
        return -1;
    }
    if (order->store && encode_value(replay, order) < 0) {
        return -1;
    }
    if (order->charge) {
        return encode_charge(replay, order);
    }
    if (order->add) {
        RedlaneArg argv[] = {order->key, arg_number(&amount, order->amount),
                             arg_number(&px, order->amount_px)};

        if (order->amount_px == REDLANE_AMOUNT_EXISTING) {
            return encode_script(replay, REDLANE_SCRIPT_COUNTER_ADD, argv, 2);
        }
        return encode_script(replay, REDLANE_SCRIPT_INCREMENT, argv, 3);
    }
    return 0;
}

/* RedlaneJournal's put. */
static int
put_order(void *context, const RedlaneOrder *order)
{
    Replay *replay = context;
    size_t size = replay->connection->out.size;

    if (encode_order(replay, order) < 0) {
        replay->connection->out.size = size;
        return -1;
    }
    replay->adds[replay->entries] = order->add || order->charge;
    replay->refused[replay->entries] = replay->refused_amount[replay->entries] = false;
    replay->entries++;
    return replay->entries < replay->journal->batch &&
           replay->connection->out.size < BATCH_BYTES;
}

/* The time-out, and more where a large value goes over a slow link: 1 MB/s is asked. */
static RedlaneWait
new_wait(const Replay *replay)
{
    int64_t more = (int64_t)replay->connection->out.size * REDLANE_NS_PER_S / 1000000;

    return (RedlaneWait){.deadline = redlane_clock_now() + replay->timeout + more};
}

static void
begin_request(Replay *replay)
{
    replay->connection->out.size = 0;
    replay->connection->sent = 0;
}

/* A reply, judged: NULL with a fault where the link failed, or said that it is away. */
static RedlanePlainReply *
read_reply(Replay *replay, const RedlaneWait *wait, RedlaneFaultKind *kind)
{
    RedlanePlainReply *reply =
        redlane_connection_answer_nogil(replay->connection, wait, replay->fault);

    *kind = REDLANE_FAULT_NONE;
    if (!reply || reply->kind != REDLANE_REPLY_ERROR) {
        return reply;
    }
    *kind = redlane_fault_of_reply(reply->text, reply->size);
    if (*kind == REDLANE_FAULT_NONE) {
        replay->rejected++;
        return reply;
    }
    if (redlane_fault_of_relay(reply->text, reply->size, replay->fault)) {
        redlane_reply_plain_free(reply);
        return NULL;
    }
    redlane_fault_set_reply(replay->fault, reply);
    replay->fault->kind = *kind;
    if (*kind == REDLANE_FAULT_WRITES) {
        replay->any_refused = true;
        return reply;
    }
    redlane_reply_plain_free(reply);
    return NULL;
}

/* Sends the batch that stands in `out` and reads its replies. */
static int
send_batch(Replay *replay)
{
    RedlaneWait wait = new_wait(replay);

    for (size_t i = 0; i < replay->entries; i++) {
        for (uint8_t n = 0; n < replay->replies[i]; n++) {
            RedlaneFaultKind kind;
            RedlanePlainReply *reply = read_reply(replay, &wait, &kind);

            if (!reply) {
                return -1;
            }
            if (kind == REDLANE_FAULT_WRITES) {
                replay->refused[i] = true;
                replay->refused_amount[i] =
                    replay->adds[i] && n + 1 == replay->replies[i];
            }
            redlane_reply_plain_free(reply);
        }
    }
    if (redlane_reader_unread(&replay->connection->reader) > 0) {
        redlane_fault_set(replay->fault, REDLANE_FAULT_PROTOCOL,
                          "the server sent what nobody asked for");
        return -1;
    }
    return 0;
}

/* Deletes what a SCAN found, and the pattern means. */
static int
unlink_found(Replay *replay, RedlaneArg pattern, const RedlanePlainReply *keys)
{
    RedlaneArg *argv = malloc((keys->count + 1) * sizeof(*argv));
    RedlanePlainReply *gone = NULL;
    RedlaneFaultKind kind;
    RedlaneWait wait;
    size_t argc = 1;

    if (argv) {
        argv[0] = REDLANE_ARG_LITERAL("UNLINK");
        for (size_t i = 0; i < keys->count; i++) {
            const RedlanePlainReply *key = keys->elements[i];

            if (redlane_glob_means(pattern.data, pattern.size, key->text, key->size)) {
                argv[argc++] = (RedlaneArg){key->text, key->size};
            }
        }
        begin_request(replay);
    }
    if (argc == 1 && argv) {
        free(argv);
        return 0;
    }
    if (!argv || redlane_encode_command(&replay->connection->out, argv, argc) < 0) {
        redlane_fault_set(replay->fault, REDLANE_FAULT_MEMORY, "out of memory");
        free(argv);
        return -1;
    }
    free(argv);
    wait = new_wait(replay);
    gone = read_reply(replay, &wait, &kind);
    redlane_reply_plain_free(gone);
    return gone ? 0 : -1;
}

/* Takes the next cursor out of the reply to a SCAN. False: it is none. */
static bool
next_cursor(const RedlanePlainReply *found, char cursor[REDLANE_INT64_TEXT + 1])
{
    const RedlanePlainReply *next;

    if (found->kind != REDLANE_REPLY_ARRAY || found->count != 2 ||
        found->elements[1]->kind != REDLANE_REPLY_ARRAY) {
        return false;
    }
    next = found->elements[0];
    if (next->kind != REDLANE_REPLY_BULK || next->size == 0 ||
        next->size > REDLANE_INT64_TEXT ||
        strspn(next->text, "0123456789") != next->size ||
        (strcmp(next->text, "0") != 0 && strcmp(next->text, cursor) == 0)) {
        return false;
    }
    memcpy(cursor, next->text, next->size + 1);
    return true;
}

/* One SCAN, then one UNLINK of what it found; *cursor is the next one. A server that
 * forbids it, or answers what is none, is asked no further: that is lost, and counted.
 */
static int
sweep_step(Replay *replay, RedlaneArg pattern, const char *count,
           char cursor[REDLANE_INT64_TEXT + 1])
{
    RedlaneArg scan[] = {REDLANE_ARG_LITERAL("SCAN"),  {cursor, strlen(cursor)},
                         REDLANE_ARG_LITERAL("MATCH"), pattern,
                         REDLANE_ARG_LITERAL("COUNT"), {count, strlen(count)}};
    RedlanePlainReply *found;
    RedlaneFaultKind kind;
    RedlaneWait wait;
    int result = 0;

    begin_request(replay);
    if (redlane_encode_command(&replay->connection->out, scan, 6) < 0) {
        redlane_fault_set(replay->fault, REDLANE_FAULT_MEMORY, "out of memory");
        return -1;
    }
    wait = new_wait(replay);
    found = read_reply(replay, &wait, &kind);
    if (!found) {
        return -1;
    }
    if (!next_cursor(found, cursor)) {
        replay->rejected += found->kind != REDLANE_REPLY_ERROR;
        memcpy(cursor, "0", 2);
    }
    else if (found->elements[1]->count) {
        result = unlink_found(replay, pattern, found->elements[1]);
    }
    redlane_reply_plain_free(found);
    return result;
}

/* Deletes all that matches; 0 also when the server refused. */
static int
sweep(Replay *replay, RedlaneArg pattern)
{
    char cursor[REDLANE_INT64_TEXT + 1] = "0";
    size_t steps = 0;

    do {
        if (sweep_step(replay, pattern, steps < FEW_STEPS ? "1000" : "10000", cursor) <
            0) {
            return -1;
        }
        if (++steps == MOST_STEPS && strcmp(cursor, "0") != 0) {
            replay->rejected++;
            break;
        }
    } while (strcmp(cursor, "0") != 0 && !replay->any_refused);
    return 0;
}

/* Takes the next pattern, if there is one, and replays it. 1: none was left. */
static int
replay_pattern_locked(Replay *replay)
{
    const RedlaneJournalPattern *pattern =
        redlane_journal_take_pattern(replay->journal);
    RedlaneArg copy;
    char *text;
    int result;

    if (!pattern) {
        return 1;
    }
    text = malloc(pattern->size ? pattern->size : 1);
    if (!text) {
        redlane_fault_set(replay->fault, REDLANE_FAULT_MEMORY, "out of memory");
        redlane_journal_settle(replay->journal, false);
        return -1;
    }
    memcpy(text, pattern->text, pattern->size);
    copy = (RedlaneArg){text, pattern->size};
    pthread_mutex_unlock(replay->lock);
    result = sweep(replay, copy);
    free(text);
    pthread_mutex_lock(replay->lock);
    redlane_journal_settle(replay->journal, result == 0 && !replay->any_refused);
    return result;
}

static int
replay_entries_locked(Replay *replay)
{
    int result;

    begin_request(replay);
    replay->entries = 0;
    if (redlane_journal_take(replay->journal, redlane_clock_now(), put_order, replay) ==
        0) {
        redlane_fault_set(replay->fault, REDLANE_FAULT_MEMORY, "out of memory");
        return -1;
    }
    pthread_mutex_unlock(replay->lock);
    result = send_batch(replay);
    pthread_mutex_lock(replay->lock);
    for (size_t i = 0; result == 0 && i < replay->entries; i++) {
        if (replay->refused[i]) {
            redlane_journal_refuse(replay->journal, i, replay->refused_amount[i]);
        }
    }
    redlane_journal_settle(replay->journal, result == 0);
    return result;
}

RedlaneReplayResult
redlane_replay_nogil(RedlaneConnection *connection, RedlaneJournal *journal,
                     pthread_mutex_t *lock, int64_t timeout, RedlaneFault *fault)
{
    Replay replay = {
        .connection = connection,
        .journal = journal,
        .lock = lock,
        .timeout = timeout,
        .fault = fault,
    };
    int result = 0;

    while (result >= 0 && !replay.any_refused && !redlane_journal_is_empty(journal)) {
        result = replay_pattern_locked(&replay);
        if (result > 0) {
            result = replay_entries_locked(&replay);
        }
    }
    begin_request(&replay);
    journal->lost += replay.rejected;
    if (result < 0) {
        return REDLANE_REPLAY_FAILED;
    }
    return replay.any_refused ? REDLANE_REPLAY_REFUSED : REDLANE_REPLAY_DONE;
}

int
redlane_replay_probe_nogil(RedlaneConnection *connection, RedlaneArg key,
                           const RedlaneWait *wait, RedlaneFault *fault)
{
    RedlaneArg argv[] = {REDLANE_ARG_LITERAL("SETRANGE"), key, REDLANE_ARG_LITERAL("0"),
                         REDLANE_ARG_LITERAL("")};
    Replay replay = {.connection = connection, .fault = fault};
    RedlanePlainReply *reply;
    RedlaneFaultKind kind;

    begin_request(&replay);
    if (redlane_encode_command(&connection->out, argv, 4) < 0) {
        redlane_fault_set(fault, REDLANE_FAULT_MEMORY, "out of memory");
        return -1;
    }
    reply = read_reply(&replay, wait, &kind);
    begin_request(&replay);
    if (!reply) {
        return -1;
    }
    redlane_reply_plain_free(reply);
    return kind == REDLANE_FAULT_WRITES;
}
