/* Rates from Python objects. Lock: the GIL. */
#include "types/limit_rates.h"

#include <inttypes.h>
#include <stdio.h>

#include "py/args.h"
#include "py/state.h"

#define SHOWN 60 /* characters of a bad text in its error */
#define US_PER_S 1000000
#define FNV_BASIS UINT64_C(0xcbf29ce484222325) /* FNV-1a, of 64 bits */
#define FNV_PRIME UINT64_C(0x100000001b3)

/* Always returns -1. */
static int
refuse(RedlaneState *state, PyObject *object, const char *why)
{
    PyObject *shown = PyUnicode_Check(object) ? PyUnicode_Substring(object, 0, SHOWN)
                                              : PyObject_Repr(object);

    if (shown && !PyUnicode_Check(object) && PyUnicode_GET_LENGTH(shown) > SHOWN) {
        Py_SETREF(shown, PyUnicode_Substring(shown, 0, SHOWN));
    }
    if (shown) {
        PyErr_Format(state->ConfigurationError, "rate limit %R: %s", shown, why);
        Py_DECREF(shown);
    }
    return -1;
}

static const char *
reason_of(RedlaneRateVerdict verdict)
{
    switch (verdict) {
    case REDLANE_RATE_RANGE:
        return "a number is 0 or too large";
    case REDLANE_RATE_MANY:
        return "more than 8 limits";
    case REDLANE_RATE_OK:
    case REDLANE_RATE_SYNTAX:
        break;
    }
    return "expected such as '5/minute', '10 per 2 hours' or '10/second burst 20'";
}

typedef struct {
    RedlaneRate rates[REDLANE_LIMITS_MAX];
    size_t count;
} Rates;

/* RAISES_NEG */
static int
add_text(RedlaneState *state, PyObject *object, Rates *rates)
{
    RedlaneRate found[REDLANE_LIMITS_MAX];
    RedlaneRateVerdict verdict;
    size_t count, wrong;
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(object, &size);

    if (!text) {
        if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
            return -1;
        }
        PyErr_Clear();
        return refuse(state, object, reason_of(REDLANE_RATE_SYNTAX));
    }
    if (size > REDLANE_RATE_TEXT_MAX) {
        return refuse(state, object, "longer than 1000 bytes");
    }
    verdict = redlane_rates_parse(text, (size_t)size, found, REDLANE_LIMITS_MAX, &count,
                                  &wrong);
    for (size_t i = 0; verdict == REDLANE_RATE_OK && i < count; i++) {
        if (!redlane_rates_add(rates->rates, REDLANE_LIMITS_MAX, &rates->count,
                               &found[i])) {
            verdict = REDLANE_RATE_MANY;
        }
    }
    return verdict == REDLANE_RATE_OK ? 0 : refuse(state, object, reason_of(verdict));
}

/* A whole number above 0. RAISES_NEG */
static int
read_number(RedlaneState *state, PyObject *object, PyObject *whole, int64_t *number)
{
    int overflow = 0;

    if (!PyLong_Check(object) || PyBool_Check(object)) {
        return refuse(state, whole,
                      "a tuple is of whole numbers: (count, seconds) or "
                      "(count, seconds, burst)");
    }
    *number = PyLong_AsLongLongAndOverflow(object, &overflow);
    return overflow || *number < 1 ? refuse(state, whole, reason_of(REDLANE_RATE_RANGE))
                                   : 0;
}

static int
add_tuple(RedlaneState *state, PyObject *object, Rates *rates)
{
    Py_ssize_t size = PyTuple_GET_SIZE(object);
    RedlaneRate rate = {0};

    if (size != 2 && size != 3) {
        return refuse(state, object,
                      "a tuple is (count, seconds) or (count, seconds, "
                      "burst)");
    }
    if (read_number(state, PyTuple_GET_ITEM(object, 0), object, &rate.count) < 0 ||
        read_number(state, PyTuple_GET_ITEM(object, 1), object, &rate.seconds) < 0 ||
        (size == 3 &&
         read_number(state, PyTuple_GET_ITEM(object, 2), object, &rate.burst) < 0)) {
        return -1;
    }
    return redlane_rates_add(rates->rates, REDLANE_LIMITS_MAX, &rates->count, &rate)
               ? 0
               : refuse(state, object, reason_of(REDLANE_RATE_MANY));
}

static int
add_object(RedlaneState *state, PyObject *object, Rates *rates)
{
    if (PyUnicode_Check(object)) {
        return add_text(state, object, rates);
    }
    if (PyTuple_Check(object)) {
        return add_tuple(state, object, rates);
    }
    return refuse(state, object, "expected a text or a tuple (count, seconds)");
}

static int
add_all(RedlaneState *state, PyObject *object, Rates *rates)
{
    if (!PyList_Check(object)) {
        return add_object(state, object, rates);
    }
    if (PyList_GET_SIZE(object) == 0) {
        return refuse(state, object, "there is none");
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(object); i++) {
        PyObject *item = Py_NewRef(PyList_GET_ITEM(object, i));
        int result = add_object(state, item, rates);

        Py_DECREF(item);
        if (result < 0) {
            return -1;
        }
    }
    return 0;
}

