/* The descriptor type of command methods: binding of arguments, and introspection.
 *
 * GIL held throughout. The parameters of a method are read off its text signature, so
 * that what inspect.signature() says is what is bound. */
#include "types/command_method.h"

#include <stddef.h>
#include <string.h>
#include <structmember.h>

#include "py/state.h"
#include "types/commands.h"

#define MAX_PARAMETERS 12 /* set() has 10 */

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    RedlaneState *state; /* BORROWED: the owner keeps the module */
    const RedlaneCommandSpec *spec;
    const RedlaneCommand *command;
    RedlaneArg word; /* the command's name */
    RedlaneCommandRun run;
    PyTypeObject *owner; /* has us in its dict: a cycle, which is the collector's */
    Py_ssize_t count;    /* named parameters */
    Py_ssize_t required; /* of them, without a default */
    bool variadic;       /* ends with *rest */
    PyObject *name;      /* interned str */
    PyObject *names[MAX_PARAMETERS]; /* interned str */
} CommandMethod;

/* --- binding --- */

static int
find_parameter(const CommandMethod *method, PyObject *keyword)
{
    for (Py_ssize_t i = 0; i < method->count; i++) {
        if (method->names[i] == keyword) {
            return (int)i;
        }
    }
    for (Py_ssize_t i = 0; i < method->count; i++) { /* a keyword not interned */
        int same = PyUnicode_Compare(method->names[i], keyword);

        if (same == 0) {
            return (int)i;
        }
        if (same == -1 && PyErr_Occurred()) {
            return -1;
        }
    }
    PyErr_Format(PyExc_TypeError, "%U() got an unexpected keyword argument '%U'",
                 method->name, keyword);
    return -1;
}

static int
bind_keywords(const CommandMethod *method, PyObject *const *keywords, PyObject *kwnames,
              PyObject **values)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(kwnames); i++) {
        int place = find_parameter(method, PyTuple_GET_ITEM(kwnames, i));

        if (place < 0) {
            return -1;
        }
        if (values[place]) {
            PyErr_Format(PyExc_TypeError, "%U() got multiple values for argument '%U'",
                         method->name, method->names[place]);
            return -1;
        }
        values[place] = keywords[i];
    }
    return 0;
}

/* Fills values[] from a call; *nrest is how many of `args` go to *rest. RAISES_NEG */
static int
bind_arguments(const CommandMethod *method, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames, PyObject **values, Py_ssize_t *nrest)
{
    Py_ssize_t named = nargs < method->count ? nargs : method->count;

    *nrest = nargs - named;
    if (*nrest && !method->variadic) {
        PyErr_Format(PyExc_TypeError,
                     "%U() takes at most %zd arguments besides self (%zd given)",
                     method->name, method->count, nargs);
        return -1;
    }
    for (Py_ssize_t i = 0; i < method->count; i++) {
        values[i] = i < named ? args[i] : NULL;
    }
    if (kwnames && bind_keywords(method, args + nargs, kwnames, values) < 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < method->required; i++) {
        if (!values[i]) {
            PyErr_Format(PyExc_TypeError, "%U() is missing the argument '%U'",
                         method->name, method->names[i]);
            return -1;
        }
    }
    return 0;
}

static PyObject *
refuse_self(const CommandMethod *method, Py_ssize_t nargs, PyObject *self)
{
    return PyErr_Format(PyExc_TypeError, "%s.%U() needs a %s object, not %.100s",
                        method->owner->tp_name, method->name, method->owner->tp_name,
                        nargs < 1 ? "nothing" : Py_TYPE(self)->tp_name);
}

