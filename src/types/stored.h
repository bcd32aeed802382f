/* A function that takes a stored string apart. GIL held. */
#ifndef REDLANE_TYPES_STORED_H
#define REDLANE_TYPES_STORED_H

#include "py/python.h"

int redlane_stored_setup(PyObject *module);

#endif
