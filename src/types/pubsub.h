/* Module functions for redlane._pubsub: _publish and _read_message. */
#ifndef REDLANE_TYPES_PUBSUB_H
#define REDLANE_TYPES_PUBSUB_H

#include "py/python.h"

int redlane_pubsub_setup(PyObject *module); /* RAISES_NEG */

#endif
