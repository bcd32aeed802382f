/* The first steps of a hit in a web framework. GIL held. */
#ifndef REDLANE_TYPES_WEB_HIT_H
#define REDLANE_TYPES_WEB_HIT_H

#include "py/python.h"

int redlane_web_hit_setup(PyObject *module);

#endif
