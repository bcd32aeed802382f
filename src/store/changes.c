#include "store/changes.h"

#include <strings.h>

#include "core/clock.h"
#include "core/command_keys.h"
#include "core/number.h"
#include "core/script.h"

void
redlane_changes_init(RedlaneChanges *changes)
{
    changes->list = changes->inline_list;
    changes->count = 0;
    changes->capacity = REDLANE_CHANGES_INLINE;
}

void
redlane_changes_clear(RedlaneChanges *changes)
{
    if (changes->list != changes->inline_list) {
        PyMem_Free(changes->list);
    }
    redlane_changes_init(changes);
}

/* RAISES_NEG */
static int
push(RedlaneChanges *changes, const RedlaneChange *change)
{
    if (changes->count == changes->capacity) {
        size_t capacity = changes->capacity * 4;
        RedlaneChange *larger = PyMem_New(RedlaneChange, capacity);

        if (!larger) {
            PyErr_NoMemory();
            return -1;
        }
        memcpy(larger, changes->list, changes->count * sizeof(*larger));
        if (changes->list != changes->inline_list) {
            PyMem_Free(changes->list);
        }
        changes->list = larger;
        changes->capacity = capacity;
    }
    changes->list[changes->count++] = *change;
    return 0;
}

static int
push_plain(RedlaneChanges *changes, RedlaneChangeKind kind, RedlaneArg key)
{
    RedlaneChange change = {.kind = kind, .key = key};

    return push(changes, &change);
}

static int
push_keys(RedlaneChanges *changes, RedlaneChangeKind kind, const RedlaneVector *vector)
{
    RedlaneKeySpan keys = redlane_command_keys(vector);

    for (size_t at = keys.first; at < keys.end; at += keys.step) {
        if (push_plain(changes, kind, vector->argv[at]) < 0) {
            return -1;
        }
    }
    return 0;
}

/* One change that is being made out. */
typedef struct {
    RedlaneChanges *changes;
    const RedlaneRequest *request;
    const RedlaneVector *vector;
    PyObject *reply;
    bool memory; /* the policy's engine took it; else nothing did */
    bool unsure;
} Making;

static bool
is_one(PyObject *reply)
{
    int overflow;

    return PyLong_Check(reply) && PyLong_AsLongAndOverflow(reply, &overflow) == 1;
}

/* A set that took place: kept as it is, or as a delete. `px`: its TTL in ms, 0 none. */
static int
push_set(const Making *making, RedlaneArg key, RedlaneArg value, int64_t px,
         bool durable, bool video)
{
    RedlaneChange change = {.kind = REDLANE_CHANGE_VALUE,
                            .key = key,
                            .value = value,
                            .permanent_wins = video};
    int64_t now = redlane_clock_now();

    if (!durable || !making->memory) {
        return push_plain(making->changes, REDLANE_CHANGE_DROP, key);
    }
    if (px > 0) {
        change.expires_at = px < (REDLANE_NEVER - now) / REDLANE_NS_PER_MS
                                ? now + px * REDLANE_NS_PER_MS
                                : REDLANE_NEVER;
    }
    return push(making->changes, &change);
}

static bool
is_option(RedlaneArg arg, const char *name)
{
    return arg.size == strlen(name) && strncasecmp(arg.data, name, arg.size) == 0;
}

static bool
is_lease(RedlaneArg value)
{
    static const char mark[] = REDLANE_MARK "L";

    return value.size >= sizeof(mark) - 1 &&
           memcmp(value.data, mark, sizeof(mark) - 1) == 0;
}

/* SET key value [NX | XX] [GET] [EX s | PX ms | EXAT … | PXAT … | KEEPTTL] */
static int
make_set(const Making *making)
{
    const RedlaneVector *vector = making->vector;
    bool get = false, nx = false, xx = false, ends = false, was_there, stored;
    int64_t px = 0;

    if (vector->argc < 3) {
        return 0;
    }
    for (size_t i = 3; i < vector->argc; i++) {
        RedlaneArg option = vector->argv[i];

        get |= is_option(option, "GET");
        nx |= is_option(option, "NX");
        xx |= is_option(option, "XX");
        if (is_option(option, "PX") && i + 1 < vector->argc) {
            (void)redlane_number_parse_int64(vector->argv[i + 1].data,
                                             vector->argv[i + 1].size, &px);
        }
        ends |= is_option(option, "EX") || is_option(option, "EXAT") ||
                is_option(option, "PXAT") || is_option(option, "KEEPTTL");
    }
    was_there = making->reply != Py_None; /* with GET; else: it was stored */
    stored = get ? !(nx && was_there) && !(xx && !was_there) : was_there;
    if (!stored) {
        return 0;
    }
    if (is_lease(vector->argv[2])) { /* a refresh's took the place of a value */
        return nx ? 0
                  : push_plain(making->changes, REDLANE_CHANGE_DROP, vector->argv[1]);
    }
    return push_set(making, vector->argv[1], vector->argv[2], px,
                    !ends && (px == 0 || making->request->durable), false);
}

