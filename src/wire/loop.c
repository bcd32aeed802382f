/* One object to an event loop. GIL held throughout. */
#include "wire/loop.h"

#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fork.h"
#include "py/errors.h"
#include "py/state.h"

/* The event loop's attribute that holds us. */
#define ATTRIBUTE "_redlane_loop"
/* A timer that came a moment early would be armed once more for nothing. */
#define TIMER_LATE 0.0005

/* asyncio.get_running_loop() asks the system for the process's id each time, which
 * takes longer than all the rest of it. What it looks at is an object that the thread
 * has while a loop runs in it, and whose first field is that loop: read here in place,
 * once it was seen that this holds of this Python. Forks are counted instead. */
typedef struct {
    PyObject_HEAD
    PyObject *loop;
} Holder;

#define HOLDER_KEY "__asyncio_running_event_loop__"

struct RedlaneLoops {
    size_t references;  /* of the module's state, and of each loop */
    RedlaneLoop *first; /* the one used last */
    PyObject *holder_key;
    PyTypeObject *holder_type; /* NULL: not seen, or not so */
    int depth;                 /* of forks, when it was */
};

struct RedlaneLoop {
    PyObject_HEAD
    RedlaneLoops *loops; /* held */
    RedlaneLoop *next, **place;
    PyObject *loop;             /* the event loop; NULL once we are cleared */
    PyObject *call_soon;        /* its methods, bound */
    PyObject *call_later;       /* … */
    PyObject *create_future;    /* …; of asyncio's own loops the class, and: */
    PyObject *future_names;     /* (“loop”,), or NULL */
    PyObject *get_running_loop; /* asyncio's: the state may go before us */
    PyObject *on_timer;         /* our own, bound */
    PyObject *timer;            /* a TimerHandle, or NULL */
    int64_t timer_at;           /* REDLANE_NEVER: there is none */
    pid_t process; /* a child made by fork shares what the loop waits with */
    RedlaneLoopMember *members;
    RedlaneLoopMember *ticked; /* whose turn comes next while all are ticked */
};

/* --- which loops there are --- */

void
redlane_loops_release(RedlaneLoops *loops)
{
    if (loops && --loops->references == 0) {
        Py_XDECREF(loops->holder_key);
        Py_XDECREF(loops->holder_type);
        PyMem_Free(loops);
    }
}

static void
unlink_loop(RedlaneLoop *self)
{
    if (self->place) {
        *self->place = self->next;
        if (self->next) {
            self->next->place = self->place;
        }
        self->place = NULL;
    }
}

static void
link_first(RedlaneLoops *loops, RedlaneLoop *self)
{
    self->next = loops->first;
    self->place = &loops->first;
    if (self->next) {
        self->next->place = &self->next;
    }
    loops->first = self;
}

static void
drop_members(RedlaneLoop *self)
{
    while (self->members) {
        RedlaneLoopMember *member = self->members;

        redlane_loop_leave(self, member);
        member->drop(member);
    }
}

/* Breaks the cycle with the event loop. */
static void
let_go(RedlaneLoop *self)
{
    PyObject *loop;

    unlink_loop(self);
    drop_members(self);
    loop = self->loop;
    self->loop = NULL; /* first: nobody calls its methods any more */
    Py_CLEAR(self->call_soon);
    Py_CLEAR(self->call_later);
    Py_CLEAR(self->create_future);
    Py_CLEAR(self->future_names);
    Py_CLEAR(self->get_running_loop);
    Py_CLEAR(self->on_timer);
    Py_CLEAR(self->timer);
    Py_XDECREF(loop);
}

static bool
is_closed(RedlaneLoop *self)
{
    PyObject *loop = Py_XNewRef(self->loop), *closed = NULL;
    bool result;

    if (loop) {
        closed = PyObject_CallMethod(loop, "is_closed", NULL);
        redlane_errors_put_off();
    }
    result = closed == Py_True;
    Py_XDECREF(closed);
    Py_XDECREF(loop);
    return result;
}

/* Loops that were closed, and may not be collected for long, are let go with all that
 * they hold. */
static void
sweep_closed(RedlaneLoops *loops)
{
    PyObject *object = Py_XNewRef((PyObject *)loops->first);

    while (object) {
        RedlaneLoop *self = (RedlaneLoop *)object;
        bool closed = is_closed(self);

        object = Py_XNewRef(self->place ? (PyObject *)self->next : NULL);
        if (closed) {
            let_go(self);
        }
        Py_DECREF(self);
    }
}

