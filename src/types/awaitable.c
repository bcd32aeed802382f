/* What our awaitables share. Lock: the GIL. */
#include "types/awaitable.h"

void
redlane_awaitable_return(PyObject *value)
{
    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, value);

    if (stop) {
        PyErr_SetObject(PyExc_StopIteration, stop);
        Py_DECREF(stop);
    }
}

void
redlane_awaitable_throw(PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *type, *value, *traceback = nargs > 2 ? args[2] : Py_None;

    if (nargs < 1 || nargs > 3) {
        PyErr_Format(PyExc_TypeError, "throw() takes 1 to 3 arguments (%zd given)",
                     nargs);
        return;
    }
    type = args[0];
    value = nargs > 1 ? args[1] : Py_None;
    if (traceback != Py_None && !PyTraceBack_Check(traceback)) {
        PyErr_SetString(PyExc_TypeError,
                        "throw() third argument must be a traceback object");
        return;
    }
    if (PyExceptionInstance_Check(type)) {
        if (value != Py_None) {
            PyErr_SetString(PyExc_TypeError,
                            "instance exception may not have a separate value");
            return;
        }
        value = type;
        type = (PyObject *)Py_TYPE(value);
    }
    else if (!PyExceptionClass_Check(type)) {
        PyErr_Format(PyExc_TypeError,
                     "exceptions must be classes or instances deriving from "
                     "BaseException, not %.100s",
                     Py_TYPE(type)->tp_name);
        return;
    }
    if (traceback == Py_None) {
        PyErr_SetObject(type, value == Py_None ? NULL : value);
        return;
    }
    PyErr_Restore(Py_NewRef(type), value == Py_None ? NULL : Py_NewRef(value),
                  Py_NewRef(traceback));
}

PyObject *
redlane_awaitable_iterator(PyObject *STEALS awaitable)
{
    PyAsyncMethods *methods = Py_TYPE(awaitable)->tp_as_async;
    PyObject *iterator;

    if (PyCoro_CheckExact(awaitable)) {
        return awaitable;
    }
    if (!methods || !methods->am_await) {
        PyErr_Format(PyExc_TypeError,
                     "object %.100s can't be used in 'await' expression",
                     Py_TYPE(awaitable)->tp_name);
        Py_DECREF(awaitable);
        return NULL;
    }
    iterator = methods->am_await(awaitable);
    Py_DECREF(awaitable);
    if (iterator && !PyIter_Check(iterator)) {
        PyErr_Format(PyExc_TypeError,
                     "__await__() returned non-iterator of type %.100s",
                     Py_TYPE(iterator)->tp_name);
        Py_CLEAR(iterator);
    }
    return iterator;
}

void
redlane_awaitable_guard_stop(void)
{
    PyObject *type, *cause, *error, *traceback;

    if (likely(!PyErr_ExceptionMatches(PyExc_StopIteration))) {
        return;
    }
    PyErr_Fetch(&type, &cause, &traceback);
    PyErr_NormalizeException(&type, &cause, &traceback);
    if (traceback) {
        (void)PyException_SetTraceback(cause, traceback);
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    PyErr_SetString(PyExc_RuntimeError, "coroutine raised StopIteration");
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    PyException_SetContext(error, Py_NewRef(cause)); /* these two steal */
    PyException_SetCause(error, cause);
    PyErr_Restore(type, error, traceback);
}

int
redlane_awaitable_call_optional(PyObject *iterator, const char *name,
                                PyObject *const *args, Py_ssize_t nargs,
                                PyObject **result)
{
    PyObject *method = PyObject_GetAttrString(iterator, name);

    *result = NULL;
    if (!method) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    *result = PyObject_Vectorcall(method, args, (size_t)nargs, NULL);
    Py_DECREF(method);
    return *result ? 1 : -1;
}

PyObject *
redlane_awaitable_take_return(void)
{
    PyObject *type, *error, *traceback, *value = NULL;

    if (PyErr_ExceptionMatches(PyExc_StopIteration)) {
        PyErr_Fetch(&type, &error, &traceback);
        PyErr_NormalizeException(&type, &error, &traceback);
        value = error ? PyObject_GetAttrString(error, "value") : NULL;
        Py_XDECREF(type);
        Py_XDECREF(error);
        Py_XDECREF(traceback);
    }
    return value;
}

PyObject *
redlane_awaitable_get_none(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    Py_RETURN_NONE;
}

PyObject *
redlane_awaitable_get_false(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    Py_RETURN_FALSE;
}
