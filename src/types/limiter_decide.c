/* A RateLimiter's decisions: its keys, what is known to be blocked, the engine without
 * a detour where there is nothing else, and the script.
 *
 * Keys: {head}{identity}}:{limit}, so that all of an identity are in one slot of a
 * cluster; of a fixed window with :{window} behind, and with a prefix of its own
 * {head}{identity}:{window}, as other programs write it. Lock: the GIL. */
#include "types/rate_limiter.h"

#include "core/clock.h"
#include "core/number.h"
#include "py/args.h"
#include "py/digest.h"
#include "store/engine_limits.h"
#include "store/engine_store.h"
#include "types/decision.h"

#define KEY_MAX                                                      \
    (REDLANE_LIMITER_PREFIX_MAX + 8 + REDLANE_LIMITER_IDENTITY_MAX + \
     REDLANE_LIMIT_NAME + REDLANE_INT64_TEXT)
#define TRIES 4 /* at a key that names the present window */
#define US_PER_S INT64_C(1000000)
#define NS_PER_US 1000

/* --- identities --------------------------------------------------------------------
 */

static int
hash_identity(RedlaneRateLimiter *limiter, RedlaneArg given, RedlaneIdentity *identity)
{
    identity->size = REDLANE_DIGEST_HEX;
    return redlane_digest_hex(limiter->state, given.data, given.size, identity->text);
}

/* Copies it; in a hash tag '}' would be its end, so that is written as %7D, and % as
 * %25. A long one is hashed. RAISES_NEG */
static int
copy_identity(RedlaneRateLimiter *limiter, RedlaneArg given, RedlaneIdentity *identity)
{
    size_t size = 0;

    for (size_t i = 0; i < given.size; i++) {
        char byte = given.data[i];

        if (size + 3 > sizeof(identity->text)) {
            return hash_identity(limiter, given, identity);
        }
        if (unlikely(byte == '}' || byte == '%') && !limiter->readable) {
            memcpy(identity->text + size, byte == '}' ? "%7D" : "%25", 3);
            size += 3;
        }
        else {
            identity->text[size++] = byte;
        }
    }
    identity->size = size;
    return 0;
}

