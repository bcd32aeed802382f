/* Cache: get_or_set, the call that computes what is missing. Lock: the GIL. */
#include "py/state.h"
#include "types/cache.h"
#include "types/call.h"
#include "types/flow.h"

/* The context of a fill; BORROWED but for the tags, a tuple of what was given. */
typedef struct {
    RedlaneCache *cache;
    PyObject *factory, *tags;
} Factory;

static PyObject *
call_factory(void *context)
{
    const Factory *factory = context;

    return redlane_flow_result(factory->cache->state,
                               PyObject_CallNoArgs(factory->factory));
}

static int
add_tags(void *context, RedlaneTags *tags)
{
    const Factory *factory = context;

    return redlane_tags_add_all(tags, factory->cache->state, factory->cache->head,
                                factory->tags);
}

/* Takes the tags that were given, which may be an iterator. RAISES_NEG */
static int
take_tags(Factory *factory, PyObject *given, RedlaneFill *fill)
{
    if (!given || given == Py_None) {
        return 0;
    }
    factory->tags = PyUnicode_Check(given) || PyBytes_Check(given)
                        ? PyTuple_Pack(1, given)
                        : PySequence_Tuple(given);
    fill->add_tags = add_tags;
    fill->form = REDLANE_NEAR_FORM_STORED; /* with its tags, for them to be looked at */
    return factory->tags ? 0 : -1;
}

PyDoc_STRVAR(
    get_or_set_doc,
    "get_or_set($self, /, key, factory, ttl=None, tags=None)\n--\n\n"
    "The value of a key, computed and stored where nothing is.\n\n"
    "Concurrent callers, of all processes, wait for one computation. What was\n"
    "computed before an invalidation of the key is not stored after it.\n\n"
    "Args:\n"
    "    key: str or bytes, without the prefix.\n"
    "    factory: called without arguments where nothing is stored.\n"
    "    ttl: seconds, a timedelta or a text such as ``\"10m\"``; None: the\n"
    "        cache's own.\n"
    "    tags: as for :meth:`set`, without another round trip.\n\n"
    "Returns:\n"
    "    The decoded value, at the first call too. A value that cannot be\n"
    "    serialised comes back as it is, uncached (``strict=True`` raises).\n\n"
    "Raises:\n"
    "    What the factory raises.");

static PyObject *
cache_get_or_set(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    static const char *const names[] = {"key", "factory", "ttl", "tags", NULL};
    static const RedlaneCall call = {"get_or_set", names, 2, 4};
    RedlaneCache *cache = (RedlaneCache *)self;
    RedlaneFill fill = redlane_cache_fill(cache);
    RedlaneCacheKey key;
    Factory factory = {.cache = cache};
    PyObject *values[4], *value = NULL;
    int disabled;

    if (redlane_call_parse(&call, args, nargs, kwnames, values) < 0 ||
        redlane_cache_ttl(cache, values[2], &fill.ttl_ms) < 0) {
        return NULL;
    }
    if (!PyCallable_Check(values[1])) {
        PyErr_SetString(PyExc_TypeError, "factory must be callable");
        return NULL;
    }
    disabled = redlane_cache_is_disabled(cache);
    if (disabled) {
        factory = (Factory){cache, values[1], NULL};
        return disabled < 0 ? NULL : call_factory(&factory);
    }
    if (redlane_cache_key_init(&key, cache, values[0]) < 0) {
        return NULL;
    }
    redlane_cache_use_near(cache, &fill);
    factory.factory = values[1];
    fill.load = call_factory;
    fill.context = &factory;
    if (take_tags(&factory, values[3], &fill) == 0) {
        value = redlane_fill_get(&fill, key.key);
    }
    Py_XDECREF(factory.tags);
    redlane_cache_key_clear(&key);
    return value;
}

PyMethodDef redlane_cache_compute_methods[] = {
    {"get_or_set", (PyCFunction)(void (*)(void))cache_get_or_set,
     METH_FASTCALL | METH_KEYWORDS, get_or_set_doc},
    {NULL, NULL, 0, NULL},
};
