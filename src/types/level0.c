/* Level 0: the parts of its table that no hit touches; the drawing stands in level0.h.
 * Lock: the GIL. */
#include "types/level0.h"

#include <string.h>

#define SLOTS_MIN ((size_t)16)
/* Slots that each call of put looks at for dead items. A table is at least a quarter
 * full, so that for every item that lives at most one that died is waiting. */
#define SWEEP 8
/* What all tables of a near cache keep without being swept, and what they may come to
 * keep again before the next time. */
#define KEPT_MOST (REDLANE_NEAR_MAX_BYTES + KEPT_MORE)
#define KEPT_MORE (REDLANE_NEAR_MAX_BYTES / 2)

void
redlane_level0_init(RedlaneLevel0 *level0, const RedlaneSignature *signature)
{
    RedlaneSeed seed;
    bool ignores = false;

    redlane_hash_seed(&seed);
    *level0 = (RedlaneLevel0){.signature = signature, .seed = seed.words[0]};
    for (Py_ssize_t i = 0; i < signature->count + 2; i++) {
        ignores |= signature->ignored[i];
    }
    for (size_t i = 0; i < REDLANE_LEVEL0_SHAPES; i++) {
        level0->shapes[i].nargs = -1;
    }
    level0->slots = &level0->none;
    level0->whole = -1;
    /* Their keys may depend on more than the arguments. */
    level0->off = signature->make || signature->carried;
    if (!level0->off && !ignores && signature->count <= REDLANE_LEVEL0_ARGS &&
        signature->positional == signature->count) {
        level0->whole = signature->count;
    }
}

/* --- hashing and comparing what is not inline ------------------------------------- */

static bool
hash_tuple(PyObject *value, int depth, uint64_t *state)
{
    Py_ssize_t size = PyTuple_GET_SIZE(value);

    if (depth == REDLANE_LEVEL0_DEPTH) {
        return false;
    }
    *state = redlane_level0_mix(*state, &PyTuple_Type, (uint64_t)size);
    for (Py_ssize_t i = 0; i < size; i++) {
        PyObject *item = PyTuple_GET_ITEM(value, i);

        if (!redlane_level0_hash_other(item, depth + 1, state)) {
            return false;
        }
    }
    return true;
}

bool
redlane_level0_hash_other(PyObject *value, int depth, uint64_t *state)
{
    PyTypeObject *type = Py_TYPE(value);
    uint64_t word;

    if (type == &PyTuple_Type) {
        return hash_tuple(value, depth, state);
    }
    if (type == &PyUnicode_Type) {
        if (!redlane_level0_is_ready(value)) {
            return false;
        }
        word = (uint64_t)PyObject_Hash(value);
    }
    else if (type == &PyLong_Type) {
        word = redlane_level0_is_small(value) ? (uint64_t)redlane_level0_small(value)
                                              : (uint64_t)PyObject_Hash(value);
    }
    else if (type == &PyFloat_Type) {
        memcpy(&word, &((PyFloatObject *)value)->ob_fval, sizeof(word));
    }
    else if (type == &PyBytes_Type) {
        word = (uint64_t)PyObject_Hash(value);
    }
    else if (value == Py_None || type == &PyBool_Type) {
        word = (uint64_t)(uintptr_t)value;
    }
    else {
        return false;
    }
    *state = redlane_level0_mix(*state, type, word);
    return true;
}

static bool
same_text(PyObject *left, PyObject *right)
{
    Py_ssize_t length = PyUnicode_GET_LENGTH(left);

    return length == PyUnicode_GET_LENGTH(right) &&
           PyUnicode_KIND(left) == PyUnicode_KIND(right) &&
           memcmp(PyUnicode_DATA(left), PyUnicode_DATA(right),
                  (size_t)length * PyUnicode_KIND(left)) == 0;
}

static bool
same_tuple(PyObject *left, PyObject *right)
{
    Py_ssize_t size = PyTuple_GET_SIZE(left);

    if (size != PyTuple_GET_SIZE(right)) {
        return false;
    }
    for (Py_ssize_t i = 0; i < size; i++) {
        if (!redlane_level0_same(PyTuple_GET_ITEM(left, i),
                                 PyTuple_GET_ITEM(right, i))) {
            return false;
        }
    }
    return true;
}

