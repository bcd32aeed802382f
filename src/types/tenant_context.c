/* TenantContext: get and set under one scope.
 *
 * A key is "/{app_id}/{device_id}/{key}" with "/" in the key turned into "_"; no id is
 * empty or holds "/". So a key has three slashes, what stands between them tells whose
 * it is, and no two tenants can meet. Lock: the GIL. */
#include "types/tenant_cache.h"

#include <stddef.h>
#include <string.h>
#include <structmember.h>

#include "core/number.h"
#include "py/args.h"
#include "types/call.h"

#define KEY_INLINE 256 /* longer keys are made on the heap */

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
key_init(Key *key, const RedlaneTenantContext *context, PyObject *name)
{
    size_t scope = (size_t)PyBytes_GET_SIZE(context->scope);
    char *at = key->room;
    RedlaneArg text;

    key->heap = NULL;
    if (redlane_arg_from_text(name, &text) < 0) {
        return -1;
    }
    if (text.size > sizeof(key->room) - scope || scope > sizeof(key->room)) {
        at = key->heap = PyMem_Malloc(scope + text.size);
        if (!at) {
            PyErr_NoMemory();
            return -1;
        }
    }
    key->key = (RedlaneArg){at, scope + text.size};
    memcpy(at, PyBytes_AS_STRING(context->scope), scope);
    for (size_t i = 0; i < text.size; i++) {
        at[scope + i] = text.data[i] == '/' ? '_' : text.data[i];
    }
    return 0;
}

/* RAISES_NEG */
static int
read_id(PyObject *id, const char *name, RedlaneArg *text)
{
    if (!PyUnicode_Check(id)) {
        PyErr_Format(PyExc_TypeError, "%s must be a str, not %.100s", name,
                     Py_TYPE(id)->tp_name);
        return -1;
    }
    if (redlane_arg_from_text(id, text) < 0) {
        return -1;
    }
    if (text->size == 0 || memchr(text->data, '/', text->size)) {
        PyErr_Format(PyExc_ValueError,
                     text->size ? "%s must not hold '/'" : "%s must not be empty",
                     name);
        return -1;
    }
    return 0;
}

PyObject *
redlane_tenant_context_new(PyTypeObject *type, RedlaneTenantCache *cache,
                           PyObject *app_id, PyObject *device_id)
{
    RedlaneTenantContext *context;
    RedlaneArg app, device;
    char *at;

    if (read_id(app_id, "app_id", &app) < 0 ||
        read_id(device_id, "device_id", &device) < 0) {
        return NULL;
    }
    context = (RedlaneTenantContext *)type->tp_alloc(type, 0);
    if (!context) {
        return NULL;
    }
    context->scope =
        PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(app.size + device.size + 3));
    if (!context->scope) {
        Py_DECREF(context);
        return NULL;
    }
    context->state = cache->tool.state;
    context->cache = (RedlaneTenantCache *)Py_NewRef(cache);
    context->app_size = (Py_ssize_t)app.size;
    at = PyBytes_AS_STRING(context->scope);
    *at = at[app.size + 1] = at[app.size + device.size + 2] = '/';
    memcpy(at + 1, app.data, app.size);
    memcpy(at + app.size + 2, device.data, device.size);
    return (PyObject *)context;
}

static int
context_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((RedlaneTenantContext *)self)->cache);
    return 0;
}

static void
context_tp_dealloc(PyObject *self)
{
    RedlaneTenantContext *context = (RedlaneTenantContext *)self;
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    Py_CLEAR(context->cache);
    Py_CLEAR(context->scope);
    type->tp_free(self);
    Py_DECREF(type);
}

/* What the server refuses is no caching, and counted. RAISES_NEG for anything else, a
 * closed client too. */
static int
forgive(RedlaneTenantContext *context)
{
    if (!PyErr_ExceptionMatches(context->state->ReplyError)) {
        return -1;
    }
    PyErr_Clear();
    context->cache->errors++;
    return 0;
}

PyDoc_STRVAR(get_doc, "get($self, /, key)\n--\n\n"
                      "The value of a key.\n\n"
                      "Args:\n"
                      "    key: str; \"/\" in it counts as \"_\".\n\n"
                      "Returns:\n"
                      "    tuple: the value (bytes) and True; or None and False, also\n"
                      "    while the server is away.");

static PyObject *
context_get(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"key", NULL};
    static const RedlaneCall call = {"get", names, 1, 1};
    RedlaneTenantContext *context = (RedlaneTenantContext *)self;
    PyObject *name, *reply;
    Key key;

    if (redlane_call_parse(&call, args, nargs, kwnames, &name) < 0 ||
        key_init(&key, context, name) < 0) {
        return NULL;
    }
    reply =
        redlane_tool_execute(&context->cache->tool, REDLANE_CMD_GET, &key.key, 1, true);
    key_clear(&key);
    if (reply && PyBytes_Check(reply)) {
        return Py_BuildValue("NO", reply, Py_True);
    }
    Py_XDECREF(reply);
    if (!reply && forgive(context) < 0) {
        return NULL;
    }
    return PyTuple_Pack(2, Py_None, Py_False);
}

/* The value as bytes: itself, or a copy of a buffer. A new reference, or NULL. */
static PyObject *
read_value(PyObject *value)
{
    if (PyBytes_CheckExact(value)) {
        return Py_NewRef(value);
    }
    if (!PyObject_CheckBuffer(value)) {
        PyErr_Format(PyExc_TypeError, "value must be bytes, not %.100s",
                     Py_TYPE(value)->tp_name);
        return NULL;
    }
    return PyBytes_FromObject(value);
}

