/* The annotated return type of a cached function: what writes and reads its results in
 * the place of the serializer's own functions. Found at the first result, since an
 * annotation may name what is defined later. Under the GIL; runs Python code. */
#ifndef REDLANE_TYPES_RESULT_TYPE_H
#define REDLANE_TYPES_RESULT_TYPE_H

#include <stdbool.h>

#include "py/python.h"

typedef struct {
    PyObject *function;      /* while its annotation is not looked at yet, else NULL */
    PyObject *dumps, *loads; /* both, or NULL: results are as any value */
    const char *serializer;  /* "json" or "msgpack" */
} RedlaneResultType;

/* `serializer` is static, or NULL for one that knows no types. RAISES_NEG */
int redlane_result_type_init(RedlaneResultType *type, RedlaneState *state,
                             PyObject *function, const char *serializer);
int redlane_result_type_traverse(RedlaneResultType *type, visitproc visit, void *arg);
void redlane_result_type_clear(RedlaneResultType *type);

int redlane_result_type_find(RedlaneResultType *type, RedlaneState *state);

/* Looks at the annotation, once; then dumps and loads are what they stay. RAISES_NEG */
static inline int
redlane_result_type_resolve(RedlaneResultType *type, RedlaneState *state)
{
    return likely(!type->function) ? 0 : redlane_result_type_find(type, state);
}

#endif
