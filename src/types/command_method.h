/* Command methods: each Redis command is described once, as a specification, and put
 * into every type that speaks commands (Client, Pipeline).
 *
 *   client.get("k") ─▶ CommandMethod ─ binds arguments by the signature
 *                        │ spec->build: arguments to a vector, and the result's shape
 *                        ▼
 *                      run of the type: a Client executes and converts,
 *                                       a Pipeline queues and returns itself
 *
 * GIL held. */
#ifndef REDLANE_TYPES_COMMAND_METHOD_H
#define REDLANE_TYPES_COMMAND_METHOD_H

#include "core/command.h"
#include "py/args.h"
#include "types/results.h"

/* One call on its way: what a builder makes and a runner takes. */
typedef struct {
    RedlaneState *state;
    RedlaneArgs args; /* the vector */
    const RedlaneCommand *command;
    RedlaneShape shape;
    Py_ssize_t parameters; /* how many `values` a builder gets */
    bool empty;            /* nothing to send: the result is an empty list */
    PyObject *cast;        /* BORROWED from the arguments: score_cast_func, or NULL */
} RedlaneCall;

/* Appends the arguments to call->args, which begins with the command's name. `values`
 * are the named parameters in the signature's order, NULL where none was given; `rest`
 * the arguments of a *parameter. May change shape and command. RAISES_NEG */
typedef int (*RedlaneCommandBuilder)(RedlaneCall *call, PyObject *const *values,
                                     PyObject *const *rest, Py_ssize_t nrest);

typedef struct {
    const char *name;      /* of the method */
    const char *signature; /* without self: "name, value, ex=None", "*names" */
    const char *doc;
    RedlaneCommandId id; /* REDLANE_CMD_NONE: the builder chooses */
    RedlaneShape shape;
    RedlaneCommandBuilder build;
} RedlaneCommandSpec;

/* Runs a built call for `self`; a new reference, NULL with an exception set. The call's
 * arguments are the caller's to clear. */
typedef PyObject *(*RedlaneCommandRun)(PyObject *self, RedlaneCall *call);

/* Puts a method for every specification into a type, and those of a table of its own
 * (or NULL). RAISES_NEG */
int redlane_command_methods_add(PyObject *module, PyTypeObject *type,
                                const RedlaneCommandSpec *own, RedlaneCommandRun run);

int redlane_command_method_setup(PyObject *module);

/* Makes another command of the call: PEXPIRE instead of EXPIRE. */
void redlane_call_set_command(RedlaneCall *call, RedlaneCommandId id);

#endif