/* --- making and finding --- */

/* Whether a loop's create_future() is asyncio's own: `return Future(loop=self)`, for
 * which no frame is needed. RAISES_NEG */
static int
makes_plain_futures(PyObject *loop)
{
    PyObject *module = PyImport_ImportModule("asyncio.base_events");
    PyObject *base = NULL, *theirs = NULL, *plain = NULL;
    int result = -1;

    if (module) {
        base = PyObject_GetAttrString(module, "BaseEventLoop");
        Py_DECREF(module);
    }
    if (base) {
        plain = PyObject_GetAttrString(base, "create_future");
        theirs = PyObject_GetAttrString((PyObject *)Py_TYPE(loop), "create_future");
    }
    if (plain && !theirs && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear(); /* a loop that has its methods otherwise */
        result = 0;
    }
    else if (plain && theirs) {
        result = plain == theirs;
    }
    Py_XDECREF(base);
    Py_XDECREF(plain);
    Py_XDECREF(theirs);
    return result;
}

/* RAISES_NEG */
static int
bind_future(RedlaneLoop *self)
{
    int plain = makes_plain_futures(self->loop);
    PyObject *module;

    if (plain <= 0) {
        self->create_future =
            plain < 0 ? NULL : PyObject_GetAttrString(self->loop, "create_future");
        return self->create_future ? 0 : -1;
    }
    module = PyImport_ImportModule("asyncio.futures");
    if (!module) {
        return -1;
    }
    self->create_future = PyObject_GetAttrString(module, "Future");
    Py_DECREF(module);
    self->future_names = Py_BuildValue("(s)", "loop");
    return self->create_future && self->future_names ? 0 : -1;
}

static int
bind_methods(RedlaneLoop *self)
{
    self->call_soon = PyObject_GetAttrString(self->loop, "call_soon");
    self->call_later = PyObject_GetAttrString(self->loop, "call_later");
    self->on_timer = PyObject_GetAttrString((PyObject *)self, "_on_timer");
    return self->call_soon && self->call_later && self->on_timer ? bind_future(self)
                                                                 : -1;
}

static RedlaneLoop *
new_loop(RedlaneState *state, PyObject *loop)
{
    PyTypeObject *type = (PyTypeObject *)state->LoopType;
    RedlaneLoop *self;

    sweep_closed(state->loops);
    self = (RedlaneLoop *)type->tp_alloc(type, 0);
    if (!self) {
        return NULL;
    }
    self->loops = state->loops;
    self->loops->references++;
    self->timer_at = REDLANE_NEVER;
    self->process = getpid();
    self->loop = Py_NewRef(loop);
    self->get_running_loop = Py_NewRef(state->get_running_loop);
    if (bind_methods(self) < 0 ||
        PyObject_SetAttrString(loop, ATTRIBUTE, (PyObject *)self) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    link_first(self->loops, self);
    Py_DECREF(self); /* the event loop has it */
    return self;
}

/* That of an event loop which was not the last one used; BORROWED. */
static RedlaneLoop *
find_loop(RedlaneState *state, PyObject *loop)
{
    PyObject *found = PyObject_GetAttrString(loop, ATTRIBUTE);
    RedlaneLoop *self = (RedlaneLoop *)found;

    if (!found) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return NULL;
        }
        PyErr_Clear();
        return new_loop(state, loop);
    }
    Py_DECREF(found); /* BORROWED from the event loop */
    if (!Py_IS_TYPE(found, (PyTypeObject *)state->LoopType) || self->loop != loop) {
        return new_loop(state, loop);
    }
    unlink_loop(self);
    link_first(self->loops, self);
    return self;
}

static int
import_asyncio(RedlaneState *state)
{
    PyObject *asyncio = PyImport_ImportModule("asyncio");

    if (!asyncio) {
        return -1;
    }
    state->get_running_loop = PyObject_GetAttrString(asyncio, "get_running_loop");
    Py_DECREF(asyncio);
    return state->get_running_loop ? 0 : -1;
}

/* What this thread has while a loop runs in it; BORROWED, or NULL (no exception). */
static PyObject *
find_holder(const RedlaneLoops *loops)
{
    PyObject *own = PyThreadState_GetDict();

    return own && loops->holder_key ? PyDict_GetItem(own, loops->holder_key) : NULL;
}