static int
make_mset(const Making *making)
{
    const RedlaneVector *vector = making->vector;

    for (size_t i = 1; i + 1 < vector->argc; i += 2) {
        if (push_set(making, vector->argv[i], vector->argv[i + 1], 0, true, false) <
            0) {
            return -1;
        }
    }
    return 0;
}

static int
push_amount(const Making *making, RedlaneArg key, int64_t amount, int64_t px)
{
    RedlaneChange change = {
        .kind = REDLANE_CHANGE_AMOUNT, .key = key, .amount = amount, .amount_px = px};

    if (making->unsure || !making->memory) {
        return 0; /* at most once; or nobody counted it */
    }
    return push(making->changes, &change);
}

static int
make_amount(const Making *making, int sign, bool given)
{
    const RedlaneVector *vector = making->vector;
    int64_t amount = 1;

    if (given && (vector->argc < 3 ||
                  !redlane_number_parse_int64(vector->argv[2].data,
                                              vector->argv[2].size, &amount))) {
        return 0;
    }
    if (sign < 0 && amount == INT64_MIN) {
        return 0; /* the engine refused it too */
    }
    return push_amount(making, vector->argv[1], sign * amount, 0);
}

/* A counter with a source is made anew; one without keeps its number, and amounts touch
 * it only if it is there. */
static int
make_counter(const Making *making, const RedlaneScript *script)
{
    const RedlaneVector *vector = making->vector;
    const RedlaneArg *argv = vector->argv;
    int64_t amount;

    if (!making->request->unsourced) {
        return push_keys(making->changes, REDLANE_CHANGE_DROP, vector);
    }
    if (vector->argc != 5) {
        return 0;
    }
    if (script == &redlane_scripts[REDLANE_SCRIPT_COUNTER_ADD]) {
        return redlane_number_parse_int64(argv[4].data, argv[4].size, &amount)
                   ? push_amount(making, argv[3], amount, REDLANE_AMOUNT_EXISTING)
                   : 0;
    }
    if (argv[3].size == argv[4].size &&
        memcmp(argv[3].data, argv[4].data, argv[3].size) == 0) {
        return 0;
    }
    return push_amount(making, argv[3], -1, REDLANE_AMOUNT_EXISTING) < 0
               ? -1
               : push_amount(making, argv[4], 1, REDLANE_AMOUNT_EXISTING);
}

/* A cooldown that began: the server is to have what is left of it. */
static int
make_cooldown(const Making *making)
{
    const RedlaneVector *vector = making->vector;
    int64_t px;

    if (!making->memory || vector->argc != 5 || !PyLong_Check(making->reply) ||
        PyObject_IsTrue(making->reply) ||
        !redlane_number_parse_int64(vector->argv[4].data, vector->argv[4].size, &px)) {
        return 0;
    }
    return push_set(making, vector->argv[3], REDLANE_ARG_LITERAL("1"), px, true, false);
}

/* One limit of LIMIT, from its six arguments. */
static bool
read_limit(const RedlaneArg *argv, RedlaneChange *change)
{
    RedlaneLimit *limit = &change->limit;
    int64_t numbers[5];

    for (size_t i = 0; i < 5; i++) {
        if (!redlane_number_parse_int64(argv[i + 1].data, argv[i + 1].size,
                                        &numbers[i])) {
            return false;
        }
    }
    limit->kind = (RedlaneLimitKind)argv[0].data[0];
    limit->count = numbers[0];
    limit->window = numbers[1];
    limit->tick = limit->token = change->index = numbers[2];
    limit->span = limit->drain = numbers[3];
    limit->burst = numbers[4];
    return true;
}

static bool
read_reply_number(PyObject *reply, size_t index, int64_t *number)
{
    *number = PyLong_AsLongLong(PyList_GET_ITEM(reply, (Py_ssize_t)index));
    if (*number == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        return false;
    }
    return true;
}

/* LIMIT: what the engine admitted, or gave back, is charged to the server. */
static int
make_limit(const Making *making)
{
    const RedlaneVector *vector = making->vector;
    const RedlaneArg *keys = vector->argv + 3, *argv;
    RedlaneKeySpan span = redlane_command_keys(vector);
    size_t count = span.end - span.first;
    int64_t cost, at, retry;

    if (making->unsure || !making->memory || !count ||
        vector->argc != 3 + count + 3 + 6 * count || !PyList_Check(making->reply) ||
        PyList_GET_SIZE(making->reply) != 1 + 3 * (Py_ssize_t)count) {
        return 0;
    }
    argv = keys + count;
    if (argv[0].data[0] == 'p' ||
        !redlane_number_parse_int64(argv[1].data, argv[1].size, &cost) ||
        !read_reply_number(making->reply, 0, &at)) {
        return 0;
    }
    for (size_t i = 0; argv[0].data[0] == 'h' && i < count; i++) {
        if (!read_reply_number(making->reply, 3 + 3 * i, &retry) || retry) {
            return 0; /* it was refused */
        }
    }
    for (size_t i = 0; i < count; i++) {
        RedlaneChange change = {.kind = REDLANE_CHANGE_CHARGE,
                                .key = keys[i],
                                .amount = argv[0].data[0] == 'h' ? cost : -cost,
                                .at = at};

        if (read_limit(argv + 3 + 6 * i, &change) &&
            push(making->changes, &change) < 0) {
            return -1;
        }
    }
    return 0;
}

