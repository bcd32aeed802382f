/* Gap: a place where messages may be missing. GIL held. */
#include "types/subscription.h"

int
redlane_gap_setup(PyObject *module)
{
    static PyStructSequence_Field fields[] = {
        {"reason", "Why, for people."},
        {"seconds", "For how long nothing came from the server; 0.0: it always did."},
        {"dropped", "Messages that came and had no room in the queue."},
        {NULL, NULL},
    };
    static PyStructSequence_Desc description = {
        .name = "redlane.Gap",
        .doc = "Messages may be missing here; what comes after it is complete again.",
        .fields = fields,
        .n_in_sequence = 3,
    };
    RedlaneState *state = redlane_state_of_module(module);

    return redlane_state_add(module, &state->GapType, "Gap",
                             (PyObject *)PyStructSequence_NewType(&description));
}

PyObject *
redlane_gap_new(RedlaneState *state, const RedlaneLetter *letter)
{
    PyObject *gap = PyStructSequence_New((PyTypeObject *)state->GapType);
    PyObject *values[] = {
        PyUnicode_DecodeUTF8(letter->bytes, (Py_ssize_t)letter->size, "replace"),
        PyFloat_FromDouble((double)letter->length / (double)REDLANE_NS_PER_S),
        PyLong_FromUnsignedLongLong(letter->dropped),
    };

    for (Py_ssize_t i = 0; i < 3; i++) {
        if (!gap || !values[i]) {
            Py_XDECREF(values[i]);
            Py_CLEAR(gap);
            continue;
        }
        PyStructSequence_SetItem(gap, i, values[i]);
    }
    return gap;
}
