/* The tables of command specifications, by theme, and what their builders share.
 *
 * GIL held. Builders RAISE_NEG. */
#ifndef REDLANE_TYPES_COMMANDS_H
#define REDLANE_TYPES_COMMANDS_H

#include "types/command_method.h"

/* Each ends with a row whose name is NULL. */
extern const RedlaneCommandSpec redlane_commands_keys[];
extern const RedlaneCommandSpec redlane_commands_strings[];
extern const RedlaneCommandSpec redlane_commands_hashes[];
extern const RedlaneCommandSpec redlane_commands_sets[];
extern const RedlaneCommandSpec redlane_commands_zsets[];
extern const RedlaneCommandSpec redlane_commands_server[];
extern const RedlaneCommandSpec redlane_commands_client[]; /* a Client's alone */

/* Builders for the plain shapes: one parameter; all parameters in order, then the rest;
 * the same, of which there must be a rest. */
int redlane_build_key(RedlaneCall *call, PyObject *const *values, PyObject *const *rest,
                      Py_ssize_t nrest);
int redlane_build_plain(RedlaneCall *call, PyObject *const *values,
                        PyObject *const *rest, Py_ssize_t nrest);
int redlane_build_many(RedlaneCall *call, PyObject *const *values,
                       PyObject *const *rest, Py_ssize_t nrest);
/* A key, a list of names, and more names: the reply of an empty list is empty. */
int redlane_build_listed(RedlaneCall *call, PyObject *const *values,
                         PyObject *const *rest, Py_ssize_t nrest);

/* The truth of an optional flag: NULL is false. 1, 0 or RAISES_NEG. */
static inline int
redlane_flag(PyObject *value)
{
    return !value || value == Py_False ? 0
           : value == Py_True          ? 1
                                       : PyObject_IsTrue(value);
}

/* An optional value: NULL for None, too. */
static inline PyObject *
redlane_given(PyObject *value)
{
    return value == Py_None ? NULL : value;
}

/* A flag and the word it adds. */
typedef struct {
    const char *word;
    PyObject *value; /* BORROWED, or NULL */
} RedlaneFlag;

/* Appends the words of the flags that are true; *set gets a bit for each. */
int redlane_call_add_flags(RedlaneCall *call, const RedlaneFlag *flags, size_t count,
                           unsigned *set);

/* Appends EX, PX, EXAT or PXAT; ValueError when more than one is given. 1 if one was.
 * Values are NULL or None where not given. */
int redlane_call_add_expiry(RedlaneCall *call, PyObject *ex, PyObject *px,
                            PyObject *exat, PyObject *pxat);

/* ValueError with a message; always -1. */
int redlane_refuse(const char *message);

#endif
