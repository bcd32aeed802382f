/* Ids, of users say, as they stand in keys. Under the GIL. */
#ifndef REDLANE_TYPES_ID_TEXT_H
#define REDLANE_TYPES_ID_TEXT_H

#include "py/python.h"

/* The text of an id: a str itself, else what str() gives for what has one plain text,
 * such as an int or a UUID. TypeError, which begins with `owner`, for what has none:
 * None, bool, float, bytes, containers. A new str, or NULL; runs Python code. */
PyObject *redlane_id_text(PyObject *id, const char *owner);

#endif
