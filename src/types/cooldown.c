/* Cooldown: a key for each user that lives as long as the cooldown does.
 *
 * One script asks and begins in one step, so that a call is one round trip, of two that
 * come at once one is told to wait, and a server that takes no writes still says who
 * has to. Lock: the GIL. */
#include "types/cooldown.h"

#include <stddef.h>
#include <string.h>
#include <structmember.h>

#include "core/buffer.h"
#include "core/number.h"
#include "py/args.h"
#include "types/async_cooldown.h"
#include "types/call.h"
#include "types/cooldown_state.h"
#include "types/id_text.h"
#include "types/results.h"
#include "types/tool.h"
#include "types/wire_key.h"

#define KEY_INLINE 128 /* longer keys are made on the heap */

typedef struct {
    PyObject_HEAD
    RedlaneState *state; /* BORROWED */
    RedlaneTool tool;
    PyObject *prefix; /* str */
    RedlaneArg head;  /* of every key: the prefix and a colon; malloc'd */
    int64_t period;   /* ms */
    char px[REDLANE_INT64_TEXT];
    size_t px_size;
} Cooldown;

/* One user's key. */
typedef struct {
    RedlaneArg key;
    char *heap; /* or NULL */
    char room[KEY_INLINE];
} Key;

static void
key_clear(Key *key)
{
    PyMem_Free(key->heap);
}

/* RAISES_NEG */
static int
key_init(Key *key, const Cooldown *cooldown, PyObject *id)
{
    PyObject *text = redlane_id_text(id, "a cooldown's");
    size_t size = cooldown->head.size;
    char *at = key->room;
    RedlaneArg name;

    key->heap = NULL;
    if (!text || redlane_arg_from_text(text, &name) < 0) {
        Py_XDECREF(text);
        return -1;
    }
    if (size + name.size > sizeof(key->room)) {
        at = key->heap = PyMem_Malloc(size + name.size);
    }
    if (at) {
        memcpy(at, cooldown->head.data, size);
        if (name.size) {
            memcpy(at + size, name.data, name.size);
        }
        key->key = (RedlaneArg){at, size + name.size};
    }
    else {
        PyErr_NoMemory();
    }
    Py_DECREF(text);
    return at ? 0 : -1;
}

/* The head of every key, and the glob that matches them all. RAISES_NEG */
static int
find_keys(Cooldown *cooldown)
{
    PyObject *head = PyUnicode_FromFormat("%U:", cooldown->prefix);
    RedlaneBuffer pattern = {0};
    RedlaneArg text;
    int result = -1;

    if (head && redlane_arg_from_text(head, &text) == 0 &&
        redlane_wire_key_escape(head, &pattern) == 0) {
        char *copy = PyMem_Malloc(text.size);

        if (!copy || redlane_buffer_append_byte(&pattern, '*') < 0) {
            PyMem_Free(copy);
            PyErr_NoMemory();
        }
        else {
            memcpy(copy, text.data, text.size);
            cooldown->head = (RedlaneArg){copy, text.size};
            cooldown->tool.space =
                PyBytes_FromStringAndSize(pattern.data, (Py_ssize_t)pattern.size);
            result = cooldown->tool.space ? 0 : -1;
        }
    }
    redlane_buffer_free(&pattern);
    Py_XDECREF(head);
    return result;
}

static PyObject *
cooldown_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"client", "seconds", "prefix", "fallback", NULL};
    PyObject *client, *seconds, *prefix = NULL, *fallback = NULL;
    RedlaneState *state = redlane_state_of_type(type);
    RedlanePolicy policy = REDLANE_POLICY_MEMORY;
    Cooldown *cooldown;
    int64_t period;

    if (!state ||
        !PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$UO:Cooldown", names, &client,
                                     &seconds, &prefix, &fallback) ||
        (fallback && redlane_tool_policy(fallback, &policy) < 0) ||
        redlane_args_ttl_ms(seconds, "seconds", &period) < 0) {
        return NULL;
    }
    cooldown = (Cooldown *)type->tp_alloc(type, 0);
    if (!cooldown) {
        return NULL;
    }
    cooldown->state = state;
    cooldown->period = period;
    cooldown->px_size = redlane_number_format_int64(cooldown->px, period);
    cooldown->prefix = prefix ? Py_NewRef(prefix) : PyUnicode_FromString("cooldown");
    if (!cooldown->prefix ||
        redlane_tool_init(&cooldown->tool, state, client, policy) < 0 ||
        find_keys(cooldown) < 0) {
        Py_CLEAR(cooldown);
    }
    return (PyObject *)cooldown;
}

