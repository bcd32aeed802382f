/* RateLimiter: the type and its methods; limiter_decide.c decides. Lock: the GIL. */
#include "types/rate_limiter.h"

#include <stddef.h>
#include <structmember.h>

#include "py/errors.h"
#include "types/async_rate_limiter.h"
#include "types/call.h"
#include "types/limit_method.h"

static const struct {
    const char *name;
    RedlaneLimitKind kind;
} algorithms[] = {
    {"sliding-window", REDLANE_LIMIT_SLIDING}, {"fixed-window", REDLANE_LIMIT_FIXED},
    {"sliding-log", REDLANE_LIMIT_LOG},        {"moving-window", REDLANE_LIMIT_LOG},
    {"token-bucket", REDLANE_LIMIT_BUCKET},    {"gcra", REDLANE_LIMIT_BUCKET},
};

static const char *const on_errors[] = {
    [REDLANE_LIMITER_MEMORY] = "memory",
    [REDLANE_LIMITER_ALLOW] = "allow",
    [REDLANE_LIMITER_DENY] = "deny",
};

static bool
is_text(PyObject *object, const char *text)
{
    return PyUnicode_Check(object) &&
           PyUnicode_CompareWithASCIIString(object, text) == 0;
}

/* Before there is an object: an error shows what was given, which runs its code, and
 * that could find one that is not ready. RAISES_NEG */
static int
read_options(RedlaneState *state, PyObject *algorithm, PyObject *on_error,
             RedlaneLimitKind *kind, RedlaneLimiterOnError *chosen)
{
    size_t known = sizeof(algorithms) / sizeof(algorithms[0]), i, action;

    for (i = 0; i < known && !(algorithm && is_text(algorithm, algorithms[i].name));
         i++) {
    }
    if (algorithm && i == known) {
        PyErr_Format(state->ConfigurationError,
                     "algorithm must be 'sliding-window', 'fixed-window', "
                     "'sliding-log', 'moving-window', 'token-bucket' or 'gcra', not %R",
                     algorithm);
        return -1;
    }
    *kind = algorithm ? algorithms[i].kind : REDLANE_LIMIT_SLIDING;
    if (!on_error) {
        return 0;
    }
    for (action = 0; action <= REDLANE_LIMITER_DENY; action++) {
        if (is_text(on_error, on_errors[action])) {
            *chosen = (RedlaneLimiterOnError)action;
            return 0;
        }
    }
    PyErr_Format(state->ConfigurationError,
                 "on_error must be 'memory', 'allow' or 'deny', not %R", on_error);
    return -1;
}

/* What keys begin with. A prefix that is given makes a fixed window's keys readable.
 * RAISES_NEG */
static int
read_prefix(RedlaneRateLimiter *self, PyObject *prefix)
{
    bool given = prefix && prefix != Py_None;
    const char *text;
    Py_ssize_t size;

    self->prefix = given ? Py_NewRef(prefix) : PyUnicode_FromString("limit");
    if (!self->prefix) {
        return -1;
    }
    if (!PyUnicode_Check(self->prefix)) {
        PyErr_Format(PyExc_TypeError, "prefix must be a str or None, not %.100s",
                     Py_TYPE(prefix)->tp_name);
        return -1;
    }
    text = PyUnicode_AsUTF8AndSize(self->prefix, &size);
    if (!text) {
        return -1;
    }
    if (size == 0 || size > REDLANE_LIMITER_PREFIX_MAX) {
        PyErr_SetString(self->state->ConfigurationError,
                        "prefix must have 1 to 256 bytes");
        return -1;
    }
    self->readable = given && self->kind == REDLANE_LIMIT_FIXED;
    memcpy(self->head, text, (size_t)size);
    self->head_size = (size_t)size;
    self->head[self->head_size++] = ':';
    if (!self->readable) {
        self->head[self->head_size++] = '{';
    }
    return 0;
}

/* How much is taken in advance. Only where what is charged counts in whole windows does
 * it not matter when in the window it is spent. RAISES_NEG */
