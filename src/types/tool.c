/* What every tool needs of a client. Lock: the GIL. */
#include "types/tool.h"

#include "core/clock.h"
#include "core/number.h"
#include "py/item.h"
#include "py/state.h"
#include "types/client.h"
#include "types/flow_store.h"

int
redlane_tool_policy(PyObject *name, RedlanePolicy *policy)
{
    static const struct {
        const char *name;
        RedlanePolicy policy;
    } policies[] = {
        {"raise", REDLANE_POLICY_RAISE},
        {"memory", REDLANE_POLICY_MEMORY},
        {"none", REDLANE_POLICY_NONE},
    };

    for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++) {
        if (PyUnicode_Check(name) &&
            PyUnicode_CompareWithASCIIString(name, policies[i].name) == 0) {
            *policy = policies[i].policy;
            return 0;
        }
    }
    PyErr_Format(PyExc_ValueError,
                 "fallback must be 'memory', 'none' or 'raise', not %R", name);
    return -1;
}

int
redlane_tool_init(RedlaneTool *tool, RedlaneState *state, PyObject *target,
                  RedlanePolicy policy)
{
    int is_client;

    *tool = (RedlaneTool){.state = state, .policy = policy};
    if (PyObject_TypeCheck(target, (PyTypeObject *)state->AsyncClientType)) {
        tool->target = PyObject_GetAttrString(target, "sync");
        return tool->target ? 0 : -1;
    }
    if (target != Py_None && !PyUnicode_Check(target)) {
        is_client = PyObject_IsInstance(target, state->ClientType);
        if (is_client < 0) {
            return -1;
        }
        if (!is_client) {
            PyErr_Format(PyExc_TypeError,
                         "expected a Client, a URL or None, not %.100s",
                         Py_TYPE(target)->tp_name);
            return -1;
        }
    }
    if (PyUnicode_Check(target)) { /* a bad URL is told now */
        tool->client = PyObject_CallOneArg(state->ClientType, target);
        if (!tool->client) {
            return -1;
        }
        target = tool->client;
    }
    tool->target = Py_NewRef(target);
    return 0;
}

int
redlane_tool_traverse(RedlaneTool *tool, visitproc visit, void *arg)
{
    Py_VISIT(tool->target);
    Py_VISIT(tool->client);
    return 0;
}

/* Puts others in the place of link and store, then releases those: a release may give
 * up the GIL, and another thread must then find a whole tool. STEALS link, store */
static void
replace_link(RedlaneTool *tool, RedlaneLink *link, RedlaneStore *store)
{
    RedlaneStore *old_store = tool->store;
    RedlaneLink *old_link = tool->link;

    tool->link = link;
    tool->store = store;
    tool->near = NULL;
    tool->near_asked = false;
    redlane_store_release(old_store);
    if (old_link) {
        redlane_link_release(old_link);
    }
}

void
redlane_tool_clear(RedlaneTool *tool)
{
    replace_link(tool, NULL, NULL);
    Py_CLEAR(tool->client);
    Py_CLEAR(tool->target);
    Py_CLEAR(tool->space);
}

static PyObject *
find_default_client(void)
{
    PyObject *package = PyImport_ImportModule("redlane"), *client;

    if (!package) {
        return NULL;
    }
    client = PyObject_CallMethod(package, "default_client", NULL);
    Py_DECREF(package);
    return client;
}

static int
connect_tool(RedlaneTool *tool)
{
    unsigned long long version = tool->state->default_version;
    PyObject *client;
    RedlaneLink *link;
    RedlaneStore *store;

    client = tool->target == Py_None ? find_default_client() : Py_NewRef(tool->target);
    if (!client) {
        return -1;
    }
    link = redlane_client_link(tool->state, client);
    store = link ? redlane_link_store(link, tool->policy) : NULL;
    if (!store) {
        Py_DECREF(client);
        return -1;
    }
    tool->default_version = version;
    tool->old_server = false;
    replace_link(tool, redlane_link_hold(link), store);
    Py_XSETREF(tool->client, client);
    return 0;
}

int
redlane_tool_resolve(RedlaneTool *tool)
{
    if (likely(tool->store != NULL)) {
        /* The default client may be another since, or closed and made anew. */
        if (likely(tool->target != Py_None) ||
            (tool->default_version == tool->state->default_version &&
             !redlane_link_closed(tool->link))) {
            return 0;
        }
    }
    if (!tool->target) { /* cleared by the collector */
        PyErr_SetString(tool->state->ConnectionError, "the cache is gone");
        return -1;
    }
    return connect_tool(tool);
}

