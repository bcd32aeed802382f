/* The options of a cached function that act on what is stored: for how long, whether at
 * all, and which exceptions. Lock: the GIL. */
#include "core/clock.h"
#include "core/hash.h"
#include "py/args.h"
#include "py/errors.h"
#include "py/state.h"
#include "types/cached_function.h"

static int
take_callable(PyObject *given, const char *name, PyObject **slot)
{
    if (given && !PyCallable_Check(given)) {
        PyErr_Format(PyExc_TypeError, "%s must be callable", name);
        return -1;
    }
    *slot = Py_XNewRef(given);
    return 0;
}

static int
take_ttl(RedlaneCachedFunction *self, PyObject *ttl)
{
    self->ttl_ms = self->cache->ttl_ms;
    if (ttl && PyCallable_Check(ttl)) {
        self->ttl_of = Py_NewRef(ttl);
        return 0;
    }
    return ttl ? redlane_args_ttl_ms(ttl, "ttl", &self->ttl_ms) : 0;
}

static int
take_jitter(RedlaneCachedFunction *self, PyObject *jitter)
{
    RedlaneSeed seed;

    if (!jitter) {
        return 0;
    }
    if (PyBool_Check(jitter) || !(PyFloat_Check(jitter) || PyLong_Check(jitter))) {
        PyErr_Format(PyExc_TypeError, "jitter must be a number, not %.100s",
                     Py_TYPE(jitter)->tp_name);
        return -1;
    }
    self->jitter = PyFloat_AsDouble(jitter);
    if (PyErr_Occurred()) {
        return -1;
    }
    if (!(self->jitter >= 0 && self->jitter < 1)) {
        PyErr_SetString(PyExc_ValueError,
                        "jitter must be a fraction of the TTL: from 0 to less than 1");
        return -1;
    }
    redlane_hash_seed(&seed);
    self->random = seed.words[0];
    return 0;
}

static int
take_timeouts(RedlaneCachedFunction *self, const RedlaneFunctionOptions *options)
{
    if ((options->soft &&
         redlane_args_ttl_ms(options->soft, "soft_timeout", &self->soft_ms) < 0) ||
        (options->hard &&
         redlane_args_ttl_ms(options->hard, "hard_timeout", &self->hard_ms) < 0)) {
        return -1;
    }
    if (self->soft_ms && self->hard_ms && self->soft_ms >= self->hard_ms) {
        PyErr_SetString(PyExc_ValueError, "soft_timeout must be below hard_timeout");
        return -1;
    }
    return 0;
}

int
redlane_function_import(PyObject **slot, const char *module_name, const char *name)
{
    PyObject *module;

    if (*slot) {
        return 0;
    }
    module = PyImport_ImportModule(module_name);
    if (module) {
        PyObject *found = PyObject_GetAttrString(module, name);

        Py_XSETREF(*slot, found);
        Py_DECREF(module);
    }
    return *slot ? 0 : -1;
}

static bool
is_exception_class(PyObject *object)
{
    return PyType_Check(object) &&
           PyType_IsSubtype((PyTypeObject *)object, (PyTypeObject *)PyExc_Exception);
}

