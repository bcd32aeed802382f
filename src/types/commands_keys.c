/* Keys: deletion, expiry, type, scan. GIL held. */
#include "types/commands.h"

/* What EXPIRE and its three sisters need to know of themselves. */
typedef struct {
    const char *name; /* of the time argument */
    int64_t scale;    /* its unit in milliseconds */
    bool absolute;
    RedlaneCommandId in_seconds; /* NONE: milliseconds only */
    RedlaneCommandId in_ms;
} Expiry;

static int
build_expiry(RedlaneCall *call, PyObject *const *values, const Expiry *expiry)
{
    const RedlaneFlag flags[] = {
        {"NX", values[2]}, {"XX", values[3]}, {"GT", values[4]}, {"LT", values[5]}};
    int64_t milliseconds;
    unsigned set;
    int status;

    if (expiry->absolute) {
        status = redlane_args_moment_ms(values[1], expiry->name, expiry->scale,
                                        &milliseconds);
    }
    else if (expiry->scale == 1) {
        status = redlane_args_period_ms(values[1], expiry->name, &milliseconds);
    }
    else {
        status = redlane_args_ttl_ms(values[1], expiry->name, &milliseconds);
    }
    if (status < 0) {
        return -1;
    }
    if (expiry->in_seconds != REDLANE_CMD_NONE && milliseconds % 1000 == 0) {
        milliseconds /= 1000;
    }
    else {
        redlane_call_set_command(call, expiry->in_ms);
    }
    if (redlane_args_add_object(&call->args, values[0]) < 0 ||
        redlane_args_add_int64(&call->args, milliseconds) < 0) {
        return -1;
    }
    return redlane_call_add_flags(call, flags, 4, &set);
}

static int
build_expire(RedlaneCall *call, PyObject *const *values, PyObject *const *rest,
             Py_ssize_t nrest)
{
    static const Expiry expiry = {"time", 1000, false, REDLANE_CMD_EXPIRE,
                                  REDLANE_CMD_PEXPIRE};

    (void)rest;
    (void)nrest;
    return build_expiry(call, values, &expiry);
}

static int
build_pexpire(RedlaneCall *call, PyObject *const *values, PyObject *const *rest,
              Py_ssize_t nrest)
{
    static const Expiry expiry = {"time", 1, false, REDLANE_CMD_NONE,
                                  REDLANE_CMD_PEXPIRE};

    (void)rest;
    (void)nrest;
    return build_expiry(call, values, &expiry);
}

static int
build_expireat(RedlaneCall *call, PyObject *const *values, PyObject *const *rest,
               Py_ssize_t nrest)
{
    static const Expiry expiry = {"when", 1000, true, REDLANE_CMD_EXPIREAT,
                                  REDLANE_CMD_PEXPIREAT};

    (void)rest;
    (void)nrest;
    return build_expiry(call, values, &expiry);
}

static int
build_pexpireat(RedlaneCall *call, PyObject *const *values, PyObject *const *rest,
                Py_ssize_t nrest)
{
    static const Expiry expiry = {"when", 1, true, REDLANE_CMD_NONE,
                                  REDLANE_CMD_PEXPIREAT};

    (void)rest;
    (void)nrest;
    return build_expiry(call, values, &expiry);
}

static int
build_scan(RedlaneCall *call, PyObject *const *values, PyObject *const *rest,
           Py_ssize_t nrest)
{
    PyObject *match = redlane_given(values[1]), *count = redlane_given(values[2]);
    PyObject *type = redlane_given(values[3]);
    RedlaneArgs *args = &call->args;

    (void)rest;
    (void)nrest;
    if (values[0] ? redlane_args_add_int(args, values[0], "cursor") < 0
                  : redlane_args_add_literal(args, "0") < 0) {
        return -1;
    }
    if (match && (redlane_args_add_literal(args, "MATCH") < 0 ||
                  redlane_args_add_object(args, match) < 0)) {
        return -1;
    }
    if (count && (redlane_args_add_literal(args, "COUNT") < 0 ||
                  redlane_args_add_int(args, count, "count") < 0)) {
        return -1;
    }
    if (type && (redlane_args_add_literal(args, "TYPE") < 0 ||
                 redlane_args_add_object(args, type) < 0)) {
        return -1;
    }
    return 0;
}