RedlaneNear *
redlane_tool_near(RedlaneTool *tool, RedlaneArg prefix, bool blind)
{
    if (redlane_tool_resolve(tool) < 0) {
        PyErr_Clear(); /* the command that follows says the same */
        return NULL;
    }
    if (unlikely(!tool->near_asked)) {
        tool->near_asked = true;
        tool->near =
            blind || redlane_link_settings(tool->link)->scheme != REDLANE_SCHEME_REST
                ? redlane_link_near(tool->link, prefix)
                : NULL;
    }
    return tool->near;
}

const RedlaneToolManner redlane_tool_reads = {.read = true},
                        redlane_tool_writes = {.read = false};

static RedlaneArg
space_of(const RedlaneTool *tool)
{
    return tool->space ? (RedlaneArg){PyBytes_AS_STRING(tool->space),
                                      (size_t)PyBytes_GET_SIZE(tool->space)}
                       : (RedlaneArg){0};
}

static RedlaneRequest
make_request(const RedlaneTool *tool, const RedlaneToolManner *manner)
{
    RedlaneRequest request = {
        .deadline = redlane_clock_now() + redlane_link_settings(tool->link)->timeout,
        .cache_read = manner->read,
        .durable = manner->durable,
        .unsourced = manner->unsourced,
        .answer = manner->answer,
        .near_read = manner->near_read,
        .space = space_of(tool),
    };

    return request;
}

/* What a call needs: a link that is not closed, whoever answers for it. RAISES_NEG */
static int
prepare_call(RedlaneTool *tool)
{
    if (redlane_tool_resolve(tool) < 0) {
        return -1;
    }
    if (unlikely(redlane_link_closed(tool->link))) {
        PyErr_Format(tool->state->ConnectionError, "the client is closed (%s)",
                     redlane_link_settings(tool->link)->redacted);
        return -1;
    }
    return 0;
}

int
redlane_tool_run(RedlaneTool *tool, const RedlaneVector *vectors, size_t count,
                 const RedlaneToolManner *manner, PyObject **replies)
{
    RedlaneRequest request;
    RedlaneStore *store;
    int result;

    if (prepare_call(tool) < 0) {
        return -1;
    }
    request = make_request(tool, manner);
    store = redlane_store_hold(tool->store);
    result = redlane_flow_run(tool->state, store, &request, vectors, count, replies);
    redlane_store_release(store);
    return result;
}

int
redlane_tool_forget(RedlaneTool *tool, RedlaneArg pattern, RedlaneAnswer answer)
{
    RedlaneStore *store;
    int result;

    if (redlane_tool_resolve(tool) < 0) {
        return -1;
    }
    store = redlane_store_hold(tool->store);
    result = redlane_store_forget(store, pattern, space_of(tool), answer);
    redlane_store_release(store);
    return result;
}

/* `argv` has room for the name at its beginning. */
static PyObject *
execute_named(RedlaneTool *tool, RedlaneCommandId id, RedlaneArg *argv, size_t argc,
              const RedlaneToolManner *manner)
{
    const RedlaneCommand *command = redlane_command_by_id(id);
    RedlaneVector vector = {argv, argc, command};
    RedlaneRequest request;
    RedlaneStore *store;
    PyObject *reply;

    if (prepare_call(tool) < 0) {
        return NULL;
    }
    argv[0] = (RedlaneArg){command->name, strlen(command->name)};
    request = make_request(tool, manner);
    store = redlane_store_hold(tool->store);
    reply = redlane_flow_execute(tool->state, store, &request, &vector);
    redlane_store_release(store);
    return reply;
}

PyObject *
redlane_tool_execute_as(RedlaneTool *tool, RedlaneCommandId id, const RedlaneArg *argv,
                        size_t argc, const RedlaneToolManner *manner)
{
    RedlaneArg named[1 + REDLANE_TOOL_ARGS];

    memcpy(named + 1, argv, argc * sizeof(*argv));
    return execute_named(tool, id, named, argc + 1, manner);
}

PyObject *
redlane_tool_execute_pttl(RedlaneTool *tool, RedlaneCommandId id,
                          const RedlaneArg *argv, size_t argc,
                          const RedlaneToolManner *manner, PyObject **pttl)
{
    const RedlaneCommand *command = redlane_command_by_id(id);
    RedlaneArg named[1 + REDLANE_TOOL_ARGS] = {{command->name, strlen(command->name)}};
    RedlaneArg ask[] = {REDLANE_ARG_LITERAL("PTTL"), argv[0]};
    RedlaneVector vectors[] = {{named, argc + 1, command},
                               {ask, 2, redlane_command_by_id(REDLANE_CMD_PTTL)}};
    PyObject *replies[2];

    memcpy(named + 1, argv, argc * sizeof(*argv));
    if (redlane_tool_run(tool, vectors, 2, manner, replies) < 0) {
        return NULL;
    }
    *pttl = replies[1];
    if (unlikely(PyExceptionInstance_Check(replies[0]))) {
        PyErr_SetObject((PyObject *)Py_TYPE(replies[0]), replies[0]);
        Py_CLEAR(*pttl);
        Py_CLEAR(replies[0]);
    }
    return replies[0];
}

