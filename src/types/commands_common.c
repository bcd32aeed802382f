/* Builders that many commands share. GIL held. */
#include <string.h>

#include "types/commands.h"

int
redlane_refuse(const char *message)
{
    PyErr_SetString(PyExc_ValueError, message);
    return -1;
}

int
redlane_build_key(RedlaneCall *call, PyObject *const *values, PyObject *const *rest,
                  Py_ssize_t nrest)
{
    (void)rest;
    (void)nrest;
    return redlane_args_add_object(&call->args, values[0]);
}

int
redlane_build_plain(RedlaneCall *call, PyObject *const *values, PyObject *const *rest,
                    Py_ssize_t nrest)
{
    for (Py_ssize_t i = 0; i < call->parameters; i++) {
        if (redlane_args_add_object(&call->args, values[i]) < 0) {
            return -1;
        }
    }
    for (Py_ssize_t i = 0; i < nrest; i++) {
        if (redlane_args_add_object(&call->args, rest[i]) < 0) {
            return -1;
        }
    }
    return 0;
}

int
redlane_build_many(RedlaneCall *call, PyObject *const *values, PyObject *const *rest,
                   Py_ssize_t nrest)
{
    if (nrest == 0) {
        PyErr_Format(PyExc_TypeError, "%s needs at least one more argument",
                     call->command->name);
        return -1;
    }
    return redlane_build_plain(call, values, rest, nrest);
}

int
redlane_build_listed(RedlaneCall *call, PyObject *const *values, PyObject *const *rest,
                     Py_ssize_t nrest)
{
    if (redlane_args_add_object(&call->args, values[0]) < 0 ||
        redlane_args_add_all(&call->args, values[1]) < 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < nrest; i++) {
        if (redlane_args_add_object(&call->args, rest[i]) < 0) {
            return -1;
        }
    }
    call->empty = call->args.argc == 2;
    return 0;
}

int
redlane_call_add_flags(RedlaneCall *call, const RedlaneFlag *flags, size_t count,
                       unsigned *set)
{
    *set = 0;
    for (size_t i = 0; i < count; i++) {
        int is_set = redlane_flag(flags[i].value);

        if (is_set < 0) {
            return -1;
        }
        if (!is_set) {
            continue;
        }
        *set |= 1u << i;
        if (redlane_args_add_bytes(&call->args, flags[i].word, strlen(flags[i].word)) <
            0) {
            return -1;
        }
    }
    return 0;
}

/* `long_word` with milliseconds, or `short_word` with whole seconds. */
static int
add_time(RedlaneCall *call, const char *short_word, const char *long_word,
         int64_t milliseconds)
{
    bool whole = short_word && milliseconds % 1000 == 0;
    const char *word = whole ? short_word : long_word;

    if (redlane_args_add_bytes(&call->args, word, strlen(word)) < 0) {
        return -1;
    }
    return redlane_args_add_int64(&call->args,
                                  whole ? milliseconds / 1000 : milliseconds);
}

int
redlane_call_add_expiry(RedlaneCall *call, PyObject *ex, PyObject *px, PyObject *exat,
                        PyObject *pxat)
{
    int64_t milliseconds;

    ex = redlane_given(ex);
    px = redlane_given(px);
    exat = redlane_given(exat);
    pxat = redlane_given(pxat);
    if ((ex != NULL) + (px != NULL) + (exat != NULL) + (pxat != NULL) > 1) {
        return redlane_refuse("only one of ex, px, exat and pxat can be given");
    }
    if (ex) {
        return redlane_args_ttl_ms(ex, "ex", &milliseconds) < 0 ||
                       add_time(call, "EX", "PX", milliseconds) < 0
                   ? -1
                   : 1;
    }
    if (px) {
        return redlane_args_period_ms(px, "px", &milliseconds) < 0 ||
                       add_time(call, NULL, "PX", milliseconds) < 0
                   ? -1
                   : 1;
    }
    if (exat) {
        return redlane_args_moment_ms(exat, "exat", 1000, &milliseconds) < 0 ||
                       add_time(call, "EXAT", "PXAT", milliseconds) < 0
                   ? -1
                   : 1;
    }
    if (pxat) {
        return redlane_args_moment_ms(pxat, "pxat", 1, &milliseconds) < 0 ||
                       add_time(call, NULL, "PXAT", milliseconds) < 0
                   ? -1
                   : 1;
    }
    return 0;
}