int
redlane_limiter_identity(RedlaneRateLimiter *limiter, PyObject *object,
                         RedlaneIdentity *identity)
{
    char digits[REDLANE_INT64_TEXT];
    RedlaneArg given;
    long long number;

    if (PyLong_Check(object) && !PyBool_Check(object)) {
        number = PyLong_AsLongLong(object);
        if (number == -1 && PyErr_Occurred()) {
            return -1;
        }
        given = (RedlaneArg){digits, redlane_number_format_int64(digits, number)};
    }
    else if (!PyUnicode_Check(object) && !PyBytes_Check(object)) {
        PyErr_Format(PyExc_TypeError, "identity must be str, bytes or int, not %.100s",
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    else if (redlane_arg_from_text(object, &given) < 0) {
        return -1;
    }
    if (given.size == 0) {
        PyErr_SetString(PyExc_ValueError, "identity must not be empty");
        return -1;
    }
    return limiter->hashed ? hash_identity(limiter, given, identity)
                           : copy_identity(limiter, given, identity);
}

/* --- keys --------------------------------------------------------------------------
 */

static size_t
append(char *key, size_t size, const char *text, size_t count)
{
    memcpy(key + size, text, count);
    return size + count;
}

static size_t
append_number(char *key, size_t size, int64_t number)
{
    key[size] = ':';
    return size + 1 + redlane_number_format_int64(key + size + 1, number);
}

/* The key of one of the limits, for its window `index` if it is a fixed one's. */
static size_t
make_key(const RedlaneRateLimiter *limiter, const RedlaneIdentity *identity,
         const RedlaneRates *rates, size_t i, int64_t index, char key[KEY_MAX])
{
    size_t size = append(key, 0, limiter->head, limiter->head_size);

    size = append(key, size, identity->text, identity->size);
    if (!limiter->readable) {
        size = append(key, size, "}:", 2);
        size = append(key, size, rates->names[i], rates->name_sizes[i]);
    }
    return limiter->kind == REDLANE_LIMIT_FIXED ? append_number(key, size, index)
                                                : size;
}

static int64_t
unix_us(void)
{
    return redlane_clock_read(CLOCK_REALTIME) / NS_PER_US;
}

static int64_t
window_at(const RedlaneLimit *limit, int64_t now)
{
    return limit->kind == REDLANE_LIMIT_FIXED ? now / limit->window : 0;
}

/* --- what is known to be blocked ---------------------------------------------------
 */

static PyObject *
find_blocked(RedlaneRateLimiter *limiter, const RedlaneIdentity *identity,
             const RedlaneRates *rates, int64_t cost)
{
    const RedlaneLimitNote *blocked;
    int64_t now;

    if (!limiter->blocked || !limiter->blocked->count) {
        return NULL;
    }
    now = redlane_clock_now();
    blocked = redlane_blocked_find(limiter->blocked,
                                   (RedlaneArg){identity->text, identity->size},
                                   rates->number, cost, now);
    return blocked
               ? redlane_decision_new(limiter->state, rates->limits, blocked->answers,
                                      blocked->count, (now - blocked->seen) / NS_PER_US)
               : NULL;
}

static void
note_blocked(RedlaneRateLimiter *limiter, const RedlaneIdentity *identity,
             const RedlaneRates *rates, int64_t cost, const RedlaneLimitAnswer *answers)
{
    if (!limiter->blocked) {
        limiter->blocked = PyMem_Malloc(sizeof(*limiter->blocked));
        if (!limiter->blocked) {
            return;
        }
        redlane_limit_notes_init(limiter->blocked);
    }
    redlane_blocked_note(limiter->blocked, (RedlaneArg){identity->text, identity->size},
                         rates->number, cost, redlane_clock_now(), answers,
                         rates->count);
}

static void
drop_blocked(RedlaneRateLimiter *limiter, const RedlaneIdentity *identity)
{
    if (limiter->blocked) {
        redlane_limit_notes_drop(limiter->blocked,
                                 (RedlaneArg){identity->text, identity->size});
    }
}

/* --- what it comes to ---------------------------------------------------------------
 */

static bool
is_refused(const RedlaneRates *rates, const RedlaneLimitAnswer *answers)
{
    for (size_t i = 0; i < rates->count; i++) {
        if (answers[i].retry) {
            return true;
        }
    }
    return false;
}

static void
count_hit(RedlaneRateLimiter *limiter, bool refused)
{
    limiter->counts.refused += refused;
    limiter->counts.allowed += !refused;
}

/* --- the engine --------------------------------------------------------------------
 */

/* Nothing here waits, so the window that a key names is the present one, but for a
 * clock that steps at this very moment. */
static PyObject *
decide_engine(RedlaneRateLimiter *limiter, RedlaneEngine *engine, char mode,
              const RedlaneIdentity *identity, const RedlaneRates *rates, int64_t cost)
{
    RedlaneLimitAnswer answers[REDLANE_LIMITS_MAX];
    char keys[REDLANE_LIMITS_MAX][KEY_MAX];
    RedlaneLimitsVerdict verdict;
    RedlaneLimitCall call;
    int64_t now;

    call.mode = mode;
    call.cost = cost;
    call.now = now = unix_us();
    call.count = rates->count;
    for (size_t i = 0; i < rates->count; i++) {
        call.on[i].limit = &rates->limits[i];
        call.on[i].index = window_at(&rates->limits[i], now);
        call.on[i].lenient = false;
        call.on[i].key = (RedlaneArg){
            keys[i], make_key(limiter, identity, rates, i, call.on[i].index, keys[i])};
    }
    verdict = redlane_engine_limit(engine, &call, &now, answers);
    if (verdict != REDLANE_LIMITS_DECIDED) {
        PyErr_SetString(limiter->state->OutOfMemoryError,
                        "limit: no room for it in the memory engine");
        return NULL;
    }
    if (mode == 'h') {
        count_hit(limiter, is_refused(rates, answers));
    }
    return redlane_decision_new(limiter->state, rates->limits, answers, rates->count,
                                0);
}

/* --- the script --------------------------------------------------------------------
 */

typedef struct {
    char keys[REDLANE_LIMITS_MAX][KEY_MAX];
    char indexes[REDLANE_LIMITS_MAX][REDLANE_INT64_TEXT];
    char cost[REDLANE_INT64_TEXT];
    RedlaneArg
        named[3 + REDLANE_LIMITS_MAX + 3 + REDLANE_LIMITS_MAX * REDLANE_LIMIT_ARGS];
    size_t argc;
} Script;

static void
fill_script(Script *script, RedlaneRateLimiter *limiter, char *mode,
            const RedlaneIdentity *identity, const RedlaneRates *rates, int64_t cost,
            bool lenient)
{
    bool fixed = limiter->kind == REDLANE_LIMIT_FIXED;
    int64_t now = fixed ? unix_us() + limiter->shift : 0;
    RedlaneArg *argv = script->named + 3;

    for (size_t i = 0; i < rates->count; i++) {
        int64_t index = window_at(&rates->limits[i], now);

        *argv++ = (RedlaneArg){script->keys[i], make_key(limiter, identity, rates, i,
                                                         index, script->keys[i])};
    }
    *argv++ = (RedlaneArg){mode, 1};
    *argv++ =
        (RedlaneArg){script->cost, redlane_number_format_int64(script->cost, cost)};
    *argv++ = REDLANE_ARG_LITERAL("0");
    for (size_t i = 0; i < rates->count; i++) {
        memcpy(argv, rates->argv[i], sizeof(rates->argv[i]));
        if (fixed) {
            int64_t index = window_at(&rates->limits[i], now);

            argv[3] =
                (RedlaneArg){script->indexes[i],
                             redlane_number_format_int64(script->indexes[i], index)};
            argv[4] = lenient ? REDLANE_ARG_LITERAL("1") : REDLANE_ARG_LITERAL("0");
        }
        argv += REDLANE_LIMIT_ARGS;
    }
    script->argc = (size_t)(argv - script->named) - 3;
}

/* Reads a reply: 1, or 0 where a key named another window. RAISES_NEG */
static int
read_reply(RedlaneRateLimiter *limiter, PyObject *reply, const RedlaneRates *rates,
           int64_t *now, RedlaneLimitAnswer *answers)
{
    int64_t numbers[1 + 3 * REDLANE_LIMITS_MAX] = {0};
    Py_ssize_t size = PyList_Check(reply) ? PyList_GET_SIZE(reply) : 0;

    if (size != 1 && size != 1 + 3 * (Py_ssize_t)rates->count) {
        PyErr_SetString(limiter->state->ReplyError, "limit: not the script's reply");
        return -1;
    }
    for (Py_ssize_t i = 0; i < size; i++) {
        PyObject *number = PyList_GET_ITEM(reply, i);

        numbers[i] = PyLong_CheckExact(number) ? PyLong_AsLongLong(number) : -1;
        if (numbers[i] < 0 || numbers[i] > REDLANE_LIMIT_TIME_MAX) {
            PyErr_SetString(limiter->state->ReplyError,
                            "limit: not the script's reply");
            return -1;
        }
    }
    *now = numbers[0];
    for (size_t i = 0; size > 1 && i < rates->count; i++) {
        answers[i] = (RedlaneLimitAnswer){numbers[1 + 3 * i], numbers[2 + 3 * i],
                                          numbers[3 + 3 * i]};
    }
    return size > 1;
}

/* One round trip; as read_reply. */
static int
ask(RedlaneRateLimiter *limiter, Script *script, const RedlaneRates *rates,
    RedlaneAnswer *answer, RedlaneLimitAnswer *answers)
{
    RedlaneToolManner manner = {.answer = answer};
    bool fixed = limiter->kind == REDLANE_LIMIT_FIXED;
    int64_t before = fixed ? unix_us() : 0, now = 0;
    PyObject *reply = redlane_tool_script_in_place(&limiter->tool, REDLANE_SCRIPT_LIMIT,
                                                   script->named, script->argc,
                                                   rates->count, &manner);
    int result;

    if (!reply) {
        return -1;
    }
    result = read_reply(limiter, reply, rates, &now, answers);
    Py_DECREF(reply);
    if (fixed && result >= 0) {
        limiter->shift = now - before - (unix_us() - before) / 2;
    }
    return result;
}

static void
deny(const RedlaneRates *rates, RedlaneLimitAnswer *answers)
{
    for (size_t i = 0; i < rates->count; i++) {
        answers[i] = (RedlaneLimitAnswer){0, US_PER_S, US_PER_S}; /* try again then */
    }
}

int
redlane_limiter_ask(RedlaneRateLimiter *limiter, char mode,
                    const RedlaneIdentity *identity, const RedlaneRates *rates,
                    int64_t cost, RedlaneLimitAnswer *answers, RedlaneAnswer *answer)
{
    Script script;
    int result = 0;

    for (int i = 1; result == 0 && i <= TRIES; i++) {
        *answer = REDLANE_ANSWER_SERVER; /* of this try alone */
        fill_script(&script, limiter, &mode, identity, rates, cost, i == TRIES);
        result = ask(limiter, &script, rates, answer, answers);
    }
    if (result < 0) {
        return -1;
    }
    if (*answer == REDLANE_ANSWER_NOTHING &&
        limiter->on_error == REDLANE_LIMITER_DENY) {
        deny(rates, answers);
    }
    else if (result == 0) {
        PyErr_SetString(limiter->state->ReplyError,
                        "limit: the server's clock does not stand still long enough");
        return -1;
    }
    return 0;
}

bool
redlane_limiter_count(RedlaneRateLimiter *limiter, const RedlaneIdentity *identity,
                      const RedlaneRates *rates, int64_t cost,
                      const RedlaneLimitAnswer *answers, RedlaneAnswer answer)
{
    bool refused = is_refused(rates, answers);

    if (refused && answer != REDLANE_ANSWER_NOTHING) {
        note_blocked(limiter, identity, rates, cost, answers);
    }
    limiter->counts.away += answer != REDLANE_ANSWER_SERVER;
    count_hit(limiter, refused);
    return refused;
}

static PyObject *
decide_script(RedlaneRateLimiter *limiter, char mode, const RedlaneIdentity *identity,
              RedlaneRates *rates, int64_t cost)
{
    RedlaneLimitAnswer answers[REDLANE_LIMITS_MAX];
    RedlaneAnswer answer;

    if (limiter->batch && mode == 'h') {
        return redlane_limiter_take(limiter, identity, rates, cost);
    }
    if (redlane_limiter_ask(limiter, mode, identity, rates, cost, answers, &answer) <
        0) {
        return NULL;
    }
    if (mode == 'h') {
        redlane_limiter_count(limiter, identity, rates, cost, answers, answer);
    }
    else if (limiter->batch) {
        redlane_limiter_add_ahead(limiter, identity, rates, cost, answers);
    }
    return redlane_decision_new(limiter->state, rates->limits, answers, rates->count,
                                0);
}

/* The engine's decision, one out of what was taken in advance, or that of an identity
 * that is known to be blocked. NULL without an exception: the server has to be asked.
 */
static PyObject *
decide_here(RedlaneRateLimiter *limiter, char mode, const RedlaneIdentity *identity,
            const RedlaneRates *rates, int64_t cost)
{
    RedlaneEngine *engine = redlane_engine_store_find(limiter->tool.store);
    PyObject *decision;

    if (redlane_link_closed(limiter->tool.link)) {
        return NULL;
    }
    if (engine) {
        return decide_engine(limiter, engine, mode, identity, rates, cost);
    }
    if (mode != 'h') {
        return NULL;
    }
    if (limiter->batch) {
        decision = redlane_limiter_spend(limiter, identity, rates, cost);
        if (decision || PyErr_Occurred()) {
            return decision;
        }
    }
    decision = find_blocked(limiter, identity, rates, cost);
    limiter->counts.remembered += decision != NULL;
    limiter->counts.refused += decision != NULL;
    return decision;
}

static PyObject *
decide(RedlaneRateLimiter *limiter, char mode, const RedlaneIdentity *identity,
       RedlaneRates *rates, int64_t cost)
{
    PyObject *decision;

    if (redlane_tool_resolve(&limiter->tool) < 0) {
        return NULL;
    }
    decision = decide_here(limiter, mode, identity, rates, cost);
    if (decision || PyErr_Occurred()) {
        return decision;
    }
    if (mode == 'r') {
        drop_blocked(limiter, identity);
    }
    decision = decide_script(limiter, mode, identity, rates, cost);
    if (mode == 'r') { /* what was on its way may have noted it again */
        drop_blocked(limiter, identity);
    }
    return decision;
}

PyObject *
redlane_limiter_decide(RedlaneRateLimiter *limiter, char mode,
                       const RedlaneIdentity *identity, RedlaneRates *rates,
                       int64_t cost)
{
    PyObject *decision = decide(limiter, mode, identity, rates, cost);

    if (unlikely(!decision) && mode == 'h') {
        limiter->counts.errors++;
    }
    return decision;
}

PyObject *
redlane_limiter_decide_here(RedlaneRateLimiter *limiter, char mode,
                            const RedlaneIdentity *identity, const RedlaneRates *rates,
                            int64_t cost)
{
    if (!limiter->tool.store || !redlane_tool_is_current(&limiter->tool)) {
        return NULL;
    }
    return decide_here(limiter, mode, identity, rates, cost);
}

int
redlane_limiter_reset(RedlaneRateLimiter *limiter, const RedlaneIdentity *identity,
                      RedlaneRates *rates)
{
    char keys[REDLANE_LIMITS_MAX][KEY_MAX];
    RedlaneArg argv[REDLANE_LIMITS_MAX];
    int64_t now = unix_us() + limiter->shift;
    PyObject *reply;
    int result;

    for (size_t i = 0; i < rates->count; i++) {
        argv[i] =
            (RedlaneArg){keys[i], make_key(limiter, identity, rates, i,
                                           window_at(&rates->limits[i], now), keys[i])};
    }
    drop_blocked(limiter, identity);
    redlane_limiter_forget_ahead(limiter, identity);
    reply = redlane_tool_execute(&limiter->tool, REDLANE_CMD_DEL, argv, rates->count,
                                 false);
    drop_blocked(limiter, identity);
    redlane_limiter_forget_ahead(limiter, identity);
    if (!reply) {
        return -1;
    }
    result = reply == Py_None ? 0 : PyObject_IsTrue(reply);
    Py_DECREF(reply);
    return result;
}
