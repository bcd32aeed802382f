#include "store/remote_request.h"

#include <string.h>

#include "core/clock.h"
#include "core/command_rules.h"
#include "core/script.h"
#include "py/errors.h"
#include "py/state.h"

/* Blocking commands of one request wait one after the other, each for its own time. How
 * many elements may be asked for, by MGET or by a transaction, is seen on the way. */
RedlaneSurvey
redlane_remote_survey(const RedlaneRequest *request, const RedlaneVector *vectors,
                      size_t count)
{
    RedlaneSurvey survey = {
        .repeatable = true, .deadline = request->deadline, .elements = count};

    for (size_t i = 0; i < count; i++) {
        const RedlaneCommand *command = vectors[i].command;
        int64_t time;

        survey.repeatable = survey.repeatable && command->flags & REDLANE_COMMAND_READ;
        survey.elements =
            vectors[i].argc > survey.elements ? vectors[i].argc : survey.elements;
        if (command->kind != REDLANE_COMMAND_BLOCKING || request->transaction ||
            !redlane_command_block_ns(&vectors[i], &time)) {
            continue; /* inside MULTI nothing blocks */
        }
        survey.blocking = true;
        survey.deadline = time < REDLANE_NEVER - survey.deadline
                              ? survey.deadline + time
                              : REDLANE_NEVER;
    }
    return survey;
}

void
redlane_remote_raise(RedlaneState *state, const RedlaneSettings *settings,
                     const RedlaneFault *fault, const RedlaneVector *vectors,
                     size_t count)
{
    const char *operation = NULL;

    if (count > 1) {
        operation = "pipeline";
    }
    else if (count == 1 && vectors[0].command->name[0]) {
        operation = vectors[0].command->name;
    }
    (void)redlane_errors_raise_fault(state, fault, operation, settings->redacted);
}

int
redlane_remote_note_outage(RedlaneState *state, PyObject *reply,
                           RedlaneRemoteReport *report)
{
    PyObject *text;
    const char *line;
    Py_ssize_t size;

    if (!PyObject_TypeCheck(reply, (PyTypeObject *)state->ReplyError)) {
        return 0;
    }
    text = PyObject_Str(reply);
    if (!text) {
        return -1;
    }
    line = PyUnicode_AsUTF8AndSize(text, &size);
    if (line) {
        RedlaneFaultKind kind = redlane_fault_of_reply(line, (size_t)size);

        if (kind != REDLANE_FAULT_NONE && report->fault.kind != REDLANE_FAULT_REPLY) {
            redlane_fault_set(&report->fault, kind, "%.*s", (int)size, line);
        }
    }
    Py_DECREF(text);
    return line ? 0 : -1;
}

bool
redlane_remote_wants_text(const RedlaneState *state, const RedlaneRequest *request,
                          const RedlaneVector *vector, PyObject *reply)
{
    return (PyObject *)Py_TYPE(reply) == state->NoScriptError &&
           vector->command->id == REDLANE_CMD_EVALSHA && !request->transaction;
}

int
redlane_remote_script_text(const RedlaneVector *vector, RedlaneVector *whole)
{
    const RedlaneScript *script =
        vector->argc > 1
            ? redlane_script_by_sha1(vector->argv[1].data, vector->argv[1].size)
            : NULL;
    RedlaneArg *argv;

    if (!script) {
        return 0;
    }
    argv = PyMem_Malloc(vector->argc * sizeof(RedlaneArg));
    if (!argv) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(argv, vector->argv, vector->argc * sizeof(RedlaneArg));
    argv[0] = REDLANE_ARG_LITERAL("EVAL");
    argv[1] = (RedlaneArg){script->text, strlen(script->text)};
    *whole =
        (RedlaneVector){argv, vector->argc, redlane_command_by_id(REDLANE_CMD_EVAL)};
    return 1;
}

void
redlane_remote_raise_reply(PyObject *STEALS error, PyObject *STEALS context)
{
    if (context) {
        PyException_SetContext(error, context);
    }
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_DECREF(error);
}

/* The reason why a transaction has no result: the first command that was refused. New
 * reference or NULL. */
static PyObject *
first_refusal(PyObject **replies, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (PyExceptionInstance_Check(replies[i])) {
            return Py_NewRef(replies[i]);
        }
    }
    return NULL;
}

int
redlane_remote_unpack(RedlaneState *state, PyObject **all, size_t count,
                      PyObject **replies, RedlaneRemoteReport *report)
{
    PyObject *result = all[count + 1], *refusal;

    if (PyList_CheckExact(result) && (size_t)PyList_GET_SIZE(result) == count &&
        !PyExceptionInstance_Check(all[0])) {
        for (size_t i = 0; i < count; i++) {
            replies[i] = Py_NewRef(PyList_GET_ITEM(result, (Py_ssize_t)i));
        }
        return 0;
    }
    refusal = first_refusal(all, count + 1);
    if (refusal && redlane_remote_note_outage(state, refusal, report) < 0) {
        Py_DECREF(refusal);
        return -1;
    }
    if (PyExceptionInstance_Check(all[0])) {
        redlane_remote_raise_reply(refusal, NULL); /* MULTI itself */
        return -1;
    }
    if (PyExceptionInstance_Check(result)) {
        redlane_remote_raise_reply(Py_NewRef(result), refusal);
        return -1;
    }
    Py_XDECREF(refusal);
    PyErr_SetString(state->ReplyError, "EXEC gave no result for the transaction");
    return -1;
}
