/* Decision. Lock: the GIL. */
#include "types/decision.h"

#include <structmember.h>

#include "core/clock.h"
#include "core/number.h"

#define KEPT 16 /* objects for the next ones */
#define US_PER_S 1e6
#define WHOLE_US_PER_S INT64_C(1000000)
#define NS_PER_US 1000
/* '"{limit}-in-{window}s";q={limit};w={window}, ' is the longer one of what a limit has
 * in a field. */
#define PART_TEXT (4 * REDLANE_INT64_TEXT + 16)
#define FIELDS 6

typedef struct {
    int64_t limit, window, remaining, reset, retry;
} Part;

typedef struct {
    PyObject_HEAD
    RedlaneState *state; /* BORROWED */
    size_t count;
    size_t tightest; /* index of the part that the whole speaks of */
    Part parts[REDLANE_LIMITS_MAX];
} Decision;

struct RedlaneDecisionsKept {
    size_t count;
    Decision *objects[KEPT];
};

static Decision *
take_object(RedlaneState *state)
{
    PyTypeObject *type = (PyTypeObject *)state->DecisionType;
    struct RedlaneDecisionsKept *kept = state->decisions;
    Decision *self;

    if (likely(kept && kept->count)) {
        self = kept->objects[--kept->count];
        (void)PyObject_Init((PyObject *)self, type);
        return self;
    }
    return PyObject_New(Decision, type);
}

static void
decision_tp_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    struct RedlaneDecisionsKept *kept = ((Decision *)self)->state->decisions;

    if (kept && kept->count < KEPT) {
        kept->objects[kept->count++] = (Decision *)self;
    }
    else {
        PyObject_Free(self);
    }
    Py_DECREF(type);
}

void
redlane_decision_free_kept(RedlaneState *state)
{
    struct RedlaneDecisionsKept *kept = state->decisions;

    state->decisions = NULL;
    while (kept && kept->count) {
        PyObject_Free(kept->objects[--kept->count]);
    }
    PyMem_Free(kept);
}

static int64_t
less(int64_t time, int64_t passed)
{
    return time > passed ? time - passed : 0;
}

/* True where `part` says more than `other`: it blocks longer, or leaves less. */
static bool
is_tighter(const Part *part, const Part *other)
{
    return part->retry != other->retry ? part->retry > other->retry
                                       : part->remaining < other->remaining;
}

PyObject *
redlane_decision_new(RedlaneState *state, const RedlaneLimit *limits,
                     const RedlaneLimitAnswer *answers, size_t count, int64_t passed)
{
    Decision *self = take_object(state);

    if (!self) {
        return NULL;
    }
    self->state = state;
    self->count = count;
    self->tightest = 0;
    for (size_t i = 0; i < count; i++) {
        int64_t retry = answers[i].retry;

        self->parts[i] = (Part){
            .limit = limits[i].count,
            .window = limits[i].window,
            .remaining = answers[i].remaining,
            .reset = less(answers[i].reset, passed),
            .retry = retry ? less(retry - 1, passed) + 1 : 0, /* it stays refused */
        };
        if (i && is_tighter(&self->parts[i], &self->parts[self->tightest])) {
            self->tightest = i;
        }
    }
    return (PyObject *)self;
}

static const Part *
tightest_of(PyObject *self)
{
    return &((Decision *)self)->parts[((Decision *)self)->tightest];
}

static bool
is_allowed(PyObject *self)
{
    return tightest_of(self)->retry == 0; /* it is the one that blocks longest */
}

static int
decision_nb_bool(PyObject *self)
{
    return is_allowed(self);
}

static PyObject *
decision_get_allowed(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(is_allowed(self));
}

static PyObject *
decision_get_limit(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLongLong(tightest_of(self)->limit);
}

static PyObject *
decision_get_remaining(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLongLong(tightest_of(self)->remaining);
}

static PyObject *
seconds(int64_t microseconds)
{
    return PyFloat_FromDouble((double)microseconds / US_PER_S);
}

static PyObject *
decision_get_reset_after(PyObject *self, void *Py_UNUSED(closure))
{
    return seconds(tightest_of(self)->reset);
}

static PyObject *
decision_get_retry_after(PyObject *self, void *Py_UNUSED(closure))
{
    return seconds(tightest_of(self)->retry);
}

static PyObject *
make_status(const Decision *self, const Part *part)
{
    PyObject *status =
        PyStructSequence_New((PyTypeObject *)self->state->LimitStatusType);
    PyObject *items[6];
    bool failed = false;

    if (!status) {
        return NULL;
    }
    items[0] = PyLong_FromLongLong(part->limit);
    items[1] = PyLong_FromLongLong(part->window / 1000000);
    items[2] = PyLong_FromLongLong(part->remaining);
    items[3] = seconds(part->reset);
    items[4] = seconds(part->retry);
    items[5] = PyBool_FromLong(part->retry == 0);
    for (Py_ssize_t i = 0; i < 6; i++) {
        failed = failed || !items[i];
        PyStructSequence_SetItem(status, i, items[i]);
    }
    if (failed) {
        Py_CLEAR(status);
    }
    return status;
}

