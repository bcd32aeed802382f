/* Waiting in a flow. Lock: the GIL. A wake from another thread goes by the loop's
 * call_soon_threadsafe. */
#include "types/flow_wait.h"

#include "core/clock.h"
#include "wire/loop.h"

int
redlane_waker_init(RedlaneWaker *waker, RedlaneState *state)
{
    RedlaneLoop *loop = redlane_loop_running(state);

    *waker = (RedlaneWaker){
        .thread = PyThread_get_thread_ident(),
        .loop = loop ? Py_NewRef(redlane_loop_object(loop)) : NULL,
    };
    return loop ? 0 : -1;
}

void
redlane_waker_clear(RedlaneWaker *waker)
{
    Py_CLEAR(waker->future);
    Py_CLEAR(waker->loop);
}

/* finish(future): its wait is over, unless that was cancelled. */
static PyObject *
finish(PyObject *Py_UNUSED(self), PyObject *future)
{
    PyObject *done = PyObject_CallMethod(future, "done", NULL), *answer = NULL;
    int is_done = done ? PyObject_IsTrue(done) : -1;

    Py_XDECREF(done);
    if (is_done == 0) {
        answer = PyObject_CallMethod(future, "set_result", "O", Py_None);
    }
    Py_XDECREF(answer);
    if (is_done < 0 || (is_done == 0 && !answer)) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef finish_method = {"finish_wait", finish, METH_O, NULL};

/* Has the loop call finish(future) by one of its methods, which takes `delay` first
 * where that is not NULL. Its handle: a new reference, or NULL. STEALS delay */
static PyObject *
schedule(PyObject *loop, const char *method, PyObject *delay, PyObject *future)
{
    PyObject *callback = PyCFunction_New(&finish_method, NULL);
    PyObject *name = callback ? PyUnicode_InternFromString(method) : NULL;
    PyObject *handle = NULL;

    if (name) {
        handle = delay ? PyObject_CallMethodObjArgs(loop, name, delay, callback, future,
                                                    NULL)
                       : PyObject_CallMethodObjArgs(loop, name, callback, future, NULL);
    }
    Py_XDECREF(name);
    Py_XDECREF(callback);
    Py_XDECREF(delay);
    return handle;
}

void
redlane_waker_wake(RedlaneWaker *waker)
{
    PyObject *future = Py_XNewRef(waker->future), *loop = Py_XNewRef(waker->loop);
    bool here = waker->thread == PyThread_get_thread_ident();
    PyObject *type, *error, *traceback, *answer;

    waker->woken = true;
    if (future && loop) { /* the waker may go meanwhile */
        PyErr_Fetch(&type, &error, &traceback);
        answer = here ? finish(NULL, future)
                      : schedule(loop, "call_soon_threadsafe", NULL, future);
        PyErr_Clear(); /* its loop is closed: nobody waits */
        Py_XDECREF(answer);
        PyErr_Restore(type, error, traceback);
    }
    Py_XDECREF(future);
    Py_XDECREF(loop);
}

static void
cancel_timer(PyObject *timer)
{
    PyObject *type, *error, *traceback, *answer;

    PyErr_Fetch(&type, &error, &traceback);
    answer = PyObject_CallMethod(timer, "cancel", NULL);
    PyErr_Clear();
    Py_XDECREF(answer);
    Py_DECREF(timer);
    PyErr_Restore(type, error, traceback);
}

int
redlane_flow_wait(RedlaneFlow *flow, RedlaneWaker *waker, int64_t deadline)
{
    int64_t left = deadline - redlane_clock_now();
    PyObject *seconds, *timer = NULL, *answer = NULL;

    if (waker->woken || left <= 0) {
        waker->woken = false;
        return 0;
    }
    waker->future = PyObject_CallMethod(waker->loop, "create_future", NULL);
    seconds = waker->future ? PyFloat_FromDouble((double)left / 1e9) : NULL;
    if (seconds) {
        timer = schedule(waker->loop, "call_later", seconds, waker->future);
    }
    if (timer) {
        PyObject *held[] = {waker->loop, waker->future, timer};

        redlane_flow_show(flow, held, sizeof(held) / sizeof(held[0]));
        answer = redlane_flow_await(flow, Py_NewRef(waker->future));
        redlane_flow_show(flow, NULL, 0);
        cancel_timer(timer);
    }
    Py_CLEAR(waker->future);
    waker->woken = false;
    if (!answer) {
        return -1;
    }
    Py_DECREF(answer);
    return 0;
}

int
redlane_flow_pause(RedlaneFlow *flow, RedlaneState *state, int64_t length)
{
    RedlaneWaker waker;
    int result = redlane_waker_init(&waker, state);

    if (result == 0) {
        result = redlane_flow_wait(flow, &waker, redlane_clock_now() + length);
    }
    redlane_waker_clear(&waker);
    return result;
}