/* The library's own scripts: argv[3] is the key, its arguments follow. */
static int
make_script(const Making *making)
{
    const RedlaneVector *vector = making->vector;
    const RedlaneArg *argv = vector->argv;
    const RedlaneScript *script = redlane_script_by_sha1(argv[1].data, argv[1].size);
    int64_t first = 0, px = 0;

    if (!script) {
        script = redlane_script_by_text(argv[1].data, argv[1].size);
    }
    if (!script || vector->argc < 4) {
        return 0;
    }
    switch ((RedlaneScriptId)(script - redlane_scripts)) {
    case REDLANE_SCRIPT_FILL:
    case REDLANE_SCRIPT_RENEW:
    case REDLANE_SCRIPT_TOUCH:
        return is_one(making->reply)
                   ? push_plain(making->changes, REDLANE_CHANGE_DROP, argv[3])
                   : 0;
    case REDLANE_SCRIPT_ADD:
    case REDLANE_SCRIPT_VIDEO_SET:
        if (vector->argc != 6 || !is_one(making->reply) ||
            !redlane_number_parse_int64(argv[5].data, argv[5].size, &px)) {
            return 0;
        }
        if (script == &redlane_scripts[REDLANE_SCRIPT_VIDEO_SET]) {
            return push_set(making, argv[3], argv[4], px, true, true);
        }
        return push_set(making, argv[3], argv[4], px,
                        px == 0 || making->request->durable, false);
    case REDLANE_SCRIPT_COUNTER_ADD:
    case REDLANE_SCRIPT_COUNTER_TRANSFER:
        return make_counter(making, script);
    case REDLANE_SCRIPT_LIMIT:
        return make_limit(making);
    case REDLANE_SCRIPT_INCREMENT:
        if (vector->argc != 6 ||
            !redlane_number_parse_int64(argv[4].data, argv[4].size, &first) ||
            !redlane_number_parse_int64(argv[5].data, argv[5].size, &px)) {
            return 0;
        }
        return push_amount(making, argv[3], first, px);
    case REDLANE_SCRIPT_COOLDOWN:
        return make_cooldown(making);
    case REDLANE_SCRIPT_ACQUIRE:
    case REDLANE_SCRIPT_RELEASE:
    case REDLANE_SCRIPT_RESTORE:
    case REDLANE_SCRIPT_TAGS:          /* the server makes its own */
    case REDLANE_SCRIPT_PRESENCE_JOIN: /* each process announces what it has */
    case REDLANE_SCRIPT_PRESENCE_LEAVE:
    case REDLANE_SCRIPT_PRESENCE_READ:
    case REDLANE_SCRIPT_LIMIT_CHARGE:
    case REDLANE_SCRIPT_SLOT: /* a lease ends by itself */
    case REDLANE_SCRIPT_COUNT:
        break;
    }
    return 0;
}

int
redlane_changes_add(RedlaneChanges *changes, const RedlaneRequest *request,
                    RedlanePolicy policy, const RedlaneVector *vector, PyObject *reply,
                    bool unsure)
{
    const Making making = {.changes = changes,
                           .request = request,
                           .vector = vector,
                           .reply = reply,
                           .memory = policy == REDLANE_POLICY_MEMORY,
                           .unsure = unsure};

    if (PyExceptionInstance_Check(reply) &&
        !PyErr_GivenExceptionMatches(reply, PyExc_UnicodeDecodeError)) {
        return 0; /* WRONGTYPE and its like: nothing was done */
    }
    switch (vector->command->id) {
    case REDLANE_CMD_DEL:
    case REDLANE_CMD_UNLINK:
    case REDLANE_CMD_GETDEL:
        return push_keys(changes, REDLANE_CHANGE_DELETE, vector);
    case REDLANE_CMD_SET:
        return make_set(&making);
    case REDLANE_CMD_MSET:
        return make_mset(&making);
    case REDLANE_CMD_INCR:
        return make_amount(&making, 1, false);
    case REDLANE_CMD_DECR:
        return make_amount(&making, -1, false);
    case REDLANE_CMD_INCRBY:
        return make_amount(&making, 1, true);
    case REDLANE_CMD_DECRBY:
        return make_amount(&making, -1, true);
    case REDLANE_CMD_EVAL:
    case REDLANE_CMD_EVALSHA:
        return make_script(&making);
    default:
        return 0;
    }
}
