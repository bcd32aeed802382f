/* Replies to results: the shapes in which command methods answer, as redis-py does. */
#ifndef REDLANE_TYPES_RESULTS_H
#define REDLANE_TYPES_RESULTS_H

#include <stdbool.h>

#include "py/python.h"

typedef enum {
    REDLANE_SHAPE_RAW = 0, /* the reply itself; an error inside it is raised */
    REDLANE_SHAPE_ANY,     /* the reply itself; an error inside it stays there */
    REDLANE_SHAPE_OK,      /* True for OK */
    REDLANE_SHAPE_SET,     /* True for OK, None when a condition failed */
    REDLANE_SHAPE_BOOL,    /* True for an integer that is not 0 */
    REDLANE_SHAPE_FLOAT,   /* float, or None */
    REDLANE_SHAPE_MEMBERS, /* set */
    REDLANE_SHAPE_FIELDS,  /* dict, from a flat list of pairs */
    REDLANE_SHAPE_SCORES,  /* list of (member, score), from a flat list of pairs */
    REDLANE_SHAPE_SCAN,    /* (cursor, list) */
    REDLANE_SHAPE_PONG,    /* True for PONG */
    REDLANE_SHAPE_TIME,    /* (seconds, microseconds) */
    REDLANE_SHAPE_INFO,    /* dict, from the text of INFO */
} RedlaneShape;

/* The result for a reply, which may be None (a miss, by the policy "none"). `cast` is
 * called with each score, or NULL for float. A reply that is not what the command's
 * replies are is a ReplyError. STEALS reply; NULL with an exception set. */
PyObject *redlane_result(RedlaneState *state, RedlaneShape shape, PyObject *cast,
                         STEALS PyObject *reply);

/* The int of a reply that is one, or its digits; None stays. STEALS reply, which may be
 * NULL; NULL with an exception set. */
PyObject *redlane_result_integer(RedlaneState *state, STEALS PyObject *reply);

/* The text of INFO (str or bytes) as a new dict; TypeError for anything else. */
PyObject *redlane_info_parse(PyObject *text);

#endif