static PyObject *
decision_get_limits(PyObject *self, void *Py_UNUSED(closure))
{
    const Decision *decision = (Decision *)self;
    PyObject *all = PyTuple_New((Py_ssize_t)decision->count);

    for (size_t i = 0; all && i < decision->count; i++) {
        PyObject *status = make_status(decision, &decision->parts[i]);

        if (!status) {
            Py_CLEAR(all);
            break;
        }
        PyTuple_SET_ITEM(all, (Py_ssize_t)i, status);
    }
    return all;
}

/* --- fields of a response -----------------------------------------------------------
 */

/* What a response says of a decision, in this order; the last one of a refusal only.
 * RateLimit and its policy: draft-ietf-httpapi-ratelimit-headers-11. */
static const struct {
    const char *name, *raw; /* raw: as ASGI has it */
} fields[FIELDS] = {
    {"X-RateLimit-Limit", "x-ratelimit-limit"},
    {"X-RateLimit-Remaining", "x-ratelimit-remaining"},
    {"X-RateLimit-Reset", "x-ratelimit-reset"},
    {"RateLimit-Policy", "ratelimit-policy"},
    {"RateLimit", "ratelimit"},
    {"Retry-After", "retry-after"},
};

typedef struct {
    char data[REDLANE_LIMITS_MAX * PART_TEXT];
    size_t size;
} Text;

static void
add_text(Text *text, const char *added)
{
    size_t size = strlen(added);

    memcpy(text->data + text->size, added, size);
    text->size += size;
}

static void
add_number(Text *text, int64_t number)
{
    text->size += redlane_number_format_int64(text->data + text->size, number);
}

/* Whole seconds, never too early. */
static int64_t
whole_seconds(int64_t microseconds)
{
    return microseconds / WHOLE_US_PER_S + (microseconds % WHOLE_US_PER_S > 0);
}

static int64_t
at_least_one(int64_t number)
{
    return number > 1 ? number : 1;
}

/* The name of a limit, which its policy and its state begin with. */
static void
add_name(Text *text, const Part *part)
{
    add_text(text, text->size ? ", \"" : "\"");
    add_number(text, part->limit);
    add_text(text, "-in-");
    add_number(text, at_least_one(part->window / WHOLE_US_PER_S));
    add_text(text, "s\";");
}

static void
write_policy(const Decision *self, Text *text)
{
    for (size_t i = 0; i < self->count; i++) {
        add_name(text, &self->parts[i]);
        add_text(text, "q=");
        add_number(text, self->parts[i].limit);
        add_text(text, ";w=");
        add_number(text, at_least_one(self->parts[i].window / WHOLE_US_PER_S));
    }
}

static void
write_states(const Decision *self, Text *text)
{
    for (size_t i = 0; i < self->count; i++) {
        add_name(text, &self->parts[i]);
        add_text(text, "r=");
        add_number(text, self->parts[i].remaining);
        add_text(text, ";t=");
        add_number(text, whole_seconds(self->parts[i].reset));
    }
}

static void
write_field(const Decision *self, size_t which, Text *text)
{
    const Part *part = &self->parts[self->tightest];
    int64_t now;

    text->size = 0;
    switch (which) {
    case 0:
        add_number(text, part->limit);
        break;
    case 1:
        add_number(text, part->remaining);
        break;
    case 2:
        now = redlane_clock_read(CLOCK_REALTIME) / NS_PER_US;
        add_number(text, whole_seconds(now + part->reset));
        break;
    case 3:
        write_policy(self, text);
        break;
    case 4:
        write_states(self, text);
        break;
    default:
        add_number(text, at_least_one(whole_seconds(part->retry)));
    }
}

/* Names as PyUnicode or, raw, PyBytes: a new tuple, or NULL. */
static PyObject *
make_names(bool raw)
{
    PyObject *names = PyTuple_New(FIELDS);

    for (Py_ssize_t i = 0; names && i < FIELDS; i++) {
        PyObject *name = raw ? PyBytes_FromString(fields[i].raw)
                             : PyUnicode_InternFromString(fields[i].name);

        if (!name) {
            Py_CLEAR(names);
            break;
        }
        PyTuple_SET_ITEM(names, i, name);
    }
    return names;
}

static PyObject *
make_fields(const Decision *self, PyObject *names, bool raw)
{
    Py_ssize_t count = is_allowed((PyObject *)self) ? FIELDS - 1 : FIELDS;
    PyObject *list = PyList_New(count);
    Text text;

    for (Py_ssize_t i = 0; list && i < count; i++) {
        PyObject *value, *pair;

        write_field(self, (size_t)i, &text);
        value = raw ? PyBytes_FromStringAndSize(text.data, (Py_ssize_t)text.size)
                    : PyUnicode_DecodeASCII(text.data, (Py_ssize_t)text.size, "strict");
        pair = value ? PyTuple_Pack(2, PyTuple_GET_ITEM(names, i), value) : NULL;
        Py_XDECREF(value);
        if (!pair) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, i, pair);
    }
    return list;
}

