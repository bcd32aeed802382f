/* The bell of an event loop. The loop keeps the reader, that this, and so does a
 * dictionary with weak keys: nothing here keeps a loop alive. */
#include "types/loop_bell.h"

#include "core/platform.h"
#include "py/state.h"
#include "types/subscription.h"

typedef struct {
    PyObject_HEAD
    RedlaneBell *bell; /* held */
} LoopBell;

PyObject *
redlane_loop_bell_running(RedlaneState *state)
{
    if (!state->get_running_loop) {
        PyObject *module = PyImport_ImportModule("asyncio");

        if (!module) {
            return NULL;
        }
        state->get_running_loop = PyObject_GetAttrString(module, "get_running_loop");
        Py_DECREF(module);
        if (!state->get_running_loop) {
            return NULL;
        }
    }
    return PyObject_CallNoArgs(state->get_running_loop);
}

RedlaneBell *
redlane_loop_bell_bell(PyObject *loop_bell)
{
    return ((LoopBell *)loop_bell)->bell;
}

/* The reader: called by the loop when something has come for any of its subscriptions.
 * Each is woken once, and looks for itself. */
static PyObject *
loop_bell_ring(PyObject *object, PyObject *unused)
{
    LoopBell *self = (LoopBell *)object;
    RedlaneFeed *feed;

    (void)unused;
    redlane_platform_wake_drain(self->bell->wake);
    while ((feed = redlane_bell_take(self->bell))) {
        if (feed->owner && redlane_subscription_wake(feed->owner) < 0) {
            PyErr_WriteUnraisable(object); /* the others are still to be woken */
        }
    }
    Py_RETURN_NONE;
}

static PyObject *
make_bell(RedlaneState *state)
{
    PyTypeObject *type = (PyTypeObject *)state->LoopBellType;
    LoopBell *self = (LoopBell *)type->tp_alloc(type, 0);

    if (!self) {
        return NULL;
    }
    self->bell = redlane_bell_new();
    if (!self->bell) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static PyObject *
add_bell(RedlaneState *state, PyObject *loop)
{
    PyObject *bell = make_bell(state), *ring = NULL, *result = NULL;

    if (!bell) {
        return NULL;
    }
    ring = PyObject_GetAttrString(bell, "ring");
    if (ring) {
        result = PyObject_CallMethod(loop, "add_reader", "iO",
                                     ((LoopBell *)bell)->bell->wake[0], ring);
    }
    if (!result || PyObject_SetItem(state->loop_bells, loop, bell) < 0) {
        Py_CLEAR(bell);
    }
    Py_XDECREF(result);
    Py_XDECREF(ring);
    return bell;
}

static PyObject *
make_dictionary(void)
{
    PyObject *module = PyImport_ImportModule("weakref"), *made;

    if (!module) {
        return NULL;
    }
    made = PyObject_CallMethod(module, "WeakKeyDictionary", NULL);
    Py_DECREF(module);
    return made;
}

PyObject *
redlane_loop_bell_of(RedlaneState *state, PyObject *loop)
{
    PyObject *found;

    if (!state->loop_bells && !(state->loop_bells = make_dictionary())) {
        return NULL;
    }
    found = PyObject_GetItem(state->loop_bells, loop);
    if (found && redlane_bell_is_own(((LoopBell *)found)->bell)) {
        return found;
    }
    if (!found && !PyErr_ExceptionMatches(PyExc_KeyError)) {
        return NULL;
    }
    PyErr_Clear();
    Py_XDECREF(found); /* that of a loop that was forked with its process */
    return add_bell(state, loop);
}

static void
loop_bell_tp_dealloc(PyObject *object)
{
    LoopBell *self = (LoopBell *)object;
    PyTypeObject *type = Py_TYPE(object);

    redlane_bell_release(self->bell);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMethodDef loop_bell_methods[] = {
    {"ring", loop_bell_ring, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot loop_bell_slots[] = {
    {Py_tp_doc, (void *)"An event loop's ear for its subscriptions."},
    {Py_tp_dealloc, loop_bell_tp_dealloc},
    {Py_tp_methods, loop_bell_methods},
    {0, NULL},
};

static PyType_Spec loop_bell_spec = {
    .name = "redlane._core.LoopBell",
    .basicsize = sizeof(LoopBell),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = loop_bell_slots,
};

int
redlane_loop_bell_setup(PyObject *module)
{
    RedlaneState *state = redlane_state_of_module(module);

    state->LoopBellType = PyType_FromModuleAndSpec(module, &loop_bell_spec, NULL);
    return state->LoopBellType ? 0 : -1;
}
