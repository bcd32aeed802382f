/* JSON strings from Python strings. Under the GIL; runs no Python code. */
#ifndef REDLANE_TYPES_JSON_TEXT_H
#define REDLANE_TYPES_JSON_TEXT_H

#include "core/buffer.h"
#include "py/python.h"

/* Appends a str, quoted and escaped as json.dumps(ensure_ascii=False) does. A lone
 * surrogate is a UnicodeEncodeError. RAISES_NEG */
int redlane_json_text_append(RedlaneBuffer *buffer, PyObject *text);

#endif
