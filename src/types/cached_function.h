/* A cached function: what `@cache` makes of a function. Under the GIL.
 *
 * cached_function.c: the type; cached_function_options.c: what its options do to a
 * fill; cached_function_call.c: being called, and the methods; cached_function_limit.c:
 * calls that may not last; cached_function_fresh.c: refreshes behind; cached_method.c:
 * a method of an object. */
#ifndef REDLANE_TYPES_CACHED_FUNCTION_H
#define REDLANE_TYPES_CACHED_FUNCTION_H

#include "types/cache.h"
#include "types/fresh.h"
#include "types/level0.h"
#include "types/tag_templates.h"
#include "types/wire_key.h"

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    RedlaneState *state; /* BORROWED */
    PyObject *dict;      /* __name__, __wrapped__, …, as functools.wraps sets them */
    PyObject *weakrefs;
    PyObject *function;
    RedlaneCache *cache;
    RedlaneSignature signature;
    RedlaneResultType type;
    PyObject *condition; /* NULL, or a callable of the result: whether to store it */
    PyObject *unless;    /* NULL, or a callable of the arguments: call uncached */
    PyObject *tags;      /* NULL, or what redlane_tag_templates_new gave */
    PyObject *ttl_of;    /* NULL, or a callable of the result: its TTL */
    PyObject *failures;  /* NULL, or a tuple: the exceptions that are cached … */
    int64_t *failure_ms; /* … and for how long each */
    int64_t ttl_ms;      /* 0: none */
    double jitter;       /* how much of a TTL may be missing, 0 to 1 */
    uint64_t random;     /* state of what jitter draws */
    int64_t soft_ms;     /* 0: none; how long a caller waits if it has a stale value */
    int64_t hard_ms;     /* 0: none; how long a caller waits for the function */
    bool lock;           /* single flight */
    bool freshens;       /* `fresh` has something to do */
    bool awaits;         /* it is a coroutine function */
    RedlaneFresh fresh;  /* how each call begins */
    int64_t reported;    /* when a refresh that failed was logged last */
    bool hooked;         /* redlane_function_options_hook has something to do */
    bool logged;         /* an uncacheable result */
    RedlaneCounts counts;
    RedlaneLevel0 level0;
    RedlaneNearForm form; /* of objects that only its calls return */
    bool share;           /* the object itself is returned again and again */
} RedlaneCachedFunction;

/* One call: the context of a fill. Everything BORROWED from the caller. */
typedef struct {
    RedlaneCachedFunction *self;
    PyObject *const *args;
    size_t nargsf;
    PyObject *kwnames;
    RedlaneFill fill;
    RedlaneFresh fresh;
} RedlaneFunctionCall;

/* The options of @cache(...) as they were given; NULL where they were not. */
typedef struct {
    RedlaneKeyOptions key;
    PyObject *ttl, *jitter, *condition, *unless, *exceptions, *soft, *hard, *tags;
    PyObject *stale, *early, *on_error, *max_stale;
} RedlaneFunctionOptions;

int redlane_cached_function_setup(PyObject *module);

/* cached_function_options.c: checks the options and takes them. RAISES_NEG */
int redlane_function_options_init(RedlaneCachedFunction *self,
                                  const RedlaneFunctionOptions *options);
void redlane_function_options_clear(RedlaneCachedFunction *self);

/* Imports a function of the package once: a new reference in `*slot`. RAISES_NEG */
int redlane_function_import(PyObject **slot, const char *module_name, const char *name);

/* cached_function_fresh.c: after the other options. RAISES_NEG */
int redlane_function_fresh_init(RedlaneCachedFunction *self,
                                const RedlaneFunctionOptions *options);

/* The hooks of a fill that the options ask for; to be called if `hooked`. */
void redlane_function_options_hook(RedlaneFunctionCall *call);

/* cached_function_limit.c: a call whose function may not keep its caller for longer
 * than hard_ms. A worker thread computes, and goes on when that time is over. */
PyObject *redlane_function_limited(RedlaneFunctionCall *call, RedlaneArg key);
PyObject *redlane_function_limited_refresh(RedlaneFunctionCall *call);

/* cached_function_call.c. The full key of a call: 1, 0 where the arguments do not fit,
 * -1. */
int redlane_function_key(RedlaneFunctionCall *call, RedlaneBuffer *key);
void redlane_function_prepare(RedlaneFunctionCall *call);
PyObject *redlane_function_compute(PyObject *self, PyObject *const *args, size_t nargsf,
                                   PyObject *kwnames, bool refresh);
PyObject *redlane_cached_function_vectorcall(PyObject *self, PyObject *const *args,
                                             size_t nargsf, PyObject *kwnames);

/* The same of a coroutine function: an awaitable. */
PyObject *redlane_cached_function_await(PyObject *self, PyObject *const *args,
                                        size_t nargsf, PyObject *kwnames);

/* What a call would be answered with at once, without the function: a near result, or
 * where `reads` what the store holds, which is to be an engine of this process. A new
 * reference; NULL with no exception where there is nothing of that kind, and where
 * options ask for more than a look (`unless`; for a read also freshness and tags). */
PyObject *redlane_cached_function_peek(PyObject *self, PyObject *const *args,
                                       size_t nargs, bool reads);
extern PyMethodDef redlane_cached_function_methods[];

#endif