/* Whether `loop` runs in this thread, as far as that can be seen at a glance. */
static bool
is_seen_running(const RedlaneLoops *loops, const PyObject *loop)
{
    PyObject *holder = loops->holder_type ? find_holder(loops) : NULL;

    return holder && Py_IS_TYPE(holder, loops->holder_type) &&
           ((Holder *)holder)->loop == loop && loops->depth == redlane_fork_depth();
}

/* Learns from the loop that runs what its holder looks like. */
static void
learn_holder(RedlaneLoops *loops, const PyObject *loop)
{
    PyObject *holder;

    if (!loops->holder_key) {
        loops->holder_key = PyUnicode_InternFromString(HOLDER_KEY);
        PyErr_Clear();
    }
    holder = find_holder(loops);
    if (holder && Py_TYPE(holder)->tp_basicsize >= (Py_ssize_t)sizeof(Holder) &&
        strstr(Py_TYPE(holder)->tp_name, "RunningLoopHolder") &&
        ((Holder *)holder)->loop == loop) {
        loops->depth = redlane_fork_depth();
        if (loops->depth >= 0) {
            Py_XSETREF(loops->holder_type,
                       (PyTypeObject *)Py_NewRef((PyObject *)Py_TYPE(holder)));
        }
    }
}

RedlaneLoop *
redlane_loop_running(RedlaneState *state)
{
    RedlaneLoop *self = state->loops->first;
    PyObject *loop;

    if (likely(self && is_seen_running(state->loops, self->loop))) {
        return self;
    }
    if (unlikely(!state->get_running_loop) && import_asyncio(state) < 0) {
        return NULL;
    }
    loop = PyObject_CallNoArgs(state->get_running_loop);
    if (!loop) {
        return NULL;
    }
    learn_holder(state->loops, loop);
    self = state->loops->first;
    if (unlikely(!self || self->loop != loop)) {
        self = find_loop(state, loop);
    }
    Py_DECREF(loop); /* whoever runs it has it */
    return self;
}

bool
redlane_loop_is_running(const RedlaneLoop *loop)
{
    PyObject *running;
    bool same;

    if (!loop->loop) {
        return false;
    }
    running = PyObject_CallNoArgs(loop->get_running_loop);
    same = running == loop->loop;
    Py_XDECREF(running);
    PyErr_Clear();
    return same;
}

/* --- the event loop's methods --- */

PyObject *
redlane_loop_object(const RedlaneLoop *loop)
{
    return loop->loop;
}

static int
refuse_gone(void)
{
    PyErr_SetString(PyExc_RuntimeError, "the event loop is gone");
    return -1;
}

PyObject *
redlane_loop_future(RedlaneLoop *loop)
{
    if (unlikely(!loop->create_future)) {
        (void)refuse_gone();
        return NULL;
    }
    return likely(loop->future_names != NULL)
               ? PyObject_Vectorcall(loop->create_future, &loop->loop, 0,
                                     loop->future_names)
               : PyObject_CallNoArgs(loop->create_future);
}

static int
dropped(PyObject *STEALS result)
{
    Py_XDECREF(result);
    return result ? 0 : -1;
}

int
redlane_loop_call_soon(RedlaneLoop *loop, PyObject *callback)
{
    return loop->call_soon ? dropped(PyObject_CallOneArg(loop->call_soon, callback))
                           : refuse_gone();
}

int
redlane_loop_watch(RedlaneLoop *loop, const char *name, int fd, PyObject *callback)
{
    if (!loop->loop) {
        return refuse_gone();
    }
    if (!callback && getpid() != loop->process) {
        return 0; /* the parent's loop would watch it no more */
    }
    return dropped(callback ? PyObject_CallMethod(loop->loop, name, "iO", fd, callback)
                            : PyObject_CallMethod(loop->loop, name, "i", fd));
}

bool
redlane_loop_call_threadsafe(RedlaneLoop *loop)
{
    bool called;

    if (!loop->loop || getpid() != loop->process) {
        return false;
    }
    called = dropped(PyObject_CallMethod(loop->loop, "call_soon_threadsafe", "O",
                                         loop->on_timer)) == 0 ||
             redlane_errors_is_interruption(); /* the loop lives */
    redlane_errors_put_off();
    return called;
}

/* --- members and the timer --- */

void
redlane_loop_join(RedlaneLoop *loop, RedlaneLoopMember *member)
{
    member->next = loop->members;
    member->place = &loop->members;
    if (member->next) {
        member->next->place = &member->next;
    }
    loop->members = member;
}

