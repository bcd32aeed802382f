/* A cached function: what `@cache` makes of a function. Under the GIL. */
#ifndef REDLANE_TYPES_CACHED_FUNCTION_H
#define REDLANE_TYPES_CACHED_FUNCTION_H

#include "types/cache.h"
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
    int64_t ttl_ms;      /* 0: none */
    bool lock;           /* single flight */
    bool logged;         /* an uncacheable result */
    RedlaneCounts counts;
    RedlaneLevel0 level0;
    RedlaneNearForm form; /* of the objects that its calls return */
    bool share;           /* the object itself is returned again and again */
} RedlaneCachedFunction;

int redlane_cached_function_setup(PyObject *module);

/* cached_function_call.c */
PyObject *redlane_cached_function_vectorcall(PyObject *self, PyObject *const *args,
                                             size_t nargsf, PyObject *kwnames);
extern PyMethodDef redlane_cached_function_methods[];

#endif
