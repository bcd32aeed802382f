/* An awaitable whose result is there already. Lock: the GIL.
 *
 * CPython 3.10 and 3.11 await through am_send, later ones through tp_iternext and
 * StopIteration unless it is a coroutine of their own. Making that exception costs more
 * than all the rest, so one is kept and used again as long as nobody else holds it: 43
 * against 108 ns. */
#include "types/ready_awaitable.h"

#include <stdbool.h>

#include "py/hold.h"
#include "py/state.h"
#include "types/awaitable.h"

#define FREE_MAX 64 /* as many as one turn of a busy loop makes */

#define KEEPS_STOP (PY_VERSION_HEX >= 0x030C0000)

typedef struct Ready {
    PyObject_HEAD
    union {
        PyObject *value;    /* NULL: it was awaited, or closed */
        struct Ready *next; /* in the free list */
    };
    RedlaneState *state; /* BORROWED */
    bool tracked;        /* by the collector */
} Ready;

/* RedlaneState.ready. What is free keeps its reference to its type, which the module
 * visits for it: taking and giving it back would cost each hit 2 ns. */
typedef struct RedlaneReadyKept {
    Ready *free;
    unsigned count; /* FREE_MAX where none are kept any more */
    PyObject *stop; /* a StopIteration, or NULL */
} Kept;

PyObject *
redlane_ready_awaitable_new(RedlaneState *state, PyObject *STEALS value)
{
    Kept *kept = state->ready;
    Ready *self = kept->free;

    if (likely(self != NULL)) {
        kept->free = self->next;
        kept->count--;
        redlane_hold_first((PyObject *)self);
    }
    else {
        self = PyObject_GC_New(Ready, (PyTypeObject *)state->ReadyAwaitableType);
        if (!self) {
            Py_DECREF(value);
            return NULL;
        }
        self->state = state;
    }
    self->value = value;
    /* As a tuple of such: what holds nothing that refers to others is in no cycle. */
    self->tracked = PyType_IS_GC(Py_TYPE(value));
    if (unlikely(self->tracked)) {
        PyObject_GC_Track(self);
    }
    return (PyObject *)self;
}

#if KEEPS_STOP
static bool
is_clean(PyObject *stop)
{
    PyStopIterationObject *kept = (PyStopIterationObject *)stop;

    return Py_REFCNT(stop) == 1 &&
           ((uintptr_t)kept->traceback | (uintptr_t)kept->context |
            (uintptr_t)kept->cause | (uintptr_t)kept->dict | (uintptr_t)kept->notes) ==
               0;
}

/* As redlane_awaitable_return, with the exception that is kept. STEALS value */
static void
return_kept(Kept *kept, PyObject *value)
{
    PyObject *old;

    if (unlikely(!kept->stop || !is_clean(kept->stop))) {
        PyObject *fresh = PyObject_CallNoArgs(PyExc_StopIteration);

        if (!fresh) {
            Py_DECREF(value);
            return;
        }
        Py_XSETREF(kept->stop, fresh);
    }
    old = ((PyStopIterationObject *)kept->stop)->value;
    ((PyStopIterationObject *)kept->stop)->value = value;
    PyErr_SetRaisedException(redlane_hold(kept->stop));
    Py_XDECREF(old);
}

/* Nobody shall wonder why a result lives on. */
static void
drop_kept_value(Kept *kept)
{
    PyStopIterationObject *stop = (PyStopIterationObject *)kept->stop;
    PyObject *value;

    if (likely(stop && Py_REFCNT(stop) == 1)) {
        value = stop->value;
        stop->value = NULL; /* reads as None */
        Py_XDECREF(value);
    }
}
#endif

/* The result: a new reference, once; later NULL with RuntimeError set. */
static PyObject *
take_value(Ready *self)
{
    PyObject *value = self->value;

    if (unlikely(!value)) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return NULL;
    }
    self->value = NULL;
    return value;
}

static PyObject *
ready_am_await(PyObject *self)
{
    return redlane_hold(self);
}

static PySendResult
ready_am_send(PyObject *self, PyObject *sent, PyObject **result)
{
    if (unlikely(sent && sent != Py_None && ((Ready *)self)->value)) {
        PyErr_SetString(PyExc_TypeError,
                        "can't send non-None value to a just-started coroutine");
        *result = NULL;
        return PYGEN_ERROR;
    }
    *result = take_value((Ready *)self);
    return *result ? PYGEN_RETURN : PYGEN_ERROR;
}

static PyObject *
ready_tp_iternext(PyObject *self)
{
    PyObject *value = take_value((Ready *)self);

    if (unlikely(!value)) {
        return NULL;
    }
    if (value == Py_None) { /* the same as StopIteration */
        Py_DECREF(value);
        return NULL;
    }
#if KEEPS_STOP
    return_kept(((Ready *)self)->state->ready, value);
#else
    redlane_awaitable_return(value);
    Py_DECREF(value);
#endif
    return NULL;
}

