/* ToolHandle and AsyncToolHandle: scripts and commands by a tool's own policy, each
 * with who answered. Lock: the GIL. */
#include "types/tool_handle.h"

#include <stddef.h>
#include <structmember.h>

#include "core/command.h"
#include "py/args.h"
#include "types/async_method.h"
#include "types/tool.h"

typedef struct {
    PyObject_HEAD
    RedlaneState *state; /* BORROWED */
    RedlaneTool tool;
} ToolHandle;

static PyObject *
handle_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"client", "fallback", "space", NULL};
    RedlaneState *state = redlane_state_of_type(type);
    PyObject *client, *fallback, *space = NULL;
    RedlanePolicy policy;
    ToolHandle *handle;

    if (!state ||
        !PyArg_ParseTupleAndKeywords(args, kwargs, "OO|S:ToolHandle", names, &client,
                                     &fallback, &space) ||
        redlane_tool_policy(fallback, &policy) < 0) {
        return NULL;
    }
    handle = (ToolHandle *)type->tp_alloc(type, 0);
    if (!handle) {
        return NULL;
    }
    handle->state = state;
    if (redlane_tool_init(&handle->tool, state, client, policy) < 0) {
        Py_DECREF(handle);
        return NULL;
    }
    handle->tool.space = Py_XNewRef(space);
    return (PyObject *)handle;
}

static int
handle_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    return redlane_tool_traverse(&((ToolHandle *)self)->tool, visit, arg);
}

static void
handle_tp_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    redlane_tool_clear(&((ToolHandle *)self)->tool);
    type->tp_free(self);
    Py_DECREF(type);
}

/* (reply, who answered). STEALS reply */
static PyObject *
make_answer(PyObject *STEALS reply, RedlaneAnswer answer)
{
    static const char *const names[] = {"server", "engine", "nobody"};

    if (PyExceptionInstance_Check(reply)) {
        PyErr_SetObject((PyObject *)Py_TYPE(reply), reply);
        Py_DECREF(reply);
        return NULL;
    }
    return Py_BuildValue("Ns", reply, names[answer]);
}

static PyObject *
run_args(ToolHandle *handle, const RedlaneArgs *args, const RedlaneCommand *command)
{
    RedlaneAnswer answer = REDLANE_ANSWER_SERVER;
    const RedlaneToolManner manner = {.answer = &answer};
    RedlaneVector vector = redlane_args_vector(args, command);
    PyObject *reply;

    if (redlane_tool_run(&handle->tool, &vector, 1, &manner, &reply) < 0) {
        return NULL;
    }
    return make_answer(reply, answer);
}

PyDoc_STRVAR(
    script_doc,
    "script($self, name, keys, args, /)\n--\n\n"
    "Runs one of the library's scripts.\n\n"
    "Args:\n"
    "    name: of the script (str).\n"
    "    keys, args: sequences of str, bytes or numbers.\n\n"
    "Returns:\n"
    "    tuple: the reply, and who gave it: ``\"server\"``, ``\"engine\"`` in\n"
    "    its place, or ``\"nobody\"``.");

static const RedlaneScript *
find_script(PyObject *name)
{
    for (size_t i = 0; PyUnicode_Check(name) && i < REDLANE_SCRIPT_COUNT; i++) {
        if (PyUnicode_CompareWithASCIIString(name, redlane_scripts[i].name) == 0) {
            return &redlane_scripts[i];
        }
    }
    PyErr_Format(PyExc_ValueError, "no script %R", name);
    return NULL;
}

static PyObject *
handle_script(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    const RedlaneCommand *command = redlane_command_by_id(REDLANE_CMD_EVALSHA);
    const RedlaneScript *script;
    PyObject *answer = NULL;
    RedlaneArgs argv;
    Py_ssize_t keys;

    if (nargs != 3) {
        PyErr_SetString(PyExc_TypeError, "script() takes a name, keys and arguments");
        return NULL;
    }
    script = find_script(args[0]);
    keys = script ? PyObject_Size(args[1]) : -1;
    if (keys < 0) {
        return NULL;
    }
    redlane_args_init(&argv, command);
    if (redlane_args_add_bytes(&argv, script->sha1, sizeof(script->sha1) - 1) == 0 &&
        redlane_args_add_int64(&argv, keys) == 0 &&
        redlane_args_add_all(&argv, args[1]) == 0 &&
        redlane_args_add_all(&argv, args[2]) == 0) {
        answer = run_args((ToolHandle *)self, &argv, command);
    }
    redlane_args_clear(&argv);
    return answer;
}

PyDoc_STRVAR(run_doc, "run($self, name, /, *args)\n--\n\n"
                      "Runs a command.\n\n"
                      "Args:\n"
                      "    name: one that the memory engine knows too (str).\n"
                      "    args: str, bytes or numbers.\n\n"
                      "Returns:\n"
                      "    tuple: the reply, and who gave it, as ``script``.");