static int
build_keys(RedlaneCall *call, PyObject *const *values, PyObject *const *rest,
           Py_ssize_t nrest)
{
    (void)rest;
    (void)nrest;
    return values[0] ? redlane_args_add_object(&call->args, values[0])
                     : redlane_args_add_literal(&call->args, "*");
}

#define EXPIRY_FLAGS "nx=False, xx=False, gt=False, lt=False"
#define EXPIRY_DOC                                                                  \
    "\n\nnx: only if the key has no TTL; xx: only if it has one; gt, lt: only if\n" \
    "the new expiry is later, earlier than the present one. True if it was set."

const RedlaneCommandSpec redlane_commands_keys[] = {
    {"delete", "*names",
     "Delete keys; the number of those that existed.\n\nReplyError and link errors as "
     "for every command.",
     REDLANE_CMD_DEL, REDLANE_SHAPE_RAW, redlane_build_many},
    {"unlink", "*names",
     "Delete keys as delete() does; a server frees their memory in the background.",
     REDLANE_CMD_UNLINK, REDLANE_SHAPE_RAW, redlane_build_many},
    {"exists", "*names", "How many of the keys exist; a name given twice counts twice.",
     REDLANE_CMD_EXISTS, REDLANE_SHAPE_RAW, redlane_build_many},
    {"expire", "name, time, " EXPIRY_FLAGS,
     "Set a TTL: time in seconds (fractions count) or a timedelta." EXPIRY_DOC,
     REDLANE_CMD_EXPIRE, REDLANE_SHAPE_BOOL, build_expire},
    {"pexpire", "name, time, " EXPIRY_FLAGS,
     "Set a TTL: time in milliseconds or a timedelta." EXPIRY_DOC, REDLANE_CMD_PEXPIRE,
     REDLANE_SHAPE_BOOL, build_pexpire},
    {"expireat", "name, when, " EXPIRY_FLAGS,
     "Let a key expire at a moment: seconds since 1970 or a datetime." EXPIRY_DOC,
     REDLANE_CMD_EXPIREAT, REDLANE_SHAPE_BOOL, build_expireat},
    {"pexpireat", "name, when, " EXPIRY_FLAGS,
     "Let a key expire at a moment: milliseconds since 1970 or a "
     "datetime." EXPIRY_DOC,
     REDLANE_CMD_PEXPIREAT, REDLANE_SHAPE_BOOL, build_pexpireat},
    {"persist", "name", "Take the TTL off a key; True if it had one.",
     REDLANE_CMD_PERSIST, REDLANE_SHAPE_BOOL, redlane_build_key},
    {"ttl", "name", "Seconds until the key expires; -1: no TTL, -2: no such key.",
     REDLANE_CMD_TTL, REDLANE_SHAPE_RAW, redlane_build_key},
    {"pttl", "name", "Milliseconds until the key expires; -1: no TTL, -2: no such key.",
     REDLANE_CMD_PTTL, REDLANE_SHAPE_RAW, redlane_build_key},
    {"type", "name", "The type of the value: b'string', b'hash', …, b'none'.",
     REDLANE_CMD_TYPE, REDLANE_SHAPE_RAW, redlane_build_key},
    {"keys", "pattern='*'",
     "All keys that match a glob pattern. It blocks a big server: use scan_iter().",
     REDLANE_CMD_KEYS, REDLANE_SHAPE_RAW, build_keys},
    {"scan", "cursor=0, match=None, count=None, _type=None",
     "One step of an iteration over the keys: (next cursor, keys).\n\nThe iteration "
     "ends when the next cursor is 0. match: glob pattern; count: hint\nof how many "
     "keys to look at; _type: only keys of this type.",
     REDLANE_CMD_SCAN, REDLANE_SHAPE_SCAN, build_scan},
    {NULL, NULL, NULL, REDLANE_CMD_NONE, REDLANE_SHAPE_RAW, NULL},
};
