/* CooldownState. Lock: the GIL. */
#include "types/cooldown_state.h"

#include <stdbool.h>
#include <stddef.h>
#include <structmember.h>

typedef struct {
    PyObject_HEAD
    char ready;       /* 0 or 1 */
    double remaining; /* seconds */
} CooldownState;

static PyObject *
make_state(PyTypeObject *type, bool ready, double remaining)
{
    CooldownState *self = (CooldownState *)type->tp_alloc(type, 0);

    if (self) {
        self->ready = ready;
        self->remaining = remaining;
    }
    return (PyObject *)self;
}

PyObject *
redlane_cooldown_state_new(RedlaneState *state, int64_t remaining)
{
    return make_state((PyTypeObject *)state->CooldownStateType, remaining <= 0,
                      remaining > 0 ? (double)remaining / 1000.0 : 0.0);
}

static PyObject *
state_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"ready", "remaining", NULL};
    double remaining = 0.0;
    int ready;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "p|d:CooldownState", names, &ready,
                                     &remaining)) {
        return NULL;
    }
    return make_state(type, ready, remaining);
}

static void
state_tp_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
as_tuple(PyObject *self)
{
    CooldownState *state = (CooldownState *)self;

    return Py_BuildValue("(Od)", state->ready ? Py_True : Py_False, state->remaining);
}

static int
state_nb_bool(PyObject *self)
{
    return ((CooldownState *)self)->ready;
}

static PyObject *
state_tp_iter(PyObject *self)
{
    PyObject *pair = as_tuple(self), *iterator;

    if (!pair) {
        return NULL;
    }
    iterator = PyObject_GetIter(pair);
    Py_DECREF(pair);
    return iterator;
}

static PyObject *
state_tp_richcompare(PyObject *self, PyObject *other, int op)
{
    CooldownState *left = (CooldownState *)self, *right = (CooldownState *)other;
    bool same;

    if (!Py_IS_TYPE(other, Py_TYPE(self)) || (op != Py_EQ && op != Py_NE)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    same = left->ready == right->ready && left->remaining == right->remaining;
    return PyBool_FromLong(same == (op == Py_EQ));
}

static Py_hash_t
state_tp_hash(PyObject *self)
{
    PyObject *pair = as_tuple(self);
    Py_hash_t hash = pair ? PyObject_Hash(pair) : -1;

    Py_XDECREF(pair);
    return hash;
}

static PyObject *
state_tp_repr(PyObject *self)
{
    PyObject *seconds = PyFloat_FromDouble(((CooldownState *)self)->remaining), *text;

    if (!seconds) {
        return NULL;
    }
    text = PyUnicode_FromFormat("CooldownState(ready=%s, remaining=%R)",
                                ((CooldownState *)self)->ready ? "True" : "False",
                                seconds);
    Py_DECREF(seconds);
    return text;
}

PyDoc_STRVAR(state_doc, "CooldownState(ready, remaining=0.0)\n--\n\n"
                        "What a :class:`Cooldown` says: true where it is ``ready``.\n\n"
                        "``ready, remaining = cooldown.acquire(user)`` works too.");

int
redlane_cooldown_state_setup(PyObject *module)
{
    static PyMemberDef members[] = {
        {"ready", T_BOOL, offsetof(CooldownState, ready), READONLY,
         "Whether the cooldown is over (bool)."},
        {"remaining", T_DOUBLE, offsetof(CooldownState, remaining), READONLY,
         "Seconds that are left of it (float); 0.0 where it is over."},
        {NULL, 0, 0, 0, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_doc, (void *)state_doc},    {Py_tp_new, state_tp_new},
        {Py_tp_dealloc, state_tp_dealloc}, {Py_nb_bool, state_nb_bool},
        {Py_tp_iter, state_tp_iter},       {Py_tp_richcompare, state_tp_richcompare},
        {Py_tp_hash, state_tp_hash},       {Py_tp_repr, state_tp_repr},
        {Py_tp_members, members},          {0, NULL},
    };
    static PyType_Spec spec = {
        .name = "redlane.CooldownState",
        .basicsize = sizeof(CooldownState),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };
    RedlaneState *state = redlane_state_of_module(module);

    return redlane_state_add(module, &state->CooldownStateType, "CooldownState",
                             PyType_FromModuleAndSpec(module, &spec, NULL));
}
