/* Strings and counters. GIL held. */
#include "types/commands.h"

enum { NX = 1 << 0, XX = 1 << 1, KEEPTTL = 1 << 2, GET = 1 << 3 };

static int
build_set(RedlaneCall *call, PyObject *const *values, PyObject *const *rest,
          Py_ssize_t nrest)
{
    /* name, value, ex, px, nx, xx, keepttl, get, exat, pxat */
    const RedlaneFlag flags[] = {{"NX", values[4]},
                                 {"XX", values[5]},
                                 {"KEEPTTL", values[6]},
                                 {"GET", values[7]}};
    unsigned set;
    int expiry;

    (void)rest;
    (void)nrest;
    if (redlane_args_add_object(&call->args, values[0]) < 0 ||
        redlane_args_add_object(&call->args, values[1]) < 0) {
        return -1;
    }
    expiry = redlane_call_add_expiry(call, values[2], values[3], values[8], values[9]);
    if (expiry < 0 || redlane_call_add_flags(call, flags, 4, &set) < 0) {
        return -1;
    }
    if ((set & NX) && (set & XX)) {
        return redlane_refuse("only one of nx and xx can be given");
    }
    if (expiry && (set & KEEPTTL)) {
        return redlane_refuse("keepttl cannot go with a new TTL");
    }
    if (set & GET) {
        call->shape = REDLANE_SHAPE_RAW;
    }
    return 0;
}

static int
build_getex(RedlaneCall *call, PyObject *const *values, PyObject *const *rest,
            Py_ssize_t nrest)
{
    const RedlaneFlag persist = {"PERSIST", values[5]};
    unsigned set;
    int expiry;

    (void)rest;
    (void)nrest;
    if (redlane_args_add_object(&call->args, values[0]) < 0) {
        return -1;
    }
    expiry = redlane_call_add_expiry(call, values[1], values[2], values[3], values[4]);
    if (expiry < 0 || redlane_call_add_flags(call, &persist, 1, &set) < 0) {
        return -1;
    }
    return expiry && set ? redlane_refuse("persist cannot go with a new TTL") : 0;
}

static int
build_mget(RedlaneCall *call, PyObject *const *values, PyObject *const *rest,
           Py_ssize_t nrest)
{
    if (redlane_args_add_all(&call->args, values[0]) < 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < nrest; i++) {
        if (redlane_args_add_object(&call->args, rest[i]) < 0) {
            return -1;
        }
    }
    call->empty = call->args.argc == 1;
    return 0;
}