static PyObject *
command_method_vectorcall(PyObject *callable, PyObject *const *args, size_t nargsf,
                          PyObject *kwnames)
{
    CommandMethod *method = (CommandMethod *)callable;
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf) - 1, nrest = 0;
    PyObject *bound[MAX_PARAMETERS], *const *values = args + 1, *result = NULL;
    RedlaneCall call;

    if (unlikely(nargs < 0 || !PyObject_TypeCheck(args[0], method->owner))) {
        return refuse_self(method, nargs + 1, nargs < 0 ? NULL : args[0]);
    }
    /* A call with exactly the named parameters, as get(name) is, needs no binding. */
    if (kwnames || nargs != method->count) {
        if (bind_arguments(method, args + 1, nargs, kwnames, bound, &nrest) < 0) {
            return NULL;
        }
        values = bound;
    }
    redlane_args_start(&call.args, method->word);
    call.state = method->state;
    call.command = method->command;
    call.shape = method->spec->shape;
    call.parameters = method->count;
    call.empty = false;
    call.cast = NULL;
    if (likely(method->spec->build(&call, values, args + 1 + nargs - nrest, nrest) ==
               0)) {
        result = method->run(args[0], &call);
    }
    redlane_args_clear(&call.args);
    return result;
}

void
redlane_call_set_command(RedlaneCall *call, RedlaneCommandId id)
{
    call->command = redlane_command_by_id(id);
    call->args.argv[0] = (RedlaneArg){call->command->name, strlen(call->command->name)};
}

/* --- the type --- */

static int
command_method_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    CommandMethod *method = (CommandMethod *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(method->owner);
    return 0;
}

/* There is no tp_clear: the owner's dict breaks the cycle, and a method that someone
 * still calls must keep its owner. */