/* The (exception, TTL) pairs of a dict of our own. RAISES_NEG */
static int
take_items(RedlaneCachedFunction *self, PyObject *items)
{
    Py_ssize_t count = PyList_GET_SIZE(items);

    self->failures = PyTuple_New(count);
    self->failure_ms = PyMem_New(int64_t, (size_t)count + 1);
    if (!self->failures || !self->failure_ms) {
        (void)PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PyList_GET_ITEM(items, i);
        PyObject *type = PyTuple_GET_ITEM(item, 0);

        if (!is_exception_class(type)) {
            PyErr_Format(PyExc_TypeError,
                         "cache_exceptions: %R is no class of exceptions", type);
            return -1;
        }
        PyTuple_SET_ITEM(self->failures, i, Py_NewRef(type));
        if (redlane_args_ttl_ms(PyTuple_GET_ITEM(item, 1), "cache_exceptions: the TTL",
                                &self->failure_ms[i]) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
take_exceptions(RedlaneCachedFunction *self, PyObject *exceptions)
{
    PyObject *copy, *items = NULL;
    int result = -1;

    if (!exceptions) {
        return 0;
    }
    copy = PyDict_New();
    if (copy && PyDict_Update(copy, exceptions) == 0) {
        items = PyDict_Items(copy);
    }
    else if (PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Format(PyExc_TypeError,
                     "cache_exceptions must be a mapping of exception classes to their "
                     "TTLs, not %.100s",
                     Py_TYPE(exceptions)->tp_name);
    }
    if (items) {
        result = take_items(self, items);
        Py_DECREF(items);
    }
    Py_XDECREF(copy);
    if (result < 0) {
        return -1;
    }
    if (redlane_function_import(&self->state->dump_exception, "redlane._exceptions",
                                "dump_exception") < 0) {
        return -1;
    }
    return redlane_function_import(&self->state->load_exception, "redlane._exceptions",
                                   "load_exception");
}

int
redlane_function_options_init(RedlaneCachedFunction *self,
                              const RedlaneFunctionOptions *options)
{
    if (take_ttl(self, options->ttl) < 0 || take_jitter(self, options->jitter) < 0 ||
        take_callable(options->condition, "condition", &self->condition) < 0 ||
        take_callable(options->unless, "unless", &self->unless) < 0 ||
        take_timeouts(self, options) < 0 ||
        take_exceptions(self, options->exceptions) < 0 ||
        redlane_function_fresh_init(self, options) < 0) {
        return -1;
    }
    if (options->tags) {
        self->tags = redlane_tag_templates_new(&self->signature, options->tags);
        if (!self->tags) {
            return -1;
        }
    }
    self->hooked =
        self->condition || self->ttl_of || self->jitter > 0 || self->failures;
    if (self->hard_ms == 0) {
        return 0;
    }
    return self->awaits ? redlane_function_import(&self->state->call_limited_task,
                                                  "redlane._tasks", "call_limited_task")
                        : redlane_function_import(&self->state->call_limited,
                                                  "redlane._workers", "call_limited");
}

void
redlane_function_options_clear(RedlaneCachedFunction *self)
{
    Py_CLEAR(self->condition);
    Py_CLEAR(self->unless);
    Py_CLEAR(self->ttl_of);
    Py_CLEAR(self->failures);
    Py_CLEAR(self->tags);
    PyMem_Free(self->failure_ms);
    self->failure_ms = NULL;
}

/* A number from 0 to less than 1. The clock is in it, so that processes forked from one
 * draw differently. */
static double
draw_fraction(RedlaneCachedFunction *self)
{
    uint64_t mixed = self->random +=
        UINT64_C(0x9e3779b97f4a7c15) ^ (uint64_t)redlane_clock_now();

    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9); /* splitmix64 */
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
    return (double)((mixed ^ mixed >> 31) >> 11) * 0x1p-53;
}

/* A TTL with some of it taken off. */
static int64_t
shake_ttl(RedlaneCachedFunction *self, int64_t ttl_ms)
{
    int64_t less;

    if (self->jitter == 0 || ttl_ms == 0) {
        return ttl_ms;
    }
    less = (int64_t)((double)ttl_ms * self->jitter * draw_fraction(self));
    return less < ttl_ms ? ttl_ms - less : 1;
}

/* A text that was made from a result is not shown, should it be no period. */
static void
hide_text(void)
{
    if (PyErr_ExceptionMatches(PyExc_ValueError)) {
        PyErr_Clear();
        PyErr_SetString(PyExc_ValueError,
                        "what the callable of ttl= returns is no period such as '10m'");
    }
}

/* The TTL that a result is given: by the callable, if there is one. RAISES_NEG */
static int
find_ttl(RedlaneCachedFunction *self, PyObject *value, int64_t *ttl_ms)
{
    PyObject *ttl;
    int result = 0;

    *ttl_ms = self->ttl_ms;
    if (self->ttl_of) {
        ttl = PyObject_CallOneArg(self->ttl_of, value);
        if (!ttl) {
            return -1;
        }
        if (ttl != Py_None) {
            result =
                redlane_args_ttl_ms(ttl, "what the callable of ttl= returns", ttl_ms);
            if (result < 0 && PyUnicode_Check(ttl)) {
                hide_text();
            }
        }
        Py_DECREF(ttl);
    }
    *ttl_ms = shake_ttl(self, *ttl_ms);
    return result;
}

/* RedlaneFill.keep. The fill is the call's own, so its TTL may change here. */
static int
keep_result(void *context, PyObject *value)
{
    RedlaneFunctionCall *call = context;
    RedlaneCachedFunction *self = call->self;
    PyObject *answer;
    int result = 1;

    if (self->condition) {
        answer = PyObject_CallOneArg(self->condition, value);
        result = answer ? PyObject_IsTrue(answer) : -1;
        Py_XDECREF(answer);
    }
    if (result == 1 && find_ttl(self, value, &call->fill.ttl_ms) < 0) {
        return -1;
    }
    return result;
}

/* RedlaneFill.fail: the exception is kept as it is set. */
static PyObject *
keep_failure(void *context, int64_t *ttl_ms)
{
    RedlaneCachedFunction *self = ((RedlaneFunctionCall *)context)->self;
    PyObject *type, *error, *traceback, *data = NULL;

    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self->failures); i++) {
        if (PyErr_GivenExceptionMatches(type, PyTuple_GET_ITEM(self->failures, i))) {
            *ttl_ms = shake_ttl(self, self->failure_ms[i]);
            data = PyObject_CallOneArg(self->state->dump_exception, error);
            break;
        }
    }
    if (data == Py_None) {
        Py_CLEAR(data);
    }
    redlane_errors_restore(type, error, traceback); /* else it is not cached */
    return data;
}

/* RedlaneFill.raise: -1 with the stored exception set, 0 where it cannot be read. */
static int
raise_stored(void *context, PyObject *stored)
{
    RedlaneCachedFunction *self = ((RedlaneFunctionCall *)context)->self;
    PyObject *error = PyObject_CallFunctionObjArgs(self->state->load_exception, stored,
                                                   self->failures, NULL);

    if (!error) {
        return -1;
    }
    if (error != Py_None) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    }
    Py_DECREF(error);
    return PyErr_Occurred() ? -1 : 0;
}

void
redlane_function_options_hook(RedlaneFunctionCall *call)
{
    RedlaneCachedFunction *self = call->self;

    if (self->condition || self->ttl_of || self->jitter > 0) {
        call->fill.keep = keep_result;
    }
    if (self->failures) {
        call->fill.fail = keep_failure;
        call->fill.raise = raise_stored;
    }
}
