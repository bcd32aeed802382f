/* What a fill computes, and the bytes that are stored of it. Lock: the GIL. */
#include "core/clock.h"
#include "py/errors.h"
#include "py/log.h"
#include "py/state.h"
#include "types/fresh.h"

/* A value that cannot be serialised: 0 when it is returned as it is, -1 in strict
 * caches. Logged once. */
static int
excuse_value(const RedlaneFill *fill)
{
    PyObject *type, *error, *traceback;

    if (fill->strict ||
        !PyErr_ExceptionMatches(fill->tool->state->SerializationError)) {
        return -1;
    }
    REDLANE_FILL_COUNT(fill, uncached, 1);
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (!*fill->logged) {
        *fill->logged = true;
        redlane_log(fill->tool->state, REDLANE_LOG_WARNING,
                    "%U: the result is not cached: %S", fill->shown, error);
    }
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return 0;
}

PyObject *
redlane_fill_load(const RedlaneFill *fill, const RedlaneFlight *flight)
{
    RedlaneState *state = fill->tool->state;
    PyObject *inside = redlane_flight_enter(state, flight), *value;

    if (fill->fresh) {
        fill->fresh->started = redlane_clock_now();
    }
    value = fill->load(fill->context);
    redlane_flight_leave(state, inside);
    return value;
}

void
redlane_fill_release(const RedlaneFill *fill, const RedlaneFlight *flight,
                     RedlaneArg name)
{
    RedlaneArg argv[] = {name, {flight->lease, sizeof(flight->lease)}};
    PyObject *type, *error, *traceback, *reply;

    PyErr_Fetch(&type, &error, &traceback);
    if (type && !PyErr_GivenExceptionMatches(type, PyExc_Exception) &&
        redlane_tool_script_behind(fill->tool, REDLANE_SCRIPT_RELEASE, argv, 2, 1)) {
        PyErr_Restore(type, error, traceback);
        return;
    }
    reply = redlane_tool_script(fill->tool, REDLANE_SCRIPT_RELEASE, argv, 2, 1,
                                &redlane_tool_writes);
    if (!reply && !type) {
        (void)redlane_fill_forgive(fill);
    }
    Py_XDECREF(reply);
    redlane_errors_restore(type, error, traceback);
}

PyObject *
redlane_fill_wrap(const RedlaneFill *fill, RedlaneArg key, PyObject **value)
{
    RedlaneEnvelope header = {0};
    RedlaneWrapping wrapping = {.key = key, .type = fill->type};
    PyObject *data = NULL;
    int keep = fill->keep ? fill->keep(fill->context, *value) : 1;

    if (keep > 0 && redlane_fill_tags_prolong(fill) < 0) {
        return NULL;
    }
    if (keep > 0) {
        if (fill->tags && fill->tags->known) {
            header.fields = REDLANE_ENVELOPE_TAGS;
            header.tags = fill->tags->items;
            header.tag_count = fill->tags->count;
        }
        wrapping.ttl_ms = fill->ttl_ms; /* keep may have set it */
        wrapping.header = redlane_fresh_header(fill, &header);
        data = redlane_envelope_keep(fill->serializer, &wrapping, value);
        if (!data) {
            (void)excuse_value(fill);
        }
    }
    return data;
}