static int
build_mset(RedlaneCall *call, PyObject *const *values, PyObject *const *rest,
           Py_ssize_t nrest)
{
    PyObject *items = redlane_args_items(&call->args, values[0]);

    (void)rest;
    (void)nrest;
    if (!items) {
        return -1;
    }
    if (PyList_GET_SIZE(items) == 0) {
        return redlane_refuse("mset() needs at least one key");
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(items); i++) {
        PyObject *key, *value;

        if (redlane_args_item(items, i, &key, &value) < 0 ||
            redlane_args_add_object(&call->args, key) < 0 ||
            redlane_args_add_object(&call->args, value) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
build_amount(RedlaneCall *call, PyObject *const *values, PyObject *const *rest,
             Py_ssize_t nrest)
{
    (void)rest;
    (void)nrest;
    if (redlane_args_add_object(&call->args, values[0]) < 0) {
        return -1;
    }
    return values[1] ? redlane_args_add_int(&call->args, values[1], "amount")
                     : redlane_args_add_literal(&call->args, "1");
}

static int
build_incrbyfloat(RedlaneCall *call, PyObject *const *values, PyObject *const *rest,
                  Py_ssize_t nrest)
{
    (void)rest;
    (void)nrest;
    if (redlane_args_add_object(&call->args, values[0]) < 0) {
        return -1;
    }
    return values[1] ? redlane_args_add_object(&call->args, values[1])
                     : redlane_args_add_literal(&call->args, "1.0");
}

static int
build_getrange(RedlaneCall *call, PyObject *const *values, PyObject *const *rest,
               Py_ssize_t nrest)
{
    (void)rest;
    (void)nrest;
    if (redlane_args_add_object(&call->args, values[0]) < 0 ||
        redlane_args_add_int(&call->args, values[1], "start") < 0) {
        return -1;
    }
    return redlane_args_add_int(&call->args, values[2], "end");
}

#define EXPIRY_DOC                                                                   \
    "ex, px: TTL in seconds (fractions count), in milliseconds, or a timedelta.\n"   \
    "exat, pxat: the moment of expiry in seconds or milliseconds since 1970, or a\n" \
    "datetime."

const RedlaneCommandSpec redlane_commands_strings[] = {
    {"get", "name", "The value of a key, or None. WrongTypeError if it is no string.",
     REDLANE_CMD_GET, REDLANE_SHAPE_RAW, redlane_build_key},
    {"set",
     "name, value, ex=None, px=None, nx=False, xx=False, keepttl=False, get=False, "
     "exat=None, pxat=None",
     "Set a key: True, or None when nx or xx kept it from being set.\n\n" EXPIRY_DOC
     " nx: only a new key; xx: only one that exists. keepttl: leave its TTL.\n"
     "get: the result is the old value, or None.\nValueError for a TTL that is zero, "
     "negative, NaN, infinite or too large.",
     REDLANE_CMD_SET, REDLANE_SHAPE_SET, build_set},
    {"getdel", "name", "The value of a key, which is deleted, or None.",
     REDLANE_CMD_GETDEL, REDLANE_SHAPE_RAW, redlane_build_key},
    {"getex", "name, ex=None, px=None, exat=None, pxat=None, persist=False",
     "The value of a key, or None, and a new TTL for it.\n\n" EXPIRY_DOC
     " persist: take the TTL off.",
     REDLANE_CMD_GETEX, REDLANE_SHAPE_RAW, build_getex},
    {"getrange", "key, start, end",
     "Part of a value: bytes start to end, both included; negative from the end.",
     REDLANE_CMD_GETRANGE, REDLANE_SHAPE_RAW, build_getrange},
    {"mget", "keys, *args",
     "The values of many keys, a list with None for each missing one.\n\nkeys: one key "
     "or an iterable of keys; args: more keys.",
     REDLANE_CMD_MGET, REDLANE_SHAPE_RAW, build_mget},
    {"mset", "mapping", "Set many keys at once, without a TTL; True.", REDLANE_CMD_MSET,
     REDLANE_SHAPE_OK, build_mset},
    {"append", "key, value", "Append to a value; its new length in bytes.",
     REDLANE_CMD_APPEND, REDLANE_SHAPE_RAW, redlane_build_plain},
    {"strlen", "name", "The length of a value in bytes; 0 for a missing key.",
     REDLANE_CMD_STRLEN, REDLANE_SHAPE_RAW, redlane_build_key},
    {"incr", "name, amount=1", "Add to an integer, 0 if missing; the new value.",
     REDLANE_CMD_INCRBY, REDLANE_SHAPE_RAW, build_amount},
    {"incrby", "name, amount=1", "Add to an integer, 0 if missing; the new value.",
     REDLANE_CMD_INCRBY, REDLANE_SHAPE_RAW, build_amount},
    {"decr", "name, amount=1", "Take from an integer, 0 if missing; the new value.",
     REDLANE_CMD_DECRBY, REDLANE_SHAPE_RAW, build_amount},
    {"decrby", "name, amount=1", "Take from an integer, 0 if missing; the new value.",
     REDLANE_CMD_DECRBY, REDLANE_SHAPE_RAW, build_amount},
    {"incrbyfloat", "name, amount=1.0",
     "Add a float to a number, 0 if missing; the new value as a float.",
     REDLANE_CMD_INCRBYFLOAT, REDLANE_SHAPE_FLOAT, build_incrbyfloat},
    {NULL, NULL, NULL, REDLANE_CMD_NONE, REDLANE_SHAPE_RAW, NULL},
};
