/* The signature of a cached callable, and what its keys are made of; done once, when it
 * is decorated. Lock: the GIL. */
#include "py/state.h"
#include "types/wire_key.h"

static int
find_parameter(const RedlaneSignature *signature, PyObject *name, Py_ssize_t *index)
{
    for (Py_ssize_t i = 0; i < signature->count; i++) {
        if (PyUnicode_Compare(PyTuple_GET_ITEM(signature->names, i), name) == 0) {
            *index = i;
            return 1;
        }
    }
    if (signature->star && PyUnicode_Compare(signature->star, name) == 0) {
        *index = signature->count;
        return 1;
    }
    if (signature->stars && PyUnicode_Compare(signature->stars, name) == 0) {
        *index = signature->count + 1;
        return 1;
    }
    return 0;
}

static int
mark_ignored(RedlaneSignature *signature, PyObject *ignore)
{
    PyObject *iterator, *name;
    Py_ssize_t index;

    if (PyUnicode_Check(ignore)) {
        PyErr_SetString(PyExc_TypeError,
                        "ignore must be a list of parameter names, not one str");
        return -1;
    }
    iterator = PyObject_GetIter(ignore);
    if (!iterator) {
        return -1;
    }
    while ((name = PyIter_Next(iterator))) {
        if (!PyUnicode_Check(name) || !find_parameter(signature, name, &index)) {
            PyErr_Format(PyExc_TypeError, "ignore: %U() has no parameter %R",
                         signature->shown, name);
            Py_DECREF(name);
            break;
        }
        signature->ignored[index] = true;
        Py_DECREF(name);
    }
    Py_DECREF(iterator);
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *
optional(PyObject *object)
{
    return object == Py_None ? NULL : Py_NewRef(object);
}

/* Takes the fields out of what describe_callable returned; *args, *keywords and
 * *code are BORROWED from it. RAISES_NEG */
static int
take_description(RedlaneSignature *signature, PyObject *described, PyObject **args,
                 PyObject **keywords, PyObject **code)
{
    PyObject *star, *stars;

    if (!PyArg_ParseTuple(described, "UUO!nnOOO!O!O!O", &signature->head,
                          &signature->shown, &PyTuple_Type, &signature->names,
                          &signature->positional_only, &signature->positional, &star,
                          &stars, &PyTuple_Type, &signature->defaults, &PyTuple_Type,
                          args, &PyDict_Type, keywords, code)) {
        signature->head = signature->shown = NULL;
        signature->names = signature->defaults = NULL;
        return -1;
    }
    Py_INCREF(signature->head);
    Py_INCREF(signature->shown);
    Py_INCREF(signature->names);
    Py_INCREF(signature->defaults);
    signature->star = optional(star);
    signature->stars = optional(stars);
    signature->count = PyTuple_GET_SIZE(signature->names);
    return 0;
}

/* describe_callable's answer for `function`; NULL with an exception set. */
static PyObject *
describe_callable(PyObject *describe, PyObject *function,
                  const RedlaneKeyOptions *options)
{
    return PyObject_CallMethod(describe, "describe_callable", "OOOO", function,
                               options->name ? options->name : Py_None,
                               options->namespace ? options->namespace : Py_None,
                               options->key ? options->key : Py_None);
}

/* Whether what is carried to the parameter `index` has a stable text. RAISES_NEG */
static int
check_carried(const RedlaneSignature *signature, Py_ssize_t index, PyObject *value)
{
    RedlaneBuffer text = {0};
    int result = 0;

    if (index > signature->count || !signature->ignored[index]) {
        result = redlane_wire_key_value(signature->state, value, signature->shown,
                                        signature->shown, &text);
    }
    redlane_buffer_free(&text);
    return result;
}

static int
check_all_carried(const RedlaneSignature *signature)
{
    Py_ssize_t names = PyTuple_GET_SIZE(signature->carried_names);
    Py_ssize_t lead = PyTuple_GET_SIZE(signature->carried) - names;

    for (Py_ssize_t i = 0; i < lead + names; i++) {
        Py_ssize_t index = i < signature->positional ? i : signature->count;

        if (i >= lead &&
            !find_parameter(signature,
                            PyTuple_GET_ITEM(signature->carried_names, i - lead),
                            &index)) {
            index = signature->count + 1; /* of **kwargs */
        }
        if (check_carried(signature, index, PyTuple_GET_ITEM(signature->carried, i)) <
            0) {
            return -1;
        }
    }
    return 0;
}

/* Takes what the callable brings along, which must have a text. RAISES_NEG */
static int
take_carried(RedlaneSignature *signature, PyObject *describe, PyObject *args,
             PyObject *keywords)
{
    PyObject *values = NULL, *message;

    if (PyTuple_GET_SIZE(args) == 0 && PyDict_GET_SIZE(keywords) == 0) {
        return 0;
    }
    signature->carried_names = PySequence_Tuple(keywords);
    values = PyDict_Values(keywords);
    if (values) {
        Py_SETREF(values, PyList_AsTuple(values));
    }
    signature->carried =
        signature->carried_names && values ? PySequence_Concat(args, values) : NULL;
    Py_XDECREF(values);
    if (!signature->carried) {
        return -1;
    }
    if (check_all_carried(signature) < 0) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Clear();
            message =
                PyObject_CallMethod(describe, "needs_name", "O", signature->shown);
            if (message) {
                PyErr_SetObject(PyExc_TypeError, message);
                Py_DECREF(message);
            }
        }
        return -1;
    }
    return 0;
}

