/* The server, scripts, publishing, and any other command. GIL held. */
#include <string.h>

#include "core/command_rules.h"
#include "py/state.h"
#include "types/commands.h"

static int
build_nothing(RedlaneCall *call, PyObject *const *values, PyObject *const *rest,
              Py_ssize_t nrest)
{
    (void)call;
    (void)values;
    (void)rest;
    (void)nrest;
    return 0;
}

static int
build_flush(RedlaneCall *call, PyObject *const *values, PyObject *const *rest,
            Py_ssize_t nrest)
{
    const RedlaneFlag flag = {"ASYNC", values[0]};
    unsigned set;

    (void)rest;
    (void)nrest;
    return redlane_call_add_flags(call, &flag, 1, &set);
}

static int
build_info(RedlaneCall *call, PyObject *const *values, PyObject *const *rest,
           Py_ssize_t nrest)
{
    PyObject *section = redlane_given(values[0]);

    if (section && redlane_args_add_object(&call->args, section) < 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < nrest; i++) {
        if (redlane_args_add_object(&call->args, rest[i]) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
build_eval(RedlaneCall *call, PyObject *const *values, PyObject *const *rest,
           Py_ssize_t nrest)
{
    if (redlane_args_add_object(&call->args, values[0]) < 0 ||
        redlane_args_add_int(&call->args, values[1], "numkeys") < 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < nrest; i++) {
        if (redlane_args_add_object(&call->args, rest[i]) < 0) {
            return -1;
        }
    }
    return 0;
}

/* The words of a name such as "CONFIG GET". */
static int
add_words(RedlaneArgs *args, RedlaneArg name)
{
    const char *text = name.data, *end = name.data + name.size;

    args->argc = 0;
    while (text < end) {
        const char *space = memchr(text, ' ', (size_t)(end - text));
        size_t size = (size_t)((space ? space : end) - text);

        if (size && redlane_args_add_bytes(args, text, size) < 0) {
            return -1;
        }
        text += size + 1;
    }
    return args->argc ? 0 : redlane_refuse("a command needs a name");
}

static int
build_any(RedlaneCall *call, PyObject *const *values, PyObject *const *rest,
          Py_ssize_t nrest)
{
    RedlaneArg name;
    RedlaneVector vector;
    const char *instead;

    if (redlane_arg_from_text(values[0], &name) < 0 ||
        add_words(&call->args, name) < 0) {
        return -1;
    }
    name = call->args.argv[0];
    call->command = redlane_command_find(name.data, name.size);
    for (Py_ssize_t i = 0; i < nrest; i++) {
        if (redlane_args_add_object(&call->args, rest[i]) < 0) {
            return -1;
        }
    }
    vector = redlane_args_vector(&call->args, call->command);
    instead = redlane_command_refusal(&vector);
    if (instead) {
        PyErr_Format(call->state->ConfigurationError,
                     "%s changes the state of a shared connection: use %s",
                     call->command->name, instead);
        return -1;
    }
    return 0;
}

#define ANY_DOC                                                                       \
    "Any command that is safe on a shared connection; the raw reply.\n\n"             \
    "command: its name, as in 'GET' or 'CONFIG GET'; args: str, bytes, int, float.\n" \
    "ConfigurationError, which names what to use, for one that would change the\n"    \
    "connection (SELECT, MULTI, SUBSCRIBE, …); ReplyError for an error reply."

const RedlaneCommandSpec redlane_commands_server[] = {
    {"ping", "", "True if the server answers.", REDLANE_CMD_PING, REDLANE_SHAPE_PONG,
     build_nothing},
    {"echo", "value", "The value, as it comes back.", REDLANE_CMD_ECHO,
     REDLANE_SHAPE_RAW, redlane_build_key},
    {"time", "", "The server's clock: (seconds, microseconds) since 1970.",
     REDLANE_CMD_TIME, REDLANE_SHAPE_TIME, build_nothing},
    {"info", "section=None, *args",
     "What the server says of itself, as a dict; numbers are converted.\n\nsection, "
     "args: only these sections, as 'memory'.",
     REDLANE_CMD_INFO, REDLANE_SHAPE_INFO, build_info},
    {"dbsize", "", "The number of keys.", REDLANE_CMD_DBSIZE, REDLANE_SHAPE_RAW,
     build_nothing},
    {"flushdb", "asynchronous=False",
     "Delete every key of the database; True.\n\nasynchronous: a server frees the "
     "memory in the background.",
     REDLANE_CMD_FLUSHDB, REDLANE_SHAPE_OK, build_flush},
    {"flushall", "asynchronous=False",
     "Delete every key of every database; True.\n\nasynchronous: a server frees the "
     "memory in the background.",
     REDLANE_CMD_FLUSHALL, REDLANE_SHAPE_OK, build_flush},
    {"publish", "channel, message",
     "Publish a message; the number of subscribers that got it.", REDLANE_CMD_PUBLISH,
     REDLANE_SHAPE_RAW, redlane_build_plain},
    {"eval", "script, numkeys, *keys_and_args",
     "Run a Lua script; its reply.\n\nThe first numkeys of keys_and_args are KEYS, the "
     "others ARGV. The memory engine\nruns the library's own scripts only: ReplyError "
     "for any other.",
     REDLANE_CMD_EVAL, REDLANE_SHAPE_ANY, build_eval},
    {"evalsha", "sha, numkeys, *keys_and_args",
     "Run a script that the server has, by its SHA-1; its reply. NoScriptError if not.",
     REDLANE_CMD_EVALSHA, REDLANE_SHAPE_ANY, build_eval},
    {"execute_command", "command, *args", ANY_DOC, REDLANE_CMD_NONE, REDLANE_SHAPE_ANY,
     build_any},
    {NULL, NULL, NULL, REDLANE_CMD_NONE, REDLANE_SHAPE_RAW, NULL},
};

/* A Client's own name for it; a Pipeline's execute() runs the queue. */
const RedlaneCommandSpec redlane_commands_client[] = {
    {"execute", "command, *args", ANY_DOC, REDLANE_CMD_NONE, REDLANE_SHAPE_ANY,
     build_any},
    {NULL, NULL, NULL, REDLANE_CMD_NONE, REDLANE_SHAPE_RAW, NULL},
};
