/* Exceptions: the hierarchy, and the two functions that turn a failure into one. */
#ifndef REDLANE_PY_ERRORS_H
#define REDLANE_PY_ERRORS_H

#include "core/fault.h"
#include "py/python.h"

/* Makes the exception classes and adds them to the module. RAISES_NEG */
int redlane_errors_setup(PyObject *module);

/* Raises a fault; an exception that is already set is kept. `operation` (a command's
 * name, or NULL) and the redacted address stand in the message; never a key's value.
 * Always returns NULL. */
PyObject *redlane_errors_raise_fault(RedlaneState *state, const RedlaneFault *fault,
                                     const char *operation, const char *address);

/* A new exception instance for an error reply ("WRONGTYPE Operation …"), its class
 * chosen by the first word; NULL with MemoryError. */
PyObject *redlane_errors_from_reply(RedlaneState *state, const char *text, size_t size);

/* What a reply says of its server: as redlane_fault_of_reply, NONE for what is no error
 * reply. RAISES_NEG */
int redlane_errors_fault_of(RedlaneState *state, PyObject *reply,
                            RedlaneFaultKind *kind);

/* 1 for the exception instance of an error reply that says that the server takes no
 * writes now (OOM, READONLY, MISCONF, NOREPLICAS); 0 for any other object. RAISES_NEG
 */
int redlane_errors_is_refusal(RedlaneState *state, PyObject *reply);

/* Whether what is set is an interruption (a KeyboardInterrupt, say), which nobody may
 * drop, and no error. */
bool redlane_errors_is_interruption(void);

/* Drops what is set, where nobody can be told; but an interruption is raised again, in
 * the main thread, which runs the handlers of signals, as soon as it runs Python. */
void redlane_errors_put_off(void);

/* Sets again what PyErr_Fetch gave, if that was anything, in place of what has failed
 * since; but an interruption since then stays. STEALS all three */
void redlane_errors_restore(PyObject *type, PyObject *error, PyObject *traceback);

#endif