/* The names of all parameters, *args and **kwargs last, and whether each is ignored, as
 * two tuples. RAISES_NEG */
static int
list_parameters(const RedlaneSignature *signature, PyObject **names, PyObject **ignored)
{
    Py_ssize_t count = signature->count + 2;

    *names = PyTuple_New(count);
    *ignored = PyTuple_New(count);
    if (!*names || !*ignored) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name = i < signature->count    ? PyTuple_GET_ITEM(signature->names, i)
                         : i == signature->count ? signature->star
                                                 : signature->stars;

        PyTuple_SET_ITEM(*names, i, Py_NewRef(name ? name : Py_None));
        PyTuple_SET_ITEM(*ignored, i, PyBool_FromLong(signature->ignored[i]));
    }
    return 0;
}

/* The option key=. RAISES_NEG */
static int
take_key(RedlaneSignature *signature, PyObject *describe, PyObject *key)
{
    PyObject *names = NULL, *ignored = NULL, *described = NULL;
    int result = -1;

    if (!key) {
        return 0;
    }
    if (!PyUnicode_Check(key)) {
        if (!PyCallable_Check(key)) {
            PyErr_Format(PyExc_TypeError, "key must be a str or a callable, not %.100s",
                         Py_TYPE(key)->tp_name);
            return -1;
        }
        signature->make = Py_NewRef(key);
        return 0;
    }
    if (list_parameters(signature, &names, &ignored) == 0) {
        described = PyObject_CallMethod(describe, "describe_key", "OOOO", key,
                                        signature->shown, names, ignored);
    }
    if (described &&
        PyArg_ParseTuple(described, "O!O!", &PyTuple_Type, &signature->texts,
                         &PyTuple_Type, &signature->fields)) {
        Py_INCREF(signature->texts);
        Py_INCREF(signature->fields);
        result = 0;
    }
    Py_XDECREF(described);
    Py_XDECREF(ignored);
    Py_XDECREF(names);
    return result;
}

int
redlane_signature_init(RedlaneSignature *signature, RedlaneState *state,
                       PyObject *function, const RedlaneKeyOptions *options,
                       PyObject **code)
{
    PyObject *describe, *described = NULL, *args, *keywords, *found;
    int result = -1;

    *code = NULL;
    *signature = (RedlaneSignature){.state = state};
    describe = PyImport_ImportModule("redlane._describe");
    signature->no_default =
        describe ? PyObject_GetAttrString(describe, "NO_DEFAULT") : NULL;
    if (!signature->no_default) {
        goto exit;
    }
    described = describe_callable(describe, function, options);
    if (!described ||
        take_description(signature, described, &args, &keywords, &found) < 0) {
        goto exit;
    }
    signature->ignored = PyMem_Calloc((size_t)signature->count + 2, sizeof(bool));
    if (!signature->ignored) {
        (void)PyErr_NoMemory();
        goto exit;
    }
    if ((options->ignore && mark_ignored(signature, options->ignore) < 0) ||
        take_carried(signature, describe, args, keywords) < 0 ||
        take_key(signature, describe, options->key) < 0) {
        goto exit;
    }
    *code = optional(found);
    result = 0;
exit:
    if (result < 0) {
        redlane_signature_clear(signature);
    }
    Py_XDECREF(described);
    Py_XDECREF(describe);
    return result;
}

int
redlane_signature_traverse(RedlaneSignature *signature, visitproc visit, void *arg)
{
    Py_VISIT(signature->head);
    Py_VISIT(signature->shown);
    Py_VISIT(signature->names);
    Py_VISIT(signature->defaults);
    Py_VISIT(signature->no_default);
    Py_VISIT(signature->star);
    Py_VISIT(signature->stars);
    Py_VISIT(signature->carried);
    Py_VISIT(signature->carried_names);
    Py_VISIT(signature->make);
    Py_VISIT(signature->texts);
    Py_VISIT(signature->fields);
    return 0;
}

void
redlane_signature_clear(RedlaneSignature *signature)
{
    signature->count = signature->positional = signature->positional_only = 0;
    Py_CLEAR(signature->head);
    Py_CLEAR(signature->shown);
    Py_CLEAR(signature->names);
    Py_CLEAR(signature->defaults);
    Py_CLEAR(signature->no_default);
    Py_CLEAR(signature->star);
    Py_CLEAR(signature->stars);
    Py_CLEAR(signature->carried);
    Py_CLEAR(signature->carried_names);
    Py_CLEAR(signature->make);
    Py_CLEAR(signature->texts);
    Py_CLEAR(signature->fields);
    PyMem_Free(signature->ignored);
    signature->ignored = NULL;
}
