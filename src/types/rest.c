/* What the relay of a REST server must know of commands. GIL held. */
#include "types/rest.h"

#include <string.h>

#include "core/command.h"
#include "core/script.h"

PyDoc_STRVAR(is_read_doc, "_is_read(name, /)\n--\n\n"
                          "Whether a command of that name, bytes, changes nothing.");

static PyObject *
rest_is_read(PyObject *module, PyObject *name)
{
    char *data;
    Py_ssize_t size;

    (void)module;
    if (PyBytes_AsStringAndSize(name, &data, &size) < 0) {
        return NULL;
    }
    return PyBool_FromLong(redlane_command_find(data, (size_t)size)->flags &
                           REDLANE_COMMAND_READ);
}

PyDoc_STRVAR(script_text_doc,
             "_script_text(sha1, /)\n--\n\n"
             "The text of the library's script with that SHA-1, bytes; or None.");

static PyObject *
rest_script_text(PyObject *module, PyObject *sha1)
{
    const RedlaneScript *script;
    char *data;
    Py_ssize_t size;

    (void)module;
    if (PyBytes_AsStringAndSize(sha1, &data, &size) < 0) {
        return NULL;
    }
    script = redlane_script_by_sha1(data, (size_t)size);
    if (!script) {
        Py_RETURN_NONE;
    }
    return PyBytes_FromStringAndSize(script->text, (Py_ssize_t)strlen(script->text));
}

static PyMethodDef functions[] = {
    {"_is_read", rest_is_read, METH_O, is_read_doc},
    {"_script_text", rest_script_text, METH_O, script_text_doc},
    {NULL, NULL, 0, NULL},
};

int
redlane_rest_setup(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
