/* Arguments of a METH_FASTCALL | METH_KEYWORDS method, by name. Under the GIL. */
#ifndef REDLANE_TYPES_CALL_H
#define REDLANE_TYPES_CALL_H

#include "py/python.h"

typedef struct {
    const char *function;     /* for messages */
    const char *const *names; /* in order, NULL at the end */
    Py_ssize_t required;      /* so many must be given */
    Py_ssize_t positional;    /* so many may be given by position */
} RedlaneCall;

/* Puts the arguments into `values` (BORROWED, NULL where none), which has room for one
 * a name. TypeError as Python's own. RAISES_NEG */
int redlane_call_parse(const RedlaneCall *call, PyObject *const *args, Py_ssize_t nargs,
                       PyObject *kwnames, PyObject **values);

#endif