PyObject *
redlane_tool_execute(RedlaneTool *tool, RedlaneCommandId id, const RedlaneArg *argv,
                     size_t argc, bool read)
{
    return redlane_tool_execute_as(tool, id, argv, argc,
                                   read ? &redlane_tool_reads : &redlane_tool_writes);
}

PyObject *
redlane_tool_script_in_place(RedlaneTool *tool, RedlaneScriptId id, RedlaneArg *named,
                             size_t argc, size_t keys, const RedlaneToolManner *manner)
{
    const RedlaneScript *script = &redlane_scripts[id];
    char digit = (char)('0' + keys);
    PyObject *reply;

    named[1] = (RedlaneArg){script->sha1, sizeof(script->sha1) - 1};
    named[2] = (RedlaneArg){&digit, 1};
    reply = execute_named(tool, REDLANE_CMD_EVALSHA, named, argc + 3, manner);
    if (!reply && PyErr_ExceptionMatches(tool->state->NoScriptError)) {
        PyErr_Clear();
        named[1] = (RedlaneArg){script->text, strlen(script->text)};
        reply = execute_named(tool, REDLANE_CMD_EVAL, named, argc + 3, manner);
    }
    return reply;
}

bool
redlane_tool_script_behind(RedlaneTool *tool, RedlaneScriptId id,
                           const RedlaneArg *argv, size_t argc, size_t keys)
{
    const RedlaneScript *script = &redlane_scripts[id];
    const RedlaneCommand *command = redlane_command_by_id(REDLANE_CMD_EVAL);
    char digit = (char)('0' + keys);
    RedlaneArg named[3 + REDLANE_TOOL_ARGS] = {
        {command->name, strlen(command->name)},
        {script->text, strlen(script->text)}, /* nobody would hear of NOSCRIPT */
        {&digit, 1}};
    RedlaneVector vector = {named, argc + 3, command};
    RedlaneRequest request;
    RedlaneStore *store;
    bool sent;

    if (!redlane_flow_current(tool->state) || prepare_call(tool) < 0) {
        PyErr_Clear();
        return false;
    }
    memcpy(named + 3, argv, argc * sizeof(*argv));
    request = make_request(tool, &redlane_tool_writes);
    store = redlane_store_hold(tool->store);
    sent = redlane_flow_send(tool->state, store, &request, &vector);
    redlane_store_release(store);
    return sent;
}

PyObject *
redlane_tool_script(RedlaneTool *tool, RedlaneScriptId id, const RedlaneArg *argv,
                    size_t argc, size_t keys, const RedlaneToolManner *manner)
{
    RedlaneArg named[3 + REDLANE_TOOL_ARGS];

    memcpy(named + 3, argv, argc * sizeof(*argv));
    return redlane_tool_script_in_place(tool, id, named, argc, keys, manner);
}

PyObject *
redlane_tool_cache_type(RedlaneTool *tool)
{
    PyObject *health, *mode;
    RedlaneLink *link;

    if (redlane_tool_resolve(tool) < 0) {
        return NULL;
    }
    link = redlane_link_hold(tool->link); /* configure() may replace it meanwhile */
    health = redlane_link_health(link, tool->policy);
    redlane_link_release(link);
    if (!health) {
        return NULL;
    }
    if (redlane_item_find(health, "mode", &mode) < 0) {
        Py_DECREF(health);
        return NULL;
    }
    Py_XINCREF(mode);
    Py_DECREF(health);
    if (!mode) {
        return PyUnicode_FromString("none");
    }
    if (PyUnicode_CompareWithASCIIString(mode, "redis") != 0 &&
        PyUnicode_CompareWithASCIIString(mode, "memory") != 0) {
        Py_SETREF(mode, PyUnicode_FromString("none"));
    }
    return mode;
}

static PyObject *
default_changed(PyObject *module, PyObject *Py_UNUSED(unused))
{
    redlane_state_of_module(module)->default_version++;
    Py_RETURN_NONE;
}

static PyMethodDef tool_functions[] = {
    {"_default_changed", default_changed, METH_NOARGS,
     PyDoc_STR("_default_changed()\n--\n\n"
               "Tools on the default client find it anew at their next use.")},
    {NULL, NULL, 0, NULL},
};

int
redlane_tool_setup(PyObject *module)
{
    return PyModule_AddFunctions(module, tool_functions);
}
