/* From ids to a counter's key. Under the GIL; runs Python code (str of an id). */
#include "types/counter_key.h"

#include "types/id_text.h"

/* Makes the key of target->ids. RAISES_NEG */
static int
make_key(RedlaneCounterKey *target)
{
    RedlaneCounter *counter = target->counter;
    Py_ssize_t count = PyTuple_GET_SIZE(counter->parts);
    PyObject *name = PyUnicode_FromString("");
    int result;

    for (Py_ssize_t i = 0; name && i < count; i++) {
        PyObject *part = PyTuple_GET_ITEM(counter->parts, i), *text;

        if (PyUnicode_Check(part)) {
            text = Py_NewRef(part);
        }
        else {
            text = redlane_id_text(target->ids[PyLong_AsSsize_t(part)], "a counter's");
        }
        Py_SETREF(name, text ? PyUnicode_Concat(name, text) : NULL);
        Py_XDECREF(text);
    }
    if (!name) {
        return -1;
    }
    result = redlane_cache_key_init(&target->key, counter->cache, name);
    Py_DECREF(name);
    return result;
}

/* Where a keyword belongs: a field's index, or their count for "amount"; -1. */
static Py_ssize_t
find_keyword(const RedlaneCounter *counter, PyObject *keyword)
{
    Py_ssize_t fields = PyTuple_GET_SIZE(counter->fields);

    for (Py_ssize_t i = 0; i < fields; i++) {
        if (PyUnicode_Compare(PyTuple_GET_ITEM(counter->fields, i), keyword) == 0) {
            return i;
        }
    }
    return PyUnicode_CompareWithASCIIString(keyword, "amount") == 0 ? fields : -1;
}

int
redlane_counter_key_init(RedlaneCounterKey *target, PyObject *self,
                         PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                         bool with_amount)
{
    RedlaneCounter *counter = (RedlaneCounter *)self;
    Py_ssize_t fields = PyTuple_GET_SIZE(counter->fields),
               places = fields + with_amount;
    PyObject *values[REDLANE_COUNTER_FIELDS + 1] = {NULL};
    bool fits = nargs <= places;

    for (Py_ssize_t i = 0; fits && i < nargs; i++) {
        values[i] = args[i];
    }
    for (Py_ssize_t i = 0; fits && kwnames && i < PyTuple_GET_SIZE(kwnames); i++) {
        Py_ssize_t at = find_keyword(counter, PyTuple_GET_ITEM(kwnames, i));

        fits = at >= 0 && at < places && !values[at];
        if (fits) {
            values[at] = args[nargs + i];
        }
    }
    for (Py_ssize_t i = 0; fits && i < fields; i++) {
        fits = values[i] != NULL;
    }
    if (!fits) {
        PyErr_Format(PyExc_TypeError, "the counter %R takes its %zd fields%s",
                     counter->template, fields, with_amount ? " and an amount" : "");
        return -1;
    }
    target->counter = counter;
    memcpy(target->ids, values, (size_t)fields * sizeof(*values));
    target->amount = with_amount ? values[fields] : NULL;
    return make_key(target);
}

int
redlane_counter_key_from(RedlaneCounterKey *target, PyObject *self, PyObject *ids)
{
    if (PyTuple_Check(ids)) {
        return redlane_counter_key_init(target, self, PySequence_Fast_ITEMS(ids),
                                        PyTuple_GET_SIZE(ids), NULL, false);
    }
    return redlane_counter_key_init(target, self, &ids, 1, NULL, false);
}
