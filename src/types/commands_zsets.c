/* Sorted sets. GIL held. */
#include "types/commands.h"

enum { NX = 1 << 0, XX = 1 << 1, GT = 1 << 2, LT = 1 << 3, INCR = 1 << 5 };

static int
build_zadd(RedlaneCall *call, PyObject *const *values, PyObject *const *rest,
           Py_ssize_t nrest)
{
    /* name, mapping, nx, xx, ch, incr, gt, lt */
    const RedlaneFlag flags[] = {{"NX", values[2]}, {"XX", values[3]},
                                 {"GT", values[6]}, {"LT", values[7]},
                                 {"CH", values[4]}, {"INCR", values[5]}};
    PyObject *items;
    unsigned set;

    (void)rest;
    (void)nrest;
    if (redlane_args_add_object(&call->args, values[0]) < 0 ||
        redlane_call_add_flags(call, flags, 6, &set) < 0) {
        return -1;
    }
    if (((set & NX) && (set & (XX | GT | LT))) || ((set & GT) && (set & LT))) {
        return redlane_refuse("nx, xx, gt and lt do not all go together");
    }
    items = redlane_args_items(&call->args, values[1]);
    if (!items) {
        return -1;
    }
    if (PyList_GET_SIZE(items) == 0) {
        return redlane_refuse("zadd() needs at least one member");
    }
    if (set & INCR) {
        if (PyList_GET_SIZE(items) != 1) {
            return redlane_refuse("incr goes with one member only");
        }
        call->shape = REDLANE_SHAPE_FLOAT;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(items); i++) {
        PyObject *member, *score;

        if (redlane_args_item(items, i, &member, &score) < 0 ||
            redlane_args_add_score(&call->args, score) < 0 ||
            redlane_args_add_object(&call->args, member) < 0) {
            return -1;
        }
    }
    return 0;
}

enum { BYSCORE = 1 << 0, BYLEX = 1 << 1 };

static int
build_zrange(RedlaneCall *call, PyObject *const *values, PyObject *const *rest,
             Py_ssize_t nrest)
{
    /* name, start, end, desc, withscores, score_cast_func, byscore, bylex, offset, num
     */
    const RedlaneFlag flags[] = {
        {"BYSCORE", values[6]}, {"BYLEX", values[7]}, {"REV", values[3]}};
    const RedlaneFlag scores = {"WITHSCORES", values[4]};
    PyObject *offset = redlane_given(values[8]), *num = redlane_given(values[9]);
    RedlaneArgs *args = &call->args;
    unsigned set, with_scores;

    (void)rest;
    (void)nrest;
    if (redlane_args_add_object(args, values[0]) < 0 ||
        redlane_args_add_score(args, values[1]) < 0 ||
        redlane_args_add_score(args, values[2]) < 0 ||
        redlane_call_add_flags(call, flags, 3, &set) < 0) {
        return -1;
    }
    if ((set & BYSCORE) && (set & BYLEX)) {
        return redlane_refuse("only one of byscore and bylex can be given");
    }
    if ((offset != NULL) != (num != NULL)) {
        return redlane_refuse("offset and num go together");
    }
    if (offset && (redlane_args_add_literal(args, "LIMIT") < 0 ||
                   redlane_args_add_int(args, offset, "offset") < 0 ||
                   redlane_args_add_int(args, num, "num") < 0)) {
        return -1;
    }
    if (redlane_call_add_flags(call, &scores, 1, &with_scores) < 0) {
        return -1;
    }
    if (with_scores) {
        if (set & BYLEX) {
            return redlane_refuse("withscores does not go with bylex");
        }
        call->shape = REDLANE_SHAPE_SCORES;
        call->cast = redlane_given(values[5]);
        if (call->cast == (PyObject *)&PyFloat_Type) {
            call->cast = NULL;
        }
    }
    return 0;
}

static int
build_zremrangebyscore(RedlaneCall *call, PyObject *const *values,
                       PyObject *const *rest, Py_ssize_t nrest)
{
    (void)rest;
    (void)nrest;
    if (redlane_args_add_object(&call->args, values[0]) < 0 ||
        redlane_args_add_score(&call->args, values[1]) < 0) {
        return -1;
    }
    return redlane_args_add_score(&call->args, values[2]);
}

const RedlaneCommandSpec redlane_commands_zsets[] = {
    {"zadd",
     "name, mapping, nx=False, xx=False, ch=False, incr=False, gt=False, lt=False",
     "Add members with scores, a mapping of member to score; the number of new "
     "ones.\n\nnx: only new members; xx: only present ones; gt, lt: update only to a "
     "greater,\nsmaller score. ch: count changed members too. incr: add to the score "
     "of one\nmember; the result is its new score as a float, None if nx or xx kept "
     "it.\nValueError for a NaN score.",
     REDLANE_CMD_ZADD, REDLANE_SHAPE_RAW, build_zadd},
    {"zrem", "name, *values", "Remove members; the number of those that were in it.",
     REDLANE_CMD_ZREM, REDLANE_SHAPE_RAW, redlane_build_many},
    {"zscore", "name, value", "The score of a member as a float, or None.",
     REDLANE_CMD_ZSCORE, REDLANE_SHAPE_FLOAT, redlane_build_plain},
    {"zcard", "name", "The number of members; 0 for a missing key.", REDLANE_CMD_ZCARD,
     REDLANE_SHAPE_RAW, redlane_build_key},
    {"zrange",
     "name, start, end, desc=False, withscores=False, score_cast_func=None, "
     "byscore=False, bylex=False, offset=None, num=None",
     "A range of members as a list, by rank, by score or by name.\n\nstart, end: both "
     "included (by score '(1' excludes; by name '[a', '(a', '-', '+').\ndesc: the "
     "other "
     "way round. withscores: a list of (member, score) instead, each\nscore cast by "
     "score_cast_func (float). offset, num: a part of the range, by score or\nname "
     "only.",
     REDLANE_CMD_ZRANGE, REDLANE_SHAPE_RAW, build_zrange},
    {"zremrangebyscore", "name, min, max",
     "Remove members with scores from min to max, both included ('(1' excludes); the\n"
     "number of those removed.",
     REDLANE_CMD_ZREMRANGEBYSCORE, REDLANE_SHAPE_RAW, build_zremrangebyscore},
    {NULL, NULL, NULL, REDLANE_CMD_NONE, REDLANE_SHAPE_RAW, NULL},
};
