/* The iterator of Client.scan_iter(): scan() until its cursor comes back to 0.
 *
 * GIL held. Scan is called as a method, so that a subclass's own is used. */
#include "py/state.h"
#include "types/client.h"

typedef struct {
    PyObject_HEAD
    PyObject *scan;    /* the bound method; NULL when the last keys have come */
    PyObject *options; /* dict: match, count, _type */
    PyObject *cursor;
    PyObject *keys; /* list of the present step, or NULL */
    Py_ssize_t next;
} ScanIterator;

static int
scan_iterator_tp_traverse(PyObject *object, visitproc visit, void *arg)
{
    ScanIterator *self = (ScanIterator *)object;

    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->scan);
    Py_VISIT(self->options);
    Py_VISIT(self->cursor);
    Py_VISIT(self->keys);
    return 0;
}

static int
scan_iterator_tp_clear(PyObject *object)
{
    ScanIterator *self = (ScanIterator *)object;

    Py_CLEAR(self->scan);
    Py_CLEAR(self->options);
    Py_CLEAR(self->cursor);
    Py_CLEAR(self->keys);
    return 0;
}

static void
scan_iterator_tp_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);

    PyObject_GC_UnTrack(object);
    (void)scan_iterator_tp_clear(object);
    type->tp_free(object);
    Py_DECREF(type);
}

/* 1 when there is more, 0 at the end. A cursor that stays where it was would do so for
 * ever. RAISES_NEG */
static int
check_cursor(ScanIterator *self, PyObject *cursor)
{
    int more = PyObject_IsTrue(cursor);
    int same = more > 0 && PyLong_CheckExact(cursor) && PyLong_CheckExact(self->cursor)
                   ? PyObject_RichCompareBool(cursor, self->cursor, Py_EQ)
                   : 0;

    if (same > 0) {
        RedlaneState *state = redlane_state_of_type(Py_TYPE(self));

        if (state) {
            PyErr_SetString(state->ReplyError, "SCAN: the cursor stands still");
        }
    }
    return same ? -1 : more;
}

/* One step: 0 with new keys (perhaps none), RAISES_NEG. Whatever is called in here may
 * come back to this iterator, so its fields are read before and set after. */
static int
take_step(ScanIterator *self)
{
    PyObject *positional, *step = NULL, *options = self->options, *scan = self->scan;
    int more;

    Py_INCREF(scan);
    Py_INCREF(options);
    positional = PyTuple_Pack(1, self->cursor);
    if (positional) {
        step = PyObject_Call(scan, positional, options);
        Py_DECREF(positional);
    }
    Py_DECREF(options);
    Py_DECREF(scan);
    if (!step) {
        return -1;
    }
    if (!PyTuple_Check(step) || PyTuple_GET_SIZE(step) != 2 ||
        !PyList_Check(PyTuple_GET_ITEM(step, 1))) {
        PyErr_SetString(PyExc_TypeError, "scan() must give (cursor, list)");
        Py_DECREF(step);
        return -1;
    }
    more = check_cursor(self, PyTuple_GET_ITEM(step, 0));
    if (more >= 0) {
        Py_XSETREF(self->cursor, Py_NewRef(PyTuple_GET_ITEM(step, 0)));
        Py_XSETREF(self->keys, Py_NewRef(PyTuple_GET_ITEM(step, 1)));
        self->next = 0;
        if (!more) {
            Py_CLEAR(self->scan);
        }
    }
    Py_DECREF(step);
    return more < 0 ? -1 : 0;
}

static PyObject *
scan_iterator_tp_iternext(PyObject *object)
{
    ScanIterator *self = (ScanIterator *)object;

    for (;;) {
        if (self->keys && self->next < PyList_GET_SIZE(self->keys)) {
            return Py_NewRef(PyList_GET_ITEM(self->keys, self->next++));
        }
        Py_CLEAR(self->keys);
        if (!self->scan || take_step(self) < 0) {
            return NULL;
        }
    }
}

PyObject *
redlane_scan_iterator_new(RedlaneClient *client, PyObject *match, PyObject *count,
                          PyObject *type)
{
    PyTypeObject *own = (PyTypeObject *)client->state->ScanIteratorType;
    ScanIterator *self = (ScanIterator *)own->tp_alloc(own, 0);

    if (!self) {
        return NULL;
    }
    self->scan = PyObject_GetAttrString((PyObject *)client, "scan");
    self->cursor = PyLong_FromLong(0);
    self->options =
        Py_BuildValue("{sOsOsO}", "match", match, "count", count, "_type", type);
    if (!self->scan || !self->cursor || !self->options) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

PyDoc_STRVAR(scan_iterator_doc, "Iterator over keys, from Client.scan_iter().");

static PyType_Slot scan_iterator_slots[] = {
    {Py_tp_doc, (void *)scan_iterator_doc},
    {Py_tp_dealloc, scan_iterator_tp_dealloc},
    {Py_tp_traverse, scan_iterator_tp_traverse},
    {Py_tp_clear, scan_iterator_tp_clear},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, scan_iterator_tp_iternext},
    {0, NULL},
};

static PyType_Spec scan_iterator_spec = {
    .name = "redlane._core.ScanIterator",
    .basicsize = sizeof(ScanIterator),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = scan_iterator_slots,
};

int
redlane_scan_iterator_setup(PyObject *module)
{
    RedlaneState *state = redlane_state_of_module(module);

    state->ScanIteratorType =
        PyType_FromModuleAndSpec(module, &scan_iterator_spec, NULL);
    return state->ScanIteratorType ? 0 : -1;
}