static void
set_number(RedlaneRates *rates, size_t limit, size_t place, int64_t number)
{
    char *digits = rates->digits[limit][place];

    rates->argv[limit][place] =
        (RedlaneArg){digits, redlane_number_format_int64(digits, number)};
}

/* What a limit is to the script, and in its keys. */
static void
describe(RedlaneRates *rates, size_t index, int64_t burst)
{
    const RedlaneLimit *limit = &rates->limits[index];
    bool sliding = limit->kind == REDLANE_LIMIT_SLIDING;
    bool bucket = limit->kind == REDLANE_LIMIT_BUCKET;
    char *name = rates->names[index], *kind = rates->digits[index][0];
    int size;

    kind[0] = (char)limit->kind;
    rates->argv[index][0] = (RedlaneArg){kind, 1};
    set_number(rates, index, 1, limit->count);
    set_number(rates, index, 2, limit->window);
    set_number(rates, index, 3, sliding ? limit->tick : bucket ? limit->token : 0);
    set_number(rates, index, 4, sliding ? limit->span : bucket ? limit->drain : 0);
    set_number(rates, index, 5, bucket ? limit->burst : 0);
    size = snprintf(name, REDLANE_LIMIT_NAME, "%c%" PRId64 "/%" PRId64, kind[0],
                    limit->count, limit->window / US_PER_S);
    if (burst) {
        size += snprintf(name + size, (size_t)(REDLANE_LIMIT_NAME - size), "+%" PRId64,
                         burst);
    }
    rates->name_sizes[index] = (size_t)size;
    for (int i = 0; i <= size; i++) { /* with its end, so that names stay apart */
        rates->number = (rates->number ^ (unsigned char)name[i]) * FNV_PRIME;
    }
}

static bool
shares_window(const Rates *found, size_t index)
{
    for (size_t i = 0; i < index; i++) {
        if (found->rates[i].seconds == found->rates[index].seconds) {
            return true;
        }
    }
    return false;
}

static RedlaneRates *
make_rates(RedlaneState *state, RedlaneLimitKind kind, bool single, PyObject *object)
{
    Rates found = {.count = 0};
    RedlaneRates *rates;

    if (add_all(state, object, &found) < 0) {
        return NULL;
    }
    rates = PyMem_Calloc(1, sizeof(*rates));
    if (!rates) {
        PyErr_NoMemory();
        return NULL;
    }
    rates->references = 1;
    rates->number = FNV_BASIS;
    rates->count = found.count;
    rates->most = INT64_MAX;
    for (size_t i = 0; i < found.count; i++) {
        const RedlaneRate *rate = &found.rates[i];
        const char *why = NULL;

        if (rate->burst && kind != REDLANE_LIMIT_BUCKET) {
            why = "a burst goes with the algorithms 'token-bucket' and 'gcra'";
        }
        else if (single && shares_window(&found, i)) {
            why = "two limits with one window would be one key";
        }
        else if (!redlane_limit_init(&rates->limits[i], kind, rate->count,
                                     rate->seconds, rate->burst)) {
            why = kind == REDLANE_LIMIT_LOG && rate->count > REDLANE_LIMIT_LOG_MAX
                      ? "a sliding log takes 100000 at most"
                      : reason_of(REDLANE_RATE_RANGE);
        }
        if (why) {
            redlane_rates_release(rates);
            (void)refuse(state, object, why);
            return NULL;
        }
        describe(rates, i, rate->burst);
        if (redlane_limit_most(&rates->limits[i]) < rates->most) {
            rates->most = redlane_limit_most(&rates->limits[i]);
        }
    }
    return rates;
}

RedlaneRates *
redlane_rates_of(RedlaneState *state, RedlaneRatesCache *cache, RedlaneLimitKind kind,
                 bool single, PyObject *object)
{
    RedlaneRates *rates;
    Py_hash_t hash;
    size_t at;

    if (!PyUnicode_CheckExact(object)) {
        return make_rates(state, kind, single, object);
    }
    hash = PyObject_Hash(object);
    if (hash == -1) {
        return NULL;
    }
    at = (size_t)hash % REDLANE_RATES_KEPT;
    if (cache->texts[at] && (cache->texts[at] == object ||
                             PyUnicode_Compare(cache->texts[at], object) == 0)) {
        return redlane_rates_hold(cache->rates[at]);
    }
    rates = make_rates(state, kind, single, object);
    if (rates) {
        redlane_rates_release(cache->rates[at]);
        cache->rates[at] = redlane_rates_hold(rates);
        Py_XSETREF(cache->texts[at], Py_NewRef(object));
    }
    return rates;
}

void
redlane_rates_forget(RedlaneRatesCache *cache)
{
    for (size_t i = 0; i < REDLANE_RATES_KEPT; i++) {
        redlane_rates_release(cache->rates[i]);
        cache->rates[i] = NULL;
        Py_CLEAR(cache->texts[i]);
    }
}