/* Of one type, and not the same object. */
bool
redlane_level0_same_other(PyObject *left, PyObject *right)
{
    PyTypeObject *type = Py_TYPE(left);

    if (type == &PyUnicode_Type) {
        return same_text(left, right);
    }
    if (type == &PyLong_Type) { /* by the slot: it cannot fail, and asks nobody */
        PyObject *answer = PyLong_Type.tp_richcompare(left, right, Py_EQ);
        bool same = answer == Py_True;

        Py_XDECREF(answer);
        return same;
    }
    if (type == &PyFloat_Type) {
        return memcmp(&((PyFloatObject *)left)->ob_fval,
                      &((PyFloatObject *)right)->ob_fval, sizeof(double)) == 0;
    }
    if (type == &PyBytes_Type) {
        return PyBytes_GET_SIZE(left) == PyBytes_GET_SIZE(right) &&
               memcmp(PyBytes_AS_STRING(left), PyBytes_AS_STRING(right),
                      (size_t)PyBytes_GET_SIZE(left)) == 0;
    }
    return type == &PyTuple_Type && same_tuple(left, right); /* None, bool: no */
}

/* The bytes of an argument's own data, and those that the object takes besides. */
static void
measure(PyObject *value, size_t *data, size_t *objects)
{
    PyTypeObject *type = Py_TYPE(value);

    if (type == &PyUnicode_Type) {
        *data += (size_t)PyUnicode_GET_LENGTH(value) * PyUnicode_KIND(value);
        *objects += sizeof(PyASCIIObject);
    }
    else if (type == &PyBytes_Type) {
        *data += (size_t)PyBytes_GET_SIZE(value);
        *objects += sizeof(PyBytesObject);
    }
    else if (type == &PyTuple_Type) {
        Py_ssize_t size = PyTuple_GET_SIZE(value);

        *data += (size_t)size * sizeof(PyObject *);
        *objects += sizeof(PyTupleObject);
        for (Py_ssize_t i = 0; i < size && *data <= REDLANE_LEVEL0_BYTES; i++) {
            measure(PyTuple_GET_ITEM(value, i), data, objects);
        }
    }
    else if (type == &PyLong_Type && !redlane_level0_is_small(value)) {
        *data += _PyLong_NumBits(value) / 8;
        *objects += sizeof(PyLongObject);
    }
    else {
        *data += sizeof(double);
        *objects += sizeof(PyObject);
    }
}

size_t
redlane_level0_cost(const RedlaneLevel0Key *key)
{
    size_t data = 0, objects = 0;

    for (Py_ssize_t i = 0; i < key->count && data <= REDLANE_LEVEL0_BYTES; i++) {
        measure(key->args[i], &data, &objects);
    }
    if (data > REDLANE_LEVEL0_BYTES) {
        return 0;
    }
    return data + objects + sizeof(RedlaneLevel0Item) + 4 * sizeof(RedlaneLevel0Slot) +
           (size_t)key->count * sizeof(PyObject *);
}

/* --- shapes ----------------------------------------------------------------------- */

/* Where a keyword belongs; -1: it is none of the names. */
static Py_ssize_t
find_keyword(const RedlaneSignature *signature, PyObject *keyword)
{
    for (Py_ssize_t i = signature->positional_only; i < signature->count; i++) {
        if (PyUnicode_Compare(PyTuple_GET_ITEM(signature->names, i), keyword) == 0) {
            return i;
        }
    }
    return -1;
}

/* One for each name: an argument, ~index of a default, or that there is none. False:
 * the call does not fit, or has what goes to **kwargs. */
#define SOURCE_NONE INT16_MIN

static bool
bind_names(const RedlaneSignature *signature, Py_ssize_t nargs, PyObject *kwnames,
           int16_t *named)
{
    Py_ssize_t keywords = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;

    for (Py_ssize_t i = 0; i < signature->count; i++) {
        named[i] = (int16_t)(i < nargs && i < signature->positional ? i : SOURCE_NONE);
    }
    for (Py_ssize_t i = 0; i < keywords; i++) {
        Py_ssize_t at = find_keyword(signature, PyTuple_GET_ITEM(kwnames, i));

        if (at < 0 || named[at] != SOURCE_NONE) {
            return false;
        }
        named[at] = (int16_t)(nargs + i);
    }
    for (Py_ssize_t i = 0; i < signature->count; i++) {
        if (named[i] == SOURCE_NONE) {
            if (PyTuple_GET_ITEM(signature->defaults, i) == signature->no_default) {
                return false;
            }
            named[i] = (int16_t)~i;
        }
    }
    return true;
}