static int
read_batch(RedlaneRateLimiter *self, PyObject *batch)
{
    int overflow = 0;

    if (batch == Py_None) {
        return 0;
    }
    if (!PyLong_Check(batch) || PyBool_Check(batch)) {
        PyErr_Format(PyExc_TypeError, "batch must be an int or None, not %.100s",
                     Py_TYPE(batch)->tp_name);
        return -1;
    }
    self->batch = PyLong_AsLongLongAndOverflow(batch, &overflow);
    if (overflow || self->batch < 2 || self->batch > REDLANE_AHEAD_MAX) {
        PyErr_SetString(self->state->ConfigurationError, "batch must be 2 to 1000000");
        return -1;
    }
    if (self->kind != REDLANE_LIMIT_SLIDING && self->kind != REDLANE_LIMIT_FIXED) {
        PyErr_Format(self->state->ConfigurationError,
                     "batch is for 'sliding-window' and 'fixed-window': with '%U' more "
                     "could pass at once than the limit says",
                     self->algorithm);
        return -1;
    }
    return 0;
}

/* RateLimiter(client=None, algorithm="sliding-window", on_error="memory", *,
 * prefix=None, hashed=False, batch=None) */
static PyObject *
rate_limiter_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"client", "algorithm", "on_error", "prefix",
                            "hashed", "batch",     NULL};
    PyObject *client = Py_None, *algorithm = NULL, *on_error = NULL, *prefix = NULL;
    PyObject *batch = Py_None;
    RedlaneState *state = redlane_state_of_type(type);
    RedlaneLimiterOnError action = REDLANE_LIMITER_MEMORY;
    RedlaneLimitKind kind;
    RedlaneRateLimiter *self;
    int hashed = 0;

    if (!state ||
        !PyArg_ParseTupleAndKeywords(args, kwargs, "|OOO$OpO:RateLimiter", names,
                                     &client, &algorithm, &on_error, &prefix, &hashed,
                                     &batch) ||
        read_options(state, algorithm, on_error, &kind, &action) < 0) {
        return NULL;
    }
    self = (RedlaneRateLimiter *)type->tp_alloc(type, 0);
    if (!self) {
        return NULL;
    }
    self->state = state;
    self->kind = kind;
    self->on_error = action;
    self->hashed = hashed != 0;
    self->algorithm =
        algorithm ? Py_NewRef(algorithm) : PyUnicode_FromString("sliding-window");
    if (!self->algorithm || read_prefix(self, prefix) < 0 ||
        read_batch(self, batch) < 0 ||
        redlane_tool_init(&self->tool, state, client,
                          self->on_error == REDLANE_LIMITER_MEMORY
                              ? REDLANE_POLICY_MEMORY
                              : REDLANE_POLICY_NONE) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static int
rate_limiter_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    RedlaneRateLimiter *limiter = (RedlaneRateLimiter *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(limiter->algorithm); /* one of a subclass of str may lead back here */
    Py_VISIT(limiter->prefix);
    return redlane_tool_traverse(&limiter->tool, visit, arg);
}

/* A client breaks any cycle, and finalisers may still ask. */
static int
rate_limiter_tp_clear(PyObject *Py_UNUSED(self))
{
    return 0;
}

static void
rate_limiter_tp_dealloc(PyObject *object)
{
    RedlaneRateLimiter *self = (RedlaneRateLimiter *)object;
    PyTypeObject *type = Py_TYPE(object);

    PyObject_GC_UnTrack(object);
    if (self->weakrefs) {
        PyObject_ClearWeakRefs(object);
    }
    if (self->state) {
        redlane_tool_clear(&self->tool);
    }
    if (self->blocked) {
        redlane_limit_notes_clear(self->blocked);
        PyMem_Free(self->blocked);
    }
    redlane_limiter_free_ahead(self);
    redlane_rates_forget(&self->rates);
    Py_CLEAR(self->algorithm);
    Py_CLEAR(self->prefix);
    type->tp_free(object);
    Py_DECREF(type);
}

/* --- methods -----------------------------------------------------------------------
 */

typedef struct {
    RedlaneIdentity identity;
    RedlaneRates *rates;
    int64_t cost;
} Target;

/* RAISES_NEG */
static int
read_cost(PyObject *object, const RedlaneRates *rates, int64_t *cost)
{
    int overflow = 0;
    long long number;

    if (!PyLong_Check(object) || PyBool_Check(object)) {
        PyErr_Format(PyExc_TypeError, "cost must be an int, not %.100s",
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    number = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (overflow < 0 || (!overflow && number < 1)) {
        PyErr_SetString(PyExc_ValueError, "cost must be 1 or more");
        return -1;
    }
    if (overflow || number > rates->most) {
        PyErr_Format(PyExc_ValueError,
                     "cost is more than the limit ever admits at once: %lld",
                     (long long)rates->most);
        return -1;
    }
    *cost = number;
    return 0;
}

/* identity, rates and (unless `call` has two names) cost. On 0, rates are to be
 * released. RAISES_NEG */
static int
read_target(RedlaneRateLimiter *self, const RedlaneCall *call, PyObject *const *args,
            Py_ssize_t nargs, PyObject *kwnames, Target *target)
{
    PyObject *values[3] = {NULL, NULL, NULL};

    if (likely(nargs == 2 && !kwnames)) {
        values[0] = args[0];
        values[1] = args[1];
    }
    else if (redlane_call_parse(call, args, nargs, kwnames, values) < 0) {
        return -1;
    }
    target->cost = 1;
    target->rates = redlane_rates_of(self->state, &self->rates, self->kind,
                                     self->readable, values[1]);
    if (!target->rates) {
        return -1;
    }
    if ((values[2] && read_cost(values[2], target->rates, &target->cost) < 0) ||
        redlane_limiter_identity(self, values[0], &target->identity) < 0) {
        redlane_rates_release(target->rates);
        return -1;
    }
    return 0;
}

static const char *const call_names[] = {"identity", "rates", "cost", NULL};
static const char *const reset_names[] = {"identity", "rates", NULL};

static PyObject *
decide(PyObject *object, char mode, const RedlaneCall *call, PyObject *const *args,
       Py_ssize_t nargs, PyObject *kwnames)
{
    RedlaneRateLimiter *self = (RedlaneRateLimiter *)object;
    PyObject *decision;
    Target target;

    if (read_target(self, call, args, nargs, kwnames, &target) < 0) {
        return NULL;
    }
    decision =
        redlane_limiter_decide(self, mode, &target.identity, target.rates, target.cost);
    redlane_rates_release(target.rates);
    return decision;
}

/* NULL, without an exception unless that is an interruption: what is wrong, the call
 * that waits says when it is awaited. */
static PyObject *
put_off(void)
{
    if (PyErr_Occurred() && !redlane_errors_is_interruption()) {
        PyErr_Clear();
    }
    return NULL;
}

static PyObject *
decide_here(PyObject *object, char mode, const RedlaneCall *call, PyObject *const *args,
            Py_ssize_t nargs, PyObject *kwnames)
{
    RedlaneRateLimiter *self = (RedlaneRateLimiter *)object;
    PyObject *decision;
    Target target;

    if (read_target(self, call, args, nargs, kwnames, &target) < 0) {
        return put_off();
    }
    decision = redlane_limiter_decide_here(self, mode, &target.identity, target.rates,
                                           target.cost);
    redlane_rates_release(target.rates);
    return decision ? decision : put_off();
}

static const RedlaneCall hit_call = {"hit", call_names, 2, 3};
static const RedlaneCall peek_call = {"peek", call_names, 2, 3};
static const RedlaneCall refund_call = {"refund", call_names, 2, 3};

PyObject *
redlane_rate_limiter_hit_here(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                              PyObject *kwnames)
{
    return decide_here(self, 'h', &hit_call, args, nargs, kwnames);
}

PyObject *
redlane_rate_limiter_peek_here(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                               PyObject *kwnames)
{
    return decide_here(self, 'p', &peek_call, args, nargs, kwnames);
}

PyObject *
redlane_rate_limiter_refund_here(PyObject *self, PyObject *const *args,
                                 Py_ssize_t nargs, PyObject *kwnames)
{
    return decide_here(self, 'r', &refund_call, args, nargs, kwnames);
}

PyDoc_STRVAR(
    hit_doc,
    "hit($self, /, identity, rates, cost=1)\n--\n\n"
    "Charges a request to all of the rates where every one has room, else to none.\n\n"
    "Args:\n"
    "    identity: str, bytes or int: whose request it is.\n"
    "    rates: a text such as ``\"100/minute;1000/hour\"`` or ``\"10/second burst\n"
    "        20\"``, a tuple ``(count, seconds)`` or ``(count, seconds, burst)``, or "
    "a\n"
    "        list of either; eight at most.\n"
    "    cost: int, 1 or more.\n\n"
    "Returns:\n"
    "    Decision\n\n"
    "Raises:\n"
    "    ConfigurationError: what ``rates`` says is no rate.\n"
    "    ValueError: no limit ever admits that cost; the identity is empty.");

static PyObject *
rate_limiter_hit(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    return decide(self, 'h', &hit_call, args, nargs, kwnames);
}

PyDoc_STRVAR(peek_doc, "peek($self, /, identity, rates, cost=1)\n--\n\n"
                       "What :meth:`hit` would say now; nothing is charged.");

static PyObject *
rate_limiter_peek(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames)
{
    return decide(self, 'p', &peek_call, args, nargs, kwnames);
}

PyDoc_STRVAR(refund_doc,
             "refund($self, /, identity, rates, cost=1)\n--\n\n"
             "Gives back what a hit charged, the newest first, as far as it is still\n"
             "there.\n\n"
             "Returns:\n"
             "    Decision: what :meth:`peek` says then.");

static PyObject *
rate_limiter_refund(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *kwnames)
{
    return decide(self, 'r', &refund_call, args, nargs, kwnames);
}

PyDoc_STRVAR(reset_doc, "reset($self, /, identity, rates)\n--\n\n"
                        "Forgets what an identity has used of these rates.\n\n"
                        "Returns:\n"
                        "    bool: whether there was anything.");

static PyObject *
rate_limiter_reset(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames)
{
    static const RedlaneCall call = {"reset", reset_names, 2, 2};
    RedlaneRateLimiter *self = (RedlaneRateLimiter *)object;
    Target target;
    int found;

    if (read_target(self, &call, args, nargs, kwnames, &target) < 0) {
        return NULL;
    }
    found = redlane_limiter_reset(self, &target.identity, target.rates);
    redlane_rates_release(target.rates);
    return found < 0 ? NULL : PyBool_FromLong(found);
}

PyDoc_STRVAR(
    stats_doc,
    "stats($self, /)\n--\n\n"
    "What hits came to in this process.\n\n"
    "Returns:\n"
    "    dict: ``allowed``, ``refused``, ``remembered`` (those of the refused\n"
    "    that cost no round trip), ``ahead`` (those of the allowed that cost none:\n"
    "    see ``batch``), ``away`` (decided by ``on_error``, the server being away)\n"
    "    and ``errors`` (hits that raised).");

static PyObject *
rate_limiter_stats(PyObject *object, PyObject *Py_UNUSED(unused))
{
    const RedlaneRateLimiter *self = (RedlaneRateLimiter *)object;

    return Py_BuildValue("{sKsKsKsKsKsK}", "allowed", self->counts.allowed, "refused",
                         self->counts.refused, "remembered", self->counts.remembered,
                         "ahead", self->counts.ahead, "away", self->counts.away,
                         "errors", self->counts.errors);
}

static PyObject *
rate_limiter_get_on_error(PyObject *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(on_errors[((RedlaneRateLimiter *)self)->on_error]);
}

static PyObject *
rate_limiter_get_batch(PyObject *self, void *Py_UNUSED(closure))
{
    int64_t batch = ((RedlaneRateLimiter *)self)->batch;

    return batch ? PyLong_FromLongLong(batch) : Py_NewRef(Py_None);
}

static PyObject *
rate_limiter_get_aio(PyObject *self, void *Py_UNUSED(closure))
{
    return redlane_async_rate_limiter_of(((RedlaneRateLimiter *)self)->state, self);
}

/* Nothing of who was limited. */
static PyObject *
rate_limiter_tp_repr(PyObject *self)
{
    RedlaneRateLimiter *limiter = (RedlaneRateLimiter *)self;

    return PyUnicode_FromFormat("<%s %U prefix=%R on_error='%s'>",
                                Py_TYPE(self)->tp_name, limiter->algorithm,
                                limiter->prefix, on_errors[limiter->on_error]);
}

PyDoc_STRVAR(
    rate_limiter_doc,
    "RateLimiter(client=None, algorithm=\"sliding-window\", on_error=\"memory\", *, "
    "prefix=None, hashed=False, batch=None)\n--\n\n"
    "Limits how often something may happen, for each identity.\n\n"
    "Args:\n"
    "    client: a Client, a URL, or None for the default client.\n"
    "    algorithm: \"sliding-window\" (two counters), \"fixed-window\",\n"
    "        \"sliding-log\" (exact; alias \"moving-window\"), \"token-bucket\" or\n"
    "        \"gcra\" (the same arithmetic).\n"
    "    on_error: who decides while the server is away: \"memory\", this process\n"
    "        alone; or \"allow\" or \"deny\", always.\n"
    "    prefix: of its keys; for fixed windows they are then\n"
    "        ``{prefix}:{identity}:{unix_seconds // window}``.\n"
    "    hashed: identities stand in keys, and in logs, as their SHA-256.\n"
    "    batch: so many hits (2 to 1,000,000) of an identity that hits often are\n"
    "        taken from the server in one round trip, at most, and spent within a\n"
    "        second; sliding and fixed windows only.");

#define METHOD(name, doc)                                     \
    {#name, (PyCFunction)(void (*)(void))rate_limiter_##name, \
     METH_FASTCALL | METH_KEYWORDS, doc}

int
redlane_rate_limiter_setup(PyObject *module)
{
    static PyMethodDef methods[] = {
        METHOD(hit, hit_doc),
        METHOD(peek, peek_doc),
        METHOD(refund, refund_doc),
        METHOD(reset, reset_doc),
        {"stats", rate_limiter_stats, METH_NOARGS, stats_doc},
        {NULL, NULL, 0, NULL},
    };
    static PyMemberDef members[] = {
        {"__weaklistoffset__", T_PYSSIZET, offsetof(RedlaneRateLimiter, weakrefs),
         READONLY, NULL},
        {"algorithm", T_OBJECT_EX, offsetof(RedlaneRateLimiter, algorithm), READONLY,
         "The name of the algorithm, as it was given."},
        {"prefix", T_OBJECT_EX, offsetof(RedlaneRateLimiter, prefix), READONLY,
         "What its keys begin with."},
        {NULL, 0, 0, 0, NULL},
    };
    static PyGetSetDef getset[] = {
        {"on_error", rate_limiter_get_on_error, NULL,
         "Who decides while the server is away.", NULL},
        {"batch", rate_limiter_get_batch, NULL,
         "How many hits are taken in one round trip, at most, or None.", NULL},
        {"aio", rate_limiter_get_aio, NULL, "The AsyncRateLimiter of the same limits.",
         NULL},
        {NULL, NULL, NULL, NULL, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_doc, (void *)rate_limiter_doc},
        {Py_tp_new, rate_limiter_tp_new},
        {Py_tp_traverse, rate_limiter_tp_traverse},
        {Py_tp_clear, rate_limiter_tp_clear},
        {Py_tp_dealloc, rate_limiter_tp_dealloc},
        {Py_tp_repr, rate_limiter_tp_repr},
        {Py_tp_methods, methods},
        {Py_tp_members, members},
        {Py_tp_getset, getset},
        {0, NULL},
    };
    static PyType_Spec spec = {
        .name = "redlane.RateLimiter",
        .basicsize = sizeof(RedlaneRateLimiter),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
        .slots = slots,
    };
    RedlaneState *state = redlane_state_of_module(module);
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);

    if (redlane_state_add(module, &state->RateLimiterType, "RateLimiter", type) < 0) {
        return -1;
    }
    return redlane_limit_method_add(module, type);
}
