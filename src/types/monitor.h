/* The Monitor type. GIL held. */
#ifndef REDLANE_TYPES_MONITOR_H
#define REDLANE_TYPES_MONITOR_H

#include "py/python.h"

int redlane_monitor_setup(PyObject *module);

#endif
