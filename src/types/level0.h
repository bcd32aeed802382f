/* Level 0: from the arguments of a call to the near value that it returned last time,
 * in this process.
 *
 *   args, kwnames ──shape──▶ one vector ──hash──▶ slot ──▶ item ──▶ RedlaneNearEntry
 *
 * Arguments are exact str, int, float, bool, bytes and None, and tuples of them, types
 * compared and floats by their bits. So a look-up runs no code but ours, cannot fail,
 * and the table is whole whenever other code can see it. Any other call goes by its
 * wire key, as do long ones and those of more than REDLANE_LEVEL0_ARGS arguments.
 *
 * The table is open-addressed with linear probing; what is removed closes its gap, so
 * that no mark stays. Eviction is CLOCK: a hand goes round the slots, drops what is
 * dead or was not used since it came by last, and clears the mark of the rest. An entry
 * keeps its value though the near cache has given it away: when the tables of all
 * functions have come to keep more than the near cache may hold, and half as much, all
 * that is dead goes from all of them.
 *
 * Lock: the GIL. */
#ifndef REDLANE_TYPES_LEVEL0_H
#define REDLANE_TYPES_LEVEL0_H

#include <stdbool.h>

#include "core/clock.h"
#include "core/hash.h"
#include "store/near_values.h"
#include "types/wire_key.h"

#define REDLANE_LEVEL0_ARGS 16     /* longer calls go by wire key */
#define REDLANE_LEVEL0_SHAPES 4    /* ways to call one function that are remembered */
#define REDLANE_LEVEL0_DEPTH 8     /* of tuples in tuples */
#define REDLANE_LEVEL0_BYTES 1024  /* of the arguments of one call */
#define REDLANE_LEVEL0_LIMIT 65536 /* items of one function */

/* How the arguments of a call lie in the vector that is hashed and compared: named
 * parameters in their order, without those that are ignored, then *args. */
typedef struct {
    PyObject *kwnames;                    /* NULL: only positional arguments */
    Py_ssize_t nargs;                     /* -1: an unused shape */
    Py_ssize_t count;                     /* length of the vector; -1: go by wire key */
    bool same;                            /* the vector is the arguments as they came */
    int16_t sources[REDLANE_LEVEL0_ARGS]; /* an argument, or ~index of a default */
} RedlaneCallShape;

typedef struct {
    RedlaneNearEntry *entry; /* held */
    PyObject *object;        /* its value's; BORROWED from it */
    uint8_t count;           /* of args */
    bool encoded;            /* the value is stored bytes, to be decoded at each hit */
    bool visited;            /* since the hand came by */
    PyObject *args[];
} RedlaneLevel0Item;

typedef struct {
    uint64_t hash;
    RedlaneLevel0Item *item; /* NULL: empty */
} RedlaneLevel0Slot;

typedef struct RedlaneLevel0 RedlaneLevel0;

struct RedlaneLevel0 {
    const RedlaneSignature *signature; /* BORROWED */
    RedlaneNear *near;                 /* held; NULL while the table is empty */
    RedlaneLevel0 *next, **where;      /* in the list of those of this near cache */
    RedlaneLevel0Slot *slots;          /* a power of two, or &none */
    size_t mask, used, hand;
    size_t last; /* the slot of the last hit */
    uint64_t seed;
    Py_ssize_t whole; /* so many positional arguments are their own vector; -1 */
    bool off;         /* every call goes by wire key */
    RedlaneCallShape shapes[REDLANE_LEVEL0_SHAPES];
    unsigned next_shape;
    RedlaneLevel0Slot none; /* the slots of a table that has none */
};

/* A call's arguments as a vector. BORROWED from the call and the signature. */
typedef struct {
    PyObject *const *args;
    Py_ssize_t count;
    uint64_t hash;
    PyObject *space[REDLANE_LEVEL0_ARGS];
} RedlaneLevel0Key;

/* The signature must stay where it is. */
void redlane_level0_init(RedlaneLevel0 *level0, const RedlaneSignature *signature);

/* Drops everything. Values may run Python code as they go, which finds it empty. */
void redlane_level0_clear(RedlaneLevel0 *level0);

/* The same, and the shapes: its owner goes. */
void redlane_level0_free(RedlaneLevel0 *level0);

/* Bytes that keeping these arguments takes; 0: they are too long. */
size_t redlane_level0_cost(const RedlaneLevel0Key *key);

/* Keeps an entry of `near` for these arguments, in place of an older one; where there
 * is no memory or they are too long it does not. What it drops may run Python code as
 * it goes, which finds the table whole. STEALS entry */
void redlane_level0_put(RedlaneLevel0 *level0, const RedlaneLevel0Key *key,
                        RedlaneNear *near, RedlaneNearEntry *STEALS entry);

/* What the inline functions below leave to the others. */
const RedlaneCallShape *redlane_level0_other_shape(RedlaneLevel0 *level0,
                                                   Py_ssize_t nargs, PyObject *kwnames);
bool redlane_level0_hash_other(PyObject *value, int depth, uint64_t *state);
bool redlane_level0_same_other(PyObject *left, PyObject *right);

/* --- the look-up ------------------------------------------------------------------ */

/* An int that is one machine word, as most are. */
static inline bool
redlane_level0_is_small(PyObject *value)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyUnstable_Long_IsCompact((PyLongObject *)value);
#else
    return (size_t)(Py_SIZE(value) + 1) < 3;
#endif
}

static inline int64_t
redlane_level0_small(PyObject *value)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyUnstable_Long_CompactValue((PyLongObject *)value);
#else
    return (int64_t)Py_SIZE(value) * (int64_t)((PyLongObject *)value)->ob_digit[0];
#endif
}