void
redlane_loop_leave(RedlaneLoop *loop, RedlaneLoopMember *member)
{
    if (!member->place) {
        return;
    }
    if (loop->ticked == member) {
        loop->ticked = member->next;
    }
    *member->place = member->next;
    if (member->next) {
        member->next->place = member->place;
    }
    member->place = NULL;
}

bool
redlane_loop_has(const RedlaneLoop *loop, const RedlaneLoopMember *member)
{
    const RedlaneLoopMember *found = loop->members;

    while (found && found != member) {
        found = found->next;
    }
    return found != NULL;
}

static void
disarm(RedlaneLoop *self)
{
    PyObject *timer = self->timer;

    self->timer = NULL;
    self->timer_at = REDLANE_NEVER;
    if (timer) {
        PyObject *result = PyObject_CallMethod(timer, "cancel", NULL);

        Py_XDECREF(result);
        Py_DECREF(timer);
        redlane_errors_put_off();
    }
}

int
redlane_loop_wake_at(RedlaneLoop *loop, int64_t when)
{
    PyObject *delay, *timer;
    int64_t left;

    if (likely(when >= loop->timer_at)) {
        return 0;
    }
    if (!loop->call_later) {
        return refuse_gone();
    }
    disarm(loop);
    left = when - redlane_clock_now();
    delay = PyFloat_FromDouble(
        (left > 0 ? (double)left / (double)REDLANE_NS_PER_S : 0) + TIMER_LATE);
    if (!delay) {
        return -1;
    }
    timer = PyObject_CallFunctionObjArgs(loop->call_later, delay, loop->on_timer, NULL);
    Py_DECREF(delay);
    if (!timer) {
        return -1;
    }
    loop->timer = timer;
    loop->timer_at = when;
    return 0;
}

static PyObject *
loop_on_timer(PyObject *object, PyObject *unused)
{
    RedlaneLoop *self = (RedlaneLoop *)object;
    int64_t now = redlane_clock_now(), next = REDLANE_NEVER;

    (void)unused;
    disarm(self);
    self->ticked = self->members;
    while (self->ticked) {
        RedlaneLoopMember *member = self->ticked;
        int64_t due;

        self->ticked = member->next;
        due = member->tick(member, now);
        next = due < next ? due : next;
    }
    if (redlane_loop_wake_at(self, next) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* --- the type --- */

static int
loop_tp_traverse(PyObject *object, visitproc visit, void *arg)
{
    RedlaneLoop *self = (RedlaneLoop *)object;

    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->loop);
    Py_VISIT(self->call_soon);
    Py_VISIT(self->call_later);
    Py_VISIT(self->create_future);
    Py_VISIT(self->future_names);
    Py_VISIT(self->get_running_loop);
    Py_VISIT(self->on_timer);
    Py_VISIT(self->timer);
    for (RedlaneLoopMember *member = self->members; member; member = member->next) {
        int result = member->traverse(member, visit, arg);

        if (result) {
            return result;
        }
    }
    return 0;
}

static int
loop_tp_clear(PyObject *object)
{
    let_go((RedlaneLoop *)object);
    return 0;
}

static void
loop_tp_dealloc(PyObject *object)
{
    RedlaneLoop *self = (RedlaneLoop *)object;
    PyTypeObject *type = Py_TYPE(object);

    PyObject_GC_UnTrack(object);
    (void)loop_tp_clear(object);
    redlane_loops_release(self->loops);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMethodDef loop_methods[] = {
    {"_on_timer", loop_on_timer, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(loop_doc, "What redlane keeps for one event loop.");

static PyType_Slot loop_slots[] = {
    {Py_tp_doc, (void *)loop_doc},      {Py_tp_dealloc, loop_tp_dealloc},
    {Py_tp_traverse, loop_tp_traverse}, {Py_tp_clear, loop_tp_clear},
    {Py_tp_methods, loop_methods},      {0, NULL},
};

static PyType_Spec loop_spec = {
    .name = "redlane._core.Loop",
    .basicsize = sizeof(RedlaneLoop),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = loop_slots,
};

int
redlane_loop_setup(PyObject *module)
{
    RedlaneState *state = redlane_state_of_module(module);

    state->loops = PyMem_Calloc(1, sizeof(*state->loops));
    if (!state->loops) {
        PyErr_NoMemory();
        return -1;
    }
    state->loops->references = 1;
    state->LoopType = PyType_FromModuleAndSpec(module, &loop_spec, NULL);
    return state->LoopType ? 0 : -1;
}
