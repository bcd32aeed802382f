/* `tags=` of a cached function: templates such as "user:{user_id}", and callables of
 * the call's arguments. Under the GIL; runs Python code. */
#ifndef REDLANE_TYPES_TAG_TEMPLATES_H
#define REDLANE_TYPES_TAG_TEMPLATES_H

#include "types/tags.h"
#include "types/wire_key.h"

/* Checks them against the signature. A new tuple, or NULL with an exception set. */
PyObject *redlane_tag_templates_new(const RedlaneSignature *signature, PyObject *given);

/* One call, whose arguments fit the signature. Everything BORROWED. */
typedef struct {
    const RedlaneSignature *signature;
    PyObject *const *args;
    Py_ssize_t nargs;
    PyObject *kwnames;
} RedlaneTagCall;

/* Adds the tags of a call. RAISES_NEG */
int redlane_tag_templates_add(PyObject *templates, const RedlaneTagCall *call,
                              PyObject *head, RedlaneTags *tags);

#endif
