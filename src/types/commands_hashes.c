/* Hashes. GIL held. */
#include "types/commands.h"

static int
add_mapping(RedlaneArgs *args, PyObject *mapping)
{
    PyObject *items = redlane_args_items(args, mapping);

    if (!items) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(items); i++) {
        PyObject *key, *value;

        if (redlane_args_item(items, i, &key, &value) < 0 ||
            redlane_args_add_object(args, key) < 0 ||
            redlane_args_add_object(args, value) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
build_hset(RedlaneCall *call, PyObject *const *values, PyObject *const *rest,
           Py_ssize_t nrest)
{
    PyObject *key = redlane_given(values[1]), *value = redlane_given(values[2]);
    PyObject *mapping = redlane_given(values[3]), *items = redlane_given(values[4]);
    RedlaneArgs *args = &call->args;

    (void)rest;
    (void)nrest;
    if (key && !value && !mapping && PyDict_Check(key)) { /* hset(name, {…}) */
        mapping = key;
        key = NULL;
    }
    if (redlane_args_add_object(args, values[0]) < 0) {
        return -1;
    }
    if ((key != NULL) != (value != NULL)) {
        PyErr_SetString(PyExc_TypeError, "hset() needs a value for its key");
        return -1;
    }
    if (key && (redlane_args_add_object(args, key) < 0 ||
                redlane_args_add_object(args, value) < 0)) {
        return -1;
    }
    if ((mapping && add_mapping(args, mapping) < 0) ||
        (items && redlane_args_add_all(args, items) < 0)) {
        return -1;
    }
    if (args->argc == 2) {
        return redlane_refuse("hset() needs at least one field");
    }
    return args->argc % 2 ? redlane_refuse("items must be a list of pairs, flat") : 0;
}

static int
build_hincrby(RedlaneCall *call, PyObject *const *values, PyObject *const *rest,
              Py_ssize_t nrest)
{
    (void)rest;
    (void)nrest;
    if (redlane_args_add_object(&call->args, values[0]) < 0 ||
        redlane_args_add_object(&call->args, values[1]) < 0) {
        return -1;
    }
    return values[2] ? redlane_args_add_int(&call->args, values[2], "amount")
                     : redlane_args_add_literal(&call->args, "1");
}

const RedlaneCommandSpec redlane_commands_hashes[] = {
    {"hset", "name, key=None, value=None, mapping=None, items=None",
     "Set fields of a hash; the number of new fields.\n\nOne field by key and value, "
     "many by mapping (a dict in key's place is one), or by\nitems, a flat list of "
     "fields and values.",
     REDLANE_CMD_HSET, REDLANE_SHAPE_RAW, build_hset},
    {"hget", "name, key", "The value of a field, or None.", REDLANE_CMD_HGET,
     REDLANE_SHAPE_RAW, redlane_build_plain},
    {"hmget", "name, keys, *args",
     "The values of many fields, a list with None for each missing one.\n\nkeys: one "
     "field or an iterable of fields; args: more fields.",
     REDLANE_CMD_HMGET, REDLANE_SHAPE_RAW, redlane_build_listed},
    {"hgetall", "name", "All fields and values of a hash, as a dict.",
     REDLANE_CMD_HGETALL, REDLANE_SHAPE_FIELDS, redlane_build_key},
    {"hdel", "name, *keys", "Delete fields; the number of those that existed.",
     REDLANE_CMD_HDEL, REDLANE_SHAPE_RAW, redlane_build_many},
    {"hexists", "name, key", "True if the hash has the field.", REDLANE_CMD_HEXISTS,
     REDLANE_SHAPE_BOOL, redlane_build_plain},
    {"hlen", "name", "The number of fields; 0 for a missing key.", REDLANE_CMD_HLEN,
     REDLANE_SHAPE_RAW, redlane_build_key},
    {"hincrby", "name, key, amount=1",
     "Add to the integer in a field, 0 if missing; the new value.", REDLANE_CMD_HINCRBY,
     REDLANE_SHAPE_RAW, build_hincrby},
    {NULL, NULL, NULL, REDLANE_CMD_NONE, REDLANE_SHAPE_RAW, NULL},
};