/* Fills sources and count. False: such a call goes by wire key. */
static bool
lay_out(const RedlaneSignature *signature, Py_ssize_t nargs, PyObject *kwnames,
        RedlaneCallShape *shape)
{
    Py_ssize_t keywords = kwnames ? PyTuple_GET_SIZE(kwnames) : 0, count = 0;
    int16_t named[REDLANE_LEVEL0_ARGS];

    if (signature->count > REDLANE_LEVEL0_ARGS || nargs > REDLANE_LEVEL0_ARGS ||
        nargs + keywords > REDLANE_LEVEL0_ARGS ||
        (nargs > signature->positional && !signature->star) ||
        !bind_names(signature, nargs, kwnames, named)) {
        return false;
    }
    for (Py_ssize_t i = 0; i < signature->count; i++) {
        if (!signature->ignored[i]) {
            shape->sources[count++] = named[i];
        }
    }
    for (Py_ssize_t i = signature->positional;
         i < nargs && !signature->ignored[signature->count]; i++) {
        if (count == REDLANE_LEVEL0_ARGS) {
            return false;
        }
        shape->sources[count++] = (int16_t)i;
    }
    shape->count = count;
    shape->same = true;
    for (Py_ssize_t i = 0; i < count; i++) {
        shape->same &= shape->sources[i] == i;
    }
    return true;
}

/* The same names, each by identity: nearly all are interned. */
static bool
same_names(PyObject *left, PyObject *right)
{
    Py_ssize_t size;

    if (!left || !right) {
        return left == right;
    }
    size = PyTuple_GET_SIZE(left);
    if (size != PyTuple_GET_SIZE(right)) {
        return false;
    }
    for (Py_ssize_t i = 0; i < size; i++) {
        if (PyTuple_GET_ITEM(left, i) != PyTuple_GET_ITEM(right, i)) {
            return false;
        }
    }
    return true;
}

/* True for a tuple that may be kept: of exact str, which leads nowhere. */
static bool
is_plain(PyObject *kwnames)
{
    for (Py_ssize_t i = 0; kwnames && i < PyTuple_GET_SIZE(kwnames); i++) {
        if (!PyUnicode_CheckExact(PyTuple_GET_ITEM(kwnames, i))) {
            return false;
        }
    }
    return true;
}

static const RedlaneCallShape *
make_shape(RedlaneLevel0 *level0, Py_ssize_t nargs, PyObject *kwnames)
{
    RedlaneCallShape shape = {.nargs = nargs, .count = -1}, *place;

    if (!is_plain(kwnames)) {
        return NULL;
    }
    /* What does not fit is remembered too: a call with **kwargs is asked for again. */
    if (!lay_out(level0->signature, nargs, kwnames, &shape)) {
        shape.count = -1;
    }
    place = &level0->shapes[level0->next_shape];
    level0->next_shape = (level0->next_shape + 1) % REDLANE_LEVEL0_SHAPES;
    Py_XINCREF(kwnames);
    shape.kwnames = kwnames;
    kwnames = place->kwnames;
    *place = shape;
    Py_XDECREF(kwnames); /* exact str in an exact tuple: nobody's code runs */
    return place;
}

const RedlaneCallShape *
redlane_level0_other_shape(RedlaneLevel0 *level0, Py_ssize_t nargs, PyObject *kwnames)
{
    /* f(**names) makes a tuple each time. */
    for (size_t i = 0; i < REDLANE_LEVEL0_SHAPES; i++) {
        const RedlaneCallShape *shape = &level0->shapes[i];

        if (shape->nargs == nargs && same_names(shape->kwnames, kwnames)) {
            return shape;
        }
    }
    return make_shape(level0, nargs, kwnames);
}

/* --- the table -------------------------------------------------------------------- */