static void
command_method_tp_dealloc(PyObject *self)
{
    CommandMethod *method = (CommandMethod *)self;
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    for (Py_ssize_t i = 0; i < method->count; i++) {
        Py_CLEAR(method->names[i]);
    }
    Py_CLEAR(method->name);
    Py_CLEAR(method->owner);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
command_method_tp_descr_get(PyObject *self, PyObject *object, PyObject *type)
{
    (void)type;
    if (!object || object == Py_None) {
        return Py_NewRef(self);
    }
    return PyMethod_New(self, object);
}

static PyObject *
command_method_tp_repr(PyObject *self)
{
    const CommandMethod *method = (CommandMethod *)self;

    return PyUnicode_FromFormat("<method '%U' of '%s' objects>", method->name,
                                method->owner->tp_name);
}

static PyObject *
command_method_get_qualname(PyObject *self, void *closure)
{
    const CommandMethod *method = (CommandMethod *)self;
    const char *dot = strrchr(method->owner->tp_name, '.');

    (void)closure;
    return PyUnicode_FromFormat("%s.%U", dot ? dot + 1 : method->owner->tp_name,
                                method->name);
}

static PyObject *
command_method_get_doc(PyObject *self, void *closure)
{
    (void)closure;
    return PyUnicode_FromString(((CommandMethod *)self)->spec->doc);
}

static PyObject *
command_method_get_text_signature(PyObject *self, void *closure)
{
    const char *signature = ((CommandMethod *)self)->spec->signature;

    (void)closure;
    return PyUnicode_FromFormat("($self%s%s)", signature[0] ? ", " : "", signature);
}

static PyObject *
command_method_get_module(PyObject *self, void *closure)
{
    (void)self;
    (void)closure;
    return PyUnicode_FromString("redlane");
}

static PyObject *
command_method_get_objclass(PyObject *self, void *closure)
{
    (void)closure;
    return Py_NewRef((PyObject *)((CommandMethod *)self)->owner);
}

static PyGetSetDef command_method_getset[] = {
    {"__doc__", command_method_get_doc, NULL, NULL, NULL},
    {"__module__", command_method_get_module, NULL, NULL, NULL},
    {"__objclass__", command_method_get_objclass, NULL, NULL, NULL},
    {"__qualname__", command_method_get_qualname, NULL, NULL, NULL},
    {"__text_signature__", command_method_get_text_signature, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef command_method_members[] = {
    {"__name__", T_OBJECT, offsetof(CommandMethod, name), READONLY, NULL},
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(CommandMethod, vectorcall), READONLY,
     NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot command_method_slots[] = {
    {Py_tp_dealloc, command_method_tp_dealloc},
    {Py_tp_traverse, command_method_tp_traverse},
    {Py_tp_descr_get, command_method_tp_descr_get},
    {Py_tp_repr, command_method_tp_repr},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_getset, command_method_getset},
    {Py_tp_members, command_method_members},
    {0, NULL},
};

static PyType_Spec command_method_spec = {
    .name = "redlane._core.CommandMethod",
    .basicsize = sizeof(CommandMethod),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
             Py_TPFLAGS_METHOD_DESCRIPTOR | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = command_method_slots,
};

/* --- making them --- */

/* Takes the parameter that begins at `text`; gives where the next one begins, NULL
 * with an exception set. */
static const char *
read_parameter(CommandMethod *method, const char *text)
{
    size_t size = strcspn(text, ",");
    const char *next = text + size + (text[size] ? strspn(text + size, ", ") : 0);
    size_t name_size = strcspn(text, "=,");
    PyObject *name;

    if (text[0] == '*') {
        method->variadic = true;
        return next;
    }
    if (method->count == MAX_PARAMETERS) {
        PyErr_SetString(PyExc_SystemError, "too many parameters");
        return NULL;
    }
    name = PyUnicode_FromStringAndSize(text, (Py_ssize_t)name_size);
    if (!name) {
        return NULL;
    }
    PyUnicode_InternInPlace(&name);
    method->names[method->count++] = name;
    if (name_size == size) {
        method->required = method->count;
    }
    return next;
}

static PyObject *
make_method(RedlaneState *state, const RedlaneCommandSpec *spec, PyTypeObject *owner,
            RedlaneCommandRun run)
{
    PyTypeObject *type = (PyTypeObject *)state->CommandMethodType;
    CommandMethod *method = (CommandMethod *)type->tp_alloc(type, 0);

    if (!method) {
        return NULL;
    }
    method->vectorcall = command_method_vectorcall;
    method->state = state;
    method->spec = spec;
    method->command = spec->id == REDLANE_CMD_NONE ? &REDLANE_COMMAND_UNKNOWN
                                                   : redlane_command_by_id(spec->id);
    if (spec->id != REDLANE_CMD_NONE) {
        method->word =
            (RedlaneArg){method->command->name, strlen(method->command->name)};
    }
    method->owner = (PyTypeObject *)Py_NewRef((PyObject *)owner);
    method->run = run;
    method->name = PyUnicode_InternFromString(spec->name);
    if (!method->name) {
        goto error;
    }
    for (const char *text = spec->signature; *text;) {
        text = read_parameter(method, text);
        if (!text) {
            goto error;
        }
    }
    return (PyObject *)method;

error:
    Py_DECREF(method);
    return NULL;
}

static int
add_table(RedlaneState *state, const RedlaneCommandSpec *table, PyTypeObject *type,
          RedlaneCommandRun run)
{
    for (const RedlaneCommandSpec *spec = table; spec->name; spec++) {
        PyObject *method = make_method(state, spec, type, run);
        int status;

        if (!method) {
            return -1;
        }
        status = PyObject_SetAttrString((PyObject *)type, spec->name, method);
        Py_DECREF(method);
        if (status < 0) {
            return -1;
        }
    }
    return 0;
}

int
redlane_command_methods_add(PyObject *module, PyTypeObject *type,
                            const RedlaneCommandSpec *own, RedlaneCommandRun run)
{
    const RedlaneCommandSpec *const tables[] = {
        redlane_commands_keys,
        redlane_commands_strings,
        redlane_commands_hashes,
        redlane_commands_sets,
        redlane_commands_zsets,
        redlane_commands_server,
        own,
    };
    RedlaneState *state = redlane_state_of_module(module);

    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        if (tables[i] && add_table(state, tables[i], type, run) < 0) {
            return -1;
        }
    }
    return 0;
}

int
redlane_command_method_setup(PyObject *module)
{
    RedlaneState *state = redlane_state_of_module(module);

    state->CommandMethodType =
        PyType_FromModuleAndSpec(module, &command_method_spec, NULL);
    return state->CommandMethodType ? 0 : -1;
}