PyDoc_STRVAR(headers_doc,
             "headers($self, /)\n--\n\n"
             "What tells a client of it: X-RateLimit-Limit, -Remaining and -Reset,\n"
             "RateLimit-Policy, RateLimit, and Retry-After where it is refused.\n\n"
             "Returns:\n"
             "    list[tuple[str, str]]: names and values of a response's fields.");

static PyObject *
decision_headers(PyObject *self, PyObject *Py_UNUSED(unused))
{
    const Decision *decision = (Decision *)self;

    return make_fields(decision, decision->state->limit_names, false);
}

PyDoc_STRVAR(raw_headers_doc, "raw_headers($self, /)\n--\n\n"
                              "The same as ASGI has them.\n\n"
                              "Returns:\n"
                              "    list[tuple[bytes, bytes]]: names in lower case.");

static PyObject *
decision_raw_headers(PyObject *self, PyObject *Py_UNUSED(unused))
{
    const Decision *decision = (Decision *)self;

    return make_fields(decision, decision->state->limit_raw_names, true);
}

/* --- the type ------------------------------------------------------------------------
 */

static PyObject *
decision_tp_repr(PyObject *self)
{
    const Part *part = tightest_of(self);
    PyObject *reset = seconds(part->reset), *retry = seconds(part->retry), *text = NULL;

    if (reset && retry) {
        text = PyUnicode_FromFormat(
            "<Decision %s limit=%lld remaining=%lld reset_after=%R retry_after=%R>",
            is_allowed(self) ? "allowed" : "refused", (long long)part->limit,
            (long long)part->remaining, reset, retry);
    }
    Py_XDECREF(reset);
    Py_XDECREF(retry);
    return text;
}

PyDoc_STRVAR(decision_doc,
             "What a RateLimiter says; true where the request is allowed.\n\n"
             "``limit``, ``remaining``, ``reset_after`` and ``retry_after`` are of the "
             "tightest\n"
             "limit: the one that blocks longest, else the one that leaves least.");

/* RAISES_NEG */
static int
add_status(PyObject *module, RedlaneState *state)
{
    static PyStructSequence_Field fields[] = {
        {"limit", "So much is admitted ..."},
        {"window", "... in so many seconds."},
        {"remaining", "What is left of it now."},
        {"reset_after", "Seconds until nothing counts any more."},
        {"retry_after", "Seconds until the same cost is admitted; 0.0: now."},
        {"allowed", "Whether this limit had room."},
        {NULL, NULL},
    };
    static PyStructSequence_Desc description = {
        .name = "redlane.LimitStatus",
        .doc = "One limit of a Decision.",
        .fields = fields,
        .n_in_sequence = 6,
    };

    return redlane_state_add(module, &state->LimitStatusType, "LimitStatus",
                             (PyObject *)PyStructSequence_NewType(&description));
}

int
redlane_decision_setup(PyObject *module)
{
    static PyMethodDef methods[] = {
        {"headers", decision_headers, METH_NOARGS, headers_doc},
        {"raw_headers", decision_raw_headers, METH_NOARGS, raw_headers_doc},
        {NULL, NULL, 0, NULL},
    };
    static PyGetSetDef getset[] = {
        {"allowed", decision_get_allowed, NULL, "Whether every limit had room.", NULL},
        {"limit", decision_get_limit, NULL, "So much is admitted in a window.", NULL},
        {"remaining", decision_get_remaining, NULL, "What is left of it.", NULL},
        {"reset_after", decision_get_reset_after, NULL,
         "Seconds until nothing counts any more.", NULL},
        {"retry_after", decision_get_retry_after, NULL,
         "Seconds until the same cost is admitted; 0.0: now.", NULL},
        {"limits", decision_get_limits, NULL,
         "A LimitStatus for each limit, in the order given.", NULL},
        {NULL, NULL, NULL, NULL, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_doc, (void *)decision_doc},
        {Py_tp_dealloc, decision_tp_dealloc},
        {Py_tp_repr, decision_tp_repr},
        {Py_nb_bool, decision_nb_bool},
        {Py_tp_methods, methods},
        {Py_tp_getset, getset},
        {0, NULL},
    };
    static PyType_Spec spec = {
        .name = "redlane.Decision",
        .basicsize = sizeof(Decision),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION |
                 Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };
    RedlaneState *state = redlane_state_of_module(module);

    state->decisions = PyMem_Calloc(1, sizeof(*state->decisions));
    if (!state->decisions) {
        PyErr_NoMemory();
        return -1;
    }
    state->limit_names = make_names(false);
    state->limit_raw_names = make_names(true);
    if (!state->limit_names || !state->limit_raw_names ||
        add_status(module, state) < 0) {
        return -1;
    }
    return redlane_state_add(module, &state->DecisionType, "Decision",
                             PyType_FromModuleAndSpec(module, &spec, NULL));
}