/* Frees an item; its value, if that is to be released now, or NULL. */
static void *
free_item(RedlaneNear *near, RedlaneLevel0Item *item)
{
    void *value;

    near->kept -= redlane_near_entry_bytes(item->entry);
    value = redlane_near_entry_release(item->entry);
    for (Py_ssize_t i = 0; i < item->count; i++) {
        Py_DECREF(item->args[i]);
    }
    PyMem_Free(item);
    return value;
}

/* Empties a slot: what follows it in its run moves up, so that every item can still be
 * reached from the slot that its hash names. */
static RedlaneLevel0Item *
take_out(RedlaneLevel0 *level0, size_t hole)
{
    RedlaneLevel0Item *item = level0->slots[hole].item;
    size_t mask = level0->mask;

    for (size_t i = (hole + 1) & mask; level0->slots[i].item; i = (i + 1) & mask) {
        size_t home = level0->slots[i].hash & mask;

        if (((i - home) & mask) >= ((i - hole) & mask)) {
            level0->slots[hole] = level0->slots[i];
            hole = i;
        }
    }
    level0->slots[hole] = (RedlaneLevel0Slot){0};
    level0->used--;
    return item;
}

static bool
is_dead(const RedlaneLevel0Item *item, int64_t now)
{
    return atomic_load_explicit(&item->entry->generation, memory_order_relaxed) == 0 ||
           now >= item->entry->deadline;
}

/* Takes out up to SWEEP dead items, or one that lives where there is no room. Their
 * values are written to `values`; how many. */
static size_t
sweep(RedlaneLevel0 *level0, void **values)
{
    int64_t now = redlane_clock_coarse();
    bool full = level0->used >= REDLANE_LEVEL0_LIMIT;
    size_t count = 0;

    for (size_t i = 0; level0->used && (full || i < SWEEP); i++) {
        RedlaneLevel0Item *item = level0->slots[level0->hand].item;

        if (item && (is_dead(item, now) || (full && !item->visited))) {
            values[count] = free_item(level0->near, take_out(level0, level0->hand));
            count += values[count] != NULL;
            full = false; /* another may have moved into the slot: it stays here */
            continue;
        }
        if (item) {
            item->visited = false;
        }
        level0->hand = (level0->hand + 1) & level0->mask;
    }
    return count;
}

static void
free_values(void **values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        redlane_near_value_free(values[i]);
    }
}

/* Takes out all that will never be a hit again, of all tables of a near cache. Values
 * may run Python code as they go, which finds the tables whole. */
static void
sweep_all(RedlaneNear *near)
{
    int64_t now = redlane_clock_coarse();
    uint64_t generation = atomic_load(&near->generation);
    size_t count = 0, most = 0;
    void **values;

    for (RedlaneLevel0 *level0 = near->keepers; level0; level0 = level0->next) {
        most += level0->used;
    }
    values = PyMem_New(void *, most + 1);
    if (!values) {
        return; /* the next put tries again */
    }
    for (RedlaneLevel0 *level0 = near->keepers; level0; level0 = level0->next) {
        for (size_t i = 0; level0->used && i <= level0->mask;) {
            RedlaneLevel0Item *item = level0->slots[i].item;

            if (item && (is_dead(item, now) ||
                         atomic_load(&item->entry->generation) != generation)) {
                values[count] = free_item(near, take_out(level0, i));
                count += values[count] != NULL;
            }
            else {
                i++; /* else another may have moved into the slot */
            }
        }
    }
    near->kept_most = near->kept + KEPT_MORE;
    free_values(values, count);
    PyMem_Free(values);
}

static void
join_keepers(RedlaneLevel0 *level0, RedlaneNear *near)
{
    level0->near = redlane_near_hold(near);
    level0->next = near->keepers;
    if (level0->next) {
        level0->next->where = &level0->next;
    }
    level0->where = NULL;
    near->keepers = level0;
}

static void
leave_keepers(RedlaneLevel0 *level0)
{
    if (level0->next) {
        level0->next->where = level0->where;
    }
    if (level0->where) {
        *level0->where = level0->next;
    }
    else {
        level0->near->keepers = level0->next;
    }
    level0->near = NULL;
}

