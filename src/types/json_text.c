/* JSON strings from Python strings. Lock: the GIL; runs no Python code. */
#include "types/json_text.h"

#include "core/json.h"

int
redlane_json_text_append(RedlaneBuffer *buffer, PyObject *text)
{
    Py_ssize_t size;
    const char *data = PyUnicode_AsUTF8AndSize(text, &size);

    if (!data) {
        return -1;
    }
    if (redlane_json_append_string(buffer, data, (size_t)size) < 0) {
        (void)PyErr_NoMemory();
        return -1;
    }
    return 0;
}