static PyObject *
handle_run(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    const RedlaneCommand *command;
    PyObject *answer = NULL;
    RedlaneArgs argv;
    RedlaneArg name;
    int result = 0;

    if (nargs < 1 || redlane_arg_from_text(args[0], &name) < 0) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "run() takes a command's name");
        }
        return NULL;
    }
    command = redlane_command_find(name.data, name.size);
    if (command->id == REDLANE_CMD_NONE) {
        PyErr_Format(PyExc_ValueError, "no command %R of the engine's", args[0]);
        return NULL;
    }
    redlane_args_init(&argv, command);
    for (Py_ssize_t i = 1; result == 0 && i < nargs; i++) {
        result = redlane_args_add_object(&argv, args[i]);
    }
    if (result == 0) {
        answer = run_args((ToolHandle *)self, &argv, command);
    }
    redlane_args_clear(&argv);
    return answer;
}

PyDoc_STRVAR(forget_doc,
             "forget($self, pattern, answered, /)\n--\n\n"
             "Says that all that matches was deleted: where ``answered`` is not\n"
             "``\"server\"``, the server is told when it is back.\n\n"
             "Args:\n"
             "    pattern: a glob (bytes).\n"
             "    answered: who deleted (str), as ``run`` says.");

static PyObject *
handle_forget(PyObject *self, PyObject *args)
{
    RedlaneAnswer answer = REDLANE_ANSWER_NOTHING;
    const char *answered;
    PyObject *pattern;

    if (!PyArg_ParseTuple(args, "Ss:forget", &pattern, &answered)) {
        return NULL;
    }
    if (strcmp(answered, "server") == 0) {
        answer = REDLANE_ANSWER_SERVER;
    }
    if (redlane_tool_forget(
            &((ToolHandle *)self)->tool,
            (RedlaneArg){PyBytes_AS_STRING(pattern), (size_t)PyBytes_GET_SIZE(pattern)},
            answer) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    milliseconds_doc,
    "milliseconds(duration, name, /)\n--\n\n"
    "A duration as every TTL is given, in milliseconds (int); its errors name\n"
    "``name``.");

static PyObject *
handle_milliseconds(PyObject *Py_UNUSED(type), PyObject *args)
{
    PyObject *duration;
    const char *name;
    int64_t milliseconds;

    if (!PyArg_ParseTuple(args, "Os:milliseconds", &duration, &name) ||
        redlane_args_ttl_ms(duration, name, &milliseconds) < 0) {
        return NULL;
    }
    return PyLong_FromLongLong(milliseconds);
}

static PyObject *
handle_get_aio(PyObject *self, void *Py_UNUSED(closure))
{
    RedlaneState *state = ((ToolHandle *)self)->state;

    return redlane_async_twin_new(state, (PyTypeObject *)state->AsyncToolHandleType,
                                  Py_NewRef(self));
}

/* RAISES_NEG */
static int
add_async_type(PyObject *module)
{
    static PyMemberDef members[] = {
        {"__weaklistoffset__", T_PYSSIZET, offsetof(RedlaneAsyncTwin, weakrefs),
         READONLY, NULL},
        {"sync", T_OBJECT_EX, offsetof(RedlaneAsyncTwin, sync), READONLY,
         "The ToolHandle that it is the twin of."},
        {NULL, 0, 0, 0, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_traverse, redlane_async_twin_tp_traverse},
        {Py_tp_clear, redlane_async_twin_tp_clear},
        {Py_tp_dealloc, redlane_async_twin_tp_dealloc},
        {Py_tp_repr, redlane_async_twin_tp_repr},
        {Py_tp_members, members},
        {0, NULL},
    };
    static PyType_Spec spec = {
        .name = "redlane._core.AsyncToolHandle",
        .basicsize = sizeof(RedlaneAsyncTwin),
        .flags =
            Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
        .slots = slots,
    };
    static const char *const awaited[] = {"script", "run", "forget", NULL};
    RedlaneState *state = redlane_state_of_module(module);

    if (redlane_state_add(module, &state->AsyncToolHandleType, "AsyncToolHandle",
                          PyType_FromModuleAndSpec(module, &spec, NULL)) < 0) {
        return -1;
    }
    return redlane_async_methods_add(state, state->AsyncToolHandleType,
                                     state->ToolHandleType, awaited, false);
}

int
redlane_tool_handle_setup(PyObject *module)
{
    static PyMethodDef methods[] = {
        {"script", (PyCFunction)(void (*)(void))handle_script, METH_FASTCALL,
         script_doc},
        {"run", (PyCFunction)(void (*)(void))handle_run, METH_FASTCALL, run_doc},
        {"forget", handle_forget, METH_VARARGS, forget_doc},
        {"milliseconds", handle_milliseconds, METH_VARARGS | METH_STATIC,
         milliseconds_doc},
        {NULL, NULL, 0, NULL},
    };
    static PyGetSetDef getset[] = {
        {"aio", handle_get_aio, NULL, "Its AsyncToolHandle.", NULL},
        {NULL, NULL, NULL, NULL, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_new, handle_tp_new},
        {Py_tp_traverse, handle_tp_traverse},
        {Py_tp_dealloc, handle_tp_dealloc},
        {Py_tp_methods, methods},
        {Py_tp_getset, getset},
        {0, NULL},
    };
    static PyType_Spec spec = {
        .name = "redlane._core.ToolHandle",
        .basicsize = sizeof(ToolHandle),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };
    RedlaneState *state = redlane_state_of_module(module);

    if (redlane_state_add(module, &state->ToolHandleType, "ToolHandle",
                          PyType_FromModuleAndSpec(module, &spec, NULL)) < 0) {
        return -1;
    }
    return add_async_type(module);
}
