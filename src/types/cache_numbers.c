/* Cache: the calls that add to a number. Lock: the GIL. */
#include "core/number.h"
#include "py/state.h"
#include "types/cache.h"
#include "types/call.h"
#include "types/counter.h"
#include "types/results.h"

static PyObject *
add_to_key(RedlaneCache *cache, RedlaneArg key, long long amount, int64_t ttl_ms)
{
    char digits[2][REDLANE_INT64_TEXT];
    RedlaneArg argv[] = {key,
                         {digits[0], redlane_number_format_int64(digits[0], amount)},
                         {digits[1], redlane_number_format_int64(digits[1], ttl_ms)}};
    PyObject *reply;
    PyObject *counter = redlane_cache_find_counter(cache, key);

    if (!counter && cache->serializer.seal) {
        PyErr_SetString(cache->state->ConfigurationError,
                        "a cache with seal= cannot add to a value: the server, which "
                        "adds, has no key; declare a counter, or use another Cache");
        return NULL;
    }
    redlane_cache_mark(cache, key);
    reply = redlane_tool_script(
        &cache->tool, counter ? REDLANE_SCRIPT_COUNTER_ADD : REDLANE_SCRIPT_INCREMENT,
        argv, counter ? 2 : 3, 1,
        counter ? redlane_counter_manner(counter) : &redlane_tool_writes);
    redlane_cache_mark(cache, key);
    return redlane_result_integer(cache->state, reply);
}

static PyObject *
add_amount(RedlaneCache *cache, const RedlaneCall *call, PyObject *const *args,
           Py_ssize_t nargs, PyObject *kwnames, int sign)
{
    RedlaneCacheKey key;
    PyObject *values[3], *reply;
    long long amount = 1;
    int64_t ttl_ms;

    if (redlane_call_parse(call, args, nargs, kwnames, values) < 0 ||
        redlane_cache_check_counting(cache) < 0 ||
        redlane_cache_ttl(cache, values[2], &ttl_ms) < 0 ||
        (values[1] && redlane_counter_amount(values[1], &amount) < 0) ||
        redlane_cache_key_init(&key, cache, values[0]) < 0) {
        return NULL;
    }
    reply = add_to_key(cache, key.key, sign * amount, ttl_ms);
    redlane_cache_key_clear(&key);
    return reply;
}

PyDoc_STRVAR(
    increment_doc,
    "increment($self, /, key, amount=1, ttl=None)\n--\n\n"
    "Adds to an integer, in one step on the server.\n\n"
    "A missing key is created with that amount and the TTL; the TTL of one that\n"
    "is there stays. Where a counter was declared for the key\n"
    "(:meth:`counter`), only one that exists is changed, as its source knows\n"
    "the rest.\n\n"
    "Args:\n"
    "    key: str or bytes, without the prefix.\n"
    "    amount: int of 64 bits.\n"
    "    ttl: of a key that is created; None: the cache's own.\n\n"
    "Returns:\n"
    "    int: the new value. None: a declared counter that is not there.\n\n"
    "Raises:\n"
    "    ReplyError: the value is no integer, or would leave 64 bits.\n"
    "    WrongTypeError: the key holds another type.");

static PyObject *
cache_increment(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    static const char *const names[] = {"key", "amount", "ttl", NULL};
    static const RedlaneCall call = {"increment", names, 1, 3};

    return add_amount((RedlaneCache *)self, &call, args, nargs, kwnames, 1);
}

PyDoc_STRVAR(decrement_doc, "decrement($self, /, key, amount=1, ttl=None)\n--\n\n"
                            "Subtracts from an integer; see :meth:`increment`.");

static PyObject *
cache_decrement(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    static const char *const names[] = {"key", "amount", "ttl", NULL};
    static const RedlaneCall call = {"decrement", names, 1, 3};

    return add_amount((RedlaneCache *)self, &call, args, nargs, kwnames, -1);
}

#define METHOD(name)                                                                  \
    {#name, (PyCFunction)(void (*)(void))cache_##name, METH_FASTCALL | METH_KEYWORDS, \
     name##_doc}

PyMethodDef redlane_cache_number_methods[] = {
    METHOD(increment),
    METHOD(decrement),
    {NULL, NULL, 0, NULL},
};