PyDoc_STRVAR(set_doc,
             "set($self, /, key, value, ttl)\n--\n\n"
             "Stores a value.\n\n"
             "Args:\n"
             "    key: str; \"/\" in it counts as \"_\".\n"
             "    value: bytes, or what has their buffer.\n"
             "    ttl: seconds, a timedelta or a text such as ``\"10m\"``.\n\n"
             "Returns:\n"
             "    bool: whether it was stored; False while the server is away.\n\n"
             "Raises:\n"
             "    ValueError, TypeError: for a TTL that is none; nothing is sent.");

static PyObject *
context_set(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"key", "value", "ttl", NULL};
    static const RedlaneCall call = {"set", names, 3, 3};
    RedlaneTenantContext *context = (RedlaneTenantContext *)self;
    RedlaneAnswer answer = REDLANE_ANSWER_SERVER;
    const RedlaneToolManner manner = {.answer = &answer};
    PyObject *values[3], *value, *reply;
    char digits[REDLANE_INT64_TEXT];
    int64_t ttl;
    Key key;

    if (redlane_call_parse(&call, args, nargs, kwnames, values) < 0 ||
        redlane_args_ttl_ms(values[2], "ttl", &ttl) < 0) {
        return NULL;
    }
    value = read_value(values[1]);
    if (!value || key_init(&key, context, values[0]) < 0) {
        Py_XDECREF(value);
        return NULL;
    }
    reply = redlane_tool_execute_as(
        &context->cache->tool, REDLANE_CMD_SET,
        (RedlaneArg[]){key.key,
                       {PyBytes_AS_STRING(value), (size_t)PyBytes_GET_SIZE(value)},
                       REDLANE_ARG_LITERAL("PX"),
                       {digits, redlane_number_format_int64(digits, ttl)}},
        4, &manner);
    key_clear(&key);
    Py_DECREF(value);
    if (!reply) {
        return forgive(context) < 0 ? NULL : Py_NewRef(Py_False);
    }
    Py_DECREF(reply);
    return PyBool_FromLong(answer == REDLANE_ANSWER_SERVER);
}

PyDoc_STRVAR(key_doc, "key($self, name, /)\n--\n\n"
                      "The full key of a name, as ``redis-cli`` shows it (str).");

static PyObject *
context_key(PyObject *self, PyObject *name)
{
    PyObject *text;
    Key key;

    if (key_init(&key, (RedlaneTenantContext *)self, name) < 0) {
        return NULL;
    }
    text =
        PyUnicode_DecodeUTF8(key.key.data, (Py_ssize_t)key.key.size, "surrogateescape");
    key_clear(&key);
    return text;
}

static PyObject *
context_get_app_id(PyObject *self, void *Py_UNUSED(closure))
{
    RedlaneTenantContext *context = (RedlaneTenantContext *)self;

    return PyUnicode_DecodeUTF8(PyBytes_AS_STRING(context->scope) + 1,
                                context->app_size, "strict");
}

static PyObject *
context_get_device_id(PyObject *self, void *Py_UNUSED(closure))
{
    RedlaneTenantContext *context = (RedlaneTenantContext *)self;
    Py_ssize_t before = context->app_size + 2;

    return PyUnicode_DecodeUTF8(PyBytes_AS_STRING(context->scope) + before,
                                PyBytes_GET_SIZE(context->scope) - before - 1,
                                "strict");
}

static PyObject *
context_tp_repr(PyObject *self)
{
    PyObject *app = context_get_app_id(self, NULL);
    PyObject *device = app ? context_get_device_id(self, NULL) : NULL, *text = NULL;
    const char *dot = strrchr(Py_TYPE(self)->tp_name, '.');

    if (device) {
        text =
            PyUnicode_FromFormat("<redlane.%s app_id=%R device_id=%R>",
                                 dot ? dot + 1 : Py_TYPE(self)->tp_name, app, device);
    }
    Py_XDECREF(app);
    Py_XDECREF(device);
    return text;
}

PyDoc_STRVAR(context_doc, "What ``redlane.ContextualRedisCache`` is made of.");

int
redlane_tenant_context_setup(PyObject *module)
{
    static PyMethodDef methods[] = {
        {"get", (PyCFunction)(void (*)(void))context_get, METH_FASTCALL | METH_KEYWORDS,
         get_doc},
        {"set", (PyCFunction)(void (*)(void))context_set, METH_FASTCALL | METH_KEYWORDS,
         set_doc},
        {"key", context_key, METH_O, key_doc},
        {NULL, NULL, 0, NULL},
    };
    static PyMemberDef members[] = {
        {"cache", T_OBJECT_EX, offsetof(RedlaneTenantContext, cache), READONLY,
         "The shared cache that it is a part of."},
        {"scope", T_OBJECT_EX, offsetof(RedlaneTenantContext, scope), READONLY,
         "What its keys begin with (bytes)."},
        {NULL, 0, 0, 0, NULL},
    };
    static PyGetSetDef getset[] = {
        {"app_id", context_get_app_id, NULL, "The app's id (str).", NULL},
        {"device_id", context_get_device_id, NULL, "The device's id (str).", NULL},
        {NULL, NULL, NULL, NULL, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_doc, (void *)context_doc},
        {Py_tp_traverse, context_tp_traverse},
        {Py_tp_dealloc, context_tp_dealloc},
        {Py_tp_repr, context_tp_repr},
        {Py_tp_methods, methods},
        {Py_tp_members, members},
        {Py_tp_getset, getset},
        {0, NULL},
    };
    static PyType_Spec spec = {
        .name = "redlane._core.TenantContext",
        .basicsize = sizeof(RedlaneTenantContext),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE |
                 Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };
    RedlaneState *state = redlane_state_of_module(module);

    return redlane_state_add(module, &state->TenantContextType, "TenantContext",
                             PyType_FromModuleAndSpec(module, &spec, NULL));
}