static int
cooldown_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    Cooldown *cooldown = (Cooldown *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(cooldown->prefix); /* one of a subclass of str may lead back here */
    return redlane_tool_traverse(&cooldown->tool, visit, arg);
}

static void
cooldown_tp_dealloc(PyObject *self)
{
    Cooldown *cooldown = (Cooldown *)self;
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    redlane_tool_clear(&cooldown->tool);
    Py_CLEAR(cooldown->prefix);
    PyMem_Free((char *)cooldown->head.data);
    type->tp_free(self);
    Py_DECREF(type);
}

/* The ms that are left, of a reply that says them; -2 and 0: it is over. STEALS reply,
 * which may be NULL. RAISES_NEG: -1 */
static int
read_left(Cooldown *cooldown, PyObject *reply, int64_t *left)
{
    PyObject *number = redlane_result_integer(cooldown->state, reply);
    int overflow = 0;

    if (!number) {
        return -1;
    }
    *left = number == Py_None ? 0 : PyLong_AsLongLongAndOverflow(number, &overflow);
    Py_DECREF(number);
    if (overflow) {
        PyErr_SetString(cooldown->state->ReplyError, "cooldown: not a time in ms");
        return -1;
    }
    return 0;
}

/* The one argument of every method. RAISES_NEG */
static int
parse_id(const char *function, PyObject *const *args, Py_ssize_t nargs,
         PyObject *kwnames, PyObject **id)
{
    static const char *const names[] = {"id", NULL};
    const RedlaneCall call = {function, names, 1, 1};

    return redlane_call_parse(&call, args, nargs, kwnames, id);
}

PyDoc_STRVAR(acquire_doc,
             "acquire($self, /, id)\n--\n\n"
             "Begins the cooldown of an id, unless it runs already.\n\n"
             "One round trip, and atomic: of many that ask at once one is ready.\n\n"
             "Args:\n"
             "    id: str, int, or what has a plain text, such as a UUID.\n\n"
             "Returns:\n"
             "    CooldownState: ready, or the seconds that remain.");

static PyObject *
cooldown_acquire(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    Cooldown *cooldown = (Cooldown *)self;
    PyObject *id, *reply;
    int64_t left;
    Key key;

    if (parse_id("acquire", args, nargs, kwnames, &id) < 0 ||
        key_init(&key, cooldown, id) < 0) {
        return NULL;
    }
    reply =
        redlane_tool_script(&cooldown->tool, REDLANE_SCRIPT_COOLDOWN,
                            (RedlaneArg[]){key.key, {cooldown->px, cooldown->px_size}},
                            2, 1, &redlane_tool_writes);
    key_clear(&key);
    return read_left(cooldown, reply, &left) < 0
               ? NULL
               : redlane_cooldown_state_new(cooldown->state, left);
}

PyDoc_STRVAR(peek_doc, "peek($self, /, id)\n--\n\n"
                       "What :meth:`acquire` would say; nothing begins.\n\n"
                       "Returns:\n"
                       "    CooldownState");

static PyObject *
cooldown_peek(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
              PyObject *kwnames)
{
    Cooldown *cooldown = (Cooldown *)self;
    PyObject *id, *reply;
    int64_t left;
    Key key;

    if (parse_id("peek", args, nargs, kwnames, &id) < 0 ||
        key_init(&key, cooldown, id) < 0) {
        return NULL;
    }
    reply = redlane_tool_execute(&cooldown->tool, REDLANE_CMD_PTTL, &key.key, 1, false);
    key_clear(&key);
    if (read_left(cooldown, reply, &left) < 0) {
        return NULL;
    }
    /* -1: no TTL, and acquire would give it one */
    return redlane_cooldown_state_new(cooldown->state,
                                      left == -1 ? cooldown->period : left);
}

PyDoc_STRVAR(reset_doc, "reset($self, /, id)\n--\n\n"
                        "Ends the cooldown of an id now.\n\n"
                        "Returns:\n"
                        "    bool: whether one was running.");