static bool
grow(RedlaneLevel0 *level0)
{
    size_t size = level0->used ? (level0->mask + 1) * 2 : SLOTS_MIN;
    RedlaneLevel0Slot *slots = PyMem_Calloc(size, sizeof(*slots));

    if (!slots) {
        return false;
    }
    for (size_t i = 0; level0->used && i <= level0->mask; i++) {
        size_t at = level0->slots[i].hash & (size - 1);

        if (level0->slots[i].item) {
            while (slots[at].item) {
                at = (at + 1) & (size - 1);
            }
            slots[at] = level0->slots[i];
        }
    }
    if (level0->slots != &level0->none) {
        PyMem_Free(level0->slots);
    }
    level0->slots = slots;
    level0->mask = size - 1;
    level0->hand = 0;
    return true;
}

static RedlaneLevel0Item *
make_item(const RedlaneLevel0Key *key)
{
    RedlaneLevel0Item *item =
        PyMem_Malloc(sizeof(*item) + (size_t)key->count * sizeof(PyObject *));

    if (item) {
        item->count = (uint8_t)key->count;
        item->visited = false;
        for (Py_ssize_t i = 0; i < key->count; i++) {
            item->args[i] = Py_NewRef(key->args[i]);
        }
    }
    return item;
}

/* The item of a key, without an entry yet if it is new; NULL when it cannot be kept. */
static RedlaneLevel0Item *
find_place(RedlaneLevel0 *level0, const RedlaneLevel0Key *key)
{
    RedlaneLevel0Slot *slot = redlane_level0_slot(level0, key);

    if (slot->item) {
        return slot->item;
    }
    if (!redlane_level0_cost(key) ||
        ((level0->used + 1) * 2 > level0->mask && !grow(level0))) {
        return NULL;
    }
    slot = redlane_level0_slot(level0, key);
    slot->item = make_item(key);
    if (slot->item) {
        slot->item->entry = NULL;
        slot->hash = key->hash;
        level0->used++;
    }
    return slot->item;
}

void
redlane_level0_put(RedlaneLevel0 *level0, const RedlaneLevel0Key *key,
                   RedlaneNear *near, RedlaneNearEntry *STEALS entry)
{
    void *values[SWEEP + 2];
    RedlaneLevel0Item *item;
    size_t count;

    if (level0->near != near) { /* another server: nothing here is of it */
        redlane_level0_clear(level0);
        if (level0->near) { /* filled again meanwhile, by code that ran in there */
            near = NULL;
        }
        else {
            join_keepers(level0, near);
        }
    }
    count = sweep(level0, values);
    item = near ? find_place(level0, key) : NULL;
    if (item) {
        RedlaneNearEntry *old = item->entry;

        near->kept += redlane_near_entry_bytes(entry);
        near->kept -= old ? redlane_near_entry_bytes(old) : 0;
        item->entry = entry;
        item->object = entry->value;
        item->encoded = entry->form == REDLANE_NEAR_FORM_STORED;
        entry = old;
    }
    if (entry) {
        values[count] = redlane_near_entry_release(entry);
        count += values[count] != NULL;
    }
    if (near && near->kept > KEPT_MOST && near->kept > near->kept_most) {
        sweep_all(near);
    }
    free_values(values, count);
}

void
redlane_level0_clear(RedlaneLevel0 *level0)
{
    RedlaneLevel0Slot *slots = level0->slots;
    size_t size = level0->used ? level0->mask + 1 : 0;
    RedlaneNear *near = level0->near;

    if (near) {
        leave_keepers(level0);
    }
    level0->slots = &level0->none;
    level0->mask = level0->used = level0->hand = 0;
    for (size_t i = 0; i < size; i++) {
        if (slots[i].item) {
            redlane_near_value_free(free_item(near, slots[i].item));
        }
    }
    if (slots != &level0->none) {
        PyMem_Free(slots);
    }
    if (near) {
        redlane_near_release(near);
    }
}

void
redlane_level0_free(RedlaneLevel0 *level0)
{
    redlane_level0_clear(level0);
    for (size_t i = 0; i < REDLANE_LEVEL0_SHAPES; i++) {
        Py_CLEAR(level0->shapes[i].kwnames);
    }
}
