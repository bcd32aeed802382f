/* JSON strings, byte for byte as Python's json.dumps(text, ensure_ascii=False) writes
 * them. No lock, no GIL. */
#ifndef REDLANE_CORE_JSON_H
#define REDLANE_CORE_JSON_H

#include <stddef.h>

#include "core/buffer.h"

/* Appends UTF-8 `text` as a JSON string, quotes included: `"` and `\` and the control
 * characters below 0x20 are escaped, nothing else (0x7f and U+2028 stay). UTF-8 is not
 * checked. -1 when memory is exhausted; the buffer's size is then as it was. */
int redlane_json_append_string(RedlaneBuffer *buffer, const char *text, size_t size);

#endif