static PyObject *
cooldown_reset(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    Cooldown *cooldown = (Cooldown *)self;
    PyObject *id, *reply;
    int64_t gone;
    Key key;

    if (parse_id("reset", args, nargs, kwnames, &id) < 0 ||
        key_init(&key, cooldown, id) < 0) {
        return NULL;
    }
    reply = redlane_tool_execute(&cooldown->tool, REDLANE_CMD_DEL, &key.key, 1, false);
    key_clear(&key);
    return read_left(cooldown, reply, &gone) < 0 ? NULL : PyBool_FromLong(gone > 0);
}

PyDoc_STRVAR(key_doc, "key($self, /, id)\n--\n\n"
                      "The key of an id, as ``redis-cli`` shows it (str).");

static PyObject *
cooldown_key(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *id, *text;
    Key key;

    if (parse_id("key", args, nargs, kwnames, &id) < 0 ||
        key_init(&key, (Cooldown *)self, id) < 0) {
        return NULL;
    }
    text = PyUnicode_DecodeUTF8(key.key.data, (Py_ssize_t)key.key.size, "strict");
    key_clear(&key);
    return text;
}

static PyObject *
cooldown_get_seconds(PyObject *self, void *Py_UNUSED(closure))
{
    return PyFloat_FromDouble((double)((Cooldown *)self)->period / 1000.0);
}

static PyObject *
cooldown_get_aio(PyObject *self, void *Py_UNUSED(closure))
{
    return redlane_async_cooldown_of(((Cooldown *)self)->state, self);
}

static PyObject *
cooldown_tp_repr(PyObject *self)
{
    PyObject *seconds = cooldown_get_seconds(self, NULL), *text;

    if (!seconds) {
        return NULL;
    }
    text = PyUnicode_FromFormat("<redlane.Cooldown %R seconds=%R>",
                                ((Cooldown *)self)->prefix, seconds);
    Py_DECREF(seconds);
    return text;
}

PyDoc_STRVAR(
    cooldown_doc,
    "Cooldown(client, seconds, *, prefix=\"cooldown\", fallback=\"memory\")\n--\n\n"
    "Once in so many seconds for each id, shared by all processes.\n\n"
    "A cooldown is a key with a TTL, so that it survives a restart of the processes.\n"
    "What begins while the server is away holds in this process, and the server is\n"
    "told what is left of it when it is back.\n\n"
    "Args:\n"
    "    client: a Client, an AsyncClient, a URL, or None for the default client.\n"
    "    seconds: how long it lasts: seconds, a timedelta or a text such as\n"
    "        ``\"5m\"``.\n"
    "    prefix: of the keys, which are ``prefix:id``.\n"
    "    fallback: ``\"memory\"``, ``\"none\"`` (everybody is ready while the server "
    "is\n"
    "        away) or ``\"raise\"``.\n\n"
    "Raises:\n"
    "    ValueError, TypeError: for a duration that is none.");

#define METHOD(name)                                      \
    {#name, (PyCFunction)(void (*)(void))cooldown_##name, \
     METH_FASTCALL | METH_KEYWORDS, name##_doc}

int
redlane_cooldown_setup(PyObject *module)
{
    static PyMethodDef methods[] = {
        METHOD(acquire), METHOD(peek),          METHOD(reset),
        METHOD(key),     {NULL, NULL, 0, NULL},
    };
    static PyMemberDef members[] = {
        {"prefix", T_OBJECT_EX, offsetof(Cooldown, prefix), READONLY,
         "What its keys begin with."},
        {NULL, 0, 0, 0, NULL},
    };
    static PyGetSetDef getset[] = {
        {"seconds", cooldown_get_seconds, NULL, "How long it lasts (float).", NULL},
        {"aio", cooldown_get_aio, NULL, "The AsyncCooldown of the same cooldowns.",
         NULL},
        {NULL, NULL, NULL, NULL, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_doc, (void *)cooldown_doc},
        {Py_tp_new, cooldown_tp_new},
        {Py_tp_traverse, cooldown_tp_traverse},
        {Py_tp_dealloc, cooldown_tp_dealloc},
        {Py_tp_repr, cooldown_tp_repr},
        {Py_tp_methods, methods},
        {Py_tp_members, members},
        {Py_tp_getset, getset},
        {0, NULL},
    };
    static PyType_Spec spec = {
        .name = "redlane.Cooldown",
        .basicsize = sizeof(Cooldown),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };
    RedlaneState *state = redlane_state_of_module(module);

    return redlane_state_add(module, &state->CooldownType, "Cooldown",
                             PyType_FromModuleAndSpec(module, &spec, NULL));
}