/* A str whose characters are at hand: all but some made by old C code. */
static inline bool
redlane_level0_is_ready(PyObject *value)
{
#if PY_VERSION_HEX >= 0x030C0000
    (void)value;
    return true;
#else
    return PyUnicode_IS_READY(value);
#endif
}

static inline uint64_t
redlane_level0_mix(uint64_t state, PyTypeObject *type, uint64_t word)
{
    return redlane_hash_fold(state ^ word, REDLANE_HASH_A ^ (uintptr_t)type);
}

/* False: go by wire key. */
static inline bool
redlane_level0_hash(PyObject *value, uint64_t *state)
{
    PyTypeObject *type = Py_TYPE(value);
    uint64_t other = *state; /* the caller's stays in a register */
    Py_hash_t hash;
    bool known;

    if (type == &PyUnicode_Type) {
        hash = ((PyASCIIObject *)value)->hash;
        if (likely(hash != -1)) {
            *state = redlane_level0_mix(*state, type, (uint64_t)hash);
            return redlane_level0_is_ready(value);
        }
    }
    else if (type == &PyLong_Type && redlane_level0_is_small(value)) {
        *state =
            redlane_level0_mix(*state, type, (uint64_t)redlane_level0_small(value));
        return true;
    }
    known = redlane_level0_hash_other(value, 0, &other);
    *state = other;
    return known;
}

/* Both of kinds that redlane_level0_hash takes. */
static inline bool
redlane_level0_same(PyObject *left, PyObject *right)
{
    PyTypeObject *type = Py_TYPE(left);

    if (left == right) {
        return true;
    }
    if (type != Py_TYPE(right)) {
        return false;
    }
    if (type == &PyLong_Type && redlane_level0_is_small(left)) {
        return redlane_level0_is_small(right) &&
               redlane_level0_small(left) == redlane_level0_small(right);
    }
    return redlane_level0_same_other(left, right);
}

/* How a call's arguments lie, or NULL. A call site has one tuple of names, for ever. */
static inline const RedlaneCallShape *
redlane_level0_shape(RedlaneLevel0 *level0, Py_ssize_t nargs, PyObject *kwnames)
{
    for (size_t i = 0; i < REDLANE_LEVEL0_SHAPES; i++) {
        const RedlaneCallShape *shape = &level0->shapes[i];

        if (shape->kwnames == kwnames && shape->nargs == nargs) {
            return shape;
        }
    }
    return redlane_level0_other_shape(level0, nargs, kwnames);
}

/* Lays the arguments out and hashes them. False: go by wire key. */
static inline bool
redlane_level0_key(RedlaneLevel0 *level0, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames, RedlaneLevel0Key *key)
{
    uint64_t state = level0->seed;
    Py_ssize_t count = nargs;

    if (kwnames || nargs != level0->whole) {
        const RedlaneCallShape *shape =
            level0->off ? NULL : redlane_level0_shape(level0, nargs, kwnames);

        if (!shape || shape->count < 0) {
            return false;
        }
        count = shape->count;
        if (!shape->same) {
            PyObject *defaults = level0->signature->defaults;

            for (Py_ssize_t i = 0; i < count; i++) {
                Py_ssize_t source = shape->sources[i];

                key->space[i] =
                    source >= 0 ? args[source] : PyTuple_GET_ITEM(defaults, ~source);
            }
            args = key->space;
        }
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (unlikely(!redlane_level0_hash(args[i], &state))) {
            return false;
        }
    }
    key->args = args;
    key->count = count;
    key->hash = state;
    return true;
}

static inline bool
redlane_level0_matches(const RedlaneLevel0Item *item, const RedlaneLevel0Key *key)
{
    if (item->count != key->count) {
        return false;
    }
    for (Py_ssize_t i = 0; i < key->count; i++) {
        if (!redlane_level0_same(item->args[i], key->args[i])) {
            return false;
        }
    }
    return true;
}

/* The slot of a key, or the empty one where it would go. */
static inline RedlaneLevel0Slot *
redlane_level0_slot(const RedlaneLevel0 *level0, const RedlaneLevel0Key *key)
{
    for (size_t i = key->hash & level0->mask;; i = (i + 1) & level0->mask) {
        RedlaneLevel0Slot *slot = &level0->slots[i];

        if (!slot->item ||
            (slot->hash == key->hash && redlane_level0_matches(slot->item, key))) {
            return slot;
        }
    }
}

/* What these arguments gave, while that still holds; NULL otherwise. */
static inline RedlaneLevel0Item *
redlane_level0_find(RedlaneLevel0 *level0, const RedlaneLevel0Key *key)
{
    RedlaneLevel0Slot *slot = redlane_level0_slot(level0, key);
    RedlaneLevel0Item *item = slot->item;

    if (unlikely(!item || !redlane_near_is_hit(level0->near, item->entry,
                                               redlane_clock_coarse()))) {
        return NULL;
    }
    level0->last = (size_t)(slot - level0->slots);
    item->visited = true;
    redlane_near_entry_visit(item->entry);
    return item;
}

/* The same for a call with the very objects of the last hit: nothing is hashed. */
static inline RedlaneLevel0Item *
redlane_level0_again(const RedlaneLevel0 *level0, PyObject *const *args,
                     Py_ssize_t nargs, PyObject *kwnames)
{
    RedlaneLevel0Item *item = level0->slots[level0->last & level0->mask].item;

    if (kwnames || nargs != level0->whole || !item || item->count != nargs) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        if (item->args[i] != args[i]) {
            return NULL;
        }
    }
    if (unlikely(
            !redlane_near_is_hit(level0->near, item->entry, redlane_clock_coarse()))) {
        return NULL;
    }
    item->visited = true;
    redlane_near_entry_visit(item->entry);
    return item;
}

#endif