PyDoc_STRVAR(send_doc, "send($self, value, /)\n--\n\n"
                       "As of a coroutine: raises StopIteration with the result.");

static PyObject *
ready_send(PyObject *self, PyObject *sent)
{
    PyObject *value;

    if (ready_am_send(self, sent, &value) == PYGEN_RETURN) {
        redlane_awaitable_return(value);
        Py_DECREF(value);
    }
    return NULL;
}

PyDoc_STRVAR(throw_doc, "throw($self, typ, val=None, tb=None, /)\n--\n\n"
                        "As of a coroutine: raises the exception.");

static PyObject *
ready_throw(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *value = take_value((Ready *)self);

    if (value) {
        redlane_awaitable_throw(args, nargs);
        Py_DECREF(value);
    }
    return NULL;
}

PyDoc_STRVAR(close_doc, "close($self, /)\n--\n\n"
                        "As of a coroutine: it cannot be awaited any more.");

static PyObject *
ready_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Py_CLEAR(((Ready *)self)->value);
    Py_RETURN_NONE;
}

static int
ready_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((Ready *)self)->value);
    return 0;
}

static int
ready_tp_clear(PyObject *self)
{
    Py_CLEAR(((Ready *)self)->value);
    return 0;
}

static void
ready_tp_dealloc(PyObject *object)
{
    Ready *self = (Ready *)object;
    PyTypeObject *type = Py_TYPE(object);
    Kept *kept = self->state->ready;
    PyObject *value = self->value;

    if (unlikely(self->tracked)) {
        PyObject_GC_UnTrack(object);
    }
#if KEEPS_STOP
    if (likely(kept != NULL)) {
        drop_kept_value(kept);
    }
#endif
    Py_XDECREF(value);
    if (likely(kept && kept->count < FREE_MAX)) {
        self->next = kept->free;
        kept->free = self;
        kept->count++;
        return;
    }
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

int
redlane_ready_awaitable_visit_kept(RedlaneState *state, visitproc visit, void *arg)
{
    const Ready *free = state->ready ? state->ready->free : NULL;

    for (; free; free = free->next) {
        Py_VISIT(Py_TYPE(free));
    }
    return 0;
}

void
redlane_ready_awaitable_drop_kept(RedlaneState *state)
{
    Kept *kept = state->ready;

    if (!kept) {
        return;
    }
    kept->count = FREE_MAX;
    while (kept->free) {
        Ready *first = kept->free;
        PyTypeObject *type = Py_TYPE(first);

        kept->free = first->next;
        PyObject_GC_Del(first);
        Py_DECREF(type);
    }
}

void
redlane_ready_awaitable_free_kept(RedlaneState *state)
{
    Kept *kept = state->ready;

    if (!kept) {
        return;
    }
    redlane_ready_awaitable_drop_kept(state);
    Py_XDECREF(kept->stop);
    PyMem_Free(kept);
    state->ready = NULL;
}

int
redlane_ready_awaitable_setup(PyObject *module)
{
    static PyMethodDef methods[] = {
        {"send", ready_send, METH_O, send_doc},
        {"throw", (PyCFunction)(void (*)(void))ready_throw, METH_FASTCALL, throw_doc},
        {"close", ready_close, METH_NOARGS, close_doc},
        {NULL, NULL, 0, NULL},
    };
    /* As of a coroutine that has ended, or has not begun: nobody can meet it between.
     */
    static PyGetSetDef getset[] = {
        {"cr_running", redlane_awaitable_get_false, NULL, NULL, NULL},
        {"cr_suspended", redlane_awaitable_get_false, NULL, NULL, NULL},
        {"cr_await", redlane_awaitable_get_none, NULL, NULL, NULL},
        {"cr_frame", redlane_awaitable_get_none, NULL, NULL, NULL},
        {NULL, NULL, NULL, NULL, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_doc, "A coroutine whose result is there already."},
        {Py_tp_traverse, ready_tp_traverse},
        {Py_tp_clear, ready_tp_clear},
        {Py_tp_dealloc, ready_tp_dealloc},
        {Py_am_await, ready_am_await},
        {Py_am_send, ready_am_send},
        {Py_tp_iter, PyObject_SelfIter},
        {Py_tp_iternext, ready_tp_iternext},
        {Py_tp_methods, methods},
        {Py_tp_getset, getset},
        {0, NULL},
    };
    static PyType_Spec spec = {
        .name = "redlane._core.ReadyAwaitable",
        .basicsize = sizeof(Ready),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
                 Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };
    RedlaneState *state = redlane_state_of_module(module);

    state->ready = PyMem_Calloc(1, sizeof(*state->ready));
    if (!state->ready) {
        (void)PyErr_NoMemory();
        return -1;
    }
    state->ReadyAwaitableType = PyType_FromModuleAndSpec(module, &spec, NULL);
    return state->ReadyAwaitableType ? 0 : -1;
}
